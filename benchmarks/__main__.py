"""``python -m benchmarks``; see the package's own text."""

from __future__ import annotations

import sys

# `python -m` puts the repository first on the path; a plain install would be shadowed by ./archsim,
# which has no compiled parts.
sys.path.append(sys.path.pop(0))

from benchmarks.cli import main

main()
