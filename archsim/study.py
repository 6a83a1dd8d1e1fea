"""A study: every layer of a network by every method on the chosen machines, and on this host.

The loop behind ``archsim study``: predict with each model, measure on the host, add the curves
of speedup against sparsity, and sum up.
"""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from archsim.api import PREDICTORS, measure_together, predict, share_baseline
from archsim.errors import input_error
from archsim.hostfacts import HOST
from archsim.machine import Machine
from archsim.machinefile import load_machine
from archsim.methods import METHODS, get_method
from archsim.methods.sharing import Partition
from archsim.network import Layer, Network, load_network
from archsim.request import active_isa, as_partition, default_threads, is_host
from archsim.result import ROW_COLUMNS, Result, as_row, document, no_formulas
from archsim.sparsity import Domain, LayerSparsities, Sparsity, load_sparsity

#: the machines of the ICLR 2017 paper, and this one
DEFAULT_MACHINES: Final = ("atom-c2750", "xeon-e5-2697v4-2s", "xeon-phi-7250", HOST)
DEFAULT_MODELS: Final = ("ecm", "park")
CURVE_SPARSITIES: Final = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.98, 0.99)
MEASURED_SPARSITIES: Final = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)

Progress = Callable[[str, int, int], None]


@dataclass
class Study:
    """What a study found.

    ``results`` holds one entry per machine, model, layer and method at the study's sparsity;
    ``curves`` the same at other, uniformly random sparsities.
    """

    network: Network
    machines: tuple[Machine, ...]
    layers: tuple[Layer, ...]
    sparsities: LayerSparsities
    results: list[Result] = field(default_factory=list)
    curves: list[Result] = field(default_factory=list)
    errors: dict[str, float] = field(default_factory=dict)
    command: str = ""

    def totals(self) -> dict[str, Any]:
        """Sum over layers per machine and model: seconds, images per second, weight bytes."""
        return {
            **sum_up(self.network.name, self.layers, self.sparsities, self.results),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "command": self.command,
            "native_max_error": self.errors,
        }

    def as_document(self) -> dict[str, Any]:
        """Return the JSON document of schema 1, with the curves and the roofs beside it."""
        found = document(self.results, self.totals())
        found["curves"] = [r.as_dict() for r in self.curves]
        found["machines"] = [
            {**machine_facts(machine), "notes": self._notes(machine)} for machine in self.machines
        ]
        return found

    def _notes(self, machine: Machine) -> list[str]:
        """Say how sure the machine's numbers are, and which parameters were derived."""
        kinds: dict[str, int] = {}
        for where in machine.provenance.values():
            kinds[where.kind] = kinds.get(where.kind, 0) + 1
        counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        derived = [
            f"park: {note}"
            for r in self.results
            if r.machine == machine.name and r.model == "park"
            for note in r.notes
        ]
        return [f"numbers of the machine file: {counted}", *dict.fromkeys(derived)]

    def write(self, folder: str | Path, found: dict[str, Any] | None = None) -> list[Path]:
        """Write ``results.json`` and ``results.csv`` into ``folder``; return their paths."""
        folder = Path(folder)
        try:
            with open_folder(folder):
                return write_document(found or self.as_document(), folder)
        except OSError as error:
            raise input_error(str(folder), f"cannot be written ({error.strerror})") from error


def write_document(found: dict[str, Any], folder: Path) -> list[Path]:
    """Write a document as JSON and as a table; both files are replaced once both are whole."""
    text = json.dumps(found, indent=1, allow_nan=False) + "\n"
    paths = [folder / "results.json", folder / "results.csv"]
    parts = [path.with_suffix(path.suffix + ".part") for path in paths]
    try:
        parts[0].write_text(text, encoding="utf-8")
        with parts[1].open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ROW_COLUMNS)
            writer.writeheader()
            writer.writerows(no_formulas(as_row(result)) for result in found["results"])
        for part, path in zip(parts, paths, strict=True):
            part.replace(path)
    except BaseException:
        for part in parts:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        raise
    return paths


@contextmanager
def open_folder(folder: Path) -> Iterator[None]:
    """Make sure of a folder for results before the work.

    If the work fails, the folders that were made for it (parents, too) are taken away again, as
    far as they are empty.

    Raises
    ------
    InputError
        Nothing can be written there.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        _make_folder(folder)
        yield
    except BaseException:
        for place in missing:
            with suppress(OSError):  # not made, or not empty any more
                place.rmdir()
        raise


def _make_folder(folder: Path) -> None:
    """Make a folder, and try that files can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / "results.json.part"
        probe.write_text("", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        raise input_error(str(folder), f"cannot be written ({error.strerror})") from error


def run_study(
    network: Network | str,
    machines: Sequence[Machine | str] = DEFAULT_MACHINES,
    *,
    layers: Sequence[str] | None = None,
    batch: int | None = None,
    threads: int | None = None,
    sparsity: str | float | None = None,
    density_domain: Domain | None = None,
    methods: Sequence[str] | None = None,
    models: Sequence[str] = DEFAULT_MODELS,
    curves: bool = True,
    native: bool = True,
    schedule: str = "auto",
    partition: Partition = "nnz",
    min_seconds: float = 0.05,
    seed: int = 0,
    progress: Progress | None = None,
) -> Study:
    """Predict and measure every layer of a network by every method.

    Parameters
    ----------
    network : Network or str
    machines : sequence of Machine or str
        ``host`` among them is measured too.
    layers : sequence of str, optional
        Only these layers.
    batch : int, optional
        Images; by default one per hardware thread of each machine, as the papers ran.
    threads : int, optional
        By default every hardware thread, on the host the physical cores.
    sparsity : str or float, optional
        See :func:`archsim.load_sparsity`; by default the network's own map.
    density_domain : {"spatial", "winograd"}, optional
        Where zeros are counted; by default as the sparsity itself says.
    methods : sequence of str, optional
        By default all.
    models : sequence of str
        Predictors: ``ecm``, ``park``, ``simulator``.
    curves : bool
        Also predict (and on the host measure) at a range of sparsities.
    native : bool
        Measure on the host.
    schedule : str
        Schedule of the methods that have it.
    partition : {"nnz", "rows", "dynamic"}
        How sparse methods cut an image among threads; see :func:`archsim.make_plan`.
    progress : callable, optional
        Called with (what, done, total).
    """
    chosen = load_network(network) if isinstance(network, str) else network
    loaded = tuple(load_machine(m) if isinstance(m, str) else m for m in machines)
    names = tuple(methods or METHODS)
    for name in names:
        get_method(name)
    for model in models:
        if model not in PREDICTORS:
            raise input_error(
                "model", "unknown model", found=model, allowed=", ".join(PREDICTORS),
                near=(model, PREDICTORS),
            )  # fmt: skip
    as_partition(partition)
    picked = [chosen[name] for name in dict.fromkeys(layers)] if layers else list(chosen)
    sparsities = load_sparsity(sparsity, chosen).in_domain(density_domain, chosen)
    found = Study(chosen, loaded, tuple(picked), sparsities)
    job = _Job(found, picked, sparsities, names, tuple(models), batch, threads,
               schedule, partition, min_seconds, seed)  # fmt: skip
    steps = list(_steps(job, curves=curves, native=native))
    for done, (what, step) in enumerate(steps):
        if progress is not None:
            progress(what, done, len(steps))
        step()
    if progress is not None:
        progress("done", len(steps), len(steps))
    return found


@dataclass(frozen=True, slots=True)
class _Job:
    """Arguments of a study that every step needs."""

    study: Study
    layers: list[Layer]
    sparsities: LayerSparsities
    methods: tuple[str, ...]
    models: tuple[str, ...]
    batch: int | None
    threads: int | None
    schedule: str
    partition: Partition
    min_seconds: float
    seed: int

    def settings(self, machine: Machine) -> dict[str, Any]:
        threads = self.threads or default_threads(machine)
        return {
            "batch": self.batch or threads,
            "threads": threads,
            "schedule": self.schedule,
            "partition": self.partition,
            "seed": self.seed,
        }


def _steps(job: _Job, *, curves: bool, native: bool) -> Iterable[tuple[str, Callable[[], None]]]:
    for machine in job.study.machines:
        for layer in job.layers:
            what = f"{machine.name} {layer.name}"
            yield what, lambda m=machine, y=layer: _predict_layer(job, m, y)  # type: ignore[misc]
            if curves and layer.type == "conv":
                yield what, lambda m=machine, y=layer: _predict_curve(job, m, y)  # type: ignore[misc]
            if native and is_host(machine):
                yield (
                    f"measuring {layer.name}",
                    lambda m=machine, y=layer: _measure_layer(job, m, y, curves=curves),  # type: ignore[misc]
                )


def _predict_layer(job: _Job, machine: Machine, layer: Layer) -> None:
    for model in job.models:
        job.study.results += _all_methods(job, machine, layer, job.sparsities[layer.name], model)


def _all_methods(
    job: _Job, machine: Machine, layer: Layer, sparsity: Sparsity, model: str, *,
    intervals: bool = True,
) -> list[Result]:  # fmt: skip
    results = [
        predict(
            layer, machine, method=name, pattern=sparsity, model=model,  # type: ignore[arg-type]
            traffic="rule", intervals=intervals, **job.settings(machine),
        )
        for name in job.methods
    ]  # fmt: skip
    return share_baseline(results)


def _predict_curve(job: _Job, machine: Machine, layer: Layer) -> None:
    domain = job.sparsities[layer.name].domain
    for sparsity in CURVE_SPARSITIES:
        uniform = Sparsity(1.0 - sparsity, domain=domain)
        results = _all_methods(job, machine, layer, uniform, "ecm", intervals=False)
        job.study.curves += [r for r in results if not get_method(r.method).dense and r.seconds]


def _measure_layer(job: _Job, machine: Machine, layer: Layer, *, curves: bool) -> None:
    settings = {**job.settings(machine), "min_seconds": job.min_seconds}
    sparsity = job.sparsities[layer.name]
    results = measure_together(
        layer, [(name, sparsity) for name in job.methods], machine, check=True, **settings
    )
    job.study.results += results
    errors = [r.max_error for r in results if r.max_error is not None]
    if errors:
        job.study.errors[layer.name] = max(errors)
    if not curves or layer.type != "conv":
        return
    dense = [(r.method, sparsity) for r in results if get_method(r.method).dense and r.seconds]
    sparse = [r.method for r in results if not get_method(r.method).dense and r.seconds]
    points = [
        (name, Sparsity(1.0 - s, domain=sparsity.domain))
        for name in sparse
        for s in MEASURED_SPARSITIES
    ]
    found = measure_together(layer, [*dense, *points], machine, **settings)
    job.study.curves += found[len(dense) :]


def best_by_layer(results: Iterable[Result]) -> dict[str, Result]:
    """Return the fastest result of each layer."""
    best: dict[str, Result] = {}
    for result in results:
        if result.seconds is None:
            continue
        if result.layer not in best or result.seconds < (best[result.layer].seconds or 0.0):
            best[result.layer] = result
    return best


def sum_up(
    network: str, layers: Sequence[Layer], sparsities: LayerSparsities, results: Sequence[Result]
) -> dict[str, Any]:
    """Return totals: per machine and model the sums over ``layers``, and bytes of the weights."""
    machines: dict[str, dict[str, Any]] = {}
    for result in results:
        machines.setdefault(result.machine, {}).setdefault(result.model, [])
        machines[result.machine][result.model].append(result)
    return {
        "network": network,
        "sparsity": sparsities.label,
        "machines": {
            machine: {model: _sum_layers(found, layers) for model, found in models.items()}
            for machine, models in machines.items()
        },
        "weights": {
            "dense_bytes": float(sum(layer.dense_bytes for layer in layers)),
            "sparse_bytes": sum(
                min(float(y.dense_bytes), sparsities[y.name].csr_bytes(y)) for y in layers
            ),
        },
    }


def _sum_layers(results: list[Result], layers: Sequence[Layer]) -> dict[str, Any]:
    """Add up layers: the dense baseline, and the fastest method of each.

    A sum is None when a layer is missing from it.
    """
    best = best_by_layer(results)
    dense = {
        r.layer: r.seconds * r.speedup_over_dense
        for r in results
        if r.seconds and r.speedup_over_dense
    }
    whole = all(layer.name in best for layer in layers)
    seconds = sum(r.seconds or 0.0 for r in best.values()) if whole else None
    whole = all(layer.name in dense for layer in layers)
    dense_seconds = sum(dense.values()) if whole else None
    batch = results[0].batch
    return {
        "batch": batch,
        "seconds": seconds,
        "dense_seconds": dense_seconds,
        "images_per_s": batch / seconds if seconds else None,
        "dense_images_per_s": batch / dense_seconds if dense_seconds else None,
        "speedup_over_dense": dense_seconds / seconds if seconds and dense_seconds else None,
        "methods": {layer: r.method for layer, r in best.items()},
    }


def machine_facts(machine: Machine) -> dict[str, Any]:
    """Return what a report says of a machine: its name, its size and its roofs."""
    isa = active_isa(machine) if is_host(machine) else None
    return {
        "name": machine.name,
        "description": machine.description,
        "isa": isa or machine.default_isa,
        "peak_gflops": machine.peak_flops_per_s(isa) / 1e9,
        "memory": machine.memory[0].name,
        "memory_gb_per_s": (
            machine.rates.stream_bytes_per_s
            or machine.memory[0].bandwidth_bytes_per_s * machine.sockets
        )
        / 1e9,
        "cores": machine.total_cores,
        "threads": machine.total_threads,
    }


def read_document(path: str | Path) -> dict[str, Any]:
    """Read a ``results.json``.

    Raises
    ------
    InputError
        Unreadable, not JSON, or of another schema.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise input_error(str(path), f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise input_error(str(path), f"not JSON ({error})") from error
    except RecursionError:
        raise input_error(str(path), "nested too deeply") from None
    if not isinstance(found, dict) or found.get("schema") != 1 or "results" not in found:
        schema = found.get("schema") if isinstance(found, dict) else None
        raise input_error(
            str(path), "not a results file of this version", found=schema, allowed="schema 1"
        )
    return found
