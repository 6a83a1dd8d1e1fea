"""In-core cycles of the kernels' inner loops, against LLVM's scheduling models.

The loops are compiled here with marks around their bodies, for each described machine's instruction
set, and llvm-mca says how many cycles a turn takes with all data in L1 (it knows no lines that a
load could cross). The prediction is :func:`archsim.incore.incore` of what one more nonzero adds to
a plan.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from archsim.hostfacts import HOST
from archsim.incore import incore as incore_of
from archsim.machine import Machine
from archsim.machinefile import load_machine
from archsim.methods import get_method
from archsim.network import Layer
from archsim.plan import OPERATIONS, Plan, Work
from archsim.sparsity import Sparsity
from archsim.validate.llvm_mca import Analyser
from archsim.validate.points import Point, Suite
from archsim.validate.witness import AnalysisError

#: Machine -> LLVM's name of its core, or None: the one that LLVM takes this host for.
_CORES: Final[Mapping[str, str | None]] = {
    "atom-c2750": "silvermont",
    "xeon-e5-2697v4-2s": "broadwell",
    "xeon-skylake-sp-2s": "skylake-avx512",
    HOST: None,
}
#: Method, schedule -> source, and the name of the loop there.
_LOOPS: Final = {
    ("direct_sparse", "row"): ("f32_direct_row.c", "row"),
    ("direct_sparse", "lanes:shifts"): ("f32_direct_shifts.c", "shifts"),
    ("direct_sparse", "lanes:tiles"): ("f32_direct_lanes.c", "lanes"),
    ("direct_sparse", "lanes:flat"): ("f32_direct_lanes.c", "lanes"),
    ("lowered_sparse", "auto"): ("f32_lowered.c", "lowered"),
}
#: What is not in the marked loops, or not seen by the analyser.
_OUTSIDE: Final = (
    "loads_line_crossing", "loads_page_crossing", "early_lines", "mispredicts", "waiting_loads",
    "stores", "blas_multiply_adds",
)  # fmt: skip
_SIDES: Final = (6, 7, 8, 12, 13, 14, 16, 24, 27, 28, 48, 56)
_DENSITIES: Final = (0.2, 0.3)


Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Loop:
    """A register block that some layer's plan runs, and what one turn of its loop asks for."""

    layer: Layer
    method: str
    schedule: str
    label: str  # of the marked loop
    work: Work

    @property
    def source(self) -> str:
        """C file that has the loop."""
        return _LOOPS[self.method, self.schedule][0]


def incore(*, progress: Progress | None = None) -> Suite:
    """Hold in-core cycles against llvm-mca.

    Parameters
    ----------
    progress : callable, optional
        Called with (what, done, total).

    Returns
    -------
    Suite
        A point for each machine and register block of the sparse methods' plans on square layers
        of 3x3 kernels: cycles of a turn (one nonzero).

    Raises
    ------
    WitnessMissingError
        No llvm-mca, compiler or sources.
    """
    analyser = Analyser.find()
    sources = sorted({source for source, _ in _LOOPS.values()})
    points: list[Point] = []
    notes = []
    with tempfile.TemporaryDirectory() as folder:
        for done, (name, core) in enumerate(_CORES.items()):
            if progress is not None:
                progress(name, done, len(_CORES))
            machine = load_machine(name)
            isa = machine.default_isa
            place = Path(folder) / isa
            try:
                if not place.exists():
                    place.mkdir()
                    analyser.compile(isa, sources, place)
                cycles = analyser.cycles(sources, core, place)
            except AnalysisError as error:
                notes.append(f"{name} left out: {error}")
                continue
            points += [
                _point(loop, machine, cycles[loop.source, loop.label])
                for loop in loops_of(machine)
                if (loop.source, loop.label) in cycles
            ]
    notes.append(analyser.version())
    return Suite("incore", tuple(points), tuple(notes))


def loops_of(machine: Machine) -> Iterator[Loop]:
    """Yield the register blocks that plans for a machine run, each once."""
    target, known = machine.target(), set()
    for side in _SIDES:
        layer = Layer(f"{side}x{side}", C=64, K=64, H=side, W=side, R=3, S=3, pad=(1, 1))
        for (method, schedule), (_, name) in _LOOPS.items():
            few, more = (
                get_method(method).plan(
                    layer, Sparsity(density), batch=1, threads=1, schedule=schedule,
                    partition="nnz", target=target,
                )
                for density in _DENSITIES
            )  # fmt: skip
            found = _turn(few, more)
            if found is None:
                continue
            rows, vectors, work = found
            if name in ("shifts", "lowered"):  # one row of vectors to the kernel
                rows, vectors = 1, rows * vectors
            label = f"{name}-{rows}x{vectors}"
            if label not in known:
                known.add(label)
                yield Loop(layer, method, schedule, label, work)


def _turn(few: Plan, more: Plan) -> tuple[int, int, Work] | None:
    """Return the register block, and what a further nonzero adds: a turn of the loop.

    None where the two plans differ in their blocks, or an image has blocks of several sizes.
    """
    blocking = {**few.blocking, "channel_block": 0, "slab_block": 0, "slab_pitch": 0}
    if blocking != {**more.blocking, "channel_block": 0, "slab_block": 0, "slab_pitch": 0}:
        return None
    rows = int(few.blocking.get("reg_rows", 1))
    vectors = int(few.blocking.get("reg_vectors", few.blocking.get("pixel_vectors", 1)))
    added = {
        name: _total(more, name) - _total(few, name) for name in OPERATIONS if name not in _OUTSIDE
    }
    turns = added["broadcasts"]
    if turns <= 0 or abs(added["multiply_adds"] - turns * rows * vectors) > 1e-6 * turns:
        return None
    return rows, vectors, Work.of(1, **{name: value / turns for name, value in added.items()})


def _total(plan: Plan, name: str) -> float:
    products = next(phase for phase in plan.phases if phase.name == "products")
    counts = getattr(products.work, name)
    return float(np.sum(products.tiles.total * counts))


def _point(loop: Loop, machine: Machine, measured: float) -> Point:
    predicted = float(incore_of(loop.work, machine).cycles[0])
    return Point(
        figure=loop.label, machine=machine.name, network="", layer=loop.layer.name,
        method=loop.method, sparsity=None, quantity="cycles_per_turn", predicted=predicted,
        measured=measured, unit="cycles", tolerance=None, tolerance_kind="relative", scored=True,
        variant="llvm-mca", split="unseen", schedule=loop.schedule,
    )  # fmt: skip
