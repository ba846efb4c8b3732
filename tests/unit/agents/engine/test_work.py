"""A transaction's content: what goes in comes out once, whatever the batches are like."""

import json
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine.batches import RawBatch, raw_batch
from agents.engine.builder import HEADER
from agents.engine.digest import digest
from agents.engine.plan import Plan
from agents.engine.processor import Processor
from agents.engine.work import POSITION_KEY, UnknownSchema
from agents.engine.workspace import Outcome, Workspace
from agents.settings import Settings
from tests.contract.harness import (
    PARTITIONS,
    PROCESSORS,
    Message,
    Run,
    batch_of,
    messages,
    plan_of,
    read,
    samples,
    setting,
)  # fmt: skip
from topics import codec
from topics.schemas import schemas

pytestmark = [
    pytest.mark.kernel,
    # As plain Python (NUMBA_DISABLE_JIT=1) NumPy minds that a hash overflows.
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]
each = pytest.mark.parametrize("processor", PROCESSORS, ids=lambda p: p.name)
UNPACKED_MAX = 2 << 20


def small(processor: Processor, records: int) -> Plan:
    """A plan whose workspace holds so many records."""
    given = Settings(
        kafka_bootstrap="127.0.0.1:1",
        topics_partitions=PARTITIONS,
        batch_records_max=records,
        batch_unpacked_bytes_max=UNPACKED_MAX,
    )
    return Plan(processor, given, PARTITIONS)


def sampled(plan: Plan, n: int, seed: int = 1) -> list[Message]:
    return messages(plan, samples(plan.processor).records(np.random.default_rng(seed), n))


class Counted(Run):
    """A run that keeps every outcome."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.outcomes: list[Outcome] = []
        self.positions: list[int] = []

    def transaction(self, batches: list[RawBatch]) -> None:
        while batches[-1].next_offset > self.next:
            outcome = self.worker.run(self.space, batches, self.next, self.position)
            assert outcome.next_offset > self.next == self.start
            self.next = outcome.next_offset
            self.outcomes.append(outcome)
            self.sent += [sent for send in outcome.sends for sent in read(*send)]

    def position(self, next_offset: int) -> bytes:
        self.start = self.next
        self.positions.append(next_offset)
        return b"position %d" % next_offset


@each
@settings(deadline=None, max_examples=20)
@given(room=st.integers(1, 30), ends=st.sets(st.integers(1, 99), max_size=6))
def test_more_records_than_a_workspace_holds_take_several_transactions(
    processor: Processor, room: int, ends: set[int]
) -> None:
    whole_plan = plan_of(processor)
    part = sampled(whole_plan, 100)
    part[20] = setting(20, "*", *samples(processor).settings()[0])
    part[40] = Message(40, b"k", b"\0bad")
    del part[60:63]  # as compaction leaves it
    cuts = [0, *sorted({i for i in ends if i < len(part)}), len(part)]
    batches = [batch_of(part[lo:hi]) for lo, hi in pairwise(cuts)]
    whole, run = Run(whole_plan), Counted(small(processor, room))
    whole.transaction([batch_of(part)])
    run.transaction(batches)
    assert len(run.outcomes) >= len(part) // room
    assert run.next == whole.next == 100
    assert run.outputs() == whole.outputs()
    assert run.of(run.plan.dlq) == whole.of(run.plan.dlq)
    assert digest(run.plan, run.fold) == digest(whole.plan, whole.fold)
    assert run.rows() == whole.rows()
    assert [o.next_offset for o in run.outcomes] == run.positions
    assert sum(o.results["folded"] + o.results["control"] for o in run.outcomes) == 96


@each
def test_a_transaction_takes_no_more_unpacked_bytes_than_the_limit(processor: Processor) -> None:
    plan = small(processor, 10_000)
    # Of a schema that is known: another one stops a partition that only processors write.
    bomb = b"\0" + schemas().schema_id(plan.schema).to_bytes(4, "big") + bytes(1_500_000)
    bombs = [batch_of([Message(i, b"k", bomb)]) for i in range(5)]
    good = [Message(m.offset + 5, m.key, m.value) for m in sampled(plan, 10)]
    run = Counted(plan)
    run.transaction([*bombs, batch_of(good)])
    assert run.positions == [1, 2, 3, 4, 15]
    assert [s.value for s in run.of(plan.dlq)] == 5 * [bomb]
    assert run.space.buf.data.shape[0] <= 2 * UNPACKED_MAX
    assert run.outcomes[-1].results["folded"] == 10


@each
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99), cut=st.integers(0, 40))
def test_records_before_the_position_are_not_folded_again(
    processor: Processor, seed: int, cut: int
) -> None:
    plan = plan_of(processor)
    part = sampled(plan, 40, seed)
    run = Run(plan).feed([part[:cut]])
    run.transaction([batch_of(part)])
    assert run.outputs() == Run(plan).feed([part]).outputs()
    assert run.results.get("folded", 0) == 40


@each
def test_the_position_is_the_last_row_of_the_state(processor: Processor) -> None:
    plan = plan_of(processor)
    part = sampled(plan, 30)
    part[3] = Message(3, b"k", b"\0bad")
    for content in (part, [Message(0, None, None)], [setting(0, "*", "no such", "1")]):
        outcome = Run(plan).worker.run(
            Workspace(plan), [batch_of(content)], 0, lambda n: b"position %d" % n
        )
        last = [s for s in outcome.sends if s[0] == plan.state]
        assert last and outcome.sends[-1] is last[-1]
        rows = [sent for send in last for sent in read(*send)]
        assert (rows[-1].key, rows[-1].value) == (POSITION_KEY, b"position %d" % len(content))
        assert [row.key for row in rows].count(POSITION_KEY) == 1
        assert outcome.rows == len(rows) - 1


@each
def test_nothing_to_fold_still_notes_the_position(processor: Processor) -> None:
    plan = plan_of(processor)
    outcome = Run(plan).worker.run(Workspace(plan), [], 17, lambda n: b"position %d" % n)
    assert outcome.next_offset == 17 and not outcome.outputs and not outcome.rows
    ((row,),) = [read(*send) for send in outcome.sends]
    assert (row.topic, row.key, row.value) == (plan.state, POSITION_KEY, b"position 17")


def lying(batch: RawBatch, **fields: int) -> RawBatch:
    """The same batch with other words in its header."""
    places = {"count": 12, "delta": 6, "attributes": 5}
    values = list(HEADER.unpack_from(batch.data))
    for name, value in fields.items():
        values[places[name]] = value
    data = bytearray(batch.data)
    HEADER.pack_into(data, 0, *values)
    return raw_batch(bytes(data))


@each
@pytest.mark.parametrize(
    "lie",
    [{"count": 7}, {"count": 9}, {"count": 2**31 - 1}, {"attributes": 15}, {"attributes": 9}],
    ids=str,
)
def test_a_batch_that_lies_is_one_dead_letter_and_its_neighbours_are_folded(
    processor: Processor, lie: dict[str, int]
) -> None:
    plan = plan_of(processor)
    part = sampled(plan, 24)
    liar = lying(batch_of(part[8:16]), **lie)
    run = Run(plan)
    run.transaction([batch_of(part[:8]), liar, batch_of(part[16:])])
    (letter,) = run.of(plan.dlq)
    assert (letter.key, letter.value) == (None, liar.data)
    headers = dict(letter.headers)
    assert headers["soma-reason"] == b"bad_batch" and headers["soma-detail"]
    assert headers["soma-origin"] == f"{plan.source}/0/8".encode()
    honest = Run(plan).feed([part[:8], part[16:]])
    assert run.outputs() == honest.outputs() and run.next == 24
    assert run.results["folded"] == 16 and run.results["dead"] == 1


@each
def test_offsets_beyond_the_batch_are_a_lie(processor: Processor) -> None:
    plan = plan_of(processor)
    liar = lying(batch_of(sampled(plan, 8)), delta=3)
    run = Run(plan)
    run.transaction([liar])
    assert run.next == 4 and [s.value for s in run.of(plan.dlq)] == [liar.data]


@each
@pytest.mark.parametrize(
    "change",
    [{"tenant": "no/name"}, {"ts": 5}, {"nonsense": 1}, {"domain": None}],
    ids=lambda c: next(iter(c)),
)
def test_the_dead_letter_of_json_is_the_text_as_it_was_written(
    processor: Processor, change: dict[str, Any]
) -> None:
    plan = plan_of(processor)
    record = samples(processor).records(np.random.default_rng(1), 1)[0]
    text = json.dumps(codec.to_json(plan.schema, record) | change, indent=1).encode()
    key = record[processor.reads.tenant].encode()
    run = Run(plan).feed([[Message(0, key, text, [("h", b"v")])]])
    if "ts" in change and "ts" in record and processor.reads.ts is None:
        assert not run.of(plan.dlq), "it looks at no clock but the log's"
        return
    (letter,) = run.of(plan.dlq)
    assert letter.value == text and letter.headers[0] == ("h", b"v")
    assert not run.outputs()


@each
def test_a_record_without_a_value_is_a_dead_letter(processor: Processor) -> None:
    plan = plan_of(processor)
    run = Run(plan).feed([[Message(0, b"k", None), Message(1, b"k", b"")]])
    assert [(s.key, s.value) for s in run.of(plan.dlq)] == [(b"k", None), (b"k", b"")]
    found = [dict(s.headers)["soma-reason"] for s in run.of(plan.dlq)]
    assert found == [b"null_value", b"bad_wire_format"]


@each
def test_an_unknown_schema_is_a_dead_letter_where_users_write(processor: Processor) -> None:
    plan = plan_of(processor)
    strange = Message(0, b"k", codec.header(777) + b"x")
    if plan.public:
        (letter,) = Run(plan).feed([[strange]]).of(plan.dlq)
        assert dict(letter.headers)["soma-reason"] == b"unknown_schema"
    plan.public = False
    with pytest.raises(UnknownSchema, match="offset 0"):
        Run(plan).feed([[strange]])


@each
@pytest.mark.parametrize("text", ["no such setting", "é", "x" * 5000])
def test_a_refused_control_record_is_a_dead_letter(processor: Processor, text: str) -> None:
    plan = plan_of(processor)
    message = setting(0, "t", text, "1")
    run = Run(plan).feed([[message]])
    (letter,) = run.of(plan.dlq)
    assert letter.value == message.value
    assert dict(letter.headers)["soma-reason"] == b"control_refused"
    assert dict(letter.headers)["soma-detail"]
    assert run.results["dead"] == 1 and not run.results["control"]


@each
def test_what_is_counted_adds_up(processor: Processor) -> None:
    plan = plan_of(processor)
    part = sampled(plan, 50)
    part[7] = setting(7, "*", *samples(processor).settings()[0])
    part[9] = Message(9, b"k", b"junk")
    part[11] = Message(11, None, part[11].value)
    run = Counted(plan)
    run.transaction([batch_of(part)])
    found = run.outcomes  # several where a fold ended early: it took long
    results = sum((one.results for one in found), Counter[str]())
    assert dict(results) == {"folded": 47, "control": 1, "dead": 1, "misrouted": 1}
    assert sum(sum(one.dead.values()) for one in found) == 1
    if (ts := processor.reads.ts) is not None:
        assert found[-1].newest_ts == codec.decode(part[49].value or b"")[1][ts]
    forwarded = results["misrouted"] * (processor.source in processor.sinks)
    assert sum(one.outputs for one in found) == len(run.outputs()) - forwarded > 0
    rows = sum(s.topic == plan.state for s in run.sent) - len(found)  # a position each
    assert sum(one.rows for one in found) == rows
