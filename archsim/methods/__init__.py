"""One module per way of computing a layer; each turns layer, sparsity and target into a plan.

A module knows its loop order, blocking and data layout, and the native kernel of the same name
runs that very schedule with the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

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
from archsim.methods.sharing import Partition
from archsim.network import Layer
from archsim.plan import Plan, Target
from archsim.sparsity import Sparsity


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
    reason: Callable[[Layer, Sparsity], str | None]
    _plan: Callable[..., Plan]

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
    ) -> Plan:
        """Make the plan.

        ``partition`` says how output channels are cut among the threads that share an image
        (:func:`archsim.methods.sharing.cut`); dense methods cut them evenly, whatever it is,
        and ``structured`` by what is left; ``fc_sparse`` has no parts that threads take, and cuts
        by nonzeros there.

        Raises
        ------
        NotApplicableError
            The method cannot compute this layer; the text is the reason.
        InputError
            Unknown schedule.
        """
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
        cut = {} if self.dense else {"partition": partition}
        return self._plan(
            layer, sparsity, batch=batch, threads=threads, schedule=schedule, target=target, **cut
        )


def _method(module: object, *, dense: bool) -> Method:
    return Method(
        name=module.NAME,  # type: ignore[attr-defined]
        dense=dense,
        schedules=module.SCHEDULES,  # type: ignore[attr-defined]
        reason=module.reason,  # type: ignore[attr-defined]
        _plan=module.plan,  # type: ignore[attr-defined]
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
