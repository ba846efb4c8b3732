"""`soma dlq redrive|drop|import`: what becomes of letters. Committed with marks, and audited."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from agents.commands.actor import actor
from agents.commands.dlq_options import (
    as_json,
    choice_of,
    choosing,
    places_argument,
    told,
    when,
)
from agents.dlq.changes import changed_fields
from agents.dlq.letters import LEFT, MOST, BadChoiceError, DlqError
from agents.settings import load
from agents.tools.output import counted, plain

if TYPE_CHECKING:
    from agents.dlq.reading import Choice
    from agents.dlq.redrive import Step, Tally

NAMED = 10  # refused letters that are named
_yes = click.option("--yes", is_flag=True, help="Don't ask.")
_dry = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
_every = click.option("--all", "every", is_flag=True, help="All letters of all topics.")
_most = click.option(
    "--max-attempts", "most", type=click.IntRange(1, 1000), default=MOST, show_default=True,
    help="Redrive a record so often at most, then park it.",
)  # fmt: skip


@click.command("redrive")
@places_argument
@choosing
@_every
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE",
              help="Change a field first: VALUE is JSON, or else text.")  # fmt: skip
@_most
@_dry
@actor
@as_json
def redrive_(
    places: tuple[str, ...], every: bool, changes: tuple[str, ...], most: int, dry_run: bool,
    actor: str, as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Send letters' records to their topic again, the oldest first, each exactly once.

    What would fail again by its bytes alone isn't sent before it is mended: by --set, which is
    checked against the topic's schema, or by export and import. What failed for long is parked. A
    record that was folded after all is refused. Interrupted or killed, the same command goes on.
    Fails where a PLACE, or a change, is refused.

    \b
    Examples:
      soma dlq redrive --topic cog.observations --reason ts_range --dry-run
      soma dlq redrive --tenant me --set 'vector=[1, 2, 3]'
    """
    from agents.dlq.redrive import Terms
    from agents.dlq.redrive import redrive as run

    choice = _some(choice_of(given, LEFT, places), every)
    terms = Terms(actor, most, _changes(changes), dry_run)
    with told(), _progress() as step:
        tally = run(load(), choice, terms, step)
    _tell(tally, "would be redriven" if dry_run else "redriven", as_json)
    _fail(tally, bool(choice.places))


@click.command("drop")
@places_argument
@choosing
@_every
@_dry
@actor
@_yes
@as_json
def drop_(
    places: tuple[str, ...], every: bool, dry_run: bool, actor: str, yes: bool, as_json: bool,
    **given: Any,
) -> None:  # fmt: skip
    """Give letters up: they are listed and redriven no more. Audited in soma.audit.

    Their bytes stay in the topic until its time is over.

    \b
    Example:
      soma dlq drop --topic memory.events --reason null_value --yes
    """
    from agents.dlq.redrive import Terms
    from agents.dlq.redrive import drop as run

    choice, settings = _some(choice_of(given, LEFT, places), every), load()
    with told():
        if not (yes or dry_run):
            found = run(settings, choice, Terms(actor, dry=True))
            if not (found.dropped or found.refused):
                click.echo("There are none.", err=True)
                return
            if found.dropped:
                text = f"{counted(found.dropped, 'letter')} will be dropped. Go on?"
                click.confirm(text, abort=True, err=True)
        with _progress() as step:
            tally = run(settings, choice, Terms(actor, dry=dry_run), step)
    _tell(tally, "would be dropped" if dry_run else "dropped", as_json)
    _fail(tally, bool(choice.places))


@click.command("import")
@click.argument("file", type=click.File("rb"), default="-")
@_most
@_dry
@actor
@as_json
def import_(file: BinaryIO, most: int, dry_run: bool, actor: str, as_json: bool) -> None:
    """Redrive the letters of an export, with the records as they now stand in it.

    Each line is checked: a wrong one is named, and the others go on. What was redriven or dropped
    before is refused, so the same file may be imported again. Works when a letter's time is over,
    too.

    \b
    Example:
      soma dlq import letters.jsonl --dry-run
    """
    from agents.dlq.lines import LINE_BYTES_MAX, LineError, read_line
    from agents.dlq.redrive import Redriver, Tally, Terms
    from agents.tools.lines import lines

    settings, tally, wrong = load(), Tally(), 0
    opened: dict[str, Redriver] = {}
    with told():
        try:
            for number, text in lines(file, LINE_BYTES_MAX):
                try:
                    if text is None:
                        raise LineError(f"longer than {LINE_BYTES_MAX} bytes")
                    line = read_line(text)
                except LineError as error:
                    wrong += 1
                    click.echo(plain(f"line {number}: {error}"), err=True)
                    continue
                topic = line.letter.place.source
                if topic not in opened:
                    terms = Terms(actor, most, dry=dry_run)
                    opened[topic] = Redriver(settings, topic, terms, tally)
                    opened[topic].open()
                opened[topic].take(line.letter, line.anew)
            for one in opened.values():
                one.commit()
        except DlqError as error:
            raise DlqError(f"{error}; {tally.committed} letters were done before that") from error
        finally:
            for one in opened.values():
                one.close()
    _tell(tally, "would be redriven" if dry_run else "redriven", as_json, {"wrong_lines": wrong})
    _fail(tally, True, wrong)


def _some(choice: "Choice", every: bool) -> "Choice":
    """A choice that says something. UsageError."""
    given = click.get_current_context().params
    if not (choice.narrow or given["topics"] or every):
        raise click.UsageError("Say which: places, options that choose, or --all.")
    return choice


def _changes(given: tuple[str, ...]) -> dict[str, Any]:
    """FIELD=VALUE of each; a VALUE that isn't JSON is text. BadParameter."""
    try:
        return changed_fields(given)
    except BadChoiceError as error:
        raise click.BadParameter(str(error), param_hint="--set") from error


def _tell(tally: "Tally", verb: str, as_json: bool, more: dict[str, Any] | None = None) -> None:
    """What was done, and what was refused and why."""
    if as_json:
        click.echo(json.dumps(tally.data() | (more or {})))
        return
    done = tally.sent + tally.dropped
    text = f"{counted(done, 'letter')} {verb}, {tally.bytes:,} bytes"
    if tally.mended:
        text += f", {tally.mended:,} mended"
    if tally.parked:
        text += f", {tally.parked:,} parked"
    click.echo(text)
    if tally.first_ms is not None and tally.last_ms is not None:
        click.echo(f"written {when(tally.first_ms)} to {when(tally.last_ms)}, of "
                   f"{counted(len(tally.tenants), 'tenant')}")  # fmt: skip
    for why, count in sorted(tally.refused.items()):
        click.echo(f"{count:,} refused: {why}", err=True)
    for one in tally.named[:NAMED]:
        click.echo(plain(f"  {one['place']}: {one['said']}"), err=True)
    if len(tally.named) > NAMED:
        click.echo("  … (--json names more)", err=True)


def _fail(tally: "Tally", named: bool, wrong: int = 0) -> None:
    """The exit status: 1 where something that was named couldn't be done."""
    if wrong or tally.refused["bad_mend"] or (named and tally.all_refused):
        raise click.exceptions.Exit(1)


@contextmanager
def _progress() -> "Iterator[Step]":
    """Shows how far it is, on a terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("reading", total=None)

        def step(tally: "Tally") -> None:
            done = tally.sent + tally.dropped + tally.parked
            bar.update(task, description=f"{done:,} done, {tally.all_refused:,} refused")

        yield step
