"""Workers that begin by a fork of a process that has imported what they import.

A worker's imports take 3 s of CPU, and the suite starts some hundreds of them: that was a fifth of
its time. What a worker does begins after them, as it always does: the forked process takes the
environment, the folder and the log that it is given, and runs the command line. How a worker begins
as a user begins it is shown by those that are given more than settings, which begin so here too,
and by what `soma demo` and the proofs start.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Protocol

from agents.cli import main

# Read while our modules are imported.
AT_IMPORT = ("SOMA_PLUGINS", "SOMA_KERNELS_DIR", "SOMA_SCHEMA_REGISTRY_")
LOADED = "tests.live.loaded"


class Started(Protocol):
    """A process, as `subprocess` has it."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float) -> int: ...

    def send_signal(self, sig: int) -> None: ...


class Forked:
    """One forked process, with the names that `subprocess.Popen` gives what one asks of it."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Its exit status. subprocess.TimeoutExpired if it still runs after `timeout` s."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(f"the forked process {self.pid}", timeout)
        return self._process.exitcode

    def send_signal(self, sig: int) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, sig)


def run(words: list[str], env: dict[str, str], folder: str, log: str) -> None:
    """In the forked process: be `soma …`, as `subprocess` would have started it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    for name, flags, into in (
        (os.devnull, os.O_RDONLY, (0,)),
        (log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, (1, 2)),
    ):
        opened = os.open(name, flags, 0o644)
        for one in into:
            os.dup2(opened, one)
        os.close(opened)
    sys.argv = ["soma", *words]
    main()


def late(name: str) -> bool:
    """Whether a variable of the environment is read only after all is imported."""
    return name.startswith("SOMA_") and not name.startswith(AT_IMPORT)


def forked(words: list[str], env: Mapping[str, str], folder: Path, log: Path) -> Started:
    """`soma` with these words in a process of its own, output to `log`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([LOADED])
    return Forked(context.Process(target=run, args=(words, dict(env), str(folder), str(log))))


def begun(words: list[str], env: Mapping[str, str], folder: Path, log: Path) -> Started:
    """The same, as a user begins it."""
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "agents.cli", *words],
            env=dict(env),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
