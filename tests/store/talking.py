"""Servers for one test: one that says what it is told to, and a proxy. And the certificates for TLS."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import select
import socket
import ssl
import threading
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextlib.contextmanager
def serving(converse: Callable[[socket.socket], None], *, receive_buffer: int | None = None) -> Iterator[int]:
    """Accept connections and let `converse` have them, one after the other, in a thread; yield the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    if receive_buffer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    open_now: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                endpoint, _ = listener.accept()
            except OSError:
                return
            open_now.append(endpoint)
            with endpoint, contextlib.suppress(OSError):
                converse(endpoint)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        for endpoint in (listener, *open_now):
            with contextlib.suppress(OSError):
                endpoint.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def until(endpoint: socket.socket, mark: bytes) -> bytes:
    """Read until the mark has come."""
    data = b""
    while mark not in data:
        piece = endpoint.recv(65_536)
        if not piece:
            break
        data += piece
    return data


class Proxy:
    """Passes on what it is asked to by CONNECT or in absolute form, if the login is right."""

    def __init__(self, login: str = "", refusal: bytes = b"") -> None:
        self.requests: list[str] = []
        self._login = login
        self._refusal = refusal

    def __call__(self, client: socket.socket) -> None:
        head = until(client, b"\r\n\r\n").decode("latin-1")
        first = head.split("\r\n")[0]
        self.requests.append(first)
        if self._refusal or (self._login and f"proxy-authorization: {self._login}\r\n" not in head):
            client.sendall(self._refusal or b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
            return
        method, target, _ = first.split(" ")
        authority = target if method == "CONNECT" else target.split("/")[2]
        host, _, port = authority.rpartition(":")
        with socket.create_connection((host, int(port)), 5) as server:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
            else:
                server.sendall(head.encode("latin-1"))
            pass_on(client, server)


def pass_on(one: socket.socket, other: socket.socket) -> None:
    while True:
        ready, _, _ = select.select([one, other], [], [], 10)
        for endpoint in ready:
            data = endpoint.recv(65_536)
            if not data:
                return
            (other if endpoint is one else one).sendall(data)


def make_certificate(folder: Path) -> tuple[ssl.SSLContext, str]:
    """Make a certificate for 127.0.0.1; return a server's context and the bundle that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    bundle, both = folder / "ca.pem", folder / "server.pem"
    bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both.write_bytes(bundle.read_bytes() + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, str(bundle)
