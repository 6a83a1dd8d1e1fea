"""Direct sparse convolution against dense and against its own schedules, in interleaved rounds.

    python benchmarks/direct.py [--layers conv3,r256] [--sparsity 0.7,0.9] [--rounds 15]
                                [--threads 1] [--batch 1] [--json FILE]
    python benchmarks/direct.py --roof

Everything of one layer and sparsity is timed in rounds, one call of each after the other, so that a
clock that drifts or a neighbour that computes disturbs all alike; medians over the rounds, and the
best call. Peers that import are timed too: torch (NCHW, channels-last, prepacked) and onnxruntime.
The roof is a multiply-add with an aligned load from the first level, measured in the same rounds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np

import archsim
from archsim import kernels, native
from archsim.network import Layer
from archsim.sparsity import Sparsity

LAYERS = {
    layer.name: layer
    for layer in (
        Layer("conv1", C=3, K=96, H=227, W=227, R=11, S=11, stride=(4, 4)),
        Layer("conv2", C=96, K=256, H=27, W=27, R=5, S=5, pad=(2, 2), groups=2),
        Layer("conv3", C=256, K=384, H=13, W=13, R=3, S=3, pad=(1, 1)),
        Layer("conv4", C=384, K=384, H=13, W=13, R=3, S=3, pad=(1, 1), groups=2),
        Layer("conv5", C=384, K=256, H=13, W=13, R=3, S=3, pad=(1, 1), groups=2),
        Layer("r64", C=64, K=64, H=56, W=56, R=3, S=3, pad=(1, 1)),
        Layer("r256", C=256, K=256, H=14, W=14, R=3, S=3, pad=(1, 1)),
        Layer("vgg256", C=256, K=256, H=56, W=56, R=3, S=3, pad=(1, 1)),
        Layer("p64", C=64, K=256, H=56, W=56),
        Layer("p1024", C=1024, K=256, H=14, W=14),
    )
}
SPARSITIES = (0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
SCHEDULES = ("auto", "row", "lanes:flat", "lanes:tiles", "lanes:images", "pointwise")
Call = Callable[[], object]


def aligned(shape: tuple[int, ...]) -> Any:
    """Return an array that begins at a cache line, as those of the peers do."""
    size = int(np.prod(shape))
    room = np.empty(size + 16, dtype=np.float32)
    start = -room.ctypes.data // 4 % 16
    return room[start : start + size].reshape(shape)


def torch_peers(layer: Layer, x: Any, weights: Any) -> dict[str, Call]:
    """Return torch's convolution in its layouts, and with weights packed by oneDNN."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return {}
    torch.set_grad_enabled(False)
    functional = torch.nn.functional
    geometry = (layer.stride, layer.pad, layer.dilation, layer.groups)
    w, calls = torch.from_numpy(weights.copy()), {}
    for name, form in (("nchw", torch.contiguous_format), ("cl", torch.channels_last)):
        tx = torch.from_numpy(x).contiguous(memory_format=form)
        tw = w.contiguous(memory_format=form)
        calls[f"torch_{name}"] = lambda tx=tx, tw=tw: functional.conv2d(tx, tw, None, *geometry)
        try:
            packed = torch.ops.mkldnn._reorder_convolution_weight(
                tw, layer.pad, layer.stride, layer.dilation, layer.groups, list(x.shape)
            )
            run = torch.ops.mkldnn._convolution_pointwise
            arguments = (layer.pad, layer.stride, layer.dilation, layer.groups, "none", [], "")
            run(tx, packed, None, *arguments)
        except (AttributeError, RuntimeError):
            continue
        calls[f"torch_prepack_{name}"] = lambda tx=tx, packed=packed, a=arguments, run=run: run(
            tx, packed, None, *a
        )
    return calls


def onnx_peer(layer: Layer, x: Any, weights: Any, threads: int) -> dict[str, Call]:
    """Return onnxruntime's convolution."""
    try:
        ort, onnx = importlib.import_module("onnxruntime"), importlib.import_module("onnx")
    except ImportError:
        return {}
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    node = make.make_node(
        "Conv", ["x", "w"], ["y"], kernel_shape=[layer.R, layer.S], strides=list(layer.stride),
        pads=[*layer.pad, *layer.pad], dilations=list(layer.dilation), group=layer.groups,
    )  # fmt: skip
    graph = make.make_graph(
        [node], "g", [make.make_tensor_value_info("x", kind, list(x.shape))],
        [make.make_tensor_value_info("y", kind, None)],
        [onnx.numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(model.SerializeToString())
        file.flush()
        session = ort.InferenceSession(file.name, options, providers=["CPUExecutionProvider"])
    return {"onnxruntime": lambda: session.run(None, {"x": x})}


def prepared(layer: Layer, density: float, batch: int, threads: int) -> tuple[dict[str, Any], Any]:
    """Return packed layers by schedule, and their weights."""
    weights = Sparsity(density).draw(layer, seed=1).weights
    assert weights is not None
    found: dict[str, Any] = {}
    for schedule in SCHEDULES:
        try:
            plan = archsim.make_plan(
                layer, "host", method="direct_sparse", schedule=schedule, pattern=weights,
                batch=batch, threads=threads,
            )  # fmt: skip
        except archsim.NotApplicableError:
            continue
        if schedule == "row" and layer.stride != (1, 1):
            continue  # pixel by pixel: minutes
        if schedule == "lanes:images" and batch < kernels.isa_table()[0].lanes:
            continue  # most lanes would be empty
        packed = native.prepare(plan, weights)
        found[f"{schedule} ({plan.schedule})" if schedule == "auto" else schedule] = packed
    dense = archsim.make_plan(layer, "host", method="dense_gemm", batch=batch, threads=threads)
    found["dense_gemm"] = native.prepare(dense, weights)
    return found, weights


def compare(layer: Layer, sparsity: float, batch: int, threads: int, rounds: int) -> dict[str, Any]:
    """Time everything of one layer and sparsity."""
    packed, weights = prepared(layer, 1.0 - sparsity, batch, threads)
    x, out = (
        aligned((batch, layer.C, layer.H, layer.W)),
        aligned((batch, layer.K, layer.P, layer.Q)),
    )
    x[:] = np.random.default_rng(0).standard_normal(x.shape)
    dense = torch_peers(layer, x, weights) | onnx_peer(layer, x, weights, threads)
    calls: dict[str, Call] = {
        name: (lambda item=item: item.run(x, out=out)) for name, item in packed.items()
    }
    right = packed["dense_gemm"].run(x).copy()
    for name, item in packed.items():
        assert abs(item.run(x) - right).max() < 1e-4 * abs(right).max(), name
    calls |= dense
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    products: dict[str, list[float]] = {name: [] for name in packed}
    roofs = []
    order = np.random.default_rng(1)
    for _ in range(rounds):
        roofs.append(kernels.load_roof())
        for name in order.permutation(list(calls)):
            call = calls[name]
            call()  # warm: the one before left its own data in the caches
            for _ in range(3):
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
                if name in products:
                    products[name].append(packed[name].phase_seconds["products"])
    nonzero = 2.0 * np.count_nonzero(weights) * layer.P * layer.Q * batch
    roof = max(roofs) * threads
    rows = {
        name: {
            "median_ms": 1e3 * statistics.median(times),
            "best_ms": 1e3 * min(times),
            "share_of_roof": nonzero / statistics.median(products[name]) / roof
            if name in products
            else None,
        }
        for name, times in seconds.items()
    }
    return {
        "layer": layer.name, "sparsity": sparsity, "batch": batch, "threads": threads,
        "roof_gflops": roof / 1e9, "isa": kernels.active_isa(), "rows": rows,
        "dense": [*dense, "dense_gemm"],
    }  # fmt: skip


def print_table(found: dict[str, Any], key: str) -> float:
    """Print one comparison; return the gain of ``auto`` over the best dense."""
    best = min(found["rows"][name][key] for name in found["dense"])
    print(
        f"\n{found['layer']} at {found['sparsity']:.2f}, batch {found['batch']}, "
        f"{found['threads']} threads, {found['isa']}, roof {found['roof_gflops']:.0f} GFLOP/s"
    )
    for name, row in found["rows"].items():
        share = row["share_of_roof"]
        sparse = share is not None and name != "dense_gemm"
        print(
            f"  {name:<24}{row['median_ms']:9.3f} ms  best {row['best_ms']:8.3f}  "
            f"{best / row[key]:6.2f}x" + (f"  kernel {share:4.0%} of the roof" if sparse else "")
        )
    return best / min(row[key] for name, row in found["rows"].items() if name.startswith("auto"))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="Direct sparse convolution against dense.")
    parser.add_argument("--layers", default=",".join(LAYERS))
    parser.add_argument("--sparsity", default=",".join(map(str, SPARSITIES)))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--key", choices=["median_ms", "best_ms"], default="median_ms")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--roof", action="store_true", help="only loads from each level")
    given = parser.parse_args()
    if given.roof:
        for kib in (24, 384, 1024, 4096, 16384):
            rates = [
                max(kernels.load_roof(size_bytes=kib << 10, aligned=a) for _ in range(20)) / 1e9
                for a in (True, False)
            ]
            print(f"{kib:6d} KiB: aligned {rates[0]:6.1f}, unaligned {rates[1]:6.1f} GFLOP/s")
        return
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_NUM_THREADS", str(given.threads))
    results, gains = [], {}
    for name in given.layers.split(","):
        for sparsity in map(float, given.sparsity.split(",")):
            results.append(
                compare(LAYERS[name], sparsity, given.batch, given.threads, given.rounds)
            )
            gains.setdefault(sparsity, []).append(print_table(results[-1], given.key))
    print("\nauto over the best dense, geometric mean over the layers:")
    for sparsity, values in gains.items():
        print(f"  {sparsity:.2f}: {exp(sum(map(log, values)) / len(values)):.2f}x")
    if given.json:
        given.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
