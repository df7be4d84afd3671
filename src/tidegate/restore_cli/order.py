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
from tidegate.restore_cli import checks
from tidegate.store.errors import S3Error

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from tidegate.clock import Clock


_FETCH = ("bandwidth", "reserve", "room")


def order(options: argparse.Namespace, now: float) -> Spec:
    """Read an order. Raises `ConfigFaults` with what cannot be meant."""
    if found := checks.faults(options):
        raise ConfigFaults(found)
    bucket, _, prefix = (options.target or "").removeprefix("s3://").partition("/")
    fetch = {
        "folder": os.path.abspath(options.fetch or ""),  # noqa: PTH100 - without following links
        **{name: value for name in _FETCH if (value := getattr(options, name)) is not None},
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
        most=options.most,
    )


@contextlib.contextmanager
def named(
    options: argparse.Namespace, spec: Spec, clock: Clock
) -> Iterator[Iterator[tuple[str, str, str]] | None]:
    """Open what names the objects, if it is a list of them.

    Raises `ConfigFaults` for a file that cannot be read, and `S3Error` that names the option.
    """
    fields = checks.columns(options)
    if options.keys:
        yield selection.keys(sys.stdin.buffer, options.keys, zero=options.null)
    elif options.manifest and options.manifest.startswith("s3://"):
        ways = connect(spec.settings, app.environment(), wall=clock.wall)
        try:
            bucket, _, key = options.manifest.removeprefix("s3://").partition("/")
            try:
                raw = ObjectStream(ways.archive, bucket, key)
            except S3Error as error:
                raise error.about(f"--manifest {options.manifest}") from error
            yield selection.manifest(io.BufferedReader(raw, 2**20), fields=fields, plain=options.plain)
        finally:
            ways.close()
    elif options.manifest:
        try:
            file = Path(options.manifest).open("rb")  # noqa: SIM115 - closed below
        except OSError as error:
            raise ConfigFaults([f"--manifest {options.manifest} cannot be read: {error.strerror}"]) from error
        with file:
            yield selection.manifest(file, fields=fields, plain=options.plain)
    else:
        yield None
