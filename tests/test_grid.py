"""predict_grid: every point is what predict says of it; machines that vary from one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archsim
from archsim.errors import InputError, NotApplicableError
from archsim.machinefile import load_machine, machine_names
from archsim.machinepath import value_at
from archsim.methods import METHODS
from archsim.network import Layer, load_network
from archsim.variation import vary

CONV3 = load_network("alexnet")["conv3"]
XEON = load_machine("xeon-e5-2697v4-2s")
MACHINES = [load_machine(name) for name in machine_names()]
LAYERS = [
    CONV3,
    load_network("alexnet")["conv2"],
    load_network("alexnet")["fc6"],
    Layer("odd", C=6, K=50, H=9, W=11, R=3, S=3, pad=(1, 1), stride=(2, 2), groups=2),
    Layer("one", C=3, K=5),
]


def _domain(method: str) -> Any:
    return "winograd" if method == "sparse_winograd" else "spatial"


@settings(max_examples=60, deadline=None)
@given(
    layer=st.sampled_from(LAYERS),
    method=st.sampled_from(list(METHODS)),
    schedule=st.sampled_from(["auto", "row", "row:dyn32", "lanes:tiles"]),
    partition=st.sampled_from(["nnz", "rows", "dynamic"]),
    machines=st.lists(st.sampled_from(MACHINES), min_size=1, max_size=3),
    densities=st.lists(st.sampled_from([0.0, 0.03, 0.11, 0.4, 1.0]), min_size=1, max_size=3),
    batches=st.lists(st.sampled_from([1, 3, 72]), min_size=1, max_size=2),
    threads=st.lists(st.sampled_from([None, 1, 2, 64]), min_size=1, max_size=2),
    point=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_every_point_is_what_predict_says(
    layer: Layer, method: str, schedule: str, partition: Any, machines: Any, densities: Any,
    batches: Any, threads: Any, point: Any,
) -> None:  # fmt: skip
    common: dict[str, Any] = {
        "method": method, "schedule": schedule, "partition": partition,
        "density_domain": _domain(method),
    }  # fmt: skip
    given_axes = (machines, densities, batches, threads)
    i, j, k, t = (place % len(axis) for place, axis in zip(point, given_axes, strict=True))
    try:
        grid = archsim.predict_grid(
            layer, machines, densities=densities, batches=batches, threads=threads, **common
        )
    except NotApplicableError:
        found = archsim.predict(layer, machines[i], density=densities[j], **common)
        assert found.seconds is None
        return
    assert grid.seconds.shape == tuple(len(axis) for axis in given_axes)
    if threads[t] is not None and threads[t] > machines[i].total_threads:
        assert np.isnan(grid.seconds[i, j, k, t])
        assert grid.bound_by(i, j, k, t) is None
        return
    found = archsim.predict(
        layer, machines[i], density=densities[j], batch=batches[k], threads=threads[t], **common
    )
    assert found.seconds == pytest.approx(grid.seconds[i, j, k, t], rel=1e-12)
    assert found.effective_gflops == pytest.approx(
        grid.effective_flops_per_s[i, j, k, t] / 1e9, rel=1e-12
    )
    assert grid.bound_by(i, j, k, t) in found.bound_by
    assert grid.method(i, j, k, t) == method
    assert grid.schedule(i, j, k, t) == found.schedule


def test_auto_is_the_fastest_method() -> None:
    grid = archsim.predict_grid(CONV3, [XEON], densities=[0.02, 0.9], batches=[72])
    for j, density in enumerate((0.02, 0.9)):
        found = archsim.predict(CONV3, XEON, density=density, batch=72)
        assert grid.seconds[0, j, 0, 0] == pytest.approx(found.seconds, rel=1e-12)
        assert (grid.method(0, j, 0, 0), grid.schedule(0, j, 0, 0)) == (
            found.method, found.schedule,
        )  # fmt: skip


def test_many_points_are_the_same_in_small_and_large_arrays() -> None:
    """More densities than a plan takes at once, more machines than an array."""
    machines = vary(XEON, {"memory.DDR.bandwidth": np.linspace(1e10, 3e11, 40)})
    densities = np.linspace(0.01, 1.0, 1500)
    common: dict[str, Any] = {"batches": [72], "method": "direct_sparse", "schedule": "row"}
    grid = archsim.predict_grid(CONV3, machines, densities=densities, **common)
    alone = archsim.predict_grid(CONV3, machines[7], densities=densities[1400:1401], **common)
    assert alone.seconds[0, 0] == pytest.approx(grid.seconds[7, 1400], rel=1e-12)
    assert (np.diff(grid.seconds[:, :, 0, 0], axis=0) <= 1e-12 * grid.seconds[1:, :, 0, 0]).all()


def test_a_wide_grid_stays_small() -> None:
    """Arrays are worked on in pieces: the largest is a small multiple of the answer."""
    import tracemalloc

    machines = vary(XEON, {"memory.DDR.bandwidth": np.linspace(1e10, 3e11, 100)})
    tracemalloc.start()
    grid = archsim.predict_grid(
        CONV3, machines, densities=np.linspace(0.01, 1, 1000), batches=[72],
        method="lowered_sparse",
    )  # fmt: skip
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grid.seconds.size == 100_000
    assert peak < 120e6


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"densities": [0.1, 1.5]}, "densities: must lie in 0..1; found 1.5"),
        ({"densities": ["x"]}, "densities: numbers are due"),
        ({"densities": [[0.1]]}, "list of numbers"),
        ({"densities": []}, "axis density: is empty"),
        ({"batches": [0]}, "batches: must be a whole number"),
        ({"threads": [0]}, "threads: must be a whole number"),
        ({"method": "magic"}, "unknown method"),
        ({"method": "direct_sparse", "schedule": "magic"}, "unknown schedule"),
        ({"clock": "fast"}, "unknown clock"),
        ({"density_domain": "odd"}, "density_domain"),
        ({"partition": "odd"}, "unknown partition"),
    ],
)
def test_bad_arguments_of_a_grid(arguments: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        archsim.predict_grid(CONV3, XEON, **arguments)


def test_a_method_that_does_not_apply() -> None:
    with pytest.raises(NotApplicableError, match="fully connected"):
        archsim.predict_grid(CONV3, XEON, method="fc_sparse")


def test_vary_makes_every_combination() -> None:
    made = vary(XEON, {"memory.DDR.bandwidth": ["50 GB/s", 6e10], "core.issue_width": [2, 4.0, 8]})
    assert len(made) == 6
    assert len({machine.name for machine in made}) == 6
    assert [value_at(m, "memory.DDR.bandwidth") for m in made] == [5e10] * 3 + [6e10] * 3
    assert [value_at(m, "core.issue_width") for m in made] == [2, 4, 8] * 2
    assert made[0].provenance["memory.DDR.bandwidth"].kind == "assumed"
    assert XEON.memory[0].bandwidth_bytes_per_s not in (5e10, 6e10)
    assert made[0].target() == XEON.target()


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("memory.DDR.bandwidt", 1e9, "no such number"),
        ("memory.HBM.bandwidth", 1e9, "no such number"),
        ("caches", 1, "no such number"),
        ("name", "x", "holds words"),
        ("clock", -1, "above zero"),
        ("clock", "3 GB", "unknown unit"),
        ("clock", None, "number or text"),
        ("cores", 1.5, "integer"),
        ("caches.L1.size", 1000, "multiple of line x ways"),
        ("caches.L1.overlap", "no", "serial"),
        ("core.isa.avx2.lanes", 3, "power of two"),
    ],
)
def test_bad_variations(path: str, value: Any, match: str) -> None:
    with pytest.raises(InputError, match=match) as error:
        vary(XEON, {path: [value]})
    assert "\n" not in str(error.value)
