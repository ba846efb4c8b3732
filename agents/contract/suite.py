"""What every processor must keep, whatever its law: `suite` makes tests of it, a class."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agents.contract.trials import (
    Samples,
    Subject,
    messages,
    row_path,
    setting,
    sleep,
)
from agents.engine.digest import digest, rows_of
from agents.engine.lookups import rows_of_tenant
from agents.engine.plan import Plan
from agents.engine.processor import SEP, Processor
from agents.engine.work import UnknownSchema
from agents.history.rows import only
from agents.kit.asleep import STATES
from agents.kit.run import LOG_MS, Message
from topics import codec
from topics.schemas import schemas

YEAR_2000 = 946_684_800_000_000  # microseconds
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
fewer = settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))


def suite(processor: Processor, samples: Samples, **defaults: str) -> type["Contract"]:
    """The contract suite of one processor: `TestContract = suite(PROCESSOR, samples)`.

    `defaults` are the deployment's values to try it under.
    """
    subject = Subject(processor, samples, defaults)

    class TestContract(Contract):
        """What every processor must keep."""

    marked: type[Contract] = pytest.mark.parametrize("subject", [subject], ids=[processor.name])(
        TestContract
    )
    return marked


def make(subject: Subject, seed: int, n: int) -> list[dict[str, Any]]:
    """The processor's samples, all of them in the past of the log."""
    records: list[dict[str, Any]] = subject.samples.records(np.random.default_rng(seed), n)
    if (ts := subject.processor.reads.ts) is not None:
        assert all(YEAR_2000 <= r[ts] <= LOG_MS * 1000 for r in records)
    return records


def mixed(subject: Subject, seed: int, n: int) -> list[Message]:
    """Samples with settings and sleeps between them, and bad records."""
    rng = np.random.default_rng(seed)
    plan = subject.plan()
    part = messages(plan, make(subject, seed, n))
    tenants = [m.key.decode() for m in part if m.key]
    for at in rng.integers(0, n, n // 10):
        name, told = subject.samples.settings()[int(rng.integers(len(subject.samples.settings())))]
        tenant = "*" if rng.random() < 0.3 else tenants[int(rng.integers(len(tenants)))]
        version = int(rng.choice([0, LOG_MS + at]))
        part[at] = setting(int(at), tenant, name, told, version)
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


def names_unknown_schema(plan: Plan, value: bytes) -> bool:
    """Where only processors write, a newer one may have written it: the engine stops there."""
    known = {*schemas().writers(plan.schema), *plan.reserved.tolist()}
    return value[:1] == b"\0" and len(value) >= codec.HEADER and codec.schema_of(value) not in known


class Contract:
    """A test each; `subject` is the processor on trial."""

    def test_a_processor_was_found_and_has_samples(self, subject: Subject) -> None:
        assert len(make(subject, 1, 50)) == 50
        named = {name.partition("@")[0] for name, _ in subject.samples.settings()}
        assert named <= set(subject.processor.settings)

    @few
    @given(seed=seeds)
    def test_where_batches_are_cut_changes_no_byte(self, subject: Subject, seed: int) -> None:
        plan, part, rng = subject.plan(), mixed(subject, seed, 200), np.random.default_rng(seed)
        whole = subject.run(plan).feed([part])
        pieces = subject.run(plan).feed(cut(rng, part))
        assert whole.results["folded"] > 100
        assert pieces.outputs() == whole.outputs()
        assert pieces.of(plan.dlq) == whole.of(plan.dlq)
        assert pieces.rows() == whole.rows()
        assert digest(plan, pieces.fold) == digest(plan, whole.fold)

    @few
    @given(seed=seeds)
    def test_the_row_path_gives_the_same_bytes(self, subject: Subject, seed: int) -> None:
        plan = subject.plan()
        part = messages(plan, make(subject, seed, 60))
        columns = [sent.value for sent in subject.run(plan).feed([part]).outputs()]
        assert columns == row_path(plan, part, subject.defaults())

    @few
    @given(seed=seeds)
    def test_state_survives_a_round_trip_in_any_order(self, subject: Subject, seed: int) -> None:
        plan, rng = subject.plan(), np.random.default_rng(seed)
        part = mixed(subject, seed, 300)
        before, after = part[:150], part[150:]
        straight = subject.run(plan).feed([before])
        restarted = subject.loaded(plan, straight.rows(), rng)
        assert digest(plan, restarted.fold) == digest(plan, straight.fold)
        restarted.next = straight.next
        straight.sent.clear()
        straight.feed([after])
        restarted.feed([after])
        assert restarted.outputs() == straight.outputs()
        assert digest(plan, restarted.fold) == digest(plan, straight.fold)

    @given(seed=seeds)
    @fewer
    def test_a_tenant_s_rows_are_found_without_looking_at_all(
        self, subject: Subject, seed: int
    ) -> None:
        plan = subject.plan()
        run = subject.run(plan).feed([mixed(subject, seed, 60)])
        rows = rows_of(plan, run.fold)
        for tenant in {key.decode().split(SEP)[0] for key in rows} | {"nobody"}:
            assert rows_of_tenant(plan, run.fold, tenant) == only(rows, tenant)
        assert rows_of(plan, run.fold) == rows and run.rows() == rows

    @few
    @given(seed=seeds)
    def test_a_rebuild_from_the_log_gives_the_same_digest(
        self, subject: Subject, seed: int
    ) -> None:
        plan, part = subject.plan(), mixed(subject, seed, 200)
        live = subject.run(plan).feed(cut(np.random.default_rng(seed), part))
        assert digest(plan, subject.run(plan).feed([part]).fold) == digest(plan, live.fold)

    @few
    @example(junk=[bytes(5)], seed=0)
    @given(junk=st.lists(st.binary(max_size=200), min_size=1, max_size=40), seed=seeds)
    def test_random_bytes_become_dead_letters(
        self, subject: Subject, junk: list[bytes], seed: int
    ) -> None:
        plan = subject.plan()
        good = messages(plan, make(subject, seed, len(junk)), first=len(junk))
        part = [Message(i, b"k", value) for i, value in enumerate(junk)] + good
        if not plan.public and any(names_unknown_schema(plan, value) for value in junk):
            with pytest.raises(UnknownSchema):
                subject.run(plan).feed([part])
            return
        run = subject.run(plan).feed([part])
        alone = subject.run(plan).feed([good])
        assert run.results["dead"] == len(junk)
        assert [sent.value for sent in run.of(plan.dlq)] == junk
        assert run.outputs() == alone.outputs()
        assert len(run.answers()) in (0, len(junk)), "each letter is answered, or none is"

    @few
    @given(
        seed=seeds,
        flips=st.lists(
            st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=30
        ),
    )
    def test_mutated_records_never_crash(
        self, subject: Subject, seed: int, flips: list[tuple[int, int]]
    ) -> None:
        plan = subject.plan()
        part = messages(plan, make(subject, seed, 30))
        for k, (at, byte) in enumerate(flips):
            value = bytearray(part[k].value or b"")
            # The engine stops at an unknown schema where only processors write: keep its id there.
            kept = 0 if plan.public else 5
            value[kept + at % (len(value) - kept)] = byte
            part[k].value = bytes(value)
        results = subject.run(plan).feed([part]).results
        assert results["folded"] + results["control"] + results["dead"] + results.get(
            "misrouted", 0
        ) == len(part)

    @few
    @given(seed=seeds)
    def test_two_tenants_never_mix(self, subject: Subject, seed: int) -> None:
        plan = subject.plan()
        part = messages(plan, make(subject, seed, 200))
        together = subject.run(plan).feed([part])
        for tenant in sorted({m.key for m in part if m.key}):
            alone = subject.run(plan).feed([[m for m in part if m.key == tenant]])
            said = [s for s in together.outputs() if (s.key or b"").split(b"\x1f")[0] == tenant]
            assert said == alone.outputs()
            mine = {k: v for k, v in together.rows().items() if k.split(b"\x1f")[0] == tenant}
            assert mine == alone.rows()

    @few
    @given(seed=seeds)
    def test_json_is_folded_like_avro(self, subject: Subject, seed: int) -> None:
        plan = subject.plan()
        records = make(subject, seed, 50)
        part = messages(plan, records)
        written = [
            Message(
                m.offset,
                m.key,
                json.dumps(codec.to_json(plan.schema, r)).encode() if i % 3 == 0 else m.value,
            )
            for i, (m, r) in enumerate(zip(part, records, strict=True))
        ]
        assert (
            subject.run(plan).feed([written]).outputs() == subject.run(plan).feed([part]).outputs()
        )

    def test_every_output_has_the_key_of_its_tenant_and_the_place_of_its_cause(
        self, subject: Subject
    ) -> None:
        plan = subject.plan()
        part = messages(plan, make(subject, 3, 40))
        outputs = subject.run(plan).feed([part]).outputs()
        assert outputs
        for sent in outputs:
            assert sent.value is not None
            _, record = codec.decode(sent.value)
            named = record.get(subject.processor.reads.tenant) or record["subject"]  # of an audit's
            tenant = named.encode()
            assert (sent.key or b"").split(SEP.encode())[0] == tenant and sent.partition == 0

    @pytest.mark.parametrize("first", ["settings", "records"])
    def test_any_number_of_tenants_is_known_by_settings_or_records(
        self, subject: Subject, first: str
    ) -> None:
        """Tables grow while they are written to: whoever looked before must look again."""
        plan, many = subject.plan(), 700
        told = subject.samples.settings()
        made = make(subject, 5, many)
        settled = [setting(0, f"t{k}", *told[k % len(told)]) for k in range(many)]
        records = messages(plan, [subject.named(r, f"t{k}") for k, r in enumerate(made)])
        ordered = settled + records if first == "settings" else records + settled
        part = [replace(one, offset=at) for at, one in enumerate(ordered)]
        run = subject.run(plan).feed([part[:many], part[many:]])
        assert run.results["dead"] == 0
        restarted = subject.loaded(plan, run.rows(), np.random.default_rng(0))
        assert digest(plan, restarted.fold) == digest(plan, run.fold)

    def test_settings_are_checked(self, subject: Subject) -> None:
        plan = subject.plan()
        part = [
            setting(0, "t", "no_such_setting", "1"),
            setting(1, "t", next(iter(subject.processor.settings)), "\0"),
        ]
        run = subject.run(plan).feed([part])
        assert run.results["dead"] == 2
        assert {dict(s.headers)["soma-reason"] for s in run.of(plan.dlq)} == {b"control_refused"}
