# Layers that stay in lane layout.

from libc.stdint cimport int32_t, int64_t

from archsim.kernels._capi cimport (
    as_alloc,
    as_free,
    as_seconds,
    as_team,
)


cdef extern from "archsim_native.h" nogil:
    ctypedef struct as_lanes_chain:
        as_team team
        int64_t layer_count
        const as_direct_lanes *layer
        as_seconds **seconds

    int as_lanes_chain_run(as_lanes_chain *chain, const float *x, float *out, int64_t images,
                           as_seconds *seconds)


cdef class Link:
    """Between two layers of a chain; `link` is a LanesLink."""

    cdef as_lanes_link table
    cdef const int64_t[::1] first, ptr
    cdef const int32_t[:, ::1] move, order

    def __cinit__(self, link, DirectLanes before, DirectLanes layer):
        cdef as_direct_lanes *a = &before.layer
        cdef as_direct_lanes *b = &layer.layer
        cdef int64_t i, j, size, lanes = a.isa.lanes, pitch = link.pitch
        cdef as_direct_lanes *mover = a if link.whole else b
        self.first, self.ptr, self.move, self.order = link.first, link.ptr, link.move, link.order
        check_length("first", self.first.shape[0], a.block_count)
        check_length("move", self.move.shape[1] * sizeof(int32_t), sizeof(as_lanes_move))
        check_length("order", self.order.shape[1], lanes)
        check_ptr("ptr", self.ptr, mover.block_count + 1, self.move.shape[0])
        if link.whole:
            check_length("pitch", pitch, b.slab_pitch)
        for i in range(a.block_count):
            size = a.block[i].rows * a.block[i].vectors * lanes
            if not link.whole:
                check_place("first", self.first[i], pitch - size, lanes)
            else:
                for j in range(self.ptr[i], self.ptr[i + 1]):
                    check_place("from", self.move[j, 0], size - lanes, lanes)
        for j in range(self.move.shape[0]):
            check_place("from", self.move[j, 0], pitch - lanes, lanes)
            check_place("to", self.move[j, 1], b.slab_pitch - lanes, lanes)
            check_place("order", self.move[j, 2], (self.order.shape[0] - 1) * lanes, lanes)
        for i in range(self.order.shape[0]):
            for j in range(lanes):
                if not -1 <= self.order[i, j] < lanes:
                    raise ValueError(f"order: got {self.order[i, j]}; must be -1 to {lanes - 1}")
        self.table.whole = link.whole
        self.table.pitch, self.table.first, self.table.ptr = pitch, &self.first[0], &self.ptr[0]
        self.table.order = &self.order[0, 0]
        if self.move.shape[0]:
            self.table.move = <const as_lanes_move *> &self.move[0, 0]


cdef int check_place(str name, int64_t place, int64_t most, int64_t lanes) except -1:
    if place % lanes or not 0 <= place <= most:
        raise ValueError(f"{name}: got {place}; must be a multiple of {lanes}, at most {most}")
    return 0


cdef class LanesChain:
    """Consecutive DirectLanes, and the LanesLink of each with the next one."""

    cdef as_lanes_chain chain
    cdef as_direct_lanes *layer  # copies of the layers', with the chain's buffers
    cdef as_seconds *of_layer
    cdef tuple layers, links
    cdef list ready, windows
    cdef LanesBuffers buffers
    cdef Buffers seconds

    def __cinit__(self, layers, links, slots):
        cdef DirectLanes first = layers[0]
        cdef int64_t i, count = len(layers)
        check_length("links", len(links), count - 1)
        check_length("slots", len(slots), count - 1)
        self.layers = tuple(layers)
        self.layer = <as_direct_lanes *> as_alloc(count * sizeof(as_direct_lanes))
        self.of_layer = <as_seconds *> as_alloc(count * sizeof(as_seconds))
        if self.layer == NULL or self.of_layer == NULL:
            raise MemoryError(f"no memory for a chain of {count} layers")
        self.check_layers()
        self.links = tuple([
            Link(link, layers[i], layers[i + 1]) for i, link in enumerate(links)
        ])
        self.make_buffers()
        self.make_links(slots)
        self.seconds = first.team.buffer_of_each_thread(
            count * sizeof(as_seconds) // sizeof(float))
        self.chain.team, self.chain.layer_count = first.team.team, count
        self.chain.layer, self.chain.seconds = self.layer, <as_seconds **> self.seconds.items

    def __dealloc__(self):
        as_free(self.layer)
        as_free(self.of_layer)

    cdef int check_layers(self) except -1:
        cdef DirectLanes layer
        cdef DirectLanes first = self.layers[0]
        cdef as_shape a, b
        for i, layer in enumerate(self.layers):
            a, b = layer.shape, (<DirectLanes> self.layers[max(i - 1, 0)]).shape
            if (a.stride_h != 1 or a.stride_w != 1 or layer.layer.pointwise
                    or a.height != a.out_height or a.width != a.out_width
                    or (i > 0 and a.channels != b.out_channels)
                    or a.height != b.height or a.width != b.width
                    or layer.layer.images != first.layer.images
                    or layer.layer.isa != first.layer.isa
                    or layer.layer.plane_count != 1
                    or layer.team.team.threads != first.team.team.threads
                    or layer.team.team.per_image != first.team.team.per_image):
                raise ValueError(f"layers[{i}]: does not follow the one before in a chain")
        return 0

    cdef int make_buffers(self) except -1:
        """Buffers of the chain's own, so that its layers may run beside it."""
        cdef DirectLanes layer
        cdef DirectLanes first = self.layers[0]
        largest = {}
        for layer in self.layers:
            for name, floats in layer.buffers.floats.items():
                largest[name] = max(floats, largest.get(name, 0))
        self.buffers = LanesBuffers(first.team, **{**largest, "x": first.buffers.floats["x"]})
        for i, layer in enumerate(self.layers):
            self.layer[i] = layer.layer
            self.buffers.lend(&self.layer[i])
            if i > 0:  # its input is what the layer before leaves
                self.layer[i].x = NULL
        return 0

    cdef int make_links(self, slots) except -1:
        """Link i has buffer slots[i]; a layer that makes windows has one of its own for them."""
        cdef DirectLanes first = self.layers[0]
        cdef Link link
        cdef Buffers ready, window
        floats = [0] * len(slots)
        for i, (link, slot) in enumerate(zip(self.links, slots)):
            size = self.layer[i].shape.out_channels * link.table.pitch
            floats[slot] = max(floats[slot], size)
        self.ready = [first.team.buffer_of_each_group(size) for size in floats]
        self.windows = []
        for i, (link, slot) in enumerate(zip(self.links, slots)):
            ready = self.ready[slot]
            link.table.ready = ready.items
            self.layer[i].next = self.layer[i + 1].before = &link.table
            if not link.table.whole:
                window = first.team.buffer_of_each_thread(
                    self.layer[i + 1].slab_block * self.layer[i + 1].slab_pitch)
                self.windows.append(window)
                self.layer[i + 1].window = window.items
        return 0

    def run(
        self,
        const float[:, :, :, ::1] x,  # IN
        float[:, :, :, ::1] out,      # OUT
    ):
        """Run a batch; return each layer's seconds of the phases input, products and output."""
        cdef as_shape shape = self.layer[0].shape
        cdef as_shape end = self.layer[self.chain.layer_count - 1].shape
        cdef int status
        shape.out_channels = end.out_channels
        check_images(shape, x, out)
        with nogil:
            status = as_lanes_chain_run(
                &self.chain, &x[0, 0, 0, 0], &out[0, 0, 0, 0], x.shape[0], self.of_layer)
        check_status(status)
        return [
            (self.of_layer[i].input, self.of_layer[i].products, self.of_layer[i].output)
            for i in range(self.chain.layer_count)
        ]
