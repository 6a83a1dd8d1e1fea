/* Caches as numbers, against a cache that remembers when each line was touched last. */
#include "replay.h"

#include "check.h"

enum { LINES = 300, TOUCHES = 4000, WALKS = 200 };

/* Misses of one level: of a set's lines those that were touched last are there. */
static int64_t misses(const int64_t *line, int64_t count, int64_t sets, int64_t ways)
{
    int64_t last[LINES], missed = 0;
    for (int64_t i = 0; i < LINES; ++i) last[i] = -1;
    for (int64_t i = 0; i < count; ++i) {
        int64_t since = 0; /* other lines of the set since the last touch */
        for (int64_t other = line[i] % sets; other < LINES; other += sets)
            since += last[other] > last[line[i]];
        missed += last[line[i]] < 0 || since >= ways;
        last[line[i]] = i;
    }
    return missed;
}

static void level_of(as_replay *r, int l, int64_t sets, int64_t ways, int instances)
{
    as_replay_level *level = &r->level[l];
    level->sets = sets, level->ways = ways, level->instances = instances;
    for (int a = 0; a < r->arrays; ++a) level->share[a] = (int32_t)check_from(1, 65536);
    for (int t = 0; t < r->threads; ++t) level->instance[t] = t % instances;
    level->line = check_zeros(instances * sets * ways * (int64_t)sizeof(uint64_t), 1);
}

static void one_level(void)
{
    as_replay *r = check_zeros(sizeof *r, 1);
    as_segment *segment = check_zeros(TOUCHES * sizeof *segment, 1);
    int64_t line[TOUCHES];
    const int64_t zero = 0, sets = check_from(1, 40), ways = check_from(1, 9);
    *r = (as_replay){.levels = 1, .threads = 1, .arrays = 1, .line_bits = 6, .write_allocate = 1,
                     .first_shared = 1};
    level_of(r, 0, sets, ways, 1);
    r->level[0].share[0] = 65536;
    for (int64_t i = 0; i < TOUCHES; ++i) {
        line[i] = check_below(2) ? check_below(LINES) : check_below(20);
        segment[i] = (as_segment){.offset = 64 * line[i] + check_below(60), .last = 1, .rows = 1,
                                  .width = 4, .touch = (int32_t)check_below(3)};
    }
    const as_replay_walk walk = {segment, TOUCHES, &zero, &zero};
    check_case("replay of one level, %lld sets of %lld", (long long)sets, (long long)ways);
    check_that(as_replay_check(r, &walk, 1, 0, 0) == -1, "all segments are right");
    as_replay_empty(r);
    as_replay_run(r, &walk);
    check_that(r->fetched[0][0][0] == misses(line, TOUCHES, sets, ways), "misses");
    check_that(r->written[0][0][0] <= r->fetched[0][0][0], "write-backs");
    check_that(r->touched[0] == TOUCHES, "touches");
    check_release();
}

/* Whatever passes the check must not leave the arrays; the outer levels fetch no more. */
static void anything(void)
{
    as_replay *r = check_zeros(sizeof *r, 1);
    const int threads = (int)check_from(1, 6);
    *r = (as_replay){.levels = (int)check_from(1, AS_REPLAY_LEVELS), .threads = threads,
                     .arrays = (int)check_from(1, AS_REPLAY_ARRAYS), .line_bits = 6,
                     .write_allocate = (int)check_below(2), .together = (uint64_t)check_below(8)};
    r->first_shared = (int)check_from(0, r->levels);
    for (int l = 0; l < r->levels; ++l)
        level_of(r, l, check_from(1, 9), check_from(1, 5), l ? 1 : threads);
    int64_t steps[4], base[AS_REPLAY_ARRAYS];
    for (int i = 0; i < 4; ++i) steps[i] = check_below(5000);
    for (int a = 0; a < AS_REPLAY_ARRAYS; ++a) base[a] = check_below(100000);
    as_replay_walk walk[AS_REPLAY_THREADS];
    check_case("replay of %d levels, %d threads", r->levels, threads);
    for (int t = 0; t < threads; ++t) {
        const int64_t count = check_below(WALKS);
        as_segment *segment = check_zeros((count + 1) * (int64_t)sizeof *segment, 1);
        for (int64_t i = 0; i < count; ++i)
            segment[i] = (as_segment){
                .offset = check_below(9000), .pitch = check_below(700), .first = check_below(4),
                .last = check_from(0, 4), .rows = (int32_t)check_below(4),
                .width = (int32_t)check_below(300), .side_offset = check_below(900),
                .side_step = (int32_t)check_below(9), .array = (int16_t)check_below(r->arrays),
                .sides = (int16_t)check_below(2), .phase = (int16_t)check_below(AS_REPLAY_PHASES),
                .touch = (int32_t)check_below(AS_TOUCHES)};
        walk[t] = (as_replay_walk){segment, count, steps, base};
        check_that(as_replay_check(r, &walk[t], 4, 0, 5000) == -1, "all segments are right");
        segment[count] = (as_segment){.last = 5};
        walk[t].segments = count + 1;
        check_that(as_replay_check(r, &walk[t], 4, 0, 5000) == count, "a step too far");
        walk[t].segments = count;
    }
    as_replay_empty(r);
    as_replay_run(r, walk);
    as_replay_run(r, walk);
    int64_t inner = 0, outer = 0;
    for (int p = 0; p < AS_REPLAY_PHASES; ++p)
        for (int a = 0; a < r->arrays; ++a) {
            inner += r->fetched[0][p][a];
            outer += r->fetched[r->levels - 1][p][a];
        }
    check_that(outer <= inner, "an outer level is asked only for what the inner ones miss");
    check_release();
}

void check_replay(void)
{
    for (int i = 0; i < 20; ++i) one_level();
    for (int i = 0; i < 200; ++i) anything();
}
