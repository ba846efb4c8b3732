"""The HTTP API's process: uvicorn, its log as JSON lines, an end within seconds of SIGTERM."""

import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from agents.api.framing import Connection
from agents.api.middleware import App
from agents.tools.signals import audible

GRACE_S = 4  # for requests under way, after SIGTERM
IDLE_S = 15  # of a connection between two requests
HEAD_S = 10.0  # for a request's head
HEAD_BYTES_MAX = 32 * 1024
CONNECTIONS_MAX = 2048
SHOWN = ("request_id", "method", "route", "status", "ms", "cause")

logger = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """One JSON object a line. No header, body, query or token ever gets in."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in SHOWN if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, where a request's head must come in time (it sets no limit itself), and
    say in one way only where its body ends."""

    _head: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = Connection(h11.SERVER, HEAD_BYTES_MAX)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._reading_head():
            self._wait()
        else:
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _reading_head(self) -> bool:
        return self.cycle is None or (
            self.cycle.response_complete and not self.transport.is_closing()
        )

    def _wait(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(HEAD_S, self.transport.close)

    def _stop(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


class Server(uvicorn.Server):
    """Ends with status 0 on SIGTERM, SIGINT and SIGHUP; a second one ends it at once."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        for number in audible():
            loop.add_signal_handler(number, self._asked, number)
        yield

    def _asked(self, number: int) -> None:
        logger.info("%s: it closes", signal.Signals(number).name)
        self.force_exit = self.should_exit
        self.should_exit = True


def serve(app: App, host: str, port: int) -> None:
    """Run until SIGTERM or Ctrl-C. The exit status is non-zero when the port can't be had."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Protocol,
        ws="none",
        loop="uvloop",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=GRACE_S,
        proxy_headers=False,  # nobody asks where a caller is; nor the environment whom to believe
        workers=1,
        limit_concurrency=CONNECTIONS_MAX,
        backlog=512,
    )
    server = Server(config)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve())
    if not server.started:
        sys.exit(1)


def log_to(level: str) -> None:
    """All logs of the process as JSON lines on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs URLs
