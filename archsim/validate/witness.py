"""Programs that a suite asks."""

from __future__ import annotations

from archsim.errors import ArchsimError


class WitnessMissingError(ArchsimError):
    """A program that a suite asks is not there; the message says how to get it."""


class AnalysisError(ArchsimError):
    """A witness refused, or a compiler on the way to it."""
