"""Partitions are dealt out once for each processor, to members that run it."""

from collections import Counter, defaultdict
from typing import Any

import pytest
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from agents.engine.dealing import ProcessorAssignor, deal

NAMES = ("a", "b", "c")
members = st.dictionaries(
    st.sampled_from("uvwxyz"),
    st.dictionaries(st.sampled_from(["one", "two"]), st.sets(st.sampled_from(NAMES), min_size=1)),
    min_size=1,
)


class Cluster:
    """What the assignor asks of a cluster."""

    def __init__(self, partitions: dict[str, int]) -> None:
        self._partitions = partitions

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        count = self._partitions.get(topic)
        return None if count is None else set(range(count))


@given(running=members, count=st.integers(1, 12))
def test_every_processor_that_runs_gets_each_partition_once_where_it_runs(
    running: dict[str, dict[str, set[str]]], count: int
) -> None:
    told = {member: {t: sorted(n) for t, n in one.items()} for member, one in running.items()}
    topics = {topic for one in running.values() for topic in one}
    dealt = deal(told, {topic: range(count) for topic in topics})
    got: dict[tuple[str, str], list[int]] = defaultdict(list)
    for member, mine in dealt.items():
        for topic, names in mine.items():
            for name, partitions in names.items():
                assert name in running[member][topic]
                got[topic, name] += partitions
    wanted = {(t, n) for one in running.values() for t, names in one.items() for n in names}
    assert got.keys() == wanted
    assert all(sorted(found) == list(range(count)) for found in got.values())


@given(count=st.integers(1, 12), size=st.integers(1, 5))
def test_members_that_run_the_same_share_equally_and_keep_processors_together(
    count: int, size: int
) -> None:
    running = {f"m{k}": {"one": ["a", "b"], "two": ["c"]} for k in range(size)}
    dealt = deal(running, {"one": range(count), "two": range(count)})
    loads = Counter({m: len(d["one"]["a"]) + len(d["two"]["c"]) for m, d in dealt.items()})
    assert max(loads.values()) - min(loads[m] for m in running) <= 1
    assert all(mine["one"]["a"] == mine["one"]["b"] for mine in dealt.values())


@pytest.fixture
def fresh() -> Any:
    before = ProcessorAssignor.runs, ProcessorAssignor.keepers, ProcessorAssignor.dealt
    yield ProcessorAssignor
    ProcessorAssignor.runs, ProcessorAssignor.keepers, ProcessorAssignor.dealt = before


def metadata(runs: dict[str, list[str]]) -> ConsumerProtocolMemberMetadata:
    ProcessorAssignor.runs = runs
    said = ProcessorAssignor.metadata(list(runs))
    decoded = ConsumerProtocolMemberMetadata.decode(said.encode())
    assert isinstance(decoded, ConsumerProtocolMemberMetadata)
    return decoded


def test_a_partition_goes_to_two_members_that_run_different_processors(fresh: Any) -> None:
    told = {"u": metadata({"one": ["a"]}), "v": metadata({"one": ["b"]})}
    found = ProcessorAssignor.assign(Cluster({"one": 3}), told)
    for member, name in (("u", "a"), ("v", "b")):
        assert [tuple(place) for place in found[member].assignment] == [("one", [0, 1, 2])]
        ProcessorAssignor.on_assignment(found[member])
        assert [ProcessorAssignor.ours("one", 1, n) for n in ("a", "b")] == [
            name == "a",
            name == "b",
        ]


def test_a_member_of_a_version_before_runs_the_keeper_alone(fresh: Any) -> None:
    ProcessorAssignor.keepers = {"one": "a"}
    old = RoundRobinPartitionAssignor.metadata(["one"])
    found = ProcessorAssignor.assign(
        Cluster({"one": 4}), {"old": old, "new": metadata({"one": ["a", "b"]})}
    )
    ProcessorAssignor.on_assignment(found["new"])
    ours = [[p for p in range(4) if ProcessorAssignor.ours("one", p, name)] for name in ("a", "b")]
    ((_, theirs),) = found["old"].assignment
    assert sorted(ours[0] + theirs) == [0, 1, 2, 3] and ours[1] == [0, 1, 2, 3]
    # And where such a member deals: what it gives us is for all that we run.
    ProcessorAssignor.on_assignment(
        RoundRobinPartitionAssignor.assign(Cluster({"one": 4}), {"new": old})["new"]
    )
    assert ProcessorAssignor.ours("one", 3, "a") and ProcessorAssignor.ours("one", 3, "b")


def test_members_and_topics_without_anything_to_do_are_told_so(fresh: Any) -> None:
    told = {"u": metadata({"one": ["a"]}), "v": metadata({})}
    found = ProcessorAssignor.assign(Cluster({}), told)
    assert found["u"].assignment == found["v"].assignment == []
