# Dense convolution by BLAS.

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer
from libc.stdint cimport int64_t

from archsim.kernels._capi cimport as_seconds, as_shape, as_team


cdef extern from "products.h" nogil:
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


# sgemm with 32-bit integers, in the words of SciPy's capsule; the name of its float type varies.
cdef bytes SGEMM_BEGINS = b"void (char *, char *, int *, int *, int *, "


cdef class Dense(Layer):
    """A layer for BLAS. `lowered_size` 0: the image itself is the lowered matrix."""

    cdef as_dense layer
    cdef const float[:, :, :, ::1] weights
    cdef const float[::1] bias
    cdef Buffers lowered
    cdef object sgemm

    def __cinit__(
        self,
        shape,
        Team team,
        const float[:, :, :, ::1] weights,  # IN
        const float[::1] bias,              # IN, out_channels; or None
        sgemm,
        int64_t pitch,
        lowered_size,
        bint fully_connected,
        bint relu,
    ):
        cdef as_dense *d = &self.layer
        cdef const char *name = PyCapsule_GetName(sgemm)
        if name == NULL or not (<bytes> name).startswith(SGEMM_BEGINS):
            raise RuntimeError("SciPy's sgemm must take 32-bit integers; this build's does not")
        self.weights, self.bias, self.sgemm = weights, bias, sgemm
        d.shape, d.team = self.shape, team.team
        d.sgemm = <as_sgemm_fn> PyCapsule_GetPointer(sgemm, name)
        d.fully_connected, d.pitch, d.relu = fully_connected, pitch, relu
        check_length("weights", weights.shape[0] * weights.shape[1] * weights.shape[2]
                     * weights.shape[3], shape.weight_count)
        d.weights = &weights[0, 0, 0, 0]
        if bias is not None:
            check_length("bias", bias.shape[0], d.shape.out_channels)
            d.bias = &bias[0]
        if lowered_size:
            self.lowered = team.buffer_of_input(lowered_size)
            d.lowered = self.lowered.items

    cdef int call(
        self, const float *x, float *out, int64_t images, as_seconds *seconds
    ) noexcept nogil:
        return as_dense_run(&self.layer, x, out, images, seconds)
