"""Facts of this host from the operating system, and the machine file that they make.

Topology, caches and instruction sets are read.  What no operating system tells (ports,
latencies, bandwidths) is taken from the generic machine of the same architecture, where every
number is marked assumed.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from archsim.errors import input_error
from archsim.units import format_quantity
from archsim.yamlfile import Mark, Node, read_yaml

_SYS: Final = Path("/sys/devices/system/cpu")
_SOURCE: Final = "operating-system"
#: the reserved name of this machine
HOST: Final = "host"
#: and of what the operating system says of it, calibrated or not
HOST_AS_TOLD: Final = "host-as-told"


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """One data or unified cache as the operating system describes it."""

    level: int
    size_bytes: int
    line_bytes: int
    ways: int
    cpus: int  # logical CPUs that share it


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the operating system says of this host; CPUs are those this process may use."""

    model: str
    architecture: str
    cpus: tuple[int, ...]
    cores: int
    sockets: int
    clock_hz: float | None
    caches: tuple[CacheFacts, ...]
    isas: tuple[str, ...]


def read_facts(root: Path = _SYS, cpuinfo: Path = Path("/proc/cpuinfo")) -> HostFacts:
    """Read this host; what the system does not tell is left out."""
    from archsim.kernels import supported_isas

    cpus = tuple(sorted(os.sched_getaffinity(0)))
    text = _text(cpuinfo) or ""
    fields = dict(re.findall(r"^([^\t:]+?)\s*: ?(.*)$", text, re.MULTILINE))
    places = {
        (_number(root / f"cpu{cpu}/topology/physical_package_id", 0),
         _number(root / f"cpu{cpu}/topology/core_id", cpu))
        for cpu in cpus
    }  # fmt: skip
    return HostFacts(
        model=fields.get("model name") or fields.get("CPU part") or platform.processor() or "CPU",
        architecture=platform.machine(),
        cpus=cpus,
        cores=len(places),
        sockets=len({package for package, _ in places}),
        clock_hz=_clock(root, cpus[0], fields),
        caches=tuple(_caches(root / f"cpu{cpus[0]}/cache", set(cpus))),
        isas=tuple(supported_isas()),
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _number(path: Path, default: int) -> int:
    text = _text(path)
    return int(text) if text is not None and re.fullmatch(r"-?\d+", text) else default


def _clock(root: Path, cpu: int, fields: dict[str, str]) -> float | None:
    khz = _number(root / f"cpu{cpu}/cpufreq/cpuinfo_max_freq", 0)
    if khz > 0:
        return khz * 1e3
    try:
        mhz = float(fields.get("cpu MHz", "0"))
    except ValueError:
        return None
    return mhz * 1e6 if mhz > 0 else None


def _caches(folder: Path, cpus: set[int]) -> Iterable[CacheFacts]:
    for index in sorted(folder.glob("index[0-9]*")):
        if _text(index / "type") not in ("Data", "Unified"):
            continue
        size = re.fullmatch(r"(\d+)([KMG]?)", _text(index / "size") or "")
        if size is None:
            continue
        shared = cpu_list(_text(index / "shared_cpu_list") or "")
        yield CacheFacts(
            level=_number(index / "level", 0),
            size_bytes=int(size[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[size[2]],
            line_bytes=_number(index / "coherency_line_size", 64),
            ways=max(1, _number(index / "ways_of_associativity", 8)),
            cpus=max(1, len(shared & cpus)),
        )


def cpu_list(text: str) -> set[int]:
    """Read the kernel's list form.

    >>> sorted(cpu_list("0-2,8"))
    [0, 1, 2, 8]
    """
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def identity(facts: HostFacts) -> str:
    """Return a digest of the hardware: model, caches and instruction sets, not the CPUs in use."""
    parts: list[object] = [facts.model, facts.architecture, facts.isas]
    parts += [(c.level, c.size_bytes, c.line_bytes, c.ways) for c in facts.caches]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def host_node(facts: HostFacts | None = None) -> Node:
    """Return the file that this host would have, as a YAML tree."""
    facts = facts or read_facts()
    generic = "aarch64" if facts.architecture in ("aarch64", "arm64") else "x86-64"
    with resources.as_file(
        resources.files("archsim") / "machines" / f"generic-{generic}.yaml"
    ) as path:
        tree = read_yaml(path)
    text = (
        f"Linux sysfs and /proc/cpuinfo of this host ({facts.model}), {len(facts.cpus)} usable CPUs"
    )
    value = tree.value
    value["sources"].value[_SOURCE] = _node({"kind": "measured", "text": text})
    top: dict[str, Any] = {
        "name": HOST,
        "description": f"{facts.model}: topology, caches and instruction sets as the operating "
        "system tells them; ports, latencies and bandwidths assumed",
        "identity": identity(facts),
        "sockets": _known(facts.sockets),
        "cores": _known(max(1, facts.cores // facts.sockets)),
        "threads_per_core": _known(max(1, len(facts.cpus) // facts.cores)),
    }
    if facts.clock_hz:
        top["clock"] = _known(format_quantity(facts.clock_hz, "frequency"))
    value.update({key: _node(item) for key, item in top.items()})
    sets = value["core"].value["isa"].value
    for name in [name for name in sets if name not in facts.isas]:
        del sets[name]
    if not sets:
        raise input_error("host", "no instruction set of this CPU is known", found=facts.isas)
    value["caches"] = Node(_cache_nodes(facts, value["caches"].value), value["caches"].mark)
    tree.mark = Mark(HOST, 1)
    return tree


def _cache_nodes(facts: HostFacts, generic: list[Node]) -> list[Node]:
    """Take sizes from the system and rates from the generic level of the same number."""
    per_socket = max(1, facts.cores // facts.sockets)
    if not facts.caches:  # sizes stay the generic ones; no level is shared by cores not there
        for node in generic:
            sharers = node.value["shared_by"].plain() if "shared_by" in node.value else 1
            if not isinstance(sharers, int):
                sharers = sharers["value"]
            node.value["shared_by"] = _node(_known(math.gcd(sharers, per_socket)))
        return generic
    threads = max(1, len(facts.cpus) // facts.cores)
    nodes = []
    for position, cache in enumerate(sorted(facts.caches, key=lambda c: c.level)):
        entry = dict(generic[min(position, len(generic) - 1)].value)
        way = cache.line_bytes * cache.ways
        sharers = math.gcd(max(1, cache.cpus // threads), per_socket)
        entry["name"] = _node(f"L{cache.level}")
        entry["size"] = _node(_known(f"{cache.size_bytes // way * way} B"))
        entry["line"] = _node(_known(f"{cache.line_bytes} B"))
        entry["ways"] = _node(_known(cache.ways))
        entry["shared_by"] = _node(_known(sharers))
        nodes.append(Node(entry, generic[0].mark))
    return nodes


def _known(value: object) -> dict[str, object]:
    return {"value": value, "source": _SOURCE}


def _node(value: Any) -> Node:
    mark = Mark(HOST, 1)
    if isinstance(value, dict):
        return Node({key: _node(item) for key, item in value.items()}, mark)
    return Node(value, mark)
