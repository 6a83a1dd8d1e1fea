/* Probes of one instruction set; see probe.h. Compiled once for each. */
#include <stddef.h>
#include <string.h>

#include "microkernels.h"
#include "probe.h"
#include "shuffle.h"
#include "simd.h"

/* A use of a vector, which without one would not be made at all. */
#if defined(__x86_64__)
#define USED(vector) __asm__ __volatile__("" : : "v"(vector))
#elif defined(__aarch64__)
#define USED(vector) __asm__ __volatile__("" : : "w"(vector))
#else
#define USED(vector) __asm__ __volatile__("" : : "m"(vector))
#endif

#define COUNT (AS_REGISTERS - 2) /* sums side by side: more than latency times ports anywhere */
#define WIDTH (4 * AS_LANES)     /* bytes of a vector */
/* From now on the compiler knows nothing of memory, nor how the pointer was made. */
#define FORGET(pointer) __asm__ __volatile__("" : "+r"(pointer) : : "memory")

/* ---- arithmetic: values stay normal numbers however long it runs ---- */

typedef enum { FMA, MULTIPLY, ADD } operation;

/* A multiply-add waits for the sum, as in the kernels. */
AS_INLINE as_vec apply(operation op, as_vec sum, as_vec *factor, as_vec term)
{
    if (op == FMA)
        AS_OPAQUE_VECTOR(*factor); /* or one product would do for all sums */
    return op == FMA ? sum + *factor * term : op == MULTIPLY ? sum * *factor : sum + term;
}

AS_INLINE void arithmetic(int64_t steps, operation even, operation odd, int side_by_side)
{
    as_vec sum[COUNT], factor = as_splat(1.0f), term = as_splat(0.5f);
    AS_OPAQUE_VECTOR(factor);
    AS_OPAQUE_VECTOR(term);
    AS_UNROLL for (int i = 0; i < side_by_side; ++i)
        sum[i] = as_splat((float)(i + 1));
    for (int64_t j = 0; j < steps; ++j) {
        if (side_by_side == 1) {
            AS_UNROLL for (int i = 0; i < COUNT; ++i)
                sum[0] = apply(even, sum[0], &factor, term);
        } else {
            AS_UNROLL for (int i = 0; i < side_by_side; ++i)
                sum[i] = apply(i % 2 ? odd : even, sum[i], &factor, term);
        }
    }
    AS_UNROLL for (int i = 0; i < side_by_side; ++i)
        USED(sum[i]);
}

#define DEFINE_ARITHMETIC(name, even, odd, side_by_side)     \
    static void name(as_probe *probe, int64_t steps)         \
    {                                                        \
        (void)probe;                                         \
        arithmetic(steps, even, odd, side_by_side);          \
    }
DEFINE_ARITHMETIC(multiply, MULTIPLY, MULTIPLY, COUNT)
DEFINE_ARITHMETIC(add, ADD, ADD, COUNT)
DEFINE_ARITHMETIC(multiply_and_add, MULTIPLY, ADD, COUNT)
DEFINE_ARITHMETIC(multiply_chain, MULTIPLY, MULTIPLY, 1)
DEFINE_ARITHMETIC(add_chain, ADD, ADD, 1)
#if defined(__FMA__) || defined(__aarch64__)
DEFINE_ARITHMETIC(fused, FMA, FMA, COUNT)
DEFINE_ARITHMETIC(fused_chain, FMA, FMA, 1)
#endif

/* ---- loads and stores in the first level ---- */

enum { LOADS = 16, PAGES = 4 };

AS_INLINE void loads(const as_probe *probe, int64_t steps, int count, int apart)
{
    const char *from = probe->memory + probe->offset;
    for (int64_t j = 0; j < steps; ++j) {
        FORGET(from);
        AS_UNROLL for (int i = 0; i < count; ++i)
            USED(as_load((const float *)(from + i * apart)));
    }
}

static void load(as_probe *probe, int64_t steps)
{
    loads(probe, steps, LOADS, AS_PROBE_LINE);
}

static void load_pages(as_probe *probe, int64_t steps)
{
    loads(probe, steps, PAGES, AS_PROBE_PAGE);
}

AS_INLINE void stores(const as_probe *probe, int64_t steps, int count, int apart)
{
    char *to = probe->memory + probe->offset;
    as_vec value = as_splat(1.0f);
    AS_OPAQUE_VECTOR(value);
    for (int64_t j = 0; j < steps; ++j) {
        FORGET(to);
        AS_UNROLL for (int i = 0; i < count; ++i)
            as_store((float *)(to + i * apart), value);
    }
    FORGET(to);
}

static void store(as_probe *probe, int64_t steps)
{
    stores(probe, steps, LOADS, AS_PROBE_LINE);
}

static void store_pages(as_probe *probe, int64_t steps)
{
    stores(probe, steps, PAGES, AS_PROBE_PAGE);
}

static void broadcast(as_probe *probe, int64_t steps)
{
    const char *from = probe->memory;
    for (int64_t j = 0; j < steps; ++j) {
        FORGET(from);
        AS_UNROLL for (int i = 0; i < LOADS; ++i)
            USED(as_splat(*(const float *)(from + 4 * i)));
    }
}

#if defined(__FMA__) || defined(__aarch64__)
/* Multiply-adds that each load a vector: both ports are asked for all they can do. */
static void folded(as_probe *probe, int64_t steps)
{
    as_vec sum[COUNT], factor = as_splat(1.0f);
    const char *from = probe->hot;
    memset(probe->hot, 0, sizeof probe->hot);
    AS_OPAQUE_VECTOR(factor);
    AS_UNROLL for (int i = 0; i < COUNT; ++i)
        sum[i] = as_splat((float)i);
    for (int64_t j = 0; j < steps; ++j) {
        FORGET(from);
        AS_UNROLL for (int i = 0; i < COUNT; ++i)
            sum[i] += factor * as_load_aligned((const float *)(from + i * WIDTH % sizeof probe->hot));
    }
    AS_UNROLL for (int i = 0; i < COUNT; ++i)
        USED(sum[i]);
}
#endif

/* The address of the next load is in the vector that was loaded: its latency and that of a move. */
typedef uintptr_t words __attribute__((vector_size(WIDTH)));

static void load_chain(as_probe *probe, int64_t steps)
{
    char *at = probe->hot;
    *(char **)at = at;
    FORGET(at);
    for (int64_t j = 0; j < steps; ++j) {
        as_vec v = as_load((const float *)at);
        AS_OPAQUE_VECTOR(v);
        at = (char *)((words)v)[0];
    }
    FORGET(at);
}

/* A move to a vector and one back. */
static void move_chain(as_probe *probe, int64_t steps)
{
    uintptr_t x = probe->random;
    for (int64_t j = 0; j < steps; ++j) {
        as_vec v = (as_vec)(words){x};
        AS_OPAQUE_VECTOR(v);
        x = ((words)v)[0];
        AS_OPAQUE(x);
    }
    __asm__ __volatile__("" : : "r"(x));
}

/* Numbers of two vectors in turns, inside each quarter: one instruction of every x86 set. */
#if AS_LANES == 16
#define TURNS(a, b) \
    AS_SHUFFLE(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#elif AS_LANES == 8
#define TURNS(a, b) AS_SHUFFLE(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#else
#define TURNS(a, b) AS_ZIP_LOW(a, b)
#endif

static void shuffle(as_probe *probe, int64_t steps)
{
    (void)probe;
    as_vec v[COUNT], other = as_splat(0.5f);
    AS_OPAQUE_VECTOR(other);
    AS_UNROLL for (int i = 0; i < COUNT; ++i)
        v[i] = as_splat((float)i);
    for (int64_t j = 0; j < steps; ++j) {
        AS_UNROLL for (int i = 0; i < COUNT; ++i) {
            AS_OPAQUE_VECTOR(v[i]);
            v[i] = TURNS(v[i], other);
        }
    }
    AS_UNROLL for (int i = 0; i < COUNT; ++i)
        USED(v[i]);
}

#if AS_LANES > 4
enum { GATHERS = 4 };

static void gather(as_probe *probe, int64_t steps)
{
    const char *from = probe->memory;
    as_mask index;
    for (int i = 0; i < AS_LANES; ++i) index[i] = 7 * i; /* over a few lines */
    for (int64_t j = 0; j < steps; ++j) {
        FORGET(from);
        AS_UNROLL for (int i = 0; i < GATHERS; ++i) {
            const float *p = (const float *)(from + AS_PROBE_LINE * i);
#if AS_LANES == 16
            USED(_mm512_i32gather_ps((__m512i)index, p, 4));
#else
            USED(_mm256_i32gather_ps(p, (__m256i)index, 4));
#endif
        }
    }
}
#endif

/* ---- walks: a step is a block of lines ---- */

enum { LINES = AS_PROBE_BLOCK / AS_PROBE_LINE };
typedef enum { READ, WRITE, UPDATE } walk_kind;

/* Beside each line `again` vectors of the first level are loaded, so many stored, and so many
 * products made. */
AS_INLINE void walk(as_probe *probe, int64_t steps, walk_kind kind, int again, int stores,
                    int products)
{
    char *start = probe->memory;
    char *hot = probe->hot;
    int64_t position = probe->position;
    const int64_t bytes = probe->bytes;
    as_vec value = as_splat(1.0f), sum[8];
    AS_OPAQUE_VECTOR(value);
    AS_UNROLL for (int i = 0; i < 8; ++i)
        sum[i] = value;
    for (int64_t j = 0; j < steps; ++j) {
        FORGET(start);
        char *at = start + position;
        AS_UNROLL for (int line = 0; line < LINES; ++line, at += AS_PROBE_LINE) {
            AS_OPAQUE(hot); /* or its loads would do for all lines */
            AS_UNROLL for (int i = 0; i < AS_PROBE_LINE; i += WIDTH) {
                float *p = (float *)(at + i);
                as_vec v = value;
                if (kind != WRITE)
                    v = as_load_aligned(p);
                if (kind != READ) {
                    AS_OPAQUE_VECTOR(v);
                    as_store_aligned(p, v);
                } else {
                    USED(v);
                }
            }
            AS_UNROLL for (int i = 0; i < again; ++i)
                USED(as_load_aligned((const float *)(hot + i * 64 % 1024)));
            AS_UNROLL for (int i = 0; i < stores; ++i) {
                AS_OPAQUE_VECTOR(value); /* or the last one alone would be stored */
                as_store_aligned((float *)(hot + i * 64 % 1024), value);
            }
            AS_UNROLL for (int i = 0; i < products; ++i)
                sum[(line * products + i) % 8] *= value; /* each waits for the eighth before */
        }
        position += AS_PROBE_BLOCK;
        position &= -(int64_t)(position < bytes); /* no branch to mispredict */
    }
    probe->position = position;
    if (kind != READ)
        __sync_synchronize(); /* stores that still wait belong to this loop */
    AS_UNROLL for (int i = 0; i < 8; ++i)
        USED(sum[i]);
}

#define DEFINE_WALK(name, kind, again, stores, products)   \
    static void name(as_probe *probe, int64_t steps)       \
    {                                                      \
        walk(probe, steps, kind, again, stores, products); \
    }
DEFINE_WALK(read_walk, READ, 0, 0, 0)
DEFINE_WALK(write_walk, WRITE, 0, 0, 0)
DEFINE_WALK(update_walk, UPDATE, 0, 0, 0)

/* Every line with a vector that ends on the next one; of all blocks but the last. */
AS_INLINE void across(as_probe *probe, int64_t steps, walk_kind kind)
{
    char *start = probe->memory;
    int64_t position = probe->position;
    const int64_t bytes = probe->bytes - AS_PROBE_BLOCK;
    position &= -(int64_t)(position < bytes);
    as_vec value = as_splat(1.0f);
    AS_OPAQUE_VECTOR(value);
    for (int64_t j = 0; j < steps; ++j) {
        FORGET(start);
        char *at = start + position + WIDTH / 2;
        AS_UNROLL for (int i = 0; i < AS_PROBE_BLOCK; i += WIDTH) {
            if (kind == READ)
                USED(as_load((const float *)(at + i)));
            else
                as_store((float *)(at + i), value);
        }
        position += AS_PROBE_BLOCK;
        position &= -(int64_t)(position < bytes);
    }
    probe->position = position;
    if (kind != READ)
        __sync_synchronize();
}

static void read_across(as_probe *probe, int64_t steps)
{
    across(probe, steps, READ);
}

static void write_across(as_probe *probe, int64_t steps)
{
    across(probe, steps, WRITE);
}

#define AGAIN(X) X(2) X(4) X(8) X(12) X(16) X(24) X(32)
#define DEFINE_AGAIN(count)                         \
    DEFINE_WALK(read_and_load_##count, READ, count, 0, 0) \
    DEFINE_WALK(read_and_store_##count, READ, 0, count, 0) \
    DEFINE_WALK(read_and_multiply_##count, READ, 0, 0, count)
AGAIN(DEFINE_AGAIN)

#define AGAIN_ROW(count)                                               \
    {"read_and_load_" #count, read_and_load_##count, LINES, NULL},     \
    {"read_and_store_" #count, read_and_store_##count, LINES, NULL},   \
    {"read_and_multiply_" #count, read_and_multiply_##count, LINES, NULL},

static const as_probe_loop loop_list[] = {
    {"multiply", multiply, COUNT, NULL},
    {"add", add, COUNT, NULL},
    {"multiply_and_add", multiply_and_add, COUNT, NULL},
    {"multiply_chain", multiply_chain, COUNT, NULL},
    {"add_chain", add_chain, COUNT, NULL},
#if defined(__FMA__) || defined(__aarch64__)
    {"fma", fused, COUNT, NULL},
    {"fma_chain", fused_chain, COUNT, NULL},
    {"folded", folded, COUNT, NULL},
#endif
    {"load", load, LOADS, NULL},
    {"load_pages", load_pages, PAGES, NULL},
    {"store", store, LOADS, NULL},
    {"store_pages", store_pages, PAGES, NULL},
    {"broadcast", broadcast, LOADS, NULL},
    {"load_chain", load_chain, 1, NULL},
    {"move_chain", move_chain, 1, NULL},
    {"shuffle", shuffle, COUNT, NULL},
#if AS_LANES > 4
    {"gather", gather, GATHERS * AS_LANES, NULL},
#endif
    {"read", read_walk, LINES, NULL},
    {"read_across", read_across, LINES, NULL},
    {"write", write_walk, LINES, NULL},
    {"write_across", write_across, LINES, NULL},
    {"update", update_walk, LINES, NULL},
    AGAIN(AGAIN_ROW)
};

extern const as_probe_loops AS_EXPORT(as_f32_probe);
const as_probe_loops AS_EXPORT(as_f32_probe) = {loop_list, sizeof loop_list / sizeof *loop_list};
