"""Reading machine files: ``base:`` merged, every number with its source, derived rates scaled.

A file may start from another one (``base:``) and say only what differs.  Maps merge key by key;
entries of ``caches`` and ``memory`` merge by ``name``.  A number is written with its unit, or as
a map ``{value, range, source, note}``; without a ``source`` of its own it has that of the nearest
block around it in the same file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from archsim.derivedrates import other_compute, scaled_rates
from archsim.errors import InputError, input_error
from archsim.hostfacts import HOST, HOST_AS_TOLD, host_node, read_facts
from archsim.hostfile import calibrated_node, warn_unused
from archsim.machine import Machine, Provenance
from archsim.machineassume import NOT_IN_THE_FILE, at, donor_name, missing, taken, with_term
from archsim.machineblocks import Source
from archsim.machinepath import NAMED_LISTS, TEXT_KEYS, unit_at, value_at
from archsim.schema import dotted as _dotted
from archsim.schema import validate
from archsim.units import format_quantity, parse_quantity
from archsim.yamlfile import Mark, Node, read_yaml

MAX_BASES: Final = 16
_LEAF_KEYS: Final = frozenset({"value", "range", "source", "note"})
_NOT_INHERITED: Final = frozenset({"description", "note", "identity"})  # true of the base alone


@dataclass(frozen=True)
class _Written:
    """What a file says of one number, before units are known."""

    source: Source | None
    key: str | None
    bounds: tuple[Any, Any] | None
    note: str | None
    mark: Mark
    own: bool = True  # written by the file itself, not by its base


@dataclass
class _Tree:
    """A file with its base merged in: plain values, and where each was written."""

    node: Node
    written: dict[str, _Written] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    base: Machine | None = None


def machine_names() -> list[str]:
    """Return the names of the machines that ship with archsim."""
    folder = resources.files("archsim") / "machines"
    return sorted(f.name[: -len(".yaml")] for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_machine(name_or_path: str | Path, *, assume: bool = False) -> Machine:
    """Load a machine by built-in name, from a YAML file, or this one.

    With ``assume`` what a file lacks is that of the generic machine of its architecture; `explain`
    lists it.

    ``host`` is the calibrated file of this machine where there is one; ``host-as-told`` what the
    operating system says of it, rates assumed.

    Raises
    ------
    InputError
        Unknown name, or anything wrong in the file: file, line, key, found, allowed.
    """
    if str(name_or_path) == HOST:
        return _host()
    if str(name_or_path) == HOST_AS_TOLD:
        return machine_from_node(host_node()).model_copy(update={"name": HOST_AS_TOLD})
    tree = _load_tree(_find(str(name_or_path), "machine", None), ())
    if assume:
        _fill(tree)
    return _finish(tree)


def _fill(tree: _Tree) -> None:
    """Take what a tree lacks from a generic machine."""
    name = donor_name(tree.node)
    donor = _load_tree(_find(name, "machine", None), ())
    for path in missing(tree.node):
        found = taken(path, tree.node, donor.node)
        if found is None:
            continue  # such as a name: the error of reading says so
        value, here, there = found
        inside = tree.node
        for step in path[:-1]:
            inside = at(inside, step)
        inside.value[path[-1]] = value
        if there in donor.written:
            note = f"{NOT_IN_THE_FILE} as in {name}"
            tree.written[here] = replace(donor.written[there], own=False, note=note)


@lru_cache(maxsize=1)
def _host() -> Machine:
    facts = read_facts()
    node = calibrated_node(facts)
    try:
        return machine_from_node(node)
    except InputError as error:
        if not node.mark.file.endswith(".yaml"):
            raise
        warn_unused(str(error))
        return machine_from_node(host_node(facts))


def forget_host() -> None:
    """Read this host's file anew at its next use: it was written."""
    _host.cache_clear()


def machine_from_node(node: Node) -> Machine:
    """Build a machine from a YAML tree that is not in a file."""
    return _finish(_merge_base(node, Path(node.mark.file), ()))


def _find(name: str, where: str, folder: Path | None) -> Path:
    """Return the file of a built-in machine or of a path, relative to ``folder`` for a base."""
    names = machine_names()
    if name in names:
        return Path(str(resources.files("archsim") / "machines" / f"{name}.yaml"))
    path = Path(name) if folder is None else folder / name
    try:
        if path.is_file():
            return path
        is_folder = path.is_dir()
    except OSError as error:  # too long a name, a folder that may not be entered
        raise input_error(where, f"cannot be read ({error.strerror})", found=name) from None
    except ValueError as error:  # a zero byte
        raise input_error(where, f"cannot be read ({error})", found=name) from None
    if is_folder or path.suffix.lower() in (".yaml", ".yml"):
        what = "is a folder; a file is due" if is_folder else "no such file"
        raise input_error(where, what, found=str(path))
    names = [*names, HOST, HOST_AS_TOLD]
    raise input_error(
        where,
        "no such machine, and no such file",
        found=name,
        allowed=", ".join(names) + ", or a .yaml file",
        near=(name, names),
    )


def _load_tree(path: Path, stack: tuple[Path, ...]) -> _Tree:
    return _merge_base(read_yaml(path), path, stack)


def _merge_base(node: Node, path: Path, stack: tuple[Path, ...]) -> _Tree:
    if not isinstance(node.value, dict):
        raise input_error(str(node.mark), "a map of machine keys is due", found=node.plain())
    base_node = node.value.get("base")
    if base_node is None or base_node.value is None:
        return _annotate(node, {})
    where = f"{base_node.mark}: base"
    if not isinstance(base_node.value, str):
        raise input_error(where, "the name or file of a machine is due", found=base_node.plain())
    stack = (*stack, path.resolve())
    if "name" not in node.value:
        raise input_error(str(node.mark), "key 'name' is missing")
    base_tree = _base_tree(base_node.value, where, path, stack)
    base = _finish(base_tree)
    own = _annotate(node, base_tree.sources)
    written = {key: replace(entry, own=False) for key, entry in base_tree.written.items()}
    theirs = {key: item for key, item in base_tree.node.value.items() if key not in _NOT_INHERITED}
    node = _merge(Node(theirs, base_tree.node.mark), own.node)
    return _Tree(node, written | own.written, own.sources, base)


def _base_tree(name: str, where: str, path: Path, stack: tuple[Path, ...]) -> _Tree:
    if name == HOST:
        return _merge_base(calibrated_node(), Path(HOST), stack)
    if name == HOST_AS_TOLD:
        return _merge_base(host_node(), Path(HOST), stack)
    base_path = _find(name, where, path.parent)
    if base_path.resolve() in stack:
        chain = " -> ".join(p.name for p in (*stack, base_path.resolve()))
        raise input_error(where, "base is circular", found=chain)
    if len(stack) > MAX_BASES:
        raise input_error(where, f"more than {MAX_BASES} files start from each other", found=name)
    return _load_tree(base_path, stack)


def _annotate(node: Node, base_sources: dict[str, Source]) -> _Tree:
    """Strip ``{value, ...}`` maps and note who says what."""
    sources = dict(base_sources)
    entry = node.value.get("sources")
    if entry is not None and isinstance(entry.value, dict):
        for key, item in entry.value.items():
            try:
                sources[key] = validate(Source, item)
            except InputError as error:
                where = _dotted(("sources", key))
                raise InputError(str(error).replace(": ", f": {where}: ", 1)) from None
    tree = _Tree(node, {}, sources)
    tree.node = _strip(node, (), None, tree)
    return tree


def _strip(node: Node, path: tuple[str, ...], block_source: str | None, tree: _Tree) -> Node:
    value = node.value
    if isinstance(value, dict) and "value" in value and path:
        return _leaf(node, path, block_source, tree)
    if isinstance(value, dict):
        named = value.get("source")
        if named is not None and path != ("sources",):
            block_source = _known_source(named, path, tree)
        items = {}
        for key, item in value.items():
            if key in TEXT_KEYS or (not path and key == "sources"):
                items[key] = item
            else:
                items[key] = _strip(item, (*path, key), block_source, tree)
        return Node(items, node.mark)
    if isinstance(value, list) and path and path[-1] in NAMED_LISTS:
        entries: list[Node] = []
        for item in value:
            name = item.value.get("name") if isinstance(item.value, dict) else None
            label = str(name.value) if name is not None else f"[{len(entries)}]"
            entries.append(_strip(item, (*path, label), block_source, tree))
        return Node(entries, node.mark)
    if not isinstance(value, list):
        source = tree.sources.get(block_source) if block_source else None
        tree.written[".".join(path)] = _Written(source, block_source, None, None, node.mark)
    return node


def _known_source(named: Node, path: tuple[str, ...], tree: _Tree) -> str:
    if not isinstance(named.value, str) or named.value not in tree.sources:
        raise input_error(
            f"{named.mark}: {_dotted((*path, 'source'))}",
            "no such key in sources",
            found=named.plain(),
            allowed=", ".join(tree.sources) or "none is given",
            near=(str(named.value), tree.sources),
        )
    return named.value


def _leaf(node: Node, path: tuple[str, ...], block_source: str | None, tree: _Tree) -> Node:
    """Read ``{value, range, source, note}``."""
    shown = _dotted(path)
    for key, item in node.value.items():
        if key not in _LEAF_KEYS:
            raise input_error(
                f"{item.mark}: {shown}", f"unknown key {key!r}",
                allowed=", ".join(sorted(_LEAF_KEYS)), near=(key, _LEAF_KEYS),
            )  # fmt: skip
    value = node.value["value"]
    if isinstance(value.value, (dict, list)):
        raise input_error(f"{value.mark}: {shown}.value", "one value is due", found=value.plain())
    if "source" in node.value:
        block_source = _known_source(node.value["source"], path, tree)
    bounds: tuple[Any, Any] | None = None
    if "range" in node.value:
        given = node.value["range"].plain()
        if not isinstance(given, list) or len(given) != 2:
            raise input_error(
                f"{node.value['range'].mark}: {shown}.range", "two values are due", found=given,
                allowed="[low, high]",
            )  # fmt: skip
        bounds = (given[0], given[1])
    note = node.value["note"].plain() if "note" in node.value else None
    source = tree.sources.get(block_source) if block_source else None
    tree.written[".".join(path)] = _Written(source, block_source, bounds, note, node.mark)
    return Node(value.value, node.mark)


def _merge(base: Node, own: Node, key: str = "") -> Node:
    if isinstance(base.value, dict) and isinstance(own.value, dict):
        merged = dict(base.value)
        for name, item in own.value.items():
            merged[name] = _merge(merged[name], item, name) if name in merged else item
        return Node(merged, own.mark)
    if key in NAMED_LISTS and isinstance(base.value, list) and isinstance(own.value, list):
        entries = list(base.value)
        places = {_name_of(entry): index for index, entry in enumerate(entries)}
        for number, item in enumerate(own.value):
            name = _name_of(item)
            if name and name in map(_name_of, own.value[:number]):
                raise input_error(f"{item.mark}: {key}", "level names must differ", found=name)
            index = places.get(name)
            if index is not None:
                entries[index] = _merge(entries[index], item)
            else:
                entries.append(item)
        return Node(entries, own.mark)
    return own


def _name_of(entry: Node) -> str:
    """Return the name of an entry; one without is named like none of the valid ones."""
    named = entry.value.get("name") if isinstance(entry.value, dict) else None
    return named.value if named is not None and isinstance(named.value, str) else ""


def _finish(tree: _Tree) -> Machine:
    """Validate, scale what a changed base must scale, and attach provenance."""
    try:
        machine = validate(Machine, tree.node)
    except InputError as error:
        raise with_term(error) from None
    if tree.base is not None and _scale_derived(tree, machine, tree.base):
        machine = validate(Machine, tree.node)
    provenance = {path: _provenance(path, entry, machine) for path, entry in tree.written.items()}
    machine._provenance = provenance
    return machine


def _provenance(path: str, written: _Written, machine: Machine) -> Provenance:
    source = written.source or Source(kind="assumed", text="no source stated")
    low = high = None
    if written.bounds is not None:
        value, where = value_at(machine, path), f"{written.mark}: {path}.range"
        if isinstance(value, (bool, str)) or value is None:
            raise input_error(where, "only a number can have one", found=value)
        unit = unit_at(path, machine)
        try:
            low, high = (unit.parse(b) if unit else _number(b) for b in written.bounds)
        except ValueError as error:
            raise InputError(f"{where}: {error}") from None
        if not low <= value <= high:
            shown = [format_quantity(v, unit.kind) if unit else v for v in (value, low, high)]
            raise input_error(
                where, "does not hold the value", found=f"{shown[0]} outside {shown[1]}..{shown[2]}"
            )
    return Provenance(
        kind=source.kind, text=source.text, key=written.key, low=low, high=high,
        note=written.note, where=str(written.mark),
    )  # fmt: skip


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"a number is due; found {value!r}")
    return float(value)


def _scale_derived(tree: _Tree, machine: Machine, base: Machine) -> bool:
    """Scale published rates that belong to the base's hardware; return whether any changed."""
    tree.node = _copy_maps(tree.node)
    changed = False
    for rate in scaled_rates(machine, base):
        written = tree.written.get(rate.path)
        if written is None or written.own:
            continue
        *blocks, key = rate.path.split(".")
        node = tree.node
        for block in blocks:
            node = node.value[block]
        node.value[key] = Node(rate.text(rate.value), written.mark)
        bounds = None
        if written.bounds is not None:
            low, high = (parse_quantity(b, rate.kind) for b in written.bounds)
            bounds = (rate.text(low), rate.text(high))
        source = Source(kind="derived", text=f"{base.name}'s {rate.why}")
        tree.written[rate.path] = replace(written, source=source, key=None, bounds=bounds)
        changed = True
    alpha = tree.written.get("rates.alpha")
    if alpha is not None and not alpha.own and other_compute(machine, base):
        tree.node.value["rates"].value.pop("alpha")
        tree.written.pop("rates.alpha")
        changed = True
    return changed


def _copy_maps(node: Node) -> Node:
    if isinstance(node.value, dict):
        return Node({key: _copy_maps(item) for key, item in node.value.items()}, node.mark)
    return node
