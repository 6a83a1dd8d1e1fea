"""Structured sparsity: the smaller dense product that removed maps and kernel positions leave.

After lowering a layer is [N x C k k] times [C k k x P].  A removed output map takes a row of the
first matrix; a removed input map k k columns of the first and rows of the second.  Intra-kernel
strided sparsity (Anwar, Hwang, Sung, "Structured Pruning of Deep Convolutional Neural Networks",
ACM JETC 13(3), 2017) keeps in all kernels of an input map the positions offset, offset + stride,
...: both matrices lose the others, K' = sum over the input maps of ceil((k k - offset) / stride)
columns and rows are left.  BLAS multiplies what is left (:mod:`archsim.methods.dense_gemm`).

Removed single kernels leave neither matrix smaller, but each output map a smaller product: of its
own kernels, R S columns each, with their rows: lists of whole kernels
(:mod:`archsim.methods.structured_kernels`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from archsim.methods import structured_kernels
from archsim.methods.dense_gemm import LOOPS, gemm_of, gemm_streams, gemm_work
from archsim.methods.sharing import Partition, balanced_parts, part_counts, share
from archsim.methods.streams import im2col_phase, stream
from archsim.network import FLOAT_BYTES, Layer
from archsim.plan import Phase, Plan, Stream, Target, Work
from archsim.sparsity import Densities, Sparsity

NAME: Final = "structured"
SCHEDULES: Final = ("auto", "feature-map", "intra-kernel-strided", "kernel")

#: ``auto`` takes lists of kernels where they leave less than this share of the smaller dense
#: product: a list loads a vector for each multiply-add, BLAS few (assumed; docs/structured.md has
#: measured points)
_LISTS_PAY: Final = 0.5

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Kept:
    """What the weights leave of both lowered matrices.

    Attributes
    ----------
    channels : ndarray of shape (K,), bool
        Output maps with any weight.
    positions : ndarray of shape (groups, C / groups, R * S), bool
        Rows of the lowered matrix that any weight of the group meets.
    kernels : ndarray of shape (K, C / groups), bool
        Kernels with any weight.
    """

    channels: Mask
    positions: Mask
    kernels: Mask

    def rows(self, schedule: str) -> Mask:
        """Rows of the lowered matrix that are made, shape (groups, C / groups, R * S)."""
        if schedule == "intra-kernel-strided":
            return self.positions
        whole: Mask = np.repeat(
            self.positions.any(axis=2, keepdims=True), self.positions.shape[2], axis=2
        )
        return whole

    def shapes(self, layer: Layer, schedule: str) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return (rows, columns) of the weights' and the lowered matrix, all groups together."""
        rows = int(self.rows(schedule).sum())
        return (int(self.channels.sum()), rows), (rows, layer.P * layer.Q)


def find(layer: Layer, sparsity: Sparsity | Densities) -> Kept:
    """Return what the pattern leaves; a density alone leaves everything."""
    weights = np.ones(layer.weight_shape) if sparsity.weights is None else sparsity.weights
    there = (weights != 0).reshape(layer.groups, layer.K // layer.groups, -1, layer.R * layer.S)
    kernels = there.any(axis=3).reshape(layer.K, -1)
    return Kept(kernels.any(axis=1), there.any(axis=1), kernels)


def shapes_left(layer: Layer, sparsity: Sparsity, schedule: str) -> str:
    """Return what is left of both lowered matrices, in words, all groups together.

    ``[384 x 1154] . [1154 x 169] of [384 x 2304] . [2304 x 169]``
    """
    kept, depth, pixels = find(layer, sparsity), layer.C * layer.R * layer.S, layer.P * layer.Q
    whole = f"of [{layer.K} x {depth}] . [{depth} x {pixels}]"
    if schedule == "kernel":
        return f"{int(kept.kernels.sum())} of {kept.kernels.size} kernels {whole}"
    (rows, left), _ = kept.shapes(layer, schedule)
    return f"[{rows} x {left}] . [{left} x {pixels}] {whole}"


def strided_columns(offsets: NDArray[np.int64], stride: int, kernel: int) -> int:
    """Return K', the columns that intra-kernel strided sparsity leaves.

    Parameters
    ----------
    offsets : ndarray of shape (C,), int
        First kept position in the kernels of each input map, 0 to stride - 1.
    stride : int
    kernel : int
        Positions of a kernel, R * S.

    >>> strided_columns(np.array([0, 1]), 2, 9)
    9
    """
    return int(sum(max(0, ceil((kernel - int(offset)) / stride)) for offset in offsets))


def reason(layer: Layer, sparsity: Sparsity | Densities) -> str | None:
    """Return why the method does not apply, or None."""
    if layer.type == "fc":
        return "a fully connected layer has no maps and no kernels to remove"
    if sparsity.domain != "spatial":
        return "density is of the Winograd domain; lowering needs spatial weights"
    if sparsity.weights is None:
        return "a density does not say which maps or kernel positions are gone: a pattern is needed"
    kept = find(layer, sparsity)
    if kept.channels.all() and kept.positions.all() and not _lists(layer, kept):
        return "no map, kernel or kernel position is zero throughout: no smaller problem is left"
    return None


def _lists(layer: Layer, kept: Kept) -> bool:
    """Whether there are kernels to leave out; single weights are no structure."""
    return layer.R * layer.S > 1 and not bool(kept.kernels.all())


def plan(
    layer: Layer,
    sparsity: Sparsity,
    *,
    batch: int,
    threads: int,
    schedule: str,
    target: Target,
    partition: Partition,
) -> Plan:
    """Plan the smaller product; see :func:`archsim.api.make_plan` for the arguments."""
    kept = find(layer, sparsity)
    if schedule == "auto":
        schedule = _cheapest(layer, kept)
    if schedule == "kernel":
        return structured_kernels.plan(
            NAME, schedule, layer, sparsity, kept.kernels,
            batch=batch, threads=threads, target=target, partition=partition,
        )  # fmt: skip
    # BLAS makes whole matrices: whatever the partition, each thread has one part of kept channels
    made = kept.rows(schedule)
    rows, channels = int(made.sum()), int(kept.channels.sum())
    sharers = min(threads, max(1, threads // batch))
    part_ptr = balanced_parts(kept.channels.astype(np.float64), sharers)
    gemm = gemm_of(
        layer, batch, threads, sharers, target, lowers=True,
        kept=(ceil(rows / layer.groups), ceil(channels / layer.groups)),
    )  # fmt: skip
    products = Phase(
        name="products",
        tiles=share(batch, threads, sharers, _parts(layer, kept, part_ptr)),
        work=gemm_work(gemm, target),
        streams=gemm_streams(gemm, target),
        waits_for="input",
        barriers=2 * ceil(batch * sharers / threads) if sharers > 1 else 0,
        loops=LOOPS,
    )
    lowering = im2col_phase(
        layer, target=target, batch=batch, threads=threads, sharers=sharers,
        buffer_distance=gemm.turn_bytes, kept=(rows, int(made.any(axis=2).sum())),
    )  # fmt: skip
    phases: tuple[Phase, ...] = (lowering, products)
    if channels < layer.K:
        spread = _spread(layer, kept, part_ptr, (batch, threads, sharers), target)
        phases = (lowering, products, spread)
    return Plan(
        method=NAME,
        schedule=schedule,
        layer=layer,
        sparsity=sparsity,
        batch=batch,
        threads=threads,
        threads_per_image=sharers,
        target=target,
        blocking={
            "granularity": schedule.removesuffix("-strided"),
            "kept_rows": rows,
            "kept_channels": channels,
            "threads_per_image": sharers,
        },
        part_ptr=part_ptr,
        phases=phases,
        nonzeros=_products(layer, kept, made),
    )


def _cheapest(layer: Layer, kept: Kept) -> str:
    """The schedule of ``auto``: of the dense ones the coarser where the finer leaves as much."""
    finer = kept.rows(SCHEDULES[2]).sum() < kept.rows(SCHEDULES[1]).sum()
    dense = SCHEDULES[2 if finer else 1]
    listed = float(kept.kernels.sum()) * layer.R * layer.S
    if _lists(layer, kept) and listed < _LISTS_PAY * _products(layer, kept, kept.rows(dense)):
        return "kernel"
    return dense


def _products(layer: Layer, kept: Kept, made: Mask) -> float:
    """Multiply-adds of an output pixel: all weights of the smaller matrices count."""
    channels = kept.channels.reshape(layer.groups, -1).sum(axis=1)
    return float(channels @ made.reshape(layer.groups, -1).sum(axis=1))


def _parts(layer: Layer, kept: Kept, part_ptr: tuple[int, ...]) -> NDArray[np.int64]:
    """Tiles of each rank, by kind as in ``dense_gemm``, of the kept output channels."""
    group = np.arange(layer.K) // (layer.K // layer.groups)
    parts = []
    for start, stop in pairwise(part_ptr):
        here = kept.channels[start:stop]
        parts.append((here.sum(), here.sum(), len(np.unique(group[start:stop][here]))))
    return np.array(parts, dtype=np.int64)


def _spread(
    layer: Layer,
    kept: Kept,
    part_ptr: tuple[int, ...],
    team: tuple[int, int, int],
    target: Target,
) -> Phase:
    """Bring the kept channels (kind 0) to their places, and clear the others (kind 1)."""
    batch, threads, sharers = team
    kinds = part_counts(part_ptr, np.where(kept.channels, 0, 1))
    pixels = float(layer.P * layer.Q)
    vectors = ceil(pixels / target.lanes)
    plane = FLOAT_BYTES * pixels
    distance = FLOAT_BYTES * pixels * layer.K / sharers
    streams: tuple[Stream, ...] = (
        stream("output", "read", [plane, 0.0], distance, kinds=2),
        stream("output", "write", plane, distance, kinds=2),
    )
    counts = np.zeros((sharers, 2), dtype=np.int64)
    counts[:, : kinds.shape[1]] = kinds
    return Phase(
        name="output",
        tiles=share(batch, threads, sharers, counts),
        work=Work.of(
            kinds=2,
            loads_unaligned=[float(vectors), 0.0],
            stores=float(vectors),
            branches=float(vectors),
        ),
        streams=streams,
        waits_for="products",
    )
