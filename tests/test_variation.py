"""vary: hypothetical machines are what a file with ``base:`` would give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import archsim
from archsim import InputError, load_machine, vary
from archsim.machine import Machine

XEON, PHI = "xeon-e5-2697v4-2s", "xeon-phi-7250"


def _by_file(folder: Path, base: str, text: str) -> Machine:
    path = folder / "child.yaml"
    path.write_text(f"name: child\nbase: {base}\n{text}", encoding="utf-8")
    return load_machine(path)


def _numbers(machine: Machine) -> dict[str, Any]:
    return machine.model_dump(exclude={"name", "base", "description", "sources"})


@pytest.mark.parametrize(
    ("base", "paths", "text"),
    [
        (XEON, {"clock": [4.6e9]}, "clock: 4.6 GHz\n"),
        (PHI, {"clock": ["2.8 GHz"]}, "clock: 2.8 GHz\n"),
        (
            PHI,
            {"memory.MCDRAM.bandwidth": [960e9]},
            "memory: [{name: MCDRAM, bandwidth: 960 GB/s}]\n",
        ),
        (XEON, {"sockets": [1]}, "sockets: 1\n"),
        (XEON, {"caches.L2.size": ["512 KiB"]}, "caches: [{name: L2, size: 512 KiB}]\n"),
        (
            XEON,
            {"core.isa.avx2.vector_clock": [4.5e9], "rates.alpha": [2.5], "clock": [4.6e9]},
            "clock: 4.6 GHz\nrates: {alpha: 2.5}\ncore: {isa: {avx2: {vector_clock: 4.5 GHz}}}\n",
        ),
    ],
)
def test_vary_and_a_file_give_one_machine(
    tmp_path: Path, base: str, paths: dict[str, Any], text: str
) -> None:
    (made,), written = vary(base, paths), _by_file(tmp_path, base, text)
    assert _numbers(made) == _numbers(written)
    derived = {k: (p.text, p.low, p.high) for k, p in written.provenance.items()
               if p.kind == "derived"}  # fmt: skip
    for path, entry in derived.items():
        found = made.provenance[path]
        assert (found.kind, (found.text, found.low, found.high)) == ("derived", entry)


def test_a_changed_clock_changes_both_models() -> None:
    layer = archsim.load_network("alexnet")["conv3"]
    for model in ("ecm", "park"):
        settings: dict[str, Any] = {"method": "direct_sparse", "schedule": "row", "density": 0.1,
                                    "batch": 272, "model": model}  # fmt: skip
        (fast,) = vary(PHI, {"clock": "2.8 GHz"})
        slow = archsim.predict(layer, PHI, **settings).seconds
        quick = archsim.predict(layer, fast, **settings).seconds
        assert slow is not None
        assert quick is not None
        assert slow / quick > 1.4


def test_one_value_and_one_name_will_do() -> None:
    machine = load_machine(XEON)
    assert vary(XEON, {"clock": 3e9}) == vary(machine, {"clock": [3e9]})
    assert [m.name for m in vary(XEON, {"clock": "3 GHz"})] == [f"{XEON}_clock_3-GHz"]
    assert vary(machine, {"clock": 3e9})[0].name == f"{XEON}_clock_3e09"


@pytest.mark.parametrize("path", ["caches.L2", "core", "core.isa.avx2", "rates"])
def test_a_block_is_no_number(path: str) -> None:
    with pytest.raises(InputError, match=f"{path}: is a block"):
        vary(XEON, {path: [1e9]})


def test_coupled_numbers_vary_in_one_call() -> None:
    with pytest.raises(InputError, match=r"must divide cores \(9\).*vary in one call"):
        vary(XEON, {"cores": [9, 18]})
    (half,) = vary(XEON, {"cores": 9, "caches.L3.shared_by": 9})
    assert (half.cores, half.caches[2].shared_by) == (9, 9)


@pytest.mark.parametrize("lanes", [1024, 4096])
def test_vectors_wider_than_a_way_of_a_cache(lanes: int) -> None:
    (machine,) = vary(PHI, {"core.isa.avx512.lanes": lanes})
    layer = archsim.load_network("alexnet")["conv3"]
    found = archsim.predict(
        layer, machine, method="direct_sparse", schedule="lanes", density=0.1, batch=272
    )
    assert found.seconds is not None
