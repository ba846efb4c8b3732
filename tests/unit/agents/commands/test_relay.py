"""What `soma relay` does before it is at work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[4]
# The signal comes while the relay's modules are loaded, which takes it most of its start.
ENDED_EARLY = """
import os, signal, sys
class Signal:
    def find_spec(self, name, *_):
        if name == "agents.outbox.relay":
            os.kill(os.getpid(), getattr(signal, os.environ["TEST_SIGNAL"]))
sys.meta_path.insert(0, Signal())
from agents.cli import main
main()
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_ended_while_it_starts_it_ends_well(number: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDED_EARLY, "relay"],
        env=os.environ | {
            "SOMA_HOME": str(tmp_path), "SOMA_KAFKA_BOOTSTRAP": "127.0.0.1:1",
            "SOMA_POSTGRES_DSN": "postgresql://soma@127.0.0.1:1/soma", "TEST_SIGNAL": number,
        },
        cwd=REPO, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
