"""Laws that take long, raise, or write what can't be: what is done is kept, and nothing is lost."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from agents.engine.batches import RawBatch
from agents.engine.errors import LawFailed
from agents.engine.processor import SRC_NAMES, Batch, Output, Processor, StateRows
from agents.engine.work import ROOM_MIN, Worker
from agents.kit import Emit, RowProcessor
from tests.contract.harness import Message, Run, batch_of, plan_of, read
from tests.unit.agents.engine.echo import Echo, echo
from tests.unit.agents.engine.test_kinds import heard, letters, observed, payloads, told
from topics import codec

pytestmark = [
    pytest.mark.kernel,
    # As plain Python (NUMBA_DISABLE_JIT=1) NumPy minds that a hash overflows.
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]
TICK = codec.encode("control_tick", {"ts": 1})


class Short(Echo):
    """Ends early after so many records."""

    most = 3

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> int | None:
        good = np.flatnonzero(batch.status[lo:hi] == 0) + lo
        end = int(good[self.most - 1]) + 1 if good.shape[0] > self.most else hi
        super().fold(batch, lo, end, outputs)
        return end if end < hi else None


def short(**more: Any) -> Processor:
    return echo(heard, make=lambda context: Short(context, heard), **more)


def odd_part(n: int) -> list[Message]:
    """Good records with ticks, junk and a text among them."""
    part = told([observed(f"t{r % 5}") for r in range(n)])
    for at in range(3, n, 7):
        part[at].value = TICK
    for at in range(5, n, 11):
        part[at].value = b"junk"
    return part


def lying(part: list[Message]) -> RawBatch:
    """A batch that can't be unpacked."""
    batch = batch_of(part)
    return RawBatch(
        batch.data[:-9], batch.base_offset, batch.next_offset, batch.count, 15, 0, 0, True
    )


def test_where_a_fold_ends_early_changes_no_byte() -> None:
    part = odd_part(200)
    batches = [batch_of(part[:50]), lying(part[50:60]), batch_of(part[60:])]
    whole, run = Run(plan_of(echo(heard))), Run(plan_of(short()))
    whole.transaction(batches)
    run.transaction(batches)
    assert whole.transactions == 1 and run.transactions > 30
    assert payloads(run) == payloads(whole) and len(payloads(run)) > 100
    assert sorted(map(str, letters(run))) == sorted(map(str, letters(whole)))
    assert len([why for _, why, _ in letters(run) if why == "bad_batch"]) == 1
    assert run.results == whole.results and run.next == 200


def test_as_many_records_are_read_as_a_slow_fold_gets_done() -> None:
    run = Run(plan_of(short()))
    part = told([observed()] * 2000)
    run.worker.run(run.space, [batch_of(part)], 0, lambda _: b"")
    run.worker.run(run.space, [batch_of(part)], 3, lambda _: b"")
    assert run.space.n == 3 and run.worker._room == ROOM_MIN
    assert isinstance(run.fold, Short)
    run.fold.most = 5000
    for first in (6, 70, 198):
        outcome = run.worker.run(run.space, [batch_of(part)], first, lambda _: b"")
    assert outcome.next_offset == 198 + 4 * ROOM_MIN, "and more again when it is quick"


def test_a_fold_that_takes_nothing_is_a_defect() -> None:
    class Idle(Echo):
        def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> int | None:
            return lo

    run = Run(plan_of(echo(heard, make=lambda context: Idle(context, heard))))
    part = told([observed()] * 9)
    with pytest.raises(ValueError, match="echo: a fold that takes nothing"):
        run.feed([part])
    part[0].value = TICK
    with pytest.raises(ValueError, match="echo: a fold that takes nothing"):
        run.feed([part])
    assert run.next == 1, "a control record is something"


class Rows(Echo):
    """Its state is what it was told last, for each tenant."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.rows: dict[str, str] = {}
        self.touched: dict[str, None] = {}

    def changed(self, rows: StateRows) -> None:
        keys = [name.encode() for name in self.touched]
        self.names = np.frombuffer(bytearray(b"".join(keys) or b"."), np.uint8)
        rows.key_len = np.array(list(map(len, keys)), np.int64)
        rows.key_pos = np.cumsum(rows.key_len) - rows.key_len
        rows.gone, rows.n = np.zeros(len(keys), np.uint8), len(keys)
        rows.columns.reserve(rows.n)
        for k, name in enumerate(self.touched):
            row = {
                "next_offset": 0, "behind": {}, "topic_id": self.rows[name], "asleep": b"",
                "version": 0,
            }  # fmt: skip
            rows.columns.put(k, row, rows.scratch)
        self.touched.clear()


def noise(n: int) -> str:
    return np.random.default_rng(1).bytes(n // 2).hex()


def failing(self: Echo, batch: Batch, r: int, record: dict[str, Any], output: Output) -> None:
    """A domain says what goes wrong."""
    assert isinstance(self, Rows)
    self.say(output, r, record["tenant"], f"{batch.offsets[r]}")
    self.rows[record["tenant"]] = ""
    self.touched[record["tenant"]] = None
    match record["domain"]:
        case "raises":
            try:
                raise ZeroDivisionError("by nothing")
            except ZeroDivisionError as error:
                raise LawFailed(r, repr(error)) from error
        case "unknown":
            raise LawFailed(-1, "something")
        case "large":
            self.say(output, r, record["tenant"], noise(2_600_000))
        case "larger":
            self.say(output, r, record["tenant"], "x" * 3_000_000)
        case "row":
            self.rows[record["tenant"]] = noise(2_600_000)


FAILING = echo(
    failing, make=lambda context: Rows(context, failing),
    state_src={"topic_id": 2, "asleep": 2, "behind.key": SRC_NAMES},
)  # fmt: skip


class Life(Run):
    """As a partition lives: taken anew where a law fails, up to that record."""

    anew = 0
    skips: dict[int, str]

    def live(self, batches: list[RawBatch]) -> LawFailed | None:
        """Until all is done, or the law fails at a record alone; then the error."""
        until: int | None = None
        self.skips = getattr(self, "skips", {})
        while self.next < batches[-1].next_offset:
            try:
                outcome = self.worker.run(self.space, batches, self.next, lambda _: b"", until)
            except LawFailed as error:
                self.fold = self.plan.processor.make(self.context)
                self.worker = Worker(self.plan, self.place, self.fold, self.skips)
                self.anew += 1
                if error.alone:
                    return error
                until = error.offset
                continue
            self.next = outcome.next_offset
            until = None if until is not None and self.next > until else until
            self.sent += [one for send in outcome.sends for one in read(*send)]
        return None


WRONG = {
    "raises": r"ZeroDivisionError\('by nothing'\)",
    "unknown": "something",
    "large": "an output of 26[0-9]{5} bytes; memory.events takes 1048588, compressed",
    "larger": "an output of 30[0-9]{5} bytes; memory.events takes 1048588, compressed",
    "row": "the state row b't6' has 26[0-9]{5} bytes; its topic takes 1048588, compressed",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_law_that_fails_is_named_with_its_record_and_what_came_before_is_kept(
    wrong: str,
) -> None:
    part = told([observed(f"t{r}") for r in range(20)])
    (part[6],) = told([observed("t6", domain=wrong)])
    part[6].offset = 6
    run = Life(plan_of(FAILING))
    error = run.live([batch_of(part[:4]), batch_of(part[4:])])
    assert error is not None and error.offset == 6 and run.next == 6
    assert payloads(run) == [f"{r}" for r in range(6)]
    where = "cog.observations/0/6"
    assert re.match(rf"echo at {where}: {WRONG[wrong]}\. Nothing is lost", str(error))
    assert f"soma skip {where} --processor echo" in str(error)
    assert run.anew <= 6

    again = run.live([batch_of(part[4:])])
    assert again is not None and again.offset == 6 and len(payloads(run)) == 6, "it stands there"
    run.skips = {6: "passed over, as me said: known"}
    run.worker = Worker(run.plan, run.place, run.fold, run.skips)
    assert run.live([batch_of(part[4:])]) is None and run.next == 20
    assert payloads(run) == [f"{r}" for r in range(20) if r != 6]
    assert letters(run) == [(part[6].value, "law_failed", "passed over, as me said: known")]


@dataclass
class Count:
    """Has the fields of the example's schema."""

    total: int = 0
    last_ts: int = 0
    norms: float = 0.0


@pytest.mark.parametrize("bad", [0, 3, 140, 199])
def test_who_made_a_row_that_cant_be_kept_is_found_among_many_that_touched_it(bad: int) -> None:
    def law(row: Any, record: Any, out: Emit) -> None:
        row.total += 1
        if record.domain == "bad":
            row.norms = "a lot"

    made = RowProcessor("counting", "cog.observations", (), Count, law)
    records = [observed("a", domain="bad" if r == bad else "state") for r in range(200)]
    run = Life(plan_of(made))
    error = run.live([batch_of(told(records))])
    assert error is not None and (error.offset, run.next) == (bad, bad)
    assert "the row of a: norms: 'a lot' (str) isn't double" in str(error)
    assert run.anew <= 27, "three recoveries for each halving"


def test_a_record_that_fails_only_beside_others_is_folded_in_the_end() -> None:
    """Alone it passes: a fold that can't tell which record it was may name a good one."""

    def minds(self: Echo, batch: Batch, r: int, record: dict[str, Any], output: Output) -> None:
        if output.n > 4:
            raise LawFailed(-1, "too many at once")
        self.say(output, r, record["tenant"], f"{batch.offsets[r]}")

    run = Life(plan_of(echo(minds)))
    assert run.live([batch_of(told([observed()] * 30))]) is None
    assert payloads(run) == [f"{r}" for r in range(30)]


def test_control_records_can_be_passed_over_and_bad_records_stay_what_they_are() -> None:
    part = told([observed(), observed(), observed()])
    part[0].value, part[1].value = TICK, b"junk"
    run = Run(plan_of(echo(heard)))
    run.worker = Worker(run.plan, run.place, run.fold, {0: "said so", 1: "this too", 99: "far"})
    run.feed([part])
    assert letters(run) == [
        (TICK, "law_failed", "said so"),
        (b"junk", "bad_wire_format", letters(run)[1][2]),
    ]
    assert payloads(run) == ["2 0 ['domain', 'kind', 'sequence']"]


def test_the_record_under_way_is_told() -> None:
    class Tells(Echo):
        row = -1

        def under_way(self) -> int:
            return self.row

    seen: list[int] = []

    def looks(self: Echo, batch: Batch, r: int, record: dict[str, Any], output: Output) -> None:
        assert isinstance(self, Tells)
        seen.append(run.worker.under_way())
        self.row = r
        seen.append(run.worker.under_way())
        self.row = -1

    run = Run(plan_of(echo(looks, make=lambda context: Tells(context, looks))))
    part = told([observed(), observed()])
    part[1].offset = 7
    run.feed([part])
    assert seen == [-1, 0, -1, 7]
    assert Run(plan_of(echo(heard))).worker.under_way() == -1
