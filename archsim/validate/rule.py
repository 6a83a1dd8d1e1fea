"""The rule of transfers against counted ones: how far apart, and what it does to the time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from archsim.errors import NotApplicableError
from archsim.machine import Machine
from archsim.machinefile import load_machine
from archsim.methods import METHODS
from archsim.network import Layer, load_network
from archsim.predictors import by_ecm, by_ecm_counted
from archsim.request import make_request
from archsim.result import Result
from archsim.validate.points import Point, Suite

TOLERANCE: Final = 0.1  # of the seconds
MACHINES: Final = ("atom-c2750", "xeon-e5-2697v4-2s", "xeon-phi-7250")
#: layers of all sizes: large and small pictures, few and many channels, 5x5, 3x3, 1x1
LAYERS: Final = {
    "alexnet": ("conv2", "conv3"),
    "resnet50": (
        "res2a_branch2a", "res2a_branch2c", "res3b_branch2b", "res4b_branch2b", "res5b_branch2b",
    ),
}  # fmt: skip
METHODS_COMPARED: Final = (
    "dense_gemm", "dense_direct", "winograd", "lowered_sparse", "direct_sparse",
)  # fmt: skip
SCHEDULES: Final = {
    "direct_sparse": ("row", "lanes:shifts", "lanes:tiles", "lanes:flat", "pointwise"),
}
DENSITIES: Final = (0.1,)


@dataclass(frozen=True, slots=True)
class Case:
    """One plan, predicted with both traffics: bytes by level, and seconds."""

    machine: str
    network: str
    layer: str
    method: str
    schedule: str
    density: float
    batch: int
    rule: dict[str, float]
    counted: dict[str, float]
    rule_seconds: float
    counted_seconds: float

    @property
    def slower(self) -> float:
        """How much longer it takes with the counted traffic, as a fraction."""
        return self.counted_seconds / self.rule_seconds - 1.0


def cases(
    machines: Sequence[str | Machine] = MACHINES,
    *,
    layers: dict[str, tuple[str, ...]] | None = None,
    methods: Sequence[str] | None = None,
    densities: Sequence[float] = DENSITIES,
    batch: int | None = None,
    seed: int = 0,
) -> Iterator[Case]:
    """Yield every plan that there is; ``batch``: by default an image for each thread.

    Patterns are drawn with ``seed``; plans that cannot be counted are left out.
    """
    for machine in (load_machine(m) if isinstance(m, str) else m for m in machines):
        for name, chosen in (layers or LAYERS).items():
            network = load_network(name)
            for layer in (network[each] for each in chosen):
                for method in methods or METHODS_COMPARED:
                    dense = METHODS[method].dense
                    for density in (1.0,) if dense else densities:
                        for schedule in SCHEDULES.get(method, ("auto",)):
                            found = _case(machine, layer, method, schedule, density, batch, seed)
                            if found is not None:
                                yield found


def _case(
    machine: Machine,
    layer: Layer,
    method: str,
    schedule: str,
    density: float,
    batch: int | None,
    seed: int,
) -> Case | None:
    images = batch or machine.total_threads
    request = make_request(
        layer, machine, method=method, density=density, pattern=None,
        density_domain="winograd" if method == "sparse_winograd" else "spatial",
        schedule=schedule, partition="nnz", batch=images, threads=None, clock="sustained",
        isa=None, seed=seed, model="ecm",
    )  # fmt: skip
    if METHODS[method].reason(layer, request.sparsity) is not None:
        return None
    try:
        counted, rule = by_ecm_counted(request), by_ecm(request)
    except NotApplicableError:
        return None
    if counted.traffic != "counted":
        return None
    return Case(
        machine.name, layer.network, layer.name, method, counted.schedule, density, images,
        _outside(rule), _outside(counted), rule.seconds or 0.0, counted.seconds or 0.0,
    )  # fmt: skip


def _outside(result: Result) -> dict[str, float]:
    """Return bytes by level, those between core and first level left out: nothing is counted."""
    return dict(list(result.bytes.items())[1:])


def rule(machines: Sequence[str | Machine] = MACHINES) -> Suite:
    """Hold ``ecm`` by the rule of transfers against itself on counted ones; some minutes."""
    points = tuple(
        Point(
            figure="rule against counted", machine=case.machine, network=case.network,
            layer=case.layer, method=case.method, sparsity=1.0 - case.density, quantity="seconds",
            predicted=case.rule_seconds, measured=case.counted_seconds, unit="s",
            tolerance=TOLERANCE, tolerance_kind="relative", scored=True, variant="",
            split="seen", schedule=case.schedule, batch=case.batch,
        )
        for case in cases(machines)
    )  # fmt: skip
    return Suite(
        "rule",
        points,
        notes=("the witness is this library's own replay of what the kernels touch",),
    )
