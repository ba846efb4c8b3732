"""Records in the wrong partition: sent to their own with all they had, but not for ever."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine.forward import HOPS_MAX
from agents.engine.plan import Plan
from agents.engine.processor import Processor
from agents.engine.work import POSITION_KEY
from tests.contract.harness import (
    PROCESSORS,
    Message,
    Run,
    Sent,
    homes,
    messages,
    plan_of,
    samples,
)  # fmt: skip
from topics import codec

pytestmark = [
    pytest.mark.kernel,
    # As plain Python (NUMBA_DISABLE_JIT=1) NumPy minds that a hash overflows.
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]
each = pytest.mark.parametrize("processor", PROCESSORS, ids=lambda p: p.name)
PARTITIONS = 5
Headers = list[tuple[str, bytes | None]]
blobs = st.none() | st.binary(max_size=20)


def sampled(plan: Plan, n: int = 40) -> list[Message]:
    """Records of five tenants, some of which live elsewhere than in partition 0."""
    part = messages(plan, samples(plan.processor).records(np.random.default_rng(1), n))
    tenants = homes([m.key.decode() for m in part if m.key], plan.partitions)
    assert len(set(tenants.values())) > 1
    return part


def fed(plan: Plan, part: list[Message], partition: int = 0) -> Run:
    return Run(plan, partition=partition).feed([part])


def astray(plan: Plan, partition: int = 0) -> Message:
    """One record of a tenant that lives elsewhere."""
    part = sampled(plan)
    where = homes([m.key.decode() for m in part if m.key], plan.partitions)
    (first, *_) = [m for m in part if m.key and where[m.key.decode()] != partition]
    return Message(0, first.key, first.value, first.headers)


def forwarded(run: Run) -> list[Sent]:
    return run.of(run.plan.source)


@each
def test_each_goes_to_its_tenants_partition_once_in_order(processor: Processor) -> None:
    plan = plan_of(processor, PARTITIONS)
    part = sampled(plan)
    where = homes([m.key.decode() for m in part if m.key], PARTITIONS)
    run = fed(plan, part)
    home = [m for m in part if m.key and where[m.key.decode()] == 0]
    assert run.results.get("folded", 0) == len(home)
    assert run.results["misrouted"] == len(part) - len(home) == len(forwarded(run))
    for partition in range(1, PARTITIONS):
        mine = [m for m in part if m.key and where[m.key.decode()] == partition]
        found = [s for s in forwarded(run) if s.partition == partition]
        assert [(s.key, s.value) for s in found] == [(m.key, m.value) for m in mine]
        for message, sent in zip(mine, found, strict=True):
            origin = f"{plan.source}/0/{message.offset}".encode()
            assert sent.headers == (("soma-origin", origin), ("soma-hops", b"1"))
    assert not run.of(plan.dlq)


@each
@pytest.mark.parametrize("key", [None, b"", b"another", b"x" * 300])
def test_a_key_that_is_not_the_tenant_is_put_right(processor: Processor, key: bytes | None) -> None:
    plan = plan_of(processor)
    message = sampled(plan_of(processor, PARTITIONS))[0]
    run = fed(plan, [Message(0, key, message.value)])
    (sent,) = forwarded(run)
    assert (sent.key, sent.value, sent.partition) == (message.key, message.value, 0)
    again = fed(plan, [Message(0, sent.key, sent.value, list(sent.headers))])
    assert again.results["folded"] == 1 and not forwarded(again)


@each
@given(given=st.lists(st.tuples(st.text(max_size=6), blobs), max_size=4))
@settings(deadline=None, max_examples=20)
def test_headers_are_kept_as_they_came(processor: Processor, given: Headers) -> None:
    plan = plan_of(processor, PARTITIONS)
    message = astray(plan)
    message.headers = given
    (sent,) = forwarded(fed(plan, [message]))
    assert list(sent.headers[:-2]) == given
    assert [name for name, _ in sent.headers[-2:]] == ["soma-origin", "soma-hops"]


@each
def test_after_so_many_hops_it_is_a_dead_letter(processor: Processor) -> None:
    plan = plan_of(processor, PARTITIONS)
    message, hops = astray(plan), 0
    while True:
        run = fed(plan, [message])  # somebody keeps bringing it back to the wrong partition
        if run.of(plan.dlq):
            break
        (sent,) = forwarded(run)
        hops += 1
        assert sent.headers[-1] == ("soma-hops", b"%d" % hops)
        message = Message(0, sent.key, sent.value, list(sent.headers))
    assert hops == HOPS_MAX
    (letter,) = run.of(plan.dlq)
    assert letter.value == message.value and list(letter.headers[:-4]) == message.headers
    assert dict(letter.headers)["soma-reason"] == b"too_many_hops"
    assert run.results["dead"] == 1 and "misrouted" not in run.results


@each
@pytest.mark.parametrize("text", [b"", None, b"x", b"-1", b"1e9", b"9" * 400, "²".encode()])
def test_hops_that_are_no_number_count_as_none(processor: Processor, text: bytes | None) -> None:
    plan = plan_of(processor, PARTITIONS)
    message = astray(plan)
    message.headers = [("soma-hops", text)]
    (sent,) = forwarded(fed(plan, [message]))
    assert sent.headers == (
        ("soma-hops", text),
        ("soma-origin", f"{plan.source}/0/0".encode()),
        ("soma-hops", b"1"),
    )


@each
def test_hops_differ_within_a_batch(processor: Processor) -> None:
    plan = plan_of(processor, PARTITIONS)
    one = astray(plan)
    part = [
        Message(i, one.key, one.value, [("soma-hops", b"%d" % (i % 4))] if i % 4 else [])
        for i in range(12)
    ]
    run = fed(plan, part)
    counts = [dict(s.headers)["soma-hops"] for s in forwarded(run)]
    assert counts == 3 * [b"1"] + 3 * [b"2"] + 3 * [b"3"]
    assert run.results["misrouted"] == 9 and run.results["dead"] == 3


@each
def test_json_is_forwarded_as_it_was_written(processor: Processor) -> None:
    plan = plan_of(processor, PARTITIONS)
    message = astray(plan)
    record = codec.decode(message.value or b"")[1]
    text = json.dumps(codec.to_json(plan.schema, record)).encode()
    (sent,) = forwarded(fed(plan, [Message(0, message.key, text)]))
    assert (sent.key, sent.value) == (message.key, text)


@each
def test_what_is_too_large_to_forward_is_a_dead_letter_and_the_others_go(
    processor: Processor,
) -> None:
    plan = plan_of(processor, PARTITIONS)
    one, noise = astray(plan), np.random.default_rng(1).bytes(1_048_500)
    huge: Headers = [("noise", noise)]
    beyond: Headers = [("zeros", bytes(2_000_000))]  # packs well, but not into the frame
    part = [
        Message(0, one.key, one.value),
        Message(1, one.key, one.value, huge),
        Message(2, one.key, one.value, beyond),
        Message(3, one.key, one.value),
    ]
    run = fed(plan, part)
    offsets = [dict(s.headers)["soma-origin"] for s in forwarded(run)]
    assert offsets == [f"{plan.source}/0/{i}".encode() for i in (0, 3)]
    letters = run.of(plan.dlq)
    assert [list(s.headers[:-4]) for s in letters] == [huge, beyond]
    assert {dict(s.headers)["soma-reason"] for s in letters} == {b"too_large"}
    assert run.results["misrouted"] == 2 and run.results["dead"] == 2


@each
def test_many_are_several_batches(processor: Processor) -> None:
    plan = plan_of(processor, PARTITIONS)
    one = astray(plan)
    part = [Message(i, one.key, one.value, [("h", bytes(90_000))]) for i in range(25)]
    run = fed(plan, part)
    origins = [dict(s.headers)["soma-origin"] for s in forwarded(run)]
    assert origins == [f"{plan.source}/0/{i}".encode() for i in range(25)]


@each
def test_nothing_of_a_forwarded_record_touches_the_state(processor: Processor) -> None:
    plan = plan_of(processor, PARTITIONS)
    run = fed(plan, [astray(plan)])
    beyond = [s for s in run.outputs() if s not in forwarded(run)]  # a sink may be the source
    assert len(forwarded(run)) == 1 and not beyond and not run.rows()
    assert [s.key for s in run.sent if s.topic == plan.state] == [POSITION_KEY]
