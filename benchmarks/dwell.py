"""How long lines stay in the last cache, left alone: ``python -m benchmarks.dwell [MiB]``.

Reads so much (12 MiB unless told) from begin to end, once to 16 times, waits, and then loads lines
of it in an order without pattern, each address from the line before: nanoseconds of a load, the
median of eight tries. A cache that keeps all that passes has the lines after one reading; others
keep what came back. Where nobody else uses it they are there after any wait.
"""

from __future__ import annotations

import sys
import time
from typing import Final

import numpy as np

from archsim.kernels import probes, supported_isas

WAITS_S: Final = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
READINGS: Final = (1, 2, 4, 8, 16)
_TRIES: Final = 8
_LOADS: Final = 2000


def main() -> None:
    """Print a line for each wait."""
    size = int(float(sys.argv[1] if len(sys.argv) > 1 else 12) * 2**20)
    probe = probes.Probe(size)
    probe.link(size)
    probe.walk(size)
    isa, blocks = supported_isas()[-1], size // probes.BLOCK_BYTES
    print(f"{size / 2**20:.0f} MiB: ns of a load, after a wait")
    print(f"{'read':>9}" + "".join(f"{wait * 1e3:6.0f} ms" for wait in WAITS_S))
    for readings in READINGS:
        shown = []
        for wait in WAITS_S:
            found = []
            for _ in range(_TRIES):
                probe.time("read", isa, blocks, readings)
                end = time.perf_counter() + wait
                while time.perf_counter() < end:
                    pass  # awake: a core that sleeps flushes caches of its own
                found.append(float(probe.time("chase_1", None, _LOADS, 1)[0, 2]) / _LOADS)
                probe.time("read", isa, blocks, 1)  # what the chase brought is read as the rest
                time.sleep(0.1)  # and forgotten, if lines go at all
            shown.append(float(np.median(found)) * 1e9)
        print(f"{readings:>3} times" + "".join(f"{value:9.1f}" for value in shown))


if __name__ == "__main__":
    main()
