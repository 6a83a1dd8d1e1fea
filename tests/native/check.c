#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "check.h"

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_BLOCKS = 1 << 14, MOST_REPORTS = 20, CANARY = 0xA5 };

int64_t check_passed, check_failed;

static char current_case[256];

void check_case(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(current_case, sizeof current_case, format, arguments);
    va_end(arguments);
}

static void name_crash(int number)
{
    static const char message[] = "CRASHED in ";
    ssize_t written = write(STDERR_FILENO, message, sizeof message - 1);
    written += write(STDERR_FILENO, current_case, strlen(current_case));
    written += write(STDERR_FILENO, "\n", 1);
    _exit(written > 0 ? 128 + number : 2);
}

void check_catch_crashes(void)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they tell more */
    static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    const struct sigaction action = {.sa_handler = name_crash};
    for (int i = 0; i < 4; ++i) sigaction(crashes[i], &action, NULL);
#else
    (void)name_crash;
#endif
}

void check_that(int holds, const char *what)
{
    if (holds) {
        ++check_passed;
        return;
    }
    if (++check_failed <= MOST_REPORTS)
        fprintf(stderr, "FAILED %s: %s\n", current_case, what);
}

int check_is_near(float got, double right, double magnitude, int64_t terms)
{
    if (isnan(right))
        return isnan(got);
    return fabs((double)got - right) <= (double)(terms + 2) * 0x1p-24 * magnitude + 1e-37;
}

/* Xorshift: Marsaglia, Journal of Statistical Software 8 (2003), 14. */
static uint64_t random_bits(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

int64_t check_below(int64_t n)
{
    return (int64_t)(random_bits() >> 11) % n;
}

int64_t check_from(int64_t least, int64_t most)
{
    return least + check_below(most - least + 1);
}

float check_value(void)
{
    const float size = (float)(1 + check_below(1 << 20)) * 0x1p-20f;
    return check_below(2) ? size : -size;
}

typedef struct {
    unsigned char *map, *begin;
    size_t map_bytes, bytes, page;
} block;

static block blocks[MOST_BLOCKS];
static int block_count;
static size_t room_behind;

void check_leave_room(void)
{
    room_behind = AS_CHECK_ALIGNMENT;
}

static void give_up(const char *why)
{
    fprintf(stderr, "%s: %s\n", current_case, why);
    exit(2);
}

void *check_zeros(int64_t size_bytes, int aligned)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (size_t)size_bytes;
    const size_t step = aligned ? AS_CHECK_ALIGNMENT : sizeof(float);
    const size_t room = (bytes + step - 1) / step * step + room_behind;
    const size_t pages = (room + page - 1) / page + 1;
    if (block_count == MOST_BLOCKS)
        give_up("too many arrays");
    block *b = &blocks[block_count++];
    b->page = page, b->bytes = bytes, b->map_bytes = (pages + 2) * page;
    b->map = mmap(NULL, b->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->map == MAP_FAILED)
        give_up("no memory");
    unsigned char *end = b->map + b->map_bytes - page;
    b->begin = end - room;
    memset(b->map + page, CANARY, (size_t)(end - b->map) - page);
    memset(b->begin, 0, bytes);
    if (room_behind > 0) /* chosen lanes may lie far from those that are not */
        return b->begin;
    if (mprotect(b->map, page, PROT_NONE) != 0 || mprotect(end, page, PROT_NONE) != 0)
        give_up("no guard pages");
    return b->begin;
}

float *check_floats(int64_t count, int aligned)
{
    float *values = check_zeros(count * (int64_t)sizeof(float), aligned);
    for (int64_t i = 0; i < count; ++i) values[i] = check_value();
    return values;
}

static int is_untouched(const unsigned char *from, const unsigned char *to)
{
    for (; from < to; ++from)
        if (*from != CANARY)
            return 0;
    return 1;
}

void check_release(void)
{
    int untouched = 1;
    while (block_count > 0) {
        const block *b = &blocks[--block_count];
        untouched &= is_untouched(b->map + b->page, b->begin);
        untouched &= is_untouched(b->begin + b->bytes, b->map + b->map_bytes - b->page);
        munmap(b->map, b->map_bytes);
    }
    check_that(untouched, "wrote around an array");
}
