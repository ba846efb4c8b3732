"""What `soma replay start what-if` is told, and how its result is shown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from agents.tools.output import counted, plain

MODE = "what-if"
EVERYONE = "*"  # as a result's tenant: all of them
UNNAMED = "\0"  # --shadow without a name
BARS = "▁▂▃▄▅▆▇█"
LETTERS = "abcdefghijklmnop"  # of leaders, in a plot
PLOTS = {"losses": "loss", "errors": "error", "counts": "changes"}  # of a side, by their words
LISTED = 5  # boundaries of one side only
TAKES = ("tenants", "since", "partial", "dry_run", "rate_limit", "actor", "settings")
ENDS = ("shadow", "target", "until")


option = click.option(
    "--set", "settings", multiple=True, metavar="[PROCESSOR.]NAME=VALUE",
    help="Of what-if: a setting to try, PROCESSOR.NAME=VALUE; of one processor, each of its "
    "settings once. Of redrive: FIELD=VALUE, a record's field to be changed first.",
)  # fmt: skip


def is_it(source: str, given: Mapping[str, Any]) -> bool:
    """Whether a what-if is meant."""
    return source == MODE or bool(given["settings"] and not source)


def record_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The command's record, but for its id. ClickException."""
    if not given["settings"]:
        raise click.ClickException("give --set: what is to be tried, such as integrator.share=0.01")
    if any(value for name, value in given.items() if name not in (*TAKES, *ENDS)):
        raise click.ClickException(
            "a what-if takes --set, --tenant, --from, --to, --partial, --dry-run, --rate, --id"
        )
    if given["shadow"] not in ("", UNNAMED):
        raise click.ClickException("a what-if writes nothing: --shadow takes no name here")
    if given["target"] and given["until"]:
        raise click.ClickException("--to and --until both say where the stretch ends: give one")
    until = given["until"] or given["target"]
    return {"mode": MODE, **{name: given[name] for name in TAKES}, "until": until}


def lines_of(plan: Mapping[str, Any]) -> Iterator[str]:
    """What a what-if has found, for people; nothing, while it has no plan."""
    if not plan:
        return
    values = ", ".join(f"{name}={value}" for name, value in plan["settings"].items())
    yield f"  {plan['processor']}: {plain(values)} (would), beside how it was (was)"
    for one in plan["stretches"]:
        before = one["from"] - one["begin"]
        folded = f", {counted(before, 'offset')} before it folded first" if before else ""
        whose = plain(one["tenant"]) or "all tenants"
        yield (
            f"  {whose}: offsets {one['from']} to {one['to']} of {plan['source']}/"
            f"{one['partition']}{folded}"
        )
    for result in plan.get("result", []):
        yield ""
        yield from _result(result)


def _result(result: Mapping[str, Any]) -> Iterator[str]:
    whose = plain(result["tenant"])
    if result["tenant"] == EVERYONE:
        whose = f"all {counted(result['tenants'], 'tenant')} together"
    yield f"  {whose}, {counted(result['records'], 'record')}"
    for note in result["notes"]:
        yield f"    note: {plain(note)}"
    for name, one in result["outputs"].items():
        yield from _output(name, one)
    rows: list[tuple[str, str, str]] = []
    plots: list[str] = []
    more: list[str] = []
    for one in result["figures"].values():
        was, would = one["was"], one["would"]
        rows += rows_of(was, would)
        plots += _plots(was, would)
        if "boundaries" in one:
            more += _boundaries(one["boundaries"], result["tenant"] == EVERYONE)
    if rows:
        width = max(len(name) for name, _, _ in rows)
        yield f"    {'':{width}}  {'was':>12}  {'would':>12}"
        for name, a, b in rows:
            yield f"    {plain(name):{width}}  {a:>12}  {b:>12}"
    yield from more
    yield from plots
    if result.get("most"):
        yield "    tenants that differ most"
    for one in result.get("most", []):
        said = [f"{plain(one['tenant'])}: {counted(one['unlike'], 'output')}"]
        yield "      " + "; ".join([*said, *_numbers(one["figures"])])


def _numbers(figures: Mapping[str, Any]) -> Iterator[str]:
    """A tenant's numbers that aren't the same on both sides."""
    for one in figures.values():
        was, would = one["was"], one["would"]
        for name in dict.fromkeys([*was, *would]):
            a, b = _shown(was.get(name, 0)), _shown(would.get(name, 0))
            if a != b:
                yield f"{name.replace('_', ' ')} {a} → {b}"


def _output(name: str, one: Mapping[str, Any]) -> Iterator[str]:
    unlike = [f"{one['differing']:,} differ"]
    unlike += [f"{one[f'only_{k}']:,} only {k}" for k in ("was", "would") if one[f"only_{k}"]]
    fields = ", ".join(f"{field} {count:,}" for field, count in one["fields"].items())
    yield (
        f"    {name}: {one['equal']:,} of {one['was']:,} equal, {', '.join(unlike)}"
        f"{f' ({plain(fields)})' if fields else ''}"
    )
    looked = one.get("looked_for", one["was"])  # of all tenants: a sample, where they are many
    of = "" if looked == one["was"] else f" of a sample of {one['was']:,}"
    if one["published"] == looked:
        yield f"      as it was, all {looked:,}{of} are as published"
    else:
        yield (
            f"      as it was, only {one['published']:,} of {looked:,}{of} are as published: the "
            "law, the policy or the schemas are others now, or not all of it is there"
        )


def rows_of(was: Mapping[str, Any], would: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The numbers of both sides that are numbers or words, by what they are."""
    for name, value in was.items():
        words = name.replace("_", " ")
        if isinstance(value, int | float | str):
            yield words, _shown(value), _shown(would[name])
        elif name == "led":
            yield from _led(was, would)
        elif name == "domains":
            for one in dict.fromkeys([*value, *would[name]]):
                a, b = (side[name].get(one, {}).get("mean_error") for side in (was, would))
                yield f"mean error of {one}", _shown(a), _shown(b)
        elif name == "by_evidence":
            for one in dict.fromkeys([*value, *would[name]]):
                yield f"by {one}", _shown(value.get(one, 0)), _shown(would[name].get(one, 0))


def _led(was: Mapping[str, Any], would: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for one in dict.fromkeys([*was["led"], *would["led"]]):
        yield f"{one or 'nobody'} leads", _share(was, one), _share(would, one)


def _share(side: Mapping[str, Any], leader: str) -> str:
    """The part of a side's frames that it leads."""
    frames = side["led"].get(leader, {"frames": 0})["frames"]
    return f"{100 * frames / max(1, side['frames']):.1f} %"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else plain(str(value or "-"))


def _boundaries(found: Mapping[str, Any], several: bool) -> Iterator[str]:
    yield (
        f"    boundaries: {found['both']:,} in both (within {found['near']} frames), "
        f"{found['only_was']:,} only was, {found['only_would']:,} only would"
    )
    for side in ("was", "would"):
        for one in found[f"listed_{side}"][:LISTED]:
            whose = f"{one['tenant']}/{one['domain']}" if several else one["domain"]
            at = f"{plain(whose)} by {one['evidence']} at {one['boundary_ts']}"
            yield f"      only {side}: {at}"
        if found[f"only_{side}"] > LISTED:
            yield f"      and {found[f'only_{side}'] - LISTED:,} more only {side}; --json has more"


def _plots(was: Mapping[str, Any], would: Mapping[str, Any]) -> Iterator[str]:
    """Along the stretch: means as bars, on one scale for both, and who leads as letters."""
    for name, shown in PLOTS.items():
        if name in was:
            top = max((v for side in (was, would) for v in side[name] if v), default=0.0)
            for word, side in (("was", was), ("would", would)):
                yield f"    {shown:8}{word:>6} {bars(side[name], top)}  0 to {top:.4g}"
    if "leaders" in was:
        names = dict.fromkeys(n for side in (was, would) for n in side["leaders"] if n)
        letter = dict(zip(names, LETTERS, strict=False))
        for word, side in (("was", was), ("would", would)):
            line = "".join(letter.get(n, "?") if n else " " for n in side["leaders"])
            yield f"    {'leaders':8}{word:>6} {line}"
        yield "    " + ", ".join(f"{short} {plain(name)}" for name, short in letter.items())


def bars(values: Sequence[float | None], top: float) -> str:
    """Numbers from 0 to `top` as bars; a blank where there is none."""
    last = len(BARS) - 1
    return "".join(
        " " if v is None else BARS[min(last, round(last * v / top)) if top > 0 else 0]
        for v in values
    )
