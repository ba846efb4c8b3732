"""`soma canary`: a setting tried on some tenants, compared with others, and taken back if it harms.

Groups are chosen here, and said in the command: who is in them doesn't change while it runs.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from agents.canary.law import METRICS, p_value
from agents.canary.state import ACTIVE, FOR_S, TENANTS_MAX, sums
from agents.commands.actor import actor
from agents.commands.asking import ask
from agents.commands.config import check, known_settings, owned
from agents.commands.config_rows import newest
from agents.kit.setting import EVERYONE
from agents.settings import load
from agents.tools.mapping import NAME
from agents.tools.output import counted, plain
from topics import codec

if TYPE_CHECKING:
    from agents.settings import Settings

# As agents/canary/agent.py has them; without the engine that it brings.
COMMANDS, STATE = "soma.admin.canary", "soma.canary.state"
TENANTS, SETTINGS = "soma.integrator.state", "soma.control.state"
SEP, POSITION = "\x1f", "@position"

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def canary() -> None:
    """Try a setting on some tenants, and take it back by itself where it does harm.

    For a minute the tenants are measured as they are; then the setting is put on for some of them,
    and each second their errors, regret, changes of leader and boundaries are compared with the
    others', and with before. What is worse beyond chance ends the canary; what is better is said.
    """


@canary.command()
@click.option("--set", "what", required=True, metavar="NAME=VALUE", help="What is tried.")
@click.option("--processor", default="", metavar="NAME", help="Needed where several have it.")
@click.option("--percent", type=float, help="On so many of the tenants, by a stable hash.")
@click.option("--tenants", metavar="A,B", help="On these, and all others are compared with them.")
@click.option(
    "--for", "for_s", type=click.IntRange(*FOR_S), default=3600, show_default=True,
    metavar="SECONDS", help="Without a verdict until then, it is taken back.",
)  # fmt: skip
@actor
@_json
def start(
    what: str, processor: str, percent: float | None, tenants: str | None, for_s: int, actor: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Begin a canary, once it is clear on whom.

    Tenants with a value of their own of that setting, and those of another canary, are in neither
    group.

    \b
    Examples:
      soma canary start --set integrator.alpha=4 --percent 10
      soma canary start --set cpd@state=bocpd --tenants acme,globex --for 7200
    """
    setting, value = proposed(what)
    must_say_whom(percent, tenants)
    owner, setting = owned(processor, setting)
    check(known_settings()[owner], "a canary's tenants", setting, value)
    own, _, domain = setting.partition("@")
    name, settings = f"{owner}.{own}", load()
    named = [one.strip() for one in tenants.split(",")] if tenants is not None else None
    chosen, control = groups(settings, f"{owner}.{setting}", percent, named)
    record = {
        "name": name, "type": "start", "id": f"canary-{secrets.token_hex(4)}", "domain": domain,
        "value": value, "tenants": chosen, "control": control, "for_s": for_s, "actor": actor,
        "ts": time.time_ns() // 1000,
    }  # fmt: skip
    answer = said(settings, record)
    if as_json:
        click.echo(json.dumps(answer | {"tenants": chosen, "control": control}))
        return
    click.echo(
        f"{record['id']}: {name} = {value} for {counted(len(chosen), 'tenant')} "
        f"({plain(', '.join(chosen[:5]))}{', …' if chosen[5:] else ''}), compared with "
        f"{len(control)}; `soma canary status` shows what is found"
    )


def proposed(text: str) -> tuple[str, str]:
    """The setting and the value of --set. ClickException."""
    setting, equals, value = text.partition("=")
    if not equals or not value:
        raise click.ClickException(f"--set {text}: give NAME=VALUE")
    return setting, value


def must_say_whom(percent: float | None, tenants: str | None) -> None:
    """ClickException where it isn't clear on whom something is tried."""
    if (percent is None) == (tenants is None):
        raise click.ClickException("give --percent or --tenants, one of the two")
    if percent is not None and not 0 < percent <= 100:
        raise click.ClickException(f"--percent is a number above 0 up to 100, not {percent:g}")


@canary.command()
@click.argument("which")
@actor
@_json
def stop(which: str, actor: str, as_json: bool) -> None:
    """End the canary WHICH (a setting, or an id), and take its setting back.

    \b
    Example:
      soma canary stop integrator.alpha
    """
    _end(which, "stop", actor, as_json)


@canary.command()
@click.argument("which")
@actor
@_json
def promote(which: str, actor: str, as_json: bool) -> None:
    """Give what the canary WHICH tries to all tenants without a value of their own.

    \b
    Example:
      soma canary promote integrator.alpha
    """
    _end(which, "promote", actor, as_json)


@canary.command()
@click.argument("which", default="")
@_json
def status(which: str, as_json: bool) -> None:
    """Show the canaries that run, or one (a setting, or an id), and what is found so far.

    \b
    Example:
      soma canary status
    """
    rows = [one for one in rows_of(load()) if _is(one, which) or not which]
    found = [one for one in rows if which or one["state"] in ACTIVE]
    if which and not found:
        raise click.ClickException(f"there is no canary {which[:80]!r}; `soma canary list`")
    _show(found, as_json, "No canary runs.")


@canary.command("list")
@_json
def list_(as_json: bool) -> None:
    """Show the last canary of each setting, those that are over too.

    \b
    Example:
      soma canary list --json
    """
    _show(rows_of(load()), as_json, "There was no canary.")


def groups(
    settings: "Settings", name: str, percent: float | None, named: list[str] | None
) -> tuple[list[str], list[str]]:
    """The canary group and the control group. ClickException where one of them is empty."""
    active = [row for row in rows_of(settings) if row["state"] in ACTIVE]
    if same := [row["id"] for row in active if row["name"] == name.partition("@")[0]]:
        raise click.ClickException(f"there is a canary on {name} already: {same[0]}")
    busy = {tenant for row in active for tenant in (*row["tenants"], *row["control"])}
    own = {tenant for tenant, row in _newest(settings, SETTINGS).items() if name in row["values"]}
    known = tenants_of(settings)
    free = ranked(known - busy - own, name)
    if named is None:
        assert percent is not None
        chosen = share(free, percent)
    else:
        for why, wrong in (
            ("never had a frame", set(named) - known), ("are in another canary", set(named) & busy),
            (f"have a value of {name} of their own", set(named) & own),
        ):  # fmt: skip
            if wrong:
                raise click.ClickException(f"{', '.join(map(repr, sorted(wrong)))}: {why}")
        chosen = ranked(set(named), name)
    control = [one for one in reversed(free) if one not in set(chosen)][:TENANTS_MAX]
    if not chosen:
        raise click.ClickException("there are no tenants to try it on: none has had a frame yet")
    if not control:
        raise click.ClickException("there is no control group: nobody is left to compare with")
    if len(chosen) > TENANTS_MAX:
        raise click.ClickException(
            f"{len(chosen):,} tenants are more than a canary may have ({TENANTS_MAX}): "
            "a smaller --percent will do"
        )
    return sorted(chosen), sorted(control)


def tenants_of(settings: "Settings") -> set[str]:
    """Whoever has had a frame. ClickException."""
    return {key for key in _newest(settings, TENANTS) if NAME.fullmatch(key)}


def ranked(tenants: Iterable[str], name: str) -> list[str]:
    """Tenants in an order that depends on the setting and each tenant's name alone."""
    return sorted(tenants, key=lambda one: hashlib.sha256(f"{name}{SEP}{one}".encode()).digest())


def share(tenants: list[str], percent: float) -> list[str]:
    """The first so many of a hundred, one at least: what 5 % has, 10 % has too."""
    return tenants[: max(1, round(len(tenants) * percent / 100))]


def _end(which: str, how: str, actor: str, as_json: bool) -> None:
    settings = load()
    rows = [one for one in rows_of(settings) if _is(one, which) and one["state"] in ACTIVE]
    if len(rows) != 1:
        many = "several canaries are" if rows else "no canary that runs is"
        raise click.ClickException(f"{many} called {which[:80]!r}: `soma canary status`")
    record = {
        "name": rows[0]["name"], "type": how, "id": rows[0]["id"], "actor": actor,
        "ts": time.time_ns() // 1000,
    }  # fmt: skip
    answer = said(settings, codec.from_json("canary_command", record))
    done = "is everybody's now" if how == "promote" else "is taken back"
    text = json.dumps(answer) if as_json else f"{answer['id']}: {answer['setting']} {done}"
    click.echo(text)


def _is(row: dict[str, Any], which: str) -> bool:
    return which in (row["name"], row["id"], row["setting"])


def rows_of(settings: "Settings") -> list[dict[str, Any]]:
    """The last canary of each setting, as its processor keeps it, by name."""
    found = _newest(settings, STATE)
    return [{"name": name} | row for name, row in sorted(found.items()) if row["id"]]


def _newest(settings: "Settings", topic: str) -> dict[str, Any]:
    """The newest row of each tenant; of many, as long as it takes. ClickException."""
    return newest(
        settings, topic, None, lambda key: SEP not in key and key not in (POSITION, EVERYONE)
    )


def said(settings: "Settings", record: dict[str, Any]) -> dict[str, Any]:
    """Write a command, wait for its answer. ClickException: it is refused, or none comes."""
    value = codec.encode("canary_command", record)
    answer = ask(settings, COMMANDS, record["name"], value, "canary", ("id", record["id"]))
    if answer["state"] == "refused":
        raise click.ClickException(f"refused: {plain(answer['why'])}")
    return answer


def _show(rows: list[dict[str, Any]], as_json: bool, nothing: str) -> None:
    shown = [_data(one) for one in rows]
    if as_json:
        click.echo(json.dumps({"canaries": shown}))
        return
    for one in shown:
        why = f": {plain(one['why'])}" if one["why"] else ""
        click.echo(
            f"{one['setting']} = {plain(one['value'])}  {one['id']}  {one['state']}{why}  "
            f"({counted(len(one['tenants']), 'tenant')} against {len(one['control'])}, "
            f"{counted(one['blocks'], 'block')})"
        )
        for metric, its in one["metrics"].items():
            click.echo(
                f"  {metric:14} {its['canary']:.4g} here, {its['control']:.4g} there; "
                f"{its['difference']:+.3g} since before, p = {its['p']:.2g}"
            )
    if not rows:
        click.echo(nothing, err=True)


def _data(row: dict[str, Any]) -> dict[str, Any]:
    """A canary as JSON data."""
    before, after = sums(row["before"]), sums(row["after"])
    blocks = int(after[0].n)
    metrics = {
        name: {
            "canary": row["canary"][k] / blocks, "control": row["others"][k] / blocks,
            "difference": after[k].mean - before[k].mean, "p": p_value(row["most"][k]),
        }
        for k, name in enumerate(METRICS)
    } if blocks else {}  # fmt: skip
    names = ("id", "state", "value", "tenants", "control", "actor", "asked", "put_on", "ended")
    found = {name: row[name] for name in names}
    setting = f"{row['name'].partition('.')[0]}.{row['setting']}"
    return found | {"setting": setting, "why": row["why"], "blocks": blocks, "metrics": metrics}
