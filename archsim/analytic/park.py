"""The published performance model of direct sparse convolution, parameter for parameter.

Park et al., "Faster CNNs with Direct Sparse Convolutions and Guided Pruning", ICLR 2017, section
2.2.  For one image of a layer with C dense FLOP, S_A bytes of activations (input and output,
unpadded) and S_W bytes of dense weights, at nonzero density x::

    t_dense   = C / F
    t_compute = alpha x C / F
    t_memory  = (S_A + beta x S_W) / B
    t_sparse  = max(t_compute, t_memory)

The weights are charged to every image, as published.  The lowered variant charges the lowered
input (C R S P Q numbers) in the place of the input; making it is not charged.  Everything
broadcasts: densities and rates may be arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import input_error
from archsim.network import FLOAT_BYTES, Layer

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ParkParameters:
    """Parameters of the model.

    Attributes
    ----------
    sgemm_flops_per_s : float
        F, dense single-precision rate, FLOP/s.
    stream_bytes_per_s : float
        B, memory bandwidth, bytes/s.
    alpha : float
        Time of a sparse multiply-add over a dense one.
    beta : float
        Bytes of a stored nonzero over bytes of a dense weight: 2 for CSR of 4-byte values and
        4-byte indices (ICLR 2017, section 2.2).
    """

    sgemm_flops_per_s: float
    stream_bytes_per_s: float
    alpha: float
    beta: float = 2.0

    def __post_init__(self) -> None:
        for name in ("sgemm_flops_per_s", "stream_bytes_per_s", "alpha", "beta"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise input_error(f"park: {name}", "must be finite and above zero", found=value)


def activation_bytes(layer: Layer, *, lowered: bool = False) -> float:
    """Return S_A of one image; ``lowered`` takes the im2col matrix as the input."""
    if lowered:
        lowered_bytes = FLOAT_BYTES * layer.C * layer.R * layer.S * layer.P * layer.Q
        return float(lowered_bytes + layer.output_bytes)
    return float(layer.input_bytes + layer.output_bytes)


def dense_seconds(layer: Layer, parameters: ParkParameters) -> float:
    """Return t_dense of one image."""
    return layer.flop / parameters.sgemm_flops_per_s


def compute_seconds(layer: Layer, density: ArrayLike, parameters: ParkParameters) -> Array:
    """Return t_compute of one image."""
    x = np.asarray(density, dtype=np.float64)
    return parameters.alpha * x * layer.flop / parameters.sgemm_flops_per_s


def memory_seconds(
    layer: Layer, density: ArrayLike, parameters: ParkParameters, *, lowered: bool = False
) -> Array:
    """Return t_memory of one image."""
    x = np.asarray(density, dtype=np.float64)
    moved = activation_bytes(layer, lowered=lowered) + parameters.beta * x * layer.dense_bytes
    return moved / parameters.stream_bytes_per_s


def sparse_seconds(
    layer: Layer, density: ArrayLike, parameters: ParkParameters, *, lowered: bool = False
) -> Array:
    """Return t_sparse of one image."""
    return np.maximum(
        compute_seconds(layer, density, parameters),
        memory_seconds(layer, density, parameters, lowered=lowered),
    )


def speedup(
    layer: Layer, density: ArrayLike, parameters: ParkParameters, *, lowered: bool = False
) -> Array:
    """Return t_dense / t_sparse."""
    return dense_seconds(layer, parameters) / sparse_seconds(
        layer, density, parameters, lowered=lowered
    )


def effective_flops_per_s(
    layer: Layer, density: ArrayLike, parameters: ParkParameters, *, lowered: bool = False
) -> Array:
    """Return the rate with the zeros counted as work done."""
    return parameters.sgemm_flops_per_s * speedup(layer, density, parameters, lowered=lowered)


def useful_window(layer: Layer, parameters: ParkParameters) -> tuple[float, float]:
    """Return (x_lo, x_hi), the densities between which pruning pays.

    Below x_lo the layer waits for memory and gains no more; above x_hi = 1 / alpha the sparse
    kernel is slower than the dense one.  Where reading the weights alone takes longer than
    their arithmetic (fully connected layers) every nonzero removed is a gain: x_lo = 0.
    """
    fixed = activation_bytes(layer) / parameters.stream_bytes_per_s
    per_density = (
        parameters.alpha * dense_seconds(layer, parameters)
        - parameters.beta * layer.dense_bytes / parameters.stream_bytes_per_s
    )
    low = fixed / per_density if per_density > 0 else 0.0
    return low, 1.0 / parameters.alpha
