"""Weights in files from strangers, .npz and Matrix Market: checked before they are read."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError, input_error

Shape = tuple[int, ...]

#: what the readers of .npz and .mtx files raise on broken ones
_BROKEN: Final = (
    OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, OverflowError,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip


def reason(error: BaseException) -> str:
    """Return what an exception says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def read_npz(
    path: Path, shapes: Mapping[str, Sequence[Shape]]
) -> tuple[dict[str, NDArray[Any]], dict[str, Shape]]:
    """Read arrays called ``NAME`` or ``NAME.weight``.

    Headers come first, so that nothing unexpected is unpacked or unpickled.

    Parameters
    ----------
    path : Path
    shapes : mapping of name to shapes
        The arrays that are due; each must have as many elements as one of its shapes.

    Returns
    -------
    found : dict of name to ndarray
    others : dict of key to shape
        Arrays of the file that are none of these.

    Raises
    ------
    InputError
        Unreadable, pickled objects, no numbers, or another size.
    """
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            headers = {name.removesuffix(".npy"): _npy_header(archive, name, path)
                       for name in archive.namelist() if name.endswith(".npy")}  # fmt: skip
        others = {key: shape for key, (shape, _) in headers.items()}
        with np.load(path, allow_pickle=False) as data:
            for name, allowed in shapes.items():
                keys = [key for key in (name, f"{name}.weight") if key in headers]
                if len(keys) > 1:
                    raise input_error(f"{path}: {keys[0]}", f"stands beside {keys[1]}")
                for key in keys:
                    shape, dtype = headers[key]
                    if math.prod(shape) not in map(math.prod, allowed):  # before it is unpacked
                        raise input_error(
                            f"{path}: {key}", "wrong shape", found=shape, allowed=str(allowed[0])
                        )
                    if dtype.kind not in "fiub":
                        raise input_error(
                            f"{path}: {key}", "weights must be numbers", found=str(dtype)
                        )
                    found[name] = data[key]
                    del others[key]
    except InputError:
        raise
    except _BROKEN as error:
        raise input_error(str(path), f"not a readable .npz file ({reason(error)})") from error
    return found, others


def _npy_header(
    archive: zipfile.ZipFile, name: str, path: Path
) -> tuple[Shape, np.dtype[np.generic]]:
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
    if dtype.hasobject:
        raise input_error(f"{path}: {name}", "holds pickled objects, which are never loaded")
    return shape, dtype


def read_mtx(path: Path, name: str, shape: tuple[int, int]) -> NDArray[Any]:
    """Read a Matrix Market file that must have the given shape; ``name`` is for errors.

    Raises
    ------
    InputError
        Unreadable, another shape, or more entries than places.
    """
    from scipy.io import mminfo, mmread

    try:
        rows, columns, entries, *_ = mminfo(str(path))
        if (rows, columns) != shape:
            raise input_error(
                f"{path}: {name}", "wrong shape", found=(rows, columns), allowed=str(shape)
            )
        if entries > math.prod(shape):  # before memory is taken for them
            raise input_error(f"{path}: {name}", "more entries than weights", found=entries)
        matrix = mmread(str(path), spmatrix=False)
    except InputError:
        raise
    except _BROKEN as error:
        raise input_error(
            str(path), f"not a readable Matrix Market file ({reason(error)})"
        ) from error
    array: NDArray[Any] = matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
    return array
