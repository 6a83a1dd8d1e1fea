/* The table's kernels of a set are those that were compiled for it. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "isa_list.h"

/* Weak: NULL where this build lacks the set. */
#define DECLARE(name, lanes, registers, fma)                                                      \
    extern const as_direct_row_kernels as_f32_direct_row__##name __attribute__((weak));           \
    extern const as_lowered_kernels as_f32_lowered__##name __attribute__((weak));                 \
    extern const as_dense_direct_kernels as_f32_dense_direct__##name __attribute__((weak));       \
    extern const as_direct_lanes_kernels as_f32_direct_lanes__##name __attribute__((weak));       \
    extern const as_direct_shifts_kernels as_f32_direct_shifts__##name __attribute__((weak));     \
    extern const as_fc_kernels as_f32_fc__##name __attribute__((weak));                           \
    extern const as_winograd_kernels as_f32_winograd__##name __attribute__((weak));               \
    extern const as_copy_fn as_f32_copy__##name __attribute__((weak));
AS_ISA_LIST(DECLARE)

#define CHECK(set, lanes_, registers_, fma_)                                                      \
    {                                                                                             \
        const as_isa *isa = as_isa_at(AS_ISA_##set);                                              \
        check_case("table of %s", #set);                                                          \
        check_that(strcmp(isa->name, #set) == 0, "name");                                         \
        check_that(isa->lanes == (lanes_) && isa->registers == (registers_), "sizes");            \
        check_that(isa->direct_row == &as_f32_direct_row__##set, "row kernels");                  \
        check_that(isa->lowered == &as_f32_lowered__##set, "lowered kernels");                    \
        check_that(isa->dense_direct == &as_f32_dense_direct__##set, "dense kernels");            \
        check_that(isa->direct_lanes == &as_f32_direct_lanes__##set, "lanes kernels");            \
        check_that(isa->direct_shifts == &as_f32_direct_shifts__##set, "shifts kernels");         \
        check_that(isa->fc == &as_f32_fc__##set, "fully connected kernels");                      \
        check_that(isa->winograd == &as_f32_winograd__##set, "Winograd kernels");                 \
        check_that(isa->copy == &as_f32_copy__##set, "copy of rows");                             \
        check_that(as_isa_built(AS_ISA_##set) == (isa->direct_row != NULL), "built");             \
        check_that(!as_isa_supported(AS_ISA_##set) || isa->direct_row != NULL, "supported");      \
    }

void check_dispatch(void)
{
    AS_ISA_LIST(CHECK)
}
