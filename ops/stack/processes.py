"""Server processes that outlive the command that started them, found again by what they run.

A process is known by its owner and by words of its command line that name a path of ours, never by
a number alone: a pid that now belongs to something else is never signalled.
"""

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from ops.stack.files import rotate

POLL_S = 0.05
SHOWN_S = 5.0

# What the environment says to libraries and servers of these kinds is meant for others than ours.
FOREIGN = (
    "PG", "KAFKA_", "REDIS", "VALKEY", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS",
    "CLASSPATH", "LC_", "LANG", "SOMA_",
)  # fmt: skip

# Children of this very process: kept so that the dead are reaped and no handle is dropped half-way.
_children: dict[int, subprocess.Popen[bytes]] = {}


class StackError(Exception):
    """A part of the stack can't be had; the text says why and what to do."""


def environment() -> dict[str, str]:
    """What our own servers, and the programs that prepare them, see of the environment."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(FOREIGN)}
    return kept | {"LC_ALL": "C.UTF-8"}


def spawn(
    argv: Sequence[str | Path], log: Path, cwd: Path, user: str | None = None
) -> psutil.Process:
    """Start a server in a session of its own (Ctrl-C doesn't reach it), its output in `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    rotate(log)
    with log.open("ab") as out:
        child = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=environment(),
            start_new_session=True,
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
        )
    _children[child.pid] = child
    process = psutil.Process(child.pid)
    # The kernel says that the program was started a moment before it shows the program's words.
    wait_until(lambda: child.poll() is not None or bool(_words(child.pid)), SHOWN_S)
    return process


def find(marker: Sequence[str], hint: int | None = None) -> psutil.Process | None:
    """The process whose command line has every word of `marker`; `hint` is the pid to try first."""
    _reap()
    if hint is not None and psutil.pid_exists(hint) and _is(hint, marker):
        return psutil.Process(hint)
    for pid in psutil.pids():
        if pid != hint and _is(pid, marker):
            return psutil.Process(pid)
    return None


def _reap() -> None:
    """Let go of children that another process has stopped meanwhile."""
    for pid, child in list(_children.items()):  # parts start and stop side by side, in threads
        if child.poll() is not None:
            _children.pop(pid, None)


def _is(pid: int, marker: Sequence[str]) -> bool:
    return set(marker) <= _words(pid)


def _words(pid: int) -> set[str]:
    """The words of a process' command line; none where it is gone, or not ours to read."""
    try:
        return set(psutil.Process(pid).cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return set()


def alive(process: psutil.Process) -> bool:
    """Whether this very process (not another with its pid) still runs; reaps it if it is ours."""
    child = _children.get(process.pid)
    if child is not None:  # it has ended when it is reaped, not when it could be
        if child.poll() is None:
            return True
        _children.pop(process.pid, None)
        return False
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def stop(process: psutil.Process, how: signal.Signals, patience_s: float) -> bool:
    """Ask a process to stop, then kill it; whether it went by itself."""
    try:
        # A process that was stopped (SIGSTOP) hears nothing until it goes on.
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        if wait_until(lambda: not alive(process), patience_s):
            return True
        process.kill()
    except psutil.NoSuchProcess:
        return True
    if not wait_until(lambda: not alive(process), 10.0):
        raise StackError(f"process {process.pid} can't be killed: look at `ps -p {process.pid}`")
    return False


def wait_until(condition: Callable[[], bool], patience_s: float) -> bool:
    """Poll `condition`; whether it held before the patience ended."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True
