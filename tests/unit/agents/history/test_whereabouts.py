"""Which records caused an output: by the ids in its texts."""

import pytest

from agents.history.errors import HistoryError
from agents.history.whereabouts import Output, causes_in, chosen, last_cause
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


def output(ms: int, *causes: int, named: bool = True) -> Output:
    return Output(f"o/0/{ms}", ms, list(causes), named)


def test_the_last_cause_is_told_by_outputs_that_name_it_in_whatever_order_they_come() -> None:
    found = [output(5, 7), output(9, 4), output(6, 3, 8), output(8)]
    assert last_cause(found, 0, 100) == last_cause(reversed(found), 0, 100) == (8, None)
    assert last_cause(found, 0, 8) == (7, None)  # 8 was never in this log
    assert last_cause([], 0, 100) == (-1, None)


@pytest.mark.parametrize("order", [1, -1])
def test_an_output_that_names_no_cause_leaves_open_how_far_it_was_folded(order: int) -> None:
    """As a timer's, which fired behind the last record that is known."""
    silent = output(9, named=False)
    assert last_cause([output(5, 7), silent][::order], 0, 100) == (7, silent)
    assert last_cause([output(5, 7), silent, output(9, 7)][::order], 0, 100) == (7, None)
    assert last_cause([output(5, 7), silent, output(12, 8)][::order], 0, 100) == (8, None)
    # The group's offset, or a snapshot, says that all was folded that came before 10.
    assert last_cause([output(5, 7), silent][::order], 10, 100) == (7, None)
    assert last_cause([silent][::order], 9, 100) == (-1, silent)


SILENT = output(9, named=False)


@pytest.mark.parametrize(
    ("silent", "said", "wanted"),
    [
        (None, None, 40), (SILENT, 40, 40), (SILENT, 55, 55), (SILENT, 90, 90),
        (None, 40, "all before offset 40 is folded, so its outputs tell"),
        (SILENT, None, "o/0/9 doesn't name its cause"),
        (SILENT, None, "`--folded-to 3:OFFSET`, before which all was folded, 40 to 90"),
        (SILENT, 39, "it isn't folded to offset 39: all before 40 is, and the log ends at 90"),
        (SILENT, 91, "it isn't folded to offset 91: "),
    ],
)  # fmt: skip
def test_what_is_said_is_taken_where_nothing_tells_and_it_can_be(
    silent: Output | None, said: int | None, wanted: int | str
) -> None:
    if isinstance(wanted, int):
        assert chosen("here", 3, (40, 90), silent, said) == wanted
        return
    with pytest.raises(HistoryError) as error:
        chosen("here", 3, (40, 90), silent, said)
    assert str(error.value).startswith("here: ") and wanted in str(error.value)
