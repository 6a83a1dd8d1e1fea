"""What it takes to bring pixels into the windows of lane layouts, and sums out of the lanes."""

from __future__ import annotations

from archsim.methods.crossing import anywhere
from archsim.methods.lanes_cost import chunks, fours
from archsim.methods.lanes_geometry import Geometry
from archsim.network import Layer
from archsim.plan import Target, Work


def window_work(
    layer: Layer, lanes: int, read: float, written: float, target: Target
) -> tuple[Work, float]:
    """Return what filling windows takes, and the share of its loads that cross a line.

    ``read`` vectors come from the picture, ``written`` ones go into the windows, zeros among them;
    counted in kernels/csrc/f32_direct_shifts.c.
    """
    crossing = 0.0
    if layer.stride[1] > 2:  # one pixel at a time
        work = Work.of(scalar_loads=lanes * read, scalar_ops=lanes * read,
                       branches=lanes * read, stores=written)  # fmt: skip
    elif layer.stride[1] == 2:  # of two vectors every second number
        crossing = anywhere(lanes, target)[0]
        work = Work.of(
            loads_unaligned=2.0 * read, loads_line_crossing=2.0 * crossing * read, stores=written,
            shuffles=read, scalar_loads=2.0 * read, scalar_ops=4.0 * read, branches=written,
        )  # fmt: skip
    else:
        crossing = anywhere(lanes, target)[0]
        work = Work.of(
            loads_unaligned=read, loads_line_crossing=crossing * read, stores=written,
            scalar_ops=2.0 * read, branches=written,
        )  # fmt: skip
    return work, crossing


def out_work(layer: Layer, geometry: Geometry, reg: tuple[int, int], target: Target) -> Work:
    """Return what it takes to bring an output channel's sums out of their lanes.

    Counted in out_of_lanes (kernels/csrc/f32_direct_lanes.c).
    """
    lanes, rows = geometry.lanes, geometry.tile[0]
    widths = chunks(geometry, reg)
    few = [n for n in widths if n <= fours(1)]  # turned as they are, more by quarters of vectors
    quarters = [fours(n) // 4 for n in widths if n > fours(1)]
    turned = rows * (4 * len(few) + lanes * len(quarters))  # vectors
    pieces = float(rows * lanes * len(widths))
    if geometry.mode == "flat":  # a lane's chunk also ends where a row does
        pieces += layer.P
    floats = layer.P * layer.Q * geometry.images / pieces
    line, page = anywhere(max(1.0, floats), target)
    return Work.of(
        loads_aligned=rows * (4.0 * len(few) + lanes * sum(quarters)) + pieces,
        stores=turned + pieces,
        stores_line_crossing=line * pieces,
        stores_page_crossing=page * pieces,
        scalar_loads=2.0 * pieces,
        # and what puts quarters together
        shuffles=2.0 * turned + rows * lanes * (sum(quarters) - float(len(quarters))),
        scalar_ops=4.0 * pieces,  # place and bits of a piece
        branches=pieces + rows * len(widths),
    )
