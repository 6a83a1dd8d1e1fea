/* The register blocks of the row schedule and of lowering; contracts in microkernels.h. */
#include <math.h>

#include "check.h"

/* Nonzeros of a tile: each has its own `step` floats of `in`; `ahead` offsets follow. */
typedef struct {
    int64_t n, step;
    int32_t *off;
    float *val;
} nonzeros;

static nonzeros make_nonzeros(int64_t n, int64_t step, int64_t ahead)
{
    nonzeros z = {n, step, check_zeros((n + ahead) * (int64_t)sizeof(int32_t), 0),
                  check_floats(n, 0)};
    for (int64_t j = 0; j < n; ++j) z.off[j] = (int32_t)(j * step);
    return z;
}

/* ---- row ---- */

typedef struct {
    int64_t rows, columns;
    nonzeros z;
    as_row_tile tile;
} row_case;

static int row_is_right(const row_case *c, const float *from)
{
    const as_row_tile *t = &c->tile;
    int right = 1;
    for (int64_t h = 0; h < c->rows; ++h)
        for (int64_t w = 0; w < c->columns; ++w) {
            double sum = from ? from[h * t->from_pitch + w] : t->start[0], magnitude = fabs(sum);
            for (int64_t j = t->ptr[0]; j < t->ptr[1]; ++j) {
                const double x = t->in[t->off[j] + h * t->in_pitch + w] * (double)t->val[j];
                sum += x, magnitude += fabs(x);
            }
            if (t->relu && sum < 0.0)
                sum = 0.0;
            right &= check_is_near(t->to[h * t->to_pitch + w], sum, magnitude, c->z.n);
        }
    return right;
}

/* Lanes that do not count hold NaN; columns of `to` that do not count must stay as they are. */
static void run_row_tile(const as_isa *isa, int rows, int vectors, int last_lanes, int64_t n,
                         int begin)
{
    const int64_t width = vectors * isa->lanes, columns = width - isa->lanes + last_lanes;
    const int64_t pitch = width + check_below(3), to_pitch = columns + check_below(3);
    const int64_t step = (rows - 1) * pitch + width, to_size = (rows - 1) * to_pitch + columns;
    row_case c = {.rows = rows, .columns = columns, .z = make_nonzeros(n, step, AS_ROW_AHEAD)};
    float *in = check_floats(n * step, 0), *to = check_floats(to_size, 0);
    float *copy = check_zeros(to_size * (int64_t)sizeof(float), 0);
    for (int64_t i = 0; i < n * step; ++i)
        if (i % step % pitch >= columns)
            in[i] = NAN;
    if (n > 0 && check_below(4) == 0)
        in[0] = NAN; /* the first output is */
    for (int64_t i = 0; i < to_size; ++i) copy[i] = to[i];
    int64_t *ptr = check_zeros(2 * (int64_t)sizeof(int64_t), 0);
    ptr[1] = n;
    c.tile = (as_row_tile){.in = in, .in_pitch = pitch, .ptr = ptr, .lists = 1, .off = c.z.off,
                           .val = c.z.val, .next = check_below(2) ? in : NULL,
                           .from = begin == 0 ? NULL : begin == 1 ? to : copy,
                           .from_pitch = to_pitch, .start = check_floats(1, 0),
                           .relu = (int)check_below(2), .to = to, .to_pitch = to_pitch,
                           .last_lanes = last_lanes};
    check_case("%s row tile %dx%d, %d lanes, %d nonzeros, begin %d", isa->name, rows, vectors,
               last_lanes, (int)n, begin);
    isa->direct_row->tile[rows][vectors](&c.tile);
    check_that(row_is_right(&c, begin ? copy : NULL), "sums");
    int kept = 1;
    for (int64_t i = 0; i < to_size; ++i)
        kept &= i % to_pitch < columns || to[i] == copy[i];
    check_that(kept, "wrote between rows");
    check_release();
}

static void check_row_tiles(const as_isa *isa)
{
    int count = 0;
    for (int rows = 1; rows < AS_TILE_SIDE; ++rows)
        for (int vectors = 1; vectors < AS_TILE_SIDE; ++vectors) {
            if (isa->direct_row->tile[rows][vectors] == NULL)
                continue;
            ++count;
            const int lanes[] = {1, isa->lanes - 1, isa->lanes};
            for (int i = 0; i < 3; ++i)
                for (int begin = 0; begin < 3; ++begin)
                    run_row_tile(isa, rows, vectors, lanes[i], (i + begin) % 3 * 2, begin);
        }
    check_case("%s row tiles", isa->name);
    int fit = 0;
    for (int rows = 1; rows <= isa->registers - 2; ++rows) fit += (isa->registers - 2) / rows;
    check_that(count == fit, "not each that fits the registers exists");
}

static void run_pixel(const as_isa *isa, int64_t channels, int64_t parts)
{
    const int64_t part_step = channels + check_below(3), lists = parts * part_step;
    const int64_t out_step = 1 + check_below(3), size = 40;
    int64_t *ptr = check_zeros((lists + 1) * (int64_t)sizeof(int64_t), 0);
    for (int64_t l = 0; l < lists; ++l) ptr[l + 1] = ptr[l] + check_below(4);
    nonzeros z = make_nonzeros(ptr[lists], 0, 0);
    for (int64_t j = 0; j < z.n; ++j) z.off[j] = (int32_t)check_below(size);
    const as_row_pixel p = {.in = check_floats(size, 0), .ptr = ptr, .parts = parts,
                            .part_step = part_step, .off = z.off, .val = z.val,
                            .bias = check_floats(channels, 0), .relu = (int)check_below(2),
                            .channels = channels, .out_step = out_step,
                            .out = check_floats((channels - 1) * out_step + 1, 0)};
    check_case("%s pixel of %d channels, %d parts", isa->name, (int)channels, (int)parts);
    isa->direct_row->pixel(&p);
    int right = 1;
    for (int64_t k = 0; k < channels; ++k) {
        double sum = p.bias[k], magnitude = fabs(sum);
        for (int64_t i = 0; i < parts; ++i)
            for (int64_t j = ptr[k + i * part_step]; j < ptr[k + i * part_step + 1]; ++j) {
                const double x = z.val[j] * (double)p.in[z.off[j]];
                sum += x, magnitude += fabs(x);
            }
        right &= check_is_near(p.out[k * out_step], p.relu && sum < 0.0 ? 0.0 : sum, magnitude,
                               3 * parts);
    }
    check_that(right, "sums");
    check_release();
}

/* ---- lowered ---- */

/* `n` entries of `taps` rows each. */
static void run_lowered_tile(const as_isa *isa, int vectors, int last_lanes, int64_t n,
                             int64_t taps)
{
    const int64_t width = vectors * isa->lanes, columns = width - isa->lanes + last_lanes;
    nonzeros z = make_nonzeros(n, taps * width, AS_LOWERED_AHEAD);
    const float *val = taps == 1 ? z.val : check_floats(n * taps, 0);
    float *in = check_floats(n * taps * width, 1);
    for (int64_t i = 0; i < n * taps * width; ++i)
        if (i % width >= columns)
            in[i] = NAN;
    const as_lowered_tile t = {.in = in, .off = z.off, .val = val, .n = n, .taps = taps,
                               .pitch = width, .start = check_value(),
                               .from = check_below(2) ? check_floats(width, 1) : NULL,
                               .relu = (int)check_below(2),
                               .to = check_floats(columns, 0), .last_lanes = last_lanes};
    check_case("%s lowered tile of %d vectors, %d lanes, %d entries of %d", isa->name, vectors,
               last_lanes, (int)n, (int)taps);
    isa->lowered->tile[vectors](&t);
    int right = 1;
    for (int64_t i = 0; i < columns; ++i) {
        double sum = t.from ? t.from[i] : t.start, magnitude = fabs(sum);
        for (int64_t j = 0; j < n * taps; ++j) {
            const double x = val[j] * (double)in[z.off[j / taps] + j % taps * width + i];
            sum += x, magnitude += fabs(x);
        }
        right &= check_is_near(t.to[i], t.relu && sum < 0.0 ? 0.0 : sum, magnitude, n * taps);
    }
    check_that(right, "sums");
    check_release();
}

static void check_lowered_tiles(const as_isa *isa)
{
    int count = 0;
    for (int vectors = 1; vectors < AS_TILE_SIDE; ++vectors) {
        if (isa->lowered->tile[vectors] == NULL)
            continue;
        ++count;
        for (int lanes = 1; lanes <= isa->lanes; ++lanes)
            for (int64_t n = 0; n < 4; ++n) {
                run_lowered_tile(isa, vectors, lanes, n, 1);
                run_lowered_tile(isa, vectors, lanes, n, check_from(2, 5));
            }
    }
    check_case("%s lowered tiles", isa->name);
    check_that(count == isa->registers - 2, "not each that fits the registers exists");
}

/* The pixels of a block of outputs, first one `first`, of a kernel at (tap_y, tap_x). */
typedef struct {
    int64_t floats, first; /* of a picture; the first pixel, if they are neighbours */
    int32_t before;        /* what places are less: some lie before the picture */
} fill_walk;

/* Where pixels stand, and which of them are in the picture at each tap: any in bits of their own. */
static void place_pixels(const fill_walk *w, const as_lowered_fill *f, int lanes, int32_t *place,
                         int32_t *tap, uint16_t *inside)
{
    for (int64_t i = 0; i < f->vectors * lanes; ++i)
        place[i] = (int32_t)(f->neighbours ? w->first + i : check_below(w->floats)) - w->before;
    for (int64_t t = 0; t < f->taps; ++t) {
        tap[t] = (int32_t)check_below(w->floats);
        for (int64_t i = 0; i < f->vectors * lanes; ++i) {
            const int64_t at = (int64_t)place[i] + tap[t];
            if (0 <= at && at < w->floats && check_below(4))
                inside[t * f->inside_step + i / lanes] |= (uint16_t)(1u << i % lanes);
        }
    }
}

static int fill_is_right(const as_lowered_fill *f, int lanes)
{
    int right = 1;
    for (int64_t c = 0; c < f->channels; ++c)
        for (int64_t t = 0; t < f->taps; ++t)
            for (int64_t i = 0; i < f->vectors * lanes; ++i) {
                const int there = f->inside[t * f->inside_step + i / lanes] >> i % lanes & 1;
                const int64_t at = c * f->in_step + f->place[i] + f->tap[t];
                right &= f->to[(c * f->taps + t) * f->to_step + i] == (there ? f->in[at] : 0.0f);
            }
    return right;
}

static void run_fill(const as_isa *isa, int vectors, int neighbours)
{
    const int lanes = isa->lanes;
    const int64_t room = vectors * lanes;
    const fill_walk w = {.floats = check_from(1, 200), .first = check_below(30),
                         .before = (int32_t)check_below(40)};
    as_lowered_fill f = {.in_step = w.floats + check_below(3), .channels = check_below(4),
                         .inside_step = vectors + check_below(3), .taps = check_from(1, 6),
                         .neighbours = neighbours, .vectors = vectors,
                         .to_step = room + check_below(3) * lanes};
    int32_t *place = check_zeros(room * (int64_t)sizeof(int32_t), 0);
    int32_t *tap = check_zeros(f.taps * (int64_t)sizeof(int32_t), 0);
    const int64_t bits = (f.taps - 1) * f.inside_step + vectors;
    uint16_t *inside = check_zeros(bits * (int64_t)sizeof(uint16_t), 0);
    place_pixels(&w, &f, lanes, place, tap, inside);
    f.place = place, f.tap = tap, f.inside = inside;
    f.in = check_floats(f.channels ? (f.channels - 1) * f.in_step + w.floats : 0, 0);
    f.to = check_floats(f.channels ? (f.channels * f.taps - 1) * f.to_step + room : 0, 1);
    check_case("%s lowered fill of %d vectors, %d taps, neighbours %d", isa->name, vectors,
               (int)f.taps, neighbours);
    isa->lowered->fill(&f);
    check_that(fill_is_right(&f, lanes), "pixels");
    check_release();
}

static void check_lowered_fills(const as_isa *isa)
{
    enum { ROUNDS = 20 };
    for (int vectors = 1; vectors <= isa->registers - 2; ++vectors)
        for (int i = 0; i < ROUNDS; ++i) run_fill(isa, vectors, i % 2);
}

void check_sparse_tiles(const as_isa *isa)
{
    check_row_tiles(isa);
    for (int64_t channels = 1; channels < 6; ++channels)
        for (int64_t parts = 1; parts < 4; ++parts) run_pixel(isa, channels, parts);
    check_lowered_tiles(isa);
    check_lowered_fills(isa);
}
