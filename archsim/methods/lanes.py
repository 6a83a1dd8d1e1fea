"""The ``lanes`` and ``pointwise`` schedules of direct sparse convolution: every load is aligned.

SIMD lanes hold far-apart pixels, so that a weight's row and column move from vector to vector
(:mod:`archsim.methods.lanes_geometry`).  The picture is transposed into lane layout, each
output channel's sums out of it.  Loops: group, register block, block of slabs, output channel,
nonzero; between blocks of slabs the sums are spilled.  In ``shifts`` lanes are neighbouring
pixels: rows are copied, not transposed, and a weight's column moves the sums, once for all
nonzeros of that column.  ``pointwise`` reads a 1x1 layer's planes where they stand.  Layout and
blocks come from :mod:`archsim.methods.lanes_cost`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, prod
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.errors import NotApplicableError
from archsim.methods.crossing import anywhere
from archsim.methods.lanes_cost import (
    Choice,
    choose,
    register_blocks,
    threads_per_turn,
)
from archsim.methods.lanes_geometry import (
    MODES,
    Mode,
    out_shares,
    past_caches,
    slab_of_weight,
    window_rows,
    windowed,
)
from archsim.methods.lanes_moves import out_work, window_work
from archsim.methods.sharing import (
    Cut,
    Handed,
    Partition,
    cut,
    cut_alike,
    ends_of,
    even_parts,
    handed,
    part_counts,
    share,
    total_of,
)  # fmt: skip
from archsim.methods.streams import (
    batch_distance,
    comes_back,
    copied_rows,
    in_turn,
    stream,
)
from archsim.network import FLOAT_BYTES, INDEX_BYTES, Layer
from archsim.plan import Counts, Expected, Phase, Plan, Stream, Target, Work, first
from archsim.sparsity import Densities, Sparsity

#: Schedules, and the modes that each may choose from.
SCHEDULES: Final[dict[str, tuple[Mode, ...]]] = {
    "lanes": ("flat", "tiles", "images", "shifts"),
    "lanes:flat": ("flat",),
    "lanes:tiles": ("tiles",),
    "lanes:images": ("images",),
    "lanes:shifts": ("shifts",),
    "pointwise": ("pointwise",),
}
_NONZERO_BYTES: Final = FLOAT_BYTES + INDEX_BYTES


def cheapest(
    layer: Layer, sparsity: Sparsity | Densities, batch: int, threads: int, target: Target
) -> Choice | None:
    """Return the cheapest of all modes."""
    return choose(layer, first(nonzeros_of(layer, sparsity)), batch, threads, target, MODES)


def nonzeros_of(layer: Layer, sparsity: Sparsity | Densities) -> Expected:
    """Return the nonzeros of a layer: counted, or expected."""
    if sparsity.weights is not None:
        return float(np.count_nonzero(sparsity.weights))
    return layer.weights * sparsity.density


@dataclass(frozen=True, slots=True)
class _Counts:
    """A choice for a layer, and what each kind of output channel has: arrays of (kinds,)."""

    layer: Layer
    choice: Choice
    unit_kind: NDArray[np.int64]  # (K,)
    nonzeros: Counts  # of several densities (..., kinds), and so the slabs
    slabs: Counts  # slabs with at least one nonzero
    total: Expected  # nonzeros of the layer
    turns: int
    sharers: int
    parts: Cut
    images_bytes: Expected  # what a thread touches of this layer in a turn, all arrays
    turn_bytes: Expected  # and of all layers that the turn has
    near: int  # threads that share a turn and a first level
    past_caches: bool  # whether outputs are written around the caches

    @property
    def vector_bytes(self) -> int:
        return FLOAT_BYTES * self.choice.geometry.lanes

    @property
    def slab_bytes(self) -> float:
        geometry = self.choice.geometry
        return float(geometry.in_rows * geometry.in_columns * self.vector_bytes)

    @property
    def window_bytes(self) -> float:
        """What a register block looks at of a slab."""
        return float(self.choice.geometry.window(*self.choice.reg) * self.vector_bytes)

    @property
    def group_slabs(self) -> int:
        return self.layer.C // self.layer.groups * self.choice.geometry.planes

    @property
    def handed(self) -> Handed:
        """What the threads of a turn hand to each other of its slabs."""
        ends = ends_of(self.parts, self.sharers, np.ones(self.layer.K))
        return handed(self.sharers, self.layer.groups, ends)

    @property
    def windowed(self) -> bool:
        """Whether each thread copies what a register block looks at just before its products."""
        return windowed(self.layer, self.choice.geometry)

    @property
    def passes(self) -> int:
        """Register blocks of an output channel."""
        return sum(register_blocks(self.choice.geometry, self.choice.reg).values())


def plan(
    layer: Layer,
    sparsity: Sparsity | Densities,
    *,
    batch: int,
    threads: int,
    schedule: str,
    target: Target,
    partition: Partition,
    blocks_for: float | None = None,
) -> Plan:
    """Plan one of `SCHEDULES`, with the blocks that are cheapest for a density (default: its own).

    Raises
    ------
    NotApplicableError
        The schedule cannot compute this layer.
    """
    total = first(nonzeros_of(layer, sparsity))
    if blocks_for is not None:
        total = layer.weights * blocks_for
    choice = choose(layer, total, batch, threads, target, SCHEDULES[schedule])
    if choice is None:
        why = "offsets into the input in lane layout would not fit 32 bits"
        if schedule == "pointwise":
            why = "pointwise is for 1x1 layers with stride 1 and no padding"
        raise NotApplicableError(why)
    return plan_choice(
        layer, sparsity, choice, batch=batch, threads=threads, target=target, partition=partition
    )


def plan_choice(
    layer: Layer,
    sparsity: Sparsity | Densities,
    choice: Choice,
    *,
    batch: int,
    threads: int,
    target: Target,
    partition: Partition,
    turn_bytes: float | None = None,
) -> Plan:
    """Plan a layout and blocks that were chosen.

    ``turn_bytes``: what is touched until the same weights come back; by default this layer's
    share of a turn, more where other layers follow in it.
    """
    counts = _counts(layer, sparsity, choice, batch, threads, target, partition)
    if turn_bytes is not None:
        counts = replace(counts, turn_bytes=turn_bytes)
    geometry = choice.geometry
    tiles = share(counts.turns, threads, counts.sharers, counts.parts.counts)
    # the input in lane layout is shared, or the count of the parts that are taken
    shared = counts.sharers > 1 and (partition == "dynamic" or not counts.windowed)
    barriers = ceil(counts.turns / (threads // counts.sharers)) * 2 if shared else 0
    products = Phase(
        name="products",
        tiles=tiles,
        work=_products_work(counts, target),
        streams=_products_streams(counts, threads),
        waits_for="input",
        barriers=barriers,
    )
    fill = _window_phase if counts.windowed else _input_phase
    phases = [fill(counts, threads, target), products]
    if not geometry.of_pixels:
        phases.append(_output_phase(counts, threads, target))
    return Plan(
        method="direct_sparse",
        schedule=geometry.mode if geometry.mode == "pointwise" else f"lanes:{geometry.mode}",
        layer=layer,
        sparsity=sparsity,
        batch=batch,
        threads=threads,
        threads_per_image=counts.sharers,
        target=target,
        blocking={
            "lanes": geometry.lanes,
            "mode": geometry.mode,
            "grid_rows": geometry.grid[0],
            "grid_columns": geometry.grid[1],
            "tile_rows": geometry.tile[0],
            "tile_columns": geometry.tile[1],
            "plane_pitch": geometry.pitch,
            "reg_rows": choice.reg[0],
            "reg_vectors": choice.reg[1],
            "slab_block": choice.slab_block,
            "slab_pitch": geometry.slab_pitch(*choice.reg),
            "past_caches": int(counts.past_caches),
            "threads_per_image": counts.sharers,
            "partition": partition,
        },
        part_ptr=counts.parts.part_ptr,
        phases=tuple(phases),
        nonzeros=counts.total,
        images_per_turn=geometry.images,
    )


def _counts(
    layer: Layer,
    sparsity: Sparsity | Densities,
    choice: Choice,
    batch: int,
    threads: int,
    target: Target,
    partition: Partition,
) -> _Counts:
    geometry = choice.geometry
    turns = ceil(batch / geometry.images)
    group_slabs = layer.C // layer.groups * geometry.planes
    if sparsity.weights is not None:
        nonzero = sparsity.weights != 0
        planes = slab_of_weight(layer)
        per_slab = np.stack(
            [nonzero[:, :, planes == p].any(axis=2) for p in range(geometry.planes)], axis=2
        )
        nonzeros = nonzero.sum(axis=(1, 2, 3)).astype(float)
        slabs = per_slab.sum(axis=(1, 2)).astype(float)
        unit_kind = np.arange(layer.K)
    else:
        weights = layer.weights / layer.K
        nonzeros = np.atleast_1d(weights * sparsity.density)
        seen = 1.0 - (1.0 - sparsity.density) ** (weights / group_slabs)
        slabs = np.atleast_1d(group_slabs * seen)
        unit_kind = np.zeros(layer.K, dtype=np.int64)
    total = total_of(nonzeros, unit_kind)
    turn_bytes = geometry.images * (layer.input_bytes + layer.output_bytes) + _NONZERO_BYTES * total
    if not windowed(layer, geometry):
        lane_bytes = FLOAT_BYTES * geometry.lanes * geometry.in_rows * geometry.in_columns
        turn_bytes = turn_bytes + layer.C * geometry.planes * lane_bytes
    sharers = threads_per_turn(turns, threads, target)
    parts = cut_alike(partition, first(nonzeros), (layer.K, 1, 1), sharers)
    if sparsity.weights is not None:
        parts = cut(partition, nonzeros, unit_kind, sharers)
    return _Counts(
        layer, choice, unit_kind, nonzeros, slabs, total, turns, sharers, parts, turn_bytes,
        turn_bytes, min(sharers, target.l1_sharers), past_caches(layer, geometry, target),
    )  # fmt: skip


def _input_phase(counts: _Counts, threads: int, target: Target) -> Phase:
    """Bring the picture into lane layout; a tile is one input channel."""
    layer, geometry = counts.layer, counts.choice.geometry
    lanes = geometry.lanes
    first = batch_distance(layer, counts.turns * geometry.images, threads, counts.sharers)
    plane = float(FLOAT_BYTES * layer.H * layer.W * geometry.images)
    padded = geometry.planes * counts.slab_bytes
    rows = float(layer.H * geometry.images)
    vectors = rows * ceil(layer.W / lanes)
    units = part_counts(even_parts(layer.C, counts.sharers), np.zeros(layer.C, dtype=np.int64))
    tiles = share(counts.turns, threads, counts.sharers, units)
    copy, turn = Work.of(), Work.of()
    if geometry.mode == "pointwise":  # read where it is
        plane = padded = 0.0
    else:
        moved = copied_rows(rows, vectors)
        if layer.stride[1] > 1:  # one pixel at a time, or shuffles of as much work
            moved = {"scalar_ops": rows * layer.W / layer.stride[1], "branches": rows}
        line, page = anywhere(min(lanes, layer.W), target)
        copy = Work.of(
            loads_unaligned=vectors, loads_line_crossing=line * vectors, stores=vectors,
            stores_line_crossing=line * vectors, stores_page_crossing=page * vectors, **moved,
        )  # fmt: skip
        turned = geometry.planes * geometry.in_rows * ceil(geometry.in_columns / 4)
        positions = float(geometry.planes * geometry.in_rows * geometry.in_columns)
        # quarters of vectors: aligned they are not, but 16 bytes seldom cross a line
        crossing = (4.0 - 1.0) / (target.line_bytes // FLOAT_BYTES)
        turn = Work.of(
            loads_unaligned=float(lanes * turned),
            loads_line_crossing=crossing * lanes * turned,
            stores=positions,
            scalar_loads=float(lanes * turned),  # where a lane begins
            shuffles=8.0 * turned,  # of four vectors
        )
    lane_input = stream(
        "lane input", "write", padded, counts.turn_bytes / counts.sharers,
        handed=counts.handed.written,
    )  # fmt: skip
    return in_turn(
        "input", tiles,
        (copy, [stream("input", "read", plane, first),
                stream("padded input", "update", plane, 2.0 * plane)]),
        (turn, [stream("padded input", "read", plane, 2.0 * plane), lane_input]),
    )  # fmt: skip


def _window_phase(counts: _Counts, threads: int, target: Target) -> Phase:
    """Copy what register blocks look at; a tile is one input channel, in all of them.

    Every thread that shares an image copies for itself, once for each part of output channels, the
    channels of the groups that these are in.
    """
    layer, geometry, lanes = counts.layer, counts.choice.geometry, counts.choice.geometry.lanes
    read, written = window_rows(layer, geometry, counts.choice.reg)
    work, crossing = window_work(layer, lanes, read, written, target)
    plane = float(FLOAT_BYTES * layer.H * layer.W)
    again = max(0.0, read * counts.vector_bytes - plane)
    window = counts.window_bytes
    in_block = min(counts.choice.slab_block, counts.group_slabs) * window
    # what a window's pixels stand in: rows of the picture, or its vectors and a line
    wide = counts.choice.reg[1] * counts.vector_bytes
    row = layer.W if geometry.mode == "shifts" else layer.H * layer.W
    covered = min(FLOAT_BYTES * row, wide * layer.stride[1] + target.line_bytes)
    passed = read / counts.passes * counts.vector_bytes / wide * covered
    passed *= min(counts.choice.slab_block, counts.group_slabs) / geometry.planes
    # The last output channel's sums and weights at least have passed since a slab was read. Slabs
    # that it did not look at waited longer; to say so would make fewer nonzeros slower.
    rounds = layer.K * counts.passes * counts.choice.slab_blocks(layer)
    each = prod(counts.choice.reg) * counts.vector_bytes + _NONZERO_BYTES * counts.total / rounds
    group = layer.K // layer.groups
    groups = [
        ceil(stop / group) - start // group if stop > start else 0
        for start, stop in pairwise(counts.parts.part_ptr)
    ]
    if len(groups) != counts.sharers:  # who takes which part shows at run time
        groups = list(np.diff(even_parts(sum(groups), counts.sharers)))
    units = np.array(groups, dtype=np.int64)[:, None] * (layer.C // layer.groups)
    # of all threads that read this image together
    first = counts.sharers * batch_distance(layer, counts.turns, threads, counts.sharers)
    return Phase(
        name="input",
        tiles=share(counts.turns, threads, counts.sharers, units),
        work=work,
        streams=(
            stream("input", "read", plane, first, shared="image", crossing=crossing),
            # a band of rows is read again by its next column tile, and its ends by the next band
            stream("input", "read", again, layer.C * window, shared="image", crossing=crossing),
            # pixels stream by meanwhile, from none of a block's to all of them
            *(
                stream(
                    "lane input",
                    "write",
                    written * counts.vector_bytes / 2,
                    in_block + share_of_it * passed + each,
                )
                for share_of_it in (0.25, 0.75)
            ),
        ),
    )


def _products_work(counts: _Counts, target: Target) -> Work:
    choice, positions = counts.choice, counts.choice.geometry.positions
    steps = 0 if choice.geometry.mode == "shifts" else choice.reg[0] - 1
    passes, blocks = counts.passes, choice.slab_blocks(counts.layer)
    loads = counts.nonzeros * positions
    spilled = float((blocks - 1) * positions)
    iterations, rounds = counts.nonzeros * passes, float(blocks * passes)
    slides = choice.geometry.slides
    # between two parts sums slide by a lane, and are added to what came before
    added = float(blocks * positions) if choice.geometry.mode == "shifts" else 0.0
    line, page = out_shares(counts.layer, counts.choice.geometry, target)
    return Work.of(
        kinds=counts.nonzeros.shape[-1],
        multiply_adds=loads,
        loads_aligned=loads + spilled,
        loads_folded=loads,
        stores=spilled + positions,
        stores_line_crossing=line * positions,
        stores_page_crossing=page * positions,
        broadcasts=iterations + passes,
        # a list's end, those of its parts, two steps, how its sums leave
        scalar_loads=iterations + (4.0 + slides) * rounds,
        shuffles=float(blocks * positions * slides),
        # address, count, compare, three offsets that move up, and a row's step
        scalar_ops=(6.0 + steps) * iterations + 12.0 * rounds + added,
        branches=iterations + (1.0 + slides) * rounds,
        mispredicts=(1.0 + slides) * rounds,
        chain_multiply_adds=iterations,
    )


def _products_streams(counts: _Counts, threads: int) -> tuple[Stream, ...]:
    """Bytes of an output channel, array by array.

    A group's nonzeros come back once per register block.  In a register block a slab's window is
    read by the first output channel that has a nonzero there, and comes back after g channels
    with probability p (1 - p)^(g - 1), p being the share of slabs that a channel looks at.
    """
    layer, choice = counts.layer, counts.choice
    geometry, kinds, passes = choice.geometry, counts.nonzeros.shape[-1], counts.passes
    blocks = choice.slab_blocks(layer)
    walks = max(layer.groups, counts.parts.parts)  # through channels of one group and one part
    channels, given = layer.K / walks, counts.handed.read
    group, window = float(counts.group_slabs * counts.slab_bytes), counts.window_bytes
    in_block = float(min(choice.slab_block, counts.group_slabs) * window)
    weights = counts.nonzeros * _NONZERO_BYTES
    group_weights = counts.total * _NONZERO_BYTES / walks
    sums = float(choice.reg[0] * choice.reg[1] * counts.vector_bytes)
    p = np.minimum(counts.slabs / counts.group_slabs, 1.0)
    seen = 1.0 - (1.0 - p) ** channels  # slabs that some channel of the part looks at
    touched = passes * counts.group_slabs * window
    pictures = batch_distance(layer, counts.turns * geometry.images, threads, counts.sharers)
    streams = [
        stream("weights", "read", weights, counts.turn_bytes, kinds=kinds, shared="part"),
        stream("weights", "read", weights * (passes - 1), group_weights, kinds=kinds,
               shared="part"),
    ]  # fmt: skip
    if counts.windowed:  # the window was just written
        streams.append(
            stream("lane input", "read", seen * touched / channels, in_block, kinds=kinds)
        )
    else:  # the first register block finds the slabs anew, the others find the group
        again = max(0.0, touched - group)
        before = counts.images_bytes
        if geometry.mode == "pointwise":  # of all threads that read this image together
            before, given = pictures * counts.sharers, 0.0
        streams += [
            stream("lane input", "read", seen * group / channels, before, kinds=kinds,
                   shared="image", handed=given),
            stream("lane input", "read", seen * again / channels, group + group_weights,
                   kinds=kinds, shared="image"),
        ]  # fmt: skip
    if blocks > 1:
        moved = float(blocks - 1) * geometry.positions * counts.vector_bytes
        walk = channels * sums + in_block + group_weights / blocks  # over a block of slabs
        streams.append(stream("partial sums", "update", moved, walk, kinds=kinds))
    if geometry.of_pixels:
        output = float(FLOAT_BYTES * layer.P * layer.Q)
        access: Literal["past", "write"] = "past" if counts.past_caches else "write"
        streams.append(stream("output", access, output, pictures, kinds=kinds))
    share, times = comes_back(p, channels)
    # of shared slabs all readers count, each with sums and weights of its own
    readers = 1 if counts.windowed else counts.near
    beside = readers * (sums + weights / (passes * blocks))
    between = in_block * share + beside[..., None, :]
    streams.append(
        Stream("lane input", "read", touched * times, between,
               shared="no" if counts.windowed else "image")
    )  # fmt: skip
    return tuple(streams)


def _output_phase(counts: _Counts, threads: int, target: Target) -> Phase:
    """Bring sums out of lane layout; a tile is one output channel, right after its last block."""
    layer, geometry = counts.layer, counts.choice.geometry
    sums = float(geometry.positions * counts.vector_bytes)
    output = float(FLOAT_BYTES * layer.P * layer.Q * geometry.images)
    channels = counts.parts.counts.sum(axis=1, keepdims=True)
    first = batch_distance(layer, counts.turns * geometry.images, threads, counts.sharers)
    return Phase(
        name="output",
        tiles=share(counts.turns, threads, counts.sharers, channels),
        work=out_work(layer, geometry, counts.choice.reg, target),
        streams=(
            stream("sums", "read", sums, sums),
            stream("output", "write", output, first),
        ),
        waits_for="products",
    )  # fmt: skip
