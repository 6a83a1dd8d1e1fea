"""Hypothetical machines that differ from one in numbers at dotted paths."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from archsim.derivedrates import other_compute, scaled_rates
from archsim.errors import InputError, input_error
from archsim.machine import Machine, Provenance
from archsim.machinefile import load_machine
from archsim.machinepath import TEXT_KEYS, index_path, unit_at, value_at, with_value
from archsim.schema import model_at
from archsim.units import UNITS, Unit

Value = float | str


def vary(
    machine: Machine | str | Path, paths: Mapping[str, Iterable[Value] | Value]
) -> tuple[Machine, ...]:
    """Return hypothetical machines that differ from one in the numbers at dotted paths.

    Parameters
    ----------
    machine : Machine, str or Path
        A machine, its name or its file.
    paths : mapping of str to iterable of float or str
        Dotted path of the machine's file (``memory.DDR.bandwidth``) to its values: numbers in base
        units (hertz, bytes, bytes per second, cycles), or text with a unit (``"122 GB/s"``).  One
        number or text alone is one value.

    Returns
    -------
    tuple of Machine
        Every combination, values of the last path fastest; names say what differs.  What belongs
        to the changed hardware and is not varied itself scales as in a file with ``base:``:
        vector clocks with the clock, published rates with the peak and the memory's bandwidth;
        alpha is dropped where cores, clock or SIMD units change.

    Raises
    ------
    InputError
        No such path, a value that its field refuses, or a rule between fields is broken by a
        combination.  Numbers that a rule couples vary in one call, each path with one value:
        ``{"cores": 9, "caches.L3.shared_by": 9}``.
    """
    if not isinstance(machine, Machine):
        machine = load_machine(machine)
    choices = [[(path, value) for value in _values(values)] for path, values in paths.items()]
    return tuple(_varied(machine, changes) for changes in product(*choices))


def _values(given: Iterable[Value] | Value) -> list[Any]:
    """Return the values of a path; one alone is a list of one."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        return [given]
    return list(given)


def _varied(base: Machine, changes: tuple[tuple[str, Any], ...]) -> Machine:
    made = base
    for path, value in changes:
        made = _changed(base, made, path, value)
    made = _scaled(made, base, {path for path, _ in changes})
    try:
        made.check_rules()
    except ValueError as error:
        where = f"vary {base.name}: {', '.join(path for path, _ in changes)}"
        raise InputError(
            f"{where}: {error}; numbers that a rule couples vary in one call, by a path each"
        ) from None
    return made


def number_at(machine: Machine, path: str) -> tuple[Any, Unit | None]:
    """Return the number at a dotted path and its unit, None where it has none.

    Raises
    ------
    InputError
        There is no such number in the machine's file.
    """
    where = f"vary {machine.name}: {path}"
    try:
        steps = index_path(path, machine)
        held = value_at(machine, path)
    except (KeyError, ValueError, IndexError, AttributeError, TypeError):
        raise input_error(
            where, "no such number in the machine's file", near=(path, machine.provenance)
        ) from None
    if isinstance(held, (tuple, Mapping, BaseModel)):
        raise input_error(where, "is a block; the path of a number in it is due")
    if steps[0] in TEXT_KEYS | {"sources"} or steps[-1] in TEXT_KEYS:
        raise input_error(where, "holds words, no number of the hardware")
    return held, unit_at(path, machine)


def as_number(machine: Machine, path: str, value: Any) -> Any:
    """Return a value for a dotted path in base units, checked as the machine's file would be.

    Raises
    ------
    InputError
        No such path, or a value that its field refuses.
    """
    unit = number_at(machine, path)[1]
    where = f"vary {machine.name}: {path}"
    try:
        return _checked(path, machine, value) if unit is None else _quantity(unit, value)
    except ValidationError as error:
        raise input_error(where, error.errors()[0]["msg"], found=value) from None
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def _changed(base: Machine, machine: Machine, path: str, value: Any) -> Machine:
    number = as_number(base, path, value)
    made: Machine = with_value(machine, index_path(path, machine), number)
    shown = f"{value:g}".replace("+", "") if isinstance(value, (int, float)) else value
    kept = "".join(c if c.isalnum() or c in "._-" else "-" for c in f"{made.name}_{path}_{shown}")
    made = made.model_copy(update={"name": kept, "identity": None})
    source = Provenance(kind="assumed", text=f"varied, from {base.name}")
    made._provenance = {**machine._provenance, path: source}
    return made


def _scaled(machine: Machine, base: Machine, varied: set[str]) -> Machine:
    """Return a machine whose rates follow its hardware, as those of a file with ``base:`` do."""
    made, provenance = machine, dict(machine._provenance)
    for rate in scaled_rates(machine, base):
        if rate.path in varied:
            continue
        made = with_value(made, index_path(rate.path, made), rate.value * rate.ratio)
        old = provenance.get(rate.path)
        low, high = (old.low, old.high) if old is not None else (None, None)
        provenance[rate.path] = Provenance(
            kind="derived", text=f"{base.name}'s {rate.why}",
            low=None if low is None else low * rate.ratio,
            high=None if high is None else high * rate.ratio,
        )  # fmt: skip
    if made.rates.alpha is not None and "rates.alpha" not in varied and other_compute(made, base):
        made = with_value(made, ("rates", "alpha"), None)
        provenance.pop("rates.alpha", None)
    made._provenance = provenance
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
    steps = index_path(path, machine)
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
