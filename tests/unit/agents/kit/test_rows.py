"""What row processors can do, through the engine's own path."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from agents.engine.digest import digest, rows_of
from agents.engine.errors import LawFailed, UnknownVersion
from agents.engine.plan import Plan
from agents.engine.processor import Batch, Processor
from agents.kit import Driver, Emit, Reads, Refuse, RowProcessor, Setting
from agents.kit import fold as fold_module
from agents.kit.emit import taking, taking_of
from agents.kit.run import LOG_MS, Message
from ops.examples import COUNTS, PAUSES
from tests.contract.harness import SETTINGS, Run, loaded, messages
from topics import codec
from topics.partition import partition_of

TS = LOG_MS * 1000
MINUTE = 60_000_000


@dataclass(slots=True)
class Row:
    """Has the fields of the example's schema, so that laws of these tests can be kept."""

    total: int = 0
    last_ts: int = 0
    norms: float = 0.0


@dataclass(slots=True)
class Full:
    """The other example's: with a timer, lists and what may be None."""

    seen: int = 0
    last_ts: int = 0
    state: str | None = None
    gaps: list[float] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    due: int | None = None


def counting(law: Callable[[Any, Any, Emit], None], **more: Any) -> Processor:
    """A processor with this law and plain rows."""
    return RowProcessor("counting", "cog.observations", (COUNTS,), Row, law, **more)


def full(law: Callable[[Any, Any, Emit], None], **more: Any) -> Processor:
    """One with all kinds of fields."""
    return RowProcessor("pauses", "cog.observations", (PAUSES, COUNTS), Full, law, **more)


def observation(tenant: str = "a", domain: str = "x", n: int = 1) -> dict[str, Any]:
    vector = np.full(n, 1.0, "<f4").tobytes()
    return {"tenant": tenant, "domain": domain, "ts": TS, "vector": vector, "sequence": None}


def count_of(tenant: str, total: int) -> dict[str, Any]:
    return {"tenant": tenant, "ts": TS, "total": total, "norms": 0.0, "observation_id": ""}


def totals(driver: Driver) -> dict[str, int]:
    return {key: row["total"] for key, row in driver.rows.items()}


def add(row: Row, record: Any, out: Emit) -> None:
    row.total += 1


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


# --- what is wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"total": "x"}, r"total: 'x' \(str\) isn't long"),
        ({"norms": None}, r"norms: None \(NoneType\) isn't double"),
        ({"norms": 1 << 2000}, r"norms: .* \(int\) isn't double"),
        ({"observation_id": "x" * 1_000_001}, "1,000,0.. bytes, at most 1,000,000"),
        ({"more": 1}, "no field 'more'"),
    ],
)
def test_an_output_that_doesnt_fit_its_schema_names_the_record(
    record: dict[str, Any], said: str
) -> None:
    def law(row: Row, seen: Any, out: Emit) -> None:
        bad = record if seen.offset == 7 else {}
        out.to(COUNTS, count_of(seen.tenant, 1) | bad)

    with pytest.raises(LawFailed, match=rf"examples\.counts: {said}") as error:
        Driver(counting(law)).send_all([observation()] * 9)
    assert error.value.row == 7


def test_an_output_without_a_field_names_it() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        out.to(COUNTS, {"tenant": record.tenant})

    with pytest.raises(LawFailed, match=r"examples.counts: ts is lacking"):
        Driver(counting(law)).send(observation())


def test_a_sink_that_wasnt_declared() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        out.to("cog.segments", {})

    with pytest.raises(LawFailed, match=r"cog.segments is no sink of this processor's"):
        Driver(counting(law)).send(observation())


def spoil(row: Any, out: Emit) -> None:
    del row.total


@pytest.mark.parametrize(
    ("law", "said"),
    [
        (lambda row, out: dict[str, int]()["x"], "KeyError: 'x'"),
        (lambda row, out: sys.exit("done"), "SystemExit: done"),
        (lambda row, out: out.row("\ud800"), "UnicodeEncodeError: "),
        (lambda row, out: out.count("examples_x", -1), "examples_x: -1 can't be counted"),
        (lambda row, out: out.count("examples_x", "3"), "examples_x: '3' can't be counted"),
        (spoil, "a row can't be written: AttributeError: "),
    ],
)
def test_a_defect_names_processor_and_record(law: Callable[..., Any], said: str) -> None:
    def one(row: Row, record: Any, out: Emit) -> None:
        if record.domain == "bad":
            law(row, out)

    made = counting(one, counts={"examples_x": "x"})
    with pytest.raises(LawFailed) as error:
        Driver(made).send_all([observation(), observation(domain="bad")])
    assert str(error.value).startswith(f"counting at cog.observations/0/1: {said}")
    assert "soma skip cog.observations/0/1 --processor counting" in str(error.value)


def test_whatever_a_refusal_says_is_told() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        raise Refuse(5)  # type: ignore[arg-type]

    driver = Driver(counting(law))
    driver.send(observation())
    assert [(one.reason, one.detail) for one in driver.dead_letters] == [("refused", "5")]


@pytest.mark.parametrize("before", [0, 9_999])
def test_one_record_cant_write_without_end(before: int) -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        for k in range(before if record.domain == "x" else 100_000):
            out.to(COUNTS, count_of(record.tenant, k))

    with pytest.raises(LawFailed, match=r"more than 10000 records to examples.counts"):
        Driver(counting(law)).send_all([observation(), observation(), observation(domain="y")])


def test_ten_thousand_are_allowed_each_time() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        for k in range(10_000):
            out.to(COUNTS, count_of(record.tenant, k))

    driver = Driver(counting(law))
    driver.send_all([observation()] * 3)
    assert len(driver.outputs) == 30_000
    assert driver.outputs[-1] is driver.outputs[-1], "decoded once"


def test_a_slow_law_ends_early_after_one_record_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(counting(add), SETTINGS, 1)
    whole = Run(plan).feed([messages(plan, [observation()] * 20)])
    batch = Batch(
        whole.space.buf.data, whole.space.columns, whole.space.offs, whole.space.ms,
        whole.space.status, ends=1.0,
    )  # fmt: skip
    run = Run(plan)
    outputs = tuple(plan.output(sink) for sink in plan.sinks)
    for clock, lo, left in (([2.0], 0, 1), ([0.0, 1.5], 1, 3), ([0.0] * 17, 3, None)):
        times = iter(clock)
        monkeypatch.setattr(fold_module, "monotonic", lambda times=times: next(times))
        assert run.fold.fold(batch, lo, 20, outputs) == left
    assert rows_of(plan, run.fold) == rows_of(plan, whole.fold)


# --- time ----------------------------------------------------------------------------------


def timed() -> Processor:
    def law(row: Full, record: Any, out: Emit) -> None:
        row.seen += 1
        row.due = TS + 1000 * row.seen

    def on_time(row: Full, now: int, out: Emit) -> None:
        row.gaps.append(float(now))
        out.to(COUNTS, count_of(out.tenant, row.seen))
        out.count("examples_fired")
        if len(row.gaps) < 2:
            row.due = now + 5

    return full(law, on_time=on_time, counts={"examples_fired": "Timers"})


def test_timers_fire_by_ticks_in_order_and_survive_a_restart() -> None:
    driver, again = Driver(timed()), Driver(timed())
    for one in (driver, again):
        one.send_all([observation(t) for t in ("b", "c", "a", "a")])
    again.restart()
    for one in (driver, again):
        one.tick(TS + 999)
        assert one.take() == []
        one.tick(TS + 3000)
        assert [w.key for w in one.take()] == ["b", "c", "a"]
        one.tick(TS + 3004)
        assert one.take() == []
        one.tick(TS + 3005)
        assert [w.key for w in one.take()] == ["a", "b", "c"]
        assert one.counts["examples_fired"] == 6
    assert driver.rows == again.rows and driver.outputs == again.outputs
    assert all(row["due"] is None for row in driver.rows.values())


def test_a_defect_in_a_timers_call_names_the_row() -> None:
    def on_time(row: Full, now: int, out: Emit) -> None:
        raise Refuse("what?")

    def law(row: Full, record: Any, out: Emit) -> None:
        row.due = TS

    driver = Driver(full(law, key="domain", on_time=on_time))
    driver.send(observation())
    with pytest.raises(LawFailed, match=r"the timer of a/x: Refuse: what"):
        driver.tick(TS + 1)


def test_the_silent_are_forgotten_at_the_whole_minute() -> None:
    plan = Plan(counting(add), SETTINGS, 1)
    driver = Driver(counting(add))
    driver.send_all([observation("a"), observation("b")])
    driver.setting("forget_after_s", 60, "a")
    late = -(-(TS + MINUTE) // MINUTE) * MINUTE
    driver.tick(late - 1)
    assert set(driver.rows) == {"a", "b"}
    driver.tick(late)
    assert set(driver.rows) == {"b"}
    driver.restart()
    driver.send(observation("a"))
    assert totals(driver) == {"a": 1, "b": 1}
    run = Run(plan).feed([messages(plan, [observation("a")])])
    wanted = TS + 30 * 86_400_000_000
    assert run.fold.deadline() == -(-wanted // MINUTE) * MINUTE


def test_a_row_whose_timer_has_fired_is_silent_from_then_on() -> None:
    def law(row: Full, record: Any, out: Emit) -> None:
        row.due = TS + 1000 if record.domain == "x" else None

    for last in ([observation()], [observation(), observation(domain="off")]):
        driver = Driver(full(law, on_time=lambda *_: None), settings={"forget_after_s": "60"})
        driver.send(last[0])
        driver.restart()
        deadline = driver._run.fold.deadline
        assert deadline() == TS + 1000  # a worker asks, and a row with a timer isn't silent
        driver.send_all(last[1:])
        driver.tick(TS + 1000)
        late = -(-(TS + MINUTE) // MINUTE) * MINUTE
        assert deadline() == late
        driver.tick(late)
        assert driver.rows == {} and deadline() is None


def test_a_row_with_a_timer_isnt_silent() -> None:
    def law(row: Full, record: Any, out: Emit) -> None:
        row.due = TS + 90 * 86_400_000_000

    driver = Driver(full(law, on_time=lambda *_: None))
    driver.send(observation())
    driver.tick(TS + 60 * 86_400_000_000)
    assert set(driver.rows) == {"a"}


# --- settings ------------------------------------------------------------------------------


def test_settings_of_a_tenant_of_all_and_of_none() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        row.total += out.setting("step")

    steps = {"step": Setting(1, "x", 1, 100), "of_all": Setting(1, "y", scope="deployment")}
    driver = Driver(counting(law, settings=steps))
    driver.send_all([observation("a"), observation("b")])
    driver.setting("step", 10)
    driver.setting("step", 50, "a")
    driver.restart()
    driver.send_all([observation("a"), observation("b")])
    driver.setting("step", 20)
    driver.setting("step", "", "a")
    driver.send_all([observation("a"), observation("b")])
    assert totals(driver) == {"a": 1 + 50 + 20, "b": 1 + 10 + 20}
    for name, value, said in (
        ("step", 0, "step is a whole number from 1 to 100, not '0'"),
        ("stop", 1, "no setting 'stop'; there are step, of_all, forget_after_s"),
        ("of_all", 2, "of_all is the deployment's: no tenant can have it otherwise"),
    ):
        with pytest.raises(ValueError, match=said):
            driver.setting(name, value)


def test_the_deployments_values() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        row.total += out.setting("step")

    made = counting(law, settings={"step": Setting(1, "x", 1, 100)})
    driver = Driver(made, settings={"step": "7"})
    driver.send(observation())
    assert totals(driver) == {"a": 7}
    with pytest.raises(ValueError, match="step is a whole number from 1 to 100, not '700'"):
        Driver(made, settings={"step": "700"})
    with pytest.raises(ValueError, match="counting has no setting stop"):
        Driver(made, settings={"stop": "7"})


def test_a_row_with_a_setting_that_isnt_known_isnt_taken() -> None:
    old = counting(add, settings={"step": Setting(1, "x", 1, 100)})
    plan = Plan(old, SETTINGS, 1)
    driver = Driver(old)
    driver.setting("step", 3, "a")
    driver.send(observation())
    new = Plan(replace(counting(add)), SETTINGS, 1)
    with pytest.raises(UnknownVersion, match="no setting 'step'"):
        loaded(new, driver._run.rows())
    assert loaded(plan, driver._run.rows()).fold.tenants() == 1


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
