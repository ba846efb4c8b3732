"""A worker as a process of our own: started, asked how it is, stopped."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

ANSWER_S = 2.0
STOP_S = 8.0
LAGS = {"soma_processor_lag_records": "processor", "soma_projection_lag_records": "projection"}


class SubWorker:
    """`soma worker`, its log in a file, its web pages on a port."""

    def __init__(self, log: Path, port: int) -> None:
        self.log, self.port = log, port
        log.parent.mkdir(parents=True, exist_ok=True)
        cognition = {"SOMA_ENABLE_COG_THREADS": "1"}  # unless somebody says otherwise
        env = cognition | os.environ | {"SOMA_WEB_PORT": str(self.port)}
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agents.cli", "worker"],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: we stop it after the feeds
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def ready(self) -> bool:
        """Whether it says that all its partitions are recovered."""
        return self._get("/ready") is not None

    def lags(self) -> dict[str, int]:
        """Records waiting, by processor and projection; empty if it doesn't answer."""
        from prometheus_client.parser import text_string_to_metric_families  # when it is used

        text = self._get("/metrics")
        sums: dict[str, int] = {}
        for family in text_string_to_metric_families(text or ""):
            for sample in family.samples:
                label = LAGS.get(sample.name)
                if label is not None:
                    name = sample.labels[label]
                    sums[name] = sums.get(name, 0) + int(sample.value)
        return sums

    def stop(self) -> int:
        """SIGTERM, then SIGKILL if that takes too long; returns the exit status."""
        if self.status is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait(STOP_S)

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _get(self, path: str) -> str | None:
        try:
            url = f"http://127.0.0.1:{self.port}{path}"
            with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
                body: bytes = answer.read(4 << 20)
                return body.decode(errors="replace") if answer.status == 200 else None
        except (urllib.error.URLError, OSError):
            return None
