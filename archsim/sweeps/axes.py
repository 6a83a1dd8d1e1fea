"""Values of an axis as people write them: ranges and lists, with units."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from archsim.errors import InputError, input_error
from archsim.machine import Machine
from archsim.network import Network
from archsim.request import MAX_BATCH, positive
from archsim.sparsity import Domain, LayerSparsities, load_sparsity
from archsim.units import UNITS, format_quantity
from archsim.variation import as_number, number_at

#: values of one axis, at most
MOST_VALUES: Final = 10_000
SCALES: Final = ("linear", "log")
#: paths that take one value together: ``cores+caches.L3.shared_by``
TOGETHER: Final = "+"
_NUMBER: Final = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*")
_FORMS: Final = "LOW:HIGH:COUNT, LOW:HIGH:COUNT:log"
_WHOLE: Final = 1e-9  # how far from a whole number a step of a range may be, for rounding

Given = str | float | Iterable[Any]


@dataclass(frozen=True, slots=True)
class Axis:
    """What varies: a name, values in base units, the same as people write them, and their unit."""

    name: str
    values: tuple[Any, ...]
    texts: tuple[str, ...]
    unit: str | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the machine's file that take each value."""
        return tuple(self.name.split(TOGETHER))


def hardware_axis(name: str, given: Given, machines: Iterable[Machine]) -> Axis:
    """Read what a number of the machines' files varies over.

    Parameters
    ----------
    name : str
        A dotted path (``memory.DDR.bandwidth``), or several with ``+`` between that take the same
        value together.
    given : str, float or iterable
        ``LOW:HIGH:COUNT`` (linear) or ``LOW:HIGH:COUNT:log``, ends with their unit; values with
        commas between; or an iterable of numbers in base units and of texts with a unit.

    Raises
    ------
    InputError
        An unknown path, a wrong or an empty range, a value that the field refuses or that is there
        twice.
    """
    where = f"vary {name}"
    paths = name.split(TOGETHER)
    if len(set(paths)) < len(paths):
        raise input_error(where, "a path is named twice")
    several = list(machines)
    held, unit = number_at(several[0], paths[0])
    kind = None if unit is None else unit.kind

    def checked(value: Any) -> Any:
        value = value if unit is not None else _plain(value)
        found = [as_number(machine, path, value) for path in paths for machine in several]
        if isinstance(found[0], float) and not math.isfinite(found[0]):
            raise input_error(where, "must be finite", found=value)
        return found[0]

    whole = kind == "size" or (isinstance(held, int) and not isinstance(held, bool))
    values = _values(where, given, checked, whole=whole)
    texts = [str(v) if kind is None else format_quantity(v, kind) for v in values]
    if len(set(texts)) < len(texts):  # closer than six digits
        texts = [repr(v) for v in values]
    base = None if kind is None else next(u for u, f in UNITS[kind].items() if f == 1.0)
    return Axis(name, values, tuple(texts), base)


def _plain(value: Any) -> Any:
    """Return what text without a unit means: a whole number, a number, yes or no, or a word."""
    if not isinstance(value, str):
        return value
    if value in ("true", "false"):
        return value == "true"
    if not _NUMBER.fullmatch(value):
        return value
    return int(value) if value.strip().lstrip("+-").isdecimal() else float(value)


def _values(
    where: str, given: Given, checked: Callable[[Any], Any], *, whole: bool = False
) -> tuple[Any, ...]:
    if isinstance(given, str) and ":" in given:
        low, high, count, scale = _range(where, given)
        ends = checked(low), checked(high)
        values = [checked(v) if whole else v for v in steps(where, *ends, count, scale, whole)]
    else:
        values = [checked(part) for part in _parts(where, given)]
    if len(set(values)) < len(values):
        twice = next(v for v in values if values.count(v) > 1)
        raise input_error(where, "a value is there twice", found=twice)
    return tuple(values)


def _parts(where: str, given: Given) -> list[Any]:
    """Return the parts of a list; one value alone is a list of one."""
    if isinstance(given, str):
        parts: list[Any] = [part.strip() for part in given.split(",")]
        if not all(parts):
            raise input_error(where, "a value is empty", found=given, allowed=f"{_FORMS} or "
                              "VALUE,VALUE,...")  # fmt: skip
    else:
        parts = list(given) if isinstance(given, Iterable) else [given]
    if not parts:
        raise input_error(where, "no values are given")
    if len(parts) > MOST_VALUES:
        raise input_error(where, "too many values", found=len(parts), allowed=f"1..{MOST_VALUES}")
    return parts


def _range(where: str, text: str) -> tuple[str, str, int, str]:
    parts = [part.strip() for part in text.split(":")]
    scale = parts.pop() if len(parts) == 4 else "linear"
    if len(parts) != 3 or not all(parts):
        raise input_error(where, "not a range", found=text, allowed=_FORMS)
    if scale not in SCALES:
        raise input_error(where, "unknown scale of a range", found=scale,
                          allowed=", ".join(SCALES), near=(scale, SCALES))  # fmt: skip
    low, high, count = parts
    if not (count.isascii() and count.isdecimal() and 2 <= int(count) <= MOST_VALUES):
        raise input_error(where, "wrong count of a range", found=count,
                          allowed=f"2..{MOST_VALUES}")  # fmt: skip
    return low, high, int(count), scale


def steps(
    where: str, low: Any, high: Any, count: int, scale: str, whole: bool = False
) -> list[Any]:
    """Return ``count`` numbers from ``low`` to ``high``, both among them to the bit.

    With ``whole`` they are whole numbers.

    Raises
    ------
    InputError
        The ends are no numbers or the same, ``log`` meets a number that is not above zero, or a
        step is not whole.
    """
    for end in (low, high):
        if isinstance(end, (bool, str)) or not isinstance(end, (int, float)):
            raise input_error(where, "a range needs numbers", found=end)
    if low == high:
        raise input_error(where, "an empty range: both ends are the same", found=low)
    if scale == "log" and min(low, high) <= 0:
        raise input_error(where, "a log range needs ends above zero", found=min(low, high))
    spread = np.geomspace if scale == "log" else np.linspace
    found: list[Any] = [float(value) for value in spread(low, high, count)]
    found[0], found[-1] = low, high
    if whole:
        odd = [v for v in found if abs(v - round(v)) > _WHOLE * max(1.0, abs(v))]
        if odd:
            raise input_error(where, f"{count} steps of this range are not whole numbers; "
                              "another count, or a list", found=odd[0])  # fmt: skip
        found = [round(value) for value in found]
    return found


def count_axis(name: str, given: Given) -> tuple[int, ...]:
    """Read whole numbers of at least 1 (images, threads): a range or a list.

    Raises
    ------
    InputError
        Something else, or a number that is there twice.
    """

    def checked(value: Any) -> int:
        if isinstance(value, str):
            if not (value.isascii() and value.isdecimal()):
                raise input_error(name, "must be a whole number of at least 1", found=value)
            value = int(value[:20])
        return positive(name, value, MAX_BATCH)

    return _values(name, given, checked, whole=True)


def threads_axis(given: Given | None) -> tuple[int | None, ...]:
    """Read numbers of threads; ``all`` or None: every hardware thread of a machine."""
    if given is None or given == "all":
        return (None,)
    if isinstance(given, str) and ":" in given:
        return count_axis("threads", given)
    parts = [None if part in (None, "all") else part for part in _parts("threads", given)]
    if parts.count(None) > 1:
        raise input_error("threads", "a value is there twice", found="all")
    named = count_axis("threads", [p for p in parts if p is not None]) if any(parts) else ()
    numbers = iter(named)
    return tuple(None if part is None else next(numbers) for part in parts)


def sparsity_axis(
    given: Any, network: Network, domain: Domain | None = None
) -> tuple[LayerSparsities, ...]:
    """Read sparsities: what :func:`archsim.load_sparsity` reads, ranges and lists of numbers.

    Several may be given; without one it is the network's own map, else dense.
    """
    several = [given] if isinstance(given, (str, int, float, LayerSparsities)) else given
    found: list[LayerSparsities] = []
    for spec in [None] if several is None else several:
        found += _sparsities(spec, network)
    if not found:
        raise input_error("sparsity", "no values are given")
    found = [each.in_domain(domain, network) for each in found]
    labels = [each.label for each in found]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise input_error("sparsity", "a value is there twice", found=twice)
    return tuple(found)


def _sparsities(spec: Any, network: Network) -> list[LayerSparsities]:
    if isinstance(spec, LayerSparsities):
        return [spec]
    if isinstance(spec, str):
        parts = spec.split(":")
        if len(parts) > 2 and all(map(_NUMBER.fullmatch, parts[:2])):
            low, high, count, scale = _range("sparsity", spec)
            shares = steps("sparsity", float(low), float(high), count, scale)
            return [_uniform(share, network) for share in shares]
        if _NUMBER.fullmatch(spec):
            return [_uniform(float(spec), network)]
        parts = [part.strip() for part in spec.split(",")]
        if len(parts) > 1 and all(p in network.sparsities or _NUMBER.fullmatch(p) for p in parts):
            return [found for part in parts for found in _sparsities(part, network)]
    elif isinstance(spec, (int, float)) and not isinstance(spec, bool):
        return [_uniform(float(spec), network)]
    return [load_sparsity(spec, network)]


def _uniform(share: float, network: Network) -> LayerSparsities:
    """Return one sparsity of every layer; its label tells it from any other."""
    found = load_sparsity(share, network)
    label = found.label if float(found.label) == share else repr(share)
    return LayerSparsities(found.layers, found.default, label)


def vary_axes(
    given: Mapping[str, Given] | Iterable[str] | None, machines: Iterable[Machine]
) -> tuple[Axis, ...]:
    """Read what varies of the hardware: a mapping, or texts ``PATH=VALUES``.

    Raises
    ------
    InputError
        A path that is named twice, or as in :func:`hardware_axis`.
    """
    several = list(machines)
    pairs = list(given.items()) if isinstance(given, Mapping) else [_pair(t) for t in given or ()]
    paths: list[str] = []
    axes = []
    for name, values in pairs:
        for path in name.split(TOGETHER):
            if path in paths:
                raise input_error("vary", "a path is named twice", found=path)
            paths.append(path)
        axes.append(hardware_axis(name, values, several))
    return tuple(axes)


def _pair(text: str) -> tuple[str, str]:
    name, sign, values = text.partition("=")
    if not sign or not name.strip() or not values.strip():
        raise InputError(
            f"vary: PATH=VALUES is due; found {text[:60]!r}; "
            "for example memory.DDR.bandwidth=20GB/s:400GB/s:8"
        )
    return TOGETHER.join(part.strip() for part in name.split(TOGETHER)), values.strip()
