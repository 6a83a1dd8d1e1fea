"""Chains: consecutive layers of direct sparse convolution that stay in lane layout.

The picture is brought into lane layout before the first layer and out of it after the last one.
In between a layer's sums are *spread* over the next layer's slabs, vector by vector, the halo with
its lanes in another order: over whole slabs, as soon as sums are ready, or by the next layer over
windows of them, a block of slabs at a time.  So all layers cut the picture in the same way: mode,
grid and tile are common, and in ``flat`` the pitch is that of the layer that needs the largest.
Register blocks and blocks of slabs are each layer's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.errors import NotApplicableError, input_error
from archsim.methods import direct_sparse
from archsim.methods.lanes import nonzeros_of, plan_choice
from archsim.methods.lanes_cost import Choice, Ends, accumulators, choose_blocks
from archsim.methods.lanes_geometry import Geometry, Mode, geometries
from archsim.methods.sharing import share
from archsim.methods.streams import stream
from archsim.network import FLOAT_BYTES, INDEX_BYTES, Layer
from archsim.plan import Phase, Plan, Target, Work, first
from archsim.sparsity import Sparsity

#: Schedules of a chain, and the modes that each may choose from.
CHAIN_SCHEDULES: Final[dict[str, tuple[Mode, ...]]] = {
    "auto": ("flat", "tiles", "images"),
    "chain:flat": ("flat",),
    "chain:tiles": ("tiles",),
    "chain:images": ("images",),
}
# Of a vector that is spread (as_reorder in kernels/csrc/transpose.h): the order of its lanes is
# loaded, its sign made a mask, the vector shuffled; with 4 lanes each is moved by itself.  Three
# numbers say where from, where to, which order.
_REORDER_OPS: Final = 3.0
_LANE_OPS: Final = 3.0
_MOVE_LOADS: Final = 3.0


def reason(layers: Sequence[Layer], sparsities: Sequence[Sparsity]) -> str | None:
    """Return why layers do not make a chain, or None."""
    for layer, sparsity in zip(layers, sparsities, strict=True):
        why = direct_sparse.reason(layer, sparsity)
        if why is None and not keeps_size(layer):
            why = "a chain's layers have stride 1 and outputs of the size of their inputs"
        if why is not None:
            return f"layer {layer.name}: {why}"
    for before, layer in pairwise(layers):
        if not follows(before, layer):
            return (
                f"layer {layer.name} ({layer.C} channels of {layer.H}x{layer.W}) does not take "
                f"what {before.name} gives ({before.K} channels of {before.P}x{before.Q})"
            )
    return None


def keeps_size(layer: Layer) -> bool:
    """Return whether a layer's output has the size of its input, at stride 1."""
    return (
        layer.type == "conv" and layer.stride == (1, 1) and (layer.P, layer.Q) == (layer.H, layer.W)
    )


def follows(before: Layer, layer: Layer) -> bool:
    """Return whether a layer's input has the shape of another one's output."""
    return (layer.C, layer.H, layer.W) == (before.K, before.P, before.Q)


def plan(
    layers: Sequence[Layer],
    sparsities: Sequence[Sparsity],
    *,
    batch: int,
    threads: int,
    schedule: str,
    target: Target,
) -> tuple[Plan, ...]:
    """Plan a chain: one plan per layer.

    Only the first converts pictures in ``input``, only the last one in ``output``. Where slabs are
    made whole, that is ``output`` of the layer before, else ``input`` of the layer that takes
    windows of them.

    Raises
    ------
    InputError
        No such schedule.
    NotApplicableError
        The layers do not make a chain.
    """
    if schedule not in CHAIN_SCHEDULES:
        raise input_error(
            "schedule", "unknown", found=schedule, allowed=", ".join(CHAIN_SCHEDULES),
            near=(schedule, tuple(CHAIN_SCHEDULES)),
        )  # fmt: skip
    why = reason(layers, sparsities)
    if why is not None:
        raise NotApplicableError(why)
    nonzeros = [first(nonzeros_of(*pair)) for pair in zip(layers, sparsities, strict=True)]
    choices = _choose(layers, nonzeros, batch, threads, target, CHAIN_SCHEDULES[schedule])
    if choices is None:
        raise NotApplicableError("offsets into the input in lane layout would not fit 32 bits")
    turn_bytes = _turn_bytes(layers, nonzeros, choices)
    plans = [
        plan_choice(
            layer, sparsity, choice, batch=batch, threads=threads, target=target,
            partition="nnz", turn_bytes=turn_bytes,
        )
        for layer, sparsity, choice in zip(layers, sparsities, choices, strict=True)
    ]  # fmt: skip
    found = [choice.geometry for choice in choices]
    whole = makes_whole_slabs(found[0], target)
    return tuple(
        _linked(plan, _Place(choice, ends, turn_bytes), whole)
        for plan, choice, ends in zip(plans, choices, _ends(layers, found, target), strict=True)
    )


def chain_geometries(
    layers: Sequence[Layer], lanes: int, mode: Mode
) -> Iterator[tuple[Geometry, ...]]:
    """Yield the layouts that all layers of a chain can have, one geometry each."""
    for found in zip(*(geometries(layer, lanes, mode) for layer in layers), strict=True):
        if mode == "flat":
            pitch = max(geometry.pitch for geometry in found)
            chunk = ceil(((layers[0].P - 1) * pitch + layers[0].Q) / lanes)
            found = tuple(replace(g, pitch=pitch, tile=(1, chunk)) for g in found)
        yield found


def makes_whole_slabs(geometry: Geometry, target: Target) -> bool:
    """Return whether a chain's slabs are made whole, by the layer before.

    Else the next layer makes windows of them, which stay in the first level; where one register
    block covers a tile that is as much work, and less to write and read.
    """
    return geometry.positions > accumulators(target)


def slab_vectors(geometry: Geometry, layer: Layer) -> int:
    """Return the vectors of a slab that hold pixels; the others are never written."""
    return int(_filled(geometry, layer).sum())


def window_vectors(geometry: Geometry, layer: Layer, reg: tuple[int, int]) -> int:
    """Return the vectors that hold pixels in the windows of all register blocks of a slab."""
    filled, total = _filled(geometry, layer), 0
    down = geometry.pitch if geometry.mode == "flat" else geometry.in_columns
    reach = np.arange(layer.R)[:, None] * layer.dilation[0] * down
    reach = (reach + np.arange(layer.S) * layer.dilation[1]).reshape(-1, 1)
    for top in range(0, geometry.tile[0], reg[0]):
        rows = np.arange(top, min(top + reg[0], geometry.tile[0]))[:, None] * geometry.in_columns
        for left in range(0, geometry.tile[1], reg[1]):
            block = (rows + np.arange(left, min(left + reg[1], geometry.tile[1]))).reshape(-1)
            total += int(filled[np.unique(block + reach)].sum())
    return total


def _filled(geometry: Geometry, layer: Layer) -> NDArray[np.bool_]:
    """Return which vectors of a slab hold a pixel in any lane, shape (vectors,)."""
    if geometry.mode == "flat":
        lane = np.arange(geometry.lanes)[:, None]
        start = np.arange(geometry.in_columns) - layer.pad[0] * geometry.pitch - layer.pad[1]
        row, column = np.divmod(lane * geometry.tile[1] + start, geometry.pitch)
        inside = (row >= 0) & (row < layer.H) & (column < layer.W)
        filled: NDArray[np.bool_] = np.any(inside, axis=0, keepdims=True)[0]
        return filled
    axes: list[NDArray[np.bool_]] = []
    for axis, (size, length) in enumerate(
        ((layer.H, geometry.in_rows), (layer.W, geometry.in_columns))
    ):
        first = np.arange(geometry.grid[axis])[:, None] * geometry.tile[axis] - layer.pad[axis]
        pixel = first + np.arange(length)
        axes.append(np.any((pixel >= 0) & (pixel < size), axis=0, keepdims=True)[0])
    filled = axes[0][:, None] & axes[1]
    return filled.reshape(-1)


def _choose(
    layers: Sequence[Layer],
    nonzeros: Sequence[float],
    batch: int,
    threads: int,
    target: Target,
    modes: tuple[Mode, ...],
) -> list[Choice] | None:
    """Return the cheapest layout and blocks of the whole chain."""
    best: list[Choice] | None = None
    for mode in modes:
        for found in chain_geometries(layers, target.lanes, mode):
            chosen = [
                choose_blocks(layer, geometry, count, batch, threads, target, ends)
                for layer, geometry, count, ends in zip(
                    layers, found, nonzeros, _ends(layers, found, target), strict=True
                )
            ]
            possible = [choice for choice in chosen if choice is not None]
            if len(possible) == len(layers) and (best is None or _cycles(possible) < _cycles(best)):
                best = possible
    return best


def _ends(layers: Sequence[Layer], found: Sequence[Geometry], target: Target) -> list[Ends]:
    whole = makes_whole_slabs(found[0], target)
    into: list[Literal["converted", "windows", "slabs"]] = ["converted"]
    into += ["slabs" if whole else "windows" for _ in layers[1:]]
    stored: list[int | None] = [
        slab_vectors(geometry, layer) if whole else geometry.positions
        for layer, geometry in zip(layers[1:], found[1:], strict=True)
    ]
    return [Ends(*ends) for ends in zip(into, [*stored, None], strict=True)]


def _cycles(choices: Sequence[Choice]) -> float:
    return sum(choice.cycles for choice in choices)


def _turn_bytes(
    layers: Sequence[Layer], nonzeros: Sequence[float], choices: Sequence[Choice]
) -> float:
    """Return what a turn touches: pictures at both ends, and every layer's slabs and weights."""
    images = choices[0].geometry.images
    total = images * float(layers[0].input_bytes + layers[-1].output_bytes)
    for layer, count, choice in zip(layers, nonzeros, choices, strict=True):
        geometry = choice.geometry
        slab = geometry.in_rows * geometry.in_columns * geometry.lanes * FLOAT_BYTES
        total += layer.C * slab + count * (FLOAT_BYTES + INDEX_BYTES)
    return total


@dataclass(frozen=True, slots=True)
class _Place:
    """A layer's place in a chain."""

    choice: Choice
    ends: Ends
    turn_bytes: float

    @property
    def vector_bytes(self) -> int:
        return FLOAT_BYTES * self.choice.geometry.lanes


def _linked(plan: Plan, place: _Place, whole: bool) -> Plan:
    """Return a layer's plan as it is in the chain."""
    phases = {phase.name: phase for phase in plan.phases}
    if place.ends.into != "converted":
        # of the two waits of a layer by itself only that for the colleagues' sums is left
        barriers = phases["products"].barriers // 2
        products = replace(phases["products"], waits_for=None, barriers=barriers)
        if place.ends.into == "windows":
            phases["input"] = replace(_window_phase(plan, place), barriers=barriers)
            # the first look at a slab is into the window now
            streams = [s for s in products.streams if s.array != "lane input" or len(s.bytes) > 1]
            products = replace(products, waits_for="input", barriers=0, streams=tuple(streams))
        else:
            del phases["input"]
        phases["products"] = products
    if place.ends.stored is not None:
        if whole:
            phases["output"] = _slab_phase(phases["output"], place, place.ends.stored)
        else:
            del phases["output"]
            phases["products"] = _storing(phases["products"], place, place.ends.stored)
    schedule = f"chain:{place.choice.geometry.mode}"
    return replace(plan, schedule=schedule, phases=tuple(phases.values()))


def _spread(geometry: Geometry, vectors: int) -> Work:
    """Spread sums over so many vectors: one and the order of its lanes are loaded for each."""
    ops = _REORDER_OPS if geometry.lanes > 4 else _LANE_OPS * geometry.lanes
    return Work.of(
        loads_aligned=2.0 * vectors,
        stores=float(vectors),
        scalar_loads=_MOVE_LOADS * vectors,
        scalar_ops=ops * vectors,
        branches=float(vectors),
    )


def _slab_phase(output: Phase, place: _Place, vectors: int) -> Phase:
    """Make the next layer's slabs; a tile is one output channel, as in ``output``.

    Their buffer was last touched a turn ago.
    """
    geometry = place.choice.geometry
    sums = float(geometry.positions * place.vector_bytes)
    slab = float(vectors * place.vector_bytes)
    return replace(
        output,
        work=_spread(geometry, vectors),
        streams=(
            stream("sums", "read", sums, sums),
            stream("next lane input", "write", slab, place.turn_bytes),
        ),
    )


def _storing(products: Phase, place: _Place, vectors: int) -> Phase:
    """Keep the sums for the next layer where they are written when they are finished."""
    kinds = products.tiles.count.shape[1]
    kept = stream(
        "next sums", "write", float(vectors * place.vector_bytes), place.turn_bytes, kinds=kinds
    )
    return replace(products, streams=(*products.streams, kept))


def _window_phase(plan: Plan, place: _Place) -> Phase:
    """Make windows of slabs; a tile is one input channel with the windows of all register blocks.

    Every thread of an image makes those of the groups that it has output channels of.
    """
    layer, choice = plan.layer, place.choice
    geometry, bytes_each = choice.geometry, place.vector_bytes
    vectors = window_vectors(geometry, layer, choice.reg)
    in_group = layer.K // layer.groups
    seen = [
        ceil(stop / in_group) - start // in_group if stop > start else 0
        for start, stop in pairwise(plan.part_ptr)
    ]
    parts = np.array(seen, dtype=np.int64)[:, None] * (layer.C // layer.groups)
    sums = float(geometry.positions * bytes_each)
    passes = ceil(geometry.tile[0] / choice.reg[0]) * ceil(geometry.tile[1] / choice.reg[1])
    again = float(min(vectors, passes * geometry.positions) * bytes_each) - sums
    window = float(choice.slab_block * geometry.window(*choice.reg) * bytes_each)
    return Phase(
        name="input",
        tiles=share(plan.turns, plan.threads, plan.threads_per_image, parts),
        work=_spread(geometry, vectors),
        streams=(
            stream("sums", "read", sums, layer.C * sums, shared="image"),
            stream("sums", "read", max(again, 0.0), layer.C * sums, shared="image"),
            stream("lane input", "write", float(vectors * bytes_each), window),
        ),
    )
