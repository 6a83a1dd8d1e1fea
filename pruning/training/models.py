"""Small models for the built-in data sets; names of their modules are names of layers."""

from __future__ import annotations

from torch import nn

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
