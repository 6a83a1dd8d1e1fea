"""Lists of whole kernels: what removed single kernels leave, without any matrix getting smaller.

Each output map has a product of its own: of its kernels, R S columns each, with their rows of the
lowered matrix.  A block of input maps is lowered into the first level by each thread for itself and
meets the lists of all its output maps there; their sums wait in the second level for the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from archsim.methods.lowered_sparse import panel_work
from archsim.methods.sharing import Partition, cut, part_counts, share
from archsim.methods.streams import batch_distance, stream
from archsim.network import FLOAT_BYTES, INDEX_BYTES, Layer
from archsim.plan import Counts, Phase, Plan, Stream, Target, Work
from archsim.sparsity import Sparsity

#: vectors of sums in registers: all 16 but two; more would save few broadcasts, and leave room for
#: fewer input maps in the first level
_MOST_VECTORS: Final = 14
# An entry: four offsets move up, row, end and count. A list: bounds, a tile's fields, a call
# (objdump of run_tile in kernels/csrc/f32_lowered.c and of column_blocks in run_lowered.c, avx512,
# gcc 12).
_ENTRY_OPS: Final = 7.0
_LIST_OPS: Final = 36.0
_LIST_LOADS: Final = 14.0


@dataclass(frozen=True)
class _Walk:
    """How a thread goes through an image."""

    layer: Layer
    target: Target
    sharers: int
    batch: int
    threads: int
    pixel_vectors: int
    channel_block: int

    @property
    def taps(self) -> int:
        return self.layer.R * self.layer.S

    @property
    def vectors(self) -> int:
        """Vectors of output pixels."""
        return ceil(self.layer.P * self.layer.Q / self.target.lanes)

    @property
    def pixel_blocks(self) -> int:
        return ceil(self.vectors / self.pixel_vectors)

    @property
    def block_bytes(self) -> float:
        """Of a vector of each pixel of a block."""
        return float(FLOAT_BYTES * self.target.lanes * self.pixel_vectors)

    @property
    def panel_bytes(self) -> float:
        return self.channel_block * self.taps * self.block_bytes

    @property
    def sums_bytes(self) -> float:
        """Of a thread, for a block of pixels of one group."""
        return self.layer.K / self.layer.groups / self.sharers * self.block_bytes


def plan(
    method: str,
    schedule: str,
    layer: Layer,
    sparsity: Sparsity,
    kernels: NDArray[np.bool_],
    *,
    batch: int,
    threads: int,
    target: Target,
    partition: Partition,
) -> Plan:
    """Plan lists of kernels.

    Parameters
    ----------
    kernels : ndarray of shape (K, C / groups), bool
        Those that have any weight.
    """
    sharers = min(threads, max(1, threads // batch))
    vectors = ceil(layer.P * layer.Q / target.lanes)
    most = min(_MOST_VECTORS, target.registers - 2)
    pixel_vectors = ceil(vectors / ceil(vectors / most))
    # two thirds of L1: sums and weights pass beside the panel
    room = target.l1_bytes // target.l1_sharers * 2 // 3
    row = FLOAT_BYTES * target.lanes * pixel_vectors
    in_group = layer.C // layer.groups
    block = max(1, min(in_group, room // (row * layer.R * layer.S)))
    block = ceil(in_group / ceil(in_group / block))
    walk = _Walk(layer, target, sharers, batch, threads, pixel_vectors, block)
    lists, kind = _kinds(kernels, block)
    nonzeros = float(kernels.sum()) * walk.taps
    parts = cut(partition, lists[:, 0] * walk.taps, kind, sharers)
    return Plan(
        method=method,
        schedule=schedule,
        layer=layer,
        sparsity=sparsity,
        batch=batch,
        threads=threads,
        threads_per_image=sharers,
        target=target,
        blocking={
            "granularity": "kernel",
            "lanes": target.lanes,
            "pixel_vectors": pixel_vectors,
            "channel_block": block,
            "threads_per_image": sharers,
            "partition": partition,
        },
        part_ptr=parts.part_ptr,
        phases=(
            _panels(walk, target),
            Phase(
                name="products",
                tiles=share(batch, threads, sharers, parts.counts),
                work=_work(walk, lists),
                streams=_streams(walk, lists, nonzeros),
            ),
        ),
        nonzeros=nonzeros,
    )


def _kinds(kernels: NDArray[np.bool_], block: int) -> tuple[Counts, NDArray[np.int64]]:
    """Return kernels and visits of each distinct output map (kinds, 2), and every map's kind.

    A visit is a list that the thread walks: in the first and the last block of input maps, and
    where there is a kernel.
    """
    starts = np.arange(0, kernels.shape[1], block)
    there = np.add.reduceat(kernels, starts, axis=1, dtype=np.int64) > 0
    there[:, [0, -1]] = True
    each = np.stack([kernels.sum(axis=1), there.sum(axis=1)], axis=1)
    distinct, kind = np.unique(each, axis=0, return_inverse=True)
    return distinct.astype(np.float64), kind.reshape(-1).astype(np.int64)


def _work(walk: _Walk, lists: Counts) -> Work:
    """Operations of one output map over all pixels."""
    blocks = walk.pixel_blocks
    entries, visits = lists[:, 0] * blocks, lists[:, 1] * blocks
    steps = entries * walk.taps
    products = lists[:, 0] * (walk.taps * walk.vectors)
    moved = lists[:, 1] * walk.vectors  # vectors of sums
    return Work.of(
        kinds=len(lists),
        multiply_adds=products,
        loads_aligned=products + moved - walk.vectors,
        loads_folded=products,
        stores=moved,
        broadcasts=steps + blocks,
        scalar_loads=entries + _LIST_LOADS * visits,
        scalar_ops=2.0 * steps + _ENTRY_OPS * entries + _LIST_OPS * visits,
        branches=steps + entries + 2.0 * visits,
        mispredicts=visits,
        chain_multiply_adds=steps,
    )


def _streams(walk: _Walk, lists: Counts, nonzeros: float) -> tuple[Stream, ...]:
    """Bytes of one output map over all pixels."""
    layer, kinds = walk.layer, len(lists)
    each = FLOAT_BYTES + INDEX_BYTES / walk.taps
    weights = each * walk.taps * lists[:, 0]
    all_weights = each * nonzeros / walk.sharers
    pictures = batch_distance(layer, walk.batch, walk.threads, walk.sharers)
    touched = FLOAT_BYTES * walk.target.lanes * walk.vectors
    sums = touched * (lists[:, 1] - 1.0)
    # until the same block of pixels, or of input maps, comes again
    image = all_weights + walk.panel_bytes + walk.sums_bytes
    return (
        stream("weights", "read", weights, image + pictures, kinds=kinds, shared="part"),
        stream("weights", "read", weights * (walk.pixel_blocks - 1), image, kinds=kinds,
               shared="part"),
        stream("lowered input", "read", touched * walk.taps * lists[:, 0], walk.panel_bytes,
               kinds=kinds),
        stream("sums", "update", sums, walk.panel_bytes + walk.sums_bytes, kinds=kinds),
        stream("output", "write", FLOAT_BYTES * float(layer.P * layer.Q), pictures, kinds=kinds),
    )  # fmt: skip


def _panels(walk: _Walk, target: Target) -> Phase:
    """Lower the image; a tile is one row (c, r, s) of the lowered matrix, over all blocks.

    Each of the threads that share an image does so for itself.
    """
    layer = walk.layer
    rows = layer.C * walk.taps
    counts = np.tile(part_counts((0, rows), np.zeros(rows, dtype=np.int64)), (walk.sharers, 1))
    pixels = float(layer.P * layer.Q)
    first = FLOAT_BYTES * float(layer.H * layer.W) / walk.taps
    again = max(0.0, FLOAT_BYTES * pixels - first)
    near = 2.0 * walk.panel_bytes
    return Phase(
        name="input",
        tiles=share(walk.batch, walk.threads, walk.sharers, counts),
        work=panel_work(layer, walk.vectors, walk.pixel_blocks, target),
        streams=(
            stream("input", "read", first,
                   batch_distance(layer, walk.batch, walk.threads, walk.sharers)),
            stream("input", "read", again, 2.0 * walk.block_bytes),
            stream("lowered input", "write", FLOAT_BYTES * pixels, near),
        ),
    )  # fmt: skip
