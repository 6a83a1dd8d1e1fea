/* The loops of probe.h stay inside their memory, keep what they must keep, and are timed. */
#include <string.h>

#include "check.h"
#include "pool.h"

enum { SIZE = 2 * AS_PROBE_LEAST, SAMPLES = 2 };

static void run_loops(const as_probe_loops *loops, as_probe *probe, const char *set)
{
    for (int i = 0; i < loops->count; ++i) {
        const as_probe_loop *loop = &loops->loop[i];
        const int chases = strncmp(loop->name, "chase", 5) == 0;
        const int steps = strncmp(loop->name, "branch", 6) == 0 ? AS_PROBE_LEAST : 70;
        check_case("%s: %s", set, loop->name);
        probe->bytes = SIZE, probe->position = 0;
        probe->offset = AS_PROBE_PAGE - 4; /* the farthest that loads may begin */
        if (chases)
            as_probe_link(probe, SIZE / AS_PROBE_LINE, loop->operations);
        double times[SAMPLES * AS_PROBE_TIMES];
        as_probe_time(loop, probe, steps, 3, SAMPLES, times);
        int good = 1;
        for (int j = 0; j < SAMPLES * AS_PROBE_TIMES; ++j) good &= times[j] >= 0.0;
        check_that(good, "times are not negative");
        check_that(0 <= probe->position && probe->position < probe->bytes, "inside its memory");
        probe->offset = 0;
    }
}

/* Every line is on the cycle once, and the chases begin evenly apart. */
static void check_links(as_probe *probe, int64_t lines, int chases)
{
    check_case("%lld lines, %d chases", (long long)lines, chases);
    as_probe_link(probe, lines, chases);
    char *at = probe->at[0];
    int64_t steps = 0, met = 1, apart = 1, last = 0;
    do {
        at = *(void **)at;
        ++steps;
        if (met < chases && at == probe->at[met]) {
            apart &= steps - last >= lines / chases && steps - last <= lines / chases + 1;
            last = steps, ++met;
        }
    } while (at != probe->at[0] && steps <= lines);
    check_that(steps == lines, "one cycle through all lines");
    check_that(met == chases && apart, "chases begin evenly apart");
}

static void check_update(const as_probe_loops *loops, as_probe *probe)
{
    for (int i = 0; i < loops->count; ++i) {
        if (strcmp(loops->loop[i].name, "update") != 0)
            continue;
        check_case("update");
        as_probe_link(probe, SIZE / AS_PROBE_LINE, 1);
        const uint64_t before = *(uint64_t *)probe->memory;
        probe->bytes = SIZE, probe->position = 0;
        loops->loop[i].run(probe, SIZE / AS_PROBE_BLOCK);
        check_that(*(uint64_t *)probe->memory == before && probe->position == 0,
                   "a walk comes back to its begin and changes nothing");
    }
}

void check_probes(const as_isa *isa)
{
    as_probe *probe = check_zeros(sizeof *probe, 1);
    probe->memory = check_zeros(SIZE, 1);
    probe->size = SIZE;
    probe->random = 1;
    run_loops(&as_probe_scalar, probe, "scalar");
    run_loops(isa->probe, probe, isa->name);
    check_update(isa->probe, probe);
    for (int64_t lines = 1; lines <= 70; ++lines)
        for (int chases = 1; chases <= lines && chases <= AS_PROBE_CHASES; chases += 3)
            check_links(probe, lines, chases);
    check_links(probe, SIZE / AS_PROBE_LINE, AS_PROBE_CHASES);
    check_release();

    check_case("threads");
    as_probe own[2], *const team[] = {&own[0], &own[1]};
    const int got = as_probe_init(&own[0], AS_PROBE_LEAST) | as_probe_init(&own[1], AS_PROBE_LEAST);
    check_that(got == AS_OK, "there is memory");
    if (got != AS_OK)
        return;
    double times[SAMPLES * 2 * AS_PROBE_TEAM_TIMES], seconds[SAMPLES];
    const as_probe_loop *last = &isa->probe->loop[isa->probe->count - 1];
    check_that(as_probe_time_team(last, team, 2, 5, SAMPLES, times) == AS_OK, "a team is timed");
    for (int i = 0; i < SAMPLES * 2; ++i)
        check_that(times[i * AS_PROBE_TEAM_TIMES] <= times[i * AS_PROBE_TEAM_TIMES + 1],
                   "it begins before it ends");
    check_that(as_probe_barriers(2, 3, SAMPLES, seconds) == AS_OK && seconds[1] > 0.0, "barriers");
    as_probe_free(&own[0]);
    as_probe_free(&own[1]);
}
