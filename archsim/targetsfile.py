"""What a document of ``archsim targets`` says of each layer: sparsity, and how to run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from archsim.errors import input_error
from archsim.yamlfile import Node

#: ``kind`` of the documents that ``archsim targets`` writes
TARGETS_KIND: Final = "pruning targets"


@dataclass(frozen=True, slots=True)
class Way:
    """How a layer is to be run."""

    method: str
    schedule: str


@dataclass(frozen=True, slots=True)
class Ways:
    """How the layers are to be run, by name, and for what that was found fastest.

    ``label`` names the document; ``batch`` and ``threads`` are None where it does not say.
    """

    label: str
    machine: str
    batch: int | None
    threads: int | None
    layers: Mapping[str, Way]


@dataclass(frozen=True, slots=True)
class TargetLayer:
    """A layer as the document has it; ``share`` is the node of its sparsity."""

    where: str
    name: str
    share: Node
    domain: str


def read_layers(node: Node, domains: Sequence[str]) -> list[TargetLayer]:
    """Return the layers of a document.

    Raises
    ------
    InputError
        Another schema, a layer without sparsity, an unknown domain.
    """
    schema, layers = node.value.get("schema"), node.value.get("layers")
    if schema is None or schema.value != 1 or layers is None or not isinstance(layers.value, list):
        raise input_error(str(node.mark), "not pruning targets of this version", allowed="schema 1")
    return [_layer(entry, domains) for entry in layers.value]


def _layer(entry: Node, domains: Sequence[str]) -> TargetLayer:
    keys = entry.value if isinstance(entry.value, dict) else {}
    if not {"layer", "sparsity", "domain"} <= set(keys):
        raise input_error(str(entry.mark), "layer, sparsity and domain are due")
    name = str(keys["layer"].value)
    if keys["sparsity"].value is None:
        raise input_error(
            f"{entry.mark}: {name}", "the targets have no sparsities: a budget is needed"
        )
    domain = keys["domain"].value
    if domain not in domains:
        raise input_error(
            f"{entry.mark}: {name}: domain", "unknown", found=domain, allowed=", ".join(domains)
        )
    return TargetLayer(str(entry.mark), name, keys["sparsity"], domain)


def read_ways(node: Node, label: str) -> Ways | None:
    """Return how a document's layers are to be run; None where it does not say.

    Raises
    ------
    InputError
        A method or a schedule that is no text.
    """
    found = {}
    for entry in node.value["layers"].value:
        method = entry.value.get("method")
        if method is None or method.value is None:
            continue
        schedule = entry.value.get("schedule")
        texts = method.value, "auto" if schedule is None else schedule.value or "auto"
        for key, text in zip(("method", "schedule"), texts, strict=True):
            if not isinstance(text, str):
                where = f"{entry.mark}: {entry.value['layer'].value}: {key}"
                raise input_error(where, "must be text", found=text)
        found[str(entry.value["layer"].value)] = Way(*texts)
    machine = _value(node, "machine")
    if not found or not isinstance(machine, str):
        return None
    return Ways(label, machine, _count(node, "batch"), _count(node, "threads"), found)


def _value(node: Node, key: str) -> Any:
    entry = node.value.get(key)
    return None if entry is None else entry.value


def _count(node: Node, key: str) -> int | None:
    value = _value(node, key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
