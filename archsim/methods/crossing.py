"""Shares of unaligned vector loads that cross a cache line or a page, counted exactly.

A load of V numbers at offset o (numbers, from an aligned start) crosses a boundary of N numbers
when o mod N > N - V.  The offsets of a direct sparse kernel are sums of a nonzero's offset and
an output position's offset, so the distribution of the sum mod N is the circular convolution of
two histograms.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

from archsim.network import FLOAT_BYTES, Layer
from archsim.plan import Target
from archsim.sparsity import Densities, Sparsity


def crossing_share(
    nonzero_offsets: NDArray[np.int64],
    position_offsets: NDArray[np.int64],
    lanes: int,
    boundary: int,
) -> float:
    """Return the share of loads that cross a boundary every ``boundary`` numbers.

    Parameters
    ----------
    nonzero_offsets, position_offsets : ndarray of int64
        Offsets in numbers; every pair is one load.
    lanes : int
        Numbers per load.
    """
    if nonzero_offsets.size == 0 or position_offsets.size == 0:
        return 0.0
    if lanes > boundary:
        return 1.0
    first = np.bincount(nonzero_offsets % boundary, minlength=boundary) / nonzero_offsets.size
    second = np.bincount(position_offsets % boundary, minlength=boundary) / position_offsets.size
    total = np.fft.irfft(np.fft.rfft(first) * np.fft.rfft(second), n=boundary)
    return float(np.clip(total[boundary - lanes + 1 :].sum(), 0.0, 1.0))


@lru_cache(maxsize=4096)
def uniform_shares(
    channels: int,
    kernel: tuple[int, int],
    dilation: tuple[int, int],
    plane: tuple[int, int],
    output: tuple[int, int],
    lanes: int,
    boundaries: tuple[int, int],
) -> tuple[float, float]:
    """Return the line and page shares when every weight is equally likely to be a nonzero.

    ``plane`` is (rows, pitch) of a padded channel, ``output`` (rows, vectors per row),
    ``boundaries`` (line, page) in numbers.
    """
    nonzeros = weight_offsets(channels, kernel, dilation, plane).ravel()
    positions = position_offsets(output, plane[1], lanes)
    return (
        crossing_share(nonzeros, positions, lanes, boundaries[0]),
        crossing_share(nonzeros, positions, lanes, boundaries[1]),
    )


def weight_offsets(
    channels: int, kernel: tuple[int, int], dilation: tuple[int, int], plane: tuple[int, int]
) -> NDArray[np.int64]:
    """Return the stretched offset of each weight (c, r, s): shape (channels, R, S)."""
    rows, pitch = plane
    c, r, s = np.ogrid[:channels, : kernel[0], : kernel[1]]
    offsets: NDArray[np.int64] = (c * rows + r * dilation[0]) * pitch + s * dilation[1]
    return offsets


def position_offsets(output: tuple[int, int], pitch: int, lanes: int) -> NDArray[np.int64]:
    """Return the offsets of the vectors of an output plane: shape (rows * vectors,)."""
    rows, vectors = output
    offsets: NDArray[np.int64] = (
        np.arange(rows)[:, None] * pitch + np.arange(vectors)[None, :] * lanes
    ).ravel()
    return offsets


def kernel_shares(
    layer: Layer,
    sparsity: Sparsity | Densities,
    plane: tuple[int, int],
    vectors: int,
    target: Target,
) -> tuple[float, float]:
    """Return the shares of loads that cross a line and a page, over the real addresses.

    ``plane`` is (rows, pitch) of a padded channel, ``vectors`` those of an output row.
    """
    kernel, output, lanes = (layer.R, layer.S), (layer.P, vectors), target.lanes
    line, page = target.line_bytes // FLOAT_BYTES, target.page_bytes // FLOAT_BYTES
    if sparsity.weights is None:
        return uniform_shares(layer.C, kernel, layer.dilation, plane, output, lanes, (line, page))
    per_group = layer.C // layer.groups
    offsets = weight_offsets(layer.C, kernel, layer.dilation, plane)
    grouped = offsets.reshape(layer.groups, 1, per_group, *kernel)
    nonzero = (sparsity.weights != 0).reshape(layer.groups, -1, per_group, *kernel)
    used = np.broadcast_to(grouped, nonzero.shape)[nonzero]
    positions = position_offsets(output, plane[1], lanes)
    return (
        crossing_share(used, positions, lanes, line),
        crossing_share(used, positions, lanes, page),
    )


def anywhere(floats: float, target: Target) -> tuple[float, float]:
    """Return the line and page shares of moves of so many floats that may begin at any float."""
    line, page = target.line_bytes // FLOAT_BYTES, target.page_bytes // FLOAT_BYTES
    return min(1.0, (floats - 1.0) / line), min(1.0, (floats - 1.0) / page)


def row_shares(
    rows: int, width: int, planes: int, target: Target, *, pitch: int = 0, gap: int = 0
) -> tuple[float, float]:
    """Return the line and page shares of vectors that rows of pixels are moved by, the last masked.

    Parameters
    ----------
    rows, width : int
        Of a plane.
    planes : int
        That follow each other, the first one aligned to a page.
    pitch, gap : int
        Floats from row to row (default: the width), and between planes.
    """
    line, page = target.line_bytes // FLOAT_BYTES, target.page_bytes // FLOAT_BYTES
    return _row_shares(rows, width, planes, pitch or width, gap, target.lanes, line, page)


@lru_cache(maxsize=4096)
def _row_shares(
    rows: int, width: int, planes: int, pitch: int, gap: int, lanes: int, line: int, page: int
) -> tuple[float, float]:
    plane = rows * pitch + gap
    few = min(planes, page // gcd(plane, page))  # then they lie in pages as before
    columns = np.arange(0, width, lanes)
    begins = (
        np.arange(few)[:, None, None] * plane + np.arange(rows)[:, None] * pitch + columns
    )  # fmt: skip
    last = begins + np.minimum(lanes, width - columns) - 1
    crossed = [float(np.mean(begins // size != last // size)) for size in (line, page)]
    return crossed[0], crossed[1]
