"""JSON among the rows of a batch: what the kernels encode, what the codec does, what is refused."""

import json
import struct

import pytest
from aiokafka.record.default_records import DefaultRecordBatch

from agents.outbox.batch import Preparer
from agents.outbox.kernels import JSONB
from agents.outbox.warm import copy_of
from topics import codec

pytestmark = pytest.mark.kernel

TOPIC = "cog.observations"
PLAIN = {"tenant": "t", "domain": "state", "ts": "2026-01-31T12:00:00Z", "vector": [1, 0.1]}


def batch_of(payloads: list[bytes]) -> bytes:
    """A COPY of JSON rows of tenant t, each of a key of its own; the id is the place."""
    ids = [struct.pack(">q", k) for k in range(len(payloads))]
    rows = [
        (i, TOPIC.encode(), b"t", i, i, bytes(8), None, payload, None)
        for i, payload in zip(ids, payloads, strict=True)
    ]
    return copy_of(rows)  # type: ignore[arg-type]


def text(**given: object) -> bytes:
    return bytes([JSONB]) + json.dumps(PLAIN | given).encode()


def test_what_kernels_leave_is_encoded_or_refused_by_the_codec() -> None:
    rare = text(vector=[10**300, 1], sequence=-(2**63)).replace(b"e+300", b"0" * 300)
    payloads = [
        text(), text(tenant="other"), text(sequence=-(2**63)), text(domain=1), text(domain="é"),
        bytes([JSONB + 1]) + text()[1:], text(ts="2026-01-31"), rare, text(sequence=7),
    ]  # fmt: skip
    done = Preparer({TOPIC: 1}, "", "/x").prepare(batch_of(payloads), len(payloads))
    assert done.sent == [0, 2, 4, 8]
    [(topic, partition, builder)] = done.sends
    assert (topic, partition) == (TOPIC, 0)
    found = [record.value for record in DefaultRecordBatch(bytearray(builder._build()))]
    want = [codec.from_json("observation", payloads[k][1:]) for k in done.sent]
    assert found == [codec.encode("observation", record) for record in want]
    assert {k: (why.error, why.final) for k, why in done.refused.items()} == {
        1: ("bad_tenant: the payload's tenant isn't the row's", True),
        3: ("bad_json: domain: 1 is no text", True),
        5: ("bad_json: a jsonb of an unknown version", True),
        6: ("bad_json: ts: \"2026-01-31\" has no time zone: end it with Z for UTC", True),
        7: ("bad_json: vector: [0]: out of range for a float", True),
    }  # fmt: skip


def test_a_vector_of_many_numbers_has_room() -> None:
    """A byte of text becomes four of Avro, in a batch whose other rows are small."""
    many = text(vector=[1] * 30_000)
    done = Preparer({TOPIC: 1}, "", "/x").prepare(batch_of([text(), many, text()]), 3)
    assert done.sent == [0, 1, 2]
    batches = [DefaultRecordBatch(bytearray(builder._build())) for _, _, builder in done.sends]
    values = [record.value for batch in batches for record in batch]
    assert values[1] == codec.encode("observation", codec.from_json("observation", many[1:]))
    assert values[0] == values[2]
