"""The demo's screen: one moment of it as a rich renderable."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agents.tools.machine import TENANTS
from agents.tools.output import counted
from agents.tools.pretty import COLOURS as EVIDENCE
from agents.tools.pretty import clock, duration
from agents.tools.series import PREFIX

BAR = 20  # characters of a bar of weights
PAST = 20  # seconds of past leaders
WIDE, NARROW = 112, 92  # characters: below, the past is left out; below, the bars are half as long
ROWS_MIN, ROWS_MAX = 7, 24
OTHER_LINES = 22  # of the screen, besides the tenants'
BOUNDARIES = 4  # the latest ones that are shown
LOW = 30  # lines: below, only the last boundary and the first hint are shown
COLOURS = {"state": "cyan", "agent": "magenta", "action": "yellow"}
OTHERS = ("green", "blue", "red", "white")


@dataclass(frozen=True)
class Moment:
    """What the screen shows."""

    seconds: float
    frames: Mapping[str, Mapping[str, Any]]  # tenant -> its last frame
    past: Mapping[str, Sequence[str]] = field(default_factory=dict)  # tenant -> leaders, by second
    tenant_rates: Mapping[str, float] = field(default_factory=dict)
    observation_rate: float = 0.0
    frame_rate: float = 0.0
    delays_ms: tuple[float, float] | None = None
    lags: Mapping[str, int] = field(default_factory=dict)
    trouble: str = ""
    hints: Sequence[tuple[str, str]] = ()
    boundaries: Sequence[Mapping[str, Any]] = ()  # the latest ones, in the order they came
    boundary_count: int = 0


def screen(moment: Moment, width: int = WIDE, height: int = 40) -> Group:
    """All of it, for a terminal of so many characters and lines."""
    parts: list[RenderableType] = [_head(moment), _table(moment, width, height), _numbers(moment)]
    parts.append(_boundaries(moment, BOUNDARIES if height >= LOW else 1))
    if moment.trouble:
        parts.append(Panel(Text(moment.trouble), title="trouble", border_style="red"))
    parts.append(_hints(moment.hints if height >= LOW else moment.hints[:1]))
    return Group(*parts)


def _head(moment: Moment) -> Text:
    minutes, seconds = divmod(int(moment.seconds), 60)
    head = Text(f" Soma Stream · {socket.gethostname()} · {minutes}:{seconds:02d}   ", style="bold")
    for domain, colour in COLOURS.items():
        head.append("█ ", style=colour)
        head.append(f"{domain}  ", style="dim")
    return head


def _table(moment: Moment, width: int, height: int) -> Table:
    cells = BAR if width >= NARROW else BAR // 2
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1 if width >= NARROW else 0))
    table.add_column("tenant", no_wrap=True)
    table.add_column("leader", no_wrap=True)
    table.add_column("weights", no_wrap=True, width=cells)
    if width >= WIDE:
        table.add_column("leaders so far", no_wrap=True, width=PAST)
    for name in ("confidence", "entropy", "dwell", "frames/s"):
        table.add_column(name, justify="right", no_wrap=True)
    tenants = sorted(moment.frames, key=_rank)
    rows = max(ROWS_MIN, min(ROWS_MAX, height - OTHER_LINES))
    for tenant in tenants[:rows]:
        frame = moment.frames[tenant]
        past = [_past(moment.past.get(tenant, ()))] if width >= WIDE else []
        table.add_row(
            Text(tenant),
            Text(frame["leader"] or "none", style=_colour(frame["leader"])),
            bar(frame["weights"], cells),
            *past,
            f"{frame['confidence']:.2f}",
            f"{frame['entropy']:.2f}",
            duration(frame["dwell_ms"]),
            f"{moment.tenant_rates.get(tenant, 0.0):.1f}",
        )
    if not tenants:
        table.caption = "waiting for the first frame"
    elif len(tenants) > rows:
        table.caption = f"and {len(tenants) - rows} more tenants"
    return table


def _rank(tenant: str) -> tuple[int, str]:
    """This machine first, then the recorded one, then all others."""
    return 0 if tenant in TENANTS else 1 if tenant.startswith(PREFIX) else 2, tenant


def bar(weights: Mapping[str, float], width: int = BAR) -> Text:
    """Weights as one stacked bar of `width` cells, in the order state, agent, action, names."""
    order = [*COLOURS, *sorted(set(weights) - set(COLOURS))]
    shown = [(name, weights[name]) for name in order if weights.get(name, 0.0) > 0.0]
    total = sum(weight for _, weight in shown)
    text, done, sum_ = Text(), 0, 0.0
    for name, weight in shown:
        sum_ += weight
        end = round(width * sum_ / total)
        text.append("█" * (end - done), style=_colour(name))
        done = end
    return text


def _past(leaders: Sequence[str]) -> Text:
    return Text.assemble(*(("▄", _colour(leader)) for leader in leaders[-PAST:]))


def _colour(domain: str) -> str:
    return COLOURS.get(domain) or OTHERS[sum(domain.encode()) % len(OTHERS)]


def _numbers(moment: Moment) -> Text:
    text = Text(" ")
    text.append(f"{moment.observation_rate:,.0f} observations/s → ")
    text.append(f"{moment.frame_rate:,.0f} frames/s", style="bold")
    if moment.delays_ms is not None:
        text.append(" · delay ")
        text.append(f"{moment.delays_ms[0]:.0f} ms (median), {moment.delays_ms[1]:.0f} ms (p99)")
    if moment.lags:
        waiting = ", ".join(f"{name} {count}" for name, count in sorted(moment.lags.items()))
        text.append(f"\n lag: {waiting}")
    return text


def _boundaries(moment: Moment, rows: int) -> Text:
    """The latest boundaries, the newest first: this machine's before those of the recording."""
    text = Text(f" {counted(moment.boundary_count, 'boundary', 'boundaries')}", style="bold")
    if not moment.boundaries:
        return text.append(": none yet, load the processor and see one", style="dim")
    newest = moment.boundaries[::-1]
    own = [one for one in newest if not one["tenant"].startswith(PREFIX)]
    recorded = [one for one in newest if one["tenant"].startswith(PREFIX)]
    for one in [*own, *recorded][:rows]:
        evidence, later = one["evidence"], (one["detected_ts"] - one["boundary_ts"]) / 1000
        text.append(f"\n  {clock(one['boundary_ts'])}  ", style="cyan")
        text.append(f"{one['tenant']} / {one['domain']}  ", style="not bold")
        text.append(evidence.replace("_", " "), style=EVIDENCE.get(evidence, "bold"))
        text.append(f" {one['score']:.3g}, seen {duration(later)} after", style="not bold")
        text.append(f", ends {duration(one['dwell_ms'])}", style="not bold dim")
    return text


def _hints(hints: Sequence[tuple[str, str]]) -> Panel:
    grid = Table.grid(padding=(0, 2))
    for what, command in hints:
        grid.add_row(Text(what, style="dim"), Text(command, style="bold"))
    return Panel(grid, title="now type, in another terminal", border_style="dim", expand=False)
