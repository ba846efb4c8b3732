"""A line plot as SVG text, with nothing to install."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 80, 150, 40, 50
OUTSIDE = 0.05  # of a power of ten, by which a point may lie outside of the axis
COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#8f5ea2", "#c08a1e")

Lines = Mapping[str, Sequence[tuple[float, float]]]  # name -> its (x, y) points


def _ticks(low: float, high: float) -> list[float]:
    """At most nine round numbers within [low, high]."""
    span = max(high - low, 1e-9)
    size = 10.0 ** math.floor(math.log10(span))
    step = next(part * size for part in (0.1, 0.2, 0.5, 1.0, 2.0) if span / (part * size) <= 8)
    first = int(low // step)
    return [k * step for k in range(first, int(high // step) + 1) if k * step >= low]


@dataclass(frozen=True)
class Axis:
    """What an axis is called, what it reaches from and to, and its marks: where, and the text."""

    name: str
    low: float
    high: float
    marks: Sequence[tuple[float, str]]


def svg(title: str, across: str, up: str, lines: Lines) -> str:
    """One line per name through its (x, y) points, with axes, and names at the lines' ends."""
    xs, ys = _spans(lines)
    ys = (min(0.0, ys[0]), ys[1])
    axes = [
        Axis(name, *span, [(at, f"{at:,.0f}") for at in _ticks(*span)])
        for name, span in ((across, xs), (up, ys))
    ]
    return _drawn(title, axes[0], axes[1], lines)


def loglog(title: str, across: str, up: str, lines: Lines) -> str:
    """As `svg`, both axes logarithmic, marked at powers of ten. All numbers are above zero."""
    logs = {
        name: [(math.log10(x), math.log10(y)) for x, y in points] for name, points in lines.items()
    }
    axes = []
    for name, span in zip((across, up), _spans(logs), strict=True):
        low, high = math.floor(span[0] + OUTSIDE), math.ceil(span[1] - OUTSIDE)
        marks = [(float(k), f"{10.0**k:,.0f}") for k in range(low, high + 1)]
        axes.append(Axis(name, low, high, marks))
    return _drawn(title, axes[0], axes[1], logs)


def _spans(lines: Lines) -> tuple[tuple[float, float], tuple[float, float]]:
    """The least and the largest x, and y."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    return (min(xs), max(xs)), (min(ys), max(ys))


def _drawn(title: str, across: Axis, up: Axis, lines: Lines) -> str:
    def at(x: float, y: float) -> tuple[float, float]:
        right = (x - across.low) / max(across.high - across.low, 1e-9)
        above = (y - up.low) / max(up.high - up.low, 1e-9)
        px = LEFT + right * (WIDTH - LEFT - RIGHT)
        return px, HEIGHT - BOTTOM - above * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">'
        f"{escape(across.name)}</text>",
        f'<text transform="translate(18 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(up.name)}</text>",
    ]
    for y, text in up.marks:
        px, py = at(across.low, y)
        parts.append(f'<path d="M{px:.1f} {py:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{px - 8:.1f}" y="{py + 4:.1f}" text-anchor="end">{text}</text>')
    for x, text in across.marks:
        px, py = at(x, up.low)
        parts.append(f'<text x="{px:.1f}" y="{py + 18:.1f}" text-anchor="middle">{text}</text>')
    ends: list[float] = []
    for k, (name, points) in enumerate(lines.items()):
        colour = COLOURS[k % len(COLOURS)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(x, y) for x, y in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        px, py = at(*points[-1])
        while any(abs(py - other) < 14 for other in ends):
            py -= 14
        ends.append(py)
        parts.append(
            f'<text x="{px + 8:.1f}" y="{py + 4:.1f}" fill="{colour}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
