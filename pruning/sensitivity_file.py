"""Sensitivity curves from files: CSV (layer, sparsity, loss) or YAML."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from archsim.errors import InputError, input_error
from archsim.network import Network
from archsim.pruning.sensitivity import Curve, Sensitivity
from archsim.sparsity import DOMAINS, Domain
from archsim.yamlfile import Node, read_text, read_yaml

CSV_COLUMNS: Final = ("layer", "sparsity", "loss", "domain")
DENSE: Final = "dense"

_Points = dict[str, dict[Domain, list[tuple[float, float]]]]


def load_sensitivity(path: str | Path, network: Network) -> Sensitivity:
    """Read measured curves; every layer of the network needs one, or is said to stay dense.

    CSV has the columns ``layer, sparsity, loss`` and, if need be, ``domain``; a layer whose only
    point is (0, 0) stays dense.  YAML::

        format: 1
        loss: points of top-1 accuracy
        layers:
          conv1: dense
          conv2: [[0.5, 0.01], [0.8, 0.1], [0.9, 0.6]]
          conv3: {winograd: [[0.5, 0.02], [0.9, 0.5]]}

    Parameters
    ----------
    path : str or Path
    network : Network

    Raises
    ------
    InputError
        Unreadable, an unknown layer, a layer that is missing, a curve that is not monotone.
    """
    path = Path(path)
    what = "loss"
    if path.suffix.lower() == ".csv":
        points = _read_csv(path, network)
    else:
        points, what = _read_yaml(path, network)
    missing = [layer.name for layer in network if layer.name not in points]
    if missing:
        raise input_error(
            str(path), "no curve for every layer (write 'dense' where one is to stay so)",
            found=f"nothing of {', '.join(missing[:8])}" + (", ..." if len(missing) > 8 else ""),
        )  # fmt: skip
    curves = {
        layer: {
            domain: Curve.of_points(layer, rows, domain, str(path))
            for domain, rows in domains.items()
        }
        for layer, domains in points.items()
    }
    return Sensitivity(curves, "given", f"{what}, layers add up", path.name)


def _read_csv(path: Path, network: Network) -> _Points:
    text = read_text(path).removeprefix("\ufeff")
    rows = csv.DictReader(io.StringIO(text, newline=None), skipinitialspace=True)
    try:
        columns = [column.strip() for column in rows.fieldnames or []]
        rows.fieldnames = columns
        unknown = [c for c in columns if c not in CSV_COLUMNS]
        absent = [c for c in CSV_COLUMNS[:3] if c not in columns]
        if unknown or absent:
            raise input_error(
                f"{path}:1", "wrong columns", found=", ".join(columns),
                allowed="layer, sparsity, loss and perhaps domain",
            )  # fmt: skip
        found: _Points = {}
        for row in rows:
            where = f"{path}:{rows.line_num}"
            layer = _layer(where, (row["layer"] or "").strip(), network)
            domain = _domain(where, (row.get("domain") or "spatial").strip())
            point = _number(where, row["sparsity"]), _number(where, row["loss"])
            found.setdefault(layer, {}).setdefault(domain, []).append(point)
    except csv.Error as error:
        raise input_error(f"{path}:{rows.line_num + 1}", f"not a CSV table ({error})") from error
    return found


def _read_yaml(path: Path, network: Network) -> tuple[_Points, str]:
    node = read_yaml(path)
    top = _map(node, "format, loss and layers are due")
    for key in top:
        if key not in ("format", "loss", "layers"):
            raise input_error(f"{top[key].mark}: {key}", "unknown key",
                              allowed="format, loss, layers")  # fmt: skip
    if "format" not in top or top["format"].value != 1:
        raise input_error(f"{node.mark}: format", "must be 1",
                          found=top["format"].value if "format" in top else None)  # fmt: skip
    what = str(top["loss"].value) if "loss" in top else "loss"
    if "layers" not in top:
        raise input_error(str(node.mark), "has no layers")
    found: _Points = {}
    for name, entry in _map(top["layers"], "a map of layer to curve is due").items():
        layer = _layer(str(entry.mark), name, network)
        if entry.value == DENSE:
            found[layer] = {}
        elif isinstance(entry.value, dict):
            found[layer] = {
                _domain(str(inner.mark), key): _pairs(inner) for key, inner in entry.value.items()
            }
        else:
            found[layer] = {"spatial": _pairs(entry)}
    return found, what


def _map(node: Node, rule: str) -> Mapping[str, Node]:
    if not isinstance(node.value, dict):
        raise input_error(str(node.mark), rule)
    return node.value


def _pairs(node: Node) -> list[tuple[float, float]]:
    rows: Iterable[Any] = node.plain() if isinstance(node.value, list) else [None]
    found = []
    for row in rows:
        if not (
            isinstance(row, list)
            and len(row) == 2
            and all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in row)
        ):
            raise input_error(str(node.mark), "a list of [sparsity, loss] is due", found=row,
                              allowed="or 'dense'")  # fmt: skip
        found.append((float(row[0]), float(row[1])))
    return found


def _number(where: str, text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise input_error(where, "a number is due", found=text) from None


def _domain(where: str, name: str) -> Domain:
    for known in DOMAINS:
        if name == known:
            return known
    raise input_error(where, "unknown domain", found=name, allowed=", ".join(DOMAINS))


def _layer(where: str, name: str, network: Network) -> str:
    try:
        return network[name].name
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
