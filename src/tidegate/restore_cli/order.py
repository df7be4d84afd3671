"""From the options of `tidegate restore create` to an order."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate import app
from tidegate.errors import ConfigFaults
from tidegate.restore import selection
from tidegate.restore.connect import SETTINGS, connect
from tidegate.restore.nouns import Filter, Spec
from tidegate.restore.selection import ObjectStream

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from tidegate.clock import Clock


def order(options: argparse.Namespace, now: float) -> Spec:
    """Read an order. Raises `ConfigFaults` unless it names objects in exactly one way."""
    if sum(map(bool, (options.target, options.manifest, options.keys))) != 1:
        raise ConfigFaults(["name the objects in one way: s3://BUCKET/PREFIX, --manifest or --keys"])
    if options.target and not options.target.startswith("s3://"):
        raise ConfigFaults([f"{options.target} is not s3://BUCKET/PREFIX"])
    if options.webhook and not options.webhook_secret:
        raise ConfigFaults(["--webhook needs a --webhook-secret, or nobody can tell that events are ours"])
    bucket, _, prefix = (options.target or "").removeprefix("s3://").partition("/")
    fetch = {
        "folder": os.path.abspath(options.fetch or ""),  # noqa: PTH100 - without following links
        "bandwidth": options.bandwidth,
        "reserve": options.reserve,
        "room": options.room,
    }
    secret = os.path.abspath(options.webhook_secret or "")  # noqa: PTH100
    events = os.path.abspath(options.events or "")  # noqa: PTH100
    sinks = [
        *([{"kind": "file", "target": events}] if options.events else []),
        *([{"kind": "sns", "target": options.sns}] if options.sns else []),
        *([{"kind": "sqs", "target": options.sqs}] if options.sqs else []),
        *([{"kind": "webhook", "target": options.webhook, "secret": secret}] if options.webhook else []),
    ]
    stamp = datetime.fromtimestamp(now, timezone.utc).strftime("%Y%m%d-%H%M%S")
    return Spec(
        id=options.id or f"{stamp}-{uuid.uuid4().hex[:6]}",
        tier=options.tier,
        days=options.days,
        created=now,
        bucket=bucket,
        prefix=prefix,
        filter=Filter(
            classes=tuple(options.classes),
            smallest=options.smallest,
            largest=options.largest,
            after=options.after,
            before=options.before,
            suffixes=tuple(options.suffix),
        ),
        listed=not options.target,
        engine=options.engine,
        rate=options.rate,
        tag=options.tag,
        timeout=options.timeout,
        poll=options.poll,
        speed_up=options.speed_up,
        fallback="" if options.no_fallback else "Standard",
        settings={name: getattr(options, name) for name in SETTINGS if getattr(options, name)},
        batch={"role": options.role, "report": options.report, "generator": options.generator},
        fetch=fetch if options.fetch else {},
        sinks=tuple(sinks),
    )


@contextlib.contextmanager
def named(
    options: argparse.Namespace, spec: Spec, clock: Clock
) -> Iterator[Iterator[tuple[str, str, str]] | None]:
    """Open what names the objects, if it is a list of them."""
    fields = tuple(options.fields.split(","))
    if not set(fields) <= set(selection.FIELDS) or not {"bucket", "key"} <= set(fields):
        raise ConfigFaults([f"--fields {options.fields}: write some of {','.join(selection.FIELDS)}"])
    if options.keys:
        yield selection.keys(sys.stdin.buffer, options.keys, zero=options.null)
    elif options.manifest and options.manifest.startswith("s3://"):
        ways = connect(spec.settings, app.environment(), wall=clock.wall)
        try:
            bucket, _, key = options.manifest.removeprefix("s3://").partition("/")
            raw = ObjectStream(ways.archive, bucket, key)
            yield selection.manifest(io.BufferedReader(raw, 2**20), fields=fields, plain=options.plain)
        finally:
            ways.close()
    elif options.manifest:
        with Path(options.manifest).open("rb") as file:
            yield selection.manifest(file, fields=fields, plain=options.plain)
    else:
        yield None
