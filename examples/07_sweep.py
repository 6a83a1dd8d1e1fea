"""How much memory does a Xeon Phi with more L2 need for pruned AlexNet, and what stops it then?

Covers: sweeps over hypothetical machines, what each axis does, rows for one's own analysis.
Scenario: the published GESL sparsities, one image and 272, memory from a tenth to the double.
"""

from __future__ import annotations

import archsim

found = archsim.sweep(
    "alexnet",
    "xeon-phi-7250",
    layers=["conv2", "conv3", "conv4", "conv5", "fc6"],
    vary={
        "memory.MCDRAM.bandwidth": "50GB/s:800GB/s:5:log",
        "caches.L2.size": "512KiB:4MiB:4:log",
    },
    sparsities="gesl",
    batches=[1, 272],
)
print(f"{found.space.points} points, {found.seconds.size} predictions")

per_image = 1e6 * found.seconds_per_image[0, :, :, 0, :, 0]  # bandwidth, L2, batch
memory, caches = found.axes[1:3]
for place, batch in enumerate(found.space.batches):
    print(f"\nmicroseconds an image, batch {batch}")
    print(f"{'L2':>10}" + "".join(f"{text:>10}" for text in memory.texts))
    for row, text in enumerate(caches.texts):
        print(f"{text:>10}" + "".join(f"{us:>10.1f}" for us in per_image[:, row, place]))

(phi,) = found.summary()["machines"]
print(f"\nbest: {phi['best']['texts']}")
for axis in phi["axes"]:
    first, last = axis["steps"][0], axis["steps"][-1]
    print(
        f"{axis['name']}: {first['text']} takes {first['over_best']:.2f} times as long (bound by "
        f"{first['bound_by']}), {last['text']} {last['over_best']:.2f} times (bound by "
        f"{last['bound_by']})"
    )
