"""Accuracy against measured time as a small SVG, a dot for each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from benchmarks.proof.tables import label

WIDTH: Final = 720
HEIGHT: Final = 560
LEFT: Final = 64
RIGHT: Final = 190
TOP: Final = 24
BOTTOM: Final = 52
#: of marks, about their middle: a circle, then as paths a square, a triangle, a diamond
_SHAPES: Final = ("", "m-4 -4h8v8h-8", "m0 -5l5 9h-10", "m0 -6l5 6l-5 6l-5 -6")
#: colours that colour-blind readers can tell apart (Okabe and Ito, 2008)
COLOURS: Final = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999",
)  # fmt: skip


def scatter(document: Mapping[str, Any], model: str) -> str:
    """Return the runs of a model: convolution time in microseconds across, test accuracy up."""
    times = document["times"]["models"][model]
    runs = [
        run for run in document["runs"].values() if run["model"] == model and run["run"] in times
    ]
    names = list(dict.fromkeys(label(run) for run in runs))
    xs = [times[run["run"]]["conv_s"] * 1e6 for run in runs]
    ys = [100 * run["accuracy"] for run in runs]
    across = _Scale(0.0, max(xs) * 1.05, LEFT, WIDTH - RIGHT)
    up = _Scale(min(ys) - 0.5, max(ys) + 0.5, HEIGHT - BOTTOM, TOP)
    parts = [_axes(across, up)]
    for run, x, y in zip(runs, xs, ys, strict=True):
        colour = COLOURS[names.index(label(run)) % len(COLOURS)]
        shape = names.index(label(run)) // len(COLOURS)
        parts.append(_mark(across.at(x), up.at(y), colour, shape, escape(run["run"])))
    for index, name in enumerate(names):
        y = TOP + 8 + 16 * index
        parts.append(
            _mark(WIDTH - RIGHT + 16, y, COLOURS[index % len(COLOURS)], index // len(COLOURS), name)
            + f'<text x="{WIDTH - RIGHT + 26}" y="{y + 4}">'
            + f"{escape(name.partition('-')[2])}</text>"
        )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12" role="img">\n'
        f"<title>{escape(model)}: accuracy against time of all convolutions</title>\n"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
    )


class _Scale:
    """From values to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self._start, self._end = low, high, start, end

    def at(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self._start + share * (self._end - self._start), 1)

    def ticks(self, steps: Sequence[float]) -> list[float]:
        step = next((s for s in steps if (self.high - self.low) / s <= 8), steps[-1])
        first = int(self.low // step) + (self.low % step > 0)
        return [step * n for n in range(first, int(self.high // step) + 1)]


def _axes(across: _Scale, up: _Scale) -> str:
    floor = HEIGHT - BOTTOM
    parts = [f'<path d="M{LEFT} {TOP}V{floor}H{WIDTH - RIGHT}" fill="none" stroke="#444"/>']
    for value in across.ticks((1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)):
        x = across.at(value)
        parts.append(f'<path d="M{x} {floor}v4" stroke="#444"/>')
        parts.append(f'<text x="{x}" y="{floor + 18}" text-anchor="middle">{value:g}</text>')
    for value in up.ticks((0.5, 1, 2, 5, 10, 20)):
        y = up.at(value)
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{value:g} %</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">'
        "all convolutions, measured, us</text>"
    )
    parts.append(f'<text x="{LEFT}" y="{TOP - 8}">test accuracy</text>')
    return "\n".join(parts)


def _mark(x: float, y: float, colour: str, shape: int, title: str) -> str:
    inner = f"<title>{title}</title>"
    if shape % len(_SHAPES):
        path = _SHAPES[shape % len(_SHAPES)]
        return f'<path d="M{x:.1f} {y:.1f}{path}z" fill="{colour}">{inner}</path>'
    return f'<circle cx="{x}" cy="{y}" r="4.5" fill="{colour}" fill-opacity="0.85">{inner}</circle>'
