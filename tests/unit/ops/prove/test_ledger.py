"""The ledger's processors and the count of our own agree on any log, wherever batches are cut."""

import importlib
from typing import Any

import numpy as np
import pytest

from agents.engine.plan import Plan
from agents.kit.run import LOG_MS, TOPIC_ID, Message, Run
from agents.settings import Settings
from ops.bench.broker import PARTITIONS
from ops.examples.install import install
from ops.prove.ledger import PLUGIN
from ops.prove.ledger.feed import moves, wire
from ops.prove.ledger.model import Books, Output, decoded
from ops.prove.wire import Record
from topics import codec

SETTINGS = Settings(kafka_bootstrap="127.0.0.1:1", topics_partitions=PARTITIONS)
DEFAULTS = {"forget_after_s": "2592000"}


def log_of(seed: int, count: int) -> list[list[tuple[int, Message]]]:
    """Batches of one partition, with the log's time of each; some of them ticks."""
    rng, given = np.random.default_rng(seed), moves(count, seed)
    mine = [(one.key.encode(), one.value) for one in given if one.partition == 1]
    ms, batches, at = LOG_MS, [], 0
    while mine:
        size = int(rng.integers(1, 40))
        part, mine = mine[:size], mine[size:]
        ms += int(rng.integers(1, 1500))
        found = [(ms, Message(at + k, *one)) for k, one in enumerate(part)]
        at += len(part) + 1
        if rng.random() < 0.5:
            ms += 90_000 if rng.random() < 0.2 else 0
            tick = codec.encode("control_tick", {"ts": ms * 1000})
            found.append((ms, Message(at - 1, None, tick)))
        batches.append(found)
    return batches


@pytest.mark.parametrize("name", PLUGIN.processors)
@pytest.mark.parametrize("seed", range(3))
def test_they_agree_on_outputs_rows_letters_and_counts(
    name: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(PLUGIN)
    # Their times are the log's: what is sent is of the past.
    monkeypatch.setattr("ops.prove.ledger.feed.time.time_ns", lambda: LOG_MS * 1_000_000)
    processor = importlib.import_module(PLUGIN.processors[name]).PROCESSOR
    plan = Plan(processor, SETTINGS, PARTITIONS, keeper=name == "accounts")
    run, books = Run(plan, DEFAULTS, partition=1), Books(name, 1, PARTITIONS, TOPIC_ID[:8])
    rng = np.random.default_rng(seed)
    for batch in log_of(seed, 6000):
        run.feed([[one for _, one in batch]], batch[0][0])
        for _, one in batch:
            books.take(Record("", 1, one.offset, batch[0][0], one.key, one.value, ()))
        if rng.random() < 0.05:
            rows = run.rows()
            run.restart(processor.make(run.context))
            run.load(rows)
    found: list[Output] = [
        (sent.topic, sent.partition, (sent.key or b"").decode(), content(sent.value))
        for sent in run.outputs()
    ]
    for topic in {sink.topic for sink in plan.sinks}:
        must = [one for one in books.outputs if one[0] == topic]
        order = sorted(must, key=lambda one: one[1])
        assert sorted((o for o in found if o[0] == topic), key=lambda o: o[1]) == order and must
    assert {k.decode(): content(v) for k, v in run.rows().items()} == books.table()
    letters = [dict(sent.headers) for sent in run.of(plan.dlq)]
    assert [(origin(one), (one["soma-reason"] or b"").decode()) for one in letters] == books.letters
    for metric, offsets in books.counts.items():
        assert run.counted[metric] == len(offsets)
    if name == "accounts":
        assert books.fired and books.closed and books.forgotten and books.forwarded
        assert run.counted["ledger_idle"] == books.fired
        assert run.results["misrouted"] == books.forwarded


def content(value: bytes | None) -> Any:
    return None if value is None else decoded(value)[1]


def origin(headers: dict[str, bytes | None]) -> int:
    return int((headers["soma-origin"] or b"").rpartition(b"/")[2])


def test_what_is_sent_can_be_read() -> None:
    install(PLUGIN)
    assert decoded(wire("control_tick", {"ts": 5})) == ("control_tick", {"ts": 5})
    assert sum(one.move for one in moves(500, 1)) == 500
