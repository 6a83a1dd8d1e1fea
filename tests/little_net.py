"""A network of three layers, and what the tests of sparsities do with it."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.network import Layer, Network, SparsityMap
from archsim.sparsity import Sparsity, load_sparsity

C1 = Layer("c1", C=4, K=6, H=8, W=8, R=3, S=3, pad=(1, 1), groups=2, network="net")
C2 = Layer("branch/c2", C=6, K=5, H=8, W=8, network="net")
F1 = Layer("f1", C=20, K=7, type="fc", network="net")
MAP = SparsityMap("pruned", {"c1": 0.75, "f1": 0.9}, domain="winograd")
NET = Network("net", (C1, C2, F1), sparsities={"pruned": MAP})

Array = NDArray[np.float32]


def weights(layer: Layer, density: float = 0.5, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    array = rng.standard_normal(layer.weight_shape)
    return np.asarray(array * (rng.random(layer.weight_shape) < density), dtype=np.float32)


def refused(spec: str | float | Path, network: Network = NET) -> str:
    """Return the one-line error that ``spec`` gives."""
    with pytest.raises(InputError) as caught:
        load_sparsity(spec, network)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pattern(sparsity: Sparsity) -> NDArray[np.bool_]:
    assert sparsity.weights is not None
    mask: NDArray[np.bool_] = sparsity.weights != 0
    return mask


def write_mtx(path: Path, array: Array) -> None:
    """Write K x (C/groups R S), coordinates from 1, as SkimCaffe does."""
    matrix = array.reshape(array.shape[0], -1)
    rows, columns = np.nonzero(matrix)
    lines = ["%%MatrixMarket matrix coordinate real general",
             f"{matrix.shape[0]} {matrix.shape[1]} {rows.size}"]  # fmt: skip
    lines += [f"{r + 1} {c + 1} {matrix[r, c]:.9g}" for r, c in zip(rows, columns, strict=True)]
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
