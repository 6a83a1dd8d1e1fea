from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from archsim.kernels.lanes_layout import LanesLayout
from archsim.kernels.lanes_link import LanesLink
from archsim.kernels.shapes import ConvShape
from archsim.kernels.shifts_layout import ShiftsLayout
from archsim.kernels.winograd_layout import WinogradLayout

MOST_THREADS: int
MOST_FLOATS: int
MOST_IMAGES: int
SEGMENT_WORDS: int
REPLAY_LEVELS: int
REPLAY_THREADS: int
REPLAY_ARRAYS: int
REPLAY_PHASES: int

def isa_rows() -> list[tuple[str, int, int, bool, bool, bool]]: ...
def floats_to_line(memory: npt.NDArray[np.float32]) -> int: ...
def pool_workers() -> int: ...
def run_roof(isa_index: int, steps: int) -> int: ...
def load_roof(isa_index: int, vectors: int, repeats: int, aligned: bool) -> float: ...

PROBE_LINE: int
PROBE_BLOCK: int
PROBE_LEAST: int
PROBE_CHASES: int
PROBE_WRITING: tuple[bytes, ...]

def probe_loops(isa_index: int) -> list[tuple[str, int]]: ...
def probe_tick() -> float: ...
def probe_team(
    probes: list[Probe],
    isa_index: int,
    loop: int,
    steps: int,
    times: npt.NDArray[np.float64],
) -> None: ...
def probe_hand(
    probe: Probe, isa_index: int, write: int, read: int, times: npt.NDArray[np.float64]
) -> None: ...
def probe_barriers(threads: int, steps: int, seconds: npt.NDArray[np.float64]) -> None: ...

class Probe:
    def __init__(self, size: int) -> None: ...
    @property
    def size(self) -> int: ...
    def walk(self, size_bytes: int, offset: int = 0) -> None: ...
    def link(self, lines: int, chases: int) -> None: ...
    def time(
        self,
        isa_index: int,
        loop: int,
        steps: int,
        yardstick: int,
        times: npt.NDArray[np.float64],
    ) -> None: ...

class Team:
    def __init__(
        self,
        threads: int,
        per_image: int,
        part_ptr: npt.NDArray[np.int64],
        units: int,
        dynamic: bool = False,
        own_input: bool = False,
    ) -> None: ...

class Streams:
    def __init__(
        self,
        ptr: npt.NDArray[np.int64],
        off: npt.NDArray[np.int32],
        val: npt.NDArray[np.float32],
        lists: int,
        last_offset: int,
        ahead: int = 0,
        each: int = 1,
    ) -> None: ...

class Layer:
    @property
    def isa(self) -> str | None: ...
    @property
    def seconds(self) -> tuple[float, float, float]: ...
    def run(self, x: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> bool: ...

class DirectRow(Layer):
    def __init__(
        self,
        shape: ConvShape,
        team: Team,
        streams: Streams,
        bias: npt.NDArray[np.float32],
        isa_index: int,
        blocking: Mapping[str, int | str],
        relu: bool,
    ) -> None: ...

class DirectShifts(Layer):
    def __init__(
        self,
        shape: ConvShape,
        team: Team,
        streams: Streams,
        bias: npt.NDArray[np.float32],
        isa_index: int,
        walk: ConvShape,
        layout: ShiftsLayout,
        blocking: Mapping[str, int],
        relu: bool,
    ) -> None: ...

class DirectLanes(Layer):
    def __init__(
        self,
        shape: ConvShape,
        team: Team,
        streams: Streams,
        bias: npt.NDArray[np.float32],
        isa_index: int,
        layout: LanesLayout,
        blocking: Mapping[str, int],
        relu: bool,
    ) -> None: ...

class LanesChain:
    def __init__(
        self, layers: Sequence[DirectLanes], links: Sequence[LanesLink], slots: Sequence[int]
    ) -> None: ...
    def run(
        self, x: npt.NDArray[np.float32], out: npt.NDArray[np.float32]
    ) -> list[tuple[float, float, float]]: ...

class Lowered(Layer):
    def __init__(
        self,
        shape: ConvShape,
        team: Team,
        streams: Streams,
        bias: npt.NDArray[np.float32],
        isa_index: int,
        blocking: Mapping[str, int | str],
        relu: bool,
    ) -> None: ...

class Dense(Layer):
    def __init__(
        self,
        shape: ConvShape,
        team: Team,
        weights: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32] | None,
        sgemm: object,
        pitch: int,
        lowered_size: int,
        fully_connected: bool,
        relu: bool,
    ) -> None: ...

class DenseDirect(Layer):
    def __init__(
        self,
        shape: ConvShape,
        team: Team,
        weights: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        tap: npt.NDArray[np.int32],
        isa_index: int,
        blocking: Mapping[str, int | str],
        relu: bool,
    ) -> None: ...

def winograd_lists_exist(isa_index: int, lists: int, vectors: int) -> bool: ...

class SparseWinograd(Layer):
    def __init__(
        self,
        shape: ConvShape,
        team: Team,
        streams: Streams,
        bias: npt.NDArray[np.float32],
        isa_index: int,
        row: npt.NDArray[np.int32],
        layout: WinogradLayout,
        blocking: Mapping[str, int],
        relu: bool,
    ) -> None: ...

class Winograd(Layer):
    def __init__(
        self,
        shape: ConvShape,
        team: Team,
        weights: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        isa_index: int,
        layout: WinogradLayout,
        blocking: Mapping[str, int],
        relu: bool,
    ) -> None: ...

def fc_lists(isa_index: int, vectors: int) -> int: ...
def fc_tile_exists(isa_index: int, images: int, vectors: int) -> bool: ...

class FcSparse(Layer):
    def __init__(
        self,
        shape: ConvShape,
        team: Team,
        ptr: npt.NDArray[np.int64],
        row: npt.NDArray[np.int32],
        off: npt.NDArray[np.uint16],
        val: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        isa_index: int,
        vectors: int,
        input_block: int,
        relu: bool,
    ) -> None: ...

class FcDense(Layer):
    def __init__(
        self,
        shape: ConvShape,
        team: Team,
        weights: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        isa_index: int,
        images: int,
        reg_images: int,
        reg_vectors: int,
        relu: bool,
    ) -> None: ...

class Structured(Layer):
    def __init__(
        self,
        shape: ConvShape,
        team: Team,
        row: npt.NDArray[np.int64],
        row_ptr: npt.NDArray[np.int64],
        kept_ptr: npt.NDArray[np.int64],
        weight_ptr: npt.NDArray[np.int64],
        weights: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32] | None,
        sgemm: object,
        pitch: int,
        relu: bool,
    ) -> None: ...

class ReplaySteps:
    def __init__(self, steps: npt.NDArray[np.int64]) -> None: ...

class Replay:
    def __init__(
        self,
        sizes: npt.NDArray[np.int64],
        instance: npt.NDArray[np.int64],
        share: npt.NDArray[np.int64],
        line_bits: int,
        write_allocate: bool,
        first_shared: int,
        together: int,
    ) -> None: ...
    def run(
        self,
        segments: list[npt.NDArray[np.int64]],
        steps: list[ReplaySteps],
        base: list[npt.NDArray[np.int64]],
    ) -> None: ...
    def counts(self) -> tuple[list[list[list[int]]], list[list[list[int]]], list[int]]: ...
