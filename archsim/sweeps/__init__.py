"""Sweeps: a network at every point of machines x what varies x sparsities x batches x threads.

::

    axes:   what is given (20GB/s:400GB/s:8, 0.5,0.9) as values
     -> space:   the points, checked, each with a name that a file can be resumed by
     -> tasks:   pieces of work, and who answers them: predict_grid, predict, simulate_network
     -> run:     one after another or in worker processes; rows are kept while it runs
     -> rowfile: rows as CSV, out and in again
     -> found:   arrays, rows, totals, the best point, how each axis moves the total
"""
