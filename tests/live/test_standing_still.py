"""Whatever the broker keeps back, a partition commits again within its deadline, and says why not.

Each case goes through one worker behind a proxy; its deadlines are a few seconds by settings.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.settings import Settings
from ops.prove import proxy
from ops.prove.proxy import Proxy, Rule
from ops.stack import Endpoints
from tests.live.conftest import settings_of, with_topics
from tests.live.evidence import UPDATES, Evidence, Sender, encoded, fresh_tenant
from tests.live.helpers import PARTITIONS, Worker, eventually

# In the worker's own process: the transport of a chosen request closes just before its bytes are
# written, and uvloop says so (test_connection.py), or with a "!" something that nobody foresaw.
CLOSING = """
import asyncio, os, struct
_write = asyncio.StreamWriter.write
def _sabotaged(self, data):
    sign = os.environ["TEST_CLOSING"]
    if len(data) < 14 or not os.path.exists(sign):
        return _write(self, data)
    api, _, _, length = struct.unpack_from(">hhih", data, 4)
    client = bytes(data[14:14 + max(0, length)]).decode()
    with open(sign) as lines:
        wanted = lines.read().split()
    for one in wanted:
        number, _, name = one.strip("!").partition(":")
        if int(number) != api or name not in client:
            continue
        wanted.remove(one)
        with open(sign + ".new", "w") as lines:
            lines.write(" ".join(wanted))
        os.replace(sign + ".new", sign)
        self._transport.abort()
        if one.startswith("!"):
            raise ValueError("nobody foresaw this")
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")
    return _write(self, data)
asyncio.StreamWriter.write = _sabotaged
"""
ANSWER_S, COMMIT_S, STALLED_S = 2, 4, 3
DEADLINE_S = 20.0  # an answer's and a commit's time, the way back, and a busy machine
FOREVER = 10**9
PARTITION = 1


class Watched:
    """A worker behind a proxy, what it is sent and what it writes."""

    def __init__(self, settings: Settings, between: Proxy, worker: Worker, sign: Path) -> None:
        self.proxy, self.worker, self.sign = between, worker, sign
        self.sender, self.evidence = Sender(settings), Evidence(settings)
        self.tenant, self.sent = fresh_tenant(PARTITION), 0

    def send(self, count: int = 5) -> None:
        """Updates of the tenant in PARTITION."""
        rows = [encoded(UPDATES, self.tenant) for _ in range(count)]
        self.sender.send(UPDATES, [(PARTITION, self.tenant.encode(), row, []) for row in rows])
        self.sent += count

    def committed(self, timeout: float = DEADLINE_S) -> None:
        """All that was sent has been folded, each once."""
        try:
            self.evidence.await_outputs(UPDATES, self.tenant, self.sent, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.worker.tail()}") from error


@pytest.fixture(scope="module")
def watched(stack: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("still")
    direct = with_topics(settings_of(stack, f"still{folder.name[-1]}", folder))
    with Proxy(stack.kafka_bootstrap) as between:
        behind = direct.model_copy(update={"kafka_bootstrap": between.address})
        env = {
            "SOMA_AGENTS": "integrator",
            "SOMA_ANSWER_TIMEOUT_S": str(ANSWER_S),
            "SOMA_COMMIT_TIMEOUT_S": str(COMMIT_S),
            "SOMA_STALLED_AFTER_S": str(STALLED_S),
            "PYTHONPATH": str(folder),
            "TEST_CLOSING": str(folder / "closing"),
        }
        (folder / "sitecustomize.py").write_text(CLOSING)
        worker = Worker(behind, folder / "worker.log", env).start()
        try:
            one = Watched(direct, between, worker.await_ready(), folder / "closing")
            one.send()
            one.committed(60.0)
            yield one
            one.evidence.close()
        finally:
            if worker.alive:
                worker.kill()


ONE = f"integrator-{PARTITION}"
CASES = [
    Rule(proxy.ADD_PARTITIONS, ONE),
    Rule(proxy.PRODUCE, ONE),
    Rule(proxy.END_TXN, ONE),
    Rule(proxy.FETCH, "faust"),
    Rule(proxy.END_TXN, ONE, late_s=ANSWER_S + 1.0),
    Rule(proxy.PRODUCE, ONE, late_s=ANSWER_S + 1.0),
    Rule(proxy.ADD_PARTITIONS, ONE, FOREVER, error=proxy.CONCURRENT_TRANSACTIONS),
    Rule(proxy.END_TXN, ONE, FOREVER, error=proxy.COORDINATOR_LOAD_IN_PROGRESS),
    Rule(proxy.INIT_PRODUCER_ID, ONE),
    Rule(proxy.METADATA, ONE),
    Rule(proxy.OFFSET_FETCH, "faust"),
    Rule(proxy.METADATA, "faust"),
]
# What makes the client ask that.
AFTER = {
    (proxy.INIT_PRODUCER_ID, ONE): Rule(proxy.END_TXN, ONE, 3),
    (proxy.METADATA, ONE): Rule(proxy.PRODUCE, ONE, 1),
    (proxy.METADATA, "faust"): Rule(proxy.FETCH, "faust", 1),
    (proxy.OFFSET_FETCH, "faust"): Rule(
        proxy.HEARTBEAT, "faust", 1, error=proxy.REBALANCE_IN_PROGRESS
    ),
}


def named(rule: Rule) -> str:
    how = f"{rule.error}" if rule.error else "late" if rule.late_s else "swallowed"
    return f"{proxy.NAMES[rule.api]}-{rule.client}-{how}"


@pytest.mark.parametrize("rule", CASES, ids=named)
def test_a_partition_commits_again(watched: Watched, rule: Rule) -> None:
    watched.proxy.rule(rule)
    if (first := AFTER.get((rule.api, rule.client))) is not None:
        watched.proxy.rule(first)
    what = f"{ONE}: not within {COMMIT_S} s"
    before = watched.worker.log.read_text().count(what)
    try:
        watched.send()
        eventually(lambda: rule.hits, DEADLINE_S, "the broker is asked")
        if rule.error:
            eventually(
                lambda: watched.worker.log.read_text().count(what) > before,
                DEADLINE_S,
                "the deadline is named",
            )
    finally:
        watched.proxy.free()
    watched.committed()
    watched.send()
    watched.committed()


ASKED = {  # requests one after the other, of one client
    "a transaction's partitions": f"{proxy.ADD_PARTITIONS}:{ONE}",
    "a produce, and the metadata then": f"{proxy.PRODUCE}:{ONE} {proxy.METADATA}:{ONE}",
    "a transaction's end": f"{proxy.END_TXN}:{ONE}",
    "a produce, and the id of the next producer": f"!{proxy.PRODUCE}:{ONE} "
    f"{proxy.INIT_PRODUCER_ID}:{ONE}",
    "a fetch, and the metadata then": f"{proxy.FETCH}:faust {proxy.METADATA}:faust",
    "a heartbeat": f"{proxy.HEARTBEAT}:faust",
    "the group's offsets": f"{proxy.OFFSET_COMMIT}:faust",
    "a rebalance": f"{proxy.JOIN_GROUP}:faust {proxy.SYNC_GROUP}:faust {proxy.OFFSET_FETCH}:faust",
    "the producer's metadata task": f"{proxy.PRODUCE}:{ONE} !{proxy.METADATA}:{ONE}",
    "the consumer's metadata task": f"{proxy.FETCH}:faust !{proxy.METADATA}:faust",
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_a_transport_that_closes_under_a_write_is_a_broken_connection(
    watched: Watched, asked: str
) -> None:
    """uvloop raises RuntimeError then; a client that ended by it would wait for ever, unseen."""
    if f"{proxy.JOIN_GROUP}:" in asked:
        error = proxy.REBALANCE_IN_PROGRESS
        watched.proxy.rule(Rule(proxy.HEARTBEAT, "faust", 1, error=error))
    watched.sign.write_text(asked)
    try:
        watched.send()
        eventually(lambda: not watched.sign.read_text(), DEADLINE_S, "all are asked")
    finally:
        watched.sign.unlink()
        watched.proxy.free()
    watched.committed()
    watched.send()
    watched.committed()


def page(worker: Worker, path: str) -> str:
    try:
        with urllib.request.urlopen(worker.url(path), timeout=5.0) as answer:
            return str(answer.read(), "utf-8")
    except urllib.error.HTTPError as error:
        return str(error.read(), "utf-8")


def stalled_seconds(worker: Worker) -> float:
    label = f'soma_partition_stalled_seconds{{partition="{PARTITION}",processor="integrator"}} '
    lines = page(worker, "/metrics").splitlines()
    return next((float(line.removeprefix(label)) for line in lines if line.startswith(label)), 0.0)


def test_a_partition_that_commits_nothing_is_named(watched: Watched) -> None:
    """Its transactions fail one after the other; the watchdog says so on all three ways."""
    watched.proxy.rule(
        Rule(proxy.END_TXN, "integrator-1", FOREVER, error=proxy.CONCURRENT_TRANSACTIONS)
    )
    try:
        watched.send()
        place = f"cog.predictor.updates/{PARTITION}"
        eventually(lambda: stalled_seconds(watched.worker) >= STALLED_S, DEADLINE_S)

        def phases() -> dict[str, str]:
            told = json.loads(page(watched.worker, "/ready"))
            assert not told["ready"]
            found: dict[str, str] = told["partitions"]
            return found

        now = eventually(
            lambda: (found := phases()) and "stalled" in found.values() and found, DEADLINE_S
        )
        assert isinstance(now, dict) and len(now) == PARTITIONS
        assert [name.endswith(place) for name, phase in now.items() if phase == "stalled"] == [True]
        assert f"{place} stands still: " in watched.worker.tail(400)
    finally:
        watched.proxy.free()
    watched.committed()
    eventually(watched.worker.ready, DEADLINE_S, "ready again")
    eventually(lambda: stalled_seconds(watched.worker) == 0.0, DEADLINE_S)


def test_a_partition_that_nothing_is_fetched_for_is_taken_anew_and_then_its_consumer(
    watched: Watched,
) -> None:
    """No deadline of the partition's own runs meanwhile: it waits for records that never come."""
    fetches = watched.proxy.rule(Rule(proxy.FETCH, "faust", FOREVER))
    log = watched.worker.log
    before = len(log.read_text())

    def told(what: str) -> bool:
        return what in log.read_text()[before:]

    try:
        eventually(lambda: fetches.hits, DEADLINE_S, "no fetch from before it is under way")
        watched.send()
        eventually(lambda: told("waiting for records to be fetched: taken anew"), DEADLINE_S)
        eventually(lambda: told("the group's consumer is given up for a new one"), DEADLINE_S)
    finally:
        watched.proxy.free()
    watched.committed(60.0)
    eventually(watched.worker.ready, 60.0, "ready again")
