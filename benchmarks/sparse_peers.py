"""Sparse matrix libraries: SciPy, MKL and torch.sparse, CSR times the lowered picture.

A 1x1 layer with stride 1 needs no lowering: the picture is the matrix. Others are lowered by
NumPy or by torch, whichever is faster on this layer (both are measured first), and the time counts.
"""

from __future__ import annotations

import glob
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from scipy import sparse

from archsim.network import Layer
from benchmarks.contest import Array, Contestant, aligned
from benchmarks.mkl_csr import Csr


def _is_plain(layer: Layer) -> bool:
    """Whether the picture itself is the lowered matrix."""
    return (layer.R, layer.S, layer.stride, layer.pad) == (1, 1, (1, 1), (0, 0))


class _Lowering:
    """The lowered pictures of a batch, (N, groups, C / groups * R * S, P * Q), made on call."""

    def __init__(self, layer: Layer, x: Array) -> None:
        rows = layer.C * layer.R * layer.S
        self._shape = (len(x), layer.groups, rows // layer.groups, layer.P * layer.Q)
        self._x, self._layer = x, layer
        self.way = "none"
        if _is_plain(layer):
            return
        (pad_h, pad_w), (step_h, step_w) = layer.pad, layer.stride
        padded = aligned((len(x), layer.C, layer.H + 2 * pad_h, layer.W + 2 * pad_w))
        self._inside = padded[:, :, pad_h : pad_h + layer.H, pad_w : pad_w + layer.W]
        taps = [
            padded[
                :, :,
                r * layer.dilation[0] : r * layer.dilation[0] + step_h * (layer.P - 1) + 1 : step_h,
                s * layer.dilation[1] : s * layer.dilation[1] + step_w * (layer.Q - 1) + 1 : step_w,
            ]
            for r in range(layer.R)
            for s in range(layer.S)
        ]  # fmt: skip
        self._to = aligned((len(x), layer.C, layer.R * layer.S, layer.P, layer.Q))
        self._pairs = [(self._to[:, :, i], tap) for i, tap in enumerate(taps)]
        self.way = "numpy"
        if "torch" in sys.modules and self._seconds(self._by_torch) < self._seconds(self._by_numpy):
            self.way = "torch"

    def __call__(self) -> Array:
        ways = {"none": lambda: self._x, "numpy": self._by_numpy, "torch": self._by_torch}
        return ways[self.way]().reshape(self._shape)

    def _by_numpy(self) -> Array:
        np.copyto(self._inside, self._x)
        for to, tap in self._pairs:
            np.copyto(to, tap)
        return self._to

    def _by_torch(self) -> Array:
        layer, torch = self._layer, sys.modules["torch"]
        x = torch.from_numpy(self._x)
        found: Array = torch.nn.functional.unfold(
            x, (layer.R, layer.S), layer.dilation, layer.pad, layer.stride
        ).numpy()
        return found

    @staticmethod
    def _seconds(way: Callable[[], Array]) -> float:
        times = []
        for _ in range(4):
            start = time.perf_counter()
            way()
            times.append(time.perf_counter() - start)
        return min(times)


def _contestant(
    name: str,
    layer: Layer,
    x: Array,
    products: Sequence[Callable[..., Any]],
    *,
    pattern: str,
    threads: int,
) -> Contestant:
    """A peer that multiplies each group's lowered matrix.

    One product is the output; several (groups, pictures) are copied into it.
    """
    lower = _Lowering(layer, x)
    out = aligned((len(x), layer.groups, layer.K // layer.groups, layer.P * layer.Q))
    last = [out]

    def one() -> None:
        last[0] = products[0](lower()[0, 0])

    def several() -> None:
        lowered = lower()
        for image in range(len(x)):
            for group, product in enumerate(products):
                out[image, group] = product(lowered[image, group])

    return Contestant(
        name=name, kind="sparse", pattern=pattern, threads=threads,
        call=one if len(x) == layer.groups == 1 else several,
        result=lambda: last[0].reshape(len(x), layer.K, layer.P, layer.Q),
        notes={"lowered_by": lower.way},
    )  # fmt: skip


def _matrices(layer: Layer, weights: Array) -> list[Any]:
    rows = weights.reshape(layer.groups, layer.K // layer.groups, -1)
    return [sparse.csr_matrix(group) for group in rows]


def scipy_peer(
    layer: Layer, weights: Array, x: Array, pattern: str, threads: int
) -> Iterator[Contestant]:
    """scipy.sparse, always one thread."""
    products = [matrix.__matmul__ for matrix in _matrices(layer, weights)]
    yield _contestant("scipy", layer, x, products, pattern=pattern, threads=threads)


def mkl_peer(
    layer: Layer, weights: Array, x: Array, pattern: str, threads: int
) -> Iterator[Contestant]:
    """MKL's sparse BLAS: through sparse_dot_mkl, or prepared for a fully connected layer."""
    if layer.type == "fc":
        yield _mkl_fc(layer, weights, x, pattern, threads)
        return
    found = sorted(glob.glob(f"{sys.prefix}/lib/libmkl_rt.so*"))  # noqa: PTH207 - where pip puts it
    if found:
        os.environ.setdefault("MKL_RT", found[0])
    mkl: Any = importlib.import_module("sparse_dot_mkl")
    products = [
        lambda lowered, matrix=matrix: mkl.dot_product_mkl(matrix, lowered)
        for matrix in _matrices(layer, weights)
    ]
    yield _contestant("mkl", layer, x, products, pattern=pattern, threads=threads)


def _mkl_fc(layer: Layer, weights: Array, x: Array, pattern: str, threads: int) -> Contestant:
    matrix = Csr(weights.reshape(layer.K, layer.C), len(x))
    rows, out = x.reshape(len(x), layer.C), aligned((len(x), layer.K))
    if len(x) == 1:
        way, call = "vector", matrix.vector(rows, out)
    else:
        way, call = matrix.vectors(rows, out)
    return Contestant(
        name="mkl", kind="sparse", call=call, pattern=pattern, threads=threads,
        result=lambda: out.reshape(len(x), layer.K, 1, 1), notes={"layout": way},
    )  # fmt: skip


def torch_sparse_peer(
    layer: Layer, weights: Array, x: Array, pattern: str, threads: int
) -> Iterator[Contestant]:
    """torch.sparse, CSR."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    rows = weights.reshape(layer.groups, layer.K // layer.groups, -1)
    matrices = [torch.from_numpy(group.copy()).to_sparse_csr() for group in rows]
    products = [
        lambda lowered, matrix=matrix: torch.sparse.mm(matrix, torch.from_numpy(lowered)).numpy()
        for matrix in matrices
    ]
    yield _contestant("torch_sparse", layer, x, products, pattern=pattern, threads=threads)


Builder = Callable[[Layer, Array, Array, str, int], Iterator[Contestant]]

#: what suites.yaml may name under `sparse`, besides methods of ours and deepsparse
PEERS: Final[dict[str, Builder]] = {
    "scipy": scipy_peer,
    "mkl": mkl_peer,
    "torch_sparse": torch_sparse_peer,
}
