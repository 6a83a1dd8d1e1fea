"""sweep: a network at every point, one piece of work after the other or in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from archsim.errors import input_error
from archsim.machine import Machine
from archsim.methods.sharing import Partition
from archsim.network import Network
from archsim.request import positive
from archsim.sparsity import Domain
from archsim.sweeps.axes import Given
from archsim.sweeps.found import Cells, Sweep
from archsim.sweeps.rowfile import PART, Journal, read_rows, write_csv
from archsim.sweeps.space import Space, make_space
from archsim.sweeps.tasks import Answer, Task, answer, make_tasks
from archsim.sweeps.workers import Workers

MOST_WORKERS: Final = 256
Progress = Callable[[str, int, int], None]


def sweep(
    network: Network | str | Path,
    machines: Machine | str | Path | Iterable[Machine | str | Path],
    *,
    layers: Iterable[str] | None = None,
    vary: Mapping[str, Given] | Iterable[str] | None = None,
    sparsities: Any = None,
    batches: Given = 1,
    threads: Given | None = None,
    methods: str | Iterable[str] = "auto",
    model: str = "ecm",
    density_domain: Domain | None = None,
    schedule: str = "auto",
    partition: Partition = "nnz",
    clock: str = "sustained",
    isa: str | None = None,
    seed: int = 0,
    workers: int = 1,
    csv: str | Path | None = None,
    resume: str | Path | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Predict a network's layers at every point of machines x what varies x work.

    Parameters
    ----------
    network : Network, str or Path
    machines : Machine, name or file, or several of them
    layers : iterable of str, optional
        Only these.
    vary : mapping of str to values, or iterable of ``PATH=VALUES``, optional
        Dotted paths of the machines' files (``memory.DDR.bandwidth``) and what they vary over:
        ``"20GB/s:400GB/s:8"`` (linear), ``"20GB/s:400GB/s:8:log"``, ``"50GB/s,80GB/s"``, or numbers
        in base units.  Several give every combination; ``cores+caches.L3.shared_by`` sets two.
    sparsities : str, float, LayerSparsities, or several of them, optional
        What :func:`archsim.load_sparsity` reads, ``"0.5:0.9:5"`` or ``"0.5,0.9"``; by default the
        network's own map, else dense.
    batches, threads : int, str or iterable
        Numbers, ranges or lists; threads also ``all`` or None, every hardware thread.
    methods : str or iterable of str
        The fastest of these by the closed form (default: of all).
    model : {"ecm", "ecm:counted", "simulator"}
        The closed form on arrays, transfers by rule; with transfers counted, point by point; or
        the simulator, the layers one after the other as :func:`archsim.simulate_network` has it.
    density_domain, schedule, partition, clock, isa, seed
        As for :func:`archsim.predict`.
    workers : int
        Processes; scripts that ask for more than one need ``if __name__ == "__main__":``.
    csv : str or Path, optional
        Where to write a row for each point and layer.  While the sweep runs they are kept in a
        file of this name with ``.part`` behind it, which stays if the sweep is interrupted.
    resume : str or Path, optional
        Such a file (whole or ``.part``): what it holds is not computed again.
    progress : callable, optional
        Called with (what, done, total); done and total count layers at points.

    Returns
    -------
    Sweep

    Raises
    ------
    InputError
        An argument is wrong, a varied machine breaks a rule, or ``resume`` is of another sweep.
    NotApplicableError
        None of the methods computes a layer.
    """
    positive("workers", workers, MOST_WORKERS)
    space = make_space(
        network, machines, layers=layers, vary=vary, sparsities=sparsities, batches=batches,
        threads=threads, methods=methods, model=model, density_domain=density_domain,
        schedule=schedule, partition=partition, clock=clock, isa=isa, seed=seed,
    )  # fmt: skip
    cells = Cells(space)
    if resume is not None:
        read_rows(resume, cells)
    journal = None if csv is None else Journal(journal_path(csv), cells, resume)
    collect(cells, workers=workers, journal=journal, progress=progress)
    found = Sweep(cells)
    if csv is not None and journal is not None:
        write_csv(found, csv)
        journal.remove()
    return found


def journal_path(csv: str | Path) -> Path:
    """Return where rows are kept before the file of this name is written."""
    path = Path(csv)
    if path.name in ("", ".", "..") or path.is_dir():
        raise input_error(str(csv), "is a folder; the name of a file is due")
    return path.with_name(path.name + PART)


def collect(
    cells: Cells, *, workers: int = 1, journal: Journal | None = None,
    progress: Progress | None = None,
) -> None:  # fmt: skip
    """Find out what is not known yet of a sweep; what was found stays if it is interrupted."""
    space = cells.space
    tasks = [task for task in make_tasks(space) if not cells.known(task.cells(space)).all()]
    total = cells.seconds.size
    done = total - int(np.isnan(cells.seconds).sum())

    def tell(task: Task | None) -> None:
        if progress is not None:
            progress(_what(space, task) if task is not None else "", done, total)

    try:
        tell(None)
        with _answers(space, tasks, min(workers, len(tasks))) as answers:
            for task, found in answers:
                new = found.cells[~cells.known(found.cells)]
                cells.put(found)
                if journal is not None:
                    journal.keep(new)
                done += len(new)
                tell(task)
    except BaseException:
        if journal is not None:  # the last row may be half a row, or not there yet
            journal.renew()
        raise


def _what(space: Space, task: Task) -> str:
    layers = ", ".join(space.layers[place].name for place in task.layers)
    return f"{space.bases[task.base].name} {layers}"[:60]


@contextmanager
def _answers(
    space: Space, tasks: list[Task], workers: int
) -> Iterator[Iterator[tuple[Task, Answer]]]:
    """Answer tasks, in this process or in others; they end with the block, whatever happens."""
    if workers <= 1:
        yield ((task, answer(space, task)) for task in tasks)
        return
    with Workers(space, tasks, workers) as crew:
        yield crew.answers()
