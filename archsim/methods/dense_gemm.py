"""Dense convolution as im2col and a matrix product (GEMM) of the BLAS library.

The product follows the layered algorithm that BLAS libraries share (Goto and van de Geijn,
"Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008): a register block of
m rows by n vectors, a panel of k_c products, a packed block of the weights in L2.  The blocking
inside is the library's own; these numbers model it and are not handed to it.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from archsim.methods.sharing import even_parts, share
from archsim.methods.streams import im2col_phase, images_per_thread, stream
from archsim.network import FLOAT_BYTES, Layer
from archsim.plan import Phase, Plan, Stream, Target, Work
from archsim.sparsity import Sparsity

NAME: Final = "dense_gemm"
SCHEDULES: Final = ("auto", "im2col")

_PANEL: Final = 256  # k_c: products per panel, the usual order of magnitude in open BLAS libraries


def reason(layer: Layer, sparsity: Sparsity) -> str | None:
    """Return why the method does not apply, or None: it always does."""
    del layer, sparsity
    return None


@lru_cache(maxsize=64)
def register_block(registers: int) -> tuple[int, int]:
    """Return (rows, vectors) with the most multiply-adds per load that the registers hold.

    >>> register_block(16), register_block(32)
    ((4, 3), (5, 5))
    """
    fitting = [
        (rows, vectors)
        for vectors in range(1, 8)
        for rows in range(1, 32)
        if rows * vectors + vectors + 1 <= registers
    ]
    return max(fitting, key=lambda b: (b[0] * b[1] / (b[0] + b[1]), b[0] * b[1]))


def plan(
    layer: Layer, sparsity: Sparsity, *, batch: int, threads: int, schedule: str, target: Target
) -> Plan:
    """Plan im2col and GEMM; see :func:`archsim.api.make_plan` for the arguments."""
    del schedule  # there is one
    whole_batch = layer.type == "fc"  # one product over the batch, split over output channels
    sharers = threads if whole_batch else min(threads, max(1, threads // batch))
    images = 1 if whole_batch else batch
    part_ptr = even_parts(layer.K, sharers)
    lowers = not whole_batch and (layer.R, layer.S, layer.stride, layer.pad) != (
        1, 1, (1, 1), (0, 0),
    )  # fmt: skip
    model = _fc_products if whole_batch else _products
    work, streams = model(layer, batch, threads, sharers, target)
    barriers = 2 * ceil(images * sharers / threads) if sharers > 1 and lowers else 0
    phases: tuple[Phase, ...] = (
        Phase(
            name="products",
            tiles=share(images, threads, sharers, _parts(layer, part_ptr)),
            work=work,
            streams=streams,
            waits_for="input" if lowers else None,
            barriers=barriers,
        ),
    )
    if lowers:
        lowered = FLOAT_BYTES * float(layer.C * layer.R * layer.S * layer.P * layer.Q)
        lowering = im2col_phase(
            layer, lanes=target.lanes, batch=batch, threads=threads, sharers=sharers,
            image_bytes=lowered + layer.dense_bytes + layer.input_bytes + layer.output_bytes,
        )  # fmt: skip
        phases = (lowering, *phases)
    return Plan(
        method=NAME,
        schedule=SCHEDULES[1],
        layer=layer,
        sparsity=sparsity,
        batch=batch,
        threads=threads,
        threads_per_image=sharers,
        target=target,
        blocking={"threads_per_image": sharers},
        part_ptr=part_ptr,
        phases=phases,
        nonzeros=float(layer.weights),
    )


def _parts(layer: Layer, part_ptr: tuple[int, ...]) -> NDArray[np.int64]:
    """Tiles of each rank: kind 0 an output channel, kind 1 the packing of a group's input."""
    per_group = layer.K // layer.groups
    starts, stops = np.array(part_ptr[:-1]), np.array(part_ptr[1:])
    groups = np.where(stops > starts, (stops - 1) // per_group - starts // per_group + 1, 0)
    return np.column_stack([stops - starts, groups]).astype(np.int64)


def _products(
    layer: Layer, batch: int, threads: int, sharers: int, target: Target
) -> tuple[Work, tuple[Stream, ...]]:
    """Work and streams of the product of one image."""
    depth = (layer.C // layer.groups) * layer.R * layer.S
    pixels = float(layer.P * layer.Q)
    rows, wide = register_block(target.registers)
    vectors = ceil(pixels / target.lanes)
    panels = ceil(depth / _PANEL)
    block_rows = max(rows, target.l2_bytes // target.l2_sharers // 2 // (FLOAT_BYTES * _PANEL))
    across = float(depth * ceil(vectors / wide))  # weights broadcast, per output channel
    weight_vectors = depth / target.lanes  # packing reads and writes each weight once an image
    input_vectors = depth * pixels / target.lanes
    work = Work.of(
        kinds=2,
        multiply_adds=[float(depth * vectors), 0.0],
        loads_aligned=[depth * vectors / rows + vectors * panels + weight_vectors, 0.0],
        loads_unaligned=[0.0, input_vectors],
        stores=[vectors * panels + weight_vectors, input_vectors],
        broadcasts=[across, 0.0],
        scalar_ops=[2.0 * across / rows, input_vectors],
        branches=[across / rows, input_vectors / 4],
    )
    matrix = FLOAT_BYTES * depth * pixels
    image = matrix * layer.groups + layer.dense_bytes + layer.output_bytes
    far = image * images_per_thread(batch, threads)
    panel = FLOAT_BYTES * float(_PANEL * min(block_rows, layer.K))
    sweeps = ceil(layer.K / layer.groups / sharers / block_rows)
    swept = matrix * sweeps * layer.groups * sharers / layer.K
    back = FLOAT_BYTES * pixels * (panels - 1)
    tall = FLOAT_BYTES * pixels * block_rows
    packed = FLOAT_BYTES * across
    return work, (
        stream("weights", "read", [2.0 * FLOAT_BYTES * depth, 0.0], image, kinds=2),
        stream("packed weights", "read", [packed, 0.0], panel, kinds=2),
        stream("packed input", "read", [swept, 0.0], matrix, kinds=2),
        stream("output", "update", [back, 0.0], tall, kinds=2),
        stream("output", "write", [FLOAT_BYTES * pixels, 0.0], far, kinds=2),
        stream("lowered input", "read", [0.0, matrix], image, kinds=2, shared=True),
        stream("packed input", "write", [0.0, matrix], image, kinds=2),
    )


def _fc_products(
    layer: Layer, batch: int, threads: int, sharers: int, target: Target
) -> tuple[Work, tuple[Stream, ...]]:
    """Work and streams of one output channel over the whole batch, C products an image."""
    del threads
    rows, _ = register_block(target.registers)
    vectors = layer.C / target.lanes
    work = Work.of(
        kinds=2,
        multiply_adds=[batch * vectors, 0.0],
        loads_aligned=[vectors * ceil(batch / rows) + batch * vectors / rows, 0.0],
        loads_folded=[vectors, 0.0],
        stores=[float(batch), 0.0],
        scalar_ops=[vectors, 0.0],
        branches=[vectors / 4, 0.0],
    )
    inputs = float(batch * layer.input_bytes)
    whole = layer.dense_bytes / sharers + inputs + batch * layer.output_bytes
    return work, (
        stream("weights", "read", [FLOAT_BYTES * float(layer.C), 0.0], whole, kinds=2),
        stream("input", "read", [inputs / rows, 0.0], inputs, kinds=2, shared=True),
        stream("output", "write", [FLOAT_BYTES * float(batch), 0.0], whole, kinds=2),
    )
