/* Caches as numbers: an address stream is replayed, and the lines that move are counted.
 *
 * No kernel uses this. Levels are set-associative with least-recently-used replacement, allocate on
 * every miss, and write back; a line that one level loses stays in the others (neither inclusive
 * nor exclusive). Threads take turns step by step, whoever has touched the fewest lines first.
 */
#ifndef ARCHSIM_REPLAY_H
#define ARCHSIM_REPLAY_H

#include <stdint.h>

enum { AS_REPLAY_LEVELS = 4, AS_REPLAY_THREADS = 64, AS_REPLAY_ARRAYS = 32, AS_REPLAY_PHASES = 3 };

/* An address holds its array in the bits from this one on, and a place of at most so many bits. */
enum { AS_REPLAY_PLACE_BITS = 44 };

/* AS_TOUCH_WRITE overwrites whole lines, AS_TOUCH_UPDATE does not; _PAST goes around all caches;
 * _ELSEWHERE is a write by a thread that is not replayed: the line leaves the replayed threads' own
 * levels, and is dirty in the first level that they share with it. */
enum as_touch {
    AS_TOUCH_READ,
    AS_TOUCH_WRITE,
    AS_TOUCH_UPDATE,
    AS_TOUCH_PAST,
    AS_TOUCH_ELSEWHERE,
    AS_TOUCHES
};

/* A walk: step j of [first, last) touches `rows` rows of `width` bytes, `pitch` bytes apart, from
 * offset + steps[j] of the array on, and before that reads the next `side_step` bytes, from
 * side_offset on, of each of the `sides` arrays that begin with `side`. */
typedef struct {
    int64_t offset, pitch, first, last, side_offset;
    int32_t rows, width, side_step;
    int16_t array, side, sides, phase;
    int32_t touch;
} as_segment;

/* One level. Thread t uses instance `instance[t]`. Of an array that more threads share than are
 * replayed, `share[array]` of 65536 lines are this level's own to hold: the others are found here,
 * because another one of its sharers has fetched them. */
typedef struct {
    int64_t sets, ways;
    int instances;
    int instance[AS_REPLAY_THREADS];
    int32_t share[AS_REPLAY_ARRAYS];
    uint64_t *line; /* instances * sets * ways: 2 * line + dirty, the latest first */
} as_replay_level;

typedef struct {
    int levels, threads, arrays;
    int line_bits;
    int write_allocate; /* of memory: a line that is to be overwritten is fetched first */
    int first_shared;   /* the first level that threads beyond the replayed ones share */
    uint64_t together;  /* bit a: several threads write array a, each level holds one copy */
    as_replay_level level[AS_REPLAY_LEVELS];
    int64_t touched[AS_REPLAY_THREADS]; /* lines, one after the other */
    /* over the boundary outside each level */
    int64_t fetched[AS_REPLAY_LEVELS][AS_REPLAY_PHASES][AS_REPLAY_ARRAYS];
    int64_t written[AS_REPLAY_LEVELS][AS_REPLAY_PHASES][AS_REPLAY_ARRAYS];
} as_replay;

/* What a thread walks: `base[a]` is where array a begins, without the array's bits. */
typedef struct {
    const as_segment *segment;
    int64_t segments;
    const int64_t *steps;
    const int64_t *base;
} as_replay_walk;

/* Empties all levels; `line` of each is allocated by the caller. */
void as_replay_empty(as_replay *replay);

/* Index of a segment that names an array, a step or a place that there is not; -1: none. `steps` are
 * the entries of walk->steps, of which `low` and `high` are the least and the greatest. */
int64_t as_replay_check(const as_replay *replay, const as_replay_walk *walk, int64_t steps,
                        int64_t low, int64_t high);

/* Runs one walk a thread (segments may be 0) to the end; all are checked. */
void as_replay_run(as_replay *replay, const as_replay_walk *walk);

#endif
