"""Micro-benchmarks: what they return, and that wrong calls are refused before C."""

from __future__ import annotations

import pytest

from archsim.kernels import isa_table, probes, supported_isas


@pytest.fixture(scope="module")
def probe() -> probes.Probe:
    return probes.Probe(4 * probes.LEAST_BYTES)


def test_loops_of_every_set(probe: probes.Probe) -> None:
    fma = {info.name: info.fma for info in isa_table()}
    for isa in (None, *supported_isas()):
        names = probes.loops(isa)
        if isa is not None:
            assert ("fma" in names) == fma[isa]
        for loop, operations in names.items():
            chases = operations if loop.startswith("chase") else 1
            probe.walk(probe.size_bytes)
            probe.link(probe.size_bytes, chases)
            times = probe.time(loop, isa, 3, 2)
            assert operations >= 1
            assert times.shape == (2, 6)
            assert (times >= 0).all()


def test_twice_the_steps_take_longer(probe: probes.Probe) -> None:
    """A loop that the compiler had removed would not."""
    for isa in (None, *supported_isas()):
        for loop in probes.loops(isa):
            if loop.startswith("branch"):
                continue
            probe.walk(probe.size_bytes)
            probe.link(probe.size_bytes, probes.MOST_CHASES)
            few, many = (probe.time(loop, isa, steps, 5)[:, 2].min() for steps in (50, 5000))
            assert many > 5 * few, (isa, loop)


def test_steps_for_a_time(probe: probes.Probe) -> None:
    steps = probe.steps_for("add_chain", None, 20e-6)
    assert 10 < steps < 100_000
    assert probe.steps_for("branch_random", None, 1.0) == probes.BRANCHES


def test_teams_and_pool() -> None:
    team = [probes.Probe(probes.LEAST_BYTES) for _ in range(2)]
    times = probes.time_team(team, "read", supported_isas()[-1], 3, 4)
    assert times.shape == (4, 2, 3)
    assert (times[:, :, 1] >= times[:, :, 0]).all()
    for threads in (1, 2):
        assert (probes.barrier_seconds(threads, steps=2, samples=3) > 0).all()


def test_clock_tick() -> None:
    assert 0 <= probes.clock_tick_seconds() < 1e-3


def test_wrong_calls(probe: probes.Probe) -> None:
    with pytest.raises(ValueError, match="size: got 1; must be 32768"):
        probes.Probe(1)
    with pytest.raises(MemoryError):
        probes.Probe(2**47)
    with pytest.raises(ValueError, match="loop: 'fly': unknown; those of no set: add_chain"):
        probe.time("fly", None, 1, 1)
    with pytest.raises(ValueError, match="isa: 'mmx': unknown"):
        probe.time("load", "mmx", 1, 1)
    for size, offset in ((1, 0), (2**40, 0), (probes.BLOCK_BYTES, 2), (probes.BLOCK_BYTES, 4096)):
        with pytest.raises(ValueError, match="got"):
            probe.walk(size, offset)
    for size, chases in ((64, 2), (2**40, 1), (6400, 33), (6400, 0)):
        with pytest.raises(ValueError, match="got"):
            probe.link(size, chases)
    for steps, samples in ((0, 1), (1, 0), (2**41, 1)):
        with pytest.raises(ValueError, match="got"):
            probe.time("add", None, steps, samples)
    with pytest.raises(ValueError, match="at most 32768"):
        probe.time("branch", None, 32769, 1)
    with pytest.raises(ValueError, match="probes: got 0"):
        probes.time_team([], "read", supported_isas()[0], 1, 1)


def test_chases_need_links(probe: probes.Probe) -> None:
    probe.link(probe.size_bytes, 2)
    probe.time("chase_2", None, 10, 1)
    with pytest.raises(ValueError, match="4 chases; linked for 2"):
        probe.time("chase_4", None, 10, 1)
    probe.time("update", supported_isas()[0], 10, 1)  # leaves links as they are
    probe.time("chase_1", None, 10, 1)
    for loop in sorted(probes.WRITING):
        isa = None if loop in probes.loops(None) else supported_isas()[0]
        probe.link(probe.size_bytes, 1)
        probe.time(loop, isa, 10, 1)
        with pytest.raises(ValueError, match="linked for 0"):
            probe.time("chase_1", None, 10, 1)
