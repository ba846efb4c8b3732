"""`soma explain`: what one record did, and why."""

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from agents.commands.kernels import compile_ahead
from agents.commands.past import TELL_S, Meter, in_a_line, json_option, tenant_option
from agents.settings import load
from agents.tools.output import plain, say

if TYPE_CHECKING:
    from agents.history.explain import Explained
    from agents.history.lineage import Step

WIDTH = 160  # of a value, in characters
FATES = {
    "control": "It is a control record, and acted here.",
    "forwarded": "It isn't its tenant's partition, or its key another's: it was sent on from here.",
}


@click.command()
@click.argument("record_id", metavar="ID")
@click.option("--processor", default="", help="Whose fold of it, where several read its topic.")
@tenant_option
@json_option
def explain(record_id: str, processor: str, tenant: str, as_json: bool) -> None:
    """Say what a record did to its tenant's state, why, whence it came, and what it caused.

    ID is the id of a frame (that is its update's, too), segment or observation, as records, Redis
    and PostgreSQL have it, or a place, TOPIC/PARTITION/OFFSET: of any record that a processor
    reads, or of a dead letter. The tenant's records are folded anew up to it, and over it, by the
    settings as they were; the words are the law's, with its numbers. Nothing is written.

    Ids in records are as their writers said, and may name another tenant's records: those are told
    as another tenant's, beside its own. With --tenant only that tenant's are told, as by HTTP.

    \b
    Examples:
      soma explain "$(soma watch cog.global.frame --tenant cpu --count 1 | cut -d'"' -f4)"
      soma explain "$(soma watch cog.segments --from beginning --count 1 | cut -d'"' -f4)" --json
    """
    from agents.history.explain import explained, plan_for, subject
    from agents.history.finding import Finder

    settings = load()
    with in_a_line(settings):
        finder = Finder(settings, _Teller())
        found = subject(settings, finder, record_id)
        if tenant and not found.record.of(tenant):
            raise click.ClickException(f"{tenant} has no record {record_id}")
        plan = plan_for(settings, found, processor)
        offset = found.record.place.offset
        compile_ahead(plan.processor.name)
        meter = Meter(lambda: offset)
        said = explained(settings, finder, plan, found, meter, alone=bool(tenant))
    if as_json:
        click.echo(json.dumps(said.data(), ensure_ascii=False))
    else:
        _print(said)


class _Teller:
    """Says every few seconds how far a search is, on standard error."""

    def __init__(self) -> None:
        self._at = time.monotonic() + TELL_S

    def __call__(self, text: str) -> None:
        if time.monotonic() >= self._at:
            self._at = time.monotonic() + TELL_S
            say(f"looking through {text}")


def _print(said: "Explained") -> None:
    record = said.subject.record
    at = datetime.fromtimestamp(record.log_ms / 1000, UTC).isoformat()
    click.echo(f"{record.id}: {record.place}, written {at}")
    shown = record.data if record.data is not None else repr(record.value)
    click.echo(f"  {_short(shown)}")
    if (letter := said.subject.letter) is not None:
        click.echo(f"dead letter {letter['place']}: {letter['reason']}, {letter['status']}")
        click.echo(plain(f"  {letter['detail']}"))
        click.echo(f"  {letter['advice']}")
    click.echo(f"\n{said.processor}, folded from {said.begun}:")
    for note in said.notes:
        click.echo(f"  note: {note}")
    if said.folded.fate == "dead_letter":
        why = plain(f"{said.folded.reason}: {said.folded.detail}")
        click.echo(f"  It wasn't folded: {why}.")
    for line in [FATES.get(said.folded.fate, ""), *said.words]:
        if line:
            click.echo(plain(f"  {line}"))
    _print_state(said)
    if said.steps:
        click.echo("\nlineage:")
    for step in said.steps:
        click.echo(plain(f"  {_line(step, step.place == record.place)}"))


def _print_state(said: "Explained") -> None:
    """The fields that changed, before and after; --json has all of both rows."""
    click.echo(f"\nstate of {said.tenant}, before → after:")
    if not said.changed:
        click.echo("  nothing changed")
    for row in said.changed:
        new = "" if row.here else "  (new)"
        click.echo(f"  {plain(row.key)}{new if row.there else '  (forgotten)'}")
        for name, (before, after) in row.fields.items():
            click.echo(f"    {name}: {_short(before)} → {_short(after)}")
        for view in said.after if not row.here else ():
            if row.key in (view.tenant, f"{view.tenant}/{view.entity}"):
                for name, value in view.fields.items():
                    click.echo(f"    {name}: {_short(value)}")


def _line(step: "Step", here: bool) -> str:
    said = [f"{name} {_short(value)}" for name, value in step.shows.items()]
    shown = ", ".join([*said, step.note] if step.note else said)
    where = f"{step.id}  {step.place}  " if step.place is not None else ""
    return f"{step.what:<12} {where}{shown}{'  ← this one' if here else ''}"


def _short(value: Any) -> str:
    text = plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}…"
