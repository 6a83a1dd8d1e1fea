"""What cachegrind watches: a packed kernel called some times.

    python cachegrind_run.py FOLDER CALLS

A program of its own, run by path: with cachegrind every import costs seconds, so it brings the
kernels alone.  ``FOLDER`` holds ``job.json`` and ``weights.npy``, written by
:func:`archsim.validate.cachegrind.write_job`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from archsim import kernels


def main(folder: Path, calls: int) -> None:
    """Call the kernel of a folder's job."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    weights = np.load(folder / "weights.npy", allow_pickle=False)
    shape = kernels.ConvShape(**job["shape"])
    packed = getattr(kernels, job["kernel"])(weights, shape, **job["arguments"])
    x, out = (kernels.aligned_empty(tuple(job[name])) for name in ("x", "out"))
    x[:] = 1.0
    out[:] = 0.0
    for _ in range(calls):
        packed.run(x, out=out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
