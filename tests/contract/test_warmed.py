"""What a worker compiles before it is ready is all that a partition will ever call.

A kernel that is compiled when its first record comes, or when a state is loaded after a restart,
holds its partition up for seconds, on each machine once.
"""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agents.engine.registry import processors
from topics import compiled

LIMIT_S = 540
# What runs kernels from its first record on: folds of the past, the law over a file, the relay's.
RUN_KERNELS = ("agents/history/refold", "agents/segmentation/series", "agents/outbox/kernels")
DONT_COMPILE_AHEAD = {
    "doctor": "runs two small ones, and is for those in a hurry",
    "outbox": "its reconcile does, in a module of its own",
    "api": "GET /explain is a 503 until they are",
    "recall": "is the API",
    "mcp": "asks the API",
}


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


def test_every_verb_that_runs_kernels_compiles_them_ahead() -> None:
    """Else its first record does, in one process alone, for minutes and without a word."""
    kernels = {(compiled.ROOT / name).with_suffix(".py") for name in RUN_KERNELS}
    assert all(path.is_file() for path in kernels)
    verbs = (compiled.ROOT / "agents/commands").glob("*.py")
    run = {path for path in verbs if kernels & set(compiled.sources(path))}
    silent = {path.stem for path in run if "    compile_ahead(" not in path.read_text()}
    assert silent == set(DONT_COMPILE_AHEAD)
    assert {"segment", "digest", "outbox_reconcile", "relay"} <= {path.stem for path in run}


def test_without_compiled_kernels_the_first_word_says_so(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "agents.cli", "segment", "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, env=os.environ | {"SOMA_KERNELS_DIR": str(tmp_path)}, cwd=compiled.ROOT,
        stdin=pipe, stdout=pipe, stderr=pipe, text=True,
    ) as process:  # fmt: skip
        watch = threading.Timer(LIMIT_S, process.kill)
        watch.start()
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write("1\n2\n3\n" * 40)
        process.stdin.flush()
        said = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        _, last = process.communicate()
        watch.cancel()
    expected = "compiling the kernels of segmentation: the first start after an update does\n"
    assert (said, process.returncode, last) == (expected, 128 + signal.SIGTERM, "Aborted!\n")
