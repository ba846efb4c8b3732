"""`soma config`: a tenant's settings, changed in band, shown from the processor's state."""

import getpass
import importlib
import json
import re
import sys
import time
from typing import Any

import click

from agents.engine.processor import Context, Control, Place, Processor
from agents.engine.registry import processors
from agents.settings import Settings, load
from agents.tools.publisher import Publisher
from agents.tools.reader import Reader, seen
from topics import codec
from topics.partition import partition_of

EVERYONE = "*"
BY_DOMAIN = ("segmentation",)  # processors with settings for one domain: NAME@DOMAIN
TENANT = re.compile(r"[A-Za-z0-9._-]{1,128}")

_processor = click.option("--processor", default="integrator", show_default=True)
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
      soma config set cpu threshold@state on --processor segmentation
    """
    declared = _named(processor)
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
        click.echo(json.dumps(record | {"processor": processor, "partitions": list(where)}))
    else:
        said = f"{setting} = {value}" if value else f"{setting} as for all"
        click.echo(f"{processor}: {said} for {tenant}, from its next record on", err=True)


@config.command("get")
@click.argument("tenant")
@_processor
@_json
def get(tenant: str, processor: str, as_json: bool) -> None:
    """Show the settings of TENANT that differ from the deployment's, and whose they are.

    \b
    Example:
      soma config get cpu
    """
    declared = _named(processor)
    _tenant(tenant)
    rows = _rows(load(), declared, tenant)
    found: dict[str, dict[str, Any]] = {}
    for owner in (EVERYONE, tenant):
        for setting, number in sorted(rows.get(owner, {}).items()):
            value = _word(processor, setting, number)
            found[setting] = {"value": value, "of": owner}
    if as_json:
        click.echo(json.dumps({"tenant": tenant, "processor": processor, "settings": found}))
        return
    for setting, one in sorted(found.items()):
        click.echo(f"{setting} = {one['value']}  ({'all' if one['of'] == EVERYONE else 'own'})")
    if not found:
        click.echo(f"{processor}: {tenant} has the deployment's settings", err=True)


@config.command("list")
@_json
def list_(as_json: bool) -> None:
    """List the settings of every processor.

    \b
    Example:
      soma config list
    """
    known = {name: dict(one.settings) for name, one in sorted(processors().items())}
    if as_json:
        click.echo(json.dumps(known))
        return
    for name, settings in known.items():
        click.echo(name)
        width = max((len(setting) for setting in settings), default=0)
        for setting, text in settings.items():
            click.echo(f"  {setting:{width}}  {text}")


def _named(name: str) -> Processor:
    known = processors()
    if name not in known:
        raise click.ClickException(
            f"There is no processor {name!r}; there are {', '.join(sorted(known))}."
        )
    return known[name]


def _tenant(tenant: str) -> None:
    if tenant != EVERYONE and not TENANT.fullmatch(tenant):
        raise click.ClickException(
            f"{tenant!r} can't be a tenant: 1 to 128 of A-Z a-z 0-9 . _ - (or '*' for all)."
        )


def _check(processor: Processor, tenant: str, setting: str, value: str) -> None:
    """Ask the processor's own law whether it would take this."""
    _tenant(tenant)
    name, at, _ = setting.partition("@")
    if name not in processor.settings or (at and processor.name not in BY_DOMAIN):
        known = "\n".join(f"  {name}: {text}" for name, text in processor.settings.items())
        raise click.ClickException(
            f"{processor.name} has no setting {setting!r}; there are\n{known}"
        )
    if not value:
        return
    fold = processor.make(Context(Place("00000000", 0), {}))
    refused = fold.control(Control("setting", tenant, setting, value, 0, 0, 0))
    if refused is not None:
        raise click.ClickException(f"{setting} of {tenant} can't be {value!r}: {refused}")


def _rows(settings: Settings, processor: Processor, tenant: str) -> dict[str, dict[str, float]]:
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
