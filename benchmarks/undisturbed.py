"""Native times of calls that no other work on the same cores disturbed, for the benchmarks."""

from __future__ import annotations

from typing import Any

from archsim.choice import fitted
from archsim.machine import Machine
from archsim.methods import get_method
from archsim.network import Layer
from archsim.predictors import by_native_interleaved
from archsim.quiet import Watch
from archsim.request import make_request
from archsim.sparsity import Sparsity


class Host:
    """This host, looked at before and after each call (:mod:`archsim.quiet`)."""

    def __init__(self, machine: Machine, threads: int, seconds: float) -> None:
        self.machine, self.threads, self._seconds = machine, threads, seconds
        self._watch = Watch(machine, threads)

    def measure(self, layer: Layer, pattern: Sparsity, **given: Any) -> tuple[float, bool] | None:
        """Return seconds, and whether enough calls were undisturbed; None: does not apply.

        ``given``: method, schedule, batch, and perhaps partition.
        """
        known = {"partition": "nnz", "batch": 1, "schedule": "auto", **given}
        if get_method(known["method"]).reason(layer, pattern) is not None:
            return None
        request = make_request(
            layer, self.machine, density=None, pattern=pattern, density_domain=pattern.domain,
            threads=self.threads, clock="sustained", isa=None, seed=0, model="native", **known,
        )  # fmt: skip
        (found,) = by_native_interleaved(
            [fitted(request)], min_seconds=self._seconds, check=False, watch=self._watch
        )
        assert found.seconds is not None, found.reason
        return found.seconds, "disturbed" not in found.notes
