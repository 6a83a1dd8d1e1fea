"""DenseGemm computes the convolution, and leaves BLAS as it was."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from archsim.kernels import ConvShape, blas


def test_every_edge(kit: Any, edge_shape: ConvShape) -> None:
    case = kit.case(edge_shape, batch=2)
    threads = 2 if edge_shape.height == edge_shape.width == edge_shape.kernel_h == 1 else 1
    layer = kit.pack("dense", case, threads=threads, threads_per_image=threads)
    case.assert_right(layer.run(case.x))


def test_every_edge_with_bias_and_relu(kit: Any, edge_shape: ConvShape) -> None:
    case = kit.case(edge_shape, density=1.0)
    layer = kit.pack("dense", case, bias=True, relu=True)
    case.assert_right(layer.run(case.x), bias=True, relu=True)


@pytest.mark.parametrize(("threads", "per_image"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_threads(kit: Any, threads: int, per_image: int, kernel: int) -> None:
    pad = (kernel // 2, kernel // 2)
    case = kit.case(ConvShape(6, 9, 9, 20, kernel, kernel, pad=pad, groups=2), batch=5)
    split = {"threads": threads, "threads_per_image": per_image}
    layer = kit.pack("dense", case, bias=True, relu=True, **split)
    for _ in range(3):
        case.assert_right(layer.run(case.x), bias=True, relu=True)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 17])
@pytest.mark.parametrize("groups", [1, 2])
def test_fully_connected(kit: Any, threads: int, batch: int, groups: int) -> None:
    case = kit.case(ConvShape(40, 1, 1, 26, 1, 1, groups=groups), batch=batch)
    for bias, relu in ((False, False), (True, True)):
        layer = kit.pack(
            "dense", case, bias=bias, relu=relu, threads=threads, threads_per_image=threads
        )
        case.assert_right(layer.run(case.x), bias=bias, relu=relu)


def test_fully_connected_with_a_stride_is_still_one_product(kit: Any) -> None:
    case = kit.case(ConvShape(5, 1, 1, 4, 1, 1, stride=(2, 2)), batch=3)
    layer = kit.pack("dense", case)
    case.assert_right(layer.run(case.x))
    assert layer.phase_seconds["input"] == 0.0


def test_a_pointwise_layer_is_not_lowered(kit: Any) -> None:
    case = kit.case(ConvShape(5, 6, 7, 4, 1, 1), batch=3)
    layer = kit.pack("dense", case)
    layer.run(case.x)
    assert layer.phase_seconds["input"] == 0.0


def test_nan_passes_relu(kit: Any) -> None:
    case = kit.case(ConvShape(2, 3, 3, 2, 1, 1), density=1.0)
    case.x[0, 0, 1, 1] = np.nan
    out = kit.pack("dense", case, relu=True).run(case.x)
    assert np.isnan(out[0, :, 1, 1]).all()
    assert np.isnan(out).sum() == 2


def test_isa_is_that_of_blas(kit: Any) -> None:
    assert kit.pack("dense", kit.case(ConvShape(2, 3, 3, 2, 1, 1))).isa.startswith("blas")


def test_blas_threads_are_restored() -> None:
    single = blas.single_thread()
    library = single.libraries[0]
    before = library.get_num_threads()
    library.set_num_threads(2)
    try:
        with single:
            assert library.get_num_threads() == 1
            with single:
                assert library.get_num_threads() == 1
            assert library.get_num_threads() == 1
        assert library.get_num_threads() == 2
    finally:
        library.set_num_threads(before)


def test_the_sparse_kernels_can_do_without_scipy(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.linalg.cython_blas", None)
    case = kit.case(ConvShape(2, 3, 3, 2, 1, 1))
    case.assert_right(kit.pack("direct", case).run(case.x))
    with pytest.raises(ImportError):
        kit.pack("dense", case)


def test_sizes_beyond_blas_are_refused() -> None:
    from archsim.kernels.dense import check_blas_sizes

    with pytest.raises(ValueError, match="2147483648 rows or columns"):
        check_blas_sizes(3, 2**31)
