# cython: language_level=3, boundscheck=True, wraparound=False, initializedcheck=False
"""Binding of the C kernels.

Nothing here is public: the classes of direct_row.py, lowered.py, dense.py and so on decide and
validate; these hold what C needs (arrays, buffers, the state of threads), check once more whatever
could make C leave its arrays, and run without the GIL. Runs of one object must not overlap; the
callers lock.

One extension module, so that the process has one pool of threads; in pieces, one for what all
share and one for each kernel, which declares its own part of archsim_native.h or products.h.
"""

include "binding/shared.pxi"
include "binding/sets.pxi"
include "binding/probe.pxi"
include "binding/direct_row.pxi"
include "binding/direct_lanes.pxi"
include "binding/direct_shifts.pxi"
include "binding/lanes_chain.pxi"
include "binding/lowered.pxi"
include "binding/dense.pxi"
include "binding/dense_direct.pxi"
include "binding/winograd.pxi"
include "binding/fc.pxi"
include "binding/structured.pxi"
include "binding/replay.pxi"
