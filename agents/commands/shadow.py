"""`soma shadow`: a sample of tenants computed under candidate settings, beside the live ones.

A shadow is a job of the service `replay`, which goes on until somebody stops it. The sample is
chosen here, and said in the command.
"""

import json
from typing import TYPE_CHECKING, Any

import click

from agents.commands.actor import actor
from agents.commands.canary import must_say_whom, proposed, ranked, share, tenants_of
from agents.commands.config import check, known_settings, owned
from agents.commands.replay import last_of, ordered, started
from agents.commands.replay_whatif import rows_of
from agents.kit.setting import AT
from agents.settings import load
from agents.tools.output import counted, plain

if TYPE_CHECKING:
    from agents.settings import Settings

MODE = "shadow"
ACTIVE = ("accepted", "running", "paused")
SAMPLE_MAX = 500  # tenants, as agents/replay/modes.py has it; without what that brings
SHADOWS_MAX = 3  # at a time: a partition runs four jobs, and others shall have their turn
SHOWN = 5  # tenants
ORDER = "shadow"  # by which the sample is chosen: the same for all candidates

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def shadow() -> None:
    """See what settings would do to a sample of tenants, as their records come.

    The sample is computed a second time under the candidate settings, in the worker that runs
    `replay`, and compared: what differs, errors, regret, changes of leader, boundaries. Only the
    comparison is written. Nothing of it reaches a topic that others read, or a live row; unlike a
    canary it changes nothing for anybody.
    """


@shadow.command()
@click.option(
    "--set", "what", required=True, multiple=True, metavar="NAME=VALUE",
    help="What is tried; several times for settings of one processor.",
)  # fmt: skip
@click.option("--processor", default="", metavar="NAME", help="Needed where several have it.")
@click.option("--percent", type=float, help="For so many of the tenants, by a stable hash.")
@click.option("--tenants", metavar="A,B", help="For these.")
@actor
@_json
def start(
    what: tuple[str, ...], processor: str, percent: float | None, tenants: str | None, actor: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Begin a shadow with the tenants' state as it is now.

    There may be several at once, of one setting too: they change nothing. Each is computed twice
    (as it is, and as it would be), so a sample costs about twice what its tenants cost.

    \b
    Examples:
      soma shadow start --set integrator.share=0.01 --percent 5
      soma shadow start --set cpd=bocpd --set warmup=50 --tenants acme,globex
    """
    must_say_whom(percent, tenants)
    settings, changes = load(), _changes(what, processor)
    if len(running := [one for one in _shadows() if one["state"] in ACTIVE]) >= SHADOWS_MAX:
        listed = ", ".join(one["id"] for one in running)
        raise click.ClickException(f"{SHADOWS_MAX} shadows run already: {listed}; stop one first")
    named = None if tenants is None else {one.strip() for one in tenants.split(",")}
    chosen = sample(settings, percent, named)
    record = {"mode": MODE, "settings": changes, "tenants": chosen, "actor": actor}
    said = started(record, no_wait=True)
    if said["state"] in ("refused", "failed"):
        raise click.ClickException(f"{said['id']} {said['state']}: {plain(said['message'])}")
    if as_json:
        click.echo(json.dumps({"id": said["id"], "settings": changes, "tenants": chosen}))
        return
    click.echo(
        f"{said['id']}: {', '.join(changes)} beside {counted(len(chosen), 'tenant')} "
        f"({plain(', '.join(chosen[:SHOWN]))}{', …' if chosen[SHOWN:] else ''}); "
        "`soma shadow status` shows what is found"
    )


def _changes(what: tuple[str, ...], processor: str) -> list[str]:
    """PROCESSOR.NAME=VALUE of each. ClickException names what can't be."""
    found: dict[str, str] = {}
    for text in what:
        name, value = proposed(text)
        if AT in name:
            raise click.ClickException(
                f"--set {text}: what a tenant's setting does can be tried, not a domain's"
            )
        owner, name = owned(processor, name)
        check(known_settings()[owner], "a shadow's tenants", name, value)
        if f"{owner}.{name}" in found:
            raise click.ClickException(f"--set {text}: {name} is given twice")
        found[f"{owner}.{name}"] = value
    if len(owners := {name.partition(".")[0] for name in found}) > 1:
        raise click.ClickException(
            f"--set: these are settings of {' and '.join(sorted(owners))}; a shadow is of one"
        )
    return [f"{name}={value}" for name, value in found.items()]


def sample(settings: "Settings", percent: float | None, named: set[str] | None) -> list[str]:
    """The tenants to be computed twice. ClickException where there is none, or too many."""
    known = tenants_of(settings)
    if named is not None:
        if wrong := sorted(named - known):
            raise click.ClickException(f"{', '.join(map(repr, wrong))}: never had a frame")
        chosen = sorted(named)
    else:
        assert percent is not None
        chosen = sorted(share(ranked(known, ORDER), percent)) if known else []
    if not chosen:
        raise click.ClickException("there are no tenants yet: none has had a frame")
    if len(chosen) > SAMPLE_MAX:
        raise click.ClickException(
            f"{len(chosen):,} tenants are more than a shadow may have ({SAMPLE_MAX}): a smaller "
            "--percent will do"
        )
    return chosen


@shadow.command()
@click.argument("which", required=False)
@_json
def status(which: str | None, as_json: bool) -> None:
    """Show what the shadows that run have found, or what WHICH has.

    \b
    Example:
      soma shadow status
    """
    found = [
        one for one in _shadows()
        if (one["id"] == which if which else one["state"] in ACTIVE)
    ]  # fmt: skip
    if which and not found:
        raise click.ClickException(f"there is no shadow {plain(which)}: `soma shadow list`")
    _show(found, as_json, "No shadow runs.", whole=True)


@shadow.command("list")
@_json
def list_(as_json: bool) -> None:
    """Show all shadows of the last 30 days, those that are over too.

    \b
    Example:
      soma shadow list --json
    """
    _show(_shadows(), as_json, "There was no shadow.", whole=False)


@shadow.command()
@click.argument("which")
@actor
@_json
def stop(which: str, actor: str, as_json: bool) -> None:
    """End the shadow WHICH; what it has found stays to be seen.

    \b
    Example:
      soma shadow stop shadow-20260131T120000-3f2a
    """
    if not any(one["id"] == which and one["state"] in ACTIVE for one in _shadows()):
        raise click.ClickException(
            f"no shadow that runs is called {plain(which)}: `soma shadow status`"
        )
    _show([ordered(which, "stop", actor)], as_json, "", whole=True)


def _shadows() -> list[dict[str, Any]]:
    """The last status of each, the latest last."""
    found = [one for one in last_of(None).values() if one["mode"] == MODE]
    return sorted(found, key=lambda one: int(one["ts"]))


def _show(found: list[dict[str, Any]], as_json: bool, nothing: str, *, whole: bool) -> None:
    shown = [data_of(one) for one in found]
    if as_json:
        click.echo(json.dumps({"shadows": shown}))
        return
    for one in shown:
        values = ", ".join(f"{name}={plain(value)}" for name, value in one["settings"].items())
        why = f": {plain(one['message'])}" if one["message"] else ""
        click.echo(
            f"{one['id']}  {one['state']}{why}  {one['processor']}: {values}  "
            f"({counted(len(one['tenants']), 'tenant')}, {counted(one['records'], 'record')})"
        )
        for line in lines_of(one) if whole else ():
            click.echo(f"  {line}")
    if not shown:
        click.echo(nothing, err=True)


def data_of(said: dict[str, Any]) -> dict[str, Any]:
    """A shadow as JSON data, of its job's status."""
    plan = json.loads(said["plan"]) if said["plan"] else {}
    result = plan.get("result", {})
    return {
        "id": said["id"], "state": said["state"], "message": said["message"],
        "processor": plan.get("processor", ""), "settings": plan.get("settings", {}),
        "tenants": sorted(one for home in plan.get("homes", {}).values() for one in home),
        "started": said["started"], "finished": said["finished"],
        "began_anew": plan.get("began_anew", 0), "records": result.get("records", 0),
        "outputs": result.get("outputs", {}), "figures": result.get("figures", {}),
        "most": result.get("most", []),
    }  # fmt: skip


def lines_of(one: dict[str, Any]) -> list[str]:
    """What was found, for people."""
    found = []
    if one["began_anew"]:
        found.append(
            f"began anew {counted(one['began_anew'], 'time')}, as its worker ended or lost Kafka: "
            "what is shown is of the last time"
        )
    for name, its in one["outputs"].items():
        fields = ", ".join(f"{field} {n:,}" for field, n in its["fields"].items())
        found.append(
            f"{name}: {its['equal']:,} of {its['was']:,} equal, {its['differing']:,} differ, "
            f"{its['only_was']:,} only was, {its['only_would']:,} only would"
            f"{f' ({plain(fields)})' if fields else ''}"
        )
    rows = [row for its in one["figures"].values() for row in rows_of(its["was"], its["would"])]
    if rows:
        width = max(len(name) for name, _, _ in rows)
        found.append(f"{'':{width}}  {'was':>12}  {'would':>12}")
        found += [f"{plain(name):{width}}  {a:>12}  {b:>12}" for name, a, b in rows]
    return found
