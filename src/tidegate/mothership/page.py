"""The one page of a mothership, for people. Whatever a device says about itself is escaped."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import jinja2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidegate.mothership.books import Device

PAGE = 100
"""Devices on one page."""

ACTIONS = ("report", "wakeup", "apply-policies", "customizers", "restart", "upgrade", "reboot")
"""What a device may be asked for. Whether it does it is its own business."""


class Forms:
    """Tells forms of ours from those that somebody else's page has sent."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def mark(self, who: str) -> str:
        """What every form of ours holds, and no other page can know."""
        return hmac.new(self._secret, who.encode(), hashlib.sha256).hexdigest()

    def is_ours(self, who: str, mark: str) -> bool:
        """Whether it was one of ours."""
        return hmac.compare_digest(self.mark(who).encode(), mark.encode())


def page(devices: Sequence[Device], *, count: int, now: float, csrf: str, said: str, trouble: bool) -> str:
    """Write the page. If there may be more devices than these, it links to them."""
    query = (
        {"after": devices[-1].name, **({"trouble": "1"} if trouble else {})} if len(devices) >= PAGE else {}
    )
    return _template().render(
        devices=devices, count=count, now=now, csrf=csrf, said=said, actions=ACTIONS, next=urlencode(query)
    )


@cache
def style() -> str:
    """How it looks."""
    return resources.files("tidegate.mothership").joinpath("style.css").read_text("utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["ago"] = _ago
    environment.filters["fresh"] = lambda _: secrets.token_hex(16)
    text = resources.files("tidegate.mothership").joinpath("page.html").read_text("utf-8")
    return environment.from_string(text)


def _ago(seen: float | None, now: float) -> str:
    if seen is None:
        return "never"
    seconds = max(0, round(now - seen))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"
