/* check_kernels [--room] [tiles] [layers] [chains] [probes] [threads] [forks] [replay]: all of them if
 * none is named.
 *
 * --room: arrays do not end where memory does; see check_leave_room.
 * Runs every microkernel and driver of every instruction set that this CPU has, compares with
 * float64, and prints what it ran. Status 0: all is right; 1: something is not.
 */
#include <stdio.h>
#include <string.h>

#include "check.h"

static int has(char **words, const char *word)
{
    for (; *words != NULL; ++words)
        if (strcmp(*words, word) == 0)
            return 1;
    return 0;
}

static int wants(char **families, const char *family)
{
    return *families == NULL || has(families, family);
}

static void run(const char *family, void (*check)(const as_isa *), const as_isa *isa)
{
    const int64_t passed = check_passed, failed = check_failed;
    check(isa);
    printf("%-9s %-15s %lld passed, %lld failed\n", isa->name, family,
           (long long)(check_passed - passed), (long long)(check_failed - failed));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const int room = argc > 1 && strcmp(argv[1], "--room") == 0;
    char **families = argv + 1 + room;
    if (room)
        check_leave_room();
    check_catch_crashes();
    check_dispatch();
    if (wants(families, "replay"))
        check_replay();
    for (int i = 0; i < as_isa_count(); ++i) {
        const as_isa *isa = as_isa_at(i);
        if (!as_isa_supported(i))
            continue;
        if (wants(families, "tiles")) {
            run("sparse tiles", check_sparse_tiles, isa);
            run("lanes tiles", check_lanes_tiles, isa);
            run("shifts tiles", check_shifts_tiles, isa);
            run("dense tiles", check_dense_tiles, isa);
            run("connected tiles", check_fc_tiles, isa);
            run("Winograd tiles", check_winograd_tiles, isa);
        }
        if (wants(families, "layers"))
            run("layers", check_layers, isa);
        if (wants(families, "chains"))
            run("chains", check_chains, isa);
        if (wants(families, "probes"))
            run("probes", check_probes, isa);
        if (wants(families, "threads"))
            run("threads", check_threads, isa);
        if (wants(families, "forks"))
            run("forks", check_forks, isa);
    }
    printf("%lld passed, %lld failed\n", (long long)check_passed, (long long)check_failed);
    return check_failed != 0;
}
