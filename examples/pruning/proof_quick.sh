#!/bin/sh
# All of it in little: 8x8 digits, under a minute; the tables go to build/proof-quick.
set -e
all="python -m benchmarks.proof --folder build/proof-quick --document build/proof-quick/digits.json"
$all run digits
$all time --seconds 0.02
$all collect
$all page --page build/proof-quick/digits.md
