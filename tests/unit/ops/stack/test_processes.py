"""Processes: found by their words, signalled only if they are ours, stopped for sure."""

import os
import signal
import sys
import uuid
from pathlib import Path

import psutil
import pytest

from ops.stack.processes import _children, alive, find, spawn, stop, wait_until

SLEEP = "import time; time.sleep(60)"
DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('deaf', flush=True); time.sleep(60)"
)


@pytest.fixture
def word() -> str:
    return f"soma-test-{uuid.uuid4().hex}"


def start(tmp_path: Path, word: str, code: str = SLEEP) -> psutil.Process:
    return spawn([sys.executable, "-c", code, word], tmp_path / "out.log", tmp_path)


def test_a_process_is_found_by_its_words_and_not_by_a_pid_alone(tmp_path: Path, word: str) -> None:
    one = start(tmp_path, word)
    try:
        stranger = psutil.Process().pid
        for hint in (None, one.pid, stranger, 2**22 - 1):
            found = find((word, SLEEP), hint)
            assert found is not None
            assert found.pid == one.pid
        assert find((word, "another word"), one.pid) is None
    finally:
        one.kill()
    assert wait_until(lambda: not alive(one), 10.0)
    assert find((word,), one.pid) is None


def test_it_has_a_session_of_its_own(tmp_path: Path, word: str) -> None:
    one = start(tmp_path, word)
    try:
        assert os.getsid(one.pid) == one.pid
    finally:
        one.kill()
    assert wait_until(lambda: not alive(one), 10.0)


def test_one_that_has_ended_is_gone_when_it_is_reaped(tmp_path: Path, word: str) -> None:
    """Not when it could be: then nobody would do it any more."""
    one = start(tmp_path, word)
    child = _children[one.pid]
    one.kill()
    assert wait_until(lambda: one.status() == psutil.STATUS_ZOMBIE, 10.0)
    with child._waitpid_lock:  # it ended just after `poll` had looked, or another thread looks
        assert alive(one)
    assert not alive(one)
    assert child.returncode == -signal.SIGKILL


def test_stop_asks_first(tmp_path: Path, word: str) -> None:
    one = start(tmp_path, word)
    assert stop(one, signal.SIGTERM, 10.0)
    assert not alive(one)
    assert stop(one, signal.SIGTERM, 0.1)  # gone already: nothing to do


def test_stop_kills_who_does_not_listen(tmp_path: Path, word: str) -> None:
    one = start(tmp_path, word, DEAF)
    assert wait_until(lambda: "deaf" in (tmp_path / "out.log").read_text(), 10.0)
    assert not stop(one, signal.SIGTERM, 0.3)
    assert not alive(one)


def test_stop_wakes_who_was_stopped(tmp_path: Path, word: str) -> None:
    one = start(tmp_path, word)
    one.suspend()
    assert stop(one, signal.SIGTERM, 10.0)
