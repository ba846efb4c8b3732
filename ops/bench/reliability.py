"""Reliability diagrams: the share that came true over the confidence, on the terminal and as PNG.

A diagram of perfect confidences is the diagonal (DeGroot and Fienberg 1983).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ops.bench.calibration import Judged

WHEN = ("before", "after")
COLOURS = ("#d1495b", "#1b6ca8")


def points(one: Judged, when: int) -> tuple[list[float], list[float]]:
    """(mean confidence, share that came true) of the bins that hold samples."""
    count, sure, true = one.bins[when]
    kept = [k for k, n in enumerate(count) if n]
    return [sure[k] for k in kept], [true[k] for k in kept]


def terminal(one: Judged, width: int = 64, height: int = 18) -> str:
    """One diagram as text, without colours."""
    import plotext

    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.title(f"{one.name}: came true over confidence; x before, o after")
    diagonal = [k / 100 for k in range(101)]  # also sets the limits, 0 and 1
    figure.draw(figure.signal(diagonal, diagonal, marker="braille"))
    for when, marker in enumerate("xo"):
        figure.draw(figure.signal(*points(one, when), marker=marker))
    text = str(plotext.uncolorize(str(figure.build())))
    figure.clear()
    return text


def picture(found: Sequence[Judged], path: Path) -> None:
    """All diagrams as one PNG. Raises ImportError without matplotlib, OSError if it can't write."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(4, len(found))
    rows = -(-len(found) // columns)
    figure: Any = Figure(figsize=(3.2 * columns, 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for k, one in enumerate(found):
        axes = figure.add_subplot(rows, columns, k + 1)
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
        for when, colour in enumerate(COLOURS):
            label = f"{WHEN[when]}, ECE {one.ece[when]:.3f}"
            axes.plot(*points(one, when), "o-", color=colour, markersize=4, label=label)
        axes.set(xlim=(0, 1), ylim=(0, 1), title=one.name, xlabel="confidence", ylabel="came true")
        axes.legend(fontsize="x-small", loc="upper left")
    figure.savefig(path, format="png", dpi=110)
