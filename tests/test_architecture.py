"""The arrows between rooms point one way (ARCHITECTURE.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# room -> its rank; a module may import rooms of a lower rank, or its own
RANK = {
    "kernels": 0,
    "errors": 0, "units": 1, "yamlfile": 1, "schema": 2, "hostfacts": 2, "hostfile": 3,
    "weightfile": 2, "targetsfile": 2,
    "network": 3, "torchnetwork": 4, "sparsity": 4, "plan": 5, "result": 5,
    "machineblocks": 5, "machine": 6,
    "derivedrates": 7, "machineassume": 7, "machinepath": 7, "machinefile": 8,
    "machineview": 9, "variation": 9, "host": 9,
    "methods": 8, "quiet": 8,
    "incore": 9, "coherence": 9, "native": 9, "native_chain": 10, "request": 10,
    "analytic": 10, "simulator": 10, "traffic": 10,
    "choice": 11, "predictors": 11,
    "api": 12, "grid": 12,
    "calibration": 11,
    "study": 13, "validate": 13, "explanation": 13, "layerchain": 13,
    "simulation": 13,
    "sweeps": 14,
    "report": 15,
    "pruning": 16,
    "cli": 17,
    "__main__": 18,
}  # fmt: skip


def _files() -> Iterator[tuple[str, Path]]:
    for folder, room in ((ROOT / "kernels", "kernels"), (ROOT / "pruning", "pruning")):
        for path in folder.rglob("*.py"):
            yield room, path
    for path in (ROOT / "archsim").rglob("*.py"):
        parts = path.relative_to(ROOT / "archsim").parts
        if parts[0] in ("kernels", "pruning"):
            continue  # links to the folders above
        yield parts[0].removesuffix(".py"), path


def _imported_rooms(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative imports hide arrows"
            names = [node.module]
            if node.module == "archsim":
                names = [f"archsim.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "archsim" and len(parts) > 1:
                yield parts[1]


FILES = sorted(_files(), key=lambda item: str(item[1]))


@pytest.mark.parametrize(("room", "path"), FILES, ids=[str(p.relative_to(ROOT)) for _, p in FILES])
def test_imports_point_down(room: str, path: Path) -> None:
    if room == "__init__":
        return  # the table of contents names everything, and imports it only on use
    for other in _imported_rooms(path):
        if other == room or other.startswith("__"):
            continue
        assert other in RANK, f"{path} imports unknown room {other}"
        assert RANK[other] < RANK[room], f"{room} must not import {other}"


def test_every_room_has_a_rank() -> None:
    assert {room for room, _ in FILES} - {"__init__"} == set(RANK)


def test_kernels_import_nothing_of_ours() -> None:
    for room, path in FILES:
        if room == "kernels":
            assert set(_imported_rooms(path)) <= {"kernels"}, path


@pytest.mark.parametrize("path", [p for _, p in FILES], ids=lambda p: str(p.relative_to(ROOT)))
def test_files_fit_into_one_look(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500
