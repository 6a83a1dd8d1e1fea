#!/bin/sh
# docs/pruning.md: native times of all runs, then 4: convolutions against onnxruntime and torch.
# Some minutes of a quiet machine. ARCHSIM_DATA: folder squeezenet_pruned.
set -e
python -m benchmarks.proof time
python -m benchmarks.proof race --threads 1
python -m benchmarks.proof race --threads 2
