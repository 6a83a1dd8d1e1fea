"""Dense convolution as im2col and a matrix product (GEMM) of the BLAS library.

The product follows the layered algorithm that BLAS libraries share (Goto and van de Geijn,
"Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008): a register block of
m rows by n vectors, a panel of k_c products, a packed block of the weights in L2.  The blocking
inside is the library's own; these numbers model it and are not handed to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.methods.crossing import anywhere, row_shares
from archsim.methods.sharing import even_parts, handed, own_input, share
from archsim.methods.streams import batch_distance, for_each, im2col_phase, stream
from archsim.network import FLOAT_BYTES, Layer
from archsim.plan import Phase, Plan, Stream, Target, Work
from archsim.sparsity import Densities, Sparsity

Access = Literal["read", "write", "update"]

NAME: Final = "dense_gemm"
SCHEDULES: Final = ("auto", "im2col")

# Orders of magnitude of open BLAS libraries (OpenBLAS param.h, BLIS config/*/bli_cntx_init):
PANEL: Final = 256  # k_c: products of a panel
PANEL_COLUMNS: Final = 4096  # n_c: columns of a packed panel of the matrix
UNROLL: Final = 4  # products per turn of the inner loop
#: OpenBLAS packs the matrix number by number, so many in a turn, in its set for AVX-512: 32 vmovss
#: loads and 32 stores, disassembled from sgemm_itcopy_SKYLAKEX of 0.3.30 in SciPy's wheel; and it
#: clears the output before it adds up (driver/level3: beta). Of other libraries and sets neither is
#: assumed
_PACKED: Final = 32
_SKYLAKEX_LANES: Final = 16
#: products up to which OpenBLAS packs nothing, where it has kernels for that (kernel/x86_64/
#: sgemm_small_kernel_permit_skylakex.c: M N K <= 100^3)
_SMALL: Final = 100.0**3
#: kinds of tiles are loops of their own: products, packing of weights, packing of the matrix
LOOPS: Final = (0, 1, 2)


def reason(layer: Layer, sparsity: Sparsity | Densities) -> str | None:
    """Return why the method does not apply, or None: it always does."""
    del layer, sparsity
    return None


def register_block(registers: int) -> tuple[int, int]:
    """Return (rows, vectors) that accumulate in registers: two vectors wide, as high as fits.

    The blocks of open libraries (BLIS kernels for Haswell 6x16 and Skylake-X 14x32 numbers).

    >>> register_block(16), register_block(32)
    ((6, 2), (14, 2))
    """
    return max(1, (registers - 3) // 2), 2


def is_one_product(layer: Layer) -> bool:
    """Whether the batch is one product: a 1x1 kernel on a 1x1 picture, such as FC layers."""
    return (layer.H, layer.W, layer.R, layer.S, layer.P, layer.Q) == (1,) * 6


def plan(
    layer: Layer, sparsity: Sparsity, *, batch: int, threads: int, schedule: str, target: Target
) -> Plan:
    """Plan im2col and GEMM; see :func:`archsim.api.make_plan` for the arguments."""
    del schedule  # there is one
    whole_batch = is_one_product(layer)  # one product over the batch, split over output channels
    sharers = threads if whole_batch else min(threads, max(1, threads // batch))
    turns = 1 if whole_batch else batch
    part_ptr = even_parts(layer.K, sharers)
    lowers = not whole_batch and (layer.R, layer.S, layer.stride, layer.pad) != (
        1, 1, (1, 1), (0, 0),
    )  # fmt: skip
    gemm = gemm_of(layer, batch, threads, sharers, target, lowers=lowers)
    own = part_ptr if lowers and own_input(sharers, target) else None
    if own is not None:
        gemm = replace(gemm, handed=0.0)
    barriers = 2 * ceil(turns * sharers / threads) if sharers > 1 and lowers and own is None else 0
    streams = gemm_streams(gemm, target)
    phases: tuple[Phase, ...] = (
        Phase(
            name="products",
            tiles=share(turns, threads, sharers, _parts(layer, part_ptr)),
            work=_batch_work(gemm, target) if whole_batch else gemm_work(gemm, target),
            streams=for_each(streams, "matrix") if own is not None else streams,
            waits_for="input" if lowers else None,
            barriers=barriers,
            loops=LOOPS,
        ),
    )
    if lowers:
        lowering = im2col_phase(
            layer, target=target, batch=batch, threads=threads, sharers=sharers,
            buffer_distance=gemm.turn_bytes, own=own,
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
        blocking={"threads_per_image": sharers, **({"own_input": 1} if own is not None else {})},
        part_ptr=part_ptr,
        phases=phases,
        nonzeros=float(layer.weights),
        whole_batch=whole_batch,
    )


def _parts(layer: Layer, part_ptr: tuple[int, ...]) -> NDArray[np.int64]:
    """Tiles of each rank: kinds 0 and 1 an output channel, kind 2 packing a group's input."""
    per_group = layer.K // layer.groups
    starts, stops = np.array(part_ptr[:-1]), np.array(part_ptr[1:])
    groups = np.where(stops > starts, (stops - 1) // per_group - starts // per_group + 1, 0)
    return np.column_stack([stops - starts, stops - starts, groups]).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Gemm:
    """One product of a thread: its output channels times a matrix (depth x columns).

    Bytes are of one turn; the columns are the pixels of an image, or the images of a batch.
    """

    depth: int
    columns: float
    channels: float  # output channels of a thread in a group
    rows: int  # of the register block
    wide: int  # vectors of the register block
    block_columns: int  # columns of the register block
    block_rows: float  # output channels of a packed block of weights
    panels: int
    matrix_distance: float  # until the matrix is read again
    turn_bytes: float  # touched by a thread in one turn
    far: float  # touched by a thread in one call
    handed: float  # share of the matrix that the threads of an image make for each other

    def unpacked(self, target: Target) -> bool:
        """Whether so few products are made where the matrices stand."""
        products = self.depth * self.columns * self.channels
        return target.lanes == _SKYLAKEX_LANES and products <= _SMALL


def gemm_of(
    layer: Layer,
    batch: int,
    threads: int,
    sharers: int,
    target: Target,
    *,
    lowers: bool,
    kept: tuple[int, int] | None = None,
) -> Gemm:
    """Cut one product of a thread.

    ``kept`` are the rows of the lowered matrix and the output channels of a group that structured
    sparsity leaves; by default all of them.
    """
    whole_batch = is_one_product(layer)
    depth, outputs = kept or (
        (layer.C // layer.groups) * layer.R * layer.S,
        layer.K // layer.groups,
    )
    columns = float(batch if whole_batch else layer.P * layer.Q)
    channels = max(1.0, outputs / sharers)
    rows, wide = register_block(target.registers)
    room = target.l2_bytes // target.l2_sharers // 2 // (FLOAT_BYTES * PANEL)
    matrix = FLOAT_BYTES * depth * columns * layer.groups
    output = FLOAT_BYTES * outputs * layer.groups / sharers * columns
    weights = FLOAT_BYTES * depth * outputs * layer.groups
    turn = matrix + weights / sharers + output
    far = batch_distance(layer, batch, threads, sharers)
    return Gemm(
        depth=depth,
        columns=columns,
        channels=channels,
        rows=rows,
        wide=wide,
        block_columns=wide * target.lanes,
        block_rows=min(channels, float(max(rows, room))),
        panels=ceil(depth / PANEL),
        # the picture itself is as far as all threads touch that read it together
        matrix_distance=turn if lowers else far * sharers,
        turn_bytes=turn,
        far=far,
        handed=handed(sharers, layer.groups).read if lowers else 0.0,
    )


def _batch_work(gemm: Gemm, target: Target) -> Work:
    """As :func:`gemm_work` where the columns are images: vectors hold output channels."""
    rows = min(float(gemm.rows), gemm.columns)
    weight_vectors = gemm.depth / target.lanes
    products = weight_vectors * gemm.columns
    matrix_vectors = gemm.depth * gemm.columns / target.lanes
    return Work.of(
        kinds=3,
        multiply_adds=[products, 0.0, 0.0],
        blas_multiply_adds=[products, 0.0, 0.0],
        loads_aligned=[weight_vectors * ceil(gemm.columns / rows), weight_vectors, 0.0],
        loads_unaligned=[0.0, 0.0, matrix_vectors],
        stores=[
            gemm.columns * gemm.panels / target.lanes,
            weight_vectors,
            matrix_vectors,
        ],
        broadcasts=[products / gemm.wide, 0.0, 0.0],
        scalar_ops=[2.0 * products / gemm.wide / rows / UNROLL, weight_vectors, matrix_vectors],
        branches=[
            products / gemm.wide / rows / UNROLL, weight_vectors / UNROLL, matrix_vectors / UNROLL,
        ],
    )  # fmt: skip


def gemm_work(gemm: Gemm, target: Target) -> Work:
    """Operations of an output channel's products, of packing its weights, of packing a matrix."""
    vectors = ceil(gemm.columns / target.lanes)
    across = float(gemm.depth * ceil(vectors / gemm.wide))  # weights broadcast, per channel
    rows = min(gemm.rows, gemm.channels)  # a block of fewer channels shares each load less
    weight_vectors = gemm.depth / target.lanes  # packing reads and writes each weight
    elements = gemm.depth * gemm.columns
    known = target.lanes == _SKYLAKEX_LANES
    numbers = elements if known else 0.0
    matrix_vectors = 0.0 if known else elements / target.lanes
    cleared = float(vectors) if known else 0.0
    steps = numbers / _PACKED + matrix_vectors
    if gemm.unpacked(target):
        return _unpacked_work(gemm, target)
    sums = float(vectors * gemm.panels)
    line, page = row_shares(1, int(gemm.columns), ceil(gemm.channels), target)
    return Work.of(
        kinds=3,
        multiply_adds=[float(gemm.depth * vectors), 0.0, 0.0],
        blas_multiply_adds=[float(gemm.depth * vectors), 0.0, 0.0],
        loads_aligned=[gemm.depth * vectors / rows, weight_vectors, 0.0],
        loads_unaligned=[sums, 0.0, matrix_vectors],
        loads_line_crossing=[line * sums, 0.0, 0.0],
        stores=[sums + cleared, weight_vectors, matrix_vectors],
        stores_line_crossing=[line * sums, 0.0, 0.0],
        stores_page_crossing=[page * sums, 0.0, 0.0],
        broadcasts=[across, 0.0, 0.0],
        scalar_loads=[0.0, 0.0, numbers],
        scalar_stores=[0.0, 0.0, numbers],
        scalar_ops=[2.0 * across / rows / UNROLL, weight_vectors, steps],
        branches=[across / rows / UNROLL, weight_vectors / UNROLL, steps],
    )


def _unpacked_work(gemm: Gemm, target: Target) -> Work:
    """As :func:`gemm_work` where nothing is packed, and sums are stored once."""
    vectors, rows = ceil(gemm.columns / target.lanes), min(gemm.rows, gemm.channels)
    across = float(gemm.depth * ceil(vectors / gemm.wide))
    loads = gemm.depth * vectors / rows
    line, page = row_shares(1, int(gemm.columns), ceil(gemm.channels), target)
    return Work.of(
        kinds=3,
        multiply_adds=[float(gemm.depth * vectors), 0.0, 0.0],
        loads_unaligned=[loads, 0.0, 0.0],
        loads_line_crossing=[anywhere(target.lanes, target)[0] * loads, 0.0, 0.0],
        stores=[float(vectors), 0.0, 0.0],
        stores_line_crossing=[line * vectors, 0.0, 0.0],
        stores_page_crossing=[page * vectors, 0.0, 0.0],
        broadcasts=[across, 0.0, 0.0],
        scalar_ops=[2.0 * across / rows / UNROLL, 0.0, 0.0],
        branches=[across / rows / UNROLL, 0.0, 0.0],
    )


def _unpacked_streams(gemm: Gemm, target: Target) -> tuple[Stream, ...]:
    depth, columns = float(gemm.depth), gemm.columns
    matrix, weights = FLOAT_BYTES * depth * columns, FLOAT_BYTES * depth
    again = (ceil(gemm.channels / gemm.rows) - 1) * matrix / gemm.channels
    crossing = anywhere(target.lanes, target)[0]

    def of(array: str, access: Access, moved: float, distance: float, **more: Any) -> Stream:
        return stream(array, access, moved * np.eye(3)[0], distance, kinds=3, **more)

    return (
        of("matrix", "read", matrix / gemm.channels, gemm.matrix_distance, shared="image",
           handed=gemm.handed, crossing=crossing),
        of("matrix", "read", again, matrix, crossing=crossing),
        of("weights", "read", weights, gemm.turn_bytes, shared="part"),
        of("weights", "read", weights * (ceil(columns / gemm.block_columns) - 1),
           weights * gemm.rows),
        of("output", "write", FLOAT_BYTES * columns, gemm.far),
    )  # fmt: skip


def gemm_streams(gemm: Gemm, target: Target) -> tuple[Stream, ...]:
    """Bytes of the tiles of :func:`gemm_work`."""
    if gemm.unpacked(target):
        return _unpacked_streams(gemm, target)
    depth, columns = float(gemm.depth), gemm.columns
    panel = FLOAT_BYTES * min(depth, PANEL)  # of one column or row
    packed_matrix = panel * min(columns, PANEL_COLUMNS)  # reused from panel to panel
    packed_weights = panel * gemm.block_rows
    sweeps = ceil(gemm.channels / gemm.block_rows)
    matrix = FLOAT_BYTES * depth * columns
    output = FLOAT_BYTES * columns
    micro = FLOAT_BYTES * depth * columns / gemm.rows  # register blocks walk the packed matrix
    # from panel to panel: what is packed, where it comes from, and the output
    anew = 2.0 * packed_matrix + FLOAT_BYTES * min(columns, PANEL_COLUMNS) * gemm.channels

    def of(array: str, access: Access, kind: int, moved: float, distance: float) -> Stream:
        return stream(array, access, moved * np.eye(3)[kind], distance, kinds=3)

    return (
        # the first sweep comes after the packing, which read as much as it wrote
        of("packed matrix", "read", 0, matrix / gemm.channels, 2.0 * packed_matrix),
        of("packed matrix", "read", 0, matrix * (sweeps - 1) / gemm.channels, packed_matrix),
        of("packed matrix", "read", 0, micro, panel * (gemm.block_columns + gemm.rows)),
        of("packed weights", "read", 0, FLOAT_BYTES * depth * ceil(columns / gemm.block_columns),
           packed_weights),
        of("output", "update", 0, output if target.lanes == _SKYLAKEX_LANES else 0.0,
           2.0 * output * gemm.channels),
        of("output", "update", 0, output * (gemm.panels - 1), output * gemm.block_rows),
        of("output", "write", 0, output, gemm.far),
        replace(of("weights", "read", 1, FLOAT_BYTES * depth, gemm.turn_bytes), shared="part"),
        of("packed weights", "write", 1, FLOAT_BYTES * depth, packed_weights),
        replace(of("matrix", "read", 2, matrix, gemm.matrix_distance), shared="image",
                handed=gemm.handed),
        of("packed matrix", "write", 2, matrix, anew),
    )  # fmt: skip
