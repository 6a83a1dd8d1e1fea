"""Convolutions whose parameters are the coefficients of Winograd's domain.

Li, Park, Tang, "Enabling Sparse Winograd Convolution by Native Pruning" (2017): a layer holds the
t x t coefficients of each kernel instead of the kernel, starts from those of a trained spatial one,
G g G^T, and is trained and pruned there.  Liu, Pool, Han, Dally, "Efficient Sparse-Winograd
Convolutional Neural Networks" (ICLR 2018) moves the ReLU before the layer behind its input
transformation (`relu_inputs`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from archsim.errors import input_error
from archsim.kernels.winograd_matrices import VARIANTS, Variant

#: F(4x4, 3x3) and F(4x4, 5x5), those of Li et al.
DEFAULT_VARIANTS: Final = ("f4x4_3x3", "f4x4_5x5")


class WinogradConv2d(nn.Module):
    """Convolution of stride 1 and dilation 1 with parameters in the Winograd domain.

    Parameters
    ----------
    weight : Tensor of shape (t, t, K, C / groups), floating
        Coefficients, in the order of `archsim.kernels.SparseWinograd`.
    bias : Tensor of shape (K,), optional
    variant : str
        One of `archsim.kernels.winograd_matrices.VARIANTS`; t is its tile.
    padding : (int, int)
        Zeros above and below, left and right.
    groups : int
    relu_inputs : bool
        Clip the transformed inputs at zero (Liu et al., section 3).  That is no convolution: it
        has no spatial equal.
    """

    #: for `archsim.from_torch`: with the attributes of a ``Conv2d`` below
    archsim_conv2d: Final = True
    stride: Final = (1, 1)
    dilation: Final = (1, 1)
    _inputs: Tensor
    _outputs: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        variant: str,
        padding: tuple[int, int] = (0, 0),
        groups: int = 1,
        relu_inputs: bool = False,
    ) -> None:
        super().__init__()
        self.variant = _variant(variant)
        tile = self.variant.tile
        if weight.ndim != 4 or weight.shape[:2] != (tile, tile) or weight.shape[2] % groups:
            raise input_error(
                "weight", "wrong shape", found=tuple(weight.shape),
                allowed=f"({tile}, {tile}, K, C / groups), K a multiple of groups ({groups})",
            )  # fmt: skip
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.padding, self.groups, self.relu_inputs = padding, groups, relu_inputs
        self.kernel_size = (self.variant.kernel, self.variant.kernel)
        self.out_channels, self.in_channels = weight.shape[2], weight.shape[3] * groups
        inputs, outputs = self.variant.input_rows, self.variant.output_rows
        for name, rows in (("_inputs", inputs), ("_outputs", outputs)):
            both = torch.from_numpy(np.kron(rows, rows)).to(weight)
            self.register_buffer(name, both, persistent=False)

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, variant: str, relu_inputs: bool = False) -> WinogradConv2d:
        """Return the layer that computes what ``conv`` does (unless ``relu_inputs``).

        Raises
        ------
        InputError
            The variant does not exist or cannot compute this convolution.
        """
        why = unfit(conv, variant)
        if why is not None:
            raise input_error(variant, why, found=str(conv))
        weight = to_winograd(conv.weight.detach(), variant)
        bias = None if conv.bias is None else conv.bias.detach().clone()
        layer = cls(weight, bias, variant, _padding(conv), conv.groups, relu_inputs)
        return layer.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, shape (N, K, P, Q), of inputs of shape (N, C, H, W).

        The transformations are multiplications with B (x) B and A (x) A, the products t * t
        matrix multiplications, as in the code published with Li et al.
        """
        m, r, t = self.variant.outputs, self.variant.kernel, self.variant.tile
        images, channels, height, width = x.shape
        up, left = self.padding
        P, Q = height + 2 * up - r + 1, width + 2 * left - r + 1
        if channels != self.in_channels or P < 1 or Q < 1:
            raise input_error(
                "x", "wrong shape", found=tuple(x.shape),
                allowed=f"(N, {self.in_channels}, H, W), padded at least {r} x {r}",
            )  # fmt: skip
        down, right = -(-P // m), -(-Q // m)
        below, beside = m * down + r - 1 - height - up, m * right + r - 1 - width - left
        padded = functional.pad(x, (left, beside, up, below))
        tiles = padded.unfold(2, t, m).unfold(3, t, m)  # (N, C, down, right, t, t)
        v = self._inputs @ tiles.permute(4, 5, 1, 0, 2, 3).reshape(t * t, -1)
        if self.relu_inputs:
            v = functional.relu(v)
        u = self.weight.reshape(t * t, self.groups, self.out_channels // self.groups, -1)
        sums = u @ v.reshape(t * t, self.groups, channels // self.groups, -1)
        out = self._outputs @ sums.reshape(t * t, -1)
        out = out.reshape(m, m, self.out_channels, images, down, right)
        out = out.permute(3, 2, 4, 0, 5, 1).reshape(images, -1, m * down, m * right)
        out = out[:, :, :P, :Q]
        return out if self.bias is None else out + self.bias.reshape(-1, 1, 1)

    def extra_repr(self) -> str:
        """Return what `print` shows."""
        return (
            f"{self.in_channels}, {self.out_channels}, {self.variant.name}, "
            f"padding={self.padding}, groups={self.groups}, relu_inputs={self.relu_inputs}"
        )


def _variant(name: str) -> Variant:
    if name not in VARIANTS:
        raise input_error(
            "variant", "unknown", found=name, allowed=", ".join(VARIANTS), near=(name, VARIANTS)
        )
    return VARIANTS[name]


def _padding(conv: nn.Conv2d) -> tuple[int, int]:
    """Return (above and below, left and right); the kernel is odd and square."""
    if conv.padding == "same":
        return conv.kernel_size[0] // 2, conv.kernel_size[1] // 2
    return (0, 0) if isinstance(conv.padding, str) else (conv.padding[0], conv.padding[1])


def to_winograd(weight: Tensor, variant: str) -> Tensor:
    """Return spatial weights (K, C / groups, r, r) as coefficients (t, t, K, C / groups).

    G g G^T, computed in float64, of the dtype of ``weight``.
    """
    rows = torch.from_numpy(np.array(_variant(variant).weight_rows)).to(weight.device)
    turned = torch.einsum("ur,kcrs,vs->uvkc", rows, weight.to(rows.dtype), rows)
    return turned.to(weight.dtype).contiguous()


def unfit(conv: nn.Conv2d, variant: str) -> str | None:
    """Return why a variant cannot compute a convolution, or None."""
    r = _variant(variant).kernel
    if conv.kernel_size != (r, r):
        return f"needs a kernel of {r}x{r}"
    if conv.stride != (1, 1) or conv.dilation != (1, 1):
        return "needs stride 1 and dilation 1"
    if conv.padding_mode != "zeros":
        return "pads with zeros only"
    return None


def replace_convolutions(
    model: nn.Module,
    variant: str | Sequence[str] = DEFAULT_VARIANTS,
    skip: Collection[str] = (),
    relu_inputs: bool = False,
) -> dict[str, WinogradConv2d]:
    """Put `WinogradConv2d` in place of every convolution that a variant fits, inside ``model``.

    A module that stands at several places is replaced by one at all of them.

    Parameters
    ----------
    model : Module
        Its own type stays; it must not itself be the convolution.
    variant : str or sequence of str
        The first that fits a convolution is taken.
    skip : collection of str
        Names of convolutions that stay.
    relu_inputs : bool
        As in `WinogradConv2d`.

    Returns
    -------
    dict of name to module
        What was replaced, in the model's order; optimizers must be made after it.

    Raises
    ------
    InputError
        Unknown variant, a name in ``skip`` that is no convolution, or nothing to replace.
    """
    variants = (variant,) if isinstance(variant, str) else tuple(variant)
    found = dict(_convolutions(model))
    for name in skip:
        if name not in found:
            raise input_error("skip", "no convolution has this name", found=name,
                              allowed=", ".join(found), near=(name, found))  # fmt: skip
    made: dict[int, WinogradConv2d] = {}
    replaced: dict[str, WinogradConv2d] = {}
    for name, conv in found.items():
        fit = next((v for v in variants if unfit(conv, v) is None), None)
        if fit is None or name in skip:
            continue
        if id(conv) not in made:
            made[id(conv)] = WinogradConv2d.from_conv(conv, fit, relu_inputs)
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, made[id(conv)])
        replaced[name] = made[id(conv)]
    if not replaced:
        raise input_error("model", f"no convolution that {', '.join(variants)} can compute",
                          found=", ".join(found) or "no convolution")  # fmt: skip
    return replaced


def _convolutions(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if name and isinstance(module, nn.Conv2d):
            yield name, module
