"""DeepSparse as a contestant: a worker process in its own environment, in the same rounds."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

import numpy as np

from archsim.network import Layer
from benchmarks.contest import Array, Contestant
from benchmarks.onnxfile import one_layer

#: names the Python of DeepSparse's environment
PYTHON_VARIABLE: Final = "ARCHSIM_DEEPSPARSE_PYTHON"
_DEFAULT_PYTHON: Final = Path(__file__).resolve().parents[1] / ".venv-deepsparse" / "bin" / "python"


class WorkerError(Exception):
    """DeepSparse cannot run, or refused; the text says why."""


class DeepSparse:
    """The worker process; a context that ends it.

    Raises
    ------
    WorkerError
        There is no environment for it, or it does not start.
    """

    def __init__(self) -> None:
        python = Path(os.environ.get(PYTHON_VARIABLE) or _DEFAULT_PYTHON)
        if not python.exists():
            raise WorkerError(
                f"{python} is missing: `make bench-deepsparse` makes it where a Python 3.8 to 3.11 "
                f"is found; or name one that has DeepSparse in {PYTHON_VARIABLE}"
            )
        self._folder = tempfile.TemporaryDirectory(prefix="archsim-bench-")
        self._models = 0
        worker = Path(__file__).with_name("deepsparse_worker.py")
        self._process = subprocess.Popen(  # noqa: S603 - the user's own Python
            [python, worker], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            self.version = str(self._answer()["version"])
        except WorkerError:
            self.close()
            raise

    def contestant(
        self, layer: Layer, weights: Array, x: Array, pattern: str, threads: int
    ) -> Iterator[Contestant]:
        """Compile one layer."""
        self._models += 1
        model = self._models
        folder = Path(self._folder.name)
        files = {"model": str(folder / f"{model}.onnx"), "x": str(folder / "x.npy")}
        Path(files["model"]).write_bytes(one_layer(layer, weights, len(x)))
        np.save(files["x"], x)
        self._ask(do="load", id=model, threads=threads, **files)

        def call() -> float:
            return float(self._ask(do="run", id=model)["seconds"])

        def result() -> Array:
            path = str(folder / "y.npy")
            self._ask(do="save", id=model, to=path)
            found: Array = np.load(path)
            return found

        yield Contestant(
            name="deepsparse", kind="sparse", call=call, result=result, pattern=pattern,
            threads=threads, notes={"version": self.version},
        )  # fmt: skip

    def forget(self) -> None:
        """Drop what was compiled."""
        self._ask(do="forget")

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()
        self._folder.cleanup()

    def __enter__(self) -> DeepSparse:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, **request: Any) -> dict[str, Any]:
        pipe = _open(self._process.stdin)
        try:
            pipe.write(json.dumps(request) + "\n")
            pipe.flush()
        except BrokenPipeError:
            raise WorkerError("the worker process has ended") from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = _open(self._process.stdout).readline()
        if not line:
            raise WorkerError("the worker process has ended")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise WorkerError(str(found["error"]))
        return found


def _open(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None  # it was asked for
    return pipe
