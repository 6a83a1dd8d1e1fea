"""All convolutions of a pruned network against dense products: onnxruntime, torch (oneDNN)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from archsim import kernels, native
from archsim.network import Layer, load_network
from benchmarks.contest import Array, Contestant, Judge, aligned, race
from benchmarks.dense_peers import onnxruntime_peer, torch_peers
from benchmarks.proof.document import data_folder
from benchmarks.proof.times import choose

#: contestants that are one product, in one setting, for all layers
PRODUCTS: Final = (
    "onnxruntime", "torch_nchw", "torch_packed_nchw", "torch_channels_last",
    "torch_packed_channels_last",
)  # fmt: skip
OURS, OURS_DENSE = "archsim", "archsim_dense"


def squeezenet() -> dict[str, tuple[Layer, Array]]:
    """Return SqueezeNet's convolutions and the weights of its Deep Compression."""
    file = data_folder("squeezenet_pruned") / "squeezenet_v1.0_deep_compression.npz"
    with np.load(file, allow_pickle=False) as weights:
        return {
            layer.name: (layer, weights[f"{layer.name}.weight"].astype(np.float32))
            for layer in load_network("squeezenet")
        }


def race_network(
    layers: Mapping[str, tuple[Layer, Array]], *, threads: int, seconds: float,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:  # fmt: skip
    """Time every convolution by everybody, in turns; results are checked first.

    Ours is the method that is fastest with these weights, chosen by a measurement before.

    Returns
    -------
    list of dict
        ``layer``, ``method``, ``dense_method``, ``sparsity`` and ``seconds`` by contestant.
    """
    rows = []
    for layer, weights in layers.values():
        if layer.type != "conv":
            continue
        chosen = choose(layer, weights, threads=threads)
        x = aligned((1, layer.C, layer.H, layer.W))
        x[:] = np.random.default_rng(0).standard_normal(x.shape)
        everybody = [
            _ours(OURS, chosen.plan, weights, x),
            _ours(OURS_DENSE, chosen.dense or chosen.plan, weights, x),
            *torch_peers(layer, weights, x, threads),
            *onnxruntime_peer(layer, weights, x, threads),
        ]
        judge = Judge(layer, x)
        judge.expect(weights)
        for one in everybody:
            judge.check(one)
        found = race(everybody, isa=kernels.active_isa(), seconds=seconds, seed=0)
        times = {entry["name"]: entry["median_s"] for entry in found["entries"]}
        rows.append(
            {
                "layer": layer.name, "method": chosen.name,
                "dense_method": chosen.dense.method if chosen.dense else None,
                "sparsity": 1.0 - float(np.count_nonzero(weights)) / weights.size,
                "seconds": times,
            }
        )  # fmt: skip
        best = min(times[name] for name in PRODUCTS)
        say(
            f"{layer.name}: {chosen.name} {times[OURS] * 1e6:.0f} us, dense "
            f"{times[OURS_DENSE] * 1e6:.0f} us, best product {best * 1e6:.0f} us"
        )
    return rows


def _ours(name: str, plan: Any, weights: Array, x: Array) -> Contestant:
    packed: Any = native.prepare(plan, weights)
    out = aligned((len(x), plan.layer.K, plan.layer.P, plan.layer.Q))

    def call() -> None:
        packed.run(x, out=out)

    return Contestant(
        name=name, kind="ours", call=call, result=lambda: out, pattern="", threads=plan.threads,
        variant=str(plan.blocking.get("variant", "")),
    )  # fmt: skip
