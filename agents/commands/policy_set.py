"""`soma policy set`, `unset`, `get` and `history`: policies in band, by the processor control."""

import json
from pathlib import Path
from typing import Any

import click

from agents.commands import actor, config_said
from agents.commands.config_past import POLICY, changes, in_a_line, shown_at
from agents.commands.config_rows import ROWS, newest
from agents.control.law import Change
from agents.kit.setting import EVERYONE
from agents.policy import bundle
from agents.settings import load
from agents.tools.output import plain

PATH = click.Path(exists=True, path_type=Path)

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_tenant = click.option(
    "--tenant", default=EVERYONE, show_default="'*', all that have none of their own",
    metavar="TENANT", help="Whose.",
)  # fmt: skip
_no_wait = click.option("--no-wait", is_flag=True, help="Return when it is written.")


@click.command("set")
@click.argument("path", metavar="PATH", type=PATH)
@_tenant
@click.option("--fail-open", is_flag=True, help="Let an error of the policy count as allow.")
@_no_wait
@_json
def set_(path: Path, tenant: str, fail_open: bool, no_wait: bool, as_json: bool) -> None:
    """Let the policy in PATH, a .rego file or a folder of them, veto new leaders from now on.

    The processor control compiles it and tries it out, as `soma policy check` does. One that can't
    be used is refused with the reason, and the old one stays. Else it goes as a control record into
    the integrator's input, and acts from there on; frames have its digest as their policy. It
    counts before SOMA_POLICY_DIR and SOMA_OPA_URL.

    \b
    Examples:
      soma policy set ops/policies
      soma policy set ops/policies --tenant acme
    """
    from agents.policy import rego  # regopy: when it is used

    try:
        modules = rego.sources(path) if path.is_dir() else {path.name: path.read_text("utf-8")}
        found = bundle.read(bundle.Bundle(modules, fail_open).text)
    except (rego.PolicyError, ValueError, OSError) as error:
        raise click.ClickException(f"The policy in {path} can't be set: {error}") from error
    _say(tenant, found.text, no_wait, as_json)


@click.command()
@_tenant
@_no_wait
@_json
def unset(tenant: str, no_wait: bool, as_json: bool) -> None:
    """Take back what `soma policy set` has set: the next one counts, of all or the deployment's.

    \b
    Example:
      soma policy unset --tenant acme
    """
    _say(tenant, "", no_wait, as_json)


def _say(tenant: str, text: str, no_wait: bool, as_json: bool) -> None:
    from agents.commands.config import must_be_tenant

    must_be_tenant(tenant)
    update = config_said.update_of(tenant, POLICY, text, actor.user())
    (said,) = config_said.say(load(), [update], wait=not no_wait)
    if said.refused:
        raise click.ClickException(f"The policy of {tenant} isn't set: {said.refused}")
    if as_json:
        told = {"tenant": tenant, "digest": bundle.digest(text), "update": said.id}
        click.echo(json.dumps(told | {"version": said.version or None, "offsets": said.offsets}))
        return
    what = f"policy {bundle.digest(text)}" if text else "no policy of its own"
    where = f"written as {said.id}: it acts when control has read it"
    if said.version:
        where = f"version {said.version}, from {config_said.places(update, said.offsets)} on"
    click.echo(f"{what} for {tenant}, {where}", err=True)


@click.command()
@_tenant
@_json
def get(tenant: str, as_json: bool) -> None:
    """Print the policy that came in band for TENANT: its own, or that of all.

    \b
    Example:
      soma policy get --tenant acme
    """
    settings = load()
    for whose in dict.fromkeys((tenant, EVERYONE)):
        row = newest(settings, ROWS, whose, whose.__eq__).get(whose)
        if row and row.get("policy"):
            break
    else:
        none = f"No policy came in band for {tenant}: that of the deployment counts, if it has one."
        click.echo(
            json.dumps({"tenant": tenant, "digest": ""}) if as_json else none, err=not as_json
        )
        return
    found, version = bundle.read(row["policy"]), row["versions"].get(POLICY, 0)
    if as_json:
        told = {"tenant": tenant, "of": whose, "digest": found.digest, "version": version}
        shown = {"fail_open": found.fail_open, "modules": dict(found.modules)}
        click.echo(json.dumps(told | shown))
        return
    errors = ", errors count as allow" if found.fail_open else ""
    click.echo(f"# policy {found.digest} of {whose}, version {version}{errors}")
    for name, text in found.modules.items():
        click.echo(f"# --- {plain(name)}")
        for line in text.splitlines():
            click.echo(plain(line.expandtabs(4)))


@click.command()
@_tenant
@_json
def history(tenant: str, as_json: bool) -> None:
    """Show which policies TENANT and all had, among the last 100 changes of settings of each.

    \b
    Example:
      soma policy history --tenant acme
    """
    found = [pair for pair in changes(tenant) if pair[0].name == POLICY]
    if as_json:
        click.echo(json.dumps({"tenant": tenant, "policies": [_data(*one) for one in found]}))
        return
    for one, of in found:
        click.echo(in_a_line(one, of, one.value or "none of its own"))
    if not found:
        click.echo(f"No policy came in band for {tenant}.", err=True)


def _data(one: Change, of: str) -> dict[str, Any]:
    return {
        "version": one.version, "ts": shown_at(one), "author": one.author, "tenant": of,
        "digest": one.value,
    }  # fmt: skip
