"""The outbox's verifier: what is whole passes, and each fault made by hand is found and counted."""

import json
from random import Random
from typing import Any

import pytest

from ops.prove.outbox_check import FAULTS, SCHEMA, TOPIC, Row, Verdict, in_order, judge
from ops.prove.outbox_writers import as_json, event
from ops.prove.wire import Record, Wire

WIRE = Wire()
KEYS, VERSIONS = 6, 5


def rows() -> list[Row]:
    """KEYS keys of two tenants, VERSIONS events each, half JSON and half Avro."""
    made: list[Row] = []
    for version in range(1, VERSIONS + 1):
        for key in range(KEYS):
            number = len(made) + 1
            tenant, name, dedupe_key = f"t{key % 2}", f"k{key}", f"k{key}.{version}"
            content = event(tenant, name, version, dedupe_key)
            ready = number % 2 == 0
            made.append(
                Row(
                    number, tenant, name, dedupe_key,
                    None if ready else as_json(content),
                    WIRE.encode(SCHEMA, content) if ready else None,
                    f"00-{number:032x}-{number:016x}-01" if number % 3 == 0 else None,
                )
            )  # fmt: skip
    return made


def record_of(row: Row, offset: int) -> Record:
    """What a relay would have made of the row."""
    content = WIRE.decode(row.value or (row.payload or "").encode(), SCHEMA)[1]
    headers = {
        "ce_id": f"{row.id}", "ce_source": "/soma/outbox", "ce_type": TOPIC,
        "ce_time": "2026-01-01T00:00:00Z", "ce_specversion": "1.0", "tenant-id": row.tenant,
        "dedupe-key": row.dedupe_key, "soma-key": row.key,
    }  # fmt: skip
    if row.trace:
        headers["traceparent"] = row.trace
    pairs = tuple((name, text.encode()) for name, text in headers.items())
    value = row.value or WIRE.encode(SCHEMA, content)
    return Record(TOPIC, int(row.tenant[1:]), offset, 0, row.tenant.encode(), value, pairs)


def log(given: list[Row]) -> list[Record]:
    return in_order([record_of(row, 10 * k) for k, row in enumerate(given)])


def faults(verdict: Verdict) -> dict[str, int]:
    return {fault: n for fault in FAULTS if (n := getattr(verdict, fault))}


def test_a_whole_log_is_clean() -> None:
    table = rows()
    verdict = judge(table, log(table), [row.name for row in table])
    assert verdict.clean and not faults(verdict)
    assert (verdict.rows, verdict.records, verdict.keys) == (30, 30, 6)
    assert verdict.ready == 15


def test_other_keys_may_overtake() -> None:
    table = rows()
    by_key = sorted(table, key=lambda row: (row.key, row.id))  # ids out of order, keys in order
    assert judge(table, log(by_key)).clean


def test_an_empty_table_proves_nothing() -> None:
    assert not judge([], []).clean


def test_a_lost_row_is_found() -> None:
    table = rows()
    verdict = judge(table, log([row for row in table if row.id not in (4, 30)]))
    assert faults(verdict) == {"lost": 2}


def test_a_doubled_record_is_found() -> None:
    table = rows()
    whole = log(table)
    again = [replace_offset(whole[3], 1000), replace_offset(whole[3], 1001)]
    verdict = judge(table, in_order([*whole, *again]))
    assert faults(verdict) == {"doubled": 2}  # and not: an inversion


def test_an_inversion_is_found() -> None:
    table = rows()
    changed = list(table)
    changed[0], changed[KEYS] = changed[KEYS], changed[0]  # versions 1 and 2 of k0
    verdict = judge(table, log(changed))
    assert faults(verdict) == {"inversions": 1}
    assert "1 after 2" in verdict.examples["inversions"][0]


def test_a_phantom_is_found() -> None:
    table = rows()
    rolled_back = table[-1]._replace(dedupe_key="k5.6")
    verdict = judge(table, [*log(table), record_of(rolled_back, 5000)])
    assert faults(verdict) == {"phantom": 1}


def test_a_forgotten_commit_is_found() -> None:
    table = rows()
    verdict = judge(table, log(table), [("t0", "k0.99")])
    assert faults(verdict) == {"forgotten": 1}


def test_a_hole_in_the_table_is_found() -> None:
    table = [row for row in rows() if row.id != 1]
    assert faults(judge(table, log(table))) == {"torn": 1}


def replace_offset(record: Record, offset: int) -> Record:
    return record._replace(offset=offset)


def header(record: Record, name: str, text: bytes | None) -> Record:
    rest = tuple(pair for pair in record.headers if pair[0] != name)
    return record._replace(headers=rest if text is None else (*rest, (name, text)))


def other_text(record: Record) -> Record:
    content = WIRE.decode(record.value, SCHEMA)[1]
    return record._replace(value=WIRE.encode(SCHEMA, content | {"coordinate": "elsewhere"}))


@pytest.mark.parametrize(
    "spoil",
    [
        other_text,
        lambda record: record._replace(value=b""),
        lambda record: record._replace(value=(record.value or b"") + b"\0"),
        lambda record: record._replace(value=b"{}"),
        lambda record: record._replace(key=b"t9"),
        lambda record: record._replace(key=None),
        lambda record: header(record, "soma-key", b"k9"),
        lambda record: header(record, "ce_id", None),
        lambda record: header(record, "ce_id", b"1"),
        lambda record: header(record, "traceparent", b"00-0-0-00"),
    ],
)
@pytest.mark.parametrize("place", [1, 2])  # a row of JSON, and one of Avro
def test_a_record_that_says_something_else_is_found(spoil: Any, place: int) -> None:
    table = rows()
    whole = [record_of(row, row.id) for row in table]
    target = next(k for k, row in enumerate(table) if row.id % 2 == place % 2 and row.id > 2)
    whole[target] = spoil(whole[target])
    assert judge(table, in_order(whole)).wrong >= 1


def test_a_key_in_two_partitions_is_found() -> None:
    table = rows()
    whole = log(table)
    whole[-1] = whole[-1]._replace(partition=3)
    assert faults(judge(table, in_order(whole))) == {"wrong": 1}


def test_rows_that_have_left_the_table_are_judged_by_what_was_acknowledged() -> None:
    table = rows()
    known, left = [row.name for row in table], table[12:]
    whole = log(table)
    assert judge(left, whole, known, aged=True).clean
    assert faults(judge(left, whole[1:], known, aged=True)) == {"lost": 1}
    assert faults(judge(left, [*whole, whole[0]], known, aged=True)) == {"doubled": 1}
    changed = list(table)
    changed[0], changed[KEYS] = changed[KEYS], changed[0]
    assert faults(judge(left, log(changed), known, aged=True)) == {"inversions": 1}
    assert judge(left, whole, known[1:], aged=True).phantom == 1


def test_after_a_restore_lost_rows_may_be_in_the_topic_once_and_the_others_must() -> None:
    """The first ten rows are from before the backup; the restore took the next ten."""
    table = rows()
    known, left = [row.name for row in table], [*table[:10], *table[20:]]
    sent = log([*table[:10], *table[10:15], *table[20:]])
    found = judge(left, sent, known, restored=True)
    assert not found.lost and not found.phantom and not found.forgotten and not found.inversions
    assert judge(left, [*sent, sent[12]], known, restored=True).doubled == 1
    assert judge(left, sent[1:], known, restored=True).lost == 1
    assert judge(left, sent, known[:11], restored=True).phantom == 4


@pytest.mark.parametrize("seed", range(20))
def test_any_mixture_of_faults_is_counted(seed: int) -> None:
    """Lost and doubled at random: the counts are those of what was done."""
    random, table = Random(seed), rows()
    lost = random.sample(table, random.randrange(5))
    left = [row for row in table if row not in lost]
    doubled = [random.choice(left) for _ in range(random.randrange(5))]
    records = [record_of(row, row.id) for row in left]
    records += [record_of(row, 1000 + k) for k, row in enumerate(doubled)]
    verdict = judge(table, in_order(records))
    wanted = {"lost": len(lost), "doubled": len(doubled)}
    assert faults(verdict) == {name: n for name, n in wanted.items() if n}


def test_a_verdict_prints_every_fault() -> None:
    table = rows()
    verdict = judge(table, log(table))
    assert verdict.line().endswith(" ".join(f"{fault} 0" for fault in FAULTS))
    assert json.loads(json.dumps(verdict.as_json()))["clean"] is True
