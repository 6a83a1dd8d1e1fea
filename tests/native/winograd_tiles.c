/* Winograd's matrices, and the transformations that do without them; contracts in winograd.h. */
#include <math.h>

#include "winograd_numbers.h"

/* Matrices: kernels/winograd_matrices.py, whose tests hold them against the convolution. */
typedef struct {
    int m, t;
    double in[WINOGRAD_SIDE][WINOGRAD_SIDE]; /* B^T */
    double out[4][WINOGRAD_SIDE];            /* A^T */
} matrices;

static const matrices variants[AS_WINOGRAD_COUNT] = {
    [AS_WINOGRAD_f2x2_3x3] = {2, 4,
                              {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}},
                              {{1, 1, 1, 0}, {0, 1, -1, -1}}},
    [AS_WINOGRAD_f4x4_3x3] = {4, 6,
                              {{4, 0, -5, 0, 1, 0},
                               {0, -4, -4, 1, 1, 0},
                               {0, 4, -4, -1, 1, 0},
                               {0, -2, -1, 2, 1, 0},
                               {0, 2, -1, -2, 1, 0},
                               {0, 4, 0, -5, 0, 1}},
                              {{1, 1, 1, 1, 1, 0},
                               {0, 1, -1, 2, -2, 0},
                               {0, 1, 1, 4, 4, 0},
                               {0, 1, -1, 8, -8, 1}}},
    [AS_WINOGRAD_f4x4_5x5] = {4, 8,
                              {{1, 0, -5.25, 0, 5.25, 0, -1, 0},
                               {0, 1, 1, -4.25, -4.25, 1, 1, 0},
                               {0, -1, 1, 4.25, -4.25, -1, 1, 0},
                               {0, 0.5, 0.25, -2.5, -1.25, 2, 1, 0},
                               {0, -0.5, 0.25, 2.5, -1.25, -2, 1, 0},
                               {0, 2, 4, -2.5, -5, 0.5, 1, 0},
                               {0, -2, 4, 2.5, -5, -0.5, 1, 0},
                               {0, -1, 0, 5.25, 0, -5.25, 0, 1}},
                              {{1, 1, 1, 1, 1, 8, 8, 0},
                               {0, 1, -1, 2, -2, 4, -4, 0},
                               {0, 1, 1, 4, 4, 2, 2, 0},
                               {0, 1, -1, 8, -8, 1, -1, 1}}},
};

int winograd_outputs(int variant)
{
    return variants[variant].m;
}

int winograd_side(int variant)
{
    return variants[variant].t;
}

static int most_terms(int rows, const double (*matrix)[WINOGRAD_SIDE])
{
    int most = 0;
    for (int i = 0; i < rows; ++i) {
        int terms = 0;
        for (int j = 0; j < WINOGRAD_SIDE; ++j) terms += matrix[i][j] != 0.0;
        most = terms > most ? terms : most;
    }
    return most;
}

int64_t winograd_roundings(int variant)
{
    const matrices *of = &variants[variant];
    return 2 * (most_terms(of->t, of->in) + most_terms(of->m, of->out));
}

/* M X M^T; x is t x t, the result rows x rows. */
static void transform(int rows, int t, const double (*matrix)[WINOGRAD_SIDE], winograd_tile *x)
{
    winograd_tile half = {0}, whole = {0};
    for (int i = 0; i < rows; ++i)
        for (int j = 0; j < t; ++j)
            for (int k = 0; k < t; ++k) {
                half.value[i * t + j] += matrix[i][k] * x->value[k * t + j];
                half.magnitude[i * t + j] += fabs(matrix[i][k]) * x->magnitude[k * t + j];
            }
    for (int i = 0; i < rows; ++i)
        for (int j = 0; j < rows; ++j)
            for (int k = 0; k < t; ++k) {
                whole.value[i * rows + j] += matrix[j][k] * half.value[i * t + k];
                whole.magnitude[i * rows + j] += fabs(matrix[j][k]) * half.magnitude[i * t + k];
            }
    *x = whole;
}

void winograd_into(int variant, winograd_tile *tile)
{
    transform(variants[variant].t, variants[variant].t, variants[variant].in, tile);
}

void winograd_out_of(int variant, winograd_tile *tile)
{
    transform(variants[variant].m, variants[variant].t, variants[variant].out, tile);
}

/* A piece of `tiles` neighbours, all as tall as the first, or as the first behind the only cut; 0 if there
 * is another one. */
static int make_piece(const as_winograd_place *place, int64_t tiles, int64_t m,
                      as_winograd_piece *piece)
{
    int good = 1, second = 0;
    *piece = (as_winograd_piece){.first = place[0].place,
                                 .first_rows = (uint16_t)((1 << place[0].rows) - 1)};
    for (int64_t i = 0; i < tiles; ++i) {
        const int64_t at = place[i].place - i * m;
        const uint16_t rows = (uint16_t)((1 << place[i].rows) - 1);
        const uint16_t bits = (uint16_t)(((1 << place[i].columns) - 1) << i * m);
        if (place[i].columns == 0)
            continue;
        if (!second && at == piece->first && rows == piece->first_rows) {
            piece->first_bits |= bits;
            continue;
        }
        if (!second)
            piece->second = at, piece->second_rows = rows, second = 1;
        piece->second_bits |= bits;
        good &= at == piece->second && rows == piece->second_rows;
    }
    return good;
}

int64_t winograd_pieces(const as_winograd_place *place, int64_t lanes, int64_t m,
                        as_winograd_piece *piece)
{
    int64_t kind = AS_WINOGRAD_PIECES;
    int good = lanes >= m;
    for (int64_t i = 0; good && i < m; ++i) {
        good &= make_piece(place + i * lanes / m, lanes / m, m, &piece[i]);
        if (piece[i].first_bits != (1u << lanes) - 1 || piece[i].first_rows != (1u << m) - 1)
            kind += (int64_t)1 << i;
    }
    return good ? kind : AS_WINOGRAD_APART;
}

/* Bits of the columns x .. x + m of a tile, and of its rows y .. y + t, that are in a picture. */
static unsigned bits_inside(int64_t first, int64_t count, int64_t size)
{
    unsigned bits = 0;
    for (int64_t i = 0; i < count; ++i) bits |= (unsigned)(0 <= first + i && first + i < size) << i;
    return bits;
}

int64_t winograd_windows(const winograd_picture *p, int64_t first, as_winograd_window *window)
{
    const int64_t m = winograd_outputs(p->variant), t = winograd_side(p->variant);
    const int64_t count = p->lanes / m;
    int64_t kind = 0;
    for (int64_t i = 0; i < m; ++i, ++window, first += count) {
        *window = (as_winograd_window){0};
        for (int64_t tile = first; tile < smaller(first + count, p->tiles); ++tile) {
            const int64_t k = tile - first, here = tile % p->in_image;
            const int64_t y = here / p->across * m - p->pad_h;
            const int64_t x = here % p->across * m - p->pad_w;
            const int second = tile / p->across != first / p->across;
            uint16_t *bits = second ? window->second_bits : window->first_bits;
            *(second ? &window->second : &window->first) =
                tile / p->in_image * p->image_step + y * p->width + x - k * m;
            *(second ? &window->second_rows : &window->first_rows) =
                (uint8_t)bits_inside(y, t, p->height);
            for (int64_t j = 0; j * m < t; ++j)
                bits[j] |= (uint16_t)(bits_inside(x + j * m, m, p->width) << k * m);
        }
        const unsigned rows = (1u << t) - 1, all = (1u << p->lanes) - 1;
        const int edge = window->first_rows != rows ||
                         (window->second_bits[0] != 0 && window->second_rows != rows);
        if (edge || window->first_bits[0] != all || (m < t && window->first_bits[1] != all))
            kind |= (int64_t)1 << i;
        kind |= edge ? AS_WINOGRAD_EDGE : 0;
    }
    return kind;
}

/* ---- microkernels ---- */

/* Tiles of one picture, `across` of them in a row, but for some lanes behind the last one. */
static void run_windows(const as_isa *isa, int variant, int64_t vectors, int64_t across)
{
    enum { EMPTY = 3 };
    const int64_t m = winograd_outputs(variant), t = winograd_side(variant), lanes = isa->lanes;
    const int64_t width = vectors * lanes, pad = check_below(t + 2);
    const int64_t h = check_from(1, 3 * m), wide = check_from(1, across * m + 2);
    const winograd_picture picture = {.variant = variant, .lanes = lanes, .across = across,
                                      .tiles = width - EMPTY, .in_image = width, .pad_h = pad,
                                      .pad_w = pad, .height = h, .width = wide};
    as_winograd_in w = {.pitch = wide, .vectors = vectors, .next_step = h * wide,
                        .position_step = width + check_below(3) * lanes};
    as_winograd_window *window = check_zeros(vectors * m * (int64_t)sizeof *window, 0);
    int64_t *kind = check_zeros(vectors * (int64_t)sizeof *kind, 0);
    for (int64_t v = 0; v < vectors; ++v)
        kind[v] = winograd_windows(&picture, v * lanes, window + v * m);
    w.from = check_floats(h * wide, 0), w.scratch = check_floats(t * t * lanes, 1);
    w.window = window, w.kind = kind;
    w.to = check_floats((t * t - 1) * w.position_step + width, 1);
    check_case("%s Winograd %d, %d vectors of tiles of a picture in", isa->name, variant,
               (int)vectors);
    isa->winograd->in[variant](&w);
    int right = 1;
    for (int64_t i = 0; i < width; ++i) {
        winograd_tile d = {0};
        for (int64_t p = 0; p < t * t; ++p) {
            const int64_t y = i / across * m - pad + p / t, x = i % across * m - pad + p % t;
            if (i < width - EMPTY && 0 <= y && y < h && 0 <= x && x < wide)
                d.value[p] = w.from[y * wide + x];
            d.magnitude[p] = fabs(d.value[p]);
        }
        winograd_into(variant, &d);
        for (int64_t p = 0; p < t * t; ++p)
            right &= check_is_near(w.to[p * w.position_step + i], d.value[p], d.magnitude[p],
                                   winograd_roundings(variant));
    }
    check_that(right, "values");
    check_release();
}

static void run_in(const as_isa *isa, int variant, int64_t vectors, int neighbours)
{
    const int64_t t = winograd_side(variant), lanes = isa->lanes, width = vectors * lanes;
    const int64_t row = div_up(t, 4) * 4; /* what is read of one */
    as_winograd_in w = {.pitch = row + check_below(9), .vectors = vectors,
                        .position_step = width + check_below(3) * lanes};
    int64_t *start = check_zeros(width * (int64_t)sizeof(int64_t), 0), end = 0;
    const int64_t m = winograd_outputs(variant);
    for (int64_t i = 0; i < width; ++i) {
        start[i] = neighbours ? end + (i ? m : 0) + (check_below(6) ? 0 : 99) : check_below(99);
        end = larger(end, start[i]);
    }
    const float *from = check_floats(end + (t - 1) * w.pitch + row, 0);
    w.from = from, w.start = start, w.scratch = check_floats(t * t * lanes, 1);
    w.to = check_floats((t * t - 1) * w.position_step + width, 1);
    check_case("%s Winograd %d, %d vectors of tiles in", isa->name, variant, (int)vectors);
    isa->winograd->in[variant](&w);
    int right = 1;
    for (int64_t i = 0; i < width; ++i) {
        winograd_tile d;
        for (int64_t p = 0; p < t * t; ++p) {
            d.value[p] = from[start[i] + p / t * w.pitch + p % t];
            d.magnitude[p] = fabs(d.value[p]);
        }
        winograd_into(variant, &d);
        for (int64_t p = 0; p < t * t; ++p)
            right &= check_is_near(w.to[p * w.position_step + i], d.value[p], d.magnitude[p],
                                   winograd_roundings(variant));
    }
    check_that(right, "values");
    check_release();
}

/* Tiles side by side in one row, and how much of each is inside: all of a vector's, as many rows of
 * each, or any; returns the row's length. */
static int64_t place_in_row(const as_isa *isa, as_winograd_out *w, int64_t m)
{
    const int64_t lanes = isa->lanes;
    as_winograd_place *place = check_zeros(w->vectors * lanes * (int64_t)sizeof *place, 1);
    int64_t *whole = check_zeros(w->vectors * (int64_t)sizeof *whole, 0);
    int64_t *kind = check_zeros(w->vectors * (int64_t)sizeof *kind, 0), at = 0;
    as_winograd_piece *piece = check_zeros(w->vectors * m * (int64_t)sizeof *piece, 0);
    for (int64_t v = 0; v < w->vectors; ++v) {
        const int64_t rows = check_from(0, m), any = check_below(2);
        whole[v] = check_below(2);
        for (int64_t i = v * lanes; i < (v + 1) * lanes; ++i, at += m + (check_below(6) ? 0 : 3))
            place[i] = (as_winograd_place){
                .place = at,
                .rows = (int32_t)(whole[v] ? m : any ? check_from(1, m) : rows),
                .columns = (int32_t)(whole[v] ? m : check_from(0, m))};
        kind[v] = winograd_pieces(place + v * lanes, lanes, m, piece + v * m);
    }
    w->place = place, w->whole = whole, w->piece = piece, w->kind = kind;
    return at;
}

/* Whether output (a, b) of all tiles is what it must be: of the sums, or as before. */
static int out_is_right(const as_isa *isa, int variant, const as_winograd_out *w,
                        const float *before)
{
    const int64_t m = winograd_outputs(variant), t = winograd_side(variant);
    int right = 1;
    for (int64_t i = 0; i < w->vectors * isa->lanes; ++i) {
        winograd_tile s;
        for (int64_t p = 0; p < t * t; ++p) {
            s.value[p] = w->from[p * w->position_step + i];
            s.magnitude[p] = fabs(s.value[p]);
        }
        winograd_out_of(variant, &s);
        for (int64_t p = 0; p < m * m; ++p) {
            const int64_t at = w->place[i].place + p / m * w->row_step + p % m;
            const double sum = s.value[p] + w->bias;
            if (i < w->tiles && p / m < w->place[i].rows && p % m < w->place[i].columns)
                right &= check_is_near(w->out[at], w->relu && sum < 0.0 ? 0.0 : sum,
                                       s.magnitude[p] + fabs(w->bias),
                                       winograd_roundings(variant) + 1);
            else
                right &= w->out[at] == before[at];
        }
    }
    return right;
}

static void run_out(const as_isa *isa, int variant, int64_t vectors)
{
    const int64_t m = winograd_outputs(variant), t = winograd_side(variant), lanes = isa->lanes;
    const int64_t width = vectors * lanes;
    as_winograd_out w = {.vectors = vectors, .tiles = check_from(1, width), .bias = check_value(),
                         .relu = (int)check_below(2),
                         .position_step = width + check_below(3) * lanes,
                         .scratch = check_floats(t * t * lanes, 1)};
    const int64_t row = place_in_row(isa, &w, m);
    w.row_step = row + check_below(3);
    w.from = check_floats((t * t - 1) * w.position_step + width, 1);
    const int64_t size = (m - 1) * w.row_step + row;
    w.out = check_floats(size, 0);
    float *before = check_zeros(size * (int64_t)sizeof(float), 0);
    for (int64_t i = 0; i < size; ++i) before[i] = w.out[i];
    check_case("%s Winograd %d, %d vectors of tiles out", isa->name, variant, (int)vectors);
    isa->winograd->out[variant](&w);
    check_that(out_is_right(isa, variant, &w, before), "values");
    check_release();
}

static void run_lists(const as_isa *isa, int64_t lists, int64_t vectors)
{
    enum { GROUPS = 4, SLOTS = 9 };
    const int64_t lanes = isa->lanes, width = vectors * lanes, rows = GROUPS * lists;
    as_winograd_lists t = {.groups = check_from(0, GROUPS), .add = (int)check_below(2),
                           .to_step = width + check_below(3) * lanes};
    int64_t *ptr = check_zeros((t.groups + 1) * (int64_t)sizeof *ptr, 0);
    for (int64_t g = 0; g < t.groups; ++g) ptr[g + 1] = ptr[g] + check_below(4) * lists;
    const int64_t entries = ptr[t.groups];
    int32_t *off = check_zeros(entries * (int64_t)sizeof *off, 0);
    int32_t *row = check_zeros(t.groups * lists * (int64_t)sizeof *row, 0);
    for (int64_t e = 0; e < entries; ++e) off[e] = (int32_t)(check_below(SLOTS) * width * 4);
    for (int64_t i = 0; i < t.groups * lists; ++i) row[i] = (int32_t)(rows - 1 - i);
    float *to = check_floats(rows * t.to_step, 1);
    float *before = check_zeros(rows * t.to_step * (int64_t)sizeof(float), 0);
    for (int64_t i = 0; i < rows * t.to_step; ++i) before[i] = to[i];
    t.ptr = ptr, t.off = off, t.row = row, t.to = to, t.val = check_floats(entries, 0);
    t.in = check_floats(SLOTS * width, 1);
    check_case("%s Winograd %d lists x %d vectors", isa->name, (int)lists, (int)vectors);
    isa->winograd_products->lists[lists][vectors](&t);
    int right = 1;
    for (int64_t i = 0; i < rows * t.to_step; ++i) {
        const int64_t list = rows - 1 - i / t.to_step; /* whose row this is */
        if (i % t.to_step >= width || list >= t.groups * lists) {
            right &= to[i] == before[i];
            continue;
        }
        double sum = t.add ? before[i] : 0.0, magnitude = fabs(sum);
        for (int64_t e = ptr[list / lists] + list % lists; e < ptr[list / lists + 1]; e += lists) {
            const double product = (double)t.val[e] * t.in[off[e] / 4 + i % t.to_step];
            sum += product, magnitude += fabs(product);
        }
        right &= check_is_near(to[i], sum, magnitude, 8);
    }
    check_that(right, "values");
    check_release();
}

static void run_block(const as_isa *isa, int64_t vectors, int64_t count)
{
    const int64_t lanes = isa->lanes, width = vectors * lanes;
    as_winograd_block t = {.in_step = width + check_below(3) * lanes, .channels = check_below(9),
                           .to_step = width + check_below(3) * lanes};
    float *to = check_floats(count * t.to_step, 1);
    float *before = check_zeros(count * t.to_step * (int64_t)sizeof(float), 0);
    for (int64_t i = 0; i < count * t.to_step; ++i) before[i] = to[i];
    t.in = check_floats(t.channels ? (t.channels - 1) * t.in_step + width : 0, 1);
    t.weights = check_floats(t.channels * count, 0), t.to = to;
    t.ahead = (uintptr_t)(t.weights + t.channels * count);
    check_case("%s Winograd block of %d channels x %d vectors", isa->name, (int)count, (int)vectors);
    isa->winograd_products->block[vectors][count](&t);
    int right = 1;
    for (int64_t i = 0; i < count * t.to_step; ++i) {
        double sum = 0.0, magnitude = 0.0;
        for (int64_t c = 0; i % t.to_step < width && c < t.channels; ++c) {
            const double product = (double)t.weights[c * count + i / t.to_step] *
                                   t.in[c * t.in_step + i % t.to_step];
            sum += product, magnitude += fabs(product);
        }
        right &= i % t.to_step < width ? check_is_near(to[i], sum, magnitude, t.channels)
                                       : to[i] == before[i];
    }
    check_that(right, "values");
    check_release();
}

static void run_copy(const as_isa *isa, int64_t count, int64_t rows)
{
    const int64_t from_pitch = count + check_below(3), to_pitch = count + check_below(3);
    const float *from = check_floats(rows ? (rows - 1) * from_pitch + count : 0, 0);
    const int64_t size = rows ? (rows - 1) * to_pitch + count : 0;
    float *to = check_floats(size, 0), *before = check_zeros(size * (int64_t)sizeof(float), 0);
    for (int64_t i = 0; i < size; ++i) before[i] = to[i];
    check_case("%s copy of %d x %d", isa->name, (int)rows, (int)count);
    (*isa->copy)(from, from_pitch, rows, count, to, to_pitch);
    int right = 1;
    for (int64_t i = 0; i < size; ++i)
        right &= to[i] == (i % to_pitch < count ? from[i / to_pitch * from_pitch + i % to_pitch]
                                                : before[i]);
    check_that(right, "values");
    check_release();
}

void check_winograd_tiles(const as_isa *isa)
{
    enum { ROUNDS = 8, WINDOW_LANES = 16 };
    for (int variant = 0; variant < AS_WINOGRAD_COUNT; ++variant)
        for (int64_t vectors = 1; vectors < 4; ++vectors)
            for (int i = 0; i < ROUNDS; ++i) {
                run_in(isa, variant, vectors, i % 2);
                run_out(isa, variant, vectors);
                if (isa->lanes == WINDOW_LANES)
                    run_windows(isa, variant, vectors,
                                check_from(isa->lanes / winograd_outputs(variant), 20));
            }
    for (int64_t lists = 1; lists <= AS_WINOGRAD_LISTS; ++lists)
        for (int64_t vectors = 1; vectors <= AS_WINOGRAD_VECTORS; ++vectors)
            for (int i = 0; i < ROUNDS && isa->winograd_products->lists[lists][vectors]; ++i)
                run_lists(isa, lists, vectors);
    for (int64_t vectors = 1; vectors <= AS_WINOGRAD_BLOCK_VECTORS; ++vectors)
        for (int64_t count = 1; count <= AS_WINOGRAD_MOST_COUNT; ++count)
            for (int i = 0; i < ROUNDS && isa->winograd_products->block[vectors][count]; ++i)
                run_block(isa, vectors, count);
    for (int64_t count = 1; count < 40; ++count) run_copy(isa, count, check_below(4));
}
