/* Caches as numbers. Contract: replay.h. */
#include "replay.h"

#include <stddef.h>
#include <string.h>

static const uint64_t EMPTY = ~UINT64_C(0);

void as_replay_empty(as_replay *r)
{
    for (int l = 0; l < r->levels; ++l) {
        as_replay_level *level = &r->level[l];
        for (int64_t i = 0; i < level->instances * level->sets * level->ways; ++i)
            level->line[i] = EMPTY;
    }
}

static int array_of(const as_replay *r, uint64_t line)
{
    return (int)(line >> (AS_REPLAY_PLACE_BITS - r->line_bits));
}

static uint64_t *set_of(const as_replay_level *level, int instance, uint64_t line)
{
    const uint64_t sets = (uint64_t)level->sets;
    const uint64_t set = (sets & (sets - 1)) == 0 ? line & (sets - 1) : line % sets;
    return level->line + ((uint64_t)instance * sets + set) * (uint64_t)level->ways;
}

/* Whether this level holds the line itself, or one of its other sharers does. */
static int holds(const as_replay *r, const as_replay_level *level, uint64_t line)
{
    const int32_t share = level->share[array_of(r, line)];
    /* a number that differs between neighbours: the upper bits of a product (Knuth) */
    return share >= 65536 || (int32_t)(line * UINT64_C(0x9e3779b97f4a7c15) >> 48) < share;
}

/* Moves the entry at `way` to the front. */
static void to_front(uint64_t *set, int64_t way)
{
    const uint64_t entry = set[way];
    memmove(set + 1, set, (size_t)way * sizeof *set);
    set[0] = entry;
}

static int find(uint64_t *set, int64_t ways, uint64_t line, uint64_t dirty)
{
    if (set[0] >> 1 == line) {
        set[0] |= dirty;
        return 1;
    }
    for (int64_t w = 1; w < ways; ++w)
        if (set[w] >> 1 == line) {
            to_front(set, w);
            set[0] |= dirty;
            return 1;
        }
    return 0;
}

/* Takes the line out; returns whether it was there and dirty. */
static int take_out(uint64_t *set, int64_t ways, uint64_t line)
{
    for (int64_t w = 0; w < ways; ++w)
        if (set[w] >> 1 == line) {
            const int dirty = (int)(set[w] & 1);
            memmove(set + w, set + w + 1, (size_t)(ways - w - 1) * sizeof *set);
            set[ways - 1] = EMPTY;
            return dirty;
        }
    return 0;
}

/* Brings in a line that is not there; what it drives out and is dirty goes one level out. */
static void bring_in(as_replay *r, int l, int thread, uint64_t line, uint64_t dirty, int phase)
{
    for (; l < r->levels; ++l) {
        as_replay_level *level = &r->level[l];
        uint64_t *set = set_of(level, level->instance[thread], line);
        const uint64_t out = set[level->ways - 1];
        memmove(set + 1, set, (size_t)(level->ways - 1) * sizeof *set);
        set[0] = line << 1 | dirty;
        if (out == EMPTY || !(out & 1))
            return;
        line = out >> 1, dirty = 1;
        ++r->written[l][phase][array_of(r, line)];
        if (l + 1 == r->levels)
            return;
        const as_replay_level *next = &r->level[l + 1];
        if (!holds(r, next, line) ||
            find(set_of(next, next->instance[thread], line), next->ways, line, 1))
            return;
    }
}

static void out_of_others(as_replay *r, int thread, uint64_t line, int phase)
{
    for (int l = 0; l < r->levels; ++l) {
        as_replay_level *level = &r->level[l];
        for (int i = 0; i < level->instances; ++i)
            if (i != level->instance[thread] &&
                take_out(set_of(level, i, line), level->ways, line))
                ++r->written[l][phase][array_of(r, line)];
    }
}

static void missed(as_replay *r, int thread, uint64_t line, int phase, int touch)
{
    const int array = array_of(r, line);
    const uint64_t dirty = touch == AS_TOUCH_WRITE || touch == AS_TOUCH_UPDATE;
    int l = 0;
    do {
        if (l + 1 < r->levels || r->write_allocate || touch != AS_TOUCH_WRITE)
            ++r->fetched[l][phase][array];
        if (++l == r->levels)
            break;
    } while (holds(r, &r->level[l], line) &&
             !find(set_of(&r->level[l], r->level[l].instance[thread], line), r->level[l].ways,
                   line, 0));
    for (; l > 0; --l)
        bring_in(r, l - 1, thread, line, l == 1 ? dirty : 0, phase);
}

/* The touches that do not end in the thread's first level. */
static void around(as_replay *r, int thread, uint64_t line, int phase, int touch)
{
    const int last = touch == AS_TOUCH_PAST ? r->levels : r->first_shared;
    for (int l = 0; l < last; ++l)
        for (int i = 0; i < r->level[l].instances; ++i)
            take_out(set_of(&r->level[l], i, line), r->level[l].ways, line);
    if (touch == AS_TOUCH_PAST)
        ++r->written[r->levels - 1][phase][array_of(r, line)];
    else if (last < r->levels && holds(r, &r->level[last], line) &&
             !find(set_of(&r->level[last], r->level[last].instance[thread], line),
                   r->level[last].ways, line, 1))
        bring_in(r, last, thread, line, 1, phase);
}

static void touch_line(as_replay *r, int thread, uint64_t line, int phase, int touch)
{
    as_replay_level *first = &r->level[0];
    if (touch >= AS_TOUCH_PAST) {
        around(r, thread, line, phase, touch);
        return;
    }
    if (touch != AS_TOUCH_READ && r->together >> array_of(r, line) & 1)
        out_of_others(r, thread, line, phase);
    if (!find(set_of(first, first->instance[thread], line), first->ways, line,
              touch != AS_TOUCH_READ))
        missed(r, thread, line, phase, touch);
}

/* `last` is the line touched just before, which is not touched again. */
static int64_t touch_bytes(as_replay *r, int thread, uint64_t begin, int64_t bytes, int phase,
                           int touch, uint64_t *last)
{
    int64_t count = 0;
    if (bytes <= 0)
        return 0;
    const uint64_t end = (begin + (uint64_t)bytes - 1) >> r->line_bits;
    uint64_t line = begin >> r->line_bits;
    line += line == *last;
    for (; line <= end; ++line, ++count) touch_line(r, thread, line, phase, touch);
    *last = end;
    return count;
}

/* The least and the greatest of steps, rows and sides are within an array's places. */
static int fits(const as_segment *s, const as_replay_walk *w, int64_t low, int64_t high)
{
    const int64_t most = INT64_C(1) << (AS_REPLAY_PLACE_BITS - 3); /* so no sum overflows */
    const int64_t rows = s->rows > 0 ? s->rows - 1 : 0, steps = s->last - s->first;
    if (s->offset < 0 || s->offset > most || s->pitch < 0 || s->pitch > most || s->side_offset < 0 ||
        s->side_offset > most || s->rows < 0 || s->width < 0 || s->side_step < 0)
        return 0;
    if (rows * (double)s->pitch > (double)most || (double)steps * s->side_step > (double)most)
        return 0;
    for (int i = 0; i < s->sides; ++i)
        if (w->base[s->side + i] + s->side_offset + steps * s->side_step > 4 * most)
            return 0;
    const int64_t begin = w->base[s->array] + s->offset;
    return begin + low >= 0 && begin + high + rows * s->pitch + s->width <= 4 * most;
}

int64_t as_replay_check(const as_replay *r, const as_replay_walk *w, int64_t steps, int64_t low,
                        int64_t high)
{
    const int64_t most = INT64_C(1) << (AS_REPLAY_PLACE_BITS - 3);
    for (int a = 0; a < r->arrays; ++a)
        if (w->base[a] < 0 || w->base[a] > most)
            return 0;
    for (int64_t i = 0; i < w->segments; ++i) {
        const as_segment *s = &w->segment[i];
        if (s->array < 0 || s->array >= r->arrays || s->side < 0 || s->sides < 0 ||
            s->side + s->sides > r->arrays || s->phase < 0 || s->phase >= AS_REPLAY_PHASES ||
            s->touch < 0 || s->touch >= AS_TOUCHES || s->first < 0 || s->last > steps ||
            low < -most || high > most || !fits(s, w, low, high))
            return i;
    }
    return -1;
}

/* Where a thread is in its walk. */
typedef struct {
    const as_segment *segment, *end;
    int64_t step, time;
} place;

static uint64_t address(const as_replay_walk *w, int array, int64_t offset)
{
    return ((uint64_t)array << AS_REPLAY_PLACE_BITS) + (uint64_t)(w->base[array] + offset);
}

/* To the first step there is: walks may be empty. */
static void begin_segment(place *p)
{
    while (p->segment < p->end && p->segment->first >= p->segment->last) ++p->segment;
    if (p->segment < p->end)
        p->step = p->segment->first;
}

/* One step; returns the lines that it touched. */
static int64_t step(as_replay *r, int thread, const as_replay_walk *w, place *p)
{
    const as_segment *s = p->segment;
    int64_t count = 0;
    uint64_t last;
    const int64_t done = p->step - s->first;
    for (int i = 0; i < s->sides && s->side_step > 0; ++i) {
        last = EMPTY;
        count += touch_bytes(r, thread,
                             address(w, s->side + i, s->side_offset + done * s->side_step),
                             s->side_step, s->phase, AS_TOUCH_READ, &last);
    }
    last = EMPTY;
    const int64_t begin = s->offset + w->steps[p->step];
    for (int32_t i = 0; i < s->rows; ++i)
        count += touch_bytes(r, thread, address(w, s->array, begin + i * s->pitch), s->width,
                             s->phase, s->touch, &last);
    if (++p->step == s->last) {
        ++p->segment;
        begin_segment(p);
    }
    return count;
}

void as_replay_run(as_replay *r, const as_replay_walk *walk)
{
    place at[AS_REPLAY_THREADS];
    for (int t = 0; t < r->threads; ++t) {
        at[t] = (place){.segment = walk[t].segment, .end = walk[t].segment};
        if (walk[t].segments > 0)
            at[t].end += walk[t].segments;
        begin_segment(&at[t]);
    }
    for (;;) {
        int next = -1;
        int64_t until = INT64_MAX; /* when another one is due */
        for (int t = 0; t < r->threads; ++t) {
            if (at[t].segment == at[t].end)
                continue;
            if (next < 0 || at[t].time < at[next].time) {
                if (next >= 0)
                    until = at[next].time < until ? at[next].time : until;
                next = t;
            } else if (at[t].time < until) {
                until = at[t].time;
            }
        }
        if (next < 0)
            return;
        place *p = &at[next];
        do {
            const int64_t count = step(r, next, &walk[next], p);
            p->time += count;
            r->touched[next] += count;
        } while (p->segment != p->end && p->time <= until);
    }
}
