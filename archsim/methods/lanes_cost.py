"""Which lane layout and which blocks: cycles from a small written-down cost model.

Everything is computed from the target (lanes, registers, L1) and counts of the layer, so that the
same target gives the same plan.  Constants are cycles of one thread on a core with two loads per
cycle; some were measured with the lane kernels themselves on one kind of core, so they choose
among lane layouts only and enter no prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import ceil
from typing import Final

from archsim.methods.lanes_geometry import Geometry, Mode, geometries
from archsim.network import FLOAT_BYTES, Layer
from archsim.plan import Target

# A nonzero loads its value and one vector per accumulator, two a cycle (port count: every core
# since Haswell and Zen), and an accumulator waits for its last multiply-add: 4 cycles since
# Skylake and Zen, 5 on Haswell (Fog, instruction tables).
LOAD: Final = 0.5
CHAIN: Final = 5.0
# The same load from the second level: time of the products of conv3 (AlexNet)
# at sparsity 0.9 with all slabs in one block, per nonzero and vector, on a Sapphire Rapids core;
# `python -m benchmarks roofs` has 1.1 for a plain walk, which prefetchers follow better.  Per
# vector up to a line: cores with narrower vectors have narrower paths between their levels.
LOAD_L2: Final = 1.55
# From beyond: the plain walk, 4 MiB against 24 KiB, on a core with 2 MiB of second level.
LOAD_FAR: Final = 5.0
_LINE_BYTES: Final = 64
# Entering and leaving a list of nonzeros: one mispredicted end of the loop (about 20 cycles
# on Skylake: Fog, The microarchitecture of Intel, AMD and VIA CPUs) and the call.
CALL: Final = 25.0
# A sum spilled between blocks: a line from the second level and one back to it.
SPILL: Final = 4.0
# A vector brought in or out: 4 loads with inserts, 2 shuffles on one port, a store
# (kernels/csrc/transpose.h); and a vector copied, into the padded plane or out of a first touch.
CONVERT: Final = 4.0
COPY: Final = 2.0
# What one lane writes of a chunk of output.  Output time of ResNet's 64 channels at 56x56, 896 and
# 1792 chunks of 16 pieces, less the transpositions, on a Sapphire Rapids core.
PIECE: Final = 8.0
# Share of a level for the input window; streams, sums and offsets pass through the rest.
WINDOW_SHARE: Final = 0.85
_FEW_BLOCKS: Final = (1, 2, 3)  # tried beside as many as make the window fit
_OFFSET_LIMIT: Final = 2**31 - 1


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
            for reg in _register_shapes(geometry, accumulators(target)):
                found = _blocked(layer, geometry, reg, nonzeros, batch, threads, target)
                if found is not None and (best is None or found.cycles < best.cycles):
                    best = found
    return best


def _register_shapes(geometry: Geometry, most: int) -> Iterator[tuple[int, int]]:
    """Yield rows x vectors that cut a tile into about equal parts."""
    rows, columns = geometry.tile
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
) -> Choice | None:
    slabs = layer.C // layer.groups * geometry.planes
    vector = FLOAT_BYTES * target.lanes
    if slabs * geometry.slab_pitch(*reg) * vector > _OFFSET_LIMIT:
        return None
    window = geometry.window(*reg)
    turns = ceil(batch / geometry.images)
    sharers = threads_per_turn(turns, threads, target)
    fits = max(1, int(_level_bytes(target, 1, sharers) / (window * vector)))
    # every thread of an image looks at all of its slabs, once per register block
    far = load_cycles(slabs * geometry.in_rows * geometry.in_columns * vector, target, sharers)
    passes = sum(register_blocks(geometry, reg).values())
    touched = layer.C * geometry.planes * window * passes * far
    best = None
    for count in sorted({ceil(slabs / fits), *_FEW_BLOCKS}):
        block = ceil(slabs / min(count, slabs))
        load = load_cycles(block * window * vector, target, sharers)
        cycles = _products(layer, geometry, reg, nonzeros, ceil(slabs / block), load)
        cycles += _conversions(layer, geometry, reg)
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
    return WINDOW_SHARE * size * min(sharers, threads) / threads


def load_cycles(window_bytes: float, target: Target, sharers: int) -> float:
    """Return the mean cycles of a vector load from a window that output channels walk in turn.

    Each looks at a vector of it with some probability p, so that a vector comes back after g
    channels with probability p (1 - p)^(g - 1), when they have touched 1 - (1 - p)^g of the
    window.  It is still in a level that holds a share r of the window if that is at most r,
    which has the probability r, whatever p.
    """
    near, middle = (
        min(1.0, _level_bytes(target, level, sharers) / max(window_bytes, 1.0)) for level in (1, 2)
    )
    lines = max(1.0, FLOAT_BYTES * target.lanes / _LINE_BYTES)
    far = LOAD_L2 * max(0.0, middle - near) + LOAD_FAR * (1.0 - max(middle, near))
    return LOAD * near + far * lines


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
        cycles = nonzeros * max(CHAIN, LOAD + load * count)
        cycles += layer.K * blocks * CALL + layer.K * (blocks - 1) * SPILL * count
        total += times * cycles
    return total


def _conversions(layer: Layer, geometry: Geometry, reg: tuple[int, int]) -> float:
    if geometry.mode == "pointwise":
        copied = 0 if layer.H * layer.W % geometry.lanes == 0 else layer.C
        return geometry.positions * (layer.K + COPY * copied)
    slabs = layer.C * geometry.planes
    into = slabs * geometry.in_rows * fours(geometry.in_columns) * CONVERT
    padded = slabs * geometry.images * layer.P * (1.0 + layer.Q / geometry.lanes) * COPY
    widths = chunks(geometry, reg)
    out = sum(fours(n) * CONVERT + geometry.lanes * PIECE for n in widths)
    return into + padded + layer.K * geometry.tile[0] * out


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
            found[rows * vectors] = found.get(rows * vectors, 0) + down * right
    return found
