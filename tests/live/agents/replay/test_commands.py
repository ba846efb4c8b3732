"""`soma replay` and /admin/replay, beside a worker that runs jobs."""

import json
from typing import Any

import pytest

from agents.replay import agent, client
from agents.settings import Settings
from tests.live.agents.api.conftest import Api, api
from tests.live.agents.api.helpers import admin, bearer
from tests.live.agents.api.inside import Client
from tests.live.agents.projections.compare import migrated, sql
from tests.live.agents.replay.helpers import (
    SOURCE,
    await_state,
    compare,
    make_topic,
    observations,
    say,
)
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma, topics_of

MADE = topics_of("replay", "predictors", "integrator")

__all__ = ["api", "database"]


@pytest.fixture
def database(topics: Settings) -> Settings:
    """The settings of this test, topics made and the schema migrated."""
    return migrated(topics)


def test_the_command_line(topics: Settings, worker: WorkerFactory) -> None:
    env = environment(topics)
    produce(topics, SOURCE, observations(3_000))
    worker(SOMA_AGENTS="replay")
    make_topic(topics, "mine")

    def run(*words: str, status: int = 0) -> Any:
        done = soma("replay", *words, env=env)
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout) if "--json" in words else done.stdout + done.stderr

    whole = run("start", SOURCE, "--to", "mine", "--id", "whole", "--json")
    assert (whole["state"], whole["sent"]) == ("done", 3_000)
    compare(topics, read(topics, "mine"), read(topics, SOURCE))
    told = run("start", SOURCE, "--shadow", "try", "--tenant", "t1", "--dry-run")
    assert "t1: 429 records" in told and "429 would be sent" in told
    assert "try.cog.observations" in told
    assert "another body" in run("start", SOURCE, "--to", "other", "--id", "whole", status=1)
    # What was refused beside it is the last that was said, until the service says how it is.
    eventually(lambda: run("status", "whole", "--json")["state"] == "done", what="its own state")
    same = run("start", SOURCE, "--to", "mine", "--id", "whole", "--json")
    assert (same["state"], same["finished"]) == ("done", whole["finished"])
    for verb in ("pause", "resume", "stop"):
        assert "there is no job nobody" in run(verb, "nobody", status=1)
    assert "there is no job nobody" in run("status", "nobody", status=1)
    assert "reversed" in run(
        "start", SOURCE, "--to", "mine", "--from", "9", "--until", "5", status=1
    )
    slow = ("start", SOURCE, "--to", "mine", "--id", "slow", "--rate", "20", "--no-wait", "--json")
    assert run(*slow)["state"] in ("accepted", "running")
    assert run("pause", "slow", "--json")["state"] == "paused"
    assert run("resume", "slow", "--json")["state"] in ("accepted", "running")
    assert run("stop", "slow", "--json")["state"] == "stopped"
    assert "for good" in run("resume", "slow", status=1)
    states = {one["id"]: one["state"] for one in run("list", "--json")["jobs"]}
    assert (states["whole"], states["slow"]) == ("done", "stopped") and "nobody" not in states


def test_the_http_api(api: Api, database: Settings, worker: WorkerFactory) -> None:
    produce(database, SOURCE, observations(300))
    http: Client = api()
    start = {"source": SOURCE, "shadow": "try", "dry_run": True, "id": "one"}
    assert http.post("/admin/replay", json=start, headers=bearer(("acme",))).status_code == 403
    some = bearer(("acme",), ("admin",))
    assert http.post("/admin/replay", json=start, headers=some).status_code == 403
    for given, said in (
        ({"since": "9", "until": "5"}, "reversed"), ({"predicate": "a["}, "predicate"),
        ({"predicate": "ceil(`1e400`)"}, "infinity"), ({"source": ""}, "source"),
        ({"mode": "rewind"}, "republish"), ({"colour": 1}, "colour"),
        ({"type": "pause", "id": None}, "which job"), ({"id": "a b"}, "id"),
    ):  # fmt: skip
        answer = http.post("/admin/replay", json=start | given, headers=admin())
        assert answer.status_code == 422 and said in answer.text, answer.text
    answer = http.post("/admin/replay", json=start, headers=admin())
    assert (answer.status_code, answer.json()) == (202, {"id": "one"})
    assert http.get("/admin/replay/one", headers=admin()).status_code == 404
    worker(SOMA_AGENTS="replay")
    await_state(database, "one", "done")
    job = http.get("/admin/replay/one", headers=admin()).json()
    assert (job["state"], job["sent"], job["plan"]["dry_run"]) == ("done", 300, True)
    say(database, "two", target="nothing.there")
    await_state(database, "two", "refused")
    listed = http.get("/admin/replay", params={"limit": 1}, headers=admin()).json()["jobs"]
    assert [one["id"] for one in listed] == ["two"]
    audited = sql(database, "SELECT action, detail::text AS said FROM SCHEMA.audit")
    assert [(one["action"], json.loads(one["said"])["id"]) for one in audited] == [
        ("replay.start", "one")
    ]


def test_without_topics_or_workers_it_is_said_which(topics: Settings, settings: Settings) -> None:
    nowhere = environment(settings.model_copy(update={"namespace": "nowhere"}))
    done = soma("replay", "list", env=nowhere)
    assert done.returncode == 1 and "`soma topics apply` makes it" in done.stderr
    empty = soma("replay", "list", env=environment(topics))
    assert (empty.returncode, empty.stdout) == (0, "") and "There are no jobs" in empty.stderr


def test_the_client_knows_the_topics_of_the_processor() -> None:
    assert (client.COMMANDS, client.STATUS) == (agent.COMMANDS, agent.STATUS)
    assert client.STATUS_SCHEMA == agent.STATUS_SCHEMA
