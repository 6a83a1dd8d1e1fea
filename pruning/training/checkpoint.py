"""Checkpoints that survive a kill at any moment, and refuse to be read when damaged.

A file is one line, ``archsim checkpoint 1 SHA256``, and what ``torch.save`` wrote.  It is written
beside its place, flushed to the disk and renamed; the one before stays as ``NAME.previous``.  Only
tensors and plain values are read (``weights_only``): a file from a stranger runs no code.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch

from archsim.errors import input_error
from archsim.yamlfile import shown_path

_MAGIC: Final = b"archsim checkpoint 1 "


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file that is whole or not there, also after a power cut.

    Raises
    ------
    InputError
        It cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise input_error(shown_path(path), f"cannot be written ({error.strerror})") from error
    return path


def previous_of(path: Path) -> Path:
    """Return where the checkpoint before the last one is."""
    return path.with_name(path.name + ".previous")


def save_checkpoint(state: Mapping[str, Any], path: str | Path) -> Path:
    """Write a checkpoint; the one before is kept.

    Parameters
    ----------
    state : mapping
        Tensors, numbers, text, lists, tuples and dicts of them.
    path : str or Path

    Raises
    ------
    InputError
        It cannot be written.
    """
    path = Path(path)
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    payload = buffer.getvalue()
    digest = hashlib.sha256(payload).hexdigest().encode()
    if path.exists():
        before = previous_of(path)
        link = before.with_name(before.name + ".part")
        with suppress(OSError):  # a file system without links keeps none
            link.unlink(missing_ok=True)
            link.hardlink_to(path)
            link.replace(before)
    return write_bytes(path, _MAGIC + digest + b"\n" + payload)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises
    ------
    InputError
        Missing, no checkpoint, or damaged; the text names the one before, where there is one.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise input_error(shown_path(path), f"cannot be read ({error.strerror})") from error
    head, _, payload = data.partition(b"\n")
    if not head.startswith(_MAGIC):
        raise _refused(path, "is no checkpoint of archsim, or its beginning is damaged")
    if hashlib.sha256(payload).hexdigest().encode() != head.removeprefix(_MAGIC):
        raise _refused(path, "is damaged: its checksum differs")
    try:
        state = torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu")
    except Exception as error:  # whatever torch finds wrong with a stranger's file
        what = " ".join(str(error).split())[:120]
        raise _refused(path, f"holds what a checkpoint must not ({what})") from error
    if not isinstance(state, dict):
        raise _refused(path, "holds no state")
    return state


def _refused(path: Path, what: str) -> Exception:
    before = previous_of(path)
    hint = None
    if before.exists():
        hint = f"the one before, by renaming {shown_path(before)}"
    return input_error(shown_path(path), what, allowed=hint)
