/* The microkernels of the shifts schedules; contracts in shifts.h. */
#include <math.h>

#include "check.h"

/* How the sums begin and where they go. */
typedef enum { START, FROM_TO, FROM_ELSEWHERE } beginning;
typedef enum { VECTORS, PIECES, WHOLE } ending;

typedef struct {
    const as_isa *isa;
    int64_t size, out_size; /* floats of a channel's vectors; of all that `to` points into */
    as_shifts_tile t;
    float *out;          /* where `to` may write */
    const float *before; /* what `out` was; what `from` was */
    const float *from;
} tile_case;

/* What lane l of channel k must be; all its terms lie inside of the vectors. */
static double sum_of(const tile_case *c, int64_t k, int64_t l, double *magnitude, int64_t *terms)
{
    const as_shifts_tile *t = &c->t;
    double sum = c->from ? c->from[k * t->from_step + l] : t->start[k];
    *magnitude = fabs(sum), *terms = 1;
    for (int64_t i = 0; i < t->parts; ++i)
        for (int64_t j = t->ptr[k * t->parts + i]; j < t->ptr[k * t->parts + i + 1]; ++j) {
            const float *in = t->in + t->off[j] / (int64_t)sizeof(float);
            const double x = in[l + t->parts - 1 - i] * (double)t->val[j];
            sum += x, *magnitude += fabs(x), ++*terms;
        }
    return t->relu && sum < 0.0 ? 0.0 : sum;
}

/* Where lane l of channel k went in `out`; -1: nowhere. */
static int64_t place_of(const tile_case *c, int64_t k, int64_t l)
{
    const as_shifts_tile *t = &c->t;
    const int64_t vector = l / c->isa->lanes, lane = l % c->isa->lanes;
    const int64_t to = t->to - c->out + k * t->to_step;
    if (t->piece == NULL)
        return to + l;
    return t->piece[vector].bits >> lane & 1 ? to + t->piece[vector].place + lane : -1;
}

static void check_sums(const tile_case *c)
{
    const int64_t sure = c->size - (c->t.parts - 1); /* further lanes may be anything */
    int right = 1, kept = 1;
    char *written = check_zeros(c->out_size, 0);
    for (int64_t k = 0; k < c->t.lists; ++k)
        for (int64_t l = 0; l < c->size; ++l) {
            const int64_t place = place_of(c, k, l);
            if (place < 0)
                continue;
            written[place] = 1;
            double magnitude;
            int64_t terms;
            if (l < sure) {
                const double sum = sum_of(c, k, l, &magnitude, &terms);
                right &= check_is_near(c->out[place], sum, magnitude, terms);
            }
        }
    for (int64_t i = 0; i < c->out_size; ++i) kept &= written[i] || c->out[i] == c->before[i];
    check_that(right, "sums");
    check_that(kept, "wrote what is not its own");
}

/* Lists of parts with up to 3 nonzeros, and what the loop reads behind them. */
static void make_lists(tile_case *c, int64_t lists, int64_t parts)
{
    int64_t *ptr = check_zeros((lists * parts + 1) * (int64_t)sizeof(int64_t), 0);
    for (int64_t i = 0; i < lists * parts; ++i) ptr[i + 1] = ptr[i] + check_below(4);
    const int64_t n = ptr[lists * parts];
    int32_t *off = check_zeros((n + AS_SHIFTS_AHEAD) * (int64_t)sizeof(int32_t), 0);
    for (int64_t j = 0; j < n; ++j) off[j] = (int32_t)(j * c->size * (int64_t)sizeof(float));
    float *in = check_floats(n * c->size, 1);
    if (n > 0 && check_below(4) == 0)
        in[check_below(n * c->size)] = NAN;
    c->t.ptr = ptr, c->t.lists = lists, c->t.parts = parts, c->t.off = off, c->t.in = in;
    c->t.val = check_floats(n, 0), c->t.start = check_floats(lists, 0);
}

/* Pieces with random bits that begin up to `lanes` floats before or behind one another's ends; the
 * first bits may be where nothing is, and are then not set. */
static int64_t cut_pieces(tile_case *c, ending end)
{
    const int64_t lanes = c->isa->lanes, vectors = c->size / lanes;
    as_shifts_piece *piece = check_zeros(vectors * (int64_t)sizeof *piece, 0);
    int64_t used = 0;
    for (int64_t v = 0; v < vectors; ++v) {
        const int64_t skipped = end == WHOLE ? 0 : check_below(lanes);
        const int64_t count = end == WHOLE ? lanes : check_below(lanes - skipped + 1);
        const int64_t ones = ((int64_t)1 << count) - 1;
        piece[v] = (as_shifts_piece){.place = used - skipped, .bits = ones << skipped};
        used += count;
    }
    c->t.piece = piece;
    return used;
}

static void run_tile(const as_isa *isa, int64_t vectors, int64_t lists, int64_t parts,
                     beginning begin, ending end)
{
    tile_case c = {.isa = isa, .size = vectors * isa->lanes};
    make_lists(&c, lists, parts);
    c.t.relu = (int)check_below(2);
    const int64_t used = end == VECTORS ? c.size : cut_pieces(&c, end);
    c.t.to_step = end == VECTORS ? c.size + check_below(2) * isa->lanes : used + check_below(3);
    c.t.past_caches = end == WHOLE && check_below(3) > 0;
    const int64_t shift = end == VECTORS ? 0 : check_below(2) * check_below(isa->lanes);
    c.out_size = shift + (lists ? (lists - 1) * c.t.to_step + used : 0);
    c.out = check_floats(c.out_size, end == VECTORS || shift == 0);
    c.t.to = c.out + shift;
    float *before = check_zeros(c.out_size * (int64_t)sizeof(float), 0);
    for (int64_t i = 0; i < c.out_size; ++i) before[i] = c.out[i];
    c.before = before;
    c.t.from_step = c.size + check_below(2) * isa->lanes;
    if (begin == FROM_TO) {
        c.t.from = c.t.to, c.t.from_step = c.t.to_step, c.from = before;
    } else if (begin == FROM_ELSEWHERE) {
        c.from = c.t.from = check_floats(lists ? (lists - 1) * c.t.from_step + c.size : 0, 1);
    }
    check_case("%s shifts tile of %d vectors, %d lists of %d parts, begin %d, end %d", isa->name,
               (int)vectors, (int)lists, (int)parts, begin, end);
    isa->direct_shifts->tile[vectors](&c.t);
    check_sums(&c);
    check_release();
}

static void check_tiles(const as_isa *isa)
{
    enum { MOST_PARTS = 5 };
    int count = 0;
    for (int64_t vectors = 1; vectors < AS_TILE_SIDE; ++vectors) {
        if (isa->direct_shifts->tile[vectors] == NULL)
            continue;
        ++count;
        for (int64_t parts = 1; parts < MOST_PARTS; ++parts)
            for (int end = VECTORS; end <= WHOLE; ++end)
                for (int begin = START; begin <= FROM_ELSEWHERE; ++begin)
                    if (begin != FROM_TO || end == VECTORS)
                        run_tile(isa, vectors, check_below(4), parts, (beginning)begin,
                                 (ending)end);
    }
    check_case("%s shifts tiles", isa->name);
    check_that(count == isa->registers - 2, "not each that fits the registers exists");
}

/* ---- rows of input ---- */

static int rows_are_right(const as_shifts_rows *r, int64_t lanes, const float *to)
{
    const int64_t row = r->vectors * lanes;
    int right = 1;
    for (int64_t c = 0; c < r->channels; ++c)
        for (int64_t y = 0; y < r->above + r->rows + r->below; ++y)
            for (int64_t l = 0; l < row; ++l) {
                const int64_t in = y - r->above, column = r->first + l * r->step;
                const int inside =
                    0 <= in && in < r->rows && 0 <= column && column < r->width;
                const float pixel =
                    inside ? r->from[c * r->from_channel + in * r->from_row + column] : 0.0f;
                right &= to[c * r->to_channel + y * row + l] == pixel;
            }
    return right;
}

/* The picture ends with its last row, where memory does; between rows stands NaN. */
static void run_rows(const as_isa *isa, int64_t vectors, int64_t step)
{
    const int64_t width = check_from(1, 60), span = vectors * isa->lanes * step;
    as_shifts_rows r = {.step = step, .width = width, .vectors = vectors,
                        .first = check_from(-span, width), .channels = check_below(4),
                        .above = check_below(3), .rows = check_below(4), .below = check_below(3),
                        .from_row = width + check_below(4)};
    const int64_t rows = r.above + r.rows + r.below, row = vectors * isa->lanes;
    r.from_channel = r.rows * r.from_row + check_below(3);
    r.to_channel = rows * row + check_below(2) * isa->lanes;
    const int any = r.channels > 0 && r.rows > 0;
    const int64_t size = any ? (r.channels - 1) * r.from_channel + (r.rows - 1) * r.from_row + width
                             : 0;
    float *from = check_floats(size, 0);
    for (int64_t i = 0; i < size; ++i) {
        const int64_t in_channel = i % r.from_channel;
        if (in_channel % r.from_row >= width || in_channel >= r.rows * r.from_row)
            from[i] = NAN;
    }
    r.from = from;
    float *to = check_floats(r.channels ? (r.channels - 1) * r.to_channel + rows * row : 0, 1);
    check_case("%s shifts rows of %d vectors, step %d, first %d, width %d", isa->name,
               (int)vectors, (int)step, (int)r.first, (int)width);
    isa->direct_shifts->rows(&r, to);
    check_that(rows_are_right(&r, isa->lanes, to), "pixels");
    check_release();
}

void check_shifts_tiles(const as_isa *isa)
{
    enum { ROUNDS = 8 };
    check_tiles(isa);
    for (int64_t vectors = 1; vectors <= isa->registers - 2; ++vectors)
        for (int64_t step = 1; step < 5; ++step)
            for (int i = 0; i < ROUNDS; ++i) run_rows(isa, vectors, step);
}
