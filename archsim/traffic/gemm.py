"""What im2col and a BLAS product touch, dense and structured (kernels/csrc/run_dense.c).

The blocking inside of BLAS is the library's own: here the layered algorithm of the plan
(Goto and van de Geijn, ACM TOMS 34(3), 2008) walks, with the blocks of
:mod:`archsim.methods.dense_gemm`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np

from archsim.methods.dense_gemm import (
    PANEL,
    PANEL_COLUMNS,
    UNROLL,
    gemm_of,
)
from archsim.methods.structured import find
from archsim.network import FLOAT_BYTES
from archsim.plan import Plan
from archsim.traffic.lowered import seen
from archsim.traffic.script import (
    INPUT,
    OUTPUT,
    PRODUCTS,
    UPDATE,
    WRITE,
    Array,
    Script,
    Segments,
    Stage,
    cut_even,
    in_turn,
    of_copy,
    pieces,
    table,
    touches,
)

_WEIGHTS, _PACKED_W, _PACKED_M, _LOWERED, _IN, _OUT = range(6)
_F = FLOAT_BYTES


@dataclass(frozen=True, slots=True)
class _Group:
    """What is left of one group: rows of its lowered matrix, and of its weights."""

    first_row: int
    depth: int
    first_weight: int
    channels: np.ndarray  # output channels that are computed


def script(plan: Plan) -> Script:
    """Return the script of a ``dense_gemm`` (one product an image) or ``structured`` plan."""
    walk = _Walk(plan)
    layer = plan.layer
    lowered = walk.rows.size * walk.pitch if walk.lowers else 0
    arrays = (
        Array("weights", _F * walk.weights, "layer", "part"),
        Array("packed weights", _F * PANEL * (walk.block_rows + walk.high), "thread"),
        Array("packed matrix", _F * PANEL * (walk.block_columns + walk.wide), "thread"),
        Array("lowered input", _F * lowered, *of_copy(plan)),
        Array("input", layer.input_bytes, "turn", "no" if walk.lowers else "image"),
        Array("output", layer.output_bytes, "turn"),
    )
    turns = np.arange(ceil(PANEL / UNROLL)) * UNROLL * walk.wide * _F
    steps, (walk.first,) = table(turns)
    stages = [Stage(walk.products)]
    if walk.lowers:
        stages.insert(0, Stage(walk.lower, meets=not plan.blocking.get("own_input")))
    if walk.moves:
        stages.append(Stage(walk.spread))
    return Script(arrays, steps, tuple(stages))


class _Walk:
    """Panel of columns -> panel of depth -> block of rows -> register blocks."""

    def __init__(self, plan: Plan) -> None:
        self.plan, layer = plan, plan.layer
        self.first = 0
        self.pixels = layer.P * layer.Q
        taps = layer.R * layer.S
        if plan.method == "structured":
            kept = find(layer, plan.sparsity)
            made = kept.rows(plan.schedule).reshape(layer.groups, -1)
            channels, self.lowers = kept.channels, True
        else:
            made = np.ones((layer.groups, layer.C // layer.groups * taps), dtype=np.bool_)
            channels = np.ones(layer.K, dtype=np.bool_)
            self.lowers = "input" in [phase.name for phase in plan.phases]
        self.channels = channels
        self.moves = not channels.all()
        self.rows = np.flatnonzero(made)  # of the lowered matrix that are made
        self.pitch = -(-self.pixels // 16) * 16 if self.lowers else self.pixels
        self.groups, row, weight = [], 0, 0
        in_group = layer.K // layer.groups
        for g in range(layer.groups):
            depth = int(made[g].sum())
            here = np.flatnonzero(channels[g * in_group : (g + 1) * in_group]) + g * in_group
            self.groups.append(_Group(row, depth, weight, here))
            row, weight = row + depth, weight + depth * len(here)
        self.weights = weight
        gemm = gemm_of(
            layer, plan.batch, plan.threads, plan.threads_per_image, plan.target,
            lowers=self.lowers,
        )  # fmt: skip
        self.high, self.wide = gemm.rows, gemm.block_columns
        self.block_rows = max(self.high, int(gemm.block_rows) // self.high * self.high)
        self.block_columns = min(PANEL_COLUMNS, self.pixels)

    def lower(self, rank: int) -> Iterator[Segments]:
        layer = self.plan.layer
        taps = layer.R * layer.S
        index = np.arange(*cut_even(len(self.rows), self.plan, rank))
        for piece in pieces(len(index), 2):
            i = index[piece]
            c, tap = self.rows[i] // taps, self.rows[i] % taps
            rows, width, at = seen(layer, 0, self.pixels, tap)
            yield in_turn(
                touches(
                    _IN, INPUT, rows=rows, width=_F * width,
                    pitch=_F * layer.stride[0] * layer.W,
                    offset=_F * (c * layer.H * layer.W + at),
                ),
                touches(
                    _LOWERED, INPUT, touch=WRITE, offset=_F * i * self.pitch,
                    width=_F * self.pixels,
                ),
            )  # fmt: skip

    def products(self, rank: int) -> Iterator[Segments]:
        start, stop = self.plan.part_ptr[rank], self.plan.part_ptr[rank + 1]
        in_group = self.plan.layer.K // self.plan.layer.groups
        for number, group in enumerate(self.groups):
            low = max(start, number * in_group)
            mine = (group.channels >= start) & (group.channels < stop)
            count = int(mine.sum())
            if not count or not group.depth:
                continue
            before = int((group.channels < start).sum())
            for column in range(0, self.pixels, self.block_columns):
                for panel in range(0, group.depth, PANEL):
                    yield from self._panel(group, low, before, count, column, panel)

    def _panel(
        self, group: _Group, channel: int, before: int, count: int, column: int, panel: int
    ) -> Iterator[Segments]:
        deep = min(PANEL, group.depth - panel)
        columns = min(self.block_columns, self.pixels - column)
        row = group.first_row + panel
        yield np.stack(
            [
                touches(
                    _LOWERED if self.lowers else _IN, PRODUCTS, rows=deep,
                    pitch=_F * self.pitch, width=_F * columns,
                    offset=_F * (row * self.pitch + column),
                ),
                touches(_PACKED_M, PRODUCTS, touch=WRITE, width=_F * deep * columns),
            ]
        )  # fmt: skip
        for block in range(0, count, self.block_rows):
            rows = min(self.block_rows, count - block)
            at = group.first_weight + (before + block) * group.depth + panel
            yield np.stack(
                [
                    touches(
                        _WEIGHTS, PRODUCTS, rows=rows, pitch=_F * group.depth,
                        width=_F * deep, offset=_F * at,
                    ),
                    touches(_PACKED_W, PRODUCTS, touch=WRITE, width=_F * deep * rows),
                ]
            )  # fmt: skip
            yield self._tiles(channel + block, rows, column, columns, deep, panel > 0)

    def _tiles(
        self, channel: int, rows: int, column: int, columns: int, deep: int, again: bool
    ) -> Segments:
        """Register blocks: columns, then rows inside."""
        across = np.arange(0, columns, self.wide)[:, None]
        down = np.arange(0, rows, self.high)
        walk = touches(
            _PACKED_M, PRODUCTS, offset=_F * across * deep, width=_F * self.wide * UNROLL,
            first=self.first, last=self.first + ceil(deep / UNROLL),
            side=_PACKED_W, sides=1, side_offset=_F * down * deep,
            side_step=_F * self.high * UNROLL,
        )  # fmt: skip
        sums = touches(
            _OUT, PRODUCTS, touch=UPDATE if again else WRITE, pitch=_F * self.pixels,
            rows=np.minimum(self.high, rows - down),
            width=_F * np.minimum(self.wide, columns - across),
            offset=_F * ((channel + down) * self.pixels + column + across),
        )  # fmt: skip
        return in_turn(walk, sums)

    def spread(self, rank: int) -> Iterator[Segments]:
        """Kept channels to their places, from the last one on; the others are cleared."""
        layer = self.plan.layer
        start, stop = self.plan.part_ptr[rank], self.plan.part_ptr[rank + 1]
        in_group = layer.K // layer.groups
        plane = _F * self.pixels
        for g in range(layer.groups):
            first, last = max(start, g * in_group), min(stop, (g + 1) * in_group)
            k = np.arange(last - 1, first - 1, -1)
            if not k.size:
                continue
            kept = self.channels[k]
            source = first + np.array([int(self.channels[first:x].sum()) for x in k])
            yield in_turn(
                touches(_OUT, OUTPUT, offset=source * plane, width=plane,
                        last=kept & (source != k)),
                touches(_OUT, OUTPUT, touch=WRITE, offset=k * plane, width=plane,
                        last=~kept | (source != k)),
            )  # fmt: skip
