"""This host measured by micro-benchmarks of our own, as a machine file (docs/calibration.md)."""

from archsim.calibration.run import Calibration, calibrate
from archsim.calibration.save import save

__all__ = ["Calibration", "calibrate", "save"]
