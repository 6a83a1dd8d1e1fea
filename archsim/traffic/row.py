"""What the ``row`` schedule touches (kernels/csrc/run_direct_row.c)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import ceil

import numpy as np

from archsim.kernels.pack import pack_direct_row
from archsim.native import conv_shape
from archsim.network import FLOAT_BYTES
from archsim.plan import Plan
from archsim.traffic.script import (
    INPUT,
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
    parts_of,
    pattern_of,
    pieces,
    table,
    touches,
)

_OFF, _VAL, _PADDED, _SUMS, _IN, _OUT = range(6)
_F = FLOAT_BYTES


def script(plan: Plan) -> Script:
    """Return the script of a ``row`` plan with a pattern."""
    layer, number = plan.layer, plan.blocking
    pitch = int(number["row_pitch"])
    channel_block, oc_block = int(number["channel_block"]), int(number["oc_block"])
    oc_block = min(oc_block, layer.K // layer.groups)
    weights = pattern_of(plan)
    packed = pack_direct_row(
        weights, conv_shape(layer), oc_block=oc_block, channel_block=channel_block,
        row_pitch=pitch,
    )  # fmt: skip
    walk = _Walk(plan, packed.ptr, oc_block)
    padded = ((layer.H + layer.pad[0]) * layer.C + layer.pad[0]) * pitch + 64
    scratch = oc_block * layer.P * walk.sums_pitch
    arrays = (
        Array("weights", _F * packed.off.size, "layer", "part"),
        Array("weights", _F * packed.off.size, "layer", "part"),
        Array("padded input", _F * padded, *of_copy(plan)),
        Array("partial sums", _F * scratch, "thread"),
        Array("input", layer.input_bytes, "turn"),
        Array("output", layer.output_bytes, "turn"),
    )
    if number["vectorised"]:
        steps, (walk.first,) = table(packed.off.astype(np.int64) * _F)
        products = walk.products
    else:
        channels = np.arange(layer.C // layer.groups) * walk.channel_pitch
        steps, (walk.first,) = table(channels * _F)
        products = walk.pixels
    return Script(
        arrays,
        steps,
        (Stage(partial(_copy, plan), meets=not plan.blocking.get("own_input")), Stage(products)),
    )


def _copy(plan: Plan, rank: int) -> Iterator[Segments]:
    """The image into the padded copy, channel by channel."""
    layer, pitch = plan.layer, int(plan.blocking["row_pitch"])
    plane = _F * layer.H * layer.W
    for piece in pieces(1, 1):
        del piece
        c = np.arange(*cut_even(layer.C, plan, rank))
        inside = layer.pad[0] * pitch + layer.pad[1]
        yield in_turn(
            touches(_IN, INPUT, offset=c * plane, width=plane),
            touches(
                _PADDED, INPUT, touch=WRITE, rows=layer.H, pitch=_F * pitch, width=_F * layer.W,
                offset=_F * (c * (layer.H + layer.pad[0]) * pitch + inside),
            ),
        )  # fmt: skip


class _Walk:
    """Block of output channels -> column block -> channel -> register block -> nonzero."""

    def __init__(self, plan: Plan, ptr: np.ndarray, oc_block: int) -> None:
        layer, number = plan.layer, plan.blocking
        self.plan, self.ptr, self.oc_block = plan, ptr, oc_block
        self.first = 0  # of the table of steps
        self.pitch = int(number["row_pitch"])
        self.channel_pitch = (layer.H + layer.pad[0]) * self.pitch
        self.column_blocks = ceil(layer.C // layer.groups / int(number["channel_block"]))
        self.to_output = number["spill"] == "output"
        self.sums_pitch = layer.Q if self.to_output else ceil(layer.Q / 16) * 16
        self.in_group = layer.K // layer.groups
        self.blocks_in_group = ceil(self.in_group / oc_block)

    def products(self, rank: int) -> Iterator[Segments]:
        layer, number = self.plan.layer, self.plan.blocking
        rows = int(number["reg_rows"])
        columns = int(number["reg_vectors"]) * int(number["lanes"])
        passes = ceil(layer.P / rows) * ceil(layer.Q / columns)
        each = 3 * self.oc_block * self.column_blocks * passes
        for start, stop in parts_of(self.plan, rank):
            units = np.arange(start, stop)
            for piece in pieces(len(units), each):
                for unit in units[piece]:  # the last block of a group has fewer channels
                    yield self._unit(int(unit), rows, columns)

    def _unit(self, unit: int, rows: int, columns: int) -> Segments:
        """One block of output channels."""
        layer = self.plan.layer
        lanes = int(self.plan.blocking["lanes"])
        group, block = divmod(unit, self.blocks_in_group)
        channels = min(self.oc_block, self.in_group - block * self.oc_block)
        b = np.arange(self.column_blocks)[:, None, None, None]
        i = np.arange(channels)[:, None, None]
        h = np.arange(0, layer.P, rows)[:, None]
        w = np.arange(0, layer.Q, columns)
        tile_rows = np.minimum(rows, layer.P - h)
        tile_columns = np.minimum(columns, layer.Q - w)
        lists = (unit * self.column_blocks + b) * self.oc_block + i
        channel = group * self.in_group + block * self.oc_block + i
        out = _F * (channel * layer.P * layer.Q + h * layer.Q + w)
        sums = _F * (i * layer.P * self.sums_pitch + h * self.sums_pitch + w)
        spill = (_OUT, out) if self.to_output else (_SUMS, sums)
        wide = {"rows": tile_rows, "width": _F * tile_columns}
        last = b == self.column_blocks - 1
        read = touches(
            spill[0], PRODUCTS, offset=spill[1], pitch=_F * self.sums_pitch, last=b > 0, **wide
        )
        image = group * (layer.C // layer.groups) * self.channel_pitch
        walk = touches(
            _PADDED, PRODUCTS, offset=_F * (image + h * self.pitch + w), rows=tile_rows,
            width=_F * lanes * -(-tile_columns // lanes), pitch=_F * self.pitch,
            first=self.first + self.ptr[lists], last=self.first + self.ptr[lists + 1],
            side=_OFF, sides=2, side_offset=_F * self.ptr[lists], side_step=_F,
        )  # fmt: skip
        write = touches(
            np.where(last, _OUT, spill[0]), PRODUCTS, touch=np.where(last, WRITE, UPDATE),
            offset=np.where(last, out, spill[1]),
            pitch=_F * np.where(last, layer.Q, self.sums_pitch), **wide,
        )  # fmt: skip
        return in_turn(*np.broadcast_arrays(read, walk, write))

    def pixels(self, rank: int) -> Iterator[Segments]:
        """Pixel -> output channel -> nonzero; a pixel's weights and pictures side by side."""
        layer = self.plan.layer
        stride = layer.stride
        p, q = (axis.reshape(-1) for axis in np.mgrid[: layer.P, : layer.Q])
        corner = p * stride[0] * self.pitch + q * stride[1]
        in_channels, lists = layer.C // layer.groups, self.column_blocks * self.oc_block
        high = (layer.R - 1) * layer.dilation[0] + 1
        wide = (layer.S - 1) * layer.dilation[1] + 1
        for start, stop in parts_of(self.plan, rank):
            for piece in pieces(layer.P * layer.Q, 2 * layer.groups):
                found = []
                for group in range(layer.groups):
                    first = max(start, group * self.blocks_in_group)
                    last = min(stop, (group + 1) * self.blocks_in_group)
                    if first >= last:
                        continue
                    begin, end = self.ptr[first * lists], self.ptr[last * lists]
                    channel = group * self.in_group
                    channel += (first - group * self.blocks_in_group) * self.oc_block
                    count = min(
                        (last - first) * self.oc_block, (group + 1) * self.in_group - channel
                    )
                    each = int(end - begin) // in_channels  # nonzeros beside a channel's picture
                    begun = begin + each * in_channels
                    plane = layer.P * layer.Q
                    place = _F * (channel * plane + np.arange(layer.P * layer.Q)[piece])
                    found += [
                        touches(
                            _PADDED, PRODUCTS, rows=high, width=_F * wide, pitch=_F * self.pitch,
                            offset=_F * (group * in_channels * self.channel_pitch + corner[piece]),
                            first=self.first, last=self.first + in_channels,
                            side=_OFF, sides=2, side_offset=_F * begin,
                            side_step=_F * each,
                        ),
                        *(
                            touches(which, PRODUCTS, offset=_F * begun, width=_F * (end - begun))
                            for which in (_OFF, _VAL)
                        ),
                        touches(
                            _OUT, PRODUCTS, touch=UPDATE, offset=place, rows=count, width=_F,
                            pitch=_F * plane,
                        ),
                    ]  # fmt: skip
                if found:
                    yield in_turn(*found)
