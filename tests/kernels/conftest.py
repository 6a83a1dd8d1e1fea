"""What the tests of the kernels share: shapes at the edges, legal blockings, exact error bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from archsim.kernels import (
    ConvShape,
    DenseDirect,
    DenseGemm,
    DirectSparseLanes,
    DirectSparseRow,
    IsaInfo,
    LoweredSparse,
    PackedLayer,
    StructuredKernels,
    active_isa,
    conv2d,
    isa_table,
    set_isa,
    supported_isas,
)
from archsim.kernels.lanes_layout import Residues, flat_pitch

FloatArray = npt.NDArray[np.float32]

# Channels, height, width, out channels, kernel, and what is special.
EDGE_SHAPES = {
    "one pixel": ConvShape(1, 1, 1, 1, 1, 1),
    "one channel": ConvShape(1, 7, 9, 1, 3, 3, pad=(1, 1)),
    "narrower than a vector": ConvShape(3, 5, 3, 4, 3, 3, pad=(1, 1)),
    "one vector of 4": ConvShape(2, 4, 4, 3, 1, 1),
    "one more than 4": ConvShape(2, 5, 5, 3, 1, 1),
    "one vector of 8": ConvShape(2, 8, 8, 3, 3, 3, pad=(1, 1)),
    "one less than 16": ConvShape(2, 6, 15, 3, 3, 3, pad=(1, 1)),
    "one vector of 16": ConvShape(2, 6, 16, 3, 3, 3, pad=(1, 1)),
    "one more than 16": ConvShape(2, 6, 17, 3, 3, 3, pad=(1, 1)),
    "many column tiles": ConvShape(2, 3, 67, 3, 3, 3, pad=(1, 1)),
    "many row passes": ConvShape(2, 67, 3, 3, 3, 3, pad=(1, 1)),
    "primes": ConvShape(5, 11, 13, 7, 3, 3, pad=(1, 1)),
    "AlexNet conv3, thin": ConvShape(9, 13, 13, 37, 3, 3, pad=(1, 1)),
    "5x5": ConvShape(3, 9, 9, 5, 5, 5, pad=(2, 2)),
    "no pad": ConvShape(3, 9, 10, 5, 3, 3),
    "kernel as large as the image": ConvShape(3, 5, 7, 5, 5, 7),
    "row kernel": ConvShape(3, 6, 9, 4, 1, 5, pad=(0, 2)),
    "column kernel": ConvShape(3, 9, 6, 4, 5, 1, pad=(2, 0)),
    "pad beyond the kernel": ConvShape(3, 5, 6, 4, 3, 3, pad=(3, 3)),
    "pad on rows only": ConvShape(3, 5, 6, 4, 3, 3, pad=(2, 0)),
    "pad on columns only": ConvShape(3, 5, 6, 4, 3, 3, pad=(0, 3)),
    "padded 1x1": ConvShape(3, 4, 5, 4, 1, 1, pad=(1, 2)),
    "image smaller than its pad": ConvShape(2, 1, 1, 3, 3, 3, pad=(3, 3)),
    "dilation": ConvShape(3, 9, 11, 4, 3, 3, pad=(2, 2), dilation=(2, 2)),
    "uneven dilation": ConvShape(3, 9, 11, 4, 3, 3, pad=(3, 1), dilation=(3, 2)),
    "two groups": ConvShape(6, 7, 7, 10, 3, 3, pad=(1, 1), groups=2),
    "depthwise": ConvShape(5, 7, 7, 10, 3, 3, pad=(1, 1), groups=5),
    "stride 2": ConvShape(3, 11, 10, 4, 3, 3, stride=(2, 2), pad=(1, 1)),
    "stride 3, groups, dilation": ConvShape(
        4, 13, 11, 6, 3, 3, stride=(3, 3), pad=(2, 2), dilation=(2, 2), groups=2
    ),
    "stride 4, dilation 2": ConvShape(
        3, 14, 23, 5, 3, 3, stride=(4, 4), pad=(2, 1), dilation=(2, 2)
    ),
    "stride 4 beyond the kernel": ConvShape(2, 9, 35, 3, 1, 2, stride=(3, 4), pad=(0, 1)),
    "uneven stride": ConvShape(3, 7, 11, 4, 3, 3, stride=(1, 2), pad=(1, 0)),
    "strided 1x1": ConvShape(3, 7, 7, 4, 1, 1, stride=(2, 2)),
}
METHODS: dict[str, type[PackedLayer]] = {
    "direct": DirectSparseRow,
    "lowered": LoweredSparse,
    "kernels": StructuredKernels,
    "dense": DenseGemm,
    "dense_direct": DenseDirect,
    "flat": DirectSparseLanes,
    "tiles": DirectSparseLanes,
    "images": DirectSparseLanes,
    "shifts": DirectSparseLanes,
}


def _up(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(frozen=True)
class Case:
    """A layer with data."""

    shape: ConvShape
    weights: FloatArray
    x: FloatArray
    bias: FloatArray

    def assert_right(self, out: FloatArray, *, bias: bool = False, relu: bool = False) -> None:
        """Compare with the definition, allowing what rounding can do and nothing more.

        An output is a sum of n = C / groups * R * S products and a bias. Whatever the order, with
        fused multiply-add or without, its error is at most m u / (1 - m u) times the sum of the
        magnitudes, m = n + 1 and u = 2**-24 (Higham, Accuracy and Stability of Numerical
        Algorithms, section 3.1); clipping at 0 does not increase it. So the bound is c m u with
        c = 1; one more m makes room for the denominator, 1e-37 for sums below normal numbers.
        """
        assert out.dtype == np.float32
        given = self.bias if bias else None
        right = conv2d(self.x, self.weights, self.shape, given, relu)
        magnitude = conv2d(
            abs(self.x), abs(self.weights), self.shape, None if given is None else abs(given)
        )
        terms = self.weights[0].size + 2
        np.testing.assert_array_less(abs(out - right), terms * 2.0**-24 * magnitude + 1e-37)


class Kit:
    """Helpers, as one fixture: test modules cannot import one another."""

    @staticmethod
    def case(shape: ConvShape, density: float = 0.3, batch: int = 1, seed: int = 0) -> Case:
        rng = np.random.default_rng(seed)
        weights = rng.standard_normal(shape.weight_shape).astype(np.float32)
        weights[rng.random(weights.shape) >= density] = 0.0
        x = rng.standard_normal((batch, shape.channels, shape.height, shape.width))
        bias = rng.standard_normal(shape.out_channels)
        return Case(shape, weights, x.astype(np.float32), bias.astype(np.float32))

    @staticmethod
    def parts(units: int, ranks: int) -> list[int]:
        return [units * r // ranks for r in range(ranks + 1)]

    @staticmethod
    def blocking(
        method: str, shape: ConvShape, isa: str | None, **changes: int | str
    ) -> dict[str, Any]:
        """A legal blocking, the same way for every shape, with some keys changed."""
        if method == "dense":
            return {"threads_per_image": 1, **changes}
        info = next(i for i in isa_table() if i.name == (isa or active_isa()))
        if METHODS.get(method, DirectSparseLanes) is DirectSparseLanes:
            return {**Kit._lanes(shape, info, method), **changes}
        if method == "dense_direct":
            return {**Kit._dense_direct(shape, info.lanes, changes), **changes}
        if method in ("lowered", "kernels"):
            return {
                **(
                    {"granularity": "kernel", "channel_block": min(2, shape.group_channels)}
                    if method == "kernels"
                    else {}
                ),
                "lanes": info.lanes,
                "pixel_vectors": 5,
                "threads_per_image": 1,
                "partition": "nnz",
                **changes,
            }
        vectors = min(-(-shape.out_w // info.lanes), 3)
        return {
            "lanes": info.lanes,
            "oc_block": 4,
            "channel_block": min(2, shape.group_channels),
            "reg_rows": min(shape.out_h, info.accumulators // vectors),
            "reg_vectors": vectors,
            "row_pitch": shape.width + shape.pad[1],
            "spill": "scratch",
            "vectorised": int(shape.stride == (1, 1)),
            "prefetch": 0,
            "threads_per_image": 1,
            "partition": "nnz",
            **changes,
        }

    @staticmethod
    def _dense_direct(
        shape: ConvShape, lanes: int, changes: dict[str, int | str]
    ) -> dict[str, Any]:
        """Several blocks of input channels and bands, the pitches wider than they must be."""
        (pad_h, pad_w), stride_w = shape.pad, shape.stride[1]
        image = changes.get("source") in ("image", "panels")
        row_pitch = shape.width if image else shape.width + 2 * pad_w + stride_w
        rows = shape.height if image else shape.height + 2 * pad_h
        return {
            "lanes": lanes,
            "in_lanes": "channels",
            "source": "padded",
            "flat": 0,
            "reg_vectors": 2,
            "reg_rows": 1,
            "reg_count": 5,
            "channel_block": min(2, shape.group_channels),
            "band_rows": min(3, shape.out_h),
            "band_columns": shape.out_w,
            "row_pitch": row_pitch,
            "channel_pitch": rows * row_pitch,
            "threads_per_image": 1,
        }

    @staticmethod
    def _lanes(shape: ConvShape, info: IsaInfo, mode: str) -> dict[str, Any]:
        """Small enough that every loop turns more than once."""
        lanes, residues = info.lanes, Residues.of(shape)
        grid = {"tiles": (2, lanes // 2), "flat": (1, lanes)}.get(mode, (1, 1))
        rows, columns = _up(shape.out_h, grid[0]), _up(shape.out_w, grid[1])
        pitch = grid[1] * columns + residues.reach_columns
        in_rows, in_columns = rows + residues.reach_rows, columns + residues.reach_columns
        if mode == "flat":
            pitch = flat_pitch(shape, residues)
            rows, columns = 1, _up((shape.out_h - 1) * pitch + shape.out_w, lanes)
            in_rows, in_columns = 1, columns + residues.reach_rows * pitch + residues.reach_columns
        if mode == "pointwise":
            rows, columns, pitch = 1, _up(shape.out_h * shape.out_w, lanes), 1
            in_rows, in_columns = rows, columns
        vectors = min(columns, 5)
        if mode == "shifts":  # tiles of the fewest vectors, so that a row has several of them
            columns = vectors = residues.reach_columns // lanes + 1
            grid = 1, _up(shape.out_w, columns * lanes - residues.reach_columns)
            rows, pitch = shape.out_h, 1
            in_rows = min(rows, info.accumulators // vectors) + residues.reach_rows
            in_columns = columns
        return {
            "lanes": lanes,
            "mode": mode,
            "grid_rows": grid[0] if mode == "tiles" else 1,
            "grid_columns": grid[1] if mode in ("tiles", "flat", "shifts") else 1,
            "tile_rows": rows,
            "tile_columns": columns,
            "plane_pitch": pitch,
            "reg_rows": min(rows, info.accumulators // vectors),
            "reg_vectors": vectors,
            "slab_block": min(2, shape.group_channels * residues.count),
            "slab_pitch": in_rows * in_columns,
            "past_caches": 0,
            "threads_per_image": 1,
            "partition": "nnz",
        }

    @staticmethod
    def units(method: str, shape: ConvShape, blocking: dict[str, Any]) -> int:
        """What part_ptr cuts: output channels, or blocks of them."""
        if method == "direct":
            block = blocking["oc_block"]
        elif method == "dense_direct":
            key = "lanes" if blocking["in_lanes"] == "channels" else "reg_count"
            block = blocking[key]
        else:
            return shape.out_channels
        return shape.groups * -(-shape.group_out_channels // int(block))

    @classmethod
    def pack(
        cls,
        method: str,
        case: Case,
        *,
        isa: str | None = None,
        threads: int = 1,
        bias: bool = False,
        relu: bool = False,
        part_ptr: list[int] | None = None,
        **changes: int | str,
    ) -> PackedLayer:
        """Pack a case with a legal blocking, the work split evenly if not said otherwise."""
        shape = case.shape
        blocking = cls.blocking(method, shape, isa, **changes)
        units = cls.units(method, shape, blocking)
        keywords: dict[str, Any] = {} if method == "dense" else {"isa": isa}
        return METHODS.get(method, DirectSparseLanes)(
            case.weights,
            shape,
            blocking=blocking,
            part_ptr=part_ptr or cls.parts(units, blocking["threads_per_image"]),
            threads=threads,
            bias=case.bias if bias else None,
            relu=relu,
            **keywords,
        )


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    return Kit


@pytest.fixture(autouse=True)
def _isa_as_found() -> Iterator[None]:
    """Every test begins without a forced set, and leaves none behind."""
    set_isa(None)
    yield
    set_isa(None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`edge_shape`: every edge; `isa`: every set that can run here; `method`: all of them."""
    if "edge_shape" in metafunc.fixturenames:
        metafunc.parametrize("edge_shape", EDGE_SHAPES.values(), ids=EDGE_SHAPES.keys())
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", supported_isas())
    if "method" in metafunc.fixturenames:
        metafunc.parametrize("method", METHODS)
