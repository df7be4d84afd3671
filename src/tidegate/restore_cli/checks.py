"""What is wrong with the options of `tidegate restore create`, found before anything is done."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.restore import selection
from tidegate.store.wire import Address, Proxy

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

_FILTERS = {
    "--class": "classes",
    "--smallest": "smallest",
    "--largest": "largest",
    "--after": "after",
    "--before": "before",
    "--suffix": "suffix",
}
_TABLE = {"--fields": "fields", "--plain": "plain"}
_BATCH = {"--account": "account", "--role": "role", "--report": "report", "--generator": "generator"}
_FETCH = {"--bandwidth": "bandwidth", "--reserve": "reserve", "--room": "room"}
_URLS = {"--endpoint-url": "endpoint_url", "--control-url": "control_url", "--messages-url": "messages_url"}

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/\S+")
_BUCKET = "[A-Za-z0-9][A-Za-z0-9._-]{1,254}"
_FOLDER = re.compile(rf"s3://{_BUCKET}(/.*)?", re.DOTALL)
_OBJECT = re.compile(rf"s3://{_BUCKET}/.+", re.DOTALL)


def faults(options: argparse.Namespace) -> list[str]:
    """Name what cannot be meant, by option, value and remedy."""
    return [*_ways(options), *_useless(options), *_places(options), *_roads(options)]


def unusable(options: argparse.Namespace) -> list[str]:
    """Try what is written to on this device, so that S3 is not asked, and paid, in vain."""
    tried: tuple[tuple[str, str | None, Callable[[Path], None]], ...] = (
        ("--fetch", options.fetch, _try_folder),
        ("--events", options.events, _try_file),
    )
    found = []
    for name, value, attempt in tried:
        try:
            if value:
                attempt(Path(value))
        except OSError as error:
            found.append(f"{name} {value} cannot be used: {error.strerror}")
    return found


def _try_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(0, "it is no folder")
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
        pass


def _try_file(path: Path) -> None:
    is_new = not path.exists()
    with path.open("a"):
        pass
    if is_new:
        path.unlink()


def _ways(options: argparse.Namespace) -> list[str]:
    """Objects are named in exactly one way."""
    if sum(map(bool, (options.target, options.manifest, options.keys))) != 1:
        return ["name the objects in one way: s3://BUCKET/PREFIX, --manifest or --keys"]
    if options.target and not options.target.startswith("s3://"):
        return [f"{options.target} is not s3://BUCKET/PREFIX"]
    if options.manifest and options.manifest.startswith("s3://") and not _OBJECT.fullmatch(options.manifest):
        return [f"--manifest {options.manifest}: write s3://BUCKET/KEY, or a file"]
    fields = columns(options)
    if not set(fields) <= set(selection.FIELDS) or not {"bucket", "key"} <= set(fields):
        return [f"--fields {options.fields}: write some of {','.join(selection.FIELDS)}, with bucket and key"]
    return []


def columns(options: argparse.Namespace) -> tuple[str, ...]:
    """What the columns of a manifest are."""
    return tuple((options.fields or "bucket,key,version").split(","))


def _useless(options: argparse.Namespace) -> list[str]:
    """Name what would be ignored: then more might be asked for than was meant."""
    kinds: tuple[tuple[Any, str, Mapping[str, str]], ...] = (
        (options.target, "s3://BUCKET/PREFIX", _FILTERS),
        (options.manifest, "--manifest", _TABLE),
        (options.keys, "--keys", {"--null": "null"}),
        (options.engine == "batch", "--engine batch", _BATCH),
        (options.fetch, "--fetch", _FETCH),
        (options.webhook, "--webhook", {"--webhook-secret": "webhook_secret"}),
    )
    return [
        f"{name} goes with {partner} only"
        for is_there, partner, names in kinds
        for name, at in names.items()
        if not is_there and _is_given(getattr(options, at))
    ]


def _is_given(value: object) -> bool:
    return value is not None and value is not False and value != []


def _places(options: argparse.Namespace) -> list[str]:
    """Name what has not the form of a place, or of a role."""
    found = []
    if options.webhook and not options.webhook_secret:
        found.append("--webhook needs a --webhook-secret, or nobody can tell that events are ours")
    for name, role in (("--role", options.role), ("--assume-role", options.role_arn)):
        if role and not _ROLE.fullmatch(role):
            found.append(f"{name} {role} is not the ARN of a role; write arn:aws:iam::ACCOUNT:role/NAME")
    if options.report and not _FOLDER.fullmatch(options.report):
        found.append(f"--report {options.report}: write s3://BUCKET/PREFIX")
    return found


def _roads(options: argparse.Namespace) -> list[str]:
    """Name what AWS cannot be reached by."""
    found = []
    for name, at in _URLS.items():
        if url := getattr(options, at):
            try:
                Address.of(url)
            except ValueError:
                found.append(f"{name} {url}: write a URL, for example http://127.0.0.1:9000")
    if options.proxy and options.proxy != "direct":
        try:
            Proxy.of(options.proxy)
        except ValueError as error:
            found.append(f"--proxy {options.proxy}: {error}")
    if options.ca_bundle and not Path(options.ca_bundle).is_file():
        found.append(f"--ca-bundle {options.ca_bundle}: there is no such file")
    return found
