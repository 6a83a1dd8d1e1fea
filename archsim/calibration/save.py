"""Writes a calibration as a machine file: into the user's cache, and where it was asked for."""

from __future__ import annotations

from datetime import datetime
from importlib import metadata
from pathlib import Path

from archsim.calibration.file import machine_text, write_atomically
from archsim.calibration.run import Calibration
from archsim.errors import InputError
from archsim.hostfile import cached_path
from archsim.machinefile import forget_host


def save(
    found: Calibration, command: str, output: Path | None = None
) -> tuple[list[str], list[str]]:
    """Write the machine file; return the paths written, and what could not be.

    Each file is written whole or not at all.  A cache that cannot be written to is told, not an
    error; ``output`` is one.

    Raises
    ------
    InputError
        ``output`` cannot be written.
    """
    moment = datetime.now().astimezone().isoformat(timespec="seconds")
    about = (
        f"{command}, archsim {metadata.version('archsim')}, {moment}, {len(found.facts.cpus)} "
        f"CPUs, {found.seconds:.0f} s, {found.stolen:.1%} of the time taken by others"
    )
    text = machine_text(
        found.facts, found.entries, about=about, disturbed=not found.trusted,
        left_out="; ".join(
            [*(f"left out: {line}" for line in found.left_out), *found.contradictions,
             *found.disturbed]
        ),
    )  # fmt: skip
    written, failed = [], []
    if output is not None:
        write_atomically(output, text)
        written.append(str(output))
    path = cached_path(found.facts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
        written.append(str(path))
    except (InputError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        failed.append(f"the cache is left as it was: {path.parent}: {why}; -m host does not see it")
    forget_host()
    return written, failed
