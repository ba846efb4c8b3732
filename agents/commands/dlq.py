"""`soma dlq`: what couldn't be folded, why, and the way back."""

import json
from dataclasses import asdict
from typing import Any, BinaryIO

import click

from agents.commands.dlq_options import (
    as_json,
    choice_of,
    choosing,
    places_argument,
    status_option,
    statuses_of,
    told,
    when,
)
from agents.commands.dlq_redrive import drop_, import_, redrive_
from agents.dlq.letters import LEFT
from agents.settings import load
from agents.tools.output import counted, plain


@click.group()
def dlq() -> None:
    """Dead letters: records that couldn't be folded, why, and the way back to their topic.

    PLACE is a letter's TOPIC/PARTITION/OFFSET, as `soma dlq list` shows it; the topic's name may
    lack its `.dlq`. Times are the log's, ISO 8601, in UTC unless they say otherwise.
    """


for _one in (redrive_, drop_, import_):
    dlq.add_command(_one)


@dlq.command("list")
@choosing
@status_option(LEFT)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@as_json
def list_(statuses: tuple[str, ...], limit: int, as_json: bool, **given: Any) -> None:
    """Show letters, the oldest first: place, reason, tenant, attempts, when it failed first.

    \b
    Examples:
      soma dlq list --topic cog.observations --reason bad_json
      soma dlq list --tenant me --since 2026-01-31T12:00:00Z --json
    """
    from agents.dlq.listing import listed

    choice = choice_of(given, statuses_of(statuses, LEFT))
    with told():
        rows, more = listed(load(), choice, limit)
    if as_json:
        click.echo(json.dumps({"letters": [asdict(row) for row in rows], "more": more}))
        return
    for row in rows:
        tries = f"{counted(row.attempts, 'attempt')} since {when(row.first_failed_ms)}"
        click.echo(plain(f"{row.place}  {row.reason}  {row.tenant or '-'}  {row.status}  {tries}"))
        if row.detail:
            click.echo(plain(f"    {row.detail}"))
    if not rows:
        click.echo("There are none.", err=True)
    if more:
        click.echo(f"There are more than {limit}: --limit, or choose fewer.", err=True)


@dlq.command()
@click.argument("place_", metavar="PLACE")
@as_json
def show(place_: str, as_json: bool) -> None:
    """Show a letter: what failed, where, which field was wrong, and how to mend it.

    \b
    Example:
      soma dlq show cog.observations.dlq/1/0
    """
    from agents.dlq.choosing import place
    from agents.dlq.listing import one_of, shown

    with told():
        found = shown(*one_of(load(), place(place_)))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    for name in ("place", "origin", "processor", "reason", "detail", "status", "tenant", "key"):
        click.echo(plain(f"{name:<10} {found[name] if found[name] not in (None, '') else '-'}"))
    click.echo(f"{'attempts':<10} {found['attempts']} since {when(found['first_failed_ms'])}")
    if found["headers"]:
        click.echo(plain(f"{'headers':<10} {json.dumps(found['headers'], ensure_ascii=False)}"))
    body = found["record"] if found["record"] is not None else found.get("value")
    click.echo(plain(f"{'record':<10} {json.dumps(body, ensure_ascii=False)}"))
    if found["fields"]:
        click.echo(f"{'wrong':<10} {', '.join(found['fields'])}")
    if found["still_wrong"]:
        click.echo(plain(f"{'today':<10} {found['still_wrong']}"))
    click.echo(f"{'mend':<10} {found['advice']}")


@dlq.command()
@choosing
@status_option(LEFT)
@click.option("--top", type=click.IntRange(0, 1000), default=5, show_default=True,
              help="Tenants that are named.")  # fmt: skip
@as_json
def stats(statuses: tuple[str, ...], top: int, as_json: bool, **given: Any) -> None:
    """Count letters by topic and reason, with their ages and the tenants that have the most.

    \b
    Example:
      soma dlq stats
    """
    from agents.dlq.listing import counted as counts

    choice = choice_of(given, statuses_of(statuses, LEFT))
    with told():
        found = counts(load(), choice)
    if as_json:
        click.echo(json.dumps({"counts": [one.data(top) for one in found]}))
        return
    for one in found:
        ages = f"oldest {when(one.oldest_ms)}, newest {when(one.newest_ms)}"
        click.echo(f"{one.letters:>9,}  {one.topic}  {one.reason}  {ages}")
        for tenant, count in one.tenants.most_common(top):
            click.echo(plain(f"{count:>13,}  {tenant or '-'}"))
    if not found:
        click.echo("There are none.", err=True)


@dlq.command()
@places_argument
@choosing
@status_option(LEFT)
@click.option("--output", type=click.File("wb"), default="-", help="[default: standard output]")
def export(
    places: tuple[str, ...], statuses: tuple[str, ...], output: BinaryIO, **given: Any
) -> None:
    """Write letters as JSON lines: bytes in base64, and the record as far as it can be read.

    Mend the `record` of a line, and `soma dlq import` sends it.

    \b
    Example:
      soma dlq export --topic cog.observations --output letters.jsonl
    """
    from agents.dlq.lines import line_of
    from agents.dlq.listing import chosen

    choice = choice_of(given, statuses_of(statuses, LEFT), places)
    written = 0
    with told():
        for letter, _ in chosen(load(), choice):
            output.write(json.dumps(line_of(letter), ensure_ascii=False).encode() + b"\n")
            written += 1
    output.flush()
    click.echo(f"{counted(written, 'letter')} written", err=True)
