"""`soma skip`: have a record passed over at which a processor's law fails."""

import json
import re
from typing import TYPE_CHECKING

import click
from confluent_kafka import KafkaException, Message

from agents.commands.actor import actor
from agents.settings import load
from agents.tools.publisher import Publisher
from topics.broker import BrokerError, connect, topic_ids
from topics.reading import ends_of, read_to

if TYPE_CHECKING:
    from agents.engine.epochs import Skip
    from agents.engine.position import Position
    from agents.engine.processor import Processor
    from agents.settings import Settings

PLACE = re.compile(r"([A-Za-z0-9._-]+)/(\d{1,9})/(\d{1,18})")
ANSWER_S = 10.0
REASON_MAX = 300  # characters: it stands in the dead letter's header


@click.command()
@click.argument("place", metavar="TOPIC/PARTITION/OFFSET")
@click.option("--processor", default="", help="Whose law fails there; needed where several read.")
@click.option("--reason", required=True, help="Why: kept in the epochs log and the dead letter.")
@actor
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def skip(place: str, processor: str, reason: str, actor: str, as_json: bool) -> None:
    """Pass over the record at which a processor stopped with law_failed.

    It becomes a dead letter, with the actor and the reason, and the partition goes on behind it
    within seconds. That stands in soma.epochs, so a rebuild of the state passes over it too. Only
    the record that is next can be passed over. Where you can, mend the law and restart instead.

    \b
    Example:
      soma skip cog.observations/3/1234 --processor counting --reason 'a unit nobody knows'
    """
    from agents.engine.epochs import Skip  # the engine: when it is used

    found = PLACE.fullmatch(place)
    if found is None:
        raise click.ClickException(f"{place!r} isn't TOPIC/PARTITION/OFFSET")
    if not reason.strip() or len(reason) > REASON_MAX:
        raise click.ClickException(f"--reason: 1 to {REASON_MAX} characters")
    settings, partition, offset = load(), int(found[2]), int(found[3])
    one = _reading(settings, found[1], processor)
    try:
        position = _position(settings, one, partition)
        record = _next(settings, one, partition, position, offset)
        said = Skip(one.name, partition, position.topic_id, offset, actor, reason)
        _say(settings, said)
    except KafkaException as error:
        why = error.args[0].str()
        raise click.ClickException(f"Kafka at {settings.bootstrap()}: {why}") from error
    except BrokerError as error:
        raise click.ClickException(str(error)) from error
    key = (record.key() or b"").decode(errors="replace")
    if as_json:
        told = {"processor": one.name, "place": place, "key": key, "author": said.author}
        click.echo(json.dumps(told | {"reason": reason}))
    else:
        size = len(record.value() or b"")
        click.echo(f"{one.name} passes over {place} (key {key!r}, {size} bytes)", err=True)


def _reading(settings: "Settings", topic: str, name: str) -> "Processor":
    """The processor that reads the topic."""
    from agents.engine.registry import processors

    known = [p for p in processors().values() if topic in (p.source, settings.topic(p.source))]
    if name:
        known = [p for p in known if p.name == name]
    if not known:
        raise click.ClickException(f"{name or 'no processor'} doesn't read {topic}")
    if len(known) > 1:
        listed = ", ".join(p.name for p in known)
        raise click.ClickException(f"{listed} read {topic}: say which by --processor")
    return known[0]


def _position(settings: "Settings", one: "Processor", partition: int) -> "Position":
    """How far the processor is, as its state says."""
    from agents.engine.position import read_position
    from agents.engine.recovery import reader
    from agents.engine.work import POSITION_KEY

    state = settings.topic(one.state_topic)
    consumer = reader(settings, "soma-skip", [(state, partition)])
    row: bytes | None = None
    try:
        for messages in read_to(consumer, ends_of(consumer, [(state, partition)], ANSWER_S)):
            for message in messages:
                if message.key() == POSITION_KEY:
                    row = message.value()
    finally:
        consumer.close()
    if row is None:
        raise click.ClickException(f"{one.name} hasn't done anything in partition {partition} yet")
    position, source = read_position(row, state), settings.topic(one.source)
    admin = connect(settings.librdkafka())
    if topic_ids(admin, [source]).get(source) != position.topic_id:
        raise click.ClickException(f"{source} was made anew since {one.name} worked on it")
    return position


def _next(
    settings: "Settings", one: "Processor", partition: int, position: "Position", offset: int
) -> Message:
    """The record, if it is the next one to be folded."""
    from agents.engine.recovery import reader

    place = settings.topic(one.source), partition
    if offset < position.next_offset:
        raise click.ClickException(
            f"{one.name} is done up to offset {position.next_offset}: {offset} can't be taken back"
        )
    consumer = reader(settings, "soma-skip", [place], position.next_offset)
    first: Message | None = None
    try:
        for messages in read_to(consumer, ends_of(consumer, [place], ANSWER_S), 1):
            first = messages[0]
            break
    finally:
        consumer.close()
    if first is None or first.offset() != offset:
        what = "nothing is" if first is None else f"{first.offset()} is"
        raise click.ClickException(f"{what} next in {place[0]}/{partition}, not {offset}")
    return first


def _say(settings: "Settings", said: "Skip") -> None:
    """Write it into the epochs log."""
    from agents.engine.plan import EPOCHS

    failures: list[str] = []
    with Publisher(settings, EPOCHS, lambda _, why: failures.append(why)) as publisher:
        publisher.send(*said.record(), partition=said.partition)
        unanswered = publisher.close(ANSWER_S)
    if failures or unanswered:
        raise click.ClickException(f"not written: {failures[0] if failures else 'no answer'}")
