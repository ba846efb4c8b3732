"""The workers under test: separate processes, started, struck and looked after by the driver."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TERM_TIMEOUT_S = 20.0
RESTART_PAUSE_S = 1.0


@dataclass
class Worker:
    """One process and what it was started with."""

    name: str
    processors: str
    process: subprocess.Popen[bytes]
    frozen_until: float = 0.0  # monotonic seconds; 0 while it runs
    died_at: float = 0.0


class Fleet:
    """A fixed crew that is restarted whenever one dies, and guests that come and go."""

    def __init__(self, folder: Path, env: Mapping[str, str], verb: str = "worker") -> None:
        """`verb`: what of `soma` they run; their logs go to the folder."""
        self.folder, self.env, self.verb = folder, dict(env), verb
        self.crew: list[Worker] = []
        self.guests: list[Worker] = []
        self.exits: list[str] = []  # workers that ended without being told to
        self.started = 0

    def start(self, name: str, processors: str) -> Worker:
        """A new worker process; its log is `<name>.log` in the folder."""
        own = {
            "SOMA_AGENTS": processors, "SOMA_WEB_PORT": "0",
            "SOMA_STANDBY": str(self.started % 2),  # both ways of taking over are to be right
        }  # fmt: skip
        env = os.environ | self.env | own
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "agents.cli", self.verb],
                env=env, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.started += 1
        return Worker(name, processors, process)

    def enlist(self, count: int, processors: str) -> None:
        """Start the crew."""
        self.crew = [self.start(f"{self.verb}-{number}", processors) for number in range(count)]

    def tend(self) -> None:
        """Continue the frozen whose time has come; restart crew that has ended; bury guests."""
        now = time.monotonic()
        for worker in self.crew + self.guests:
            if worker.frozen_until and now >= worker.frozen_until:
                worker.process.send_signal(signal.SIGCONT)
                worker.frozen_until = 0.0
        for index, worker in enumerate(self.crew):
            code = worker.process.poll()
            if code is None:
                continue
            if not worker.died_at:
                worker.died_at = now
                self._note(worker, code)
            if now - worker.died_at >= RESTART_PAUSE_S:
                self.crew[index] = self.start(worker.name, worker.processors)
        for worker in self.guests:
            if worker.process.poll() is not None:
                self._note(worker, worker.process.returncode)
        self.guests = [worker for worker in self.guests if worker.process.poll() is None]

    def at_work(self) -> bool:
        """Whether all of the crew have recovered a partition: what starts needs its servers."""
        logs = [self.folder / f"{worker.name}.log" for worker in self.crew]
        return all("recovered processor=" in log.read_text(errors="replace") for log in logs)

    def kill(self, worker: Worker) -> None:
        """SIGKILL and, for crew, an immediate restart."""
        worker.process.kill()
        worker.process.wait(TERM_TIMEOUT_S)
        if worker in self.crew:
            self.crew[self.crew.index(worker)] = self.start(worker.name, worker.processors)
        else:
            self.guests.remove(worker)

    def freeze(self, worker: Worker, seconds: float) -> None:
        """SIGSTOP now, SIGCONT by `tend` after so many seconds."""
        if not worker.frozen_until and worker.process.poll() is None:
            worker.process.send_signal(signal.SIGSTOP)
            worker.frozen_until = time.monotonic() + seconds

    def frozen(self) -> bool:
        """Whether somebody is stopped."""
        return any(worker.frozen_until for worker in self.crew + self.guests)

    def dismiss(self, worker: Worker) -> int:
        """SIGTERM a guest and wait; its exit status (-9 if it had to be killed)."""
        self.guests.remove(worker)
        return self._end([worker])[0]

    def close(self) -> list[int]:
        """End everyone; exit statuses of the crew, which must be 0."""
        self._end(self.guests)
        return self._end(self.crew)

    def _end(self, workers: list[Worker]) -> list[int]:
        for worker in workers:
            if worker.frozen_until:
                worker.process.send_signal(signal.SIGCONT)
            worker.process.terminate()
        for worker in workers:
            try:
                worker.process.wait(TERM_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait(TERM_TIMEOUT_S)
                self.exits.append(f"{worker.name} didn't end within {TERM_TIMEOUT_S:.0f} s")
        return [worker.process.returncode for worker in workers]

    def _note(self, worker: Worker, code: int) -> None:
        lines = (self.folder / f"{worker.name}.log").read_text(errors="replace").splitlines()
        self.exits.append(f"{worker.name} ({worker.processors}) exit {code}: {lines[-1:] or ['']}")
