"""Checkpoints: whole or not there, and refused when damaged."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from archsim.errors import InputError
from archsim.pruning.training.checkpoint import (
    load_checkpoint,
    previous_of,
    save_checkpoint,
)


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    path = save_checkpoint({"x": torch.arange(3), "step": 4, "rows": [{"a": None}]}, tmp_path / "c")
    state = load_checkpoint(path)
    assert torch.equal(state["x"], torch.arange(3))
    assert state["step"] == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c"]


def test_the_one_before_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "c"
    for step in range(3):
        save_checkpoint({"step": step}, path)
    assert load_checkpoint(path)["step"] == 2
    assert load_checkpoint(previous_of(path))["step"] == 1
    assert sorted(p.name for p in path.parent.iterdir()) == ["c", "c.previous"]


@pytest.mark.parametrize("place", [0, 10, 40, 90, -1])
def test_a_changed_byte_is_refused(tmp_path: Path, place: int) -> None:
    path = tmp_path / "c"
    for step in range(2):
        save_checkpoint({"step": step, "x": torch.ones(4)}, path)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert str(previous_of(path)) in str(caught.value)
    assert load_checkpoint(previous_of(path))["step"] == 0


@pytest.mark.parametrize("length", [0, 5, 86, 200])
def test_a_file_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    path = save_checkpoint({"x": torch.ones(4)}, tmp_path / "c")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(path)


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("touched"),)  # type: ignore[return-value]


def test_a_file_with_code_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    payload = pickle.dumps({"x": _Code()})
    head = b"archsim checkpoint 1 " + hashlib.sha256(payload).hexdigest().encode() + b"\n"
    (tmp_path / "c").write_bytes(head + payload)
    with pytest.raises(InputError, match="must not"):
        load_checkpoint(tmp_path / "c")
    assert not (tmp_path / "touched").exists()


def test_what_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_checkpoint(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        save_checkpoint({}, tmp_path / "file" / "c")
