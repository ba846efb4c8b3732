"""A worker on a broker that lets nobody in without a password: all of its clients have it."""

import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from agents.api import sleep_log
from agents.api.owners import Owners
from agents.api.problems import Problem
from agents.engine.recovery import reader
from agents.settings import Settings
from ops.stack import Stack, kafka
from ops.stack.jars import SHARED
from ops.stack.ports import free_port
from tests.live.agents.replay.test_rebuild import SOURCE, STATE, tamper
from tests.live.conftest import WorkerFactory, settings_of, with_topics
from tests.live.helpers import Worker, environment, eventually, produce, read, soma
from tests.live.test_bad_days import delete_topics
from tests.unit.agents.sleep.samples import BLANK
from topics import codec, preflight
from topics.broker import connect
from topics.reading import read_to

LITERAL, PREFIXED = ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
AGENTS = "predictors,integrator,replay"
NOON = 1_700_000_000_000_000

PASSWORD = "a password, with = in it"
USERS = ("soma", "works", "serves", "orders", "looks")  # the first may do all
JAAS = (
    "listener.name.guarded.plain.sasl.jaas.config="
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    + " ".join(f'user_{name}="{PASSWORD}"' for name in USERS)
    + ";"
)
ACLS = (
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users=User:ANONYMOUS;User:soma",
)
Acl = tuple[str, str, str, str]  # user, operation, resource, name: with a * behind it all such
TABLE = re.compile(r"^\| `(\w+)` \| (\w+) \| (\w+) \| `([^`]+)` \|", re.MULTILINE)
PAGE = Path(__file__).parents[4] / "docs" / "past.md"


def user(name: str) -> dict[str, str]:
    return {
        "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": name,
        "sasl.password": PASSWORD,
    }  # fmt: skip


USER = user("soma")


@pytest.fixture
def guarded(
    new_home: Callable[[], Path],
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Settings]:
    """Settings for a broker's second listener, which wants SASL; all topics made."""
    port = free_port()
    lines = [
        line + f",GUARDED://127.0.0.1:{port}" if "listeners=" in line else line
        for line in kafka.PROPERTIES.splitlines()
    ]
    lines = [
        line + ",GUARDED:SASL_PLAINTEXT" if "protocol.map=" in line else line for line in lines
    ]
    more = ["listener.name.guarded.sasl.enabled.mechanisms=PLAIN", JAAS, *ACLS, ""]
    monkeypatch.setattr(kafka, "PROPERTIES", "\n".join(lines + more))
    own = Stack(new_home(), ephemeral=True, cache=SHARED, without=("postgres", "valkey"))
    try:
        inside = settings_of(own.up(), namespace, tmp_path)
        with_topics(inside)
        change = {"kafka_bootstrap": f"127.0.0.1:{port}", "kafka_properties": USER}
        yield inside.model_copy(update=change)
    finally:
        own.down()


def allow(settings: Settings, acls: Iterable[Acl]) -> None:
    """What the page says, with this namespace's prefix."""
    bindings = [
        AclBinding(
            ResourceType[resource.upper()], settings.prefix(name.removesuffix("*")),
            PREFIXED if name.endswith("*") else LITERAL,
            f"User:{who}", "*", AclOperation[operation.upper()], AclPermissionType.ALLOW,
        )
        for who, operation, resource, name in acls
    ]  # fmt: skip
    admin = connect(settings.librdkafka())  # it has to outlive its questions
    for future in admin.create_acls(bindings).values():
        future.result(20)


def says(properties: dict[str, str]) -> dict[str, str]:
    """The environment of a process that is this user's."""
    return {"SOMA_KAFKA_PROPERTIES": json.dumps(properties)}


def as_user(settings: Settings, name: str) -> Settings:
    return settings.model_copy(update={"kafka_properties": user(name)})


def test_what_the_page_says_of_acls_is_enough_to_work_and_to_ask(
    guarded: Settings, worker: WorkerFactory
) -> None:
    """A group's right lacks first, and is named; a state is made anew, and a letter sent again."""
    acls: list[Acl] = TABLE.findall(PAGE.read_text())
    assert {one[0] for one in acls} == set(USERS[1:])
    jobs = [one for one in acls if one[3].startswith("projection.")]
    assert [one[:3] for one in jobs] == [("works", "Read", "Group")]
    works = [one for one in acls if one[0] == "works"]
    allow(guarded, [one for one in works if one not in jobs])
    one = worker(guarded, SOMA_AGENTS=AGENTS, **says(user("works")))
    record = {"tenant": "t", "domain": "state", "ts": NOON, "vector": [1.0, 2.0], "sequence": 1}
    value = codec.encode("observation", codec.from_json("observation", record))
    wrong = json.dumps(record | {"vector": "none"}).encode()
    produce(guarded, SOURCE, [(b"t", value), (b"t", wrong)])
    (frame,) = eventually(lambda: read(guarded, "cog.global.frame"), 60.0, "a frame")
    lacks = f"the broker refuses the group {guarded.prefix('projection.replay')}: its ACLs lack"
    eventually(lambda: lacks in ready(one), 60.0, "/ready names the right that lacks")
    allow(guarded, jobs)
    eventually(lambda: lacks not in ready(one), 60.0, "/ready names it no more")

    explain = ("explain", codec.decode(frame.value() or b"")[1]["frame_id"])
    without(guarded, explain)
    allow(guarded, [one for one in acls if one not in works])
    assert eventually(lambda: shown(as_user(guarded, "serves")), 20.0, "the ACLs to be known")
    tamper(guarded, "t")
    with_them(guarded, explain)
    lost(guarded)
    assert one.stop() == 0, one.tail()


def without(guarded: Settings, explain: tuple[str, ...]) -> None:
    """Who lacks rights hears it in a line."""
    with pytest.raises(Problem, match="Its owner doesn't answer now"):
        asyncio.run(Owners(as_user(guarded, "serves")).state("integrator", "t"))
    refused = soma(*explain, env=environment(guarded, **says(user("looks"))))
    assert refused.returncode == 1 and "Traceback" not in refused.stderr, refused.stderr
    assert "uthoriz" in refused.stderr, refused.stderr


def with_them(guarded: Settings, explain: tuple[str, ...]) -> None:
    """What the page allows works; and nobody needs the right to be in a group for reading."""
    orders, looks = (environment(guarded, **says(user(name))) for name in ("orders", "looks"))
    start = ("replay", "start")
    anew = soma(*start, "rebuild", "--processor", "predictors", "--apply", env=orders)
    assert "1 are written" in anew.stdout, anew
    again = soma(*start, "redrive", "--topic", SOURCE, "--set", "vector=[1, 2]", env=orders)
    assert "1 sent" in again.stdout, again
    for words in (explain, ("digest", "predictors", "--rebuild"), ("dlq", "list")):
        found = soma(*words, env=looks)
        assert found.returncode == 0, found.stderr
    serves, wish = as_user(guarded, "serves"), BLANK | {"tenant": "t"}
    produce(serves, sleep_log.REQUESTS, [(b"t", codec.encode("sleep_request", wish))])
    assert sleep_log.request_of(serves, "t", wish["request_id"])[0]["target"] == wish["target"]
    assert sleep_log.answer_to(serves, "nobody's", NOON // 1000) is None
    assert sleep_log.acts_at(serves, "t", 1, NOON // 1000) == {}
    place = guarded.topic(SOURCE), 0
    with (
        closing(reader(as_user(guarded, "looks"), "nobodys", [place])) as reads,
        pytest.raises(KafkaException, match="nothing came for 3 s"),
    ):
        list(read_to(reads, {place: 1000}, silence_s=3.0))


def lost(guarded: Settings) -> None:
    """A position that is lost takes no more rights: the worker may ask for its group's offset."""
    delete_topics(guarded, STATE)
    preflight.apply(guarded)
    orders, looks = (environment(guarded, **says(user(name))) for name in ("orders", "looks"))
    found = soma("digest", "predictors", "--rebuild", env=looks)
    assert found.returncode == 1 and "state_lost" in found.stderr, found
    anew = soma("replay", "start", "rebuild", "--processor", "predictors", "--apply", env=orders)
    assert "1 are written" in anew.stdout, anew
    again = soma("digest", "predictors", "--rebuild", env=looks)
    assert "all equal" in again.stdout, again


def ready(one: Worker) -> str:
    """What `/ready` says, whatever its status."""
    try:
        with urllib.request.urlopen(one.url("/ready"), timeout=5.0) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def shown(settings: Settings) -> dict[str, Any] | None:
    """What `GET /state` says, if it may be asked."""
    try:
        return asyncio.run(Owners(settings).state("integrator", "t"))
    except Problem:
        return None


def test_a_worker_with_a_property_it_cannot_obey_says_so(
    guarded: Settings, worker: WorkerFactory
) -> None:
    properties = USER | {"sasl.mechanism": "GSSAPI"}
    one = worker(guarded, ready=False, SOMA_KAFKA_PROPERTIES=json.dumps(properties))
    assert one.process.wait(60.0) != 0
    assert "sasl.mechanism 'GSSAPI': a worker knows PLAIN" in one.tail()
