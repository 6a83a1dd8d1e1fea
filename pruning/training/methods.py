"""Methods by name, as ``archsim prune`` knows them.

A new one is a line of :data:`METHODS`: where its pruner is, and what the machine guides it by.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from torch import Tensor, nn

from archsim.errors import InputError, input_error
from archsim.pruning.training.guide import FcGoal, Groups, Guide
from archsim.pruning.training.guided import Guided
from archsim.pruning.training.protocol import Pruner
from archsim.pruning.training.winograd_relu import DENSITIES
from archsim.sparsity import Domain

_PACKAGE: Final = "archsim.pruning.training"
#: parameters of pruners that are no options of a method
_GIVEN: Final = ("model", "layers", "seed", "validation")
#: share of the pruning phase in which scheduled methods prune; the rest settles (a choice)
_ACTIVE_SHARE: Final = 0.75


def _nothing(steps: int) -> dict[str, Any]:  # noqa: ARG001 - the table below calls all alike
    return {}


def _dns(steps: int) -> dict[str, Any]:
    """Mask updates become half as likely by the middle of the phase, and end like gradual ones."""
    return {"gamma": 2.0 / steps, "until": max(1, round(_ACTIVE_SHARE * steps))}


def _gradual(steps: int) -> dict[str, Any]:
    return {"end": max(1, round(_ACTIVE_SHARE * steps)), "every": max(1, steps // 100)}


def _stages(steps: int) -> dict[str, Any]:
    """Maps, kernels and positions get a third of the active share each."""
    return {"every": max(1, round(_ACTIVE_SHARE * steps / 3))}


def _density_steps(steps: int) -> dict[str, Any]:
    return {"every": max(1, round(_ACTIVE_SHARE * steps / len(DENSITIES)))}


@dataclass(frozen=True)
class Method:
    """How a method is made.

    Attributes
    ----------
    pruner : str
        ``module:class`` in this package.
    summary : str
    guided : bool
        A machine decides which layers go on.
    fc : {"size", "time", "dense"}
        What fully connected layers are pruned for, where guided.
    groups : {"weights", "output-maps"}
        What is removed; predicted times are of that.
    domain : {"spatial", "winograd"}
        Where zeros are counted.
    defaults : callable
        Options that follow from the steps of the pruning phase, unless the user gives them.
    """

    pruner: str
    summary: str
    guided: bool = False
    fc: FcGoal = "size"
    groups: Groups = "weights"
    domain: Domain = "spatial"
    defaults: Callable[[int], Mapping[str, Any]] = _nothing

    def load(self) -> Callable[..., Pruner]:
        """Return the pruner's class."""
        module, _, name = self.pruner.partition(":")
        found: Callable[..., Pruner] = getattr(import_module(f"{_PACKAGE}.{module}"), name)
        return found

    def options(self) -> tuple[str, ...]:
        """Return the names that a user may set."""
        names = inspect.signature(self.load()).parameters
        return tuple(name for name in names if name not in _GIVEN)


_OF_MAPS: Final[dict[str, Any]] = {"groups": "output-maps"}
_WINOGRAD: Final[dict[str, Any]] = {"domain": "winograd", "fc": "dense"}

METHODS: Final[dict[str, Method]] = {
    "esl": Method("elementwise:ESL", "lasso and gradient-dependent thresholds"),
    "gesl": Method("elementwise:ESL", "esl, guided", guided=True),
    "dns": Method("elementwise:DNS", "dynamic network surgery, with splicing", defaults=_dns),
    "gdns": Method("elementwise:DNS", "dns, guided; fully connected layers stay dense",
                   guided=True, fc="dense", defaults=_dns),
    "gradual": Method("elementwise:Gradual", "magnitudes on a cubic schedule", defaults=_gradual),
    "ssl": Method("group_lasso:GroupLasso", "group lasso on filters, channels, columns",
                  **_OF_MAPS),
    "gssl": Method("group_lasso:GroupLasso", "ssl, guided", guided=True, **_OF_MAPS),
    "winograd": Method("winograd_prune:winograd_pruner", "lasso on Winograd's coefficients",
                       **_WINOGRAD),
    "gwinograd": Method("winograd_prune:winograd_pruner", "winograd, guided", guided=True,
                        **_WINOGRAD),
    "winograd_relu": Method("winograd_relu:DensitySteps", "Winograd layers with the ReLU inside, "
                            "in falling densities", defaults=_density_steps, **_WINOGRAD),
    "filters": Method("filters:FilterPruning", "filters of the smallest norm", **_OF_MAPS),
    "coarse": Method("coarse:CoarsePruning", "best of random masks of maps, kernels, positions",
                     defaults=_stages),
    "particle": Method("particle:ParticlePruning", "masks of maps, kernels, positions by a "
                       "particle filter", defaults=_stages),
}  # fmt: skip


def get_pruning_method(name: str) -> Method:
    """Return a method by name.

    Raises
    ------
    InputError
        There is none.
    """
    if name not in METHODS:
        raise input_error("method", "unknown", found=name, allowed=", ".join(METHODS),
                          near=(name, METHODS))  # fmt: skip
    return METHODS[name]


def make_pruner(
    name: str,
    model: nn.Module,
    *,
    steps: int,
    options: Mapping[str, Any] | None = None,
    layers: Iterable[str] | Mapping[str, float] | None = None,
    guide: Guide | None = None,
    validation: tuple[Tensor, Tensor] | None = None,
    every: int = 100,
    seed: int = 0,
) -> Pruner:
    """Return the pruner of a method for a model.

    Parameters
    ----------
    name : str
    model : torch.nn.Module
    steps : int
        Optimizer steps of the pruning phase.
    options : mapping, optional
        Of the pruner's class.
    layers : iterable of str, or mapping of str to strength, optional
    guide : Guide
        For guided methods.
    validation : (Tensor of shape (N, C, H, W), Tensor of shape (N,)), optional
        Pictures and labels for methods that try masks.
    every : int
        Steps between projections.
    seed : int

    Raises
    ------
    InputError
        Unknown method or option, a value that the pruner refuses, or no guide where one is due.
    """
    method = get_pruning_method(name)
    given = dict(options or {})
    allowed = method.options()
    for key in given:
        if key not in allowed:
            raise input_error(f"options of {name}", f"unknown key {key!r}",
                              allowed=", ".join(allowed), near=(key, allowed))  # fmt: skip
    merged = {**method.defaults(steps), **given}
    make = method.load()
    if "validation" in inspect.signature(make).parameters:
        merged["validation"] = validation
    try:
        pruner = make(model, layers, seed=seed, **merged)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"options of {name}: {' '.join(str(error).split())}") from error
    if not method.guided:
        return pruner
    if guide is None:
        raise input_error(f"method {name}", "is guided: a machine is due")
    return Guided(pruner, guide, every=every, not_before=steps // 2)
