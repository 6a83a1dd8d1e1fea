"""Rows of a sweep as CSV: written while it runs, read to go on, put in order at the end."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from archsim.errors import input_error
from archsim.methods import METHODS
from archsim.result import no_formulas
from archsim.sweeps.found import Cells, Sweep, place_of, row_of
from archsim.sweeps.space import Space
from archsim.sweeps.tasks import Answer
from archsim.yamlfile import read_text

#: suffix of the file that rows are kept in while a sweep runs
PART: Final = ".part"
_MAX_BYTES: Final = 2**31
_FIRST: Final = ("network", "machine")
_POINT: Final = ("sparsity", "batch", "threads", "model")
_LAYER: Final = ("layer", "method", "schedule", "density", "density_domain", "seconds",
                 "effective_gflops", "bound_by", "settings")  # fmt: skip
_TOTAL: Final = ("layers", "seconds", "seconds_per_image", "images_per_s", "effective_gflops",
                 "bound_by", "bound_share")  # fmt: skip


def columns(space: Space, *, total: bool = False) -> tuple[str, ...]:
    """Return the columns of the rows of layers, or of points."""
    paths = tuple(axis.name for axis in space.vary)
    return (*_FIRST, *paths, *_POINT, *(_TOTAL if total else _LAYER))


def write_csv(found: Sweep, path: str | Path, *, total: bool = False) -> Path:
    """Write a row for each point and layer, or with ``total`` for each point.

    A file there is replaced once the new one is whole.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    return _write(Path(path), columns(found.space, total=total),
                  found.totals() if total else found.rows())  # fmt: skip


def _write(path: Path, names: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> Path:
    whole = path.with_name(f"{path.name}.whole")
    try:
        with whole.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(map(no_formulas, rows))
        whole.replace(path)
    except OSError as error:
        raise input_error(str(path), f"cannot be written ({error.strerror})") from error
    finally:
        with suppress(OSError):
            whole.unlink(missing_ok=True)
    return path


class Journal:
    """The file that rows are kept in while a sweep runs; it begins with those that are known.

    Raises
    ------
    InputError
        It cannot be written, or holds rows of an earlier sweep that are not taken up.
    """

    def __init__(self, path: Path, cells: Cells, resume: str | Path | None = None) -> None:
        if path.exists() and (resume is None or not path.samefile(resume)):
            raise input_error(str(path), "holds rows of an interrupted sweep: go on with them by "
                              f"--resume {path}, or remove the file")  # fmt: skip
        self.path = path
        self._cells = cells
        self._names = columns(cells.space)
        self.renew()

    def renew(self) -> None:
        """Write all rows that are known, in the place of those that are there."""
        known = np.argwhere(~np.isnan(self._cells.seconds))
        rows = (row_of(self._cells, tuple(map(int, cell))) for cell in known)
        _write(self.path, self._names, rows)

    def keep(self, places: Iterable[int]) -> None:
        """Add the rows of cells, given as places in flat arrays."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._names, lineterminator="\n")
        for place in places:
            cell = tuple(int(n) for n in np.unravel_index(place, self._cells.space.shape))
            writer.writerow(no_formulas(row_of(self._cells, cell)))
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
        except OSError as error:
            raise input_error(str(self.path), f"cannot be written ({error.strerror})") from error

    def remove(self) -> None:
        """Take the file away: its rows stand elsewhere."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def read_rows(path: str | Path, cells: Cells) -> int:
    """Take up the rows of an earlier run; return how many there were.

    Raises
    ------
    InputError
        Unreadable, cut off, of another sweep or other settings, or a wrong number: one line that
        says where.
    """
    path = Path(path)
    text = read_text(path, _MAX_BYTES).removeprefix("\ufeff")
    space = cells.space
    lines = _lines(path, text)
    head = next(lines, (f"{path}:1", []))[1]
    _check_header(path, tuple(head), space)
    due = _cells_by_text(space)
    count = 0
    for where, fields in lines:
        if len(fields) != len(head):
            raise input_error(where, "the row is cut off or has too many fields; without this "
                              "line the sweep goes on", found=len(fields),
                              allowed=f"{len(head)} fields")  # fmt: skip
        _take(where, dict(zip(head, fields, strict=True)), cells, due)
        count += 1
    if text and not text.endswith(("\n", "\r")):
        raise input_error(f"{path}:{text.count(chr(10)) + 1}", "the last line is cut off (it has "
                          "no end); without it the sweep goes on")  # fmt: skip
    return count


def _lines(path: Path, text: str) -> Iterator[tuple[str, list[str]]]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for fields in rows:
            yield f"{path}:{rows.line_num}", fields
    except csv.Error as error:
        raise input_error(f"{path}:{rows.line_num}", f"not a CSV table ({error})") from None


def _check_header(path: Path, head: tuple[str, ...], space: Space) -> None:
    due = columns(space)
    if head == due:
        return
    if head == columns(space, total=True):
        raise input_error(f"{path}:1", "holds totals; a sweep goes on from rows of layers")
    absent = [name for name in due if name not in head]
    strange = [name for name in head if name not in due]
    said = [f"has no {', '.join(absent)}"] if absent else []
    said += [f"has {', '.join(strange)[:80]}, which this sweep has not"] if strange else []
    raise input_error(
        f"{path}:1", "not the header of this sweep: " + ("; ".join(said) or "another order"),
        allowed=",".join(due),
    )  # fmt: skip


def _cells_by_text(space: Space) -> dict[tuple[str, ...], list[int]]:
    """Return the places of cells by what tells them, as it is written."""
    found: dict[tuple[str, ...], list[int]] = {}
    for point in np.ndindex(*space.point_shape):
        place = tuple(map(str, no_formulas(place_of(space, point)).values()))
        for number, layer in enumerate(space.layers):
            name = no_formulas({"layer": layer.name})["layer"]
            flat = int(np.ravel_multi_index((number, *point), space.shape))
            found.setdefault((*place, name), []).append(flat)
    return found


def _take(
    where: str, row: dict[str, str], cells: Cells, due: Mapping[tuple[str, ...], list[int]]
) -> None:
    space = cells.space
    for key, right in (("network", space.network), ("model", space.settings.model)):
        if row[key] != no_formulas({key: right})[key]:
            raise input_error(f"{where}: {key}", "is of another sweep", found=row[key],
                              allowed=right)  # fmt: skip
    names = columns(space)
    told = tuple(row[name] for name in names[: names.index("layer") + 1])
    places = due.get(told)
    if places is None:
        pairs = list(zip(names, told, strict=False))[1:]  # the network is right
        shown = ", ".join(f"{name}={text}" for name, text in (pairs[-1], *pairs[:-1]))
        raise input_error(where, "is no point of this sweep", found=shown)
    left = np.array(places)[~cells.known(np.array(places))]  # all threads may be 8 threads, too
    if not left.size:
        raise input_error(where, "the same layer and point are there twice")
    cell = np.unravel_index(places[0], space.shape)
    digest = space.digest(int(cell[0]), int(cell[1]), int(cell[3]))
    if row["settings"] != digest:
        raise input_error(
            where, "was made with other settings (methods, schedule, partition, clock, isa, seed, "
            "the machine's numbers, the layer, its weights, or another version of archsim)",
            found=row["settings"], allowed=digest,
        )  # fmt: skip
    if row["method"] not in METHODS:
        raise input_error(f"{where}: method", "unknown method", found=row["method"],
                          allowed=", ".join(METHODS))  # fmt: skip
    cells.put(Answer(
        left[:1], np.array([_seconds(where, row["seconds"])]),
        ((row["method"],), (row["schedule"],), (row["bound_by"],)),
        np.zeros((3, 1), dtype=np.intp),
    ))  # fmt: skip


def _seconds(where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0.0):
        raise input_error(f"{where}: seconds", "a number above zero is due", found=text)
    return value
