"""What an uncertain number of a machine's file does to the error against published rates.

Nothing is chosen by it: the files stay as they are, and the table says how much of an agreement, or
of an error, one guessed number could explain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from archsim.errors import InputError, input_error
from archsim.machine import Machine
from archsim.machinefile import load_machine
from archsim.machinepath import value_at
from archsim.validate.points import summarise
from archsim.validate.published import scored_machines, scored_on
from archsim.variation import vary

#: of a number that is assumed without a range: half and double (a choice)
_SPAN: Final = (0.5, 2.0)
_OVERLAPS: Final = ("serial", "overlapped", "latency")


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """One number at one other value.

    Attributes
    ----------
    machine, path : which number, by dotted path of the machine's file
    kind : of its source: ``assumed``, ``measured``...
    stated, tried : in base units, or a word
    stated_range : whether the file gives the tried value as an end of its range
    median_abs_error, mean_signed_error : of the machine's scored points, as fractions
    base_median_abs_error, base_mean_signed_error : the same with the number as stated
    """

    machine: str
    path: str
    kind: str
    stated: float | str | bool
    tried: float | str | bool
    stated_range: bool
    median_abs_error: float
    mean_signed_error: float
    base_median_abs_error: float
    base_mean_signed_error: float

    @property
    def moves_bias(self) -> float:
        """By how much the mean signed error changes."""
        return abs(self.mean_signed_error - self.base_mean_signed_error)

    def as_dict(self) -> dict[str, Any]:
        """Return the machine-readable form."""
        return asdict(self)


def sensitivity(
    machines: Sequence[str] | None = None,
    *,
    model: str = "ecm:counted",
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Sensitivity]:
    """Predict the scored points with each uncertain number at the ends of what it may be.

    Parameters
    ----------
    machines : sequence of str, optional
        Of those with scored points; by default all of them.
    model : str
        As of :func:`archsim.validate.published.published`.
    progress : callable, optional
        Called with a text, what of a machine's numbers is done, and how many there are.

    Returns
    -------
    list of Sensitivity
        By machine; what changes the median error or the bias most comes first.

    Raises
    ------
    InputError
        A machine without scored points.
    """
    known = scored_machines()
    found = []
    for name in known if machines is None else machines:
        if name not in known:
            raise input_error("machine", "has no scored points", found=name,
                              allowed=", ".join(known))  # fmt: skip
        rows = _of(load_machine(name), model, progress)
        found += sorted(rows, key=lambda row: row.moves_bias, reverse=True)
    return found


def _of(
    machine: Machine, model: str, progress: Callable[[str, int, int], None] | None
) -> Iterator[Sensitivity]:
    median, bias = _errors(machine, machine, model)
    numbers = list(_uncertain(machine))
    for done, (path, tried, stated_range) in enumerate(numbers):
        if progress is not None:
            progress(f"{machine.name}: {path}", done, len(numbers))
        kind = machine.provenance[path].kind
        for value in tried:
            try:
                (other,) = vary(machine, {path: [value]})
            except InputError:  # a rule between fields: this machine cannot be
                continue
            changed, signed = _errors(other, machine, model)
            yield Sensitivity(
                machine.name, path, kind, value_at(machine, path), value, stated_range,
                changed, signed, median, bias,
            )  # fmt: skip


def _errors(machine: Machine, of: Machine, model: str) -> tuple[float, float]:
    found = summarise(scored_on(machine, of.name, model))
    return found["median_abs_error"], found["mean_signed_error"]


def _uncertain(machine: Machine) -> Iterator[tuple[str, list[Any], bool]]:
    """Yield each number with a range, or assumed without one, and what else it may be."""
    for path, entry in machine.provenance.items():
        stated = value_at(machine, path)
        if entry.low is not None:
            ends = [type(stated)(end) for end in (entry.low, entry.high)]
            yield path, [end for end in ends if end != stated], True
        elif entry.kind != "assumed":
            continue
        elif isinstance(stated, bool):
            yield path, [not stated], False
        elif path.endswith(".overlap"):
            yield path, [rule for rule in _OVERLAPS if rule != stated], False
        elif isinstance(stated, int):
            yield path, [max(1, round(stated * factor)) for factor in _SPAN], False
        elif isinstance(stated, float):
            yield path, [stated * factor for factor in _SPAN], False
