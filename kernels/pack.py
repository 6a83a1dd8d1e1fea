"""Weights to the streams of nonzeros that the kernels read.

A stream is `off` (int32: where in the input buffer the weight's first input stands, in floats) and
`val` (float32), cut into lists by `ptr` (int64): list l is [ptr[l], ptr[l + 1]).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archsim.kernels.shapes import ConvShape

_LARGEST_OFFSET = 2**31 - 1

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PackedStreams:
    """Nonzeros in lists."""

    ptr: npt.NDArray[np.int64]
    off: npt.NDArray[np.int32]
    val: npt.NDArray[np.float32]
    last_offset: int
    """Largest offset that any weight of this layer could have."""

    @property
    def lists(self) -> int:
        """How many lists there are, empty ones included."""
        return len(self.ptr) - 1


def pack_direct_row(
    weights: Weights,
    shape: ConvShape,
    *,
    oc_block: int,
    channel_block: int,
    row_pitch: int,
    ahead: int = 0,
) -> PackedStreams:
    """Order the nonzeros for the row schedule: group, output-channel block, column block, channel.

    Parameters
    ----------
    weights : ndarray of shape (K, C / groups, R, S), float32
    shape : ConvShape
    oc_block : int
        Output channels in a block. Blocks begin anew in each group.
    channel_block : int
        Input channels of a group in a column block; the last block has what is left.
    row_pitch : int, floats
        From a row of the padded image to the next.
    ahead : int
        Entries of nothing behind the last list.

    Returns
    -------
    PackedStreams
        List (block * column_blocks + b) * oc_block + i is output channel i of *block* in column
        block b; its nonzeros are in the order (c, r, s). Offsets count from the group's first
        channel:
        ((c * (H + pad_h)) + r * dilation_h) * row_pitch + s * dilation_w.
    """
    k, c, r, s = np.nonzero(weights)  # already in the order (k, c, r, s)
    column_blocks = -(-shape.group_channels // channel_block)
    blocks_in_group = -(-shape.group_out_channels // oc_block)

    group, k_in_group = np.divmod(k, shape.group_out_channels)
    block = group * blocks_in_group + k_in_group // oc_block
    lists = (block * column_blocks + c // channel_block) * oc_block + k_in_group % oc_block
    order = np.argsort(lists, kind="stable")

    channel_rows = shape.height + shape.pad[0]
    off = (c * channel_rows + r * shape.dilation[0]) * row_pitch + s * shape.dilation[1]
    last = offset_limit(
        ((shape.group_channels - 1) * channel_rows + (shape.kernel_h - 1) * shape.dilation[0])
        * row_pitch
        + (shape.kernel_w - 1) * shape.dilation[1]
    )
    return PackedStreams(
        ptr=list_ptr(lists, shape.groups * blocks_in_group * column_blocks * oc_block),
        off=np.concatenate([off[order], np.zeros(ahead, np.int64)]).astype(np.int32),
        val=np.concatenate([weights[k, c, r, s][order], np.zeros(ahead, np.float32)]),
        last_offset=last,
    )


def pack_lowered(
    weights: Weights, shape: ConvShape, *, pitch: int, ahead: int = 0
) -> PackedStreams:
    """Order the nonzeros as rows of a sparse matrix, one list for each output channel.

    The offset of weight (c, r, s) is its row of the group's part of the lowered matrix, times
    *pitch*. *ahead* entries of nothing follow the last list.
    """
    rows = weights.reshape(shape.out_channels, -1)
    last = offset_limit((rows.shape[1] - 1) * pitch)
    k, row = np.nonzero(rows)
    return PackedStreams(
        ptr=list_ptr(k, shape.out_channels),
        off=np.concatenate([row * pitch, np.zeros(ahead, np.int64)]).astype(np.int32),
        val=np.concatenate([rows[k, row], np.zeros(ahead, np.float32)]),
        last_offset=last,
    )


def pack_kernels(
    weights: Weights, shape: ConvShape, *, pitch: int, channel_block: int, ahead: int = 0
) -> PackedStreams:
    """Order whole kernels by block of input channels; those of zeros alone are dropped.

    List block * K + k has the kernels of output channel k in a block of *channel_block* input
    channels of its group. The offset of kernel (k, c) is the first of its R * S rows of the block's
    part of the lowered matrix, times *pitch*; its R * S values stand together, zeros among them.
    *ahead* entries of nothing follow the last list.
    """
    taps = shape.kernel_h * shape.kernel_w
    kernels = weights.reshape(shape.out_channels, -1, taps)
    last = offset_limit((min(channel_block, kernels.shape[1]) * taps - 1) * pitch)
    k, c = np.nonzero(kernels.any(axis=2))
    block, in_block = np.divmod(c, channel_block)
    lists = block * shape.out_channels + k
    order = np.argsort(lists, kind="stable")
    off = (in_block * (taps * pitch))[order]
    return PackedStreams(
        ptr=list_ptr(lists, -(-kernels.shape[1] // channel_block) * shape.out_channels),
        off=np.concatenate([off, np.zeros(ahead, np.int64)]).astype(np.int32),
        val=np.concatenate(
            [kernels[k[order], c[order]].reshape(-1), np.zeros(ahead * taps, np.float32)]
        ),
        last_offset=last - (taps - 1) * pitch,
    )


def list_ptr(lists: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.int64]:
    """Return where each of *count* lists begins, from the list of each nonzero."""
    ptr = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(lists, minlength=count), out=ptr[1:])
    return ptr


def offset_limit(last: int, unit: str = "floats") -> int:
    """Return *last* if 32 bits hold it; raise ValueError if not."""
    if last > _LARGEST_OFFSET:
        raise ValueError(
            f"this layer needs offsets up to {last} {unit}; "
            f"they are 32-bit, at most {_LARGEST_OFFSET}"
        )
    return last
