"""The papers' claims on trained networks: runs, native times, and the page of their results.

``python -m benchmarks.proof`` lists the commands; `docs/pruning.md` is what they wrote.
"""
