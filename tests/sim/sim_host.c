/* The host's core against random schedules. SIM_SEED=N replays one history, SIM_STEPS=N sets its length. */

#include <glib.h>
#include <stdlib.h>

#include "sim/world.h"

enum { SEEDS = 40, STEPS = 10000 };

static void run_seed(uint64_t seed, unsigned steps) {
    struct world *world = world_new(seed);

    for (unsigned i = 0; i < steps; i++) {
        world_step(world);
        world_check(world);
    }
    world_settle(world);
    world_check_settled(world);
    if (steps >= STEPS) { /* it did what it says it does */
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

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sim/host/R1-R2-R3-R5-fixed-seeds", test_fixed);
    g_test_add_func("/sim/host/R1-R2-R3-R5-fresh-seeds", test_fresh);
    return g_test_run();
}
