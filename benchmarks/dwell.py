"""How long lines stay in the last cache, left alone: ``python -m benchmarks.dwell [MiB]``.

Reads so much (12 MiB unless told) twice, waits, and then loads lines of it in an order without
pattern, each address from the line before: nanoseconds of a load, the median of eight tries.
Where nobody else uses the cache they are the same after any wait; where others do, lines go to
memory meanwhile.
"""

from __future__ import annotations

import sys
import time
from typing import Final

import numpy as np

from archsim.kernels import probes

WAITS_S: Final = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_TRIES: Final = 8
_LOADS: Final = 2000


def main() -> None:
    """Print a line for each wait."""
    size = int(float(sys.argv[1] if len(sys.argv) > 1 else 12) * 2**20)
    probe = probes.Probe(size)
    probe.link(size)
    all_lines = size // probes.LINE_BYTES
    print(f"{size / 2**20:.0f} MiB: ns of a load, after a wait")
    for wait in WAITS_S:
        found = []
        for _ in range(_TRIES):
            probe.time("chase_1", None, all_lines, 2)
            end = time.perf_counter() + wait
            while time.perf_counter() < end:
                pass  # awake: a core that sleeps flushes caches of its own
            found.append(float(probe.time("chase_1", None, _LOADS, 1)[0, 2]) / _LOADS)
        print(f"{wait * 1e3:6.0f} ms {np.median(found) * 1e9:7.1f}")


if __name__ == "__main__":
    main()
