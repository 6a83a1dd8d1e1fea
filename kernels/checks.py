"""Checks of arguments: what it is, what was given, what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index

import numpy as np
import numpy.typing as npt

from archsim.kernels import _native
from archsim.kernels.isa import IsaInfo
from archsim.kernels.shapes import ConvShape

_MOST = 2**31 - 1  # so that C's 64-bit products of sizes cannot overflow

FloatArray = npt.NDArray[np.float32]

# What else a subclass means (a mask, a unit) would be lost; a memmap means no more than its values.
_PLAIN = (np.ndarray, np.memmap)


def check_shape(shape: object) -> ConvShape:
    """Return *shape* if it is a ConvShape."""
    if not isinstance(shape, ConvShape):
        raise TypeError(f"shape: must be a ConvShape; got {type(shape).__name__}")
    return shape


def check_plain(name: str, array: object) -> None:
    """Raise TypeError for what is no ndarray, or a subclass that is more than one."""
    if type(array) not in _PLAIN:
        raise TypeError(f"{name}: must be an ndarray; got {type(array).__name__}")


def check_values(name: str, array: object, shape: tuple[int, ...]) -> FloatArray:
    """Return *array*, contiguous, if it is float32, of this shape and finite."""
    check_plain(name, array)
    array = np.asarray(array)
    if array.dtype != np.float32:
        raise TypeError(f"{name}: must be an ndarray of float32; got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name}: must have shape {shape}; got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: must be finite; got NaN or infinity")
    return np.require(array, requirements=["C", "A"])


def check_integer(name: str, value: object, least: int, most: int) -> int:
    """Return *value* as an int if it is an integer in the range."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: must be an integer; got {value!r}") from None
    if not least <= number <= most:
        raise ValueError(f"{name}: must be {least} to {most}; got {number}")
    return number


def check_blocking(
    blocking: Mapping[str, int | str],
    least: Mapping[str, int],
    words: Mapping[str, tuple[str, ...]],
) -> tuple[dict[str, int], dict[str, str]]:
    """Return *blocking*'s integers and words if it has these keys exactly, with allowed values."""
    names = [*least, *words]
    if not isinstance(blocking, Mapping):
        raise TypeError(f"blocking: must be a mapping; got {type(blocking).__name__}")
    wrong = set(names).symmetric_difference(blocking)
    if wrong:
        raise ValueError(
            f"blocking: got the keys {sorted(map(str, blocking))}; must be {sorted(names)}"
        )
    number = {
        name: check_integer(f"blocking[{name!r}]", blocking[name], least[name], _MOST)
        for name in least
    }
    for name in words:
        if not isinstance(blocking[name], str) or blocking[name] not in words[name]:
            raise ValueError(
                f"blocking[{name!r}]: must be one of {words[name]}; got {blocking[name]!r}"
            )
    return number, {name: str(blocking[name]) for name in words}


def check_lanes(lanes: int, isa: IsaInfo) -> None:
    """Raise ValueError for a blocking that was made for another vector length."""
    if lanes != isa.lanes:
        raise ValueError(
            f"blocking['lanes']: got {lanes}, but {isa.name} has {isa.lanes}; "
            "this blocking is for another instruction set"
        )


def check_accumulators(count: int, what: str, isa: IsaInfo) -> None:
    """Raise ValueError for a register block that does not fit the registers."""
    if count > isa.accumulators:
        raise ValueError(
            f"{what}: a block of {count} vectors; {isa.name} has registers for {isa.accumulators}"
        )


def check_part_ptr(part_ptr: Sequence[int], parts: int | None, units: int) -> npt.NDArray[np.int64]:
    """Return the ranges of units as int64 if they are `parts` of them and cover 0 to *units*.

    None: any number of parts, but at least one.
    """
    array = np.asarray(part_ptr)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise TypeError(f"part_ptr: must be a sequence of integers; got {part_ptr!r}")
    if parts is None:
        if len(array) < 2:
            raise ValueError(f"part_ptr: must have at least 2 values; got {len(array)}")
    elif len(array) != parts + 1:
        raise ValueError(
            f"part_ptr: must have {parts + 1} values (threads_per_image + 1); got {len(array)}"
        )
    if array[0] != 0 or array[-1] != units or (array[1:] < array[:-1]).any():
        raise ValueError(f"part_ptr: must rise from 0 to {units}; got {array.tolist()}")
    return array.astype(np.int64)


def check_threads(threads: int, per_image: int) -> int:
    """Return *threads* if there are enough of them for one group."""
    number = check_integer("threads", threads, 1, _native.MOST_THREADS)
    if per_image > number:
        raise ValueError(
            f"blocking['threads_per_image']: must be at most threads ({number}); got {per_image}"
        )
    return number
