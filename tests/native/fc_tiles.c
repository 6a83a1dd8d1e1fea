/* The microkernels of fully connected layers; contracts in fc.h. */
#include <math.h>

#include "layers.h"

/* ---- sparse rows ---- */

int64_t fc_entry(const int64_t *ptr, int64_t rows, int64_t lists, int64_t row, int64_t n)
{
    int64_t first = rows / lists * lists;
    if (row < first)
        first = row - row % lists;
    else
        while (row >= first) {
            lists /= 2;
            if (rows - first >= lists && row < first + lists)
                break;
            first += rows - first >= lists ? lists : 0;
        }
    const int64_t common = ptr[first + 1] - ptr[first];
    if (n < common)
        return ptr[first] + n * lists + row - first;
    /* behind what all have: what the rows before this one have beyond */
    return ptr[row] + (lists - (row - first)) * common + n - common;
}

typedef struct {
    as_fc_rows rows;
    int64_t in_unit, width; /* floats that an offset counts; of a sum */
    int64_t lists;          /* of a group */
    const float *before;    /* what the sums were */
} rows_case;

static int rows_are_right(const rows_case *c)
{
    const as_fc_rows *t = &c->rows;
    int right = 1;
    for (int64_t i = 0; i < t->rows; ++i) {
        const int64_t place = t->row ? t->row[i] : i;
        for (int64_t v = 0; v < c->width; ++v) {
            double sum = t->start ? t->start[place] : c->before[place * t->step + v];
            double magnitude = fabs(sum);
            for (int64_t n = 0; n < t->ptr[i + 1] - t->ptr[i]; ++n) {
                const int64_t j = fc_entry(t->ptr, t->rows, c->lists, i, n);
                const double x = t->in[t->off[j] * c->in_unit + v] * (double)t->val[j];
                sum += x, magnitude += fabs(x);
            }
            right &= check_is_near(t->sums[place * t->step + v],
                                   t->relu && sum < 0.0 ? 0.0 : sum, magnitude,
                                   t->ptr[i + 1] - t->ptr[i] + 1);
        }
    }
    return right;
}

static int32_t *shuffled(int64_t count)
{
    int32_t *row = check_zeros(count * (int64_t)sizeof *row, 0);
    for (int64_t i = 0; i < count; ++i) {
        const int64_t other = check_from(0, i);
        row[i] = row[other], row[other] = (int32_t)i;
    }
    return row;
}

/* Rows of up to `most` nonzeros; vectors 0: gather. */
static void run_rows(const as_isa *isa, int64_t vectors, int64_t most, int has_start)
{
    enum { INPUTS = 50, ROWS = 37 };
    const int64_t width = vectors ? vectors * isa->lanes : 1, count = check_from(0, ROWS);
    rows_case c = {.width = width, .in_unit = vectors ? 2 : 1,
                   .lists = vectors ? isa->fc->lists[vectors] : 1};
    int64_t *ptr = check_zeros((count + 1) * (int64_t)sizeof *ptr, 0);
    for (int64_t i = 0; i < count; ++i) {
        const int64_t longer = i ? ptr[i] - ptr[i - 1] : 0; /* also in the smaller groups at the end */
        ptr[i + 1] = ptr[i] + check_from(i % c.lists ? longer : 0, larger(longer, most));
    }
    uint16_t *off = check_zeros(ptr[count] * (int64_t)sizeof *off, 0);
    for (int64_t j = 0; j < ptr[count]; ++j)
        off[j] = (uint16_t)(check_below(INPUTS) * (vectors ? width / 2 : 1));
    float *in = check_floats(INPUTS * width, vectors > 0);
    if (check_below(4) == 0)
        in[check_below(INPUTS * width)] = NAN;
    const int64_t step = vectors ? width + check_below(2) * isa->lanes : 1;
    const int64_t size = count ? (count - 1) * step + width : 0;
    float *sums = check_floats(size, vectors > 0);
    float *before = check_zeros(size * (int64_t)sizeof(float), 0);
    for (int64_t i = 0; i < size; ++i) before[i] = sums[i];
    c.before = before;
    c.rows = (as_fc_rows){.in = in, .ptr = ptr, .row = vectors ? shuffled(count) : NULL,
                          .off = off, .val = check_floats(ptr[count], 0), .rows = count,
                          .start = has_start ? check_floats(count, 0) : NULL, .sums = sums,
                          .step = step, .relu = (int)check_below(2)};
    check_case("%s fully connected, %d rows of %d vectors, start %d", isa->name, (int)count,
               (int)vectors, has_start);
    (vectors ? isa->fc->rows[vectors] : isa->fc->gather)(&c.rows);
    check_that(rows_are_right(&c), "sums");
    check_release();
}

/* ---- dense blocks ---- */

static void run_tile(const as_isa *isa, int64_t images, int64_t vectors, int64_t outputs)
{
    const int64_t width = vectors * isa->lanes, depth = check_below(9);
    const int64_t in_step = images + check_below(3), to_step = outputs + check_below(3);
    as_fc_tile t = {.in = check_floats(depth ? (depth - 1) * in_step + images : 0, 0),
                    .in_step = in_step, .depth = depth, .relu = (int)check_below(2),
                    .weights = check_floats(depth * width, 1), .start = check_floats(width, 1),
                    .to_step = to_step, .lanes = outputs};
    const int64_t size = (images - 1) * to_step + outputs;
    float *before = check_zeros(size * (int64_t)sizeof(float), 0);
    t.to = check_floats(size, 0);
    for (int64_t i = 0; i < size; ++i) before[i] = t.to[i];
    check_case("%s fully connected tile %dx%d, %d outputs", isa->name, (int)images, (int)vectors,
               (int)outputs);
    isa->fc->tile[images][vectors](&t);
    int right = 1;
    for (int64_t i = 0; i < size; ++i) {
        const int64_t image = i / to_step, k = i % to_step;
        if (k >= outputs) {
            right &= t.to[i] == before[i];
            continue;
        }
        double sum = t.start[k], magnitude = fabs(sum);
        for (int64_t c = 0; c < depth; ++c) {
            const double x = t.in[c * in_step + image] * (double)t.weights[c * width + k];
            sum += x, magnitude += fabs(x);
        }
        right &= check_is_near(t.to[i], t.relu && sum < 0.0 ? 0.0 : sum, magnitude, depth + 1);
    }
    check_that(right, "sums");
    check_release();
}

static void check_tiles(const as_isa *isa)
{
    for (int64_t images = 1; images <= AS_FC_IMAGES; ++images)
        for (int64_t vectors = 1; vectors <= AS_FC_DENSE_VECTORS; ++vectors) {
            if (isa->fc->tile[images][vectors] == NULL)
                continue;
            const int64_t most = vectors * isa->lanes;
            run_tile(isa, images, vectors, most);
            run_tile(isa, images, vectors, 1);
            run_tile(isa, images, vectors, check_from(1, most));
        }
    check_case("%s fully connected tiles", isa->name);
    check_that(isa->fc->tile[1][1] != NULL, "there is none of one vector");
}

/* ---- turned ---- */

static void run_turn(const as_isa *isa, int64_t rows, int64_t columns)
{
    const int64_t from_step = columns + check_below(3), to_step = rows + check_below(3);
    const float *from = check_floats((rows - 1) * from_step + columns, 0);
    const int64_t size = columns ? (columns - 1) * to_step + rows : 0;
    float *to = check_floats(size, 0), *before = check_zeros(size * (int64_t)sizeof(float), 0);
    for (int64_t i = 0; i < size; ++i) before[i] = to[i];
    check_case("%s turn %d x %d", isa->name, (int)rows, (int)columns);
    isa->fc->turn(from, from_step, rows, columns, to, to_step);
    int right = 1;
    for (int64_t i = 0; i < size; ++i)
        right &= to[i] == (i % to_step < rows ? from[i % to_step * from_step + i / to_step]
                                              : before[i]);
    check_that(right, "values");
    check_release();
}

void check_fc_tiles(const as_isa *isa)
{
    static const int64_t most[] = {0, 1, 3, 9, 20, 40, 100};
    for (int64_t vectors = 0; vectors <= AS_FC_VECTORS; ++vectors)
        for (int i = 0; i < 7; ++i)
            for (int has_start = 0; has_start < 2; ++has_start) {
                run_rows(isa, vectors, most[i], has_start);
                run_rows(isa, vectors, most[i], has_start);
            }
    check_tiles(isa);
    for (int64_t rows = 1; rows <= isa->lanes; ++rows)
        for (int64_t columns = 0; columns < 40; columns += 3) run_turn(isa, rows, columns);
}
