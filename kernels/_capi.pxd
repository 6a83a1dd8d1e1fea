"""What all bindings share of the C side, as archsim_native.h and pool.h declare it."""

from libc.stdint cimport int64_t


cdef extern from "archsim_native.h" nogil:
    enum:
        AS_OK
        AS_ERR_THREADS
        AS_ERR_MEMORY

    void *as_alloc(size_t size_bytes)
    void as_free(void *memory)

    ctypedef struct as_isa:
        const char *name
        int lanes
        int registers
        int fma

    int as_isa_count()
    const as_isa *as_isa_at(int index)
    int as_isa_built(int index)
    int as_isa_supported(int index)

    ctypedef struct as_shape:
        int64_t channels, height, width
        int64_t out_channels, out_height, out_width
        int64_t kernel_h, kernel_w
        int64_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w
        int64_t groups

    ctypedef struct as_team:
        int threads
        int per_image
        int own_input

    int as_team_init(as_team *team, int threads, int per_image, int parts, int dynamic,
                     int own_input, const int64_t *part_ptr)
    void as_team_free(as_team *team)

    ctypedef struct as_seconds:
        double input
        double products
        double output


cdef extern from "pool.h" nogil:
    enum:
        AS_MOST_THREADS

    int as_pool_workers()
