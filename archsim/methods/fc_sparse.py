"""Sparse fully connected layers: one image gathers its inputs, several lie in SIMD lanes.

``gather``: a sum is one number; a nonzero is a weight, a 16-bit offset and one gathered input.
``lanes``: the inputs of up to four vectors of images are turned to [input][image]; a nonzero then
is a weight that meets whole vectors.  Inputs come in blocks that stay in L1 while every output
passes (the column blocks of sparse matrix times dense matrix of Park et al., ICLR 2017, section 3).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from archsim.methods.sharing import Partition, cut_alike, even_parts, part_counts, share, total_of
from archsim.methods.sharing import cut as cut_units
from archsim.methods.streams import batch_distance, stream
from archsim.network import FLOAT_BYTES, Layer
from archsim.plan import Counts, Expected, Phase, Plan, Stream, Target, Work, first
from archsim.sparsity import Densities, Sparsity

NAME: Final = "fc_sparse"
SCHEDULES: Final = ("auto", "gather", "lanes")

_NONZERO_BYTES: Final = FLOAT_BYTES + 2
_MOST_VECTORS: Final = 4  # of images: FcSparse's register blocks
_OFFSETS: Final = 2**16  # an offset has 16 bits
_LEAST_LIST: Final = 8.0  # nonzeros of an output in a block; assumed: fewer would not pay
# Lists side by side for 1, 2, 3, 4 vectors, with 32 registers and with 16 (kernels/csrc/f32_fc.c).
_LISTS: Final = {32: (16, 8, 8, 4), 16: (8, 4, 4, 2)}
_GATHER_CHAINS: Final = 2
_SCALAR_CHAINS: Final = 4
_GATHER_LANES: Final = 8  # from so many lanes on the kernel gathers vectors
# Instructions of a list apart from its nonzeros: its bounds, its output, its sums (gathered: put
# together); gcc -S of kernels/csrc/f32_fc.c, functions rows_1 and gather.
_LIST_OPS: Final = 12.0
_LIST_LOADS: Final = 3.0


def reason(layer: Layer, sparsity: Sparsity | Densities) -> str | None:
    """Return why the method does not apply, or None."""
    if layer.type != "fc":
        return "the layer is a convolution; this method is for fully connected layers"
    if sparsity.domain != "spatial":
        return "density is of the Winograd domain; a fully connected layer has none"
    return None


@dataclass(frozen=True, slots=True)
class _Cut:
    """The blocking, and what follows from it."""

    vectors: int  # of images; 0: gather
    images: int  # of a turn
    lists: int  # side by side
    input_block: int
    blocks: int
    turns: int


def _cut(layer: Layer, density: float, batch: int, schedule: str, target: Target) -> _Cut:
    lanes = target.lanes
    if schedule == "auto":
        # one vector of images costs about what one gathered image does
        schedule = "gather" if batch == 1 else "lanes"
    if schedule == "gather":
        blocks = ceil(layer.C / _OFFSETS)
        return _Cut(0, 1, 1, ceil(layer.C / blocks), blocks, batch)
    turns = ceil(batch / (_MOST_VECTORS * lanes))
    vectors = ceil(batch / (turns * lanes))
    images = vectors * lanes
    # a third of L1: sums, offsets and weights pass beside the inputs
    room = target.l1_bytes // target.l1_sharers // 3 // (FLOAT_BYTES * images)
    wanted = max(room, ceil(_LEAST_LIST / max(density, _LEAST_LIST / layer.C)))
    blocks = ceil(layer.C / max(1, min(wanted, _OFFSETS // (images // 2))))
    lists = _LISTS[32 if target.registers >= 32 else 16][vectors - 1]
    return _Cut(vectors, images, lists, ceil(layer.C / blocks), blocks, ceil(batch / images))


def plan(
    layer: Layer,
    sparsity: Sparsity | Densities,
    *,
    batch: int,
    threads: int,
    schedule: str,
    target: Target,
    partition: Partition,
) -> Plan:
    """Plan gathers or images in lanes; see :func:`archsim.api.make_plan` for the arguments."""
    cut = _cut(layer, first(sparsity.density), batch, schedule, target)
    nonzeros, kind = _outputs(layer, sparsity)
    total = total_of(nonzeros, kind)
    # a part's lists are sorted by length when they are packed: no thread can take another's
    by: Partition = "rows" if partition == "rows" else "nnz"
    parts = (
        cut_units(by, nonzeros, kind, threads)
        if sparsity.weights is not None
        else cut_alike(by, 1.0, (layer.K, 1, 1), threads)
    )
    far = batch_distance(layer, batch, threads, threads)
    products = Phase(
        name="products",
        tiles=share(cut.turns, threads, threads, parts.counts),
        work=_work(nonzeros, cut) if cut.vectors else _gather_work(nonzeros, cut, target.lanes),
        streams=_streams(layer, nonzeros, total, cut, threads, far),
        waits_for="input" if cut.vectors else None,
        barriers=2 * cut.turns if threads > 1 and cut.vectors else 0,
    )
    phases: tuple[Phase, ...] = (products,)
    if cut.vectors:
        phases = (
            turn_phase("input", layer.C, cut.images, cut.turns, threads, target, far),
            products,
            turn_phase("output", layer.K, cut.images, cut.turns, threads, target, far),
        )
    return Plan(
        method=NAME,
        schedule=SCHEDULES[2 if cut.vectors else 1],
        layer=layer,
        sparsity=sparsity,
        batch=batch,
        threads=threads,
        threads_per_image=threads,
        target=target,
        blocking={
            "lanes": target.lanes,
            "vectors": cut.vectors,
            "lists": cut.lists,
            "input_block": cut.input_block,
            "threads_per_image": threads,
        },
        part_ptr=parts.part_ptr,
        phases=phases,
        nonzeros=total,
        images_per_turn=cut.images,
    )


def blockings(
    layer: Layer, densities: Densities, *, batch: int, threads: int, schedule: str, target: Target,
    partition: Partition,
) -> list[Hashable]:  # fmt: skip
    """Return for each density what its plan's blocking depends on: equal ones are of one plan."""
    del threads, partition
    return [_cut(layer, x, batch, schedule, target) for x in densities.density[:, 0].tolist()]


def _outputs(layer: Layer, sparsity: Sparsity | Densities) -> tuple[Counts, NDArray[np.int64]]:
    """Return nonzeros of each distinct output, and the kind of every output."""
    if sparsity.weights is None:
        return np.atleast_1d(sparsity.density * layer.C), np.zeros(layer.K, dtype=np.int64)
    counts = np.count_nonzero(sparsity.weights.reshape(layer.K, -1), axis=1)
    distinct, kind = np.unique(counts, return_inverse=True)
    return distinct.astype(np.float64), kind.astype(np.int64)


def _gather_work(nonzeros: Counts, cut: _Cut, lanes: int) -> Work:
    """Operations of one output for one image.

    From 8 lanes on the kernel gathers vectors; with fewer it takes one number at a time.
    """
    lists = float(cut.blocks)
    if lanes < _GATHER_LANES:
        return Work.of(
            kinds=nonzeros.shape[-1],
            gathered=nonzeros,
            scalar_multiply_adds=nonzeros,
            scalar_loads=2.0 * nonzeros + _LIST_LOADS * lists,  # offset and weight
            scalar_ops=5.0 * nonzeros / _SCALAR_CHAINS + _LIST_OPS * lists,
            stores=lists,
            branches=nonzeros / _SCALAR_CHAINS + lists,
            mispredicts=lists,
            chain_multiply_adds=nonzeros / _SCALAR_CHAINS,
        )
    vectors = nonzeros / lanes
    halvings = lanes.bit_length() - 1.0  # a vector's lanes are added up
    return Work.of(
        kinds=nonzeros.shape[-1],
        gathered=nonzeros,
        multiply_adds=vectors + (1.0 + halvings) * lists,
        loads_unaligned=2.0 * vectors,  # offsets, and weights into the multiply-adds
        loads_folded=vectors,
        scalar_loads=_LIST_LOADS * lists,
        scalar_ops=6.0 * vectors / _GATHER_CHAINS + (_LIST_OPS + halvings) * lists,
        stores=lists,
        branches=vectors / _GATHER_CHAINS + lists,
        mispredicts=lists,
        chain_multiply_adds=vectors / _GATHER_CHAINS + (1.0 + halvings) * lists,
    )


def _work(nonzeros: Counts, cut: _Cut) -> Work:
    """Operations of one output for a turn of images, over all blocks of inputs.

    Counted as if all outputs stood in groups, and all lists of a group were equally long.
    """
    beside, lists = float(cut.lists), float(cut.blocks)
    products = nonzeros * cut.vectors
    sums = cut.vectors * lists
    return Work.of(
        kinds=nonzeros.shape[-1],
        multiply_adds=products,
        loads_aligned=products + sums - cut.vectors,
        loads_folded=products if cut.vectors == 1 else 0.0,
        stores=sums,
        broadcasts=nonzeros + 1.0,
        # an offset: a quarter of a load, or a load
        scalar_loads=nonzeros * (0.25 if cut.lists % 4 == 0 else 1.0) + _LIST_LOADS * lists,
        # two operations make an offset; a round: a prefetch, two pointers, a count
        scalar_ops=2.0 * nonzeros + 4.0 * nonzeros / beside + _LIST_OPS * lists,
        branches=nonzeros / beside + (1.0 + 1.0 / beside) * lists,
        chain_multiply_adds=nonzeros / beside,
    )


def _streams(
    layer: Layer, nonzeros: Counts, total: Expected, cut: _Cut, threads: int, far: float
) -> tuple[Stream, ...]:
    """Bytes of one output for a turn."""
    kinds, outputs = nonzeros.shape[-1], layer.K / threads
    inputs = float(FLOAT_BYTES * layer.C * cut.images)  # of a turn
    sums = float(FLOAT_BYTES * cut.images)
    weights = _NONZERO_BYTES * total / threads  # of the thread's part
    block = FLOAT_BYTES * float(cut.input_block * cut.images)
    turn = weights + inputs + sums * outputs  # touched until the same turn of the next call
    read = FLOAT_BYTES * cut.images * nonzeros
    first = np.minimum(read, inputs / max(1.0, outputs))
    listed = _NONZERO_BYTES * nonzeros / cut.blocks  # of an output in a block
    back = sums * (cut.blocks - 1)
    found = [
        stream("weights", "read", _NONZERO_BYTES * nonzeros, turn, kinds=kinds),
        stream("input", "read", first, inputs + weights if cut.vectors else far, kinds=kinds,
               shared="image"),
        stream("input", "read", read - first, block + listed + sums, kinds=kinds),
    ]  # fmt: skip
    if cut.vectors:
        block_pass = weights / cut.blocks + block + sums * outputs
        found.append(stream("sums", "update", back, block_pass, kinds=kinds))
        found.append(stream("sums", "write", sums, turn, kinds=kinds))
    else:
        found.append(stream("output", "update", back, weights / cut.blocks, kinds=kinds))
        found.append(stream("output", "write", sums, far, kinds=kinds))
    return tuple(found)


def turn_phase(
    name: str, numbers: int, images: int, turns: int, threads: int, target: Target, far: float
) -> Phase:
    """Turn [image][number] to [number][image] (input) or back; a tile is one number's images."""
    vectors = images / target.lanes
    moved = float(FLOAT_BYTES * images)
    near = moved * numbers / threads
    units = part_counts(even_parts(numbers, threads), np.zeros(numbers, dtype=np.int64))
    buffer = "lane input" if name == "input" else "sums"
    outside, inside = (
        (stream("input", "read", moved, far), stream(buffer, "write", moved, near))
        if name == "input"
        else (stream("output", "write", moved, far), stream(buffer, "read", moved, near))
    )
    return Phase(
        name=name,
        tiles=share(turns, threads, threads, units),
        work=Work.of(
            loads_unaligned=vectors,
            stores=vectors,
            shuffles=vectors * (target.lanes.bit_length() - 1),  # log2(lanes) of each
            scalar_ops=2.0 * vectors,
            branches=vectors,
        ),
        streams=(outside, inside),
        waits_for=None if name == "input" else "products",
    )
