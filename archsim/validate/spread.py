"""The model's own error, from native runs of the layers that it was built with."""

from __future__ import annotations

from collections.abc import Iterable
from math import log
from pathlib import Path
from typing import Final

import numpy as np

from archsim.errors import input_error
from archsim.validate.points import Point

_FEWEST: Final = 10  # points that a method's percentiles need
_ENDS: Final = (5.0, 95.0)


def model_errors_of(points: Iterable[Point]) -> dict[str, tuple[float, float]]:
    """Return the 5th and 95th percentile of log(measured / predicted) of seen points, by method.

    ``all`` holds for methods with fewer than ten points.
    """
    ratios: dict[str, list[float]] = {}
    for p in points:
        if p.split == "seen" and p.predicted > 0.0 and p.measured > 0.0:
            for name in ("all", p.method):
                ratios.setdefault(name, []).append(log(p.measured / p.predicted))
    return {
        name: (float(low), float(high))
        for name, values in sorted(ratios.items())
        if len(values) >= _FEWEST
        for low, high in [np.percentile(values, _ENDS)]
    }


def write_model_errors(points: Iterable[Point], path: Path, *, source: str) -> Path:
    """Write what :mod:`archsim.analytic.interval` ships.

    Raises
    ------
    InputError
        There are too few seen points, or the file cannot be written.
    """
    found = model_errors_of(points)
    if not found:
        raise input_error("--spread", f"needs at least {_FEWEST} seen points")
    lines = [
        "# 5th and 95th percentile of log(measured / predicted) on the layers that ecm was built",
        "# with; made by: archsim validate native --spread archsim/analytic/model_error.yaml",
        "format: 1",
        f'source: "{source}"',
        "methods:",
        *(f"  {name}: [{low:.4f}, {high:.4f}]" for name, (low, high) in found.items()),
    ]
    try:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise input_error(str(path), f"cannot be written ({error.strerror})") from error
    return path
