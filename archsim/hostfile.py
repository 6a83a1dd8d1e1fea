"""The calibrated file of this host in the user's cache, and whether it is still this host's."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, Final

from archsim.errors import InputError
from archsim.hostfacts import HostFacts, host_node, identity, read_facts
from archsim.yamlfile import Node, read_yaml

#: what the operating system says at each start, whatever was calibrated
_TOPOLOGY: Final = ("sockets", "cores", "threads_per_core")
_COMMAND: Final = "archsim calibrate"


class HostFileWarning(UserWarning):
    """The calibrated file of this host is not used, or not wholly."""


def cache_folder() -> Path:
    """Return the folder of calibrated files; it need not exist."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(root) if Path(root).is_absolute() else Path("~").expanduser() / ".cache"
    return base / "archsim"


def cached_path(facts: HostFacts) -> Path:
    """Return where the calibrated file of this hardware lies; hosts may share a home folder."""
    return cache_folder() / f"host-{identity(facts)}.yaml"


def calibrated_node(facts: HostFacts | None = None) -> Node:
    """Return this host's file: the calibrated one, or what the operating system says.

    Warns
    -----
    HostFileWarning
        There is a calibrated file and it is of other hardware, of another number of cores,
        disturbed, or cannot be read.
    """
    facts = facts or read_facts()
    plain = host_node(facts)
    path = cached_path(facts)
    try:
        exists = path.is_file()
        others = not exists and any(path.parent.glob("host-*.yaml"))
    except OSError:  # a folder that may not be entered
        return plain
    if others:
        warn_unused(f"{path.parent} holds calibrated files, none of them of this hardware")
    if not exists:
        return plain
    try:
        node = read_yaml(path)
        found: dict[str, Any] = node.value if isinstance(node.value, dict) else {}
        stated = found["identity"].value
    except (InputError, KeyError):
        warn_unused(f"{path} cannot be read as a machine file")
        return plain
    if stated != identity(facts):
        warn_unused(f"{path} is of other hardware ({stated}, here {identity(facts)})")
        return plain
    return _with_topology(node, plain, path)


def _with_topology(node: Node, plain: Node, path: Path) -> Node:
    """Take the number of cores from the system: a process may have fewer than were calibrated."""
    then = [_value(node.value[key]) for key in _TOPOLOGY if key in node.value]
    now = [_value(plain.value[key]) for key in _TOPOLOGY if key in plain.value]
    if then != now:
        shown = [" x ".join(map(str, counts)) for counts in (then, now)]
        warnings.warn(
            f"{path} was calibrated with {shown[0]} sockets x cores x threads, here are "
            f"{shown[1]}: rates of one core hold, shared ones and barriers may not; "
            f"{_COMMAND} measures anew",
            HostFileWarning,
            stacklevel=2,
        )
        node.value.update({key: plain.value[key] for key in _TOPOLOGY})
        here = {cache.value["name"].value: cache for cache in plain.value["caches"].value}
        for cache in node.value["caches"].value:
            name = cache.value["name"].value
            if name in here and "shared_by" in here[name].value:
                cache.value["shared_by"] = here[name].value["shared_by"]
    if str(node.value["description"].value).partition(": ")[2].startswith("DISTURBED"):
        warnings.warn(
            f"{path} was disturbed when it was measured; {_COMMAND} measures anew",
            HostFileWarning,
            stacklevel=2,
        )
    return node


def _value(node: Node) -> Any:
    plain = node.plain()
    return plain["value"] if isinstance(plain, dict) else plain


def warn_unused(what: str) -> None:
    """Say that there is a calibrated file and that it is not used."""
    warnings.warn(
        f"{what}: host is what the operating system says, its rates assumed; "
        f"{_COMMAND} measures them",
        HostFileWarning,
        stacklevel=3,
    )
