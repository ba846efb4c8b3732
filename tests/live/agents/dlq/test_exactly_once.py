"""Redriving is killed, doubled and beside itself: each record goes once, none is lost."""

import signal
import subprocess
import sys
from collections import Counter
from itertools import pairwise

from agents.settings import Settings
from tests.live.agents.dlq.written import DLQ, TOPIC, headers, number, value, write_letters
from tests.live.conftest import WorkerFactory
from tests.live.helpers import REPO, environment, eventually, read, soma
from topics import codec

LETTERS = 4000
UPDATES = "cog.predictor.updates"
REDRIVE = ("dlq", "redrive", "--topic", TOPIC, "--json")


def started(settings: Settings) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "agents.cli", *REDRIVE], env=environment(settings), cwd=REPO,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def write_many(settings: Settings) -> None:
    write_letters(settings, ((f"t{k % 40}", value(k, f"t{k % 40}"), k) for k in range(LETTERS)))


def kill_behind_a_commit(settings: Settings, before: int) -> bool:
    """Start, and kill where some of it is committed and more is under way (a transaction has 500
    letters); whether it came to that before all was done."""
    one = started(settings)
    seen = lambda: one.poll() is not None or len(read(settings, TOPIC)) > before  # noqa: E731
    eventually(seen, 60.0, "a commit")
    alive = one.poll() is None
    one.send_signal(signal.SIGKILL)
    one.communicate(timeout=10)
    return alive


def test_killed_in_the_middle_nothing_is_doubled_or_lost_downstream(
    topics: Settings, worker: WorkerFactory
) -> None:
    write_many(topics)
    worker(SOMA_AGENTS="predictors")
    kills, before = 0, 0
    while kills < 3 and kill_behind_a_commit(topics, before):
        kills, before = kills + 1, len(read(topics, TOPIC))
    assert kills and 0 < before < LETTERS
    done = soma(*REDRIVE, env=environment(topics))
    assert done.returncode == 0, done.stderr
    sent = read(topics, TOPIC)
    assert sorted(number(one) for one in sent) == list(range(LETTERS))
    assert {headers(one)["soma-redriven"] for one in sent} == {b"1"}
    for partition in range(4):  # in the order in which they were written
        numbers = [number(one) for one in sent if one.partition() == partition]
        assert all(a < b for a, b in pairwise(numbers))
    eventually(lambda: len(read(topics, UPDATES)) >= LETTERS, 60.0, "an update of each")
    causes = Counter(
        codec.decode(one.value() or b"")[1]["observation_id"] for one in read(topics, UPDATES)
    )
    assert len(causes) == LETTERS and set(causes.values()) == {1}
    assert len(read(topics, DLQ)) == LETTERS  # none failed again


def test_two_at_once_send_each_record_once(topics: Settings) -> None:
    write_many(topics)
    both = [started(topics), started(topics)]
    ended = [one.communicate(timeout=90) for one in both]
    fenced = [err for one, (_, err) in zip(both, ended, strict=True) if one.returncode]
    assert all("somebody else redrives" in err for err in fenced) and len(fenced) <= 1, fenced
    assert sorted(number(one) for one in read(topics, TOPIC)) == list(range(LETTERS))
