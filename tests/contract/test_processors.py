"""What every processor must keep, whatever its law. A new one is found and tested by itself."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agents.engine.digest import digest, rows_of
from agents.engine.lookups import rows_of_tenant
from agents.engine.plan import Plan
from agents.engine.processor import SEP, Processor
from agents.engine.work import UnknownSchema
from agents.history.rows import only
from agents.kit.asleep import STATES
from tests.contract.harness import (
    LOG_MS,
    PROCESSORS,
    Message,
    Run,
    loaded,
    messages,
    plan_of,
    row_path,
    samples,
    setting,
    sleep,
)  # fmt: skip
from topics import codec
from topics.schemas import schemas

each = pytest.mark.parametrize("processor", PROCESSORS, ids=lambda p: p.name)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


def make(processor: Processor, seed: int, n: int) -> list[dict[str, Any]]:
    """The processor's samples, all of them in the past of the log."""
    records: list[dict[str, Any]] = samples(processor).records(np.random.default_rng(seed), n)
    if (ts := processor.reads.ts) is not None:
        assert all(946_684_800_000_000 <= r[ts] <= LOG_MS * 1000 for r in records)
    return records


def mixed(processor: Processor, seed: int, n: int) -> list[Message]:
    """Samples with settings and sleeps between them, and bad records."""
    rng = np.random.default_rng(seed)
    plan = plan_of(processor)
    part = messages(plan, make(processor, seed, n))
    tenants = [m.key.decode() for m in part if m.key]
    for at in rng.integers(0, n, n // 10):
        name, value = samples(processor).settings()[
            int(rng.integers(len(samples(processor).settings())))
        ]
        tenant = "*" if rng.random() < 0.3 else tenants[int(rng.integers(len(tenants)))]
        version = int(rng.choice([0, LOG_MS + at]))
        part[at] = setting(int(at), tenant, name, value, version)
    for at in rng.integers(0, n, n // 20):
        tenant = tenants[int(rng.integers(len(tenants)))]
        part[at] = sleep(int(at), tenant, int(rng.integers(len(STATES))), int(at) + 1)
    for at in rng.integers(0, n, n // 10):
        value = part[at].value or b""
        part[at] = Message(int(at), part[at].key, value[: int(rng.integers(0, len(value) + 1))])
    return part


def cut(rng: np.random.Generator, part: list[Message]) -> list[list[Message]]:
    """The same messages in batches of random sizes."""
    ends = sorted(
        {int(x) for x in rng.integers(1, len(part), int(rng.integers(1, 12)))} | {len(part)}
    )
    return [part[lo:hi] for lo, hi in zip([0, *ends], ends, strict=False)]


@each
def test_a_processor_was_found_and_has_samples(processor: Processor) -> None:
    assert len(make(processor, 1, 50)) == 50
    named = {name.partition("@")[0] for name, _ in samples(processor).settings()}
    assert named <= set(processor.settings)


@each
@few
@given(seed=seeds)
def test_where_batches_are_cut_changes_no_byte(processor: Processor, seed: int) -> None:
    plan, part, rng = plan_of(processor), mixed(processor, seed, 200), np.random.default_rng(seed)
    whole = Run(plan).feed([part])
    pieces = Run(plan).feed(cut(rng, part))
    assert whole.results["folded"] > 100
    assert pieces.outputs() == whole.outputs()
    assert pieces.of(plan.dlq) == whole.of(plan.dlq)
    assert pieces.rows() == whole.rows()
    assert digest(plan, pieces.fold) == digest(plan, whole.fold)


@each
@few
@given(seed=seeds)
def test_the_row_path_gives_the_same_bytes(processor: Processor, seed: int) -> None:
    plan = plan_of(processor)
    part = messages(plan, make(processor, seed, 60))
    columns = [sent.value for sent in Run(plan).feed([part]).outputs()]
    assert columns == row_path(plan, part)


@each
@few
@given(seed=seeds)
def test_state_survives_a_round_trip_in_any_order(processor: Processor, seed: int) -> None:
    plan, rng = plan_of(processor), np.random.default_rng(seed)
    part = mixed(processor, seed, 300)
    before, after = part[:150], part[150:]
    straight = Run(plan).feed([before])
    restarted = loaded(plan, straight.rows(), rng)
    assert digest(plan, restarted.fold) == digest(plan, straight.fold)
    restarted.next = straight.next
    straight.sent.clear()
    straight.feed([after])
    restarted.feed([after])
    assert restarted.outputs() == straight.outputs()
    assert digest(plan, restarted.fold) == digest(plan, straight.fold)


@each
@given(seed=seeds)
@settings(max_examples=4)
def test_a_tenant_s_rows_are_found_without_looking_at_all(processor: Processor, seed: int) -> None:
    plan = plan_of(processor)
    run = Run(plan).feed([mixed(processor, seed, 60)])
    rows = rows_of(plan, run.fold)
    for tenant in {key.decode().split(SEP)[0] for key in rows} | {"nobody"}:
        assert rows_of_tenant(plan, run.fold, tenant) == only(rows, tenant)
    assert rows_of(plan, run.fold) == rows and run.rows() == rows


@each
@few
@given(seed=seeds)
def test_a_rebuild_from_the_log_gives_the_same_digest(processor: Processor, seed: int) -> None:
    plan, part = plan_of(processor), mixed(processor, seed, 200)
    live = Run(plan).feed(cut(np.random.default_rng(seed), part))
    assert digest(plan, Run(plan).feed([part]).fold) == digest(plan, live.fold)


def names_unknown_schema(plan: Plan, value: bytes) -> bool:
    """Where only processors write, a newer one may have written it: the engine stops there."""
    known = {*schemas().writers(plan.schema), *plan.reserved.tolist()}
    return value[:1] == b"\0" and len(value) >= codec.HEADER and codec.schema_of(value) not in known


@each
@few
@example(junk=[bytes(5)], seed=0)
@given(junk=st.lists(st.binary(max_size=200), min_size=1, max_size=40), seed=seeds)
def test_random_bytes_become_dead_letters(
    processor: Processor, junk: list[bytes], seed: int
) -> None:
    plan = plan_of(processor)
    good = messages(plan, make(processor, seed, len(junk)), first=len(junk))
    part = [Message(i, b"k", value) for i, value in enumerate(junk)] + good
    if not plan.public and any(names_unknown_schema(plan, value) for value in junk):
        with pytest.raises(UnknownSchema):
            Run(plan).feed([part])
        return
    run = Run(plan).feed([part])
    alone = Run(plan).feed([good])
    assert run.results["dead"] == len(junk)
    assert [sent.value for sent in run.of(plan.dlq)] == junk
    assert run.outputs() == alone.outputs()
    assert len(run.answers()) in (0, len(junk)), "each letter is answered, or none is"


@each
@few
@given(
    seed=seeds,
    flips=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=30),
)
def test_mutated_records_never_crash(
    processor: Processor, seed: int, flips: list[tuple[int, int]]
) -> None:
    plan = plan_of(processor)
    part = messages(plan, make(processor, seed, 30))
    for k, (at, byte) in enumerate(flips):
        value = bytearray(part[k].value or b"")
        # The engine stops at an unknown schema where only processors write: keep its id there.
        kept = 0 if plan.public else 5
        value[kept + at % (len(value) - kept)] = byte
        part[k].value = bytes(value)
    results = Run(plan).feed([part]).results
    assert results["folded"] + results["control"] + results["dead"] + results.get(
        "misrouted", 0
    ) == len(part)


@each
@few
@given(seed=seeds)
def test_two_tenants_never_mix(processor: Processor, seed: int) -> None:
    plan = plan_of(processor)
    part = messages(plan, make(processor, seed, 200))
    together = Run(plan).feed([part])
    for tenant in sorted({m.key for m in part if m.key}):
        alone = Run(plan).feed([[m for m in part if m.key == tenant]])
        assert [s for s in together.outputs() if s.key == tenant] == alone.outputs()
        mine = {k: v for k, v in together.rows().items() if k.split(b"\x1f")[0] == tenant}
        assert mine == alone.rows()


@each
@few
@given(seed=seeds)
def test_json_is_folded_like_avro(processor: Processor, seed: int) -> None:
    plan = plan_of(processor)
    records = make(processor, seed, 50)
    part = messages(plan, records)
    written = [
        Message(
            m.offset,
            m.key,
            json.dumps(codec.to_json(plan.schema, r)).encode() if i % 3 == 0 else m.value,
        )
        for i, (m, r) in enumerate(zip(part, records, strict=True))
    ]
    assert Run(plan).feed([written]).outputs() == Run(plan).feed([part]).outputs()


@each
def test_every_output_has_the_key_of_its_tenant_and_the_place_of_its_cause(
    processor: Processor,
) -> None:
    plan = plan_of(processor)
    part = messages(plan, make(processor, 3, 40))
    outputs = Run(plan).feed([part]).outputs()
    assert outputs
    for sent in outputs:
        assert sent.value is not None
        _, record = codec.decode(sent.value)
        named = record.get(processor.reads.tenant) or record["subject"]  # of an audit's
        tenant = named.encode()
        assert (sent.key or b"").split(SEP.encode())[0] == tenant and sent.partition == 0


@each
@pytest.mark.parametrize("first", ["settings", "records"])
def test_any_number_of_tenants_is_known_by_settings_or_records(
    processor: Processor, first: str
) -> None:
    """Tables grow while they are written to: whoever looked before must look again."""
    plan, many = plan_of(processor), 700
    told = samples(processor).settings()
    made = make(processor, 5, many)
    settled = [setting(0, f"t{k}", *told[k % len(told)]) for k in range(many)]
    tenant = processor.reads.tenant
    records = messages(plan, [r | {tenant: f"t{k}"} for k, r in enumerate(made)])
    ordered = settled + records if first == "settings" else records + settled
    part = [replace(one, offset=at) for at, one in enumerate(ordered)]
    run = Run(plan).feed([part[:many], part[many:]])
    assert run.results["dead"] == 0
    restarted = loaded(plan, run.rows(), np.random.default_rng(0))
    assert digest(plan, restarted.fold) == digest(plan, run.fold)


@each
def test_settings_are_checked(processor: Processor) -> None:
    plan = plan_of(processor)
    part = [
        setting(0, "t", "no_such_setting", "1"),
        setting(1, "t", next(iter(processor.settings)), "\0"),
    ]
    run = Run(plan).feed([part])
    assert run.results["dead"] == 2
    assert {dict(s.headers)["soma-reason"] for s in run.of(plan.dlq)} == {b"control_refused"}
