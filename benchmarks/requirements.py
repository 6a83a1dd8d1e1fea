"""Prints what the extra ``bench`` of pyproject.toml names, for pip: archsim itself is there."""

from __future__ import annotations

import tomllib
from pathlib import Path


def of_extra(name: str) -> list[str]:
    """Return the requirements of an extra."""
    path = Path(__file__).resolve().parents[1] / "pyproject.toml"
    found: list[str] = tomllib.loads(path.read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ][name]
    return found


if __name__ == "__main__":
    print("\n".join(of_extra("bench")))
