/* The microkernels of the lanes schedules; contracts in lanes.h. */
#include <math.h>

#include "check.h"

/* ---- register blocks ---- */

/* `from`: what the sums of the lists were before, `size` floats each, or NULL. */
static int tile_is_right(const as_lanes_tile *t, int lanes, int64_t vectors, int64_t size,
                         const float *from)
{
    const int64_t row = vectors * lanes, used = t->last_lanes ? lanes - t->last_lanes : 0;
    int right = 1;
    for (int64_t k = 0; k < t->lists; ++k)
        for (int64_t i = 0; i < size - used; ++i) {
            double sum = from ? from[k * size + i] : t->start[k], magnitude = fabs(sum);
            for (int64_t j = t->ptr[k]; j < t->ptr[k + 1]; ++j) {
                const float *in = t->in + t->off[j] / (int64_t)sizeof(float);
                const double x = in[i / row * t->in_pitch + i % row] * (double)t->val[j];
                sum += x, magnitude += fabs(x);
            }
            right &= check_is_near(t->to[k * t->to_step + i], t->relu && sum < 0.0 ? 0.0 : sum,
                                   magnitude, t->ptr[k + 1] - t->ptr[k]);
        }
    return right;
}

/* Lists of up to 5 nonzeros, and what the loop reads behind them. Returns how many there are. */
static int64_t make_lists(as_lanes_tile *t, int64_t lists, int64_t step)
{
    int64_t *ptr = check_zeros((lists + 1) * (int64_t)sizeof(int64_t), 0);
    for (int64_t k = 0; k < lists; ++k) ptr[k + 1] = ptr[k] + check_below(6);
    const int64_t n = ptr[lists];
    int32_t *off = check_zeros((n + AS_LANES_AHEAD) * (int64_t)sizeof(int32_t), 0);
    for (int64_t j = 0; j < n; ++j) off[j] = (int32_t)(j * step * (int64_t)sizeof(float));
    t->ptr = ptr, t->lists = lists, t->off = off, t->val = check_floats(n, 0);
    t->start = check_floats(lists, 0);
    return n;
}

/* begin: 0 the start, 1 from `to`, 2 from elsewhere; last_lanes 0: out is in lane layout. */
static void run_tile(const as_isa *isa, int rows, int vectors, int last_lanes, int64_t lists,
                     int begin)
{
    const int64_t lanes = isa->lanes, pitch = (vectors + check_below(3)) * lanes;
    const int64_t size = rows * vectors * lanes, used = last_lanes ? lanes - last_lanes : 0;
    as_lanes_tile t = {.in_pitch = pitch, .relu = (int)check_below(2), .last_lanes = last_lanes,
                       .past_caches = (int)check_below(2), .from_step = size,
                       .to_step = last_lanes ? size - used + check_below(3)
                                             : size + check_below(2) * lanes};
    const int64_t n = make_lists(&t, lists, rows * pitch);
    float *in = check_floats(n * rows * pitch, 1), *before = check_floats(lists * size, 1);
    t.in = in;
    t.to = check_floats(lists ? (lists - 1) * t.to_step + size - used : 0, last_lanes == 0);
    if (begin == 1 && last_lanes == 0) {
        t.from = t.to, t.from_step = t.to_step;
        for (int64_t i = 0; i < lists * size; ++i)
            before[i] = t.to[i / size * t.to_step + i % size];
    } else if (begin) {
        t.from = before;
    }
    if (n > 0 && check_below(4) == 0)
        in[0] = NAN;
    check_case("%s lanes tile %dx%d, %d lanes, %d lists, begin %d", isa->name, rows, vectors,
               last_lanes, (int)lists, begin);
    isa->direct_lanes->tile[rows][vectors](&t);
    check_that(tile_is_right(&t, isa->lanes, vectors, size, t.from ? before : NULL), "sums");
    check_release();
}

static void check_tiles(const as_isa *isa)
{
    int count = 0, fit = 0;
    for (int rows = 1; rows < AS_TILE_SIDE; ++rows)
        for (int vectors = 1; vectors < AS_TILE_SIDE; ++vectors) {
            if (isa->direct_lanes->tile[rows][vectors] == NULL)
                continue;
            ++count;
            for (int begin = 0; begin < 3; ++begin) {
                run_tile(isa, rows, vectors, 0, 1 + begin, begin);
                if (rows > 1) /* pixels are one row */
                    continue;
                for (int last = 1; last <= isa->lanes; ++last)
                    run_tile(isa, rows, vectors, last, check_below(4), begin);
            }
        }
    for (int rows = 1; rows <= isa->registers - 2; ++rows) fit += (isa->registers - 2) / rows;
    check_case("%s lanes tiles", isa->name);
    check_that(count == fit, "not each that fits the registers exists");
}

/* ---- conversions ---- */

static void run_in(const as_isa *isa, int64_t count)
{
    enum { OVER_READ = 3 };
    const int64_t lanes = isa->lanes;
    int64_t *start = check_zeros(lanes * (int64_t)sizeof(int64_t), 0), end = 0;
    for (int64_t l = 0; l < lanes; ++l) {
        start[l] = check_below(50);
        if (start[l] + count > end)
            end = start[l] + count;
    }
    const float *from = check_floats(end + OVER_READ, 0);
    float *to = check_floats(count * lanes, 1);
    check_case("%s %d positions into lanes", isa->name, (int)count);
    isa->direct_lanes->in(from, start, count, to);
    int right = 1;
    for (int64_t i = 0; i < count * lanes; ++i)
        right &= to[i] == from[start[i % lanes] + i / lanes];
    check_that(right, "values");
    check_release();
}

/* Pieces of random lanes, bits and places, ordered by lane; places do not meet. */
static void run_out(const as_isa *isa, int64_t positions, int used)
{
    const int64_t lanes = isa->lanes, most = 3 * lanes;
    as_lanes_piece *piece = check_zeros(most * (int64_t)sizeof(as_lanes_piece), 0);
    const int64_t whole = (positions + 3) / 4 * 4;
    const float *from = check_floats(whole * lanes, 1);
    float *out = check_floats(most * lanes, 0), *right_out = check_floats(most * lanes, 0);
    int64_t count = 0;
    for (int64_t i = 0; i < most * lanes; ++i) right_out[i] = out[i];
    for (int l = 0; l < lanes; ++l)
        for (int64_t k = check_below(4); k > 0; --k) {
            const uint32_t bits = (uint32_t)check_below((int64_t)1 << positions);
            const int64_t place = count * lanes + check_below(lanes - positions + 1);
            piece[count++] = (as_lanes_piece){.place = place, .lane = l, .bits = bits};
            for (int64_t i = 0; i < positions && l < used; ++i)
                if (bits >> i & 1u)
                    right_out[place + i] = from[i * lanes + l];
        }
    check_case("%s %d positions out of %d lanes", isa->name, (int)positions, used);
    isa->direct_lanes->out(from, positions, piece, count, used, out);
    int right = 1;
    for (int64_t i = 0; i < most * lanes; ++i) right &= out[i] == right_out[i];
    check_that(right, "values");
    check_release();
}

/* Orders name any lanes, or none; lanes that no order names hold NaN. */
static void run_spread(const as_isa *isa, int64_t count)
{
    enum { VECTORS = 6, ORDERS = 3 };
    const int64_t lanes = isa->lanes, places = count + check_below(3);
    as_lanes_move *move = check_zeros(count * (int64_t)sizeof *move, 0);
    int32_t *order = check_zeros(ORDERS * lanes * (int64_t)sizeof *order, 0);
    float *from = check_floats(VECTORS * lanes, 1);
    float *to = check_floats(places * lanes, 1), *right_to = check_floats(places * lanes, 0);
    for (int64_t i = 0; i < ORDERS * lanes; ++i) order[i] = (int32_t)check_from(-1, lanes - 1);
    for (int64_t i = 0; i < places * lanes; ++i) right_to[i] = to[i];
    from[check_below(VECTORS * lanes)] = NAN;
    for (int64_t i = 0; i < count; ++i) { /* each goes elsewhere, the last one first */
        move[i] = (as_lanes_move){.from = (int32_t)(check_below(VECTORS) * lanes),
                                  .to = (int32_t)((places - 1 - i) * lanes),
                                  .order = (int32_t)(check_below(ORDERS) * lanes)};
        for (int64_t l = 0; l < lanes; ++l) {
            const int32_t lane = order[move[i].order + l];
            right_to[move[i].to + l] = lane < 0 ? 0.0f : from[move[i].from + lane];
        }
    }
    check_case("%s %d moves", isa->name, (int)count);
    isa->direct_lanes->spread(from, move, count, order, to);
    int right = 1;
    for (int64_t i = 0; i < places * lanes; ++i)
        right &= isnan(right_to[i]) ? isnan(to[i]) : to[i] == right_to[i];
    check_that(right, "values");
    check_release();
}

static void run_pick(const as_isa *isa, int64_t step, int64_t count)
{
    const float *from = check_floats((count - 1) * step + 1, 0);
    float *to = check_floats(count, 0);
    check_case("%s picks %d, step %d", isa->name, (int)count, (int)step);
    isa->direct_lanes->pick(from, step, count, to);
    int right = 1;
    for (int64_t i = 0; i < count; ++i) right &= to[i] == from[i * step];
    check_that(right, "values");
    check_release();
}

static void run_roof(const as_isa *isa)
{
    enum { COUNT = 24, REPEATS = 3 };
    const float *from = check_floats(COUNT * isa->lanes, 0);
    float sum;
    double right = 0.0, magnitude = 0.0;
    for (int i = 0; i < COUNT * isa->lanes; ++i)
        right += 0.5 * REPEATS * from[i], magnitude += 0.5 * REPEATS * fabs(from[i]);
    check_case("%s load roof", isa->name);
    isa->direct_lanes->roof(from, COUNT, REPEATS, &sum);
    check_that(check_is_near(sum, right, magnitude, COUNT * REPEATS * isa->lanes), "sum");
    check_release();
}

void check_lanes_tiles(const as_isa *isa)
{
    check_tiles(isa);
    for (int64_t count = 1; count < 10; ++count) run_in(isa, count);
    for (int64_t positions = 1; positions <= isa->lanes; ++positions)
        for (int used = 1; used <= isa->lanes; ++used) run_out(isa, positions, used);
    for (int64_t count = 0; count < 20; ++count) run_spread(isa, count);
    for (int64_t step = 1; step < 6; ++step)
        for (int64_t count = 1; count < 40; count += 3) run_pick(isa, step, count);
    run_roof(isa);
}
