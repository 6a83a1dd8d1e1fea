"""Points of a validation suite: what was predicted beside what a witness says.

Errors are fractions of the witness's value; summaries count scored points only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

import numpy as np

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Point:
    """One prediction beside one witness.

    ``tolerance`` is in ``unit`` when ``tolerance_kind`` is absolute, a fraction when relative.
    ``split`` says whether the model's parameters were chosen with this point in view (seen).
    ``predicted_low`` and ``predicted_high`` hold 90 % of the witnesses, if the model is right about
    its own error; ``measured_low`` and ``measured_high`` are percentiles of a measurement.
    """

    figure: str
    machine: str
    network: str
    layer: str
    method: str
    sparsity: float | None
    quantity: str
    predicted: float
    measured: float
    unit: str
    tolerance: float | None
    tolerance_kind: Literal["absolute", "relative"]
    scored: bool
    variant: str
    split: Literal["seen", "unseen"]
    schedule: str = ""
    density_domain: str = "spatial"
    batch: int | None = None
    threads: int | None = None
    predicted_low: float | None = None
    predicted_high: float | None = None
    measured_low: float | None = None
    measured_high: float | None = None

    @property
    def error(self) -> float | None:
        """Signed error as a fraction of the witness's value; None where that is zero."""
        return (self.predicted - self.measured) / self.measured if self.measured else None

    @property
    def passed(self) -> bool | None:
        """Whether the point is within its tolerance; None where it is not scored."""
        if not self.scored or self.tolerance is None:
            return None
        off = abs(self.predicted - self.measured)
        allowed = self.tolerance * (
            abs(self.measured) if self.tolerance_kind == "relative" else 1.0
        )
        return off <= allowed

    @property
    def covered(self) -> bool | None:
        """Whether the witness's value lies in the prediction's interval; None without one."""
        if self.predicted_low is None or self.predicted_high is None:
            return None
        return self.predicted_low <= self.measured <= self.predicted_high

    def as_dict(self) -> dict[str, Any]:
        """Return the machine-readable form."""
        return {**asdict(self), "error": self.error, "passed": self.passed}


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite that ran."""

    name: str
    points: tuple[Point, ...]
    notes: tuple[str, ...] = field(default=())
    summary: Mapping[str, Any] = field(default_factory=dict)
    """What this suite sums up besides; keys of the document's summary."""
    by_split: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The same of seen and of unseen points alone."""

    def as_document(self) -> dict[str, Any]:
        """Return the JSON document of schema 1."""
        summary = summarise(self.points) | dict(self.summary)
        summary["by_split"] = {
            split: summarise([p for p in self.points if p.split == split])
            | dict(self.by_split.get(split, {}))
            for split in ("seen", "unseen")
        }
        methods = dict.fromkeys(p.method for p in self.points if p.scored)
        summary["by_method"] = {
            method: summarise([p for p in self.points if p.method == method]) for method in methods
        }
        return {
            "schema": SCHEMA,
            "suite": self.name,
            "points": [p.as_dict() for p in self.points],
            "summary": summary,
            "notes": list(self.notes),
        }


def summarise(points: Iterable[Point]) -> dict[str, Any]:
    """Return what a suite's summary says of some points; only scored ones count."""
    scored = [p for p in points if p.scored]
    errors = np.array([p.error for p in scored if p.error is not None])
    found: dict[str, Any] = {
        "points": len(scored),
        "failed": sum(p.passed is False for p in scored),
        "median_abs_error": None,
        "p90_abs_error": None,
        "max_abs_error": None,
        "mean_signed_error": None,
        "coverage": None,
    }
    if errors.size:
        size = np.abs(errors)
        found["median_abs_error"] = float(np.median(size))
        found["p90_abs_error"] = float(np.percentile(size, 90))
        found["max_abs_error"] = float(size.max())
        found["mean_signed_error"] = float(errors.mean())
    covered = [p.covered for p in scored if p.covered is not None]
    if covered:
        found["coverage"] = sum(covered) / len(covered)
    return found
