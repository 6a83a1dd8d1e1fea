"""Dotted paths of a machine file (``caches.L1.size``): the value and the unit behind one.

And hypothetical machines that differ from one in such values.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from archsim.errors import InputError, input_error
from archsim.machine import Machine, Provenance
from archsim.schema import model_at
from archsim.units import UNITS, Unit

#: lists whose entries a path names by their ``name``
NAMED_LISTS: Final = ("caches", "memory")
#: keys that hold words about a block, not numbers of the hardware
TEXT_KEYS: Final = frozenset(
    {"name", "description", "base", "source", "note", "format", "identity"}
)


def _index_path(path: str, machine: Machine) -> tuple[str | int, ...]:
    """Turn ``caches.L1.size`` into ("caches", 0, "size")."""
    steps: list[str | int] = list(path.split("."))
    if steps[0] in NAMED_LISTS:
        names = [entry.name for entry in getattr(machine, str(steps[0]))]
        steps[1] = names.index(str(steps[1]))
    return tuple(steps)


def unit_at(path: str, machine: Machine) -> Unit | None:
    """Return the unit of the number at a dotted path, or None where it has none."""
    steps = _index_path(path, machine)
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
    for step in _index_path(path, machine):
        if isinstance(value, BaseModel):
            names = {info.alias or name: name for name, info in type(value).model_fields.items()}
            value = getattr(value, names[str(step)])
        else:
            value = value[step]
    return value


def vary(machine: Machine, paths: Mapping[str, Iterable[float | str]]) -> tuple[Machine, ...]:
    """Return hypothetical machines that differ from one in the numbers at dotted paths.

    Parameters
    ----------
    machine : Machine
    paths : mapping of str to iterable of float or str
        Dotted path of the machine's file (``memory.DDR.bandwidth``) to its values: numbers in base
        units (hertz, bytes, bytes per second, cycles), or text with a unit (``"122 GB/s"``).

    Returns
    -------
    tuple of Machine
        Every combination, values of the last path fastest; names say what differs.  Published
        rates (``rates``) stay those of ``machine``.

    Raises
    ------
    InputError
        No such path, a value that its field refuses, or a rule between fields is broken.
    """
    found = [machine]
    for path, values in paths.items():
        chosen = list(values)
        found = [_changed(each, path, value) for each in found for value in chosen]
    return tuple(found)


def _changed(machine: Machine, path: str, value: float | str) -> Machine:
    where = f"vary {machine.name}: {path}"
    try:
        steps = _index_path(path, machine)
        value_at(machine, path)
    except (KeyError, ValueError, IndexError, AttributeError, TypeError):
        raise input_error(where, "no such number in the machine's file") from None
    if steps[0] in TEXT_KEYS | {"sources"} or steps[-1] in TEXT_KEYS:
        raise input_error(where, "holds words, no number of the hardware")
    unit = unit_at(path, machine)
    try:
        number = _checked(path, machine, value) if unit is None else _quantity(unit, value)
        made: Machine = _with(machine, steps, number)
        made.check_rules()
    except ValidationError as error:
        raise input_error(where, error.errors()[0]["msg"], found=value) from None
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    name = (
        f"{machine.name}_{path}_{value:g}"
        if isinstance(value, (int, float))
        else (f"{machine.name}_{path}_{value}")
    )
    kept = "".join(c if c.isalnum() or c in "._-" else "-" for c in name)
    made = made.model_copy(update={"name": kept, "identity": None})
    source = Provenance(kind="assumed", text=f"varied, from {machine.name}")
    made._provenance = {**machine._provenance, path: source}
    return made


def _quantity(unit: Unit, value: float | str) -> float:
    """Read text with a unit, or a number in base units; both are checked alike."""
    if isinstance(value, str):
        return unit.parse(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"a {unit.kind} is due, a number or text with a unit; found {value!r}")
    base = next(name for name, factor in UNITS[unit.kind].items() if factor == 1.0)
    return unit.parse(f"{float(value)!r} {base}")


def _field(path: str, machine: Machine) -> tuple[str, FieldInfo]:
    steps = _index_path(path, machine)
    model = model_at(Machine, steps[:-1])
    fields = model.model_fields if model is not None else {}
    return next((n, info) for n, info in fields.items() if (info.alias or n) == steps[-1])


def _checked(path: str, machine: Machine, value: Any) -> Any:
    """Check what has no unit: a count, a yes or no, a word of a list."""
    _, info = _field(path, machine)
    annotation: Any = info.annotation
    for item in info.metadata:
        annotation = typing.Annotated[annotation, item]
    return TypeAdapter(annotation).validate_python(value)


def _with(part: Any, steps: Sequence[str | int], value: Any) -> Any:
    """Return a copy of a block, a list or a map with the value at a path replaced."""
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(part, tuple):
        place = int(step)
        return (*part[:place], _with(part[place], rest, value), *part[place + 1 :])
    if isinstance(part, Mapping):
        return {**part, str(step): _with(part[str(step)], rest, value)}
    names = {info.alias or name: name for name, info in type(part).model_fields.items()}
    name = names[str(step)]
    return part.model_copy(update={name: _with(getattr(part, name), rest, value)})
