"""`soma journal` beside a real PostgreSQL: what is done by hand is audited."""

import json
from pathlib import Path
from typing import Any

import pytest

from agents.settings import Settings
from stores.journal import Journal
from tests.live.agents.projections.compare import migrated, sql
from tests.live.helpers import environment, soma
from tests.unit.stores.journals import Outbox, event, with_journal


class Here:
    """A journal with three events, of which the second was refused; and `soma` beside it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = migrated(settings)
        self._folder = folder
        self._env = environment(settings, SOMA_JOURNAL__FOLDER=str(folder))
        self.seqs: list[int] = with_journal(folder, self._fill)

    async def _fill(self, journal: Journal) -> list[int]:
        outbox = Outbox()
        outbox.bad = {"d1"}
        seqs = await journal.append_many([event(n) for n in range(3)])
        await journal.drain(outbox.sink)
        return seqs

    def soma(self, *words: str) -> tuple[int, Any]:
        done = soma("journal", *words, "--json", env=self._env)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def stats(self) -> Any:
        return self.soma("stats")[1]

    def audit(self) -> list[tuple[str, str, str, Any]]:
        rows = sql(self._settings, "SELECT * FROM SCHEMA.audit ORDER BY id")
        return [(r["actor"], r["action"], r["tenant"], json.loads(r["detail"])) for r in rows]


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Here:
    settings = settings.model_copy(
        update={"kafka_bootstrap": settings.kafka_bootstrap or "127.0.0.1:1"}
    )
    return Here(settings, tmp_path / "journal")


def test_a_replay_is_audited_and_fails_for_what_isnt_there(here: Here) -> None:
    drained, refused, _ = here.seqs
    words = ("replay", str(refused), str(drained), "77", "--actor", "me")
    status, done = here.soma(*words)
    assert done == {"replayed": [refused], "missing": [77], "not_failed": [drained]}
    assert status == 1
    named = {"seqs": [drained, refused], "drained": False}
    ((actor, action, tenant, detail),) = here.audit()
    assert (actor, action, tenant) == ("me", "journal.replay", "a")
    assert detail | {"seqs": sorted(detail["seqs"])} == named
    assert here.soma("replay", "5")[0] == 1
    assert here.soma("drain") == (0, {"drained": 1, "failed": 0, "pending": 0, "full": [],
                                      "locked": []})  # fmt: skip
    assert here.soma("replay", str(refused), "--drained")[0] == 0


def test_all_that_was_drained_since_a_time_goes_into_a_restored_database(here: Here) -> None:
    first, _, last = here.seqs
    assert here.soma("replay", "--drained", "--since", "2100-01-01")[1]["replayed"] == []
    status, done = here.soma("replay", "--drained", "--since", "2020-01-01")
    assert (status, done["replayed"]) == (0, [first, last])
    assert here.soma("drain")[1]["drained"] == 2
    found = sql(here._settings, "SELECT dedupe_key FROM SCHEMA.outbox_events ORDER BY id")
    assert [row["dedupe_key"] for row in found] == ["d0", "d2"]


def test_what_is_deleted_stands_in_the_audit(here: Here) -> None:
    status, done = here.soma("cleanup", "--drop-failed", "--yes", "--actor", "me")
    assert (status, done["failed_deleted"]) == (0, 1)
    lost = {"seq": here.seqs[1], "topic": "memory.events", "dedupe_key": "d1"}
    assert here.audit() == [("me", "journal.drop", "a", {"events": [lost]})]
    assert here.stats()["failed"] == 0
    assert here.soma("cleanup", "--drop-failed", "--yes")[1]["failed_deleted"] == 0
    assert len(here.audit()) == 1


def test_a_drain_that_is_refused_something_fails(here: Here) -> None:
    assert here.soma("replay", str(here.seqs[1]))[0] == 0
    sql(here._settings, "SELECT SCHEMA.soma_outbox_add('memory.events', 'a', '{}', 'd1')")
    status, done = here.soma("drain")
    assert (status, done["failed"]) == (1, 1)
