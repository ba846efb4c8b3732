"""Callers of the HTTP API, and processes of it."""

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import jwt

from agents.settings import Settings
from ops.stack.ports import free_port
from tests.live.agents.projections.compare import sql
from tests.live.helpers import REPO, environment, eventually

SECRET = "a secret of thirty-two bytes, no less"
JSON = {"content-type": "application/json"}


def bearer(
    tenants: object = ("acme",),
    roles: object = ("write", "read"),
    secret: Any = SECRET,
    algorithm: str = "HS256",
    **claims: object,
) -> dict[str, str]:
    """The Authorization header of a caller."""
    known: dict[str, Any] = {"sub": "tester", "exp": int(time.time()) + 600}
    listed = {"tenants": list(tenants) if isinstance(tenants, tuple) else tenants}
    listed["roles"] = list(roles) if isinstance(roles, tuple) else roles
    token = jwt.encode(known | listed | claims, secret, algorithm=algorithm)
    return {"authorization": f"Bearer {token}"}


def acme(**headers: str) -> dict[str, str]:
    """A writer of the tenant acme."""
    given = {name.replace("_", "-"): text for name, text in headers.items()}
    return bearer() | {"x-soma-tenant": "acme"} | given


def admin(tenants: object = ("*",)) -> dict[str, str]:
    return bearer(tenants, ("admin",))


def observation(number: float = 1.0, **more: object) -> dict[str, Any]:
    """A payload for cog.observations."""
    ts = "2026-01-31T12:00:00Z"
    return {"domain": "cpu", "ts": ts, "vector": [number, 0.5], **more}


def events_of(settings: Settings) -> list[Any]:
    """The outbox' events in their order."""
    return sql(settings, "SELECT * FROM SCHEMA.outbox ORDER BY id")


class ApiProcess:
    """One `soma api` with a log of its own."""

    def __init__(self, settings: Settings, log: Path, more: Mapping[str, str]) -> None:
        self.port = free_port()
        self.log = log
        self.base = f"http://127.0.0.1:{self.port}"
        own = {"SOMA_API__JWT_SECRET": SECRET, "SOMA_API__PORT": str(self.port)}
        if not settings.kafka_bootstrap:  # the HTTP API doesn't speak to Kafka
            settings = settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})
        self._env = environment(settings, **{**own, **more})
        self.process = self._started()

    def _started(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "agents.cli", "api"],
                env=self._env,
                cwd=REPO,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def alive(self) -> bool:
        assert self.process.poll() is None, f"soma api ended:\n{self.log.read_text()}"
        try:
            return httpx.get(f"{self.base}/healthz", timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False

    def await_alive(self) -> "ApiProcess":
        eventually(self.alive, 60.0, "soma api answers")
        return self

    def restart(self) -> "ApiProcess":
        self.process = self._started()
        return self.await_alive()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10.0)
