"""One layer as an ONNX model, for the peers that read such files."""

from __future__ import annotations

import importlib
from typing import Any

from archsim.network import Layer
from benchmarks.contest import Array

#: the last pair that DeepSparse 1.8 reads
_OPSET = 13
_IR_VERSION = 8


def one_layer(layer: Layer, weights: Array, batch: int) -> bytes:
    """Return the model of one layer, input ``x`` (N, C, H, W) and output ``y`` (N, K, P, Q).

    Of a fully connected one they are (N, C) and (N, K).

    Raises
    ------
    ImportError
        The package onnx is missing.
    """
    onnx: Any = importlib.import_module("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    sides: tuple[list[int], list[int]]
    if layer.type == "fc":
        sides, weights = ([batch, layer.C], [batch, layer.K]), weights.reshape(layer.K, layer.C)
        node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    else:
        sides = [batch, layer.C, layer.H, layer.W], [batch, layer.K, layer.P, layer.Q]
        node = helper.make_node(
            "Conv", ["x", "w"], ["y"], kernel_shape=[layer.R, layer.S],
            strides=list(layer.stride), pads=[*layer.pad, *layer.pad],
            dilations=list(layer.dilation), group=layer.groups,
        )  # fmt: skip
    graph = helper.make_graph(
        [node],
        layer.name,
        [helper.make_tensor_value_info("x", kind, sides[0])],
        [helper.make_tensor_value_info("y", kind, sides[1])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
    data: bytes = model.SerializeToString()
    return data
