"""Compile kernels in as many processes as there are cores, and say how far that is.

A first start compiles everything, which takes one process a minute or more; those that start
meanwhile would do it again. `soma warm` does it ahead, as when an image is built; a worker does it
for its own processors, and then loads what lies in the cache. `python -m agents.engine.compiling
NAME` is one such process: a line for each kernel that it has, then one for each that it compiled.
"""

import importlib
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from importlib.util import find_spec
from pathlib import Path

from llvmlite import binding
from numba.core import event
from numba.core.registry import CPUDispatcher

from agents.engine.registry import (
    modules,
    packages_with,
    processor_names,
    processors,
    service_names,
)
from topics import compiled

LONGEST_FIRST = ("integrator", "segmentation", "predictors")  # so that no core idles at the end
KNOWN, MADE = "known", "made"
LIMIT_S = 1800.0  # of one process; far beyond what a loaded machine takes

Told = Callable[[int, int], None]  # kernels done, kernels in all


def misplaced() -> str:
    """Why the kernels aren't kept where they were asked to be, if they aren't; else empty.

    A folder that can only be read is well: a copy of it is used (topics/compiled.py).
    """
    place = compiled.config.CACHE_DIR
    name = next((one for one in (compiled.FOLDER, "NUMBA_CACHE_DIR") if os.environ.get(one)), None)
    if name is None or (folder := Path(os.environ[name])) == Path(place):
        return "" if place else f"kernels can be kept nowhere: set {compiled.FOLDER}"
    if not folder.is_absolute():
        return f"{name}: give a whole path, not {folder}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        return f"{name}: {folder} can't be made: {error.strerror}"
    if found.st_uid in (0, os.geteuid()) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return ""
    return f"{name}: others can write {folder}, and what lies there is run"


class CompilingError(Exception):
    """A process that compiles kernels failed or took too long; the text has its last lines."""


def units(chosen: Iterable[str] = ()) -> list[str]:
    """Which packages have kernels, of those chosen or of all; the longest to compile first."""
    beside = [name for name in packages_with("warm") if name in service_names()]
    known = [
        *LONGEST_FIRST,
        *(name for name in processor_names() if name not in LONGEST_FIRST),
        *beside,
    ]
    wanted = tuple(chosen)
    return [name for name in known if not wanted or name in wanted]


def cores() -> int:
    """How many processes can run at once here."""
    return len(os.sched_getaffinity(0))


def _stamp(unit: str) -> Path | None:
    """The file that says a package's kernels were compiled, for these sources and this CPU."""
    folder = compiled.config.CACHE_DIR
    if not folder:
        return None
    root = compiled.ROOT / "agents"
    spec = find_spec(modules().get(unit, f"agents.{unit}.warm"))
    assert spec is not None and spec.origin is not None, unit
    firsts = [Path(spec.origin), root / "engine" / "warm.py", root / unit / "warm.py"]
    files = {file for one in firsts if one.exists() for file in compiled.sources(one)}
    cpu = compiled.config.CPU_NAME or binding.get_host_cpu_name()
    return Path(folder) / f"compiled.{unit}-{compiled.digest(sorted(files))}-{cpu}"


def missing(chosen: Sequence[str]) -> list[str]:
    """Those of the chosen whose kernels nobody has compiled here yet."""
    lacking = []
    for unit in chosen:
        stamp = _stamp(unit)
        if stamp is None or not stamp.exists():
            lacking.append(unit)
        else:
            os.utime(stamp)
    return lacking


class Compiling:
    """Kernels of some packages, compiled by processes of their own from now on: then `wait`."""

    def __init__(self, chosen: Sequence[str], jobs: int = 0) -> None:
        self._pool = ThreadPoolExecutor(max(1, jobs or cores()))
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._made: set[str] = set()
        self._processes: list[subprocess.Popen[str]] = []
        self._ended = False
        self._runs = [self._pool.submit(self._compile, unit) for unit in chosen]
        self._begun = time.monotonic()

    @property
    def progress(self) -> tuple[int, int]:
        """Kernels compiled so far, and kernels in all as far as known."""
        with self._lock:
            return len(self._made), len(self._known)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._begun

    def wait(self, told: Told, every_s: float) -> None:
        """Until all are there. Raises CompilingError; what still runs then is ended."""

        def tell() -> None:
            done, known = self.progress
            if known:  # nothing is, before the first process has said what it has
                told(done, known)

        try:
            while wait(self._runs, every_s).not_done:
                tell()
            for run in self._runs:
                run.result(0)
            tell()
        finally:
            self.close()

    def close(self) -> None:
        """End what still runs."""
        with self._lock:
            self._ended = True
            for process in self._processes:
                if process.poll() is None:
                    process.kill()
        self._pool.shutdown(cancel_futures=True)

    def _compile(self, unit: str) -> None:
        """Run one process to its end."""
        with self._lock:
            if self._ended:
                return
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, unit],
                cwd=compiled.ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,  # Ctrl-C is for us: we end it
            )
            self._processes.append(process)
        watch = threading.Timer(LIMIT_S, process.kill)
        watch.daemon = True
        watch.start()
        last: list[str] = []
        try:
            with process:
                for line in process.stdout or ():
                    self._hear(line, last)
        finally:
            watch.cancel()
        if process.returncode and not self._ended:
            said = "".join(last[-15:])
            raise CompilingError(f"compiling the kernels of {unit} ended with {said}")

    def _hear(self, line: str, last: list[str]) -> None:
        kind, _, name = line.rstrip().partition(" ")
        with self._lock:
            if kind == KNOWN:
                self._known.add(name)
            elif kind == MADE:
                self._made.add(name)
            else:
                last.append(line)


class _Teller(event.Listener):
    """Prints each kernel of ours when it is compiled."""

    def on_start(self, event: event.Event) -> None:
        """Nothing: what has begun isn't done."""

    def on_end(self, event: event.Event) -> None:
        name = _name(event.data["dispatcher"])
        if name.startswith(compiled.PACKAGES):
            print(MADE, name, flush=True)


def _name(kernel: CPUDispatcher) -> str:
    return f"{kernel.py_func.__module__}.{kernel.py_func.__qualname__}"


def kernels() -> set[str]:
    """The names of all kernels in the modules of ours that are loaded."""
    ours = [
        module for name, module in list(sys.modules.items()) if name.startswith(compiled.PACKAGES)
    ]
    found = (thing for module in ours for thing in vars(module).values())
    return {_name(thing) for thing in found if isinstance(thing, CPUDispatcher)}


def main(unit: str) -> None:
    """Compile one package's kernels, or load them, and note that they are there."""
    from agents.engine.plan import Plan
    from agents.engine.warm import warm
    from agents.settings import Settings

    settings = Settings(kafka_bootstrap="127.0.0.1:1")  # no server is asked
    plans = [Plan(one, settings, 1) for one in processors([unit]).values()]
    beside = not plans or unit in packages_with("warm")
    own = [importlib.import_module(f"agents.{unit}.warm").warm] if beside else []
    for name in sorted(kernels()):
        print(KNOWN, name)
    event.register("numba:compile", _Teller())
    for plan in plans:
        warm(plan, settings)
    for compile_own in own:
        compile_own()
    stamp = _stamp(unit)
    if stamp is not None:
        stamp.touch()
        compiled.prune(stamp, f"compiled.{unit}-*")


if __name__ == "__main__":
    main(sys.argv[1])
