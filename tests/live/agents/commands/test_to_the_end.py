"""Commands that read to the end, beside a writer that never pauses: each under a time limit."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from agents.outbox.receipts import Receipts
from agents.settings import Settings
from agents.tools.ledger import Ledger
from agents.tools.marks import MARKS
from ops.prove.reader import read_all
from tests.live.helpers import environment, soma
from tests.live.restless import Restless
from tests.live.topics.test_reading import TOPIC
from topics.catalogue import LOCAL_PARTITIONS

WRITTEN = [
    TOPIC, MARKS, "soma.integrator.state", "soma.predictors.state", "soma.segmentation.state",
    "soma.epochs", "soma.outbox.receipts", "memory.events", "soma.gateway.state",
]  # fmt: skip
LIMIT_S = 45.0


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
        "integrator": {}, "predictors": {}, "replay": {}, "segmentation": {},
    }  # fmt: skip
    status = soma("gateway", "status", "--json", env=env, timeout=LIMIT_S)
    assert len(json.loads(status.stdout)["partitions"]) == LOCAL_PARTITIONS
    listed = soma("projection", "list", "--json", env=env, timeout=LIMIT_S)
    assert "run `soma migrate up`" in listed.stderr  # it asks for ends without reading to them


@pytest.mark.timeout(120)
def test_marks_receipts_and_the_verifier_come_to_their_end(written: Settings) -> None:
    with closing(Ledger(written, TOPIC, "one")) as ledger:
        assert ledger.open() is None
    assert asyncio.run(Receipts(written, LOCAL_PARTITIONS).latest()) == {}
    assert all(
        record.value == b"x" for record in read_all(written.bootstrap(), written.topic(TOPIC))
    )
