"""What Winograd convolution cuts where: variant, pictures of a turn, chunks of vectors of tiles.

F(m x m, r x r) makes m x m outputs from t x t inputs, t = m + r - 1 (Lavin and Gray, "Fast
Algorithms for Convolutional Neural Networks", CVPR 2016).  The tiles of one or several pictures
fill vectors in turn; a thread takes a chunk of vectors through all phases.  Everything is computed
from the target and counts of the layer, so that the same target gives the same plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Final

from archsim.errors import NotApplicableError
from archsim.methods.lanes_cost import (
    CHAIN,
    LIST,
    LOAD,
    LOAD_FAR,
    LOAD_L2,
    SCALARS,
    SPILL,
    WINDOW_SHARE,
    load_cycles,
)
from archsim.network import FLOAT_BYTES, Layer
from archsim.plan import Target

#: Pictures of a turn that are tried: as many as fill the vectors of small tile grids.
_IMAGES: Final = (1, 2, 4, 8, 16, 32)
#: Vectors of a dense register block (see kernels/csrc/microkernels.h).
_DENSE_VECTORS: Final = 2
#: Sparse: vectors of a register block at most, and the lists that may be side by side.
_MOST_VECTORS: Final = 14
_LISTS: Final = (8, 4, 2, 1)
#: Sums that hide the latency of a multiply-add: 4 cycles, two a cycle.
_SUMS: Final = 8
#: Blocks of input channels that are tried.
_IN_BLOCKS: Final = (1, 2, 3, 4, 6, 8)
#: Vectors of a chunk at most: a register block's (sparse); more would not find room in caches.
_MOST_CHUNK: Final = 14
_OFFSET_LIMIT: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Variant:
    """F(m x m, r x r), and the vector operations of its transformations in one dimension.

    Additions and multiply-adds of a row of tiles, counted in kernels/csrc/f32_winograd.c.
    """

    name: str
    outputs: int  # m
    kernel: int  # r
    ops_in: int
    ops_out: int

    @property
    def tile(self) -> int:
        """Side of a tile of inputs, t."""
        return self.outputs + self.kernel - 1

    @property
    def positions(self) -> int:
        """Positions of a tile, t x t."""
        return self.tile * self.tile

    def grid(self, layer: Layer) -> tuple[int, int]:
        """Return the tiles of an output plane: down, across."""
        return ceil(layer.P / self.outputs), ceil(layer.Q / self.outputs)


VARIANTS: Final = {
    v.name: v
    for v in (
        Variant("f2x2_3x3", 2, 3, 4, 4),
        Variant("f4x4_3x3", 4, 3, 12, 10),
        Variant("f4x4_5x5", 4, 5, 26, 16),
    )
}
SCHEDULES: Final = ("auto", *VARIANTS)
PIECES_LANES: Final = 16  # whole vectors of neighbouring tiles: kernels/csrc/winograd_pieces.h


@dataclass(frozen=True, slots=True)
class Moves:
    """How a row of one vector of tiles comes into lanes, or leaves them."""

    moves: float  # loads or stores
    floats: int  # of each
    shuffles: float  # and what takes a vector apart or puts it together


def in_place(layer: Layer, variant: Variant, lanes: int) -> bool:
    """Whether pictures are read where they are: else through padded planes, a channel at a time.

    Needs whole vectors of neighbouring tiles, of which no piece meets more than two rows.
    """
    _, across = variant.grid(layer)
    tiles = lanes // variant.outputs
    return lanes == PIECES_LANES and all(
        tiles * i % across + tiles <= 2 * across for i in range(across)
    )


def moves_in(layer: Layer, variant: Variant, lanes: int) -> Moves:
    """Return the loads of a row of tiles; counted in winograd_pieces.h and transpose.h."""
    fours = ceil(variant.tile / 4)
    if not in_place(layer, variant, lanes):
        return Moves(lanes * fours, 4, 8.0 * fours)
    columns = ceil(variant.tile / variant.outputs)
    loads = variant.outputs * columns * (1.0 + _cut_share(layer, variant, lanes))
    return Moves(loads, lanes, {4: 4.0, 6: 12.0, 8: 16.0}[variant.tile])


def _cut_share(layer: Layer, variant: Variant, lanes: int) -> float:
    """Share of pieces in which a row of tiles ends and another begins: they are moved in two."""
    across, tiles = variant.grid(layer)[1], lanes // variant.outputs
    ends = [tiles * i % across + tiles > across for i in range(across)]
    return sum(ends) / across


def moves_out(layer: Layer, variant: Variant, lanes: int) -> Moves:
    """Return the stores of one row of outputs, as above."""
    m = variant.outputs
    if lanes < PIECES_LANES:
        return Moves(lanes, min(4, m), (8.0 + lanes) * m / 4)
    return Moves(m * (1.0 + _cut_share(layer, variant, lanes)), lanes, 8.0 if m == 4 else 2.0)


def reason(layer: Layer) -> str | None:
    """Return why no variant applies to a layer, or None."""
    if layer.type == "fc":
        return "a fully connected layer has one output pixel: there are no tiles"
    if (layer.R, layer.S) not in {(v.kernel, v.kernel) for v in VARIANTS.values()}:
        return f"Winograd's variants here are for 3x3 and 5x5 kernels, not {layer.R}x{layer.S}"
    if layer.stride != (1, 1):
        return "Winograd's tiles need stride 1"
    if layer.dilation != (1, 1):
        return "Winograd's tiles need dilation 1"
    return None


def variants(layer: Layer, schedule: str) -> list[Variant]:
    """Return the variants that a schedule may choose from.

    Raises
    ------
    NotApplicableError
        The schedule's variant is for another kernel.
    """
    named = list(VARIANTS.values()) if schedule == "auto" else [VARIANTS[schedule]]
    fitting = [v for v in named if v.kernel == layer.R]
    if not fitting:
        raise NotApplicableError(
            f"{schedule} is for {named[0].kernel}x{named[0].kernel} kernels, "
            f"not {layer.R}x{layer.S}"
        )
    return fitting


@dataclass(frozen=True, slots=True)
class Blocking:
    """A variant with its blocks, and what the counts below say it costs."""

    variant: Variant
    lanes: int
    images: int
    vectors: int  # of tiles, in a turn
    chunk: int  # vectors
    reg_vectors: int
    reg_count: int  # 0: sparse
    reg_lists: int  # 0: dense
    in_block: int  # 0: dense
    out_block: int
    turns: int
    sharers: int
    cycles: float

    @property
    def chunks(self) -> int:
        """Chunks of a turn; the last one may be smaller."""
        return ceil(self.vectors / self.chunk)

    def numbers(self) -> dict[str, int | str]:
        """Return what the native kernel receives."""
        found: dict[str, int | str] = {
            "lanes": self.lanes,
            "variant": self.variant.name,
            "images": self.images,
            "chunk_vectors": self.chunk,
            "reg_vectors": self.reg_vectors,
            "out_block": self.out_block,
            "threads_per_image": self.sharers,
        }
        if self.reg_count:
            return found | {"reg_count": self.reg_count}
        return found | {"reg_lists": self.reg_lists, "in_block": self.in_block}


@lru_cache(maxsize=4096)
def choose(
    layer: Layer,
    schedule: str,
    density: float | None,
    *,
    batch: int,
    threads: int,
    target: Target,
    tile: int | None = None,
) -> Blocking:
    """Return the cheapest blocking of a schedule's variants.

    Parameters
    ----------
    density : float, optional
        Of the weights in the Winograd domain; None: dense.
    tile : int, optional
        Only variants of this t: that of a pattern.

    Raises
    ------
    NotApplicableError
        No variant fits.
    """
    best: Blocking | None = None
    for variant in variants(layer, schedule):
        if tile not in (None, variant.tile):
            continue
        for found in _blockings(layer, variant, density, batch, threads, target):
            if best is None or found.cycles < best.cycles:
                best = found
    if best is None:
        raise NotApplicableError(
            f"weights are of tiles of {tile} x {tile}, which {schedule} does not have"
            if tile is not None
            else "offsets into the transformed input would not fit 32 bits"
        )
    return best


def _blockings(
    layer: Layer, variant: Variant, density: float | None, batch: int, threads: int, target: Target
) -> Iterator[Blocking]:
    down, across = variant.grid(layer)
    for images in (n for n in _IMAGES if n <= ceil(batch / threads)):
        vectors, turns = ceil(images * down * across / target.lanes), ceil(batch / images)
        sharers = min(vectors, max(1, threads // turns))
        most = min(_MOST_CHUNK, ceil(vectors / sharers))
        for chunk in range(1, most + 1):
            if density is None and chunk % _DENSE_VECTORS and chunk < most:
                continue  # a vector alone needs a load for each product
            if chunk * layer.C // layer.groups * target.lanes * FLOAT_BYTES > _OFFSET_LIMIT:
                continue
            found, rest = ceil(vectors / chunk), vectors % chunk
            for reg in _registers(layer, chunk, density, target):
                cycles = _cycles(layer, variant, chunk, density, reg, target)
                cycles *= ceil(found / sharers)
                if sharers == 1 and rest:  # the last chunk is smaller
                    cycles *= (found - 1) / found
                    cycles += _cycles(layer, variant, rest, density, reg, target)
                yield Blocking(
                    variant=variant,
                    lanes=target.lanes,
                    images=images,
                    vectors=vectors,
                    chunk=chunk,
                    reg_vectors=reg.vectors,
                    reg_count=reg.count,
                    reg_lists=reg.lists,
                    in_block=reg.in_block,
                    out_block=layer.K // layer.groups,
                    turns=turns,
                    sharers=sharers,
                    cycles=cycles * ceil(turns * sharers / threads),
                )


@dataclass(frozen=True, slots=True)
class _Registers:
    """A register block, and for sparse products the input channels that it passes over."""

    vectors: int
    count: int = 0
    lists: int = 0
    in_block: int = 0


def _registers(
    layer: Layer, chunk: int, density: float | None, target: Target
) -> Iterator[_Registers]:
    """Yield the register blocks that are worth trying."""
    if density is None:
        yield _Registers(min(chunk, _DENSE_VECTORS), _count(layer.K // layer.groups, target))
        return
    channels = layer.C // layer.groups
    sizes = {ceil(chunk / steps) for steps in range(1, chunk + 1)}
    for vectors in sorted(size for size in sizes if size <= _MOST_VECTORS):
        lists = _lists(vectors, layer.K // layer.groups, target.registers)
        for in_block in sorted({ceil(channels / n) for n in _IN_BLOCKS}):
            yield _Registers(vectors, 0, lists, in_block)


def _count(outputs: int, target: Target) -> int:
    """Return the output channels of a dense register block: few blocks, and all about as large."""
    most = max(1, (target.registers - 3) // 2)
    return ceil(outputs / ceil(outputs / most))


def _lists(vectors: int, outputs: int, registers: int) -> int:
    """Return the fewest lists side by side, but two, whose sums hide latencies; or all that fit."""
    fitting = [n for n in _LISTS if n * vectors <= registers - 2 and n < 2 * outputs]
    enough = [n for n in fitting if n > 1 and n * vectors >= _SUMS]
    return min(enough) if enough else max(fitting)


def chunk_bytes(layer: Layer, variant: Variant, chunk: int, lanes: int) -> tuple[float, float]:
    """Return the bytes of a group's transformed input, and of its sums, in a chunk."""
    each = float(FLOAT_BYTES * lanes * chunk * variant.positions)
    return each * (layer.C // layer.groups), each * (layer.K // layer.groups)


def _cycles(
    layer: Layer,
    variant: Variant,
    chunk: int,
    density: float | None,
    reg: _Registers,
    target: Target,
) -> float:
    """Return the cycles of a whole chunk; loads and chains as in `lanes_cost`.

    A transformation's vector operations, shuffles, loads and stores take two a cycle.
    """
    vector = FLOAT_BYTES * target.lanes
    moved = variant.positions * chunk
    first, last = moves_in(layer, variant, target.lanes), moves_out(layer, variant, target.lanes)
    into = variant.tile * (2.0 * variant.ops_in + first.moves + first.shuffles)
    out = float((variant.tile + variant.outputs) * variant.ops_out)
    out += variant.outputs * (last.moves + last.shuffles)
    cycles = 0.5 * chunk * (layer.C * into + layer.K * out)
    transformed, sums = chunk_bytes(layer, variant, chunk, target.lanes)
    share = WINDOW_SHARE * target.l2_bytes / target.l2_sharers
    lines = max(1.0, vector / target.line_bytes)
    lists = float(variant.positions * layer.K)
    products = lists * (layer.C // layer.groups)
    nonzeros = products if density is None else products * density
    weights = nonzeros * FLOAT_BYTES * (1 if density is None else 2)
    # what a chunk touches before the next one touches the same buffers; weights that do not fit at
    # all pass by
    pictures = float(vector * chunk * variant.outputs**2 * (layer.C + layer.K))
    touched = (
        transformed + sums + (pictures + (weights if weights <= share else 0.0)) / layer.groups
    )
    # what is written passes by; assumed: of twice what fits nothing stays
    missed = min(1.0, max(0.0, touched / share - 1.0))
    cycles += LOAD_FAR * lines * missed * moved * (layer.C + layer.K)
    if density is None:  # weights are asked for a register block ahead
        fetched = (LOAD_FAR if weights > share else LOAD_L2) * weights / target.line_bytes
        visits = ceil(chunk / reg.vectors) * lists / reg.count
        loads = ceil(chunk / reg.vectors) * products * (1.0 + reg.vectors / reg.count)
        return cycles + max(fetched, LOAD * max(products * chunk, loads)) + visits * LIST
    in_blocks = ceil(layer.C // layer.groups / reg.in_block)
    steps = ceil(chunk / reg.vectors)
    window = float(reg.in_block * min(reg.vectors, chunk) * vector)
    beside = vector * reg.vectors + 2 * FLOAT_BYTES * products * density / (lists * in_blocks)
    load = load_cycles(window, density, beside, target, 1)
    # values and offsets are one stream, fetched ahead
    streamed = LOAD_L2 * 2 * FLOAT_BYTES * nonzeros * steps / target.line_bytes
    each = max(CHAIN / reg.lists, LOAD * SCALARS + load * chunk / steps) * steps
    ends = lists * in_blocks * (steps * 2.0 * LIST / reg.lists + SPILL * chunk)
    again = lists * (in_blocks - 1) * LOAD_L2 * chunk
    return cycles + streamed + nonzeros * each + ends + again
