"""Labels of points that do not lie on each other, nor on other points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import Final

from archsim.report.panels import Figure

_CHARACTER: Final = 6.2  # pixels of a character and of a line, in the small type of labels
_LINE: Final = 13.0
_MARKER: Final = 6.0  # half a marker with a little air


@dataclass(frozen=True, slots=True)
class _Box:
    """A rectangle, in pixels."""

    left: float
    right: float
    bottom: float
    top: float

    def meets(self, other: _Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )


def place_labels(
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    axes: tuple[Figure, Figure],
    size: tuple[float, float],
) -> list[tuple[str, str]]:
    """Return text and plotly position of each point's label: no text where there is no room.

    Parameters
    ----------
    points : sequence of (x, y)
        Points that must stay free; the first ``len(texts)`` of them want labels.
    axes : (x, y)
        Logarithmic axes in plotly's form.
    size : (width, height)
        Of the panel, pixels.
    """
    pixels = [
        tuple(
            (log10(value) - axis["range"][0]) / (axis["range"][1] - axis["range"][0]) * length
            for value, axis, length in zip(point, axes, size, strict=True)
        )
        for point in points
    ]
    taken = [_Box(x - _MARKER, x + _MARKER, y - _MARKER, y + _MARKER) for x, y in pixels]
    panel = _Box(0.0, size[0], 0.0, size[1])
    found = []
    for (x, y), text in zip(pixels, texts, strict=False):
        for position, box in _candidates(x, y, _CHARACTER * len(text)).items():
            inside = box.left >= panel.left and box.right <= panel.right
            if inside and not any(box.meets(other) for other in taken):
                taken.append(box)
                found.append((text, position))
                break
        else:
            found.append(("", "middle right"))
    return found


def _candidates(x: float, y: float, width: float) -> dict[str, _Box]:
    half, line = width / 2, _LINE / 2
    side, over = _MARKER, _MARKER + _LINE
    return {
        "middle right": _Box(x + side, x + side + width, y - line, y + line),
        "middle left": _Box(x - side - width, x - side, y - line, y + line),
        "top center": _Box(x - half, x + half, y + _MARKER, y + over),
        "bottom center": _Box(x - half, x + half, y - over, y - _MARKER),
    }
