"""Caches as numbers, against a small cache in plain Python."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from archsim.kernels.replay import (
    ELSEWHERE,
    PAST,
    READ,
    SEGMENT,
    UPDATE,
    WRITE,
    Caches,
    Level,
    Segments,
    Steps,
    Walk,
)

LINE = 64


class _Cache:
    """One level: sets of [line, dirty], the latest first."""

    def __init__(self, sets: int, ways: int) -> None:
        self.sets, self.ways = sets, ways
        self.held: dict[int, list[list[int]]] = defaultdict(list)

    def find(self, line: int, dirty: bool) -> bool:
        entries = self.held[line % self.sets]
        for entry in entries:
            if entry[0] == line:
                entries.remove(entry)
                entries.insert(0, [line, entry[1] | dirty])
                return True
        return False

    def bring(self, line: int, dirty: bool) -> int | None:
        """Return the dirty line that leaves."""
        entries = self.held[line % self.sets]
        entries.insert(0, [line, int(dirty)])
        if len(entries) <= self.ways:
            return None
        gone, was_dirty = entries.pop()
        return gone if was_dirty else None


class _Levels:
    """Levels of one thread, counts by level."""

    def __init__(self, *sizes: tuple[int, int]) -> None:
        self.levels = [_Cache(*size) for size in sizes]
        self.fetched, self.written = [0] * len(sizes), [0] * len(sizes)

    def touch(self, line: int, write: bool) -> None:
        if self.levels[0].find(line, write):
            return
        found = 0
        while True:
            self.fetched[found] += 1
            found += 1
            if found == len(self.levels) or self.levels[found].find(line, False):
                break
        for level in reversed(range(found)):
            self.bring(level, line, write and level == 0)

    def bring(self, level: int, line: int, dirty: bool) -> None:
        gone = self.levels[level].bring(line, dirty)
        if gone is None:
            return
        self.written[level] += 1
        if level + 1 < len(self.levels) and not self.levels[level + 1].find(gone, True):
            self.bring(level + 1, gone, True)


def _segments(*rows: dict[str, int]) -> Segments:
    found = np.zeros(len(rows), dtype=SEGMENT)
    for segment, row in zip(found, rows, strict=True):
        for name, value in {"rows": 1, "last": 1, **row}.items():
            segment[name] = value
    return found


def _walk(*rows: dict[str, int], steps: tuple[int, ...] = (0,), arrays: int = 1) -> Walk:
    return Walk(
        _segments(*rows),
        Steps(np.array(steps, dtype=np.int64)),
        np.zeros(arrays, dtype=np.int64),
    )


def _level(sets: int, ways: int, *instance: int, share: tuple[float, ...] = (1.0,)) -> Level:
    return Level(sets, ways, instance or (0,), share)


@pytest.mark.parametrize("sizes", [((4, 2),), ((4, 2), (7, 3)), ((3, 1), (5, 2), (11, 4))])
def test_counts_are_those_of_a_plain_cache(sizes: tuple[tuple[int, int], ...]) -> None:
    rng = np.random.default_rng(0)
    lines = rng.zipf(1.3, 4000) % 97
    writes = rng.random(4000) < 0.3
    plain = _Levels(*sizes)
    for line, write in zip(lines.tolist(), writes.tolist(), strict=True):
        plain.touch(line, write)
    caches = Caches([_level(*size) for size in sizes])
    caches.run(
        [
            _walk(
                *(
                    {"offset": LINE * line + 7, "width": 9, "touch": UPDATE if write else READ}
                    for line, write in zip(lines.tolist(), writes.tolist(), strict=True)
                )
            )
        ]
    )
    moved = caches.moved()
    assert moved.fetched.sum(axis=(1, 2)).tolist() == plain.fetched
    assert moved.written.sum(axis=(1, 2)).tolist() == plain.written
    assert moved.touched.tolist() == [4000]


def test_rows_widths_and_steps_name_the_right_lines() -> None:
    walk = _walk(
        {"offset": 60, "width": 8, "rows": 3, "pitch": 2 * LINE, "first": 1, "last": 3},
        steps=(0, 0, 64 * LINE),
    )
    caches = Caches([_level(1024, 2)])
    caches.run([walk])
    # rows cross a line each: 0, 1, 2, 3, 4, 5, and the same 64 lines further
    assert caches.moved().fetched.sum() == 12
    caches.run(
        [
            _walk({"width": 6 * LINE}),
        ]
    )
    assert caches.moved().fetched.sum() == 12


def test_neighbouring_rows_in_one_line_are_one_touch() -> None:
    caches = Caches([_level(8, 2)])
    caches.run([_walk({"width": 16, "rows": 8, "pitch": 16})])
    assert caches.moved().touched.tolist() == [2]


def test_sides_are_read_beside_each_step() -> None:
    walk = _walk(
        {"offset": 0, "width": 4, "first": 0, "last": 40, "side": 1, "sides": 2, "side_step": 4},
        steps=(0,) * 40, arrays=3,
    )  # fmt: skip
    caches = Caches([_level(64, 4, share=(1.0,) * 3)])
    caches.run([walk])
    assert caches.moved().fetched[0, 0].tolist() == [1, 3, 3]


def test_empty_walks_touch_nothing() -> None:
    caches = Caches([_level(8, 2)])
    caches.run([_walk({"width": 4, "last": 0}, {"width": 0}, {"width": 4, "rows": 0})])
    caches.run([_walk()])
    assert caches.moved().touched.tolist() == [0]


def test_threads_share_a_level_and_take_turns() -> None:
    """Two threads that walk two halves of a cache twice: alone they would fit."""
    rows = [{"offset": LINE * i, "width": LINE} for i in range(8)] * 2
    alone = Caches([_level(1, 8)])
    alone.run([_walk(*rows)])
    assert alone.moved().fetched.sum() == 8
    both = Caches([_level(1, 8, 0, 0)])
    far = _walk(*rows)
    far = Walk(far.segments, far.steps, np.array([1 << 20], dtype=np.int64))
    both.run([_walk(*rows), far])
    assert both.moved().fetched.sum() == 32
    apart = Caches([_level(1, 8, 0, 1)])
    apart.run([_walk(*rows), far])
    assert apart.moved().fetched.sum() == 16


def test_memory_that_need_not_be_read_first() -> None:
    for touch, lines in ((WRITE, 0), (UPDATE, 4), (READ, 4)):
        caches = Caches([_level(8, 2), _level(16, 2)], write_allocate=False)
        caches.run([_walk({"width": 4 * LINE, "touch": touch})])
        assert caches.moved().fetched.sum(axis=(1, 2)).tolist() == [4, lines]


def test_stores_around_the_caches() -> None:
    caches = Caches([_level(8, 2), _level(16, 2)])
    caches.run([_walk({"width": 4 * LINE}, {"width": 4 * LINE, "touch": PAST}, {"width": LINE})])
    moved = caches.moved()
    assert moved.written.sum(axis=(1, 2)).tolist() == [0, 4]
    assert moved.fetched.sum(axis=(1, 2)).tolist() == [5, 5]  # the line is no longer near


def test_what_others_write_is_in_the_level_that_they_share() -> None:
    caches = Caches([_level(8, 2), _level(16, 2)], first_shared=1)
    caches.run([_walk({"width": 4 * LINE}, {"width": 4 * LINE, "touch": ELSEWHERE})])
    caches.run([_walk({"width": 4 * LINE})])
    assert caches.moved().fetched.sum(axis=(1, 2)).tolist() == [8, 4]


def test_a_write_takes_the_line_from_other_cores() -> None:
    level = Level(8, 2, (0, 1), (1.0,))
    caches = Caches([level, _level(16, 2, 0, 0)], together=[0])
    caches.run([_walk({"width": LINE}), _walk()])
    caches.run([_walk(), _walk({"width": LINE, "touch": UPDATE})])
    caches.run([_walk({"width": LINE}), _walk()])
    assert caches.moved().fetched.sum(axis=(1, 2)).tolist() == [3, 1]


def test_a_level_holds_its_share_of_what_many_read() -> None:
    outer = _level(4096, 2, share=(0.25,))
    caches = Caches([_level(4, 2), outer])
    caches.run([_walk({"width": 4000 * LINE})])
    inner, shared = caches.moved().fetched.sum(axis=(1, 2)).tolist()
    assert inner == 4000
    assert shared == pytest.approx(1000, rel=0.05)


@pytest.mark.parametrize(
    "row",
    [
        {"array": 1}, {"array": -1}, {"phase": 3}, {"touch": 5}, {"first": 1, "last": 2},
        {"first": -1}, {"offset": -1}, {"rows": -1}, {"width": -1}, {"pitch": -1},
        {"side": 1, "sides": 1, "side_step": 4}, {"side_offset": -1}, {"offset": 1 << 60},
        {"rows": 1 << 30, "pitch": 1 << 40},
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(row: dict[str, int]) -> None:
    caches = Caches([_level(8, 2)])
    with pytest.raises(ValueError, match=r"segment 0: out of range"):
        caches.run([_walk({"width": 4, **row})])


def test_sizes_are_checked() -> None:
    for level in (_level(0, 1), _level(1, 0), Level(1, 1, (-1,), (1.0,)), Level(1, 1, (0,), ())):
        with pytest.raises(ValueError, match=r"out of range|wrong shape"):
            Caches([level])
    with pytest.raises(ValueError, match="power of two"):
        Caches([_level(8, 2)], line_bytes=48)
    with pytest.raises(MemoryError):
        Caches([_level(2**40, 2**10)])
