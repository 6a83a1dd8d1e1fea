"""What a machine's file leaves out, taken from the generic machine where one says so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from archsim.errors import InputError
from archsim.machine import Machine
from archsim.yamlfile import Node

#: What predictions need a field for that every file must have.
TERMS: Final[Mapping[str, str]] = {
    "clock": "all terms", "cores": "threads", "barrier": "barrier", "issue_width": "issue",
    "scalar": "scalar", "scalar_loads": "load", "load_latency": "nothing yet",
    "mispredict": "mispredict", "reorder_window": "nothing yet", "lanes": "all terms",
    "registers": "all terms", "fma": "arithmetic", "multiply": "arithmetic", "add": "arithmetic",
    "multiply_latency": "latency", "add_latency": "latency", "loads": "load", "stores": "store",
    "line_crossing": "load", "page_crossing": "load", "size": "what misses", "ways": "what misses",
    "latency": "transfers", "bandwidth": "transfers",
}  # fmt: skip
#: How provenance marks what a file does not say.
NOT_IN_THE_FILE: Final = "not in the file: assumed"


def with_term(error: InputError) -> InputError:
    """Add to an error about a missing field what needs it, and what to do."""
    found = re.search(r"key '(\w+)' is missing$", str(error))
    if found is None or found[1] not in TERMS:
        return error
    return InputError(
        f"{error}: needed for {TERMS[found[1]]}; --assume takes that of a generic machine"
    )


def donor_name(node: Node) -> str:
    """Return the generic machine that is nearest to a file's."""
    core = node.value.get("core")
    sets = core.value.get("isa") if core is not None and isinstance(core.value, dict) else None
    names = sets.value if sets is not None and isinstance(sets.value, dict) else {}
    return "generic-aarch64" if "neon" in names else "generic-x86-64"


def missing(node: Node) -> list[tuple[Any, ...]]:
    """Return the paths of required fields that a tree does not have."""
    try:
        Machine.model_validate(node.plain())
    except ValidationError as error:
        return [
            item["loc"] for item in error.errors(include_url=False) if item["type"] == "missing"
        ]
    return []


def taken(path: tuple[Any, ...], own: Node, donor: Node) -> tuple[Node, str, str] | None:
    """Return what the donor has at a path of fields, and the dotted paths here and there.

    An instruction set that it does not know is its last one, a cache its last one, too.
    """
    here: list[str] = []
    there: list[str] = []
    for place, step in enumerate(path):
        own = at(own, step) if place + 1 < len(path) else own
        label, names = str(step), []
        found: int | str | None = None
        if isinstance(donor.value, dict):
            if step in donor.value:
                found = step
            elif path[:place] == ("core", "isa"):
                found = list(donor.value)[-1]
        elif isinstance(donor.value, list) and isinstance(step, int):
            names = [str(each.value["name"].value) for each in donor.value]
            name = own.value.get("name") if isinstance(own.value, dict) else None
            label = f"[{step}]" if name is None else str(name.value)
            found = names.index(label) if label in names else len(names) - 1
        if found is None:
            return None
        here.append(label)
        there.append(names[found] if isinstance(found, int) else str(found))
        donor = at(donor, found)
    return donor, ".".join(here), ".".join(there)


def at(node: Node, step: Any) -> Node:
    """Return what is at a key or a place."""
    found: Node = node.value[step]
    return found
