"""Arrays that begin where a vector of every instruction set, and a cache line, begins."""

from __future__ import annotations

from math import prod

import numpy as np

from archsim.kernels import _native
from archsim.kernels.checks import FloatArray

_FLOATS = 16  # of 64 bytes


def aligned_empty(shape: tuple[int, ...]) -> FloatArray:
    """Return a new float32 array that begins at a multiple of 64 bytes; its values are arbitrary.

    What `PackedLayer.run` makes for its output. As the input of a pointwise layer (1x1, stride 1,
    no padding) whose planes are whole vectors it is read where it stands, and not copied first.

    Parameters
    ----------
    shape : tuple of int

    Returns
    -------
    ndarray of this shape, float32, C-contiguous
    """
    size = prod(shape)
    memory = np.empty(size + _FLOATS - 1, dtype=np.float32)
    first = _native.floats_to_line(memory)
    return memory[first : first + size].reshape(shape)
