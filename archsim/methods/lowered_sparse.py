"""Lowered sparse convolution: im2col, then CSR weights times the lowered matrix.

The way of general sparse libraries, against which direct sparse convolution is set (Park et al.,
ICLR 2017, section 2.1), done well: a block of output pixels is lowered into a panel and multiplied
while the panel is near, so that the R x S copies of the input never reach memory.  Rows of a panel
are whole vectors, so every load is aligned.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.methods.crossing import anywhere, row_shares
from archsim.methods.sharing import (
    Handed,
    Partition,
    cut,
    cut_alike,
    ends_of,
    handed,
    input_counts,
    own_input,
    share,
    taken_or,
    total_of,
)
from archsim.methods.streams import batch_distance, comes_back, stream
from archsim.network import FLOAT_BYTES, INDEX_BYTES, Layer
from archsim.plan import Counts, Expected, Phase, Plan, Stream, Target, Work, first
from archsim.sparsity import Densities, Sparsity

NAME: Final = "lowered_sparse"
SCHEDULES: Final = ("auto", "panels")

_NONZERO_BYTES: Final = FLOAT_BYTES + INDEX_BYTES
_MIN_VECTORS: Final = 4  # fewer accumulators would leave multiply-add latency exposed
# A row of a panel in one block: its places and pointers; a vector: mask, pointers and the end; a
# number that no instruction gathers: its bit, its place, into its lane (objdump of copy_rows and
# gather_rows in kernels/csrc/f32_lowered.c, avx512, gcc 12).
_ROW_LOADS: Final = 2.0
_ROW_OPS: Final = 10.0
_VECTOR_OPS: Final = 3.0
_NUMBER_OPS: Final = 3.0
_GATHERING_LANES: Final = 16  # narrower sets take number by number


def reason(layer: Layer, sparsity: Sparsity | Densities) -> str | None:
    """Return why the method does not apply, or None."""
    if layer.type == "fc":
        return "a fully connected layer has one output pixel: nothing to put into SIMD lanes"
    if sparsity.domain != "spatial":
        return "density is of the Winograd domain; lowering needs spatial weights"
    return None


def _pixel_vectors(layer: Layer, target: Target, channels: int) -> int:
    """Vectors of output pixels in a panel; all of them are held in registers.

    As many as the registers allow, unless the panels of ``channels`` channels would take more than
    a quarter of a thread's share of L2: they are read once per output channel, while weights and
    pictures stream through the same cache.
    """
    vectors = ceil(layer.P * layer.Q / target.lanes)
    rows = channels * layer.R * layer.S
    room = target.l2_bytes // target.l2_sharers // 4
    loop = room // (rows * target.lanes * FLOAT_BYTES)
    most = max(_MIN_VECTORS, min(target.registers - 2, loop))
    return ceil(vectors / ceil(vectors / most))


@dataclass(frozen=True)
class _Walk:
    """How threads go through an image: block of pixels by block of pixels."""

    layer: Layer
    lanes: int
    batch: int
    threads: int
    sharers: int
    channels: int  # that are lowered together: all, or those of a group
    pixel_vectors: int
    nonzeros: Expected
    handed: Handed
    own: tuple[int, ...] | None  # output channels of each thread that lowers for itself

    @property
    def vectors(self) -> int:
        """Vectors of output pixels."""
        return ceil(self.layer.P * self.layer.Q / self.lanes)

    @property
    def blocks(self) -> int:
        """Of output pixels."""
        return ceil(self.vectors / self.pixel_vectors)

    @property
    def panel_bytes(self) -> float:
        """What a block is lowered to."""
        rows = self.channels * self.layer.R * self.layer.S
        return FLOAT_BYTES * float(rows * self.pixel_vectors * self.lanes)

    @property
    def weights_bytes(self) -> Expected:
        """Weights that a thread goes through in a block; one alone has those of a group."""
        passes = self.sharers if self.sharers > 1 else self.layer.groups
        return _NONZERO_BYTES * self.nonzeros / passes


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
    """Plan panels and CSR; see :func:`archsim.api.make_plan` for the arguments."""
    del schedule  # there is one
    sharers = min(threads, max(1, threads // batch))
    # threads that share an image lower all groups together; one alone goes group by group
    channels = layer.C if sharers > 1 else layer.C // layer.groups
    per_channel, kind_of_channel = _channels(layer, sparsity)
    nonzeros = total_of(per_channel, kind_of_channel)
    parts = (
        cut(partition, per_channel, kind_of_channel, sharers)
        if sparsity.weights is not None
        else cut_alike(partition, first(per_channel), (layer.K, 1, 1), sharers)
    )
    own = taken_or(parts, partition) if own_input(sharers, target) else None
    ends = ends_of(parts, sharers, np.ones(layer.K))
    walk = _Walk(
        layer, target.lanes, batch, threads, sharers, channels,
        _pixel_vectors(layer, target, channels), nonzeros,
        handed(sharers if own is None else 1, layer.groups, ends), own,
    )  # fmt: skip
    meets = sharers > 1 and (own is None or partition == "dynamic")
    products = Phase(
        name="products",
        tiles=share(batch, threads, sharers, parts.counts),
        work=_work(per_channel, walk, target),
        streams=_product_streams(walk, per_channel, min(sharers, target.l1_sharers)),
        waits_for="input",
        # once a block, and where their number is odd once more
        barriers=(walk.blocks + walk.blocks % 2) * ceil(batch * sharers / threads) if meets else 0,
    )
    return Plan(
        method=NAME,
        schedule=SCHEDULES[1],
        layer=layer,
        sparsity=sparsity,
        batch=batch,
        threads=threads,
        threads_per_image=sharers,
        target=target,
        blocking={
            "lanes": target.lanes,
            "pixel_vectors": walk.pixel_vectors,
            "threads_per_image": sharers,
            "partition": partition,
            **({"own_input": 1} if own is not None else {}),
        },
        part_ptr=parts.part_ptr,
        phases=(_panels(walk, target), products),
        nonzeros=nonzeros,
    )


def _product_streams(walk: _Walk, per_channel: Counts, near: int) -> tuple[Stream, ...]:
    """Bytes of one output channel over all pixels, by its nonzeros.

    ``near`` threads share an image and a first level.
    """
    layer, kinds = walk.layer, per_channel.shape[-1]
    weights = _NONZERO_BYTES * per_channel
    # of the thread, until the next image
    image = (
        walk.panel_bytes
        + (_NONZERO_BYTES * walk.nonzeros + layer.input_bytes + layer.output_bytes) / walk.sharers
    )
    # a row of the panel comes back for the next channel of the part that has a nonzero there;
    # in between the panel's other rows were touched with the same chance
    depth = layer.C // layer.groups * layer.R * layer.S  # rows of a group
    channels = layer.K / (walk.sharers if walk.sharers > 1 else layer.groups)
    p = np.clip(per_channel / depth, 0.0, 1.0)
    row = FLOAT_BYTES * float(walk.lanes)
    everything = depth * row * walk.vectors
    share, times = comes_back(p, channels)
    # all readers of a panel count, each with weights and outputs of its own
    own = weights / walk.blocks + row * walk.pixel_vectors
    between = depth * row * walk.pixel_vectors * share + near * own[..., None, :]
    found = everything * (1.0 - (1.0 - p) ** channels) / channels
    shared: Literal["no", "image"] = "no" if walk.own is not None else "image"
    return (
        stream("weights", "read", weights, image, kinds=kinds, shared="part"),
        stream("weights", "read", weights * (walk.blocks - 1),
               walk.weights_bytes + walk.panel_bytes, kinds=kinds, shared="part"),
        stream("lowered input", "read", found, walk.panel_bytes, kinds=kinds, shared=shared,
               handed=walk.handed.read),
        Stream("lowered input", "read", everything * times, between, shared=shared),
        stream("output", "write", FLOAT_BYTES * float(layer.P * layer.Q),
               batch_distance(layer, walk.batch, walk.threads, walk.sharers), kinds=kinds),
    )  # fmt: skip


def _panels(walk: _Walk, target: Target) -> Phase:
    """Lower the image; a tile is one row (c, r, s) of the lowered matrix, over all blocks.

    The kernel goes block -> channel -> tap, so that it writes its panel from end to end.
    Neighbouring pixels are copied vector by vector under a mask of those that lie in the picture;
    others (stride, or an output that is narrower than the picture) are gathered.
    """
    layer, sharers = walk.layer, walk.sharers
    taps, pixels = layer.R * layer.S, float(layer.P * layer.Q)
    work = panel_work(layer, walk.vectors, walk.blocks, target)
    crossing = float(work.loads_line_crossing[0] / max(1.0, walk.vectors))
    parts = taps * input_counts(layer.C, sharers, layer.groups, walk.own)
    makers = layer.C * taps / float(parts.max())
    first = FLOAT_BYTES * float(layer.H * layer.W) / taps
    again = max(0.0, FLOAT_BYTES * pixels - first)
    # from one tap to the next: a block is read and written
    near = 2.0 * FLOAT_BYTES * walk.pixel_vectors * walk.lanes
    return Phase(
        name="input",
        tiles=share(walk.batch, walk.threads, sharers, parts),
        work=work,
        streams=(
            # read by all who make a copy of it: as far as all of them touch
            stream("input", "read", first,
                   batch_distance(layer, walk.batch, walk.threads, sharers) * (sharers / makers),
                   crossing=crossing, shared="image" if walk.own is not None else "no"),
            stream("input", "read", again, near, crossing=crossing),
            stream("lowered input", "write", FLOAT_BYTES * pixels,
                   walk.panel_bytes / makers + walk.weights_bytes,
                   handed=walk.handed.written, handed_bytes=walk.panel_bytes / makers),
        ),
    )  # fmt: skip


def panel_work(layer: Layer, vectors: float, blocks: float, target: Target) -> Work:
    """Operations that fill one row of the panels: ``blocks`` of them, ``vectors`` in all."""
    common: dict[str, Any] = {"stores": float(vectors), "branches": 2.0 * blocks + vectors}
    ops = _ROW_OPS * blocks + _VECTOR_OPS * vectors
    masks = _ROW_LOADS * blocks + vectors
    if layer.stride == (1, 1) and layer.Q == layer.W:
        return Work.of(
            loads_unaligned=vectors,
            loads_line_crossing=anywhere(target.lanes, target)[0] * vectors,
            scalar_loads=masks,
            scalar_ops=ops,
            **common,
        )
    numbers = float(layer.P * layer.Q)
    if target.lanes >= _GATHERING_LANES:
        return Work.of(
            gathered=numbers, loads_aligned=vectors, scalar_loads=masks, scalar_ops=ops, **common
        )
    return Work.of(
        scalar_loads=masks + 2.0 * numbers, scalar_ops=ops + _NUMBER_OPS * numbers, **common
    )


def _channels(layer: Layer, sparsity: Sparsity | Densities) -> tuple[Counts, NDArray[np.int64]]:
    """Return nonzeros of each distinct output channel, and the kind of every channel."""
    if sparsity.weights is None:
        return (
            np.atleast_1d(sparsity.density * layer.weights / layer.K),
            np.zeros(layer.K, dtype=np.int64),
        )
    counts = np.count_nonzero(sparsity.weights.reshape(layer.K, -1), axis=1)
    distinct, kind = np.unique(counts, return_inverse=True)
    return distinct.astype(np.float64), kind.astype(np.int64)


def _work(nonzeros: Counts, walk: _Walk, target: Target) -> Work:
    """Operations of one output channel over all pixels."""
    layer, vectors, blocks = walk.layer, walk.vectors, walk.blocks
    line, page = row_shares(1, layer.P * layer.Q, layer.K, target)
    products = nonzeros * vectors
    steps = nonzeros * blocks
    return Work.of(
        kinds=nonzeros.shape[-1],
        multiply_adds=products,
        loads_aligned=products,
        loads_folded=products,
        stores=float(vectors),
        stores_line_crossing=line * vectors,
        stores_page_crossing=page * vectors,
        broadcasts=steps + blocks,
        scalar_loads=steps + 2.0 * blocks,
        scalar_ops=2.0 * steps + 8.0 * blocks,
        branches=steps + blocks,
        mispredicts=float(blocks),
        waiting_loads=3.0 * blocks,  # where a list begins, what the call was handed, an offset
        chain_multiply_adds=steps,
    )
