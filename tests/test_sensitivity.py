"""What an uncertain number does to the error against published rates."""

from __future__ import annotations

import pytest

import archsim
from archsim.errors import InputError
from archsim.machinefile import load_machine
from archsim.machinepath import value_at
from archsim.validate.published import published, scored_machines, scored_on
from archsim.validate.sensitivity import Sensitivity, sensitivity
from archsim.variation import vary

ATOM = "atom-c2750"


@pytest.fixture(scope="module")
def rows() -> list[Sensitivity]:
    return sensitivity([ATOM], model="ecm")


def test_every_number_with_a_range_is_tried(rows: list[Sensitivity]) -> None:
    machine = load_machine(ATOM)
    ranged = {path for path, entry in machine.provenance.items() if entry.low is not None}
    assert ranged == {row.path for row in rows if row.stated_range}
    for row in rows:
        entry = machine.provenance[row.path]
        assert row.stated == value_at(machine, row.path) != row.tried
        if row.stated_range:
            assert row.tried in (entry.low, entry.high)


def test_errors_are_those_of_the_changed_machine(rows: list[Sensitivity]) -> None:
    machine = load_machine(ATOM)
    row = next(row for row in rows if row.path == "caches.L2.latency")
    (other,) = vary(machine, {row.path: [row.tried]})
    errors = [p.error for p in scored_on(other, ATOM, "ecm") if p.error is not None]
    assert row.mean_signed_error == pytest.approx(sum(errors) / len(errors))
    assert row.mean_signed_error != row.base_mean_signed_error
    assert [r.moves_bias for r in rows] == sorted((r.moves_bias for r in rows), reverse=True)


def test_the_suite_is_what_it_starts_from() -> None:
    suite = published(model="ecm")
    for name in scored_machines():
        there = [p for p in suite.points if p.scored and p.machine == name]
        assert scored_on(archsim.load_machine(name), name, "ecm") == there


def test_other_machines_are_refused() -> None:
    with pytest.raises(InputError, match="no scored points"):
        sensitivity(["generic-x86-64"])
