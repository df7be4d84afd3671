"""Makes connections: addresses, time-outs, TLS, and the way through a proxy. Knows nothing of requests."""

from __future__ import annotations

import base64
import errno
import functools
import os
import select
import socket
import ssl
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tidegate.errors import Unavailable
from tidegate.store.hub import aside, wait

if TYPE_CHECKING:
    from collections.abc import Mapping

GLANCE_SECONDS = 1.0
"""How long a socket waits before it is asked whether there is still any sense in waiting."""

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """A server. `host` is a name or an IP address without brackets."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Address:
        """Take it out of a URL. Raises ValueError for anything but http and https."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError(f"{url!r} is not the URL of a server: it begins with http:// or https://")
        return cls(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])

    @property
    def authority(self) -> str:
        """As the Host header has it: the port only where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, and what it wants to see as Proxy-Authorization (empty for nothing)."""

    address: Address
    authorization: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str) -> Proxy:
        """Take it out of a URL, with or without a user. Raises ValueError unless it is http."""
        url = url if "://" in url else f"http://{url}"
        parts = urlsplit(url)
        if parts.scheme != "http":
            raise ValueError(f"a proxy is reached by http, not by {parts.scheme}")
        user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        basic = "Basic " + base64.b64encode(user.encode()).decode() if parts.username else ""
        return cls(Address.of(url), basic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How servers are talked to.

    `connect_seconds` is for each of TCP, proxy and TLS; names are looked up for as long as the system's
    resolver takes. `read_seconds` is how long a server may take for a sign of life, either way.
    `ca_bundle` is a file with the certificates to trust; without it, those of the system.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 60.0
    ca_bundle: str | None = None
    proxy: Proxy | None = None


def proxy_for(address: Address, environment: Mapping[str, str]) -> Proxy | None:
    """Find out which proxy the environment wants for this address.

    It says so with HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in upper or lower case.
    Raises ValueError for a proxy that is none.
    """
    found = {name: environment.get(name) or environment.get(name.lower()) for name in _PROXY_VARIABLES}
    url = found[f"{address.scheme.upper()}_PROXY"] or found["ALL_PROXY"]
    if not url or _spared(address.host, found["NO_PROXY"] or ""):
        return None
    return Proxy.of(url)


_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def _spared(host: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names the host, or a domain that it is in."""
    names = [name.strip().lstrip("*").lstrip(".").lower() for name in no_proxy.split(",")]
    host = host.lower()
    return no_proxy.strip() == "*" or any(name and f".{host}".endswith(f".{name}") for name in names)


def trust(ca_bundle: str | None) -> ssl.SSLContext:
    """Make the context for TLS. It takes milliseconds: make one and keep it.

    Raises `Unavailable` if the bundle cannot be read.
    """
    if ca_bundle is None and not _system_trusts_anybody():
        import botocore  # type: ignore[import-untyped]  # noqa: PLC0415 - only where it is needed

        ca_bundle = os.path.join(os.path.dirname(botocore.__file__), "cacert.pem")  # noqa: PTH118, PTH120
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:
        raise Unavailable(f"cannot read the CA bundle {ca_bundle}: {error}") from error


def _system_trusts_anybody() -> bool:
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile or (paths.capath and os.listdir(paths.capath)))  # noqa: PTH208


def connect(address: Address, manner: Manner, context: ssl.SSLContext | None) -> socket.socket:
    """Open a connection to the address; in a task of a hub, the others go on meanwhile.

    `context` is for TLS, if it is https.
    A plain socket blocks, with the time-out in the kernel, which saves a system call for each of ours;
    one with TLS does not block, because only so it can be read while it is written.
    Raises `Unavailable` if that does not work, with a sentence that says what.
    """
    first = manner.proxy.address if manner.proxy else address
    what = f"{address.host}:{address.port}" + (
        f" by the proxy {first.host}:{first.port}" if manner.proxy else ""
    )
    try:
        endpoint = _reach(first, manner.connect_seconds)
    except OSError as error:
        raise Unavailable(f"cannot connect to {what}: {error.strerror or error}") from error
    try:
        endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is None:
            return _with_kernel_time_out(endpoint, min(manner.read_seconds, GLANCE_SECONDS))
        return aside(lambda: _secured(endpoint, address, manner, context))
    except BaseException as error:
        endpoint.close()
        if isinstance(error, OSError):
            reason = getattr(error, "verify_message", "") or error.strerror or str(error)
            raise Unavailable(f"cannot speak to {what}: {reason}") from error
        raise


def _reach(server: Address, seconds: float) -> socket.socket:
    """Make a TCP connection, which does not block, to the first of a server's addresses that takes it."""
    failure = OSError("it has no address")
    for family, kind, protocol, _, where in _addresses(server):
        endpoint = socket.socket(family, kind, protocol)
        endpoint.setblocking(False)  # noqa: FBT003 - the standard library's
        try:
            code = endpoint.connect_ex(where)
            if code == errno.EINPROGRESS:
                happened = wait(endpoint, select.POLLOUT, seconds)
                code = (
                    endpoint.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if happened else errno.ETIMEDOUT
                )
        except BaseException:
            endpoint.close()
            raise
        if not code:
            return endpoint
        endpoint.close()
        failure = OSError(code, os.strerror(code))
    raise failure


def _addresses(server: Address) -> list[Any]:
    """Look the name up, which may take long; a number is its own address."""
    find = functools.partial(socket.getaddrinfo, server.host, server.port, type=socket.SOCK_STREAM)
    try:
        return find(flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return aside(find)


def _secured(
    endpoint: socket.socket, address: Address, manner: Manner, context: ssl.SSLContext
) -> socket.socket:
    """Go through the proxy, if there is one, and speak TLS. The socket does not block."""
    endpoint.settimeout(manner.connect_seconds)
    if manner.proxy:
        _tunnel(endpoint, address, manner.proxy)
    endpoint = context.wrap_socket(endpoint, server_hostname=address.host)
    endpoint.setblocking(False)  # noqa: FBT003 - the standard library's
    return endpoint


def _with_kernel_time_out(endpoint: socket.socket, seconds: float) -> socket.socket:
    endpoint.settimeout(None)
    form = "qq" if socket.SO_RCVTIMEO == 66 else "ll"  # 66: 32 bits with a time of 64
    span = struct.pack(form, int(seconds), int(seconds % 1 * 1e6))
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, span)
    return endpoint


def _tunnel(endpoint: socket.socket, address: Address, proxy: Proxy) -> None:
    """Ask a proxy for a way through. Raises `Unavailable` if it does not give one."""
    target = (
        f"{address.host}:{address.port}" if ":" not in address.host else f"[{address.host}]:{address.port}"
    )
    login = f"proxy-authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    endpoint.sendall(f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{login}\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        # One byte at a time: what comes after the empty line belongs to TLS.
        piece = endpoint.recv(1)
        if not piece or len(answer) > 16_384:
            raise Unavailable(f"the proxy {proxy.address.host} hung up instead of connecting to {target}")
        answer += piece
    words = answer.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    if len(words) < 2 or words[1] != "200":
        raise Unavailable(
            f"the proxy {proxy.address.host} does not connect to {target}: {' '.join(words[1:])}"
        )
