"""Predictions against witnesses: what others published, and what this host runs.

A suite is a list of points; see :class:`Point`.  :func:`run_suite` runs one by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from archsim.errors import input_error
from archsim.validate.incore import incore
from archsim.validate.native import native
from archsim.validate.points import SCHEMA, Point, Suite
from archsim.validate.projections import projections
from archsim.validate.published import published
from archsim.validate.rule import rule
from archsim.validate.traffic import traffic

__all__ = [
    "SCHEMA", "SUITES", "Point", "Suite", "incore", "native", "projections", "published",
    "rule", "run_suite", "traffic",
]  # fmt: skip

SUITES: Final[Mapping[str, Callable[..., Suite]]] = {
    "projections": projections,
    "published": published,
    "incore": incore,
    "native": native,
    "traffic": traffic,
    "rule": rule,
}


def run_suite(name: str, **arguments: Any) -> Suite:
    """Run a suite by name, with the arguments of its function.

    Raises
    ------
    InputError
        Unknown suite.
    """
    if name not in SUITES:
        raise input_error(
            "suite", "unknown suite", found=name, allowed=", ".join(SUITES), near=(name, SUITES)
        )
    return SUITES[name](**arguments)
