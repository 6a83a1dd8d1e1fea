"""Measurements of this host: our kernels against their peers, and against what the host can do.

    python -m benchmarks run         measure, save after every layer
    python -m benchmarks summary     rows of docs/benchmarks.md from the saved numbers
    python -m benchmarks list        layers, suites and their cells
    python benchmarks/budgets.py     times that users wait for

A *cell* is one layer in one suite. All its *contestants* are called in turns, round after round,
so that a clock that drifts or a neighbour that computes disturbs all alike; only ratios inside a
cell are compared.

    suites.yaml ─► suites.py ─► Cell ─► cells.py ─► contest.py ─► document.py ─► JSON
                                          │
              ours.py, dense_peers.py, sparse_peers.py, deepsparse_peer.py
    rows.yaml + JSON ─► figures.py ─► page.py ─► docs/benchmarks.md

Imports archsim; nothing of archsim imports this.
"""
