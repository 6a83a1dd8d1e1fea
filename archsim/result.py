"""Result: seconds and what bounds them, whoever found out (closed form, simulator, native run)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

import archsim

SCHEMA: Final = 1

#: what a cell begins with that spreadsheets take for a formula (OWASP, "CSV Injection")
_FORMULA: Final = ("=", "+", "-", "@")

Model = Literal["park", "ecm", "simulator", "native"]


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """One phase of a result: ``input``, ``products`` or ``output``."""

    name: str
    seconds: float
    bound_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What one layer costs by one method on one machine.

    Attributes
    ----------
    seconds : float or None
        Time of the whole batch; None where the method does not apply (see ``reason``).
    seconds_low, seconds_high : float or None
        5th and 95th percentile of a measurement, 90 % interval of a prediction; None where there
        is none.
    bound_by : tuple of str
        What holds the time up, the largest first.
    bytes : mapping of str to float
        Bytes that each level hands to the level inside it, whole batch, all threads.
    traffic : str or None
        How transfers between levels were found: ``rule`` or ``counted``; None: not at all.
    max_error : float or None
        Largest difference to a float64 reference over its largest value, where one was made.
    baseline : callable or None
        Finds the name and the seconds of the dense baseline when it is first asked for.
    """

    network: str
    layer: str
    method: str
    schedule: str
    machine: str
    model: Model
    batch: int
    threads: int
    density: float
    density_domain: str
    seconds: float | None
    effective_flop: float
    actual_flop: float
    seconds_low: float | None = None
    seconds_high: float | None = None
    bound_by: tuple[str, ...] = ()
    bytes: Mapping[str, float] = field(default_factory=dict)
    phases: tuple[PhaseResult, ...] = ()
    isa: str | None = None
    seed: int = 0
    reason: str | None = None
    notes: tuple[str, ...] = ()
    traffic: Literal["rule", "counted"] | None = None
    max_error: float | None = None
    baseline: Callable[[], tuple[str, float] | None] | None = field(
        default=None, repr=False, compare=False
    )

    @property
    def effective_gflops(self) -> float | None:
        """GFLOP/s with the zeros counted as work done."""
        return None if not self.seconds else self.effective_flop / self.seconds / 1e9

    @property
    def actual_gflops(self) -> float | None:
        """GFLOP/s on nonzeros only."""
        return None if not self.seconds else self.actual_flop / self.seconds / 1e9

    @cached_property
    def _dense(self) -> tuple[str, float] | None:
        return self.baseline() if self.baseline is not None and self.seconds else None

    @property
    def dense_method(self) -> str | None:
        """Name of the dense method that the speedup is against."""
        return self._dense[0] if self._dense else None

    @property
    def speedup_over_dense(self) -> float | None:
        """Seconds of the best dense method, same machine, model, batch and threads, over ours."""
        if self._dense is None or not self.seconds:
            return None
        return self._dense[1] / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """Return the stable machine-readable form (schema 1)."""
        return {
            "network": self.network,
            "layer": self.layer,
            "method": self.method,
            "schedule": self.schedule,
            "machine": self.machine,
            "model": self.model,
            "batch": self.batch,
            "threads": self.threads,
            "density": self.density,
            "density_domain": self.density_domain,
            "seconds": self.seconds,
            "seconds_low": self.seconds_low,
            "seconds_high": self.seconds_high,
            "effective_gflops": self.effective_gflops,
            "actual_gflops": self.actual_gflops,
            "dense_method": self.dense_method,
            "speedup_over_dense": self.speedup_over_dense,
            "bound_by": list(self.bound_by),
            "bytes": dict(self.bytes),
            "phases": [
                {"name": p.name, "seconds": p.seconds, "bound_by": list(p.bound_by)}
                for p in self.phases
            ],
            "isa": self.isa,
            "seed": self.seed,
            "reason": self.reason,
        }


#: columns of the flat form (one row a result), in order; nested fields become text
ROW_COLUMNS: Final = (
    "network", "layer", "method", "schedule", "machine", "model", "batch", "threads", "density",
    "density_domain", "seconds", "seconds_low", "seconds_high", "effective_gflops",
    "actual_gflops", "dense_method", "speedup_over_dense", "bound_by", "bytes", "phases", "isa",
    "seed", "reason",
)  # fmt: skip


def as_row(result: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten one result in its machine-readable form for CSV or a data frame."""
    row = dict(result)
    row["bound_by"] = " ".join(result["bound_by"])
    row["bytes"] = " ".join(f"{level}={count:.0f}" for level, count in result["bytes"].items())
    row["phases"] = " ".join(f"{p['name']}={p['seconds']:.9g}" for p in result["phases"])
    return row


def no_formulas(row: Mapping[str, Any]) -> dict[str, Any]:
    """Mark text that a spreadsheet would run as a formula (names come from files) as text."""
    return {
        key: f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in _FORMULA else value
        for key, value in row.items()
    }


def document(
    results: Iterable[Result | Mapping[str, Any]], totals: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the JSON document of schema 1 for ``results``."""
    return {
        "schema": SCHEMA,
        "archsim": archsim.__version__,
        "results": [r.as_dict() if isinstance(r, Result) else dict(r) for r in results],
        "totals": dict(totals),
    }
