"""States made anew by command: compared, and put in the live one's place under live traffic.

Workers and the broker are killed meanwhile in tests/live/ops/prove/test_rebuild.py.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

import pytest

from agents.dlq import law
from agents.dlq.reading import Choice
from agents.dlq.redrive import Terms, redrive
from agents.engine.builder import RawBuilder
from agents.engine.plan import Plan
from agents.engine.producer import Transactions
from agents.engine.registry import processors
from agents.engine.security import security
from agents.history import plans, snapshots
from agents.history.rows import Digest
from agents.history.states import WHOLE
from agents.history.stored import stored
from agents.replay.command import Command
from agents.replay.jobs import now_us
from agents.replay.partition import Partition
from agents.replay.switch import Sends, Switch
from agents.settings import Settings
from tests.live.agents.dlq.written import value, write_letters
from tests.live.agents.engine.test_laws import until
from tests.live.agents.replay.helpers import await_state, observations, say, statuses
from tests.live.conftest import WorkerFactory
from tests.live.helpers import (
    Worker,
    environment,
    eventually,
    produce,
    read,
    soma,
    topics_of,
)
from tests.live.test_bad_days import delete_records, delete_topics
from topics import codec, preflight
from topics.partition import partition_of

MADE = topics_of("replay", "predictors")
PARTITIONS = 4  # some of its tenants lie apart

SINKS = ("cog.predictor.updates", "cog.next.events", "cog.predictor.calibration")
SOURCE, OUT, STATE = "cog.observations", "cog.predictor.updates", "soma.predictors.state"
SNAPSHOTS = "soma.predictors.snapshots"
RUN = {"SOMA_AGENTS": "predictors,replay"}


def rebuild(settings: Settings, id_: str, state: str = "done", **more: Any) -> dict[str, Any]:
    """A rebuild of the predictors, as any client says it; its last status."""
    say(settings, id_, **({"mode": "rebuild", "source": "", "target": "predictors"} | more))
    return await_state(settings, id_, state)


def processor_of(settings: Settings) -> Plan:
    return plans.plan_of(settings, processors(["predictors"])["predictors"])


def plan_of(status: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(status["plan"]))


def folded(settings: Settings) -> int:
    """The next offsets of the predictors' partitions together."""
    at: dict[int, int] = {}
    for message in read(settings, STATE):
        if message.key() == b"@position":
            at[message.partition() or 0] = codec.decode(message.value() or b"")[1]["next_offset"]
    return sum(at.values())


def causes(settings: Settings) -> list[str]:
    """The ids of the observations that updates are of."""
    values = (one.value() or b"" for one in read(settings, OUT))
    return [str(codec.decode(value)[1]["observation_id"]) for value in values]


@contextmanager
def traffic(settings: Settings) -> Iterator[list[int]]:
    """Observations while the block runs; how many, in a list of one."""
    stop, sent = threading.Event(), [0]

    def write() -> None:
        while not stop.wait(0.05):
            produce(settings, SOURCE, observations(20, since=sent[0]))
            sent[0] += 20

    thread = threading.Thread(target=write, name="traffic")
    thread.start()
    try:
        yield sent
    finally:
        stop.set()
        thread.join()


def tamper(settings: Settings, tenant: str) -> None:
    """Change a tenant's row, as a hand or a defect might."""
    key = f"{tenant}\x1fstate".encode()
    rows = {one.key(): one.value() for one in read(settings, STATE) if one.value()}
    name, row = codec.decode(rows[key] or b"")
    value = codec.encode(name, row | {"touched": row["touched"] + 1})
    produce(settings, STATE, [(key, value)], partition_of(tenant, settings.topics_partitions))


def equal(settings: Settings, sent: int) -> None:
    """Nothing is lost or doubled, and the state is that of the log."""
    eventually(lambda: len(causes(settings)) >= sent, what="an update of each observation")
    found = causes(settings)
    assert len(found) == len(set(found)) == sent
    eventually(lambda: folded(settings) == sent, what="all to be folded")
    said = rebuild(settings, f"look-{sent}")["message"]
    assert said.startswith("all ") and said.endswith(" rows are equal")


def rehearsed(topics: Settings) -> None:
    """A dry run says what would be folded, and with what it would begin."""
    done = rebuild(topics, "dry", dry_run=True)
    records = [one for one in read(topics, SOURCE) if one.partition() is not None]
    size = sum(len(one.key() or b"") + len(one.value() or b"") for one in records)
    assert (done["read"], done["sent"], done["sent_bytes"]) == (700, 700, size)
    assert (done["done"], done["total"], done["message"]) == (700, 700, "")
    plan, times = plan_of(done), [one.timestamp()[1] for one in records]
    assert plan["times"] == [min(times), max(times)] and plan["partitions"] == {}
    assert plan["tenants"] == {f"t{k}": 70 for k in range(10)}
    home = str(partition_of("t1", topics.topics_partitions))
    assert set(plan["begins"].values()) == {"the whole log"} == {plan["begins"][home]}
    told = soma(
        "replay", "start", "rebuild", "--processor", "predictors", "--tenant", "t1", "--dry-run",
        env=environment(topics),
    ).stdout  # fmt: skip
    first, last = plan["ranges"][home]
    assert f"{last - first} records read, 70 would be folded" in told.splitlines()[0]
    assert f"  partition {home}: offsets 0 to {last} of " in told and "the whole log" in told
    assert "  t1: 70 records" in told and " bytes\n" in told and "  written " in told


def looked_at(topics: Settings, one: Worker) -> None:
    """It is made anew beside the live one, and rows that differ are named."""
    rehearsed(topics)
    done = rebuild(topics, "same", apply=True)
    assert done["digest_before"] == done["digest_after"]
    assert done["message"] == "all 20 rows are equal; 0 are written"
    assert (done["read"], done["done"], done["total"]) == (700, 700, 700)
    parts = plan_of(done)["partitions"]
    assert len(parts) == PARTITIONS and sum(part["rows"] for part in parts.values()) == 20
    assert "fenced" not in one.log.read_text(), "nobody is disturbed where nothing differs"

    tamper(topics, "t1")
    started = soma(
        "replay", "start", "rebuild", "--processor", "predictors", env=environment(topics)
    )
    assert started.returncode == 1, started.stderr
    assert "t1/state: " in started.stdout and "1 row differs" in started.stdout
    other = rebuild(topics, "t2", tenants=["t2"])
    assert other["message"] == "all 2 rows are equal" and len(plan_of(other)["partitions"]) == 1
    said = rebuild(topics, "nobody", "failed", tenants=["nobody"])
    assert said["message"] == "tenants: nothing of nobody, neither live nor made anew"
    slow = {"mode": "rebuild", "source": "", "target": "predictors", "rate_limit": 1}
    say(topics, "slow", **slow)
    await_state(topics, "slow", "running")
    said = rebuild(topics, "second", "refused")
    assert said["message"] == "predictors is being rebuilt by slow: wait for it, or stop it"
    say(topics, "slow", "stop")
    assert await_state(topics, "slow", "stopped")["done"] < 700
    loss = {"since": "0:3", "until": "0:5"}
    for id_, state, given, text in (
        ("none", "refused", {"target": "nothing"}, "there is no processor 'nothing'; there are "),
        ("whose", "refused", {"target": ""}, "target: the processor whose state"),
        ("both", "refused", {"shadow": "try", "apply": True}, "apply: not with a shadow"),
        ("own", "refused", {"shadow": topics.namespace}, "this very installation"),
        ("name", "refused", {"shadow": "Try_1"}, "'Try_1': 1 to 32 of a-z 0-9 -"),
        ("some", "refused", loss, "since and until: of a rebuild they say what may be missing"),
        ("all", "refused", {"since": "3", "until": "5", "partial": True}, "say of which partition"),
        ("whole", "failed", {**loss, "partial": True}, "nothing is missing, yet 3..4 may be"),
    ):  # fmt: skip
        assert text in rebuild(topics, id_, state, **given)["message"]


def outputs(settings: Settings, tenant: str = "") -> dict[tuple[str, int], list[Any]]:
    """Keys and values of the predictors' topics by partition, in their order; of one tenant."""
    found: dict[tuple[str, int], list[Any]] = {}
    for name in SINKS:
        for one in read(settings, name):
            if not tenant or one.key() == tenant.encode():
                found.setdefault((name, one.partition() or 0), []).append((one.key(), one.value()))
    return found


def sent_aside(topics: Settings) -> None:
    """Its outputs go into a shadow, each once though the job begins its partition anew."""
    live = outputs(topics)
    there, mine = (topics.model_copy(update={"namespace": f"{topics.namespace}{k}"}) for k in "ab")
    slow = {"mode": "rebuild", "source": "", "target": "predictors", "rate_limit": 150}
    dry = rebuild(topics, "dry", shadow=there.namespace, dry_run=True)
    assert {one["topic_id"] for one in plan_of(dry)["targets"].values()} == {""}
    say(topics, "aside", **slow, shadow=there.namespace)
    eventually(lambda: statuses(topics)["aside"][-1:] and statuses(topics)["aside"][-1]["sent"])
    say(topics, "aside", "pause")
    paused = await_state(topics, "aside", "paused")
    assert (
        0 < paused["sent"] == sum(map(len, outputs(there).values())) < sum(map(len, live.values()))
    )
    say(topics, "aside", "resume")
    done = await_state(topics, "aside", "done")
    assert outputs(there) == live, "as they were sent, and none twice"
    assert done["sent"] == sum(map(len, live.values())) == sum(plan_of(done)["sent"].values())
    assert done["message"].startswith("all 20 rows are equal; ") and done["done"] == 700
    command = ("replay", "start", "rebuild", "--processor", "predictors", "--tenant", "t1")
    shown = soma(*command, "--shadow", mine.namespace, env=environment(topics))
    assert shown.returncode == 0, shown.stderr
    assert outputs(mine) == outputs(topics, "t1")
    assert f"70 outputs of {OUT} to {mine.topic(OUT)}" in shown.stdout
    preflight.apply(mine, [STATE], topics.topics_partitions)
    produce(mine, STATE, [(b"t1", b"a row")])
    busy = rebuild(topics, "busy", "refused", shadow=mine.namespace)["message"]
    assert "a processor works in the namespace" in busy


def heard_when_idle(topics: Settings, one: Worker) -> None:
    """An owner to which nothing comes commits nothing: it hears all the same."""
    done = rebuild(topics, "idle", apply=True)
    assert done["message"].endswith("1 are written")  # of t1, as was looked at
    anew = "is taken anew: its state was made anew by idle"
    eventually(lambda: anew in one.log.read_text(), what="the owner to hear")


class Held(Switch):
    """A switch that has fenced the owner, and doesn't get on; or not behind its commit."""

    fenced: asyncio.Event
    behind = False

    async def commit(self, sends: Iterable[tuple[str, int, RawBuilder]]) -> None:
        if self.behind:
            await super().commit(sends)
        self.fenced.set()
        await asyncio.Event().wait()


async def stop_in_between(topics: Settings, job: str, tenant: str, behind: bool = False) -> None:
    """What a job does of the tenant's partition, until it has its id, or is behind its commit; then
    it is stopped.
    """
    of, home = processor_of(topics), partition_of(tenant, topics.topics_partitions)
    held = Held(topics, of, home, job, {"actor": "jo", "accepted": now_us()})
    held.fenced, held.behind = asyncio.Event(), behind
    at = stored(topics, of, home).position
    assert at is not None
    command = Command(mode="rebuild", target="predictors", apply=True)
    work = Partition(topics, of, home, (0, at.next_offset), command, held)
    announcing = Transactions(topics.bootstrap(), topics.prefix("announcing"), security(topics))

    async def announce(sends: Sends) -> None:
        await announcing.start()
        await announcing.commit(sends)
        await announcing.stop()

    async def work_on() -> None:
        async def take(wanted: int) -> int:
            return wanted

        async with aclosing(work.steps(take)) as steps:
            async for step in steps:
                if step.sends:
                    await announce(list(step.sends))

    going = asyncio.create_task(work_on())
    await asyncio.wait_for(held.fenced.wait(), 60)
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)


def stopped(topics: Settings, one: Worker) -> int:
    """A job is stopped while it has the partition: its owner goes on at once, with the rows of
    before.

    How many observations there are then.
    """
    tamper(topics, "t7")
    of, home = processor_of(topics), partition_of("t7", topics.topics_partitions)
    before = stored(topics, of, home).rows
    asyncio.run(stop_in_between(topics, "stopped", "t7"))
    produce(topics, SOURCE, observations(70))
    eventually(lambda: folded(topics) == 770, what="all to be folded")
    log = one.log.read_text()
    assert "stopped ended, and left the state of" in log and "taken anew as it is" not in log
    found = causes(topics)
    assert len(found) == len(set(found)) == 770
    after = stored(topics, of, home).rows
    assert after.keys() == before.keys()
    done = rebuild(topics, "still-other", tenants=["t7"])
    assert done["message"].startswith("1 of "), "what was wrong before still is"
    return 770


def stopped_too_late(topics: Settings) -> None:
    """A job is stopped behind the commit of its rows, before a step could say so: that is said."""
    home = partition_of("t7", topics.topics_partitions)
    slow = {"mode": "rebuild", "source": "", "target": "predictors", "rate_limit": 1}
    say(topics, "late", **slow, tenants=["t7"], apply=True)
    eventually(lambda: any(each["plan"] for each in statuses(topics)["late"]), what="its plan")
    asyncio.run(stop_in_between(topics, "late", "t7", behind=True))
    say(topics, "late", "stop")
    said = await_state(topics, "late", "stopped")["message"]
    assert said.startswith(f"partition {home} was put in place before it stopped, to offset "), said
    assert said.endswith(": 1 rows are written")


def put_in_place(topics: Settings, one: Worker, before: int) -> int:
    """It takes the live one's place under live traffic; how many observations there are then."""
    with traffic(topics) as sent:
        eventually(lambda: sent[0] > 100, what="traffic")
        for k in range(2):
            tamper(topics, f"t{7 + k}")
            done = rebuild(topics, f"apply-{k}", apply=True)
            applied = [part["applied"] for part in plan_of(done)["partitions"].values()]
            assert sum(each["written"] for each in applied if each) >= 1
        time.sleep(0.5)
    log = one.log.read_text()
    # Its owner waits for the job, or finds it done where the job was quicker than a commit; one
    # whose commit was under way may be told of an unknown error, and takes it anew by itself.
    assert "made anew by apply-" in log and "asking the group" not in log
    events = [codec.decode(each.value() or b"")[1] for each in read(topics, "soma.audit")]
    assert {each["action"] for each in events} == {"replay.rebuild"} and len(events) >= 2
    equal(topics, before + sent[0])
    return before + sent[0]


def brought_back(topics: Settings, one: Worker, sent: int) -> None:
    """The state topic is deleted under the worker, and made anew."""
    delete_topics(topics, STATE)
    preflight.apply(topics)
    produce(topics, SOURCE, observations(70))
    until(one, lambda answer: "state_lost" in str(answer.get("partitions")), "state_lost")
    done = rebuild(topics, "lost", apply=True)
    assert "state_lost" in done["plan"], done
    until(one, lambda answer: bool(answer["ready"]), "the worker to go on")
    equal(topics, sent + 70)


def begun_late(topics: Settings) -> None:
    """Where it is said, a fold begins with the newest snapshot, though the log is whole."""
    of, home = processor_of(topics), partition_of("t7", topics.topics_partitions)
    newest = snapshots.take(topics, of, home)
    assert newest is not None
    for begin, wanted in (("snapshot", f"the snapshot at {newest.next_offset}"), ("log", WHOLE)):
        plan = plan_of(rebuild(topics, f"from-{begin}", tenants=["t7"], begin=begin))
        assert plan["partitions"][str(home)]["from"] == wanted == plan["begins"][str(home)]


def gone_on(topics: Settings, worker: WorkerFactory) -> None:
    """Records are deleted before they were read; who goes on knows other schemas."""
    home = partition_of("t1", topics.topics_partitions)
    low = sum(1 for each in read(topics, SOURCE) if each.partition() == home)
    produce(topics, SOURCE, observations(70))
    delete_records(topics, SOURCE, home)
    two = worker(**RUN, SOMA_PLUGINS="ops.examples", ready=False)
    until(two, lambda answer: "records_gone" in str(answer.get("partitions")), "records_gone")
    said = rebuild(topics, "unsaid", "failed", apply=True)["message"]
    gone = f"{home}:{low}.."
    assert f"`--accept-loss {gone}" in said
    words = said[said.index(gone) :].split("`")[0]
    command = ("replay", "start", "rebuild", "--processor", "predictors", "--apply")
    done = soma(*command, "--accept-loss", words, env=environment(topics))
    assert done.returncode == 0, done.stderr
    assert f"without offsets {words.partition(':')[2]}" in done.stdout
    until(two, lambda answer: bool(answer["ready"]), "the worker to go on")
    before = len(causes(topics))
    produce(topics, SOURCE, observations(70))
    eventually(lambda: len(causes(topics)) >= before + 70 - 10, what="what comes behind")
    found = causes(topics)
    assert len(found) == len(set(found))


def with_bad_snapshots(topics: Settings) -> None:
    """The log's beginning is gone, and no snapshot will do: they are named, and nothing changes."""
    of, home = processor_of(topics), partition_of("t1", topics.topics_partitions)
    good, rows = snapshots.take(topics, of, home), stored(topics, of, home).rows
    assert good is not None and good.rows == len(rows)
    delete_records(topics, SNAPSHOTS, home)
    key, row = next(iter(rows.items()))
    record = {
        "processor": "predictors", "partition": home, "topic_id": good.topic_id,
        "next_offset": good.next_offset, "epoch": good.epoch, "rows": 1, "ts": good.ts,
        "digest": Digest({key: row + b"!"}).hex, "version": snapshots.VERSION,
    }  # fmt: skip
    later = record | {"version": snapshots.VERSION + 1}
    closing = [(snapshots.CLOSING, codec.encode("snapshot", one)) for one in (record, later)]
    produce(topics, SNAPSHOTS, [(key, row), *closing], home)
    tamper(topics, "t1")
    before = stored(topics, of, home)
    tamper(topics, "t6")  # of a partition before that one
    said = rebuild(topics, "bad-snapshots", "failed", tenants=["t1", "t6"], apply=True)["message"]
    placed = partition_of("t6", topics.topics_partitions)
    assert said.endswith(f"; what was put in place before stays: partition {placed}")
    assert "are no longer in the log, which begins at " in said
    assert "is damaged: 1 rows with the digest" in said and "is of a newer version" in said
    after = stored(topics, of, home)
    assert (after.rows, after.position) == (before.rows, before.position)

    good_one = codec.encode("snapshot", record | {"rows": good.rows, "digest": good.digest})
    produce(topics, SNAPSHOTS, [*rows.items(), (snapshots.CLOSING, good_one)], home)
    done = rebuild(topics, "good-snapshot", tenants=["t1"], apply=True)
    (part,) = plan_of(done)["partitions"].values()
    assert part["from"] == f"the snapshot at {good.next_offset}" and part["applied"]["written"] == 1
    assert sum("is damaged" in note for note in part["notes"]) == 1


def redriven(topics: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """By other schemas than those it failed by, a record may be folded in a state made anew."""
    monkeypatch.setattr(law, "SAME_MS", 0)  # what is younger than a letter, is so by seconds
    tamper(topics, "t2")
    done = rebuild(topics, "other-schemas", tenants=["t2"], apply=True)
    assert done["message"].startswith("1 of ")
    tally = redrive(topics, Choice((SOURCE,)), Terms("jo"))
    assert (tally.sent, dict(tally.refused), set(tally.tenants)) == (1, {"folded": 1}, {"t0"})
    assert "predictors has read its offset again since" in tally.named[0]["said"]


def test_states_are_made_anew_take_the_live_ones_place_and_bring_back_what_was_lost(
    topics: Settings, worker: WorkerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(topics, SOURCE, observations(700, tenants=10))  # t7 to t9 are silent then
    one = worker(**RUN)
    eventually(lambda: folded(topics) == 700, what="all to be folded")
    sent_aside(topics)
    looked_at(topics, one)
    heard_when_idle(topics, one)
    sent = stopped(topics, one)
    stopped_too_late(topics)
    brought_back(topics, one, put_in_place(topics, one, sent))
    begun_late(topics)
    assert one.stop() == 0
    write_letters(topics, [(name, value(1, name), 1) for name in ("t0", "t2")])
    gone_on(topics, worker)
    with_bad_snapshots(topics)
    redriven(topics, monkeypatch)
