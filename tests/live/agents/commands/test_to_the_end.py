"""Commands that read to the end, beside a writer that never pauses: each under a time limit."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from agents.outbox.receipts import Receipts
from agents.settings import Settings
from agents.tools.ledger import Ledger
from agents.tools.marks import MARKS
from ops.prove.reader import read_all
from tests.live.conftest import WorkerFactory
from tests.live.helpers import PARTITIONS, REPO, environment, soma
from tests.live.restless import Restless
from tests.live.topics.test_reading import TOPIC
from topics.partition import partition_of

WRITTEN = [
    TOPIC, MARKS, "soma.integrator.state", "soma.predictors.state", "soma.segmentation.state",
    "soma.epochs", "soma.outbox.receipts", "memory.events", "soma.gateway.state",
]  # fmt: skip
LIMIT_S = 45.0
TENANT = "acme"


@pytest.fixture
def written(topics: Settings) -> Iterator[Settings]:
    with Restless(topics, WRITTEN):
        yield topics


def test_every_command_comes_to_its_end(written: Settings) -> None:
    env = environment(written)
    shown = soma(
        "watch", TOPIC, "--from", "beginning", "--no-follow", "--json", env=env, timeout=LIMIT_S
    )
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout.splitlines()[0])["offset"] == 0
    nothing = soma("watch", TOPIC, "--no-follow", env=env, timeout=LIMIT_S)
    assert (nothing.returncode, nothing.stdout) == (0, "")
    got = soma("config", "get", "acme", "--json", env=env, timeout=LIMIT_S)
    assert json.loads(got.stdout)["processors"] == {
        "canary": {}, "control": {}, "episodes": {}, "feedback": {}, "integrator": {},
        "learner": {}, "lessons": {}, "memory": {}, "predictors": {}, "prune": {}, "replay": {},
        "segmentation": {}, "sleep": {},
    }  # fmt: skip
    status = soma("gateway", "status", "--json", env=env, timeout=LIMIT_S)
    assert len(json.loads(status.stdout)["partitions"]) == PARTITIONS
    command = [sys.executable, "-m", "agents.cli", "watch", TOPIC, "--count", "1000000", "--json"]
    with subprocess.Popen(command, env=env, cwd=REPO, stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None and watching.stdout.readline()
        watching.terminate()  # not all of them have been shown
        watching.communicate(timeout=LIMIT_S)
        assert watching.returncode == 128 + signal.SIGTERM
    listed = soma("projection", "list", "--json", env=env, timeout=LIMIT_S)
    assert "run `soma migrate up`" in listed.stderr  # it asks for ends without reading to them


@pytest.mark.timeout(120)
def test_marks_receipts_and_the_verifier_come_to_their_end(written: Settings) -> None:
    with closing(Ledger(written, TOPIC, "one")) as ledger:
        assert ledger.open() is None
    assert asyncio.run(Receipts(written, PARTITIONS).latest()) == {}
    assert all(
        record.value == b"x" for record in read_all(written.bootstrap(), written.topic(TOPIC))
    )


def record() -> bytes:
    """An observation of this moment; now and then what nobody can read."""
    now = datetime.now(UTC)
    if now.microsecond % 10 == 0:
        return b"x"
    vector = [now.microsecond % 7, 1]
    said = {"tenant": TENANT, "domain": "state", "ts": now.isoformat(), "vector": vector}
    return json.dumps(said).encode()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_reads_the_past_comes_to_its_end(topics: Settings, worker: WorkerFactory) -> None:
    """A worker at work writes states, epochs and dead letters without a pause, too."""
    worker(SOMA_AGENTS="predictors")
    env, home = environment(topics), partition_of(TENANT, topics.topics_partitions)

    def said(*words: str) -> Any:
        done = soma(*words, "--json", env=env, timeout=LIMIT_S)
        assert done.returncode == 0, (words, done.stderr)
        return json.loads(done.stdout)

    with Restless(topics, [TOPIC], key=TENANT.encode(), value=record):
        assert said("replay", "list") == {"jobs": []}
        now = said("state", "show", "predictors", "--tenant", TENANT)
        upto = now["offset"]
        then = said("state", "show", "predictors", "--tenant", TENANT, "--at", f"{home}/{upto}")
        assert then["rows"] == now["rows"]
        between = ("--between", str(upto // 2), str(upto))
        changed = said("diff", "predictors", "--tenant", TENANT, *between)
        assert changed["between"] == [upto // 2, upto]
        assert said("digest", "predictors", "--partition", str(home), "--rebuild")["equal"]
        (taken,) = said("snapshot", "take", "predictors", "--partition", str(home))["snapshots"]
        assert taken["partition"] == home
        assert said("snapshot", "list", "predictors")["snapshots"]
        assert said("dlq", "list")["letters"] and said("dlq", "stats")["counts"]
        chosen = ("--from", "beginning", "--no-follow", "--tenant", TENANT, "--count", "1")
        first = said("watch", TOPIC, *chosen)
        place = f"{TOPIC}/{first['partition']}/{first['offset']}"
        assert said("explain", place)["processor"] == "predictors"
