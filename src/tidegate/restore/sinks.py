"""Where events go. Each sink gets each event in order; one that fails keeps the others from nothing.

An event is sent again until a sink has taken it, so a process that is killed in between sends it twice:
`detail.eventId` is the same then.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from tidegate.errors import ConfigFaults, Unavailable
from tidegate.store.http import Request
from tidegate.store.pool import Pool
from tidegate.store.wire import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tidegate.restore.journal import Journal
    from tidegate.store.messages import Messages
    from tidegate.store.wire import Manner

SIGNATURE = "x-tidegate-signature"
TIMESTAMP = "x-tidegate-timestamp"

_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?")
_QUEUE = re.compile(r"https?://[^/?#\s]+/([^?#\s]+/)?[A-Za-z0-9_-]{1,80}(\.fifo)?")
_FORMS = {
    "sns": (_TOPIC, "ARN of a topic", "arn:aws:sns:REGION:ACCOUNT:NAME"),
    "sqs": (_QUEUE, "URL of a queue", "https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"),
}

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Takes events."""

    def send(self, event: Mapping[str, Any]) -> None:
        """Take one. Raises any exception to get it again later."""


class JsonLines:
    """Adds one line to a file for each event."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, event: Mapping[str, Any]) -> None:
        """See Sink. Raises OSError."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


class Topic:
    """Publishes to a topic of SNS, or sends to a queue of SQS."""

    def __init__(self, messages: Messages, target: str) -> None:
        self._messages = messages
        self._target = target

    def send(self, event: Mapping[str, Any]) -> None:
        """See Sink."""
        self._messages.send(self._target, json.dumps(event), event["JobId"], event["detail"]["eventId"])


class Webhook:
    """Posts JSON, signed so that the receiver can tell that it is from us, and when it was made.

    The signature is the HMAC-SHA256, in hex, of the timestamp (seconds since 1970), a dot and the body.
    """

    def __init__(
        self, url: str, secret: bytes, *, manner: Callable[[Address], Manner], wall: Callable[[], float]
    ) -> None:
        if not secret:
            raise ValueError("the secret is empty")
        parts = urlsplit(url)
        address = Address.of(url)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._secret = secret
        self._address = address
        self._manner = manner(address)
        self._wall = wall

    def send(self, event: Mapping[str, Any]) -> None:
        """See Sink. Raises `Unavailable` for every answer but a good one."""
        body = json.dumps(event).encode()
        stamp = str(int(self._wall()))
        mark = hmac.digest(self._secret, f"{stamp}.".encode() + body, hashlib.sha256).hex()
        head = (
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"{TIMESTAMP}: {stamp}\r\n{SIGNATURE}: sha256={mark}\r\n"
        )
        request = Request(method="POST", target=self._target, head=head, chunks=lambda: (body,))
        pool = Pool(self._address, self._manner)  # for one request: events are minutes apart
        try:
            answer = pool.exchange(request)
        finally:
            pool.close()
        if not 200 <= answer.status < 300:
            raise Unavailable(f"the webhook answered with status {answer.status}")


def make(
    specs: Sequence[Mapping[str, Any]],
    *,
    messages: Messages,
    manner: Callable[[Address], Manner],
    wall: Callable[[], float],
    others: Mapping[str, Sink],
) -> list[Sink]:
    """Make the sinks of a job; `others` are those that somebody else attaches, by kind.

    Raises `ConfigFaults` for one that cannot be.
    """
    made: list[Sink] = []
    for spec in specs:
        kind, target = spec["kind"], spec.get("target", "")
        if kind == "file":
            made.append(JsonLines(Path(target)))
        elif kind in ("sns", "sqs"):
            made.append(Topic(messages, _checked(kind, target)))
        elif kind == "webhook":
            try:
                secret = Path(spec["secret"]).read_bytes().strip()
                made.append(Webhook(target, secret, manner=manner, wall=wall))
            except (OSError, ValueError) as error:
                raise ConfigFaults([f"--webhook {target} cannot be used: {error}"]) from error
        elif kind in others:
            made.append(others[kind])
        else:
            raise ConfigFaults([f"there is no way here to send events by {kind!r}"])
    return made


def _checked(kind: str, target: str) -> str:
    """Return the target if it can be one of this kind. Raises `ConfigFaults`."""
    form, what, example = _FORMS[kind]
    if not form.fullmatch(target):
        raise ConfigFaults([f'--{kind} "{target}" is not the {what}; write {example}'])
    return target


def deliver(journal: Journal, sinks: Sequence[Sink]) -> bool:
    """Send what is in the outbox. Tells whether it is empty now."""
    stuck: set[int] = set()
    is_empty = True
    for number, event, missing in journal.outbox():
        remaining = [
            index for index in missing if index < len(sinks) and not _sent(sinks, index, event, stuck)
        ]
        if remaining != missing:
            journal.told(number, remaining)
        is_empty = is_empty and not remaining
    return is_empty


def _sent(sinks: Sequence[Sink], index: int, event: Mapping[str, Any], stuck: set[int]) -> bool:
    """Send one event to one sink, unless an earlier one is stuck there."""
    if index in stuck:
        return False
    try:
        sinks[index].send(event)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one sink, the others get the event
        log.warning("an event could not be sent, and is kept: %s", str(error) or repr(error))
        stuck.add(index)
        return False
    return True
