"""Lowered sparse convolution: im2col, then CSR weights times the lowered matrix.

The way of general sparse libraries, against which direct sparse convolution is set (Park et al.,
ICLR 2017, section 2.1).  Rows of the lowered matrix are padded to whole cache lines, so every
load is aligned; the price is R x S copies of the input.
"""

from __future__ import annotations

from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from archsim.methods.sharing import Partition, cut, share
from archsim.methods.streams import batch_distance, im2col_phase, stream
from archsim.network import FLOAT_BYTES, INDEX_BYTES, Layer
from archsim.plan import Counts, Phase, Plan, Target, Work
from archsim.sparsity import Sparsity

NAME: Final = "lowered_sparse"
SCHEDULES: Final = ("auto", "pixel-blocks")

_NONZERO_BYTES: Final = FLOAT_BYTES + INDEX_BYTES
_PITCH_ROUND: Final = 16  # a row of the lowered matrix starts on a 64-byte line
_MIN_VECTORS: Final = 4  # fewer accumulators would leave multiply-add latency exposed


def reason(layer: Layer, sparsity: Sparsity) -> str | None:
    """Return why the method does not apply, or None."""
    if layer.type == "fc":
        return "a fully connected layer has one output pixel: nothing to put into SIMD lanes"
    if sparsity.domain != "spatial":
        return "density is of the Winograd domain; lowering needs spatial weights"
    return None


def _pixel_vectors(layer: Layer, target: Target) -> int:
    """Vectors of output pixels held in registers.

    As many as the registers allow, unless the lowered rows of such a block would not fit into
    half of a thread's share of L2, from where they are read once per output channel.
    """
    vectors = ceil(layer.P * layer.Q / target.lanes)
    rows = (layer.C // layer.groups) * layer.R * layer.S
    room = target.l2_bytes // target.l2_sharers // 2
    fitting = room // (rows * target.lanes * FLOAT_BYTES)
    most = max(_MIN_VECTORS, min(target.registers - 2, fitting))
    return ceil(vectors / ceil(vectors / most))


def plan(
    layer: Layer,
    sparsity: Sparsity,
    *,
    batch: int,
    threads: int,
    schedule: str,
    target: Target,
    partition: Partition,
) -> Plan:
    """Plan im2col and CSR; see :func:`archsim.api.make_plan` for the arguments."""
    del schedule  # there is one
    sharers = min(threads, max(1, threads // batch))
    pixel_vectors = _pixel_vectors(layer, target)
    pitch = ceil(layer.P * layer.Q / _PITCH_ROUND) * _PITCH_ROUND
    per_channel, kind_of_channel = _channels(layer, sparsity)
    nonzeros = float(per_channel[kind_of_channel].sum())
    parts = cut(partition, per_channel, kind_of_channel, sharers)
    lowered = FLOAT_BYTES * float(layer.C * layer.R * layer.S * pitch)
    weights_bytes = _NONZERO_BYTES * nonzeros / sharers  # of the thread
    part_bytes = _NONZERO_BYTES * nonzeros / parts.parts
    pictures = (layer.input_bytes + layer.output_bytes) / sharers
    image = lowered + weights_bytes + pictures  # touched until the next image
    far = batch_distance(layer, batch, threads, sharers)
    vectors = ceil(layer.P * layer.Q / target.lanes)
    blocks = ceil(vectors / pixel_vectors)
    kinds = len(per_channel)
    rows = (layer.C // layer.groups) * layer.R * layer.S
    # inside a block of pixels all groups are walked through
    block_bytes = FLOAT_BYTES * float(layer.groups * rows * pixel_vectors * target.lanes)
    touched = per_channel * vectors * target.lanes * FLOAT_BYTES
    first = np.minimum(touched, lowered * parts.parts / layer.K)  # every part meets all of it
    weights = _NONZERO_BYTES * per_channel
    written = FLOAT_BYTES * float(layer.P * layer.Q)
    products = Phase(
        name="products",
        tiles=share(batch, threads, sharers, parts.counts),
        work=_work(per_channel, vectors, blocks),
        streams=(
            stream("weights", "read", weights, image, kinds=kinds, shared="part"),
            stream("weights", "read", weights * (blocks - 1), part_bytes + block_bytes,
                   kinds=kinds, shared="part"),
            stream("lowered input", "read", first, lowered, kinds=kinds, shared="image"),
            stream("lowered input", "read", touched - first, block_bytes, kinds=kinds,
                   shared="image"),
            stream("output", "write", written, far, kinds=kinds),
        ),
        waits_for="input",
        barriers=2 * ceil(batch * sharers / threads) if sharers > 1 else 0,
    )  # fmt: skip
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
            "lanes": target.lanes,
            "pixel_vectors": pixel_vectors,
            "pitch": pitch,
            "threads_per_image": sharers,
            "partition": partition,
        },
        part_ptr=parts.part_ptr,
        phases=(
            im2col_phase(
                layer, lanes=target.lanes, batch=batch, threads=threads, sharers=sharers,
                buffer_distance=image / sharers,
            ),
            products,
        ),
        nonzeros=nonzeros,
    )  # fmt: skip


def _channels(layer: Layer, sparsity: Sparsity) -> tuple[Counts, NDArray[np.int64]]:
    """Return nonzeros of each distinct output channel, and the kind of every channel."""
    if sparsity.weights is None:
        return (
            np.array([sparsity.density * layer.weights / layer.K]),
            np.zeros(layer.K, dtype=np.int64),
        )
    counts = np.count_nonzero(sparsity.weights.reshape(layer.K, -1), axis=1)
    distinct, kind = np.unique(counts, return_inverse=True)
    return distinct.astype(np.float64), kind.astype(np.int64)


def _work(nonzeros: Counts, vectors: int, blocks: int) -> Work:
    """Operations of one output channel over all pixels."""
    products = nonzeros * vectors
    steps = nonzeros * blocks
    return Work.of(
        kinds=len(nonzeros),
        multiply_adds=products,
        loads_aligned=products,
        loads_folded=products,
        stores=float(vectors),
        broadcasts=steps + blocks,
        scalar_loads=steps + 2.0 * blocks,
        scalar_ops=2.0 * steps + 8.0 * blocks,
        branches=steps + blocks,
        mispredicts=float(blocks),
        chain_multiply_adds=steps,
    )
