"""What a peer is told to do, and how it counts."""

import json
import os
import time
from dataclasses import asdict, dataclass

BENCH_JOB = "BENCH_JOB"  # environment variable that carries the job as JSON


@dataclass(frozen=True)
class Job:
    """Fold `events` records of `source` into frames on `sink`, from the beginning."""

    peer: str
    run: str  # unique: names groups, applications and folders
    bootstrap: str
    source: str
    sink: str
    id_prefix: str  # first 8 hex digits of the source's topic id
    events: int
    partitions: int
    folder: str  # for what the peer keeps on disk
    work: str = "fusion"  # one of ops.bench.works

    def env(self) -> dict[str, str]:
        """The environment of the peer's process."""
        return {**os.environ, BENCH_JOB: json.dumps(asdict(self))}

    @staticmethod
    def given() -> "Job":
        """The job of this process."""
        return Job(**json.loads(os.environ[BENCH_JOB]))


class Meter:
    """Counts records; its clock runs from the first record to the last."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._start = self._cpu = self._seconds = self._cpu_seconds = 0.0
        self.counted = 0

    def start(self) -> None:
        """The first record has come, and nothing was done with it yet."""
        if not self._start:
            self._cpu = time.process_time()
            self._start = time.perf_counter()

    def count(self, records: int = 1) -> bool:
        """So many more are done; True when all are."""
        self.counted += records
        if self.counted < self._job.events:
            return False
        if not self._seconds:
            self._seconds = time.perf_counter() - self._start
            self._cpu_seconds = time.process_time() - self._cpu
        return True

    def report(self) -> None:
        """Print the result, one line of JSON (past a framework that took sys.stdout)."""
        result = {
            "peer": self._job.peer,
            "events": self.counted,
            "events_per_s": self.counted / self._seconds,
            "cpu_us_per_event": self._cpu_seconds / self.counted * 1e6,
        }
        os.write(1, f"\n{json.dumps(result)}\n".encode())
