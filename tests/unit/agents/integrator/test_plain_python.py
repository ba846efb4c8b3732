"""The kernels as plain Python: numba reads its switch once, so in a process of their own."""

from pathlib import Path

import pytest

from tests.plain_python import pass_as_plain_python

HERE = Path(__file__).parent


@pytest.mark.plain
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_law_runs_as_plain_python() -> None:
    fold, state = HERE / "test_fold.py", HERE / "test_state.py"
    tests = [
        str(HERE / "test_rule.py"),
        f"{fold}::test_frames_are_what_the_plain_law_says",
        f"{fold}::test_a_17th_domain_takes_the_stalest_stale_slot_or_none",
        f"{state}::test_rows_come_back_to_the_bit",
        f"{HERE / 'test_drift.py'}::test_settings_of_the_first_frame_are_the_first_baseline",
        f"{HERE / 'test_veto.py'}::test_an_answer_acts_at_its_place_and_the_next_frame_shows_it",
    ]
    pass_as_plain_python(tests)
