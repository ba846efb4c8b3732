"""Ranges by offsets, times and ids; what is gone of them; and jobs that fail while others go on."""

import json
import os
import time

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from agents.replay.agent import COMMANDS
from agents.settings import Settings
from tests.live.agents.replay.helpers import (
    SOURCE,
    await_state,
    make_topic,
    observations,
    origin,
    say,
    statuses,
)
from tests.live.conftest import WorkerFactory
from tests.live.helpers import eventually, produce, read, topics_of
from topics import codec
from topics.broker import topic_ids

MADE = topics_of("replay", "predictors", "integrator")

PARTITIONS = 4  # ranges name some of them
FRAMES, UPDATES = "cog.global.frame", "cog.predictor.updates"


def offsets(settings: Settings, topic: str) -> list[tuple[str, int]]:
    """(partition, offset) of what was sent into a topic, by their places before."""
    places = [origin(one).split("/") for one in read(settings, topic)]
    return sorted((partition, int(offset)) for _, partition, offset in places)


def part(settings: Settings, topic: str, partition: int, low: int, high: int) -> list[int]:
    """The offsets of a partition's records within [low, high)."""
    found = [one.offset() or 0 for one in read(settings, topic) if one.partition() == partition]
    return [offset for offset in found if low <= offset < high]


def test_ranges_by_offsets_times_and_ids(topics: Settings, worker: WorkerFactory) -> None:
    admin = AdminClient(topics.librdkafka())
    produce(topics, SOURCE, observations(400))
    time.sleep(0.02)
    middle = time.time_ns() // 1_000_000
    time.sleep(0.02)
    produce(topics, SOURCE, observations(300))
    ids = topic_ids(admin, [topics.topic(SOURCE), topics.topic(UPDATES)])
    own, cause = (ids[topics.topic(name)][:8] for name in (SOURCE, UPDATES))
    frames = [(b"t", codec.encode("global_frame", frame(f"{cause}-2-{3 * k}"))) for k in range(50)]
    produce(topics, FRAMES, frames, partition=2)
    iso = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(middle / 1000))}.{middle % 1000:03d}Z"
    asked = {
        "offsets": {"since": "0:10,3:20", "until": "0:30,3:25"},
        "every": {"since": "5", "until": "9"},
        "before": {"until": iso},
        "after": {"since": iso},
        "ids": {"since": f"{own}-3-7", "until": f"{own}-3-11"},
        "frames": {"source": FRAMES, "since": f"{cause}-2-30", "until": f"{cause}-2-36"},
        "no-frame": {"source": FRAMES, "since": f"{cause}-2-31"},
    }
    for id_, given in asked.items():
        say(topics, id_, **({"target": make_topic(topics, f"to.{id_}")} | given))
    worker(SOMA_AGENTS="replay")
    for id_ in asked:
        await_state(topics, id_, "refused" if id_ == "no-frame" else "done")
    wanted = [("0", k) for k in part(topics, SOURCE, 0, 10, 30)]
    wanted += [("3", k) for k in part(topics, SOURCE, 3, 20, 25)]
    assert offsets(topics, "to.offsets") == wanted
    assert len(offsets(topics, "to.every")) == sum(
        len(part(topics, SOURCE, p, 5, 9)) for p in range(PARTITIONS)
    )
    assert (len(read(topics, "to.before")), len(read(topics, "to.after"))) == (400, 300)
    assert offsets(topics, "to.ids") == [("3", k) for k in range(7, 11)]
    assert offsets(topics, "to.frames") == [("2", 10), ("2", 11)]
    assert "nothing of" in statuses(topics)["no-frame"][-1]["message"]


def frame(id_: str) -> dict[str, object]:
    return {
        "frame_id": id_, "tenant": "t", "ts": 1_760_000_000_000_000, "domain": "a", "leader": "a",
        "weights": {"a": 1.0}, "errors": {"a": 0.1}, "confidence": 0.5, "entropy": 0.0,
        "regret_bound": 0.0, "dwell_ms": 0, "veto": "none", "rationale": "",
    }  # fmt: skip


def test_what_is_gone_is_named_and_what_fails_stops_nobody_else(
    topics: Settings, worker: WorkerFactory
) -> None:
    admin = AdminClient(topics.librdkafka())
    produce(topics, SOURCE, observations(4_000))
    before = {TopicPartition(topics.topic(SOURCE), 3, 100): "deleted"}
    for done in admin.delete_records(list(before)).values():
        done.result(30)
    say(topics, "whole", target=make_topic(topics, "to.whole"), since="0")
    say(topics, "part", target=make_topic(topics, "to.part"), since="0", partial=True)
    say(topics, "dry", shadow="try", since="0", dry_run=True)
    make_topic(topics, "large")
    produce(topics, "large", [(b"k", b"small"), (b"k", os.urandom(5_000))])
    small = make_topic(topics, "to.small", config={"max.message.bytes": "1000"})
    say(topics, "large", source="large", target=small)
    say(topics, "gone", target=make_topic(topics, "to.gone"), rate_limit=300)
    say(topics, "slow", target=make_topic(topics, "to.slow"), rate_limit=2_000)
    worker(SOMA_AGENTS="replay", SOMA_COMMIT_TIMEOUT_S="6")
    eventually(
        lambda: statuses(topics)["gone"] and statuses(topics)["gone"][-1]["sent"] > 100,
        60.0, "it has begun",
    )  # fmt: skip
    for deleted in admin.delete_topics([topics.topic("to.gone")], operation_timeout=30).values():
        deleted.result(30)
    refused = await_state(topics, "whole", "refused")["message"]
    assert "isn't whole: partition 3: offsets 0 to 99 are gone" in refused
    partly = await_state(topics, "part", "done")
    assert partly["sent"] == 3_900 and "offsets 0 to 99 are gone" in partly["message"]
    dry = json.loads(await_state(topics, "dry", "done")["plan"])
    assert dry["missing"] == ["partition 3: offsets 0 to 99 are gone"]
    assert "MessageSizeTooLarge" in await_state(topics, "large", "failed")["message"]
    assert len(read(topics, "to.small")) == 0
    assert await_state(topics, "slow", "done")["sent"] == 3_900
    assert "to.gone is gone" in await_state(topics, "gone", "failed", 90.0)["message"]
    produce(topics, COMMANDS, commands())
    eventually(lambda: len(statuses(topics)) == 10_006, 60.0, "each command is answered")
    assert await_state(topics, "job-9999", "done")["sent"] == 3_900


def commands() -> list[tuple[bytes, bytes]]:
    """Ten thousand at once: all but the last can't be."""
    found = []
    for k in range(10_000):
        given = {"id": f"job-{k}", "type": "start", "mode": "republish", "source": SOURCE}
        more = {"shadow": "try", "dry_run": True} if k == 9_999 else {"target": ""}
        found.append((given["id"].encode(), json.dumps(given | more).encode()))
    return found
