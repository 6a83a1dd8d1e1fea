"""What ``lanes:shifts``, and ``pointwise`` by windows, touch (kernels/csrc/run_direct_shifts.c)."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import numpy as np

from archsim.kernels.shapes import ConvShape
from archsim.kernels.shifts_layout import ShiftsLayout, in_one_row, pack_shifts, shifts_layout
from archsim.native import conv_shape
from archsim.network import FLOAT_BYTES
from archsim.plan import Plan
from archsim.traffic.script import (
    INPUT,
    PAST,
    PRODUCTS,
    UPDATE,
    WRITE,
    Array,
    Script,
    Segments,
    Stage,
    in_turn,
    parts_of,
    pattern_of,
    table,
    touches,
)

_OFF, _VAL, _WINDOW, _SUMS, _IN, _OUT = range(6)
_F = FLOAT_BYTES


def script(plan: Plan) -> Script:
    """Return the script of a plan whose threads copy windows just before their products."""
    layer, weights = plan.layer, pattern_of(plan)
    shape: ConvShape = conv_shape(layer)
    number = {k: int(v) for k, v in plan.blocking.items() if isinstance(v, int)}
    if plan.blocking["mode"] == "pointwise":
        shape, row = in_one_row(shape, number)
        number = dict(row)
    layout = shifts_layout(shape, number)
    packed = pack_shifts(weights, shape, layout)
    nonzeros = int(packed.ptr[-1])
    sums = layer.K // layer.groups * layout.most_vectors * layout.lanes
    arrays = (
        Array("weights", _F * nonzeros, "layer", "part"),
        Array("weights", _F * nonzeros, "layer", "part"),
        Array("lane input", _F * layout.window, "thread"),
        Array("partial sums", _F * sums, "thread"),
        Array("input", layer.input_bytes, "turn", "image"),
        Array("output", layer.output_bytes, "turn"),
    )
    steps, (first,) = table(packed.off[:nonzeros].astype(np.int64))
    walk = _Walk(plan, shape, layout, packed.ptr, first, bool(number["past_caches"]))
    return Script(arrays, steps, (Stage(walk.products),))


class _Walk:
    """Group -> register block -> block of slabs: its window, then output channel -> nonzero."""

    def __init__(
        self, plan: Plan, shape: ConvShape, layout: ShiftsLayout, ptr: np.ndarray, first: int,
        past_caches: bool,
    ) -> None:  # fmt: skip
        self.plan, self.shape, self.layout, self.ptr = plan, shape, layout, ptr
        self.first, self.past_caches = first, past_caches
        self.slabs = shape.group_channels * layout.residues.count
        self.slab_blocks = ceil(self.slabs / layout.slab_block)

    def products(self, rank: int) -> Iterator[Segments]:
        in_group = self.shape.group_out_channels
        for start, stop in parts_of(self.plan, rank):
            for group in range(self.shape.groups):
                first = max(start - group * in_group, 0)
                last = min(in_group, stop - group * in_group)
                if first >= last:
                    continue
                channels = np.arange(first, last)
                for block in self.layout.block:
                    parts = []
                    for b in range(self.slab_blocks):
                        parts.append(self._window(group, block, b))
                        parts.append(self._channels(group, channels, block, b))
                    yield np.concatenate(parts)

    def _window(self, group: int, block: np.ndarray, b: int) -> Segments:
        """What the register block looks at of the slabs of block b."""
        s, layout = self.shape, self.layout
        rows = int(block[0]) + layout.reach_rows
        vectors, top, left = int(block[1]), int(block[2]), int(block[3])
        planes = layout.residues.count
        first, last = b * layout.slab_block, min(self.slabs, (b + 1) * layout.slab_block)
        found = []
        for plane in range(planes):
            channel = np.arange(
                ceil(max(first - plane, 0) / planes), ceil(max(last - plane, 0) / planes)
            )
            row = top * s.stride[0] + int(layout.plane_row[plane]) - s.pad[0]
            y0, y1 = inside(row, s.stride[0], s.height, rows)
            column = left * s.stride[1] + int(layout.plane_column[plane]) - s.pad[1]
            x0, x1 = inside(column, s.stride[1], s.width, vectors * layout.lanes)
            wide = (x1 - x0 - 1) * s.stride[1] + 1 if x1 > x0 else 0
            at = (y0 * s.stride[0] + row) * s.width + x0 * s.stride[1] + column
            image = group * s.group_channels + channel
            found.append(
                in_turn(
                    touches(
                        _IN, INPUT, rows=max(y1 - y0, 0), width=_F * wide,
                        offset=_F * np.maximum(image * s.height * s.width + at, 0),
                        pitch=_F * s.stride[0] * s.width,
                    ),
                    touches(
                        _WINDOW, INPUT, touch=WRITE, width=_F * rows * vectors * layout.lanes,
                        offset=_F * (channel * planes + plane - first) * layout.slab_pitch,
                    ),
                )
            )  # fmt: skip
        return np.concatenate(found)

    def _channels(self, group: int, channels: np.ndarray, block: np.ndarray, b: int) -> Segments:
        """All output channels of the part over one block of slabs."""
        s, layout = self.shape, self.layout
        rows, vectors, top, left = (int(x) for x in block[:4])
        width = _F * rows * vectors * layout.lanes
        begin = (group * self.slab_blocks + b) * s.group_out_channels + channels
        begin = begin * layout.parts
        walk = touches(
            _WINDOW, PRODUCTS, width=width,
            first=self.first + self.ptr[begin], last=self.first + self.ptr[begin + layout.parts],
            side=_OFF, sides=2, side_offset=_F * self.ptr[begin], side_step=_F,
        )  # fmt: skip
        sums = _F * (channels - channels[0]) * layout.most_vectors * layout.lanes
        read = touches(_SUMS, PRODUCTS, offset=sums, width=width, last=int(b > 0))
        if b < self.slab_blocks - 1:
            return in_turn(walk, read, touches(_SUMS, PRODUCTS, touch=UPDATE, offset=sums,
                                               width=width))  # fmt: skip
        k = group * s.group_out_channels + channels
        outputs = vectors * layout.lanes - layout.residues.reach_columns
        past = self.past_caches and block[5]
        write = touches(
            _OUT, PRODUCTS, touch=PAST if past else WRITE, rows=rows, pitch=_F * s.out_w,
            offset=_F * (k * s.out_h * s.out_w + top * s.out_w + left),
            width=_F * max(0, min(outputs, s.out_w - left)),
        )  # fmt: skip
        return in_turn(walk, read, write)


def inside(start: int, stride: int, size: int, count: int) -> tuple[int, int]:
    """Return the first and one past the last i < count for which i * stride + start is inside."""
    first = min(0 if start >= 0 else ceil(-start / stride), count)
    last = min(0 if start >= size else ceil((size - start) / stride), count)
    return first, last
