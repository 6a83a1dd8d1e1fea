"""How much smaller do both lowered matrices get when kernels lose positions?

Intra-kernel strided sparsity keeps every stride-th position of a kernel, from an offset that each
input map has of its own: K' = sum over the input maps of ceil((R S - offset) / stride).
"""

from math import ceil

import archsim
from archsim.methods import structured
from archsim.sparsity import Sparsity

layer = archsim.load_network("alexnet")["conv3"]
kernel = layer.R * layer.S
print(
    f"{layer.name}: [{layer.K} x {layer.C * kernel}] . [{layer.C * kernel} x {layer.P * layer.Q}]"
)
for stride in (1, 2, 3, 4):
    pattern = Sparsity.structured(layer, "intra-kernel-strided", stride=stride)
    kept = structured.find(layer, pattern)
    (rows, depth), (again, columns) = kept.shapes(layer, "intra-kernel-strided")
    offsets = kept.positions[0].argmax(axis=1)
    formula = sum(ceil((kernel - int(offset)) / stride) for offset in offsets)
    print(f"stride {stride}: [{rows} x {depth}] . [{again} x {columns}], formula K' = {formula}")
