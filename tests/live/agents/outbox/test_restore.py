"""PostgreSQL or Kafka goes back in time: nothing is lost, and nothing is sent twice."""

import asyncio
import json
import logging
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner

from agents.cli import main
from agents.engine.builder import RawBuilder
from agents.engine.producer import Transactions
from agents.engine.records import frame_one
from agents.outbox import RECEIPTS, SHARDS
from agents.outbox.out_of_step import DATABASE, KAFKA
from agents.outbox.receipts import Receipts, key_of
from agents.settings import Settings
from tests.live.agents.outbox.outbox import (
    Running,
    add,
    asked,
    header,
    queued,
    sequences,
)
from tests.live.agents.outbox.restored import Database
from tests.live.conftest import WorkerFactory
from tests.live.helpers import PARTITIONS, environment, eventually, read, topics_of
from topics import codec, preflight
from topics.broker import connect

MADE = (*topics_of("relay"), "cog.observations")

TOPIC = "cog.observations"


@pytest.fixture
def database(topics: Settings) -> Iterator[Database]:
    one = Database(topics)
    yield one
    one.drop()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard that is stopped is looked at again soon; in between, others can have it."""
    monkeypatch.setattr("agents.outbox.relay.AGAIN_S", 1.0)


def write(settings: Settings, numbers: range, keys: str = "k") -> list[int]:
    async def all_of_them(connection: Any) -> list[int]:
        return [await add(connection, "acme", n, key) for n in numbers for key in keys]

    return asked(settings, all_of_them)


def relayed(settings: Settings) -> None:
    with Running(settings):
        eventually(lambda: queued(settings) == 0, what="an empty queue")


def reconcile(settings: Settings, *words: str, status: int = 0) -> dict[str, Any]:
    done = CliRunner().invoke(
        main, ["outbox", "reconcile", *words, "--json"], env=environment(settings)
    )
    assert done.exit_code == status and done.stdout, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(settings: Settings, *words: str) -> str:
    """The one line that it says."""
    done = CliRunner().invoke(main, ["outbox", "reconcile", *words], env=environment(settings))
    assert done.exit_code == 1 and not done.stdout, done.output
    (line,) = done.stderr.splitlines()
    return line


def now() -> str:
    return datetime.now(UTC).isoformat()


def stopped(running: Running, name: str) -> int:
    """Shards that are stopped for this reason, as the metric says."""
    found = running.registry.get_sample_value("soma_outbox_stopped_shards", {"reason": name})
    return int(found or 0)


def ids(settings: Settings) -> list[bytes]:
    return [header(message, "ce_id") or b"" for message in read(settings, TOPIC)]


def test_new_events_under_the_ids_of_the_last_receipt_arent_taken_for_sent(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    ready = database.settings
    database.back_up()
    first = write(ready, range(40))
    relayed(ready)
    database.restore()
    assert write(ready, range(40, 80)) == first, "the same ids"
    with Running(ready) as running, caplog.at_level(logging.ERROR):
        eventually(lambda: stopped(running, DATABASE) == SHARDS, what="all shards stopped")
        assert running.relay is not None
        assert set(running.relay.stopped().values()) == {DATABASE}
        assert queued(ready) == 40 and len(ids(ready)) == 40, "nothing sent, nothing taken off"
        (line, *_) = [one for one in caplog.messages if "is stopped: database_went_back" in one]
        assert "until `soma outbox reconcile` has" in line, "it knows of no batch: all is read"
        done = reconcile(ready)
        assert (done["delivered"], done["waiting"], done["renumbered"]) == (0, 40, 40)
        eventually(lambda: queued(ready) == 0, what="an empty queue")
        eventually(lambda: not running.relay.stopped())
        assert not running.relay.waits and stopped(running, DATABASE) == 0
    assert sequences(ready) == {("acme", "k"): list(range(80))}
    assert len(set(ids(ready))) == 80, "no id is two events'"


def test_what_was_sent_after_the_backup_isnt_sent_again(database: Database) -> None:
    ready = database.settings
    write(ready, range(10), "abc")
    relayed(ready)
    write(ready, range(10, 20), "abc")  # pending in the backup
    database.back_up()
    relayed(ready)
    for k in range(20, 50, 10):  # several batches that the backup doesn't know of
        write(ready, range(k, k + 10), "abc")
        relayed(ready)
    database.restore()
    write(ready, range(50, 60), "abc")
    with Running(ready) as running:
        eventually(lambda: stopped(running, DATABASE) == SHARDS, what="all shards stopped")
        dry = reconcile(ready, "--dry-run")
        assert (dry["delivered"], dry["waiting"]) == (30, 30) and queued(ready) == 60
        done = reconcile(ready)
        assert done["delivered"] == 30 and done["missing"] == 0
        eventually(lambda: queued(ready) == 0, what="an empty queue")
    wanted = [*range(50), *range(50, 60)]
    assert sequences(ready) == {("acme", key): wanted for key in "abc"}
    assert len(set(ids(ready))) == 180

    async def audited(connection: Any) -> list[Any]:
        return list(await connection.fetch("SELECT action, tenant, detail FROM audit ORDER BY id"))

    rows = asked(ready, audited)
    assert [(row["action"], row["tenant"]) for row in rows] == [
        ("outbox.reconcile", "acme"), ("outbox.reconcile", None)
    ]  # fmt: skip
    assert json.loads(rows[0]["detail"])["delivered"] == 30


def test_a_time_after_what_was_sent_is_refused(database: Database) -> None:
    ready = database.settings
    write(ready, range(3), "abc")
    relayed(ready)
    write(ready, range(3, 6), "abc")  # pending in the backup
    database.back_up()
    relayed(ready)
    database.restore()
    for late in (now(), "2099-01-01T00:00:00Z"):
        for dry in ((), ("--dry-run",)):
            said = refused(ready, "--since", late, *dry)
            assert "is too late" in said and "or leave --since out" in said
    assert queued(ready) == 9
    (latest,) = re.findall(r"what was sent since (\S+),", said)
    assert reconcile(ready, "--since", latest)["delivered"] == 9
    relayed(ready)
    assert sequences(ready) == {("acme", key): list(range(6)) for key in "abc"}
    assert "is in the future" in refused(ready, "--since", "2099-01-01"), "they agree by now"


def test_what_a_service_adds_again_after_the_restore_is_known_by_its_dedupe_key(
    database: Database,
) -> None:
    ready = database.settings
    database.back_up()
    write(ready, range(5))
    relayed(ready)
    database.restore()
    write(ready, range(8))  # the service's own state went back as well
    assert refused(ready, "--since", now()).endswith("at any time, and it would be sent again; "
        "leave --since out")  # fmt: skip
    done = reconcile(ready)
    assert (done["delivered"], done["anew"], done["waiting"]) == (5, 5, 3)
    relayed(ready)
    assert sequences(ready) == {("acme", "k"): list(range(8))}


def test_a_fresh_database_beside_an_old_kafka_is_noticed(database: Database) -> None:
    ready = database.settings
    write(ready, range(5))
    relayed(ready)
    database.make_anew()
    with Running(ready) as one, Running(ready) as two:
        eventually(lambda: stopped(one, DATABASE) == stopped(two, DATABASE) == SHARDS, 60.0)
        reconcile(ready)
        eventually(lambda: one.owned == two.owned == 2, 60.0)
        # A relay believes 20 s later that the other one keeps what it had to stop.
        eventually(lambda: stopped(one, DATABASE) == stopped(two, DATABASE) == 0, 60.0)
        write(ready, range(5, 10))
        eventually(lambda: queued(ready) == 0, what="an empty queue")
    assert sequences(ready) == {("acme", "k"): list(range(10))}
    assert len(set(ids(ready))) == 10


def test_a_database_replaced_under_a_relay_is_noticed_before_anything_is_sent(
    database: Database,
) -> None:
    ready = database.settings
    write(ready, range(5), "abcdef")
    database.back_up()
    with Running(ready) as running:
        for k in (5, 10):
            eventually(lambda: queued(ready) == 0, what="an empty queue")
            write(ready, range(k, k + 5), "abcdef")
        eventually(lambda: queued(ready) == 0, what="an empty queue")
        database.restore()
        eventually(lambda: stopped(running, DATABASE) == SHARDS, 60.0, "all shards stopped")
    assert queued(ready) == 30 and len(ids(ready)) == 90
    assert reconcile(ready)["delivered"] == 30
    relayed(ready)
    assert len(ids(ready)) == 90


def test_a_restore_by_the_last_batch_alone_is_mended_by_its_receipt(database: Database) -> None:
    """The receipt tells what each row was: all of them wait, as they were."""
    ready = database.settings
    write(ready, range(5))
    database.back_up()
    relayed(ready)
    database.restore()
    write(ready, range(5, 8))
    relayed(ready)
    assert sequences(ready) == {("acme", "k"): list(range(8))}


def test_a_kafka_made_anew_is_noticed_and_gets_again_what_it_lost(database: Database) -> None:
    ready = database.settings
    write(ready, range(5))
    relayed(ready)
    names = [ready.topic(TOPIC), ready.topic(RECEIPTS)]
    admin = connect(ready.librdkafka())
    for future in admin.delete_topics(names, operation_timeout=15.0).values():
        future.result(20.0)
    eventually(lambda: not {*names} & {*admin.list_topics(timeout=5.0).topics})
    preflight.apply(ready)
    write(ready, range(5, 7))
    with Running(ready) as running:
        eventually(lambda: stopped(running, KAFKA) == SHARDS, what="all shards stopped")
        lost = reconcile(ready, "--since", "2020-01-01", status=1)
        assert lost["undecided"] and lost["missing"] == 5 and lost["resent"] == 0
        assert reconcile(ready, "--since", "2020-01-01", "--resend")["resent"] == 5
        eventually(lambda: queued(ready) == 0, what="an empty queue")
    assert sequences(ready) == {("acme", "k"): list(range(7))}


def test_a_worker_says_in_ready_what_is_stopped(database: Database, worker: WorkerFactory) -> None:
    ready = database.settings
    asked(ready, lambda c: c.execute("UPDATE outbox_batches SET n = 5 WHERE shard = 2"))
    one = worker(ready, ready=False, SOMA_AGENTS="outbox")

    def said() -> dict[str, Any]:
        try:
            with urllib.request.urlopen(one.url("/ready"), timeout=5.0) as answer:
                return {"status": answer.status}
        except urllib.error.HTTPError as answer:
            return {"status": answer.code, **json.loads(answer.read())["partitions"]}
        except OSError:
            return {}

    wanted = {"status": 503, **{f"outbox/{shard}": KAFKA for shard in range(SHARDS)}}
    eventually(lambda: said() == wanted, 150.0, "the worker says that the outbox is stopped")
    reconcile(ready)
    eventually(lambda: said() == {"status": 200}, 60.0, "the worker is ready")


def test_an_older_relays_receipt_is_obeyed_and_counting_begins(database: Database) -> None:
    ready = database.settings
    first, second = write(ready, range(2))
    shard = asked(ready, lambda c: c.fetchval("SELECT outbox_shard('acme', 'k')"))
    old = codec.encode("outbox_receipt", {"shard": shard, "ids": [first], "ts": 0}, version=1)

    async def as_the_older_one() -> None:
        one = Transactions(ready.bootstrap(), ready.prefix(f"outbox-{shard}"), {})
        await one.start()
        place = Receipts(ready, PARTITIONS).partition(shard)
        paper = RawBuilder(frame_one(0, key_of(shard), old, []), 1)
        await one.commit([(ready.topic(RECEIPTS), place, paper)])
        await one.stop()

    asyncio.run(as_the_older_one())
    relayed(ready)
    assert ids(ready) == [str(second).encode()]
    papers = Receipts(ready, PARTITIONS).read()
    assert (papers[shard].ids, papers[shard].batch) == ([second], 1)


def test_without_a_disagreement_a_time_is_asked_for_and_nothing_changes(
    database: Database,
) -> None:
    ready = database.settings
    write(ready, range(3))
    relayed(ready)
    done = CliRunner().invoke(main, ["outbox", "reconcile"], env=environment(ready))
    assert done.exit_code == 1 and "say --since when" in done.stderr
    found = reconcile(ready, "--since", now()[:10])
    assert (found["ours"], found["delivered"], found["missing"], found["renumbered"]) == (
        3,
        0,
        0,
        0,
    )
    write(ready, range(3, 6))
    relayed(ready)
    assert sequences(ready) == {("acme", "k"): list(range(6))}


def test_while_relays_work_it_names_the_shard(database: Database) -> None:
    ready = database.settings
    with Running(ready) as running, pytest.MonkeyPatch.context() as patch:
        patch.setattr("stores.outbox_reconcile.OWN_S", 0.5)
        eventually(lambda: running.owned == SHARDS)
        done = CliRunner().invoke(
            main, ["outbox", "reconcile", "--since", now()], env=environment(ready)
        )
        waits, ends = done.stderr.splitlines()
        assert done.exit_code == 1 and waits.startswith("a relay has shard 0: waiting for it")
        assert "a relay works on shard 0: stop" in ends
