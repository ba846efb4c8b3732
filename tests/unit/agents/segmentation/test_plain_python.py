"""The kernels as plain Python: numba reads its switch once, so in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[3]


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
    hashing_wraps = "ignore:overflow encountered in scalar multiply:RuntimeWarning"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-W", hashing_wraps, *tests],
        cwd=ROOT,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
