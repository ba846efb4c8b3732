"""Which records caused an output: by the ids in its texts."""

import pytest

from agents.history.whereabouts import causes_in
from topics import codec

PREFIX = b"1a2b3c4d-0-"


@pytest.mark.parametrize("ts", range(24, 29))  # what follows the id on the wire: the digits 0 to 8
def test_an_id_ends_where_its_text_does(ts: int) -> None:
    record = {
        "tenant": "t", "domain": "d", "predictor_type": "heat", "error_metric": 0.0,
        "prediction_latency_ms": 0.0, "model_version": "1", "vector_dim": 1, "confidence": 0.0,
        "observation_id": "1a2b3c4d-0-123", "ts": ts,
    }  # fmt: skip
    value = codec.encode("predictor_update", record)
    assert value.endswith(b"1a2b3c4d-0-123" + str(2 * (ts - 24)).encode())
    assert causes_in(value, PREFIX) == [123]
    assert causes_in(value, b"1a2b3c4d-1-") == causes_in(value, b"9a2b3c4d-0-") == []


def test_ids_within_texts_count_and_what_cant_be_read_doesnt() -> None:
    tick = codec.encode("skip", {
        "processor": "p", "partition": 0, "topic_id": "", "offset": 0, "ts": 0,
        "author": "1a2b3c4d-0-7:state:cpd", "reason": "after 1a2b3c4d-0-9",
    })  # fmt: skip
    assert causes_in(tick, PREFIX) == [7, 9]
    for junk in (b'{"id": "1a2b3c4d-0-7"}', b"junk 1a2b3c4d-0-7", b""):
        assert causes_in(junk, PREFIX) == []
