from topics.catalogue import _TOPICS, CATALOGUE, DLQ_EXTRA_BYTES, dlq_of
from topics.compat import kind_of
from topics.schemas import schemas

SOURCES = ("cog.observations", "cog.predictor.updates")


def test_names_and_schemas_are_known() -> None:
    for name, topic in CATALOGUE.items():
        assert name == topic.name == name.lower()
        assert topic.schema is None or topic.schema in schemas().names()
        assert topic.writers
        assert topic.readers


def test_users_write_the_sources_memories_and_commands_only() -> None:
    # Of the house's own: another test may have brought a plugin's into this process.
    public = {topic.name for topic in _TOPICS if CATALOGUE[topic.name].public}
    assert public == {
        *SOURCES, "memory.events", "soma.admin.replay", "brain.sleep.requests",
        "cog.config.updates", "cog.reward.events", "cog.teach.feedback", "soma.admin.canary",
        "prune.order",
    }  # fmt: skip


def test_every_topic_has_the_broker_s_clock_and_no_limit_of_bytes() -> None:
    for topic in CATALOGUE.values():
        wanted = topic.settings()
        assert wanted["message.timestamp.type"] == "LogAppendTime"
        assert wanted.get("retention.bytes", "-1") == "-1"


def test_state_is_kept_for_ever_and_recovers_quickly() -> None:
    for name in ("soma.predictors.state", "soma.integrator.state"):
        wanted = CATALOGUE[name].settings()
        assert wanted["cleanup.policy"] == "compact"
        assert "retention.ms" not in wanted
        assert wanted["segment.bytes"] == "33554432"
    assert CATALOGUE["soma.epochs"].settings()["retention.ms"] == "-1"


def test_memories_are_never_compacted_nor_forgotten() -> None:
    wanted = CATALOGUE["memory.events"].settings()
    assert (wanted["cleanup.policy"], wanted["retention.ms"]) == ("delete", "-1")
    assert not [name for name in wanted if "compaction" in name]


def test_every_processor_has_a_topic_for_snapshots_that_outlive_its_input() -> None:
    readers = [name for one in CATALOGUE.values() if one.name in SOURCES for name in one.readers]
    for processor in (*readers, "segmentation"):
        topic = CATALOGUE[f"soma.{processor}.snapshots"]
        assert topic.schema == f"{processor}_state"
        assert topic.settings()["retention.ms"] == str(90 * 86_400_000)
        assert topic.settings()["cleanup.policy"] == "delete"


def test_what_became_of_a_letter_is_known_for_longer_than_the_letter_is_there() -> None:
    ledger = CATALOGUE["soma.dlq.ledger"].settings()
    assert ledger["cleanup.policy"] == "compact,delete"
    for name in SOURCES:
        kept = int(CATALOGUE[dlq_of(name)].settings()["retention.ms"])
        assert int(ledger["retention.ms"]) >= 2 * kept


def test_a_dead_letter_fits_its_origin_and_the_reason() -> None:
    for name in SOURCES:
        size = int(CATALOGUE[name].settings()["max.message.bytes"])
        dlq = CATALOGUE[dlq_of(name)]
        assert int(dlq.settings()["max.message.bytes"]) == size + DLQ_EXTRA_BYTES
        assert dlq.schema is None


def test_what_has_a_tenant_for_a_key_has_one_in_its_value() -> None:
    for topic in CATALOGUE.values():
        if topic.key == "tenant" and topic.name.startswith("cog."):
            assert topic.schema is not None
            fields = {f["name"]: f["type"] for f in schemas().raw(topic.schema)["fields"]}
            assert kind_of(fields["tenant"]) == "string"
