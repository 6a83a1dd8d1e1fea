/* Rows of floats from one pitch to another. Contract: microkernels.h. */
#include <assert.h>

#include "microkernels.h"
#include "simd.h"

static void copy(const float *from, int64_t from_pitch, int64_t rows, int64_t count, float *to,
                 int64_t to_pitch)
{
    assert(count >= 0);
    const int64_t whole = count / AS_LANES * AS_LANES;
    const int rest = (int)(count - whole);
    for (; rows > 0; --rows, from += from_pitch, to += to_pitch) {
        for (int64_t i = 0; i < whole; i += AS_LANES) as_store(to + i, as_load(from + i));
        if (rest)
            as_store_first(to + whole, as_load_first(from + whole, rest), rest);
    }
}

extern const as_copy_fn AS_EXPORT(as_f32_copy);
const as_copy_fn AS_EXPORT(as_f32_copy) = copy;
