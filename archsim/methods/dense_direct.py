"""Direct dense convolution: register blocks of output channels x output pixels, no lowering.

Each register block sums over input channels and taps; with channels in lanes a weight vector
meets a splatted input, with pixels in lanes an input vector meets a splatted weight (the two forms
of Georganas et al., "Anatomy of High-Performance Deep Learning Convolutions on SIMD
Architectures", SC 2018, and of matrix products).  What is cut where: ``dense_blocking``.
"""

from __future__ import annotations

from itertools import pairwise
from math import ceil, log2
from typing import Final

import numpy as np
from numpy.typing import NDArray

from archsim.methods.crossing import anywhere, row_shares
from archsim.methods.dense_blocking import Blocking, blocking
from archsim.methods.sharing import even_parts, handed, input_counts, own_input, share
from archsim.methods.streams import (
    batch_distance,
    copied_rows,
    for_each,
    in_turn,
    stream,
)
from archsim.network import FLOAT_BYTES, Layer
from archsim.plan import Counts, Phase, Plan, Stream, Target, Work
from archsim.sparsity import Densities, Sparsity

NAME: Final = "dense_direct"
SCHEDULES: Final = ("auto", "direct")

Runs = tuple[NDArray[np.int64], Counts, Counts]


def reason(layer: Layer, sparsity: Sparsity | Densities) -> str | None:
    """Return why the method does not apply, or None."""
    del sparsity
    if layer.type == "fc":
        return "a fully connected layer has one output pixel: a matrix product does it better"
    return None


def plan(
    layer: Layer, sparsity: Sparsity, *, batch: int, threads: int, schedule: str, target: Target
) -> Plan:
    """Plan the convolution; see :func:`archsim.api.make_plan` for the arguments."""
    del schedule  # there is one
    sharers = min(threads, max(1, threads // batch))
    cut = blocking(layer, target)
    units = layer.groups * ceil(layer.K // layer.groups / cut.unit)
    part_ptr = even_parts(units, sharers)
    parts, width, channels = _runs(layer, cut, part_ptr)
    copies = cut.geometry.source == "padded"
    own = part_ptr if copies and own_input(sharers, target) else None
    far = batch_distance(layer, batch, threads, sharers)
    first = _first_runs(layer, cut, part_ptr) / parts.sum()
    streams = _streams(layer, cut, (parts, width, channels), far, sharers, target)
    if own is not None:
        streams = for_each(streams, "padded input")
    loops = [(_work(layer, cut, width, first, target), streams)]
    if cut.in_lanes == "channels":
        loops.append(_planes(layer, cut, width, channels, far, target))
    products = in_turn(
        "products",
        share(batch, threads, sharers, parts),
        *loops,
        waits_for="input" if copies else None,
        barriers=2 * ceil(batch * sharers / threads)
        if sharers > 1 and copies and own is None
        else 0,
    )
    phases: tuple[Phase, ...] = (products,)
    if copies:
        phases = (_input_phase(layer, cut, batch, threads, sharers, target, own=own), products)
    return Plan(
        method=NAME,
        schedule=SCHEDULES[1],
        layer=layer,
        sparsity=sparsity,
        batch=batch,
        threads=threads,
        threads_per_image=sharers,
        target=target,
        blocking={
            **cut.numbers(),
            "threads_per_image": sharers,
            **({"own_input": 1} if own is not None else {}),
        },
        part_ptr=part_ptr,
        phases=phases,
        nonzeros=float(layer.weights),
    )


def _runs(layer: Layer, cut: Blocking, part_ptr: tuple[int, ...]) -> Runs:
    """Walk the output channels of each rank as the kernel does; a tile is one run of the walk.

    Returns
    -------
    parts : ndarray of shape (ranks, kinds), int64
        Runs of each kind.
    width, channels : ndarray of shape (kinds,)
        Of the register block (vectors or, with pixels in lanes, channels), and output channels.
    """
    per_group = layer.K // layer.groups
    in_group = ceil(per_group / cut.unit)
    at_once = cut.vectors if cut.in_lanes == "channels" else 1
    walks: list[list[tuple[int, int]]] = []
    for start, stop in pairwise(part_ptr):
        walks.append([])
        unit = start
        while unit < stop:
            units = min(at_once, stop - unit, in_group - unit % in_group)
            channels = min(units * cut.unit, per_group - unit % in_group * cut.unit)
            walks[-1].append((units if cut.in_lanes == "channels" else channels, channels))
            unit += units
    kinds = sorted({run for walk in walks for run in walk}, reverse=True)
    parts = np.array([[walk.count(kind) for kind in kinds] for walk in walks], dtype=np.int64)
    width, channels_of = np.array(kinds, dtype=np.float64).T
    return parts, width, channels_of


def _first_runs(layer: Layer, cut: Blocking, part_ptr: tuple[int, ...]) -> int:
    """Count the runs that are the first of their group on their rank."""
    in_group = ceil(layer.K // layer.groups / cut.unit)
    return sum(
        (stop - 1) // in_group - start // in_group + 1
        for start, stop in pairwise(part_ptr)
        if stop > start
    )


def kernel_rows(layer: Layer, cut: Blocking) -> tuple[int, int]:
    """Count the kernel rows that are computed, those that see only padding left out.

    Returns
    -------
    tuple of two ints
        Summed over the output rows, and over the rows of register blocks (whose output rows
        share the kernel rows that any of them needs).
    """
    over_rows = over_tiles = 0
    for first, height in cut.tile_rows:
        top = first * layer.stride[0] - layer.pad[0]
        bottom = top + (height - 1) * layer.stride[0]
        needed = sum(
            bottom + r * layer.dilation[0] >= 0 and top + r * layer.dilation[0] < layer.H
            for r in range(layer.R)
        )
        over_rows += height * needed
        over_tiles += needed
    return over_rows, over_tiles


def _work(layer: Layer, cut: Blocking, width: Counts, first: float, target: Target) -> Work:
    """Operations of a run of output channels over all pixels; a share ``first`` fills panels."""
    grid = cut.geometry
    in_a_row = float((layer.C // layer.groups) * layer.S)  # products of one kernel row
    by_pixel_rows, by_tiles = kernel_rows(layer, cut)
    blocks = ceil(layer.C // layer.groups / cut.channel_block)
    pixels = float(grid.rows * grid.columns)
    # of the inner loop: one tap of one input channel
    steps = in_a_row * by_tiles * cut.tiles_in_row
    visits = cut.tiles * blocks  # register blocks loaded, summed up and stored
    common: dict[str, float | Counts] = {
        "scalar_loads": steps,
        "scalar_ops": 3.0 * steps + 20.0 * visits,
        "branches": steps + 2.0 * visits,
        "mispredicts": float(visits),
        "waiting_loads": 2.0 * visits,  # what the call was handed, and where a tap lies
        "chain_multiply_adds": steps,
    }
    if cut.in_lanes == "pixels":
        line, page = row_shares(grid.rows, grid.columns, layer.K, target)
        in_row = ceil(grid.columns / cut.lanes)
        vectors = float(grid.rows * in_row)
        products = in_a_row * by_pixel_rows * in_row
        in_place, kept = (first, first) if cut.panels else (1.0, 0.0)
        return Work.of(
            kinds=len(width),
            multiply_adds=products * width,
            loads_aligned=products * (1.0 - in_place),
            loads_unaligned=products * in_place + (blocks - 1) * vectors * width,
            loads_line_crossing=anywhere(min(cut.lanes, grid.columns), target)[0]
            * products
            * in_place
            + line * (blocks - 1) * vectors * width,
            broadcasts=steps * width,
            stores=blocks * vectors * width + products * kept,
            stores_line_crossing=line * blocks * vectors * width,
            stores_page_crossing=page * blocks * vectors * width,
            **common,
        )
    products = in_a_row * by_pixel_rows * grid.columns
    # of a picture as it came, the next register block's line of each channel
    asked = steps * first if grid.source == "image" and layer.R * layer.S == 1 else 0.0
    return Work.of(
        kinds=len(width),
        early_lines=asked,
        multiply_adds=products * width,
        loads_aligned=(steps + blocks * pixels) * width,
        broadcasts=products,
        stores=blocks * pixels * width,
        **common,
    )


def _planes(
    layer: Layer, cut: Blocking, width: Counts, channels: Counts, far: float, target: Target
) -> tuple[Work, tuple[Stream, ...]]:
    """What brings a run's sums, channels in lanes, into the planes of its output."""
    kinds, grid = len(width), cut.geometry
    line, page = row_shares(1, layer.P * layer.Q, layer.K, target)
    squares, pixels = float(_squares(cut)), float(grid.rows * grid.columns)
    vector_bytes = float(FLOAT_BYTES * cut.lanes)
    work = Work.of(
        kinds=kinds,
        loads_aligned=pixels * width,
        stores=squares * channels,
        stores_line_crossing=line * squares * channels,
        stores_page_crossing=page * squares * channels,
        # lanes x lanes at a time: log2(lanes) shuffles for each vector
        shuffles=squares * width * cut.lanes * log2(cut.lanes),
    )
    band = vector_bytes * width * cut.band_rows * min(cut.band_columns, grid.columns)
    return work, (
        stream("partial sums", "read", vector_bytes * width * pixels, band, kinds=kinds),
        stream("output", "write", FLOAT_BYTES * channels * layer.P * layer.Q, far, kinds=kinds),
    )


def _squares(cut: Blocking) -> int:
    """Squares of lanes x lanes sums that are turned for one vector of channels."""
    grid = cut.geometry
    if cut.band_columns < grid.columns:  # bands of a part of one row
        whole, rest = divmod(grid.columns, cut.band_columns)
        in_row = whole * ceil(cut.band_columns / cut.lanes) + ceil(rest / cut.lanes)
        return grid.rows * in_row
    whole, rest = divmod(grid.rows, cut.band_rows)
    full = ceil(cut.band_rows * grid.columns / cut.lanes)
    return whole * full + ceil(rest * grid.columns / cut.lanes)


def _streams(
    layer: Layer, cut: Blocking, runs: Runs, far: float, sharers: int, target: Target
) -> tuple[Stream, ...]:
    """Bytes of a run, array by array, by the order of the loops.

    ``far`` is what a thread touches of the pictures from one call to the next.
    """
    parts, width, channels = runs
    kinds, grid = len(width), cut.geometry
    group_channels, taps = layer.C // layer.groups, layer.R * layer.S
    blocks = ceil(group_channels / cut.channel_block)
    lane_bytes = float(FLOAT_BYTES * (cut.lanes if cut.in_lanes == "channels" else 1))
    weights = lane_bytes * width * group_channels * taps
    of_thread = float((parts @ weights).max())
    block_weights = float(weights.max()) / blocks
    plane = float(FLOAT_BYTES * grid.channel_pitch)
    group = plane * group_channels
    band = group / cut.bands
    output = FLOAT_BYTES * channels * layer.P * layer.Q
    image = plane * layer.C + of_thread + layer.input_bytes + layer.output_bytes
    # of the kernel's rows, those that are computed
    used = kernel_rows(layer, cut)[1] / (len(cut.tile_rows) * layer.R)
    runs_of_group = max(1.0, float(parts.sum(axis=1).max()) / layer.groups)
    name = "padded input" if grid.source == "padded" else "input"
    again = "panel" if cut.panels else name
    # a register block touches all taps' rows once; what the last block did not is new
    touched = FLOAT_BYTES * group_channels * layer.R * used * cut.tiles
    touched *= cut.reg_rows * (cut.reg_count if cut.in_lanes == "channels" else cut.lanes)
    window = float(FLOAT_BYTES * cut.channel_block * layer.R * grid.row_pitch)
    near = max(0.0, touched - group)
    crossing = 0.0
    if cut.in_lanes == "pixels" and not cut.panels:
        crossing = anywhere(min(cut.lanes, grid.columns), target)[0]
    sums = lane_bytes * width * cut.band_rows * min(cut.band_columns, grid.columns)
    all_sums = lane_bytes * width * grid.rows * grid.columns
    if cut.in_lanes == "pixels":
        sums, all_sums = output / cut.bands, output
    found = [
        stream("weights", "read", weights, image, kinds=kinds, shared="part"),
        stream("weights", "read", weights * (cut.bands - 1), of_thread + band, kinds=kinds,
               shared="part"),
        stream("weights", "read", weights * max(0.0, used * cut.tiles - cut.bands),
               block_weights, kinds=kinds),
        # the picture itself is as far as all threads touch that read it together
        stream(name, "read", group / runs_of_group,
               image if grid.source == "padded" else far * sharers, kinds=kinds, shared="image",
               handed=handed(sharers, layer.groups).read if grid.source == "padded" else 0.0,
               crossing=crossing),
        stream(again, "read", group * (1.0 - 1.0 / runs_of_group), band + weights, kinds=kinds,
               shared="no" if cut.panels else "image", crossing=crossing),
        stream(again, "read", near, window + block_weights, kinds=kinds, shared="image",
               crossing=crossing),
    ]  # fmt: skip
    if cut.panels:  # where that of the band before was
        written = group / runs_of_group
        found.append(stream("panel", "write", written, band + of_thread, kinds=kinds))
    if blocks > 1:
        moved = all_sums * (blocks - 1)
        found.append(stream("partial sums", "update", moved, sums + block_weights, kinds=kinds))
    if cut.in_lanes == "channels":
        found.append(stream("partial sums", "write", all_sums, sums, kinds=kinds))
    else:
        found.append(stream("output", "write", output, far, kinds=kinds))
    return tuple(found)


def _input_phase(
    layer: Layer, cut: Blocking, batch: int, threads: int, sharers: int, target: Target, *,
    own: tuple[int, ...] | None,
) -> Phase:  # fmt: skip
    """Copy the image into the padded buffer; a tile is one input channel.

    ``own``: the units of output of each thread, if it copies for itself.
    """
    plane = float(FLOAT_BYTES * layer.H * layer.W)
    padded = float(FLOAT_BYTES * cut.geometry.channel_pitch * layer.C)
    image = padded + layer.input_bytes + layer.output_bytes + layer.dense_bytes
    line = 0.0
    if layer.stride[1] == 1:
        vectors = float(layer.H * ceil(layer.W / cut.lanes))
        line, page = anywhere(min(cut.lanes, layer.W), target)
        work = Work.of(
            loads_unaligned=vectors, loads_line_crossing=line * vectors, stores=vectors,
            stores_line_crossing=line * vectors, stores_page_crossing=page * vectors,
            **copied_rows(layer.H, vectors),
        )  # fmt: skip
    else:  # one number at a time, to where its rest modulo the stride is
        numbers = float(layer.H * layer.W)
        work = Work.of(
            scalar_loads=numbers, stores=numbers, scalar_ops=2.0 * numbers, branches=numbers
        )
    readers = sharers if own is not None else 1  # of the same lines of the picture
    return Phase(
        name="input",
        tiles=share(batch, threads, sharers, input_counts(layer.C, sharers, layer.groups, own)),
        work=work,
        streams=(
            stream("input", "read", plane,
                   batch_distance(layer, batch, threads, sharers) * readers,
                   crossing=line, shared="image" if own is not None else "no"),
            stream("padded input", "write", plane, image,
                   handed=handed(1 if own is not None else sharers, layer.groups).written),
        ),
    )  # fmt: skip
