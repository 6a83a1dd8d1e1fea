"""What would have to be true for a measurement to be right: an error, by terms."""

from __future__ import annotations

from typing import Any, Final

from archsim.analytic.ecm import evaluate
from archsim.analytic.rates import BARRIER, CALL
from archsim.request import Request

_LEAST: Final = 0.05  # terms with a smaller share of the prediction are not named


def needed(request: Request, measured_seconds: float) -> list[dict[str, Any]]:
    """Return the terms that make a prediction of ``ecm``, the largest first.

    Returns
    -------
    list of dict
        ``term``; ``seconds`` of it that show; ``times``: what its cost would have to be multiplied
        by, all others as they are, for the measurement to be right; None where no cost would do,
        for the others alone take longer.
    """
    found = evaluate(request.plan(), request.machine, isa=request.isa, clock=request.clock)
    seconds: dict[str, float] = {}
    for name, part in zip(found.cost.terms, found.parts.sum(axis=1).tolist(), strict=True):
        seconds[name] = seconds.get(name, 0.0) + part
    seconds[BARRIER] = seconds.get(BARRIER, 0.0) + found.join_seconds
    seconds[CALL] = seconds.get(CALL, 0.0) + found.call_seconds
    total = sum(seconds.values())
    rows = []
    for name in sorted(seconds, key=lambda name: -seconds[name]):
        shown = seconds[name]
        if shown >= _LEAST * total:
            times = 1.0 + (measured_seconds - total) / shown
            rows.append({"term": name, "seconds": shown, "times": times if times > 0 else None})
    return rows
