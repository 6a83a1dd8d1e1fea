"""Budgets as people write them: shares of the dense network, or seconds, bytes and losses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from archsim.errors import input_error
from archsim.units import parse_quantity


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits that hold at once; None: no limit.

    Attributes
    ----------
    seconds : float or None
        Of the whole batch.
    bytes : float or None
        Of the weights: dense, or CSR where a layer is sparse.
    loss : float or None
        In the unit of the sensitivity curves.
    """

    seconds: float | None = None
    bytes: float | None = None
    loss: float | None = None

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return any(value is not None for value in (self.seconds, self.bytes, self.loss))

    def as_dict(self) -> dict[str, Any]:
        """Return the machine-readable form."""
        return {"seconds": self.seconds, "bytes": self.bytes, "loss": self.loss}


def read_budget(
    *,
    time: str | float | None = None,
    size: str | float | None = None,
    accuracy: str | float | None = None,
    dense_seconds: float,
    dense_bytes: float,
) -> Budget:
    """Read budgets.

    Parameters
    ----------
    time : str or float, optional
        ``50%`` of the best dense time, ``1.5 ms``, or seconds.
    size : str or float, optional
        ``10%`` of the dense weights' bytes, ``5 MB``, or bytes.
    accuracy : str or float, optional
        Loss in the unit of the sensitivity curves.
    dense_seconds, dense_bytes : float
        What shares are of.

    Raises
    ------
    InputError
        Not a number, not finite, or not above zero (a loss may be zero).
    """
    return Budget(
        _read("budget-time", time, dense_seconds, "time"),
        _read("budget-size", size, dense_bytes, "size"),
        _read("budget-accuracy", accuracy, None, None),
    )


def _read(name: str, given: str | float | None, whole: float | None, kind: str | None
          ) -> float | None:  # fmt: skip
    if given is None:
        return None
    text = str(given).strip()
    examples = {"time": "50%, 1.5 ms, or seconds", "size": "10%, 5 MB, or bytes"}
    allowed = examples.get(kind or "", "a number of at least 0")
    try:
        if text.endswith("%") and whole is not None:
            value = float(text[:-1]) / 100.0 * whole
        elif kind is not None and text[-1:].isalpha():
            value = parse_quantity(text, kind)
        else:
            value = float(text)
    except ValueError:
        raise input_error(name, "cannot be read", found=given, allowed=allowed) from None
    least_ok = value >= 0.0 if kind is None else value > 0.0
    if not (math.isfinite(value) and least_ok):
        rule = "at least 0" if kind is None else "above zero"
        raise input_error(name, f"must be finite and {rule}", found=given, allowed=allowed)
    return value
