"""What lowering by panels and the sparse product touch (kernels/csrc/run_lowered.c)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import ceil

import numpy as np

from archsim.kernels.pack import pack_lowered
from archsim.native import conv_shape
from archsim.network import FLOAT_BYTES, Layer
from archsim.plan import Plan
from archsim.traffic.script import (
    INPUT,
    PRODUCTS,
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

_OFF, _VAL, _PANEL, _IN, _OUT = range(5)
_F = FLOAT_BYTES


def script(plan: Plan) -> Script:
    """Return the script of a ``lowered_sparse`` plan with a pattern."""
    layer, weights = plan.layer, pattern_of(plan)
    pitch = int(plan.blocking["pixel_vectors"]) * int(plan.blocking["lanes"])
    packed = pack_lowered(weights, conv_shape(layer), pitch=pitch)
    shared = plan.threads_per_image > 1
    channels = 2 * layer.C if shared else layer.C // layer.groups
    arrays = (
        Array("weights", _F * packed.off.size, "layer", "part"),
        Array("weights", _F * packed.off.size, "layer", "part"),
        Array("lowered input", _F * channels * layer.R * layer.S * pitch, *of_copy(plan)),
        Array("input", layer.input_bytes, "turn"),
        Array("output", layer.output_bytes, "turn"),
    )
    steps, (first,) = table(packed.off.astype(np.int64) * _F)
    walk = _Walk(plan, packed.ptr, first, pitch)
    blocks = range(0, layer.P * layer.Q, pitch)
    if not shared:
        return Script(arrays, steps, (Stage(walk.alone),))
    stages, meets = [], not plan.blocking.get("own_input")
    for index, block in enumerate(blocks):
        stages.append(Stage(partial(walk.lower_share, block, index % 2), meets))
        stages.append(Stage(partial(walk.multiply_parts, block, index % 2)))
    return Script(arrays, steps, tuple(stages))


class _Walk:
    """Block of pixels: channel -> tap into the panel, then output channel -> nonzero."""

    def __init__(self, plan: Plan, ptr: np.ndarray, first: int, pitch: int) -> None:
        self.plan, self.ptr, self.first, self.pitch = plan, ptr, first, pitch
        layer = plan.layer
        self.pixels = layer.P * layer.Q
        self.taps = layer.R * layer.S
        self.lanes = int(plan.blocking["lanes"])

    def alone(self, rank: int) -> Iterator[Segments]:
        """One thread an image: group by group, all with one panel."""
        del rank
        layer = self.plan.layer
        channels, outputs = layer.C // layer.groups, layer.K // layer.groups
        for group in range(layer.groups):
            for block in range(0, self.pixels, self.pitch):
                yield self.lower(block, group * channels, np.arange(channels), 0)
                k = np.arange(group * outputs, (group + 1) * outputs)
                yield self.multiply(block, k, np.zeros_like(k))

    def lower_share(self, block: int, at: int, rank: int) -> Iterator[Segments]:
        """A rank's channels of all groups, into one of two sets of panels."""
        layer = self.plan.layer
        size = layer.C * self.taps * self.pitch
        channels = np.arange(*cut_even(layer.C, self.plan, rank))
        for piece in pieces(len(channels), 2 * self.taps):
            yield self.lower(block, 0, channels[piece], at * size)

    def multiply_parts(self, block: int, at: int, rank: int) -> Iterator[Segments]:
        """A rank's output channels of all groups."""
        layer = self.plan.layer
        rows = layer.C // layer.groups * self.taps * self.pitch
        for start, stop in parts_of(self.plan, rank):
            k = np.arange(start, stop)
            panel = at * layer.C * self.taps * self.pitch
            yield self.multiply(block, k, panel + k // (layer.K // layer.groups) * rows)

    def lower(self, block: int, image: int, channels: np.ndarray, panel: int) -> Segments:
        """Rows of a block of pixels: of ``channels``, counted from channel ``image`` on."""
        layer = self.plan.layer
        count = min(self.pitch, self.pixels - block)
        channels, tap = channels[:, None], np.arange(self.taps)
        rows, width, at = seen(layer, block, count, tap)
        read = touches(
            _IN, INPUT, rows=rows, width=_F * width, pitch=_F * layer.stride[0] * layer.W,
            offset=_F * ((image + channels) * layer.H * layer.W + at),
        )  # fmt: skip
        write = touches(
            _PANEL, INPUT, touch=WRITE, width=_F * self.lanes * ceil(count / self.lanes),
            offset=_F * (panel + (channels * self.taps + tap) * self.pitch),
        )  # fmt: skip
        return in_turn(read, write)

    def multiply(self, block: int, k: np.ndarray, panel: np.ndarray) -> Segments:
        count = min(self.pitch, self.pixels - block)
        walk = touches(
            _PANEL, PRODUCTS, offset=_F * panel,
            width=_F * self.lanes * ceil(count / self.lanes),
            first=self.first + self.ptr[k], last=self.first + self.ptr[k + 1],
            side=_OFF, sides=2, side_offset=_F * self.ptr[k], side_step=_F,
        )  # fmt: skip
        write = touches(
            _OUT, PRODUCTS, touch=WRITE, offset=_F * (k * self.pixels + block), width=_F * count
        )
        return in_turn(walk, write)


def seen(
    layer: Layer, block: int, count: int, tap: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, width and begin of what taps see of a channel, padding left out.

    Of ``count`` output pixels from ``block`` on; in pixels of the picture.
    """
    p0, p1 = block // layer.Q, (block + count - 1) // layer.Q
    q0, q1 = 0, layer.Q - 1
    if p0 == p1:
        q0, q1 = block % layer.Q, (block + count - 1) % layer.Q
    r, s = tap // layer.S, tap % layer.S
    down = r * layer.dilation[0] - layer.pad[0]
    right = s * layer.dilation[1] - layer.pad[1]
    if layer.stride == (1, 1) and layer.Q == layer.W:  # neighbours: one run of pixels
        begin = np.maximum(block + down * layer.W + right, 0)
        end = np.minimum(block + count + down * layer.W + right, layer.H * layer.W)
        return np.ones_like(begin), np.maximum(end - begin, 0), np.minimum(begin, end).clip(0)
    # rows that are inside: of the first and the last ones a part may be outside the block
    first = np.maximum(p0, -(down // layer.stride[0]))
    last = np.minimum(p1, (layer.H - 1 - down) // layer.stride[0])
    x0 = np.maximum(q0 * layer.stride[1] + right, 0)
    x1 = np.minimum(q1 * layer.stride[1] + right, layer.W - 1)
    rows = np.maximum(last - first + 1, 0)
    width = np.maximum(x1 - x0 + 1, 0)
    at = (first * layer.stride[0] + down) * layer.W + x0
    return rows, width, np.where((rows > 0) & (width > 0), at, 0)
