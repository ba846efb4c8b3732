"""Which records a job takes, and that what it writes is what it read, with one header more."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from agents.engine.batches import raw_batch
from agents.engine.builder import RawBuilder
from agents.engine.records import frame_one
from agents.kit.run import Message, Sent, batch_of
from agents.kit.run import read as read_sent
from agents.replay.command import Command
from agents.replay.modes import JobFailedError, Step
from agents.replay.records import Records, parts_of, records_of
from agents.replay.republish import Copier
from topics import codec
from topics.partition import partition_of

pytestmark = pytest.mark.kernel

PLAN: dict[str, Any] = {"source": "ns.cog.observations", "target": "mine", "target_partitions": 4}
TS = 1_760_000_000_000_000


def observation(tenant: str, domain: str = "state", sequence: int = 0) -> bytes:
    record = {"tenant": tenant, "domain": domain, "ts": TS, "vector": b"\0" * 8}
    return codec.encode("observation", record | {"sequence": sequence})


def setting(tenant: str) -> bytes:
    return codec.encode("control_setting", {
        "tenant": tenant, "setting": "alpha", "value": "1", "author": "x", "ts": TS,
    })  # fmt: skip


def parsed(messages: Sequence[Message], first: int = 0, end: int = 1 << 40) -> Records:
    return records_of([batch_of(messages)], (first, end), "ns.cog.observations/2", 64 << 20)


def copied(records: Records, **command: Any) -> tuple[Step, list[Sent]]:
    given = {"mode": "republish", "source": "cog.observations", "target": "mine"} | command
    step = Copier(Command(**given), PLAN).copy(records, 0, records.n, 2)
    return step, [one for send in step.sends for one in read_sent(*send)]


def test_records_stay_as_they_are_but_for_a_header_and_go_to_their_tenants() -> None:
    messages = [
        Message(7, b"acme", observation("acme"), [("trace", b"t"), ("nothing", None)]),
        Message(9, None, b"\xff junk"),
        Message(12, b"acme\x1fstate", None),
        Message(13, b"bob", b'{"tenant": "bob"}'),
        Message(14, b"", b""),
    ]
    step, sent = copied(parsed(messages))
    assert (step.read, step.sent) == (5, 5)
    by_place = {dict(one.headers)["soma-replayed"]: one for one in sent}
    for message in messages:
        one = by_place[f"ns.cog.observations/2/{message.offset}".encode()]
        assert (one.key, one.value) == (message.key, message.value)
        assert list(one.headers[:-1]) == message.headers
        tenant = (message.key or b"").partition(b"\x1f")[0]
        assert one.partition == (2 if message.key is None else partition_of(tenant, 4))
    assert step.tenants == {"acme": 2, "bob": 1, "": 1}


def test_the_order_of_a_partition_is_kept() -> None:
    tenants = [f"t{k % 9}" for k in range(3_000)]
    messages = [Message(k, t.encode(), observation(t, sequence=k)) for k, t in enumerate(tenants)]
    _, sent = copied(parsed(messages))
    assert len(sent) == 3_000
    for partition in range(4):
        mine = [one for one in sent if one.partition == partition]
        offsets = [int(dict(one.headers)["soma-replayed"].rpartition(b"/")[2]) for one in mine]  # type: ignore[union-attr]
        assert offsets == sorted(offsets) and len(mine) > 100


def test_only_what_lies_in_the_span_is_taken() -> None:
    records = parsed([Message(k, b"a", b"x") for k in range(5, 20)], 8, 17)
    assert records.offs[: records.n].tolist() == list(range(8, 17))


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"tenants": ("b",)}, [2, 3]),
        ({"domains": ("agent",)}, [1, 3]),
        ({"tenants": ("b", "c"), "domains": ("state",)}, [2]),
        ({"predicate": "sequence >= `2`"}, [2, 3]),
        ({"predicate": "tenant == 'a' && domain == 'agent'"}, [1]),
        ({"predicate": "sequence"}, []),  # what isn't true isn't taken
        ({"predicate": "nothing.of.that"}, []),
    ],
)
def test_filters(given: dict[str, Any], taken: list[int]) -> None:
    said = [("a", "state"), ("a", "agent"), ("b", "state"), ("b", "agent")]
    messages = [Message(k, t.encode(), observation(t, d, k)) for k, (t, d) in enumerate(said)]
    text = json.dumps({
        "tenant": "b", "domain": "agent", "ts": "2026-01-01T00:00:00Z", "vector": [], "sequence": 3,
    })  # fmt: skip
    messages[3].value = text.encode()
    step, sent = copied(parsed([*messages, Message(4, b"z", b"\xff")]), **given)
    places = [dict(one.headers)["soma-replayed"] for one in sent]
    assert sorted(int(place.rpartition(b"/")[2]) for place in places) == taken  # type: ignore[union-attr]
    assert step.sent == len(taken)


@pytest.mark.parametrize(
    ("predicate", "said"),
    [
        ("sum(domain) > `1`", r".*sum\(\)"),
        ("domain > `0.5`", "'>' not supported"),
        ("ceil(sum([to_number(domain), `1e400`]))", "In function sum"),
        ("sequence == `0` && ceil(`1e400`)", "cannot convert float infinity"),
        ("[tenant]" + "|[@,@][]" * 25, r"it takes more than 1\d,\d\d\d steps"),
    ],
)
def test_a_predicate_that_cant_be_asked_names_the_record(predicate: str, said: str) -> None:
    records = parsed([Message(3, b"a", observation("a"))])
    where = r"ns\.cog\.observations/2/3: predicate: "
    with pytest.raises(JobFailedError, match=where + said):
        copied(records, predicate=predicate)


def test_a_predicate_that_only_a_version_before_took_ends_its_job() -> None:
    with pytest.raises(JobFailedError, match="predicate: 201 words, at most 200"):
        Copier(Command(source="cog.observations", predicate="!" * 200 + "a"), PLAN)


def test_control_records_go_along_into_a_shadow_alone() -> None:
    tick = codec.encode("control_tick", {"ts": TS})
    messages = [
        Message(0, b"a", observation("a")), Message(1, None, tick), Message(2, b"*", setting("*")),
        Message(3, b"a", setting("a")), Message(4, b"b", setting("b")),
        Message(5, b"b", observation("b")),
    ]  # fmt: skip

    def offsets(**command: Any) -> list[int]:
        _, sent = copied(parsed(messages), **command)
        found = [dict(one.headers)["soma-replayed"] for one in sent]
        assert {one.partition for one in sent if "shadow" in command} <= {2}
        return sorted(int(one.rpartition(b"/")[2]) for one in found)  # type: ignore[union-attr]

    assert offsets() == [0, 5]
    assert offsets(shadow="try", target="") == [0, 1, 2, 3, 4, 5]
    assert offsets(shadow="try", target="", tenants=("a",)) == [0, 1, 2, 3]
    assert offsets(shadow="try", target="", domains=("nothing",)) == [1, 2, 3, 4]


def test_a_record_larger_than_a_batch_goes_alone() -> None:
    big = b"x" * 3_000_000
    messages = [Message(0, b"a", b"1"), Message(1, b"a", big), Message(2, b"a", b"2")]
    step, sent = copied(parsed(messages))
    assert [one.value for one in sent] == [b"1", big, b"2"]
    assert [send[2].record_count() for send in step.sends] == [1, 1, 1]


def test_a_dry_run_counts_and_sends_nothing() -> None:
    records = parsed([Message(k, b"a", b"12345") for k in range(10)])
    step, sent = copied(records, dry_run=True)
    assert (step.sent, step.size, sent) == (10, 60, [])


def test_a_batch_that_lies_names_its_place() -> None:
    framed = frame_one(0, b"k", b"v", [])
    batch = raw_batch(RawBuilder(framed + b"rest", 1)._build())
    with pytest.raises(JobFailedError, match=r"topic/1/0: a record batch whose lengths"):
        records_of([batch], (0, 9), "topic/1", 1 << 20)


def test_many_small_batches_are_one_part() -> None:
    batches = [batch_of([Message(k, b"a", b"x")]) for k in range(300)]
    assert [len(part) for part in parts_of(batches)] == [300]
    assert parts_of([]) == []
