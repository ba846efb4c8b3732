"""`soma config`: settings of tenants, changed in band, shown as processors have them."""

import json
import re
from collections.abc import Mapping
from typing import Any

import click

from agents.commands import actor, config_said
from agents.commands.config_past import diff, history, rollback
from agents.commands.config_rows import DEFAULT, DEPLOYMENT, TENANT, InForce, in_force
from agents.kit.setting import AT, EVERYONE, Setting, find, parse
from agents.settings import load

NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")  # of a tenant or a domain
WHOSE = {
    TENANT: "own", EVERYONE: "all", DEPLOYMENT: "the deployment's", DEFAULT: "default",
}  # fmt: skip

_processor = click.option(
    "--processor", default="", metavar="NAME", help="Needed where several have the setting."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def config() -> None:
    """Change a tenant's settings, show them, and take changes back.

    A change becomes a record in its processor's own input: it acts at its place in the order, for
    that tenant, and a rebuild of the state repeats it there.
    """


for _command in (history, diff, rollback):
    config.add_command(_command)


@config.command("set")
@click.argument("tenant")
@click.argument("setting")
@click.argument("value", default="")
@_processor
@click.option("--no-wait", is_flag=True, help="Return when the change is written.")
@click.option("--direct", is_flag=True, help="Past control: no version, and no history.")
@_json
def set_(
    tenant: str,
    setting: str,
    value: str,
    processor: str,
    no_wait: bool,
    direct: bool,
    as_json: bool,
) -> None:
    """Give TENANT a VALUE of SETTING; without VALUE take its own back.

    The tenant '*' stands for all that have no value of their own. `soma config list` says which
    settings there are, and what each can be. The processor control checks the change, gives it a
    version, and writes it where the setting's processor reads: from there on it acts.

    \b
    Examples:
      soma config set cpu fusion hedge
      soma config set '*' min_dwell_ms 500
      soma config set cpu predictors.alpha 1.5
      soma config set cpu threshold@state on
    """
    must_be_tenant(tenant)
    owner, setting = owned(processor, setting)
    check(known_settings()[owner], tenant, setting, value)
    update = config_said.update_of(tenant, f"{owner}.{setting}", value, actor.user())
    if direct:
        _report(update, config_said.write_past(load(), update), as_json)
        return
    (said,) = config_said.say(load(), [update], wait=not no_wait)
    if said.refused:
        raise click.ClickException(f"{setting} of {tenant} isn't set: {said.refused}")
    told = {"update": said.id, "version": said.version or None, "offsets": said.offsets}
    _report(update, told | {"partitions": sorted(said.offsets)}, as_json)


def _report(update: Mapping[str, Any], told: Mapping[str, Any], as_json: bool) -> None:
    """Say what was set, and from where on."""
    if as_json:
        click.echo(json.dumps({**update, **told}))
        return
    tenant, setting, value = (update[name] for name in ("tenant", "setting", "value"))
    said = f"{setting} = {value}" if value else f"{setting} as for all"
    where = "from its next record on"
    if told.get("version"):
        where = f"version {told['version']}, from {config_said.places(update, told['offsets'])} on"
    elif "update" in told:
        where = f"written as {told['update']}: it acts when control has read it"
    click.echo(f"{update['processor']}: {said} for {tenant}, {where}", err=True)


@config.command("get")
@click.argument("tenant")
@click.option("--processor", default="", metavar="NAME", help="Only this one's (default: all).")
@click.option("--all", "everything", is_flag=True, help="Those at their defaults too.")
@_json
def get(tenant: str, processor: str, everything: bool, as_json: bool) -> None:
    """Show the settings of TENANT as they act, and whose each value is.

    It is the tenant's own, that of all ('*'), the deployment's, or the default, in this order.

    \b
    Examples:
      soma config get cpu
      soma config get cpu --processor integrator --all
    """
    must_be_tenant(tenant)
    asked = {
        name: known_settings()[name]
        for name in ([_named(processor)] if processor else known_settings())
    }
    found = {
        name: {one: value for one, value in values.items() if everything or value.source != DEFAULT}
        for name, values in in_force(load(), asked, tenant).items()
    }
    if as_json:
        shown = {
            name: {one: _entry(tenant, value) for one, value in values.items()}
            for name, values in found.items()
        }
        click.echo(json.dumps({"tenant": tenant, "processors": shown}))
        return
    for name, values in found.items():
        for setting, one in sorted(values.items()):
            version = f", version {one.version}" if one.version else ""
            click.echo(f"{name}: {setting} = {one.value}  ({WHOSE[one.source]}{version})")
    if not any(found.values()):
        click.echo(f"{', '.join(found)}: {tenant} has the defaults", err=True)


def value_of(tenant: str, processor: str, setting: str) -> InForce:
    """What counts for a tenant in one setting. ClickException."""
    must_be_tenant(tenant)
    declared = {processor: known_settings()[processor]}
    return in_force(load(), declared, tenant)[processor][setting]


def _entry(tenant: str, one: InForce) -> dict[str, Any]:
    """A value as JSON data; `of`: whoever set it."""
    of = {TENANT: tenant, EVERYONE: EVERYONE}.get(one.source, "")
    return {"value": one.value, "of": of, "source": one.source, "version": one.version or None}


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
        for name, settings in known_settings().items()
    }
    if as_json:
        click.echo(json.dumps(known))
        return
    for name, settings in known.items():
        click.echo(name)
        width = max((len(setting) for setting in settings), default=0)
        for setting, text in settings.items():
            click.echo(f"  {setting:{width}}  {text}")


def _named(name: str) -> str:
    if name not in known_settings():
        listed = ", ".join(known_settings())
        raise click.ClickException(f"There is no processor {name!r}; there are {listed}.")
    return name


def must_be_tenant(tenant: str) -> None:
    """ClickException for what can't be one, nor '*'."""
    if tenant != EVERYONE and not NAME.fullmatch(tenant):
        raise click.ClickException(
            f"{tenant!r} can't be a tenant: 1 to 128 of A-Z a-z 0-9 . _ - (or '*' for all)."
        )


def owned(asked: str, setting: str) -> tuple[str, str]:
    """The processor that has a setting, and the setting: as `alpha` or `predictors.alpha`."""
    name, dot, rest = setting.partition(".")
    if not dot or AT in name:  # domains have dots too
        return owner_of(asked, setting), setting
    if asked and asked != name:
        raise click.ClickException(f"{setting} is a setting of {name}, not of {asked}.")
    return owner_of(name, rest), rest


def owner_of(asked: str, setting: str) -> str:
    """The processor that has the setting: the one asked for, or the only one."""
    name, at, _ = setting.partition(AT)
    known = known_settings()
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


def check(settings: Mapping[str, Setting], tenant: str, setting: str, value: str) -> None:
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


def known_settings() -> "dict[str, Mapping[str, Setting]]":
    """The settings of each processor."""
    from agents.settings.reading import declared  # when they are asked for

    return declared()
