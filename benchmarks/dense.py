"""Dense convolution here against the best dense libraries that import, and against the peak.

    python benchmarks/dense.py [--threads 1] [--batch 1] [--rounds 9] [--layers conv3,vgg]

All contestants of a layer are called in turn, each round from another one on, so that ratios hold
on a machine whose speed drifts; every call is timed alone. Peers (torch in its layouts and with
weights packed once, onnxruntime) are left out where they do not import. Arrays begin at cache
lines, as the peers' own do. Every answer is compared with dense_gemm's. The peak is that of
multiply-adds in registers, one thread, measured between the calls. Pin the process (taskset) for
steady numbers.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import archsim
from archsim import native
from archsim.kernels import active_isa, multiply_add_roof
from archsim.network import Layer

Array = npt.NDArray[np.float32]
Call = Callable[[], Any]

OURS = ("dense_direct", "dense_gemm")
CALLS = 3  # of each contestant in a round, after one that is not timed
# The last one's threads spin for a while and would hold the next one's cores: OpenBLAS's for about
# 2^26 cycles (THREAD_TIMEOUT).
QUIET_SECONDS = 0.03
LINE = 64


def layers() -> list[Layer]:
    """Layers of AlexNet, VGG-16 (Simonyan, Zisserman 2015) and ResNet-50 (He et al. 2016)."""
    alexnet = archsim.load_network("alexnet")
    same: dict[str, Any] = {"R": 3, "S": 3, "pad": (1, 1)}
    return [
        *(alexnet[f"conv{i}"] for i in range(1, 6)),
        Layer("vgg_128_112", C=128, K=128, H=112, W=112, **same),
        Layer("vgg_256_56", C=256, K=256, H=56, W=56, **same),
        Layer("resnet_64_56", C=64, K=64, H=56, W=56, **same),
        Layer("resnet_256_14", C=256, K=256, H=14, W=14, **same),
        Layer("resnet_1x1_64_256_56", C=64, K=256, H=56, W=56),
        Layer("resnet_1x1_1024_256_14", C=1024, K=256, H=14, W=14),
    ]


def aligned(shape: tuple[int, ...]) -> Array:
    """Return zeros that begin at a cache line."""
    size = int(np.prod(shape))
    room = np.zeros(size + LINE // 4, dtype=np.float32)
    first = -room.ctypes.data % LINE // 4
    return room[first : first + size].reshape(shape)


def own(layer: Layer, weights: Array, x: Array, threads: int) -> Iterator[tuple[str, Call]]:
    """Our methods, through their plans."""
    for name in OURS:
        plan = archsim.make_plan(
            layer, "host", method=name, batch=len(x), threads=threads, isa=active_isa()
        )
        packed = native.prepare(plan, weights)
        out = aligned((len(x), layer.K, layer.P, layer.Q))
        yield name, lambda packed=packed, out=out: packed.run(x, out=out)


def torch_peers(layer: Layer, weights: Array, x: Array, threads: int) -> Iterator[tuple[str, Call]]:
    """PyTorch (oneDNN): as users call it, and with weights packed once as its compiler does."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    where = (layer.stride, layer.pad, layer.dilation, layer.groups)
    last = torch.channels_last
    planes = (torch.from_numpy(x), torch.from_numpy(weights))
    mixed = tuple(t.contiguous(memory_format=last) for t in planes)
    for name, (image, kernel) in (("torch_nchw", planes), ("torch_channels_last", mixed)):
        yield name, lambda i=image, k=kernel: torch.conv2d(i, k, None, *where)
    lists = [list(pair) for pair in (layer.pad, layer.stride, layer.dilation)]
    run = torch.ops.mkldnn._convolution_pointwise
    for name, (image, kernel) in (("nchw", planes), ("channels_last", mixed)):
        packed = torch.ops.mkldnn._reorder_convolution_weight(
            kernel, *lists, layer.groups, list(image.shape)
        )
        yield (
            f"torch_packed_{name}",
            lambda i=image, k=packed: run(i, k, None, *lists, layer.groups, "none", [], ""),
        )


def ort_peer(layer: Layer, weights: Array, x: Array, threads: int) -> Iterator[tuple[str, Call]]:
    """onnxruntime on a model of one layer."""
    ort, onnx = importlib.import_module("onnxruntime"), importlib.import_module("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], strides=layer.stride, pads=[*layer.pad, *layer.pad],
        dilations=layer.dilation, group=layer.groups, kernel_shape=[layer.R, layer.S],
    )  # fmt: skip
    out = (len(x), layer.K, layer.P, layer.Q)
    graph = helper.make_graph(
        [node], "layer",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", kind, out)],
        [onnx.numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    yield "onnxruntime", lambda: session.run(None, {"x": x})[0]


def contestants(layer: Layer, batch: int, threads: int) -> dict[str, Call]:
    """Everyone who can compute the layer, checked against dense_gemm."""
    rng = np.random.default_rng(0)
    weights, x = aligned(layer.weight_shape), aligned((batch, layer.C, layer.H, layer.W))
    weights[:] = rng.standard_normal(weights.shape)
    x[:] = rng.standard_normal(x.shape)
    found: dict[str, Call] = {}
    for group in (own, torch_peers, ort_peer):
        try:
            found.update(group(layer, weights, x, threads))
        except ImportError:
            continue
    right = found["dense_gemm"]().copy()
    for name, call in found.items():
        worst = float(np.abs(np.asarray(call()) - right).max()) / float(np.abs(right).max())
        assert worst < 1e-4, f"{name} on {layer.name}: off by {worst:.1e}"
    return found


def race(
    calls: dict[str, Call], rounds: int, quiet: float
) -> tuple[dict[str, list[float]], list[float]]:
    """Seconds of every call, and the peaks (FLOP/s) measured between the rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    peaks = []
    for turn in range(rounds):
        peaks.append(max(multiply_add_roof(steps=20_000) for _ in range(CALLS)))
        names = list(calls)
        first = turn % len(names)  # everyone is once the first
        for name in names[first:] + names[:first]:
            call = calls[name]
            time.sleep(quiet)
            call()
            for _ in range(CALLS):
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
    return seconds, peaks


def measure(layer: Layer, batch: int, threads: int, rounds: int) -> dict[str, Any]:
    """One layer's row of the JSON document."""
    quiet = QUIET_SECONDS if threads > 1 else 0.0
    seconds, peaks = race(contestants(layer, batch, threads), rounds, quiet)
    flop, peak = layer.flop * batch, max(peaks) * threads
    times = {
        name: {
            "median_s": statistics.median(t),
            "min_s": min(t),
            "share_of_peak": flop / min(t) / peak,
        }
        for name, t in seconds.items()
    }
    row: dict[str, Any] = {"layer": layer.name, "flop": flop, "peak_flop_per_s": peak}
    row["times"] = times
    peers = [name for name in times if name not in OURS]
    for key in ("median_s", "min_s"):
        if peers:
            best = min(peers, key=lambda name: times[name][key])
            row[f"best_peer_{key}"] = best
            row[f"over_best_peer_{key}"] = times[best][key] / times["dense_direct"][key]
    return row


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    names = list(dict.fromkeys(name for row in rows for name in row["times"]))
    print("ms: median (min); then dense_direct over the best peer, and its share of the peak")
    for row in rows:
        print(f"{row['layer']}  peak {row['peak_flop_per_s'] / 1e9:.0f} GFLOP/s")
        for name in names:
            if name not in row["times"]:
                continue
            t = row["times"][name]
            print(
                f"    {name:<28}{t['median_s'] * 1e3:9.3f} ({t['min_s'] * 1e3:8.3f})"
                f"  {t['share_of_peak']:5.2f} of peak"
            )
        if "best_peer_min_s" in row:
            print(
                f"    dense_direct over {row['best_peer_median_s']}: "
                f"{row['over_best_peer_median_s']:.2f} by medians; over {row['best_peer_min_s']}: "
                f"{row['over_best_peer_min_s']:.2f} by minima"
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--layers", default="", help="parts of layer names, by commas")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    given = parser.parse_args()
    parts = given.layers.split(",")
    chosen = [layer for layer in layers() if any(part in layer.name for part in parts)]
    rows = [measure(layer, given.batch, given.threads, given.rounds) for layer in chosen]
    if given.json:
        document = {
            "schema": 1, "isa": active_isa(), "threads": given.threads, "batch": given.batch,
            "rounds": given.rounds, "layers": rows,
        }  # fmt: skip
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    show(rows)


if __name__ == "__main__":
    main()
