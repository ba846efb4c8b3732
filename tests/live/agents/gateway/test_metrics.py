"""What is documented of a worker's metrics and what one with every processor emits is the same."""

import json
import urllib.request

import pytest

from agents.settings import Settings
from tests.live.agents.gateway.conftest import event
from tests.live.agents.gateway.remote import Remote
from tests.live.agents.projections.compare import migrated
from tests.live.conftest import WorkerFactory
from tests.live.helpers import Worker, eventually, produce
from tests.metrics_page import differences, documented, said

PROCESSORS = "predictors,integrator,segmentation,projections,outbox,gateway,replay,control,sleep"
SECTIONS = (
    "Worker", "Control and sleep", "Integrator and segmentation", "Projections", "Outbox",
    "Gateway", "Replay",
)  # fmt: skip
START = 1_769_860_800_000_000


def text(worker: Worker) -> str:
    with urllib.request.urlopen(worker.url("/metrics"), timeout=5.0) as answer:
        return str(answer.read().decode())


def observation(domain: str, k: int) -> tuple[bytes, bytes]:
    record = {"tenant": "acme", "domain": domain, "ts": START + 1000 * k, "vector": [k, 1.0]}
    return b"acme", json.dumps(record).encode()


def test_a_worker_emits_what_is_documented_and_nothing_else(
    topics: Settings, worker: WorkerFactory, remote: Remote
) -> None:
    one = worker(
        migrated(topics), SOMA_AGENTS=PROCESSORS, SOMA_MEMORY_HTTP_ENDPOINT=remote.endpoint
    )
    seen = [observation(domain, k) for k in range(40) for domain in ("state", "agent")]
    produce(topics, "cog.observations", seen)
    produce(topics, "memory.events", [(b"acme", event("acme", 0))])
    eventually(lambda: "soma_frames_total 80.0" in text(one), 60.0, "80 frames are counted")
    eventually(lambda: "soma_outbox_pending" in text(one), 60.0, "the relay knows its queue")
    shares = [line for line in text(one).splitlines() if line.startswith("soma_leader_share{")]
    assert sum(float(line.rpartition(" ")[2]) for line in shares) == pytest.approx(1.0)
    wanted = {name: metric for part in SECTIONS for name, metric in documented()[part].items()}
    found = differences(wanted, said(text(one)))
    assert not found, "\n".join(found)
