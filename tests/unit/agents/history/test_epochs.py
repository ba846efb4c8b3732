"""Which records were folded in which epoch, also where a topic was made anew."""

import pytest

from agents.history.epochs import Epoch, of_topic, stretches
from agents.history.errors import HistoryError


def epoch(number: int, begin: int, topic_id: str = "") -> Epoch:
    return {"number": number, "from_offset": begin, "topic_id": topic_id}


def spans(epochs: list[Epoch], begin: int, number: int, end: int) -> list[tuple[int, int, int]]:
    return [(s.epoch["number"], s.begin, s.end) for s in stretches(epochs, begin, number, end)]


THREE = [epoch(1, 5), epoch(2, 100), epoch(3, 100), epoch(4, 250)]


def test_each_stretch_ends_where_the_next_epoch_begins() -> None:
    whole = [(1, 5, 100), (2, 100, 100), (3, 100, 250), (4, 250, 300)]
    assert spans(THREE, 5, 1, 300) == whole
    assert spans(THREE, 120, 3, 250) == [(3, 120, 250)]
    assert spans(THREE, 120, 3, 251) == [(3, 120, 250), (4, 250, 251)]
    assert spans(THREE, 5, 1, 60) == [(1, 5, 60)]
    assert spans(THREE, 400, 4, 400) == [(4, 400, 400)]


def test_an_epoch_that_isnt_logged_is_named() -> None:
    with pytest.raises(HistoryError, match=r"epoch 5 isn't in the epochs log \(there: 1 to 4\)"):
        stretches(THREE, 0, 5, 10)
    with pytest.raises(HistoryError, match="there: none"):
        stretches([], 0, 1, 10)


def test_epochs_of_a_topic_before_dont_count() -> None:
    old, new = "a" * 32, "b" * 32
    mixed = [epoch(1, 0, old), epoch(2, 900, old), epoch(3, 0, new), epoch(4, 50, new)]
    assert of_topic(mixed, new) == mixed[2:]
    assert of_topic(mixed, old) == []
    unsaid = [epoch(1, 0), epoch(2, 900), epoch(3, 20), epoch(4, 50, new)]
    assert of_topic(unsaid, new) == unsaid[2:], "offsets that fall tell"
    assert of_topic(THREE, new) == THREE
