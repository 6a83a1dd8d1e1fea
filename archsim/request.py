"""The checked arguments of a verb, shared by every way to answer it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError, input_error
from archsim.hostfacts import HOST
from archsim.machine import Machine
from archsim.machinefile import load_machine
from archsim.methods import get_method
from archsim.methods.sharing import PARTITIONS, Partition
from archsim.network import Layer
from archsim.plan import Plan
from archsim.result import Model, Result
from archsim.sparsity import Domain, Sparsity, weight_shapes

MAX_BATCH: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Request:
    """One layer on one machine by one method (or ``auto``), everything checked."""

    layer: Layer
    machine: Machine
    method: str
    sparsity: Sparsity
    schedule: str
    partition: Partition
    batch: int
    threads: int
    clock: str
    isa: str | None
    seed: int
    model: Model
    blocks_for: float | None = None  # of a candidate (:mod:`archsim.choice`)

    def plan(self) -> Plan:
        """Make the plan of the request's method."""
        return get_method(self.method).plan(
            self.layer,
            self.sparsity,
            batch=self.batch,
            threads=self.threads,
            schedule=self.schedule,
            partition=self.partition,
            target=self.machine.target(self.isa),
            blocks_for=self.blocks_for,
        )

    def result(self, **known: Any) -> Result:
        """Return a result with what is known of every request; ``known`` adds the rest."""
        layer, sparsity = self.layer, self.sparsity
        fields: dict[str, Any] = {
            "network": layer.network,
            "layer": layer.name,
            "method": self.method,
            "schedule": self.schedule,
            "machine": self.machine.name,
            "model": self.model,
            "batch": self.batch,
            "threads": self.threads,
            "density": sparsity.density,
            "density_domain": sparsity.domain,
            "seconds": None,
            "effective_flop": layer.flop * self.batch,
            "actual_flop": layer.flop * sparsity.density * self.batch,
            "isa": self.isa or self.machine.default_isa,
            "seed": self.seed,
        }
        return Result(**(fields | known))


def make_request(
    layer: Layer,
    machine: Machine | str | Path,
    *,
    method: str,
    density: float | None,
    pattern: NDArray[Any] | Sparsity | None,
    density_domain: Domain,
    schedule: str,
    partition: str,
    batch: int,
    threads: int | None,
    clock: str,
    isa: str | None,
    seed: int,
    model: Model,
) -> Request:
    """Check the arguments of a verb.

    Raises
    ------
    InputError
        An argument is wrong.
    """
    machine = as_machine(machine)
    as_layer(layer)
    words(method=method, schedule=schedule, clock=clock, isa="" if isa is None else isa)
    if method != "auto":
        get_method(method)
    isa = isa_of(machine, isa)
    machine.clock_for(isa, clock)  # refuses unknown names
    return Request(
        layer=layer,
        machine=machine,
        method=method,
        sparsity=as_sparsity(layer, density, pattern, density_domain),
        schedule=schedule,
        partition=as_partition(partition),
        batch=positive("batch", batch, MAX_BATCH),
        threads=thread_count(machine, threads),
        clock=clock,
        isa=isa,
        seed=natural("seed", seed),
        model=model,
    )


def as_machine(machine: Machine | str | Path) -> Machine:
    """Return a machine, or load what names one."""
    if isinstance(machine, Machine):
        return machine
    if not isinstance(machine, (str, Path)):
        raise input_error(
            "machine", "wrong type", found=machine, allowed="a Machine, a name or a path"
        )
    return load_machine(machine)


def as_layer(layer: object) -> Layer:
    """Return a layer that is checked to be one."""
    if not isinstance(layer, Layer):
        raise input_error("layer", "wrong type", found=layer, allowed="a Layer")
    return layer


def words(**given: object) -> None:
    """Refuse arguments that are not text."""
    for name, value in given.items():
        if not isinstance(value, str):
            raise input_error(name, "must be text", found=value)


def as_partition(partition: object) -> Partition:
    """Return a partition that is checked to be one."""
    for known in PARTITIONS:
        if partition == known:
            return known
    raise input_error(
        "partition", "unknown partition", found=partition, allowed=", ".join(PARTITIONS),
        near=(str(partition), PARTITIONS),
    )  # fmt: skip


def finite(name: str, value: object) -> float | None:
    """Return an optional number that is checked to be finite."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise input_error(name, "a number is due", found=value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise input_error(name, "must be finite", found=number)
    return number


def natural(name: str, value: int) -> int:
    """Return a whole number that is checked not to be negative."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise input_error(name, "must be a whole number of at least 0", found=value)
    return int(value)


def default_threads(machine: Machine) -> int:
    """Every hardware thread of a described machine; on the host its physical cores."""
    return machine.total_cores if is_host(machine) else machine.total_threads


def is_host(machine: Machine) -> bool:
    """Whether a machine is this host, whatever its file is called."""
    return machine.identity is not None and machine.identity == load_machine(HOST).identity


def isa_of(machine: Machine, isa: str | None) -> str | None:
    """Return the instruction set that is asked for; on the host by default the one that runs."""
    return active_isa(machine) if isa is None and is_host(machine) else isa


def active_isa(machine: Machine) -> str:
    """Return the instruction set that native kernels run here (``ARCHSIM_ISA`` may force one).

    Raises
    ------
    InputError
        The forced one is unknown, not this CPU's, or not in the machine's file.
    """
    from archsim import kernels

    try:
        name: str = kernels.active_isa()
    except ValueError as error:
        raise InputError(str(error)) from None
    machine.instruction_set(name)  # refuses what the file does not describe
    return name


def as_sparsity(
    layer: Layer, density: float | None, pattern: NDArray[Any] | Sparsity | None, domain: Domain
) -> Sparsity:
    """Return the sparsity that a density or a pattern means; neither is dense."""
    words(density_domain=domain)
    if pattern is None:
        if density is None:
            return Sparsity(1.0, domain=domain)
        if isinstance(density, bool) or not isinstance(density, (int, float, np.number)):
            raise input_error("density", "a number is due", found=density, allowed="0..1")
        try:
            return Sparsity(float(density), domain=domain)
        except OverflowError:
            raise input_error("density", "must lie in 0..1", found="a huge number") from None
    if density is not None:
        raise input_error("density", "is given by the pattern already", found=density)
    if isinstance(pattern, Sparsity):
        shapes = weight_shapes(layer, pattern.domain)
        if pattern.weights is not None and pattern.weights.shape not in shapes:
            raise input_error(
                f"pattern of {layer.name}", "wrong shape", found=pattern.weights.shape,
                allowed=", ".join(map(str, shapes)),
            )  # fmt: skip
        return pattern
    return Sparsity.of_weights(pattern, layer, label="pattern")


def positive(name: str, value: int, greatest: int | None = None) -> int:
    """Return a count that is checked to be at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise input_error(name, "must be a whole number of at least 1", found=value)
    if greatest is not None and value > greatest:
        raise input_error(name, "is too great", found=value, allowed=f"1..{greatest}")
    return int(value)


def thread_count(machine: Machine, threads: int | None) -> int:
    """Return the threads to use, checked against the machine."""
    if threads is None:
        return default_threads(machine)
    value = positive("threads", threads)
    if value > machine.total_threads:
        raise input_error(
            "threads", f"{machine.name} has fewer hardware threads", found=value,
            allowed=f"1..{machine.total_threads}",
        )  # fmt: skip
    return value
