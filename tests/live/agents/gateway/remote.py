"""A memory service for tests: a real HTTP server in a process of its own, over SQLite.

It notes each call, keeps each event once per tenant and idempotency key, and fails for tenants
whose names begin with "bad" in the way that it is told.
"""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

from ops.stack.ports import free_port
from tests.live.helpers import REPO, eventually

TABLES = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS calls (n INTEGER PRIMARY KEY, tenant, key, path, at REAL, status INT);
CREATE TABLE IF NOT EXISTS kept (n INTEGER PRIMARY KEY, tenant, key, path, body, at REAL,
                                 UNIQUE (tenant, key));
CREATE TABLE IF NOT EXISTS mode (name TEXT);
"""
HANG_S = 30.0


def app_of(database: str) -> FastAPI:
    """The service. Its mode is a row of the database, so that a restart keeps it."""
    db = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    db.executescript(TABLES)
    db.execute("PRAGMA synchronous = OFF")
    app = FastAPI()

    def mode() -> str:
        row = db.execute("SELECT name FROM mode").fetchone()
        return row[0] if row else "well"

    @app.get("/healthz")
    async def healthz() -> Response:
        return Response(status_code=503 if mode() == "down" else 200)

    @app.post("/memories")
    async def memories(request: Request) -> Response:
        return await taken(request)

    @app.post("/events/memory.events")
    async def events(request: Request) -> Response:
        return await taken(request)

    async def taken(request: Request) -> Response:
        tenant = request.headers["x-soma-tenant"]
        key = request.headers["x-idempotency-key"]
        body = await request.body()
        how = mode() if tenant.startswith("bad") else "well"
        status = {"500": 500, "down": 500, "hang": 599, "refuse": 422, "limit": 429}.get(how, 202)
        now = time.time()
        db.execute(
            "INSERT INTO calls (tenant, key, path, at, status) VALUES (?, ?, ?, ?, ?)",
            (tenant, key, request.url.path, now, status),
        )
        if how == "hang":
            await asyncio.sleep(HANG_S)
        if status == 202:
            db.execute(
                "INSERT OR IGNORE INTO kept (tenant, key, path, body, at) VALUES (?, ?, ?, ?, ?)",
                (tenant, key, request.url.path, json.dumps(json.loads(body)), now),
            )
        headers = {"Retry-After": "1"} if status == 429 else {}
        return Response(status_code=status, headers=headers, content=b"said")

    return app


class Remote:
    """The process of the service; its port and database stay through kills."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.database = folder / "remote.sqlite"
        self._log = folder / "remote.log"
        self._process: subprocess.Popen[bytes] | None = None
        with closing(sqlite3.connect(self.database)) as db:
            db.executescript(TABLES)

    def start(self) -> "Remote":
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self.port), str(self.database)],
                cwd=REPO,
                stdout=log,
                stderr=log,
                env=dict(os.environ),
            )
        eventually(self._answers, 60.0, "the remote answers")
        return self

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10.0)
            self._process = None

    def mode(self, name: str) -> None:
        """well, 500, hang, refuse, limit, or down (its health too)."""
        with closing(sqlite3.connect(self.database, timeout=10.0)) as db, db:
            db.execute("DELETE FROM mode")
            db.execute("INSERT INTO mode VALUES (?)", (name,))

    def kept(self) -> dict[str, list[dict[str, Any]]]:
        """tenant -> bodies in the order of their first arrival."""
        found: dict[str, list[dict[str, Any]]] = {}
        for tenant, body in self._query("SELECT tenant, body FROM kept ORDER BY n"):
            found.setdefault(tenant, []).append(json.loads(body))
        return found

    def count(self, where: str = "1") -> int:
        return int(self._query(f"SELECT count(*) FROM kept WHERE {where}")[0][0])

    def calls(self, where: str = "1") -> list[tuple[Any, ...]]:
        """(tenant, key, path, at, status) in order."""
        return self._query(
            f"SELECT tenant, key, path, at, status FROM calls WHERE {where} ORDER BY n"
        )

    def arrivals(self) -> dict[tuple[str, str], float]:
        """(tenant, key) -> when it was kept."""
        return {(t, k): at for t, k, at in self._query("SELECT tenant, key, at FROM kept")}

    def _query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database, timeout=10.0)) as db:
            return db.execute(sql).fetchall()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.endpoint + "/healthz", timeout=1.0):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False


if __name__ == "__main__":
    uvicorn.run(
        app_of(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning",
        access_log=False,
    )  # fmt: skip
