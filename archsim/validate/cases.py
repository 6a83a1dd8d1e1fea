"""What ``validate native`` runs: layers, settings, and the contestants of each.

A group is one layer at one setting (images, threads, sparsity); its contestants are predicted and
timed together, in turns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from archsim.choice import fitted
from archsim.machine import Machine
from archsim.methods import METHODS
from archsim.network import Layer, Network, load_network
from archsim.request import Request, make_request
from archsim.sparsity import Sparsity, load_sparsity
from archsim.yamlfile import read_yaml

Split = Literal["seen", "unseen"]

DATA_VARIABLE: Final = "ARCHSIM_DATA"
SPARSITIES: Final = (0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
_BATCHES: Final = (1, 16)
_DEFAULT_SETTINGS: Final = 3
#: Real pruned weights below the folder that ``ARCHSIM_DATA`` names, and their networks.
REAL: Final[Mapping[str, str]] = {
    "alexnet_pruned/l1_top1_0.56256.npz": "alexnet",
    "alexnet_pruned/grouplasso_top1_0.54214.npz": "alexnet",
    "squeezenet_pruned/squeezenet_v1.0_deep_compression.npz": "squeezenet",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Images, threads, and a sparsity, or a file of real weights."""

    batch: int
    threads: int
    sparsity: float | Path

    @property
    def uniform(self) -> Sparsity:
        """What a number means: zeros anywhere."""
        if isinstance(self.sparsity, Path):
            raise TypeError("real weights, no number")
        return Sparsity(1.0 - self.sparsity)


@dataclass(frozen=True, slots=True)
class Group:
    """Contestants on one layer at one setting."""

    layer: Layer
    split: Split
    setting: Setting
    requests: tuple[Request, ...]

    @property
    def variant(self) -> str:
        """Whose zeros: ``uniform``, or the name of the file of real weights."""
        sparsity = self.setting.sparsity
        return sparsity.stem if isinstance(sparsity, Path) else "uniform"

    @property
    def name(self) -> str:
        """What a progress bar calls it."""
        return f"{self.layer.network}/{self.layer.name}"


def layer_table(
    own: str | Path | None = None, *, full: bool = False
) -> list[tuple[Split, Network, list[Layer]]]:
    """Return networks with the layers of theirs that are measured.

    Parameters
    ----------
    own : str or Path, optional
        Network file or CSV layer table of the caller: all of its layers, all unseen, and no others.
    full : bool
        All layers of the built-in networks; those in no list count as seen.
    """
    if own is not None:
        network = load_network(own)
        return [("unseen", network, list(network))]
    with resources.as_file(resources.files("archsim") / "validate" / "native_layers.yaml") as path:
        table = read_yaml(path).plain()
    found: list[tuple[Split, Network, list[Layer]]] = []
    splits: tuple[Split, Split] = ("seen", "unseen")
    for split in splits:
        for name, layers in table[split].items():
            network = load_network(name)
            found.append((split, network, [network[layer] for layer in layers]))
    if full:
        named = {layer for _, _, layers in found for layer in layers}
        for name in {network.name: None for _, network, _ in found}:
            network = load_network(name)
            found.append(("seen", network, [layer for layer in network if layer not in named]))
    return found


def groups(
    table: Sequence[tuple[Split, Network, Sequence[Layer]]],
    machine: Machine,
    *,
    seed: int = 0,
    full: bool = False,
) -> list[Group]:
    """Return the groups of a run; the same seed gives the same ones.

    All layers of a network run at the same settings, so that their times can be added up. By
    default each network gets three, drawn so that batches, thread counts and sparsities take
    turns; ``full`` takes the whole cross product.
    """
    rng = np.random.default_rng(seed)
    cores = machine.total_cores
    found = []
    for split, network, layers in table:
        settings = _settings(rng, cores, full=full)
        settings += [Setting(1, 1, path) for path in real_files(network.name)]
        patterns = {
            setting: load_sparsity(setting.sparsity, network)
            for setting in settings
            if isinstance(setting.sparsity, Path)
        }
        for setting in settings:
            for layer in layers:
                sparsity = patterns[setting][layer.name] if setting in patterns else setting.uniform
                requests = tuple(_contestants(layer, sparsity, setting, machine, seed))
                found.append(Group(layer, split, setting, requests))
    return found


def real_files(network: str) -> list[Path]:
    """Return the files of real weights of a network that are there."""
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        return []
    paths = [Path(folder) / name for name, of in REAL.items() if of == network]
    return [path for path in paths if path.is_file()]


def _settings(rng: np.random.Generator, cores: int, *, full: bool) -> list[Setting]:
    threads = [1] if cores == 1 else [1, min(2, cores)]
    if full:
        return [Setting(n, t, s) for n in _BATCHES for t in threads for s in SPARSITIES]
    kinds = [(1, 1), (1, threads[-1]), (_BATCHES[-1], threads[-1])]
    drawn = rng.choice(SPARSITIES, _DEFAULT_SETTINGS, replace=False)
    return [Setting(n, t, float(s)) for (n, t), s in zip(kinds, drawn, strict=True)]


def _contestants(
    layer: Layer, sparsity: Sparsity, setting: Setting, machine: Machine, seed: int
) -> Iterator[Request]:
    """Yield what applies: every dense method, and every sparse one with zeros of its domain."""
    dense = Sparsity(1.0, label="dense")
    for method in METHODS.values():
        schedules = ["auto"]
        if method.name == "direct_sparse" and layer.stride == (1, 1):
            schedules.append("row")  # with a stride it goes pixel by pixel
        own = dense if method.dense else sparsity
        if method.name == "sparse_winograd" and sparsity.weights is None:
            own = Sparsity(sparsity.density, domain="winograd")
        if method.reason(layer, own) is not None:
            continue
        requests = [
            _request(layer, machine, method.name, own, schedule, setting, seed)
            for schedule in schedules
        ]
        yield from {request.schedule: request for request in requests}.values()


def _request(
    layer: Layer, machine: Machine, method: str, sparsity: Sparsity, schedule: str,
    setting: Setting, seed: int,
) -> Request:  # fmt: skip
    known: dict[str, Any] = {"density": None, "density_domain": "spatial", "partition": "nnz"}
    request = make_request(
        layer, machine, method=method, pattern=sparsity, schedule=schedule, batch=setting.batch,
        threads=setting.threads, clock="sustained", isa=None, seed=seed, model="native", **known,
    )  # fmt: skip
    return fitted(request)


def anchor(machine: Machine) -> Request:
    """Return the kernel that every group times too, so that drift is seen."""
    layer = Layer("anchor", C=64, K=64, H=14, W=14, R=3, S=3, pad=(1, 1))
    return _request(
        layer, machine, "dense_direct", Sparsity(1.0, label="dense"), "auto", Setting(1, 1, 0.0), 0
    )
