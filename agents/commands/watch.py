"""`soma watch`: a topic's committed records, decoded, as they come."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.json import JSON

from agents.settings import load
from agents.tools.known import topic_named
from agents.tools.open_transactions import said, standing
from agents.tools.output import until_interrupted
from agents.tools.pretty import glance
from agents.tools.reader import Seen, TopicReader, seen
from topics.broker import BrokerError

if TYPE_CHECKING:
    from agents.settings import Settings

OFFSET_MAX = 2**63 - 1


class Start(click.ParamType):
    """'beginning', 'end' or an offset."""

    name = "beginning|end|OFFSET"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in ("beginning", "end"):
            return value
        if value.isascii() and value.isdecimal() and len(value) < 20 and int(value) <= OFFSET_MAX:
            return value
        raise click.BadParameter(
            f"{value!r} is neither beginning nor end nor an offset (0 to {OFFSET_MAX})", ctx, param
        )


@click.command()
@click.argument("topic")
@click.option("--from", "start", type=Start(), default="end", show_default=True)
@click.option("--tenant", help="Only this tenant's records.")
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many records.")
@click.option(
    "--follow/--no-follow", default=True, help="Wait for more at the end [default], or stop."
)
@click.option(
    "--pretty",
    is_flag=True,
    help="For people, in colour: what matters of a boundary and the like, all of other records.",
)
@click.option("--json", "as_json", is_flag=True, help="With place, key and headers around each.")
def watch(
    topic: str,
    start: str,
    tenant: str | None,
    count: int | None,
    follow: bool,
    pretty: bool,
    as_json: bool,
) -> None:
    """Print the committed records of TOPIC, decoded, one JSON object a line.

    A dead letter comes with its headers and its record as it was, or its bytes where these are
    none. A control record among others comes with the name of its schema. What can't be decoded is
    named with its place on standard error (with --json: as a line with an "error"). A tombstone
    has a record of null. --no-follow stops where the topic ended when it began; a transaction that
    stays open before that end is named, and the status is non-zero: more can't be read.

    \b
    Examples:
      soma watch cog.global.frame --tenant cpu
      soma watch cog.segments --pretty
      soma watch cog.observations --from beginning --no-follow | jq .domain
    """
    row = topic_named(topic)
    settings = load()
    reader = TopicReader(settings, row.name, start)
    _say_of_offset(reader, follow)
    shown = 0
    try:
        with until_interrupted() as ending:
            for one in _wanted(reader, row.name, row.schema, tenant, follow):
                _show(one, pretty, as_json)
                shown += 1
                if shown == count:
                    return
            if not follow and reader.held_up():
                _refuse_held_up(settings, row.name)
        ending.broken_off(count is not None or not follow)
    finally:
        reader.close()


def _say_of_offset(reader: TopicReader, follow: bool) -> None:
    """Name the partitions that don't have the first offset asked for: not yet, or no more."""
    for (topic, number), (low, end) in reader.spans.items():
        if reader.first > end:
            then = "waiting for it" if follow else "nothing of it is shown"
            click.echo(
                f"{topic} partition {number} ends at {end}, before offset {reader.first}: {then}",
                err=True,
            )
        elif 0 < reader.first < low:
            click.echo(
                f"{topic} partition {number} begins at {low}: what was before is gone", err=True
            )


def _refuse_held_up(settings: "Settings", topic: str) -> None:
    """ClickException if what couldn't be read won't soon be: an open transaction, by its name."""
    try:
        found = standing(settings, [topic])
    except BrokerError as error:
        raise click.ClickException(f"{topic}: a transaction is open; {error}") from error
    if found:
        lines = "\n".join(said(one) for one in found)
        raise click.ClickException(f"{lines}\n`soma topics abort-transaction` ends it.")


def _wanted(
    reader: TopicReader, topic: str, schema: str | None, tenant: str | None, follow: bool
) -> Iterator[Seen]:
    for message in reader.records(follow):
        one = seen(message, topic, schema)
        if tenant is None or one.tenant == tenant:
            yield one


def _show(one: Seen, pretty: bool, as_json: bool) -> None:
    if as_json:
        print(json.dumps(one.envelope(), ensure_ascii=False), flush=True)
    elif one.error is not None:
        click.echo(f"{one.place}: {one.error}", err=True)
    elif pretty:
        when = datetime.fromtimestamp(one.log_ms / 1000, UTC).isoformat(timespec="milliseconds")
        console = Console()
        if (short := glance(one.schema, one.record)) is not None:
            console.print(short, soft_wrap=True)
            return
        console.print(f"{one.place}  {when}  key {one.key}", style="dim", markup=False)
        console.print(JSON.from_data(None if one.record is None else one.line()))
    else:
        print(json.dumps(one.line(), ensure_ascii=False), flush=True)
