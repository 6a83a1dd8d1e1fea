"""Small panels on one plotly figure: a grid of equal axes, titles, one legend, one palette.

Figures are plain dictionaries in plotly's JSON form.  Colours that must follow the page (text,
grid lines) are left out and put in by the page's script.  Texts go through :func:`escape`:
plotly reads some HTML in them.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log10
from typing import Any, Final

Figure = dict[str, Any]

# Okabe and Ito's palette, safe for colour-blind readers.  Four machines and two sparse methods
# share no colour (more of them differ by dash or symbol too); grey is what is dense, or no data.
MACHINE_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
METHOD_COLOURS: Final = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00")
DENSE_COLOURS: Final = ("#8A8A8A", "#B0B0B0", "#6A6A6A")
NEUTRAL: Final = "#8A8A8A"
DASHES: Final = ("solid", "dash", "dot", "dashdot")
SYMBOLS: Final = ("circle", "square", "diamond", "triangle-up", "cross", "star")

_WIDTH: Final = 1120  # pixels; what the page gives to a figure
_TOP: Final = 64
_LEFT: Final = 58
_RIGHT: Final = 12


def escape(text: str) -> str:
    """Return ``text`` so that plotly shows it as it is."""
    return html.escape(text, quote=False)


def rounded(value: float) -> float:
    """Return ``value`` with five digits: figures need no more, and the page stays small."""
    return float(f"{value:.5g}")


@dataclass
class Panels:
    """A figure of panels, row by row, under one legend; axes are alike, but for ``own_axes``."""

    titles: Sequence[str]
    columns: int
    panel_height: int
    x_axis: Figure
    y_axis: Figure
    gap: tuple[int, int] = (34, 62)  # pixels between columns and between rows
    bottom: int = 52  # pixels under the last row
    x_each: bool = False  # every panel labels its own x axis
    own_axes: dict[int, tuple[Figure, Figure]] = field(default_factory=dict)  # x, y by panel
    data: list[Figure] = field(default_factory=list)
    shapes: list[Figure] = field(default_factory=list)
    _in_legend: set[str] = field(default_factory=set)

    def trace(self, panel: int, trace: Figure, *, legend: str | None = None) -> None:
        """Add a trace to a panel; ``legend`` names what it belongs to, in all panels alike."""
        axes = {"xaxis": f"x{_suffix(panel)}", "yaxis": f"y{_suffix(panel)}"}
        entry: Figure = {"showlegend": False}
        if legend is not None:
            entry = {
                "name": escape(legend), "legendgroup": escape(legend),
                "showlegend": legend not in self._in_legend,
            }  # fmt: skip
            self._in_legend.add(legend)
        self.data.append({**trace, **axes, **entry})

    def line(self, panel: int, **shape: Any) -> None:
        """Add a straight line to a panel; coordinates default to the panel's edges."""
        domain = {
            "xref": f"x{_suffix(panel)}" + ("" if "x0" in shape else " domain"), "x0": 0, "x1": 1,
            "yref": f"y{_suffix(panel)}" + ("" if "y0" in shape else " domain"), "y0": 0, "y1": 1,
        }  # fmt: skip
        style = {"color": NEUTRAL, "width": 1, **shape.pop("line", {})}
        self.shapes.append({"type": "line", "layer": "below", **domain, **shape, "line": style})

    def figure(self) -> Figure:
        """Return the figure."""
        count, columns = len(self.titles), min(self.columns, len(self.titles))
        rows = ceil(count / columns)
        inner_width = _WIDTH - _LEFT - _RIGHT
        inner_height = rows * self.panel_height + (rows - 1) * self.gap[1]
        width = (inner_width - (columns - 1) * self.gap[0]) / columns
        layout: Figure = {
            "height": inner_height + _TOP + self.bottom,
            "margin": {"l": _LEFT, "r": _RIGHT, "t": _TOP, "b": self.bottom},
            "legend": {
                "orientation": "h", "x": 0, "xanchor": "left", "y": 1 + 26 / inner_height,
                "yanchor": "bottom", "tracegroupgap": 0,
            },
            "hovermode": "closest", "shapes": self.shapes, "annotations": [],
        }  # fmt: skip
        for panel, title in enumerate(self.titles):
            row, column = divmod(panel, columns)
            left = column * (width + self.gap[0]) / inner_width
            top = 1 - row * (self.panel_height + self.gap[1]) / inner_height
            domain_x = [left, min(1.0, left + width / inner_width)]
            domain_y = [max(0.0, top - self.panel_height / inner_height), top]
            own = panel in self.own_axes
            x_axis, y_axis = self.own_axes.get(panel, (self.x_axis, self.y_axis))
            lowest = own or self.x_each or panel + columns >= count
            axis = _suffix(panel)
            layout[f"xaxis{axis}"] = _axis(x_axis, domain_x, f"y{axis}", labels=lowest)
            layout[f"yaxis{axis}"] = _axis(y_axis, domain_y, f"x{axis}", labels=own or column == 0)
            layout["annotations"].append(_title(title, domain_x[0], top))
        return {"data": self.data, "layout": layout}


def _suffix(panel: int) -> str:
    """Return what plotly calls the axes of a panel: x, x2, x3."""
    return str(panel + 1) if panel else ""


def _axis(axis: Figure, domain: Sequence[float], anchor: str, *, labels: bool) -> Figure:
    found = {
        "domain": [round(end, 5) for end in domain], "anchor": anchor, "zeroline": False, **axis
    }  # fmt: skip
    if not labels:
        found = {**found, "showticklabels": False, "title": {"text": ""}}
    return found


def _title(text: str, x: float, y: float) -> Figure:
    return {
        "text": text, "x": x, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left",
        "yanchor": "bottom", "showarrow": False, "align": "left",
    }  # fmt: skip


def log_ticks(values: Iterable[float], suffix: str = "") -> Figure:
    """Return a logarithmic axis from below to above ``values``, ticks at 1, 2 and 5."""
    known = [value for value in values if value > 0]
    low, high = (min(known) / 1.15, max(known) * 1.15) if known else (0.5, 2.0)
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 3e2 else (1,)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    return {
        "type": "log", "range": [rounded(log10(low)), rounded(log10(high))],
        "tickvals": [rounded(tick) for tick in ticks],
        "ticktext": [f"{tick:.12g}{suffix}" for tick in ticks],
    }  # fmt: skip
