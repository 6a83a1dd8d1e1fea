"""Direct sparse convolution in lane layout: every vector is loaded where it is aligned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from archsim.kernels import _native
from archsim.kernels.checks import FloatArray, check_accumulators, check_lanes
from archsim.kernels.isa import IsaInfo, find_isa
from archsim.kernels.lanes_layout import (
    AHEAD,
    Residues,
    flat_pitch,
    lanes_layout,
    pack_lanes,
    pointwise_layout,
    pointwise_slab_pitch,
)
from archsim.kernels.lanes_link import LanesLink, lanes_link
from archsim.kernels.packed import PARTITIONS, PackedSparseLayer
from archsim.kernels.shapes import ConvShape
from archsim.kernels.shifts_layout import in_one_row, pack_shifts, shifts_layout, tile_outputs


class DirectSparseLanes(PackedSparseLayer):
    """Sparse convolution whose SIMD lanes hold far-apart pixels.

    A weight's row and column then move from vector to vector, never inside one: no load crosses a
    line, whatever kernel, stride, dilation and padding. The picture is brought into lane layout
    and the result out of it by transpositions. A stride takes the padded picture apart into
    residue planes; one plane of one input channel is a slab. Loops: group -> register block ->
    block of slabs -> output channel -> nonzero. Between blocks of slabs the sums are spilled; the
    last one brings them out.

    With ``shifts`` lanes are neighbouring pixels of rows that are padded to whole vectors, and
    nothing is transposed: between the nonzeros of two columns of the kernel the sums move by a
    lane, and at the end they leave as they are. A row may be cut into column tiles; each also
    holds what the kernel reaches beyond its outputs. What a register block looks at of a block of
    slabs is copied just before its products, by every thread for itself.

    With ``pointwise`` (1x1, stride 1, no padding) lanes are neighbouring pixels, and nothing is
    converted: the picture is read where it stands if its planes are whole, aligned vectors, and
    else as one long row of "shifts". Images in work at once and threads are those of
    DirectSparseRow; with ``images`` so many images as lanes are one turn.

    Parameters
    ----------
    weights : ndarray of shape (K, C / groups, R, S), float32
        Finite. The zeros are dropped.
    shape : ConvShape
    blocking : mapping
        lanes : floats in a vector; must be those of *isa*
        mode : "flat" (a lane is a chunk of the plane, row after row), "tiles" (a sub-image),
            "images" (a picture of the batch), "pointwise" or "shifts"
        grid_rows, grid_columns : sub-images; "flat" has 1 x lanes, "shifts" 1 x column tiles,
            "images" and "pointwise" 1 x 1
        tile_rows, tile_columns : output positions of a lane; "flat" has 1 row, "pointwise" 1 row
            of vectors, "shifts" all rows x the vectors of a column tile
        plane_pitch : positions from one row of a padded plane to the next
        reg_rows, reg_vectors : register block, positions; less at the edges; "shifts" takes whole
            rows of a column tile
        slab_block : slabs (of one group) in a block
        slab_pitch : vectors from one slab to the next
        past_caches : 1 to write the output of "pointwise" past the caches where its planes are
            whole, aligned vectors: pays where it would not stay in them anyway; else 0
        threads_per_image : threads that share an image (or a turn of images)
        partition : as in `DirectSparseRow`
    part_ptr : sequence of int
        Output channels: part r is [part_ptr[r], part_ptr[r + 1]).
    threads : int
        threads // threads_per_image turns are in work at once; left-over threads idle.
    isa : str, optional
        Instruction set; None: the active one.
    bias : ndarray of shape (K,), float32, optional
    relu : bool

    Raises
    ------
    ValueError, TypeError
        For any argument that is not as said here.
    """

    _LEAST: ClassVar = {
        "lanes": 1,
        "grid_rows": 1,
        "grid_columns": 1,
        "tile_rows": 1,
        "tile_columns": 1,
        "plane_pitch": 1,
        "reg_rows": 1,
        "reg_vectors": 1,
        "slab_block": 1,
        "slab_pitch": 1,
        "past_caches": 0,
        "threads_per_image": 1,
    }
    _WORDS: ClassVar = {
        "mode": ("flat", "tiles", "images", "pointwise", "shifts"),
        "partition": PARTITIONS,
    }

    def _check_blocking(self) -> None:
        _check_plan(self._number, self._word["mode"], self.shape, find_isa(self.isa))

    def _units(self) -> int:
        return self.shape.out_channels

    def _pack(self, weights: FloatArray) -> _native.Layer:
        shape, number, mode = self.shape, self._number, self._word["mode"]
        if mode == "shifts":
            return self._pack_shifts(weights, shape, number)
        if mode == "pointwise" and shape.height * shape.width % number["lanes"] != 0:
            return self._pack_shifts(weights, *in_one_row(shape, number))
        pointwise = mode == "pointwise"
        layout = pointwise_layout(shape, number) if pointwise else lanes_layout(shape, number, mode)
        slabs = shape.group_channels * len(layout.plane_row)
        packed = pack_lanes(weights, shape, layout, number["slab_block"])
        self.layout = layout
        self._lanes = _native.DirectLanes(
            *self._parts(packed, ahead=AHEAD),
            layout,
            {
                "pointwise": int(pointwise),
                "past_caches": number["past_caches"],
                "slab_block": number["slab_block"],
                "slab_blocks": -(-slabs // number["slab_block"]),
                "channels_of_part": self._channels_of_part(),
            },
            self.relu,
        )
        return self._lanes

    @property
    def native(self) -> _native.DirectLanes:
        """What runs; chains share it."""
        return self._lanes

    def linked_to(self, following: DirectSparseLanes, *, whole: bool) -> LanesLink:
        """Return how this layer's sums become the input of the next one in a chain."""
        return lanes_link(
            self.shape, self._number, self._word["mode"], self.layout, following.shape,
            following.layout, whole=whole,
        )  # fmt: skip

    def _pack_shifts(
        self, weights: FloatArray, walk: ConvShape, number: Mapping[str, int]
    ) -> _native.DirectShifts:
        layout = shifts_layout(walk, number)
        return _native.DirectShifts(
            *self._parts(pack_shifts(weights, walk, layout), ahead=AHEAD),
            walk,
            layout,
            {
                "past_caches": number["past_caches"],
                "channels_of_part": self._channels_of_part(),
            },
            self.relu,
        )

    def _channels_of_part(self) -> int:
        """Most output channels of a group that a thread computes."""
        channels = int((self._part_ptr[1:] - self._part_ptr[:-1]).max())
        return min(channels, self.shape.group_out_channels)


def _check_plan(number: Mapping[str, int], mode: str, shape: ConvShape, isa: IsaInfo) -> None:
    check_lanes(number["lanes"], isa)
    block = number["reg_rows"] * number["reg_vectors"]
    check_accumulators(block, "blocking['reg_rows'] x blocking['reg_vectors']", isa)
    for small, large in (("reg_rows", "tile_rows"), ("reg_vectors", "tile_columns")):
        _at_most(small, number[small], number[large], f"blocking[{large!r}]")
    _at_most("past_caches", number["past_caches"], int(mode == "pointwise"),
             f"what {mode} allows")  # fmt: skip
    residues = Residues.of(shape)
    _at_most("slab_block", number["slab_block"], shape.group_channels * residues.count,
             "the slabs of a group")  # fmt: skip
    if mode == "pointwise":
        _check_pointwise(number, shape)
        return
    if mode == "shifts":
        _check_shifts(number, shape, residues)
        return
    grid = {"flat": (1, number["lanes"]), "images": (1, 1)}.get(mode)
    found = (number["grid_rows"], number["grid_columns"])
    if grid not in (None, found) or (grid is None and found[0] * found[1] != number["lanes"]):
        wanted = grid or f"{number['lanes']} sub-images together"
        raise ValueError(
            f"blocking['grid_rows'], ['grid_columns']: {mode} needs {wanted}; got {found}"
        )
    rows, columns = number["tile_rows"], number["tile_columns"]
    in_rows, in_columns = rows + residues.reach_rows, columns + residues.reach_columns
    if mode == "flat":
        _at_least("plane_pitch", number["plane_pitch"], flat_pitch(shape, residues))
        positions = (shape.out_h - 1) * number["plane_pitch"] + shape.out_w
        if rows != 1:
            raise ValueError(f"blocking['tile_rows']: flat needs 1; got {rows}")
        _at_least("tile_columns", columns, -(-positions // number["lanes"]))
        _at_most("tile_columns", columns, positions, "all positions")
        in_rows, in_columns = 1, in_columns + residues.reach_rows * number["plane_pitch"]
    else:
        _at_least("tile_rows", rows, -(-shape.out_h // found[0]))
        _at_least("tile_columns", columns, -(-shape.out_w // found[1]))
        _at_most("tile_rows", rows, shape.out_h, "the output's rows")
        _at_most("tile_columns", columns, shape.out_w, "the output's columns")
        width = found[1] * columns + residues.reach_columns
        _at_least("plane_pitch", number["plane_pitch"], width)
        plane = (found[0] * rows + residues.reach_rows) * number["plane_pitch"]
        if plane > _native.MOST_FLOATS:  # and far from what 64 bits hold
            raise MemoryError(f"no memory for a plane of {plane} floats")
    _at_least("slab_pitch", number["slab_pitch"], in_rows * in_columns)


def _check_pointwise(number: Mapping[str, int], shape: ConvShape) -> None:
    if (shape.kernel_h, shape.kernel_w, *shape.stride, *shape.pad) != (1, 1, 1, 1, 0, 0):
        raise ValueError(
            f"blocking['mode']: pointwise needs a 1x1 kernel, stride 1 and no padding; got {shape}"
        )
    vectors = pointwise_slab_pitch(shape, number["lanes"])
    for name, right in (("grid_rows", 1), ("grid_columns", 1), ("tile_rows", 1),
                        ("tile_columns", vectors)):  # fmt: skip
        if number[name] != right:
            raise ValueError(f"blocking[{name!r}]: pointwise needs {right}; got {number[name]}")
    _at_least("slab_pitch", number["slab_pitch"], vectors)


def _check_shifts(number: Mapping[str, int], shape: ConvShape, residues: Residues) -> None:
    vectors, tiles = number["tile_columns"], number["grid_columns"]
    outputs = tile_outputs(shape, number)
    for name, right in (("grid_rows", 1), ("tile_rows", shape.out_h), ("reg_vectors", vectors)):
        if number[name] != right:
            raise ValueError(f"blocking[{name!r}]: shifts needs {right}; got {number[name]}")
    if outputs < 1 or (tiles - 1) * outputs >= shape.out_w or tiles * outputs < shape.out_w:
        raise ValueError(
            f"blocking['grid_columns']: {tiles} tiles of {vectors} vectors, of which "
            f"{residues.reach_columns} lanes are what the kernel reaches, do not cut "
            f"{shape.out_w} columns into parts"
        )
    rows = number["reg_rows"] + residues.reach_rows
    _at_least("slab_pitch", number["slab_pitch"], rows * vectors)


def _at_most(name: str, value: int, most: int, what: str) -> None:
    if value > most:
        raise ValueError(f"blocking[{name!r}]: must be at most {what} ({most}); got {value}")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(
            f"blocking[{name!r}]: must be at least {least} for this layer; got {value}"
        )
