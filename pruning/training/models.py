"""Small models for the built-in data sets; names of their modules are names of layers."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from archsim.pruning.training.winograd_relu import move_relus


def digits_net() -> nn.Module:
    """Return a net for 8x8 digits: two convolutions, two fully connected layers.

    Without BatchNorm, as the papers' AlexNet: behind it the scale of weights means nothing to the
    loss, and a lasso shrinks them all instead of choosing.
    """
    net = nn.Sequential()
    net.add_module("conv1", nn.Conv2d(1, 16, 3, padding=1))
    net.add_module("relu1", nn.ReLU())
    net.add_module("conv2", nn.Conv2d(16, 32, 3, padding=1))
    net.add_module("relu2", nn.ReLU())
    net.add_module("pool", nn.MaxPool2d(2))
    net.add_module("flat", nn.Flatten())
    net.add_module("fc1", nn.Linear(512, 64))
    net.add_module("relu3", nn.ReLU())
    net.add_module("fc2", nn.Linear(64, 10))
    return net


def digits_winograd_relu_net() -> nn.Module:
    """Return `digits_net` with conv2 in Winograd's domain, its ReLU behind the transformation."""
    net = digits_net()
    move_relus(net)
    return net


def fashion_net() -> nn.Module:
    """Return a net for 28x28 grey pictures: three convolutions, one fully connected layer."""
    net = nn.Sequential()
    maps = 1
    for number, (out, size) in enumerate(((32, 28), (64, 14), (64, 7)), 1):
        net.add_module(f"conv{number}", nn.Conv2d(maps, out, 3, padding=1, bias=False))
        net.add_module(f"norm{number}", nn.BatchNorm2d(out))
        net.add_module(f"relu{number}", nn.ReLU())
        if size > 7:
            net.add_module(f"pool{number}", nn.MaxPool2d(2))
        maps = out
    net.add_module("flat", nn.Flatten())
    net.add_module("fc", nn.Linear(64 * 7 * 7, 10))
    return net


def cifar_alexnet() -> nn.Module:
    """Return an AlexNet for 32x32 colour pictures: six convolutions, three fully connected layers.

    5x5 and 3x3 convolutions have most of the time, 1x1 some of it, fully connected layers most of
    the weights; no BatchNorm, as the papers' AlexNet.  Tensors lie channels last, which torch
    trains faster.
    """
    net = nn.Sequential()
    # maps in, maps out, kernel, stride, pooling behind it
    shapes = ((3, 64, 5, 2, False), (64, 64, 1, 1, True), (64, 96, 5, 1, False),
              (96, 96, 1, 1, False), (96, 128, 3, 1, False), (128, 128, 3, 1, True))  # fmt: skip
    for number, (maps, out, kernel, stride, pooled) in enumerate(shapes, 1):
        net.add_module(
            f"conv{number}", nn.Conv2d(maps, out, kernel, stride=stride, padding=kernel // 2)
        )
        net.add_module(f"relu{number}", nn.ReLU())
        if pooled:
            net.add_module(f"pool{number}", nn.MaxPool2d(2))
    net.add_module("flat", nn.Flatten())
    for number, (maps, out) in enumerate(((128 * 4 * 4, 512), (512, 512), (512, 10)), 1):
        net.add_module(f"fc{number}", nn.Linear(maps, out))
        if number < 3:
            net.add_module(f"relu_fc{number}", nn.ReLU())
    for module in net:  # He et al. 2015: with smaller weights nine layers learn nothing at first
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.constant_(cast(Tensor, module.bias), 0.0)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return, unused-ignore]


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without weights (He et al. 2016, option A)."""

    def __init__(self, maps: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(maps, out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.stride, self.more = stride, out - maps

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's outputs."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1 or self.more:
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
        return functional.relu(y + x)


class _ResNet(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        maps = 16
        for stage, out in enumerate((16, 32, 64), 1):
            found = nn.Sequential()
            for block in range(blocks):
                found.append(_Block(maps, out, 2 if stage > 1 and block == 0 else 1))
                maps = out
            self.add_module(f"layer{stage}", found)
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape (N, 10)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3):
            x = cast(nn.Module, stage)(x)
        return cast(Tensor, self.linear(x.mean((2, 3))))


def cifar_resnet20() -> nn.Module:
    """Return ResNet-20 for 32x32 colour pictures, its names those of the published weights."""
    return _ResNet(3)
