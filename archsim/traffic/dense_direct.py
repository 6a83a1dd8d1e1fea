"""What direct dense convolution touches (kernels/csrc/run_dense_direct.c)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from archsim.network import FLOAT_BYTES
from archsim.plan import Plan
from archsim.traffic.script import (
    INPUT,
    PRODUCTS,
    READ,
    UPDATE,
    WRITE,
    Array,
    Script,
    Segments,
    Stage,
    cut_even,
    in_turn,
    of_copy,
    parts_of,
    table,
    touches,
)

_WEIGHTS, _PADDED, _SUMS, _IN, _OUT = range(5)
_F = FLOAT_BYTES


def script(plan: Plan) -> Script:
    """Return the script of a ``dense_direct`` plan."""
    walk = _Walk(plan)
    layer = plan.layer
    padded = plan.blocking["source"] == "padded"
    band = walk.band_rows * walk.band_columns * walk.vectors * walk.lanes
    arrays = (
        Array("weights", _F * walk.all_weights, "layer", "part"),
        Array("padded input", _F * layer.C * walk.channel_pitch if padded else 0, *of_copy(plan)),
        Array("partial sums", _F * band if walk.in_channels else 0, "thread"),
        Array("input", layer.input_bytes, "turn", "no" if padded else "image"),
        Array("output", layer.output_bytes, "turn"),
    )  # fmt: skip
    steps = walk.make_steps()
    stages: tuple[Stage, ...] = (Stage(walk.products),)
    if padded:
        stages = (Stage(walk.copy, meets=not plan.blocking.get("own_input")), *stages)
    return Script(arrays, steps, stages)


class _Walk:
    """Band of pixels -> output channels -> block of input channels -> register block -> tap."""

    def __init__(self, plan: Plan) -> None:
        self.plan, layer = plan, plan.layer
        n = {k: int(v) for k, v in plan.blocking.items() if isinstance(v, int)}
        self.lanes, self.vectors = n["lanes"], n["reg_vectors"]
        self.reg_rows, self.reg_count = n["reg_rows"], n["reg_count"]
        self.channel_block, self.channel_pitch = n["channel_block"], n["channel_pitch"]
        self.row_pitch = n["row_pitch"]
        self.in_channels = plan.blocking["in_lanes"] == "channels"
        self.rows, self.columns = layer.P, layer.Q
        if n["flat"]:
            self.rows, self.columns = 1, layer.P * layer.Q
        self.band_rows = min(n["band_rows"], self.rows)
        self.band_columns = min(n["band_columns"], self.columns)
        self.row_step = layer.stride[0] * self.row_pitch
        self.group_channels, self.group_outputs = layer.C // layer.groups, layer.K // layer.groups
        self.taps = layer.R * layer.S
        self.depth = self.group_channels * self.taps
        self.unit = self.lanes if self.in_channels else self.reg_count
        self.units_in_group = -(-self.group_outputs // self.unit)
        self.all_weights = layer.groups * self.units_in_group * self.unit * self.depth
        self.source = _PADDED if plan.blocking["source"] == "padded" else _IN
        self.first: dict[tuple[int, int], int] = {}  # of the steps of some kernel rows

    def make_steps(self) -> np.ndarray:
        """Return steps (input channel, tap) for every range of kernel rows that occurs."""
        layer = self.plan.layer
        y = np.arange(layer.R) * layer.dilation[0]
        x = np.arange(layer.S) * layer.dilation[1]
        phase = -(-(layer.W + 2 * layer.pad[1]) // layer.stride[1])
        if self.source == _IN:
            phase = 0
        right = x % layer.stride[1] * phase + x // layer.stride[1]
        tap = y[:, None] * self.row_pitch + right
        channel = np.arange(self.group_channels)[:, None] * self.channel_pitch
        ranges = sorted({self._kernel_rows(p, h) for p, h in self._tile_rows()})
        steps, begins = table(*(_F * (channel + tap[a:b].reshape(-1)) for a, b in ranges))
        self.first = dict(zip(ranges, begins, strict=True))
        return steps

    def _tile_rows(self) -> list[tuple[int, int]]:
        step = self.reg_rows if self.in_channels else 1
        return [
            (p, min(step, min(start + self.band_rows, self.rows) - p))
            for start in range(0, self.rows, self.band_rows)
            for p in range(start, min(start + self.band_rows, self.rows), step)
        ]

    def _kernel_rows(self, p: int, rows: int) -> tuple[int, int]:
        """Kernel rows that meet the image at all."""
        layer = self.plan.layer
        if layer.pad[0] == 0 or self.rows != layer.P:
            return 0, layer.R
        top = p * layer.stride[0] - layer.pad[0]
        bottom = top + (rows - 1) * layer.stride[0]
        first, last = 0, layer.R
        while first < last and bottom + first * layer.dilation[0] < 0:
            first += 1
        while last > first and top + (last - 1) * layer.dilation[0] >= layer.H:
            last -= 1
        return first, last

    def copy(self, rank: int) -> Iterator[Segments]:
        """The image into the padded copy, channel by channel."""
        layer = self.plan.layer
        plane = _F * layer.H * layer.W
        c = np.arange(*cut_even(layer.C, self.plan, rank))
        inside = layer.pad[0] * self.row_pitch + layer.pad[1] // layer.stride[1]
        yield in_turn(
            touches(_IN, INPUT, offset=c * plane, width=plane),
            touches(
                _PADDED, INPUT, touch=WRITE, rows=layer.H, width=_F * layer.W,
                pitch=_F * self.row_pitch, offset=_F * (c * self.channel_pitch + inside),
            ),
        )  # fmt: skip

    def products(self, rank: int) -> Iterator[Segments]:
        starts = product(
            range(0, self.rows, self.band_rows), range(0, self.columns, self.band_columns)
        )
        for p, q in starts:
            rows = (p, min(p + self.band_rows, self.rows))
            columns = (q, min(q + self.band_columns, self.columns))
            for start, stop in parts_of(self.plan, rank):
                unit = start
                while unit < stop:
                    group, at = divmod(unit, self.units_in_group)
                    units = 1
                    if self.in_channels:
                        units = min(self.vectors, stop - unit, self.units_in_group - at)
                    yield self._run(group, at, units, rows, columns)
                    unit += units

    def _run(
        self, group: int, at: int, units: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> Segments:
        """Some neighbouring output channels of a group in a band."""
        channels = min(units * self.unit, self.group_outputs - at * self.unit)
        first = group * self.group_outputs + at * self.unit
        step = units * self.lanes if self.in_channels else channels  # floats of a tap
        offset = (group * self.units_in_group + at) * self.unit * self.depth
        if not self.in_channels:
            offset = first * self.depth
        c = np.arange(0, self.group_channels, self.channel_block)[:, None, None]
        channels_here = np.minimum(self.channel_block, self.group_channels - c)
        tiles = [t for t in self._tile_rows() if rows[0] <= t[0] < rows[1]]
        ranges = [self._kernel_rows(*tile) for tile in tiles]
        p, high = (np.array(x)[:, None] for x in zip(*tiles, strict=True))
        begin = np.array([self.first[r] for r in ranges])[:, None]
        taps = np.array([b - a for a, b in ranges])[:, None] * self.plan.layer.S
        skipped = np.array([a for a, _ in ranges])[:, None] * self.plan.layer.S
        wide = self.reg_count if self.in_channels else self.vectors * self.lanes
        q = np.arange(*columns, wide)
        count = np.minimum(wide, columns[1] - q)
        image = group * self.group_channels * self.channel_pitch
        walk = touches(
            self.source, PRODUCTS, rows=high, width=_F * count, pitch=_F * self.row_step,
            offset=_F * (image + p * self.row_step + q),
            first=begin + c * taps, last=begin + (c + channels_here) * taps,
            side=_WEIGHTS, sides=1, side_step=_F * step,
            side_offset=_F * (offset + (c * self.taps + skipped) * step),
        )  # fmt: skip
        plane = self.rows * self.columns
        if self.in_channels:
            row = (columns[1] - columns[0]) * step
            place: dict[str, object] = {
                "offset": _F * ((p - rows[0]) * row + (q - columns[0]) * step),
                "rows": high, "width": _F * count * step, "pitch": _F * row,
            }  # fmt: skip
            sums = _SUMS
        else:
            place = {
                "offset": _F * (first * plane + p * self.columns + q),
                "rows": channels, "width": _F * count, "pitch": _F * plane,
            }  # fmt: skip
            sums = _OUT
        back = touches(sums, PRODUCTS, touch=READ, last=(c > 0), **place)
        kept = touches(sums, PRODUCTS, touch=UPDATE if self.in_channels else WRITE, **place)
        found = in_turn(*np.broadcast_arrays(back, walk, kept))
        if not self.in_channels:
            return found
        pixels = (rows[1] - rows[0]) * (columns[1] - columns[0])
        leave = touches(_SUMS, PRODUCTS, width=_F * pixels * step)
        out = touches(
            _OUT, PRODUCTS, touch=WRITE, rows=channels, pitch=_F * plane, width=_F * pixels,
            offset=_F * (first * plane + rows[0] * self.columns + columns[0]),
        )  # fmt: skip
        return np.concatenate([found, leave.reshape(1), out.reshape(1)])
