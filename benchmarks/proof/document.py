"""The document that all tables are made of: runs, native times, races."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from archsim.errors import input_error

SCHEMA: Final = 1
KIND: Final = "pruning proof"


def data_folder(name: str) -> Path:
    """Return a folder of ``ARCHSIM_DATA``.

    Raises
    ------
    InputError
        It is not there.
    """
    folder = Path(os.environ.get("ARCHSIM_DATA", "")) / name
    if "ARCHSIM_DATA" not in os.environ or not folder.is_dir():
        raise input_error("ARCHSIM_DATA", f"no folder {name} in it", found=str(folder))
    return folder


def write_json(path: Path, found: dict[str, Any]) -> None:
    """Write a document, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a document.

    Raises
    ------
    InputError
        It is missing, or no document of ours.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise input_error(str(path), f"cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise input_error(str(path), "is no document", found=type(found).__name__)
    return found


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what the runs of a folder gave, by name; unfinished ones are left out."""
    return {path.parent.name: read_json(path) for path in sorted(folder.glob("*/result.json"))}


def runs_by_model(folder: Path) -> dict[str, list[str]]:
    """Return the names of finished runs of each model; dense ones first."""
    found: dict[str, list[str]] = {}
    for name, run in sorted(results(folder).items(), key=lambda item: bool(item[1]["method"])):
        found.setdefault(run["model"], []).append(name)
    return found


def raced(folder: Path) -> list[str]:
    """Return the runs that race: those that the host guided, of the first seed."""
    return [
        name
        for name, run in results(folder).items()
        if run["machine"] == "host" and run["seed"] == 0
    ]


def collect(folder: Path) -> dict[str, Any]:
    """Return runs that were timed, times and races of a folder as one document.

    Raises
    ------
    InputError
        Nothing was timed yet.
    """
    times = read_json(folder / "times.json")
    timed = {name for model in times["models"].values() for name in model}
    runs = {name: run for name, run in results(folder).items() if name in timed}
    races = {
        path.stem.partition("-")[2]: read_json(path) for path in sorted(folder.glob("race-*.json"))
    }
    return {
        "schema": SCHEMA, "kind": KIND, "runs": runs, "times": times, "races": races,
    }  # fmt: skip
