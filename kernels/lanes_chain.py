"""Layers that stay in lane layout: the picture is brought in once, and the last result out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from threading import Lock
from typing import Final

from archsim.kernels import _native
from archsim.kernels.aligned import aligned_empty
from archsim.kernels.checks import FloatArray
from archsim.kernels.direct_lanes import DirectSparseLanes
from archsim.kernels.packed import check_out, check_x, renew_lock_in_child

_MODES: Final = ("flat", "tiles", "images")
_SAME: Final = (
    "lanes", "mode", "grid_rows", "grid_columns", "tile_rows", "tile_columns", "threads_per_image",
)  # fmt: skip


class LanesChain:
    """Consecutive sparse convolutions that hand their output on in lane layout.

    A layer's output is the next one's input, bias and ReLU done. Its sums are *spread* over the
    next layer's slabs, the halo with its lanes in another order (lanes_link.py). Only the first
    layer brings pictures into lane layout, only the last one brings them out. A chain of one layer
    is that layer.

    Slabs are made *whole*, by the layer that computes, as soon as sums are ready; or the next layer
    makes them, a block of slabs at a time and only what a register block looks at, in a buffer that
    stays in the first-level cache. What register blocks share is then made again for each of them.

    The layers' packed weights are shared, buffers are the chain's own: a layer may be in several
    chains, or more than once in one, and may run by itself at the same time. Runs of one chain
    from several Python threads follow one another. Objects pickle.

    Parameters
    ----------
    layers : sequence of DirectSparseLanes
        At least one, each with

        * mode "flat", "tiles" or "images",
        * stride 1 and outputs of the size of the inputs (all layers the same size),
        * as many channels as the layer before has output channels,
        * instruction set, threads and threads_per_image of the first layer,
        * partition "nnz" or "rows": who computes what is settled beforehand,
        * grid, tile and, "flat", plane_pitch of the first layer's blocking: at "flat" all layers
          take the pitch of the one that needs the largest.

        Kernels, dilation, groups, register blocks, slab blocks, bias and relu may differ.
    whole : sequence of bool, optional
        Of each layer but the last, whether it makes the next one's slabs whole. None: where the
        next one has several register blocks.

    Raises
    ------
    ValueError, TypeError
        For layers that are not as said here; the message names the layer.
    """

    def __init__(
        self, layers: Sequence[DirectSparseLanes], *, whole: Sequence[bool] | None = None
    ) -> None:
        self.layers = _checked(layers)
        if whole is None:
            whole = [len(layer.layout.block) > 1 for layer in self.layers[1:]]
        self.whole = tuple(map(bool, whole))
        if len(self.whole) != len(self.layers) - 1:
            raise ValueError(
                f"whole: must have {len(self.layers) - 1} values, one of each layer but the last; "
                f"got {len(self.whole)}"
            )
        first, last = self.layers[0], self.layers[-1]
        self.isa = first.isa
        """Name of the instruction set that runs."""
        self.threads = first.threads
        shape, end = first.shape, last.shape
        self._x_shape = (shape.channels, shape.height, shape.width)
        self._out_shape = (end.out_channels, end.out_h, end.out_w)
        self._lock = Lock()
        renew_lock_in_child(self)
        self._seconds = [(0.0, 0.0, 0.0)] * len(self.layers)
        links = [
            layer.linked_to(following, whole=each)
            for (layer, following), each in zip(pairwise(self.layers), self.whole, strict=True)
        ]
        self._native = _native.LanesChain(
            [layer.native for layer in self.layers],
            links,
            buffers_of_links(self.layers, self.whole),
        )

    @property
    def layer_seconds(self) -> tuple[dict[str, float], ...]:
        """Seconds of the last run, of each layer and phase, the most of any thread.

        The time to spread sums over slabs is ``output`` of a layer that makes them whole, else
        ``input`` of the next one. No waiting in it.
        """
        names = ("input", "products", "output")
        return tuple(dict(zip(names, seconds, strict=True)) for seconds in self._seconds)

    @property
    def phase_seconds(self) -> dict[str, float]:
        """Seconds of the last run in each phase, over all layers; "spread" is between layers."""
        layers = self.layer_seconds
        return {
            "input": layers[0]["input"],
            "spread": sum(layer["input"] for layer in layers[1:])
            + sum(layer["output"] for layer in layers[:-1]),
            "products": sum(layer["products"] for layer in layers),
            "output": layers[-1]["output"],
        }

    def run(self, x: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Return the last layer's output of a batch.

        Parameters
        ----------
        x : ndarray of shape (N, C, H, W), float32, C-contiguous
            Input of the first layer.
        out : ndarray of shape (N, K, H, W), float32, C-contiguous, optional
            Where to write; must not share memory with x. None: a new array.

        Returns
        -------
        ndarray of shape (N, K, H, W), float32
            *out*, if it was given.
        """
        check_x(x, self._x_shape)
        if out is None:
            out = aligned_empty((x.shape[0], *self._out_shape))
        else:
            check_out(out, x, self._out_shape)
        with self._lock:
            self._seconds = self._native.run(x, out)
        return out

    def __len__(self) -> int:
        return len(self.layers)

    def __reduce__(
        self,
    ) -> tuple[Callable[..., LanesChain], tuple[tuple[DirectSparseLanes, ...]]]:
        return partial(type(self), whole=self.whole), (self.layers,)

    def __repr__(self) -> str:
        shapes = ", ".join(str(layer.shape) for layer in self.layers)
        nonzeros = sum(layer.nnz for layer in self.layers)
        return (
            f"<LanesChain of {len(self)} layers ({shapes}): {nonzeros} nonzeros, isa {self.isa}, "
            f"threads {self.threads}>"
        )


def _checked(layers: Sequence[DirectSparseLanes]) -> tuple[DirectSparseLanes, ...]:
    found = tuple(layers)
    if not found:
        raise ValueError("layers: must be at least one; got none")
    for i, layer in enumerate(found):
        if not isinstance(layer, DirectSparseLanes):
            raise TypeError(f"layers[{i}]: must be a DirectSparseLanes; got {type(layer).__name__}")
        _check_layer(f"layers[{i}]", layer)
    for i, (before, layer) in enumerate(pairwise(found), start=1):
        _check_pair(f"layers[{i}]", before, layer, found[0])
    return found


def _check_layer(where: str, layer: DirectSparseLanes) -> None:
    shape, mode = layer.shape, layer.blocking["mode"]
    if mode not in _MODES:
        raise ValueError(
            f"{where}.blocking['mode']: must be one of {_MODES}, whose output can be passed on; "
            f"got {mode!r}"
        )
    if layer.blocking["partition"] == "dynamic":
        raise ValueError(
            f"{where}.blocking['partition']: a chain's threads take no parts at run time; "
            "got 'dynamic'"
        )
    if shape.stride != (1, 1):
        raise ValueError(f"{where}.shape.stride: must be (1, 1); got {shape.stride}")
    size, out = (shape.height, shape.width), (shape.out_h, shape.out_w)
    if size != out:
        raise ValueError(f"{where}.shape: outputs must be of the inputs' size {size}; got {out}")


def _check_pair(
    where: str, before: DirectSparseLanes, layer: DirectSparseLanes, first: DirectSparseLanes
) -> None:
    for name in ("isa", "threads"):
        _check_same(f"{where}.{name}", getattr(layer, name), getattr(first, name))
    if layer.shape.channels != before.shape.out_channels:
        raise ValueError(
            f"{where}.shape.channels: must be the {before.shape.out_channels} output channels of "
            f"the layer before; got {layer.shape.channels}"
        )
    for name in ("height", "width"):
        _check_same(f"{where}.shape.{name}", getattr(layer.shape, name), getattr(first.shape, name))
    flat = first.blocking["mode"] == "flat"
    for key in (*_SAME, *(("plane_pitch",) if flat else ())):
        _check_same(f"{where}.blocking[{key!r}]", layer.blocking[key], first.blocking[key])


def _check_same(where: str, got: object, right: object) -> None:
    if got != right:
        raise ValueError(f"{where}: must be {right!r}, as in layers[0]; got {got!r}")


def buffers_of_links(layers: Sequence[DirectSparseLanes], whole: Sequence[bool]) -> list[int]:
    """Return which buffer each link has; later links take those of earlier ones.

    A layer reads one link's while it writes the next link's. Whole slabs may only be where the same
    vectors stay 0: those around the picture, where the kernel reaches.
    """
    alike = [
        each
        and (
            layer.layout.in_rows,
            layer.layout.in_columns,
            layer.layout.slab_pitch,
            layer.shape.pad,
        )
        for layer, each in zip(layers[1:], whole, strict=True)
    ]
    slots: list[int] = []
    last: dict[int, int] = {}  # buffer: the last link that has it
    for i, key in enumerate(alike):
        free = (slot for slot, user in last.items() if user < i - 1 and alike[user] == key)
        slots.append(next(free, len(last)))
        last[slots[-1]] = i
    return slots
