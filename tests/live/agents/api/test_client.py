"""The client of client/, against the real API with recall in it, a relay and a worker."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from agents.settings import Settings
from soma_client import (
    AsyncClient,
    BadRequest,
    Client,
    Conflict,
    NewMemory,
    NotAllowed,
    NotThere,
    Unavailable,
)
from soma_client.avro import schemas
from soma_client.kafka import NotDelivered, Publisher
from tests.live.agents.api.helpers import SECRET, ApiProcess, bearer, events_of
from tests.live.conftest import WorkerFactory
from tests.live.helpers import REPO, environment, eventually, read, topics_of
from tests.live.helpers import soma as shell
from topics import codec
from topics.partition import partition_of

MADE = (*topics_of("memory", "sleep"), "soma.outbox.receipts", "rho.status", "cog.reward.events",
        "cog.teach.feedback")  # fmt: skip
LONG_S = 200.0  # for a whole way through outbox, relay, worker and replica on a busy machine
FRAME = "0a0b0c0d-1-2"
EYE = [[0.5, 0.0], [0.0, 0.5]]


def token(*roles: str, tenants: tuple[str, ...] = ("acme", "globex", "copy")) -> str:
    return bearer(tenants, roles or ("read", "write", "admin"))["authorization"][7:]


@pytest.mark.timeout(600)
def test_all_calls_mean_the_same_over_http(
    topics: Settings, worker: WorkerFactory, process: Callable[..., ApiProcess],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    worker(SOMA_AGENTS="memory,outbox,sleep")
    api = process(SOMA_RECALL__SERVE="on", SOMA_JOURNAL__FOLDER=str(topics.home / "journal"))
    with Client(api.base, "acme", token, timeout_s=LONG_S) as soma:
        eventually(lambda: soma.stats().ready, 60.0, "recall is ready")
        the_readme_runs(api.base, capsys)
        memories(soma)
        matrices(soma)
        what_happens(soma, topics)
        asyncio.run(awaited(api.base))
        refused(soma, api.base)
        through_a_file(soma, topics, api)
    to_kafka(topics)


def the_readme_runs(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands, but for where the API is and who calls; it may wait longer here."""
    page = (REPO / "client/README.md").read_text("utf-8")
    code = "\n".join(line[4:] for line in re.findall(r"(?m)^(?:    .*|)$", page)).strip("\n")
    for known, here in (("http://localhost:8081", url), ("None", f"TOKEN, timeout_s={LONG_S}")):
        assert code.count(known) == 1
        code = code.replace(known, here)
    exec(compile(code, "README.md", "exec"), {"TOKEN": token()})
    assert capsys.readouterr().out == "alice/style Alice likes short answers\n"


def memories(soma: Client) -> None:
    many: list[NewMemory] = [
        {"payload": {"text": f"thing {k}"}, "coordinate": f"c{k}", "namespace": "things"}
        for k in range(3)
    ]
    made = soma.bulk(many)
    assert [one.coordinate for one in made] == ["c0", "c1", "c2"]
    again = soma.remember({"n": 1}, coordinate=[1, 2.5], dedupe_key="n1", importance=2.0)
    same = soma.remember({"n": 1}, coordinate=[1, 2.5], dedupe_key="n1", importance=2.0)
    assert same.duplicate and same.outbox_id == again.outbox_id
    soma.link("c0", "c1", "next", namespace="things")
    found = soma.search("thing 0", wait_for=made[0].id, version=2, top_k=1,
                        filters={"namespace": "things"})  # fmt: skip
    assert [(one.coordinate, one.links) for one in found] == [("c0", {made[1].id: "next"})]
    assert soma.neighbours("c1")[0].direction == "in"
    assert [one.coordinate for one in soma.path("c0", "c1", max_links=3)] == ["c0", "c1"]
    # Of another key than c0: it may come later.
    eventually(lambda: soma.stats().memories == 5, LONG_S, "all are there")
    one = soma.get("1,2.5")
    assert (one.id, one.payload, one.importance) == (again.id, {"n": 1}, 2.0)
    assert one.created.tzinfo is not None and one.version == 1
    soma.forget("c2", namespace="things")
    eventually(lambda: soma.stats().memories == 4, LONG_S, "c2 is forgotten")
    with pytest.raises(NotThere, match="no such memory"):
        soma.get("c2")
    with pytest.raises(NotThere):
        soma.using(tenant="globex").get("c0")


def matrices(soma: Client) -> None:
    assert soma.rho_commit("k", EYE, 0, idempotency_key="one").versions == {"k": 1}
    again = soma.rho_commit("k", EYE, 0, idempotency_key="one")
    assert again.repeated and again.crcs == {"k": soma.rho_read("k").crc}
    with pytest.raises(Conflict) as stale:
        soma.rho_commit("k", EYE, 7)
    assert stale.value.current == 1
    with pytest.raises(Conflict, match="went back in time"):
        soma.rho_commit("k", EYE, 1, expected_crc="00000000")
    done = soma.rho_commit_all({"k": ([[1.0]], 1, again.crcs["k"]), "new": (EYE, 0)})
    assert done.versions == {"k": 2, "new": 1}
    read_back = soma.rho_read("k", min_version=2)
    assert (read_back.version, read_back.lists()) == (2, [[1.0]])
    with pytest.raises(BadRequest, match="trace"):
        soma.rho_commit("bad", [[0.5]], 0)


def what_happens(soma: Client, settings: Settings) -> None:
    touches = [
        {"event_id": f"e{k}", "id": f"i{k}", "type": "accessed", "coordinate": f"i{k}",
         "ts": "2026-01-31T12:00:00Z"} for k in range(2)
    ]  # fmt: skip
    known = soma.publish("memory.events", *touches, idempotency_key="p")
    assert [one.dedupe_key for one in known.events] == ["p", "p:1"]
    assert soma.reward(FRAME, r_task=1.0).topic == "cog.reward.events"
    assert soma.feedback(FRAME, 5, "good").frame_id == FRAME
    asked = soma.sleep("light", ttl_seconds=600, wait=True)
    assert asked.in_force is not None and asked.in_force.state == "light"
    assert soma.sleep_state().state == "light" and soma.sleep_state().wake_at is not None
    assert soma.sleep("active", wait=True).in_force is not None
    state = soma.state("sleep", "acme")
    assert state.offset == state.end and state.rows[0].fields["state"] == "active"
    assert {one["topic"] for one in events_of(settings)} >= {"cog.teach.feedback", "rho.status"}


async def awaited(url: str) -> None:
    """The same by who awaits, many at once."""
    async with AsyncClient(url, "globex", token, timeout_s=LONG_S) as soma:
        made = await asyncio.gather(
            *(soma.remember({"text": f"note {k}"}, coordinate=f"g{k}") for k in range(20))
        )
        await asyncio.gather(*(soma.search("note", wait_for=one.id) for one in made))
        assert (await soma.get("g7")).payload == {"text": "note 7"}
        assert (await soma.rho_commit("k", EYE, 0)).versions == {"k": 1}
        with pytest.raises(NotThere):
            await soma.rho_read("none")


def refused(soma: Client, url: str) -> None:
    with pytest.raises(BadRequest) as wrong:
        soma.publish("memory.events", {"type": "x"})
    assert wrong.value.errors[0].at == "/0/payload" and wrong.value.request_id
    soma.remember({"n": 1}, dedupe_key="other", coordinate="n")
    with pytest.raises(Conflict, match="used for something else"):
        soma.remember({"n": 2}, dedupe_key="other", coordinate="n")
    with pytest.raises(NotAllowed):
        soma.using(tenant="initech").stats()
    with Client(url, "acme", lambda: token("read")) as reader, pytest.raises(NotAllowed):
        reader.remember({})
    with Client(url, "acme", token, tries=1) as once, pytest.raises(Unavailable, match="learner"):
        once.state("learner", "acme")


def through_a_file(soma: Client, settings: Settings, api: ApiProcess) -> None:
    """`soma memory export`, `import` and `list`: another tenant remembers the same, once."""
    env = environment(settings, SOMA_API__JWT_SECRET=SECRET, SOMA_API__PORT=str(api.port))
    path, copied = settings.home / "acme.jsonl", settings.home / "copy.jsonl"

    def run(*words: str) -> Any:
        done = shell("memory", *words, env=env, timeout=LONG_S)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    eventually(lambda: soma.get("n").payload == {"n": 1}, LONG_S, "the last one is there")
    vector = soma.remember({"n": 3}, coordinate="v", embedding=[0.1, -2.0], model_revision="m1")
    soma.search([0.1, -2.0], wait_for=vector.id)
    assert run("export", "acme", str(path), "--json")["memories"] == soma.stats().memories == 6
    lines = sorted(path.read_text().splitlines())
    made = [json.loads(line) for line in lines]
    assert {one["coordinate"] for one in made} == {"alice/style", "c0", "c1", "1,2.5", "n", "v"}
    assert [one["links"] for one in made if one["coordinate"] == "c0"] == [{"c1": "next"}]
    assert [one["embedding"] for one in made if one["coordinate"] == "v"] == [[0.1, -2.0]]
    first, again = (run("import", "copy", str(path), "--json") for _ in range(2))
    assert (first["memories"], first["accepted"], first["duplicates"]) == (6, 7, 0)
    assert (again["accepted"], again["duplicates"]) == (0, 7)
    copy = soma.using(tenant="copy")
    eventually(lambda: copy.stats().memories == 6 and copy.neighbours("c0"), LONG_S, "all there")
    assert run("export", "copy", str(copied), "--json")["memories"] == 6
    assert sorted(copied.read_text().splitlines()) == lines
    soma.forget("c0", namespace="things")
    soma.link("n", "v", "mine")
    run("import", "acme", str(path), "--json")  # brings back nothing, leaves what is there alone
    eventually(lambda: soma.neighbours("n"), LONG_S, "the link is there")
    assert soma.stats().memories == 5
    run("import", "acme", str(path), "--restore", "--json")
    eventually(lambda: soma.stats().memories == 6 and soma.neighbours("c0"), LONG_S, "it is back")
    assert len(soma.neighbours("n")) == 1
    listed = run("list", "copy", "--namespace", "things", "--json")["memories"]
    assert sorted(one["coordinate"] for one in listed) == ["c0", "c1"]


def to_kafka(settings: Settings) -> None:
    """The same bytes, in the tenant's partition."""
    record: dict[str, Any] = {"frame_id": FRAME, "rating": 4.0, "ts": time.time_ns() // 1000}
    topic, boot = "cog.teach.feedback", settings.bootstrap()
    tenants = [f"t{k}" for k in range(6)]
    for tenant in tenants:
        with Publisher(boot, tenant, namespace=settings.namespace) as publisher:
            publisher.send(topic, record)
        assert publisher.delivered == 1
    found = {one.key(): one for one in read(settings, topic) if one.key() != b"acme"}
    for tenant in tenants:
        one = found[tenant.encode()]
        assert one.partition() == partition_of(tenant, settings.topics_partitions)
        value = one.value() or b""
        assert value == schemas()[topic].encode(record | {"tenant": tenant})
        assert codec.decode(value)[1]["rating"] == 4.0
    lost = Publisher("127.0.0.1:1", "acme", timeout_s=0.5)
    lost.send(topic, record)
    with pytest.raises(NotDelivered) as error:
        lost.flush()
    assert error.value.number == 1
