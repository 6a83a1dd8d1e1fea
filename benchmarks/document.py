"""The JSON document: what was measured, where, with what. Saved after every cell."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from archsim.hostfacts import read_facts

SCHEMA: Final = 2
_PACKAGES: Final = (
    "archsim", "numpy", "scipy", "torch", "onnxruntime", "openvino", "sparse_dot_mkl", "mkl",
    "onnx",
)  # fmt: skip


def new(seed: int) -> dict[str, Any]:
    """Return a document without cells."""
    return {
        "schema": SCHEMA,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _machine(),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": platform.python_version(),
        "versions": versions(),
        "seed": seed,
        "cells": {},
    }


def _machine() -> str:
    """Return the processor and the caches of a core, in words."""
    facts = read_facts()
    caches = {f"L{c.level} {c.size_bytes >> 10} KiB" for c in facts.caches}
    return ", ".join([facts.model, *sorted(caches)])


def versions() -> dict[str, str]:
    """Return the versions of ourselves and of the peers that are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def load(path: Path) -> dict[str, Any]:
    """Read a document.

    Raises
    ------
    ValueError
        It is not one, or of another schema.
    """
    if not path.exists():
        raise ValueError(f"{path} is missing: `python -m benchmarks run` makes it")
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ValueError(f"{path}: not a document of benchmarks, schema {SCHEMA}")
    return found


def save(document: dict[str, Any], path: Path) -> None:
    """Write a document; an interruption leaves the old one or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.part")
    aside.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    aside.replace(path)
