"""Whatever users send: good records around it are folded, and each bad one is a dead letter.

One worker serves all tests of this module; each test has tenants of its own.
"""

import json
import struct
from collections.abc import Callable
from typing import Any

import pytest

from ops.prove.partitions import home
from tests.live.bad_input.conftest import Bed, Odd
from tests.live.evidence import (
    OBSERVATIONS,
    SCHEMA,
    START_MICROS,
    UPDATES,
    WIRE,
    Headers,
    Row,
    Sender,
    Sent,
    encoded,
    fresh_tenant,
    good,
)
from tests.live.helpers import PARTITIONS

Value = Callable[[str, str], bytes | None]  # (topic, tenant) -> value
YEAR_US = 365 * 86_400_000_000


def changed(**other: Any) -> Value:
    return lambda topic, tenant: encoded(topic, tenant, **{"ts": START_MICROS} | other)


def as_json(change: Callable[[dict[str, Any]], Any]) -> Value:
    def value(topic: str, tenant: str) -> bytes:
        record = good(topic, tenant, START_MICROS)
        record["ts"] = "2025-06-15T12:00:00Z"
        if topic == OBSERVATIONS:
            record["vector"] = [0.5, 1.0]
        change(record)
        return json.dumps(record).encode()

    return value


def cut(topic: str, tenant: str) -> bytes:
    return encoded(topic, tenant)[:-1]


def lying_length(length: int) -> Value:
    """The tenant's length says more, or less than nothing, than there is."""

    def value(topic: str, tenant: str) -> bytes:
        whole = encoded(topic, tenant)
        zigzag, said = (length << 1) ^ (length >> 63), b""
        while zigzag > 127:
            said, zigzag = said + bytes([zigzag & 127 | 128]), zigzag >> 7
        return whole[:5] + said + bytes([zigzag]) + whole[6:]

    return value


def invalid_utf8(topic: str, tenant: str) -> bytes:
    return encoded(topic, tenant, domain="agent").replace(b"agent", b"ag\xff\xfet")


def control(tenant: str = "", setting: str = "alpha", value: str = "1.0") -> Value:
    def made(_topic: str, own: str) -> bytes:
        record = {"tenant": tenant or own, "setting": setting, "value": value, "ts": START_MICROS}
        return WIRE.encode("control_setting", record | {"author": "test"})

    return made


BOTH: dict[str, tuple[Value, bytes]] = {
    "random bytes": (lambda *_: bytes(range(7, 60)), b"bad_wire_format"),
    "nothing but a zero": (lambda *_: b"\0", b"bad_wire_format"),
    "empty": (lambda *_: b"", b"bad_wire_format"),
    "null value": (lambda *_: None, b"null_value"),
    "truncated": (cut, b"bad_avro"),
    "trailing bytes": (lambda *a: encoded(*a) + b"\0", b"bad_avro"),
    "a length beyond the record": (lying_length(1 << 40), b"bad_avro"),
    "the largest length": (lying_length((1 << 63) - 1), b"bad_avro"),
    "a negative length": (lying_length(-5), b"bad_avro"),
    "invalid UTF-8": (invalid_utf8, b"bad_utf8"),
    "unknown schema": (lambda *a: b"\0\0\0\x7f\xff" + encoded(*a)[5:], b"unknown_schema"),
    "another type": (lambda *a: b"\0\0\0\0\3" + encoded(*a)[5:], b"unknown_schema"),
    "JSON without a field": (as_json(lambda r: r.pop("domain")), b"bad_json"),
    "JSON with a strange field": (as_json(lambda r: r.update(more=1)), b"bad_json"),
    "JSON with a wrong type": (as_json(lambda r: r.update(domain=7)), b"bad_json"),
    "JSON with a wrong time": (as_json(lambda r: r.update(ts="yesterday")), b"bad_json"),
    "JSON cut off": (lambda *_: b'{"tenant": "a', b"bad_json"),
    "JSON with a name twice": (lambda *_: b'{"tenant": "a", "tenant": "b"}', b"bad_json"),
    "JSON nested deeply": (lambda *_: b'{"tenant":' * 50_000, b"bad_json"),
    "JSON from the future": (as_json(lambda r: r.update(ts="2199-01-01T00:00:00Z")), b"ts_range"),
    "JSON of a bad tenant": (as_json(lambda r: r.update(tenant="a b")), b"bad_tenant"),
    "a tenant of 10 kB": (changed(tenant="x" * 10_240), b"bad_tenant"),
    "an empty tenant": (changed(tenant=""), b"bad_tenant"),
    "a tenant with a slash": (changed(tenant="a/b"), b"bad_tenant"),
    "a tenant like a setting's": (changed(tenant="*"), b"bad_tenant"),
    "a tenant like the position": (changed(tenant="@position"), b"bad_tenant"),
    "an empty domain": (changed(domain=""), b"bad_domain"),
    "a domain with a separator": (changed(domain="a\x1fb"), b"bad_domain"),
    "milliseconds": (changed(ts=START_MICROS // 1000), b"ts_range"),
    "a year ahead": (changed(ts=START_MICROS + 3 * YEAR_US), b"ts_range"),
    "before all time": (changed(ts=-(1 << 62)), b"ts_range"),
    "900 kB of nothing": (lambda *_: b"\7" * 900_000, b"bad_wire_format"),
    "1 MiB of text": (lambda *_: b"{" + b" " * 1_048_000, b"bad_json"),
    "an unknown setting": (control(setting="colour"), b"control_refused"),
    "a setting's bad value": (control(value="loud"), b"control_refused"),
    "a setting of a bad tenant": (control(tenant="a b"), b"control_refused"),
}
ONE: dict[str, tuple[str, Value, bytes]] = {
    "NaN error": (UPDATES, changed(error_metric=float("nan")), b"error_not_finite"),
    "infinite error": (UPDATES, changed(error_metric=float("inf")), b"error_not_finite"),
    "negative error": (UPDATES, changed(error_metric=-0.5), b"error_negative"),
    "JSON NaN": (UPDATES, as_json(lambda r: r.update(error_metric=float("nan"))), b"bad_json"),
    "a version of 900 kB": (UPDATES, changed(model_version="v" * 900_000), b"string_too_long"),
    "NaN in the vector": (
        OBSERVATIONS, changed(vector=struct.pack("<2f", 1.0, float("nan"))), b"vector_not_finite",
    ),
    "no vector": (OBSERVATIONS, changed(vector=b""), b"vector_empty"),
    "half a number": (OBSERVATIONS, changed(vector=b"12345"), b"vector_ragged"),
    "a vector of 900 kB": (OBSERVATIONS, changed(vector=bytes(900_000)), b"vector_too_long"),
}  # fmt: skip
CASES = {
    f"{SCHEMA[topic]}: {name}": (topic, value, why)
    for topic in (OBSERVATIONS, UPDATES)
    for name, (value, why) in BOTH.items()
} | {f"{SCHEMA[topic]}: {name}": (topic, value, why) for name, (topic, value, why) in ONE.items()}


@pytest.fixture(scope="module")
def posted(bed: Bed) -> dict[str, tuple[str, list[Sent]]]:
    """Every case, sent at once: tenant and bad record by name."""
    found = {}
    for name, (topic, value, _) in CASES.items():
        tenant = fresh_tenant()
        found[name] = (tenant, bed.send(topic, [(value(topic, tenant), [])], tenant))
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_bad_record_is_a_dead_letter(
    bed: Bed, posted: dict[str, tuple[str, list[Sent]]], name: str
) -> None:
    topic, _, why = CASES[name]
    tenant, sent = posted[name]
    assert bed.check(topic, sent, tenant) == [why]


def test_a_dead_letter_keeps_the_headers(bed: Bed) -> None:
    headers: Headers = [("traceparent", b"00-abc"), ("empty", b""), ("traceparent", b"\xff\0")]
    tenant = fresh_tenant()
    assert bed.surrounded(UPDATES, [(b"odd", headers)], tenant) == [b"bad_wire_format"]


@pytest.mark.parametrize("topic", [OBSERVATIONS, UPDATES])
def test_ten_thousand_bad_records_in_a_row(bed: Bed, topic: str) -> None:
    tenant = fresh_tenant()
    bad: list[Odd] = [
        (encoded(topic, tenant)[: -1 - number % 5] + b"\xff" * (number % 3), [])
        for number in range(10_000)
    ]
    assert set(bed.surrounded(topic, bad, tenant)) == {b"bad_avro"}


def test_records_that_belong_elsewhere_are_forwarded_once(bed: Bed) -> None:
    """A null key, another key or partition: each has one copy at home, and is folded there."""
    tenant = fresh_tenant()
    key, at = tenant.encode(), home(tenant, PARTITIONS)
    other = (at + 1) % PARTITIONS
    ways = [(at, None), (at, b"somebody"), (other, key), (other, None), (other, b"")]
    for topic in (OBSERVATIONS, UPDATES):
        sent = bed.sender.send(
            topic,
            [(number, name, bed.good(topic, tenant), [("mine", b"1")]) for number, name in ways],
        )
        before = 0 if topic == OBSERVATIONS else len(ways)  # frames of the observations' updates
        bed.evidence.await_outputs(topic, tenant, before + len(ways))
        for record in sent:
            (copy,) = bed.evidence.copies[record.origin]
            assert (copy.partition, copy.key, copy.value) == (at, key, record.value)
            assert copy.header("soma-hops") == b"1" and copy.header("mine") == b"1"


def test_librdkafkas_default_partitioner_loses_nothing(bed: Bed) -> None:
    """The most careless of users: CRC32 of the key decides, so three of four records are astray."""
    tenants = [fresh_tenant() for _ in range(40)]
    careless = Sender(bed.settings, partitioner="consistent_random")
    records: list[Row] = [
        (-1, tenant.encode(), bed.good(UPDATES, tenant), [])
        for _ in range(50)
        for tenant in tenants
    ]
    sent = careless.send(UPDATES, records)
    for tenant in tenants:
        bed.evidence.await_outputs(UPDATES, tenant, 50)
    astray = [r for r in sent if home((r.key or b"").decode(), PARTITIONS) != r.partition]
    assert len(astray) > 500
    assert all(len(bed.evidence.copies[record.origin]) == 1 for record in astray)
    assert sum(len(bed.evidence.copies[record.origin]) for record in sent) == len(astray)


def test_an_aborted_transaction_is_never_folded(bed: Bed) -> None:
    tenant = fresh_tenant()
    key, partition = tenant.encode(), home(tenant, PARTITIONS)
    user = Sender(bed.settings, **{"transactional.id": f"user-{tenant}"})
    user.producer.init_transactions(30)
    for commit in (True, False, True, False):
        user.producer.begin_transaction()
        user.send(UPDATES, [(partition, key, bed.good(UPDATES, tenant), []) for _ in range(5)])
        if commit:
            user.producer.commit_transaction(30)
        else:
            user.producer.abort_transaction(30)
    bed.sender.send(UPDATES, [(partition, key, bed.good(UPDATES, tenant), [])])
    bed.evidence.await_outputs(UPDATES, tenant, 11)
    assert bed.worker.alive


def test_good_json_is_folded_like_avro(bed: Bed) -> None:
    tenant = fresh_tenant()
    key, partition = tenant.encode(), home(tenant, PARTITIONS)
    sent: list[Sent] = []
    for topic, before in ((OBSERVATIONS, 0), (UPDATES, 1)):
        value = as_json(lambda record: record)(topic, tenant)
        sent += bed.sender.send(topic, [(partition, key, value, [])])
        bed.evidence.await_outputs(topic, tenant, before + 1)
    assert not [letter for letter in sent if letter.origin in bed.evidence.letters]
