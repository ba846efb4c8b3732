"""Pictures of series with their boundaries and labels: PNG (matplotlib) and terminal (plotext)."""

import errno
import importlib
import importlib.util
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agents.tools.envelope import Envelope, Floats

NO_MATPLOTLIB = "a PNG needs matplotlib: pip install 'soma-stream[quality]'"
PANELS_MAX = 12
MARKS_MAX = 2000  # per panel: more than a picture can tell apart
BOUNDARY, LABEL, CURVE = "#d1495b", "#3a7d44", "#1b6ca8"


class NoPicturesError(Exception):
    """The library that draws isn't installed; the text names it."""


def _dates() -> Any:
    return importlib.import_module("matplotlib.dates")


@dataclass(frozen=True)
class Axis:
    """Times of points, for the axis below: `at[k]` of index `x[k]`, and those between them."""

    label: str
    x: Floats
    at: Floats  # seconds since 1970 where `dated`, else in the label's unit
    dated: bool

    def place(self, index: Any) -> Floats:
        """Where points lie on the axis."""
        found = np.interp(index, self.x, self.at)
        if not self.dated:
            return np.asarray(found)
        return np.asarray(_dates().date2num((found * 1e6).astype("datetime64[us]")))


@dataclass
class Panel:
    """One domain: its curve, its boundaries (index, at), and where people labelled changes."""

    title: str
    curve: Envelope = field(default_factory=Envelope)
    boundaries: list[tuple[int, int]] = field(default_factory=list)
    labels: Sequence[int] = ()

    def mark(self, index: int, at: int) -> None:
        """Note a boundary; beyond MARKS_MAX they are left out, as the title says then."""
        if len(self.boundaries) < MARKS_MAX:
            self.boundaries.append((index, at))
        else:
            self.title = f"{self.title.removesuffix(_MORE)}{_MORE}"


_MORE = f" (the first {MARKS_MAX} boundaries)"


def _drawable(values: Floats) -> tuple[Floats, str]:
    """Values as a plotting library can take them, and what they were divided by, as text."""
    finite = np.abs(values[np.isfinite(values)])
    top = float(finite.max()) if finite.size else 0.0
    if top < 1e15:
        return values, ""
    power = math.floor(math.log10(top))
    return values / 10.0**power, f" [10^{power}]"


def check_png(path: Path) -> None:
    """Raises what `save_png` would, as far as it can be told before there is anything to draw."""
    if importlib.util.find_spec("matplotlib") is None:
        raise NoPicturesError(NO_MATPLOTLIB)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def save_png(panels: Sequence[Panel], path: Path, axis: Axis | None = None) -> None:
    """Write the panels (the first PANELS_MAX) one below the other as PNG; without axis by index.

    Raises NoPicturesError without matplotlib, OSError when the file can't be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise NoPicturesError(NO_MATPLOTLIB) from None
    shown = panels[:PANELS_MAX]
    figure = Figure(figsize=(11, 0.7 + 2.6 * len(shown)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True):
        x, low, high, mean = panel.curve.curves()
        place = axis.place if axis is not None else np.asarray
        x = place(x)
        both, unit = _drawable(np.stack([low, high, mean]))
        if panel.curve.width > 1:
            axes.fill_between(x, both[0], both[1], color=CURVE, alpha=0.25, linewidth=0)
        axes.plot(x, both[2], color=CURVE, linewidth=0.9, marker="." if len(x) < 60 else None)
        for k, label in enumerate(panel.labels):
            axes.axvline(place(label), color=LABEL, linestyle=":", label=None if k else "labelled")
        for k, (index, at) in enumerate(panel.boundaries):
            axes.axvline(place(index), color=BOUNDARY, linewidth=1, label=None if k else "found")
            axes.axvspan(place(index), place(at), color=BOUNDARY, alpha=0.12, linewidth=0)
        if panel.labels or panel.boundaries:
            axes.legend(loc="upper left", fontsize="small")
        axes.set_title(panel.title, fontsize="medium", loc="left", parse_math=False)
        axes.set_ylabel(f"value{unit}")
    _label(figure.axes, axis)
    figure.savefig(path, format="png")


def _label(all_axes: Sequence[Any], axis: Axis | None) -> None:
    """Dates where times are such; the last panel says what the axis is."""
    if axis is not None and axis.dated:
        for axes in all_axes:
            locator = _dates().AutoDateLocator()
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(_dates().ConciseDateFormatter(locator))
    name = "index" if axis is None else axis.label
    all_axes[-1].set_xlabel(
        f"{name} (the shade behind a boundary lasts until it was declared)", parse_math=False
    )


def terminal(panels: Sequence[Panel], colour: bool) -> str:
    """The panels (the first PANELS_MAX) as text as wide as the terminal.

    Raises NoPicturesError without plotext.
    """
    try:
        import plotext
    except ImportError:
        raise NoPicturesError("a plot in the terminal needs plotext: pip install plotext") from None
    size = shutil.get_terminal_size((100, 24))
    parts = []
    for panel in panels[:PANELS_MAX]:
        figure = plotext.figure
        figure.clear()
        figure.plot_size(max(40, size.columns), max(12, min(18, size.lines - 4)))
        x, _, _, mean = panel.curve.curves()
        values, unit = _drawable(mean)
        there = np.isfinite(values)
        figure.title(f"{panel.title}{unit}: ┃ found, ┊ labelled")
        if there.any():
            figure.draw(figure.signal(x[there].tolist(), values[there].tolist(), marker="braille"))
        for label in panel.labels:
            figure.line(label, "vertical", pixel="green", style="dotted")
        for index, _ in panel.boundaries:
            figure.line(index, "vertical", pixel="red", style="heavy")
        text = str(figure.build())
        parts.append(text if colour else plotext.uncolorize(text))
        figure.clear()
    return "\n".join(parts)
