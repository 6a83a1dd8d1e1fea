"""What a training loop and a pruner agree on.

A loop calls :meth:`Pruner.before_step` between ``backward`` and ``optimizer.step``, and
:meth:`Pruner.after_step` behind it; the weights that the model holds between steps are always the
pruned ones.  A method is a subclass with two hooks: what it adds to the gradient of a layer, and
how it sets the layer's mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn

from archsim.errors import input_error
from archsim.sparsity import Domain

#: modules whose ``weight`` element-wise methods prune
PRUNABLE: Final = (nn.Conv2d, nn.Linear)


@dataclass(eq=False)
class PrunedLayer:
    """A layer that is pruned.

    Attributes
    ----------
    name : str
        Path of the module in the model.
    module : torch.nn.Module
    weight : torch.nn.Parameter
        What is pruned, of any shape.
    mask : Tensor of bool, shape of ``weight``
        True: kept.
    strength : float
        Factor on the method's regulariser in this layer.
    active : bool
        Still being pruned; else zeros of the mask are frozen, and nothing more is pruned.
    dense : Tensor, shape of ``weight``
        The weights of the start.
    extras : dict of str to Tensor
        What a method keeps for a layer; saved with it.
    """

    name: str
    module: nn.Module
    weight: nn.Parameter
    mask: Tensor
    domain: Domain = "spatial"
    strength: float = 1.0
    active: bool = True
    dense: Tensor = field(default_factory=lambda: torch.empty(0))
    extras: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of_module(
        cls, name: str, module: nn.Module, *, domain: Domain = "spatial", strength: float = 1.0
    ) -> PrunedLayer:
        """Return the layer of a module with a ``weight``, dense as yet."""
        weight = module.weight
        if not isinstance(weight, nn.Parameter):
            raise input_error(f"layer {name}", "has no weight to prune", found=type(module))
        mask = torch.ones_like(weight, dtype=torch.bool, requires_grad=False)
        dense = weight.detach().clone()
        return cls(name, module, weight, mask, domain, strength, dense=dense)

    @property
    def density(self) -> float:
        """Share of weights that the mask keeps."""
        return float(self.mask.sum()) / self.mask.numel()

    def apply_mask(self) -> None:
        """Set the weights to zero where the mask says so."""
        with torch.no_grad():
            self.weight.masked_fill_(~self.mask, 0.0)


def find_layers(
    model: nn.Module,
    layers: Iterable[str] | Mapping[str, float] | None = None,
    types: tuple[type[nn.Module], ...] = PRUNABLE,
) -> dict[str, PrunedLayer]:
    """Return layers of a model by module name.

    Parameters
    ----------
    model : torch.nn.Module
    layers : iterable of str, or mapping of str to float, optional
        Names, or names and strengths; None: every module of ``types``.
    types : tuple of module classes
        What can be pruned.

    Raises
    ------
    InputError
        A name without a module, a module of another type, or no layer at all.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    able = {name: module for name, module in modules.items() if isinstance(module, types)}
    wanted = able if layers is None else layers
    strengths = layers if isinstance(layers, Mapping) else {}
    found: dict[str, PrunedLayer] = {}
    for name in wanted:
        if name not in able:
            kind = type(modules[name]).__name__ if name in modules else None
            raise input_error(
                f"layer {name}", "no such module" if kind is None else "cannot be pruned",
                found=kind, allowed=", ".join(list(able)[:12]) or "the model has no layer to prune",
                near=(name, able),
            )  # fmt: skip
        found[name] = PrunedLayer.of_module(
            name, able[name], strength=float(strengths.get(name, 1.0))
        )
    if not found:
        raise input_error("layers", "the model has none to prune",
                          allowed=", ".join(kind.__name__ for kind in types))  # fmt: skip
    return found


class Pruner:
    """A method of pruning while a model trains.

    Subclasses override :meth:`regularise` and :meth:`prune`, each for one active layer.

    Attributes
    ----------
    layers : dict of str to PrunedLayer
    steps : int
        Optimizer steps so far.
    generator : torch.Generator
        The only source of randomness.
    """

    def __init__(self, layers: dict[str, PrunedLayer], *, seed: int = 0) -> None:
        self.layers = layers
        self.steps = 0
        self.generator = torch.Generator().manual_seed(seed)

    def regularise(self, layer: PrunedLayer) -> None:
        """Add the penalty's gradient to ``layer.weight.grad``."""

    def prune(self, layer: PrunedLayer) -> None:
        """Set ``layer.mask`` after a step; what it drops is set to zero by the caller."""

    def before_step(self) -> None:
        """Call between ``backward`` and ``optimizer.step``."""
        with torch.no_grad():
            for layer in self.layers.values():
                if layer.weight.grad is None:
                    continue
                if layer.active:
                    self.regularise(layer)
                else:
                    layer.weight.grad.masked_fill_(~layer.mask, 0.0)

    def after_step(self) -> None:
        """Call behind ``optimizer.step``, before gradients are cleared."""
        with torch.no_grad():
            for layer in self.layers.values():
                if layer.active:
                    self.prune(layer)
                layer.apply_mask()
        self.steps += 1

    def densities(self) -> dict[str, float]:
        """Return the share of nonzeros of each layer."""
        return {name: layer.density for name, layer in self.layers.items()}

    def stop(self, name: str) -> None:
        """Prune a layer no further; its zeros stay."""
        self.layers[name].active = False

    def restore(self, name: str) -> None:
        """Give a layer the dense weights of the start back, and prune it no further."""
        layer = self.layers[name]
        with torch.no_grad():
            layer.weight.copy_(layer.dense)
            layer.mask.fill_(True)
        layer.active = False

    def freeze(self) -> None:
        """Stop everywhere, for fine-tuning."""
        for name in self.layers:
            self.stop(name)

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values, which ``torch.load(weights_only=True)`` reads."""
        layers = {
            name: {
                "mask": layer.mask.clone(), "active": layer.active, "dense": layer.dense.clone(),
                "extras": {key: value.clone() for key, value in layer.extras.items()},
            }
            for name, layer in self.layers.items()
        }  # fmt: skip
        return {"steps": self.steps, "generator": self.generator.get_state(), "layers": layers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a state back; the model's weights are loaded by its own means.

        Raises
        ------
        InputError
            The state is of other layers or of other shapes.
        """
        rows = state["layers"]
        if set(rows) != set(self.layers):
            raise input_error("pruner state", "is of other layers", found=sorted(rows),
                              allowed=", ".join(sorted(self.layers)))  # fmt: skip
        for name, row in rows.items():
            layer = self.layers[name]
            if row["mask"].shape != layer.mask.shape:
                raise input_error(f"pruner state: {name}", "is of another shape",
                                  found=tuple(row["mask"].shape),
                                  allowed=str(tuple(layer.mask.shape)))  # fmt: skip
        for name, row in rows.items():
            layer = self.layers[name]
            layer.mask.copy_(row["mask"])
            layer.dense.copy_(row["dense"])
            layer.active = bool(row["active"])
            layer.extras = {key: value.clone() for key, value in row["extras"].items()}
        self.steps = int(state["steps"])
        self.generator.set_state(state["generator"])
