/* Probes without vectors. Empty asm statements keep the compiler from removing or merging what a
 * loop is there for; which instructions it makes of the rest is checked in docs/calibration.md. */
#include "probe.h"

#include <stddef.h>

#define REPEAT_8(x) x x x x x x x x
#define REPEAT_64(x) REPEAT_8(REPEAT_8(x))
#define OPAQUE(x) __asm__ __volatile__("" : "+r"(x))

/* Additions of registers: some cores do those of constants while renaming, at no cost. */
static void add_chain(as_probe *probe, int64_t steps)
{
    uint64_t sum = probe->random, term = 1;
    OPAQUE(term);
    for (int64_t i = 0; i < steps; ++i) {
        REPEAT_64(sum += term; OPAQUE(sum);)
    }
}

static void multiply_chain(as_probe *probe, int64_t steps)
{
    uint64_t product = probe->random, factor = 3;
    OPAQUE(factor);
    for (int64_t i = 0; i < steps; ++i) {
        REPEAT_64(product *= factor; OPAQUE(product);)
    }
}

static void add(as_probe *probe, int64_t steps)
{
    uint64_t a = probe->random, b = a, c = a, d = a, e = a, f = a, g = a, h = a, term = 1;
    OPAQUE(term);
    for (int64_t i = 0; i < steps; ++i) {
        REPEAT_8(a += term; b += term; c += term; d += term; e += term; f += term; g += term;
                 h += term; OPAQUE(a); OPAQUE(b); OPAQUE(c); OPAQUE(d); OPAQUE(e); OPAQUE(f);
                 OPAQUE(g); OPAQUE(h);)
    }
}

/* Of four bytes: of one byte they are more to a line of code than caches of decoded code hold. */
#if defined(__x86_64__)
#define NOP __asm__ __volatile__(".byte 0x0f, 0x1f, 0x40, 0x00");
#else
#define NOP __asm__ __volatile__("nop");
#endif

static void nop(as_probe *probe, int64_t steps)
{
    (void)probe;
    for (int64_t i = 0; i < steps; ++i) {
        REPEAT_64(NOP)
    }
}

static void load(as_probe *probe, int64_t steps)
{
    const char *from = probe->memory;
    for (int64_t i = 0; i < steps; ++i) {
        OPAQUE(from);
        for (int j = 0; j < 64; j += 8) {
#define LOAD(k)                                            \
    {                                                      \
        uint64_t x = *(const uint64_t *)(from + 64 * j + 8 * (k)); \
        __asm__ __volatile__("" : : "r"(x));               \
    }
            LOAD(0) LOAD(1) LOAD(2) LOAD(3) LOAD(4) LOAD(5) LOAD(6) LOAD(7)
#undef LOAD
        }
    }
}

/* Lines that are asked for early, and are there. */
static void prefetch(as_probe *probe, int64_t steps)
{
    const char *from = probe->memory;
    for (int64_t i = 0; i < steps; ++i) {
        OPAQUE(from);
        for (int j = 0; j < 64; j += 8) {
#define ASK(k) __builtin_prefetch(from + 64 * (j + (k)));
            ASK(0) ASK(1) ASK(2) ASK(3) ASK(4) ASK(5) ASK(6) ASK(7)
#undef ASK
        }
    }
}

/* Numbers that follow each other, as in a copy. */
static void store(as_probe *probe, int64_t steps)
{
    char *to = probe->memory;
    for (int64_t i = 0; i < steps; ++i) {
        OPAQUE(to);
        for (int j = 0; j < 64; j += 8) {
#define STORE(k) *(volatile uint32_t *)(to + 4 * (j + (k))) = (uint32_t)i;
            STORE(0) STORE(1) STORE(2) STORE(3) STORE(4) STORE(5) STORE(6) STORE(7)
#undef STORE
        }
    }
}

/* ---- branches ---- */

static void toss(as_probe *probe, int64_t steps)
{
    uint64_t state = probe->random;
    for (int64_t i = 0; i < steps; ++i) { /* xorshift64 of Marsaglia */
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        probe->memory[i] = state >> 63;
    }
    probe->random = state;
}

static void alternate(as_probe *probe, int64_t steps)
{
    for (int64_t i = 0; i < steps; ++i) probe->memory[i] = (char)(i & 1);
}

/* At most AS_PROBE_LEAST steps. */
static void branch(as_probe *probe, int64_t steps)
{
    const char *coin = probe->memory;
    for (int64_t i = 0; i < steps; ++i)
        if (coin[i])
            __asm__ __volatile__("nop");
}

/* ---- pointer chases ---- */

static inline __attribute__((always_inline)) void chase(as_probe *probe, int64_t steps, int count)
{
    void *at[AS_PROBE_CHASES];
    for (int i = 0; i < count; ++i) at[i] = probe->at[i];
    for (int64_t j = 0; j < steps; ++j) {
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 32
#else
#pragma unroll
#endif
        for (int i = 0; i < count; ++i) at[i] = *(void *const *)at[i];
    }
    for (int i = 0; i < count; ++i) probe->at[i] = at[i];
}

#define CHASES(X) X(1) X(2) X(4) X(6) X(8) X(10) X(12) X(14) X(16) X(20) X(24) X(32)
#define DEFINE_CHASE(count)                                  \
    static void chase_##count(as_probe *probe, int64_t steps) \
    {                                                        \
        chase(probe, steps, count);                          \
    }
CHASES(DEFINE_CHASE)

#define CHASE_ROW(count) {"chase_" #count, chase_##count, count, NULL},
static const as_probe_loop loops[] = {
    {"add_chain", add_chain, 64, NULL},
    {"multiply_chain", multiply_chain, 64, NULL},
    {"add", add, 64 + 2, NULL}, /* and the two that count the loop */
    {"nop", nop, 64 + 2, NULL},
    {"load", load, 64, NULL},
    {"prefetch", prefetch, 64, NULL},
    {"store", store, 64, NULL},
    {"branch", branch, 1, alternate},
    {"branch_random", branch, 1, toss},
    CHASES(CHASE_ROW)
};

const as_probe_loops as_probe_scalar = {loops, sizeof loops / sizeof *loops};
