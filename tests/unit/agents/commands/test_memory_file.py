"""`soma memory import` before anything is sent, and while the API is busy."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from agents.cli import main
from agents.commands import memory_file
from agents.commands.memory_api import Api
from tests.unit.client.test_server import http, server

GOOD = {"coordinate": "a", "payload": {"n": 1}, "ts": "2026-01-31T12:00:00Z", "links": {"b": "x"}}
LINE = json.dumps(GOOD).encode()


def run(tmp_path: Path, text: bytes, *words: str, port: int = 1) -> Any:
    """The command on a file of this text; nobody listens unless a port is said."""
    (tmp_path / "m.jsonl").write_bytes(text)
    given = ["memory", "import", "acme", str(tmp_path / "m.jsonl"), *words]
    return CliRunner(env={"SOMA_API__PORT": str(port)}).invoke(main, given)


def test_damaged_lines_are_named_and_nothing_is_sent(tmp_path: Path) -> None:
    long = b'{"coordinate": "' + b"x" * (5 << 20) + b'"}'
    large = json.dumps(GOOD | {"payload": {"t": '"' * 460_000}}).encode()
    text = b"\n".join([LINE, b"{", b"", long, LINE[:-9], large, LINE])
    done = run(tmp_path, text)
    assert done.exit_code == 1 and "nothing was sent" in done.stderr
    named = [line.strip().split(":")[0] for line in done.stderr.splitlines() if "  line" in line]
    assert named == ["line 2", "line 4", "line 5", "line 6"]
    assert "longer than" in done.stderr and "the API takes 900,000" in done.stderr
    checked = run(tmp_path, text, "--skip-bad", "--dry-run", "--json")
    said = json.loads(checked.stdout)
    assert (said["memories"], said["links"], said["bad"], said["accepted"]) == (2, 2, 4, 0)
    many = run(tmp_path, b"x\n" * 100)
    assert "line 20:" in many.stderr and "line 21:" not in many.stderr and "80 more" in many.stderr


def test_a_last_line_without_its_end_is_one_if_it_is_whole(tmp_path: Path) -> None:
    assert run(tmp_path, LINE, "--dry-run").exit_code == 0
    assert run(tmp_path, b"", "--dry-run").exit_code == 0
    given = ["memory", "import", "acme", "-", "--dry-run", "--json"]
    done = CliRunner().invoke(main, given, input=LINE + b"\n")
    assert json.loads(done.stdout)["memories"] == 1
    absent = CliRunner().invoke(main, ["memory", "import", "acme", str(tmp_path / "none")])
    assert absent.exit_code == 1 and "No such file" in absent.stderr


def test_a_busy_api_is_asked_again_and_a_no_is_told(tmp_path: Path) -> None:
    events = [{"id": k, "dedupe_key": str(k), "duplicate": k == 1} for k in range(2)]
    yes = json.dumps({"events": events[:1]}).encode()
    busy = http("429 Too Many Requests", b'{"detail": "busy"}', "Retry-After: 0")

    def answers(n: int) -> tuple[bytes, ...]:
        return (busy,) if n == 1 else () if n == 2 else (http("202 Accepted", yes),)

    with server(answers) as (url, asked):
        done = run(tmp_path, LINE, "--json", port=int(url.rpartition(":")[2]))
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["accepted"] == 2 and len(asked) == 4
    no = http("403 Forbidden", b'{"detail": "not yours"}')
    with server(lambda _: (no,)) as (url, asked):
        done = run(tmp_path, LINE, port=int(url.rpartition(":")[2]))
    assert done.exit_code == 1 and "not yours" in done.stderr and len(asked) == 1
    with server(lambda _: (busy,)) as (url, _), pytest.raises(click.ClickException, match="busy"):
        Api("acme", url, None).insist("/x", [], give_up_s=0.4)


def test_the_time_of_an_import_is_of_those_that_bring_back_or_replace(tmp_path: Path) -> None:
    past = "2026-01-31T13:00:00+01:00"
    for words, said in (
        (["--at", past], "of --restore or --replace"),
        (["--restore", "--at", "soon"], "'soon' is no time"),
        (["--restore", "--at", "2026-01-31T12:00:00"], "without a time zone"),
        (["--replace", "--at", "2999-01-01T00:00:00Z"], "still to come"),
    ):
        done = run(tmp_path, LINE, *words)
        assert done.exit_code == 2 and said in done.stderr
    done = run(tmp_path, LINE, "--restore", "--at", past, "--dry-run", "--json")
    assert json.loads(done.stdout)["at"] == "2026-01-31T12:00:00.000000+00:00"


def test_requests_have_limits() -> None:
    small = [{"n": k} for k in range(401)]
    assert [len(one) for one in memory_file.batches(small)] == [200, 200, 1]
    large = [{"t": "x" * 700_000}] * 3
    assert [len(one) for one in memory_file.batches(large)] == [1, 1, 1]
    assert [one for batch in memory_file.batches(iter(small)) for one in batch] == small


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), memory_file.replacing(path) as out:
        out.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"before" and [*tmp_path.iterdir()] == [path]
    with memory_file.replacing(path) as out:
        out.write(b"whole")
    assert path.read_bytes() == b"whole"
    with (
        pytest.raises(click.ClickException, match="No such"),
        memory_file.replacing(tmp_path / "none" / "x"),
    ):
        pass
