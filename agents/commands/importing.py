"""The part of `soma observe` that imports a file: its options, its progress, its summary."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from agents.commands.reading import OF_CSV, names, reading_options, told
from agents.settings import load
from agents.tools.intake import STDIN, Intake, Wish
from agents.tools.mapping import NAME, MappingOptions
from agents.tools.marks import LedgerError
from agents.tools.output import counted
from agents.tools.signals import deaf, status
from agents.tools.source import UNENDED
from agents.tools.times import FORMATS, Times

SHOW_S = 0.2  # between changes of the bar
SAY_S = 5.0  # between lines, where there is no terminal

F = TypeVar("F", bound=Callable[..., Any])


def form(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A form of times; BadParameter lists them."""
    try:
        return Times(value).form
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def own_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A tenant's or domain's name."""
    if value is not None and not NAME.fullmatch(value):
        raise click.BadParameter(f"{value!r} isn't 1-128 of A-Za-z0-9._-", ctx, param)
    return value


OPTIONS = (
    click.option("--csv", metavar="FILE", help="Import CSV ('-': standard input)."),
    click.option("--jsonl", metavar="FILE", help="Import JSON lines ('-': standard input)."),
    click.option("--tenant", callback=own_name, help="Whose observations a file's rows are."),
    click.option("--domain", callback=own_name, help="Their domain [default: state]."),
    click.option("--domain-per-column", is_flag=True, help="Each column is a domain of its own."),
    click.option("--columns", callback=names, help="Columns of values [default: all others]."),
    click.option(
        "--time-column", default="", help="[default: called time, ts, …; the first without names]"
    ),
    click.option(
        "--time-format", callback=form, default="auto", show_default=True, help=f"{FORMATS}."
    ),
    click.option("--now", is_flag=True, help="A row's time is the moment it is sent."),
    click.option("--shift-to-now", is_flag=True, help="Move all times so that the last is now."),
    click.option("--any-order", is_flag=True, help="Let the time go back from row to row."),
    click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Rows per second."),
    click.option("--skip-bad", is_flag=True, help="Go on behind a bad row, and name each."),
    click.option(
        "--bad", type=click.Path(dir_okay=False, path_type=Path), help="Keep the bad rows here."
    ),
    click.option("--name", default="", help="Keep the progress under it, not under FILE's path."),
    click.option(
        "--renamed-from", metavar="PATH", default="", help="FILE was there before: go on with it."
    ),
    click.option("--again", is_flag=True, help="Import from the start, whatever was before."),
    click.option("--dry-run", is_flag=True, help="Check all rows and publish none."),
)


def import_options(command: F) -> F:
    """All options of an import."""
    command = reading_options(command)
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def wish_of(ctx: click.Context, given: dict[str, Any]) -> Wish | None:
    """The import that the options ask for; None if they ask for none. UsageError if they clash."""
    path = given["csv"] or given["jsonl"]
    if path is None:
        if used := [name for name, value in given.items() if value and not _default(ctx, name)]:
            option = used[0].replace("_", "-")
            raise click.UsageError(f"--{option} is for a file: give --csv or --jsonl")
        return None
    _refuse_clashes(ctx, given)
    options = MappingOptions(
        tenant=given["tenant"] or "",
        domain=given["domain"] or "state",
        time_column=given["time_column"],
        columns=given["columns"],
        per_column=given["domain_per_column"],
        any_order=given["any_order"],
        now=given["now"],
    )
    same = ("time_format", "rate", "skip_bad", "bad", "name", "renamed_from", "again")
    return Wish(
        path=path,
        json_lines=given["jsonl"] is not None,
        options=options,
        shift_to_now=given["shift_to_now"],
        dry_run=given["dry_run"],
        told=told(given),
        **{name: given[name] for name in same},
    )


def _refuse_clashes(ctx: click.Context, given: dict[str, Any]) -> None:
    of_csv = next((name for name in OF_CSV if not _default(ctx, name)), "")
    machine = [name for name in ("interval", "count", "tenants") if not _default(ctx, name)]
    clashes = [
        (given["csv"] and given["jsonl"], "--csv and --jsonl: one at a time"),
        (machine, f"--{(machine or [''])[0]} is for observing this machine, not for a file"),
        (
            given["csv"] and not given["tenant"],
            "--csv wants --tenant: whose observations these are",
        ),
        (given["domain"] and given["domain_per_column"], "--domain or --domain-per-column"),
        (given["now"] and given["shift_to_now"], "--now or --shift-to-now"),
        (given["now"] and given["time_column"], "--now or --time-column"),
        (given["jsonl"] and of_csv, f"--{of_csv} is for --csv"),
        (given["renamed_from"] and given["name"], "--name or --renamed-from"),
        (given["bad"] and not given["skip_bad"], "--bad wants --skip-bad"),
        (not given["tenant"] and (given["columns"] or given["domain"]), "say --tenant too"),
    ]
    for clash, why in clashes:
        if clash:
            raise click.UsageError(why)


def _default(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is click.core.ParameterSource.DEFAULT


def run_import(wish: Wish, as_json: bool) -> None:
    """Import, show how far it is, and sum up; status 1 if a row was refused, 130 on Ctrl-C."""
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    intake, trouble, stopped = Intake(wish, say), "", 0
    try:
        intake.open(load)
        try:
            _watched(intake, console, say)
        except KeyboardInterrupt as interrupt:
            stopped = status(interrupt)
        except LedgerError as error:
            trouble = f"Kafka was asked {error}. Give the same command again to go on."
        except click.ClickException as error:
            trouble = error.message
    except LedgerError as error:
        raise click.ClickException(f"Kafka was asked {error}") from error
    finally:
        with deaf():  # an open transaction would hold other readers up for 20 s
            intake.close()
    summary = intake.summary()
    if as_json:
        click.echo(json.dumps(summary, ensure_ascii=False))
    _sum_up(wish, summary, say)
    if stopped:
        say("interrupted" + _how_to_go_on(wish))
        sys.exit(stopped)
    if trouble:
        raise click.ClickException(trouble)
    sys.exit(1 if summary["refused"] else 0)


def _watched(intake: Intake, console: Console, say: Callable[[str], None]) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
    )
    terminal = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not terminal) as bar:
        task = bar.add_task("importing", total=intake.size)
        shown = time.monotonic()

        def step() -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown < (SHOW_S if terminal else SAY_S):
                return
            shown = now
            text = f"{counted(intake.rows, 'row')}, "
            text += f"{counted(intake.published, 'observation')} published"
            if terminal:
                bar.update(task, description=text, completed=intake.place)
            else:
                share = f" ({intake.place / intake.size:.0%})" if intake.size else ""
                say(text + share)

        intake.run(step)


def _sum_up(wish: Wish, summary: dict[str, Any], say: Callable[[str], None]) -> None:
    done = "checked" if wish.dry_run else "published"
    text = f"{counted(summary['rows'], 'row')}: "
    text += f"{counted(summary['published'], 'observation')} {done}"
    text += f", {counted(summary['refused'], 'row')} refused" if summary["refused"] else ""
    text += f", in {summary['seconds']:.1f} s ({summary['rows_per_second']:,.0f} rows/s)"
    if summary["earlier"]["rows"]:
        text += f"; {counted(summary['earlier']['rows'], 'row')} had been read before"
        text += "" if summary["rows"] else " (--again imports them anew)"
    say(text)
    none = not (summary["rows"] or summary["earlier"]["rows"] or summary["waiting_line"])
    if none and summary["complete"]:
        say("there are no rows yet")
    for count, what in (
        (summary["missing"], "missing value"),
        (summary["comments"], "comment"),
    ):
        if count:
            say(f"{counted(count, what)} passed over")
    if summary["waiting_line"]:
        say(f"line {summary['waiting_line']}: {UNENDED}")
    if summary["assumed_utc"]:
        say("times without a zone were taken as UTC")
    if wish.bad is not None and summary["refused"]:
        say(f"the refused rows are in {wish.bad}")


def _how_to_go_on(wish: Wish) -> str:
    if wish.dry_run:
        return ""
    if wish.path == STDIN and not wish.name:
        return ": standard input can be taken up again only if it has a --name"
    return ": the same command goes on"
