"""The client's bytes are the pipeline's: Avro as topics/codec has it, ρ's as agents/rho."""

import math
from array import array
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agents.rho import envelope
from soma_client import BadAnswer, CantSend, rho
from soma_client.avro import schemas
from tests.unit.topics.strategies import records
from topics import codec
from topics.catalogue import CATALOGUE
from topics.codec import BadRecord, from_json, to_json

TOPICS = {name: CATALOGUE[name].schema or "" for name in schemas()}
OBSERVATION = {"tenant": "a", "domain": "cpu", "ts": "2026-01-31T12:00:00Z", "vector": [1, 2.5]}
CASES = st.sampled_from(sorted(TOPICS)).flatmap(lambda one: st.tuples(st.just(one), _shown(one)))


def _shown(topic: str) -> st.SearchStrategy[dict[str, Any]]:
    return records(TOPICS[topic]).map(lambda record: to_json(TOPICS[topic], record))


@given(CASES)
def test_values_are_those_of_the_codec(case: tuple[str, dict[str, Any]]) -> None:
    topic, shown = case
    assert schemas()[topic].encode(shown) == codec.encode(
        TOPICS[topic], from_json(TOPICS[topic], shown)
    )


def test_defaults_times_and_arrays_are_taken() -> None:
    known = schemas()["cog.observations"]
    value = known.encode(OBSERVATION)
    assert codec.decode(value)[1]["sequence"] is None
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    micros = int(moment.timestamp()) * 1_000_000
    for ts in (moment, micros, "2026-01-31T13:00:00+01:00"):
        assert known.encode(OBSERVATION | {"ts": ts}) == value
    for vector in (np.array([1, 2.5], np.float32), array("d", [1, 2.5]), (1, 2.5)):
        assert known.encode(OBSERVATION | {"vector": vector}) == value
    memory = schemas()["memory.events"].encode(
        {"event_id": "e", "id": "i", "tenant": "a", "type": "created", "ts": 1, "coordinate": "c"}
    )
    assert codec.decode(memory)[1]["embedding"] == b""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vector": [1, "two"]}, "vector"), ({"vector": [math.nan]}, "finite"),
        ({"vector": [1e39]}, "out of range"), ({"vector": "12"}, "no list"),
        ({"ts": "2026-01-31T12:00:00"}, "time zone"), ({"ts": "soon"}, "ISO 8601"),
        ({"ts": True}, "whole number"), ({"ts": 1.5}, "no time"), ({"ts": 2**63}, "out of range"),
        ({"sequence": True}, "whole number"), ({"domain": 3}, "no text"),
        ({"domain": "\ud800"}, "surrogate"), ({"other": 1}, "other: no such field"),
    ],
)  # fmt: skip
def test_what_the_codec_refuses_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(CantSend, match=said):
        schemas()["cog.observations"].encode(OBSERVATION | change)
    with pytest.raises(BadRecord):
        codec.encode("observation", from_json("observation", OBSERVATION | change))


def test_all_that_is_wrong_is_named() -> None:
    with pytest.raises(CantSend, match=r"domain: missing; ts: .*vector: missing; x: no such field"):
        schemas()["cog.observations"].encode({"tenant": "a", "x": 1})


MATRICES = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats()
)


@given(MATRICES, st.integers(0, 2**53 - 1))
def test_envelopes_are_those_of_the_pipeline(matrix: Any, version: int) -> None:
    data = envelope.pack(matrix, version)
    assert rho.pack(matrix, version) == rho.pack(matrix.tolist(), version) == data
    assert rho.pack(np.asfortranarray(matrix), version) == data
    back = rho.unpack(data)
    assert (back.version, back.rows, back.columns) == (version, *matrix.shape)
    assert np.asarray(back.view).tobytes() == np.array(back.lists()).tobytes() == matrix.tobytes()


def test_what_is_no_matrix_or_no_envelope_is_refused() -> None:
    odd: tuple[Any, ...] = (
        [[1.0], [1.0, 2.0]], [], [1.0], [["x"]], [[10**400]], np.eye(2, dtype=np.float32),
        np.zeros(3), np.zeros((1, 1, 1)), b"bytes",
    )  # fmt: skip
    for one in odd:
        with pytest.raises(CantSend):
            rho.pack(one)
    data = envelope.pack(np.eye(2) / 2, 3)
    for k in range(len(data)):
        broken = data[:k] + bytes([data[k] ^ 1]) + data[k + 1 :]
        for bad in (broken, data[:k], data + b"\0"):
            with pytest.raises(BadAnswer):
                rho.unpack(bad)
