"""The verifier of `ops/prove` and the processors' folds agree: a feed through all, no broker.

Live, the same verifier checks what killed workers leave behind (tests/live/test_kill.py); here a
law that was misread shows within seconds.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from ops.prove.check import Findings
from ops.prove.rowcheck import RowStage, check_rows
from ops.prove.steering.control import UPDATES
from ops.prove.steering.learning import REWARDS
from ops.prove.verify import LAWS
from ops.prove.wire import Record
from tests.contract.town import WIRE, Town, checked, played

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]  # it may compile kernels

EVENTS = 6000
STEERED = (
    "control:cog.predictor.updates", "control:soma.audit", "sleep:brain.sleep.states",
    "sleep:cog.observations", "lessons:cog.reward.events", "feedback:cog.reward.events",
    "learner:cog.config.updates", "learner:cog.reward.events", "canary:cog.config.updates",
    "canary:soma.audit", "control_dead", "sleep_dead", "learner_dead", "feedback_dead",
)  # fmt: skip


@pytest.fixture(scope="module")
def town() -> Town:
    return played(5, EVENTS)


@pytest.fixture(scope="module")
def found(town: Town) -> Findings:
    return checked(town)


def test_the_verifier_expects_what_the_processors_write(found: Findings) -> None:
    assert found.clean, found.as_json()


def test_the_feed_makes_every_kind_of_output(found: Findings) -> None:
    for law in LAWS:
        for sink in law.sinks:
            assert found.counts[sink.schema] > 0, found.counts
    assert all(found.counts[name] > 0 for name in STEERED), found.counts


def test_policies_have_decided(town: Town) -> None:
    frames = [WIRE.decode(m.value, "global_frame") for m in town.logs["cog.global.frame"].records
              if m.value and m.value[:1] == b"\0" and m.value[1:5] == FRAME]  # fmt: skip
    vetoes = {row["veto"] for _, row in frames}
    assert {"none", "allow", "deny"} <= vetoes and vetoes & {"override", "error"}
    assert len({row["policy"] for _, row in frames}) >= 3


FRAME = WIRE.schema_id("global_frame").to_bytes(4, "big")


def test_ties_that_rounding_settles_are_rare(found: Findings) -> None:
    ties = sum(n for name, n in found.counts.items() if name.endswith("near_ties"))
    assert ties <= EVENTS // 1000, found.counts


def spoiled(
    town: Town, name: str, topic: str, change: Callable[[list[Record]], None]
) -> tuple[int, ...]:
    """What is found after a change to a row processor's outputs, or (no topic) its state."""
    player = next(one for one in town.players if one.law.processor == name)
    stage = player.stage(town.logs)
    assert isinstance(stage, RowStage)
    records = list(stage.outputs[topic] if topic else stage.state)
    change(records)
    if topic:
        stage = replace(stage, outputs={**stage.outputs, topic: records})
    else:
        stage = replace(stage, state=records)
    f = check_rows(stage, WIRE)
    return len(f.lost), len(f.doubled), len(f.out_of_order), len(f.wrong)


def test_a_lesson_that_is_lacking_is_lost(town: Town) -> None:
    assert spoiled(town, "lessons", REWARDS, lambda r: r.pop(9) and None) == (1, 0, 0, 0)


def test_a_lesson_that_is_there_twice_is_doubled(town: Town) -> None:
    again = lambda r: r.append(r[9]._replace(offset=10**6))  # noqa: E731
    assert spoiled(town, "lessons", REWARDS, again) == (0, 1, 0, 0)


def test_what_was_learned_in_another_order_is_found(town: Town) -> None:
    def swap(records: list[Record]) -> None:
        mine = [k for k, one in enumerate(records) if one.key == records[0].key]
        a, b = mine[0], mine[-1]
        records[a], records[b] = (
            records[b]._replace(offset=records[a].offset),
            records[a]._replace(offset=records[b].offset),
        )

    assert spoiled(town, "learner", UPDATES, swap)[2] == 1


def test_a_reward_counted_twice_is_found(town: Town) -> None:
    def count_twice(records: list[Record]) -> None:
        for k, one in enumerate(records):
            if one.value is None or one.key == b"@position":
                continue
            name, row = WIRE.decode(one.value, "")
            if row["rewards"]:
                twice = WIRE.encode(name, row | {"rewards": row["rewards"] + 1})
                records[k] = one._replace(value=twice)
                return

    assert spoiled(town, "learner", "", count_twice) == (0, 0, 0, 1)
