"""What the kernels compute, in plain NumPy and float64. Slow, short, and the definition."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from archsim.kernels.shapes import ConvShape


def conv2d(
    x: npt.ArrayLike,
    weights: npt.ArrayLike,
    shape: ConvShape,
    bias: npt.ArrayLike | None = None,
    relu: bool = False,
) -> npt.NDArray[np.float64]:
    """Return the convolution (as CNNs use the word: without turning the kernel around).

    out[n, k, p, q] = bias[k] + sum over c, r, s of
        weights[k, c, r, s] * x[n, c0 + c, p * stride + r * dilation - pad, q * ... + s * ... - pad]

    where c0 is the first channel of k's group and x is 0 outside the image; with *relu* then
    max(out, 0).

    Parameters
    ----------
    x : array of shape (N, C, H, W)
    weights : array of shape (K, C / groups, R, S)
    shape : ConvShape
    bias : array of shape (K,), optional
    relu : bool

    Returns
    -------
    ndarray of shape (N, K, P, Q), float64
    """
    lowered = im2col(np.asarray(x, dtype=np.float64), shape)
    matrix = np.asarray(weights, dtype=np.float64).reshape(
        shape.groups, shape.group_out_channels, -1
    )
    # (N, groups, K / groups, P * Q)
    out: npt.NDArray[np.float64] = np.matmul(matrix, lowered)
    out = out.reshape(len(lowered), shape.out_channels, shape.out_h, shape.out_w)
    if bias is not None:
        out = out + np.asarray(bias, dtype=np.float64).reshape(-1, 1, 1)
    if relu:
        out = np.maximum(out, 0.0)
    return out


def im2col(x: npt.NDArray[np.float64], shape: ConvShape) -> npt.NDArray[np.float64]:
    """Return what each weight of a group meets at each pixel.

    Its shape is (N, groups, C / groups * R * S, P * Q).
    """
    (pad_h, pad_w), (stride_h, stride_w) = shape.pad, shape.stride
    padded = np.pad(x, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
    p, q = np.arange(shape.out_h) * stride_h, np.arange(shape.out_w) * stride_w
    r = np.arange(shape.kernel_h) * shape.dilation[0]
    s = np.arange(shape.kernel_w) * shape.dilation[1]
    rows = r[:, None, None, None] + p[:, None]  # (R, 1, P, 1)
    columns = s[:, None, None] + q  # (S, 1, Q)
    patches = padded[:, :, rows, columns]  # (N, C, R, S, P, Q)
    lowered: npt.NDArray[np.float64] = patches.reshape(
        len(x), shape.groups, -1, shape.out_h * shape.out_w
    )
    return lowered
