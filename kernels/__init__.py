"""Native convolution kernels: sparse ones, and the dense one that they are compared to.

Weights are packed once, by a caller that has decided everything (blocking, split of the work,
instruction set); the packed object runs on batches as often as wanted and obeys::

    weights, ConvShape, blocking, part_ptr
          |
    DirectSparseRow    LoweredSparse     DenseGemm       Python: checks, packing (pack.py)
          |                  |               |
    _native.DirectRow  _native.Lowered  _native.Dense    Cython: owns buffers, releases the GIL
          |                  |               |
    run_direct_row.c   run_lowered.c    run_dense.c      C: loops over blocks; team.c walks images
          |                  |               |           and threads, which pool.c has
    f32_direct_row.c   f32_lowered.c    SciPy's BLAS     C: register blocks, compiled once for each
                                                         instruction set; dispatch.c has the table

and DenseDirect in the same way: dense_direct.py, run_dense_direct.c, f32_dense_direct.c.
DirectSparseLanes is built like the first, twice: lanes_layout.py, run_direct_lanes.c and
f32_direct_lanes.c transpose the picture; shifts_layout.py, run_direct_shifts.c and
f32_direct_shifts.c let the sums slide.
LanesChain (lanes_chain.py, lanes_link.py, run_lanes_chain.c) runs several layers of the former.
Winograd and SparseWinograd (winograd_layout.py, run_winograd.c, f32_winograd.c) transform tiles and
then use the register blocks of DenseDirect and DirectSparseLanes, position by position.
Fully connected layers: FcSparse and FcDense (fc.py, run_fc.c, f32_fc.c). What structured sparsity
leaves of a dense product: Structured (structured.py, run_structured.c), or, as lists of whole
kernels, StructuredKernels (structured_kernels.py, run_lowered.c).

`conv2d` is the definition of what they all compute. Nothing here knows of machines or models.
"""

from __future__ import annotations

if __name__ != "archsim.kernels":
    raise ImportError(
        "import archsim.kernels, not kernels (that name belongs to another distribution)"
    )

import importlib.util

if importlib.util.find_spec("archsim.kernels._native") is None:
    raise ImportError(
        f"the compiled part of archsim.kernels is missing beside {__file__}. "
        "Either run 'pip install -e .', or run from outside the repository root, "
        "where the source folder ./archsim hides the installed package."
    )

from archsim.kernels.aligned import aligned_empty
from archsim.kernels.dense import DenseGemm
from archsim.kernels.dense_direct import DenseDirect
from archsim.kernels.direct_lanes import DirectSparseLanes
from archsim.kernels.direct_row import DirectSparseRow
from archsim.kernels.fc import FcDense, FcSparse
from archsim.kernels.isa import (
    IsaInfo,
    active_isa,
    isa_table,
    load_roof,
    multiply_add_roof,
    set_isa,
    supported_isas,
)
from archsim.kernels.lanes_chain import LanesChain
from archsim.kernels.lowered import LoweredSparse
from archsim.kernels.packed import PackedLayer
from archsim.kernels.reference import conv2d
from archsim.kernels.shapes import ConvShape
from archsim.kernels.structured import Structured, WithoutMaps, remove_maps
from archsim.kernels.structured_kernels import StructuredKernels
from archsim.kernels.winograd import SparseWinograd, Winograd
from archsim.kernels.winograd_matrices import conv2d_winograd, error_bound, transform_weights

__all__ = [
    "ConvShape",
    "DenseDirect",
    "DenseGemm",
    "DirectSparseLanes",
    "DirectSparseRow",
    "FcDense",
    "FcSparse",
    "IsaInfo",
    "LanesChain",
    "LoweredSparse",
    "PackedLayer",
    "SparseWinograd",
    "Structured",
    "StructuredKernels",
    "Winograd",
    "WithoutMaps",
    "active_isa",
    "aligned_empty",
    "conv2d",
    "conv2d_winograd",
    "error_bound",
    "isa_table",
    "load_roof",
    "multiply_add_roof",
    "remove_maps",
    "set_isa",
    "supported_isas",
    "transform_weights",
]
