"""Streams hold every nonzero once, in the order and at the offset that the kernels expect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from archsim.kernels import ConvShape
from archsim.kernels.pack import pack_direct_row, pack_lowered


def visits(shape: ConvShape, oc_block: int, channel_block: int) -> Iterator[tuple[int | None, int]]:
    """Each list's output channel (None: a gap at the end of a group) and first input channel."""
    for group in range(shape.groups):
        for first in range(0, shape.group_out_channels, oc_block):
            for c0 in range(0, shape.group_channels, channel_block):
                for i in range(first, first + oc_block):
                    inside = i < shape.group_out_channels
                    yield (group * shape.group_out_channels + i if inside else None), c0


@pytest.mark.parametrize(("oc_block", "channel_block"), [(1, 1), (3, 2), (4, 3), (16, 100)])
def test_direct_row(kit: Any, edge_shape: ConvShape, oc_block: int, channel_block: int) -> None:
    shape, weights = edge_shape, kit.case(edge_shape).weights
    channel_block = min(channel_block, shape.group_channels)
    pitch = shape.width + shape.pad[1]
    packed = pack_direct_row(
        weights, shape, oc_block=oc_block, channel_block=channel_block, row_pitch=pitch
    )
    off: list[int] = []
    val: list[float] = []
    ptr = [0]
    for k, c0 in visits(shape, oc_block, channel_block):
        for c in range(c0, min(c0 + channel_block, shape.group_channels)):
            for r, s in np.ndindex(shape.kernel_h, shape.kernel_w):
                if k is not None and weights[k, c, r, s]:
                    row = c * (shape.height + shape.pad[0]) + r * shape.dilation[0]
                    off.append(row * pitch + s * shape.dilation[1])
                    val.append(float(weights[k, c, r, s]))
        ptr.append(len(off))
    assert packed.ptr.tolist() == ptr
    assert packed.off.tolist() == off
    assert packed.val.tolist() == val
    assert packed.lists == len(ptr) - 1
    assert max(off, default=0) <= packed.last_offset
    assert packed.ptr.dtype == np.int64
    assert packed.off.dtype == np.int32
    assert packed.val.dtype == np.float32


def test_lowered(kit: Any, edge_shape: ConvShape) -> None:
    shape, weights = edge_shape, kit.case(edge_shape).weights
    packed = pack_lowered(weights, shape, pitch=48)
    dense = np.zeros((shape.out_channels, weights[0].size), dtype=np.float32)
    for k in range(shape.out_channels):
        part = slice(packed.ptr[k], packed.ptr[k + 1])
        assert (np.diff(packed.off[part]) > 0).all()
        dense[k, packed.off[part] // 48] = packed.val[part]
    np.testing.assert_array_equal(dense.reshape(weights.shape), weights)
    assert packed.ptr[-1] == np.count_nonzero(weights)
    assert packed.last_offset == 48 * (weights[0].size - 1)
    assert packed.ptr.dtype == np.int64
    assert packed.off.dtype == np.int32
    assert packed.val.dtype == np.float32


def test_negative_zero_is_zero() -> None:
    weights = np.array([-0.0, 1.0], dtype=np.float32).reshape(1, 2, 1, 1)
    shape = ConvShape(2, 1, 1, 1, 1, 1)
    assert pack_lowered(weights, shape, pitch=16).off.tolist() == [16]


def test_offsets_beyond_32_bits_are_refused() -> None:
    weights = np.ones((1, 3, 1, 1), dtype=np.float32)
    shape = ConvShape(3, 1, 1, 1, 1, 1)
    pack_lowered(weights, shape, pitch=2**30 - 1)
    with pytest.raises(ValueError, match="32-bit"):
        pack_lowered(weights, shape, pitch=2**30)
    with pytest.raises(ValueError, match="32-bit"):
        pack_direct_row(weights, shape, oc_block=1, channel_block=1, row_pitch=2**30)
