"""The command `tidegate restore`: what can be asked. What is done about it is imported only then."""

from __future__ import annotations

import argparse
import re
from datetime import datetime, timezone
from typing import Any

from tidegate.config.back import ENGINES, TIERS

EXIT_CODES = """\
exit codes:
  0    all is restored, and fetched if that was asked for
  1    some objects failed
  2    the command is wrong
  3    no such job, bucket or object
  4    the job was cancelled
  5    time ran out, or S3 cannot be reached
  7    S3 refuses: a right is missing
  8    there is more than --most allows
  9    there was nothing to ask for (--error-if-none)
  11   another process runs this job
  130  interrupted; `tidegate restore resume` goes on"""

_EXAMPLES = """\
examples:
  tidegate restore create s3://archive/2024/ --tier Bulk --days 7 --dry-run
  tidegate restore create s3://archive/2024/ --tier Bulk --days 7 --fetch /data/2024
  tidegate restore create --manifest list.csv --most 1000
  find-keys | tidegate restore create --keys archive --detach

"""

_CLASSES = (
    *("GLACIER", "DEEP_ARCHIVE", "INTELLIGENT_TIERING", "GLACIER_IR", "STANDARD", "STANDARD_IA"),
    *("ONEZONE_IA", "REDUCED_REDUNDANCY", "EXPRESS_ONEZONE", "OUTPOSTS", "SNOW"),
)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command and its own commands to a parser."""
    parser = _command(commands, None, "restore", "bring archived objects back from Glacier, many at once")
    own = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_create(_command(own, shared, "create", "order a retrieval, and stay with it to its end", _EXAMPLES))
    listed = _command(own, shared, "list", "name all jobs")
    shown = _command(own, shared, "show", "tell all about a job")
    shown.add_argument("--failed", action="store_true", help="name the objects that failed, as JSON lines")
    watched = _command(own, shared, "watch", "follow a job that another process runs")
    cancelled = _command(own, shared, "cancel", "end a job; what S3 was asked for is restored still")
    resumed = _command(own, shared, "resume", "go on with a job that was interrupted")
    for one in (shown, watched, cancelled):
        one.add_argument("job", metavar="JOB", help="its name")
    which = resumed.add_mutually_exclusive_group(required=True)
    which.add_argument("job", nargs="?", metavar="JOB", help="its name")
    which.add_argument("--all", action="store_true", help="every job that has not ended, side by side")
    for one in (listed, shown, watched, resumed):
        one.add_argument("--json", action="store_true", help="write JSON, also on a terminal")


def _command(
    commands: Any, shared: argparse.ArgumentParser | None, name: str, does: str, examples: str = ""
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        parents=[shared] if shared else [],
        help=does,
        description=f"{does[0].upper()}{does[1:]}.",
        epilog=examples + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if shared is not None:
        parser.set_defaults(command=lambda options: _run(name, options))
    return parser


def _add_create(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("which objects")
    what.add_argument("target", nargs="?", metavar="s3://BUCKET/PREFIX", help="all with this prefix")
    what.add_argument("--manifest", metavar="FILE", help="CSV as of S3 Batch Operations, here or s3://…")
    what.add_argument("--fields", help="its columns (default: bucket,key,version)")
    what.add_argument("--plain", action="store_true", help="its keys are not encoded as in URLs")
    what.add_argument("--keys", metavar="BUCKET", help="keys of this bucket on standard input, one a line")
    what.add_argument("-0", "--null", action="store_true", help="they end with zero bytes instead")
    what.add_argument(
        "--class",
        dest="classes",
        type=_class,
        action="append",
        default=[],
        metavar="CLASS",
        help="only this storage class, for example DEEP_ARCHIVE",
    )
    what.add_argument("--smallest", type=_size, metavar="SIZE", help="only from this size on: 10, 64k, 1g")
    what.add_argument("--largest", type=_size, metavar="SIZE", help="only up to this size")
    what.add_argument("--after", type=_time, metavar="DATE", help="only modified then or later: 2024-01-31")
    what.add_argument("--before", type=_time, metavar="DATE", help="only modified then or earlier")
    what.add_argument("--suffix", action="append", default=[], help="only keys that end so")
    how = parser.add_argument_group("how")
    how.add_argument("--tier", choices=TIERS, default="Standard", help="how fast (default: %(default)s)")
    how.add_argument("--days", type=_whole, default=7, help="how long copies stay (default: %(default)s)")
    how.add_argument("--id", help="the name of the job (default: one is made up)")
    how.add_argument("--tag", default="", help="any text; it is in the events")
    how.add_argument("--rate", type=_rate, default=50.0, help="requests a second (default: %(default)s)")
    how.add_argument("--timeout", type=_span, default="5d", metavar="TIME", help="default: %(default)s")
    how.add_argument("--poll", type=_span, default="0s", metavar="TIME", help="look at least so often")
    how.add_argument("--speed-up", action="store_true", help="ask again for what is under way, in this tier")
    how.add_argument("--no-fallback", action="store_true", help="wait for Expedited as long as it takes")
    how.add_argument("--dry-run", "-n", action="store_true", help="only look what would be asked for")
    how.add_argument("--detach", action="store_true", help="only write the job down, for `resume`")
    how.add_argument("--most", type=_whole, metavar="N", help="ask for nothing if it would be more than this")
    how.add_argument(
        "--error-if-none", action="store_true", help="exit with 9 if there was nothing to ask for"
    )
    how.add_argument("--json", action="store_true", help="write JSON lines, also on a terminal")
    _add_ways(parser)


def _add_ways(parser: argparse.ArgumentParser) -> None:
    batch = parser.add_argument_group("by S3 Batch Operations")
    batch.add_argument("--engine", choices=ENGINES, default="direct", help="default: %(default)s")
    batch.add_argument("--account", help="the 12 digits of the account")
    batch.add_argument("--role", metavar="ARN", help="the role that S3 takes on")
    batch.add_argument("--report", metavar="s3://BUCKET/PREFIX", help="where manifest and report go")
    batch.add_argument("--generator", action="store_true", help="let S3 make the manifest where it can")
    fetch = parser.add_argument_group("download what was restored")
    fetch.add_argument("--fetch", metavar="DIR", help="into this folder")
    fetch.add_argument("--bandwidth", type=_size, metavar="SIZE", help="bytes a second")
    fetch.add_argument(
        "--reserve", type=_size, metavar="SIZE", help="leave so much disk free (default: 256m)"
    )
    fetch.add_argument("--room", type=_size, metavar="SIZE", help="at most so much in the folder")
    tell = parser.add_argument_group("where events go")
    tell.add_argument("--events", metavar="FILE", help="JSON lines, added to this file")
    tell.add_argument("--sns", metavar="ARN", help="a topic")
    tell.add_argument("--sqs", metavar="URL", help="a queue")
    tell.add_argument("--webhook", metavar="URL", help="a web server, with a signature by --webhook-secret")
    tell.add_argument("--webhook-secret", metavar="FILE", help="a file with the secret")
    ways = parser.add_argument_group("how AWS is reached (else as the environment says)")
    ways.add_argument("--region")
    ways.add_argument("--endpoint-url", metavar="URL", help="a store like S3")
    ways.add_argument("--control-url", metavar="URL", help=argparse.SUPPRESS)
    ways.add_argument("--messages-url", metavar="URL", help=argparse.SUPPRESS)
    ways.add_argument("--addressing", choices=("auto", "path", "virtual"))
    ways.add_argument("--ca-bundle", metavar="FILE")
    ways.add_argument("--proxy", metavar="URL", help="or the word direct, for none")
    ways.add_argument("--assume-role", dest="role_arn", metavar="ARN", help="take on this role first")


def _run(name: str, options: argparse.Namespace) -> int:
    from tidegate.restore_cli.commands import run  # noqa: PLC0415 - an agent does not need all that

    return run(name, options)


def _class(text: str) -> str:
    if text.upper() not in _CLASSES:
        raise argparse.ArgumentTypeError(f"{text} is no storage class; write one of {', '.join(_CLASSES)}")
    return text.upper()


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number; write for example 7") from None


def _rate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a number; write for example 50") from None


def _size(text: str) -> int:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmgt]?)i?b?", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(f"{text} is not a size; write for example 512k or 10g")
    return int(float(found[1]) * _UNITS[found[2]])


def _span(text: str) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhdw]?)", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(f"{text} is not a time; write for example 90s, 12h or 5d")
    return float(found[1]) * _SPANS[found[2] or "s"]


def _time(text: str) -> float:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a date; write for example 2024-01-31") from None
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()
