"""A law that fails, or takes long, holds up its own partition, by name; nothing else."""

import io
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic

from agents.settings import Settings
from ops.prove import proxy
from ops.prove.proxy import Proxy, Rule
from tests.live import helpers
from tests.live.conftest import WorkerFactory
from tests.live.helpers import REPO, Worker, environment, eventually, produce, soma
from tests.live.laws import OUT, PLUGIN, SCHEMAS
from tests.unit.agents.engine.echo import event
from topics import codec
from topics.broker import connect, wait_for
from topics.partition import partition_of

MADE = ("memory.events", "memory.events.dlq", "soma.epochs")

PARTITIONS = 4  # one for each thing that a law can't do
SOURCE, STATE, DLQ = "memory.events", "soma.sick.state", "memory.events.dlq"
WITH_SICK = {"SOMA_PLUGINS": "tests.live.laws"}
SICK = {"SOMA_AGENTS": "sick", **WITH_SICK}
BOTH = {"SOMA_AGENTS": "sick,well", **WITH_SICK}


@pytest.fixture
def sick(topics: Settings) -> Settings:
    """The settings of this test, with the topics of both processors."""
    admin = connect(topics.librdkafka())
    new = [
        NewTopic(topics.topic(one.name), topics.topics_partitions, 1, config=one.settings())
        for one in PLUGIN.topics
    ]
    for future in admin.create_topics(new).values():
        future.result(20)
    wait_for(admin, [topics.topic(one.name) for one in PLUGIN.topics])
    return topics


def tell(settings: Settings, tenant: str, *told: Mapping[str, Any]) -> None:
    """Records of a tenant that say what the law is to do."""
    now = time.time_ns() // 1000
    values = [codec.encode("memory_event", event(tenant, json.dumps(one), now)) for one in told]
    produce(settings, SOURCE, [(tenant.encode(), value) for value in values])


def row_of(value: bytes, schemas: Path = SCHEMAS) -> dict[str, Any]:
    """A state row, whatever version wrote it."""
    stem = json.loads((schemas / "ids.json").read_text())[str(int.from_bytes(value[1:5], "big"))]
    schema = fastavro.parse_schema(json.loads((schemas / f"{stem}.avsc").read_text()))
    record: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)
    return dict(record)


def counts(
    settings: Settings, processor: str = "sick", schemas: Path = SCHEMAS
) -> dict[str, float]:
    """How many records of each tenant are folded, by a processor's state."""
    found = {}
    for message in helpers.read(settings, f"soma.{processor}.state"):
        key, value = message.key() or b"", message.value()
        if key != b"@position" and value is not None:
            found[key.decode()] = row_of(value, schemas)["total"]
    return found


def ready(worker: Worker) -> dict[str, Any]:
    """What /ready says, whatever its status; nothing where it doesn't answer."""
    try:
        with urllib.request.urlopen(worker.url("/ready"), timeout=5.0) as answer:
            return dict(json.loads(answer.read()))
    except urllib.error.HTTPError as error:
        return dict(json.loads(error.read()))
    except OSError:
        return {}


def until(worker: Worker, said: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
    """What /ready says once it says so."""

    def there() -> dict[str, Any]:
        answer = ready(worker)
        return answer if said(answer) else {}

    try:
        return eventually(there, what=what)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{worker.tail()}") from error


def homes(count: int = 2) -> list[str]:
    """Tenants of different partitions."""
    found = {partition_of(f"t{k}", PARTITIONS): f"t{k}" for k in range(40)}
    return list(found.values())[:count]


def test_a_law_that_raises_stops_its_partition_by_name_until_the_record_is_passed_over(
    sick: Settings, worker: WorkerFactory
) -> None:
    ill, well = homes()
    place = f"{sick.topic(SOURCE)}/{partition_of(ill, PARTITIONS)}"
    first = worker(sick, **SICK)
    tell(sick, ill, {}, {}, {"raise": "sick"}, {}, {})
    answer = until(first, lambda one: "troubles" in one, "the failure in /ready")
    assert answer["partitions"][place] == "law_failed" and not answer["ready"]
    assert answer["troubles"][place].startswith(f"sick at {place}/2: ValueError: a record ")
    assert [v for v in answer["partitions"].values() if v != "running"] == ["law_failed"]
    log = first.log.read_text()
    assert "Traceback" in log and "raise ValueError(f" in log and f"sick at {place}/2: " in log
    assert counts(sick) == {ill: 2}, "what came before is kept"
    tell(sick, well, {}, {}, {})
    eventually(lambda: counts(sick) == {ill: 2, well: 3}, what="the other partition goes on")
    first.kill()

    second = worker(sick, ready=False, **SICK)
    until(
        second,
        lambda one: one.get("partitions", {}).get(place) == "law_failed",
        "the failure again",
    )
    env = environment(sick, **WITH_SICK)

    words = ("--processor", "sick", "--reason", "it's broken", "--actor", "me")

    def passed(offset: int) -> str:
        done = soma("skip", f"{place}/{offset}", *words, env=env)
        return "" if done.returncode == 0 else done.stderr.strip()

    assert passed(3) == f"Error: 2 is next in {place}, not 3"
    assert passed(1) == "Error: sick is done up to offset 2: 1 can't be taken back"
    assert passed(2) == ""
    until(second, lambda one: bool(one["ready"]), "the partition to go on")
    eventually(lambda: counts(sick) == {ill: 4, well: 3}, what="the records behind")
    (letter,) = helpers.read(sick, DLQ)
    headers = dict(letter.headers() or [])
    assert headers["soma-reason"] == b"law_failed" and headers["soma-processor"] == b"sick"
    assert headers["soma-origin"] == f"{place}/2".encode()
    assert headers["soma-detail"] == b"passed over, as me said: it's broken"
    assert second.stop() == 0


CANT = {
    "raise": "ValueError: a record of {tenant} that I can't bear",
    "misfit": "laws.out: n: 'many' (str) isn't long",
    "flood": "more than 10000 records to laws.out",
    "large": "the row of {tenant}: 2,000,",
}


def test_what_a_law_cant_do_is_named_everything_else_goes_on_and_nothing_is_lost(
    sick: Settings, worker: WorkerFactory
) -> None:
    tenants = dict(zip(homes(PARTITIONS), CANT, strict=True))
    places = {one: f"{sick.topic(SOURCE)}/{partition_of(one, PARTITIONS)}" for one in tenants}
    both = worker(sick, **BOTH)
    for tenant, kind in tenants.items():
        tell(sick, tenant, {}, {kind: "sick"}, {}, {})
    answer = until(both, lambda one: len(one.get("troubles", {})) == 4, "four failures in /ready")
    for tenant, kind in tenants.items():
        said = f"sick at {places[tenant]}/1: {CANT[kind].format(tenant=tenant)}"
        assert answer["troubles"][f"{places[tenant]} sick"].startswith(said)
        assert f"sick at {places[tenant]} stopped: law_failed: {said}" in both.log.read_text()
    eventually(lambda: counts(sick, "well") == dict.fromkeys(tenants, 4), what="the other one")
    assert counts(sick) == dict.fromkeys(tenants, 1), "what came before is kept"
    skips = [
        subprocess.Popen(
            [sys.executable, "-m", "agents.cli", "skip", f"{place}/1", "--processor", "sick",
             "--reason", "bad"], env=environment(sick, **WITH_SICK), cwd=REPO,
        )
        for place in places.values()
    ]  # fmt: skip
    assert [skip.wait(60) for skip in skips] == [0] * 4
    eventually(lambda: counts(sick) == dict.fromkeys(tenants, 3), what="the records behind")
    until(both, lambda one: bool(one["ready"]), "all of them to go on")
    letters = [dict(one.headers() or []) for one in helpers.read(sick, DLQ)]
    assert sorted(one["soma-origin"].decode() for one in letters) == sorted(
        f"{place}/1" for place in places.values()
    )
    assert {one["soma-reason"] for one in letters} == {b"law_failed"}
    assert helpers.read(sick, OUT) == [], "nothing of what failed was sent"


def test_rows_of_an_older_dataclass_are_read_and_those_of_a_newer_one_stop_their_partition_alone(
    sick: Settings, worker: WorkerFactory, tmp_path: Path
) -> None:
    one, other = homes()
    place = f"{sick.topic(SOURCE)}/{partition_of(one, PARTITIONS)} sick"
    first = worker(sick, **BOTH)
    tell(sick, one, {}, {}, {})
    eventually(lambda: counts(sick) == {one: 3}, what="rows of the first version")
    first.kill()

    schemas = tmp_path / "avro"
    shutil.copytree(SCHEMAS, schemas)
    later = {"LAWS_ROW": "later", "LAWS_SCHEMAS": str(schemas)}
    made = soma("schema", "row", "sick", env=environment(sick, **WITH_SICK, **later))
    assert made.stdout == "sick_state.v2.avsc\n", made.stderr
    second = worker(sick, **BOTH, **later)
    tell(sick, one, {})
    eventually(lambda: counts(sick, schemas=schemas) == {one: 4.0}, what="rows that were widened")
    last = [m.value() or b"" for m in helpers.read(sick, STATE) if m.key() == one.encode()][-1]
    row = row_of(last, schemas)
    assert type(row["total"]) is float and row["seen"] == "before" and "text" not in row
    second.kill()

    third = worker(sick, ready=False, **BOTH)
    answer = until(third, lambda it: "troubles" in it, "rows of a newer version")
    assert answer["partitions"][place] == "unknown_version"
    assert f"row b'{one}' has an unknown schema" in answer["troubles"][place]
    tell(sick, one, {})
    tell(sick, other, {})
    wanted = {one: 5, other: 1}
    eventually(lambda: counts(sick, "well") == wanted, what="the other processor")
    eventually(lambda: counts(sick, schemas=schemas) == {one: 4.0, other: 1}, what="and partition")


def test_a_slow_law_commits_early_and_holds_up_nobody_else(
    sick: Settings, worker: WorkerFactory
) -> None:
    slow, quick = homes()
    one = worker(sick, **SICK)
    tell(sick, quick, {})
    eventually(lambda: counts(sick) == {quick: 1}, what="a first record")
    tell(sick, slow, *[{"sleep": 0.001}] * 6000)
    tell(sick, quick, {}, {})
    eventually(lambda: counts(sick)[quick] == 3, what="the other partition")
    assert ready(one)["ready"]
    eventually(lambda: counts(sick)[slow] == 6000, what="all of them")
    rows = [m for m in helpers.read(sick, STATE) if m.key() in (slow.encode(), quick.encode())]
    done = [row_of(m.value() or b"")["total"] for m in rows if m.key() == slow.encode()]
    steps = np.diff([0, *done])
    assert steps.max() <= 250, "200 ms of 1 ms and more each, though all 6000 were there"
    times = {m.key(): m.timestamp()[1] for m in rows}
    assert times[quick.encode()] < times[slow.encode()], "it was done while the other went on"


def test_a_record_that_takes_long_is_named_while_it_does(
    sick: Settings, worker: WorkerFactory
) -> None:
    slow, quick = homes()
    one = worker(sick, **SICK)
    tell(sick, slow, {}, {"sleep": 14.0}, {})
    place = f"{sick.topic(SOURCE)}/{partition_of(slow, PARTITIONS)}"
    answer = until(one, lambda it: "troubles" in it, "the fold in /ready")
    assert answer["partitions"][place] == "slow_fold" and not answer["ready"]
    assert answer["troubles"][place].startswith("sick has been folding for 1")
    assert answer["troubles"][place].endswith("s at offset 1")
    tell(sick, quick, {})
    eventually(lambda: quick in counts(sick), what="the other partition")
    until(one, lambda it: bool(it["ready"]), "the fold's end")
    eventually(lambda: counts(sick) == {slow: 3, quick: 1}, what="the records behind")
    assert one.log.read_text().count("sick has been folding for 1") == 1
    assert one.stop() == 0


def test_processors_of_one_source_go_on_without_each_other_in_one_worker_and_in_two(
    sick: Settings, worker: WorkerFactory
) -> None:
    ill, well = homes()
    both = worker(sick, **BOTH)
    tell(sick, ill, {}, {"raise": "sick"}, {})
    tell(sick, well, *[{}] * 50)
    place = f"{sick.topic(SOURCE)}/{partition_of(ill, PARTITIONS)}"
    answer = until(both, lambda one: "troubles" in one, "the failure in /ready")
    assert len(answer["partitions"]) == 8
    assert {k for k, v in answer["partitions"].items() if v != "running"} == {f"{place} sick"}
    eventually(lambda: counts(sick, "well") == {ill: 3, well: 50}, what="all of it, by the one")
    eventually(lambda: counts(sick) == {ill: 1, well: 50}, what="and by the other")
    both.kill()

    tell(sick, ill, {})
    tell(sick, well, {})
    one = worker(sick, ready=False, **SICK)
    other = worker(sick, **{**SICK, "SOMA_AGENTS": "well"})
    eventually(lambda: counts(sick, "well") == {ill: 4, well: 51}, what="all of it, by the one")
    eventually(lambda: counts(sick) == {ill: 1, well: 51}, what="and by the other")
    assert len(ready(other)["partitions"]) == len(ready(one)["partitions"]) == 4
    done = soma(
        "skip", f"{place}/1", "--processor", "sick", "--reason", "bad",
        env=environment(sick, **WITH_SICK),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    both = worker(sick, **BOTH)  # they share what there is
    for each in (one, other, both):
        until(each, lambda it: bool(it.get("ready")), "that it is ready")
    dealt = [set(ready(each)["partitions"]) for each in (one, other, both)]
    assert [len(mine) for mine in dealt] != [4, 4, 0] and sum(map(len, dealt)) == 8
    one.kill()
    tell(sick, ill, {})
    tell(sick, well, {})
    for name, found in (("well", {ill: 5, well: 52}), ("sick", {ill: 4, well: 52})):
        eventually(lambda n=name, f=found: counts(sick, n) == f, what=f"what {name} folds")
    reasons = [dict(m.headers() or [])["soma-reason"] for m in helpers.read(sick, DLQ)]
    assert reasons == [b"law_failed"]


def test_a_processor_that_nothing_is_fetched_for_is_named_and_the_other_of_its_source_goes_on(
    sick: Settings, worker: WorkerFactory
) -> None:
    ill, _ = homes()
    with Proxy(sick.bootstrap()) as between:
        both = worker(
            sick.model_copy(update={"kafka_bootstrap": between.address}),
            SOMA_STALLED_AFTER_S="3", SOMA_ANSWER_TIMEOUT_S="2", SOMA_COMMIT_TIMEOUT_S="4",
            **BOTH,
        )  # fmt: skip
        fetches = between.rule(Rule(proxy.FETCH, "soma-well", 10**9))
        eventually(lambda: fetches.hits, 20.0, "no fetch from before it is under way")
        tell(sick, ill, *[{}] * 3)
        eventually(lambda: counts(sick) == {ill: 3}, what="what the other one folds")
        place, log = f"{sick.topic(SOURCE)}/{partition_of(ill, PARTITIONS)}", both.log
        for said in (f"{place} stands still: well has done to", "the consumer of well is given up"):
            eventually(lambda it=said: it in log.read_text(), 30.0, said)
        assert f"{place} stands still: sick" not in log.read_text()
        between.free()
        eventually(lambda: counts(sick, "well") == {ill: 3}, 30.0, "and the one")
        until(both, lambda one: bool(one.get("ready")), "that it is ready")


def test_a_transaction_that_stays_open_is_shown_where_the_second_processor_alone_reads(
    sick: Settings, worker: WorkerFactory
) -> None:
    both = worker(sick, **BOTH)
    one = worker(sick, **SICK)
    until(both, lambda it: bool(it.get("ready")) and len(it["partitions"]) == 6, "all but two")
    name, mine, theirs = sick.topic(SOURCE), ready(both)["partitions"], ready(one)["partitions"]
    place = next(place for place in theirs if f"{place} sick" not in mine)
    assert f"{place} well" in mine
    partition = int(place.removeprefix(f"{name}/"))
    producer = Producer(sick.librdkafka(**{"transactional.id": sick.prefix("stays-open")}))
    producer.init_transactions(20.0)
    producer.begin_transaction()
    producer.produce(name, b"v", b"k", partition)
    assert producer.flush(20.0) == 0
    shown = f'soma_partition_unstable_records{{partition="{partition}",processor="well"}} 1.0'

    def metrics() -> str:
        with urllib.request.urlopen(both.url("/metrics"), timeout=5.0) as answer:
            return str(answer.read(), "utf-8")

    eventually(lambda: shown in metrics(), 20.0, shown)
    producer.abort_transaction(20.0)
    eventually(lambda: shown not in metrics(), 20.0, "that it is over")
