"""Files that a sweep goes on from: any rows of it, and nothing else."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import archsim
from archsim.errors import InputError
from archsim.sweeps.rowfile import write_csv
from archsim.variation import vary
from tests.little_sweep import ALEXNET, ATOM, BANDWIDTH, SMALL, small

WHOLE: list[str] = []


def whole_text(folder: Path) -> list[str]:
    """Return the lines of the small sweep."""
    if not WHOLE:
        path = write_csv(small(), folder / "whole.csv")
        WHOLE.extend(path.read_text(encoding="utf-8").splitlines(keepends=True))
    return WHOLE


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(picks=st.sets(st.integers(1, 16)), shuffle=st.randoms(use_true_random=False))
def test_a_sweep_goes_on_from_any_rows(tmp_path: Path, picks: set[int], shuffle: Any) -> None:
    lines = whole_text(tmp_path)
    rows = [lines[n] for n in picks]
    shuffle.shuffle(rows)
    part, again = tmp_path / "some.csv", tmp_path / "again.csv"
    part.write_text(lines[0] + "".join(rows), encoding="utf-8")
    known: list[int] = []
    small(resume=part, csv=again, progress=lambda _, done, __: known.append(done))
    assert known[0] == len(picks)
    assert again.read_text(encoding="utf-8") == "".join(lines)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 4000))
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, place: int) -> None:
    """A cut inside of a line is never taken for a row, whatever the rest looks like."""
    lines = whole_text(tmp_path)
    text = "".join(lines)
    place %= len(text)
    part = tmp_path / "cut.csv"
    part.write_text(text[:place], encoding="utf-8")
    if place and text[place - 1] == "\n":
        assert np.array_equal(small(resume=part).seconds, small().seconds)
        return
    with pytest.raises(InputError) as error:
        small(resume=part)
    assert str(error.value).startswith(str(part))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.replace("conv2", "conv1"), r":2: is no point of this sweep; found .*conv1"),
        (lambda t: t.replace("10000000000.0", "10000000001.0"), ":2: is no point of this sweep"),
        (lambda t: t.replace("alexnet", "lenet5"), ":2: network: is of another sweep"),
        (lambda t: t.replace(",ecm,", ",simulator,"), ":2: model: .*allowed: ecm"),
        (lambda t: t.replace("lowered_sparse", "magic"), "unknown method"),
        (lambda t: t + t.splitlines(keepends=True)[1], "there twice"),
        (lambda t: t.replace(BANDWIDTH, "clock"), f":1: .*has no {BANDWIDTH}; has clock"),
        (lambda t: t[:0], ":1: not the header"),
        (lambda t: "a,b\n1,2\n" + t, ":1: not the header"),
        (lambda t: t.replace("layer,method", "method,layer"), "another order"),
        (lambda t: t.replace("alexnet", 'alex"net', 1), "not a CSV|another sweep"),
        (lambda t: t.splitlines(keepends=True)[0] + '"open\n', "not a CSV table|cut off"),
        (lambda t: "\0" + t, ":1: "),
    ],
)  # fmt: skip
def test_rows_of_something_else_are_refused(tmp_path: Path, change: Any, match: str) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(change("".join(whole_text(tmp_path))), encoding="utf-8")
    with pytest.raises(InputError, match=match) as error:
        small(resume=path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seconds", ["nan", "-1.0", "0.0", "inf", "", "x"])
def test_seconds_of_a_file_are_checked(tmp_path: Path, seconds: str) -> None:
    path = write_csv(small(), tmp_path / "odd.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rows[3]["seconds"] = seconds
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(InputError, match=":5: seconds: a number above zero is due"):
        small(resume=path)


@pytest.mark.parametrize(
    "other",
    [
        {"methods": ["lowered_sparse", "direct_sparse"]}, {"schedule": "auto"},
        {"partition": "rows"}, {"clock": "nominal"}, {"seed": 1},
    ],
    ids=str,
)  # fmt: skip
def test_other_settings_are_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    path = write_csv(small(), tmp_path / "rows.csv")
    with pytest.raises(InputError, match=":2: was made with other settings"):
        small(resume=path, **other)


def test_a_changed_machine_is_refused_and_a_wider_sweep_is_not(tmp_path: Path) -> None:
    path = write_csv(small(), tmp_path / "rows.csv")
    (quicker,) = vary(ATOM, {"clock": "2.5 GHz"})
    named = quicker.model_copy(update={"name": ATOM.name})
    with pytest.raises(InputError, match="the machine's numbers"):
        archsim.sweep(ALEXNET, named, **SMALL, resume=path)
    known: list[int] = []
    wider = SMALL | {"batches": "1,8,64", "layers": ["conv1", "conv2", "conv3"]}
    found = archsim.sweep(ALEXNET, ATOM, **wider, resume=path,
                          progress=lambda _, done, __: known.append(done))  # fmt: skip
    assert known[0] == 16
    assert np.array_equal(found.seconds, archsim.sweep(ALEXNET, ATOM, **wider).seconds)


def test_all_threads_may_be_a_number_that_is_swept_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    once = small(threads="all,1,8", csv=path)
    assert np.array_equal(once.seconds[..., 0], once.seconds[..., 2])
    known: set[tuple[int, int]] = set()
    again = small(threads="all,1,8", resume=path,
                  progress=lambda _, done, total: known.add((done, total)))  # fmt: skip
    assert np.array_equal(again.seconds, once.seconds)
    assert known == {(48, 48)}


def test_totals_are_no_rows_to_go_on_from(tmp_path: Path) -> None:
    path = write_csv(small(), tmp_path / "totals.csv", total=True)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 9
    with pytest.raises(InputError, match="holds totals"):
        small(resume=path)


def test_the_simulator_refuses_rows_beside_other_layers(tmp_path: Path) -> None:
    """A layer finds the caches as those before it left them: its rows are of that network alone."""
    common: dict[str, Any] = {"model": "simulator", "batches": 1, "sparsities": "0.9", "vary": None}
    path = write_csv(small(**common), tmp_path / "rows.csv")
    with pytest.raises(InputError, match="other settings"):
        small(**(common | {"layers": ["conv1", "conv2", "conv3"]}), resume=path)
