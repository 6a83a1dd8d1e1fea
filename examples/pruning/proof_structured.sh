#!/bin/sh
# docs/pruning.md, 3: maps, kernels and positions by a particle filter. ARCHSIM_DATA: folder cifar10.
set -e
exec python -m benchmarks.proof run structured
