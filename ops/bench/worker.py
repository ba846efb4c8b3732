"""Real workers of this engine in processes of their own, looked at from outside."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, Self

import psutil

from agents.settings import Settings
from ops.bench.broker import PARTITIONS
from ops.stack.ports import free_port

READY_S = 180.0
STOP_S = 30.0
READY_SAYS = (200, 503)  # statuses of a page that is there
ROOT = Path(__file__).resolve().parents[2]


class WorkerError(Exception):
    """A worker ended or hung; the text has the end of its log."""


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """The environment in which a process of ours sees these settings."""
    given = {
        "SOMA_KAFKA_BOOTSTRAP": settings.bootstrap(),
        "SOMA_NAMESPACE": settings.namespace,
        "SOMA_TOPICS_PARTITIONS": str(settings.topics_partitions or PARTITIONS),
        "SOMA_TOPICS_REPLICATION": "1",
        "SOMA_HOME": str(settings.home),
    }
    return {**os.environ, **given, **more}


class Worker:
    """`soma worker` with some processors; a context manager that stops it by its id."""

    def __init__(self, settings: Settings, processors: str, folder: Path, **env: str) -> None:
        self.port = free_port()
        self.log = folder / f"worker-{self.port}.log"
        self._env = environment(
            settings, SOMA_AGENTS=processors, SOMA_WEB_PORT=str(self.port), **env
        )

    def arguments(self) -> list[str]:
        """What of `soma` it runs."""
        return ["worker"]

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agents.cli", *self.arguments()],
                cwd=ROOT, env=self._env, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._ps = psutil.Process(self._process.pid)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let it finish the transaction at hand."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_S)

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL."""
        self._process.kill()
        self._process.wait(STOP_S)

    def check(self) -> None:
        """Raise `WorkerError` if it has ended."""
        if self._process.poll() is not None:
            raise WorkerError(
                f"the worker ended with {self._process.returncode}:\n{self.log_text()[-3000:]}"
            )

    def cpu_s(self) -> float:
        """CPU seconds so far, user and system, all threads and ended children."""
        self.check()
        return float(sum(self._ps.cpu_times()[:4]))

    def rss_mb(self) -> float:
        """Resident memory."""
        self.check()
        return float(self._ps.memory_info().rss) / 2**20

    def log_text(self) -> str:
        """All that it wrote."""
        return self.log.read_text(errors="replace")

    def page(self, path: str) -> tuple[int, str]:
        """HTTP status and text of a page of its web server; (0, "") if nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metrics(self) -> dict[str, float]:
        """Its metrics, by name and labels as they stand on the page."""
        lines = (line for line in self.page("/metrics")[1].splitlines() if line and line[0] != "#")
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def wait(self, what: str, condition: Callable[[], bool], seconds: float = READY_S) -> float:
        """Wait for a condition, 50 ms at a time; returns the seconds that it took."""
        start = time.monotonic()
        while not condition():
            self.check()
            if time.monotonic() - start > seconds:
                tail = self.log_text()[-3000:]
                raise WorkerError(f"{what} not seen in {seconds:.0f} s; the log ends:\n{tail}")
            time.sleep(0.05)
        return time.monotonic() - start

    def ready(self) -> float:
        """Wait until /ready answers 200; returns the seconds that it took."""
        return self.wait("readiness", lambda: self.page("/ready")[0] == 200)

    def partitions(self) -> dict[str, str]:
        """What each partition that it owns does, as /ready says; none while nobody answers."""
        status, text = self.page("/ready")
        return dict(json.loads(text)["partitions"]) if status in READY_SAYS else {}


class Watched(Protocol):
    """What a measurement asks of a worker, or of several."""

    def check(self) -> None: ...

    def cpu_s(self) -> float: ...

    def log_text(self) -> str: ...


class Workers:
    """Several workers of one group; a context manager that starts them at once."""

    def __init__(self, settings: Settings, many: int, processors: str, folder: Path) -> None:
        self.each = [Worker(settings, processors, folder) for _ in range(many)]

    def __enter__(self) -> Self:
        with ExitStack() as started:
            for one in self.each:
                started.enter_context(one)
            self._started = started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def check(self) -> None:
        """Raise `WorkerError` if one has ended."""
        for one in self.each:
            one.check()

    def cpu_s(self) -> float:
        """CPU seconds of all so far."""
        return sum(one.cpu_s() for one in self.each)

    def log_text(self) -> str:
        """The end of what each wrote."""
        return "\n".join(one.log_text()[-1000:] for one in self.each)

    def ready(self, partitions: int) -> None:
        """Wait until all are ready, and each has its even share of so many partitions."""
        share = partitions // len(self.each)

        def dealt() -> bool:
            self.check()
            return all(list(one.partitions().values()) == ["running"] * share for one in self.each)

        self.each[0].wait(f"readiness with {share} of {partitions} partitions each", dealt)
