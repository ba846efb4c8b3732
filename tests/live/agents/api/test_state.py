"""GET /state/{processor}/{tenant}: the worker that has the partition answers, or nobody does."""

import json
import signal
import time
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from agents.cli import main
from agents.settings import Settings
from tests.live.agents.api.conftest import Api
from tests.live.agents.api.helpers import bearer
from tests.live.conftest import WorkerFactory
from tests.live.helpers import PARTITIONS, environment, eventually, produce, read
from topics import codec
from topics.partition import partition_of

TENANTS = [f"t{k}" for k in range(8)]
SECRET = "something that only we know"
AGENTS = {"SOMA_AGENTS": "predictors", "SOMA_STATE_TOKEN": SECRET}
SHOWN = {"Authorization": f"Bearer {SECRET}"}


def observe(settings: Settings, n: int) -> None:
    """n observations of each tenant."""
    now, rng = time.time_ns() // 1000, np.random.default_rng(n)
    told = [
        (tenant.encode(), codec.encode("observation", {
            "tenant": tenant, "domain": "state", "ts": now + k,
            "vector": np.float32(rng.normal(0, 1, 2)).tobytes(), "sequence": None,
        }))
        for k in range(n) for tenant in TENANTS
    ]  # fmt: skip
    produce(settings, "cog.observations", told)


def shown(settings: Settings, tenant: str) -> dict[str, Any]:
    """What `soma state show --json` says of the topics."""
    words = ["state", "show", "predictors", "--tenant", tenant, "--json"]
    done = CliRunner(env=environment(settings)).invoke(main, words)
    assert done.exit_code == 0, done.stderr
    return dict(json.loads(done.stdout))


def position(settings: Settings, partition: int) -> int:
    """How far the state topic says that a partition is committed."""
    at = [
        codec.decode(one.value() or b"")[1]["next_offset"]
        for one in read(settings, "soma.predictors.state")
        if one.key() == b"@position" and one.partition() == partition
    ]
    return int(at[-1]) if at else 0


@pytest.mark.timeout(240)
def test_a_tenant_s_state_is_told_by_the_worker_that_has_it(
    topics: Settings, worker: WorkerFactory, api: Api
) -> None:
    client = api(topics.model_copy(update={"state_token": SecretStr(SECRET)}))

    def ask(tenant: str = "t0", processor: str = "predictors", **who: Any) -> httpx.Response:
        headers = bearer(**({"tenants": (tenant,), "roles": ("read",)} | who))
        return client.get(f"/state/{processor}/{tenant}", headers=headers)

    def told(tenant: str, n: int) -> dict[str, Any] | None:
        answer = ask(tenant)
        said: dict[str, Any] = answer.json()
        whole = answer.status_code == 200 and said["offset"] == said["end"]
        return said if whole and said["rows"][0]["fields"]["n"] == n else None

    none = ask()
    assert none.status_code == 503 and int(none.headers["retry-after"]) > 0
    assert none.headers["content-type"].startswith("application/problem+json")
    first = worker(**AGENTS)
    observe(topics, 3)
    for tenant in TENANTS[:2]:
        said = eventually(lambda t=tenant: told(t, 3), 30, "its state")  # type: ignore[misc]
        from_topics = shown(topics, tenant)
        assert said["rows"] == from_topics["rows"]
        assert (said["partition"], said["offset"]) == (
            partition_of(tenant, PARTITIONS), from_topics["offset"],
        )  # fmt: skip
    assert ask(tenants=("t1",)).status_code == 403
    assert ask(roles=("write",)).status_code == 403
    assert client.get("/state/predictors/t0").status_code == 401
    assert ask("nobody").status_code == 404 and ask(processor="nothing").status_code == 404
    missing = ask(processor="segmentation")
    assert missing.status_code == 503 and "no worker runs segmentation now" in missing.text

    # A worker tells those alone who show the token.
    page = first.url("/state/predictors/t0")
    for header in ({}, {"Authorization": "Bearer something else"}):
        assert httpx.get(page, headers=header, trust_env=False).status_code == 403
    refused = api().get("/state/predictors/t0", headers=bearer(("t0",), ("read",)))
    assert refused.status_code == 503 and "SOMA_STATE_TOKEN isn't set" in refused.text
    assert SECRET not in first.log.read_text() + refused.text

    # What is told is committed, while more comes.
    for k in range(2):
        observe(topics, 200)
        said = ask("t3").json()
        assert said["offset"] <= position(topics, said["partition"]), k

    # Another worker takes a half over: each partition is one's alone, and the API finds it.
    second = worker(**AGENTS)
    n = 3 + 2 * 200
    for tenant in TENANTS:
        assert eventually(lambda t=tenant: told(t, n), 30, "its state again")  # type: ignore[misc]

    def pages() -> list[list[int]]:
        return [
            sorted(
                httpx.get(
                    one.url(f"/state/predictors/{tenant}"), headers=SHOWN, trust_env=False
                ).status_code
                for one in (first, second)
            )
            for tenant in TENANTS
        ]

    eventually(lambda: pages() == [[200, 409]] * len(TENANTS), 30, "one owner for each")
    # One dies without a word: until the group notices its tenants have nobody, and that is said.
    first.signal(signal.SIGKILL)
    first.process.wait(10)
    lost = [one for one in map(ask, TENANTS) if one.status_code != 200]
    assert lost and {one.status_code for one in lost} == {503}
    assert f"the worker at http://127.0.0.1:{first.port}" in lost[0].text
