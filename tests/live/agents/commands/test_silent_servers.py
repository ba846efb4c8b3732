"""Servers that take connections and never answer: each command ends, and says who didn't."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
from pydantic import SecretStr

from agents.cli import main
from agents.dlq.letters import Letter, Place
from agents.dlq.lines import line_of
from agents.settings import Settings
from stores.journal import Journal
from tests.live.helpers import PARTITIONS, REPO, environment, eventually, soma
from tests.unit.stores.journals import Outbox, event, with_journal

GUARD_S = 240.0  # of each; they have 10 to 20 s of their own, and start slowly on a busy machine
ADMIN = "No Kafka broker answers at "
CLIENT = "Kafka at "
POSTGRES = "PostgreSQL: no answer in time"
API = "http://127.0.0.1:"
AWAY = "The outbox is away, events go to the journal: no answer within 3 s"
MEMORY = '{"coordinate":"a","payload":{},"ts":"2026-01-31T12:00:00Z"}'
LINE = '{"tenant":"me","domain":"state","ts":"2026-01-31T12:00:00Z","vector":[1,2]}\n'

# Each verb that asks a server, and what it says at its end. {home}: a folder with `line`,
# `csv` and `letters`.
ENDS = {
    "worker": ADMIN,
    "topics plan": ADMIN,
    "topics apply": ADMIN,
    "topics check": ADMIN,
    "topics abort-transaction cog.observations 0 --yes": ADMIN,
    "migrate up": POSTGRES,
    "migrate status": POSTGRES,
    "projection list": POSTGRES,
    "projection drop frames --yes": POSTGRES,
    "projection rebuild frames --yes": POSTGRES,
    "journal replay --drained --since 2020-01-01T00:00:00Z": POSTGRES,
    "journal drain": POSTGRES,
    "journal cleanup --drop-failed --yes": POSTGRES,
    "outbox add memory.events acme {{}} --dedupe-key 1": POSTGRES,
    "outbox audit": POSTGRES,
    "outbox check --max-pending 1": POSTGRES,
    "outbox limit acme 5": POSTGRES,
    "outbox list": POSTGRES,
    "outbox reconcile": ADMIN,
    "outbox replay 1": POSTGRES,
    "outbox skip 1 --yes": POSTGRES,
    "outbox summary": POSTGRES,
    "publish cog.observations {home}/line": CLIENT,
    "watch cog.observations": CLIENT,
    "watch cog.observations --no-follow": CLIENT,
    "observe --count 1 --interval 0.01": CLIENT,
    "observe --csv {home}/csv --tenant me": CLIENT,
    "config get acme": CLIENT,
    "config set acme fusion hedge": CLIENT,
    "config set acme fusion hedge --direct": CLIENT,
    "config set acme fusion hedge --no-wait": CLIENT,
    "config history acme": CLIENT,
    "config diff acme 0": CLIENT,
    "config rollback acme": CLIENT,
    "gateway status": ADMIN,
    "doctor": "PostgreSQL (SOMA_POSTGRES_DSN) doesn't answer: no answer in time",
    "doctor --hanging": ADMIN,
    "sleep policy acme": CLIENT,
    "sleep set acme deep": CLIENT,
    "sleep status": CLIENT,
    "policy set {home}/one.rego": CLIENT,
    "policy get": CLIENT,
    "policy history": CLIENT,
    "policy unset": CLIENT,
    "canary start --set margin=0.1 --percent 10": CLIENT,
    "canary stop margin": CLIENT,
    "canary promote margin": CLIENT,
    "canary status": CLIENT,
    "canary list": CLIENT,
    "memory add acme x": API,
    "memory get acme x": API,
    "memory delete acme x": API,
    "memory link acme x y": API,
    "memory search acme x": API,
    "memory list acme": CLIENT,
    "memory export acme {home}/exported": CLIENT,
    "memory import acme {home}/memories": "not accepted within 120 s: http://127.0.0.1:",
    "rho get k": POSTGRES,
    "rho commit k={home}/m.json@0": POSTGRES,
    "skip cog.observations/0/0 --processor predictors --reason x": CLIENT,
    "digest integrator --rebuild": ADMIN,
    "state show integrator --tenant acme": ADMIN,
    "explain cog.observations/0/0": ADMIN,
    "diff integrator --tenant acme --between 5 9": ADMIN,
    "snapshot take integrator": ADMIN,
    "snapshot list integrator": ADMIN,
    "snapshot verify integrator": ADMIN,
    "dlq list": ADMIN,
    "dlq stats": ADMIN,
    "dlq show cog.observations.dlq/0/0": ADMIN,
    "dlq redrive cog.observations.dlq/0/0": ADMIN,
    "dlq drop cog.observations.dlq/0/0 --yes": ADMIN,
    "dlq export": ADMIN,
    "dlq import {home}/letters": CLIENT,
    "replay start cog.observations --to mine --id one --from 0": CLIENT,
    "replay start --shadow --set integrator.fusion=hedge --tenant t": CLIENT,
    "replay status one": CLIENT,
    "replay list": CLIENT,
    "replay pause one": CLIENT,
    "replay resume one": CLIENT,
    "replay stop one": CLIENT,
    "shadow start --set margin=0.1 --percent 10": CLIENT,
    "shadow stop one": CLIENT,
    "shadow status": CLIENT,
    "shadow list": CLIENT,
}
# Those that run for ever say what they wait for, wait, and end by SIGTERM.
GO_ON = {
    "relay": ADMIN,
    "api --port 0": AWAY,
    "recall --port 0": AWAY,
}
# These ask nobody (`mcp`: before it is asked), or the servers that they start themselves.
ALONE = {
    "api openapi", "api token", "bench", "config list", "demo", "journal events", "journal stats",
    "mcp", "migrate grants", "new", "policy check", "policy eval", "rho check", "schema check",
    "schema record", "schema register", "schema row", "schema topics", "segment", "settings print",
    "settings reference", "stack down", "stack status", "stack up", "warm",
}  # fmt: skip


def verbs(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    """All that can be called, but those of the benches, which are one."""
    if not isinstance(command, click.Group) or command.invoke_without_command or path == ("bench",):
        yield " ".join(path)
    if isinstance(command, click.Group) and path != ("bench",):
        for name in command.list_commands(ctx := click.Context(command)):
            one = command.get_command(ctx, name)
            assert one is not None
            yield from verbs(one, (*path, name))


def test_every_verb_is_tried_or_needs_no_server() -> None:
    known = set(verbs(main))
    tried = {one for one in known for words in (*ENDS, *GO_ON) if f"{words} ".startswith(f"{one} ")}
    assert known >= ALONE
    assert not ALONE & tried - {"api"}
    assert known - tried - ALONE == set()


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """The port of a server that accepts and says nothing."""
    held: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):  # closed: the test is over
            while True:
                held.append(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10.0)
            for one in held:
                one.close()


@contextlib.contextmanager
def nobody_answers(home: Path, **more: str) -> Iterator[dict[str, str]]:
    """The environment of commands whose servers are all silent, but what `more` has."""
    with silent() as port:
        settings = Settings(
            home=home,
            kafka_bootstrap=f"127.0.0.1:{port}",
            redis_url=SecretStr(f"redis://127.0.0.1:{port}/0"),
            postgres_dsn=SecretStr(f"postgresql://soma:Secret@127.0.0.1:{port}/soma"),
            topics_partitions=PARTITIONS,
        )
        yield environment(settings, SOMA_API__AUTH="off", SOMA_API__PORT=str(port), **more)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_command_ends_and_names_the_server_that_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "line").write_text(LINE)
    (tmp_path / "memories").write_text(MEMORY)
    (tmp_path / "m.json").write_text("[[1.0]]")
    letter = Letter(Place("cog.observations.dlq", 0, 0), "0" * 32, 0, b"me", LINE.encode())
    (tmp_path / "letters").write_text(json.dumps(line_of(letter)))
    rule = "package soma.policy.integrator\ndefault allow := true\n"
    (tmp_path / "one.rego").write_text(rule)
    (tmp_path / "csv").write_text("ts,v\n2026-01-31T12:00:00Z,1\n2026-01-31T12:00:01Z,2\n")
    for words in ENDS:
        if words.startswith("journal "):
            fill(tmp_path / words.replace(" ", "-")[:20])
    with nobody_answers(tmp_path) as env, ThreadPoolExecutor(12) as pool:
        running = {
            words: pool.submit(
                soma, *words.format(home=tmp_path).split(),
                # The journal is one command's at a time: each has a folder of its own.
                env=env | {"SOMA_JOURNAL__FOLDER": str(tmp_path / words.replace(" ", "-")[:20])},
                timeout=GUARD_S,
            )
            for words in ENDS
        }  # fmt: skip
        done = {words: one.result() for words, one in running.items()}
    for words, one in done.items():
        told = one.stdout + one.stderr
        assert one.returncode == 1, (words, told)
        assert ENDS[words] in told, (words, told)
        assert "Traceback" not in told and "Secret" not in told, (words, told)


def fill(folder: Path) -> None:
    """Make a journal with an event that waits, one that is drained and one that was refused."""

    async def filled(journal: Journal) -> None:
        outbox = Outbox()
        outbox.bad = {"d1"}
        await journal.append_many([event(n) for n in range(2)])
        await journal.drain(outbox.sink)
        await journal.append_many([event(2)])

    with_journal(folder, filled)


@pytest.mark.slow
@pytest.mark.parametrize("words", GO_ON)
def test_what_runs_for_ever_says_whom_it_waits_for(tmp_path: Path, words: str) -> None:
    log = tmp_path / "log"
    with nobody_answers(tmp_path) as env, log.open("wb") as out:
        one = subprocess.Popen(
            [sys.executable, "-m", "agents.cli", *words.split()],
            env=env, cwd=REPO, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            eventually(lambda: GO_ON[words] in log.read_text(), 60.0, GO_ON[words])
            one.terminate()
            assert one.wait(15.0) == 0
        finally:
            one.kill()
            one.wait(10.0)
    assert "Traceback" not in log.read_text() and "Secret" not in log.read_text()


@pytest.mark.slow
def test_a_database_that_is_silent_beside_a_broker_that_answers(
    topics: Settings, tmp_path: Path
) -> None:
    broker = {"SOMA_KAFKA_BOOTSTRAP": topics.bootstrap(), "SOMA_NAMESPACE": topics.namespace}
    with nobody_answers(tmp_path, **broker) as env:
        done = soma("outbox", "reconcile", env=env, timeout=90.0)
    assert done.returncode == 1
    assert "PostgreSQL" in done.stderr and "no answer in time" in done.stderr
    assert "Traceback" not in done.stderr
