"""Machines for people and editors: numbers as a file writes them, JSON Schema, new files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from archsim.hostfacts import HOST, HOST_AS_TOLD
from archsim.machine import Machine
from archsim.machinefile import load_machine, machine_names
from archsim.machinepath import TEXT_KEYS, unit_at, value_at
from archsim.units import format_quantity


def show_value(machine: Machine, path: str) -> str:
    """Return the value at a dotted path as a file would write it."""
    value, unit = value_at(machine, path), unit_at(path, machine)
    if unit is not None and isinstance(value, float):
        return format_quantity(value, unit.kind)
    return str(value).lower() if isinstance(value, bool) else str(value)


def show_bound(machine: Machine, path: str, bound: float) -> str:
    """Return an end of a number's range as a file would write it."""
    unit = unit_at(path, machine)
    return format_quantity(bound, unit.kind) if unit is not None else f"{bound:g}"


def machine_schema() -> dict[str, Any]:
    """Return the JSON Schema of machine files, for editors.

    A file with ``base`` may leave out anything, so nothing inside is required.
    """
    schema = Machine.model_json_schema(by_alias=True)
    required = schema.pop("required", [])
    for block in (schema, *schema["$defs"].values()):
        if "kind" in block["properties"]:  # a source: plain text
            continue
        block.pop("required", None)
        for key, entry in block["properties"].items():
            if key not in TEXT_KEYS and not _holds_blocks(entry):
                block["properties"][key] = _or_with_source(entry)
    schema["anyOf"] = [{"required": ["base", "name"]}, {"required": required}]
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "archsim machine, format 1"
    return schema


def _holds_blocks(entry: dict[str, Any]) -> bool:
    return "$ref" in entry or entry.get("type") in ("object", "array")


def _or_with_source(entry: dict[str, Any]) -> dict[str, Any]:
    """Allow ``{value, range, source, note}`` beside the plain value."""
    about = {key: entry.pop(key) for key in ("title", "description", "default") if key in entry}
    text = {"type": "string"}
    pair = {"type": "array", "items": entry, "minItems": 2, "maxItems": 2}
    mapping = {
        "type": "object",
        "properties": {"value": entry, "range": pair, "source": text, "note": text},
        "required": ["value"],
        "additionalProperties": False,
    }
    return about | {"anyOf": [entry, mapping]}


def skeleton(name: str, base: str) -> str:
    """Return the text of a new machine file that starts from ``base``, a name or a file."""
    machine = load_machine(base)
    if base not in (HOST, HOST_AS_TOLD, *machine_names()):  # a file: found from every folder
        base = json.dumps(str(Path(base).resolve()), ensure_ascii=False)
    isa = machine.default_isa
    cache = machine.caches[-1].name
    memory = machine.memory[0].name

    def now(path: str) -> str:
        return show_value(machine, path)

    return f"""\
# {name}: starts from {base}; write only what differs, each number with its unit.
# Keys and rules: archsim machines schema; the base: archsim machines show {base}
format: 1
name: {name}
base: {base}
description: What this machine is.
source: mine
sources:
  mine:
    kind: assumed            # datasheet | measured | published | assumed | derived
    text: Why these numbers; document and table, or command and date.
# Take the comment sign off what you want to change (the base's values are shown):
# clock: {now("clock")}
# sockets: {machine.sockets}
# cores: {machine.cores}
# core:
#   isa:
#     {isa}:
#       lanes: {machine.core.isa[isa].lanes}
# caches:
#   - name: {cache}
#     size: {now(f"caches.{cache}.size")}
# memory:
#   - name: {memory}
#     bandwidth: {{value: {now(f"memory.{memory}.bandwidth")}, source: mine}}
"""
