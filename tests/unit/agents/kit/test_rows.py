"""What row processors can do, through the engine's own path."""

from typing import Any

import numpy as np
import pytest

from agents.engine.digest import digest
from agents.engine.errors import LawFailed
from agents.engine.plan import Plan
from agents.kit import Driver, Emit, Reads, Refuse, RowProcessor
from agents.kit.emit import taking, taking_of
from agents.kit.run import Message
from ops.examples import COUNTS, PAUSES
from tests.contract.harness import SETTINGS, Run, loaded, messages
from tests.unit.agents.kit.row_laws import (
    MINUTE,
    TS,
    Full,
    Row,
    add,
    count_of,
    counting,
    full,
    observation,
    totals,
)
from topics import codec
from topics.partition import partition_of

# --- refusing ------------------------------------------------------------------------------


def test_what_is_refused_leaves_no_trace() -> None:
    def law(row: Full, record: Any, out: Emit) -> None:
        row.seen += 1
        row.gaps.append(1.0)
        row.sizes[record.domain] = row.seen
        row.due = TS + row.seen
        out.row(f"other-{record.domain}").seen += 10
        out.to(COUNTS, count_of(record.tenant, row.seen))
        out.to(COUNTS, count_of(record.tenant, row.seen), key="elsewhere")
        out.count("examples_seen")
        if record.domain == "gone":
            out.forget()
            raise Refuse("gone", "vector")
        if record.domain == "bad":
            raise Refuse("bad domain")

    made = full(
        law, on_time=lambda row, now, out: None, reasons={"vector": "no vector"},
        counts={"examples_seen": "Seen"},
    )  # fmt: skip
    plan = Plan(made, SETTINGS, 1)
    good = [observation("a"), observation("a")]
    bad = [observation("b", "bad"), observation("a", "bad"), observation("a", "gone")]
    mixed = [bad[0], good[0], bad[1], bad[2], good[1]]
    run, alone = Run(plan).feed([messages(plan, mixed)]), Run(plan).feed([messages(plan, good)])
    assert [s.value for s in run.outputs()] == [s.value for s in alone.outputs()]
    assert run.rows() == alone.rows() and digest(plan, run.fold) == digest(plan, alone.fold)
    assert run.fold.deadline() == alone.fold.deadline() == TS + 2
    assert run.counted == alone.counted == {"examples_seen": 2}
    letters = [dict(s.headers) for s in run.of(plan.dlq)]
    assert [h["soma-reason"] for h in letters] == [b"refused", b"refused", b"vector"]
    assert [h["soma-detail"] for h in letters] == [b"bad domain", b"bad domain", b"gone"]


def test_a_refused_record_doesnt_keep_its_row_from_being_forgotten() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        row.total += 1
        if record.domain == "bad":
            raise Refuse("bad")

    driver = Driver(counting(law))
    driver.send(observation())
    driver.time += MINUTE
    driver.send(observation(domain="bad"))
    driver.setting("forget_after_s", 60, "a")
    driver.tick(TS + 2 * MINUTE)
    assert driver.rows == {}


def test_a_tombstone_survives_the_refusal_of_what_would_have_made_the_row_anew() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        row.total += 1
        if record.domain == "bad":
            raise Refuse("bad")
        if record.domain == "end":
            out.forget()

    driver = Driver(counting(law))
    driver.send(observation())
    driver.send_all([observation(domain="end"), observation(domain="bad")])
    assert driver.rows == {}


def test_only_declared_reasons_can_be_given() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        raise Refuse("x", "unheard_of")

    with pytest.raises(LawFailed, match="no reason 'unheard_of' was declared; there are refused"):
        Driver(counting(law)).send(observation())


# --- sinks ---------------------------------------------------------------------------------


def test_a_key_of_its_own_goes_to_that_keys_partition() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        row.total += 1
        out.to(COUNTS, count_of(record.tenant, row.total))
        out.to(COUNTS, count_of(record.tenant, -row.total), key=f"group-{row.total}")
        if row.total == 2:
            out.everywhere(COUNTS, count_of("*", 0), key="*")

    home = partition_of("a", 4)
    driver = Driver(counting(law), partitions=4, partition=home)
    driver.send_all([observation(), observation()])
    sent = [(one.key, one.partition, (one.record or {})["total"]) for one in driver.outputs]
    assert [s for s in sent if s[2] > 0] == [("a", home, 1), ("a", home, 2)]
    wanted = {(f"group-{k}", partition_of(f"group-{k}", 4), -k) for k in (1, 2)}
    assert {s for s in sent if s[2] < 0} == wanted
    assert sorted(s for s in sent if not s[2]) == [("*", p, 0) for p in range(4)]


def test_a_key_of_a_sink_is_deleted() -> None:
    def law(row: Full, record: Any, out: Emit) -> None:
        out.delete(PAUSES, "a/x")
        out.delete(COUNTS, record.domain)
        out.to(COUNTS, count_of("a", 1))
        if record.domain == "bad":
            raise Refuse("bad")

    driver = Driver(full(law), partitions=4, partition=partition_of("a", 4))
    driver.send_all([observation(domain="bad"), observation(domain="x"), observation(domain="y")])
    found = [(one.topic, one.key, one.partition) for one in driver.outputs if one.record is None]
    gone = partition_of("a/x", 4)
    assert found[:2] == [(PAUSES, "a/x", gone)] * 2
    assert set(found[2:]) == {(COUNTS, key, partition_of(key, 4)) for key in "xy"}
    assert len(driver.outputs) == 6 and len(driver.dead_letters) == 1


def test_an_output_is_what_it_was_when_it_was_written() -> None:
    def law(row: Full, record: Any, out: Emit) -> None:
        row.gaps.append(float(len(row.gaps)))
        given = {
            "tenant": out.tenant, "domain": "", "ts": TS, "state": "awake", "seen": 0,
            "gaps": row.gaps, "sizes": row.sizes,
        }  # fmt: skip
        out.to(PAUSES, given)
        row.gaps.append(-1.0)
        given["seen"] = 9

    driver = Driver(full(law))
    driver.send_all([observation(), observation()])
    found = [(one.record or {}) for one in driver.outputs]
    assert [one["gaps"] for one in found] == [[0.0], [0.0, -1.0, 2.0]]
    assert [one["seen"] for one in found] == [0, 0]


# --- rows ----------------------------------------------------------------------------------


def test_a_row_per_entity_and_tombstones() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        row.total += 1
        if row.total == 3:
            out.forget()

    driver = Driver(counting(law, key="domain"))
    driver.send_all([observation(domain=d) for d in "xy"])
    driver.send_all([observation(domain=d) for d in "xyx"])
    assert totals(driver) == {"a/y": 2}
    driver.restart()
    driver.send(observation(domain="y"))
    assert totals(driver) == {}


def test_one_field_is_taken_as_a_tuple_too() -> None:
    assert taking_of(("total",))(Row(3)) == (3,) == taking(("total",))({"total": 3})


def test_rows_come_back_from_their_bytes_as_they_were() -> None:
    def law(row: Full, record: Any, out: Emit) -> None:
        row.seen += 1
        row.state = None if row.seen % 2 else "é" * row.seen
        row.gaps.append(row.seen / 3)
        row.sizes["ß"] = -row.seen
        row.due = None if row.seen % 2 else TS + row.seen

    driver, restarted = (Driver(full(law, on_time=lambda *_: None)) for _ in range(2))
    for k in range(7):
        for one in (driver, restarted):
            one.send(observation(f"t{k % 3}"))
        before = restarted.rows
        restarted.restart()
        assert restarted.rows == before == driver.rows
    plan = Plan(full(law, on_time=lambda *_: None), SETTINGS, 1)
    run = Run(plan).feed([messages(plan, [observation(f"t{k % 3}") for k in range(7)])])
    again = loaded(plan, run.rows())
    assert digest(plan, again.fold) == digest(plan, run.fold)
    assert again.fold.deadline() == run.fold.deadline()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"norms": np.float32(0.1)}, r"the row of a: norms: .*0.1.* \(float32\) isn't double"),
        ({"norms": 1}, r"norms: 1 \(int\) isn't double"),
        ({"total": True}, r"total: True \(bool\) isn't long"),
        ({"total": 1 << 63}, r"total: 9223372036854775808 \(int\) isn't long"),
        ({"total": None}, r"total: None \(NoneType\) isn't long"),
        ({"total": "1"}, r"total: '1' \(str\) isn't long"),
    ],
)
def test_rows_hold_what_a_restart_gives_back(values: dict[str, Any], said: str) -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        for name, value in values.items() if record.tenant == "a" else ():
            setattr(row, name, value)

    with pytest.raises(LawFailed, match=said):
        Driver(counting(law)).send_all([observation("b"), observation("a")])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gaps": [1]}, "gaps: an item of .1. isn't double"),
        ({"sizes": {"x": 1.0}}, "sizes: an item of .* isn't long"),
        ({"sizes": {1: 1}}, "sizes: a string, not int"),
        ({"gaps": None}, r"gaps: None .NoneType. isn't array"),
        ({"state": "\ud800"}, "state: .* isn't string"),
        ({"state": "x" * 1_000_001}, "1,000,0.. bytes, at most 1,000,000"),
        ({"sizes": {"y" * 500_000: 1, "z" * 500_001: 2}}, "bytes, at most 1,000,000"),
        ({"due": 1.5}, "due: 1.5 is no wall time in microseconds"),
    ],
)
def test_lists_and_sizes_of_rows_are_checked(values: dict[str, Any], said: str) -> None:
    def law(row: Full, record: Any, out: Emit) -> None:
        for name, value in values.items():
            setattr(row, name, value)

    with pytest.raises(LawFailed, match=said):
        Driver(full(law, on_time=lambda *_: None)).send(observation())


# --- sources -------------------------------------------------------------------------------


def memory(size: int) -> dict[str, Any]:
    return {
        "event_id": "", "id": "", "tenant": "a", "namespace": "", "type": "created", "ts": TS,
        "coordinate": "1,2", "memory_type": "episodic", "payload": "é" * (size // 2),
        "importance": None, "embedding": b"", "model_revision": "", "links": {"x": "y"},
        "dedupe_key": "", "expected_version": None,
    }  # fmt: skip


def test_several_schemas_large_strings_and_no_domain() -> None:

    order: list[str] = []

    def remember(row: Row, record: Any, out: Emit) -> None:
        order.append(f"memory {len(record.payload.encode())} {record.links}")
        row.total += 1

    def observe(row: Row, record: Any, out: Emit) -> None:
        order.append(f"observation {record.domain}")
        row.total += 100
        if record.domain == "no":
            raise Refuse("no")

    made = RowProcessor(
        "counting", "memory.events", (COUNTS,), Row,
        folds={"observation": observe, "memory_event": remember},
        reads={"memory_event": Reads(domain=None, strings={"payload": 900_000})},
    )  # fmt: skip
    driver = Driver(made)
    driver.send(memory(800_000))
    driver.send(observation(), schema="observation")
    junk = b"\0\0\0\0\x03abc"  # a global_frame's id
    driver.send_bytes(
        [
            (b"a", codec.encode("memory_event", memory(900_002))),
            (b"a", codec.encode("observation", observation(domain="no"))),
            (b"a", junk),
            (b"a", codec.encode("memory_event", memory(4))),
        ]
    )
    assert order == [
        "memory 800000 {'x': 'y'}", "observation x", "observation no", "memory 4 {'x': 'y'}",
    ]  # fmt: skip
    assert totals(driver) == {"a": 102}
    reasons = sorted(letter.reason for letter in driver.dead_letters)
    assert reasons == ["refused", "string_too_long", "unknown_schema"]


def test_the_tenant_may_be_a_field_of_another_name() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        assert record.tenant == record.processor == out.tenant
        row.total += record.number
        out.to(COUNTS, count_of(out.tenant, row.total))

    reads = Reads(tenant="processor", domain=None)
    made = RowProcessor("counting", "soma.epochs", (COUNTS,), Row, law, reads=reads)
    epoch = {
        "partition": 0, "number": 3, "from_offset": 0, "law": 1, "settings": {}, "policy": "",
        "schemas": "", "ts": TS,
    }  # fmt: skip
    driver = Driver(made)
    driver.send(epoch, tenant="a")
    assert totals(driver) == {"a": 3} and driver.outputs[0].key == "a"


def test_an_entity_is_a_text() -> None:
    for key, said in ((lambda record: 5, "key: 5 is no text"), ("sequence", "key: None is no")):
        with pytest.raises(LawFailed, match=said):
            Driver(counting(add, key=key)).send(observation())


def test_what_a_message_is_to_a_driver() -> None:
    driver = Driver(counting(add))
    driver.send(observation("x"), tenant="y")
    driver.send_bytes([(b"y", b"junk"), (None, None)])
    assert totals(driver) == {"y": 1}
    assert [letter.value for letter in driver.dead_letters] == [b"junk", None]
    assert Message(0, None, None).headers == []
