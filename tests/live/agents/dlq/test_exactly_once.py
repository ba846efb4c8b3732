"""Redriving is killed, doubled and beside itself: each record goes once, none is lost."""

import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise

from confluent_kafka import Consumer

from agents.settings import Settings
from tests.live.agents.dlq.written import DLQ, TOPIC, headers, number, value, write_letters
from tests.live.conftest import WorkerFactory
from tests.live.helpers import PARTITIONS, REPO, environment, eventually, read, soma, topics_of
from topics import codec
from topics.reading import ends_of

MADE = topics_of("replay", "dlq", "predictors")

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


def kill_on_the_way(settings: Settings, reached: int) -> bool:
    """Start, and kill when so much is in the log, committed or not; whether it was alive then."""
    group, isolation = settings.prefix("kill"), "read_uncommitted"
    reader = Consumer(settings.librdkafka(group_id=group, isolation_level=isolation))
    places = [(settings.topic(TOPIC), number) for number in range(PARTITIONS)]
    deadline = time.monotonic() + 60.0
    one = started(settings)
    try:
        while one.poll() is None and sum(ends_of(reader, places).values()) < reached:
            assert time.monotonic() < deadline, f"not {reached} records within 60 s"
        alive = one.poll() is None
    finally:
        reader.close()
        one.kill()
        one.communicate(timeout=10)
    return alive


def test_killed_in_the_middle_nothing_is_doubled_or_lost_downstream(
    topics: Settings, worker: WorkerFactory
) -> None:
    write_many(topics)
    worker(SOMA_AGENTS="predictors")
    counts = []
    for reached in (700, 1900, 3300):  # offsets: records, killed ones too, and markers
        assert kill_on_the_way(topics, reached)
        counts.append(len(read(topics, TOPIC)))
    assert 0 < counts[0] <= counts[-1] < LETTERS, counts
    done = soma(*REDRIVE, env=environment(topics))
    assert done.returncode == 0, done.stderr
    sent = read(topics, TOPIC)
    assert sorted(number(one) for one in sent) == list(range(LETTERS))
    assert {headers(one)["soma-redriven"] for one in sent} == {b"1"}
    for partition in range(PARTITIONS):  # in the order in which they were written
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
