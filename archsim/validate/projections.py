"""``park`` against the projections that its paper draws."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

from archsim.analytic import park
from archsim.network import Layer, load_network
from archsim.validate.points import Point, Suite
from archsim.yamlfile import read_yaml

# Digitising a vector figure is good to about 0.3 % of full scale (note on the records); a point
# passes within 0.02 of the speedup or 1 % of it, an edge of a shaded range within 0.002.
SPEEDUP_TOLERANCE: Final = 0.02
SPEEDUP_RELATIVE_TOLERANCE: Final = 0.01
DENSITY_TOLERANCE: Final = 0.002


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
