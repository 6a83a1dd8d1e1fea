"""Winograd's matrices, weights in their domain, and what rounding does there. NumPy, float64.

F(m x m, r x r) makes m x m outputs of an r x r kernel at once, from t x t inputs, t = m + r - 1::

    out = A^T (sum over channels of (G g G^T) * (B^T d B)) A

with * element by element: t t multiplications for m m outputs and r r weights.

F(2x2, 3x3) and F(4x4, 3x3): Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
CVPR 2016, sections 4.1 and 4.3. F(4x4, 5x5): the points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity,
as the code published with Li, Park and Tang, "Enabling Sparse Winograd Convolution by Native
Pruning", 2017, has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from archsim.kernels.reference import im2col
from archsim.kernels.shapes import ConvShape

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Variant:
    """One choice of m and r, with its matrices."""

    name: str
    outputs: int
    """m, side of a tile of outputs."""
    kernel: int
    """r, side of the kernel."""
    input_rows: Matrix
    """B^T, shape (t, t)."""
    weight_rows: Matrix
    """G, shape (t, r)."""
    output_rows: Matrix
    """A^T, shape (m, t)."""

    @property
    def tile(self) -> int:
        """Side of a tile of inputs, t."""
        return self.outputs + self.kernel - 1

    @property
    def roundings(self) -> int:
        """Most roundings that a number meets in the four passes of the transformations.

        A row with n numbers costs n at most: a product and n - 1 sums, in whatever order.
        """
        rows = (self.input_rows, self.output_rows)
        return sum(2 * int((row != 0).sum(axis=1).max()) for row in rows)

    @property
    def amplification(self) -> float:
        """How much larger than a direct sum's an error may be, at most.

        |A^T| (|G| 1 * |B^T| 1), the largest of its rows, squared for two dimensions, is the
        largest sum of magnitudes for weights and inputs of magnitude 1; r r is the direct one.
        """
        weights = np.abs(self.weight_rows).sum(axis=1)
        inputs = np.abs(self.input_rows).sum(axis=1)
        largest = float((np.abs(self.output_rows) @ (weights * inputs)).max())
        return largest**2 / self.kernel**2


def _variant(
    name: str, outputs: int, kernel: int, inputs: object, weights: object, sums: object
) -> Variant:
    rows = [np.array(matrix, dtype=np.float64) for matrix in (inputs, weights, sums)]
    for matrix in rows:
        matrix.flags.writeable = False
    return Variant(name, outputs, kernel, *rows)


_HALF, _THIRD = 1 / 2, 2 / 9
_TABLE = (
    _variant(
        "f2x2_3x3", 2, 3,
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [_HALF, _HALF, _HALF], [_HALF, -_HALF, _HALF], [0, 0, 1]],
        [[1, 1, 1, 0], [0, 1, -1, -1]],
    ),
    _variant(
        "f4x4_3x3", 4, 3,
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ],
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ],
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    ),
    _variant(
        "f4x4_5x5", 4, 5,
        [
            [1, 0, -5.25, 0, 5.25, 0, -1, 0],
            [0, 1, 1, -4.25, -4.25, 1, 1, 0],
            [0, -1, 1, 4.25, -4.25, -1, 1, 0],
            [0, 0.5, 0.25, -2.5, -1.25, 2, 1, 0],
            [0, -0.5, 0.25, 2.5, -1.25, -2, 1, 0],
            [0, 2, 4, -2.5, -5, 0.5, 1, 0],
            [0, -2, 4, 2.5, -5, -0.5, 1, 0],
            [0, -1, 0, 5.25, 0, -5.25, 0, 1],
        ],
        [
            [1, 0, 0, 0, 0],
            [-_THIRD, -_THIRD, -_THIRD, -_THIRD, -_THIRD],
            [-_THIRD, _THIRD, -_THIRD, _THIRD, -_THIRD],
            [1 / 90, 1 / 45, 2 / 45, 4 / 45, 8 / 45],
            [1 / 90, -1 / 45, 2 / 45, -4 / 45, 8 / 45],
            [8 / 90, 4 / 90, 2 / 90, 1 / 90, 1 / 180],
            [8 / 90, -4 / 90, 2 / 90, -1 / 90, 1 / 180],
            [0, 0, 0, 0, 1],
        ],
        [
            [1, 1, 1, 1, 1, 8, 8, 0],
            [0, 1, -1, 2, -2, 4, -4, 0],
            [0, 1, 1, 4, 4, 2, 2, 0],
            [0, 1, -1, 8, -8, 1, -1, 1],
        ],
    ),
)  # fmt: skip

#: In the order of AS_WINOGRAD_VARIANTS in csrc/winograd.h.
VARIANTS: Final[Mapping[str, Variant]] = {variant.name: variant for variant in _TABLE}


def find_variant(name: str) -> Variant:
    """Return a variant by name; raise ValueError, naming all, if there is none."""
    try:
        return VARIANTS[name]
    except KeyError:
        raise ValueError(f"variant: must be one of {', '.join(VARIANTS)}; got {name!r}") from None


def transform_weights(weights: npt.ArrayLike, variant: str) -> npt.NDArray[np.float32]:
    """Return spatial weights in the Winograd domain, G g G^T.

    Parameters
    ----------
    weights : array of shape (K, C / groups, r, r)
    variant : str
        One of `VARIANTS`; r is its kernel.

    Returns
    -------
    ndarray of shape (t, t, K, C / groups), float32
        Computed in float64 and rounded once.

    Raises
    ------
    ValueError
        Unknown variant, or another kernel than the variant's.
    """
    chosen = find_variant(variant)
    array = np.asarray(weights, dtype=np.float64)
    if array.ndim != 4 or array.shape[2:] != (chosen.kernel, chosen.kernel):
        raise ValueError(
            f"weights: {variant} needs shape (K, C / groups, {chosen.kernel}, {chosen.kernel}); "
            f"got {array.shape}"
        )
    rows = chosen.weight_rows
    turned = np.einsum("ur,kcrs,vs->uvkc", rows, array, rows, optimize=True)
    return np.ascontiguousarray(turned, dtype=np.float32)


def conv2d_winograd(
    x: npt.ArrayLike,
    weights: npt.ArrayLike,
    shape: ConvShape,
    variant: str,
    bias: npt.ArrayLike | None = None,
    relu: bool = False,
    *,
    magnitudes: bool = False,
) -> Matrix:
    """Return the convolution with weights of the Winograd domain: the definition, in float64.

    Where the weights come from spatial ones, this is `conv2d` of those.

    Parameters
    ----------
    x : array of shape (N, C, H, W)
    weights : array of shape (t, t, K, C / groups)
    shape : ConvShape
        With the variant's kernel, stride 1 and dilation 1.
    variant : str
    bias : array of shape (K,), optional
    relu : bool
    magnitudes : bool
        Take the magnitude of every number, those of the matrices too: what rounding errors are
        counted against (see `error_bound`).

    Returns
    -------
    ndarray of shape (N, K, P, Q), float64
    """
    chosen, array = find_variant(variant), np.asarray(weights, dtype=np.float64)
    b, a, image = chosen.input_rows, chosen.output_rows, np.asarray(x, dtype=np.float64)
    if magnitudes:
        b, a, array, image = np.abs(b), np.abs(a), np.abs(array), np.abs(image)
    m, t = chosen.outputs, chosen.tile
    down, right = -(-shape.out_h // m), -(-shape.out_w // m)
    below, beside = (m * n + t - m - size - 2 * pad for n, size, pad in (
        (down, shape.height, shape.pad[0]), (right, shape.width, shape.pad[1])))  # fmt: skip
    padded = np.pad(image, ((0, 0), (0, 0), (0, below), (0, beside)))
    tiles = ConvShape(
        shape.channels, shape.height + below, shape.width + beside, shape.out_channels, t, t,
        stride=(m, m), pad=shape.pad, groups=shape.groups,
    )  # fmt: skip
    d = im2col(padded, tiles).reshape(len(image), shape.groups, -1, t, t, down, right)
    v = np.einsum("ui,ngcijhw,vj->uvgcnhw", b, d, b, optimize=True)
    u = array.reshape(t, t, shape.groups, shape.group_out_channels, -1)
    sums = np.matmul(u, v.reshape(*v.shape[:4], -1))  # einsum would not call BLAS
    sums = sums.reshape(*u.shape[:4], len(image), down, right)
    turned = np.einsum("au,uvgknhw,bv->ngkhawb", a, sums, a, optimize=True)
    out = turned.reshape(len(image), shape.out_channels, m * down, m * right)
    out = out[:, :, : shape.out_h, : shape.out_w]
    if bias is not None:
        added = np.asarray(bias, dtype=np.float64).reshape(-1, 1, 1)
        out = out + (np.abs(added) if magnitudes else added)
    return np.maximum(out, 0.0) if relu else np.ascontiguousarray(out)


def error_bound(
    x: npt.ArrayLike,
    weights: npt.ArrayLike,
    shape: ConvShape,
    variant: str,
    bias: npt.ArrayLike | None = None,
) -> Matrix:
    """Return how far a float32 result may lie from the exact one, output by output.

    A number passes at most n roundings on its way to an output: those of the transformations
    (`Variant.roundings`), one product and C / groups - 1 sums, its weight's own and the bias. So,
    as for any sum (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), the error
    is at most n u / (1 - n u) of the magnitudes' sum, u = 2**-24; one more n makes room for the
    denominator, 1e-37 for numbers below normal ones.

    Parameters
    ----------
    x, weights, shape, variant, bias
        As in `conv2d_winograd`.

    Returns
    -------
    ndarray of shape (N, K, P, Q), float64
    """
    sums = conv2d_winograd(x, weights, shape, variant, bias, magnitudes=True)
    roundings = find_variant(variant).roundings + shape.group_channels + 3
    bound: Matrix = roundings * 2.0**-24 * sums + 1e-37
    return bound
