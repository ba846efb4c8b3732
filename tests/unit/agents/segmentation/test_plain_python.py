"""The kernels as plain Python: numba reads its switch once, so in a process of their own."""

from pathlib import Path

import pytest

from tests.plain_python import pass_as_plain_python

HERE = Path(__file__).parent


@pytest.mark.plain
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_law_runs_as_plain_python() -> None:
    tests = [
        str(HERE / "test_laws.py"),
        f"{HERE / 'test_papers.py'}",
        f"{HERE / 'test_fold.py'}::test_a_change_closes_the_segment_where_it_was",
        f"{HERE / 'test_fold.py'}::test_a_new_leader_closes_the_old_ones_segment",
        f"{HERE / 'test_series.py'}::test_threshold_gradient_gap_dwell_and_warm_up",
    ]
    pass_as_plain_python(tests)
