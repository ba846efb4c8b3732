"""What stands in front of a registry: TLS, passwords, and all that a network does.

What stands behind it is the real one. `front.late_s`, `.answer` and `.closed` change as a test
goes on; it runs in a thread of its own.
"""

import asyncio
import base64
import datetime
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ops.stack.ports import HOST, free_port

WAIT_S = 60.0
Answer = Callable[[str, int, bytes], tuple[int, bytes]]  # path, status, body -> status, body


def as_it_is(path: str, status: int, body: bytes) -> tuple[int, bytes]:
    return status, body


@dataclass
class Front:
    """A registry's address of a test's own."""

    behind: str
    url: str
    password: str = field(default="", repr=False)  # of the user `soma`
    late_s: float = 0.0
    closed: bool = False  # connections end without an answer
    answer: Answer = as_it_is
    asked: list[str] = field(default_factory=list)  # method and path of each request

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.rel_url}")
        if self.closed and request.transport is not None:
            request.transport.abort()
        await asyncio.sleep(self.late_s)
        told = request.headers.get("Authorization", "")
        due = "Basic " + base64.b64encode(f"soma:{self.password}".encode()).decode()
        if self.password and told != due:
            return web.json_response({"message": "who?"}, status=401)
        kind = {"Content-Type": request.headers.get("Content-Type", "application/json")}
        async with (
            ClientSession(timeout=ClientTimeout(WAIT_S)) as session,
            session.request(
                request.method, self.behind + str(request.rel_url), data=await request.read(),
                headers=kind,
            ) as answer,
        ):  # fmt: skip
            status, body = self.answer(request.path, answer.status, await answer.read())
        return web.Response(status=status, body=body, content_type="application/json")


@contextmanager
def front(behind: str, password: str = "", certificate: Path | None = None) -> Iterator[Front]:
    """A front to the registry at `behind`; with TLS where there is a certificate (`signed`)."""
    port, ready = free_port(), threading.Event()
    one = Front(behind, f"http{'s' if certificate else ''}://{HOST}:{port}", password)
    runs: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        runs.append((asyncio.get_running_loop(), asyncio.Event()))
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", one.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        context = None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
        await web.TCPSite(runner, HOST, port, ssl_context=context).start()
        ready.set()
        await runs[0][1].wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        assert ready.wait(WAIT_S), "nothing listens in front of the registry"
        yield one
    finally:
        loop, end = runs[0]
        loop.call_soon_threadsafe(end.set)
        thread.join(WAIT_S)


def signed(folder: Path) -> Path:
    """A PEM file: the key of a server at 127.0.0.1, and a certificate that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry of a test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "registry.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
