"""Predictions against rates that were published of machines that are not here.

Park et al., ICLR 2017, Fig. 5: effective rate of direct sparse convolution on an Atom and on two
Xeons, and the one point of a Xeon Phi that the text quotes. What was printed are dense FLOP over
the time inside the kernel function (SkimCaffe, sconv.hpp and its log line): so the products phase
is compared, without padding copies and barriers.

The paper does not say which markers are which layer, nor publish its matrices one by one; the guess
of the records and uniform patterns stand in. With real pruned weights at hand, their patterns are
held against the line through a series' points, at the sustained vector clock: shown, not scored.

Li, Park, Tang 2017 give one rate of sparse Winograd convolution on a Xeon that they do not name:
listed for the inferred machine, not scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Final, NamedTuple

import numpy as np

from archsim.errors import input_error
from archsim.machine import Machine
from archsim.machinefile import load_machine
from archsim.methods import get_method
from archsim.network import Layer, Network, load_network
from archsim.predictors import MODELS
from archsim.request import make_request
from archsim.result import Result
from archsim.sparsity import Sparsity, load_sparsity
from archsim.validate.cases import DATA_VARIABLE, real_files
from archsim.validate.points import Point, Suite, summarise
from archsim.validate.ranking import rank_correlation
from archsim.yamlfile import read_yaml

#: What the paper's code ran; which of its variants is decided by SIMD width (row_variants.py).
SCHEDULE: Final = "row"


def published(*, model: str = "ecm:counted") -> Suite:
    """Hold a model against the rates published by Park et al.

    Parameters
    ----------
    model : str
        ``ecm`` (traffic by rule), ``ecm:counted`` or ``simulator``.

    Returns
    -------
    Suite
        Points in effective GFLOP/s. Scored: the series whose layers can be guessed, with uniform
        patterns at the nominal clock, and the Xeon Phi's point.
    """
    if model not in MODELS:
        raise input_error("model", "unknown model", found=model, allowed=", ".join(MODELS))
    records = _records("park2017_measured.yaml")
    network = load_network(str(records["network"]))
    points = [
        *(_uniform(m, model) for m in _measured(records, network)),
        _winograd(model),
    ]
    notes = [
        "series A: two points whose layer cannot be told (conv2 or one of 13x13): not scored",
        "rates count the time inside the kernel function: the products phase is compared",
    ]
    real = list(_real(records, model))
    if not real:
        notes.append(f"real patterns skipped: {DATA_VARIABLE} names no folder with pruned weights")
    return Suite("published", (*points, *real), tuple(notes), summary=_summary(points))


def _records(name: str) -> Mapping[str, Any]:
    place = resources.files("archsim") / "published" / name
    with resources.as_file(place) as path:
        found: Mapping[str, Any] = read_yaml(path).plain()
        return found


def scored_on(machine: Machine, of: str, model: str) -> list[Point]:
    """Return the scored points of the machine named ``of``, predicted for ``machine`` instead."""
    records = _records("park2017_measured.yaml")
    network = load_network(str(records["network"]))
    return [
        _uniform(m, model, machine)
        for m in _measured(records, network)
        if m.scored and m.series["machine"] == of
    ]


def scored_machines() -> list[str]:
    """Return the machines with scored points."""
    records = _records("park2017_measured.yaml")
    network = load_network(str(records["network"]))
    found = (str(m.series["machine"]) for m in _measured(records, network) if m.scored)
    return list(dict.fromkeys(found))


class _Measured(NamedTuple):
    layer: Layer
    series: Mapping[str, Any]
    density: float
    rate: float
    scored: bool


def _measured(records: Mapping[str, Any], network: Network) -> Iterator[_Measured]:
    """Yield what was measured; scored where the layer is told or can be guessed."""
    guesses = {s["series"]: s["layer_guess"] for s in records["series"] if "layer_guess" in s}
    for series in records["series"]:
        guess = series.get("layer_guess")
        layer = network[guess or "conv2"]
        for density, rate in series["points"]:
            yield _Measured(layer, series, float(density), float(rate), guess is not None)
    for entry in records["headline_points"]:
        series, layer = {**entry, "figure": "fig5c"}, network[guesses[entry["series"]]]
        rate = float(entry["effective_gflops"])
        yield _Measured(layer, series, float(entry["density"]), rate, scored=True)


def _uniform(measured: _Measured, model: str, machine: Machine | None = None) -> Point:
    return _compare(
        measured.layer, measured.series, Sparsity(measured.density), measured.rate, model,
        clock="nominal", variant="uniform", scored=measured.scored, machine=machine,
    )  # fmt: skip


def _real(records: Mapping[str, Any], model: str) -> Iterator[Point]:
    """Yield real matrices beside the line through the points of their layer's series."""
    network = load_network(str(records["network"]))
    for path in real_files(network.name):
        sparsities = load_sparsity(path, network)
        for series in records["series"]:
            guess = series.get("layer_guess")
            if guess is None:
                continue
            sparsity = sparsities[guess]
            rate = rate_on_line(series["points"], sparsity.density)
            if rate is not None:
                yield _compare(
                    network[guess], series, sparsity, rate, model, clock="sustained",
                    variant=path.stem, scored=False,
                )  # fmt: skip


def rate_on_line(points: Sequence[Sequence[float]], density: float) -> float | None:
    """Return the rate at a density between a series' points, straight in logarithms; None outside.

    Effective rates fall about as 1 / density, which is straight there.
    """
    x, y = np.log(np.array(points, dtype=np.float64)).T
    if not density > 0.0 or not x[0] <= np.log(density) <= x[-1]:
        return None
    return float(np.exp(np.interp(np.log(density), x, y)))


def _winograd(model: str) -> Point:
    """Return the layer with the highest predicted rate: the paper says "up to", of some layer."""
    record = _records("li2017_winograd.yaml")
    machine = load_machine(str(record["machine"]))
    sparsity = Sparsity(1.0 - float(record["sparsity"]), domain="winograd")
    found = [
        _predict(layer, machine, sparsity, model, method=str(record["method"]),
                 batch=machine.total_threads)
        for layer in load_network(str(record["network"]))
        if get_method(str(record["method"])).reason(layer, sparsity) is None
    ]  # fmt: skip
    best = max(found, key=lambda r: r.effective_flop / (r.seconds or np.inf))
    return _point(best, best.seconds or np.inf, "abstract", float(record["effective_gflops"]),
                  variant="uniform", scored=False)  # fmt: skip


def _compare(
    layer: Layer, series: Mapping[str, Any], sparsity: Sparsity, rate: float, model: str, *,
    clock: str, variant: str, scored: bool, machine: Machine | None = None,
) -> Point:  # fmt: skip
    """Hold the products phase against a rate of the paper's kernel."""
    where = machine or load_machine(str(series["machine"]))
    found = _predict(
        layer, where, sparsity, model, method="direct_sparse",
        schedule=SCHEDULE, batch=int(series["batch"]), clock=clock,
    )  # fmt: skip
    products = next(phase.seconds for phase in found.phases if phase.name == "products")
    figure = f"{series['figure']} {series['series']}"
    return _point(found, products, figure, rate, variant=variant, scored=scored)


def _point(
    found: Result, seconds: float, figure: str, rate: float, *, variant: str, scored: bool
) -> Point:
    return Point(
        figure=figure, machine=found.machine, network=found.network, layer=found.layer,
        method=found.method, sparsity=1.0 - found.density, quantity="effective_gflops",
        predicted=found.effective_flop / seconds / 1e9, measured=rate, unit="GFLOP/s",
        tolerance=None, tolerance_kind="relative", scored=scored, variant=variant, split="unseen",
        schedule=found.schedule, density_domain=found.density_domain, batch=found.batch,
        threads=found.threads,
    )  # fmt: skip


def _predict(
    layer: Layer, machine: Machine, sparsity: Sparsity, model: str, *, method: str, batch: int,
    schedule: str = "auto", clock: str = "sustained",
) -> Result:  # fmt: skip
    request = make_request(
        layer, machine, method=method, density=None, pattern=sparsity, density_domain="spatial",
        schedule=schedule, partition="nnz", batch=batch, threads=None, clock=clock, isa=None,
        seed=0, model="ecm",
    )  # fmt: skip
    return MODELS[model](request)


def _summary(points: Sequence[Point]) -> dict[str, Any]:
    """Errors, order and the ratio of the two machines, point by point."""
    machines = dict.fromkeys(p.machine for p in points)
    by_machine = {}
    for machine in machines:
        here = [p for p in points if p.machine == machine and p.scored]
        by_machine[machine] = summarise(here) | {
            "rank_correlation": rank_correlation(
                [p.predicted for p in here], [p.measured for p in here]
            )
        }
    return {"by_machine": by_machine, "ratio_error": _ratio_error(points)}


def _ratio_error(points: Sequence[Point]) -> float | None:
    """Median error of the Xeon's rate over the Atom's at the same point of the same series."""
    found: dict[tuple[str, int], dict[str, Point]] = {}
    place: dict[tuple[str, str], int] = {}
    for p in points:
        if p.scored and p.figure[:5] in ("fig5a", "fig5b"):
            series = p.figure.split()[-1]
            index = place[p.machine, series] = place.get((p.machine, series), -1) + 1
            found.setdefault((series, index), {})[p.figure[:5]] = p
    errors = [
        abs((b.predicted / a.predicted) / (b.measured / a.measured) - 1.0)
        for a, b in ((pair["fig5a"], pair["fig5b"]) for pair in found.values() if len(pair) == 2)
    ]
    return float(np.median(errors)) if errors else None
