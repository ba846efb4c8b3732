"""Memory, episodes and prune in a worker that is killed: each record of memory.events is answered
once, and what is remembered is what the log says.
"""

import json
from collections import Counter
from typing import Any

import pytest

from agents.coordinates import memory_id
from agents.memory_rows import content_key, head_key, read_key
from agents.settings import Settings
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma
from tests.unit.agents.episodes.samples import segment
from tests.unit.agents.memory.samples import event, vector
from tests.unit.agents.prune.samples import order
from topics import codec

EVENTS, LATEST, AUDIT = "memory.events", "memory.latest", "memory.audit"
MADE = (
    EVENTS, LATEST, AUDIT, "memory.events.dlq", "prune.order", "prune.order.dlq", "cog.segments",
    "cog.segments.dlq", "soma.epochs", "soma.memory.state", "soma.prune.state",
    "soma.episodes.state", "soma.memory.snapshots",
)  # fmt: skip
WAIT_S = 120.0  # for records of a worker on a busy machine
N, LARGE = 60, json.dumps({"text": "x" * 899_000})
AGENTS = {"SOMA_AGENTS": "memory,prune,episodes", "SOMA_EPISODES__EPISODES": "on"}


def write(settings: Settings, topic: str, schema: str, *records: dict[str, Any]) -> None:
    produce(settings, topic, [(one["tenant"].encode(), codec.encode(schema, one))
                              for one in records])  # fmt: skip


def remembered(first: int, end: int) -> list[dict[str, Any]]:
    """Each memory's event twice."""
    return [
        event(coordinate=str(k), embedding=vector(k + 1, 1), dedupe_key=f"k{k}")
        for k in range(first, end) for _ in range(2)
    ]  # fmt: skip


def said(settings: Settings) -> list[dict[str, Any]]:
    return [codec.decode(one.value() or b"")[1] for one in read(settings, AUDIT)]


def latest(settings: Settings) -> dict[str, dict[str, Any]]:
    """After compaction."""
    found: dict[str, dict[str, Any]] = {}
    for one in read(settings, LATEST):
        key = (one.key() or b"").decode()
        found.pop(key, None)
        if (value := one.value()) is not None:
            found[key] = codec.decode(value)[1]
    return found


@pytest.mark.timeout(900)
def test_what_is_remembered_survives_kills_and_follows_from_the_log(
    topics: Settings, worker: WorkerFactory
) -> None:
    first = worker(**AGENTS)
    write(topics, EVENTS, "memory_event", *remembered(0, N // 2))
    eventually(lambda: len(said(topics)) >= N // 4, WAIT_S, "some events are answered")
    first.kill()
    write(topics, EVENTS, "memory_event", *remembered(N // 2, N), event(
        coordinate="large", payload=LARGE, embedding=vector(1, 2)
    ))  # fmt: skip
    worker(**AGENTS)
    write(topics, "cog.segments", "segment_boundary", segment(7))
    every = 2 * N + 2
    eventually(lambda: len(said(topics)) == every, WAIT_S, "each event is answered")
    gone = [memory_id("a", str(k)) for k in (3, 5)]
    write(topics, "prune.order", "prune_order", order(ids=gone))
    eventually(lambda: len(said(topics)) == every + 3, WAIT_S, "the order is carried out")

    answers = said(topics)
    assert Counter((one["type"], one["outcome"], one["reason"]) for one in answers) == {
        ("created", "done", ""): N + 2, ("created", "refused", "duplicate"): N,
        ("prune", "done", ""): 1, ("deleted", "done", ""): 2,
    }  # fmt: skip
    assert sorted(one["offset"] for one in answers) == sorted({one["offset"] for one in answers})
    rows = latest(topics)
    assert Counter(read_key(key).content for key in rows) == {False: N + 2, True: N}
    assert [rows[head_key("a", "", one)]["deleted"] for one in gone] == [True, True]
    assert rows[content_key("a", "", memory_id("a", "large"))]["payload"] == LARGE
    assert rows[content_key("a", "", memory_id("a", "9"))]["vector"] == vector(10, 1)
    assert [row["memory_type"] for key, row in rows.items() if "\x1fepisodes\x1f" in key] != []

    env = environment(topics)
    shown = soma("state", "show", "memory", "--tenant", "a", "--json", env=env)
    assert shown.returncode == 0 and gone[0] in shown.stdout, shown.stderr
    anew = soma("digest", "memory", "--rebuild", "--outputs", env=env, timeout=WAIT_S)
    assert anew.returncode == 0, anew.stdout + anew.stderr
