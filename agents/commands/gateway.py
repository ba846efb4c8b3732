"""`soma gateway`: what the remote memory service doesn't have yet, by tenant."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
from confluent_kafka import Consumer, KafkaException, TopicPartition

from agents.engine.errors import UnknownVersion
from agents.settings import load
from agents.tools.output import counted, plain
from topics.broker import BrokerError, connect, look, topic_ids
from topics.reading import ends_of, read_to

if TYPE_CHECKING:
    from agents.gateway.state import Saved
    from agents.settings import Settings

ANSWER_S = 5.0


@click.group()
def gateway() -> None:
    """The delivery of memory events to a remote service (SOMA_MEMORY_HTTP_ENDPOINT)."""


@gateway.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--json", "json_", is_flag=True, help="Print one JSON object.")
def status(limit: int, json_: bool) -> None:
    """Show how far each partition is delivered, and which tenants wait.

    A tenant waits while its circuit is open, and for moments while its calls are out; the longest
    waiting come first. What is open at this moment, a worker's /metrics say (soma_circuit_open).

    \b
    Example:
      soma gateway status
      soma gateway status --json --limit 1000
    """
    try:
        found = examine(load())
    except KafkaException as error:
        raise click.ClickException(f"the state can't be read: {error.args[0].str()}") from error
    except (BrokerError, UnknownVersion) as error:
        raise click.ClickException(f"the state can't be read: {error}") from error
    waiting = sorted(
        (
            (place.end - first, tenant, number, first)
            for number, place in found.items()
            for tenant, first in place.saved.behind.items()
        ),
        reverse=True,
    )
    if json_:
        click.echo(json.dumps(_data(found, waiting[:limit], len(waiting))))
        return
    for number, place in sorted(found.items()):
        click.echo(
            f"partition {number}: read to {place.saved.next_offset} of {place.end} "
            f"({place.unread} unread), {counted(len(place.saved.behind), 'waiting tenant')}"
        )
    for behind, tenant, number, first in waiting[:limit]:
        click.echo(
            f"  {plain(tenant)}: lacks offset {first} of partition {number} ({behind} from the end)"
        )
    if len(waiting) > limit:
        click.echo(f"  … and {len(waiting) - limit} more: --limit shows them")


@dataclass(frozen=True, slots=True)
class Delivery:
    """Of a partition: what is delivered, the log's end, and what isn't read of it."""

    saved: "Saved"
    end: int
    unread: int


def examine(settings: "Settings") -> dict[int, Delivery]:
    """partition -> how far it is delivered. BrokerError, KafkaException."""
    from agents.gateway import state  # the engine: when it is used
    from agents.gateway.writer import SOURCE, STATE

    topic = settings.topic(SOURCE)
    admin = connect(settings.librdkafka())
    found = look(admin, [topic, settings.topic(STATE)])
    if topic not in found or settings.topic(STATE) not in found:
        raise BrokerError("the topics aren't there; `soma topics apply` makes them")
    partitions = set(range(found[topic].partitions))
    saved = state.load(settings, partitions, topic_ids(admin, [topic])[topic])
    consumer = Consumer(settings.librdkafka(group_id=settings.prefix("soma-look")))
    try:
        places = [(topic, number) for number in sorted(partitions)]
        ends = {number: end for (_, number), end in ends_of(consumer, places, ANSWER_S).items()}
    finally:
        consumer.close()
    behind = {n: saved[n].next_offset for n, end in ends.items() if saved[n].next_offset < end}
    unread = _with_records(settings, topic, behind, ends)
    return {
        number: Delivery(saved[number], end, end - behind[number] if number in unread else 0)
        for number, end in ends.items()
    }


def _with_records(
    settings: "Settings", topic: str, places: Mapping[int, int], ends: Mapping[int, int]
) -> set[int]:
    """Those of the partitions with a record between its place and its end: markers of transactions
    are none.
    """
    from agents.engine.recovery import reader

    found: set[int] = set()
    consumer = reader(settings, "soma-look", [])
    try:
        for number, at in places.items():
            consumer.assign([TopicPartition(topic, number, at)])
            left = read_to(consumer, {(topic, number): ends[number]}, 1, silence_s=ANSWER_S)
            if any(message.partition() == number for messages in left for message in messages):
                found.add(number)
    finally:
        consumer.close()
    return found


def _data(
    found: dict[int, Delivery],
    waiting: list[tuple[int, str, int, int]],
    tenants: int,
) -> dict[str, object]:
    return {
        "partitions": [
            {
                "partition": number,
                "next_offset": place.saved.next_offset,
                "end": place.end,
                "unread": place.unread,
                "waiting": len(place.saved.behind),
            }
            for number, place in sorted(found.items())
        ],
        "tenants_waiting": tenants,
        "tenants": [
            {"tenant": tenant, "partition": number, "first_undelivered": first, "behind": behind}
            for behind, tenant, number, first in waiting
        ],
    }
