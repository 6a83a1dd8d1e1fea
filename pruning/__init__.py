"""Pruning for a machine: which layers, how far, and what it gains.

::

    Machine, Network -> make_table -+-> find_targets -> as_document -> YAML, tables, page, exporters
       sensitivity curves, budgets -+

and magnitude pruning of weights at hand, which makes real patterns for predictions and native
runs: ``magnitude_prune``.
"""

from __future__ import annotations

if __name__ != "archsim.pruning":
    raise ImportError(
        "import archsim.pruning, not pruning (that name may belong to another distribution)"
    )

from archsim.pruning.budget import Budget, read_budget
from archsim.pruning.document import as_document, read_targets, write_yaml
from archsim.pruning.latency import read_table, write_table
from archsim.pruning.magnitude import magnitude_prune
from archsim.pruning.sensitivity import (
    Curve,
    Sensitivity,
    assumed_sensitivity,
    gaussian_energy,
    sensitivity_of_weights,
)
from archsim.pruning.sensitivity_file import load_sensitivity
from archsim.pruning.table import TimeTable, make_table
from archsim.pruning.targets import Targets, find_targets
from archsim.pruning.window import Window, find_window

__all__ = [
    "Budget", "Curve", "Sensitivity", "Targets", "TimeTable", "Window", "as_document",
    "assumed_sensitivity", "find_targets", "find_window", "gaussian_energy", "load_sensitivity",
    "magnitude_prune", "make_table", "read_budget", "read_table", "read_targets",
    "sensitivity_of_weights", "write_table", "write_yaml",
]  # fmt: skip
