"""What a worker compiles before it is ready is all that a partition will ever call.

A kernel that is compiled when its first record comes, or when a state is loaded after a restart,
holds its partition up for seconds, on each machine once.
"""

import subprocess
import sys

import pytest

from agents.engine.registry import processors
from topics import compiled

LIMIT_S = 540


@pytest.mark.kernel
@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("name", [name for name, one in processors().items() if one.in_loop])
def test_nothing_is_compiled_once_a_worker_is_ready(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.contract.warmed", name],
        cwd=compiled.ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert int(done.stderr.split()[0]) > 20
