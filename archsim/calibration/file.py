"""The machine file that figures make: the operating system's host, with what was measured."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import yaml

from archsim.calibration.figures import Entry
from archsim.errors import input_error
from archsim.hostfacts import HostFacts, host_node
from archsim.machinepath import NAMED_LISTS
from archsim.units import format_quantity

SOURCE: Final = "calibration"
_KINDS: Final = {"Hz": "frequency", "s": "time", "B/s": "bandwidth", "B": "size"}


def machine_text(
    facts: HostFacts, entries: Sequence[Entry], *, about: str, disturbed: bool, left_out: str
) -> str:
    """Return the text of a machine file.

    Parameters
    ----------
    facts : HostFacts
        What the operating system says; numbers that no entry has stay as it or the generic
        machine gives them.
    about : str
        Command, version, date: the source of every entry.
    left_out : str
        What could not be measured and why, or "".
    """
    tree: dict[str, Any] = host_node(facts).plain()
    what = "measured by archsim calibrate; what it cannot measure is assumed"
    if disturbed:
        what = "DISTURBED while it was measured by archsim calibrate --force: do not trust it"
    tree["description"] = f"{facts.model}: {what}"
    tree["note"] = (left_out or "Nothing was left out.").strip()
    tree["sources"][SOURCE] = {"kind": "measured", "text": about}
    for entry in entries:
        _put(tree, entry)
    body = yaml.safe_dump(tree, sort_keys=False, width=100, allow_unicode=True)
    return f"# docs/calibration.md says what each number means and how it is measured.\n{body}"


def _put(tree: dict[str, Any], entry: Entry) -> None:
    *blocks, key = entry.path.split(".")
    place: Any = tree
    for number, block in enumerate(blocks):
        place = place[block]
        if number == 0 and block in NAMED_LISTS:
            name = blocks[1]
            place = next(item for item in place if item["name"] == name)
            break
    written: dict[str, Any] = {"value": text_of(entry.value, entry.unit)}
    if entry.low is not None and entry.high is not None:
        written["range"] = [text_of(entry.low, entry.unit), text_of(entry.high, entry.unit)]
    written["source"] = SOURCE
    if entry.note:
        written["note"] = entry.note
    place[key] = written


def text_of(value: float | bool | str, unit: str) -> Any:
    """Return a number as a file writes it, four digits of it."""
    if isinstance(value, (bool, str, int)) and not unit:
        return value
    number = float(f"{float(value):.4g}")
    if unit in _KINDS:
        return f"{int(value)} B" if unit == "B" else format_quantity(number, _KINDS[unit])
    return f"{number:g} {unit}".strip() if unit else number


def write_atomically(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises
    ------
    InputError
        The folder is missing or cannot be written to.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise input_error(str(path), f"cannot be written ({error.strerror})") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException as error:
        with suppress(OSError):
            Path(name).unlink()
        if isinstance(error, OSError):
            raise input_error(str(path), f"cannot be written ({error.strerror})") from error
        raise


def changed(old: Mapping[str, float], new: Mapping[str, float], tolerance: float) -> list[str]:
    """Return the keys whose numbers differ by more than a share of the old one."""
    return [key for key in new if key in old and abs(new[key] - old[key]) > tolerance * old[key]]
