"""The catalogue beside a real broker's topics."""

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result
from confluent_kafka.admin import AdminClient

from agents.commands.topics import topics as command
from agents.settings import Settings
from tests.live.helpers import PARTITIONS, eventually
from topics import broker
from topics.catalogue import CATALOGUE, DLQ_EXTRA_BYTES
from topics.preflight import (
    SAY_PARTITIONS,
    BrokerError,
    CannotApplyError,
    apply,
    check_topics,
    plan,
    topic_ids,
)

SOURCE = "cog.observations"
STATE = "soma.integrator.state"


@pytest.fixture
def admin(settings: Settings) -> AdminClient:
    return broker.connect(settings.librdkafka())


def weaken(admin: AdminClient, settings: Settings, name: str, **config: str) -> None:
    changed = {key.replace("_", "."): value for key, value in config.items()}
    topic = settings.topic(name)
    broker.alter(admin, topic, changed)

    def seen() -> bool:
        return changed.items() <= broker.look(admin, [topic])[topic].config.items()

    eventually(seen, 10)


def test_apply_makes_all_topics_once(settings: Settings) -> None:
    assert {one.kind for one in plan(settings)} == {"missing"}
    made = apply(settings)
    assert [one.topic for one in made] == [settings.topic(name) for name in CATALOGUE]
    assert apply(settings) == []
    assert plan(settings) == []
    assert check_topics(settings, CATALOGUE) == []


def test_namespaces_share_a_broker(topics: Settings, admin: AdminClient) -> None:
    other = topics.model_copy(update={"namespace": f"{topics.namespace}-b"})
    assert len(plan(other)) == len(CATALOGUE)
    assert all(one.topic.startswith(f"{topics.namespace}-b.") for one in plan(other))
    assert topics.topic(SOURCE) in topic_ids(admin, [topics.topic(SOURCE), other.topic(SOURCE)])


def test_every_difference_is_named_at_once(settings: Settings, admin: AdminClient) -> None:
    broker.create(admin, settings.topic(SOURCE), 3, 1, {"message.timestamp.type": "CreateTime"})
    broker.create(admin, settings.topic(STATE), PARTITIONS, 1, {})
    broker.wait_for(admin, [settings.topic(SOURCE), settings.topic(STATE)])
    found = [(one.topic.removeprefix(f"{settings.namespace}."), one.kind, one.setting)
             for one in check_topics(settings, CATALOGUE)]  # fmt: skip
    missing = [(name, "missing", "") for name in CATALOGUE if name not in (SOURCE, STATE)]
    assert sorted(found) == sorted([
        *missing,
        (SOURCE, "partitions", ""),
        (SOURCE, "config", "message.timestamp.type"),
        (STATE, "config", "message.timestamp.type"),
        (STATE, "config", "cleanup.policy"),
    ])  # fmt: skip
    with pytest.raises(CannotApplyError, match=rf"has 3 partition\(s\), not {PARTITIONS}"):
        apply(settings)
    assert set(topic_ids(admin, map(settings.topic, CATALOGUE))) == {
        settings.topic(SOURCE),
        settings.topic(STATE),
    }, "nothing is made when something can't be"


def test_only_the_asked_topics_count(topics: Settings, admin: AdminClient) -> None:
    weaken(admin, topics, STATE, cleanup_policy="delete")
    assert check_topics(topics, [SOURCE]) == []
    assert [one.setting for one in check_topics(topics, [SOURCE, STATE])] == ["cleanup.policy"]


def test_apply_strengthens_and_never_weakens(topics: Settings, admin: AdminClient) -> None:
    longer = str(90 * 86_400_000)
    weaken(admin, topics, SOURCE, retention_ms=longer)
    weaken(admin, topics, STATE, cleanup_policy="compact,delete", segment_bytes="1073741824")
    assert {one.setting for one in apply(topics)} == {"cleanup.policy", "segment.bytes"}
    found = broker.look(admin, [topics.topic(SOURCE), topics.topic(STATE)])
    assert found[topics.topic(STATE)].config["cleanup.policy"] == "compact"
    assert found[topics.topic(SOURCE)].config["retention.ms"] == longer


def test_shorter_retention_is_shown_but_stops_no_worker(
    topics: Settings, admin: AdminClient
) -> None:
    weaken(admin, topics, SOURCE, retention_ms="60000")
    assert [one.setting for one in plan(topics)] == ["retention.ms"]
    assert check_topics(topics, CATALOGUE) == []


def test_dead_letters_must_fit_whatever_their_source_takes(
    topics: Settings, admin: AdminClient
) -> None:
    weaken(admin, topics, SOURCE, max_message_bytes="5000000")
    one = next(iter(check_topics(topics, CATALOGUE)))
    assert one.topic == topics.topic(f"{SOURCE}.dlq")
    assert one.want == str(5_000_000 + DLQ_EXTRA_BYTES)
    apply(topics)
    assert plan(topics) == []


def test_more_replicas_than_there_are_brokers_is_said(settings: Settings) -> None:
    with pytest.raises(BrokerError, match=r"to create .*[Rr]eplication factor"):
        apply(settings.model_copy(update={"topics_replication": 3}))


def test_the_count_of_partitions_must_be_said_once(settings: Settings) -> None:
    unsaid = settings.model_copy(update={"topics_partitions": None})
    with pytest.raises(ValueError, match="SOMA_TOPICS_PARTITIONS"):
        apply(unsaid)
    assert len(apply(unsaid, partitions=2)) == len(CATALOGUE)
    assert apply(unsaid) == []


def test_a_recreated_topic_has_another_id(settings: Settings, admin: AdminClient) -> None:
    name = settings.topic("again")
    broker.create(admin, name, 1, 1, {})
    first = eventually(lambda: topic_ids(admin, [name]), 10)[name]
    assert len(first) == 32
    admin.delete_topics([name])[name].result(10)
    eventually(lambda: not topic_ids(admin, [name]), 10, "the topic's end")
    broker.create(admin, name, 1, 1, {})
    assert eventually(lambda: topic_ids(admin, [name]), 10)[name] != first


@pytest.fixture
def soma(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`soma topics …` with the settings of this test in its environment."""
    monkeypatch.setenv("SOMA_KAFKA_BOOTSTRAP", settings.kafka_bootstrap)
    monkeypatch.setenv("SOMA_NAMESPACE", settings.namespace)
    monkeypatch.setenv("SOMA_TOPICS_REPLICATION", "1")
    return lambda *words: CliRunner().invoke(command, list(words))


def test_the_commands_from_nothing_to_a_clean_check(soma: Callable[..., Result]) -> None:
    assert SAY_PARTITIONS in soma("apply").output
    planned = soma("plan", "--partitions", "2")
    assert planned.exit_code == 0
    assert planned.output.count("create ") == len(CATALOGUE)
    unmade = soma("check", "--partitions", "2")
    assert unmade.exit_code == 1
    assert unmade.output.count("missing") == len(CATALOGUE)
    applied = soma("apply", "--partitions", "2")
    assert applied.exit_code == 0, applied.output
    assert applied.output.count("created ") == len(CATALOGUE)
    assert soma("check").exit_code == 0
    assert json.loads(soma("check", "--json").output)["differences"] == []
    grown = soma("apply", "--partitions", "3")
    assert grown.exit_code == 1
    assert grown.output.count("has 2 partition(s), not 3") == len(CATALOGUE)


def test_a_broker_that_isnt_there_is_named(
    soma: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "CONNECT_S", 1.0)
    monkeypatch.setenv("SOMA_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    result = soma("check")
    assert result.exit_code == 1
    assert "No Kafka broker answers at 127.0.0.1:1" in result.output
