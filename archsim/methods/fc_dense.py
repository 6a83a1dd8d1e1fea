"""Dense fully connected layers with outputs in SIMD lanes: weights stream once for many images.

A register block holds sums of some images (splatted numbers) at some vectors of outputs.  An image
alone is a matrix times a vector, as fast as weights come from memory; its register block is one
image by eight vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np

from archsim.methods.fc_sparse import turn_phase
from archsim.methods.sharing import even_parts, part_counts, share
from archsim.methods.streams import batch_distance, stream
from archsim.network import FLOAT_BYTES, Layer
from archsim.plan import Phase, Plan, Stream, Target, Work
from archsim.sparsity import Densities, Sparsity

NAME: Final = "fc_dense"
SCHEDULES: Final = ("auto", "outputs-in-lanes")

_MOST_IMAGES: Final = 14  # of a register block with 32 registers; 6 with 16 (f32_fc.c)


def reason(layer: Layer, sparsity: Sparsity | Densities) -> str | None:
    """Return why the method does not apply, or None."""
    del sparsity
    if layer.type != "fc":
        return "the layer is a convolution; this method is for fully connected layers"
    return None


@dataclass(frozen=True, slots=True)
class _Cut:
    images: int  # of a turn
    reg_images: int
    reg_vectors: int
    units: int  # blocks of reg_vectors vectors of outputs
    turns: int


def _cut(layer: Layer, batch: int, threads: int, target: Target) -> _Cut:
    # the inputs of a turn stay in half of L2 while the weights pass
    room = target.l2_bytes // target.l2_sharers // 2 // (FLOAT_BYTES * layer.C)
    turns = ceil(batch / max(_MOST_IMAGES, room))
    images = ceil(batch / turns)
    vectors = ceil(layer.K / target.lanes / threads)  # of a thread
    if images <= 2:
        most = 8 if images == 1 or target.registers >= 32 else 4
        wide = min(most, 2 ** (vectors.bit_length() - 1))
        return _Cut(
            images, images, wide, ceil(layer.K / (wide * target.lanes)), ceil(batch / images)
        )
    wide = min(2, vectors)
    # two vectors of weights and a splatted number stay beside the sums
    high = min(_MOST_IMAGES, (target.registers - 3) // 2)
    reg_images = ceil(images / ceil(images / high))
    units = ceil(layer.K / (wide * target.lanes))
    return _Cut(images, reg_images, wide, units, ceil(batch / images))


def plan(
    layer: Layer, sparsity: Sparsity, *, batch: int, threads: int, schedule: str, target: Target
) -> Plan:
    """Plan register blocks; see :func:`archsim.api.make_plan` for the arguments."""
    del schedule  # there is one
    cut = _cut(layer, batch, threads, target)
    part_ptr = even_parts(cut.units, threads)
    far = batch_distance(layer, batch, threads, threads)
    parts = part_counts(part_ptr, np.zeros(cut.units, dtype=np.int64))
    turned = cut.images > 1
    products = Phase(
        name="products",
        tiles=share(cut.turns, threads, threads, parts),
        work=_work(layer, cut),
        streams=_streams(layer, cut, threads, target, far),
        waits_for="input" if turned else None,
        barriers=2 * cut.turns if threads > 1 and turned else 0,
    )
    phases: tuple[Phase, ...] = (products,)
    if turned:
        into = turn_phase("input", layer.C, cut.images, cut.turns, threads, target, far)
        phases = (into, products)
    return Plan(
        method=NAME,
        schedule=SCHEDULES[1],
        layer=layer,
        sparsity=sparsity,
        batch=batch,
        threads=threads,
        threads_per_image=threads,
        target=target,
        blocking={
            "lanes": target.lanes,
            "images": cut.images,
            "reg_images": cut.reg_images,
            "reg_vectors": cut.reg_vectors,
            "threads_per_image": threads,
        },
        part_ptr=part_ptr,
        phases=phases,
        nonzeros=float(layer.weights),
        images_per_turn=cut.images,
    )


def _work(layer: Layer, cut: _Cut) -> Work:
    """Operations of one unit of outputs for a turn of images."""
    inputs, wide = float(layer.C), cut.reg_vectors
    blocks = ceil(cut.images / cut.reg_images)
    alone = cut.reg_images == 1  # weights feed the multiply-adds from memory
    return Work.of(
        multiply_adds=inputs * cut.images * wide,
        loads_aligned=inputs * blocks * wide + cut.images * wide,
        loads_folded=inputs * blocks * wide if alone else 0.0,
        stores=float(cut.images * wide),
        broadcasts=inputs * cut.images,
        # prefetches, two pointers, a count
        scalar_ops=inputs * blocks * (wide + 3.0),
        branches=inputs * blocks,
        mispredicts=float(blocks),
        chain_multiply_adds=inputs * blocks,
    )


def _streams(
    layer: Layer, cut: _Cut, threads: int, target: Target, far: float
) -> tuple[Stream, ...]:
    """Bytes of one unit of outputs for a turn."""
    outputs = float(cut.reg_vectors * target.lanes)
    weights = FLOAT_BYTES * layer.C * outputs
    blocks = ceil(cut.images / cut.reg_images)
    inputs = float(FLOAT_BYTES * layer.C * cut.images)
    block = inputs / blocks
    turn = layer.dense_bytes / threads + inputs
    return (
        stream("weights", "read", weights, turn),
        stream("weights", "read", weights * (blocks - 1), weights + block),
        stream("input", "read", inputs, inputs + weights, shared="image"),
        stream("output", "write", FLOAT_BYTES * outputs * cut.images, far),
    )
