"""The real `opa`, where there is one, and a policy server of ours that speaks its data API."""

import contextlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest

from agents.policy import rego

SLOW_S = 10.0


def opa() -> Path:
    """The binary, by SOMA_TEST_OPA or the PATH; skips the test where there is none."""
    found = os.environ.get("SOMA_TEST_OPA") or shutil.which("opa")
    if not found or not Path(found).is_file():
        pytest.skip(
            "no opa: set SOMA_TEST_OPA, or `go install github.com/open-policy-agent/opa@latest`"
        )
    return Path(found)


def run(*args: str, text: str = "") -> str:
    """What `opa ARGS` prints; fails with its errors."""
    done = subprocess.run(
        [opa(), *args], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def endless(tenant: str) -> str:
    """A rule that takes hours for tenants whose name begins so.

    rego-cpp gives up after so many steps; a builtin is one step, however long it takes.
    """
    return f"""
allow := false if {{
    startswith(input.tenant, "{tenant}")
    some a in numbers.range(1, 1000)
    some b in numbers.range(1, 1000)
    count(numbers.range(a, b + 20000)) < 0
}}
"""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # the library's 5 resets connections when many come at once


class PolicyServer:
    """Rego over HTTP: POST /v1/data/<path> with {"input": …} gives {"result": …}, as OPA does.

    `says` instead of Rego: a status and a body as they are, or "slow" (10 s, then an answer),
    "drip" (a byte now and then, for as long), "cut" (less than announced).
    """

    def __init__(self, modules: Mapping[str, str], port: int = 0) -> None:
        self.modules = dict(modules)
        self.says: str | tuple[int, bytes] = "rego"
        self.asked: list[dict[str, Any]] = []
        self.authorised: list[str | None] = []
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._rego: dict[str, rego.Rego] = {}
        handler = type("Handler", (_Handler,), {"policy": self})
        self._server = _Server(("127.0.0.1", port), handler)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def evaluate(self, path: str, document: Any) -> dict[str, Any]:
        """What the data API answers."""
        with self._lock:
            if path not in self._rego:
                self._rego[path] = rego.Rego(self.modules, path)
        found = self._rego[path].query(document)
        return {} if found is rego.UNDEFINED else {"result": found}


class _Handler(BaseHTTPRequestHandler):
    policy: PolicyServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class' name
        pass

    def do_POST(self) -> None:
        policy = self.policy
        if policy.ended.is_set():  # a connection that outlived the server says no more
            self.close_connection = True
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        policy.asked.append(body["input"])
        policy.authorised.append(self.headers.get("Authorization"))
        status, answer = 200, b'{"result": {"allow": true}}'
        if isinstance(policy.says, tuple):
            status, answer = policy.says
        elif policy.says == "rego":
            told = policy.evaluate(self.path.removeprefix("/v1/data/"), body["input"])
            answer = json.dumps(told).encode()
        elif policy.says == "slow":
            policy.ended.wait(SLOW_S)
        with contextlib.suppress(ConnectionError):
            self._answer(status, answer, policy.says == "drip", policy.says == "cut")

    def _answer(self, status: int, answer: bytes, drip: bool, cut: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer) + (10 if cut else 0)))
        self.end_headers()
        self.close_connection = cut
        if not drip:
            self.wfile.write(answer)
            return
        for k in range(len(answer)):
            self.wfile.write(answer[k : k + 1])
            if self.policy.ended.wait(0.1):
                return


@contextlib.contextmanager
def opa_server(folder: Path, port: int) -> Iterator[str]:
    """A real OPA that serves a folder; its URL."""
    process = subprocess.Popen(
        [opa(), "run", "--server", "--addr", f"127.0.0.1:{port}", "--log-level", "error", folder],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
