"""`soma bench segmentation`: change-point laws on annotated series and on streams of known changes.

The laws are our own kernels (agents.segmentation), fed point by point. No broker takes part.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.tools import scores
from agents.tools.pictures import Panel
from agents.tools.tcpd import Document, folder
from ops.bench import change_streams as streams
from ops.bench.change_laws import (
    GLR,
    ON_DATA,
    ON_STREAMS,
    Changes,
    Floats,
    Law,
    installed,
    ours,
)
from ops.bench.report import Report

Say = Callable[[str], None]
GRID = {  # what leave-one-out may choose from; the defaults are in it
    "glr_bar": ("1.5", "2.3", "3.0"),
    "glr_floor": ("1.0", "1.4", "1.8"),
    "glr_habituation": ("0.1", "0.2", "0.3"),
}
SPEED_POINTS = 20_000
DATA_METHOD = (
    "Covering / F1 (margin 5) of van den Burg and Williams (2020) on the {count} series of one "
    "dimension in a folder given by the user, each law with one set of defaults. glr and bocpd are "
    "this engine's, online; ADWIN (river, defaults) is online too; binary segmentation (ruptures, "
    "l2 cost on the standardised series, penalty 3 log n) sees each whole series first. "
    "Zero: no change at all."
)
STREAM_METHOD = (
    "One set of defaults each. Noise: changes declared per 1,000 points, {seeds} series of "
    f"{streams.NOISE_POINTS:,}. Steps in white noise after {streams.BEFORE} points: share of "
    f"{{steps}} series where a change was declared within {streams.AFTER} points (median delay). "
    f"Endless: {{points:,}} points of white noise, every {streams.ENDLESS_STEP} a 3 sd step. "
    f"Regimes: {streams.CHANGES} changes between stable and volatile regimes of 20-200 points, "
    f"medians of {{seeds}} seeds: found within {streams.NEAR} points + false ones (median delay). "
    "Speed: white noise, one Python call per point. Binary segmentation sees the whole series."
)


def _scored(law: Law, found: Document, labels: scores.Labels) -> dict[str, Any]:
    changes = law.find(np.array(found.values[0]))
    record = scores.score(labels, changes, len(found)).record()
    record["changes"] = len(changes)
    if not law.online:
        record["delay_median"] = record["delay_mean"] = None
    return record


def on_data(path: Path, say: Say) -> dict[str, Any]:
    """Every law on every annotated series of one dimension, for JSON. Raises TableError."""
    laws, notes = installed(ON_DATA)
    everything = list(folder(path))
    data = [(one, labels) for one, labels in everything if len(one.values) == 1]
    notes += [f"{one.name} is left out: {len(one.values)} dimensions" for one, _ in everything
              if len(one.values) != 1]  # fmt: skip
    if not data:
        raise ValueError("no annotated series of one dimension")
    found: dict[str, Any] = {"series": {}, "notes": notes, "laws": [law.name for law in laws]}
    for one, labels in data:
        say(f"{one.name}: {len(one):,} points")
        by_law = {law.name: _scored(law, one, labels) for law in laws}
        found["series"][one.name] = {"points": len(one), "laws": by_law}
    if len(data) > 1:
        found["leave_one_out"] = leave_one_out(data, say)
    return found


def leave_one_out(data: Sequence[tuple[Document, scores.Labels]], say: Say) -> dict[str, float]:
    """Mean covering and F1 of glr when its settings are chosen on all series but the one scored."""
    choices = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    say(f"leave-one-out over {len(choices)} settings")
    table = np.zeros((len(choices), len(data), 2))
    for k, settings in enumerate(choices):
        law = Law("glr", ours("glr", settings))
        for j, (one, labels) in enumerate(data):
            result = _scored(law, one, labels)
            table[k, j] = result["covering"], result["f1"]
    whole = table.sum(axis=2)
    others = whole.sum(axis=1, keepdims=True) - whole
    chosen = others.argmax(axis=0)
    kept = table[chosen, np.arange(len(data))].mean(axis=0)
    return {"covering": float(kept[0]), "f1": float(kept[1]), "settings": len(choices)}


def means(found: dict[str, Any], law: str) -> tuple[float, float]:
    """Mean (covering, F1) of a law over the series."""
    each = [one["laws"][law] for one in found["series"].values()]
    return (
        statistics.fmean(one["covering"] for one in each),
        statistics.fmean(one["f1"] for one in each),
    )


def data_report(found: dict[str, Any]) -> Report:
    """The table over the series."""
    laws, rows = found["laws"], []
    for name, one in found["series"].items():
        cells = [
            f"{one['laws'][law]['covering']:.3f} / {one['laws'][law]['f1']:.3f}" for law in laws
        ]
        rows.append((name, f"{one['points']:,}", *cells))
    average = ["{:.3f} / {:.3f}".format(*means(found, law)) for law in laws]
    rows.append(("mean", "", *average))
    notes = list(found["notes"])
    if "leave_one_out" in found:
        out = found["leave_one_out"]
        notes.append(
            f"glr with settings chosen on all series but the one scored ({out['settings']} "
            f"combinations): {out['covering']:.3f} / {out['f1']:.3f}"
        )
    delays = [
        one["laws"][GLR.name]["delay_median"] for one in found["series"].values()
        if one["laws"][GLR.name]["delay_median"] is not None
    ]  # fmt: skip
    if delays:
        notes.append(f"glr's delay: {statistics.median(delays):g} points (median of the series')")
    columns = ("series", "points", *laws)
    method = DATA_METHOD.format(count=len(found["series"]))
    return Report("segmentation, annotated series", columns, rows, method, notes)


def on_streams(seeds: int, points: int, say: Say) -> dict[str, Any]:
    """Every law on every stream, for JSON."""
    laws, notes = installed(ON_STREAMS)
    found: dict[str, Any] = {"seeds": seeds, "points": points, "notes": notes, "laws": {}}
    for law in laws:
        say(f"{law.name}: noise, steps, regimes" + (", endless" if law.online else ""))
        mine: dict[str, Any] = {
            "noise": {name: streams.false_alarms(law, name, seeds) for name in streams.NOISES},
            "steps": {f"{sd:g}": streams.steps(law, sd, seeds) for sd in streams.STEPS_SD},
            "regimes": {turn: streams.returning(law, turn, seeds) for turn in streams.TURNS},
        }
        if law.online:  # a law that sees everything first has no first and last tenth
            mine["endless"] = streams.endless(law, points, 1)
            mine["points_per_s"] = speed(law)
        found["laws"][law.name] = mine
    return found


def speed(law: Law) -> float:
    """Points a second over white noise, in this process."""
    values = np.random.default_rng(3).normal(size=SPEED_POINTS)
    law.find(values[:100])
    start = time.perf_counter()
    law.find(values)
    return SPEED_POINTS / (time.perf_counter() - start)


def stream_report(found: dict[str, Any]) -> Report:
    """The table over the streams: a row per question, a column per law."""
    laws = found["laws"].values()
    rows = [
        (f"{name}: false per 1,000", "≤ 1", *(f"{one['noise'][name]:.2f}" for one in laws))
        for name in streams.NOISES
    ]
    for sd in streams.STEPS_SD:
        wanted = "100 % (≤ 8)" if sd == 2.0 else ""
        rows.append((f"step of {sd:g} sd", wanted, *(_step(one, f"{sd:g}") for one in laws)))
    for part, name in _ENDLESS.items():
        wanted = "" if part == "all" else "≥ 95 %"
        rows.append((name, wanted, *(_share(one, part) for one in laws)))
    rows += [
        (f"regimes, {turn}", "hmm: ≥ 26 + ≤ 3", *(_turn(one, turn) for one in laws))
        for turn in streams.TURNS
    ]
    rows.append(("points/s", "", *(_speed(one) for one in laws)))
    method = STREAM_METHOD.format(
        seeds=found["seeds"], points=found["points"], steps=found["seeds"] * streams.STEP_SERIES
    )
    return Report(
        "segmentation, known changes",
        ("stream", "wanted", *found["laws"]),
        rows,
        method,
        found["notes"],
    )


_ENDLESS = {
    "first": "endless: found in the first tenth",
    "last": "endless: found in the last tenth",
    "all": "endless: found (false per 1,000)",
}


def _step(one: dict[str, Any], sd: str) -> str:
    found = one["steps"][sd]
    return f"{100 * found['found'] / found['of']:.0f} % ({_delay(found['delay'])})"


def _share(one: dict[str, Any], part: str) -> str:
    if "endless" not in one:
        return "-"
    text = f"{100 * one['endless'][part]:.0f} %"
    return f"{text} ({one['endless']['false_per_1000']:.2f})" if part == "all" else text


def _turn(one: dict[str, Any], turn: str) -> str:
    found = one["regimes"][turn]
    return f"{found['found']:g} + {found['false']:g} ({_delay(found['delay'])})"


def _speed(one: dict[str, Any]) -> str:
    return f"{one['points_per_s']:,.0f}" if "points_per_s" in one else "-"


def _delay(points: float | None) -> str:
    return "-" if points is None else f"{points:g}"


def panels(path: Path | None) -> list[Panel]:
    """Pictures of what glr finds: on the annotated series, or else on an example stream."""
    if path is None:
        values, changes = streams.example()
        return [_panel("example", values, [index for index, _ in changes], GLR.find(values))]
    found = []
    for one, labels in folder(path):
        values = np.array(one.values[0])
        marked = sorted(set().union(*labels.values()))
        found.append(_panel(one.name, values, marked, GLR.find(values)))
    return found


def _panel(title: str, values: Floats, labels: Sequence[int], changes: Changes) -> Panel:
    one = Panel(title, labels=labels)
    for value in values:
        one.curve.push(float(value))
    for index, at in changes:
        one.mark(index, at)
    return one
