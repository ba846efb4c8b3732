"""Jobs that redrive: letters go to their topic once each, whatever is killed or begun anew."""

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from agents.dlq import law
from agents.dlq.reading import Choice
from agents.dlq.redrive import Terms, redrive
from agents.replay.command import Command
from agents.replay.modes import Step
from agents.replay.redrive import Redrive
from agents.settings import Settings
from tests.live.agents.dlq.written import TOPIC, headers, number, value, write_letters
from tests.live.agents.projections.compare import migrated
from tests.live.agents.replay.helpers import await_state, few, ran, say, statuses
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma, topics_of
from topics import codec
from topics.partition import partition_of

MADE = topics_of("replay", "dlq", "predictors", "integrator")

LETTERS = 600
BAD = b'{"tenant": "a", "domain": "state", "ts": "2026-01-31T12:00:00Z", "vector": "no"}'


def write(settings: Settings) -> None:
    tenants = ("a", "b", "c")
    letters = [(tenants[k % 3], value(k, tenants[k % 3]), k) for k in range(LETTERS)]
    write_letters(settings, letters)
    write_letters(settings, [("a", BAD, LETTERS)], reason="bad_json")


def start(settings: Settings, id_: str, **more: Any) -> None:
    say(settings, id_, mode="redrive", source=TOPIC, **more)


def test_a_job_sends_letters_once_through_a_pause(topics: Settings, worker: WorkerFactory) -> None:
    write(migrated(topics))
    worker(SOMA_AGENTS="replay")
    start(topics, "dry", dry_run=True)
    dry = await_state(topics, "dry", "done")
    plan = json.loads(dry["plan"])
    assert (dry["sent"], dry["read"], plan["refused"]) == (LETTERS, LETTERS + 1, {"still_bad": 1})
    assert plan["tenants"] == {"a": 200, "b": 200, "c": 200} and not read(topics, TOPIC)
    start(topics, "of-a", tenants=["a"], reasons=["ts_range"])
    assert await_state(topics, "of-a", "done")["sent"] == 200

    start(topics, "rest", rate_limit=100, actor="jo")  # so the pause is heard in between
    start(topics, "second")
    assert "redriven by rest" in await_state(topics, "second", "refused")["message"]
    say(topics, "anew", mode="rebuild", source="", target="predictors", apply=True)
    said = await_state(topics, "anew", "refused")["message"]
    assert said.startswith("cog.observations, which predictors reads, is being redriven by rest")
    eventually(lambda: statuses(topics)["rest"][-1]["sent"] > 50, what="it runs")
    say(topics, "rest", "pause")
    paused = await_state(topics, "rest", "paused")
    under_way = len(read(topics, TOPIC)) - 200 - paused["sent"]  # counted when it goes on
    assert 0 <= under_way <= 50 and paused["sent"] + under_way < 400
    say(topics, "rest", "resume")
    done = await_state(topics, "rest", "done")
    assert (done["sent"], done["done"]) == (400, done["total"])
    sent = read(topics, TOPIC)
    assert sorted(number(one) for one in sent) == list(range(LETTERS))
    assert {headers(one)["soma-redriven"] for one in sent} == {b"1"}
    assert refusals(topics) == {
        "nobody": "tenants: no letter of x, y lies in the range",
        "reason": "There is no reason 'nothing'",
    }
    assert "said to be jo, replay job rest" in {
        one["actor"] for one in decoded(topics, "soma.audit")
    }
    outbox = soma("replay", "start", "outbox", "--dry-run", "--json", env=environment(topics))
    assert json.loads(outbox.stdout)["state"] == "done", outbox.stderr  # another mode of the worker
    shown = soma("replay", "status", "rest", env=environment(topics)).stdout
    assert "1 refused: still_bad" in shown and "vector" in shown
    mended(topics)


def mended(settings: Settings) -> None:
    """A job mends a letter, if what it sets makes a record of it."""
    env = environment(settings)
    words = ("replay", "start", "redrive", "--topic", TOPIC, "--reason", "bad_json", "--set")
    wrong = soma(*words, 'vector="no"', env=env)
    assert "1 refused: bad_mend" in wrong.stdout and "0 sent" in wrong.stdout, wrong.stderr
    done = soma(*words, f"vector=[{2 * LETTERS}, 1]", "--tenant", "a", env=env)
    assert "1 letter mended" in done.stdout and "1 sent" in done.stdout, done.stderr
    assert [one.key() for one in read(settings, TOPIC) if number(one) == 2 * LETTERS] == [b"a"]


def refusals(settings: Settings) -> dict[str, str]:
    """What is said of starts that can't be, up to the first full stop."""
    start(settings, "nobody", tenants=["a", "y", "x"])
    start(settings, "reason", reasons=["nothing"])
    names = ("nobody", "reason")
    found = {name: await_state(settings, name, "refused")["message"] for name in names}
    return {name: text.partition(".")[0] for name, text in found.items()}


def test_what_died_before_it_was_noted_is_counted_and_not_sent_again(topics: Settings) -> None:
    write(topics)
    command = Command(mode="redrive", source=TOPIC, max_attempts=2)
    one = Redrive(topics, "one")
    sent, plan = asyncio.run(ran(one, command, most=3))
    assert 0 < sent < LETTERS and len(read(topics, TOPIC)) == sent
    sent, _ = asyncio.run(ran(one, command, plan))  # from the beginning
    assert sent == LETTERS and len(read(topics, TOPIC)) == LETTERS
    other, _ = asyncio.run(ran(Redrive(topics, "two"), command, plan))
    assert other == 0 and len(read(topics, TOPIC)) == LETTERS
    marks = decoded(topics, "soma.dlq.ledger")
    assert len(marks) == LETTERS and {one["actor"] for one in marks} == {
        "nobody named, replay job one"
    }
    assert redrive(topics, Choice((TOPIC,)), Terms("jo")).refused == {
        "redriven": LETTERS, "still_bad": 1,
    }  # fmt: skip


def test_what_was_folded_since_the_job_began_is_not_sent(
    topics: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(law, "SAME_MS", 0)
    write_letters(topics, [("a", value(k), k) for k in range(200)])
    home = partition_of("a", topics.topics_partitions)
    epoch = {
        "processor": "predictors", "partition": home, "number": 2, "from_offset": 150, "law": 1,
        "settings": {}, "policy": "", "schemas": "", "ts": 0, "topic_id": "",
    }  # fmt: skip

    async def through() -> list[Step]:
        command, mode = Command(mode="redrive", source=TOPIC), Redrive(topics, "one")
        said, found = (await mode.plan(command, few)).said, []
        async with aclosing(mode.steps(command, said, {}, few)) as steps:
            async for step in steps:
                found.append(step)
                if len(found) == 1:  # the predictors read it again, behind the job's beginning
                    data = codec.encode("epoch", epoch)
                    produce(topics, "soma.epochs", [(b"predictors", data)], home)
        return found

    found = asyncio.run(through())
    assert sum(one.sent for one in found) == 150 == len(read(topics, TOPIC))
    assert found[-1].said["refused"] == {"folded": 50}


def decoded(settings: Settings, topic: str) -> list[dict[str, Any]]:
    return [codec.decode(one.value() or b"")[1] for one in read(settings, topic)]
