"""/readyz and soma_http_store_up say what a request would meet."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from agents.settings import JournalSettings, Settings
from stores.journal import JournalFullError
from tests.live.agents.api.conftest import OwnPostgres, api_settings
from tests.live.agents.api.helpers import SECRET, ApiProcess, acme, observation
from tests.live.agents.api.inside import Client
from tests.live.helpers import environment, eventually, soma
from tests.unit.stores.journals import event

PATH = "/events/cog.observations"
ONE = {"payload": observation()}


def journaling(settings: Settings, **more: object) -> Settings:
    return settings.model_copy(update={"api": api_settings(journal="on"), **more})


def ready(client: Client) -> tuple[int, str, dict[str, str]]:
    answer = client.get("/readyz")
    return answer.status_code, answer.json()["status"], answer.json()["dependencies"]


def test_a_full_journal_is_named_and_nothing_is_ready(settings: Settings) -> None:
    away = SecretStr("postgresql://u:p@127.0.0.1:1/x")
    own = journaling(settings, postgres_dsn=away, journal=JournalSettings(max_mb=16))
    with Client(own) as client:
        assert client.post(PATH, json=ONE, headers=acme()).json()["journaled"]
        assert ready(client) == (200, "degraded", {"postgres": "down", "journal": "up"})
        journal = client.app.state.resources.journal
        with pytest.raises(JournalFullError):
            for size in [1 << 20] * 16:
                client.portal.call(journal.append, event(size + journal.pending(), size=size))
        with pytest.raises(JournalFullError):
            for n in range(1000):
                client.portal.call(journal.append, event(n, size=4096))
        refused = client.post(PATH, json=ONE, headers=acme())
        assert refused.status_code == 503 and "journal" in refused.json()["detail"]
        assert "full" in refused.json()["detail"]
        last = (503, "unavailable", {"postgres": "down", "journal": "down"})
        eventually(lambda: ready(client) == last, 10.0, "an answer holds for a second")


def test_a_schema_that_lacks_migrations_isnt_ready(settings: Settings) -> None:
    with Client(journaling(settings)) as client:
        refused = client.post(PATH, json=ONE, headers=acme())
        assert refused.status_code == 503 and "tables" in refused.json()["detail"]
        down = {"postgres": "up", "schema": "down", "journal": "up"}
        assert ready(client) == (503, "unavailable", down)


@pytest.mark.parametrize("journal", ["on", "off"])
def test_the_metric_follows_the_database_both_ways(postgres: OwnPostgres, journal: str) -> None:
    """With a journal nobody need ask; without, whoever asks sees to it."""
    own = postgres.settings.model_copy(update={"api": api_settings(journal=journal)})
    with Client(own) as client:

        def up() -> str:
            lines = client.get("/metrics").text.splitlines()
            return next(line for line in lines if line.startswith("soma_http_store_up "))

        assert up() == "soma_http_store_up 1.0"
        postgres.stop()
        if journal == "off":
            assert client.post(PATH, json=ONE, headers=acme()).status_code == 503
        eventually(lambda: up() == "soma_http_store_up 0.0")
        postgres.start()
        if journal == "off":
            eventually(lambda: ready(client)[1] == "ready")
        eventually(lambda: up() == "soma_http_store_up 1.0")


BAD_DSNS = ("postgresql://u:p4ss@[bad", "postgresql://u:p4ss@h:p4ss/x", "nonsense p4ss")


def test_a_dsn_that_cant_be_read_is_refused_at_the_start(settings: Settings) -> None:
    own = settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})
    for dsn in BAD_DSNS:
        more = {"SOMA_POSTGRES_DSN": dsn, "SOMA_API__JWT_SECRET": SECRET}
        done = soma("api", "--port", "0", env=environment(own, **more))
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith("Error: ") and "SOMA_POSTGRES_DSN" in done.stderr
        assert "p4ss" not in done.stderr and "Traceback" not in done.stderr


def test_a_journal_that_cant_be_had_is_named(
    process: Callable[..., ApiProcess], database: Settings, tmp_path: Path
) -> None:
    folder = str(tmp_path / "journal")
    first = process(SOMA_JOURNAL__FOLDER=folder)
    own = database.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})
    said = {}
    for where in (folder, "/proc/x"):
        more = {"SOMA_API__JWT_SECRET": SECRET, "SOMA_JOURNAL__FOLDER": where}
        done = soma("api", "--port", "0", env=environment(own, **more))
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith("Error: ") and "Traceback" not in done.stderr
        said[where] = done.stderr
    assert f"belongs to the process {first.process.pid}" in said[folder]
    assert "its own SOMA_JOURNAL__FOLDER" in said[folder]
    assert "/proc/x" in said["/proc/x"] and "SOMA_JOURNAL__FOLDER" in said["/proc/x"]
