"""Native measurements of what the runs left, as parts of one document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from archsim.kernels import active_isa
from archsim.machinefile import load_machine
from archsim.network import Network
from archsim.pruning.table import TableModel, make_table
from archsim.pruning.window import find_window
from benchmarks.document import new
from benchmarks.proof.peers import race_network, squeezenet
from benchmarks.proof.times import PackedNetwork, choose, load_weights, time_networks

Say = Callable[[str], None]


def circumstances() -> dict[str, Any]:
    """Return date, machine, instruction set and versions."""
    found = new(0)
    kept = ("date", "machine", "system", "python", "versions")
    return {**{name: found[name] for name in kept}, "isa": active_isa()}


def time_runs(folder: Path, runs: Sequence[str], *, seconds: float, say: Say) -> dict[str, Any]:
    """Time runs of one model in turns, and the first of them by dense methods alone.

    Returns
    -------
    dict
        By run ``conv_s`` and so on (`time_networks`), and ``layers``: method, seconds when it was
        chosen, and those of the best dense method.  ``dense``: the first run's weights, every layer
        by its best dense method.
    """
    networks: dict[str, PackedNetwork] = {}
    layers: dict[str, dict[str, Any]] = {}
    for run in runs:
        chosen = [choose(layer, weights) for layer, weights in load_weights(folder / run).values()]
        if not networks:
            networks["dense"] = PackedNetwork(chosen, dense=True)
            layers["dense"] = {}
        networks[run] = PackedNetwork(chosen)
        layers[run] = {
            one.layer.name: {
                "method": one.name, "s": one.seconds, "dense_s": one.dense_seconds,
                "dense_method": one.dense.method if one.dense else None,
            }
            for one in chosen
        }  # fmt: skip
        say(f"{run}: methods chosen")
    times = time_networks(networks, min_seconds=seconds)
    for name, found in times.items():
        say(f"{name}: conv {found['conv_s'] * 1e6:.0f} us, all {found['network_s'] * 1e6:.0f} us")
    return {name: {**found, "layers": layers[name]} for name, found in times.items()}


def windows(network: Network) -> dict[str, dict[str, dict[str, Any]]]:
    """Return where pruning pays, by machine and layer: predicted, and measured on the host.

    One picture and one thread on the host, as the times are; all threads of Xeon Phi.
    """
    asked: tuple[tuple[str, str, TableModel, int | None], ...] = (
        ("host, predicted", "host", "ecm", 1),
        ("host, measured", "host", "native", 1),
        ("xeon-phi-7250, predicted", "xeon-phi-7250", "ecm", None),
    )
    found = {}
    for name, machine, model, threads in asked:
        told = load_machine(machine)
        table = make_table(network, told, model=model, batch=threads, threads=threads)
        found[name] = {
            times.layer.name: find_window(times, table, told).as_dict() for times in table
        }
    return found


def race_networks(
    folder: Path, runs: Sequence[str], *, threads: int, seconds: float, say: Say
) -> dict[str, list[dict[str, Any]]]:
    """Race SqueezeNet and pruned networks against dense products, layer by layer."""
    found = {"squeezenet": race_network(squeezenet(), threads=threads, seconds=seconds, say=say)}
    for run in runs:
        found[run] = race_network(
            load_weights(folder / run), threads=threads, seconds=seconds, say=say
        )
    return found
