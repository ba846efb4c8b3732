"""`soma config`: a tenant's settings, changed in band, shown from the processor's state."""

import getpass
import importlib
import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from agents.settings import Settings, load
from agents.tools.publisher import Publisher
from agents.tools.reader import Reader, seen
from topics import codec
from topics.partition import partition_of

if TYPE_CHECKING:
    from agents.engine.processor import Processor

EVERYONE = "*"
BY_DOMAIN = ("segmentation",)  # processors with settings for one domain: NAME@DOMAIN
NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")  # of a tenant or a domain

_processor = click.option(
    "--processor", default="", metavar="ROOM", help="Needed where several have the setting."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def config() -> None:
    """Change a tenant's settings, and show them.

    A change is a record in the processor's own input: it acts at its place in the order, for that
    tenant, and a rebuild of the state repeats it there.
    """


@config.command("set")
@click.argument("tenant")
@click.argument("setting")
@click.argument("value", default="")
@_processor
@_json
def set_(tenant: str, setting: str, value: str, processor: str, as_json: bool) -> None:
    """Give TENANT a VALUE of SETTING; without VALUE take its own back.

    The tenant '*' stands for all that have no value of their own.

    \b
    Examples:
      soma config set cpu fusion hedge
      soma config set '*' min_dwell_ms 500
      soma config set cpu alpha 1.5 --processor predictors
      soma config set cpu threshold@state on
    """
    _tenant(tenant)
    declared = _owner(processor, setting)
    _check(declared, tenant, setting, value)
    failures: list[str] = []
    with Publisher(load(), declared.source, lambda _, why: failures.append(why)) as publisher:
        count = publisher.partitions
        where = range(count) if tenant == EVERYONE else [partition_of(tenant, count)]
        record = {
            "tenant": tenant,
            "setting": setting,
            "value": value,
            "author": getpass.getuser(),
            "ts": time.time_ns() // 1000,
        }
        for partition in where:
            publisher.send(
                tenant.encode(), codec.encode("control_setting", record), partition=partition
            )
        unanswered = publisher.close()
    if failures or unanswered:
        why = failures[0] if failures else "no answer in time"
        raise click.ClickException(f"{setting} of {tenant} isn't (everywhere) set: {why}")
    if as_json:
        click.echo(json.dumps(record | {"processor": declared.name, "partitions": list(where)}))
    else:
        said = f"{setting} = {value}" if value else f"{setting} as for all"
        click.echo(f"{declared.name}: {said} for {tenant}, from its next record on", err=True)


@config.command("get")
@click.argument("tenant")
@click.option("--processor", default="", metavar="ROOM", help="Only this one's (default: all).")
@_json
def get(tenant: str, processor: str, as_json: bool) -> None:
    """Show the settings of TENANT that differ from the deployment's, and whose they are.

    \b
    Example:
      soma config get cpu
    """
    _tenant(tenant)
    asked = [_named(processor)] if processor else list(_by_name().values())
    settings = load()
    found = {one.name: _settings(settings, one, tenant) for one in asked}
    if as_json:
        click.echo(json.dumps({"tenant": tenant, "processors": found}))
        return
    for room, values in found.items():
        for setting, one in sorted(values.items()):
            whose = "all" if one["of"] == EVERYONE else "own"
            click.echo(f"{room}: {setting} = {one['value']}  ({whose})")
    if not any(found.values()):
        click.echo(f"{', '.join(found)}: {tenant} has the deployment's settings", err=True)


def _settings(settings: Settings, processor: "Processor", tenant: str) -> dict[str, dict[str, Any]]:
    """What counts for the tenant beside the deployment's values, by a setting's name."""
    rows = _rows(settings, processor, tenant)
    found: dict[str, dict[str, Any]] = {}
    for owner in (EVERYONE, tenant):
        for setting, number in sorted(rows.get(owner, {}).items()):
            found[setting] = {"value": _word(processor.name, setting, number), "of": owner}
    return found


@config.command("list")
@_json
def list_(as_json: bool) -> None:
    """List the settings of every processor.

    \b
    Example:
      soma config list
    """
    known = {name: dict(one.settings) for name, one in _by_name().items()}
    if as_json:
        click.echo(json.dumps(known))
        return
    for name, settings in known.items():
        click.echo(name)
        width = max((len(setting) for setting in settings), default=0)
        for setting, text in settings.items():
            click.echo(f"  {setting:{width}}  {text}")


def _by_name() -> "dict[str, Processor]":
    from agents.engine.registry import processors  # the laws: when they are used

    return dict(sorted(processors().items()))


def _named(name: str) -> "Processor":
    known = _by_name()
    if name not in known:
        raise click.ClickException(f"There is no processor {name!r}; there are {', '.join(known)}.")
    return known[name]


def _tenant(tenant: str) -> None:
    if tenant != EVERYONE and not NAME.fullmatch(tenant):
        raise click.ClickException(
            f"{tenant!r} can't be a tenant: 1 to 128 of A-Z a-z 0-9 . _ - (or '*' for all)."
        )


def _owner(asked: str, setting: str) -> "Processor":
    """The processor that has the setting: the one asked for, or the only one."""
    name, at, _ = setting.partition("@")
    owners = [one for one in _by_name().values() if name in one.settings]
    listed = ", ".join(one.name for one in owners)
    if at:
        owners = [one for one in owners if one.name in BY_DOMAIN]
        if listed and not owners:
            raise click.ClickException(
                f"{name} can't be set for one domain; settings of {', '.join(BY_DOMAIN)} can."
            )
    if asked:
        chosen = _named(asked)
        if chosen not in owners:
            raise click.ClickException(_unknown(chosen, setting, listed))
        return chosen
    if len(owners) > 1:
        raise click.ClickException(f"{listed} have a setting {name!r}: say which by --processor.")
    if not owners:
        known = "\n".join(f"  {one.name}: {', '.join(one.settings)}" for one in _by_name().values())
        raise click.ClickException(f"There is no setting {setting!r}; there are\n{known}")
    return owners[0]


def _unknown(processor: "Processor", setting: str, owners: str) -> str:
    known = "\n".join(f"  {name}: {text}" for name, text in processor.settings.items())
    others = f" (but {owners} {'have' if ', ' in owners else 'has'})" if owners else ""
    return f"{processor.name} has no setting {setting!r}{others}; there are\n{known}"


def _check(processor: "Processor", tenant: str, setting: str, value: str) -> None:
    """Ask the processor's own law whether it would take this."""
    from agents.engine.processor import Context, Control, Place

    _, at, domain = setting.partition("@")
    # What can't be a domain is refused only here: it may be taken back where it was set.
    if at and value and not NAME.fullmatch(domain):
        raise click.ClickException(f"{domain!r} can't be a domain: 1 to 128 of A-Z a-z 0-9 . _ -")
    fold = processor.make(Context(Place("00000000", 0), {}))
    refused = fold.control(Control("setting", tenant, setting, value, 0, 0, 0))
    if refused is not None:
        said = f"can't be {value!r}" if value else "can't be taken back"
        raise click.ClickException(f"{setting} of {tenant} {said}: {refused}")


def _rows(settings: Settings, processor: "Processor", tenant: str) -> dict[str, dict[str, float]]:
    """What the tenant and '*' set themselves, by the newest rows of the state topic."""
    reader = Reader(settings, processor.state_topic, "beginning", of=tenant)
    rows: dict[str, dict[str, float]] = {}
    try:
        for message in reader.records(follow=False):
            key = message.key()
            owner = key.decode(errors="replace") if isinstance(key, bytes) else key
            if owner not in (EVERYONE, tenant):
                continue
            one = seen(message, processor.state_topic, processor.state_schema)
            if one.error is not None:
                print(f"{one.place}: {one.error}", file=sys.stderr)
            else:
                rows[owner] = (one.record or {}).get("settings", {})
    finally:
        reader.close()
    return rows


def _word(processor: str, setting: str, number: float) -> str | float:
    """The word that a number stands for where the setting is a choice."""
    module = importlib.import_module(f"agents.{processor}.settings")
    setting = setting.partition("@")[0]
    if hasattr(module, "CHOICES"):
        words = module.CHOICES.get(setting, ())
    else:
        words = next((one.choices for one in module.SETTINGS if one.name == setting), ())
    return str(words[int(number)]) if 0 <= number < len(words) else number
