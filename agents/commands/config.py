"""`soma config`: a tenant's settings, changed in band, shown from the processor's state."""

import json
import re
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from agents.commands import actor
from agents.kit.setting import AT, EVERYONE, Setting, find, parse
from agents.settings import load
from agents.tools.publisher import Publisher
from agents.tools.reader import TopicReader, seen
from topics import codec
from topics.partition import partition_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agents.engine.processor import Processor
    from agents.kit.setting import Setting
    from agents.settings import Settings

NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")  # of a tenant or a domain

_processor = click.option(
    "--processor", default="", metavar="NAME", help="Needed where several have the setting."
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

    The tenant '*' stands for all that have no value of their own. `soma config list` says which
    settings there are, and what each can be.

    \b
    Examples:
      soma config set cpu fusion hedge
      soma config set '*' min_dwell_ms 500
      soma config set cpu alpha 1.5 --processor predictors
      soma config set cpu threshold@state on
    """
    _tenant(tenant)
    owner = _owner(processor, setting)
    _check(_declared()[owner], tenant, setting, value)
    failures: list[str] = []
    with Publisher(
        load(), _processor_of(owner).source, lambda _, why: failures.append(why)
    ) as publisher:
        count = publisher.partitions
        where = range(count) if tenant == EVERYONE else [partition_of(tenant, count)]
        record = {
            "tenant": tenant,
            "setting": setting,
            "value": value,
            "author": actor.user(),
            "ts": time.time_ns() // 1000,
            "processor": owner,
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
        click.echo(json.dumps(record | {"partitions": list(where)}))
    else:
        said = f"{setting} = {value}" if value else f"{setting} as for all"
        click.echo(f"{owner}: {said} for {tenant}, from its next record on", err=True)


@config.command("get")
@click.argument("tenant")
@click.option("--processor", default="", metavar="NAME", help="Only this one's (default: all).")
@_json
def get(tenant: str, processor: str, as_json: bool) -> None:
    """Show the settings of TENANT that differ from the deployment's, and whose they are.

    \b
    Example:
      soma config get cpu
    """
    _tenant(tenant)
    asked = [_named(processor)] if processor else list(_declared())
    settings = load()
    found = {name: _settings(settings, _processor_of(name), tenant) for name in asked}
    if as_json:
        click.echo(json.dumps({"tenant": tenant, "processors": found}))
        return
    for name, values in found.items():
        for setting, one in sorted(values.items()):
            whose = "all" if one["of"] == EVERYONE else "own"
            click.echo(f"{name}: {setting} = {one['value']}  ({whose})")
    if not any(found.values()):
        click.echo(f"{', '.join(found)}: {tenant} has the deployment's settings", err=True)


def _settings(
    settings: "Settings", processor: "Processor", tenant: str
) -> dict[str, dict[str, Any]]:
    """What counts for the tenant beside the deployment's values, by a setting's name."""
    rows = _rows(settings, processor, tenant)
    found: dict[str, dict[str, Any]] = {}
    for owner in (EVERYONE, tenant):
        for name, kept in sorted(rows.get(owner, {}).items()):
            setting, _, _ = find(processor.settings, name)
            value = setting.parse(kept) if isinstance(kept, str) else setting.of_number(kept)
            found[name] = {"value": value, "of": owner}
    return found


@config.command("list")
@_json
def list_(as_json: bool) -> None:
    """List the settings of every processor.

    \b
    Example:
      soma config list
    """
    known = {
        name: {setting: one.line(setting) for setting, one in settings.items()}
        for name, settings in _declared().items()
    }
    if as_json:
        click.echo(json.dumps(known))
        return
    for name, settings in known.items():
        click.echo(name)
        width = max((len(setting) for setting in settings), default=0)
        for setting, text in settings.items():
            click.echo(f"  {setting:{width}}  {text}")


def _processor_of(name: str) -> "Processor":
    from agents.engine.registry import processors  # the laws: when they are used

    return processors([name])[name]


def _named(name: str) -> str:
    if name not in _declared():
        listed = ", ".join(_declared())
        raise click.ClickException(f"There is no processor {name!r}; there are {listed}.")
    return name


def _tenant(tenant: str) -> None:
    if tenant != EVERYONE and not NAME.fullmatch(tenant):
        raise click.ClickException(
            f"{tenant!r} can't be a tenant: 1 to 128 of A-Z a-z 0-9 . _ - (or '*' for all)."
        )


def _owner(asked: str, setting: str) -> str:
    """The processor that has the setting: the one asked for, or the only one."""
    name, at, _ = setting.partition(AT)
    known = _declared()
    owners = [one for one in known if name in known[one]]
    listed = ", ".join(owners)
    if at:
        owners = [one for one in owners if known[one][name].scope == "domain"]
        if listed and not owners:
            raise click.ClickException(f"{name} is the tenant's: it can't be set for a domain.")
    if asked:
        if _named(asked) not in owners:
            lines = "\n".join(f"  {one}: {about.line(one)}" for one, about in known[asked].items())
            others = f" (but {listed} {'have' if ', ' in listed else 'has'})" if listed else ""
            raise click.ClickException(
                f"{asked} has no setting {setting!r}{others}; there are\n{lines}"
            )
        return asked
    if len(owners) > 1:
        raise click.ClickException(f"{listed} have a setting {name!r}: say which by --processor.")
    if not owners:
        lines = "\n".join(f"  {one}: {', '.join(settings)}" for one, settings in known.items())
        raise click.ClickException(f"There is no setting {setting!r}; there are\n{lines}")
    return owners[0]


def _check(settings: Mapping[str, Setting], tenant: str, setting: str, value: str) -> None:
    """Refuse what the processor would refuse."""
    _, at, domain = setting.partition(AT)
    # What can't be a domain is refused only here: it may be taken back where it was set.
    if at and value and not NAME.fullmatch(domain):
        raise click.ClickException(f"{domain!r} can't be a domain: 1 to 128 of A-Z a-z 0-9 . _ -")
    try:
        find(settings, setting)
        if value:
            parse(settings, setting, value)
    except ValueError as error:
        said = f"can't be {value!r}" if value else "can't be taken back"
        raise click.ClickException(f"{setting} of {tenant} {said}: {error}") from error


def _rows(
    settings: "Settings", processor: "Processor", tenant: str
) -> dict[str, dict[str, float | str]]:
    """What the tenant and '*' set themselves, by the newest rows of the state topic."""
    reader = TopicReader(settings, processor.state_topic, "beginning", of=tenant)
    rows: dict[str, dict[str, float | str]] = {}
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


def _declared() -> "dict[str, Mapping[str, Setting]]":
    from agents.settings.reading import declared  # when they are asked for

    return declared()
