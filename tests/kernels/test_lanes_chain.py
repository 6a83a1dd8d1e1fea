"""LanesChain computes what its layers compute one after another, without leaving lane layout."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from archsim.kernels import ConvShape, DirectSparseLanes, LanesChain, active_isa, conv2d, isa_table
from archsim.kernels.lanes_chain import buffers_of_links
from archsim.kernels.lanes_layout import Residues, flat_pitch

MODES = ("flat", "tiles", "images")
FloatArray = npt.NDArray[np.float32]


def _same(channels: int, size: tuple[int, int], out: int, kernel: Any, **more: Any) -> ConvShape:
    """Return a layer whose output has the size of its input."""
    rows, columns = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    dilation = more.get("dilation", (1, 1))
    pad = (rows // 2 * dilation[0], columns // 2 * dilation[1])
    return ConvShape(channels, *size, out, rows, columns, pad=pad, **more)


SIZE = (13, 13)
CHAINS = {
    "AlexNet conv3 to conv5, thin": [
        _same(5, SIZE, 8, 3), _same(8, SIZE, 6, 3, groups=2), _same(6, SIZE, 4, 3, groups=2),
    ],
    "kernels of all sizes": [
        _same(3, (9, 11), 4, 5), _same(4, (9, 11), 6, 1), _same(6, (9, 11), 5, 3),
        _same(5, (9, 11), 2, 7),
    ],
    "1x1 around 3x3": [_same(6, (7, 7), 3, 1), _same(3, (7, 7), 4, 3), _same(4, (7, 7), 9, 1)],
    "only 1x1": [_same(3, (5, 6), 7, 1), _same(7, (5, 6), 2, 1)],
    "rows and columns": [_same(2, (6, 17), 3, (1, 5)), _same(3, (6, 17), 2, (5, 1))],
    "dilation": [_same(2, (10, 9), 3, 3, dilation=(2, 2)), _same(3, (10, 9), 4, 3)],
    "depthwise": [_same(6, (8, 8), 6, 3, groups=6), _same(6, (8, 8), 4, 1)],
    "narrow": [_same(2, (19, 1), 3, 3), _same(3, (19, 1), 2, 3)],
    "one row": [_same(2, (1, 35), 3, 3), _same(3, (1, 35), 2, 3)],
    "one pixel": [_same(4, (1, 1), 5, 3), _same(5, (1, 1), 3, 1)],
    "kernel larger than the picture": [_same(2, (2, 3), 3, 7), _same(3, (2, 3), 2, 5)],
    "five layers": [_same(4, (6, 6), 4, 3) for _ in range(5)],
    "one layer": [_same(3, (9, 10), 4, 3)],
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Layers with data."""

    shapes: Sequence[ConvShape]
    weights: list[FloatArray]
    bias: list[FloatArray]
    relu: list[bool]
    x: FloatArray

    def assert_right(self, out: FloatArray, x: FloatArray | None = None) -> None:
        """Compare with the layers in float64, allowing what rounding can do and nothing more.

        An output's own error is at most m u times the sum of the magnitudes that it adds
        (tests/kernels/conftest.py); what its inputs are off by comes with the weights' magnitudes.
        """
        right: Any = self.x if x is None else x
        error = np.zeros(right.shape)
        for shape, weights, bias, relu in zip(
            self.shapes, self.weights, self.bias, self.relu, strict=True
        ):
            terms = weights[0].size + 2
            added = conv2d(abs(right) + error, abs(weights), shape, abs(bias))
            error = conv2d(error, abs(weights), shape) + terms * 2.0**-24 * added
            right = conv2d(right, weights, shape, bias, relu)
        np.testing.assert_array_less(abs(out - right), error + 1e-37)


def _case(shapes: Sequence[ConvShape], *, batch: int = 1, density: float = 0.4) -> Case:
    rng = np.random.default_rng(7)
    weights = [rng.standard_normal(shape.weight_shape).astype(np.float32) for shape in shapes]
    for array in weights:
        array[rng.random(array.shape) >= density] = 0.0
    bias = [rng.standard_normal(shape.out_channels).astype(np.float32) for shape in shapes]
    first = shapes[0]
    x = rng.standard_normal((batch, first.channels, first.height, first.width))
    relu = [i % 3 != 2 for i in range(len(shapes))]
    return Case(shapes, weights, bias, relu, x.astype(np.float32))


def _blocking(
    shape: ConvShape, chain: Sequence[ConvShape], isa: str | None, mode: str, reg: int = 5,
    **changes: Any,
) -> dict[str, Any]:  # fmt: skip
    """A legal blocking of a layer in a chain."""
    info = next(i for i in isa_table() if i.name == (isa or active_isa()))
    lanes, residues = info.lanes, Residues.of(shape)
    grid = {"tiles": (2, lanes // 2), "flat": (1, lanes)}.get(mode, (1, 1))
    rows, columns = -(-shape.out_h // grid[0]), -(-shape.out_w // grid[1])
    pitch = grid[1] * columns + residues.reach_columns
    if mode == "flat":
        pitch = max(flat_pitch(s, Residues.of(s)) for s in chain)
        rows, columns = 1, -(-((shape.out_h - 1) * pitch + shape.out_w) // lanes)
    in_rows, in_columns = rows + residues.reach_rows, columns + residues.reach_columns
    if mode == "flat":
        in_rows, in_columns = 1, in_columns + residues.reach_rows * pitch
    vectors = min(columns, reg)
    return {
        "lanes": lanes,
        "mode": mode,
        "grid_rows": grid[0] if mode == "tiles" else 1,
        "grid_columns": grid[1] if mode in ("tiles", "flat") else 1,
        "tile_rows": rows,
        "tile_columns": columns,
        "plane_pitch": pitch,
        "reg_rows": min(rows, info.accumulators // vectors),
        "reg_vectors": vectors,
        "slab_block": min(2, shape.group_channels),
        "slab_pitch": in_rows * in_columns,
        "past_caches": 0,
        "partition": "nnz",
        "threads_per_image": 1,
    } | changes


def _layers(
    kit: Any, case: Case, mode: str, *, isa: str | None = None, threads: int = 1, **changes: Any
) -> list[DirectSparseLanes]:
    layers = []
    for i, shape in enumerate(case.shapes):
        blocking = _blocking(shape, case.shapes, isa, mode, reg=3 + 2 * (i % 3), **changes)
        layers.append(
            DirectSparseLanes(
                case.weights[i],
                shape,
                blocking=blocking,
                threads=threads,
                isa=isa,
                part_ptr=kit.parts(shape.out_channels, blocking["threads_per_image"]),
                bias=case.bias[i],
                relu=case.relu[i],
            )
        )
    return layers


def _one_after_another(layers: Sequence[DirectSparseLanes], x: FloatArray) -> FloatArray:
    for layer in layers:
        x = layer.run(x)
    return x


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("whole", [False, True])
def test_chain_is_its_layers(kit: Any, isa: str, mode: str, name: str, whole: bool) -> None:
    lanes = next(i.lanes for i in isa_table() if i.name == isa)
    case = _case(CHAINS[name], batch=lanes + 1 if mode == "images" else 2)
    layers = _layers(kit, case, mode, isa=isa)
    chain = LanesChain(layers, whole=[whole] * (len(layers) - 1))
    assert chain.isa == isa
    assert len(chain) == len(case.shapes)
    out = chain.run(case.x)
    case.assert_right(out)
    np.testing.assert_array_equal(out, _one_after_another(layers, case.x))
    np.testing.assert_array_equal(chain.run(case.x), out)  # nothing of a run stays


@pytest.mark.parametrize("grid", [(1, 4), (4, 1), (2, 2)])
@pytest.mark.parametrize("name", ["kernels of all sizes", "five layers", "narrow"])
def test_every_grid_of_tiles(kit: Any, name: str, grid: tuple[int, int]) -> None:
    """Pieces smaller than the halo too: it then comes from the piece after the next."""
    case = _case(CHAINS[name])
    (height, width) = case.shapes[0].height, case.shapes[0].width
    rows, columns = -(-height // grid[0]), -(-width // grid[1])
    layers = []
    for i, shape in enumerate(case.shapes):
        residues = Residues.of(shape)
        pitch = grid[1] * columns + residues.reach_columns
        size = (rows + residues.reach_rows) * (columns + residues.reach_columns)
        blocking = _blocking(
            shape, case.shapes, "baseline", "tiles", grid_rows=grid[0], grid_columns=grid[1],
            tile_rows=rows, tile_columns=columns, plane_pitch=pitch, slab_pitch=size + i,
            reg_rows=1, reg_vectors=1,
        )  # fmt: skip
        layers.append(
            DirectSparseLanes(
                case.weights[i],
                shape,
                blocking=blocking,
                part_ptr=[0, shape.out_channels],
                isa="baseline",
                bias=case.bias[i],
                relu=case.relu[i],
            )
        )
    for whole in (False, True):
        case.assert_right(LanesChain(layers, whole=[whole] * (len(layers) - 1)).run(case.x))


@pytest.mark.parametrize(("threads", "per_image"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
@pytest.mark.parametrize("mode", MODES)
def test_threads_do_not_change_a_bit(kit: Any, threads: int, per_image: int, mode: str) -> None:
    case = _case(CHAINS["kernels of all sizes"], batch=5)
    alone = LanesChain(_layers(kit, case, mode)).run(case.x)
    layers = _layers(kit, case, mode, threads=threads, threads_per_image=per_image)
    for whole in ([False] * 3, [True] * 3, [True, False, True]):
        chain = LanesChain(layers, whole=whole)
        for _ in range(3):
            np.testing.assert_array_equal(chain.run(case.x), alone)


@pytest.mark.parametrize("batch", [1, 2, 15, 16, 17, 33])
def test_any_batch(kit: Any, batch: int) -> None:
    """Lanes without a picture leave nothing behind, whatever was in them before."""
    case = _case(CHAINS["1x1 around 3x3"], batch=40)
    layers = _layers(kit, case, "images", threads=2)
    for whole in ([False, True], [True, False]):
        chain = LanesChain(layers, whole=whole)
        chain.run(np.full_like(case.x, np.nan))
        case.assert_right(chain.run(case.x[:batch]), case.x[:batch])


@pytest.mark.parametrize("mode", MODES)
def test_nan_reaches_only_what_looks_at_it(kit: Any, isa: str, mode: str) -> None:
    case = _case([_same(2, (7, 20), 3, 3), _same(3, (7, 20), 2, 3)], density=1.0)
    case = replace(case, relu=[True, True])
    layers = _layers(kit, case, mode, isa=isa)
    hurt = case.x.copy()
    hurt[0, 1, 0, 19] = np.nan  # a corner, far from the left edge, where rows and lanes wrap
    near = np.zeros(case.x.shape[2:], dtype=bool)
    near[:3, 17:] = True
    for whole in (False, True):
        chain = LanesChain(layers, whole=[whole])
        out = chain.run(hurt)
        assert np.isnan(out[..., near]).all()
        assert np.isfinite(out[..., ~near]).all()
        case.assert_right(chain.run(case.x))


def test_nothing_is_written_around_out(kit: Any, isa: str) -> None:
    case = _case(CHAINS["kernels of all sizes"])
    for mode in MODES:
        guarded = np.full((3, 2, 9, 11), 7.0, dtype=np.float32)
        chain = LanesChain(_layers(kit, case, mode, isa=isa, threads=2, threads_per_image=2))
        found = chain.run(case.x, guarded[1:2])
        assert np.shares_memory(found, guarded)
        case.assert_right(found)
        assert (guarded[[0, 2]] == 7.0).all()


def test_layers_are_shared_and_may_run_beside(kit: Any) -> None:
    """The same layer twice in a chain, in two chains, and by itself, all at once."""
    case = _case([_same(4, (9, 9), 4, 3)] * 2)
    layer = _layers(kit, case, "flat")[0]
    twice = replace(case, weights=case.weights[:1] * 2, bias=case.bias[:1] * 2, relu=[True] * 2)
    chains = [LanesChain([layer, layer]), LanesChain([layer, layer, layer])]
    right = [chain.run(case.x) for chain in chains]
    twice.assert_right(right[0])
    once = layer.run(case.x)
    failed: list[str] = []

    def run(index: int) -> None:
        for _ in range(50):
            if not np.array_equal(chains[index % 2].run(case.x), right[index % 2]):
                failed.append(f"chain {index % 2}")
            if not np.array_equal(layer.run(case.x), once):
                failed.append("layer")

    callers = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failed


def test_pickles(kit: Any) -> None:
    case = _case(CHAINS["five layers"], batch=2)
    chain = LanesChain(_layers(kit, case, "tiles"), whole=[True, False, False, True])
    again = pickle.loads(pickle.dumps(chain))
    np.testing.assert_array_equal(again.run(case.x), chain.run(case.x))
    assert repr(again) == repr(chain)
    assert again.whole == (True, False, False, True)
    assert "5 layers" in repr(chain)


def test_seconds(kit: Any) -> None:
    case = _case(CHAINS["five layers"], batch=3)
    whole = (False, True, True, False)
    chain = LanesChain(_layers(kit, case, "flat"), whole=whole)
    phases = ("input", "spread", "products", "output")
    assert chain.phase_seconds == dict.fromkeys(phases, 0.0)
    chain.run(case.x)
    layers = chain.layer_seconds
    assert len(layers) == 5
    assert layers[0]["input"] > 0.0
    assert layers[-1]["output"] > 0.0
    for before, after, each in zip(layers, layers[1:], whole, strict=False):
        assert (before["output"] > 0.0) == each
        assert (after["input"] > 0.0) == (not each)
    assert chain.phase_seconds["products"] == sum(layer["products"] for layer in layers)
    assert chain.phase_seconds["spread"] > 0.0


def test_slabs_are_whole_where_register_blocks_share_them(kit: Any) -> None:
    case = _case(CHAINS["1x1 around 3x3"])
    one = [layer.shape.out_w for layer in _layers(kit, case, "images")]
    assert one == [7, 7, 7]
    rows = _layers(kit, case, "images", reg_rows=1)
    assert LanesChain(rows).whole == (True, True)
    small = _case([_same(2, (1, 3), 3, 3), _same(3, (1, 3), 2, 3)])
    assert LanesChain(_layers(kit, small, "images")).whole == (False,)


def test_few_buffers() -> None:
    """Links take turns in two buffers; whole slabs only where the same vectors stay zero."""

    class Fake:
        def __init__(self, reach: int) -> None:
            self.shape = ConvShape(1, 5, 5, 1, reach + 1, 1, pad=(reach // 2, 0))
            self.layout = type("Layout", (), {"in_rows": reach, "in_columns": 5, "slab_pitch": 9})

    def slots(whole: list[bool], *reaches: int) -> list[int]:
        return buffers_of_links([Fake(0), *map(Fake, reaches)], whole)  # type: ignore[list-item]

    assert slots([False] * 4, 2, 4, 0, 2) == [0, 1, 0, 1]
    assert slots([True] * 4, 2, 2, 2, 2) == [0, 1, 0, 1]
    assert slots([True] * 4, 2, 0, 2, 0) == [0, 1, 0, 1]
    assert slots([True] * 4, 2, 4, 0, 4) == [0, 1, 2, 1]
    assert slots([True, False, False, False], 2, 2, 2, 2) == [0, 1, 2, 1]


@pytest.mark.parametrize(
    ("second", "changes", "text"),
    [
        (_same(3, SIZE, 2, 3), {}, r"layers\[1\].shape.channels: must be the 4.*got 3"),
        (_same(4, (13, 12), 2, 3), {}, r"layers\[1\].shape.width: must be 13.*got 12"),
        (ConvShape(4, 13, 13, 2, 3, 3), {}, r"layers\[1\].shape: outputs must be of.*\(11, 11\)"),
        (
            ConvShape(4, 13, 13, 2, 1, 1, stride=(2, 1)),
            {"reg_vectors": 1},
            r"layers\[1\].shape.stride: must be \(1, 1\); got \(2, 1\)",
        ),
        (
            _same(4, SIZE, 2, 3),
            {"plane_pitch": 15, "tile_columns": 49},
            r"\['plane_pitch'\]: must be 14.*got 15",
        ),
        (_same(4, SIZE, 2, 3), {"tile_columns": 60}, r"\['tile_columns'\]: must be 49.*got 60"),
    ],
)
def test_layers_that_do_not_follow(
    kit: Any, second: ConvShape, changes: dict[str, Any], text: str
) -> None:
    case = _case([_same(2, SIZE, 4, 3), second])
    common: dict[str, Any] = {"isa": "baseline", "slab_pitch": 400, "tile_columns": 49}
    first = _layers(kit, replace(case, shapes=case.shapes[:1]), "flat", **common)[0]
    blocking = _blocking(second, [second], "baseline", "flat", slab_pitch=400, reg=1, **changes)
    other = DirectSparseLanes(
        case.weights[1], second, blocking=blocking, part_ptr=[0, second.out_channels],
        isa="baseline",
    )  # fmt: skip
    with pytest.raises(ValueError, match=text):
        LanesChain([first, other])


def test_other_chains_that_are_none(kit: Any) -> None:
    case = _case(CHAINS["five layers"])
    layers = _layers(kit, case, "flat")
    with pytest.raises(ValueError, match=r"whole: must have 4 values.*got 5"):
        LanesChain(layers, whole=[True] * 5)
    with pytest.raises(ValueError, match="at least one; got none"):
        LanesChain([])
    with pytest.raises(TypeError, match=r"layers\[1\]: must be a DirectSparseLanes; got str"):
        LanesChain([layers[0], "conv"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"layers\[1\].threads: must be 1.*got 2"):
        LanesChain([layers[0], _layers(kit, case, "flat", threads=2)[0]])
    with pytest.raises(ValueError, match=r"\['mode'\]: must be 'flat', as in layers\[0\]"):
        LanesChain([layers[0], _layers(kit, case, "images")[0]])
    taken = _layers(kit, case, "flat", partition="dynamic")
    with pytest.raises(ValueError, match=r"layers\[0\].*'partition'.*got 'dynamic'"):
        LanesChain(taken)
    apart = _layers(kit, case, "flat", threads=2)[0]
    together = _layers(kit, case, "flat", threads=2, threads_per_image=2)[0]
    with pytest.raises(ValueError, match=r"'threads_per_image'\]: must be 1"):
        LanesChain([apart, together])
    shape = ConvShape(4, 6, 6, 4, 1, 1)
    blocking = _blocking(shape, [shape], None, "images")
    blocking |= {"mode": "pointwise", "tile_rows": 1, "reg_rows": 1}
    columns = -(-36 // blocking["lanes"])
    blocking |= {"tile_columns": columns, "slab_pitch": columns, "reg_vectors": min(columns, 3)}
    weights = np.ones(shape.weight_shape, dtype=np.float32)
    pointwise = DirectSparseLanes(weights, shape, blocking=blocking, part_ptr=[0, 4])
    with pytest.raises(ValueError, match=r"layers\[1\].*must be one of .*got 'pointwise'"):
        LanesChain([layers[0], pointwise])


def test_bad_arrays(kit: Any) -> None:
    case = _case(CHAINS["five layers"])
    chain = LanesChain(_layers(kit, case, "flat"))
    with pytest.raises(ValueError, match="x: must have shape"):
        chain.run(case.x[:, :3])
    with pytest.raises(TypeError, match="x: must be float32"):
        chain.run(case.x.astype(np.float64))
    with pytest.raises(ValueError, match="out: must have shape"):
        chain.run(case.x, np.empty((1, 4, 6, 5), dtype=np.float32))
    with pytest.raises(ValueError, match="must not share memory"):
        chain.run(case.x, case.x)
