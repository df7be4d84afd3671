"""Answers that say no."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping


class Refusal(Exception):  # noqa: N818 - it is what a server says, not what went wrong with it
    """An answer with an error in it, as S3 writes them; `details` are elements of it."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})
        self._details = dict(details or {})

    def xml(self) -> bytes:
        elements = {"Code": self.code, "Message": str(self), **self._details, "RequestId": "REQUEST"}
        content = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in elements.items())
        return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{content}</Error>'.encode()
