"""`soma publish`: JSON lines into a topic, each checked, each answered for."""

import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from agents.settings import load
from agents.tools.admission import unfit
from agents.tools.known import users_topic
from agents.tools.lines import LINE_BYTES_MAX, lines
from agents.tools.output import counted
from agents.tools.publisher import Publisher
from agents.tools.signals import status
from topics import codec, jsonform
from topics.schemas import is_control_id, schemas

PROGRESS_EVERY = 200  # lines


@dataclass
class LineTally:
    """What became of the lines. Failures go to standard error as they happen."""

    console: Console = field(default_factory=lambda: Console(stderr=True))
    read: int = 0
    failed: set[int] = field(default_factory=set)

    def fail(self, number: int, why: str) -> None:
        """Name a line that went wrong."""
        self.failed.add(number)
        text = f"line {number}: {why}"
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


@click.command()
@click.argument("topic")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--key-field", default="tenant", show_default=True, help="Field that is the key.")
@click.option("--now", is_flag=True, help="Give records without a ts the present time.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Records per second.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def publish(
    topic: str, file: BinaryIO, key_field: str, now: bool, rate: float | None, as_json: bool
) -> None:
    """Publish JSON lines from FILE (default: standard input) to TOPIC.

    Times are ISO 8601 text, vectors lists of numbers. Each line is checked against the topic's
    newest schema, and for what the processors would refuse: a wrong one is named with its number,
    the others go on. The status is non-zero when any line failed.

    \b
    Example:
      echo '{"tenant":"me","domain":"state","ts":"2026-01-31T12:00:00Z","vector":[1,2,3]}' |
        soma publish cog.observations
    """
    row, schema = users_topic(topic)
    if is_control_id(schemas().schema_id(schema)):
        raise click.ClickException(f"{schema} is a control record: use `soma config set`.")
    tally = LineTally()
    with Publisher(load(), row.name, tally.fail) as publisher:
        stopped = _publish_lines(publisher, file, schema, key_field, now, rate, tally)
        unanswered = publisher.close()
    delivered, wrong = publisher.delivered, len(tally.failed)
    if as_json:
        summary = {"topic": row.name, "lines": tally.read, "delivered": delivered}
        click.echo(json.dumps(summary | {"failed": wrong, "unanswered": unanswered}))
    else:
        text = f"{delivered} of {counted(tally.read, 'record')} delivered to {row.name}"
        text += f", {wrong} failed" if wrong else ""
        text += f", {unanswered} without an answer in time" if unanswered else ""
        click.echo(text + ".", err=True)
    if stopped:
        sys.exit(stopped)
    if wrong or unanswered:
        sys.exit(1)


def _publish_lines(
    publisher: Publisher,
    file: BinaryIO,
    schema: str,
    key_field: str,
    now: bool,
    rate: float | None,
    tally: LineTally,
) -> int:
    """Send every good line; returns the exit status of what interrupted it, or 0."""
    console = tally.console
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    start = time.monotonic()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("publishing", total=None)
        try:
            for number, line in lines(file):
                tally.read += 1
                _publish_line(publisher, number, line, schema, key_field, now, tally)
                if rate is not None:
                    publisher.poll(start + tally.read / rate - time.monotonic())
                if tally.read % PROGRESS_EVERY == 0:
                    counts = f"{counted(tally.read, 'line')}, {publisher.delivered:,} delivered"
                    bar.update(task, description=counts)
        except KeyboardInterrupt as interrupt:
            return status(interrupt)
    return 0


def _publish_line(
    publisher: Publisher,
    number: int,
    line: bytes | None,
    schema: str,
    key_field: str,
    now: bool,
    tally: LineTally,
) -> None:
    if line is None:
        tally.fail(number, f"longer than {LINE_BYTES_MAX} bytes")
        return
    try:
        given = jsonform.parse(line)
        record = codec.from_json(schema, _with_ts(given) if now else given)
        key = record.get(key_field)
        if not isinstance(key, str):
            raise codec.BadRecord("bad_json", f"{key_field!r} is no text field to use as the key")
        if bad := unfit(schema, record):
            raise codec.BadRecord("unfit", bad)
        value = codec.encode(schema, record)
    except codec.BadRecord as error:
        tally.fail(number, error.detail)
        return
    publisher.send(key.encode(), value, number)


def _with_ts(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the present time as its ts, if it has fields, but none of that name."""
    return {"ts": time.time_ns() // 1000, **record} if record and "ts" not in record else record
