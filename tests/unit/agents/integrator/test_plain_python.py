"""The kernels as plain Python, and with bounds checked: in processes of their own.

A kernel that was cached without bounds checks would be loaded without them: hence caches apart.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[3]


def run(tmp_path: Path, *tests: str, **env: str) -> None:
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | cache | env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_law_runs_as_plain_python(tmp_path: Path) -> None:
    fold = str(HERE / "test_fold.py")
    run(
        tmp_path,
        str(HERE / "test_rule.py"),
        f"{fold}::test_frames_are_what_the_plain_law_says",
        f"{fold}::test_a_17th_domain_takes_the_stalest_stale_slot_or_none",
        str(HERE / "test_state.py") + "::test_rows_come_back_to_the_bit",
        NUMBA_DISABLE_JIT="1",
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_kernel_leaves_its_arrays(tmp_path: Path) -> None:
    run(
        tmp_path,
        str(HERE / "test_fold.py"),
        str(HERE / "test_state.py"),
        NUMBA_BOUNDSCHECK="1",
    )
