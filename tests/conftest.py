"""Test the installed package, never the bare source folder (it has no compiled parts).

``python -m pytest`` puts the repository root first on ``sys.path``; a plain
``pip install .`` would then be shadowed by ./archsim.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != _ROOT]
os.environ["PYTHONSAFEPATH"] = "1"  # the same for the processes that tests start
# -m host is what the operating system says: the tests do not depend on a calibration of this host
os.environ["XDG_CACHE_HOME"] = str(Path(tempfile.gettempdir()) / "archsim-tests-without-cache")
