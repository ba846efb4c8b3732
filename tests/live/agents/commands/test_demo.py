"""The demo, without its screen: every observation becomes a frame, and all of it stops."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from agents.settings import Settings
from ops.stack import Stack
from ops.stack.jars import SHARED
from tests.live.helpers import REPO, environment, eventually, soma

pytestmark = pytest.mark.timeout(240)  # the first start of all compiles every kernel


def test_it_starts_all_shows_frames_and_leaves_nothing(new_home: Callable[[], Path]) -> None:
    home = new_home()
    SHARED.mkdir(parents=True, exist_ok=True)
    (home / "jars").symlink_to(SHARED)
    env = environment(Settings(home=home, kafka_bootstrap="unused:1"))
    for name in ("SOMA_KAFKA_BOOTSTRAP", "SOMA_TOPICS_PARTITIONS", "SOMA_TOPICS_REPLICATION"):
        env.pop(name)
    done = soma("demo", "--headless", "--seconds", "4", "--json", env=env, timeout=220)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["frames"] == summary["observations"] > 100
    assert len(summary["leaders"]) == summary["shown_by_redis"] == 8
    assert set(summary["leaders"].values()) <= {"state", "agent", "action"}
    assert (summary["trouble"], summary["worker_status"]) == ("", 0)
    assert "soma migrate up" not in (home / "logs" / "demo-worker.log").read_text()
    assert not any(part.running for part in Stack(home).status()), "its own stack went down"
    assert not workers_of(home)


def test_ctrl_c_stops_it_cleanly(settings: Settings) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agents.cli", "demo", "--headless", "--json", "--tenants", "cpu"],
        env=environment(settings),
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        seen = ""
        while " frames" not in seen:
            piece = process.stderr.readline()
            assert piece, seen
            seen += piece
        process.send_signal(signal.SIGINT)
        text, said = process.communicate(timeout=30)
        assert process.returncode == 0, said
        summary = json.loads(text)
        assert summary["frames"] == summary["observations"] > 0
        assert set(summary["leaders"]) == {"cpu", "recorded.cpu"}
        assert not workers_of(settings.home)
    finally:
        process.kill()


def test_a_worker_that_dies_is_shown(settings: Settings) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agents.cli", "demo", "--headless"],
        env=environment(settings),
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for worker in eventually(lambda: workers_of(settings.home), 60):
            worker.kill()
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "the worker ended with status -9" in said
    finally:
        process.kill()


def test_a_closed_terminal_leaves_nothing_running(settings: Settings) -> None:
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "agents.cli", "demo", "--tenants", "cpu"],
        env=environment(settings) | {"TERM": "xterm"},
        cwd=REPO,
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(its, termios.TIOCSCTTY, 0),
    )
    os.close(its)
    try:
        seen = b""
        while b"recorded.cpu" not in seen:
            seen += os.read(ours, 65536)
        assert workers_of(settings.home)
        os.close(ours)
        process.wait(30)
        assert not workers_of(settings.home)
    finally:
        process.kill()


def workers_of(home: Path) -> list[psutil.Process]:
    """Worker processes that run with this home."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            if (process.info["cmdline"] or [])[-1:] == ["worker"] and process.environ().get(
                "SOMA_HOME"
            ) == str(home):
                found.append(process)
        except psutil.Error:
            continue  # it ended while we looked, or isn't ours
    return found
