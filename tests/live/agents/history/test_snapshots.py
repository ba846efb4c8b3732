"""Snapshots stand for what a source no longer has; what can't be used is named and passed over."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from faust.types import TP

from agents.engine.logs import inspect
from agents.engine.plan import Plan
from agents.engine.registry import processors
from agents.history import snapshots
from agents.history.audit import Audited, audit, digest_of
from agents.history.errors import BadSnapshot, Gone, HistoryError
from agents.history.rows import Digest, differing
from agents.history.states import Past, current
from agents.settings import Settings
from tests.live.conftest import WorkerFactory
from tests.live.helpers import Worker, environment, eventually, produce, soma, topics_of
from tests.live.test_bad_days import delete_topics
from tests.live.test_invariants import FRAMES, UPDATES, everything_folded, set_value, updates
from topics import codec, preflight
from topics.broker import connect
from topics.missed import Admin
from topics.reading import ends_of

MADE = topics_of("integrator")

PARTITIONS = 4  # the third is looked at
PARTITION = 2
SNAPSHOTS = "soma.integrator.snapshots"


@pytest.fixture
def plan(topics: Settings) -> Plan:
    return Plan(processors(["integrator"])["integrator"], topics, topics.topics_partitions)


@pytest.fixture
def one(topics: Settings, worker: WorkerFactory) -> Iterator[Worker]:
    """A worker that has folded 600 updates, with a setting in between."""
    first = worker(SOMA_AGENTS="integrator")
    produce(topics, UPDATES, updates(1, 300))
    set_value(topics, "*", "margin", "0.2")
    more(topics, 2, 600)
    yield first
    assert first.stop() == 0


def more(settings: Settings, seed: int, frames: int) -> None:
    """300 more updates, folded."""
    produce(settings, UPDATES, updates(seed, 300))
    eventually(everything_folded(settings, frames), what=f"{frames} in {FRAMES}")


def audited(settings: Settings, plan: Plan, newest: bool = False) -> Audited:
    return audit(settings, plan, PARTITION, "", newest, lambda past: None)


def delete_before(settings: Settings, offset: int) -> None:
    """As retention does."""
    place = TopicPartition(settings.topic(UPDATES), PARTITION, offset)
    admin = connect(settings.librdkafka())
    for future in admin.delete_records([place]).values():
        future.result(20)


def taken(settings: Settings, plan: Plan) -> snapshots.Snapshot:
    one = snapshots.take(settings, plan, PARTITION)
    assert one is not None
    return one


@pytest.mark.parametrize("ending", [KeyboardInterrupt, HistoryError])
def test_one_that_is_given_up_leaves_no_transaction_open(
    topics: Settings, plan: Plan, ending: type[BaseException]
) -> None:
    """Ctrl-C, or SIGTERM, which is told as such: readers would be held up for minutes."""
    place = snapshots.place_of(topics, plan, PARTITION)
    readers = {
        name: Consumer(topics.librdkafka(group_id=name, isolation_level=name))
        for name in ("read_committed", "read_uncommitted")
    }

    def end(of: str) -> int:
        return ends_of(readers[of], [place])[place]

    class Interrupted(dict[bytes, bytes]):
        def items(self) -> Any:
            yield b"key", b"value"
            eventually(lambda: end("read_uncommitted") > end("read_committed"), what="a row there")
            raise ending

    record = {"processor": "integrator", "partition": PARTITION}
    try:
        before = end("read_committed")
        with pytest.raises(ending):
            snapshots._written(topics, place, Interrupted(), record)
        eventually(
            lambda: end("read_committed") == end("read_uncommitted") > before, what="its end"
        )
        with pytest.raises(HistoryError, match="we end"):
            snapshots._written(topics, place, {b"key": b"value"}, record, lambda: True)
    finally:
        for reader in readers.values():
            reader.close()


def test_a_snapshot_stands_for_records_that_were_deleted(
    topics: Settings, plan: Plan, one: Worker
) -> None:
    first = audited(topics, plan)
    assert first.rebuilt is not None and first.rebuilt.differing == []
    assert first.rebuilt.of == "the whole log" and first.rebuilt.records > 100
    delete_before(topics, 5)
    text = r"offsets 0 to 4 are no longer in the log, which begins at 5, and no snapshot"
    with pytest.raises(Gone, match=text):
        audited(topics, plan)
    early = taken(topics, plan)
    assert early.rows == first.digest.rows and early.digest == first.digest.hex
    more(topics, 3, 900)
    anew = audited(topics, plan).rebuilt
    assert anew is not None and anew.differing == [] and anew.begun == early.next_offset

    # Of several, the oldest from which the log goes on proves most, and the newest is quickest.
    late = taken(topics, plan)
    more(topics, 4, 1200)
    for newest, which in ((False, early), (True, late)):
        anew = audited(topics, plan, newest).rebuilt
        assert anew is not None and anew.differing == [] and anew.begun == which.next_offset
    delete_before(topics, early.next_offset + 1)
    anew = audited(topics, plan).rebuilt
    assert anew is not None and anew.differing == [] and anew.begun == late.next_offset

    env = environment(topics)
    said = soma("digest", "integrator", "--partition", str(PARTITION), "--rebuild", env=env)
    assert said.returncode == 0 and f"from the snapshot at {late.next_offset}" in said.stdout
    lost = soma("digest", "integrator", "--rebuild", "--partition", "1", env=env)
    assert lost.returncode == 0, lost.stderr  # that one's log is whole


def test_one_that_is_damaged_or_of_a_newer_version_is_named_and_not_used(
    topics: Settings, plan: Plan, one: Worker
) -> None:
    assert list(snapshots.listed(topics, plan, PARTITION)) == []
    good = taken(topics, plan)
    state = current(topics, plan, PARTITION)
    assert state.position is not None
    key, value = next(iter(state.rows.items()))
    record = {
        "processor": "integrator", "partition": PARTITION, "topic_id": good.topic_id,
        "next_offset": good.next_offset, "epoch": 1, "rows": 1, "ts": good.ts,
        "digest": Digest({key: value + b"!"}).hex, "version": 1,
    }  # fmt: skip
    closing = [codec.encode("snapshot", one) for one in (record, record | {"version": 2})]
    foreign = codec.encode("snapshot", record | {"processor": "predictors"})
    tail = [
        (key, value),
        *((snapshots.CLOSING, it) for it in (*closing, b"\0\0\0\xff\xff", foreign)),
    ]
    produce(topics, SNAPSHOTS, tail, PARTITION)
    newest = taken(topics, plan)
    found = list(snapshots.listed(topics, plan, PARTITION))
    assert found[0] == newest and found[-1] == good and len(found) == 6
    wrong = [it.wrong.partition(f"/{PARTITION}/")[2].partition(" ")[2] for it in found]
    assert wrong == ["", "isn't one of integrator/2", *["is of a newer version"] * 2, "", ""]
    with pytest.raises(BadSnapshot, match=r"is damaged: 1 rows with the digest"):
        snapshots.load(topics, plan, found[4])
    assert snapshots.load(topics, plan, good) == state.rows == snapshots.load(topics, plan, newest)
    with pytest.raises(BadSnapshot, match="is damaged: "):
        snapshots.load(topics, plan, replace(good, rows=good.rows - 1))

    past = Past(topics, plan, PARTITION)
    past.start(newest.next_offset)
    assert past.begun == newest.next_offset and past.notes == []
    # Before the newest, the good one behind all the others is taken, and they are named.
    more(topics, 3, 900)
    late = {**record, "next_offset": good.next_offset + 1}
    bad = [(key, value), (snapshots.CLOSING, codec.encode("snapshot", late))]
    produce(topics, SNAPSHOTS, bad, PARTITION)
    past = Past(topics, plan, PARTITION)
    assert past.start(good.next_offset + 1) == f"the snapshot at {newest.next_offset}"
    (note,) = past.notes
    assert note.startswith("not used: the snapshot at ") and "is damaged" in note
    verified = soma("snapshot", "verify", "integrator", "--json", env=environment(topics))
    assert verified.returncode == 1, verified.stderr
    each = json.loads(verified.stdout)["snapshots"]
    assert ["wrong" in it for it in each] == [True, False, True, True, True, True, False]


def test_a_state_is_shown_as_it_was(topics: Settings, plan: Plan, one: Worker) -> None:
    state = current(topics, plan, PARTITION)
    assert state.position is not None
    tenant = next(k.decode() for k in sorted(state.rows) if k != b"*")
    middle = taken(topics, plan)
    more(topics, 3, 900)
    env = environment(topics)

    def show(*words: str) -> dict[str, object]:
        done = soma("state", "show", "integrator", "--tenant", tenant, *words, "--json", env=env)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    now, then = show(), show("--at", f"{PARTITION}/{middle.next_offset}")
    assert now["from"] == "the state topic"
    assert then["from"] == f"the snapshot at {middle.next_offset}" and then["rows"] != now["rows"]
    earlier = show("--at", str(middle.next_offset - 1))
    assert earlier["from"] == "the whole log" and earlier["offset"] == middle.next_offset - 1
    later = inspect(topics, Admin(topics.librdkafka()), TP(plan.source, PARTITION), plan.state).high
    assert show("--at", str(later))["rows"] == now["rows"]

    past = Past(topics, plan, PARTITION)
    past.start(middle.next_offset - 1)
    past.fold_to(middle.next_offset)
    assert differing(past.rows(), state.rows) == [], "the whole log and the snapshot agree"
    words = ("diff", "integrator", "--tenant", tenant, "--between", "0")
    done = soma(*words, str(later), env=env)
    assert done.returncode == 0 and f"{tenant}: only after" in done.stdout
    done = soma(*words, str(middle.next_offset), "--json", env=env)
    assert json.loads(done.stdout)["rows"] == [{"key": tenant, "only": "after"}]

    for at, text in (
        ("99999999", f"99999999: {plan.source}/{PARTITION} ends at offset "),
        ("2999-01-01T00:00:00Z", "is in the future"),
        ("1/0", "1/0: it is partition 2 that counts here"),
        ("soon", "'soon' isn't a time such as 2026-01-31T12:00:00Z, nor an offset"),
    ):
        done = soma("state", "show", "integrator", "--tenant", tenant, "--at", at, env=env)
        assert done.returncode and text in done.stderr and "Traceback" not in done.stderr
    done = soma("state", "show", "integrator", "--tenant", "never-was", env=env)
    assert (done.returncode, done.stderr) == (
        1, "integrator has no state of the tenant never-was.\n"
    )  # fmt: skip
    done = soma("state", "show", "integrator", "--tenant", tenant, env=env)
    assert "leader " in done.stdout and done.stdout.count("last record ") == 1


def test_a_source_that_was_made_anew_is_named_until_a_snapshot_is_of_it(
    topics: Settings, plan: Plan, one: Worker
) -> None:
    old = taken(topics, plan)
    delete_topics(topics, UPDATES)
    preflight.apply(topics)
    more(topics, 3, 900)
    state = current(topics, plan, PARTITION)
    assert state.position is not None and state.position.topic_id != old.topic_id
    text = r"its state began before the topic was made anew.*\(not used: .* is of a topic that was"
    with pytest.raises(Gone, match=text):
        audited(topics, plan)
    new = taken(topics, plan)
    assert new.topic_id == state.position.topic_id
    more(topics, 4, 1200)
    found = audited(topics, plan).rebuilt
    assert found is not None and found.differing == [] and found.begun == new.next_offset


def test_a_log_that_went_back_in_time_is_named(topics: Settings, plan: Plan, one: Worker) -> None:
    past = Past(topics, plan, PARTITION)
    with pytest.raises(HistoryError, match=r"ends at \d+, before offset 99999: Kafka went back"):
        past.start(99_999)
    assert digest_of(topics, plan, PARTITION).digest.rows > 0
