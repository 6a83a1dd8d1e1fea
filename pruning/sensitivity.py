"""Sensitivity: what a network loses when a layer loses the smallest of its weights.

A curve belongs to one layer and one domain.  Losses of layers add up; where they are measured that
is an assumption, where they are shares of energy it is so.  Sources, from best to least:

* the user's measurements, CSV or YAML (:func:`load_sensitivity`);
* weights alone (:func:`sensitivity_of_weights`): the energy that magnitude pruning removes, a
  proxy that knows nothing of data or of fine-tuning;
* nothing (:func:`assumed_sensitivity`): the same energy of Gaussian weights, in closed form.

In the last two, with e_i the share of layer i's energy that goes, ``loss = sum_i c_i e_i(s_i)``.
By default c_i is the layer's share of the network's weights, as if all had one variance; large
layers, that is fully connected ones, then count most.  ``per="layer"`` lets every layer count the
same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erfinv

from archsim.errors import input_error
from archsim.network import Layer
from archsim.sparsity import DOMAINS, Domain, LayerSparsities

Array = NDArray[np.float64]
Kind = Literal["given", "weights", "assumed"]
Per = Literal["weight", "layer"]

ASSUMED: Final = "energy of the smallest of Gaussian weights: assumed, not measured"
OF_WEIGHTS: Final = "energy that magnitude pruning removes: a proxy, not an accuracy"
_COUNTS: Final = {"weight": "weights of equal variance", "layer": "every layer counts the same"}


def gaussian_energy(sparsity: ArrayLike) -> Array:
    """Return the share of energy in the smallest ``sparsity`` of standard normal magnitudes.

    With q the quantile of \\|N(0, 1)\\| at s it is ``s - sqrt(2 / pi) q exp(-q^2 / 2)``, by partial
    integration of x^2 times the density from 0 to q.

    Parameters
    ----------
    sparsity : array_like, 0 to 1

    Returns
    -------
    ndarray of the same shape, float64, 0 to 1
    """
    share = np.asarray(sparsity, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # the quantile of 1 is infinite
        quantile = math.sqrt(2.0) * erfinv(share)
        energy = share - math.sqrt(2.0 / math.pi) * quantile * np.exp(-(quantile**2) / 2.0)
    found: Array = np.where(share >= 1.0, 1.0, np.maximum(energy, 0.0))
    return found


def removed_energy(weights: NDArray[np.floating], sparsity: ArrayLike) -> Array:
    """Return the share of the weights' energy in the smallest ``sparsity`` of them.

    Parameters
    ----------
    weights : ndarray of any shape
    sparsity : array_like, 0 to 1
        ``round((1 - sparsity) * size)`` weights stay, as with ``magnitude_prune``.
    """
    energy = np.sort(np.square(np.asarray(weights, dtype=np.float64)), axis=None)
    total = energy.sum()
    if total == 0.0:
        return np.zeros_like(np.asarray(sparsity, dtype=np.float64))
    removed = np.concatenate([[0.0], np.cumsum(energy)]) / total
    kept = np.round((1.0 - np.asarray(sparsity, dtype=np.float64)) * energy.size)
    found: Array = np.minimum(removed[(energy.size - kept).astype(np.intp)], 1.0)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Loss of one layer against sparsity, linear between its points.

    Attributes
    ----------
    sparsities, losses : ndarray of shape (points,)
        Sparsities rise, from 0; losses never fall.
    domain : {"spatial", "winograd"}
        Where the zeros are counted.
    """

    layer: str
    sparsities: Array
    losses: Array
    domain: Domain = "spatial"

    @classmethod
    def of_points(
        cls, layer: str, points: Iterable[tuple[float, float]], domain: Domain = "spatial",
        where: str = "sensitivity",
    ) -> Curve:  # fmt: skip
        """Check points (sparsity, loss); without one at sparsity 0 the loss there is 0.

        Raises
        ------
        InputError
            A sparsity outside 0..1, twice, or a loss that falls, is negative or not finite.
        """
        place = f"{where}: {layer}"
        if domain not in DOMAINS:
            raise input_error(f"{place}: domain", "unknown", found=domain,
                              allowed=", ".join(DOMAINS))  # fmt: skip
        rows = sorted(points)
        for sparsity, loss in rows:
            if not 0.0 <= sparsity <= 1.0:
                raise input_error(place, "sparsity must lie in 0..1", found=sparsity)
            if not (math.isfinite(loss) and loss >= 0.0):
                raise input_error(place, "a loss must be finite and at least 0", found=loss)
        if not rows or rows[0][0] > 0.0:
            rows.insert(0, (0.0, 0.0))
        for (before, less), (sparsity, loss) in pairwise(rows):
            if sparsity == before:
                raise input_error(place, "a sparsity is given twice", found=sparsity)
            if loss < less:
                raise input_error(
                    place, f"not monotone: the loss falls from {less:g} at sparsity {before:g} to "
                    f"{loss:g} at {sparsity:g}",
                )  # fmt: skip
        found = np.array(rows, dtype=np.float64)
        return cls(layer, found[:, 0], found[:, 1] - found[0, 1], domain)

    @property
    def greatest(self) -> float:
        """Greatest sparsity that the curve says anything of."""
        return float(self.sparsities[-1])

    def __call__(self, sparsity: ArrayLike) -> Array:
        """Return losses; NaN beyond the last point, of which nothing is known."""
        found: Array = np.interp(
            np.asarray(sparsity, np.float64), self.sparsities, self.losses, right=np.nan
        )
        return found


@dataclass(frozen=True)
class Sensitivity:
    """Curves of the layers that may be pruned; a layer without one stays dense.

    Attributes
    ----------
    curves : mapping of layer to {domain: Curve}
    kind : {"given", "weights", "assumed"}
    what : str
        What the loss is, for tables.
    """

    curves: Mapping[str, Mapping[Domain, Curve]] = field(default_factory=dict)
    kind: Kind = "assumed"
    what: str = ASSUMED
    source: str = ""

    def __getitem__(self, layer: str) -> Mapping[Domain, Curve]:
        return self.curves.get(layer, {})

    def as_dict(self) -> dict[str, str]:
        """Return what a document says of it."""
        return {"kind": self.kind, "what": self.what, "source": self.source}


def assumed_sensitivity(
    layers: Iterable[Layer], sparsities: ArrayLike, per: Per = "weight"
) -> Sensitivity:
    """Return Gaussian curves, with points at ``sparsities``; ``per`` says how layers count."""
    picked = list(layers)
    levels = _with_zero(sparsities)
    energy = gaussian_energy(levels)
    curves: dict[str, dict[Domain, Curve]] = {
        layer.name: {"spatial": Curve(layer.name, levels, energy * count)}
        for layer, count in zip(picked, _counts(picked, per), strict=True)
    }
    return Sensitivity(curves, "assumed", f"{ASSUMED}; {_COUNTS[per]}")


def _counts(layers: Sequence[Layer], per: Per) -> list[float]:
    if per not in _COUNTS:
        raise input_error("per", "unknown", found=per, allowed=", ".join(_COUNTS))
    counts = [float(layer.weights) if per == "weight" else 1.0 for layer in layers]
    return [count / sum(counts) for count in counts]


def sensitivity_of_weights(
    layers: Iterable[Layer],
    weights: LayerSparsities,
    sparsities: ArrayLike,
    per: Per = "weight",
) -> Sensitivity:
    """Return curves of the energy that magnitude pruning removes; Winograd's, too.

    Raises
    ------
    InputError
        A layer has no weights.
    """
    picked = list(layers)
    levels = _with_zero(sparsities)
    curves: dict[str, dict[Domain, Curve]] = {}
    for layer, count in zip(picked, _counts(picked, per), strict=True):
        given = weights[layer.name]
        if given.weights is None:
            raise input_error(
                f"weights {weights.label}", "no weights of a layer, which sensitivity needs",
                found=layer.name,
            )  # fmt: skip
        losses = removed_energy(given.weights, levels) * count
        curves[layer.name] = {given.domain: Curve(layer.name, levels, losses, given.domain)}
    return Sensitivity(curves, "weights", f"{OF_WEIGHTS}; {_COUNTS[per]}", weights.label)


def _with_zero(sparsities: ArrayLike) -> Array:
    found: Array = np.unique(np.append(np.asarray(sparsities, dtype=np.float64), 0.0))
    return found
