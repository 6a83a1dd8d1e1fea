"""The C side, as archsim_native.h and pool.h declare it."""

from libc.stdint cimport int32_t, int64_t


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

    int as_team_init(as_team *team, int threads, int per_image, const int64_t *part_ptr)
    void as_team_free(as_team *team)

    ctypedef struct as_seconds:
        double input
        double products
        double output

    ctypedef struct as_direct_row:
        as_shape shape
        as_team team
        const as_isa *isa
        int64_t oc_block, column_blocks, reg_rows, reg_vectors, row_pitch
        int spill_to_output
        int vectorised
        int relu
        const int64_t *ptr
        const int32_t *off
        const float *val
        const float *bias
        float **padded
        float **scratch

    int as_direct_row_run(as_direct_row *layer, const float *x, float *out, int64_t images,
                          as_seconds *seconds)

    enum:
        AS_LANES_AHEAD

    ctypedef struct as_lanes_block:
        pass

    ctypedef struct as_lanes_chunk:
        pass

    ctypedef struct as_lanes_piece:
        pass

    ctypedef struct as_direct_lanes:
        as_shape shape
        as_team team
        const as_isa *isa
        int pointwise, relu, past_caches
        int64_t images, plane_count, plane_pitch, plane_size, fill_rows, fill_columns
        int64_t in_rows, in_columns, slab_pitch, slab_blocks, block_count
        const int64_t *plane_row
        const int64_t *plane_column
        const int64_t *lane_start
        const as_lanes_block *block
        const as_lanes_chunk *chunk
        const as_lanes_piece *piece
        const int64_t *ptr
        const int32_t *off
        const float *val
        const float *bias
        int64_t most_vectors
        float **x
        float **planes
        float **sums
        float **ready

    int as_direct_lanes_run(as_direct_lanes *layer, const float *x, float *out, int64_t images,
                            as_seconds *seconds)

    double as_load_roof(const as_isa *isa, int64_t count, int64_t repeats, int64_t shift)

    ctypedef struct as_lowered:
        as_shape shape
        as_team team
        const as_isa *isa
        int64_t pixel_vectors, pitch
        int relu
        const int64_t *ptr
        const int32_t *off
        const float *val
        const float *bias
        float **lowered

    int as_lowered_run(as_lowered *layer, const float *x, float *out, int64_t images,
                       as_seconds *seconds)

    ctypedef void (*as_sgemm_fn)(char *, char *, int *, int *, int *, float *, float *, int *,
                                 float *, int *, float *, float *, int *)

    ctypedef struct as_dense:
        as_shape shape
        as_team team
        as_sgemm_fn sgemm
        int fully_connected
        int64_t pitch
        int relu
        const float *weights
        const float *bias
        float **lowered

    int as_dense_run(as_dense *layer, const float *x, float *out, int64_t images,
                     as_seconds *seconds)

    ctypedef struct as_dense_direct:
        as_shape shape
        as_team team
        const as_isa *isa
        int pixel_lanes
        int64_t reg_vectors, reg_rows, reg_count
        int64_t channel_block
        int64_t band_rows, band_columns
        int64_t rows, columns
        int64_t row_pitch, channel_pitch, phase_pitch, row_step
        int relu
        const int32_t *tap
        const float *weights
        const float *bias
        float **padded
        float **sums

    int as_dense_direct_run(as_dense_direct *layer, const float *x, float *out, int64_t images,
                            as_seconds *seconds)

    int64_t as_roof_run(const as_isa *isa, int64_t steps, float *seen)

    int as_pool_workers()


cdef extern from "pool.h" nogil:
    enum:
        AS_MOST_THREADS
