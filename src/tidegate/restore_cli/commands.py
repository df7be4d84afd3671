"""What the commands of `tidegate restore` do, and with which code they end."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate import app
from tidegate.clock import Clock
from tidegate.errors import ConfigFaults, TidegateError
from tidegate.restore import render
from tidegate.restore.connect import connect
from tidegate.restore.jobs import Jobs, NoSuchJob, check
from tidegate.restore.journal import Journal, Listed
from tidegate.restore.look import Looker
from tidegate.restore.nouns import Phase, Spec
from tidegate.restore.plan import plan
from tidegate.restore.run import TOO_MANY, too_many
from tidegate.restore.selection import chunks
from tidegate.restore.sinks import make
from tidegate.restore_cli.checks import unusable
from tidegate.restore_cli.order import named, order
from tidegate.restore_cli.tell import Teller
from tidegate.store.errors import S3Error

if TYPE_CHECKING:
    from collections.abc import Iterator

_GONE = ("NoSuchBucket", "NoSuchKey", "NothingSelected", "NoSuchVersion")
_REFUSED = ("AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NotSignedUp")
_GLANCE_SECONDS = 0.5


def run(name: str, options: argparse.Namespace) -> int:
    """Run a command and make exit codes of what it raises; what is not ours is left to the caller."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _COMMANDS[name](options)
    except ConfigFaults as error:
        print(error, file=sys.stderr)
        return 2
    except NoSuchJob as error:
        print(error, file=sys.stderr)
        return 3
    except S3Error as error:
        print(error, file=sys.stderr)
        return 3 if error.status == 404 else 7 if error.status in (401, 403) else 5
    except KeyboardInterrupt:
        print(_interrupted(name, options), file=sys.stderr)
        return 130


def _interrupted(name: str, options: argparse.Namespace) -> str:
    if name not in ("create", "resume"):
        return "interrupted"
    which = "--all" if getattr(options, "all", False) else getattr(options, "job", None)
    if which is None:
        return "interrupted; no job was written down"
    return f"interrupted; `tidegate restore resume {which}` goes on with it"


def _jobs(options: argparse.Namespace) -> Jobs:
    return Jobs(options.work_dir, environment=app.environment(), clock=Clock())


def _create(options: argparse.Namespace) -> int:
    clock = Clock()
    spec = order(options, clock.wall())
    check(spec)
    _check_sinks(spec, clock)
    if options.dry_run:
        with named(options, spec, clock) as rows:
            return _dry_run(options, spec, rows, clock)
    if faults := unusable(options):
        raise ConfigFaults(faults)
    jobs = _jobs(options)
    with named(options, spec, clock) as rows:
        twice = jobs.create(spec, rows)
    options.job = spec.id
    if twice:
        print(f"{twice} object(s) were named twice, and count once", file=sys.stderr)
    if options.detach:
        print(spec.id)
        return 0
    return _follow(options, jobs, spec.id, error_if_none=options.error_if_none)


def _check_sinks(spec: Spec, clock: Clock) -> None:
    """Raise `ConfigFaults` for events that could not be sent, before anything is written down."""
    with contextlib.closing(connect(spec.settings, app.environment(), wall=clock.wall)) as ways:
        make(spec.sinks, messages=ways.messages, manner=ways.manner, wall=clock.wall, others={})


def _dry_run(
    options: argparse.Namespace, spec: Spec, rows: Iterator[tuple[str, str, str]] | None, clock: Clock
) -> int:
    """Look, and write nothing down that stays."""
    with contextlib.ExitStack() as stack:
        ways = connect(spec.settings, app.environment(), wall=clock.wall)
        stack.callback(ways.close)
        looker = Looker(ways.archive)
        listed = None
        if rows is not None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())  # a long list is too much for memory
            listed = Listed(Path(folder) / "keys")
            stack.callback(listed.close)
            for chunk in chunks(rows):
                listed.add(chunk)
        made = plan(spec, Journal(None), looker, listed, now=clock.wall())
    said = made.as_json(spec.rate)
    print(json.dumps(said, indent=2) if options.json else render.planned(said))
    if said["objects"] == said["byState"].get("failed", {"objects": 0})["objects"]:
        return 3
    if spec.most is not None and said["requests"] > spec.most:
        print(too_many(said["requests"], spec.most), file=sys.stderr)
        return 8
    return 9 if options.error_if_none and not said["requests"] else 0


def _list(options: argparse.Namespace) -> int:
    jobs, found = _jobs(options), []
    for name in jobs.names():
        try:
            with jobs.journal(name) as journal:
                found.append(render.state(journal))
        except TidegateError as error:
            print(f"the job {name} cannot be read: {error}", file=sys.stderr)
    print(json.dumps(found, indent=2) if options.json else render.table(found))
    return 0


def _show(options: argparse.Namespace) -> int:
    with _jobs(options).journal(options.job) as journal:
        if options.failed:
            for failure in journal.failures(sys.maxsize):
                print(json.dumps(failure))
            return 0
        said = render.state(journal)
    print(json.dumps(said, indent=2) if options.json else render.details(said))
    return 0


def _cancel(options: argparse.Namespace) -> int:
    """Wish the end; and bring it about if nobody else runs the job."""
    jobs = _jobs(options)
    with jobs.journal(options.job) as journal:
        if journal.phase() is Phase.ENDED:
            print(f"the job {options.job} has ended already")
            return 0
    jobs.cancel(options.job)
    with contextlib.suppress(TidegateError), jobs.running(options.job) as run:
        run.step()
    print(f"the job {options.job} ends; what S3 was asked for is restored, and paid for, all the same")
    return 0


def _watch(options: argparse.Namespace) -> int:
    halt = threading.Event()
    with _jobs(options).journal(options.job) as journal:
        teller = Teller(journal, as_json=_wants_json(options))
        while True:
            teller.tell()
            if journal.phase() is Phase.ENDED:
                return _code(journal)
            halt.wait(_GLANCE_SECONDS)


def _resume(options: argparse.Namespace) -> int:
    jobs = _jobs(options)
    if not options.all:
        return _follow(options, jobs, options.job)
    crew = []
    codes: dict[str, int] = {}
    for name in jobs.names():
        with contextlib.suppress(TidegateError), jobs.journal(name) as journal:
            if journal.phase() is not Phase.ENDED:
                crew.append(threading.Thread(target=_alone, args=(options, jobs, name, codes), daemon=True))
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return max(codes.values(), default=0)


def _alone(options: argparse.Namespace, jobs: Jobs, name: str, codes: dict[str, int]) -> None:
    """Run one of several jobs: what is wrong with it is no reason to leave the others."""
    options = argparse.Namespace(**{**vars(options), "json": True})
    try:
        codes[name] = _follow(options, jobs, name)
    except ConfigFaults as error:
        print(f"the job {name}: {error}", file=sys.stderr)
        codes[name] = 2
    except Exception as error:  # noqa: BLE001 - the others go on whatever it is
        is_ours = isinstance(error, (TidegateError, OSError))
        print(f"the job {name}: {error if is_ours else repr(error)}", file=sys.stderr)
        codes[name] = 5


def _follow(
    options: argparse.Namespace,
    jobs: Jobs,
    name: str,
    *,
    error_if_none: bool = False,
) -> int:
    """Run a job to its end, and tell how far it is."""
    with jobs.journal(name) as journal, jobs.running(name) as run:
        teller = Teller(journal, as_json=_wants_json(options))
        while (wait := run.step()) is not None:
            teller.tell()
            _wait(journal, wait)
        teller.tell()
        notes = journal.notes()
        is_none = notes.get("status") == "Complete" and not notes["plan"]["requests"]
        return 9 if error_if_none and is_none else _code(journal)


def _wait(journal: Journal, seconds: float) -> None:
    """Wait for the next step; less if somebody cancels the job."""
    clock, halt = Clock(), threading.Event()
    end = clock.steady() + seconds
    while (left := end - clock.steady()) > 0 and journal.wish() != "cancel":
        halt.wait(min(_GLANCE_SECONDS, left))


def _code(journal: Journal) -> int:
    """The exit code of a job that has ended."""
    notes, counts = journal.notes(), journal.counts()
    status, code = notes.get("status"), notes.get("code") or ""
    if status == "Complete":
        return 1 if counts.failed else 0
    if status == "Failed":
        return 8 if code == TOO_MANY else 3 if code in _GONE else 7 if code in _REFUSED else 1
    return {"Cancelled": 4, "Timeout": 5}.get(str(status), 1)


def _wants_json(options: argparse.Namespace) -> bool:
    return bool(options.json) or not sys.stdout.isatty()


_COMMANDS = {
    "create": _create,
    "list": _list,
    "show": _show,
    "watch": _watch,
    "cancel": _cancel,
    "resume": _resume,
}
