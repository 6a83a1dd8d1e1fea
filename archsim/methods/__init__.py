"""One module per way of computing a layer; each turns layer, sparsity and target into a plan.

A module knows its loop order, blocking and data layout, and the native kernel of the same name
runs that very schedule with the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from archsim.errors import NotApplicableError, input_error
from archsim.methods import (
    dense_direct,
    dense_gemm,
    direct_sparse,
    fc_dense,
    fc_sparse,
    lowered_sparse,
    sparse_winograd,
    structured,
    winograd,
)
from archsim.methods.sharing import Partition, alike_places
from archsim.network import Layer
from archsim.plan import Candidate, Plan, Target
from archsim.sparsity import Densities, Domain, Sparsity


@dataclass(frozen=True, slots=True)
class Method:
    """A way to compute a layer.

    Attributes
    ----------
    dense : bool
        Computes the zeros too: a candidate for the dense baseline.
    reason : callable
        Why the method does not apply to a layer and sparsity, or None.
    """

    name: str
    dense: bool
    schedules: tuple[str, ...]
    reason: Callable[[Layer, Sparsity | Densities], str | None]
    _plan: Callable[..., Plan]
    _blockings: Callable[..., list[Hashable]] | None = None
    _candidates: Callable[..., tuple[Candidate, ...]] | None = None

    def candidates(
        self, layer: Layer, schedule: str, *, batch: int, threads: int, target: Target
    ) -> tuple[Candidate, ...]:
        """Return what a schedule may be on a machine (:mod:`archsim.choice` takes the fastest).

        They do not depend on the density.  ``auto`` is every schedule, unless the method's module
        says otherwise.
        """
        if self._candidates is not None:
            return self._candidates(layer, schedule, batch, threads, target)
        if schedule != "auto":
            return (Candidate(schedule),)
        return tuple(Candidate(name) for name in self.schedules[1:])

    def plan(
        self,
        layer: Layer,
        sparsity: Sparsity,
        *,
        batch: int,
        threads: int,
        schedule: str,
        target: Target,
        partition: Partition = "nnz",
        blocks_for: float | None = None,
    ) -> Plan:
        """Make the plan.

        ``partition`` says how output channels are cut among the threads that share an image
        (:func:`archsim.methods.sharing.cut`); dense methods cut them evenly, whatever it is,
        and ``structured`` by what is left; ``fc_sparse`` has no parts that threads take, and cuts
        by nonzeros there.  ``blocks_for`` is a candidate's.

        Raises
        ------
        NotApplicableError
            The method cannot compute this layer; the text is the reason.
        InputError
            Unknown schedule.
        """
        if sparsity.weights is None:  # same target, same plan: other machines may have it too
            return _uniform(
                self.name, layer, sparsity.density, sparsity.domain, sparsity.label, batch,
                threads, schedule, target, partition, blocks_for,
            )  # fmt: skip
        return self._make(layer, sparsity, batch, threads, schedule, target, partition, blocks_for)

    def _make(
        self,
        layer: Layer,
        sparsity: Sparsity,
        batch: int,
        threads: int,
        schedule: str,
        target: Target,
        partition: Partition,
        blocks_for: float | None,
    ) -> Plan:
        self._check(layer, sparsity, schedule)
        cut: dict[str, Any] = {} if self.dense else {"partition": partition}
        if blocks_for is not None:
            cut["blocks_for"] = blocks_for
        return self._plan(
            layer, sparsity, batch=batch, threads=threads, schedule=schedule, target=target, **cut
        )

    def plan_densities(
        self,
        layer: Layer,
        densities: Densities,
        *,
        batch: int,
        threads: int,
        schedule: str,
        target: Target,
        partition: Partition = "nnz",
        blocks_for: float | None = None,
    ) -> list[tuple[list[int], Plan]]:
        """Make the plans of many densities: those of one blocking are one plan on arrays.

        Returns
        -------
        list of (places, Plan)
            Which densities a plan is of; a dense method's is of all.

        Other arguments and errors as for :meth:`plan`.
        """
        count = len(densities.density)
        given: dict[str, Any] = {
            "batch": batch, "threads": threads, "schedule": schedule, "target": target,
        }  # fmt: skip
        if self.dense:
            return [(list(range(count)), self.plan(layer, Sparsity(1.0), **given))]
        self._check(layer, densities, schedule)
        given["partition"] = partition
        if blocks_for is not None:
            given["blocks_for"] = blocks_for
        if partition == "dynamic":  # who takes which part depends on the nonzeros
            groups = [[place] for place in range(count)]
        elif self._blockings is None:
            groups = [list(range(count))]
        else:
            groups = alike_places(self._blockings(layer, densities, **given))
        return [
            (
                places,
                self._plan(
                    layer, Densities(densities.density[places], densities.domain),
                    **given,
                ),
            )
            for places in groups
        ]  # fmt: skip

    def _check(self, layer: Layer, sparsity: Sparsity | Densities, schedule: str) -> None:
        why = self.reason(layer, sparsity)
        if why is not None:
            raise NotApplicableError(why)
        if schedule not in self.schedules:
            raise input_error(
                f"schedule of {self.name}",
                "unknown schedule",
                found=schedule,
                allowed=", ".join(self.schedules),
                near=(schedule, self.schedules),
            )


def _method(module: object, *, dense: bool) -> Method:
    return Method(
        name=module.NAME,  # type: ignore[attr-defined]
        dense=dense,
        schedules=module.SCHEDULES,  # type: ignore[attr-defined]
        _candidates=getattr(module, "candidates", None),
        reason=module.reason,  # type: ignore[attr-defined]
        _plan=module.plan,  # type: ignore[attr-defined]
        _blockings=getattr(module, "blockings", None),
    )


METHODS: Final[Mapping[str, Method]] = {
    method.name: method
    for method in (
        _method(dense_gemm, dense=True),
        _method(dense_direct, dense=True),
        _method(winograd, dense=True),
        _method(lowered_sparse, dense=False),
        _method(direct_sparse, dense=False),
        _method(sparse_winograd, dense=False),
        _method(fc_dense, dense=True),
        _method(fc_sparse, dense=False),
        _method(structured, dense=False),
    )
}


@lru_cache(maxsize=256)
def _uniform(
    name: str, layer: Layer, density: float, domain: Domain, label: str, batch: int, threads: int,
    schedule: str, target: Target, partition: Partition, blocks_for: float | None,
) -> Plan:  # fmt: skip
    sparsity = Sparsity(density, domain=domain, label=label)
    return METHODS[name]._make(
        layer, sparsity, batch, threads, schedule, target, partition, blocks_for
    )


def get_method(name: str) -> Method:
    """Return a method by name.

    Raises
    ------
    InputError
        Unknown method.
    """
    try:
        return METHODS[name]
    except KeyError:
        raise input_error(
            "method",
            "unknown method",
            found=name,
            allowed=", ".join(["auto", *METHODS]),
            near=(name, METHODS),
        ) from None
