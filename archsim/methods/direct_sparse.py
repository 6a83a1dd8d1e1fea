"""Direct sparse convolution: stretched CSR rows slide over the padded input, no lowering.

Park et al., "Faster CNNs with Direct Sparse Convolutions and Guided Pruning", ICLR 2017, section
2.1.  The schedule ``row`` is the published one: padded rows, one unaligned load per
multiply-add, column blocks of input channels, output channels in blocks of 16, a register block
of output rows.  Its periods are in :mod:`archsim.methods.row_variants`.  With a stride above 1
the published code falls to a scalar loop (pixel, output channel, nonzero), and so does this one.

The schedules ``lanes`` and ``pointwise``, whose loads are all aligned, are planned in
:mod:`archsim.methods.lanes`; ``auto`` takes the cheapest by a written-down cost model.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from math import ceil
from typing import Final

from archsim.methods import lanes
from archsim.methods.crossing import kernel_shares, row_shares
from archsim.methods.lanes_candidates import blocks_of, lane_candidates
from archsim.methods.lanes_cost import choose
from archsim.methods.lanes_geometry import MODES
from archsim.methods.row_cost import row_cycles
from archsim.methods.row_kinds import OC_BLOCK, Kinds, cut_kinds, find_kinds, plane_stream
from archsim.methods.row_variants import VARIANTS, RowVariant, row_variant
from archsim.methods.sharing import (
    Cut,
    Partition,
    ends_of,
    handed,
    input_counts,
    own_input,
    share,
    taken_or,
)
from archsim.methods.streams import batch_distance, copied_rows, for_each, stream
from archsim.network import FLOAT_BYTES, INDEX_BYTES, Layer
from archsim.plan import Candidate, Expected, Phase, Plan, Stream, Target, Work, first
from archsim.sparsity import Densities, Sparsity

NAME: Final = "direct_sparse"
SCHEDULES: Final = ("auto", "row", *VARIANTS, *lanes.SCHEDULES)

_NONZERO_BYTES: Final = FLOAT_BYTES + INDEX_BYTES
_LINE_FLOATS: Final = 16  # LINE_FLOATS of kernels/csrc/f32_direct_row.c
_SCRATCH_ROUND: Final = 16  # scratch rows are a multiple of 16 numbers long


def reason(layer: Layer, sparsity: Sparsity | Densities) -> str | None:
    """Return why the method does not apply, or None."""
    if layer.type == "fc":
        return "a fully connected layer has one output pixel: nothing to put into SIMD lanes"
    if sparsity.domain != "spatial":
        return "density is of the Winograd domain; direct sparse needs spatial weights"
    return None


@dataclass(frozen=True, slots=True)
class _Shape:
    """Geometry of the padded input and of the register block."""

    layer: Layer
    lanes: int
    pitch: int
    plane_rows: int
    vectors: int  # of an output row
    reg_rows: int
    reg_vectors: int
    vectorised: bool

    @property
    def plane_bytes(self) -> int:
        return FLOAT_BYTES * self.plane_rows * self.pitch

    @property
    def lines_in_row(self) -> int:
        """Lines of an output row that its register blocks ask for early."""
        whole, rest = divmod(self.vectors, self.reg_vectors)
        in_line = max(1, _LINE_FLOATS // self.lanes)  # vectors
        return whole * ceil(self.reg_vectors / in_line) + ceil(rest / in_line)

    @property
    def passes(self) -> int:
        """Times that the nonzeros of an output channel are walked through."""
        if not self.vectorised:
            return self.layer.P * self.layer.Q
        return ceil(self.layer.P / self.reg_rows) * ceil(self.vectors / self.reg_vectors)


def _shape(layer: Layer, target: Target) -> _Shape:
    accumulators = target.registers - 2  # one broadcast value, one spare: 14 of 16, 30 of 32
    vectors = ceil(layer.Q / target.lanes)
    tiles = ceil(vectors / accumulators)  # an output row wider than the registers is cut
    reg_vectors = ceil(vectors / tiles)
    return _Shape(
        layer=layer,
        lanes=target.lanes,
        pitch=layer.W + layer.pad[1],
        plane_rows=layer.H + layer.pad[0],
        vectors=vectors,
        reg_rows=min(layer.P, max(1, accumulators // reg_vectors)),
        reg_vectors=reg_vectors,
        vectorised=layer.stride == (1, 1),
    )


def candidates(
    layer: Layer, schedule: str, batch: int, threads: int, target: Target
) -> tuple[Candidate, ...]:
    """Return the schedules and blocks that ``auto``, or a lane layout's name, chooses from.

    Variants of ``row`` are other periods of the published code, of which each machine has its own.
    """
    if schedule in lanes.SCHEDULES:
        found = lane_candidates(layer, lanes.SCHEDULES[schedule], batch, threads, target)
        return found or (Candidate(schedule),)  # which says why it cannot be
    if schedule == "auto":
        return (Candidate("row"), *lane_candidates(layer, MODES, batch, threads, target))
    return (Candidate(schedule),)


def plan(
    layer: Layer,
    sparsity: Sparsity | Densities,
    *,
    batch: int,
    threads: int,
    schedule: str,
    target: Target,
    partition: Partition,
    blocks_for: float | None = None,
) -> Plan:
    """Plan a schedule; ``auto`` is the cheapest of ``row`` and the lane layouts.

    ``blocks_for`` is the density whose blocks the lane layouts take, by default the layer's own.
    See :func:`archsim.api.make_plan` for the other arguments.
    """
    if schedule in lanes.SCHEDULES:
        return lanes.plan(
            layer, sparsity, batch=batch, threads=threads, schedule=schedule, target=target,
            partition=partition, blocks_for=blocks_for,
        )  # fmt: skip
    if schedule == "auto":
        return _cheapest(layer, sparsity, batch, threads, target, partition)
    return _plan_row(layer, sparsity, batch, threads, schedule, target, partition)


def blockings(
    layer: Layer, densities: Densities, *, batch: int, threads: int, schedule: str, target: Target,
    partition: Partition, blocks_for: float | None = None,
) -> list[Hashable]:  # fmt: skip
    """Return for each density what its plan's blocking depends on: equal ones are of one plan.

    Of one schedule: ``auto`` is to be resolved before.
    """
    del partition
    nonzeros = layer.weights * densities.density[:, 0]
    if schedule in lanes.SCHEDULES:
        if blocks_for is not None:
            return [blocks_for] * len(nonzeros)
        modes = lanes.SCHEDULES[schedule]
        return [
            blocks_of(choose(layer, n, batch, threads, target, modes)) for n in nonzeros.tolist()
        ]
    variant, channels = row_variant(schedule, target)[1], layer.C // layer.groups
    return [variant.channel_block(channels, n / layer.K) for n in nonzeros.tolist()]


def _cheapest(
    layer: Layer,
    sparsity: Sparsity | Densities,
    batch: int,
    threads: int,
    target: Target,
    partition: Partition,
) -> Plan:
    """Plan what costs the fewest cycles; with a stride above 1 ``row`` has no vectors and is last.

    The models: :mod:`archsim.methods.lanes_cost`, :mod:`archsim.methods.row_cost`.
    """
    choice = lanes.cheapest(layer, sparsity, batch, threads, target)
    if choice is None or layer.stride == (1, 1):
        row = _plan_row(layer, sparsity, batch, threads, "row", target, partition)
        if choice is None or first(row_cycles(row)) <= choice.cycles:
            return row
    return lanes.plan_choice(
        layer, sparsity, choice, batch=batch, threads=threads, target=target, partition=partition
    )


def _plan_row(
    layer: Layer,
    sparsity: Sparsity | Densities,
    batch: int,
    threads: int,
    schedule: str,
    target: Target,
    partition: Partition,
) -> Plan:
    full_name, variant = row_variant(schedule, target)
    shape, kinds = _shape(layer, target), find_kinds(layer, sparsity)
    nonzeros = kinds.total
    sharers = threads_per_image(variant, batch, threads, target)
    block = layer.C // layer.groups  # the scalar loop has no column blocks
    if shape.vectorised:
        block = variant.channel_block(block, first(nonzeros) / layer.K)
    parts = cut_kinds(layer, kinds, sparsity, partition, sharers)
    own = taken_or(parts, partition) if own_input(sharers, target) else None
    ends = ends_of(parts, sharers, kinds.channels[kinds.unit_kind])
    given = handed(1 if own is not None else sharers, layer.groups, ends)
    crossings = kernel_shares(
        layer, sparsity, (shape.plane_rows, shape.pitch), shape.vectors, target
    )
    if shape.vectorised:
        work = _products_work(shape, kinds, crossings, variant, block, target)
        # lines that were asked for early are there when a load across two of them comes
        line = 0.0 if _prefetch(shape, block, target) else crossings[0]
        streams = _vector_streams(
            shape, kinds, variant, block, nonzeros, batch, threads, sharers,
            min(sharers, target.l1_sharers), line, given.read,
        )  # fmt: skip
    else:
        work = _scalar_work(shape, kinds)
        streams = _scalar_streams(
            shape, kinds, parts, nonzeros, batch, threads, sharers, given.read
        )
    products = Phase(
        name="products",
        tiles=share(batch, threads, sharers, parts.counts),
        work=work,
        streams=for_each(streams, "padded input") if own is not None else streams,
        waits_for="input",
        barriers=ceil(batch * sharers / threads) * 2
        if sharers > 1 and (own is None or partition == "dynamic")
        else 0,
    )
    return Plan(
        method=NAME,
        schedule=full_name,
        layer=layer,
        sparsity=sparsity,
        batch=batch,
        threads=threads,
        threads_per_image=sharers,
        target=target,
        blocking={
            "lanes": shape.lanes,
            "oc_block": OC_BLOCK,
            "channel_block": block,
            "reg_rows": shape.reg_rows,
            "reg_vectors": shape.reg_vectors,
            "row_pitch": shape.pitch,
            "spill": variant.spill,
            "vectorised": int(shape.vectorised),
            "prefetch": _prefetch(shape, block, target),
            "threads_per_image": sharers,
            "partition": partition,
            **({"own_input": 1} if own is not None else {}),
        },
        part_ptr=parts.part_ptr,
        phases=(
            _input_phase(shape, batch, threads, sharers, nonzeros, target, given.written, own=own),
            products,
        ),
        nonzeros=nonzeros,
    )


def _prefetch(shape: _Shape, block: int, target: Target) -> int:
    """Whether the kernel asks for input early: half or more of a column block is beyond L1.

    Each line that is near already would take a slot of the load ports for nothing.
    """
    window = block * shape.plane_bytes
    return int(shape.vectorised and window >= 2 * target.l1_bytes / target.l1_sharers)


def threads_per_image(variant: RowVariant, batch: int, threads: int, target: Target) -> int:
    """Return how many threads share an image: one, unless there are too few images."""
    sharers = max(1, threads // batch)
    if variant.core_shares_image:
        sharers = max(sharers, min(target.threads_per_core, threads))
    return min(sharers, threads)


def _input_phase(
    shape: _Shape, batch: int, threads: int, sharers: int, nonzeros: Expected, target: Target,
    given: float, *, own: tuple[int, ...] | None,
) -> Phase:  # fmt: skip
    """Copy the image into the padded buffer; a tile is one input channel.

    Other threads read a share ``given`` of what one makes; or each makes its ``own`` copy.
    """
    layer = shape.layer
    vectors = float(layer.H * ceil(layer.W / shape.lanes))
    counts = input_counts(layer.C, sharers, layer.groups, own)
    makers = layer.C / float(counts.max())
    plane = float(FLOAT_BYTES * layer.H * layer.W)
    read = row_shares(layer.H, layer.W, layer.C, target)
    written = row_shares(
        layer.H, layer.W, layer.C, target, pitch=shape.pitch, gap=layer.pad[0] * shape.pitch
    )
    # until the padded buffer is written again
    image = (layer.C * shape.plane_bytes + layer.input_bytes) / makers + (
        layer.output_bytes + _NONZERO_BYTES * nonzeros
    ) / sharers
    return Phase(
        name="input",
        tiles=share(batch, threads, sharers, counts),
        work=Work.of(
            loads_unaligned=vectors, stores=vectors,
            loads_line_crossing=read[0] * vectors, loads_page_crossing=read[1] * vectors,
            stores_line_crossing=written[0] * vectors, stores_page_crossing=written[1] * vectors,
            **copied_rows(layer.H, vectors),
        ),
        streams=(
            # read by all who make a copy of it: as far as all of them touch
            stream("input", "read", plane,
                   batch_distance(layer, batch, threads, sharers) * (sharers / makers),
                   crossing=read[0], shared="image" if own is not None else "no"),
            stream("padded input", "write", plane, image, handed=given),
        ),
    )  # fmt: skip


def _products_work(
    shape: _Shape,
    kinds: Kinds,
    crossings: tuple[float, float],
    variant: RowVariant,
    block: int,
    target: Target,
) -> Work:
    layer = shape.layer
    vectors = float(layer.P * shape.vectors)  # accumulators of one output channel
    blocks = ceil((layer.C // layer.groups) / block)
    loads = kinds.nonzeros * vectors
    line, page = crossings
    early = kinds.nonzeros * (_prefetch(shape, block, target) * layer.P * shape.lines_in_row)
    rounds = kinds.channels * blocks * shape.passes  # inner loops entered
    iterations = kinds.nonzeros * shape.passes
    spilled = kinds.channels * (blocks - 1) * vectors  # accumulators stored, and loaded again
    final = kinds.channels * vectors
    aligned = variant.spill == "scratch"
    outside = final if aligned else final + spilled  # stores to rows of the output
    across = row_shares(layer.P, layer.Q, layer.K, target)
    return Work.of(
        kinds=len(kinds.channels),
        multiply_adds=loads,
        loads_unaligned=loads + (0.0 if aligned else spilled),
        loads_aligned=spilled if aligned else 0.0,
        loads_folded=loads,
        loads_line_crossing=line * loads,
        loads_page_crossing=page * loads,
        stores=spilled + final,
        stores_line_crossing=across[0] * outside,
        stores_page_crossing=across[1] * outside,
        broadcasts=iterations + kinds.channels * shape.passes,
        scalar_loads=iterations + 2.0 * rounds,
        early_lines=early,
        # loop end and next nonzero, and one addition for each further row of the register block
        scalar_ops=(1.0 + shape.reg_rows) * iterations + 8.0 * rounds,
        branches=iterations + rounds,
        mispredicts=rounds,
        # where a list begins, what the call was handed, an offset; inside a call offsets are early
        waiting_loads=(3.0 if shape.passes > 1 else 0.0) * rounds,
        chain_multiply_adds=iterations,
    )


def _scalar_work(shape: _Shape, kinds: Kinds) -> Work:
    layer = shape.layer
    pixels = float(layer.P * layer.Q)
    steps = kinds.nonzeros * pixels
    rows = kinds.channels * pixels
    return Work.of(
        kinds=len(kinds.channels),
        scalar_multiply_adds=steps,
        scalar_loads=3.0 * steps + 2.0 * rows,  # value, offset, input
        scalar_ops=2.0 * steps + 6.0 * rows,
        branches=steps + rows,
        mispredicts=rows,
        chain_multiply_adds=steps,
        stores=rows,
    )


def _vector_streams(
    shape: _Shape,
    kinds: Kinds,
    variant: RowVariant,
    block: int,
    nonzeros: Expected,
    batch: int,
    threads: int,
    sharers: int,
    near: int,
    line: float,
    given: float,
) -> tuple[Stream, ...]:
    """Bytes of a tile, by array; ``near`` threads share an image and a first level.

    Of the loads of the padded input a share ``line`` lies across two lines, ``given`` of it is
    handed over.

    The order of the loops (column block, output channel, row pass, nonzero) gives the reuse
    distances: the padded group comes back once per output-channel block, the partial sums once
    per column block, the plane of an input channel whenever an output channel has a nonzero
    there (:func:`plane_stream`).
    """
    layer = shape.layer
    count = len(kinds.channels)
    group_channels = layer.C // layer.groups
    blocks = ceil(group_channels / block)
    group = float(group_channels * shape.plane_bytes)
    pitch = ceil(layer.Q / _SCRATCH_ROUND) * _SCRATCH_ROUND
    if variant.spill == "output":
        pitch = layer.Q
    sums = float(FLOAT_BYTES * layer.P * pitch) if blocks > 1 else 0.0  # of an output channel
    weights = kinds.nonzeros * _NONZERO_BYTES
    per_round = weights / (kinds.channels * blocks)  # of an output channel in a column block
    # what the first tile of each part touches was made by others; there may be fewer tiles
    beginning = min(1.0, max(layer.groups, sharers) / len(kinds.unit_kind))
    window = float(min(block, group_channels) * shape.plane_bytes)
    streams = [
        stream("weights", "read", weights, _turn_bytes(shape, nonzeros, sharers), kinds=count,
               shared="part"),
        stream("padded input", "read", kinds.inputs * shape.plane_bytes,
               group + kinds.channels * sums + weights, kinds=count, shared="image",
               handed=given * beginning, crossing=line),
        stream("output", "write", FLOAT_BYTES * kinds.channels * layer.P * layer.Q,
               batch_distance(layer, batch, threads, sharers), kinds=count),
        plane_stream(kinds, group, window, near * (sums + per_round), line),  # of all readers
    ]  # fmt: skip
    if shape.passes > 1:
        walked = weights * (shape.passes - 1)
        streams.append(stream("weights", "read", walked, per_round, kinds=count))
    if blocks > 1:
        moved = kinds.channels * sums * (blocks - 1.0)
        touched = window * kinds.inputs / group_channels + kinds.channels * sums
        streams.append(stream("partial sums", "update", moved, touched, kinds=count))
    return tuple(streams)


def _turn_bytes(shape: _Shape, nonzeros: Expected, sharers: int) -> Expected:
    """Bytes that a thread touches for one image: the padded input, its part of the rest."""
    layer = shape.layer
    private = _NONZERO_BYTES * nonzeros + layer.output_bytes
    return layer.C * shape.plane_bytes + private / sharers


def _scalar_streams(
    shape: _Shape,
    kinds: Kinds,
    parts: Cut,
    nonzeros: Expected,
    batch: int,
    threads: int,
    sharers: int,
    given: float,
) -> tuple[Stream, ...]:
    """Bytes of a tile in the scalar loop: pixel, then all output channels of the part.

    A thread sweeps over the padded input once for a part, in all its tiles together, and walks
    through all weights of the part at every pixel.
    """
    layer = shape.layer
    count = len(kinds.channels)
    tiles = max(1.0, len(kinds.unit_kind) / parts.parts)
    weights = kinds.nonzeros * _NONZERO_BYTES
    own_weights = _NONZERO_BYTES * nonzeros / parts.parts
    swept = layer.C * shape.plane_bytes / tiles
    rows = float(FLOAT_BYTES * layer.C * layer.R * shape.pitch)  # under the kernel
    again = max(0.0, layer.R / layer.stride[0] - 1.0)
    return (
        stream("weights", "read", weights, _turn_bytes(shape, nonzeros, sharers), kinds=count,
               shared="part"),
        stream("weights", "read", weights * (shape.passes - 1), own_weights + rows / layer.W,
               kinds=count, shared="part"),
        stream("padded input", "read", swept, _turn_bytes(shape, nonzeros, sharers), kinds=count,
               shared="image", handed=given),
        stream("padded input", "read", swept * again, rows + own_weights, kinds=count,
               shared="image"),
        stream("output", "write", FLOAT_BYTES * kinds.channels * layer.P * layer.Q,
               batch_distance(layer, batch, threads, sharers), kinds=count),
    )  # fmt: skip
