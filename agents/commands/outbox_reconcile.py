"""`soma outbox reconcile`: after PostgreSQL or Kafka was restored, what is still to be sent."""

import asyncio
import json
from datetime import datetime
from typing import TYPE_CHECKING

import click

from agents.commands.actor import actor as actor_option
from agents.commands.kernels import compile_ahead
from agents.commands.moment import moment
from agents.settings import load
from agents.tools.output import counted
from stores.errors import StoreDown, StoreError
from topics.broker import BrokerError

if TYPE_CHECKING:
    from agents.outbox.reconcile import Asked, Done
    from agents.outbox.sent_events import ReadProgress
    from agents.settings import Settings


@click.command("reconcile")
@click.option(
    "--since", callback=moment, metavar="TIME",
    help="Look at what Kafka holds since then, e.g. 2026-01-31T12:00:00Z; one later than the "
    "default is refused. [default: a minute before the last batch that the restored database "
    "knows of]",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option("--resend", is_flag=True, help="Send again what was sent and Kafka lost.")
@click.option("--leave", is_flag=True, help="Leave unsent what was sent and Kafka lost.")
@actor_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def reconcile_(
    since: datetime | None, dry_run: bool, resend: bool, leave: bool, actor: str, as_json: bool
) -> None:
    """After PostgreSQL or Kafka was restored: compare the queue with what the topics hold.

    What waits and was delivered (by tenant and dedupe key) leaves the queue; what waits under an id
    that was another event's gets a new one, and keeps its place in the order of its key. Then the
    shards that were stopped as `database_went_back` or `kafka_went_back` go on by themselves.
    Events that were sent and aren't in Kafka any more are counted first: fails, and changes
    nothing, until --resend or --leave says what is to become of them.

    Workers may run: their stopped shards send nothing. See ops/RESTORE.md.

    \b
    Examples:
      soma outbox reconcile --dry-run
      soma outbox reconcile
      soma outbox reconcile --since 2026-01-31T12:00:00Z --resend
    """
    if resend and leave:
        raise click.UsageError("Give --resend or --leave, not both.")
    from agents.outbox.reconcile import Asked  # kernels and clients: when they are used

    done = _done(load(), Asked(since, actor, dry_run, resend, leave))
    if as_json:
        click.echo(json.dumps(done.data(), default=lambda time: time.isoformat()))
    else:
        for line in _lines(done, dry_run):
            click.echo(line)
    if done.outcome.undecided:
        raise click.exceptions.Exit(1)


def _done(settings: "Settings", asked: "Asked") -> "Done":
    from aiokafka.errors import KafkaError
    from confluent_kafka import KafkaException

    from agents.outbox.receipts import ReceiptsLost
    from agents.outbox.reconcile import reconcile
    from agents.outbox.relay import topics_there

    try:
        topics = topics_there(settings)
        compile_ahead("outbox")
        return asyncio.run(reconcile(settings, topics, asked, _tell, _wait))
    except StoreDown as error:
        raise click.ClickException(f"PostgreSQL: {error}") from error
    except (StoreError, BrokerError, ReceiptsLost) as error:
        raise click.ClickException(str(error)) from error
    except KafkaException as error:
        raise click.ClickException(f"Kafka: {error.args[0].str()}") from error
    except (KafkaError, TimeoutError) as error:
        raise click.ClickException(f"Kafka: {error!r}") from error


def _tell(read: "ReadProgress") -> None:
    click.echo(f"read {read.records:,} of about {read.about:,} records", err=True)


def _wait(shard: int) -> None:
    from stores.outbox_reconcile import OWN_S

    click.echo(
        f"a relay has shard {shard}: waiting for it, {OWN_S:.0f} s at most (one that is stopped "
        "has its shards only while it looks whether it may go on)",
        err=True,
    )


def _lines(done: "Done", dry_run: bool) -> list[str]:
    read, found = done.read, done.outcome
    since = f"since {done.since:%Y-%m-%dT%H:%M:%SZ}" if done.since else "from the beginning"
    records = counted(read.records, "record")
    lines = [f"Kafka, {since}: {records}, {read.ours:,} of them from this outbox."]
    if read.cut:
        whole = f"{read.whole_since:%Y-%m-%dT%H:%M:%SZ}" if read.whole_since else "?"
        lines.append(
            f"CAUTION: {counted(len(read.cut), 'partition')} lost their beginning since then "
            f"(whole from {whole} on): what was there isn't known, and is sent if it waits."
        )
    anew = f" ({found.anew:,} of them added anew)" if found.anew else ""
    lines.append(f"Delivered already, taken off the queue: {found.delivered:,}{anew}.")
    if found.missing:
        what = "they wait again" if found.resent else "--resend sends them, --leave doesn't"
        lines.append(f"Sent once, and not in Kafka any more: {found.missing:,}; {what}.")
    if found.renumbered:
        lines.append(
            f"Their ids were other events': {found.renumbered:,} from {found.renumbered_from} on "
            f"that wait have new ones, greater by {found.renumbered_by:,}."
        )
    lines.append(f"To be sent: {found.waiting:,}.")
    moved = {n: (was, now) for n, (was, now) in found.batches.items() if was != now}
    lines += [f"Shard {n}: batch {was:,} -> {now:,}." for n, (was, now) in sorted(moved.items())]
    if dry_run or found.undecided:
        lines.append("Nothing was changed.")
    return lines
