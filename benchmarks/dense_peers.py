"""Dense libraries: torch (oneDNN) in its layouts, onnxruntime, OpenVINO."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from archsim.network import Layer
from benchmarks.contest import Array, Contestant, aligned
from benchmarks.onnxfile import one_layer


def _contestant(name: str, layer: Layer, run: Callable[[], Any], threads: int) -> Contestant:
    """A peer whose call returns its output."""
    last: list[Any] = [None]

    def call() -> None:
        last[0] = run()

    def result() -> Any:
        return last[0].reshape(-1, layer.K, layer.P, layer.Q)

    return Contestant(name=name, kind="dense", call=call, result=result, threads=threads)


def _flat(layer: Layer, x: Array) -> Array:
    """Pictures as the layer's model takes them: rows of a matrix for a fully connected one."""
    return x.reshape(len(x), -1) if layer.type == "fc" else x


def _out(layer: Layer, images: int) -> Array:
    return _flat(layer, aligned((images, layer.K, layer.P, layer.Q)))


def _torch_linear(
    torch: Any, layer: Layer, weights: Array, x: Array, threads: int
) -> Iterator[Contestant]:
    """A fully connected layer as users call it, and packed once for oneDNN and for MKL.

    PyTorch's compiler does the latter two.
    """
    image, matrix = torch.from_numpy(_flat(layer, x)), torch.from_numpy(weights[:, :, 0, 0])
    yield _contestant(
        "torch_linear", layer, lambda: torch.nn.functional.linear(image, matrix), threads
    )
    ops, images = torch.ops, len(x)
    packed = ops.mkldnn._reorder_linear_weight(matrix, images)
    yield _contestant(
        "torch_packed_linear", layer,
        lambda: ops.mkldnn._linear_pointwise(image, packed, None, "none", [], ""), threads,
    )  # fmt: skip
    if torch.backends.mkl.is_available():
        for_mkl = ops.mkl._mkl_reorder_linear_weight(matrix, images)
        yield _contestant(
            "torch_mkl_linear", layer,
            lambda: ops.mkl._mkl_linear(image, for_mkl, matrix, None, images), threads,
        )  # fmt: skip


def torch_peers(layer: Layer, weights: Array, x: Array, threads: int) -> Iterator[Contestant]:
    """PyTorch as users call it, and with weights packed once as its compiler does.

    Channels-last has its input and leaves its output in that layout.
    """
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    if layer.type == "fc":
        yield from _torch_linear(torch, layer, weights, x, threads)
        return
    where = (layer.stride, layer.pad, layer.dilation, layer.groups)
    lists = [list(pair) for pair in (layer.pad, layer.stride, layer.dilation)]
    forms = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
    for name, form in forms.items():
        image = torch.from_numpy(x).contiguous(memory_format=form)
        kernel = torch.from_numpy(weights).contiguous(memory_format=form)

        def plain(image: Any = image, kernel: Any = kernel) -> Any:
            return torch.conv2d(image, kernel, None, *where)

        yield _contestant(f"torch_{name}", layer, plain, threads)
        packed = torch.ops.mkldnn._reorder_convolution_weight(
            kernel, *lists, layer.groups, list(image.shape)
        )

        def prepacked(image: Any = image, kernel: Any = packed) -> Any:
            return torch.ops.mkldnn._convolution_pointwise(
                image, kernel, None, *lists, layer.groups, "none", [], ""
            )

        yield _contestant(f"torch_packed_{name}", layer, prepacked, threads)


def onnxruntime_peer(layer: Layer, weights: Array, x: Array, threads: int) -> Iterator[Contestant]:
    """onnxruntime, input and output bound to arrays of ours."""
    ort: Any = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(
        one_layer(layer, weights, len(x)), options, providers=["CPUExecutionProvider"]
    )
    x, out = _flat(layer, x), _out(layer, len(x))
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, x.dtype, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, out.dtype, out.shape, out.ctypes.data)

    def run() -> Array:
        session.run_with_iobinding(binding)
        return out

    yield _contestant("onnxruntime", layer, run, threads)


def openvino_peer(layer: Layer, weights: Array, x: Array, threads: int) -> Iterator[Contestant]:
    """OpenVINO in single precision."""
    openvino: Any = importlib.import_module("openvino")
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # the process is pinned
    }
    model = core.read_model(one_layer(layer, weights, len(x)))
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    x, out = _flat(layer, x), _out(layer, len(x))
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    request.set_output_tensor(openvino.Tensor(out, shared_memory=True))

    def run() -> Array:
        request.infer()
        return out

    yield _contestant("openvino", layer, run, threads)


Builder = Callable[[Layer, Array, Array, int], Iterator[Contestant]]

#: what suites.yaml may name under `dense`, besides methods of ours
PEERS: Final[dict[str, Builder]] = {
    "torch": torch_peers,
    "onnxruntime": onnxruntime_peer,
    "openvino": openvino_peer,
}
