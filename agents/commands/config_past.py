"""`soma config history`, `diff` and `rollback`: changes of settings, one after the other."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from agents.commands import actor, config_said
from agents.commands.config_rows import Own, own
from agents.control.law import Change, values_at
from agents.kit.setting import EVERYONE
from agents.policy import bundle
from agents.settings import load
from agents.tools.output import counted, plain

POLICY = f"{bundle.OWNER}.{bundle.SETTING}"
SOURCES = ("people", "learner")

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.argument("tenant")
@click.option(
    "--source",
    type=click.Choice(SOURCES),
    help="Changes by people (and canaries), or learned ones.",
)
@_json
def history(tenant: str, source: str | None, as_json: bool) -> None:
    """Show the last changes of TENANT's settings and of those of all, the latest last.

    100 by people, and 50 by the learner, are kept of each; every one with its version, which frames
    have as their config_version. soma.audit has all changes of 90 days, and what was refused.

    \b
    Example:
      soma config history cpu --source people
    """
    found = [
        pair for pair in changes(tenant) if source in (None, SOURCES[pair[0].learned])
    ]  # fmt: skip
    if as_json:
        click.echo(json.dumps({"tenant": tenant, "changes": [_data(*pair) for pair in found]}))
        return
    for one, of in found:
        click.echo(in_a_line(one, of, _words(one)))
    if not found:
        click.echo(f"Control has made no change of {tenant}'s settings.", err=True)


def changes(tenant: str) -> list[tuple[Change, str]]:
    """The last changes of a tenant's settings and of those of all, and whose each is."""
    settings = load()
    whose = dict.fromkeys((tenant, EVERYONE))
    found = [(one, of) for of in whose for one in own(settings, of).history]
    return sorted(found, key=lambda pair: pair[0].version)


def in_a_line(one: Change, of: str, what: str) -> str:
    """A change, for people."""
    whole = "  (all)" if of == EVERYONE else ""
    return f"{one.version}  {shown_at(one)}  {plain(one.author)}  {what}{whole}"


@click.command()
@click.argument("tenant")
@click.argument("since", type=click.IntRange(0))
@click.argument("until", type=click.IntRange(0), required=False)
@_json
def diff(tenant: str, since: int, until: int | None, as_json: bool) -> None:
    """Show what of TENANT's own settings differs between version SINCE and UNTIL (default: now).

    Version 0 is before its first change.

    \b
    Example:
      soma config diff cpu 0
    """
    known = own(load(), tenant)
    before = _at(known, since)
    after = known.values if until is None else _at(known, until)
    found = {
        name: {"was": before.get(name, ""), "is": after.get(name, "")}
        for name in sorted({*before, *after}) if before.get(name) != after.get(name)
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps({"tenant": tenant, "settings": found}))
        return
    for name, one in found.items():
        click.echo(f"{name}: {_shown(one['was'])} -> {_shown(one['is'])}")
    if not found:
        click.echo("Nothing differs.", err=True)


@click.command()
@click.argument("tenant")
@click.option(
    "--to", "version", type=click.IntRange(0), metavar="VERSION",
    help="As they were at this version. [default: before the last change]",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be set, and do nothing.")
@_json
def rollback(tenant: str, version: int | None, dry_run: bool, as_json: bool) -> None:
    """Set what TENANT has set itself as it was at a version; '*' for the settings of all.

    Those are changes as others are, with versions of their own, one for each setting that differs.
    What somebody else has changed meanwhile is refused; what the learner changed last stays.

    \b
    Example:
      soma config rollback cpu --dry-run
    """
    settings = load()
    known = own(settings, tenant)
    ours = [one for one in known.history if not one.learned]
    if version is None:
        version = ours[-1].version - 1 if ours else known.version
    wanted, learned = _at(known, version), _learned(known)
    updates = [
        config_said.update_of(
            tenant, name, wanted.get(name, ""), actor.user(), known.versions.get(name, 0)
        )
        for name in sorted({*wanted, *known.values} - {POLICY} - learned)
        if wanted.get(name) != known.values.get(name)
    ]
    if wanted.get(POLICY) != known.values.get(POLICY):
        click.echo(
            f"{POLICY} stays: `soma policy set` sets the one before, from its files.", err=True
        )
    if not updates:
        click.echo(
            json.dumps([]) if as_json else f"{tenant} has that set already.", err=not as_json
        )
        return
    said = [] if dry_run else config_said.say(settings, updates)
    if as_json:
        made = [{"version": one.version, "refused": one.refused} for one in said]
        pairs = zip(updates, made or [{}] * len(updates), strict=True)
        click.echo(json.dumps([update | one for update, one in pairs]))
    elif dry_run:
        for one in updates:
            click.echo(f"{one['processor']}.{one['setting']} would be {_shown(one['value'])}")
    else:
        _tell(said)
    if refused := [one for one in said if one.refused]:
        raise click.ClickException(
            f"{counted(len(refused), 'setting')} of {tenant} couldn't be set back: "
            f"{refused[0].refused}"
        )


def _learned(known: Own) -> set[str]:
    """The settings that the learner was the last to change."""
    by = {one.name: one.learned for one in known.history}
    return {name for name, learned in by.items() if learned}


def _tell(said: list[config_said.Said]) -> None:
    for one in said:
        if not one.refused:
            name = f"{one.update['processor']}.{one.update['setting']}"
            where = config_said.places(one.update, one.offsets)
            value = _shown(one.update["value"])
            click.echo(f"{name} = {value}, version {one.version}, from {where} on", err=True)


def _at(known: Own, version: int) -> Mapping[str, str]:
    """What was set at a version. ClickException where that is too long ago."""
    try:
        return values_at(known.values, known.history, version)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _shown(value: str) -> str:
    return plain(value) or "as for all"


def shown_at(one: Change) -> str:
    """When it was made, for people and JSON."""
    return datetime.fromtimestamp(one.ts / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _words(one: Change) -> str:
    return f"{plain(one.name)}: {_shown(one.was)} -> {_shown(one.value)}"


def _data(one: Change, of: str) -> dict[str, Any]:
    """A change as JSON data."""
    return {
        "version": one.version, "ts": shown_at(one), "author": one.author, "tenant": of,
        "setting": one.name, "was": one.was, "value": one.value,
    }  # fmt: skip
