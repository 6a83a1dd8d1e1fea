# Fully connected layers, sparse and dense.

from libc.stdint cimport int32_t, int64_t, uint16_t

from archsim.kernels._capi cimport as_isa, as_seconds, as_shape, as_team


cdef extern from "products.h" nogil:
    enum:
        AS_FC_VECTORS
        AS_FC_DENSE_VECTORS
        AS_FC_IMAGES

    ctypedef void (*as_fc_tile_fn)(const void *tile)

    ctypedef struct as_fc_kernels:
        as_fc_tile_fn tile[AS_FC_IMAGES + 1][AS_FC_DENSE_VECTORS + 1]

    ctypedef struct as_fc_sparse:
        as_shape shape
        as_team team
        const as_isa *isa
        int64_t images, input_block, input_blocks
        int relu
        const int64_t *ptr
        const int32_t *row
        const uint16_t *off
        const float *val
        const float *bias
        float **x
        float **sums

    int as_fc_sparse_run(as_fc_sparse *layer, const float *x, float *out, int64_t images,
                         as_seconds *seconds)

    ctypedef struct as_fc_dense:
        as_shape shape
        as_team team
        const as_isa *isa
        int64_t images, reg_images, reg_vectors
        int relu
        const float *weights
        const float *bias
        float **x

    int as_fc_dense_run(as_fc_dense *layer, const float *x, float *out, int64_t images,
                        as_seconds *seconds)


cdef extern from * nogil:
    """
    static int has_fc_tile(const as_isa *isa, int images, int vectors)
    {
        return isa->fc->tile[images][vectors] != NULL;
    }
    """
    int has_fc_tile(const as_isa *isa, int images, int vectors)


cdef extern from * nogil:
    """
    static int fc_lists_of(const as_isa *isa, int vectors)
    {
        return isa->fc->lists[vectors];
    }
    """
    int fc_lists_of(const as_isa *isa, int vectors)


cdef uint16_t NO_SHORT_OFFSET = 0


def fc_lists(int isa_index, int vectors):
    """Lists side by side with so many vectors of images."""
    if not 1 <= vectors <= AS_FC_VECTORS:
        raise ValueError(f"vectors: got {vectors}")
    return fc_lists_of(runnable(isa_index), vectors)


def fc_tile_exists(int isa_index, int images, int vectors):
    """Whether the set has this register block of a dense product."""
    cdef const as_isa *isa = runnable(isa_index)
    return (1 <= images <= AS_FC_IMAGES and 1 <= vectors <= AS_FC_DENSE_VECTORS
            and bool(has_fc_tile(isa, images, vectors)))


cdef class FcSparse(Layer):
    """A packed sparse fully connected layer; layouts as products.h says."""

    cdef as_fc_sparse layer
    cdef const int64_t[::1] ptr
    cdef const int32_t[::1] row
    cdef const uint16_t[::1] off
    cdef const float[::1] val, bias
    cdef Buffers x, sums

    def __cinit__(
        self,
        shape,
        Team team,
        const int64_t[::1] ptr,    # IN, lists + 1
        const int32_t[::1] row,    # IN, lists
        const uint16_t[::1] off,   # IN, nonzeros
        const float[::1] val,      # IN, nonzeros
        const float[::1] bias,     # IN, out_channels
        int isa_index,
        int vectors,               # of images; 0: gather
        int64_t input_block,
        bint relu,
    ):
        cdef as_fc_sparse *d = &self.layer
        cdef int64_t lists
        self.set = runnable(isa_index)
        d.shape, d.team, d.isa, d.relu = self.shape, team.team, self.set, relu
        if not (0 <= vectors <= AS_FC_VECTORS and input_block >= 1):
            raise ValueError(f"vectors, input_block: got {vectors}, {input_block}")
        d.images = vectors * self.set.lanes if vectors else 1
        d.input_block = input_block
        d.input_blocks = (d.shape.channels + input_block - 1) // input_block
        lists = d.input_blocks * d.shape.out_channels
        check_ptr("ptr", ptr, lists + 1, off.shape[0])
        check_length("row", row.shape[0], lists)
        check_length("val", val.shape[0], off.shape[0])
        check_length("bias", bias.shape[0], d.shape.out_channels)
        self.ptr, self.row, self.off, self.val, self.bias = ptr, row, off, val, bias
        self.check_rows(team.part_ptr)
        if vectors:
            self.check_groups(team.part_ptr, fc_lists_of(self.set, vectors))
        self.check_offsets(d.images // 2 if vectors else 1)
        d.ptr, d.row, d.bias = &ptr[0], &row[0], &bias[0]
        d.off, d.val = &NO_SHORT_OFFSET, &NO_VALUE
        if off.shape[0]:
            d.off, d.val = &off[0], &val[0]
        if vectors:
            self.x = team.buffer_of_each_group(shape.channels * d.images)
            self.sums = team.buffer_of_each_group(shape.out_channels * d.images)
            d.x, d.sums = self.x.items, self.sums.items

    cdef int check_rows(self, const int64_t[::1] part_ptr) except -1:
        """Each rank's lists are of its own outputs."""
        cdef int64_t block, part, i, at, outputs = self.layer.shape.out_channels
        for block in range(self.layer.input_blocks):
            for part in range(part_ptr.shape[0] - 1):
                for i in range(part_ptr[part], part_ptr[part + 1]):
                    at = block * outputs + i
                    if not part_ptr[part] <= self.row[at] < part_ptr[part + 1]:
                        raise ValueError(f"row[{at}]: got {self.row[at]}, of another part")
        return 0

    cdef int check_groups(self, const int64_t[::1] part_ptr, int64_t beside) except -1:
        """The first list of each group is its shortest."""
        cdef int64_t block, part, at, last, size, k, outputs = self.layer.shape.out_channels
        for block in range(self.layer.input_blocks):
            for part in range(part_ptr.shape[0] - 1):
                at, size = block * outputs + part_ptr[part], beside
                last = block * outputs + part_ptr[part + 1]
                while at < last:
                    while at + size > last:
                        size //= 2
                    for k in range(at, at + size):
                        if self.ptr[k + 1] - self.ptr[k] < self.ptr[at + 1] - self.ptr[at]:
                            raise ValueError(f"ptr[{k}]: a list shorter than its group's first")
                    at += size
        return 0

    cdef int check_offsets(self, int64_t unit) except -1:
        """Offsets are inputs of their block, in units."""
        cdef int64_t block, j, most, outputs = self.layer.shape.out_channels
        cdef int64_t inputs = self.layer.shape.channels, size = self.layer.input_block
        for block in range(self.layer.input_blocks):
            most = (min(size, inputs - block * size) - 1) * unit
            for j in range(self.ptr[block * outputs], self.ptr[(block + 1) * outputs]):
                if self.off[j] > most or self.off[j] % unit:
                    raise ValueError(
                        f"off[{j}]: got {self.off[j]}; must be 0 to {most}, in steps of {unit}")
        return 0

    cdef int call(
        self, const float *x, float *out, int64_t images, as_seconds *seconds
    ) noexcept nogil:
        return as_fc_sparse_run(&self.layer, x, out, images, seconds)


cdef class FcDense(Layer):
    """A packed dense fully connected layer; layouts as products.h says."""

    cdef as_fc_dense layer
    cdef Buffers weights, bias, x

    def __cinit__(
        self,
        shape,
        Team team,
        const float[::1] weights,  # IN, packed; copied to where vectors are aligned
        const float[::1] bias,     # IN, as long as the outputs that weights have; copied
        int isa_index,
        int64_t images,
        int reg_images,
        int reg_vectors,
        bint relu,
    ):
        cdef as_fc_dense *d = &self.layer
        cdef int64_t wide, units
        self.set = runnable(isa_index)
        d.shape, d.team, d.isa, d.relu = self.shape, team.team, self.set, relu
        if images < 1 or not all(
            fc_tile_exists(isa_index, i, reg_vectors) for i in range(1, reg_images + 1)
        ) or reg_images < 1:
            raise ValueError(f"register block: got {reg_images} x {reg_vectors}, {images} images")
        wide = reg_vectors * self.set.lanes
        units = (d.shape.out_channels + wide - 1) // wide
        check_length("weights", weights.shape[0], units * wide * d.shape.channels)
        check_length("bias", bias.shape[0], units * wide)
        d.images, d.reg_images, d.reg_vectors = images, reg_images, reg_vectors
        self.weights, self.bias = copied(weights), copied(bias)
        d.weights, d.bias = self.weights.items[0], self.bias.items[0]
        if images > 1:
            blocks = -(-images // reg_images)
            self.x = team.buffer_of_each_group(shape.channels * blocks * reg_images)
            d.x = self.x.items

    cdef int call(
        self, const float *x, float *out, int64_t images, as_seconds *seconds
    ) noexcept nogil:
        return as_fc_dense_run(&self.layer, x, out, images, seconds)
