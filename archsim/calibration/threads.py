"""Several cores at once: shared levels, and what the pool of threads itself costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from archsim.calibration.bench import Bench
from archsim.calibration.caches import Level
from archsim.calibration.memory import team_round
from archsim.calibration.sampling import Figure, Round, settle
from archsim.host import machine_from_facts
from archsim.hostfacts import read_facts
from archsim.kernels import probes
from archsim.methods import get_method
from archsim.native import prepare
from archsim.network import Layer
from archsim.sparsity import Sparsity

#: waiting for each other varies more than computing
POOL_TOLERANCE: Final = 0.15
_POOL_QUANTILE: Final = 0.25
_SAMPLE_SECONDS: Final = 200e-6
_ROUNDS: Final = 8
_POOL_STEPS: Final = 5  # few: a thread that lost its core holds all of them up
_CALLS: Final = 20
#: of the tiny layer, for each thread; and what is read between two calls: 4/3 of 48 KiB
_CHANNELS: Final = 16
_BETWEEN_BYTES: Final = 64 * 1024
#: a product whose packed matrix is in the second level, and of some hundred packed blocks
_DEPTH: Final = 256
_COLUMNS: Final = 576
_CHANNELS_OF_PRODUCT: Final = 384
_PRODUCTS: Final = 60
#: long enough for a power limit to show, and for what the system takes
_LONG_SECONDS: Final = 5e-3
_LONG_SAMPLES: Final = 16
_LONG_TOLERANCE: Final = 0.03


@dataclass(frozen=True, slots=True)
class Shared:
    """A walk by several cores at once: seconds of a line, of all of them together."""

    level: str
    cores: int
    figure: Figure


def shared_walks(bench: Bench, level: Level, walk: str, isa: str, cores: int) -> list[Shared]:
    """Measure a walk of a level on 2, 4, 8 ... and all cores, each with its own working set."""
    counts = sorted({*(2**i for i in range(1, 11) if 2**i < cores), cores})
    return [_shared_walk(bench, level, walk, isa, count) for count in counts if count > 1]


def _shared_walk(bench: Bench, level: Level, walk: str, isa: str, cores: int) -> Shared:
    each = level.size_bytes if level.name != "memory" else level.size_bytes // cores
    each -= each % probes.BLOCK_BYTES
    team = [probes.Probe(max(each, probes.LEAST_BYTES)) for _ in range(cores)]
    alone = bench.figure(level.key(walk), seconds=True).value
    lines = probes.BLOCK_BYTES // probes.LINE_BYTES
    steps = max(1, round(_SAMPLE_SECONDS / (alone * lines)))
    probes.time_team(team, walk, isa, each // probes.BLOCK_BYTES, 1)
    rounds: list[Round] = []
    for number in range(_ROUNDS):
        bench.progress(f"{level.name} {walk} on {cores} cores: round {number + 1}")
        times = probes.time_team(team, walk, isa, steps, bench.samples)
        rounds.append(team_round(times, cores * steps * lines))
        if number and settle(rounds, level.tolerance).settled:
            break
        if number and bench.late:
            break
    figure = settle(rounds, level.tolerance, seconds=True)
    return Shared(level.name, cores, figure)


def pool_figure(bench: Bench, cores: int) -> Figure:
    """Measure seconds of a barrier of so many threads."""
    return _repeated(
        bench, "barrier",
        lambda: probes.barrier_seconds(cores, steps=_POOL_STEPS, samples=bench.samples),
    )  # fmt: skip


def call_figure(bench: Bench, method: str, schedule: str, *, threads: int = 1) -> Figure:
    """Measure seconds of calling a prepared layer that has next to nothing to compute.

    Between two calls each thread reads a little more than its first level holds, as a call that
    has something to compute would: what the call itself touches is not there any more.
    """
    layer = Layer("tiny", C=1, K=_CHANNELS * threads)
    weights = np.ones((layer.K, 1, 1, 1), np.float32)
    facts = read_facts()
    plan = get_method(method).plan(
        layer, Sparsity(1.0, weights), batch=1, threads=threads, schedule=schedule,
        target=machine_from_facts(facts).target(), partition="nnz",
    )  # fmt: skip
    prepared = prepare(plan, weights)
    x = np.ones((1, layer.C, layer.H, layer.W), np.float32)
    out = prepared.run(x)
    team = [probes.Probe(_BETWEEN_BYTES) for _ in range(threads)]
    isa, blocks = facts.isas[-1], _BETWEEN_BYTES // probes.BLOCK_BYTES

    def sample() -> NDArray[np.float64]:
        seconds = np.empty(bench.samples * _CALLS)
        for i in range(len(seconds)):
            probes.time_team(team, "read", isa, blocks, 1)
            start = time.perf_counter()
            prepared.run(x, out)
            seconds[i] = time.perf_counter() - start
        return seconds

    return _repeated(bench, f"call of {method} on {threads}", sample)


def product_figure(bench: Bench, isa: str, lanes: int, loop: str) -> Figure:
    """Measure what a product of the BLAS library takes of the time of a loop of multiply-adds.

    Both in turns on one thread, so that a neighbour on its core slows both. Greater than 1 where
    the library does not reach the ports.

    Of two products with the same matrix the second one has twice the output channels: packing the
    matrix, the call and the cache that the matrix is in are the same, and the difference is
    products and packing weights, some hundredth of them.
    """
    facts = read_facts()
    x = np.ones((1, _DEPTH, 1, _COLUMNS), np.float32)
    pair = []
    for channels in (_CHANNELS_OF_PRODUCT, 2 * _CHANNELS_OF_PRODUCT):
        layer = Layer("product", C=_DEPTH, K=channels, H=1, W=_COLUMNS)
        weights = np.ones((channels, _DEPTH, 1, 1), np.float32)
        plan = get_method("dense_gemm").plan(
            layer, Sparsity(0.0, weights), batch=1, threads=1, schedule="im2col",
            target=machine_from_facts(facts).target(), partition="nnz",
        )  # fmt: skip
        prepared = prepare(plan, weights)
        pair.append((prepared, prepared.run(x)))
    each = _CHANNELS_OF_PRODUCT * _DEPTH * _COLUMNS / lanes
    steps = bench.probe.steps_for(loop, isa, _SAMPLE_SECONDS)
    operations = steps * probes.loops(isa)[loop]

    def sample() -> NDArray[np.float64]:
        seconds = np.empty((_PRODUCTS, 3))
        for i in range(_PRODUCTS):
            for j, (prepared, out) in enumerate(pair):
                start = time.perf_counter()
                prepared.run(x, out)
                seconds[i, j] = time.perf_counter() - start
            seconds[i, 2] = bench.probe.time(loop, isa, steps, 1)[0, 2]
        # not of single pairs: the least difference has a slow first product
        less, more, alone = np.quantile(seconds, _POOL_QUANTILE, axis=0)
        return np.array([(more - less) / each / (alone / operations)])

    return _repeated(bench, "products of BLAS", sample)


def sustained_figure(bench: Bench, isa: str, loop: str) -> Figure:
    """Measure seconds of an operation of a loop that goes on for milliseconds.

    The median of each round, not its fastest samples: other figures say what the ports can do in a
    good moment, this one what the core is allowed to over a whole layer.
    """
    steps = bench.probe.steps_for(loop, isa, _LONG_SECONDS)
    operations = steps * probes.loops(isa)[loop]
    return _repeated(
        bench, f"{isa} {loop} sustained",
        lambda: bench.probe.time(loop, isa, steps, _LONG_SAMPLES)[:, 2] / operations,
        quantile=0.5, tolerance=_LONG_TOLERANCE,
    )  # fmt: skip


def _repeated(
    bench: Bench, what: str, sample: Callable[[], NDArray[np.float64]], *,
    quantile: float = _POOL_QUANTILE, tolerance: float = POOL_TOLERANCE,
) -> Figure:  # fmt: skip
    """Measure rounds of samples that know no yardstick: seconds of one operation each."""
    rounds: list[Round] = []
    for number in range(_ROUNDS):
        bench.progress(f"{what}: round {number + 1}")
        cpu, wall = time.thread_time(), time.perf_counter()
        seconds = sample()
        wall = time.perf_counter() - wall
        stolen = max(0.0, 1.0 - (time.thread_time() - cpu) / wall)
        value, middle = (float(np.quantile(seconds, q)) for q in (quantile, 0.5))
        # a pool's thread that waits gives its core away on purpose: not stolen
        rounds.append(Round(value, value, middle, middle, 0.0, 1.0, stolen))
        if number and settle(rounds, tolerance).settled:
            break
        if number and bench.late:
            break
        time.sleep(0.02 * number)
    return settle(rounds, tolerance)
