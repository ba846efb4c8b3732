"""Ending in time, and not repeating oneself."""

import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agents.engine.ending import Repeats


def record(text: str, at: float, name: str = "client") -> logging.LogRecord:
    made = logging.LogRecord(name, logging.ERROR, "", 0, text, (1,), None)
    made.created = at
    return made


def test_repeats_pass_once_and_are_counted() -> None:
    repeats = Repeats(10.0)
    passed = [repeats.filter(record("node %d is away", 100.0 + t)) for t in range(10)]
    assert passed == [True] + [False] * 9
    again = record("node %d is away", 111.0)
    assert repeats.filter(again) and again.getMessage() == "node 1 is away (9 more like this)"


def test_other_messages_and_loggers_pass() -> None:
    repeats = Repeats(10.0)
    assert repeats.filter(record("a %d", 1000.0))
    assert repeats.filter(record("b %d", 1000.0))
    assert repeats.filter(record("a %d", 1000.0, "another"))


@pytest.mark.parametrize("hangs", ["threading.Event().wait()", "pass"])
def test_a_process_ends_in_time_whatever_hangs(hangs: str) -> None:
    code = f"""
import threading
from agents.engine.ending import end_in
threading.Thread(target=lambda: {hangs if hangs != "pass" else "None"}).start()
end_in(0.5)
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[4], timeout=60)
    assert done.returncode == 0 and time.monotonic() - began < 30.0
