"""Calibration: its arithmetic on made-up samples, its file, and one small run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import archsim
from archsim.calibration import caches, consistency, memory, ports, siblings
from archsim.calibration.bench import Bench, Task
from archsim.calibration.check import Compared
from archsim.calibration.figures import Entry
from archsim.calibration.file import machine_text, write_atomically
from archsim.calibration.run import Calibration, levels_that_fit
from archsim.calibration.sampling import Figure, Round, round_of, settle
from archsim.calibration.siblings import Pair
from archsim.errors import InputError
from archsim.hostfacts import read_facts
from archsim.kernels import probes, supported_isas
from archsim.machine import Machine

GHZ = 3e9
YARDSTICK = (9600, 3200)
MULTIPLY = 3  # cycles of an integer multiplication on this made-up core


def _samples(cycles: float, count: int = 100, clock: float = GHZ) -> NDArray[np.float64]:
    """Samples of 1000 operations on a quiet core: six columns, see round_of."""
    adding, multiplying = YARDSTICK[0] / clock, MULTIPLY * YARDSTICK[1] / clock
    row = [adding, multiplying, 1000 * cycles / clock, adding, multiplying]
    return np.tile(np.array([*row, sum(row)]), (count, 1))


def _round(times: NDArray[np.float64]) -> Round:
    return round_of(times, 1000, YARDSTICK, 0.0)


# ---- samples and rounds ----


def test_a_quiet_round() -> None:
    found = _round(_samples(4.0))
    assert found.cycles == pytest.approx(4.0)
    assert found.clock_hz == pytest.approx(GHZ)
    assert (found.clean, found.stolen) == (1.0, 0.0)
    assert found.counts(0.02)


def test_cycles_do_not_depend_on_the_clock() -> None:
    times = np.concatenate([_samples(4.0, clock=clock) for clock in (2e9, 2.9e9, 4.4e9)])
    assert _round(times).cycles == pytest.approx(4.0)
    assert _round(times).clean == 1.0


def test_reading_the_clock_is_taken_off() -> None:
    times = _samples(4.0)
    times[:, :5] += 25e-9
    times[:, 5] += 5 * 25e-9
    assert round_of(times, 1000, YARDSTICK, 25e-9).cycles == pytest.approx(4.0)


def test_interrupted_samples_do_not_count() -> None:
    times = _samples(4.0)
    times[:60, 2] += 100e-6  # in the loop: wall time without CPU time
    found = _round(times)
    assert found.cycles == pytest.approx(4.0)
    assert found.clean == pytest.approx(0.4)
    assert found.stolen > 0.5


def test_a_clock_that_changes_inside_a_sample_does_not_count() -> None:
    times = _samples(4.0)
    times[::2, 3:5] *= 1.1
    times[:, 5] = times[:, :5].sum(axis=1)
    assert _round(times).clean == pytest.approx(0.5)


def test_a_neighbour_on_the_core_is_seen() -> None:
    """It holds additions up by more than multiplications, and CPU time says nothing of it."""
    times = _samples(4.0)
    times[:, [0, 3]] *= 1.10
    times[:, [1, 4]] *= 1.03
    times[:, 5] = times[:, :5].sum(axis=1)
    found = _round(times)
    assert found.clean == 0.0
    assert not found.counts(0.02)
    assert not settle([found, found, found], 0.02).settled


def test_a_round_of_two_speeds_does_not_count() -> None:
    times = np.concatenate([_samples(4.0, 20), _samples(4.4, 80)])
    assert not _round(times).counts(0.02)
    assert _round(times).counts(0.08)


def test_settled_by_two_rounds_that_agree() -> None:
    quick, slow, near = (_round(_samples(c)) for c in (4.0, 5.0, 4.03))
    found = settle([slow, quick, slow, near], 0.02)
    assert found.settled
    assert found.value == pytest.approx(4.0)
    assert (found.agreeing, found.rounds) == (2, 4)
    assert found.low <= found.value <= found.high == pytest.approx(4.03)
    alone = settle([slow, quick, slow], 0.02)
    assert not alone.settled
    assert alone.values == pytest.approx((4.0, 5.0, 5.0))
    assert settle([quick, near], 0.02, seconds=True).value == pytest.approx(4.0 / GHZ)


def test_several_threads_at_once() -> None:
    times = np.zeros((10, 2, 3))
    times[:, :, 1] = 100e-6
    times[:, :, 2] = 100e-6
    times[5:, 1, 2] = 50e-6  # one of them lost its core
    found = memory.team_round(times, 1000)
    assert found.seconds == pytest.approx(100e-9)
    assert found.clean == 0.5
    times[:, 1, :2] += 90e-6  # one after the other
    assert memory.team_round(times, 1000).clean == 0.0


# ---- levels ----


def test_level_ends() -> None:
    latencies = [5, 5, 5, 15, 16, 16, 16, 40, 200, 210, 210]
    points = [caches.Point(2**i * 1024, float(c), 1.0) for i, c in enumerate(latencies, 3)]
    assert 32 * 1024 <= (caches.level_end(points, 5, 16) or 0) <= 64 * 1024
    assert 512 * 1024 <= (caches.level_end(points, 16, 210) or 0) <= 2**21
    assert caches.level_end(points, 210, 800) is None  # the curve ends first
    assert caches.level_end(points, 0.5, 1) is None


def test_steps_give_the_streams_back() -> None:
    for rules in (("serial", "serial", "serial"), ("serial", "overlapped", "serial"),
                  ("overlapped", "overlapped", "overlapped"),
                  ("overlapped", "serial", "latency")):  # fmt: skip
        streams = [0.5, 1.3, 6.3, 12.0]
        steps = caches.read_steps(streams, rules)
        assert caches.stream_times(streams[0], steps, rules) == pytest.approx(streams), rules


def test_steps_are_what_the_model_reads() -> None:
    assert caches.read_steps([0.5, 1.5, 4.5], ["serial", "serial"]) == [1.0, 3.0]
    assert caches.read_steps([0.5, 1.5, 4.5], ["serial", "overlapped"]) == [1.0, 4.5]
    writes = caches.write_steps([1.0, 3.0, 9.0], [1.0, 3.0], ["serial", "serial"], 0.5)
    assert writes == [1.0, 3.0]
    hidden = caches.write_steps([1.0, 3.0, 4.6], [1.0, 4.5], ["serial", "overlapped"], 0.5)
    assert hidden == [1.0, 0.5]  # never below what the core takes to store a line


def test_disturbed_streams_still_give_numbers() -> None:
    """They are refused as contradictions, or written by force: no rate is negative."""
    assert min(caches.read_steps([0.5, 0.4, 0.4], ["serial", "overlapped"])) > 0
    assert caches.hiding({0: 0.5, 2: 1.0}, {0: 0.4, 2: 1.0}).share == 0.0


def test_overlap_is_decided_where_the_rules_differ_most() -> None:
    first = {0: 0.5, 4: 2.5, 12: 6.5, 24: 12.5}
    serial = {n: cycles + 5.5 for n, cycles in first.items()}
    found = caches.hiding(first, serial)
    assert found.beside == 12
    assert found.share == pytest.approx(0.0)
    hidden = {n: max(cycles, 6.0) for n, cycles in first.items()}
    assert caches.hiding(first, hidden).share == pytest.approx(1.0)
    assert caches.rule(0.9, 6.0, 50.0) == "overlapped"
    assert caches.rule(0.1, 6.0, 50.0) == "serial"
    assert caches.rule(0.1, 45.0, 50.0) == "latency"


def test_write_allocate() -> None:
    assert memory.allocates_on_write(read=12, write=20, update=13)
    assert memory.allocates_on_write(read=6, write=11, update=12)
    assert not memory.allocates_on_write(read=6, write=6, update=12)


def test_places_lie_inside_their_level() -> None:
    levels = caches.places({"L1": 48 << 10, "L2": 2 << 20, "L3": 32 << 20}, 100 << 20)
    sizes = [level.size_bytes for level in levels]
    assert [level.name for level in levels] == ["L1", "L2", "L3", "memory"]
    assert sizes == [16 << 10, 384 << 10, 16 << 20, 100 << 20]


def test_memory_to_walk() -> None:
    mib = 2**20
    assert memory.working_set(32 * mib, 8192 * mib) == 72 * mib
    assert memory.working_set(32 * mib, 100 * mib) == 0  # too little to be sure of missing
    assert memory.working_set(1 * mib, 8192 * mib) == 64 * mib


def test_levels_that_do_not_fit_are_left_out() -> None:
    sizes = {"L1": 48 << 10, "L2": 2 << 20, "L3": 260 << 20}
    for free, names in ((8 << 30, ["L1", "L2", "L3", "memory"]), (700 << 20, ["L1", "L2", "L3"]),
                        (30 << 20, ["L1", "L2"]), (1 << 10, ["L1"])):  # fmt: skip
        found = Calibration(read_facts(), True)
        assert [level.name for level in levels_that_fit(found, sizes, free)] == names
        assert len(found.left_out) == 4 - len(names)


def test_a_cgroup_limits_memory(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable:  1000 kB\n")
    assert memory.free_bytes(tmp_path, tmp_path) == 1_024_000
    (tmp_path / "memory.max").write_text("500000\n")
    (tmp_path / "memory.current").write_text("100000\n")
    assert memory.free_bytes(tmp_path, tmp_path) == 400_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes(tmp_path, tmp_path) == 1_024_000
    assert memory.free_bytes(tmp_path / "nowhere", tmp_path / "nowhere") > 0


# ---- contradictions ----


def _figure(agreeing: int, value: float = 1.0) -> Figure:
    return Figure(value, value, value, 3, agreeing, 0.9, 0.1, 0.02, (value,))


def test_contradictions() -> None:
    names = ["L1", "L2", "L3"]
    assert consistency.ordered("latency", names, [5, 14, 50]) == []
    assert "L3 (12) is faster than L2 (14)" in consistency.ordered("x", names, [5, 14, 12])[0]
    assert consistency.yardstick(3.01) == []
    assert consistency.yardstick(3.4)
    assert consistency.yardstick(1.0)
    assert consistency.within_issue({"a": 4.0}, 6.0) == []
    assert consistency.within_issue({"a": 7.0}, 6.0)
    assert consistency.peak(16, 2.0, 3e9, 192e9) == []
    assert consistency.peak(16, 2.0, 3e9, 250e9)
    assert consistency.clocks(3e9, None, {"v": 2.8e9}) == []
    assert consistency.clocks(3e9, 2.5e9, {})
    assert consistency.clocks(3e9, None, {"v": 3.5e9})
    assert consistency.together("L3", 2, 10e9, 19e9) == []
    assert consistency.together("L3", 2, 10e9, 30e9)
    assert consistency.together("L3", 2, 10e9, 5e9)


def test_disturbance_names_the_evidence() -> None:
    figures = {"quiet": _figure(2), "load": _figure(1)}
    assert consistency.disturbed({"quiet": _figure(2)}, 0.01) == []
    (line,) = consistency.disturbed(figures, 0.01)
    assert line.startswith("load: 1 of 3 rounds within 2% of the fastest")
    assert "others took 10%" in line
    assert "others took 50%" in consistency.disturbed({}, 0.5)[0]


# ---- the file ----


def _text(entries: list[Entry], **changes: object) -> str:
    settings: dict[str, object] = {"about": "made up", "disturbed": False, "left_out": ""}
    return machine_text(read_facts(), entries, **(settings | changes))  # type: ignore[arg-type]


def _machine(tmp_path: Path, text: str) -> Machine:
    file = tmp_path / "made-up.yaml"
    file.write_text(text)
    return archsim.load_machine(file)


def test_the_file_says_what_was_measured(tmp_path: Path) -> None:
    isa = supported_isas()[-1]
    machine = _machine(tmp_path, _text([
        Entry("clock", 2.8765e9, "Hz", 2.8e9, 2.9e9),
        Entry(f"core.isa.{isa}.loads", 1.98765, "/cycle", 1.9, 1.98765, "of a made-up core"),
        Entry("caches.L1.overlap", "overlapped"),
        Entry("caches.L1.outstanding", 12),
        Entry("memory.DDR.bandwidth", 31.4e9, "B/s", 30e9, 31.4e9),
        Entry("memory.DDR.write_allocate", False),
        Entry("fork_join", 250e-9, "s"),
        Entry("call_overhead", 2e-6, "s"),
    ]))  # fmt: skip
    assert machine.clock_hz == pytest.approx(2.876e9, rel=1e-3)
    assert machine.core.isa[isa].loads == 1.988
    assert machine.caches[0].overlap == "overlapped"
    assert machine.caches[0].outstanding == 12
    assert not machine.memory[0].write_allocate
    assert machine.fork_join_s == pytest.approx(250e-9)
    assert machine.call_overhead_s == pytest.approx(2e-6)
    where = machine.provenance[f"core.isa.{isa}.loads"]
    assert (where.kind, where.text, where.note) == ("measured", "made up", "of a made-up core")
    assert (where.low, where.high) == (1.9, 1.988)
    assert machine.provenance["core.reorder_window"].kind == "assumed"


def test_a_disturbed_file_says_so(tmp_path: Path) -> None:
    machine = _machine(tmp_path, _text([], disturbed=True, left_out="load: 1 of 3 rounds"))
    assert "DISTURBED" in machine.description
    assert machine.note == "load: 1 of 3 rounds"


def test_files_are_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    write_atomically(path, "one")
    write_atomically(path, "two")
    assert path.read_text() == "two"
    with pytest.raises(InputError, match="cannot be written"):
        write_atomically(tmp_path / "nowhere" / "a.yaml", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_atomically(tmp_path / "folder", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.yaml", "folder"]


def test_what_matches() -> None:
    item = Compared("core.issue_width", 4.0, 4.1, 4.2, 0.05, "/cycle")
    assert item.matches
    assert not Compared("core.issue_width", 4.0, 4.1, 4.4, 0.05, "/cycle").matches
    assert not Compared("core.issue_width", 4.0, 4.1, 3.7, 0.05, "/cycle").matches


# ---- one small run on this host ----


def test_a_small_run() -> None:
    """Whatever else this machine does: every loop gives a figure, and the file is a machine."""
    told: list[str] = []
    bench = Bench(probes.Probe(2**20), deadline=0.0, samples=5, least_rounds=2,
                  progress=told.append)  # fmt: skip
    isas = supported_isas()[-1:]
    figures = bench.measure("core", ports.tasks(isas))
    assert len(told) == 2 * len(figures)
    levels = caches.places({"L1": 32 << 10, "L2": 512 << 10}, 2**20)[:2]
    figures |= bench.measure("caches", caches.tasks(levels, isas[-1], quick=True))
    assert all(figure.value > 0 and figure.rounds == 2 for figure in figures.values())
    entries = ports.entries(bench, isas)
    text = _text(entries)
    assert "core.isa" not in text
    paths = {entry.path for entry in entries}
    assert {"clock", "core.issue_width", "core.scalar", "core.mispredict"} <= paths
    most, seen = caches.outstanding(bench, levels, 0)
    assert most > 0
    assert seen.startswith("L2, ")
    json.dumps([str(entry.value) for entry in entries])


def test_large_chases_go_on_where_they_were() -> None:
    bench = Bench(probes.Probe(64 * 2**20), 0.0, 2, 1, lambda _: None)
    task = Task("far", "chase_1", size_bytes=64 * 2**20, chases=1)
    bench.run(task)
    assert bench._linked == (64 * 2**20, probes.MOST_CHASES)
    bench.run(Task("w", "write", supported_isas()[0], 2**20))
    assert bench._linked == (0, 0)
    bench.run(task)


def test_two_cpus_that_are_one_core() -> None:
    apart, together = Pair((0, 1), 1.02, 1.01), Pair((0, 1), 2.0, 1.2)
    assert siblings.contradictions(apart, stated_one_core=False) == []
    assert siblings.contradictions(together, stated_one_core=True) == []
    assert "as one core would" in siblings.contradictions(together, stated_one_core=False)[0]
    assert siblings.hides_stalls(together).value is True
    assert siblings.hides_stalls(Pair((0, 1), 2.0, 1.9)).value is False
    assert siblings.sibling_of(0, (0, 1, 4), "0,4\n") == 4
    assert siblings.sibling_of(0, (0, 1), "0,4\n") is None


def test_a_pair_is_measured() -> None:
    cpu = read_facts().cpus[0]
    before = os.sched_getaffinity(0)
    pair = siblings.measure_pair((cpu, cpu), supported_isas()[-1])
    assert pair.arithmetic > 0
    assert pair.branches > 0
    assert os.sched_getaffinity(0) == before
