"""The shape of a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import index

_PAIRS = ("stride", "pad", "dilation")
_MOST = 2**31 - 1  # so that C's 64-bit products of sizes cannot overflow


@dataclass(frozen=True)
class ConvShape:
    """A convolution of x (N, C, H, W) with weights (K, C / groups, R, S) to out (N, K, P, Q).

    Everything but the batch size N. A fully connected layer has height = width = kernel = 1.
    Raise ValueError when a size is not positive, *groups* does not divide both channel counts,
    or the output would be empty.
    """

    channels: int
    height: int
    width: int
    out_channels: int
    kernel_h: int
    kernel_w: int
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            least = 0 if field.name == "pad" else 1
            value = getattr(self, field.name)
            if field.name in _PAIRS:
                clean: object = _pair(field.name, value, least)
            else:
                clean = _integer(field.name, value, least)
            object.__setattr__(self, field.name, clean)
        for name in ("channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(
                    f"groups: got {self.groups}; must divide {name} ({getattr(self, name)})"
                )
        if self.out_h < 1 or self.out_w < 1:
            raise ValueError(
                f"the output would be {self.out_h} x {self.out_w}: the kernel reaches beyond the "
                f"padded image; got {self}"
            )

    @property
    def out_h(self) -> int:
        """Output rows, P."""
        reach = self.dilation[0] * (self.kernel_h - 1) + 1
        return (self.height + 2 * self.pad[0] - reach) // self.stride[0] + 1

    @property
    def out_w(self) -> int:
        """Output columns, Q."""
        reach = self.dilation[1] * (self.kernel_w - 1) + 1
        return (self.width + 2 * self.pad[1] - reach) // self.stride[1] + 1

    @property
    def group_channels(self) -> int:
        """Input channels of one group."""
        return self.channels // self.groups

    @property
    def group_out_channels(self) -> int:
        """Output channels of one group."""
        return self.out_channels // self.groups

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(K, C / groups, R, S)."""
        return (self.out_channels, self.group_channels, self.kernel_h, self.kernel_w)

    @property
    def weight_count(self) -> int:
        """Weights, zero or not."""
        return self.out_channels * self.group_channels * self.kernel_h * self.kernel_w


def _integer(name: str, value: object, least: int) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: must be an integer; got {value!r}") from None
    if number < least:
        raise ValueError(f"{name}: must be at least {least}; got {number}")
    if number > _MOST:
        raise ValueError(f"{name}: must be at most {_MOST}; got {number}")
    return number


def _pair(name: str, value: object, least: int) -> tuple[int, int]:
    if not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"{name}: must be two integers (rows, columns); got {value!r}")
    return _integer(name, value[0], least), _integer(name, value[1], least)
