"""A picture of a few lines over a logarithmic axis, as SVG that reads on light and on dark."""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 56, 56
INSET = 32  # between the sides and the first and last power of ten
COLOURS = ("#1f77b4", "#e07b00", "#2a9d4e", "#b23a8e")  # readable on white and on black

STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #333 }
.title { font-size: 15px; font-weight: 600 }
.grid { stroke: #8884; stroke-width: 1 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } }"""


@dataclass(frozen=True)
class Line:
    """Points from left to right: (x, y), both above 0."""

    name: str
    points: list[tuple[float, float]]


def draw(title: str, *, across: str, up: str, lines: list[Line]) -> str:
    """Draw the lines: x from one power of ten to another, y from 0 to a round number."""
    xs = [x for line in lines for x, _ in line.points]
    first, last = math.floor(math.log10(min(xs))), math.ceil(math.log10(max(xs)))
    step = _step(max(y for line in lines for _, y in line.points))
    ticks = math.ceil(max(y for line in lines for _, y in line.points) / step + 0.2)

    def place(x: float, y: float) -> tuple[float, float]:
        width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        share = (math.log10(x) - first) / max(1, last - first)
        return LEFT + INSET + share * (width - 2 * INSET), HEIGHT - BOTTOM - y / (ticks * step) * height

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        _text(LEFT, 22, title, "start", "title"),
        _text(LEFT, 42, up, "start"),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, across, "middle"),
    ]
    for tick in range(ticks + 1):
        _, height = place(10**first, tick * step)
        parts.append(f'<path class="grid" d="M{LEFT} {height:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(_text(LEFT - 8, height + 4, f"{tick * step:g}", "end"))
    for power in range(first, last + 1):
        middle, bottom = place(10**power, 0)
        parts.append(f'<path class="grid" d="M{middle:.1f} {TOP}V{bottom:.1f}"/>')
        parts.append(_text(middle, bottom + 20, f"{10**power:,}", "middle"))
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        at = [place(x, y) for x, y in line.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        for (x, y), (_, value) in zip(at, line.points, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
            parts.append(_text(x, y - 10, f"{value:.2f}", "middle"))
        parts.append(_text(WIDTH - RIGHT, 42 - 20 * number, line.name, "end"))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    of_kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{of_kind}>{escape(text)}</text>'


def _step(most: float) -> float:
    """A round distance of ticks, so that there are about five."""
    rough = most / 4
    power = 10.0 ** math.floor(math.log10(rough))
    return min((1, 2, 5, 10), key=lambda one: abs(one * power - rough)) * power
