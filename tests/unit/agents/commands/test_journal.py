import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agents.commands.journal import journal
from stores.journal import Journal
from tests.unit.stores.journals import Outbox, event, with_journal

REPO = Path(__file__).parents[4]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOMA_HOME", str(tmp_path))
    return tmp_path / "journal"


def asked(*words: str) -> Result:
    return CliRunner().invoke(journal, words, catch_exceptions=False)


def filled(folder: Path) -> list[int]:
    outbox = Outbox()
    outbox.bad = {"d1"}

    async def use(one: Journal) -> list[int]:
        seqs = await one.append_many([event(n) for n in range(3)])
        await one.drain(outbox.sink)
        return [*seqs, *await one.append_many([event(n) for n in range(3, 5)])]

    return with_journal(folder, use)


def test_it_shows_what_is_there(home: Path) -> None:
    seqs = filled(home)
    found = json.loads(asked("stats", "--json").output)
    assert {k: found[k] for k in ("pending", "failed", "drained")} == {
        "pending": 2, "failed": 1, "drained": 2,
    }  # fmt: skip
    assert "2 wait for the outbox" in asked("stats").output
    rows = json.loads(asked("events", "--json").output)["events"]
    assert [row["seq"] for row in rows] == seqs
    assert rows[1]["error"] == "it is bad"
    assert rows[1]["payload"] == event(1).payload
    assert str(seqs[1]) in asked("events", "--status", "failed").output
    assert asked("events", "--limit", "501").exit_code == 2


def test_texts_of_tenants_have_no_effect_on_the_terminal(home: Path) -> None:
    forged = replace(event(1), dedupe_key="k\x1b[31m\n9  drained")
    with_journal(home, lambda one: one.append_many([forged]))
    (line,) = asked("events").output.splitlines()
    assert line.endswith("k\\x1b[31m\\n9  drained")


def test_it_reads_while_another_process_has_the_folder_and_changes_nothing(home: Path) -> None:
    seqs = filled(home)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from stores.journal import Journal;"
            " Journal.open(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()",
            str(home),
        ],
        cwd=REPO,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        assert json.loads(asked("stats", "--json").output)["pending"] == 2
        assert len(json.loads(asked("events", "--json").output)["events"]) == 5
        for words in (["replay", str(seqs[1])], ["cleanup"], ["drain"]):
            done = asked(*words)
            assert done.exit_code == 1
            assert f"belongs to the process {holder.pid}" in done.output
    finally:
        holder.kill()
        holder.communicate()


def test_it_deletes_what_was_refused_only_when_asked_to(home: Path) -> None:
    filled(home)
    assert "0 files packed, 0 removed." in asked("cleanup").output
    assert asked("cleanup", "--drop-failed").exit_code == 1, "nobody said yes"
    assert json.loads(asked("stats", "--json").output)["failed"] == 1


@pytest.mark.parametrize("words", [("drain",), ("cleanup", "--drop-failed", "--yes"), ("replay",)])
def test_without_postgres_it_says_so_and_keeps_all(home: Path, words: tuple[str, ...]) -> None:
    seqs = filled(home)
    more = [str(seqs[1])] if words == ("replay",) else []
    done = subprocess.run(
        [sys.executable, "-m", "agents.cli", "journal", *words, *more],
        env={
            "SOMA_HOME": str(home.parent),
            "SOMA_POSTGRES_DSN": "postgresql://u:p4ss@127.0.0.1:1/d",
        },
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "PostgreSQL" in done.stderr
    assert "p4ss" not in done.stderr
    found = json.loads(asked("stats", "--json").output)
    assert (found["pending"], found["failed"]) == (2, 1)


def test_it_says_where_nothing_is(home: Path) -> None:
    for words in (["stats"], ["events"], ["replay", "1"], ["cleanup"], ["drain"]):
        done = asked(*words)
        assert done.exit_code == 1
        assert f"There is no journal in {home}" in done.output
