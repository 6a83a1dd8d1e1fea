#!/bin/sh
# docs/pruning.md, 1: guided against unguided. One core, some hours on an old one; when stopped it
# goes on where it was. ARCHSIM_DATA: folders cifar10, resnet_cifar10.
set -e
exec python -m benchmarks.proof run guided phi surgery allocated resnet
