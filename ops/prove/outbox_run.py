"""One run of the outbox under test: servers, writers, relays; and the verifier at its end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.prove.driver import KILLED_S, VERB_S, VERIFY_S, soma, worker_env
from ops.prove.fleet import ROOT, Fleet
from ops.prove.outbox_check import FAULTS
from ops.prove.outbox_table import Table
from ops.stack import Endpoints, Stack

RELAYS = 4
DRAIN_S = 180.0
BEGIN_S = 400.0  # kernels may have to be compiled first
END_S = 60.0
# One that is just starting hasn't its handler yet, or begins with all commands' own; and CPython
# ends by SIGINT where KeyboardInterrupt, though handled, came through an exec() of a text, as when
# a dataclass is made (pythonrun.c, run_eval_code_obj): 6 of 210 that were stopped within 2 s.
ENDED = (0, -signal.SIGTERM, 128 + signal.SIGTERM, -signal.SIGINT)


@dataclass
class Options:
    """Who writes and relays; times in seconds."""

    seed: int
    relays: int = RELAYS
    writers: int = 10
    keys: int = 50
    writer_pause: float = 0.005  # mean, between two transactions of a writer
    slow: float = 0.1  # share of slow transactions
    aged: bool = False  # rows leave the table while it runs


@dataclass
class Report:
    """What was done and what the verifier said."""

    seconds: float = 0.0
    blows: dict[str, int] = field(default_factory=dict)
    writers: dict[str, int] = field(default_factory=dict)
    relays_started: int = 0
    exits: list[str] = field(default_factory=list)
    left: int = 0  # rows that never left the queue
    verdict: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, float]] = field(default_factory=list)  # of a soak
    unbounded: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Drained, and the verifier found nothing; no relay ended by itself."""
        return (
            not self.left and not self.exits and not self.unbounded
            and bool(self.verdict.get("clean"))
        )  # fmt: skip

    def lines(self) -> list[str]:
        """For people."""
        kinds = ("rows", "records", *FAULTS)
        found = [" ".join(f"{kind} {self.verdict.get(kind, '?')}" for kind in kinds)]
        found.append(f"writers {self.writers}, blows {self.blows}, {self.seconds} s")
        found += [f"never left the queue: {self.left}"] if self.left else []
        found += [f"ended by itself: {one}" for one in self.exits] + self.unbounded
        return found


class Proof:
    """One run on a stack of its own. Logs stay in `folder`."""

    def __init__(
        self, options: Options, stack: Stack, folder: Path, more: dict[str, str] | None = None
    ) -> None:
        """`more`: of the relays' environment."""
        self.options, self.stack, self.folder = options, stack, folder
        self.namespace = f"prove-{options.seed}-{int(time.time())}"
        self.ends: Endpoints = stack.up()
        dsn = {"SOMA_POSTGRES_DSN": self.ends.postgres_dsn}
        relaying = {"SOMA_OUTBOX__QUOTA_PER_MINUTE": "0"} | (more or {})
        self.env = worker_env(self.ends.kafka_bootstrap, self.namespace, folder) | dsn | relaying
        self.table = Table(self.ends.postgres_dsn, self.namespace)
        self.fleet = Fleet(folder, self.env, "relay")
        self.restored = False  # the database went back in time
        self.noted = folder / "acknowledged.tsv"
        self.noted.touch()

    def prepare(self) -> None:
        """Topics and tables."""
        with ThreadPoolExecutor(2) as pool:
            topics = pool.submit(soma, self.env, "topics", "apply")
            pool.submit(soma, self.env, "migrate", "up").result(2 * VERB_S)
            topics.result(2 * VERB_S)

    def run(self, body: Callable[[], None]) -> Report:
        """Write and relay while `body` lasts; then drain, stop and verify."""
        started, report = time.monotonic(), Report()
        self.prepare()
        self.fleet.enlist(1, "outbox")
        self.writers = writers = self._write()
        try:
            # The others then find the kernels compiled.
            self.until("the first event is sent", self.table.begun, BEGIN_S)
            for number in range(1, self.options.relays):
                self.fleet.crew.append(self.fleet.start(f"relay-{number}", "outbox"))
            body()
            report.writers = _ended(writers, self.folder)
            if not self._drain():
                report.left = self.table.queued()
            report.exits = list(self.fleet.exits)
            report.exits += [
                f"a relay ended with {code} at SIGTERM" for code in self.fleet.close()
                if code not in ENDED
            ]  # fmt: skip
        finally:
            if writers.poll() is None:
                writers.kill()
                writers.wait(KILLED_S)
            self.fleet.close()
        report.relays_started = self.fleet.started
        report.verdict = self._verify()
        report.seconds = round(time.monotonic() - started, 1)
        return report

    def until(self, what: str, true: Callable[[], bool], seconds: float) -> None:
        """Look after the relays until something is true; TimeoutError if it never is."""
        deadline = time.monotonic() + seconds
        while not true():
            self._look()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {seconds:.0f} s; see {self.folder}")
            time.sleep(0.05)

    def tend(self, seconds: float) -> None:
        """Look after the relays for a while."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._look()
            time.sleep(0.02)

    def _look(self) -> None:
        """See to the relays; RuntimeError if the writers have failed."""
        self.fleet.tend()
        if self.writers.poll():
            _ended(self.writers, self.folder)

    def _write(self) -> "subprocess.Popen[bytes]":
        given = self.options
        with (self.folder / "writers.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "ops.prove.outbox_writers", "--namespace", self.namespace,
                 "--acknowledged", str(self.noted), "--writers", str(given.writers),
                 "--keys", str(given.keys), "--seed", str(given.seed),
                 "--pause", str(given.writer_pause), "--slow", str(given.slow)],
                env=os.environ | self.env, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def _drain(self) -> bool:
        try:
            self.until("the queue is empty", lambda: self.table.queued() == 0, DRAIN_S)
        except TimeoutError:
            return False
        return True

    def _verify(self) -> dict[str, Any]:
        """Run the verifier as a program of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "ops.prove.outbox_verify", "--namespace", self.namespace,
             "--bootstrap", self.ends.kafka_bootstrap, "--acknowledged", str(self.noted), "--json",
             *(["--aged"] if self.options.aged else []),
             *(["--restored"] if self.restored else [])],
            env=os.environ | self.env, cwd=ROOT, capture_output=True, text=True, check=False,
            timeout=VERIFY_S,
        )  # fmt: skip
        lines = done.stdout.strip().splitlines()
        if not lines:
            return {"clean": False, "failure": done.stderr[-2000:]}
        verdict: dict[str, Any] = json.loads(lines[-1])
        return verdict | {"clean": verdict["clean"] and done.returncode == 0}


def _ended(writers: "subprocess.Popen[bytes]", folder: Path) -> dict[str, int]:
    """Stop the writers; their counts. RuntimeError if they had ended by themselves."""
    if writers.poll() is None:
        writers.terminate()
    code = writers.wait(END_S)
    text = (folder / "writers.log").read_text()
    if code:
        raise RuntimeError(f"the writers ended with {code}: {text[-2000:]}")
    counts: dict[str, int] = json.loads(text.splitlines()[-1])
    return counts
