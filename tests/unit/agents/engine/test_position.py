"""Where a partition is read on: every way a log and a state can stand to each other."""

import logging
from typing import Any

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from agents.engine.errors import RecordsGone, StateLost, Stopped, UnknownVersion
from agents.engine.position import Input, Position, Recovered, read_position, recreated, start_at
from topics import codec

TP0 = TP("cog.observations", 0)
OURS, OTHER = "0123abcd" * 4, "fedc9876" * 4
EPOCH: dict[str, Any] = {"number": 3}
offsets = st.integers(0, 2**62)


def start(
    low: int, high: int, position: Position | None, topic_id: str = OURS, epoch: Any = EPOCH
) -> Position:
    return start_at(TP0, Input(topic_id, low, high), Recovered(position, epoch, 0, 0.0))


def at(next_offset: int, seen: int | None = None) -> Position:
    return Position(next_offset, next_offset if seen is None else seen, OURS, 3)


@pytest.mark.parametrize("low", [0, 500])
def test_a_first_start_begins_where_the_log_begins(low: int) -> None:
    assert start(low, 900, None, epoch=None) == Position(low, low, OURS, 0)


def test_a_state_that_is_gone_is_never_started_over() -> None:
    with pytest.raises(StateLost, match=r"cog\.observations/0: the epochs log says"):
        start(0, 900, None)


def test_the_position_is_where_it_was() -> None:
    assert start(0, 900, at(100, 120)) == at(100, 120)
    assert start(100, 100, at(100)) == at(100)


def test_a_state_topic_that_was_made_anew_has_lost_the_rows_before() -> None:
    def found(state_id: str, topic_id: str = OURS) -> Position:
        known = Position(100, 100, OURS, 3, "a" * 32)
        recovered = Recovered(known, EPOCH, 0, 0.0)
        return start_at(TP0, Input(topic_id, 0, 900, state_id), recovered)

    assert found("a" * 32) == Position(100, 100, OURS, 3, "a" * 32)
    with pytest.raises(StateLost, match="its state topic was deleted and made anew"):
        found("b" * 32)
    # With another source too, all of Kafka is another: its rows are believed.
    assert found("b" * 32, OTHER) == Position(0, 0, OTHER, 3, "b" * 32)
    # Of versions before nobody knows.
    recovered = Recovered(at(100), EPOCH, 0, 0.0)
    assert start_at(TP0, Input(OURS, 0, 900, "b" * 32), recovered).state_id == "b" * 32


def test_a_topic_with_another_id_was_made_anew_and_one_that_isnt_there_wasnt() -> None:
    known = {"a": OURS, "b": OURS}
    assert recreated(known, {"a": OURS, "b": OTHER}) == "b"
    assert recreated(known, {"a": OURS}) == recreated({}, known) == ""


def test_a_recreated_topic_is_read_from_its_beginning_with_the_state_as_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert start(7, 900, at(500), OTHER) == Position(7, 7, OTHER, 3)
        assert start(0, 3, at(500), OTHER) == Position(0, 0, OTHER, 3)
    assert "cog.observations/0 was recreated" in caplog.text


def test_records_that_were_deleted_unread_are_named() -> None:
    with pytest.raises(RecordsGone, match="offsets 120 to 149 were deleted"):
        start(150, 900, at(100, 120))
    with pytest.raises(RecordsGone, match="offsets 100 to 100 were deleted"):
        start(101, 900, at(100))


def test_a_log_that_expired_after_it_was_read_is_no_loss() -> None:
    assert start(100, 900, at(100)) == at(100)
    assert start(110, 900, at(100, 120)) == at(110, 120)  # only markers between 100 and 120
    assert start(120, 120, at(100, 120)) == at(120)


def test_a_log_that_ends_before_the_position_lost_records() -> None:
    with pytest.raises(RecordsGone, match="the log ends at 99, before the position 100"):
        start(0, 99, at(100))
    with pytest.raises(RecordsGone):
        start(0, 0, at(100))


@given(low=offsets, more=offsets, next_offset=offsets, markers=st.integers(0, 10))
def test_nothing_unread_is_ever_skipped(
    low: int, more: int, next_offset: int, markers: int
) -> None:
    position = at(next_offset, next_offset + markers)
    try:
        found = start(low, low + more, position)
    except RecordsGone:
        assert low > position.seen or low + more < next_offset
        return
    assert low <= found.next_offset <= max(low + more, next_offset)
    assert next_offset <= found.next_offset <= position.seen
    assert found.topic_id == OURS and found.epoch == 3


@given(position=st.builds(Position, offsets, offsets, st.text("0123456789abcdef"), offsets))
def test_the_row_keeps_it(position: Position) -> None:
    assert read_position(position.encode(), "soma.x.state") == position


def test_a_row_that_another_version_wrote_stops_the_partition() -> None:
    row = {"next_offset": 1, "seen": 1, "topic_id": OURS, "epoch": 1, "version": 2}
    for value in (codec.encode("position", row), b"", None, b"\0junk", at(5).encode()[:-1]):
        with pytest.raises(UnknownVersion, match=r"soma\.x\.state: the position row"):
            read_position(value, "soma.x.state")
    tick = codec.encode("control_tick", {"ts": 1})
    with pytest.raises(UnknownVersion, match="'control_tick'"):
        read_position(tick, "soma.x.state")


def test_every_named_error_has_a_name_of_its_own_for_metrics() -> None:
    kinds = Stopped.__subclasses__()
    assert len({kind.name for kind in kinds} | {Stopped.name}) == len(kinds) + 1
