"""This host as a Machine, and the check that a machine is this host."""

from __future__ import annotations

from archsim.errors import HostMismatchError
from archsim.hostfacts import HOST, HostFacts, host_node
from archsim.machine import Machine
from archsim.machinefile import load_machine, machine_from_node


def machine_from_facts(facts: HostFacts) -> Machine:
    """Return the machine that ``facts`` describe, on the generic one of its architecture."""
    return machine_from_node(host_node(facts))


def require_host(machine: Machine) -> None:
    """Refuse a machine that is not this host.

    Raises
    ------
    HostMismatchError
    """
    here = load_machine(HOST)
    if machine.identity is None or machine.identity != here.identity:
        raise HostMismatchError(
            f"machine {machine.name!r} is not this host ({here.description.split(':')[0]}): "
            "native kernels can only be measured where they run; use machine 'host', "
            "or predict instead"
        )
