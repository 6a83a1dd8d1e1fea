"""archsim: how sparse convolutional networks run on real and imagined processors.

A layer, its sparsity, a method of computing it and a machine make a plan; a plan can be
predicted (closed form), simulated (discrete events) or measured (native kernels on this host).

Names are imported when first used, so that ``import archsim`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archsim.api import make_plan, measure, predict, simulate
    from archsim.errors import ArchsimError, HostMismatchError, InputError, NotApplicableError
    from archsim.explanation import Explanation, explain
    from archsim.grid import Grid, predict_grid
    from archsim.layerchain import (
        ChainResult,
        chain,
        chains,
        measure_chain,
        plan_chain,
        predict_chain,
    )
    from archsim.machine import Machine
    from archsim.machinefile import load_machine, machine_names
    from archsim.network import Layer, Network, load_network, network_names
    from archsim.plan import Plan, Target
    from archsim.result import Result
    from archsim.simulation import NetworkSimulation, simulate_network
    from archsim.simulator.layer import SimulationStuckError
    from archsim.simulator.scenario import Scenario, load_scenario
    from archsim.simulator.timeline import Recorder
    from archsim.sparsity import Sparsity, load_sparsity
    from archsim.study import run_study
    from archsim.sweeps.found import Sweep
    from archsim.sweeps.run import sweep
    from archsim.torchnetwork import from_torch
    from archsim.variation import vary

# name -> module; the table of contents of the public API
_PUBLIC = {
    # nouns
    "Machine": "machine",
    "Layer": "network",
    "Network": "network",
    "Sparsity": "sparsity",
    "Plan": "plan",
    "Target": "plan",
    "Result": "result",
    "Grid": "grid",
    "Explanation": "explanation",
    "ChainResult": "layerchain",
    "NetworkSimulation": "simulation",
    "Recorder": "simulator.timeline",
    "Scenario": "simulator.scenario",
    "Sweep": "sweeps.found",
    # loading
    "load_machine": "machinefile",
    "machine_names": "machinefile",
    "vary": "variation",
    "load_network": "network",
    "network_names": "network",
    "from_torch": "torchnetwork",
    "load_sparsity": "sparsity",
    "load_scenario": "simulator.scenario",
    # verbs
    "make_plan": "api",
    "predict": "api",
    "predict_grid": "grid",
    "explain": "explanation",
    "simulate": "api",
    "simulate_network": "simulation",
    "measure": "api",
    "chains": "layerchain",
    "chain": "layerchain",
    "plan_chain": "layerchain",
    "predict_chain": "layerchain",
    "measure_chain": "layerchain",
    "run_study": "study",
    "sweep": "sweeps.run",
    # errors
    "ArchsimError": "errors",
    "InputError": "errors",
    "NotApplicableError": "errors",
    "HostMismatchError": "errors",
    "SimulationStuckError": "simulator.layer",
}

__version__ = "0.1.0"
__all__ = [
    "ArchsimError", "ChainResult", "Explanation", "Grid", "HostMismatchError", "InputError",
    "Layer", "Machine", "Network", "NetworkSimulation", "NotApplicableError", "Plan", "Recorder",
    "Result", "Scenario", "SimulationStuckError", "Sparsity", "Sweep", "Target", "__version__",
    "chain", "chains", "explain", "from_torch", "load_machine", "load_network", "load_scenario",
    "load_sparsity", "machine_names", "make_plan", "measure", "measure_chain", "network_names",
    "plan_chain", "predict", "predict_chain", "predict_grid", "run_study", "simulate",
    "simulate_network", "sweep", "vary",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    try:
        module = _PUBLIC[name]
    except KeyError:
        raise AttributeError(f"module 'archsim' has no attribute {name!r}") from None
    value = getattr(import_module(f"archsim.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
