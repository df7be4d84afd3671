"""What a user can say about a mothership: who it is, what it may change, and what it may ask for."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tidegate.config.pattern import split_path
from tidegate.config.schema import (
    FAULTY,
    Key,
    Kind,
    choice,
    defaults,
    fault,
    number,
    read,
    show,
    text,
    texts,
)
from tidegate.config.values import endpoint_url, file, proxy_url

if TYPE_CHECKING:
    from collections.abc import Callable

_SCHEMES = {"mqtt": "http", "mqtts": "https"}
_COMMANDS = ("Restart", "Upgrade", "Reboot")

ALLOWABLE = (
    *("LogLevel", "LogFormat", "MaxConcurrent", "BandwidthLimit", "TimeZone", "Events", "Sources"),
    *("PathName", "BucketName", "ObjectKeyPrefix", "ObjectKey", "Layout", "NameEscaping", "Mode"),
    *("Interval", "Schedule", "Archive", "Exclude", "IncludeHidden", "HoldBack", "QuietSeconds"),
    *("MaxHoldSeconds", "After", "MoveTo", "DeleteAfterMinutes", "PruneEmptyDirectories", "Carrier"),
    *("Verify", "OnConflict", "UploadOrder", "Priority", "StorageClass", "ServerSideEncryption"),
    *("KmsKeyId", "Tags", "Metadata", "ContentType", "CacheControl", "Compress", "Rules"),
    *("RemovePrefix", "DelayUploadSeconds", "Force", "Customizer"),
)
"""What a mothership may be allowed to set. Not hosts, tokens, commands, certificates, nor links to follow."""

_USUAL = frozenset({"sources", "bandwidthlimit", "maxconcurrent", "loglevel"})


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeSettings:
    """How a mothership is reached, and what it may do. Times are in seconds; files were not looked at yet.

    Names in `allow` are in lower case. `roots` are the only folders in which it may have files sent or
    moved. `commands` are lists of arguments, by the action that asks for them.
    """

    url: str
    token_file: str | None
    bootstrap_file: str | None
    heartbeat_seconds: float
    read_seconds: float
    ca_bundle: str | None
    proxy: str | None = field(repr=False)  # it may hold a password
    credentials: str
    allow: frozenset[str]
    roots: tuple[str, ...]
    commands: tuple[tuple[str, tuple[str, ...]], ...]
    wakeup: str | None
    wakeup_file: str | None


def _home_url(value: str) -> str:
    scheme, _, rest = value.partition("://")
    plain = _SCHEMES.get(scheme, scheme)
    try:
        endpoint_url(f"{plain}://{rest}")
    except ValueError:
        raise ValueError(
            "is not the URL of a mothership; write for example https://home.example.com/ingestor, "
            "or mqtts://home.example.com:8883"
        ) from None
    if plain == "http" and not is_near(urlsplit(value).hostname or ""):
        raise ValueError("would show the token to everybody on the way; write https:// or mqtts://")
    return value.rstrip("/")


def is_near(host: str) -> bool:
    """Whether a host is this very machine, however it is set up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _allow(names: tuple[str, ...]) -> frozenset[str]:
    known = {name.lower() for name in ALLOWABLE}
    for name in names:
        if name.lower() not in known:
            raise ValueError(f"has {show(name)}, which no mothership may set; leave it out")
    return frozenset(name.lower() for name in names)


def _roots(folders: tuple[str, ...]) -> tuple[str, ...]:
    found = []
    for one in folders:
        names = split_path(one, "/data")
        if not names:
            raise ValueError("has the root of the file system; write a folder, for example /data")
        found.append("/" + "/".join(names))
    return tuple(found)


def _commands(value: object) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, Mapping):
        raise ValueError('is not a map of commands; write for example {Restart: ["/bin/true"]}')  # noqa: TRY004
    faults: list[str] = []
    argv = Kind(words="list of arguments", read=texts("list of arguments", _argv).read)
    found = read(
        value, [Key(name, name.lower(), argv, None, "") for name in _COMMANDS], "", faults, foreign={}
    )
    if faults:
        raise ValueError(f"cannot be read; {faults[0]}")
    return tuple(found.items())


def _argv(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not words[0].startswith("/") or any("\0" in word for word in words):
        raise ValueError('does not begin with the path of a program; write for example ["/bin/true"]')
    return words


def _wakeup(value: str) -> str:
    if value.startswith("/"):
        return file(value)
    name, _, port = value.rpartition(":")
    is_port = port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535
    if not is_port or not is_near(name.strip("[]")):
        raise ValueError("is not on this machine; write 127.0.0.1:4567, or the absolute path of a socket")
    return value


_FOLDERS: Callable[[tuple[str, ...]], object] = _roots

HOME = (
    Key(
        "Url",
        "url",
        text("URL of a mothership", _home_url),
        None,
        "Where the mothership is.",
        "is missing; write where the mothership is, for example https://home.example.com/ingestor",
    ),
    Key("TokenFile", "token_file", text("absolute file", file), None, "The token of this device."),
    Key("BootstrapTokenFile", "bootstrap_file", text("absolute file", file), None, "A token to enrol with."),
    Key(
        "HeartbeatSeconds",
        "heartbeat_seconds",
        number("number of seconds", "60", 1, 86_400),
        3600,
        "Seconds from one heartbeat to the next.",
    ),
    Key(
        "ReadTimeout",
        "read_seconds",
        number("number of seconds", "10", 0.1, 3600),
        30,
        "Seconds that a whole reply may take.",
    ),
    Key("CaBundle", "ca_bundle", text("absolute file", file), None, "The certificates to trust."),
    Key("Proxy", "proxy", text("URL of a proxy", proxy_url, login=True), None, "The way to the mothership."),
    Key(
        "Credentials",
        "credentials",
        choice({"Own": "own", "Mothership": "mothership"}),
        "Own",
        "Whose credentials sign uploads.",
    ),
    Key(
        "Allow",
        "allow",
        texts("list of keys", _allow),
        None,
        "What the mothership may set.",
    ),
    Key("Roots", "roots", texts("list of folders", _FOLDERS), (), "Where files of its sources may lie."),
    Key(
        "Commands",
        "commands",
        Kind(words="map of commands", read=_commands),
        None,
        "What runs when it asks for it.",
    ),
    Key("Wakeup", "wakeup", text("address or socket", _wakeup), None, "Where programs here may wake us."),
    Key("WakeupTokenFile", "wakeup_file", text("absolute file", file), None, "The token that they need."),
)
"""Keys under Home."""


def home_of(values: dict[str, Any], faults: list[str]) -> HomeSettings | None:
    """Make the settings of what was read under Home, and find what does not go together."""
    for key in HOME:
        if key.missing and key.field not in values:
            fault(faults, f"Home.{key.name}", key.missing)
    tokens = [name for name in ("token_file", "bootstrap_file") if name in values]
    if len(tokens) != 1:
        fault(faults, "Home.TokenFile", "either this or BootstrapTokenFile; write one of the two")
    if str(values.get("url")).startswith("mqtt") and "bootstrap_file" in values:
        fault(
            faults, "Home.BootstrapTokenFile", "a broker enrols nobody; write TokenFile, and add the device"
        )
    if "wakeup" in values and "wakeup_file" not in values:
        fault(faults, "Home.WakeupTokenFile", "is missing; Wakeup lets nobody in without a token")
    if faults or FAULTY in values.values():
        return None
    whole = defaults(HOME) | values
    whole["allow"] = _USUAL if whole["allow"] is None else whole["allow"]
    whole["commands"] = whole["commands"] or ()
    return HomeSettings(**whole)
