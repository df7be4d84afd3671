"""From a configuration of s3-ingestor to one of ours, and what of it has no equivalent.

What it means is kept, not what it says: keys of objects stay the same, and so does what becomes of files.
Where we would do something else than was asked for, that is listed and not guessed.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tidegate.config.naming import literal
from tidegate.errors import ConfigFaults

_WILD = re.compile(r"[*?\[{!(+@]")
_GLOBAL = {
    "api_port": "the door for wakeups is off by default: see Home.Wakeup, which needs a token",
    "aws_keys_file": "no lasting keys are kept: see Home.Credentials, or give the device a role",
    "customizers_path": "a customizer is named with its file and SHA-256 in its source",
    "s3_customizers_prefix": "a customizer from a bucket needs FromBucket, FromPrefix and Sha256",
    "upgrade_command": "a command is never given to a shell: write a list of arguments under Home.Commands",
    "reboot_command": "a command is never given to a shell: write a list of arguments under Home.Commands",
    "iam_reset_period": "there is no need to wait for short-lived credentials",
    "hostname_override": "write it as ThingName, if it is one",
    "qiot_account_token": "the hosts of QIoT are not spoken to",
    "qiot_service": "the hosts of QIoT are not spoken to",
    "host_handler": "the hosts of QIoT are not spoken to",
    "keepalive_interval": "it was for the hosts of QIoT",
    "target_directory": "it is a key of each download: TargetFolder",
    "default_policy_handler": "each policy is read by what it is",
}
_HOME = ("host_service", "host_dns", "host_port", "host_uri", "heartbeat_period")
_UPLOAD = (
    *("input_file_pattern", "input_remove_prefix", "output_key_prefix", "customizer", "force_upload"),
    *("delay_upload", "delete_after_upload", "move_after_upload", "delay_removal", "s3_bucket", "handler"),
)


@dataclass
class Imported:
    """What came of it: a configuration, and sentences about what is not in it."""

    config: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Write it as YAML, with the sentences as comments before it."""
        lines = [f"# {' '.join(sentence.split())}" for sentence in self.missing]
        body = yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True)
        return "\n".join([*lines, body]) if lines else body


def read(path: Path) -> dict[str, Any]:
    """Read a configuration of s3-ingestor. Raises ConfigFaults and OSError."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as err:
        raise ConfigFaults([f"{path} is not JSON: {err}"]) from err
    if not isinstance(found, dict):
        raise ConfigFaults([f"{path} holds no configuration of s3-ingestor: it is not a map"])
    return found


def imported(old: Mapping[str, Any], base: str) -> Imported:
    """Say the same in our words. `base` is the folder that s3-ingestor was started in."""
    made = Imported()
    made.config["Interval"] = _number(old.get("heartbeat_period"), 3600)
    made.config |= {"Carrier": "Direct", "HoldBack": "None"}
    if old.get("debug"):
        made.config["LogLevel"] = "DEBUG"
    if isinstance(old.get("s3_timeout"), (int, float)):
        made.config["S3"] = {"ReadTimeout": old["s3_timeout"] / 1000}
    _home(old, made)
    for name in sorted(old.keys() - {"debug", "s3_timeout", "s3_bucket", "policies", *_HOME}):
        made.missing.append(f"{name}: {_GLOBAL.get(name, 'there is nothing like it')}")
    policies = old.get("policies")
    sources = made.config["Sources"] = {}
    for number, policy in enumerate(policies if isinstance(policies, list) else [], 1):
        if isinstance(policy, Mapping):
            source = _source(f"policy {number}", {**old, **policy}, policy, base, made)
            if source:
                sources[f"policy{number}"] = source
        else:
            made.missing.append(f"policy {number}: it is not a map")
    if not sources:
        del made.config["Sources"]
        if "Home" not in made.config:
            made.missing.append("policies: there are none, so there is nothing to do")
    return made


def _home(old: Mapping[str, Any], made: Imported) -> None:
    host = old.get("host_dns")
    if not host:
        return
    service = old.get("host_service", "https")
    port = old.get("host_port")
    url = f"https://{host}{f':{port}' if port else ''}{old.get('host_uri', '/ingestor')}"
    made.config["Home"] = {
        "Url": url,
        "TokenFile": "/etc/tidegate/token",
        "HeartbeatSeconds": _number(old.get("heartbeat_period"), 3600),
        "Credentials": "Mothership",
        "Roots": [],
    }
    made.missing.append("Home.TokenFile: the mothership now has to know the device by a token; put it there")
    made.missing.append("Home.Roots: name the folders whose files the mothership may have sent")
    if service != "https":
        made.missing.append(f"host_service: {service} would show the token to everybody; the URL says https")


def _source(
    what: str, all_of_it: Mapping[str, Any], policy: Mapping[str, Any], base: str, made: Imported
) -> dict[str, Any] | None:
    handler = all_of_it.get("handler", all_of_it.get("default_policy_handler", "upload"))
    if handler == "download":
        return _download(what, all_of_it, base, made)
    if handler == "socket":
        return _socket(what, all_of_it, made)
    if handler != "upload":
        made.missing.append(f"{what}: there is nothing like the handler {handler}")
        return None
    told = len(made.missing)
    pattern = posixpath.join(base, str(policy.get("input_file_pattern", "**/*")))
    source: dict[str, Any] = {
        "PathName": posixpath.normpath(pattern),
        **_bucket(what, all_of_it, made),
    }
    _key(what, policy, source["PathName"], base, source, made)
    _fate(what, policy, base, source, made)
    if delay := _number(policy.get("delay_upload"), 0):
        source["DelayUploadSeconds"] = delay
    if policy.get("force_upload"):
        source["Force"] = True
    if policy.get("customizer") and (
        why := _customizer(what, all_of_it, policy, base, source, made)
    ):  # without it, files would get other keys
        made.missing[told:] = [_left_out(what, policy, why)]
        return None
    unknown = policy.keys() - set(_UPLOAD) if "Customizer" not in source else ()
    for name in sorted(unknown):
        made.missing.append(f"{what}.{name}: there is nothing like it in a source")
    return source


def _key(
    what: str, policy: Mapping[str, Any], pattern: str, base: str, source: dict[str, Any], made: Imported
) -> None:
    """Have objects called as they were: the prefix, and the name as it was matched without its beginning."""
    before, removed = str(policy.get("output_key_prefix", "")), str(policy.get("input_remove_prefix", ""))
    matched_below = (
        "" if str(policy.get("input_file_pattern", "")).startswith("/") else f"{base.rstrip('/')}/"
    )
    folders = pattern.split("/")[:-1]
    wild = next((number for number, one in enumerate(folders) if _WILD.search(one)), len(folders))
    root = "/".join(folders[:wild]) + "/"
    as_matched = root.removeprefix(matched_below)
    if removed.startswith(as_matched) and removed != as_matched:
        source["RemovePrefix"] = removed.removeprefix(as_matched)
        as_matched = ""
    else:
        as_matched = as_matched.removeprefix(removed)
    start = f"{before}{as_matched}"
    try:
        literal(start)
    except ValueError as err:
        made.missing.append(f"{what}.output_key_prefix: {err}")
    if start.startswith("/") or "//" in start:
        made.missing.append(f'{what}: keys began with "{start}"; here they do without the empty folder')
    source["ObjectKey"] = re.sub("/+", "/", start).lstrip("/") + "{path}"


def _customizer(
    what: str,
    all_of_it: Mapping[str, Any],
    policy: Mapping[str, Any],
    base: str,
    source: dict[str, Any],
    made: Imported,
) -> str:
    """Take a customizer along, if it is told the same names as before. Returns why not, if it is not."""
    name, before = str(policy["customizer"]), str(policy.get("output_key_prefix", ""))
    path = Path(base, str(all_of_it.get("customizers_path", "customizers")), f"{name}.js")
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError) as err:
        return f"{path} cannot be read ({err.strerror if isinstance(err, OSError) else err})"
    if source["ObjectKey"] != f"{before}{{path}}" or (before and not before.endswith("/")):
        return f"{name}.js would be told other names than before"
    del source["ObjectKey"]
    if before:
        source["ObjectKeyPrefix"] = before.rstrip("/")
    settings = {key: value for key, value in policy.items() if key != "handler"}
    source["Customizer"] = {
        "File": posixpath.normpath(path),
        "Sha256": digest,
        "Engine": "JavaScript",
        "Settings": settings,
    }
    made.missing.append(f"{what}.customizer: it is told the keys of its policy as settings, and no others")
    return ""


def _left_out(what: str, policy: Mapping[str, Any], why: str) -> str:
    return (
        f"{what} is left out as a whole, with {', '.join(sorted(policy))}: {why}, and without its customizer"
        " files would get other keys; write a source for it, with Customizer: File (the absolute path of"
        f" {policy['customizer']}.js), its Sha256 and Engine: JavaScript"
    )


def _fate(what: str, policy: Mapping[str, Any], base: str, source: dict[str, Any], made: Imported) -> None:
    if policy.get("delete_after_upload"):
        source |= {"After": "Delete", "PruneEmptyDirectories": True}
    elif folder := policy.get("move_after_upload"):
        place = posixpath.normpath(posixpath.join(base, str(folder)))
        source |= {"After": "Move", "MoveTo": place}
        if not str(folder).endswith("/"):
            made.missing.append(f"{what}.move_after_upload: names began with {folder}; files now go into it")
    else:
        source["After"] = "Keep"
    if policy.get("delay_removal") and source["After"] != "Keep":
        source["DeleteAfterMinutes"] = 60
        made.missing.append(
            f"{what}.delay_removal: removed at the next cycle; now an hour after it is stored"
        )


def _download(what: str, policy: Mapping[str, Any], base: str, made: Imported) -> dict[str, Any] | None:
    keys = policy.get("file_keys")
    if not isinstance(keys, list) or not keys:
        made.missing.append(f"{what}: a download without file_keys brings nothing")
        return None
    folder = posixpath.normpath(posixpath.join(base, str(policy.get("target_directory", "downloads"))))
    return {
        "Direction": "Download",
        **_bucket(what, policy, made),
        "TargetFolder": folder,
        "ObjectKeys": [str(key) for key in keys],
        "DeleteUnlisted": True,
    }


def _socket(what: str, policy: Mapping[str, Any], made: Imported) -> dict[str, Any] | None:
    if not policy.get("socket_host") or not policy.get("socket_port"):
        made.missing.append(f"{what}: a socket needs socket_host and socket_port")
        return None
    made.missing.append(
        f"{what}: each piece of data was an object by itself; now lines become one each minute"
    )
    made.missing.append(f"{what}.socket_queue: no Redis is needed any more")
    return {
        "Socket": f"tcp://{policy['socket_host']}:{policy['socket_port']}",
        **_bucket(what, policy, made),
        "ObjectKeyPrefix": str(policy.get("output_key_prefix", "")).strip("/"),
        "SkipRepeats": True,
        "SilenceSeconds": _number(policy.get("socket_timeout"), 15),
    }


def _bucket(what: str, policy: Mapping[str, Any], made: Imported) -> dict[str, str]:
    """Name the bucket. One that is not known is left out, so that the configuration is refused without it."""
    if bucket := policy.get("s3_bucket"):
        return {"BucketName": str(bucket)}
    made.missing.append(f"{what}: the mothership named the bucket; write it as BucketName")
    return {}


def _number(value: object, otherwise: float) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    return value if good else otherwise  # type: ignore[return-value]
