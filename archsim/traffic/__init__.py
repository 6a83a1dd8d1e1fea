"""Counted traffic: what a plan's kernel touches, replayed through the machine's caches."""

from __future__ import annotations

from archsim.traffic.count import Counted
from archsim.traffic.known import NotCounted, counted

__all__ = ["Counted", "NotCounted", "counted"]
