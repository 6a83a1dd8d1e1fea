"""Sensitivity curves measured: prune one layer by magnitude, test, put it back.

Each result is kept in a file beside the table as soon as it is there, so that a run which was
stopped goes on, and one with other sparsities asks only for what is new.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import nn

from archsim.errors import input_error
from archsim.pruning.sensitivity_file import CSV_COLUMNS
from archsim.pruning.training.checkpoint import write_bytes
from archsim.pruning.training.data import Dataset
from archsim.pruning.training.loop import evaluate
from archsim.pruning.training.protocol import find_layers
from archsim.pruning.training.rules import magnitude_mask
from archsim.yamlfile import shown_path

SPARSITIES: Final = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)


def measure_sensitivity(
    model: nn.Module,
    data: Dataset,
    path: str | Path,
    *,
    sparsities: Sequence[float] = SPARSITIES,
    layers: Iterable[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, list[tuple[float, float]]]:
    """Measure what the accuracy loses when one layer is pruned, without retraining.

    Parameters
    ----------
    model : torch.nn.Module
        Dense; as before when done.
    data : Dataset
        Its test pictures are used.
    path : str or Path
        CSV that :func:`archsim.pruning.load_sensitivity` reads; ``PATH.json`` keeps results.
    sparsities : sequence of float, 0 to 1
    layers : iterable of str, optional
        Default: all that can be pruned.
    progress : callable, optional
        Called with (what, done, total).

    Returns
    -------
    dict of layer to list of (sparsity, loss)
        Points of accuracy, 0 to 100.  Curves must not fall, so a loss is the largest up to its
        sparsity, and at least 0; the file beside has what was measured.

    Raises
    ------
    InputError
        A sparsity outside 0..1, an unknown layer, or a file that cannot be read or written.
    """
    for value in sparsities:
        if not 0.0 < value < 1.0:
            raise input_error("sparsities", "must lie in 0..1, ends excluded", found=value)
    path = Path(path)
    cache = path.with_name(path.name + ".json")
    chosen = find_layers(model, layers)
    levels = sorted(set(sparsities))
    key = _digest(model, data)
    known = _read(cache, key)
    if "dense" not in known:
        known["dense"] = evaluate(model, data)
        _write(cache, key, known)
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, layer in chosen.items():
        worst = 0.0
        rows: list[tuple[float, float]] = []
        for sparsity in levels:
            place = f"{name} {sparsity!r}"
            if progress is not None:
                done = len(curves) * len(levels) + len(rows)
                progress(f"sensitivity {name} {sparsity:g}", done, len(chosen) * len(levels))
            if place not in known:
                known[place] = _pruned_accuracy(model, data, layer.weight, sparsity)
                _write(cache, key, known)
            worst = max(worst, 100.0 * (known["dense"] - known[place]))
            rows.append((sparsity, worst))
        curves[name] = rows
    write_bytes(path, _table(curves).encode())
    return curves


def _table(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(CSV_COLUMNS[:3])
    for name, rows in curves.items():
        table.writerows((name, repr(s), f"{loss:.6g}") for s, loss in rows)
    return text.getvalue()


def _pruned_accuracy(
    model: nn.Module, data: Dataset, weight: nn.Parameter, sparsity: float
) -> float:
    dense = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.mul_(magnitude_mask(weight, 1.0 - sparsity))
        return evaluate(model, data)
    finally:
        with torch.no_grad():
            weight.copy_(dense)


def _digest(model: nn.Module, data: Dataset) -> str:
    """Return what results depend on: the weights and the test pictures."""
    found = hashlib.sha256(f"{data.name} {data.mean} {data.std}".encode())
    for value in (*model.state_dict().values(), data.test_x, data.test_y):
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _read(cache: Path, key: str) -> dict[str, float]:
    if not cache.exists():
        return {}
    try:
        document = json.loads(cache.read_text(encoding="utf-8"))
        if document["key"] != key:  # other weights: measured anew
            return {}
        return {str(place): float(value) for place, value in document["accuracy"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise input_error(shown_path(cache), f"is damaged ({type(error).__name__}); without the "
                          "file all is measured anew") from error  # fmt: skip


def _write(cache: Path, key: str, known: dict[str, float]) -> None:
    text = json.dumps({"format": 1, "key": key, "accuracy": known}, indent=1)
    write_bytes(cache, text.encode())
