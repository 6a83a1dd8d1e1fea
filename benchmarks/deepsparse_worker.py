"""DeepSparse in an environment of its own: serves one call at a time over a pipe.

Runs under the Python that DeepSparse 1.8 needs (3.11 at most, an old NumPy), so it imports nothing
of this project. Requests and answers are lines of JSON on standard input and output; arrays lie in
files of NumPy. Not for humans: deepsparse_peer.py starts it.

    {"do": "load", "id": 1, "model": "m.onnx", "x": "x.npy", "threads": 1}   -> {}
    {"do": "run", "id": 1}                                                   -> {"seconds": 1e-3}
    {"do": "save", "id": 1, "to": "y.npy"}                                   -> {}
    {"do": "forget"}                                                         -> {}

An answer may be {"error": "..."} instead.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any, TextIO

os.environ.setdefault("NM_DISABLE_ANALYTICS", "true")

import numpy as np


def _aligned(array: Any) -> Any:
    room = np.empty(array.size + 16, dtype=np.float32)
    first = -room.ctypes.data % 64 // 4
    found = room[first : first + array.size].reshape(array.shape)
    found[:] = array
    return found


class Server:
    """Compiled models, and what they computed last."""

    def __init__(self, deepsparse: Any) -> None:
        self._deepsparse = deepsparse
        self._models: dict[int, tuple[Any, list[Any]]] = {}
        self._last: dict[int, Any] = {}

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Compile a model and read its input."""
        x = _aligned(np.load(request["x"]))
        engine = self._deepsparse.compile_model(
            request["model"], batch_size=len(x), num_cores=request["threads"]
        )
        self._models[request["id"]] = (engine, [x])
        return {}

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Compute once, timed here: the pipe does not count."""
        engine, inputs = self._models[request["id"]]
        start = time.perf_counter()
        found = engine.run(inputs, val_inp=False)
        seconds = time.perf_counter() - start
        self._last[request["id"]] = found[0]
        return {"seconds": seconds}

    def save(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write the last output."""
        np.save(request["to"], self._last[request["id"]])
        return {}

    def forget(self, request: dict[str, Any]) -> dict[str, Any]:
        """Drop all models."""
        del request
        self._models.clear()
        self._last.clear()
        return {}


def main(answers: TextIO) -> None:
    """Serve until the pipe closes."""

    def answer(what: dict[str, Any]) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    try:
        deepsparse: Any = importlib.import_module("deepsparse")
    except Exception as error:  # whatever it is, it is the reason
        answer({"error": f"{type(error).__name__}: {error}"})
        return
    answer({"version": deepsparse.__version__})
    server = Server(deepsparse)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(getattr(server, request["do"])(request))
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    # the engine prints on standard output: that becomes standard error, answers keep the pipe
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main(pipe)
