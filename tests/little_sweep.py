"""A sweep of 8 points and 2 layers that takes no time, for several tests."""

from __future__ import annotations

from typing import Any

import archsim
from archsim.machinefile import load_machine
from archsim.network import load_network
from archsim.sweeps.found import Sweep

ALEXNET = load_network("alexnet")
ATOM = load_machine("atom-c2750")
BANDWIDTH = "memory.DDR.bandwidth"
SMALL: dict[str, Any] = {
    "layers": ["conv2", "conv3"], "vary": {BANDWIDTH: "10GB/s,40GB/s"}, "sparsities": "0.5,0.9",
    "batches": "1,8", "methods": "lowered_sparse", "schedule": "panels",
}  # fmt: skip


def small(**more: Any) -> Sweep:
    return archsim.sweep(ALEXNET, ATOM, **(SMALL | more))
