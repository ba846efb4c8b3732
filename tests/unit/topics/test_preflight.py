import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.broker import Found, hex_id
from topics.catalogue import CATALOGUE
from topics.preflight import Difference, compare, wanted_config

STATE = CATALOGUE["soma.integrator.state"]
SOURCE = CATALOGUE["cog.observations"]
EPOCHS = CATALOGUE["soma.epochs"]
MEMORIES = CATALOGUE["memory.events"]
ID = "0" * 32


def differences(topic=SOURCE, partitions=4, replication=3, want=4, **config: str):  # type: ignore[no-untyped-def]
    wanted = wanted_config(topic, 3)
    have = {**wanted, **{key.replace("_", "."): value for key, value in config.items()}}
    found = Found(ID, partitions, replication, have)
    return list(compare(topic.name, found, wanted, want, 3))


def only(found: list[Difference]) -> Difference:
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("topic", CATALOGUE.values(), ids=list(CATALOGUE))
def test_what_is_as_wanted_has_no_difference(topic) -> None:  # type: ignore[no-untyped-def]
    assert differences(topic) == []


def test_a_missing_topic_can_be_made_but_no_worker_starts_without() -> None:
    one = only(list(compare("x", None, {}, 4, 3)))
    assert (one.kind, one.refused, one.fixable) == ("missing", True, True)


@pytest.mark.parametrize("count", [1, 3, 5, 24])
def test_another_partition_count_is_refused_and_never_applied(count: int) -> None:
    one = only(differences(partitions=count))
    assert (one.kind, one.refused, one.fixable) == ("partitions", True, False)
    assert f"has {count} partition(s), not 4" in str(one)


def test_an_unsaid_partition_count_is_not_compared() -> None:
    assert differences(partitions=17, want=None) == []


def test_fewer_replicas_are_refused_and_more_are_well() -> None:
    one = only(differences(replication=2))
    assert (one.kind, one.refused, one.fixable) == ("replication", True, False)
    assert differences(replication=5) == []


@pytest.mark.parametrize(
    ("topic", "setting", "have", "refused"),
    [
        (SOURCE, "message_timestamp_type", "CreateTime", True),
        (SOURCE, "min_insync_replicas", "1", True),
        (SOURCE, "max_message_bytes", "1000", True),
        (STATE, "cleanup_policy", "delete", True),
        (STATE, "cleanup_policy", "compact,delete", True),
        (EPOCHS, "retention_ms", "1000", True),
        (EPOCHS, "retention_bytes", "1000", True),
        (MEMORIES, "cleanup_policy", "compact,delete", True),
        (MEMORIES, "retention_ms", "31536000000", True),
        (SOURCE, "retention_ms", "1000", False),
        (STATE, "segment_bytes", "1073741824", False),
        (STATE, "min_cleanable_dirty_ratio", "0.5", False),
        (STATE, "max_compaction_lag_ms", "9223372036854775807", False),
    ],
)
def test_weaker_settings(topic, setting: str, have: str, refused: bool) -> None:  # type: ignore[no-untyped-def]
    one = only(differences(topic, **{setting: have}))
    name = setting.replace("_", ".")
    assert (one.kind, one.setting, one.refused, one.fixable) == ("config", name, refused, True)
    assert f"{name} is {have}" in one.detail


@pytest.mark.parametrize("topic", [SOURCE, MEMORIES], ids=lambda topic: topic.name)
def test_a_compacted_topic_is_not_made_to_delete(topic) -> None:  # type: ignore[no-untyped-def]
    one = only(differences(topic, cleanup_policy="compact"))
    assert (one.refused, one.fixable) == (True, False)
    assert "old records would be deleted" in one.detail


@given(st.integers(0, 2**40))
def test_more_than_wanted_is_well(more: int) -> None:
    wanted = wanted_config(SOURCE, 3)
    grown = {
        "retention_ms": str(int(wanted["retention.ms"]) + more),
        "max_message_bytes": str(int(wanted["max.message.bytes"]) + more),
        "min_insync_replicas": str(2 + more),
    }
    assert differences(SOURCE, **grown) == []
    assert differences(SOURCE, retention_ms="-1") == []


def test_a_setting_the_broker_doesnt_know_is_a_difference() -> None:
    found = Found(ID, 4, 3, {})
    kinds = {one.kind for one in compare("x", found, wanted_config(STATE, 3), 4, 3)}
    assert kinds == {"config"}


@pytest.mark.parametrize(("replication", "insync"), [(1, "1"), (2, "1"), (3, "2"), (5, "2")])
def test_two_replicas_must_have_a_record_where_there_are_three(
    replication: int, insync: str
) -> None:
    assert wanted_config(SOURCE, replication)["min.insync.replicas"] == insync


def test_topic_ids_are_written_as_hex() -> None:
    from confluent_kafka import Uuid

    assert hex_id(Uuid(-1, 1)) == "f" * 16 + "0" * 15 + "1"
