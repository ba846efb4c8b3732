"""A broker that goes away between a worker's first checks and its start is waited for."""

import subprocess
import sys
from pathlib import Path

import pytest

from agents.settings import Settings
from ops.stack.ports import free_port
from tests.live.deaf import Deaf
from tests.live.helpers import REPO, Worker, eventually, topics_of

MADE = topics_of("integrator")

# As `soma worker`, with a stop where the checks are made and nothing is started.
STOPPING = """
import agents.app, agents.engine.transport as transport, sys
print("checked", flush=True)
transport.START_S = float(sys.stdin.readline())
sys.argv = ["faust", "-A", "agents.app", "worker", "-l", "info", "--web-port", {port!r}]
from faust.cli.faust import cli
cli()
"""


class Stopping(Worker):
    """A worker that waits, its checks made, until it is told its deadline."""

    def start(self) -> "Stopping":
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-c", STOPPING.format(port=str(self.port))],
                env=self._env, cwd=REPO, stdin=subprocess.PIPE, stdout=out,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        eventually(lambda: self.alive and "checked" in self.tail(), 90.0, "the checks are made")
        return self

    def go(self, seconds: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n".encode())
        self.process.stdin.close()


def stopped(topics: Settings, log: Path) -> tuple[Stopping, int]:
    """A worker whose broker has just gone, and the port to bring it back at."""
    host, _, port = topics.bootstrap().rpartition(":")
    with Deaf(host, int(port)) as proxy:
        at = topics.model_copy(update={"kafka_bootstrap": f"{host}:{proxy.port}"})
        one = Stopping(at, log, {"SOMA_AGENTS": "integrator", "SOMA_WEB_PORT": str(free_port())})
        return one.start(), proxy.port


@pytest.mark.slow
def test_a_worker_waits_for_a_broker_that_went_away_while_it_started(
    topics: Settings, tmp_path: Path
) -> None:
    one, port = stopped(topics, tmp_path / "worker.log")
    try:
        one.go(60.0)
        gone = f"no Kafka broker answers at 127.0.0.1:{port}, trying again"
        eventually(lambda: one.alive and gone in one.tail(), 60.0, "it says what it waits for")
        host, _, broker = topics.bootstrap().rpartition(":")
        with Deaf(host, int(broker), at=port):
            one.await_ready(60.0)
            assert one.stop() == 0
    finally:
        if one.alive:
            one.kill()
    assert "Traceback" not in one.log.read_text()


@pytest.mark.slow
def test_it_ends_in_a_line_when_the_broker_stays_away(topics: Settings, tmp_path: Path) -> None:
    one, port = stopped(topics, tmp_path / "worker.log")
    try:
        one.go(2.0)
        assert one.process.wait(60.0) == 1
    finally:
        if one.alive:
            one.kill()
    told = one.log.read_text()
    assert f"soma worker ends: no Kafka broker answers at 127.0.0.1:{port} for 2 s" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_it_ends_by_sigterm_while_it_waits(topics: Settings, tmp_path: Path) -> None:
    one, _ = stopped(topics, tmp_path / "worker.log")
    try:
        one.go(60.0)
        eventually(lambda: "trying again" in one.tail(), 60.0, "it waits")
        one.stop()
    finally:
        if one.alive:
            one.kill()
    assert "Traceback" not in one.log.read_text()
