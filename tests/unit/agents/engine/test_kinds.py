"""Sources with several schemas, and outputs with keys, partitions and endings of their own."""

import json
from typing import Any

import numpy as np
import pytest

from agents.engine.processor import OWN_REASONS, Batch, Output, Reads
from tests.contract.harness import LOG_MS, Message, Run, Sent, plan_of
from tests.unit.agents.engine.echo import Echo, echo, event
from topics import codec
from topics.partition import partition_of

pytestmark = [
    pytest.mark.kernel,
    # As plain Python (NUMBA_DISABLE_JIT=1) NumPy minds that a hash overflows.
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]
TS = LOG_MS * 1000
MARK = dict.fromkeys(
    ("rows", "published", "refused", "shift_us", "last_ts", "bad_bytes", "place", "line"), 0
) | {"head": "", "last_row": "", "last_row_bytes": 0, "ended": False}


def observed(tenant: str = "a", **more: Any) -> tuple[str, dict[str, Any]]:
    record = {"tenant": tenant, "domain": "d", "ts": TS, "vector": b"\0\0\0\0", "sequence": None}
    return "observation", record | more


def remembered(tenant: str = "a", **more: Any) -> tuple[str, dict[str, Any]]:
    return "memory_event", event(tenant, "p", TS) | more


def marked(tenant: str = "a", **more: Any) -> tuple[str, dict[str, Any]]:
    return "import_mark", MARK | {"source": tenant} | more


def told(
    records: list[tuple[str, dict[str, Any]]], as_json: bool = False, partition: int = 0
) -> list[Message]:
    """These records on the wire."""
    return [
        Message(
            at,
            str(record.get("tenant", record.get("source"))).encode(),
            json.dumps(codec.to_json(name, record)).encode()
            if as_json
            else codec.encode(name, record),
        )
        for at, (name, record) in enumerate(records)
    ]


def heard(self: Echo, batch: Batch, r: int, record: dict[str, Any], output: Output) -> None:
    tenant = record.get("tenant", record.get("source"))
    self.say(output, r, tenant, f"{batch.offsets[r]} {record['kind']} {sorted(record)[:3]}")


def payloads(run: Run) -> list[str]:
    return [codec.decode(sent.value or b"")[1]["payload"] for sent in run.outputs()]


def letters(run: Run) -> list[tuple[bytes | None, str, str]]:
    """value, reason, detail."""
    found = []
    for sent in run.of(run.plan.dlq):
        why = {name: (text or b"").decode() for name, text in sent.headers}
        found.append((sent.value, why["soma-reason"], why["soma-detail"]))
    return found


@pytest.mark.parametrize("as_json", [False, True], ids=["avro", "json"])
def test_records_of_several_schemas_are_folded_in_the_order_of_the_log(as_json: bool) -> None:
    records = [marked(), observed(), remembered(), observed("b"), marked("b"), remembered("b")]
    run = Run(plan_of(echo(heard))).feed([told(records, as_json)])
    assert payloads(run) == [
        "0 2 ['bad_bytes', 'ended', 'head']",
        "1 0 ['domain', 'kind', 'sequence']",
        "2 1 ['coordinate', 'dedupe_key', 'embedding']",
        "3 0 ['domain', 'kind', 'sequence']",
        "4 2 ['bad_bytes', 'ended', 'head']",
        "5 1 ['coordinate', 'dedupe_key', 'embedding']",
    ]
    assert [sent.key for sent in run.outputs()] == [b"a", b"a", b"a", b"b", b"b", b"b"]
    assert run.results["folded"] == 6 and not letters(run)


def test_each_schema_is_checked_by_its_own_rules() -> None:
    long = "x" * 2000
    part = told([
        observed(domain="no/name"),  # the first has a domain
        remembered(payload=long),  # a text that may be long
        remembered(payload=3 * long),  # but not so long
        remembered(model_revision=long),  # another one may not
        remembered(ts=5),  # from before 2000
        marked(head=long),
        marked(),  # without a time of its own
        ("position", {"next_offset": 1, "seen": 1, "topic_id": "", "epoch": 1, "version": 1}),
    ])  # fmt: skip
    run = Run(plan_of(echo(heard))).feed([part])
    assert [text[:3] for text in payloads(run)] == ["1 1", "6 2"]
    assert [(value, why) for value, why, _ in letters(run)] == [
        (part[0].value, "bad_domain"),
        (part[2].value, "string_too_long"),
        (part[3].value, "string_too_long"),
        (part[4].value, "ts_range"),
        (part[5].value, "string_too_long"),
        (part[7].value, "unknown_schema"),
    ]


def test_the_time_of_a_record_that_has_none_is_the_logs() -> None:
    run = Run(plan_of(echo(heard)))
    ends = []
    for at, record in enumerate([observed(ts=TS - 7), marked(), remembered(ts=TS - 9)]):
        (message,) = told([record])
        message.offset = at
        run.feed([[message]])
        ends.append(run.last.newest_ts)
    assert ends == [TS - 7, TS, TS - 9]


def test_json_that_fits_no_schema_is_told_why_of_each() -> None:
    (message,) = told([observed()])
    message.value = b'{"tenant": "a"}'
    ((value, why, detail),) = letters(Run(plan_of(echo(heard))).feed([[message]]))
    assert (value, why) == (message.value, "bad_json")
    assert detail.startswith("observation: ") and " | memory_event: event_id: " in detail
    assert " | import_mark: " in detail


def test_records_of_every_schema_are_forwarded_to_their_tenants() -> None:
    plan = plan_of(echo(heard), partitions=5)
    part = told([record(f"t{k}") for k in range(8) for record in (observed, remembered, marked)])
    run = Run(plan, partition=2).feed([part])
    homes = [partition_of((m.key or b"").decode(), 5) for m in part]
    astray = sorted(
        (home, m.key, m.value) for m, home in zip(part, homes, strict=True) if home != 2
    )
    sent = run.of(plan.source)
    assert sorted((s.partition, s.key, s.value) for s in sent) == astray
    assert run.results["folded"] == homes.count(2) > 0


@pytest.mark.parametrize(
    ("reads", "error"),
    [
        (Reads(tenant="who"), "observation.who: a field of type string is wanted"),
        (Reads(ts="vector"), "observation.vector: a field of type long is wanted"),
        (Reads(ts="sequence"), "observation.sequence: a field of type long is wanted"),
        (Reads(strings={"vector": 1}), "observation has no string vector"),
    ],
)
def test_a_declaration_that_its_schema_does_not_bear_out_is_refused(
    reads: Reads, error: str
) -> None:
    with pytest.raises(ValueError, match=f"echo: cog.observations: {error}"):
        plan_of(echo(heard, reads=reads))
    with pytest.raises(ValueError, match="there is no schema nothing"):
        plan_of(echo(heard, kinds={"nothing": Reads()}))


def test_a_fold_says_in_its_own_words_what_it_refuses() -> None:
    def refuses(self: Echo, batch: Batch, r: int, record: dict[str, Any], output: Output) -> None:
        batch.status[r] = OWN_REASONS
        if r % 2:
            batch.details[r] = f"not from {record['tenant']}"

    part = told([observed("a"), observed("b")])
    assert letters(Run(plan_of(echo(refuses))).feed([part])) == [
        (part[0].value, "unheard", "it doesn't want to hear that"),
        (part[1].value, "unheard", "not from b"),
    ]


def test_outputs_have_keys_and_partitions_of_their_own() -> None:
    def spread(self: Echo, batch: Batch, r: int, record: dict[str, Any], output: Output) -> None:
        for key, to in ((None, -1), (b"k", -1), (None, 3), (f"k{r}".encode(), 1)):
            self.say(output, r, record["tenant"], f"{r} {to}")
            output.own.append((key, to))
        self.say(output, -1, "nobody", "no cause")
        output.own.append((b"own", 0))

    plan = plan_of(echo(spread))
    run = Run(plan).feed([told([observed("a"), observed("b")])])
    found = [(s.partition, s.key, payload(s)) for s in run.outputs()]
    assert found == [
        (0, b"a", "0 -1"), (0, b"k", "0 -1"), (0, b"own", "no cause"),
        (0, b"b", "1 -1"), (0, b"k", "1 -1"), (0, b"own", "no cause"),
        (1, b"k0", "0 1"), (1, b"k1", "1 1"), (3, b"a", "0 3"), (3, b"b", "1 3"),
    ]  # fmt: skip
    assert run.last.outputs == 10


def payload(sent: Sent) -> str | None:
    return codec.decode(sent.value)[1]["payload"] if sent.value is not None else None


@pytest.mark.parametrize("own", [False, True])
def test_outputs_can_be_deletions(own: bool) -> None:
    def deletes(self: Echo, batch: Batch, r: int, record: dict[str, Any], output: Output) -> None:
        if r in (1, 2, 4):
            output.gone.add(output.n)
        self.say(output, r, record["tenant"], f"{r}")
        if own:
            output.own.append((f"k{r}".encode(), r % 2))

    run = Run(plan_of(echo(deletes))).feed([told([observed(f"t{r}") for r in range(6)])])
    found = {s.key: (s.partition, payload(s)) for s in run.outputs()}
    name, to = ("k", 1) if own else ("t", 0)
    assert found == {
        f"{name}{r}".encode(): (r % 2 * to, None if r in (1, 2, 4) else f"{r}") for r in range(6)
    }
    run.feed([[Message(7, b"t", told([observed("t")])[0].value)]])
    assert [payload(s) for s in run.outputs()][-1] == "0", "nothing is left of the batch before"


def test_outputs_of_any_number_are_sent_to_any_number_of_partitions() -> None:
    def many(self: Echo, batch: Batch, r: int, record: dict[str, Any], output: Output) -> None:
        for k in range(int(rng.integers(0, 9))):
            self.say(output, r, record["tenant"], f"{r} {k} " + "x" * 5000)
            output.own.append((None, int(rng.integers(0, 7))))
            said.append((output.own[-1][1], f"{r} {k} "))

    rng, said = np.random.default_rng(3), list[tuple[int, str]]()
    run = Run(plan_of(echo(many))).feed([told([observed(f"t{r}") for r in range(300)])])
    found = [(s.partition, (payload(s) or "")[:-5000]) for s in run.outputs()]
    assert found == sorted(said, key=lambda one: one[0])
