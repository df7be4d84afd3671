"""The doors of a mothership: one for devices, one for people, one for programs of its operator."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import re
import uuid
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tidegate.errors import TidegateError
from tidegate.home.words import plain
from tidegate.mothership import books as steps
from tidegate.mothership.page import ACTIONS, PAGE, Forms, page, style
from tidegate.mothership.talk import CONFIGURED, Call, Heard, NotKnown, hear

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    from tidegate.ledger.database import Cursor
    from tidegate.mothership.bank import Bank
    from tidegate.mothership.books import Books
    from tidegate.mothership.bridge import Bridge

MESSAGE_BYTES = 262_144
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.-]{0,127}")
_STATES = ("configured", "suspended", "registered")
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What lets the operator in, and new devices."""

    admin: str
    bootstrap: str


class Json(JSONResponse):
    """JSON in ASCII: what devices say may hold what is no text."""

    def render(self, content: object) -> bytes:
        """See JSONResponse."""
        return json.dumps(content, allow_nan=False).encode("ascii")


class Web:
    """Answers requests. `app` is an ASGI application; it closes the books when it ends."""

    def __init__(
        self,
        books: Books,
        tokens: Tokens,
        bank: Bank,
        wall: Callable[[], float],
        bridge: Bridge | None = None,
    ) -> None:
        self._bridge = bridge
        self._books = books
        self._tokens = tokens
        self._bank = bank
        self._wall = wall
        self._forms = Forms()
        self.app = Starlette(
            lifespan=self._life,
            exception_handlers={TidegateError: _unavailable},
            routes=[
                Route("/ingestor", self._call, methods=["POST"]),
                Route("/ingestor/enrol", self._enrol, methods=["POST"]),
                Route("/", self._page),
                Route("/style.css", self._style),
                Route("/act", self._act, methods=["POST"]),
                Route("/devices", self._devices),
                Route("/devices/{name}", self._device, methods=["GET", "DELETE"]),
                Route("/devices/{name}/desired", self._desire, methods=["PUT"]),
                Route("/desired", self._desire, methods=["PUT"]),
                Route("/devices", self._add, methods=["POST"]),
                Route("/devices/{name}/state", self._set_state, methods=["PUT"]),
                Route("/devices/{name}/actions", self._order, methods=["POST"]),
            ],
        )

    @asynccontextmanager
    async def _life(self, _: Starlette) -> AsyncIterator[None]:
        if self._bridge:
            self._bridge.start(asyncio.get_running_loop(), self._talk)
        yield
        if self._bridge:
            self._bridge.close()
        await asyncio.to_thread(self._books.close)

    async def _step(self, does: Callable[[Cursor], Any]) -> Any:
        return await asyncio.wrap_future(self._books.step(does))

    # Devices

    async def _call(self, request: Request) -> Response:
        token = hashlib.sha256(_bearer(request).encode()).digest()
        try:
            return Json(await self._talk(token, await _json(request)))
        except ValueError as err:
            raise HTTPException(400, str(err)) from err
        except NotKnown:
            raise HTTPException(401, "no device has this token") from None

    async def _talk(self, who: bytes | str, said: object) -> dict[str, Any]:
        """Answer a message. Raises ValueError if it is none, and NotKnown."""
        call, now = Call.of(said), self._wall()
        heard: Heard = await self._step(lambda cursor: hear(cursor, who, call, now))
        if call.wants_keys and heard.reply["state"] == CONFIGURED:
            keys = await self._bank.keys(heard.device, held_until=call.keys_expire, now=now)
            if keys:
                heard.reply["aws_keys"] = keys
        return heard.reply

    async def _enrol(self, request: Request) -> Response:
        if not _same(_bearer(request), self._tokens.bootstrap):
            raise HTTPException(401, "this is not the bootstrap token")
        said = await _json(request)
        return await self._take_in(said if isinstance(said, dict) else {})

    async def _take_in(self, said: dict[str, Any]) -> Response:
        name, digest = said.get("name"), said.get("token_sha256")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise HTTPException(400, "name: write up to 128 letters, digits and : _ . -")
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise HTTPException(400, "token_sha256: write 64 hexadecimal digits")
        token, now = bytes.fromhex(digest), self._wall()
        if not await self._step(lambda cursor: steps.enrol(cursor, name, token, now)):
            raise HTTPException(
                409, "another device has this name; its operator has to remove that one first"
            )
        return Json({"state": "registered"}, 201)

    # People

    async def _page(self, request: Request) -> Response:
        self._check_admin(request)
        after, trouble = request.query_params.get("after", ""), "trouble" in request.query_params
        found = await asyncio.to_thread(self._books.devices, after=after, limit=PAGE, trouble=trouble)
        text = page(
            found,
            count=await asyncio.to_thread(self._books.count),
            now=self._wall(),
            csrf=self._forms.mark("admin"),
            said=request.query_params.get("said", "")[:100],
            trouble=trouble,
        )
        return HTMLResponse(text, headers=_HEADERS)

    async def _style(self, _: Request) -> Response:
        return Response(style(), media_type="text/css")

    async def _act(self, request: Request) -> Response:
        self._check_admin(request, form=True)
        form = {
            name: values[-1] for name, values in parse_qs((await _body(request)).decode("latin-1")).items()
        }
        if not self._forms.is_ours("admin", form.get("csrf", "")):
            raise HTTPException(403, "this form is not from this mothership, or from before its restart")
        device, action, key = form.get("device", ""), form.get("action", ""), form.get("key", "")
        await self._queue(device, action, key)
        return RedirectResponse(f"./?said={quote(f'{action} queued for {device}')}", 303)

    async def _queue(self, device: str, action: str, key: str) -> None:
        if action not in ACTIONS:
            raise HTTPException(400, f"action: write one of {', '.join(ACTIONS)}")
        if not re.fullmatch("[A-Za-z0-9-]{16,64}", key):
            raise HTTPException(400, "key: write 16 to 64 letters, digits and hyphens")
        now = self._wall()
        if not await self._step(lambda cursor: steps.order(cursor, device, action, key, now)):
            raise HTTPException(404, "there is no such device")

    # Programs

    async def _devices(self, request: Request) -> Response:
        self._check_admin(request)
        after = request.query_params.get("after", "")
        found = await asyncio.to_thread(self._books.devices, after=after)
        names = steps.Device.__slots__
        return Json({"devices": [{name: getattr(one, name) for name in names} for one in found]})

    async def _device(self, request: Request) -> Response:
        self._check_admin(request)
        name = request.path_params["name"]
        if request.method == "DELETE":
            found = await self._step(lambda cursor: steps.expel(cursor, name))
            return Json({}, 200 if found else 404)
        known = await asyncio.to_thread(self._books.device, name)
        if known is None:
            raise HTTPException(404, "there is no such device")
        return Json(known, headers=_HEADERS)

    async def _desire(self, request: Request) -> Response:
        self._check_admin(request)
        config = await _json(request)
        if not isinstance(config, dict):
            raise HTTPException(400, "a configuration is a map of keys")
        name, now = request.path_params.get("name", steps.EVERY), self._wall()
        rev = await self._step(lambda cursor: steps.desire(cursor, name, config, now))
        if rev is None:
            raise HTTPException(404, "there is no such device")
        return Json({"rev": rev})

    async def _add(self, request: Request) -> Response:
        """Enrol a device by hand: one that calls through a broker, or has a token that somebody else made."""
        self._check_admin(request)
        said = await _json(request)
        return await self._take_in(said if isinstance(said, dict) else {})

    async def _set_state(self, request: Request) -> Response:
        self._check_admin(request)
        said, name, now = await _json(request), request.path_params["name"], self._wall()
        state = said.get("state") if isinstance(said, dict) else None
        if state not in _STATES:
            raise HTTPException(400, f"state: write one of {', '.join(_STATES)}")
        found = await self._step(lambda cursor: steps.set_state(cursor, name, str(state), now))
        return Json({}, 200 if found else 404)

    async def _order(self, request: Request) -> Response:
        self._check_admin(request)
        said, name = await _json(request), request.path_params["name"]
        said = said if isinstance(said, dict) else {}
        key = str(said.get("key") or uuid.uuid4())
        await self._queue(name, str(said.get("action")), key)
        return Json({"action_id": key}, 202)

    def _check_admin(self, request: Request, *, form: bool = False) -> None:
        """Let the operator in, by a bearer token or by the password that a browser asks for.

        A browser sends that along whosever page it shows: it counts only for looking, and for a form of ours.
        """
        kind, _, what = request.headers.get("authorization", "").partition(" ")
        sent = ""
        if kind.lower() == "bearer":
            sent = what
        elif kind.lower() == "basic" and (form or request.method == "GET"):
            with suppress(ValueError):
                sent = base64.b64decode(what).decode().partition(":")[2]
        if not _same(sent, self._tokens.admin):
            challenge = {"www-authenticate": 'Basic realm="mothership", charset="UTF-8"'}
            raise HTTPException(401, "the operator's token is needed", challenge)


def _bearer(request: Request) -> str:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token if kind.lower() == "bearer" else ""


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MESSAGE_BYTES:
            raise HTTPException(413, f"a message has at most {MESSAGE_BYTES} bytes")
    return bytes(body)


async def _json(request: Request) -> Any:
    try:
        return plain(await _body(request))
    except (ValueError, RecursionError):
        raise HTTPException(400, "this is not JSON") from None


async def _unavailable(_: Request, err: Exception) -> Response:
    log.error("a request was not answered: %s", err)
    return Json({"error": str(err)}, 503, {"retry-after": "5"})
