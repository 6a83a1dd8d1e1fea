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
from archsim.pruning.training.data import Dataset
from archsim.pruning.training.guide import FcGoal, Groups, Guide
from archsim.pruning.training.guided import Guided
from archsim.pruning.training.protocol import Pruner
from archsim.pruning.training.winograd_relu import DENSITIES

_PACKAGE: Final = "archsim.pruning.training"
#: parameters of pruners that are no options of a method
_GIVEN: Final = ("model", "layers", "seed", "validation")
#: share of the pruning phase in which scheduled methods prune; the rest settles (a choice)
_ACTIVE_SHARE: Final = 0.75
#: training pictures on which masks are tried (a choice)
_VALIDATION_PICTURES: Final = 256


def _nothing(steps: int) -> dict[str, Any]:  # noqa: ARG001 - the table below calls all alike
    return {}


def _dns(steps: int) -> dict[str, Any]:
    """Mask updates become half as likely by the middle of the phase, and end like gradual ones."""
    return {"gamma": 2.0 / steps, "until": max(1, round(_ACTIVE_SHARE * steps))}


def _gradual(steps: int) -> dict[str, Any]:
    return {"end": max(1, round(_ACTIVE_SHARE * steps)), "every": max(1, steps // 100)}


def _stages(steps: int) -> dict[str, Any]:
    """Maps, kernels and positions take a third of the active share each."""
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
        What is removed, where guided.
    defaults : callable
        Options that follow from the steps of the pruning phase, unless the user gives them.
    winograd : bool
        Coefficients of Winograd's domain are pruned.
    validates : bool
        Tries masks on training pictures: the test pictures stay unseen.
    """

    pruner: str
    summary: str
    guided: bool = False
    fc: FcGoal = "size"
    groups: Groups = "weights"
    defaults: Callable[[int], Mapping[str, Any]] = _nothing
    winograd: bool = False
    validates: bool = False

    def load(self) -> Callable[..., Pruner]:
        """Return the pruner's class."""
        module, _, name = self.pruner.partition(":")
        found: Callable[..., Pruner] = getattr(import_module(f"{_PACKAGE}.{module}"), name)
        return found

    def options(self) -> tuple[str, ...]:
        """Return the names that a user may set."""
        names = inspect.signature(self.load()).parameters
        return tuple(name for name in names if name not in _GIVEN)


METHODS: Final[dict[str, Method]] = {
    "esl": Method("elementwise:ESL", "lasso and gradient-dependent thresholds"),
    "dns": Method("elementwise:DNS", "dynamic network surgery, with splicing", defaults=_dns),
    "gradual": Method("elementwise:Gradual", "magnitudes on a cubic schedule", defaults=_gradual),
    "gesl": Method("elementwise:ESL", "esl, guided", guided=True),
    "gdns": Method("elementwise:DNS", "dns, guided; fully connected layers stay dense",
                   guided=True, fc="dense", defaults=_dns),
    "winograd": Method("winograd_prune:winograd_pruner", "lasso on Winograd coefficients, "
                       "thresholds by gradient and position", winograd=True),
    "winograd_relu": Method("winograd_relu:DensitySteps", "largest Winograd coefficients of layers "
                            "with the ReLU inside, in falling densities",
                            defaults=_density_steps, winograd=True),
    "filters": Method("filters:FilterPruning", "filters with the smallest L1 norms"),
    "coarse": Method("coarse:CoarsePruning", "the best of random masks of maps, kernels, positions",
                     defaults=_stages, validates=True),
    "particle": Method("particle:ParticlePruning", "masks of maps, kernels, positions by a "
                       "particle filter", defaults=_stages, validates=True),
    "ssl": Method("group_lasso:GroupLasso", "lasso on filters, channels, kernel columns"),
    "gssl": Method("group_lasso:GroupLasso", "ssl, guided", guided=True, groups="output-maps"),
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
    every: int = 100,
    seed: int = 0,
    data: Dataset | None = None,
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
    every : int
        Steps between projections.
    seed : int
    data : Dataset
        For methods that try masks.

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
    if method.validates:
        if data is None:
            raise input_error(f"method {name}", "tries masks: data is due")
        merged["validation"] = _validation(data)
    try:
        pruner = method.load()(model, layers, seed=seed, **merged)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"options of {name}: {' '.join(str(error).split())}") from error
    if not method.guided:
        return pruner
    if guide is None:
        raise input_error(f"method {name}", "is guided: a machine is due")
    return Guided(pruner, guide, every=every, not_before=steps // 2)


def _validation(data: Dataset) -> tuple[Tensor, Tensor]:
    """Return pictures from all over the training set, as a model gets them, and their labels."""
    step = max(1, len(data.train_x) // _VALIDATION_PICTURES)
    return data.scaled(data.train_x[::step]), data.train_y[::step]
