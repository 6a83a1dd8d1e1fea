"""What each layer of a network may be: dense, or sparse at a level of the grid where that pays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from archsim.errors import input_error
from archsim.network import Layer
from archsim.pruning.allocation import Choices
from archsim.pruning.sensitivity import Sensitivity
from archsim.pruning.table import LayerTimes, TimeTable
from archsim.sparsity import Domain, Sparsity


@dataclass(frozen=True, slots=True)
class Option:
    """One choice of a layer; ``sparsity`` 0 is dense."""

    sparsity: float
    domain: Domain
    method: str
    schedule: str


@dataclass(frozen=True, slots=True)
class LayerChoices:
    """A layer with its options, and their costs in the same order."""

    times: LayerTimes
    options: tuple[Option, ...]
    costs: Choices
    why_dense: str | None  # no sparse option, because


def weight_bytes(layer: Layer, sparsity: float, domain: Domain) -> float:
    """Return bytes of a layer's weights: as they are at sparsity 0, else as CSR."""
    if sparsity == 0.0:
        return float(layer.dense_bytes)
    return Sparsity(1.0 - sparsity, domain=domain).csr_bytes(layer)


def layer_choices(
    times: LayerTimes, table: TimeTable, sensitivity: Sensitivity, pinned: float | None = None
) -> LayerChoices:
    """Return the options of a layer: none is slower than the best dense method.

    Parameters
    ----------
    times : LayerTimes
    table : TimeTable
    sensitivity : Sensitivity
        Levels beyond the end of a curve are no options; methods of a domain without a curve are
        none either.
    pinned : float, optional
        The only sparsity allowed.

    Raises
    ------
    InputError
        The pinned sparsity is slower than dense, or unknown to the curves.
    """
    layer = times.layer
    curves = sensitivity[layer.name]
    options = [Option(0.0, "spatial", times.dense_method, "auto")]
    rows = [(0.0, times.dense_seconds, float(layer.dense_bytes))]
    for domain in times.domains:
        if domain not in curves:
            continue
        grid, seconds = table.sparsities, times.best(domain)
        methods = times.best_methods(domain)
        if pinned:
            seconds = np.array([np.interp(pinned, grid, seconds)])
            methods = [methods[int(np.abs(grid - pinned).argmin())]]
            grid = np.array([pinned])
        losses = curves[domain](grid)
        for level, time, loss, (method, schedule) in zip(
            grid, seconds, losses, methods, strict=True
        ):
            if time <= times.dense_seconds and np.isfinite(loss):
                options.append(Option(float(level), domain, method, schedule))
                rows.append((float(loss), float(time), weight_bytes(layer, float(level), domain)))
    if pinned is not None:
        options, rows = _only(times, pinned, options, rows)
    return LayerChoices(
        times, tuple(options), Choices.of(*np.array(rows).T),
        _why_dense(times, sensitivity, len(options)),
    )  # fmt: skip


def _only(
    times: LayerTimes, pinned: float, options: list[Option], rows: list[tuple[float, float, float]]
) -> tuple[list[Option], list[tuple[float, float, float]]]:
    if pinned == 0.0:
        return options[:1], rows[:1]
    if len(options) == 1:
        raise input_error(
            f"target of {times.layer.name}",
            "is below the layer's window (slower there than dense), or beyond its curve",
            found=pinned,
        )  # fmt: skip
    best = min(range(1, len(rows)), key=lambda place: rows[place])
    return [options[best]], [rows[best]]


def _why_dense(times: LayerTimes, sensitivity: Sensitivity, options: int) -> str | None:
    if options > 1:
        return None
    if times.reason is not None:
        return times.reason
    curves = sensitivity[times.layer.name]
    if not any(curve.greatest for curve in curves.values()):
        return "the sensitivity says dense"
    faster = [d for d in times.domains if (times.best(d) < times.dense_seconds).any()]
    if any(domain in curves for domain in faster):
        return "its curve ends before a sparse method is faster"
    if faster:
        return f"sparse methods are faster in the {faster[0]} domain alone, which has no curve here"
    return "no sparse method is faster than the dense one at any level"


def all_choices(
    table: TimeTable, sensitivity: Sensitivity, pins: Mapping[str, float] | None = None
) -> list[LayerChoices]:
    """Return the options of every layer of a table."""
    pins = pins or {}
    return [layer_choices(times, table, sensitivity, pins.get(times.layer.name)) for times in table]


def applied(
    table: TimeTable, sensitivity: Sensitivity, sparsities: Mapping[str, tuple[float, Domain]]
) -> dict[str, object]:
    """Return what given sparsities cost; a layer that sparse methods would slow runs dense.

    Returns
    -------
    dict
        ``seconds``, ``bytes``, ``loss`` (None where a curve does not reach), and ``slower``, the
        layers that are pruned and yet faster dense.
    """
    seconds = size = loss = 0.0
    known = True
    slower = []
    for times in table:
        layer = times.layer
        sparsity, domain = sparsities.get(layer.name, (0.0, "spatial"))
        time, weights = times.dense_seconds, float(layer.dense_bytes)
        if sparsity > 0.0:
            best = times.best(domain)
            sparse = float(np.interp(sparsity, table.sparsities, best)) if best.size else np.inf
            if sparse <= time:
                time, weights = sparse, weight_bytes(layer, sparsity, domain)
            else:
                slower.append(layer.name)
            curve = sensitivity[layer.name].get(domain)
            lost = float(curve(sparsity)) if curve is not None else np.nan
            known = known and bool(np.isfinite(lost))
            loss += lost
        seconds, size = seconds + time, size + weights
    return {
        "seconds": seconds, "bytes": size, "loss": loss if known else None, "slower": slower,
    }  # fmt: skip
