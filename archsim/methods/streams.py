"""Small builders that the methods share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, inf
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from archsim.methods.crossing import anywhere
from archsim.methods.sharing import handed, input_counts, share
from archsim.network import FLOAT_BYTES, Layer
from archsim.plan import Counts, Phase, Stream, Target, Tiles, Work, spread

# A copy of picture rows: two pointers, a count and a comparison a row, a step and the loop's end
# for each of its vectors (objdump of kernels/csrc/f32_copy.c, avx512, gcc 12).
_ROW_COPY_OPS = 4.0
_ROW_COPY_BRANCHES = 3.0
# A row by memcpy, where no instruction set is asked for: 50 instructions for 13 numbers, 55 for 27,
# the vector moves among them (valgrind --tool=callgrind on kernels/csrc/im2col.c, 15x15 and 29x29
# pictures, 3x3 kernel, no padding).
_MEMCPY_OPS = 36.0
_MEMCPY_BRANCHES = 10.0
# One copy of a whole plane, set-up and clearing of its ends (same command, 13x13 and 27x27
# pictures, padding 1: 277 and 533 instructions, less the moves and 4 per number cleared).
PLANE_COPY_OPS = 90.0
# Of a block: sixteenths, each with its middle, the last with its end, where all is at p = 1.
_SHARES = np.append((np.arange(15) + 0.5) / 16.0, 1.0)[:, None]
_LOG_UNSEEN = np.log1p(-np.arange(16) / 16.0)[:, None]  # of what is not yet seen where each begins


def stream(
    array: str,
    access: Literal["read", "write", "update", "past"],
    moved: ArrayLike,
    distance: ArrayLike,
    *,
    kinds: int = 1,
    shared: Literal["no", "image", "part"] = "no",
    handed: float = 0.0,
    crossing: float = 0.0,
    handed_bytes: float = inf,
) -> Stream:
    """Build a stream of one distance, scalars spread over the kinds of tiles."""
    return Stream(
        array, access, spread(moved, kinds), spread(distance, kinds), shared, handed, crossing,
        handed_bytes,
    )  # fmt: skip


def for_each(streams: Sequence[Stream], array: str) -> tuple[Stream, ...]:
    """Return the streams of threads that have a copy each of what they else would share."""
    return tuple(replace(s, shared="no", handed=0.0) if s.array == array else s for s in streams)


def in_turn(
    name: str,
    tiles: Tiles,
    *steps: tuple[Work, Sequence[Stream]],
    waits_for: str | None = None,
    barriers: int = 0,
) -> Phase:
    """Build a phase whose tiles run several loops, one after another.

    Parameters
    ----------
    tiles : Tiles
        Of the kinds that each loop's work and streams have.
    steps : tuples of (Work, streams)
        A loop each; its kinds become kinds of their own.
    """
    kinds = tiles.count.shape[1]

    def placed(values: Counts, step: int) -> Counts:
        found = np.zeros((*values.shape[:-1], len(steps) * kinds))
        found[..., step * kinds : (step + 1) * kinds] = values
        return found

    lead = np.broadcast_shapes(*[work.counts.shape[:-2] for work, _ in steps])
    counts = [np.broadcast_to(w.counts, (*lead, *w.counts.shape[-2:])) for w, _ in steps]
    return Phase(
        name=name,
        tiles=Tiles(np.tile(tiles.count, len(steps)), tiles.thread_class),
        work=Work(np.concatenate(counts, axis=-1)),
        streams=tuple(
            replace(
                each,
                bytes=placed(each.bytes, step),
                reuse_distance_bytes=placed(each.reuse_distance_bytes, step),
            )
            for step, (_, streams) in enumerate(steps)
            for each in streams
        ),
        waits_for=waits_for,
        barriers=barriers,
        loops=tuple(step for step in range(len(steps)) for _ in range(kinds)),
    )


def batch_distance(layer: Layer, batch: int, threads: int, sharers: int) -> float:
    """Bytes of pictures that a thread touches from one call to the next.

    The input of a layer was written, and its output will be read, by the neighbours in the
    network.  Whether it is still in a cache depends on what came between: the pictures of the
    whole batch, of which each thread has its part.  The same for every method.
    """
    images = max(1, ceil(batch * sharers / threads))
    return images * float(layer.input_bytes + layer.output_bytes) / sharers


def comes_back(chance: Counts, channels: float | Counts) -> tuple[Counts, Counts]:
    """Return how much of a block was looked at until a piece of it comes back, and how often.

    A channel looks at a piece with probability p. So it comes back after g channels with
    probability p (1 - p)^(g - 1), if there are as many; by then a share 1 - (1 - p)^g of the block
    was looked at. Uses beyond a share are those beyond the g that belongs to it, half a channel
    added because only whole ones are; they grow with p whatever the share is.

    What a channel touches besides is left to the caller, once: to say that more channels pass, the
    rarer the pieces are looked at, is true and would make fewer nonzeros slower where a block just
    fits a level. Counted traffic knows it.

    Parameters
    ----------
    chance : ndarray of shape (..., kinds)
        p of each kind of channel.
    channels : float or ndarray of shape (kinds,)
        That follow each other.

    Returns
    -------
    share : ndarray of shape (16, 1)
        Of the block.
    times : ndarray of shape (..., 16, kinds)
        Uses at each of the shares, for each channel and piece.
    """
    p = np.clip(chance[..., None, :], 1e-12, 1.0 - 1e-12)  # the limits, without a logarithm of 0
    missing = 1.0 - p
    gap = np.clip(_LOG_UNSEEN / np.log(missing) + 0.5, 1.0, channels + 1.0)
    left = channels + 1.0 - gap
    beyond = missing ** (gap - 1.0) * (left * p - 1.0 + missing**left) / channels
    beyond = np.maximum(beyond, 0.0)
    times = beyond.copy()
    times[..., :-1, :] -= beyond[..., 1:, :]
    return _SHARES, times


def copied_rows(rows: float | Counts, vectors: float | Counts) -> dict[str, Any]:
    """Return what a copy of rows takes besides its loads and stores; ``vectors`` of all rows."""
    return {
        "scalar_ops": _ROW_COPY_OPS * rows + vectors,
        "branches": _ROW_COPY_BRANCHES * rows + vectors,
    }


def im2col_phase(
    layer: Layer,
    *,
    target: Target,
    batch: int,
    threads: int,
    sharers: int,
    buffer_distance: float,
    kept: tuple[int, int] | None = None,
    own: tuple[int, ...] | None = None,
) -> Phase:
    """Copy the image into its lowered matrix; a tile is one row (c, r, s) of it.

    ``buffer_distance`` is what a thread touches until it writes the same buffer again; ``kept``
    are the rows and the input maps that structured sparsity leaves, by default all of them.
    ``own``: the output channels of each thread, if it lowers for itself.
    """
    rows, maps = kept or (layer.C * layer.R * layer.S, layer.C)
    pixels = float(layer.P * layer.Q)
    lanes = target.lanes
    line = anywhere(min(lanes, layer.Q), target)[0]
    if layer.stride == (1, 1) and layer.Q == layer.W:  # a shifted plane, its edges cleared
        vectors = float(ceil(pixels / lanes))
        cleared = sum(abs(s * layer.dilation[1] - layer.pad[1]) for s in range(layer.S)) / layer.S
        work = Work.of(
            loads_unaligned=vectors,
            loads_line_crossing=line * vectors,
            stores=vectors + cleared * layer.P,
            scalar_ops=PLANE_COPY_OPS + 2.0 * cleared * layer.P,
            branches=cleared * layer.P,
        )
    elif layer.stride[1] == 1:
        vectors = float(layer.P * ceil(layer.Q / lanes))
        work = Work.of(
            loads_unaligned=vectors,
            loads_line_crossing=line * vectors,
            stores=vectors,
            stores_line_crossing=line * vectors,
            scalar_ops=_MEMCPY_OPS * layer.P,
            branches=_MEMCPY_BRANCHES * layer.P,
        )
    else:  # one number at a time
        work = Work.of(scalar_loads=pixels, stores=pixels, scalar_ops=2.0 * pixels, branches=pixels)
    first = FLOAT_BYTES * float(layer.H * layer.W) * maps / max(1, rows)
    again = max(0.0, FLOAT_BYTES * pixels - first)
    plane = FLOAT_BYTES * float(layer.H * layer.W + layer.P * layer.Q)
    readers = sharers if own is not None else 1  # of the same lines of the picture
    return Phase(
        name="input",
        tiles=share(batch, threads, sharers, input_counts(rows, sharers, layer.groups, own)),
        work=work,
        streams=(
            # read by all who make a copy of it: as far as all of them touch
            stream("input", "read", first,
                   batch_distance(layer, batch, threads, sharers) * readers,
                   crossing=line, shared="image" if own is not None else "no"),
            stream("input", "read", again, plane, crossing=line),
            stream(
                "lowered input",
                "write",
                FLOAT_BYTES * pixels,
                buffer_distance,
                handed=handed(1 if own is not None else sharers, layer.groups).written,
            ),
        ),
    )  # fmt: skip
