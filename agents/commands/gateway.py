"""`soma gateway`: what the remote memory service doesn't have yet, by tenant."""

import json

import click
from confluent_kafka import Consumer, KafkaException, TopicPartition

from agents.engine.errors import UnknownVersion
from agents.gateway import state
from agents.gateway.writer import SOURCE, STATE
from agents.settings import Settings, load
from topics.broker import BrokerError, connect, look, topic_ids

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
    except (BrokerError, KafkaException, UnknownVersion) as error:
        raise click.ClickException(f"the state can't be read: {error}") from error
    waiting = sorted(
        (
            (end - first, tenant, number, first)
            for number, (saved, end) in found.items()
            for tenant, first in saved.behind.items()
        ),
        reverse=True,
    )
    if json_:
        click.echo(json.dumps(_data(found, waiting[:limit], len(waiting))))
        return
    for number, (saved, end) in sorted(found.items()):
        unread = max(0, end - saved.next_offset)
        click.echo(
            f"partition {number}: read to {saved.next_offset} of {end} ({unread} unread), "
            f"{len(saved.behind)} tenant(s) wait"
        )
    for behind, tenant, number, first in waiting[:limit]:
        click.echo(
            f"  {tenant}: lacks offset {first} of partition {number} ({behind} from the end)"
        )
    if len(waiting) > limit:
        click.echo(f"  … and {len(waiting) - limit} more: --limit shows them")


def examine(settings: Settings) -> dict[int, tuple[state.Saved, int]]:
    """partition -> (what is delivered, the log's end). BrokerError, KafkaException."""
    topic = settings.topic(SOURCE)
    admin = connect(settings.librdkafka())
    found = look(admin, [topic, settings.topic(STATE)])
    if topic not in found or settings.topic(STATE) not in found:
        raise BrokerError("the topics aren't there; `soma topics apply` makes them")
    partitions = set(range(found[topic].partitions))
    saved = state.load(settings, partitions, topic_ids(admin, [topic])[topic])
    consumer = Consumer(settings.librdkafka(group_id=settings.prefix("soma-look")))
    try:
        return {
            number: (
                saved[number],
                consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=ANSWER_S)[1],
            )
            for number in sorted(partitions)
        }
    finally:
        consumer.close()


def _data(
    found: dict[int, tuple[state.Saved, int]],
    waiting: list[tuple[int, str, int, int]],
    tenants: int,
) -> dict[str, object]:
    return {
        "partitions": [
            {
                "partition": number,
                "next_offset": saved.next_offset,
                "end": end,
                "waiting": len(saved.behind),
            }
            for number, (saved, end) in sorted(found.items())
        ],
        "tenants_waiting": tenants,
        "tenants": [
            {"tenant": tenant, "partition": number, "first_undelivered": first, "behind": behind}
            for behind, tenant, number, first in waiting
        ],
    }
