"""What single values look like. Each function takes one and raises ValueError as readers in `schema` do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from tidegate.config.pattern import split_path

_BUCKET = re.compile(
    r"(?!(\d+\.)+\d+$)([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII
)
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[A-Za-z0-9+=,.@_/-]{1,576}", re.ASCII)
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+( *; *[ -~]+)?", re.ASCII)
_LIMIT = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([%kmgt])", re.ASCII | re.IGNORECASE)
_UNITS = {"k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_OURS = frozenset({"original-name", "mtime", "source", "thing"})
_TAG = re.compile(r"[\w .:/=+@-]*")  # S3: letters, digits and spaces of any language, and these
_MOST_TAGS = 10
_MOST_METADATA = 768  # of the 2 KB that S3 takes; the rest is for what we tell of the file

_TOPIC = re.compile(r"[A-Za-z0-9_.:=@-]+(/[A-Za-z0-9_.:=@-]+)*")
_MOST_SLASHES = 3  # three levels of ours follow, and IoT Core takes 7 slashes
_LONGEST_TOPIC = 64

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class DiskLimit:
    """How full a file system may be: one of the two is given. 90 percent are 90.0."""

    percent_used: float | None = None
    free_bytes: int | None = None

    @classmethod
    def parse(cls, text: str) -> DiskLimit:
        """Read `90%` (used at most) or `500M` (free at least; k, M, G and T are powers of 1024)."""
        found = _LIMIT.fullmatch(text.strip())
        if found is None:
            raise ValueError("is not a limit; write for example 90% (used at most) or 2G (free at least)")
        amount = float(found[1])
        if found[2] == "%":
            if not 1 <= amount <= 99:
                raise ValueError("is not between 1% and 99%; write for example 90%")
            return cls(percent_used=amount)
        free = int(amount * _UNITS[found[2].lower()])
        if not 1 <= free < 2**63:
            raise ValueError("is no room that a file system could have; write for example 2G")
        return cls(free_bytes=free)


def bucket_name(value: str) -> str:
    """Take what Stream Manager and S3 both take."""
    if not 3 <= len(value) <= 63 or not _BUCKET.fullmatch(value):
        raise ValueError(
            "is not the name of a bucket; write 3 to 63 lower-case letters, digits, hyphens and dots, "
            "not an ARN, an address or an access point"
        )
    return value


def folder(value: str) -> str:
    """Take an absolute folder, but not the root of the file system."""
    names = split_path(value, "/data/sent")
    if not names:
        raise ValueError("is the root of the file system; write a folder, for example /data/sent")
    return "/" + "/".join(names)


def file(value: str) -> str:
    """Take an absolute path of a file, whether or not there is one."""
    names = split_path(value, "/etc/ssl/store.pem")
    if not names or value.endswith("/"):
        raise ValueError("is a folder; write a file, for example /etc/ssl/store.pem")
    return "/" + "/".join(names)


def thing(value: str) -> str:
    """Take what AWS IoT takes as the name of a thing."""
    if not re.fullmatch(r"[A-Za-z0-9:_-]{1,128}", value):
        raise ValueError(
            "is not the name of a thing; write up to 128 letters, digits, colons, hyphens and underscores"
        )
    return value


def host(value: str) -> str:
    """Take the name or address of a machine."""
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,253}", value):
        raise ValueError("is not a host; write a name or an address, for example 127.0.0.1")
    return value


def region_name(value: str) -> str:
    """Take anything that a region may be called, also by a store that is not AWS."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", value):
        raise ValueError("is not the name of a region; write for example eu-central-1")
    return value


def endpoint_url(value: str) -> str:
    """Take the URL of a store. One that begins with http:// asks for no encryption."""
    remedy = "write for example https://store.example.com:9000"
    if not _is_server(value, {"http", "https"}):
        raise ValueError(f"is not the URL of a server; {remedy}")
    parts = urlsplit(value)
    if "@" in parts.netloc:
        raise ValueError(f"holds a login, and credentials come from the environment; {remedy}")
    if "?" in value or "#" in value:
        raise ValueError(f"has more than a server and a path; {remedy}")
    return value.rstrip("/")


def proxy_url(value: str) -> str:
    """Take the URL of an HTTP proxy, or the word Direct, which becomes `direct`."""
    if value.lower() == "direct":
        return "direct"
    if not _is_server(value, {"http"}) or urlsplit(value).path.strip("/") or "?" in value or "#" in value:
        raise ValueError(
            "is not an HTTP proxy; write for example http://proxy.example.com:3128, or Direct for none"
        )
    return value.rstrip("/")


def _is_server(value: str, schemes: set[str]) -> bool:
    """Whether it is a URL with one of these schemes, a host and, if any, a good port."""
    if not (value.isascii() and value.isprintable()) or " " in value or "\\" in value:
        return False
    try:
        parts = urlsplit(value)
        name, port = parts.hostname or "", parts.port
    except ValueError:  # brackets without partner, a port that is no number
        return False
    fits = re.fullmatch(r"[A-Za-z0-9._:-]{1,253}", name) is not None
    return fits and parts.scheme in schemes and port != 0 and not parts.netloc.endswith(":")


def role_arn(value: str) -> str:
    """Take the ARN of an IAM role."""
    if not _ROLE.fullmatch(value):
        raise ValueError("is not the ARN of a role; write for example arn:aws:iam::123456789012:role/uploads")
    return value


def kms_key(value: str) -> str:
    """Take the id, the alias or the ARN of a key."""
    if not re.fullmatch(r"[A-Za-z0-9:/_-]{1,2048}", value):
        raise ValueError("is not a KMS key; write its id, its ARN, or an alias such as alias/uploads")
    return value


def content_type(value: str) -> str:
    """Take a media type, with parameters or without."""
    if not _MEDIA_TYPE.fullmatch(value) or len(value) > 255:
        raise ValueError("is not a media type; write for example text/csv")
    return value


def cache_control(value: str) -> str:
    """Take what can stand in a header."""
    if not _fits_header(value) or len(value) > 255:
        raise ValueError("is not printable ASCII of up to 255 characters; write for example max-age=3600")
    return value


def topic_base(value: str) -> str | None:
    """Take what topics begin with, or None for no topics at all."""
    if value.lower() == "none":
        return None
    bare = value.replace("{thing}", "thing")
    if not _TOPIC.fullmatch(bare) or value.count("/") > _MOST_SLASHES or len(value) > _LONGEST_TOPIC:
        raise ValueError(
            f"does not fit; write up to {_MOST_SLASHES + 1} levels of letters, digits and - _ . : = @ "
            f"between slashes, up to {_LONGEST_TOPIC} characters, or None"
        )
    return value


def shadow(value: str) -> str:
    """Take the name of a named shadow."""
    if not re.fullmatch(r"[A-Za-z0-9:_-]{1,64}", value):
        raise ValueError("is no name of a shadow; write up to 64 letters, digits and : _ -")
    return value


def metrics_namespace(value: str) -> str:
    """Take the name of a namespace of CloudWatch."""
    if not re.fullmatch(r"[A-Za-z0-9._/#:-]{1,255}", value) or value.startswith(("AWS/", ":")):
        raise ValueError("is no namespace; write letters, digits and . - _ / # : and not AWS/ first")
    return value


def tags(pairs: Pairs) -> Pairs:
    """Take tags by the rules of S3."""
    if len(pairs) > _MOST_TAGS:
        raise ValueError(f"has {len(pairs)} tags, and S3 takes {_MOST_TAGS} for an object; leave some out")
    for name, value in pairs:
        if name.lower().startswith("aws:"):
            raise ValueError(f'has the tag "{name}", and aws: is reserved; choose another name')
        if len(name) > 128 or len(value) > 256:
            raise ValueError(
                f'has a tag too long for S3, "{name[:40]}"; write a name of up to 128 characters '
                "and a value of up to 256"
            )
        if not _TAG.fullmatch(name + value):
            raise ValueError(
                f'has a tag that S3 does not take, "{name[:40]}"; '
                "write letters, digits, spaces and + - = . _ : / @"
            )
    return pairs


def user_metadata(pairs: Pairs) -> Pairs:
    """Take metadata of the user's own, and write its names in lower case, as S3 does."""
    for name, value in pairs:
        if not re.fullmatch(r"[A-Za-z0-9-]+", name):
            raise ValueError(f'has the name "{name[:40]}"; write letters, digits and hyphens')
        if name.lower() in _OURS or name.lower().startswith("tidegate-"):
            raise ValueError(f'has the name "{name}", which tidegate uses itself; choose another')
        if not _fits_header(value):
            raise ValueError(
                f'has under "{name[:40]}" what no header can hold; '
                "write printable ASCII without spaces at its ends"
            )
    size = sum(len(name) + len(value) for name, value in pairs)
    if size > _MOST_METADATA:
        raise ValueError(
            f"takes {size} bytes; write {_MOST_METADATA} at most: "
            "S3 takes 2 KB, and tidegate needs some for the name of the file"
        )
    return tuple((name.lower(), value) for name, value in pairs)


def _fits_header(value: str) -> bool:
    return value.isascii() and value.isprintable() and value == value.strip()
