"""Batch sizes and rests, whatever fails."""

from hypothesis import given
from hypothesis import strategies as st

from agents.recall.pace import AGAIN_S, LONGEST_S, Pace, rest_after


@given(st.integers(1, 300), st.lists(st.tuples(st.booleans(), st.floats(0, 1)), max_size=60))
def test_sizes_stay_between_one_and_the_most(most: int, steps: list[tuple[bool, float]]) -> None:
    pace = Pace(most)
    for well, part in steps:
        before, asked = pace.size, max(1, round(part * pace.size))  # fewer may wait
        (pace.well if well else pace.failed)(asked)
        assert 1 <= pace.size <= most
        if well:
            assert pace.size == min(most, before + (asked == before))
        else:
            assert pace.size == (before if asked == 1 else asked // 2)


@given(st.integers(1, 300), st.integers(1, 300))
def test_it_finds_what_a_server_bears_and_asks_in_vain_but_seldom(most: int, bears: int) -> None:
    pace, failed, rounds = Pace(most), 0, 400
    for _ in range(rounds):
        if pace.size > bears:
            failed += 1
            pace.failed(pace.size)
        else:
            pace.well(pace.size)
    cycle = bears + 1 - (bears + 1) // 2  # successes between two failures, at least
    assert failed <= most.bit_length() + rounds / cycle
    assert pace.size <= bears + 1 and (most > bears or pace.size == most)


@given(st.integers(1, 300))
def test_a_row_of_failures_leads_to_one_and_of_successes_back(most: int) -> None:
    pace = Pace(most)
    for _ in range(most.bit_length()):
        pace.failed(pace.size)
    assert pace.size == 1
    for _ in range(most):
        pace.well(pace.size)
    assert pace.size == most


def test_rests_are_doubled_up_to_a_limit() -> None:
    rests = [rest_after(0.0)]
    while rests[-1] < LONGEST_S:
        rests.append(rest_after(rests[-1]))
    assert rests[:4] == [AGAIN_S, 2 * AGAIN_S, 4 * AGAIN_S, 8 * AGAIN_S]
    assert rest_after(LONGEST_S) == LONGEST_S
