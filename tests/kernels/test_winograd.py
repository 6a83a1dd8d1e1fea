"""Winograd and SparseWinograd compute the convolution, within what rounding allows."""

from __future__ import annotations

import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.kernels import (
    ConvShape,
    PackedLayer,
    SparseWinograd,
    Winograd,
    _native,
    active_isa,
    conv2d,
    conv2d_winograd,
    isa_table,
    transform_weights,
)
from archsim.kernels.winograd_layout import tile_grid
from archsim.kernels.winograd_matrices import VARIANTS, error_bound, find_variant

FloatArray = npt.NDArray[np.float32]
CLASSES: dict[str, type[PackedLayer]] = {"dense": Winograd, "sparse": SparseWinograd}

# Height, width and what surrounds them, for kernels of r and tiles of m outputs.
SHAPES = {
    "one pixel of output": lambda r: ConvShape(2, r, r, 3, r, r),
    "one channel": lambda r: ConvShape(1, 7, 9, 1, r, r, pad=(1, 1)),
    "one tile": lambda r: ConvShape(3, r + 3, r + 3, 5, r, r),
    "below a tile": lambda r: ConvShape(3, r + 2, r, 5, r, r),
    "above a tile": lambda r: ConvShape(3, r + 4, r + 5, 5, r, r),
    "primes": lambda r: ConvShape(5, 11, 13, 7, r, r, pad=(r // 2, r // 2)),
    "a tile less than 16": lambda r: ConvShape(2, r + 11, 20, 3, r, r, pad=(0, r // 2)),
    "many tiles": lambda r: ConvShape(3, 29, 33, 17, r, r, pad=(r // 2, r // 2)),
    "a row of tiles": lambda r: ConvShape(2, r, 75, 3, r, r, pad=(0, 1)),
    "a column of tiles": lambda r: ConvShape(2, 75, r, 3, r, r, pad=(1, 0)),
    "two groups": lambda r: ConvShape(6, 9, 10, 34, r, r, pad=(1, 2), groups=2),
    "depthwise": lambda r: ConvShape(19, 7, 7, 19, r, r, pad=(1, 1), groups=19),
    "pad beyond the kernel": lambda r: ConvShape(2, 5, 6, 4, r, r, pad=(r, r + 1)),
    "image smaller than its pad": lambda r: ConvShape(2, 1, 1, 3, r, r, pad=(r, r)),
}


class Case:
    """A layer with data, its weights in the domain in which they are given."""

    def __init__(
        self, kind: str, variant: str, shape: ConvShape, batch: int = 1, density: float = 0.4
    ) -> None:
        rng = np.random.default_rng(0)
        tile = find_variant(variant).tile
        own = (tile, tile, shape.out_channels, shape.group_channels)
        self.kind, self.variant, self.shape = kind, variant, shape
        size = shape.weight_shape if kind == "dense" else own
        self.weights = rng.standard_normal(size).astype(np.float32)
        if kind == "sparse":
            self.weights[rng.random(size) >= density] = 0.0
        self.x: FloatArray = rng.standard_normal(
            (batch, shape.channels, shape.height, shape.width), dtype=np.float32
        )
        self.bias = rng.standard_normal(shape.out_channels).astype(np.float32)

    def pack(
        self,
        *,
        isa: str | None = None,
        threads: int = 1,
        bias: bool = False,
        relu: bool = False,
        **changes: int | str,
    ) -> PackedLayer:
        """Pack with a legal blocking: several chunks, blocks and register blocks, rests too."""
        info = next(i for i in isa_table() if i.name == (isa or active_isa()))
        blocking: dict[str, Any] = {
            "lanes": info.lanes, "variant": self.variant, "images": 1, "chunk_vectors": 3,
            "reg_vectors": 2, "out_block": min(4, self.shape.group_out_channels),
            "threads_per_image": 1,
        }  # fmt: skip
        if self.kind == "dense":
            blocking["reg_count"] = 3
        else:
            blocking |= {"reg_lists": 4, "in_block": min(2, self.shape.group_channels)}
        blocking |= changes
        down, across = tile_grid(self.shape, self.variant)
        vectors = -(-blocking["images"] * down * across // info.lanes)
        units, ranks = -(-vectors // blocking["chunk_vectors"]), blocking["threads_per_image"]
        return CLASSES[self.kind](
            self.weights, self.shape, blocking=blocking,
            part_ptr=[units * r // ranks for r in range(ranks + 1)], threads=threads, isa=isa,
            bias=self.bias if bias else None, relu=relu,
        )  # fmt: skip

    def assert_right(self, out: FloatArray, *, bias: bool = False, relu: bool = False) -> None:
        """Compare with the definition, allowing what `error_bound` says and nothing more."""
        given = self.bias if bias else None
        own = self.weights
        if self.kind == "dense":
            right = conv2d(self.x, self.weights, self.shape, given, relu)
            own = transform_weights(self.weights, self.variant)
        else:
            right = conv2d_winograd(self.x, own, self.shape, self.variant, given, relu)
        assert out.dtype == np.float32
        bound = error_bound(self.x, own, self.shape, self.variant, given)
        np.testing.assert_array_less(abs(out - right), bound)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "variant" in metafunc.fixturenames:
        metafunc.parametrize("variant", VARIANTS)
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", CLASSES)


# ---- matrices ----


def _exact(matrix: npt.NDArray[np.float64]) -> list[list[Fraction]]:
    """Turn numbers back into the fractions that they are roundings of."""
    return [[Fraction(float(x)).limit_denominator(1000) for x in row] for row in matrix]


def test_matrices_are_winograd_s_exactly(variant: str) -> None:
    """A^T ((G g) * (B^T d)) is the correlation of g and d, for all pairs of unit vectors."""
    chosen = find_variant(variant)
    a, b, g = (
        _exact(m) for m in (chosen.output_rows, chosen.input_rows, chosen.weight_rows)
    )  # fmt: skip
    for i in range(chosen.outputs):
        for r in range(chosen.kernel):
            for d in range(chosen.tile):
                found = sum(a[i][p] * g[p][r] * b[p][d] for p in range(chosen.tile))
                assert found == (1 if d == i + r else 0)
    for rows, exact in ((chosen.weight_rows, g), (chosen.input_rows, b)):
        np.testing.assert_array_equal(rows, np.array(exact, dtype=np.float64))


def test_definitions_agree(variant: str) -> None:
    chosen = find_variant(variant)
    shape = SHAPES["two groups"](chosen.kernel)
    case = Case("dense", variant, shape, batch=2)
    rows = chosen.weight_rows
    exact = np.einsum("ur,kcrs,vs->uvkc", rows, case.weights.astype(np.float64), rows)
    np.testing.assert_allclose(
        conv2d_winograd(case.x, exact, shape, variant, case.bias, True),
        conv2d(case.x, case.weights, shape, case.bias, True), atol=1e-11,
    )  # fmt: skip
    np.testing.assert_allclose(
        transform_weights(case.weights, variant), exact, rtol=2.0**-23, atol=1e-12
    )


def test_stated_amplifications() -> None:
    """What docs/winograd.md says of the largest errors."""
    found = {name: round(v.amplification, 1) for name, v in VARIANTS.items()}
    assert found == {"f2x2_3x3": 7.1, "f4x4_3x3": 256.0, "f4x4_5x5": 301.2}
    assert [v.roundings for v in VARIANTS.values()] == [10, 18, 26]


def test_bad_weights_of_the_transformation() -> None:
    with pytest.raises(ValueError, match="must be one of f2x2_3x3"):
        transform_weights(np.zeros((1, 1, 3, 3)), "f6x6")
    with pytest.raises(ValueError, match=r"needs shape \(K, C / groups, 5, 5\)"):
        transform_weights(np.zeros((1, 1, 3, 3)), "f4x4_5x5")


# ---- convolutions ----


@pytest.mark.parametrize("name", SHAPES)
def test_every_edge(kind: str, variant: str, name: str, isa: str) -> None:
    case = Case(kind, variant, SHAPES[name](find_variant(variant).kernel), batch=2)
    layer = case.pack(isa=isa)
    assert (layer.isa, layer._native.isa) == (isa, isa)
    case.assert_right(layer.run(case.x))
    case.assert_right(case.pack(isa=isa, bias=True, relu=True).run(case.x), bias=True, relu=True)


def test_every_position_by_itself(variant: str, isa: str) -> None:
    """One weight at one position: C's transformations are the matrices, row by row, exactly."""
    chosen = find_variant(variant)
    r, m, t = chosen.kernel, chosen.outputs, chosen.tile
    shape = ConvShape(1, m + r - 1, m + r - 1, 1, r, r)
    x = np.random.default_rng(0).integers(-8, 9, (1, 1, t, t)).astype(np.float32)
    rows, back = chosen.input_rows, chosen.output_rows
    for u in range(t):
        for v in range(t):
            case = Case("sparse", variant, shape, density=0.0)
            case.weights[u, v] = 1.0
            out = case.pack(isa=isa).run(x)[0, 0]
            number = float(rows[u] @ x[0, 0] @ rows[v])
            np.testing.assert_array_equal(out, np.outer(back[:, u], back[:, v]) * number)


@pytest.mark.parametrize("pad", range(6))
def test_all_paddings(kind: str, variant: str, pad: int) -> None:
    r = find_variant(variant).kernel
    case = Case(kind, variant, ConvShape(3, 10, 9, 5, r, r, pad=(pad, max(0, pad - 1))))
    case.assert_right(case.pack().run(case.x))


@pytest.mark.parametrize("images", [1, 2, 3, 16, 40])
@pytest.mark.parametrize(("threads", "per_image"), [(1, 1), (3, 1), (3, 3)])
def test_pictures_fill_vectors_together(
    kind: str, variant: str, images: int, threads: int, per_image: int
) -> None:
    """Pictures of a turn, a last turn with fewer, and nothing written behind the batch."""
    r = find_variant(variant).kernel
    case = Case(kind, variant, ConvShape(4, 7, 6, 5, r, r, pad=(r // 2, r // 2)), batch=19)
    layer = case.pack(images=images, threads=threads, threads_per_image=per_image, bias=True)
    room = np.full((21, *layer._out_shape), 7.0, dtype=np.float32)
    case.assert_right(layer.run(case.x, room[1:20]), bias=True)
    assert (room[0] == 7.0).all()
    assert (room[20] == 7.0).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"chunk_vectors": 1, "reg_vectors": 1},
        {"chunk_vectors": 2, "reg_vectors": 1},
        {"chunk_vectors": 100, "reg_vectors": 2},
        {"out_block": 1},
        {"out_block": 37},
        {"out_block": 36},
    ],
    ids=str,
)
def test_blockings(kind: str, variant: str, changes: dict[str, Any]) -> None:
    r = find_variant(variant).kernel
    case = Case(kind, variant, ConvShape(9, 26, 27, 37, r, r, pad=(1, 1)), batch=2)
    case.assert_right(case.pack(bias=True, relu=True, **changes).run(case.x), bias=True, relu=True)


@pytest.mark.parametrize("in_block", [1, 4, 8, 9])
@pytest.mark.parametrize("lists", [1, 2, 4, 8])
def test_lists_side_by_side(variant: str, lists: int, in_block: int) -> None:
    """Groups that are not full, blocks of channels that are not, a step that is not."""
    r = find_variant(variant).kernel
    case = Case("sparse", variant, ConvShape(9, 22, 23, 11, r, r, pad=(1, 1)), density=0.3)
    case.weights[:, :, 3] = 0.0
    layer = case.pack(reg_lists=lists, in_block=in_block, out_block=5, reg_vectors=1)
    case.assert_right(layer.run(case.x))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_zeros_that_fill_lists_meet_no_input(variant: str, number: float) -> None:
    """An output channel without weights of a channel does not see what that one holds."""
    r = find_variant(variant).kernel
    case = Case("sparse", variant, ConvShape(6, 12, 12, 8, r, r, pad=(1, 1)), density=1.0)
    case.weights[:, :, :, 0] = 0.0
    case.weights[:, :, 1:5, 1:5] = 0.0
    case.x[:, 0] = number
    out = case.pack(in_block=6, reg_lists=8, reg_vectors=1).run(case.x)
    case.x[:, 0] = 0.0
    case.assert_right(out)


@pytest.mark.parametrize("width", range(1, 40))
def test_rows_of_tiles_of_every_length(kind: str, width: int, isa: str) -> None:
    """Vectors that lie in one row of tiles, in two, and in more."""
    for variant, chosen in VARIANTS.items():
        r = chosen.kernel
        case = Case(kind, variant, ConvShape(1, 13, width + r - 1, 2, r, r))
        case.assert_right(case.pack(isa=isa).run(case.x))


def test_every_register_block(variant: str, isa: str) -> None:
    info = next(i for i in isa_table() if i.name == isa)
    r = find_variant(variant).kernel
    shape = ConvShape(3, 30, 31, 15, r, r)
    there = _native.winograd_lists_exist
    index = [i.name for i in isa_table()].index(isa)
    found = [(n, v) for n in range(10) for v in range(16) if there(index, n, v)]
    assert max(n * v for n, v in found) <= info.accumulators
    for lists, vectors in found:
        case = Case("sparse", variant, shape)
        layer = case.pack(isa=isa, reg_lists=lists, reg_vectors=vectors, chunk_vectors=vectors + 1)
        case.assert_right(layer.run(case.x))
    for count in range(1, (info.registers - 3) // 2 + 1):
        for vectors in (1, 2):
            case = Case("dense", variant, shape)
            layer = case.pack(isa=isa, reg_vectors=vectors, reg_count=count, out_block=15)
            case.assert_right(layer.run(case.x))


@pytest.mark.parametrize("density", [0.0, 0.02, 1.0])
def test_all_zero_nearly_zero_and_fully_dense(variant: str, density: float) -> None:
    r = find_variant(variant).kernel
    case = Case("sparse", variant, SHAPES["two groups"](r), density=density)
    layer = case.pack(bias=True)
    assert layer.nnz == np.count_nonzero(case.weights)
    case.assert_right(layer.run(case.x), bias=True)


def test_spatial_weights_and_their_transforms_are_one(kind: str, variant: str) -> None:
    """Either class takes either domain; what is kept is of the Winograd domain."""
    r = find_variant(variant).kernel
    case = Case("dense", variant, SHAPES["primes"](r))
    case.kind = kind
    layer = case.pack()
    own = transform_weights(case.weights, variant)
    np.testing.assert_array_equal(layer.weights, own)
    out = layer.run(case.x)
    case.weights = own
    np.testing.assert_array_equal(case.pack().run(case.x), out)


def test_pickle_and_what_is_kept(kind: str, variant: str) -> None:
    r = find_variant(variant).kernel
    case = Case(kind, variant, SHAPES["two groups"](r), batch=3)
    layer = case.pack(bias=True, relu=True, threads=2)
    before = layer.run(case.x)
    case.weights[:] = 9.0
    case.bias[:] = 9.0
    copy = pickle.loads(pickle.dumps(layer))
    assert type(copy) is type(layer)
    assert (copy.nnz, dict(copy.blocking)) == (layer.nnz, dict(layer.blocking))
    np.testing.assert_array_equal(copy.run(case.x), before)
    np.testing.assert_array_equal(layer.run(case.x), before)
    seconds = layer.phase_seconds
    assert seconds["input"] > 0.0  # timed by samples, which may take all of a short time
    assert min(seconds.values()) >= 0.0
    assert sum(seconds.values()) < 10.0


def test_nan_stays_in_its_tiles_and_passes_relu(kind: str, variant: str, isa: str) -> None:
    chosen = find_variant(variant)
    m, pad = chosen.outputs, chosen.kernel // 2
    shape = ConvShape(2, 6 * m, 6 * m, 3, chosen.kernel, chosen.kernel, pad=(pad, pad))
    case = Case(kind, variant, shape, density=1.0)
    case.x[0, 1, 2 * m + m // 2, 3 * m + m // 2] = np.nan
    out = case.pack(isa=isa, relu=True).run(case.x)
    assert np.isnan(out[..., 2 * m + m // 2, 3 * m + m // 2]).all()
    hurt = np.isnan(out).any(axis=(0, 1)).reshape(6, m, 6, m).any(axis=(1, 3))
    allowed = np.zeros((6, 6), dtype=bool)
    allowed[1:4, 2:5] = True
    assert not (hurt & ~allowed).any()


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    kind=st.sampled_from(sorted(CLASSES)),
    variant=st.sampled_from(sorted(VARIANTS)),
    pad=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_random_shapes(data: st.DataObject, kind: str, variant: str, pad: tuple[int, int]) -> None:
    r = find_variant(variant).kernel
    height, width = (data.draw(st.integers(max(1, r - 2 * p), 35)) for p in pad)
    groups, inputs, outputs = (data.draw(st.integers(1, n)) for n in (3, 5, 20))
    shape = ConvShape(groups * inputs, height, width, groups * outputs, r, r, pad=pad,
                      groups=groups)  # fmt: skip
    case = Case(kind, variant, shape, batch=data.draw(st.integers(1, 4)))
    layer = case.pack(bias=True, relu=True, images=data.draw(st.integers(1, 4)))
    case.assert_right(layer.run(case.x), bias=True, relu=True)


# ---- bad input ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lanes": 3}, "another instruction set"),
        ({"variant": "f6x6_3x3"}, "must be one of"),
        ({"variant": "f4x4_5x5"}, r"needs a kernel of \(5, 5\)"),
        ({"reg_vectors": 4}, "must be at most blocking"),
        ({"out_block": 6}, "must be at most the output channels of a group"),
        ({"images": 0}, "must be 1 to"),
    ],
    ids=str,
)
def test_bad_blockings(kind: str, changes: dict[str, Any], message: str) -> None:
    case = Case(kind, "f4x4_3x3", ConvShape(3, 9, 9, 5, 3, 3, pad=(1, 1)))
    with pytest.raises(ValueError, match=message):
        case.pack(**changes)


def test_register_blocks_beyond_the_registers() -> None:
    shape = ConvShape(3, 40, 40, 50, 3, 3, pad=(1, 1))
    bad: list[dict[str, Any]] = [
        {"reg_lists": 8, "reg_vectors": 4}, {"reg_lists": 3}, {"reg_vectors": 15},
    ]  # fmt: skip
    for changed in bad:
        with pytest.raises(ValueError, match="has no register block of"):
            Case("sparse", "f4x4_3x3", shape).pack(chunk_vectors=31, **changed)
    with pytest.raises(ValueError, match="must be at most the input channels of a group"):
        Case("sparse", "f4x4_3x3", shape).pack(in_block=4)
    with pytest.raises(ValueError, match="must be at most what there are registers for"):
        Case("dense", "f4x4_3x3", shape).pack(reg_vectors=3)
    with pytest.raises(ValueError, match="has registers for"):
        Case("dense", "f4x4_3x3", shape).pack(reg_count=15, out_block=20)


@pytest.mark.parametrize("changed", [{"stride": (2, 2)}, {"dilation": (2, 2)}], ids=str)
def test_strides_and_dilations_are_refused(kind: str, changed: dict[str, Any]) -> None:
    case = Case(kind, "f4x4_3x3", ConvShape(3, 9, 9, 5, 3, 3, pad=(1, 1), **changed))
    with pytest.raises(ValueError, match="stride 1 and dilation 1"):
        case.pack()


def test_weights_of_another_shape(kind: str) -> None:
    case = Case(kind, "f4x4_3x3", ConvShape(3, 9, 9, 5, 3, 3, pad=(1, 1)))
    case.weights = np.zeros((4, 4, 5, 3), dtype=np.float32)
    with pytest.raises(ValueError, match=r"weights: must have shape \(6, 6, 5, 3\)"):
        case.pack()
