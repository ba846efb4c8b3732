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
    fold, state = HERE / "test_fold.py", HERE / "test_state.py"
    tests = [
        str(HERE / "test_rule.py"),
        f"{fold}::test_frames_are_what_the_plain_law_says",
        f"{fold}::test_a_17th_domain_takes_the_stalest_stale_slot_or_none",
        f"{state}::test_rows_come_back_to_the_bit",
        f"{HERE / 'test_drift.py'}::test_settings_of_the_first_frame_are_the_first_baseline",
        f"{HERE / 'test_veto.py'}::test_an_answer_acts_at_its_place_and_the_next_frame_shows_it",
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
