"""`soma outbox` as a person runs it."""

import asyncio
import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agents.cli import main
from agents.settings import Settings
from tests.live.helpers import environment
from tests.live.stores.outbox import TOPIC, sessions


def soma(settings: Settings, *words: str) -> Result:
    """In this process: starting one takes longer than all it does."""
    return CliRunner().invoke(main, ["outbox", *words], env=environment(settings))


def ask(settings: Settings, *words: str, status: int = 0) -> dict[str, Any]:
    done = soma(settings, *words, "--json")
    assert done.exit_code == status, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def sql(settings: Settings, text: str) -> None:
    async def execute() -> None:
        async with sessions(settings, 1) as (one,):
            await one.execute(text)

    asyncio.run(execute())


@pytest.fixture
def migrated(settings: Settings) -> Settings:
    sql(settings, "SELECT 1")
    return settings


def add(settings: Settings, payload: str, *more: str, status: int = 0) -> dict[str, Any]:
    return ask(settings, "add", TOPIC, "a", payload, "--dedupe-key", "k", *more, status=status)


def test_from_adding_to_giving_up(migrated: Settings) -> None:
    first = add(migrated, '{"x": 1}', "--header", "h=1")
    assert first == {"id": 1, "duplicate": False, "differs": False}
    assert add(migrated, '{"x": 1}', "--header", "h=1")["duplicate"]
    ask(migrated, "check", "--max-pending", "1")
    assert ask(migrated, "check", "--max-pending", "0", status=1)["over"] == {"a": 1}
    sql(migrated, "UPDATE outbox_queue SET status = 'failed', last_error = 'no such field'")
    (row,) = ask(migrated, "list", "--status", "failed")["events"]
    assert (row["id"], row["last_error"], row["headers"]) == (1, "no such field", {"h": "1"})
    assert ask(migrated, "check", "--max-pending", "9", status=1)["failed"] == {"a": 1}
    found = ask(migrated, "replay", "1", "7", "--actor", "eve", status=1)
    assert (found["replayed"], found["missing"]) == ([1], [7])
    sql(migrated, "UPDATE outbox_queue SET status = 'failed'")
    refused = soma(migrated, "skip", "1")
    assert refused.exit_code == 1, "it asks, and nobody answers"
    assert ask(migrated, "skip", "1", "--yes")["skipped"] == [1]
    assert ask(migrated, "summary")["skipped"] == 1
    back = ask(migrated, "replay", "--tenant", "a", "--status", "skipped", "--yes")
    assert back["replayed"] == [1]
    who = [(one["actor"], one["action"]) for one in ask(migrated, "audit")["entries"]]
    assert who[-1] == ("eve", "outbox.replay") and len(who) == 3


def test_limits_are_set_shown_and_taken_back(migrated: Settings) -> None:
    assert ask(migrated, "limit", "a", "1")["limits"] == {"*": 100_000, "a": 1}
    add(migrated, "1")
    full = soma(migrated, "add", TOPIC, "a", "2", "--dedupe-key", "z")
    assert full.exit_code == 1 and "has 1 events pending" in full.stderr
    assert ask(migrated, "limit", "a", "default")["limits"] == {"*": 100_000}


def test_what_is_said_to_people(migrated: Settings) -> None:
    add(migrated, '{"x": 1}')
    other = soma(migrated, "add", TOPIC, "a", "{}", "--dedupe-key", "k")
    assert other.exit_code == 1 and "event 1 has this dedupe key" in other.stderr
    assert "no topic" in soma(migrated, "add", "x", "a", "{}", "--dedupe-key", "k").stderr
    assert "pending" in soma(migrated, "summary").stdout
    assert TOPIC in soma(migrated, "list").stdout
    assert "more than 0" in soma(migrated, "check", "--max-pending", "0").stdout


def test_texts_of_tenants_have_no_effect_on_the_terminal(migrated: Settings) -> None:
    forged = "k\x1b[31mRED\nFAKE      99  sent     bank  pay"
    done = soma(migrated, "add", TOPIC, "a", "{}", "--dedupe-key", "k", "--key", forged)
    assert done.exit_code == 0, done.output
    sql(migrated, "UPDATE outbox_queue SET status = 'failed', last_error = E'bad\\x1b[2J\\nx'")
    shown = soma(migrated, "list").stdout
    assert "\x1b" not in shown and len(shown.splitlines()) == 2
    assert "key k\\x1b[31mRED\\nFAKE" in shown and "bad\\x1b[2J\\nx" in shown
    soma(migrated, "replay", "1", "--actor", "eve\n  9 mallory")
    assert len(soma(migrated, "audit").stdout.splitlines()) == 1
    (row,) = ask(migrated, "list")["events"]
    assert row["key"] == forged, "JSON has it as it is"


def test_a_tenant_that_cant_be_isnt_replayed(migrated: Settings) -> None:
    done = soma(migrated, "replay", "--tenant", "f%", "--yes")
    assert done.exit_code == 1 and "the tenant 'f%'" in done.stderr


def test_what_is_kept_is_counted_where_it_is_little(migrated: Settings) -> None:
    fill = f"SELECT soma_outbox_add('{TOPIC}', 'a', '{{}}', 'k' || n) FROM generate_series(1, 25) n"
    sql(migrated, fill)
    assert ask(migrated, "summary")["kept"] == 25
    assert "; 25 kept" in soma(migrated, "summary").stdout
    sql(migrated, fill.replace("1, 25", "26, 10001") + "; ANALYZE outbox_events")
    assert ask(migrated, "summary")["kept"] == 10_001
    assert "about 10,001 kept" in soma(migrated, "summary").stdout


def test_without_the_schema_it_says_what_to_do(settings: Settings) -> None:
    done = soma(settings, "summary")
    assert done.exit_code == 1 and "soma migrate up" in done.stderr
