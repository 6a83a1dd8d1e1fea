"""This host as a machine: made-up hosts from a made-up sysfs, and the real one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import archsim
from archsim.errors import HostMismatchError, InputError
from archsim.host import machine_from_facts, require_host
from archsim.hostfacts import CacheFacts, HostFacts, cpu_list, identity, read_facts

KIB, MIB = 2**10, 2**20
FACTS = HostFacts(
    model="Imagined CPU @ 3.1 GHz",
    architecture="x86_64",
    cpus=(0, 1, 2, 3, 4, 5, 6, 7),
    cores=4,
    sockets=1,
    clock_hz=3.1e9,
    caches=(
        CacheFacts(1, 48 * KIB, 64, 12, 2),
        CacheFacts(2, 2 * MIB, 64, 16, 2),
        CacheFacts(3, 30 * MIB, 64, 12, 8),
    ),
    isas=("baseline", "sse42", "avx2"),
)


def _with(**changes: object) -> HostFacts:
    from dataclasses import replace

    return replace(FACTS, **changes)  # type: ignore[arg-type]


def test_facts_become_a_machine() -> None:
    machine = machine_from_facts(FACTS)
    assert (machine.name, machine.cores, machine.threads_per_core) == ("host", 4, 2)
    assert machine.clock_hz == 3.1e9
    assert list(machine.core.isa) == ["baseline", "sse42", "avx2"]
    assert [(c.name, c.size_bytes, c.shared_by) for c in machine.caches] == [
        ("L1", 48 * KIB, 1), ("L2", 2 * MIB, 1), ("L3", 30 * MIB, 4),
    ]  # fmt: skip
    assert machine.provenance["caches.L3.size"].kind == "measured"
    assert machine.provenance["core.issue_width"].kind == "assumed"


def test_one_core_without_cache_facts() -> None:
    machine = machine_from_facts(
        _with(cpus=(3,), cores=1, caches=(), clock_hz=None, isas=("baseline",))
    )
    assert machine.total_threads == 1
    assert machine.default_isa == "baseline"
    assert machine.clock_hz > 1e8


def test_odd_caches_and_half_used_sharers() -> None:
    """A VM shows 3 of many CPUs, and a cache that is no whole number of sets."""
    caches = (CacheFacts(1, 32 * KIB, 64, 8, 1), CacheFacts(3, 33 * MIB + 17, 64, 11, 3))
    machine = machine_from_facts(_with(cpus=(0, 1, 2), cores=3, caches=caches))
    assert machine.caches[1].name == "L3"
    assert machine.caches[1].size_bytes <= 33 * MIB + 17
    assert machine.caches[1].shared_by == 3


def test_arm_host() -> None:
    machine = machine_from_facts(_with(architecture="aarch64", isas=("baseline", "neon")))
    assert machine.default_isa == "neon"
    assert machine.core.isa["neon"].fma


def test_unknown_instruction_sets() -> None:
    with pytest.raises(InputError, match="no instruction set"):
        machine_from_facts(_with(isas=("mmx",)))


def test_read_facts_from_files(tmp_path: Path) -> None:
    cpu = min(os.sched_getaffinity(0))
    folder = tmp_path / f"cpu{cpu}"
    for index, (level, kind, size) in enumerate(
        [
            (1, "Data", "48K"),
            (1, "Instruction", "32K"),
            (2, "Unified", "2048K"),
            (3, "Unified", "x"),
        ]
    ):
        cache = folder / "cache" / f"index{index}"
        cache.mkdir(parents=True)
        for name, text in (("level", str(level)), ("type", kind), ("size", size),
                           ("coherency_line_size", "64"), ("ways_of_associativity", "8"),
                           ("shared_cpu_list", f"{cpu}")):  # fmt: skip
            (cache / name).write_text(text + "\n")
    (folder / "cpufreq").mkdir()
    (folder / "cpufreq" / "cpuinfo_max_freq").write_text("2700000\n")
    info = tmp_path / "cpuinfo"
    info.write_text("model name\t: Imagined\ncpu MHz\t\t: 1000.0\n")
    facts = read_facts(tmp_path, info)
    assert facts.model == "Imagined"
    assert facts.clock_hz == 2.7e9
    assert [(c.level, c.size_bytes) for c in facts.caches] == [(1, 48 * KIB), (2, 2 * MIB)]
    (folder / "cpufreq" / "cpuinfo_max_freq").unlink()
    assert read_facts(tmp_path, info).clock_hz == 1e9
    assert read_facts(tmp_path / "nowhere", tmp_path / "none").caches == ()


def test_cpu_list() -> None:
    assert cpu_list("0-2,8,10-11") == {0, 1, 2, 8, 10, 11}
    assert cpu_list("") == set()


def test_identity_is_of_the_hardware() -> None:
    assert identity(FACTS) == identity(_with(cpus=(0, 1), cores=2))
    assert identity(FACTS) != identity(_with(model="Another"))


def test_the_real_host() -> None:
    machine = archsim.load_machine("host")
    assert machine.total_threads >= 1
    assert machine.identity is not None
    require_host(machine)
    with pytest.raises(HostMismatchError):
        require_host(machine_from_facts(FACTS))


def test_a_machine_that_starts_from_the_host_is_not_the_host(tmp_path: Path) -> None:
    file = tmp_path / "bigger.yaml"
    file.write_text("name: bigger\nbase: host\nclock: 9 GHz\n")
    machine = archsim.load_machine(file)
    assert machine.clock_hz == 9e9
    assert machine.identity is None
    with pytest.raises(HostMismatchError):
        require_host(machine)
