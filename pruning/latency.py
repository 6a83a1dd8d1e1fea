"""Latency tables in and out: our tidy form, and the forms that other tools read.

* tidy (CSV, JSON): one row per layer, method and sparsity; sparsity 0 is dense;
* ``ofa``: once-for-all's map of a key to ``count``, ``mean`` (milliseconds) and ``var``;
* ``nni``: NNI's records of ``op_name``, ``op_data_shape``, ``op_dtype``, ``op_latency``
  (milliseconds).

A tidy table can be read again, so that times of one's own device serve as well as predictions.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from archsim.errors import InputError, input_error
from archsim.network import Layer, Network
from archsim.pruning.table import LayerTimes, MethodTimes, TimeTable
from archsim.sparsity import DOMAINS, Domain
from archsim.yamlfile import read_text

COLUMNS: Final = (
    "network", "machine", "model", "batch", "threads", "layer", "method", "schedule", "domain",
    "sparsity", "seconds", "seconds_low", "seconds_high", "source",
)  # fmt: skip
FORMS: Final = ("tidy", "ofa", "nni")
_NEEDED: Final = ("layer", "method", "sparsity", "seconds")
_MAX_BYTES: Final = 2**26


def table_rows(table: TimeTable) -> list[dict[str, Any]]:
    """Return the tidy rows of a table, in the order of its layers."""
    known = {"network": table.network.name, "machine": table.machine, "model": table.model,
             "batch": table.batch, "threads": table.threads}  # fmt: skip
    source = "measured" if table.model == "native" else "predicted"
    rows = []
    for times in table:
        first = {
            **known, "layer": times.layer.name, "method": times.dense_method, "schedule": "auto",
            "domain": "spatial", "sparsity": 0.0, "seconds": times.dense_seconds,
            "seconds_low": times.dense_low, "seconds_high": times.dense_high, "source": source,
        }  # fmt: skip
        rows.append(first)
        for m in times.sparse:
            rows += [
                {
                    **first, "method": m.method, "schedule": m.schedules[n], "domain": m.domain,
                    "sparsity": float(level), "seconds": float(m.seconds[n]),
                    "seconds_low": None if m.low is None else float(m.low[n]),
                    "seconds_high": None if m.high is None else float(m.high[n]),
                    "source": source if m.asked[n] else "interpolated",
                }
                for n, level in enumerate(table.sparsities)
                if np.isfinite(m.seconds[n])
            ]  # fmt: skip
    return rows


def write_table(table: TimeTable, path: str | Path, form: str = "tidy") -> Path:
    """Write a latency table; the suffix ``.csv`` makes a CSV of the tidy form, others JSON.

    Raises
    ------
    InputError
        An unknown form, a form that CSV does not hold, or a file that cannot be written.
    """
    path = Path(path)
    if form not in FORMS:
        raise input_error("form", "unknown", found=form, allowed=", ".join(FORMS))
    rows = table_rows(table)
    if path.suffix.lower() == ".csv":
        if form != "tidy":
            raise input_error(str(path), "CSV holds the tidy form only", found=form)
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        text = buffer.getvalue()
    elif form == "tidy":
        document = {"schema": 1, "kind": "latency table", "rows": rows}
        text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    else:
        made = ofa_form(table, rows) if form == "ofa" else nni_form(table, rows)
        text = json.dumps(made, indent=1, allow_nan=False) + "\n"
    return write_text(path, text)


def write_text(path: Path, text: str) -> Path:
    """Write a file, replaced once the new one is whole."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise input_error(str(path), f"cannot be written ({error.strerror})") from error
    return path


def ofa_form(table: TimeTable, rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return once-for-all's form; layers of equal shape share a key, and ``count`` counts them."""
    found: dict[str, list[float]] = {}
    for row in rows:
        layer = table.layers[row["layer"]].layer
        found.setdefault(_shape_key(layer, row), []).append(1e3 * row["seconds"])
    return {
        key: {"count": len(ms), "mean": float(np.mean(ms)), "var": float(np.var(ms))}
        for key, ms in found.items()
    }


def _shape_key(layer: Layer, row: Mapping[str, Any]) -> str:
    kind = "Conv" if layer.type == "conv" else "Linear"
    shape = f"input:{layer.H}x{layer.W}x{layer.C}-output:{layer.P}x{layer.Q}x{layer.K}"
    more = f"kernel:{layer.R}x{layer.S}-stride:{layer.stride[0]}x{layer.stride[1]}"
    rest = f"groups:{layer.groups}-pad:{layer.pad[0]}x{layer.pad[1]}"
    rest += f"-dilation:{layer.dilation[0]}x{layer.dilation[1]}"
    return f"{kind}-{shape}-{more}-{rest}-method:{row['method']}-sparsity:{row['sparsity']:.6g}"


def nni_form(table: TimeTable, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return NNI's records; method and sparsity stand in ``op_name``."""
    found = []
    for row in rows:
        layer = table.layers[row["layer"]].layer
        found.append(
            {
                "op_name": f"{layer.name}/{row['method']}/sparsity:{row['sparsity']:.6g}",
                "op_data_shape": [row["batch"], layer.C, layer.H, layer.W],
                "op_dtype": "float32",
                "op_latency": 1e3 * row["seconds"],
            }
        )
    return found


def read_table(path: str | Path, network: Network) -> TimeTable:
    """Read a tidy table, ours or one's own measurements (CSV or JSON).

    A row with sparsity 0 is dense; the fastest of them counts.  Methods may have levels of their
    own: the grid is of all levels, and times between a method's levels lie on a line.

    Raises
    ------
    InputError
        Unreadable, a layer that is unknown or has no dense row, a wrong number.
    """
    path = Path(path)
    rows = _read_rows(path)
    if not rows:
        raise input_error(str(path), "no rows")
    by_layer: dict[str, list[dict[str, Any]]] = {}
    for where, row in rows:
        try:
            name = network[str(row.get("layer"))].name
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        by_layer.setdefault(name, []).append(_checked(where, row))
    missing = [layer.name for layer in network if layer.name not in by_layer]
    if missing:
        raise input_error(str(path), f"does not cover {network.name}",
                          found="nothing of " + ", ".join(missing[:8]))  # fmt: skip
    levels = {r["sparsity"] for found in by_layer.values() for r in found}
    grid = np.array(sorted(levels - {0.0}), dtype=np.float64)
    if grid.size == 0:
        raise input_error(str(path), "no row has a sparsity above 0")
    first = rows[0][1]
    return TimeTable(
        network, str(first.get("machine") or path.stem), str(first.get("model") or "given"),
        _count(first.get("batch")), _count(first.get("threads")), grid,
        {y.name: _times_of(path, y, by_layer[y.name], grid) for y in network},
        (f"times read from {path.name}",),
    )  # fmt: skip


def _read_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    text = read_text(path, _MAX_BYTES).removeprefix("\ufeff")
    if path.suffix.lower() == ".csv":
        rows = csv.DictReader(io.StringIO(text, newline=None), skipinitialspace=True)
        absent = [c for c in _NEEDED if c not in (rows.fieldnames or [])]
        if absent:
            raise input_error(f"{path}:1", "columns are missing", found=", ".join(absent))
        try:
            return [(f"{path}:{rows.line_num}", row) for row in rows]
        except csv.Error as error:
            raise input_error(str(path), f"not a CSV table ({error})") from error
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise input_error(str(path), f"not JSON ({error})") from None
    if not isinstance(document, dict) or document.get("schema") != 1 or "rows" not in document:
        raise input_error(str(path), "not a latency table", allowed="schema 1 with rows")
    found = document["rows"]
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise input_error(f"{path}: rows", "must be a list of objects")
    return [(f"{path}: rows[{n}]", row) for n, row in enumerate(found)]


def _checked(where: str, row: Mapping[str, Any]) -> dict[str, Any]:
    domain = row.get("domain") or "spatial"
    if domain not in DOMAINS:
        raise input_error(f"{where}: domain", "unknown", found=domain, allowed=", ".join(DOMAINS))
    sparsity, seconds = _number(where, row, "sparsity"), _number(where, row, "seconds")
    if sparsity is None or not 0.0 <= sparsity < 1.0:
        raise input_error(f"{where}: sparsity", "must lie in 0..1 (below 1)", found=sparsity)
    if seconds is None or seconds <= 0.0:
        raise input_error(f"{where}: seconds", "must be above zero", found=seconds)
    return {
        "method": str(row.get("method")), "schedule": str(row.get("schedule") or "auto"),
        "domain": domain, "sparsity": sparsity, "seconds": seconds,
        "low": _number(where, row, "seconds_low"), "high": _number(where, row, "seconds_high"),
        "asked": row.get("source") != "interpolated",
    }  # fmt: skip


def _number(where: str, row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value in (None, ""):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise input_error(f"{where}: {key}", "a finite number is due", found=value)
    return number


def _count(value: object) -> int:
    return int(value) if isinstance(value, (int, str)) and str(value).isdecimal() else 1


def _times_of(path: Path, layer: Layer, rows: list[dict[str, Any]], grid: Any) -> LayerTimes:
    dense = [row for row in rows if row["sparsity"] == 0.0]
    if not dense:
        raise input_error(str(path), "no dense row (sparsity 0) of a layer", found=layer.name)
    best = min(dense, key=lambda row: row["seconds"])
    kinds = dict.fromkeys((r["method"], r["domain"]) for r in rows if r["sparsity"] > 0.0)
    sparse = [_method_of(m, d, [r for r in rows if (r["method"], r["domain"]) == (m, d)], grid)
              for m, d in kinds]  # fmt: skip
    return LayerTimes(
        layer, best["method"], best["seconds"], best["low"], best["high"], tuple(sparse),
        None if sparse else "the table has no sparse method",
    )  # fmt: skip


def _method_of(method: str, domain: Domain, rows: list[dict[str, Any]], grid: Any) -> MethodTimes:
    """Draw lines between a method's levels; outside of them nothing is known: infinite time."""
    points = {r["sparsity"]: r for r in sorted(rows, key=lambda r: -r["seconds"])
              if r["sparsity"] > 0.0}  # fmt: skip
    at = sorted(points)

    def line(key: str) -> Any:
        values = [points[s][key] for s in at]
        if any(v is None for v in values):
            return None
        return np.interp(grid, at, values, left=np.inf, right=np.inf)

    asked = np.array([s in points and points[s]["asked"] for s in grid])
    nearest = np.maximum(np.searchsorted(at, grid, side="right") - 1, 0)
    schedules = tuple(points[at[int(n)]]["schedule"] for n in nearest)
    return MethodTimes(method, domain, line("seconds"), asked, schedules, line("low"), line("high"))
