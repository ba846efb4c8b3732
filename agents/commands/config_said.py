"""Changes of settings, said to the processor control; what it answers, and where they act."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException, Message, Producer

from agents.kit.setting import EVERYONE
from agents.tools.known import partitions_of
from agents.tools.output import plain
from agents.tools.publisher import Publisher
from agents.tools.reader import TopicReader
from topics import codec, strictjson
from topics.broker import connect, topic_ids
from topics.catalogue import sources
from topics.chosen_ids import insist
from topics.partition import partition_of

if TYPE_CHECKING:
    from agents.settings import Settings

UPDATES, AUDIT = "cog.config.updates", "soma.audit"
CONTROL, GROUP = "control", "soma"  # the processor, and the workers' group
ANSWER_S = 30.0  # for all answers to what was said
DELIVERY_S = 10.0
SET, REFUSED = "config.set", "config.refused"  # actions of the audit
SEP = "\x1f"


@dataclass(slots=True)
class Said:
    """One change, and what became of it."""

    update: Mapping[str, Any]
    topic: str  # the input of the processor whose setting it is
    id: str = ""  # its place: empty until it is written
    version: int = 0  # 0: control hasn't answered, or refused it
    refused: str = ""
    offsets: dict[int, int] = field(default_factory=dict)  # partition -> offset from which it acts

    def done(self, partitions: int) -> bool:
        """Whether all is known of it."""
        wanted = partitions if self.update["tenant"] == EVERYONE else 1
        return bool(self.refused) or (self.version > 0 and len(self.offsets) == wanted)


def update_of(tenant: str, name: str, value: str, author: str, expected: int | None = None) -> Any:
    """A change's record; `name`: PROCESSOR.SETTING."""
    processor, _, setting = name.partition(".")
    return {
        "tenant": tenant, "setting": setting, "value": value, "author": author,
        "ts": time.time_ns() // 1000, "processor": processor, "expected_version": expected,
    }  # fmt: skip


def say(
    settings: "Settings", updates: Sequence[Mapping[str, Any]], wait: bool = True
) -> list[Said]:
    """Say changes of one tenant, in this order; with `wait` until control has answered each, and
    each acts. ClickException where nobody runs control (nothing is written then), or answers.
    """
    said = [Said(one, sources()[one["processor"]]) for one in updates]
    if not wait:
        _write(settings, said)
        return said
    tenant = updates[0]["tenant"]
    readers: list[TopicReader] = []
    try:
        for topic in dict.fromkeys([AUDIT, *(one.topic for one in said)]):
            whole = topic != AUDIT and tenant == EVERYONE
            readers.append(TopicReader(settings, topic, of=None if whole else tenant))
        _find_control(settings)
        partitions = _write(settings, said)
        _hear(readers, said, partitions)
    finally:
        for reader in readers:
            reader.close()
    return said


def _find_control(settings: "Settings") -> None:
    """ClickException where no worker runs control. Where the group can't be asked, or is being
    dealt out, the answer will tell.
    """
    group, wanted = settings.prefix(GROUP), settings.topic(UPDATES)
    admin = connect(settings.librdkafka())
    try:
        asked = admin.describe_consumer_groups([group], request_timeout=DELIVERY_S)[group]
        found = asked.result(timeout=DELIVERY_S + 1.0)
    except (KafkaException, TimeoutError):
        return
    nobody = (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)
    if found.state not in (*nobody, ConsumerGroupState.STABLE):
        return
    given = (one.assignment.topic_partitions for one in found.members if one.assignment)
    if not any(place.topic == wanted for places in given for place in places):
        raise click.ClickException(
            f"No worker runs {CONTROL}, which checks changes of settings and hands them on, so "
            "nothing is written. Start one (`soma worker`; SOMA_AGENTS unset or naming it) and say "
            "it again. Or --no-wait writes it for when one runs, and --direct writes it past "
            "control, as earlier versions did."
        )


def _write(settings: "Settings", said: Sequence[Said]) -> int:
    """Write changes, and note their places; how many partitions there are. ClickException."""
    failed: list[str] = []
    producer = Producer(
        settings.librdkafka(
            enable_idempotence=True, acks="all", message_timeout_ms=int(DELIVERY_S * 1000)
        )
    )
    partitions = len(partitions_of(producer, settings, UPDATES))
    insist(settings)
    name = settings.topic(UPDATES)
    topic_id = topic_ids(connect(settings.librdkafka()), [name])[name][:8]

    def note(one: Said, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failed.append(error.str())
        else:
            one.id = f"{topic_id}-{message.partition()}-{message.offset()}"

    for one in said:
        key = f"{one.update['tenant']}{SEP}{one.update['processor']}.{one.update['setting']}"
        producer.produce(
            name, key=key.encode(), value=codec.encode("config_update", dict(one.update)),
            partition=partition_of(one.update["tenant"], partitions),
            on_delivery=partial(note, one),
        )  # fmt: skip
    if producer.flush(DELIVERY_S + 1.0) or failed:
        why = failed[0] if failed else "no answer in time"
        raise click.ClickException(f"The change isn't (surely) written: {why}")
    return partitions


def _hear(readers: Sequence[TopicReader], said: Sequence[Said], partitions: int) -> None:
    """Read what is answered, and where the settings are. ClickException when it takes too long."""
    known = {one.id: one for one in said}
    until = time.monotonic() + ANSWER_S
    headers = codec.headers("audit_event") | codec.headers("control_setting")
    while not all(one.done(partitions) for one in said):
        if time.monotonic() > until:
            what = "act everywhere" if any(one.version for one in said) else "are answered"
            raise click.ClickException(
                f"The changes are written, and not all {what} after {ANSWER_S:g} s: is the worker "
                f"that runs {CONTROL} ready? They act when it is; `soma config history` shows them."
            )
        for reader in readers:
            for message in reader.read():
                if (message.value() or b"")[: codec.HEADER] in headers:  # an input may be busy
                    _take(message, known)


def _take(message: Message, known: Mapping[str, Said]) -> None:
    """Note what a record says of a change of ours: the audit's answer, or its control record."""
    value = message.value()
    try:
        name, record = codec.decode(value if isinstance(value, bytes) else b"")
        detail = strictjson.parse(record["detail"]) if name == "audit_event" else {}
    except (codec.BadRecord, strictjson.NotJsonError):
        return
    if name == "audit_event" and record["action"] in (SET, REFUSED):
        if (one := known.get(detail.get("update", ""))) is not None:
            one.version = int(detail.get("version", 0))
            one.refused = plain(str(detail.get("why", "")))
    elif name == "control_setting" and (one := known.get(record["update"])) is not None:
        one.offsets[message.partition() or 0] = message.offset() or 0


def write_past(settings: "Settings", update: Mapping[str, Any]) -> dict[str, Any]:
    """Write a setting into the input of its processor, past control; into which partitions.

    ClickException where not all of it is (surely) written.
    """
    failed: list[str] = []
    tenant, owner = update["tenant"], update["processor"]
    record = {name: update[name] for name in ("tenant", "setting", "value", "author", "ts")}
    value = codec.encode("control_setting", record | {"processor": owner})
    with Publisher(settings, sources()[owner], lambda _, why: failed.append(why)) as publisher:
        count = publisher.partitions
        where = list(range(count)) if tenant == EVERYONE else [partition_of(tenant, count)]
        for partition in where:
            publisher.send(tenant.encode(), value, partition=partition)
        unanswered = publisher.close()
    if failed or unanswered:
        why = failed[0] if failed else "no answer in time"
        text = f"{update['setting']} of {tenant} isn't (everywhere) set: {why}"
        raise click.ClickException(text)
    return {"partitions": where}


def places(update: Mapping[str, Any], offsets: Mapping[int, int]) -> str:
    """Where a change acts, for people."""
    topic = sources()[update["processor"]]
    if len(offsets) == 1:
        ((partition, offset),) = offsets.items()
        return f"{topic} partition {partition} offset {offset}"
    return f"{topic} offsets " + ", ".join(f"{p}:{at}" for p, at in sorted(offsets.items()))
