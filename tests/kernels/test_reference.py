"""The definition, against SciPy's correlation."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.signal import correlate

from archsim.kernels import ConvShape, conv2d


def by_scipy(case: Any) -> Any:
    shape = case.shape
    (ph, pw), (sh, sw), (dh, dw) = shape.pad, shape.stride, shape.dilation
    x = np.pad(case.x.astype(np.float64), ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    out = np.zeros((len(x), shape.out_channels, shape.out_h, shape.out_w))
    for k in range(shape.out_channels):
        first = k // shape.group_out_channels * shape.group_channels
        for c in range(shape.group_channels):
            kernel = np.zeros((dh * (shape.kernel_h - 1) + 1, dw * (shape.kernel_w - 1) + 1))
            kernel[::dh, ::dw] = case.weights[k, c]
            for n in range(len(x)):
                out[n, k] += correlate(x[n, first + c], kernel, mode="valid")[::sh, ::sw]
    return out


def test_every_edge(kit: Any, edge_shape: ConvShape) -> None:
    case = kit.case(edge_shape, batch=2)
    np.testing.assert_allclose(
        conv2d(case.x, case.weights, edge_shape), by_scipy(case), rtol=1e-12, atol=1e-12
    )


def test_bias_and_relu(kit: Any) -> None:
    case = kit.case(ConvShape(2, 4, 5, 3, 3, 3, pad=(1, 1)))
    plain = conv2d(case.x, case.weights, case.shape)
    biased = conv2d(case.x, case.weights, case.shape, case.bias)
    np.testing.assert_allclose(biased, plain + case.bias[:, None, None], rtol=1e-15)
    clipped = conv2d(case.x, case.weights, case.shape, case.bias, relu=True)
    np.testing.assert_array_equal(clipped, np.where(biased > 0, biased, 0))


def test_by_hand() -> None:
    x = np.arange(4.0).reshape(1, 1, 2, 2)
    out = conv2d(x, [[[[1.0, 10.0]]]], ConvShape(1, 2, 2, 1, 1, 2))
    assert out.tolist() == [[[[10.0], [32.0]]]]
    assert out.dtype == np.float64
