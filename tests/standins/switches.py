"""What a test can turn on the Stream Manager stand-in, and the values its hooks are given.

The switches are plain attributes. A change is seen by the next request, the next upload attempt or the
next status message; nothing that is already under way is affected.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


class Status(enum.IntEnum):
    """`status` of a status message; the numbers are the SDK's."""

    SUCCESS = 0
    FAILURE = 1
    IN_PROGRESS = 2
    WARNING = 3
    CANCELED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportTask:
    """One message of an exporting stream, read as an S3 export task.

    If `problem` says something, the payload is no such task and only the first fields are known.
    """

    stream: str
    identifier: str
    sequence: int
    payload: bytes
    input_url: str = ""
    bucket: str = ""
    key: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""


Hook = Callable[[ExportTask], None]
Refuse = Callable[[ExportTask], str | None] | Mapping[str, str]
Lose = Callable[[ExportTask, Status], bool] | int


@dataclass(kw_only=True, eq=False)
class Switches:
    """Every fault and every undocumented policy, at its harmless setting.

    Requests
      token             the auth token a client must show; None lets everybody in
      silent            accept connections and never answer, nor do, anything
      append_delay      seconds between an append and its reply
      late_reply        (n, seconds): the next n replies come that much later; counts itself down
      late_on           the operation `late_reply` is for ("append", "read", …); "" is every one
      drop_after        the nth request from now is done, then every connection is dropped instead of
                        answering it; becomes None again
      drop_on           the operation `drop_after` counts; "" is every one
      fragment_header   the header of every reply but the first travels in two TCP segments
      full_status       what an append to a full RejectNewData stream is answered with
      free_exported     a full RejectNewData stream first drops segments that are wholly exported
    Exports
      on_error          "failure": an upload error is a Failure and the next task goes on;
                        "retry": it is tried again for ever, silently, and blocks its stream
      retry_base        seconds before the first retry; doubles
      retry_cap         up to this
      refuse            task -> error text or None, or a mapping of key substrings to error texts
      upload_delay      seconds every upload waits, holding its thread, before it starts
      noop_exporter     no file is read and nothing is uploaded: every task succeeds at once
      percent_decode    the path in inputUrl is percent-decoded
      open_file_first   the file is opened once; False: by name, once for each part
      on_export         called when an attempt starts, before the file is looked at
      before_read       called before the first byte is read (and after open, if `open_file_first`)
      after_read        called when the last byte is uploaded, before anybody is told
    Status messages
      duplicate_statuses       each is written twice
      reorder_statuses         so many are collected (100 ms at most), shuffled, then written; 0 is off
      seed                     of that shuffle
      lose_statuses            n: every nth Success is not written; or (task, status) -> True to lose it
      warning_before_success   each Success is preceded by a Warning
      emit_canceled_on_delete  the unexported tasks of a deleted stream or executor end in Canceled

    The hooks run in the thread of the upload (with `noop_exporter`: in the server's, so they must not
    block) and may raise, which is an upload error.
    """

    token: str | None = None
    silent: bool = False
    append_delay: float = 0.0
    late_reply: tuple[int, float] = (0, 0.0)
    late_on: str = ""
    drop_after: int | None = None
    drop_on: str = ""
    fragment_header: bool = False
    full_status: int = 3
    free_exported: bool = False

    on_error: str = "failure"
    retry_base: float = 0.2
    retry_cap: float = 5.0
    refuse: Refuse | None = None
    upload_delay: float = 0.0
    noop_exporter: bool = False
    percent_decode: bool = False
    open_file_first: bool = True
    on_export: Hook | None = None
    before_read: Hook | None = None
    after_read: Hook | None = None

    duplicate_statuses: bool = False
    reorder_statuses: int = 0
    seed: int = 0
    lose_statuses: Lose = 0
    warning_before_success: bool = False
    emit_canceled_on_delete: bool = False
