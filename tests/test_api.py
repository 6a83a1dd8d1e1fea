"""The verbs: arguments, results, and what they refuse."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archsim
from archsim.errors import ArchsimError, HostMismatchError, InputError

CONV3 = archsim.load_network("alexnet")["conv3"]

FIELDS = [
    "network", "layer", "method", "schedule", "machine", "model", "batch", "threads", "density",
    "density_domain", "seconds", "seconds_low", "seconds_high", "effective_gflops",
    "actual_gflops", "dense_method", "speedup_over_dense", "bound_by", "bytes", "phases", "isa",
    "seed", "reason",
]  # fmt: skip


def test_result_has_the_stable_fields() -> None:
    found = archsim.predict(CONV3, "atom-c2750", method="direct_sparse", density=0.1, batch=8)
    data = found.as_dict()
    assert list(data) == FIELDS
    assert data["network"] == "alexnet"
    assert data["threads"] == 8
    assert data["reason"] is None
    assert data["isa"] == "sse42"
    json.dumps(data, allow_nan=False)
    for name in ("seconds", "phases", "bytes", "bound_by", "density"):
        assert getattr(found, name) is not None
    assert found.phases[0].name == "input"


def test_rates_follow_from_the_time() -> None:
    found = archsim.predict(CONV3, "atom-c2750", method="direct_sparse", density=0.1, batch=8)
    assert found.seconds is not None
    assert found.effective_gflops == pytest.approx(8 * CONV3.flop / found.seconds / 1e9)
    assert found.actual_gflops == pytest.approx(0.1 * 8 * CONV3.flop / found.seconds / 1e9)


def test_speedup_is_against_our_dense_method() -> None:
    found = archsim.predict(CONV3, "atom-c2750", method="direct_sparse", density=0.1, batch=8)
    assert found.dense_method in ("dense_gemm", "dense_direct", "winograd")
    dense = archsim.predict(CONV3, "atom-c2750", method=found.dense_method, batch=8)
    assert found.seconds is not None
    assert dense.seconds is not None
    assert found.speedup_over_dense == pytest.approx(dense.seconds / found.seconds)
    assert dense.speedup_over_dense == pytest.approx(1.0)


def test_auto_takes_the_fastest() -> None:
    for density, expected in ((0.05, "direct_sparse"), (1.0, "winograd")):
        best = archsim.predict(CONV3, "xeon-e5-2697v4-2s", density=density, batch=72)
        assert best.method == expected


def test_inapplicable_methods_carry_the_reason() -> None:
    layer = archsim.load_network("alexnet")["fc6"]
    found = archsim.predict(layer, "atom-c2750", method="direct_sparse", density=0.1)
    assert found.seconds is None
    assert found.reason is not None
    assert "output pixel" in found.reason
    assert found.speedup_over_dense is None


def test_park_uses_published_rates_and_says_what_is_derived() -> None:
    found = archsim.predict(
        CONV3, "xeon-e5-2697v4-2s", method="direct_sparse", density=0.1, batch=4, model="park"
    )
    assert found.seconds == pytest.approx(4 * 0.3 * CONV3.flop / 2.15e12)
    assert found.notes == ()
    phi = archsim.predict(CONV3, "xeon-phi-7250", method="direct_sparse", density=0.1, model="park")
    assert any("alpha" in note and "derived" in note for note in phi.notes)
    given = archsim.predict(
        CONV3, "xeon-phi-7250", method="direct_sparse", density=0.1, model="park", alpha=2.0,
        sgemm_flops_per_s=1e12, stream_bytes_per_s=1e15,
    )  # fmt: skip
    assert given.seconds == pytest.approx(0.2 * CONV3.flop / 1e12)


def test_patterns_and_densities() -> None:
    weights = np.zeros(CONV3.weight_shape, dtype=np.float32)
    weights[:, :13] = 1.0
    found = archsim.predict(CONV3, "atom-c2750", method="direct_sparse", pattern=weights)
    assert found.density == pytest.approx(13 / 256)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"density": 1.5}, "0..1"),
        ({"density": float("nan")}, "0..1"),
        ({"density": "0.1"}, "a number is due"),
        ({"density": True}, "a number is due"),
        ({"pattern": np.zeros((2, 2))}, "wrong shape"),
        ({"pattern": np.full(CONV3.weight_shape, np.nan)}, "NaN"),
        ({"pattern": np.zeros(CONV3.weight_shape), "density": 0.5}, "given by the pattern"),
        ({"batch": 0}, "batch"),
        ({"batch": 1.5}, "batch"),
        ({"threads": 0}, "threads"),
        ({"threads": 9}, "1..8"),
        ({"method": "direct-sparse"}, "did you mean 'direct_sparse'"),
        ({"model": "emc"}, "did you mean 'ecm'"),
        ({"schedule": "rwo"}, "unknown schedule"),
        ({"traffic": "guessed"}, "auto, rule, counted"),
        ({"clock": "turbo"}, "sustained, nominal"),
        ({"isa": "avx512"}, "sse42"),
        ({"density_domain": "fourier"}, "spatial, winograd"),
        ({"model": "park", "alpha": -1.0}, "alpha"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        archsim.predict(CONV3, "atom-c2750", **({"method": "direct_sparse"} | arguments))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_machine_and_network() -> None:
    with pytest.raises(InputError, match="did you mean 'atom-c2750'"):
        archsim.load_machine("atom-c2705")
    with pytest.raises(InputError, match="did you mean 'alexnet'"):
        archsim.load_network("alexnett")


def test_measuring_another_machine_is_refused() -> None:
    with pytest.raises(HostMismatchError, match="is not this host"):
        archsim.measure(CONV3, "atom-c2750", method="direct_sparse", density=0.1)
    assert issubclass(HostMismatchError, ArchsimError)


def test_forced_instruction_set_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    from archsim import kernels

    name = kernels.supported_isas()[0]
    monkeypatch.setenv("ARCHSIM_ISA", name)
    kernels.set_isa(None)
    try:
        found = archsim.predict(CONV3, "host", method="direct_sparse", density=0.1)
        assert found.isa == name
        monkeypatch.setenv("ARCHSIM_ISA", "nonsense")
        with pytest.raises(InputError, match="nonsense"):
            archsim.predict(CONV3, "host", method="direct_sparse", density=0.1)
    finally:
        monkeypatch.delenv("ARCHSIM_ISA")
        kernels.set_isa(None)


def test_simulate_takes_no_model() -> None:
    with pytest.raises(InputError, match="model"):
        archsim.simulate(CONV3, "atom-c2750", model="ecm")


def test_results_pickle() -> None:
    found = archsim.predict(CONV3, "atom-c2750", method="direct_sparse", density=0.1, batch=8)
    again = pickle.loads(pickle.dumps(found))
    assert again.as_dict() == found.as_dict()


def test_public_names_exist() -> None:
    for name in archsim.__all__:
        assert getattr(archsim, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = archsim.nothing


def test_a_machine_may_be_a_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nbase: atom-c2750\n", encoding="utf-8")
    found = archsim.predict(CONV3, path, method="direct_sparse", density=0.1)
    assert found.machine == "mine"
    plan = archsim.make_plan(CONV3, path, method="direct_sparse", density=0.1)
    assert plan.method == "direct_sparse"


@pytest.mark.parametrize("machine", [None, 3, ["atom-c2750"], {}, CONV3])
def test_machines_of_a_wrong_type(machine: Any) -> None:
    for verb in (archsim.predict, archsim.make_plan, archsim.measure):
        with pytest.raises(InputError, match="machine: wrong type"):
            verb(CONV3, machine, method="direct_sparse")


@pytest.mark.parametrize("layer", [None, "conv3", 3, archsim.load_network("alexnet")])
def test_layers_of_a_wrong_type(layer: Any) -> None:
    for verb in (archsim.predict, archsim.make_plan):
        with pytest.raises(InputError, match="layer: wrong type"):
            verb(layer, "atom-c2750", method="direct_sparse")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": 3}, "method: must be text"),
        ({"method": ["auto"]}, "method: must be text"),
        ({"schedule": None}, "schedule: must be text"),
        ({"isa": 3}, "isa: must be text"),
        ({"isa": {}}, "isa: must be text"),
        ({"clock": 2.0}, "clock: must be text"),
        ({"model": 3}, "model: unknown"),
        ({"seed": -1}, "seed: must be a whole number"),
        ({"seed": 1.0}, "seed: must be a whole number"),
        ({"seed": "x"}, "seed: must be a whole number"),
        ({"batch": 2**31}, "batch: is too great"),
        ({"batch": "8"}, "batch"),
        ({"model": "park", "alpha": "3"}, "alpha: a number is due"),
        ({"model": "park", "alpha": float("nan")}, "alpha: must be finite"),
        ({"model": "park", "beta": float("inf")}, "beta: must be finite"),
        ({"model": "park", "sgemm_flops_per_s": 10**400}, "sgemm_flops_per_s: must be finite"),
        ({"model": "park", "stream_bytes_per_s": True}, "stream_bytes_per_s: a number is due"),
        ({"density": 10**400}, "density: must lie in 0..1"),
        ({"density_domain": ["spatial"]}, "density_domain: must be text"),
        ({"pattern": [[1.0], [1.0, 2.0]]}, "weights must be an array"),
        ({"pattern": "conv3.npz"}, "weights must be numbers"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_arguments_of_a_wrong_type(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        archsim.predict(CONV3, "atom-c2750", **({"method": "direct_sparse"} | arguments))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_time_that_is_not_finite_names_the_machine() -> None:
    with pytest.raises(InputError, match=r"machine atom-c2750: its .* no finite time"):
        archsim.predict(
            CONV3, "atom-c2750", method="direct_sparse", density=0.1, model="park", alpha=1e300,
            sgemm_flops_per_s=1e-300,
        )  # fmt: skip


def test_a_layer_beyond_this_computer_s_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(archsim.api, "by_ecm", fail)
    with pytest.raises(InputError, match="layer conv3: is too large for direct_sparse"):
        archsim.predict(CONV3, "atom-c2750", method="direct_sparse")
