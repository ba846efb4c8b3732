"""Partitions are dealt out once for each processor, to members that run it."""

import json
import logging
from collections import Counter, defaultdict
from typing import Any

import pytest
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from hypothesis import example, given
from hypothesis import strategies as st

from agents.engine.dealing import Dealt, ProcessorAssignor, Unit, deal, owners_of

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


def owned(dealt: dict[str, Dealt]) -> dict[Unit, str]:
    return {
        (topic, partition, name): member
        for member, mine in dealt.items()
        for topic, names in mine.items()
        for name, partitions in names.items()
        for partition in partitions
    }


junk = st.dictionaries(
    st.tuples(st.sampled_from(["one", "two", "three"]), st.integers(0, 15), st.sampled_from(NAMES)),
    st.sampled_from("uvwxyz?"),
)


@given(running=members, count=st.integers(1, 12), had=junk)
def test_dealt_out_again_the_same_comes_out_whoever_had_what(
    running: dict[str, dict[str, set[str]]], count: int, had: dict[Unit, str]
) -> None:
    told = {member: {t: sorted(n) for t, n in one.items()} for member, one in running.items()}
    topics = {topic: range(count) for one in running.values() for topic in one}
    first = deal(told, topics, had)
    assert owned(first).keys() == owned(deal(told, topics)).keys()
    assert deal(told, topics, owned(first)) == first


SAME = {"one": ["a", "b"], "two": ["c"]}


@given(counts=st.tuples(st.integers(1, 24), st.integers(1, 24)), size=st.integers(1, 5))
def test_who_joins_takes_his_share_and_nothing_else_moves(
    counts: tuple[int, int], size: int
) -> None:
    topics = dict(zip(("one", "two"), map(range, counts), strict=True))
    before = owned(deal({f"m{k}": SAME for k in range(size)}, topics))
    dealt = deal({f"m{k}": SAME for k in range(size)} | {"new": SAME}, topics, before)
    after = owned(dealt)
    assert {after[unit] for unit in before if after[unit] != before[unit]} <= {"new"}
    for name, count in (("a", counts[0]), ("c", counts[1])):
        share = sum(member == "new" and unit[2] == name for unit, member in after.items())
        assert share in (count // (size + 1), -(-count // (size + 1)))


@given(counts=st.tuples(st.integers(1, 24), st.integers(1, 24)), size=st.integers(2, 6))
def test_who_leaves_leaves_the_others_what_they_have(counts: tuple[int, int], size: int) -> None:
    topics = dict(zip(("one", "two"), map(range, counts), strict=True))
    before = owned(deal({f"m{k}": SAME for k in range(size)}, topics))
    after = owned(deal({f"m{k}": SAME for k in range(1, size)}, topics, before))
    moved = [unit for unit in before if after[unit] != before[unit] and before[unit] != "m0"]
    assert not moved


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The assignor of this process, as it was afterwards."""
    for name in ("runs", "keepers", "dealt", "since", "undealt"):
        monkeypatch.setattr(ProcessorAssignor, name, getattr(ProcessorAssignor, name))
    return ProcessorAssignor


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


@pytest.mark.parametrize(("keeper", "tells"), [("a", "u"), ("b", "v"), ("c", "u")])
def test_one_member_tells_the_group_of_a_partition_the_keepers_if_it_runs(
    keeper: str, tells: str, fresh: Any
) -> None:
    ProcessorAssignor.keepers = {"one": keeper}
    told = {"u": metadata({"one": ["a"]}), "v": metadata({"one": ["b"]}), "w": metadata({})}
    found = ProcessorAssignor.assign(Cluster({"one": 3}), told)
    for member in told:
        ProcessorAssignor.on_assignment(found[member])
        said = [ProcessorAssignor.hints("one", partition) for partition in range(3)]
        assert said == [member == tells or member == "w"] * 3  # w has no such partition to tell of
    assert not any(place[0] == "@hints" for one in found.values() for place in one.assignment)


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


def test_a_member_that_gets_nothing_is_told_so(fresh: Any) -> None:
    """More workers than partitions: it is ready."""
    told = {name: metadata({"one": ["a"]}) for name in "uv"}
    found = ProcessorAssignor.assign(Cluster({"one": 1}), told)
    assert sorted(len(one.assignment) for one in found.values()) == [0, 1]
    for one in found.values():
        ProcessorAssignor.on_assignment(one)
        assert ProcessorAssignor.unsaid() == [] and not ProcessorAssignor.undealt


def test_nothing_is_said_of_a_topic_whose_partitions_the_leader_does_not_know(fresh: Any) -> None:
    """A broker that has just started names none; that isn't an assignment of none."""
    told = {"v": metadata({"two": ["b"]}), "u": metadata({"one": ["a"], "two": ["b"]})}
    found = ProcessorAssignor.assign(Cluster({}), told)
    assert found["u"].assignment == found["v"].assignment == []
    ProcessorAssignor.on_assignment(found["u"])
    assert ProcessorAssignor.unsaid() == ["one", "two"] == sorted(ProcessorAssignor.undealt)
    found = ProcessorAssignor.assign(Cluster({"two": 2}), told)
    ProcessorAssignor.on_assignment(found["u"])
    assert ProcessorAssignor.unsaid() == ["one"] == list(ProcessorAssignor.undealt)
    assert ProcessorAssignor.ours("two", 0, "b") and not ProcessorAssignor.ours("one", 0, "a")
    ProcessorAssignor.metadata(["one", "two"])  # the next round: another may be the leader
    assert not ProcessorAssignor.undealt


def test_of_two_who_say_that_they_have_a_partition_the_later_one_keeps_it(fresh: Any) -> None:
    """Who was out of the group for a while still says what it had; nobody loses a thing by it."""
    told = {}
    for member, since, partitions in (("u", 7, [0, 1, 2]), ("v", 9, [2, 3])):
        fresh.dealt, fresh.since = {"one": {"a": partitions, "@hints": partitions}}, since
        told[member] = metadata({"one": ["a"]})
    assert owners_of(told) == {
        ("one", 0, "a"): "u", ("one", 1, "a"): "u", ("one", 2, "a"): "v", ("one", 3, "a"): "v",
    }  # fmt: skip
    found = ProcessorAssignor.assign(Cluster({"one": 4}), told)
    assert [tuple(place) for place in found["u"].assignment] == [("one", [0, 1])]
    told["u"] = metadata({"one": ["a"]})  # says since 9 what v says too: it doesn't matter who
    assert len(owners_of(told)) == 2


@given(junk=st.text() | st.from_regex(r"a one/[0-9,]{0,12}"), since=st.text(max_size=9))
def test_what_a_member_says_unreadably_of_what_it_has_counts_for_nothing(
    junk: str, since: str
) -> None:
    said = json.dumps({"one": ["a"], "@has": [junk], "@since": [since]}).encode()
    told = {
        name: ConsumerProtocolMemberMetadata(0, ["one"], data)
        for name, data in (("odd", said), ("good", b'{"one": ["a"]}'))
    }
    found = ProcessorAssignor.assign(Cluster({"one": 4}), told)
    got = [json.loads(one.user_data)["one"].get("a", []) for one in found.values()]
    assert sorted(got[0] + got[1]) == [0, 1, 2, 3] and abs(len(got[0]) - len(got[1])) <= 1


def unlike(wanted: str) -> st.SearchStrategy[bytes]:
    """Bytes of any kind, and JSON that is nearly what it should be."""
    leaf = st.none() | st.booleans() | st.integers() | st.text() | st.just(wanted)
    near = st.recursive(
        leaf, lambda one: st.lists(one) | st.dictionaries(st.just("one") | st.text(), one)
    )
    return st.binary(min_size=1) | near.map(lambda one: json.dumps(one).encode())


@given(junk=unlike("a"))
@example(junk=b"[" * 100_000)
@example(junk=b'{"one": "abc"}')
@example(junk=b'{"one": {"a": 1}}')
@example(junk=b'{"one": ["\\ud800"]}')
@example(junk=b'{"one": [' + b"1" * 5000 + b"]}")
@example(junk=b'{"other": ["a"]}')
def test_what_a_member_says_unreadably_takes_nothing_from_the_others(junk: bytes) -> None:
    good = ConsumerProtocolMemberMetadata(0, ["one"], b'{"one": ["a"]}')
    odd = ConsumerProtocolMemberMetadata(0, ["one"], junk)
    found = ProcessorAssignor.assign(Cluster({"one": 4}), {"good": good, "odd": odd})
    got = [json.loads(one.user_data)["one"].get("a", []) for one in found.values()]
    assert sorted(got[0] + got[1]) == [0, 1, 2, 3]
    assert all(topic == "one" for topic, _ in found["odd"].assignment), "what it subscribed to"


def test_a_member_that_says_unreadably_what_it_runs_is_named(
    fresh: Any, caplog: pytest.LogCaptureFixture
) -> None:
    odd = ConsumerProtocolMemberMetadata(0, ["one"], b"\xff")
    with caplog.at_level(logging.WARNING):
        found = ProcessorAssignor.assign(Cluster({"one": 4}), {"worker-7": odd})
    assert found["worker-7"].assignment == [] and "worker-7" in caplog.text


@given(junk=unlike("a"))
@example(junk=b"[" * 100_000)
def test_what_a_leader_says_unreadably_is_no_assignment(junk: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProcessorAssignor, "runs", {"one": ["a"]})
        patch.setattr(ProcessorAssignor, "dealt", None)
        said = ConsumerProtocolMemberAssignment(0, [("one", [0])], junk)
        ProcessorAssignor.on_assignment(said)
        assert ProcessorAssignor.dealt is not None
        assert not ProcessorAssignor.ours("one", 0, "a")
