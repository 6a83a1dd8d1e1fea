"""Largest errors of Winograd, fully connected and structured kernels, in units of their bounds.

    python -m benchmarks errors [--isa avx2] [--seed 0]

Outputs are held against the convolution in float64. The bound of a Winograd variant is
``archsim.kernels.error_bound``; that of a plain sum of n products is (n + 2) 2**-24 times the sum
of their magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import archsim
from archsim import kernels, native
from archsim.kernels.winograd_matrices import VARIANTS
from archsim.methods import get_method
from archsim.network import Layer
from archsim.sparsity import Sparsity, winograd_shape
from benchmarks.contest import Array, aligned

#: shapes that end in the middle of tiles and vectors, and one of many channels
CONVOLUTIONS: Final = (
    Layer("64 channels, 30x31", C=64, K=32, H=30, W=31, R=3, S=3, pad=(1, 1)),
    Layer("512 channels, 14x14", C=512, K=32, H=14, W=14, R=3, S=3, pad=(1, 1)),
    Layer("2 groups of 48, 27x27", C=96, K=32, H=27, W=27, R=5, S=5, pad=(2, 2), groups=2),
)
CONNECTED: Final = Layer("4096 inputs", C=4096, K=500, H=1, W=1, type="fc")
_SPARSITY: Final = 0.9


@dataclass(frozen=True)
class Found:
    """One kernel on one layer.

    Attributes
    ----------
    error : float
        Largest difference over the largest output.
    of_bound : float
        Largest difference in units of the bound of its output.
    """

    method: str
    schedule: str
    weights: str
    layer: str
    error: float
    of_bound: float


@dataclass(frozen=True)
class _Case:
    method: str
    schedule: str
    words: str
    layer: Layer
    weights: Array
    batch: int = 1
    #: where the definition is computed with others: spatial ones, before their transformation
    spatial: Array | None = None


def _drawn(layer: Layer, sparsity: float, seed: int, tile: int = 0) -> Array:
    shape = winograd_shape(layer, tile) if tile else None
    domain: Any = "winograd" if tile else "spatial"
    weights = Sparsity(1.0 - sparsity, domain=domain).draw(layer, seed, shape).weights
    assert weights is not None  # drawn
    return weights


def _cases(seed: int) -> Iterator[_Case]:
    for layer in CONVOLUTIONS:
        dense = _drawn(layer, 0.0, seed)
        for name, variant in VARIANTS.items():
            if variant.kernel != layer.R:
                continue
            yield _Case("winograd", name, "spatial", layer, dense)
            moved = kernels.transform_weights(dense, name)
            yield _Case("sparse_winograd", name, "spatial, transformed", layer, moved, 1, dense)
            pruned = _drawn(layer, _SPARSITY, seed, variant.tile)
            yield _Case("sparse_winograd", name, f"{_SPARSITY} of its domain", layer, pruned)
        for schedule, structure, more in (
            ("feature-map", "output-map", {"density": 0.5}),
            ("intra-kernel-strided", "intra-kernel-strided", {"stride": 2}),
            ("kernel", "kernel", {"density": 0.3}),
        ):
            pattern = Sparsity.structured(layer, structure, seed=seed, **more)  # type: ignore[arg-type]
            assert pattern.weights is not None
            yield _Case("structured", schedule, "spatial", layer, pattern.weights)
    yield _Case("fc_dense", "auto", "spatial", CONNECTED, _drawn(CONNECTED, 0.0, seed), 16)
    pruned = _drawn(CONNECTED, _SPARSITY, seed)
    yield _Case("fc_sparse", "gather", f"{_SPARSITY}", CONNECTED, pruned)
    yield _Case("fc_sparse", "lanes", f"{_SPARSITY}", CONNECTED, pruned, 16)


def measure(isa: str | None = None, seed: int = 0) -> list[Found]:
    """Run every case once on this host."""
    return [_found(case, isa or kernels.active_isa(), seed) for case in _cases(seed)]


def _found(case: _Case, isa: str, seed: int) -> Found:
    layer = case.layer
    dense = get_method(case.method).dense
    plan = archsim.make_plan(
        layer, "host", method=case.method, schedule=case.schedule, batch=case.batch, threads=1,
        pattern=None if dense else case.weights, isa=isa,
    )  # fmt: skip
    x = aligned((case.batch, layer.C, layer.H, layer.W))
    x[:] = np.random.default_rng(seed).standard_normal(x.shape)
    out = native.prepare(plan, case.weights).run(x)
    variant = str(plan.blocking.get("variant", ""))
    off = np.abs(out - _right(case, x, variant))
    return Found(
        method=case.method,
        schedule=plan.schedule,
        weights=case.words,
        layer=layer.name,
        error=float(off.max() / np.abs(out).max()),
        of_bound=float((off / _bound(case, x, variant)).max()),
    )


def _right(case: _Case, x: Array, variant: str) -> NDArray[np.float64]:
    """The direct convolution; weights that were never spatial have the definition of Winograd's."""
    shape = native.conv_shape(case.layer)
    weights = case.weights if case.spatial is None else case.spatial
    if weights.shape == case.layer.weight_shape:
        return kernels.conv2d(x, weights, shape)
    return kernels.conv2d_winograd(x, weights, shape, variant)


def _bound(case: _Case, x: Array, variant: str) -> NDArray[np.float64]:
    shape, weights = native.conv_shape(case.layer), case.weights
    if variant:
        if weights.shape == case.layer.weight_shape:
            weights = kernels.transform_weights(weights, variant)
        return kernels.error_bound(x, weights, shape, variant)
    magnitudes = kernels.conv2d(np.abs(x), np.abs(weights), shape)
    bound: NDArray[np.float64] = (weights[0].size + 2) * 2.0**-24 * magnitudes + 1e-37
    return bound
