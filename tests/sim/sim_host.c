/* The host's core against random schedules. SIM_SEED=N replays one history, SIM_STEPS=N sets its length. */

#include <glib.h>
#include <stdlib.h>

#include "base/fault.h"
#include "sim/world.h"

enum { SEEDS = 80, STEPS = 10000, MUTANT_STEPS = 100000 };

static uint64_t steps_done;
static bool is_mutant;

static void run_seed(uint64_t seed, unsigned steps) {
    struct world *world = world_new(seed);

    for (unsigned i = 0; i < steps; i++) {
        world_step(world);
        world_check(world);
    }
    steps_done += steps;
    world_settle(world);
    world_check_settled(world);
    if (steps >= STEPS && !is_mutant) { /* it did what it says it does */
        g_assert_cmpuint(world_count_starts(world), >, 50);
        g_assert_cmpuint(world_count_crashes(world), >, 2);
    }
    world_free(world);
}

static unsigned steps(void) {
    const char *text = getenv("SIM_STEPS");

    return text ? (unsigned)strtoul(text, NULL, 10) : STEPS;
}

static void test_fixed(void) {
    const char *text = getenv("SIM_SEED");

    if (text) {
        run_seed(strtoull(text, NULL, 10), steps());
        return;
    }
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run_seed(seed, steps());
}

static void test_fresh(void) {
    for (int i = 0; i < SEEDS / 4; i++) {
        uint64_t seed = (uint64_t)g_random_int() << 20 | (uint64_t)i;
        g_test_message("seed %" G_GUINT64_FORMAT, seed);
        run_seed(seed, steps());
    }
}

/* SIM_SOAK=N: that many steps over fresh seeds, and nothing else (make sim-soak). */
static void test_soak(void) {
    uint64_t wanted = strtoull(getenv("SIM_SOAK"), NULL, 10);
    int64_t begin_us = g_get_monotonic_time();

    while (steps_done < wanted) {
        uint64_t seed = (uint64_t)g_random_int() << 20 | (uint64_t)g_random_int_range(0, 1 << 20);
        run_seed(seed, STEPS);
        if (steps_done / 1000000 != (steps_done - STEPS) / 1000000)
            g_printerr("sim: %" G_GUINT64_FORMAT " million steps\n", steps_done / 1000000);
    }
    g_printerr("sim: %.0f steps/s\n", (double)steps_done * 1e6 / (double)(g_get_monotonic_time() - begin_us));
}

/* ---- does it bite? Each rule is switched off in turn, and must be missed within so many steps ---- */

static void run_mutant(const char *name) {
    fault_set_mutant(name);
    is_mutant = true;
    for (uint64_t seed = 1; seed <= MUTANT_STEPS / STEPS; seed++)
        run_seed(seed, STEPS);
}

/* In a process of its own: what notices the mutant aborts. */
static void test_mutant(gconstpointer name) {
    if (g_test_subprocess()) {
        run_mutant(name);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*ERROR*");
}

/* none in a build without them */
static const char *const mutants[] = {
    "R1-held-is-free",      "R1-no-ledger",         "R1-orphans-are-ignored", "R2-release-without-proof",
    "R3-lost-is-free",      "R3-stopping-releases", "R3-unknown-is-free",     "R4-index-is-position",
    "R5-act-before-record", "R5-ack-before-record",
};

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    if (getenv("SIM_SOAK")) {
        g_test_add_func("/sim/soak", test_soak);
        return g_test_run();
    }
    g_test_add_func("/sim/host/R1-R2-R3-R5-fixed-seeds", test_fixed);
    g_test_add_func("/sim/host/R1-R2-R3-R5-fresh-seeds", test_fresh);
#ifdef KR_FAULT_POINTS
    const size_t n_mutants = G_N_ELEMENTS(mutants);
#else
    const size_t n_mutants = 0;
#endif
    for (size_t i = 0; i < n_mutants; i++) {
        g_autofree char *path = g_strconcat("/sim/mutant/", mutants[i], NULL);
        g_test_add_data_func(path, mutants[i], test_mutant);
    }
    return g_test_run();
}
