"""The law as plain Python."""

from pathlib import Path

import pytest

from tests.plain_python import pass_as_plain_python

HERE = Path(__file__).parent


@pytest.mark.plain
@pytest.mark.timeout(330)
def test_the_law_runs_as_plain_python() -> None:
    tests = [
        f"{HERE}/test_rule.py",
        f"{HERE}/test_calibration.py",
        f"{HERE}/test_fold.py::test_state_survives_a_round_trip_at_any_point",
        f"{HERE}/test_fold.py::test_a_row_of_law_1_is_read",
    ]
    pass_as_plain_python(tests)
