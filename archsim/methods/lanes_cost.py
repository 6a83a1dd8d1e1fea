"""Which lane layout and which blocks: cycles from a small written-down cost model.

Everything is computed from the target (lanes, registers, caches) and counts of the layer, so that
the same target gives the same plan.  Constants are cycles of one thread on a core with two loads
a cycle: port counts, published latencies and walks through the levels of one kind of core.  They
choose schedules and enter no prediction.  Checked against times of the kernels on Sapphire Rapids
only: batches 1 and 16, with AVX-512.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import ceil, exp
from typing import Final, Literal

from archsim.methods.lanes_geometry import Geometry, Mode, geometries, windowed
from archsim.methods.streams import batch_distance
from archsim.network import FLOAT_BYTES, INDEX_BYTES, Layer
from archsim.plan import Target

# A nonzero loads its value, an offset and one vector per accumulator, two a cycle (port count:
# every core since Haswell and Zen), and an accumulator waits for its last multiply-add: 4 cycles
# since Skylake and Zen (Fog, instruction tables). What a load from farther takes more comes on top,
# for it holds up the same chains.
LOAD: Final = 0.5
SCALARS: Final = 2.0
CHAIN: Final = 4.0
# The same load from the second level: a walk through 384 KiB (`python -m benchmarks roofs`) on a
# Sapphire Rapids core. Per vector up to a line: cores with narrower vectors have narrower paths
# between their levels.
LOAD_L2: Final = 1.3
# From beyond: the same walk, 4 MiB against 24 KiB, on a core with 2 MiB of second level.
LOAD_FAR: Final = 5.0
_LINE_BYTES: Final = 64
# Entering and leaving a list of nonzeros: one mispredicted end of the loop (about 20 cycles on
# Skylake: Fog, The microarchitecture of Intel, AMD and VIA CPUs), half of it behind the
# multiply-adds that wait.
LIST: Final = 10.0
# A sum spilled between blocks, or kept for the next layer of a chain: a load from the second level,
# and half a slot to store it.
SPILL: Final = LOAD_L2 + 0.5
# A part of a list more: the end of its loop, as above, which what follows waits for; and a sum that
# moves by a lane: a shuffle, for which vectors of 64 bytes have one port (Fog, instruction tables).
PART: Final = 20.0
SLIDE: Final = 1.0
# A vector brought in or out: 4 loads with inserts, 2 shuffles on one port, a store
# (kernels/csrc/transpose.h); and a vector copied, into the padded plane or out of a first touch.
CONVERT: Final = 4.0
COPY: Final = 2.0
# What one lane writes of a chunk of output.  Output time of ResNet's 64 channels at 56x56, 896 and
# 1792 chunks of 16 pieces, less the transpositions, on a Sapphire Rapids core
# (`phase_seconds` of `lanes:tiles`, once; no command repeats the difference).
PIECE: Final = 8.0
# Share of a level for the input (assumed); streams, sums and offsets pass through the rest.
WINDOW_SHARE: Final = 0.85
_HALVINGS: Final = 12
# Blocks are tried that fill the first level, or overfill it so many times.
_FULL: Final = (1.0, 1.3, 1.7, 2.2, 3.0, 5.0)
_FEW_BLOCKS: Final = (1, 2, 3)
_OFFSET_LIMIT: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Ends:
    """How a layer's input comes into lane layout, and how its sums leave it.

    Within a chain (:mod:`archsim.methods.lanes_chain`) slabs are made by the layer before, or as
    windows by the layer's own register blocks.
    """

    into: Literal["converted", "windows", "slabs"] = "converted"
    stored: int | None = None  # vectors that a channel's sums become; None: they leave lane layout


_ALONE: Final = Ends()


@dataclass(frozen=True, slots=True)
class Choice:
    """A layout with its blocks, and what the model says it costs."""

    geometry: Geometry
    reg: tuple[int, int]  # rows x vectors
    slab_block: int
    cycles: float  # of the batch, all phases

    def slab_blocks(self, layer: Layer) -> int:
        """Return the blocks of slabs of a group."""
        return ceil(layer.C // layer.groups * self.geometry.planes / self.slab_block)


def accumulators(target: Target) -> int:
    """Return the largest register block: one register stays for the value, one for a load."""
    return target.registers - 2


@lru_cache(maxsize=4096)
def choose(
    layer: Layer, nonzeros: float, batch: int, threads: int, target: Target, modes: tuple[Mode, ...]
) -> Choice | None:
    """Return the cheapest layout and blocks among ``modes``; None where none applies."""
    best = None
    for mode in modes:
        for geometry in geometries(layer, target.lanes, mode):
            found = choose_blocks(layer, geometry, nonzeros, batch, threads, target)
            if found is not None and (best is None or found.cycles < best.cycles):
                best = found
    return best


def choose_blocks(
    layer: Layer,
    geometry: Geometry,
    nonzeros: float,
    batch: int,
    threads: int,
    target: Target,
    ends: Ends = _ALONE,
) -> Choice | None:
    """Return the cheapest blocks of a layout; None where offsets would not fit 32 bits."""
    best = None
    for reg in _register_shapes(geometry, accumulators(target)):
        found = _blocked(layer, geometry, reg, nonzeros, batch, threads, target, ends)
        if found is not None and (best is None or found.cycles < best.cycles):
            best = found
    return best


def _register_shapes(geometry: Geometry, most: int) -> Iterator[tuple[int, int]]:
    """Yield rows x vectors that cut a tile into about equal parts."""
    rows, columns = geometry.tile
    if geometry.mode == "shifts":
        room = most // columns
        heights = {ceil(rows / ceil(rows / n)) for n in range(1, min(rows, room) + 1)}
        yield from ((height, columns) for height in sorted(heights))
        return
    widths = {ceil(columns / ceil(columns / n)) for n in range(1, min(columns, most) + 1)}
    for width in sorted(widths):
        room = most // width
        for height in sorted({ceil(rows / ceil(rows / n)) for n in range(1, min(rows, room) + 1)}):
            yield height, width


def _blocked(
    layer: Layer,
    geometry: Geometry,
    reg: tuple[int, int],
    nonzeros: float,
    batch: int,
    threads: int,
    target: Target,
    ends: Ends,
) -> Choice | None:
    slabs = layer.C // layer.groups * geometry.planes
    vector = FLOAT_BYTES * target.lanes
    if slabs * geometry.slab_pitch(*reg) * vector > _OFFSET_LIMIT:
        return None
    window = geometry.window(*reg)
    size = reg[0] * reg[1]
    turns = ceil(batch / geometry.images)
    sharers = threads_per_turn(turns, threads, target)
    readers = 1 if windowed(layer, geometry) else sharers  # of a window
    fits = WINDOW_SHARE * _level_bytes(target, 1, readers) / (window * vector)
    moved, slab_bytes = _moved(layer, geometry, nonzeros, turns, threads, target, ends)
    # every thread of an image looks at all of its slabs, once per register block
    passes = sum(register_blocks(geometry, reg).values())
    touched = float(layer.C * geometry.planes * window * passes)
    touched *= walk_cycles(slab_bytes, target, sharers) * _lines(target)
    touched += COPY * _windows(layer, geometry, reg)
    best = None
    for count in sorted({ceil(slabs / max(1, int(f * fits))) for f in _FULL} | {*_FEW_BLOCKS}):
        block = ceil(slabs / min(count, slabs))
        blocks = ceil(slabs / block)
        per_list = nonzeros / (layer.K * blocks)
        looked_at = 1.0 - exp(-per_list * size / (block * window))
        beside = size * vector * (blocks > 1) + per_list * (FLOAT_BYTES + INDEX_BYTES)
        load = load_cycles(block * window * vector, looked_at, beside, target, readers)
        cycles = _products(layer, geometry, reg, nonzeros, blocks, load)
        cycles += moved + _conversions(layer, geometry, reg, ends)
        cycles = ceil(turns / (threads // sharers)) * (cycles / sharers + touched)
        if best is None or cycles < best.cycles:
            best = Choice(geometry, reg, block, cycles)
    return best


def threads_per_turn(turns: int, threads: int, target: Target) -> int:
    """Return how many threads share a turn: those of a core, more where there are few turns.

    Threads of a core have its first level in common, and read the same window of input.
    """
    return min(threads, max(threads // turns, target.threads_per_core))


def _level_bytes(target: Target, level: int, sharers: int) -> float:
    """Return what a thread has of a cache for data that ``sharers`` neighbours read as well."""
    size, threads = (
        (target.l1_bytes, target.l1_sharers) if level == 1 else (target.l2_bytes, target.l2_sharers)
    )
    return size * min(sharers, threads) / threads


def walk_cycles(distance_bytes: float, target: Target, sharers: int) -> float:
    """Return the cycles of a line that comes back after so many bytes."""
    return LOAD_L2 if distance_bytes <= _level_bytes(target, 2, sharers) else LOAD_FAR


def _lines(target: Target) -> float:
    return max(1.0, FLOAT_BYTES * target.lanes / _LINE_BYTES)


def _moved(
    layer: Layer,
    geometry: Geometry,
    nonzeros: float,
    turns: int,
    threads: int,
    target: Target,
    ends: Ends,
) -> tuple[float, float]:
    """Return the cycles of bringing a turn's pictures near, and the distance of its slabs.

    Pictures come back after those of the whole batch, slabs after what a turn reads; writing them
    hides behind the transpositions. Lines of a picture in each lane, often whole ways of a cache
    apart, do not stay until the next four positions are brought in or out.
    """
    sharers = threads_per_turn(turns, threads, target)
    pictures = layer.input_bytes * float(ends.into == "converted")
    pictures += layer.output_bytes * float(ends.stored is None)
    pictures *= geometry.images
    slabs = float(layer.C * geometry.planes * geometry.in_rows * geometry.in_columns)
    slabs *= FLOAT_BYTES * geometry.lanes if not geometry.of_pixels else 0.0
    apart = batch_distance(layer, turns * geometry.images, threads, sharers)
    turn = geometry.images * layer.input_bytes + slabs + (FLOAT_BYTES + INDEX_BYTES) * nonzeros
    times = _LINE_BYTES / FLOAT_BYTES / 4 if geometry.mode == "images" else 1.0
    cycles = times * pictures / _LINE_BYTES * walk_cycles(apart, target, 1)
    return cycles, turn if slabs else apart


def load_cycles(
    window_bytes: float, looked_at: float, beside_bytes: float, target: Target, sharers: int
) -> float:
    """Return the mean cycles of a vector load from a window that output channels walk in turn.

    Each looks at the share ``looked_at`` = p of it, so that a vector comes back after g channels
    with probability p (1 - p)^(g - 1), when they have touched 1 - (1 - p)^g of the window and g
    times ``beside_bytes`` of sums and weights.
    """
    near, middle = (
        _found(window_bytes, looked_at, beside_bytes, _level_bytes(target, level, sharers))
        for level in (1, 2)
    )
    far = LOAD_L2 * max(0.0, middle - near) + LOAD_FAR * (1.0 - max(middle, near))
    return LOAD * near + far * _lines(target)


def _found(window_bytes: float, looked_at: float, beside_bytes: float, room_bytes: float) -> float:
    """Return the probability that what comes back is still in a level of ``room_bytes``."""
    low, high = 0.0, (room_bytes + 1.0) / (beside_bytes + 1.0)
    for _ in range(_HALVINGS):  # the most channels whose touched bytes fit
        gap = 0.5 * (low + high)
        touched = window_bytes * (1.0 - (1.0 - looked_at) ** gap) + gap * beside_bytes
        low, high = (gap, high) if touched <= room_bytes else (low, gap)
    return 1.0 - float((1.0 - looked_at) ** low)


def _products(
    layer: Layer,
    geometry: Geometry,
    reg: tuple[int, int],
    nonzeros: float,
    blocks: int,
    load: float,
) -> float:
    total = 0.0
    for count, times in register_blocks(geometry, reg).items():
        cycles = max(CHAIN, (SCALARS + count) * LOAD)  # while all is near
        cycles = nonzeros * (cycles + (load - LOAD) * count)
        cycles += layer.K * (blocks * LIST + (blocks - 1) * SPILL * count)
        cycles += layer.K * blocks * geometry.slides * (PART + SLIDE * count)
        total += times * cycles
    return total


def _windows(layer: Layer, geometry: Geometry, reg: tuple[int, int]) -> float:
    """Return the vectors that each thread copies before its products."""
    if not windowed(layer, geometry):
        return 0.0
    if geometry.mode == "pointwise":
        return float(layer.C * geometry.positions)
    windows = sum(
        geometry.window(count // geometry.tile[1], geometry.tile[1]) * times
        for count, times in register_blocks(geometry, reg).items()
    )
    pixels = 1 if layer.stride[1] == 1 else geometry.lanes  # one by one
    return float(layer.C * geometry.planes * windows * pixels)


def _conversions(layer: Layer, geometry: Geometry, reg: tuple[int, int], ends: Ends) -> float:
    if geometry.of_pixels:
        return float(layer.K * geometry.positions)
    slabs, into = layer.C * geometry.planes, 0.0
    if ends.into == "windows":
        into = slabs * sum(register_blocks(geometry, reg).values()) * geometry.window(*reg) * COPY
    elif ends.into == "converted":
        into = slabs * geometry.in_rows * fours(geometry.in_columns) * CONVERT
        into += slabs * geometry.images * layer.P * (1.0 + layer.Q / geometry.lanes) * COPY
    if ends.stored is not None:
        return into + layer.K * ends.stored * SPILL
    widths = chunks(geometry, reg)
    out = sum(fours(n) * CONVERT + geometry.lanes * PIECE for n in widths)
    return into + layer.K * geometry.tile[0] * out


def chunks(geometry: Geometry, reg: tuple[int, int]) -> list[int]:
    """Return the positions of each chunk in which a row of a tile leaves lane layout."""
    columns, width, lanes = geometry.tile[1], reg[1], geometry.lanes
    return [
        min(lanes, stop - begin)
        for start in range(0, columns, width)
        for stop in [min(start + width, columns)]
        for begin in range(start, stop, lanes)
    ]


def fours(positions: int) -> int:
    """Return the positions that a transposition of so many handles."""
    return 4 * ceil(positions / 4)


def register_blocks(geometry: Geometry, reg: tuple[int, int]) -> dict[int, int]:
    """Return how often each number of accumulators occurs when ``reg`` covers the tile."""
    found: dict[int, int] = {}
    sides = [
        [(most, length // most), (length % most, 1)]
        for length, most in zip(geometry.tile, reg, strict=True)
    ]
    for (rows, down), (vectors, right) in product(*sides):
        if rows * vectors:
            count = down * right * geometry.tiles
            found[rows * vectors] = found.get(rows * vectors, 0) + count
    return found
