"""Counted traffic: what a plan's kernel touches, replayed through the machine's caches."""

from __future__ import annotations

from archsim.traffic.count import Counted
from archsim.traffic.known import counted
from archsim.traffic.script import NotCountedError

__all__ = ["Counted", "NotCountedError", "counted"]
