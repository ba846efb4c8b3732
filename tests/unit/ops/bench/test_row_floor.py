"""What of a record's cost is the law's, and how it is told."""

from ops.bench.row_floor import Floor, floor, note


def test_law_and_engine_are_measured_without_a_broker() -> None:
    assert min(floor(16, events=3000, turns=1)) > 0


def test_the_note_says_all_three() -> None:
    said = note(Floor(0.7, 1.5, 3.254))
    assert "law alone on ready records 0.70," in said
    assert "does nothing 1.50, with the law 3.25" in said
