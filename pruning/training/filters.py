"""Filters pruned by their L1 norm, and the smaller dense network that removed maps leave.

Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets" (ICLR 2017), section 3:
filters with the smallest sums of magnitudes go, with their output maps and the kernels that read
them.  Over several layers at once either each filter is ranked by itself (*independent*), or
kernels of maps that an earlier layer lost no longer count (*greedy*).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Literal, cast, get_args

import torch
from torch import Tensor, nn

from archsim.errors import input_error
from archsim.pruning.training.graph import Readers, find_readers
from archsim.pruning.training.protocol import Pruner, find_layers
from archsim.pruning.training.rounds import check_rounds, round_after
from archsim.pruning.training.structured_masks import compose, give_back

Order = Literal["greedy", "independent"]
ORDERS: Final = get_args(Order)


def filter_norms(weight: Tensor) -> Tensor:
    """Return the sum of magnitudes of each filter, shape (K,), of weights (K, ...)."""
    return weight.detach().abs().flatten(1).sum(dim=1)


def largest_filters(norms: Tensor, removed: int) -> Tensor:
    """Return which filters stay, shape (K,), bool: all but the ``removed`` smallest.

    Of equal ones the earlier goes.
    """
    kept = torch.ones_like(norms, dtype=torch.bool)
    kept[torch.argsort(norms, stable=True)[:removed]] = False
    return kept


def find_producers(
    model: nn.Module, wanted: Collection[str] | None, skip: Collection[str] = ()
) -> dict[str, Readers]:
    """Return the convolutions whose maps are to be removed, in the order in which they run.

    Parameters
    ----------
    model : Module
    wanted : collection of str, optional
        Default: all whose maps can be removed.
    skip : collection of str
        Names that keep their maps.

    Raises
    ------
    InputError
        A name that is no convolution, or whose maps cannot be removed; nothing is left.
    """
    readers, refused = find_readers(model)
    for name in (*(wanted or ()), *skip):
        if name not in readers and name not in refused:
            allowed = ", ".join(list(readers)[:12])
            raise input_error(f"layer {name}", "no such convolution", allowed=allowed,
                              near=(name, readers))  # fmt: skip
    for name in wanted or ():
        if name in refused:
            raise input_error(f"layer {name}", f"its maps must stay: {refused[name]}")
    chosen = {
        name: found
        for name, found in readers.items()
        if (wanted is None or name in wanted) and name not in skip
    }
    if not chosen:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(refused.items())[:4])
        raise input_error("layers", f"none has maps that can be removed ({why or 'all skipped'})")
    return chosen


class FilterPruning(Pruner):
    """Filters by L1 norm, in one round or several; the loop retrains in between.

    Parameters
    ----------
    model : Module
        Followed by ``torch.fx``: only convolutions whose maps go straight to other layers can
        lose them (in a residual block the first convolution can, the last cannot).
    layers : iterable of str, or mapping of str to float, optional
        Names, or names and shares; default: every convolution that can.
    ratio : float
        Share of the filters to remove, 0 to below 1, of layers without one of their own.
    order : {"greedy", "independent"}
    skip : collection of str
        Sensitive layers, which keep all filters.
    rounds, every : int
        Rounds in which the share grows evenly, and steps from one to the next; the first comes
        after the first step.
    seed : int
        Unused: nothing is random here.

    Attributes
    ----------
    readers : dict of str to Readers
        Of each layer whose filters go; `layers` holds those readers, too.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Iterable[str] | Mapping[str, float] | None = None,
        *,
        ratio: float = 0.5,
        order: Order = "greedy",
        skip: Collection[str] = (),
        rounds: int = 1,
        every: int = 1,
        seed: int = 0,
    ) -> None:
        if order not in ORDERS:
            raise input_error("order", "unknown", found=order, allowed=", ".join(ORDERS))
        check_rounds(every, rounds)
        self.readers = find_producers(model, None if layers is None else list(layers), skip)
        own = layers if isinstance(layers, Mapping) else {}
        self.ratios = {name: float(own.get(name, ratio)) for name in self.readers}
        for name, share in self.ratios.items():
            if not 0.0 <= share < 1.0:
                raise input_error(f"ratio of {name}", "must lie in 0..1, below 1", found=share)
        self.order, self.rounds, self.every = order, rounds, every
        super().__init__(find_layers(model, with_readers(self.readers)), seed=seed)

    def after_step(self) -> None:
        """Remove the filters of a round that is due; keep what is gone at zero."""
        due = round_after(self.steps + 1, self.every, self.rounds)
        if due is not None:
            self._remove(due / self.rounds)
        super().after_step()

    def _remove(self, share: float) -> None:
        masked = {name: layer.weight * layer.mask for name, layer in self.layers.items()}
        norms = {name: filter_norms(masked[name]) for name in self.readers}
        for name, ratio in self.ratios.items():
            layer = self.layers[name]
            if not layer.active:
                continue
            if self.order == "greedy":  # without what the layers before lost just now
                norms[name] = filter_norms(layer.weight * layer.mask)
            gone = ~layer.extras.get("outputs", torch.ones_like(norms[name], dtype=torch.bool))
            removed = min(round(ratio * share * len(gone)), len(gone) - 1)
            layer.extras["outputs"] = largest_filters(
                norms[name].masked_fill(gone, -1.0), max(removed, int(gone.sum()))
            )
            compose(self.layers, self.readers)

    def restore(self, name: str) -> None:
        """Give a layer its filters back, and what reads their maps."""
        give_back(name, self.layers, self.readers)
        self.stop(name)


def with_readers(readers: Mapping[str, Readers]) -> list[str]:
    """Return names of layers and of all that read their maps, each once."""
    return list(dict.fromkeys(n for name, found in readers.items() for n in (name, *found.layers)))


def shrink(model: nn.Module) -> tuple[nn.Module, dict[str, int]]:
    """Return a copy of a model without the maps that nobody reads.

    A map goes where all kernels that read it are zero, so what the model computes stays the same
    (up to the order of sums); at least one map of a layer stays.  Layers with groups keep theirs.

    Returns
    -------
    (Module, dict of str to int)
        The smaller model, and the maps that each layer kept, where some went.

    Raises
    ------
    InputError
        ``torch.fx`` cannot trace the model.
    """
    smaller = copy.deepcopy(model)
    readers, _ = find_readers(smaller)
    left: dict[str, int] = {}
    for name, found in reversed(readers.items()):  # what a removed map read may go, too
        maker = cast(nn.Conv2d, smaller.get_submodule(name))
        modules = [smaller.get_submodule(reader) for reader in found.layers]
        if maker.groups > 1 or any(getattr(module, "groups", 1) > 1 for module in modules):
            continue
        maps = maker.out_channels
        reads = [m.weight.detach().reshape(len(m.weight), maps, -1) for m in modules]  # type: ignore[arg-type, operator, unused-ignore]
        kept = torch.stack([(weights != 0).any(dim=2).any(dim=0) for weights in reads]).any(dim=0)
        if kept.all():
            continue
        kept[0] |= not kept.any()
        left[name] = int(kept.sum())
        _take(maker, kept, 0)
        for other in found.between:
            _take(smaller.get_submodule(other), kept, 0)
        for module in modules:
            pixels = module.in_features // maps if isinstance(module, nn.Linear) else 1
            _take(module, kept.repeat_interleave(pixels), 1)
    return smaller, left


def _take(module: nn.Module, kept: Tensor, axis: int) -> None:
    """Leave only what ``kept`` says of a module's tensors, along an axis of its maps."""
    count = int(kept.sum())
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.ndim <= axis:  # a count of batches; a bias, when inputs go
            continue
        chosen = value.detach()[(slice(None),) * axis + (kept,)].clone()
        if isinstance(value, nn.Parameter):
            setattr(module, name, nn.Parameter(chosen, requires_grad=value.requires_grad))
        else:
            setattr(module, name, chosen)
    for name in _SIZES.get((type(module), axis), ()):
        setattr(module, name, count)


#: attributes that tell sizes, by kind of module and axis of its weights
_SIZES: Final[Mapping[tuple[type[nn.Module], int], tuple[str, ...]]] = {
    (nn.Conv2d, 0): ("out_channels",),
    (nn.Conv2d, 1): ("in_channels",),
    (nn.Linear, 1): ("in_features",),
    (nn.BatchNorm2d, 0): ("num_features",),
}
