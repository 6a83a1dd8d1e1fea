"""Worker processes of a sweep: each has a pipe of its own, and no lock is shared.

A worker that is killed is the end of its pipe, which is noticed at once, on every Python; executors
with common queues have waited for ever for such workers.  Workers whose parent is killed end
likewise.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from pickle import PicklingError
from typing import Any, Final, cast

from archsim.errors import ArchsimError
from archsim.sweeps.space import Space
from archsim.sweeps.tasks import Answer, Task, answer

_AHEAD: Final = 2  # tasks that a worker is told of, so that it need not wait for the next one
_PATIENCE_S: Final = 2.0  # with a worker that was told to end


class Workers:
    """Processes that answer the tasks of a sweep; as a context they end with the block."""

    def __init__(self, space: Space, tasks: list[Task], count: int) -> None:
        self._tasks = tasks
        self._processes: dict[Connection, Any] = {}
        context = _context()
        try:
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(  # type: ignore[attr-defined]
                    target=_serve, args=(theirs,), daemon=True
                )
                process.start()
                theirs.close()
                self._processes[ours] = process
            for pipe in self._processes:
                pipe.send((space, tasks))
        except BaseException as error:
            self.__exit__()
            if isinstance(error, OSError):
                raise _ended() from None
            raise

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._processes:
            pipe.close()
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join(_PATIENCE_S)
            if process.is_alive():
                process.kill()
                process.join()

    def answers(self) -> Iterator[tuple[Task, Answer]]:
        """Yield answers as they come.

        Raises
        ------
        ArchsimError
            A worker ended, or what a task raised.
        """
        rest = iter(range(len(self._tasks)))
        due = dict.fromkeys(self._processes, 0)
        try:
            for pipe in [*due] * _AHEAD:
                due[pipe] += _hand(pipe, rest)
            while any(due.values()):
                for ready in wait([pipe for pipe, count in due.items() if count]):
                    pipe = cast("Connection", ready)
                    place, found = pipe.recv()
                    due[pipe] += _hand(pipe, rest) - 1
                    if isinstance(found, BaseException):
                        raise found
                    yield self._tasks[place], found
        except (EOFError, ConnectionError):
            raise _ended() from None


def _hand(pipe: Connection, rest: Iterator[int]) -> int:
    """Tell a worker the next task; return 1, or 0 if there is none."""
    for place in rest:
        pipe.send(place)  # a few bytes, which a pipe always has room for
        return 1
    return 0


def _ended() -> ArchsimError:
    return ArchsimError(
        "a worker process ended before its answer (killed, or out of memory); fewer of them need "
        "less"
    )


def _context() -> BaseContext:
    """Return how to start workers: never by a bare fork, for threads here may hold locks.

    The process that they are forked from is started deaf to interrupts, which are this process' to
    handle; so they are from their first moment on, and not only from :func:`_serve`.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    heard = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is threading.main_thread() and heard is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            forkserver.ensure_running()
        finally:
            signal.signal(signal.SIGINT, heard)
    return multiprocessing.get_context("forkserver")


def _serve(pipe: Connection) -> None:
    """Be a worker; interrupts are the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _answer_all(pipe)


def _answer_all(pipe: Connection) -> None:
    """Answer what comes: the sweep once, then places of tasks, until the pipe ends."""
    with suppress(EOFError, ConnectionError):
        space, tasks = pipe.recv()
        while True:
            place = pipe.recv()
            found: Answer | BaseException
            try:
                found = answer(space, tasks[place])
            except Exception as error:
                found = error
            try:
                pipe.send((place, found))
            except (TypeError, AttributeError, PicklingError):  # an error of an unusual kind
                pipe.send((place, ArchsimError(f"{type(found).__name__}: {found}")))
