"""Dotted paths of a machine file (``caches.L1.size``): the value and the unit behind one."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel

from archsim.machine import Machine
from archsim.schema import model_at
from archsim.units import Unit

#: lists whose entries a path names by their ``name``
NAMED_LISTS: Final = ("caches", "memory")
#: keys that hold words about a block, not numbers of the hardware
TEXT_KEYS: Final = frozenset(
    {"name", "description", "base", "source", "note", "format", "identity"}
)


def index_path(path: str, machine: Machine) -> tuple[str | int, ...]:
    """Turn ``caches.L1.size`` into ("caches", 0, "size")."""
    steps: list[str | int] = list(path.split("."))
    if steps[0] in NAMED_LISTS:
        names = [entry.name for entry in getattr(machine, str(steps[0]))]
        steps[1] = names.index(str(steps[1]))
    return tuple(steps)


def unit_at(path: str, machine: Machine) -> Unit | None:
    """Return the unit of the number at a dotted path, or None where it has none."""
    steps = index_path(path, machine)
    model = model_at(Machine, steps[:-1])
    if model is None:
        return None
    for name, info in model.model_fields.items():
        if (info.alias or name) == steps[-1]:
            found = [item for item in info.metadata if isinstance(item, Unit)]
            for argument in typing.get_args(info.annotation):
                found += [a for a in typing.get_args(argument) if isinstance(a, Unit)]
            return found[0] if found else None
    return None


def value_at(machine: Machine, path: str) -> Any:
    """Return the value at a dotted path of the file, in base units."""
    value: Any = machine
    for step in index_path(path, machine):
        if isinstance(value, BaseModel):
            names = {info.alias or name: name for name, info in type(value).model_fields.items()}
            value = getattr(value, names[str(step)])
        else:
            value = value[step]
    return value


def with_value(part: Any, steps: Sequence[str | int], value: Any) -> Any:
    """Return a copy of a block, a list or a map with the value at a path replaced."""
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(part, tuple):
        place = int(step)
        return (*part[:place], with_value(part[place], rest, value), *part[place + 1 :])
    if isinstance(part, Mapping):
        return {**part, str(step): with_value(part[str(step)], rest, value)}
    names = {info.alias or name: name for name, info in type(part).model_fields.items()}
    name = names[str(step)]
    return part.model_copy(update={name: with_value(getattr(part, name), rest, value)})
