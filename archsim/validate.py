"""Predictions against what others published (and, later, against native runs).

A suite is a list of points, each with what was predicted and what the witness says.  Errors are
fractions of the witness's value; summaries count scored points only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Any, Final, Literal

import numpy as np

from archsim.analytic import park
from archsim.errors import input_error
from archsim.network import Layer, load_network
from archsim.yamlfile import read_yaml

SCHEMA: Final = 1

# Digitising a vector figure is good to about 0.3 % of full scale (note on the records); a point
# passes within 0.02 of the speedup or 1 % of it, an edge of a shaded range within 0.002.
SPEEDUP_TOLERANCE: Final = 0.02
SPEEDUP_RELATIVE_TOLERANCE: Final = 0.01
DENSITY_TOLERANCE: Final = 0.002


@dataclass(frozen=True, slots=True)
class Point:
    """One prediction beside one witness.

    ``tolerance`` is in ``unit`` when ``tolerance_kind`` is absolute, a fraction when relative.
    ``split`` says whether the model's parameters were chosen with this point in view (seen).
    """

    figure: str
    machine: str
    network: str
    layer: str
    method: str
    sparsity: float | None
    quantity: str
    predicted: float
    measured: float
    unit: str
    tolerance: float | None
    tolerance_kind: Literal["absolute", "relative"]
    scored: bool
    variant: str
    split: Literal["seen", "unseen"]

    @property
    def error(self) -> float | None:
        """Signed error as a fraction of the witness's value; None where that is zero."""
        return (self.predicted - self.measured) / self.measured if self.measured else None

    @property
    def passed(self) -> bool | None:
        """Whether the point is within its tolerance; None where it is not scored."""
        if not self.scored or self.tolerance is None:
            return None
        off = abs(self.predicted - self.measured)
        allowed = self.tolerance * (
            abs(self.measured) if self.tolerance_kind == "relative" else 1.0
        )
        return off <= allowed

    def as_dict(self) -> dict[str, Any]:
        """Return the machine-readable form."""
        return {**asdict(self), "error": self.error, "passed": self.passed}


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite that ran."""

    name: str
    points: tuple[Point, ...]
    notes: tuple[str, ...] = field(default=())

    def as_document(self) -> dict[str, Any]:
        """Return the JSON document of schema 1."""
        summary = _summary(self.points)
        summary["by_split"] = {
            split: _summary([p for p in self.points if p.split == split])
            for split in ("seen", "unseen")
        }
        methods = dict.fromkeys(p.method for p in self.points if p.scored)
        summary["by_method"] = {
            method: _summary([p for p in self.points if p.method == method]) for method in methods
        }
        return {
            "schema": SCHEMA,
            "suite": self.name,
            "points": [p.as_dict() for p in self.points],
            "summary": summary,
            "notes": list(self.notes),
        }


def _summary(points: Iterable[Point]) -> dict[str, Any]:
    scored = [p for p in points if p.scored]
    errors = np.array([p.error for p in scored if p.error is not None])
    found: dict[str, Any] = {
        "points": len(scored),
        "failed": sum(p.passed is False for p in scored),
        "median_abs_error": None,
        "p90_abs_error": None,
        "max_abs_error": None,
        "mean_signed_error": None,
        "coverage": None,
    }
    if errors.size:
        size = np.abs(errors)
        found["median_abs_error"] = float(np.median(size))
        found["p90_abs_error"] = float(np.percentile(size, 90))
        found["max_abs_error"] = float(size.max())
        found["mean_signed_error"] = float(errors.mean())
    return found


def projections() -> Suite:
    """Compare ``park`` with the projections drawn in Fig. 3 and Fig. 4 of the ICLR 2017 paper."""
    with resources.as_file(
        resources.files("archsim") / "published" / "park2017_projections.yaml"
    ) as path:
        records = read_yaml(path).plain()
    parameters = {
        figure: park.ParkParameters(
            sgemm_flops_per_s=float(values["sgemm_flops_per_s"]),
            stream_bytes_per_s=float(values["stream_bytes_per_s"]),
            alpha=float(values["alpha"]),
            beta=float(values["beta"]),
        )
        for figure, values in records["parameters"].items()
    }
    entries = [*records["curves"], *records["ranges"]]
    networks = {name: load_network(name) for name in {entry["network"] for entry in entries}}
    points: list[Point] = []
    for entry in entries:
        layer = networks[entry["network"]][entry["layer"]]
        make = _curve_points if "points" in entry else _range_points
        points += make(entry, layer, parameters[entry["figure"]])
    return Suite(
        "projections",
        tuple(points),
        notes=(
            "parameters of each figure were read from the figure itself, so every point is seen",
            "the upper edge of the shaded ranges is the paper's constant 0.30: shown, not scored",
        ),
    )


def _curve_points(
    curve: Mapping[str, Any], layer: Layer, parameters: park.ParkParameters
) -> list[Point]:
    lowered = curve["method"] == "lowered_sparse"
    points = []
    for sparsity, measured in curve["points"]:
        predicted = float(park.speedup(layer, 1.0 - sparsity, parameters, lowered=lowered))
        points.append(
            Point(
                figure=curve["figure"], machine=curve["machine"], network=curve["network"],
                layer=curve["layer"], method=curve["method"], sparsity=float(sparsity),
                quantity="speedup_over_dense", predicted=predicted, measured=float(measured),
                unit="x",
                tolerance=max(SPEEDUP_TOLERANCE, SPEEDUP_RELATIVE_TOLERANCE * float(measured)),
                tolerance_kind="absolute", scored=True, variant="published", split="seen",
            )
        )  # fmt: skip
    return points


def _range_points(
    edge: Mapping[str, Any], layer: Layer, parameters: park.ParkParameters
) -> list[Point]:
    low, _ = park.useful_window(layer, parameters)

    def point(quantity: str, predicted: float, measured: float, scored: bool) -> Point:
        return Point(
            figure=edge["figure"], machine=edge["machine"], network=edge["network"],
            layer=edge["layer"], method="direct_sparse", sparsity=None, quantity=quantity,
            predicted=predicted, measured=measured, unit="density",
            tolerance=DENSITY_TOLERANCE if scored else None, tolerance_kind="absolute",
            scored=scored, variant="published", split="seen",
        )  # fmt: skip

    upper = 0.30  # the paper's constant for the Xeon, about 1 / alpha (ICLR 2017, section 2.2)
    return [
        point("useful_density_low", low, float(edge["density_low"]), bool(edge["scored"])),
        point("useful_density_high", upper, float(edge["density_high"]), False),
    ]


SUITES: Final[Mapping[str, Callable[[], Suite]]] = {"projections": projections}


def run_suite(name: str) -> Suite:
    """Run a suite by name.

    Raises
    ------
    InputError
        Unknown suite.
    """
    if name not in SUITES:
        raise input_error(
            "suite", "unknown suite", found=name, allowed=", ".join(SUITES), near=(name, SUITES)
        )
    return SUITES[name]()
