"""Plan: what a method asks of a machine, with no time in it.

``Method.plan(layer, sparsity, ...)`` makes one; the closed form, the simulator and the native
kernels all read the same one.  A plan is a tuple of phases (``input``, ``products``,
``output``); a phase is a set of *tiles*.  Tiles that ask for the same are one *kind*; kinds are
the last axis of every array here.

Who runs what: threads that do the same are one *class*.  ``Tiles.count[k, j]`` says how many
tiles of kind ``j`` each thread of class ``k`` runs; ``Tiles.thread_class[t]`` is the class of
thread ``t`` (-1: idle).  272 threads with one image each are one class, not 272 rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.network import Layer
from archsim.sparsity import Densities, Sparsity, winograd_shape

Counts = NDArray[np.float64]
#: a number, or one for each of several densities, shape (densities, 1)
Expected = float | Counts
PHASES: Final = ("input", "products", "output")


def first(value: Expected) -> float:
    """Return a number, or the first density's one."""
    return float(np.ravel(value)[0]) if isinstance(value, np.ndarray) else value


def spread(value: ArrayLike, kinds: int) -> Counts:
    """Return ``value`` as one row of floats, shape (..., 1, kinds); a scalar is every kind's."""
    if isinstance(value, np.ndarray) and value.ndim > 1:
        shape = (*value.shape[:-1], 1, kinds)
        rows: Counts = np.broadcast_to(value[..., None, :], shape)
        return rows
    row = np.empty((1, kinds))
    row[0] = value  # raises where the shapes do not fit
    return row


@dataclass(frozen=True, slots=True)
class Candidate:
    """A schedule that ``auto`` may be, and the density whose cheapest blocks it takes.

    None: the blocks are those for the layer's own density, or the schedule has none to choose.
    """

    schedule: str
    blocks_for: float | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """The little of a machine that blocking depends on.  Same target, same plan.

    ``l1_sharers`` and ``l2_sharers`` count hardware threads; ``last_bytes`` is one whole instance
    of the outermost cache.
    """

    isa: str
    lanes: int
    registers: int
    fma: bool
    line_bytes: int
    page_bytes: int
    l1_bytes: int
    l1_sharers: int
    l2_bytes: int
    l2_sharers: int
    last_bytes: int
    threads_per_core: int


#: what a tile asks of a core, in the order of :attr:`Work.counts`
OPERATIONS: Final = (
    "multiply_adds", "loads_aligned", "loads_unaligned", "loads_folded", "loads_line_crossing",
    "loads_page_crossing", "stores", "stores_line_crossing", "stores_page_crossing", "broadcasts",
    "folded_in_line", "gathered", "shuffles", "scalar_ops", "scalar_loads", "scalar_stores",
    "scalar_multiply_adds", "blas_multiply_adds", "branches", "early_lines", "split_misses",
    "handed_reads", "handed_writes", "handed_split_writes", "mispredicts", "waiting_loads",
    "chain_multiply_adds",
)  # fmt: skip
_PLACE: Final = {name: place for place, name in enumerate(OPERATIONS)}


class _Row:
    """One operation's counts: a row of :attr:`Work.counts`."""

    __slots__ = ("_place",)

    def __init__(self, name: str) -> None:
        self._place = _PLACE[name]

    def __get__(self, work: Work, owner: type[Work] | None = None) -> Counts:
        found: Counts = work.counts[..., self._place, :]
        return found


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of one tile, per kind: ``counts`` of shape (..., operations, kinds).

    Whole numbers for a real or drawn pattern, expected values for a density; a leading axis, where
    there is one, is of densities.  Vector operations count instructions, not lanes.
    ``loads_line_crossing`` and ``loads_page_crossing`` are included in ``loads_unaligned``, stores
    that do in ``stores``.

    Attributes
    ----------
    multiply_adds : vector multiply-adds (a multiply and an addition where there is no FMA)
    loads_aligned, loads_unaligned : vector loads of data, each by itself
    loads_folded : how many of the loads above feed exactly one multiply-add directly
    folded_in_line : those of them that lie in one line; made of the two counts
    stores : vector stores
    broadcasts : one number from memory into all lanes
    gathered : numbers that a vector takes from places of their own, each by itself
    shuffles : lanes of a vector, or of two, brought into another order
    scalar_ops : index loads excluded; adds, compares and the like
    scalar_loads : index and pointer loads
    scalar_stores : of one number each, to places that follow each other
    scalar_multiply_adds : multiply-adds that run one number at a time
    blas_multiply_adds : those of the vector ones that the loops of a BLAS library make
    early_lines : lines that a kernel asks for before it loads from them
    split_misses : lines that come into L1 for a load across lines; no plan's, models find them
    handed_reads : lines read that another core wrote a moment ago; no plan's, nor are
    handed_writes, handed_split_writes : lines written that another core has read since, by stores
        of their own and by such across lines
    branches, mispredicts : jumps, and those of them that the predictor is expected to miss
    waiting_loads : loads after such a jump that wait for each other, up to the first of data
    chain_multiply_adds : the longest run of multiply-adds that wait for each other
    """

    counts: Counts

    multiply_adds = _Row("multiply_adds")
    loads_aligned = _Row("loads_aligned")
    loads_unaligned = _Row("loads_unaligned")
    loads_folded = _Row("loads_folded")
    folded_in_line = _Row("folded_in_line")
    loads_line_crossing = _Row("loads_line_crossing")
    loads_page_crossing = _Row("loads_page_crossing")
    stores = _Row("stores")
    stores_line_crossing = _Row("stores_line_crossing")
    stores_page_crossing = _Row("stores_page_crossing")
    broadcasts = _Row("broadcasts")
    gathered = _Row("gathered")
    shuffles = _Row("shuffles")
    scalar_ops = _Row("scalar_ops")
    scalar_loads = _Row("scalar_loads")
    scalar_stores = _Row("scalar_stores")
    early_lines = _Row("early_lines")
    split_misses = _Row("split_misses")
    handed_reads = _Row("handed_reads")
    handed_writes = _Row("handed_writes")
    handed_split_writes = _Row("handed_split_writes")
    waiting_loads = _Row("waiting_loads")
    scalar_multiply_adds = _Row("scalar_multiply_adds")
    blas_multiply_adds = _Row("blas_multiply_adds")
    branches = _Row("branches")
    mispredicts = _Row("mispredicts")
    chain_multiply_adds = _Row("chain_multiply_adds")

    @classmethod
    def of(cls, kinds: int = 1, **counts: Any) -> Work:
        """Build from the counts that are not zero; scalars are spread over the kinds."""
        lead: tuple[int, ...] = ()
        for value in counts.values():
            if isinstance(value, np.ndarray) and value.ndim > 1:
                lead = value.shape[:-1]
        filled = np.zeros((*lead, len(OPERATIONS), kinds))
        for name, value in counts.items():
            if name not in _PLACE:
                raise TypeError(f"no such operation: {name}")
            filled[..., _PLACE[name], :] = value  # raises where the shapes do not fit
        work = cls(filled)
        inside = work.loads_folded - work.loads_line_crossing
        filled[..., _PLACE["folded_in_line"], :] = np.maximum(inside, 0.0)
        return work


@dataclass(frozen=True, slots=True)
class Stream:
    """Bytes of one array that one tile touches: arrays of shape (..., distances, kinds).

    A leading axis, where there is one, is of densities.  Most streams come back at one distance;
    one that comes back at several (an input plane, after one, two, three output channels) has a
    row for each.

    Attributes
    ----------
    array : what is touched, for tables (``weights``, ``input``, ``partial sums``...)
    access : ``read``, ``write``, ``update`` (read and written back) or ``past`` (written around
        the caches to memory)
    bytes : bytes touched by a tile, every distinct line once per pass over it
    reuse_distance_bytes : bytes that the thread touches between two uses of the same line
    shared : who reads the same copy: ``no`` (the thread alone), ``image`` (the threads that
        share an image) or ``part`` (the threads that compute the same part of other images)
    handed : share of the bytes that the threads of an image hand to each other: a part of what is
        read was just written by each, and what is written was just read by all. No cache of a
        core's own has what another core did last
    crossing : share of the lines that a load fetches that lies across two of them
    handed_bytes : of what is handed, the bytes that a thread writes before others read them
        (default: all that it writes of an image)
    """

    array: str
    access: Literal["read", "write", "update", "past"]
    bytes: Counts
    reuse_distance_bytes: Counts
    shared: Literal["no", "image", "part"] = "no"
    handed: float = 0.0
    crossing: float = 0.0
    handed_bytes: float = inf


@dataclass(frozen=True, slots=True)
class Tiles:
    """Which thread runs how many tiles of which kind."""

    count: NDArray[np.int64]  # (classes, kinds)
    thread_class: NDArray[np.int64]  # (threads,), -1 where the thread has nothing to do

    def __post_init__(self) -> None:
        if self.count.ndim != 2 or self.thread_class.ndim != 1:
            raise ValueError("tiles: count is (classes, kinds), thread_class is (threads,)")
        if self.thread_class.max(initial=-1) >= self.count.shape[0]:
            raise ValueError("tiles: a thread is of a class that has no row in count")

    @property
    def members(self) -> NDArray[np.int64]:
        """Threads of each class, shape (classes,)."""
        running = self.thread_class[self.thread_class >= 0]
        return np.bincount(running, minlength=self.count.shape[0]).astype(np.int64)

    @property
    def total(self) -> NDArray[np.int64]:
        """Tiles of each kind over all threads, shape (kinds,)."""
        total: NDArray[np.int64] = self.members @ self.count
        return total


@dataclass(frozen=True, slots=True)
class Phase:
    """One step of a plan.

    ``waits_for`` names the phase that must have ended for the same image; ``barriers`` counts
    the times that threads of one image wait for each other before this phase.  ``loops`` names the
    loop that each kind of tile is, by numbers from 0 up: a thread runs one loop after another, so
    nothing of one hides behind another; empty: all kinds are the same loop.
    """

    name: str
    tiles: Tiles
    work: Work
    streams: tuple[Stream, ...]
    waits_for: str | None = None
    barriers: int = 0
    loops: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        kinds = self.tiles.count.shape[1]
        if self.loops and len(self.loops) != kinds:
            raise ValueError(f"phase {self.name}: loops of {len(self.loops)} kinds, not {kinds}")
        if self.work.counts.shape[-2:] != (len(OPERATIONS), kinds):
            raise ValueError(
                f"phase {self.name}: work is {self.work.counts.shape}, kinds is {kinds}"
            )
        for stream in self.streams:
            if not 0.0 <= stream.handed <= 1.0:
                raise ValueError(
                    f"phase {self.name}: stream {stream.array} hands on {stream.handed}"
                )
            for array in (stream.bytes, stream.reuse_distance_bytes):
                if array.ndim < 2 or array.shape[-2:] != (stream.bytes.shape[-2], kinds):
                    raise ValueError(
                        f"phase {self.name}: stream {stream.array} is {array.shape}, "
                        f"not (distances, {kinds})"
                    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What a method asks of a machine for one layer: phases, and the blocking that was chosen.

    ``blocking`` is handed to the native kernel of the same name, which runs exactly that.
    ``part_ptr`` cuts the units of ``products`` (output-channel blocks, output channels) into a
    part for each of the ``threads_per_image`` threads that share an image, or the
    ``images_per_turn`` images that SIMD lanes take together; with the partition ``dynamic`` of
    ``blocking`` into more and smaller parts, which threads take at run time.  With
    ``whole_batch`` the phases run once for all images.
    ``uses_of_nonzero`` counts the products of a nonzero in an image where they are not P Q.
    A plan of several densities (:class:`archsim.sparsity.Densities`) has them as the leading axis
    of its counts, streams and ``nonzeros``.
    """

    method: str
    schedule: str
    layer: Layer
    sparsity: Sparsity | Densities
    batch: int
    threads: int
    threads_per_image: int
    target: Target
    blocking: Mapping[str, int | str]
    part_ptr: tuple[int, ...]
    phases: tuple[Phase, ...]
    nonzeros: Expected = 0.0
    whole_batch: bool = False
    images_per_turn: int = 1
    uses_of_nonzero: int | None = None
    tile: int | None = None
    """Side of the tiles in whose domain the weights are: (tile, tile, K, C / groups)."""

    def __post_init__(self) -> None:
        names = tuple(phase.name for phase in self.phases)
        if not names or any(name not in PHASES for name in names):
            raise ValueError(f"phases must be of {PHASES}; found {names}")

    def core_of_thread(self, cores: int) -> NDArray[np.int64]:
        """Return the core of each thread on a machine of so many cores, shape (threads,)."""
        return core_of_thread(self.threads, self.threads_per_image, cores)

    @property
    def calls_blas(self) -> bool:
        """Whether the products are a BLAS library's."""
        kernels = self.blocking.get("granularity") == "kernel"
        return self.method == "dense_gemm" or (self.method == "structured" and not kernels)

    @property
    def turns(self) -> int:
        """Times that the phases follow each other."""
        return 1 if self.whole_batch else -(-self.batch // self.images_per_turn)

    @property
    def effective_flop(self) -> float:
        """FLOP of the dense layer, whole batch: zeros count as work done."""
        return self.layer.flop * self.batch

    @property
    def actual_flop(self) -> float:
        """FLOP on nonzeros only, whole batch (two per nonzero and use of it)."""
        uses = self.uses_of_nonzero or self.layer.P * self.layer.Q
        return 2.0 * float(self.nonzeros) * uses * self.batch

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weights that the native kernel takes."""
        if self.tile is None:
            return self.layer.weight_shape
        return winograd_shape(self.layer, self.tile)


def core_of_thread(threads: int, threads_per_image: int, cores: int) -> NDArray[np.int64]:
    """Return the core of each thread, shape (threads,).

    Threads of one image sit together; others take the cores in turn.
    """
    numbers = np.arange(threads)
    used = min(threads, cores)
    if threads_per_image == 1:
        return numbers % used
    return np.minimum(numbers // -(-threads // cores), used - 1)
