"""A line plot as SVG text, with nothing to install."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 80, 150, 40, 50
COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#8f5ea2", "#c08a1e")


def _ticks(low: float, high: float) -> list[float]:
    """At most nine round numbers within [low, high]."""
    span = max(high - low, 1e-9)
    size = 10.0 ** math.floor(math.log10(span))
    step = next(part * size for part in (0.1, 0.2, 0.5, 1.0, 2.0) if span / (part * size) <= 8)
    first = int(low // step)
    return [k * step for k in range(first, int(high // step) + 1) if k * step >= low]


def svg(
    title: str, across: str, up: str, lines: Mapping[str, Sequence[tuple[float, float]]]
) -> str:
    """One line per name through its (x, y) points, with axes, and names at the lines' ends."""
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    x0, x1, y0, y1 = min(xs), max(xs), min(0.0, *ys), max(ys)

    def at(x: float, y: float) -> tuple[float, float]:
        px = LEFT + (x - x0) / max(x1 - x0, 1e-9) * (WIDTH - LEFT - RIGHT)
        py = HEIGHT - BOTTOM - (y - y0) / max(y1 - y0, 1e-9) * (HEIGHT - TOP - BOTTOM)
        return px, py

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">'
        f"{escape(across)}</text>",
        f'<text transform="translate(18 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(up)}</text>",
    ]
    for y in _ticks(y0, y1):
        px, py = at(x0, y)
        parts.append(f'<path d="M{px:.1f} {py:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{px - 8:.1f}" y="{py + 4:.1f}" text-anchor="end">{y:,.0f}</text>')
    for x in _ticks(x0, x1):
        px, py = at(x, y0)
        parts.append(f'<text x="{px:.1f}" y="{py + 18:.1f}" text-anchor="middle">{x:,.0f}</text>')
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
