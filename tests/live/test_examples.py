"""Each example of the help texts and pages, as a shell runs it, beside a running demo."""

import gzip
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import pytest

from ops.stack.ports import free_port
from tests.live import transcripts
from tests.live.conftest import Endpoints, settings_of, with_topics
from tests.live.examples import examples
from tests.live.helpers import REPO, environment, eventually, soma

# A hundred commands, each with a limit of its own, on a machine that may be busy.
pytestmark = pytest.mark.timeout(1500)

LIMIT_S = 120.0  # of one example
AT_A_TIME = 2
# A stream that never pauses, and leaves most of the machine to the examples.
QUIETLY = ("--interval", "1", "--speed", "4")
ALONE = REPO / "docs" / "tutorial.md"  # in tests/unit/test_tutorial.py
PAGES = sorted(
    page
    for page in (REPO / "docs").glob("**/*.md")
    if page != ALONE and transcripts.typed(page.read_text())
)

# What runs until Ctrl-C, and must end on it quickly and well; with what shows that it works.
FOLLOWS = {
    "SOMA_API__AUTH=off soma api --port 8080": "Uvicorn running",
    "SOMA_API__AUTH=off soma recall --port 8081": "Uvicorn running",
    "soma worker": "Worker ready",
    "soma worker --agents integrator,predictors --web-port 6067": "Worker ready",
    "soma relay": "shard",
    "SOMA_OUTBOX__QUOTA_PER_MINUTE=0 soma relay --metrics-port 9100": "shard",
    "soma watch cog.global.frame --tenant cpu": '"tenant"',
    "soma watch cog.global.frame --pretty": "cpu",
    "soma watch cog.segments --pretty": "recorded.",
    "soma observe": "observing",
    "tail -f load.txt | soma segment -": '"evidence"',
}
# What is refused, as the example stands; with what must be said.
REFUSED = {
    "soma schema register": "SOMA_SCHEMA_REGISTRY_URL isn't set",
    "soma schema register --dry-run": "SOMA_SCHEMA_REGISTRY_URL isn't set",
    "soma topics apply --partitions 24": "would send tenants away from their state",
    "soma skip cog.observations/3/1234 --processor counting --reason 'a unit nobody knows'": (
        "counting doesn't read cog.observations"
    ),
    "soma outbox replay 17 18": "not there: 17, 18",
    "soma replay start outbox --tenant orders --dry-run": "nothing of orders is failed there",
    "soma replay status nightly": "there is no job nightly",
    "soma replay pause nightly": "there is no job nightly",
    "soma replay resume nightly": "there is no job nightly",
    "soma replay stop nightly": "there is no job nightly",
    "soma outbox skip 17 --yes": "not there: 17",
    "soma canary stop integrator.alpha": "no canary that runs is called 'integrator.alpha'",
    "soma canary promote integrator.alpha": "no canary that runs is called 'integrator.alpha'",
    "soma shadow stop shadow-20260131T120000-3f2a": "no shadow that runs is called",
    "soma dlq show cog.observations.dlq/1/0": "there is no letter at cog.observations.dlq/1/0",
    'echo \'{"tenant": "me", "domain": "state", "vector": [1, "two"]}\' | soma publish '
    "cog.observations": "vector",
    "soma outbox replay --again": "Give IDS, or --tenant",
    "soma topics abort-transaction cog.observations 1": "No transaction stays open",
    "soma journal replay 3000000017 3000000018": "3000000017",
}
# What is run elsewhere, and where.
ELSEWHERE = {
    "soma demo": "runs beside all of these",
    "soma demo --headless --seconds 10 --json": "tests/live/agents/commands/test_demo.py",
    "soma stack up": "tests/live/ops/stack/test_stack.py",
    "soma stack up --json": "tests/live/ops/stack/test_stack.py",
    "soma stack down": "tests/live/ops/stack/test_stack.py",
    "soma bench": "minutes each: tests/live/ops/bench/",
    "soma outbox reconcile": "where no relay works: tests/live/agents/outbox/test_restore.py",
    "soma shadow start": "tests/live/agents/replay/test_shadow.py",
    "soma canary start": "tests/live/agents/canary/test_canary.py",
    "soma rho": "tests/live/agents/rho/test_rho.py",
    # Where a `soma recall` answers.
    "soma memory": "tests/live/agents/api/test_recall.py",
    "soma mcp": "tests/live/test_ways_in.py",
    "curl localhost:8081": "tests/live/agents/api/test_recall.py",
    "soma warm": "tests/unit/agents/engine/test_compiling.py",
    # These write into the checkout that they run from.
    "soma new": "tests/unit/agents/tools/test_newprocessor.py",
    "soma schema row": "tests/unit/agents/tools/test_newprocessor.py",
    "soma topics apply && SOMA_AGENTS=heartbeats soma worker": "the same, but for the worker",
    "soma settings reference > ops/SETTINGS.md": "tests/unit/agents/test_cli.py",
    "curl localhost:8080": "tests/live/agents/api/test_memories.py",
}


class Ended(NamedTuple):
    example: str
    status: int | None  # None: it didn't end in time
    seconds: float
    text: str  # both outputs


def elsewhere(example: str) -> bool:
    return any(
        example == one
        or example.startswith(f"{one} ")
        or (one.startswith("curl") and example.startswith(one))
        for one in ELSEWHERE
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "ops").symlink_to(REPO / "ops")
    level = [20.0 + k % 3 for k in range(60)] + [30.0 + k % 3 for k in range(60)]
    stamps = [f"2026-01-01T{k // 60:02d}:{k % 60:02d}:00Z" for k in range(len(level))]
    rows = "".join(f"{t},{v},{2 * v}\n" for t, v in zip(stamps, level, strict=True))
    (folder / "plant.csv").write_text(f"time,temp,load\n{rows}")
    (folder / "sensors.csv").write_text(f"time,pressure,flow\n{rows}")
    (folder / "temperatures.csv").write_text(
        "time,value\n" + "".join(f"{t},{v}\n" for t, v in zip(stamps, level, strict=True))
    )
    (folder / "load.csv").write_text((folder / "temperatures.csv").read_text())
    (folder / "load.txt").write_text("".join(f"{v}\n" for v in level))
    whole = {
        "name": "well_log", "n_obs": len(level), "n_dim": 1,
        "time": {"index": list(range(len(level)))},
        "series": [{"label": "V1", "type": "float", "raw": level}],
    }  # fmt: skip
    (folder / "well_log.json").write_text(json.dumps(whole))
    (folder / "annotations.json").write_text(json.dumps({"well_log": {"6": [60], "7": [60]}}))
    (folder / "letters.jsonl").write_text("")
    lines = [
        json.dumps({"tenant": "old", "domain": "state", "ts": t, "vector": [v]})
        for t, v in zip(stamps, level, strict=True)
    ]
    with gzip.open(folder / "old.jsonl.gz", "wt") as old:
        old.write("\n".join(lines) + "\n")
    (folder / "bin").mkdir()
    for name, what in (("soma", " -m agents.cli"), ("python", "")):
        wrapper = folder / "bin" / name
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{what} "$@"\n')
        wrapper.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def env(stack: Endpoints, place: Path) -> Iterator[dict[str, str]]:
    """Beside a demo that runs: a worker, this machine's observations, a recorded machine's."""
    settings = with_topics(settings_of(stack, f"ex{os.getpid()}", place / "home"))
    found = environment(settings, PYTHONPATH=str(REPO))
    assert soma("migrate", "up", env=found).returncode == 0
    found["SOMA_API__JWT_SECRET"] = "a secret of at least thirty-two bytes"
    found["PATH"] = f"{place / 'bin'}:{os.environ['PATH']}"
    log = place / "demo.log"
    with log.open("wb") as out:
        demo = subprocess.Popen(
            ["soma", "demo", "--headless", *QUIETLY],
            env=found, cwd=place, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        eventually(lambda: " frames" in log.read_text(), 240, "the demo's frames")
        yield found
    finally:
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0, log.read_text()


def runnable(example: str) -> str:
    """The example with free ports, real values for what stands for a reader's, and our part only
    of pipes into programs that a machine may lack."""
    for other in (" | psql", " | jq"):
        example = example.partition(other)[0]
    for port in ("8080", "8081", "9100", "6067"):
        example = example.replace(f"port {port}", f"port {free_port()}")
    event = {
        "event_id": "1", "id": "1", "namespace": "n", "type": "created", "coordinate": "a",
        "memory_type": "episodic", "payload": "{}", "dedupe_key": "1",
    }  # fmt: skip
    tenant = example.partition("memory.events ")[2].partition(" ")[0]
    whole = json.dumps(event | {"tenant": tenant, "ts": "2026-01-01T00:00:00Z"})
    for short in ("'{\"event_id\": …}'", "'{…}'"):
        example = example.replace(short, shlex.quote(whole))
    return example.replace("FILE", "temperatures.csv")


def run(example: str, env: dict[str, str], place: Path) -> Ended:
    begun = time.monotonic()
    ports = {"SOMA_WEB_PORT": str(free_port()), "SOMA_API__PORT": str(free_port())}
    with (place / f"out-{abs(hash(example))}").open("w+b") as out:
        process = subprocess.Popen(
            ["bash", "-c", runnable(example)], env=env | ports, cwd=place,
            stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
        with process.stdin:  # type: ignore[union-attr]
            process.stdin.write(b"y\n")  # to what asks
        status = None
        try:
            if example in FOLLOWS:
                await_sign(example, process, Path(out.name), place)
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                status = process.wait(LIMIT_S)
        finally:
            if status is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        out.seek(0)
        text = out.read().decode(errors="replace")
    return Ended(example, status, time.monotonic() - begun, text)


def await_sign(example: str, process: "subprocess.Popen[bytes]", log: Path, place: Path) -> None:
    """Wait until the example shows that it works, while the file that it may follow grows."""
    levels = cycle([20.0] * 40 + [30.0] * 40)

    def shown() -> bool:
        with (place / "load.txt").open("a") as load:
            load.writelines(f"{level + k % 3}\n" for k, level in enumerate(islice(levels, 20)))
        return process.poll() is not None or FOLLOWS[example] in log.read_text()

    eventually(shown, LIMIT_S, f"{FOLLOWS[example]!r} from {example}")


def wrong(ended: Ended) -> str:
    """What is wrong with how an example ended; empty if nothing is."""
    if ended.status is None:
        return "it didn't end"
    if "Traceback" in ended.text:
        return "a traceback"
    if said := REFUSED.get(ended.example):
        return "" if ended.status and said in ended.text else f"it isn't refused with {said!r}"
    if (sign := FOLLOWS.get(ended.example, "")) not in ended.text:
        return f"it ended without {sign!r}"
    return f"status {ended.status}" if ended.status else ""


def test_each_example_runs_on_a_live_stream(env: dict[str, str], place: Path) -> None:
    others = [one for one in examples() if not elsewhere(one) and one not in FOLLOWS]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        # Those that go on first, and to their end: one makes the journal that others look into, and
        # as long as it runs the journal is its own.
        ends = [*pool.map(lambda one: run(one, env, place), FOLLOWS)]
        ends += pool.map(lambda one: run(one, env, place), others)
    failures = [f"{why}: {e.example}\n{e.text[-1500:]}" for e in ends if (why := wrong(e))]
    assert not failures, "\n\n".join(failures)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_transcript_is_what_a_reader_sees(page: Path, env: dict[str, str], place: Path) -> None:
    ends = transcripts.run(page.read_text(), env, place, LIMIT_S)
    failures = [f"{why}: {e.command}\n{e.tail}" for e in ends if (why := e.wrong())]
    assert not failures, "\n\n".join(failures)


def test_the_tables_name_examples_that_there_are() -> None:
    known = examples()
    assert not [one for one in (*FOLLOWS, *REFUSED) if one not in known]
    assert not [one for one in ELSEWHERE if not any(two.startswith(one) for two in known)]
    assert len(known) > 80
