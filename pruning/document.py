"""Targets as one plain document (schema 1), for JSON, YAML, tables, pages and exporters."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

import archsim
from archsim.errors import input_error
from archsim.machine import Machine
from archsim.pruning.allocation import totals
from archsim.pruning.choices import LayerChoices, weight_bytes
from archsim.pruning.latency import write_text
from archsim.pruning.targets import Targets
from archsim.pruning.window import HALVING_SAVES
from archsim.targetsfile import TARGETS_KIND
from archsim.yamlfile import parse_yaml, read_text

SCHEMA: Final = 1
_MAP: Final = 40  # sparsities of the break-even map, at most
_FRONT: Final = 200  # points of the front that a document holds, at most


def as_document(
    found: Targets, machine: Machine | None = None, command: str = ""
) -> dict[str, Any]:
    """Return the document; times are seconds of the whole batch, sizes bytes of the weights."""
    table = found.table
    picks = found.picks
    return {
        "schema": SCHEMA,
        "kind": TARGETS_KIND,
        "network": found.network.name,
        "machine": table.machine,
        "model": table.model,
        "batch": table.batch,
        "threads": table.threads,
        "budget": found.budget.as_dict(),
        "sensitivity": found.sensitivity.kind,
        "loss": found.sensitivity.as_dict(),
        "layers": [
            _layer(found, layer, None if picks is None else int(picks[n]))
            for n, layer in enumerate(found.choices)
        ],
        "totals": _totals(found),
        "uniform": found.uniform,
        "against": list(found.against),
        "front": _front(found),
        "map": _map(found),
        "notes": [*table.notes, *found.notes],
        "provenance": {
            "archsim": archsim.__version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command,
            "window": "up to where memory takes over"
            if table.model == "park" and machine is not None
            else f"up to where halving the nonzeros saves less than {HALVING_SAVES:.0%}",
            "machine_numbers": _kinds(machine),
        },
    }


def _layer(found: Targets, layer: LayerChoices, pick: int | None) -> dict[str, Any]:
    times = layer.times
    name = times.layer.name
    window = found.windows[name]
    option = layer.options[pick or 0]
    sparse = pick is not None and option.sparsity > 0.0
    entry: dict[str, Any] = {
        "layer": name,
        "type": times.layer.type,
        "window": window.as_dict(),
        "prune": sparse if pick is not None else window.pays_from is not None,
        "sparsity": None if pick is None else option.sparsity,
        "domain": option.domain,
        "method": None if pick is None else option.method,
        "schedule": None if pick is None else option.schedule,
        "seconds": None if pick is None else float(layer.costs.seconds[pick]),
        "dense_method": times.dense_method,
        "dense_seconds": times.dense_seconds,
        "bytes": None if pick is None else float(layer.costs.bytes[pick]),
        "dense_bytes": float(times.layer.dense_bytes),
        "loss": None if pick is None else float(layer.costs.loss[pick]),
        "methods": _runs(found, layer),
        "group_wise": found.groups.get(name),
        "reason": layer.why_dense,
    }
    return entry


def _runs(found: Targets, layer: LayerChoices) -> list[dict[str, Any]]:
    """Return the fastest method from each sparsity on at which it changes, dense among them."""
    times = layer.times
    runs: list[dict[str, Any]] = [{"from": 0.0, "method": times.dense_method, "schedule": "auto"}]
    if "spatial" not in times.domains:
        return runs
    best, names = times.best("spatial"), times.best_methods("spatial")
    for level, seconds, (method, schedule) in zip(found.table.sparsities, best, names, strict=True):
        if seconds >= times.dense_seconds:
            method, schedule = times.dense_method, "auto"
        if (runs[-1]["method"], runs[-1]["schedule"]) != (method, schedule):
            runs.append({"from": float(level), "method": method, "schedule": schedule})
    return runs


def _totals(found: Targets) -> dict[str, float | None]:
    costs = [layer.costs for layer in found.choices]
    layers = [layer.times.layer for layer in found.choices]
    loss = seconds = size = None
    if found.picks is not None:
        loss, seconds, size = totals(costs, found.picks)
    return {
        "seconds": seconds,
        "dense_seconds": found.table.dense_seconds,
        "bytes": size,
        "dense_bytes": float(sum(weight_bytes(layer, 0.0, "spatial") for layer in layers)),
        "loss": loss,
    }


def _front(found: Targets) -> dict[str, Any]:
    """Return the front, thinned to a readable number of points; costs are those of the points."""
    front = found.front
    costs = [layer.costs for layer in found.choices]
    count = front.cells.size
    places = np.unique(np.linspace(0, count - 1, min(count, _FRONT)).round().astype(int))
    points = []
    for place in places:
        loss, seconds, size = totals(costs, front.picks[place])
        points.append({"seconds": seconds, "bytes": size, "loss": loss})
    return {"of": front.kind, "grid": front.cell, "points_found": int(count), "points": points}


def _map(found: Targets) -> dict[str, Any]:
    """Return speedups over the best dense method, layer by sparsity."""
    grid = found.table.sparsities
    places = np.unique(np.linspace(0, grid.size - 1, min(grid.size, _MAP)).round().astype(int))
    rows: dict[str, list[float | None]] = {}
    for layer in found.choices:
        times = layer.times
        best = times.best("spatial")
        rows[times.layer.name] = [
            times.dense_seconds / float(best[p]) if best.size and np.isfinite(best[p]) else None
            for p in places
        ]
    return {"sparsities": [float(grid[p]) for p in places], "speedup": rows}


def _kinds(machine: Machine | None) -> dict[str, int]:
    """Count the machine's numbers by where they are from."""
    kinds: dict[str, int] = {}
    for where in machine.provenance.values() if machine is not None else ():
        kinds[where.kind] = kinds.get(where.kind, 0) + 1
    return dict(sorted(kinds.items()))


def write_yaml(document: dict[str, Any], path: str | Path) -> Path:
    """Write the document as YAML."""
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return write_text(Path(path), text)


def read_targets(path: str | Path) -> dict[str, Any]:
    """Read a targets document again (YAML or JSON, which is YAML).

    Raises
    ------
    InputError
        Not a targets document of schema 1.
    """
    path = Path(path)
    found = parse_yaml(read_text(path, 2**24), path.name).plain()
    due = (SCHEMA, TARGETS_KIND)
    if not isinstance(found, dict) or (found.get("schema"), found.get("kind")) != due:
        raise input_error(str(path), "not a targets document", allowed="schema 1")
    return found
