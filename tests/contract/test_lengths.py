"""How long each live file takes is noted: the longest begin first, and two processes end together.

A file that wasn't noted came last of all, however long it was.
"""

from pathlib import Path

from tests.conftest import length_of, lengths

ROOT = Path(__file__).parents[2]


def test_every_live_file_is_noted_and_none_that_is_gone() -> None:
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "tests/live").rglob("test_*.py")}
    assert set(lengths()) == there


def test_one_that_is_not_noted_is_taken_for_one_in_the_middle() -> None:
    noted = {"a": 1.0, "b": 40.0, "c": 9.0}
    assert (length_of("b", noted), length_of("new", noted)) == (40.0, 9.0)
