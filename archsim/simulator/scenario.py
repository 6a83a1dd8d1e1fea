"""What else happens on a machine: others on its memory, cores that are off or slow, clock steps.

A scenario is a YAML file like a machine: ``archsim/scenarios/*.yaml`` ship, ``--scenario`` takes
a name or a file.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from archsim.errors import InputError, input_error
from archsim.machine import Machine
from archsim.machineblocks import Memory
from archsim.schema import RuleError, validate
from archsim.units import Unit
from archsim.yamlfile import Node, read_yaml

Share = Annotated[float, Field(gt=0.0, le=100.0)]
Seconds = Annotated[float, Unit("time", allow_zero=True)]
Bandwidth = Annotated[float, Unit("bandwidth")]
CoreNumber = Annotated[int, Field(ge=0, lt=2**16, strict=True)]
Cores = Literal["all"] | tuple[CoreNumber, ...]


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MemoryLoad(_Block):
    """Another program that draws on a memory: so much, or such a share of it."""

    memory: str | None = Field(
        None, description="Name of the memory in the machine file (default: its first)."
    )
    bandwidth_bytes_per_s: Bandwidth | None = Field(
        None, alias="bandwidth", description="What it takes of each socket's bandwidth."
    )
    share: float | None = Field(
        None, gt=0.0, lt=1.0, strict=True, description="The same, as a share of the bandwidth."
    )
    start_s: Seconds = Field(0.0, alias="from", description="When it begins.")
    end_s: Seconds | None = Field(None, alias="until", description="When it ends; or never.")

    def taken_of(self, memory: Memory) -> float:
        """Return the bytes per second that it takes of a memory."""
        if self.share is not None:
            return self.share * memory.bandwidth_bytes_per_s
        return self.bandwidth_bytes_per_s or 0.0


class CoresOff(_Block):
    """Cores that take no tiles."""

    cores: tuple[CoreNumber, ...] = Field(min_length=1, description="Numbers, from 0.")
    start_s: Seconds = Field(
        0.0,
        alias="from",
        description="When they go off. From 0 on, threads sit on the other cores instead.",
    )


class Speed(_Block):
    """A clock step: cores go on at another speed from a time on."""

    cores: Cores = Field("all", description="Numbers, from 0; or all.")
    factor: Share = Field(description="Speed over the machine's own.")
    start_s: Seconds = Field(0.0, alias="from", description="When it changes.")


class Scenario(_Block):
    """What else happens on a machine while a plan runs."""

    format: Literal[1] = Field(1, description="Version of this file format.")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name.")
    description: str = Field("", description="What it asks.")
    memory_load: tuple[MemoryLoad, ...] = Field((), description="Others on the memories.")
    cores_off: tuple[CoresOff, ...] = Field((), description="Cores without work.")
    speed: tuple[Speed, ...] = Field((), description="Clock steps, slow cores.")

    @model_validator(mode="after")
    def _check(self) -> Scenario:
        for index, load in enumerate(self.memory_load):
            if load.end_s is not None and load.end_s <= load.start_s:
                raise RuleError(("memory_load", index, "until"), "must come after 'from'")
            if (load.share is None) == (load.bandwidth_bytes_per_s is None):
                raise RuleError(("memory_load", index), "give either 'bandwidth' or 'share'")
        return self


def scenario_names() -> list[str]:
    """Return the names of the scenarios that ship with archsim."""
    folder = resources.files("archsim") / "scenarios"
    return sorted(f.name[: -len(".yaml")] for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_scenario(name_or_path: str | Path) -> Scenario:
    """Load a scenario by built-in name or from a YAML file.

    Raises
    ------
    InputError
        Unknown name, or anything wrong in the file: file, line, key, found, allowed.
    """
    name, names = str(name_or_path), scenario_names()
    if name in names:
        path = Path(str(resources.files("archsim") / "scenarios" / f"{name}.yaml"))
    else:
        path = Path(name)
        if path.suffix.lower() not in (".yaml", ".yml"):
            raise input_error(
                "scenario", "no such scenario, and no such file", found=name,
                allowed=", ".join(names) + ", or a .yaml file", near=(name, names),
            )  # fmt: skip
    node: Node = read_yaml(path)
    if not isinstance(node.value, dict):
        raise input_error(str(node.mark), "a map of scenario keys is due", found=node.plain())
    return validate(Scenario, node)


class SpeedProfile:
    """Speed of a core over time: ``factors[i]`` holds from ``times[i]`` on."""

    def __init__(self, steps: list[tuple[float, float]]) -> None:
        self.times, self.factors = [0.0], [1.0]
        for at, factor in sorted(steps, key=lambda step: step[0]):
            if at == self.times[-1]:
                self.factors[-1] = factor
            else:
                self.times.append(at)
                self.factors.append(factor)

    def finish(self, begin: float, seconds: float) -> float:
        """Return when work of so many seconds at full speed ends."""
        index = bisect_right(self.times, begin) - 1
        while True:
            factor = self.factors[index]
            end = begin + seconds / factor
            if index + 1 == len(self.times) or end <= self.times[index + 1]:
                return end
            seconds -= (self.times[index + 1] - begin) * factor
            index += 1
            begin = self.times[index]


@dataclass(frozen=True)
class Conditions:
    """A scenario on a machine: the cores that are on, and what changes when."""

    cores: tuple[int, ...]
    speeds: Mapping[int, SpeedProfile] = field(default_factory=dict)
    off_from: Mapping[int, float] = field(default_factory=dict)
    loads: tuple[tuple[str, MemoryLoad], ...] = ()  # by the name of the memory

    @classmethod
    def of(cls, scenario: Scenario | None, machine: Machine) -> Conditions:
        """Check a scenario against a machine.

        Raises
        ------
        InputError
            It names a core or a memory that the machine does not have, leaves no core on, or
            nothing of a memory's bandwidth.
        """
        every = range(machine.total_cores)
        if scenario is None:
            return cls(tuple(every))
        where = f"scenario {scenario.name}"
        _check_cores(scenario, machine, where)
        off = {core for o in scenario.cores_off if o.start_s == 0.0 for core in o.cores}
        later: dict[int, float] = {}
        for entry in scenario.cores_off:
            for core in entry.cores if entry.start_s > 0.0 else ():
                later[core] = min(entry.start_s, later.get(core, entry.start_s))
        on = tuple(core for core in every if core not in off)
        if not on:
            raise input_error(where, f"leaves no core of {machine.name} on")
        steps: dict[int, list[tuple[float, float]]] = {}
        for speed in scenario.speed:
            for core in every if speed.cores == "all" else speed.cores:
                steps.setdefault(core, []).append((speed.start_s, speed.factor))
        found = cls(
            on,
            {core: SpeedProfile(s) for core, s in steps.items()},
            later,
            tuple((load.memory or machine.memory[0].name, load) for load in scenario.memory_load),
        )
        _check_loads(found, machine, where)
        return found

    def limits(self, memory: Memory) -> list[tuple[float, float]]:
        """Return (time, bytes per second that the others leave), one for each change."""
        loads = [load for name, load in self.loads if name == memory.name]
        times = sorted({load.start_s for load in loads} | {e for y in loads if (e := y.end_s)})
        return [
            (
                at,
                memory.bandwidth_bytes_per_s
                - sum(
                    load.taken_of(memory)
                    for load in loads
                    if load.start_s <= at and (load.end_s is None or at < load.end_s)
                ),
            )
            for at in times
        ]


def _check_cores(scenario: Scenario, machine: Machine, where: str) -> None:
    blocks = [("cores_off", entry.cores) for entry in scenario.cores_off]
    blocks += [("speed", entry.cores) for entry in scenario.speed if entry.cores != "all"]
    for key, cores in blocks:
        for core in cores:
            if core >= machine.total_cores:
                raise input_error(
                    f"{where}: {key}: cores", f"{machine.name} has no such core", found=core,
                    allowed=f"0..{machine.total_cores - 1}",
                )  # fmt: skip


def _check_loads(conditions: Conditions, machine: Machine, where: str) -> None:
    names = [memory.name for memory in machine.memory]
    for name, _ in conditions.loads:
        if name not in names:
            raise input_error(
                f"{where}: memory_load: memory", f"{machine.name} has no such memory",
                found=name, allowed=", ".join(names), near=(name, names),
            )  # fmt: skip
    for memory in machine.memory:
        for at, limit in conditions.limits(memory):
            if limit <= 0.0:
                raise InputError(
                    f"{where}: memory_load: from {at:g} s on nothing is left of the "
                    f"{memory.bandwidth_bytes_per_s / 1e9:g} GB/s of {memory.name}"
                )
