"""What the package may import: nothing else of archsim, and SciPy only when it is needed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import archsim.kernels

SOURCES = sorted(Path(archsim.kernels.__file__).parent.glob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            yield node.module or ""


def test_imports() -> None:
    assert len(SOURCES) > 5
    for source in SOURCES:
        for name in imported(ast.parse(source.read_text(encoding="utf-8"))):
            top = name.split(".")[0]
            assert top not in ("scipy", "threadpoolctl"), f"{source.name} imports {name}"
            if top == "archsim":
                assert name.startswith("archsim.kernels"), f"{source.name} imports {name}"


def test_public_names() -> None:
    assert archsim.kernels.__all__ == sorted(archsim.kernels.__all__)
    for name in archsim.kernels.__all__:
        assert getattr(archsim.kernels, name).__doc__
