"""The laws as plain Python: numba reads its switch once, so in a process of their own."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

REPO = Path(__file__).parents[1]
HASHING_WRAPS = "ignore:overflow encountered in scalar multiply:RuntimeWarning"


def pass_as_plain_python(tests: Iterable[str]) -> None:
    """Run these tests (pytest's names of them) without compiling; all must pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-W", HASHING_WRAPS, *tests],
        cwd=REPO,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
