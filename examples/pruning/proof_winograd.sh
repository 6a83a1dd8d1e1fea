#!/bin/sh
# docs/pruning.md, 2: 3x3 layers pruned in Winograd's domain and in space. ARCHSIM_DATA: folder cifar10.
set -e
exec python -m benchmarks.proof run guided:0 winograd
