"""The plan of Winograd convolution, dense and sparse: a tile of the plan is a chunk of a turn.

Phases: the input's tiles into the Winograd domain, products position by position, sums back.
A thread takes its chunk through all of them, so nobody waits for anybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from archsim.methods.crossing import anywhere
from archsim.methods.sharing import even_parts, part_counts, share
from archsim.methods.streams import batch_distance, copied_rows, in_turn, stream
from archsim.methods.winograd_blocking import (
    PIECES_LANES,
    Blocking,
    in_place,
    moves_in,
    moves_out,
)
from archsim.network import FLOAT_BYTES, INDEX_BYTES, Layer
from archsim.plan import Counts, Expected, Phase, Plan, Stream, Target, Tiles, Work
from archsim.sparsity import Densities, Sparsity

_NONZERO_BYTES: Final = FLOAT_BYTES + INDEX_BYTES
# Vectors that wait in registers between the dimensions of a transformation of sums, WAITING in
# kernels/csrc/f32_winograd.c
_MANY_REGISTERS: Final = 32
_WAITING: Final = 24
_WAITING_OF_FEW: Final = 8
_PARTS: Final = (0.125, 0.375, 0.625, 0.875)  # of a tile's positions, by their middles
_GAPS: Final = 16  # output channels after which an input channel counts as not seen


@dataclass(frozen=True, slots=True)
class _Chunks:
    """The chunks of a turn by kind, full ones and the rest: arrays of (kinds,)."""

    layer: Layer
    cut: Blocking
    nonzeros: Expected  # of all positions; dense: all weights
    vectors: Counts
    tiles: Tiles
    part_ptr: tuple[int, ...]
    pictures: float  # bytes from one call to the next, of a thread

    @property
    def kinds(self) -> int:
        return len(self.vectors)

    @property
    def vector_bytes(self) -> int:
        return FLOAT_BYTES * self.cut.lanes

    @property
    def positions(self) -> int:
        return self.cut.variant.positions

    @property
    def share(self) -> Counts:
        """Part of a turn's tiles that is in a chunk."""
        return self.vectors / self.cut.vectors

    @property
    def transformed(self) -> Counts:
        """Bytes of one group's transformed input."""
        channels = self.layer.C // self.layer.groups
        return self.positions * channels * self.vectors * self.vector_bytes

    @property
    def sums(self) -> Counts:
        """Bytes of the sums of one block of output channels."""
        return self.positions * self.cut.out_block * self.vectors * self.vector_bytes

    @property
    def weight_bytes(self) -> Expected:
        each = FLOAT_BYTES if self.cut.reg_count else _NONZERO_BYTES
        return self.nonzeros * each

    @property
    def blocks(self) -> int:
        """Blocks of output channels of a group."""
        return ceil(self.layer.K // self.layer.groups / self.cut.out_block)

    @property
    def in_blocks(self) -> int:
        """Blocks of input channels of a group."""
        return ceil(self.layer.C // self.layer.groups / self.cut.in_block)

    @property
    def list_groups(self) -> int:
        """Groups of lists at one position, for one block of input channels."""
        cut, lists = self.cut, self.cut.reg_lists
        whole, rest = divmod(self.layer.K // self.layer.groups, cut.out_block)
        return self.layer.groups * (whole * ceil(cut.out_block / lists) + ceil(rest / lists))

    @property
    def density(self) -> Expected:
        """Share of the weights that are not zero."""
        layer = self.layer
        return self.nonzeros / (self.positions * layer.weights / (layer.R * layer.S))

    @property
    def again(self) -> Counts:
        """Bytes that a thread touches until the same group of the next chunk.

        Its part of the pictures of a call is spread over all its chunks.
        """
        inside: Counts = self.transformed + self.sums + self.weight_bytes
        most = float(self.tiles.count.sum(axis=1).max())
        return inside + self.pictures / max(1.0, most)

    @property
    def own_pictures(self) -> Counts:
        """Bytes of the pictures that belong to a chunk."""
        return self.layer.input_bytes * self.cut.images * self.share


def make_plan(
    method: str,
    layer: Layer,
    sparsity: Sparsity | Densities,
    cut: Blocking,
    nonzeros: Expected,
    *,
    batch: int,
    threads: int,
    target: Target,
) -> Plan:
    """Plan a blocking that was chosen."""
    unit = np.zeros(cut.chunks, dtype=np.int64)
    rest = cut.vectors % cut.chunk
    vectors = np.array([float(cut.chunk)] + ([float(rest)] if rest and cut.chunks > 1 else []))
    if len(vectors) > 1:
        unit[-1] = 1
    part_ptr = even_parts(cut.chunks, cut.sharers)
    parts = part_counts(part_ptr, unit)
    pictures = batch_distance(layer, cut.turns * cut.images, threads, cut.sharers)
    chunks = _Chunks(
        layer, cut, nonzeros, vectors, share(cut.turns, threads, cut.sharers, parts), part_ptr,
        pictures,
    )  # fmt: skip
    down, across = cut.variant.grid(layer)
    return Plan(
        method=method,
        schedule=cut.variant.name,
        layer=layer,
        sparsity=sparsity,
        batch=batch,
        threads=threads,
        threads_per_image=cut.sharers,
        target=target,
        blocking=cut.numbers(),
        part_ptr=part_ptr,
        phases=(
            _input_phase(chunks, target),
            Phase(
                name="products",
                tiles=chunks.tiles,
                work=_dense_work(chunks) if cut.reg_count else _sparse_work(chunks),
                streams=_products_streams(chunks),
                waits_for="input",
            ),
            _output_phase(chunks, target),
        ),
        nonzeros=nonzeros,
        images_per_turn=cut.images,
        uses_of_nonzero=down * across,
        tile=None if cut.reg_count else cut.variant.tile,
    )


def _input_phase(chunks: _Chunks, target: Target) -> Phase:
    """Transform a chunk's tiles of the pictures, or of copies of their rows in padded planes."""
    layer, cut, v = chunks.layer, chunks.cut, chunks.cut.variant
    tiles = layer.C * chunks.vectors  # vectors of tiles of one channel
    down, _ = v.grid(layer)
    # rows of pictures that a chunk of tiles looks at; those between two tiles belong to both
    rows = np.minimum(
        layer.C * cut.images * layer.H,
        layer.C * (chunks.share * cut.images * down * v.outputs + v.tile),
    )
    moves, here = moves_in(layer, v, cut.lanes), in_place(layer, v, cut.lanes)
    loads = moves.moves * v.tile * tiles
    waits = v.positions * tiles  # numbers that wait between the two dimensions
    transform = Work.of(
        kinds=chunks.kinds,
        multiply_adds=2 * v.tile * v.ops_in * tiles,
        loads_aligned=waits,
        loads_unaligned=loads,
        loads_line_crossing=anywhere(moves.floats, target)[0] * loads,
        stores=2.0 * waits,
        # where a tile begins, or a piece; lines that are asked for early
        scalar_loads=loads + waits + (v.outputs * v.tile * tiles if here else 0.0),
        shuffles=moves.shuffles * v.tile * tiles,
        branches=2.0 * v.tile * tiles,
        chain_multiply_adds=np.zeros(chunks.kinds),
    )
    plane, kinds = FLOAT_BYTES * rows * layer.W, chunks.kinds
    looked = plane
    if here:  # at columns of its own, not at whole rows
        across = np.minimum(1.0, chunks.vectors * cut.lanes / v.grid(layer)[1])
        looked = chunks.own_pictures + across * FLOAT_BYTES * layer.C * layer.W * (
            v.tile - v.outputs
        )
    new = np.minimum(looked, chunks.own_pictures)
    crossing = anywhere(moves.floats, target)[0]
    first = [
        stream("input", "read", new, chunks.pictures, kinds=kinds, crossing=crossing),
        # rows between two chunks
        stream("input", "read", looked - new, chunks.again + plane, kinds=kinds,
               crossing=crossing),
    ]  # fmt: skip
    made = stream("transformed input", "write", layer.groups * chunks.transformed, chunks.again,
                  kinds=kinds)  # fmt: skip
    if here:
        return in_turn("input", chunks.tiles, (transform, [*first, made]))
    copied = rows * ceil(layer.W / cut.lanes)
    copy = Work.of(
        kinds=kinds, loads_unaligned=copied, stores=copied, **copied_rows(rows, copied),
    )  # fmt: skip
    near = 2.0 * plane / layer.C  # channel after channel is copied, then transformed
    return in_turn(
        "input", chunks.tiles,
        (copy, [*first, stream("padded input", "update", plane, near, kinds=kinds)]),
        (transform, [stream("padded input", "read", plane, near, kinds=kinds), made]),
    )  # fmt: skip


def _sparse_work(chunks: _Chunks) -> Work:
    """Count lists in groups of reg_lists; zeros that fill up shorter lists do not count."""
    cut, vectors = chunks.cut, chunks.vectors
    passes = np.ceil(vectors / cut.reg_vectors)
    loads, iterations = chunks.nonzeros * vectors, chunks.nonzeros * passes
    rounds = iterations / cut.reg_lists
    groups = float(chunks.positions * chunks.list_groups * chunks.in_blocks)
    sums = groups * cut.reg_lists * vectors
    ends = groups * passes
    return Work.of(
        kinds=chunks.kinds,
        multiply_adds=loads,
        loads_aligned=loads + sums * (chunks.in_blocks - 1) / chunks.in_blocks,
        loads_folded=loads,
        stores=sums,
        broadcasts=iterations,
        scalar_loads=iterations + (2.0 + 2.0 * cut.reg_lists) * ends,  # offsets; where sums stand
        # an address of each; both streams move up
        scalar_ops=iterations + 2.0 * rounds + (4.0 + 3.0 * cut.reg_lists) * ends,
        branches=rounds + ends,
        mispredicts=ends * _changes(chunks),
        waiting_loads=ends * _changes(chunks),  # an offset
        chain_multiply_adds=rounds,
    )


def _changes(chunks: _Chunks) -> Expected:
    """Return which share of the groups of lists is longer than the group before.

    Groups of a panel (position, blocks of channels) are sorted by length, so the predictor knows
    the end of one that is as long as the last one. Lengths are of as many values as lie between
    the least and the most of so many draws from a binomial distribution (Blom, Statistical
    Estimates and Transformed Beta-Variables, 1958); above one half these would become fewer, and
    more nonzeros cheaper: not here.
    """
    layer = chunks.layer
    panels = layer.groups * chunks.blocks
    groups = max(1.0, chunks.list_groups / panels)
    channels = layer.C / layer.groups / chunks.in_blocks
    p = np.minimum(chunks.density, 0.5)
    deviation = np.sqrt(channels * p * (1.0 - p))
    most = NormalDist().inv_cdf((groups - 0.375) / (groups + 0.25))
    found: Expected = np.minimum(1.0, (1.0 + 2.0 * most * deviation) / groups)
    return found


def _register_blocks(chunks: _Chunks) -> int:
    """Register blocks of output channels of a group."""
    cut, in_group = chunks.cut, chunks.layer.K // chunks.layer.groups
    whole, rest = divmod(in_group, cut.out_block)
    return whole * ceil(cut.out_block / cut.reg_count) + ceil(rest / cut.reg_count)


def _dense_work(chunks: _Chunks) -> Work:
    layer, cut, vectors = chunks.layer, chunks.cut, chunks.vectors
    across = np.ceil(vectors / cut.reg_vectors)  # register blocks of vectors
    depth = float(layer.C // layer.groups)
    visits = float(chunks.positions * layer.groups * _register_blocks(chunks)) * across
    return Work.of(
        kinds=chunks.kinds,
        multiply_adds=chunks.nonzeros * vectors,
        loads_aligned=visits / across * vectors * depth,
        broadcasts=chunks.nonzeros * across,
        stores=chunks.positions * layer.K * vectors,
        scalar_loads=visits * depth,
        scalar_ops=3.0 * visits * depth + 20.0 * visits,
        branches=visits * (depth + 2.0),
        mispredicts=visits,
        waiting_loads=visits,  # what the call was handed
        chain_multiply_adds=visits * depth,
    )


def _products_streams(chunks: _Chunks) -> tuple[Stream, ...]:
    """Bytes of a chunk, array by array.

    Each block of output channels fetches the transformed input once more.  Inside a position an
    input channel's vectors come back for the next output channel that has a nonzero there: sparse
    after g channels with probability p (1 - p)^(g - 1), dense for each register block.
    """
    layer, cut, kinds = chunks.layer, chunks.cut, chunks.kinds
    transformed = layer.groups * chunks.transformed
    # what one pass of a register block looks at
    window = chunks.transformed / chunks.positions
    if not cut.reg_count:
        window = window / chunks.in_blocks * np.minimum(1.0, cut.reg_vectors / chunks.vectors)
    block_weights = chunks.weight_bytes / (chunks.positions * layer.groups * chunks.blocks)
    shared: dict[str, Any] = {"kinds": kinds, "shared": "part"}
    streams = [
        stream("weights", "read", chunks.weight_bytes, chunks.again, **shared),
        stream("sums", "write", layer.groups * chunks.blocks * chunks.sums,
               chunks.sums + chunks.transformed + chunks.weight_bytes / layer.groups, kinds=kinds),
    ]  # fmt: skip
    passes = np.ceil(chunks.vectors / cut.reg_vectors)
    streams.append(
        stream("weights", "read", chunks.weight_bytes * (passes - 1),
               block_weights / (1 if cut.reg_count else chunks.in_blocks) + window, **shared)
    )  # fmt: skip
    p = np.minimum(1.0, np.atleast_1d(chunks.density))
    seen = 1.0 if cut.reg_count else 1.0 - (1.0 - p) ** cut.out_block
    streams.append(
        stream("transformed input", "read", seen * chunks.blocks * transformed,
               chunks.transformed + chunks.sums, kinds=kinds)
    )  # fmt: skip
    if cut.reg_count:
        again = _register_blocks(chunks) - chunks.blocks
        panel = window * np.minimum(1.0, cut.reg_vectors / chunks.vectors)
        weights = float(FLOAT_BYTES * cut.reg_count * (layer.C // layer.groups))
        streams.append(
            stream("transformed input", "read", again * transformed, panel + weights, kinds=kinds)
        )
        return tuple(streams)
    block_weights /= chunks.in_blocks
    summed_again = (chunks.in_blocks - 1) * layer.groups * chunks.blocks * chunks.sums
    streams.append(
        stream("sums", "update", summed_again,
               chunks.sums / chunks.positions + window + block_weights, kinds=kinds)
    )  # fmt: skip
    gap = np.arange(1.0, _GAPS)[:, None]
    p = p[..., None, :]
    pairs = np.maximum(cut.out_block - gap, 0.0) * p * p * (1.0 - p) ** (gap - 1.0)
    beside = (block_weights + chunks.sums / chunks.positions) / cut.out_block
    streams.append(
        Stream("transformed input", "read", chunks.blocks * transformed * pairs,
               window * (1.0 - (1.0 - p) ** gap) + gap * beside[..., None, :])
    )  # fmt: skip
    return tuple(streams)


def _output_phase(chunks: _Chunks, target: Target) -> Phase:
    """Transform the sums of a chunk back and write them, tile by tile."""
    layer, cut, v = chunks.layer, chunks.cut, chunks.cut.variant
    tiles = layer.K * chunks.vectors
    # between the two dimensions numbers wait in registers, if these hold them
    room = _WAITING if target.registers >= _MANY_REGISTERS else _WAITING_OF_FEW
    waits = tiles * (v.outputs * v.tile if v.outputs * v.tile > room else 0.0)
    moves = moves_out(layer, v, cut.lanes)
    pieces = moves.moves * v.outputs * tiles
    line, page = anywhere(moves.floats, target)
    work = Work.of(
        kinds=chunks.kinds,
        multiply_adds=((v.tile + v.outputs) * v.ops_out + v.outputs**2) * tiles,
        loads_aligned=v.positions * tiles + waits,
        stores=waits + pieces,
        stores_line_crossing=line * pieces,
        stores_page_crossing=page * pieces,
        # where a tile or a piece goes; of pieces also lines that are asked for early
        scalar_loads=pieces * (2.0 if cut.lanes == PIECES_LANES else 1.0),
        shuffles=moves.shuffles * v.outputs * tiles,
        branches=(v.tile + v.outputs) * tiles,
    )
    sums = layer.groups * chunks.blocks * chunks.sums
    output = FLOAT_BYTES * layer.K * layer.P * layer.Q * cut.images * chunks.share
    # Sums of a position wait while the positions after it pass by, each with its weights and its
    # input, and then while channels before theirs are read.
    block = chunks.weight_bytes / (layer.groups * chunks.blocks)
    passed = chunks.sums + chunks.transformed + block
    return Phase(
        name="output",
        tiles=chunks.tiles,
        work=work,
        streams=(
            *(
                stream(
                    "sums",
                    "read",
                    sums / len(_PARTS),
                    left * passed + (1.0 - left) * chunks.sums / 2,
                    kinds=chunks.kinds,
                )
                for left in _PARTS
            ),
            stream("output", "write", output, chunks.pictures, kinds=chunks.kinds),
        ),
        waits_for="products",
    )


def nonzeros_of(layer: Layer, positions: int, sparsity: Sparsity | Densities) -> Expected:
    """Return the nonzeros of a layer in the Winograd domain: counted, or expected."""
    if sparsity.weights is not None:
        return float(np.count_nonzero(sparsity.weights))
    return positions * layer.weights / (layer.R * layer.S) * sparsity.density
