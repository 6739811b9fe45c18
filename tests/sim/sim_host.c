/* Host and runners against random schedules. SIM_SEED=N replays one history, SIM_STEPS=N sets its length, SIM_KEEP=1,4-7 does
 * only these of its steps and tells what happens in them, SIM_MUTANT=NAME switches a rule off. */

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/history.h"
#include "sim/shrink.h"

#ifdef __SANITIZE_ADDRESS__
enum { SEEDS = 30, FRESH_SEEDS = 10 }; /* a tenth of the speed */
#else
enum { SEEDS = 120, FRESH_SEEDS = 60 };
#endif
enum { STEPS = 10000, MUTANT_STEPS = 100000, PARALLEL = 2 };
static const double SHRINK_SECONDS = 60;

static unsigned steps_of_env(void) {
    const char *text = getenv("SIM_STEPS");

    return text ? (unsigned)strtoul(text, NULL, 10) : STEPS;
}

static struct history history_of(uint64_t seed) {
    return (struct history){.seed = seed, .steps = steps_of_env(), .mutant = getenv("SIM_MUTANT")};
}

/* ---- what went wrong, in few steps ---- */

/* As a comment: stdout speaks TAP. */
static void tell(const char *text) {
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line; line++)
        if (**line)
            printf("# %s\n", *line);
}

static void tell_replay(const struct history *history, const GArray *keep) {
    g_autofree char *list = steps_to_str(keep);
    struct history short_one = *history;
    struct outcome outcome;

    short_one.keep = keep;
    short_one.is_traced = true;
    printf("# %u steps are enough:\n", keep->len);
    history_run(&short_one, &outcome);
    tell(outcome.trace);
    tell(outcome.text);
    printf("# replay: make sim%s%s SEED=%" G_GUINT64_FORMAT " KEEP=%s\n", history->mutant ? " MUTANT=" : "",
           history->mutant ? history->mutant : "", history->seed, list);
    outcome_clear(&outcome);
}

static void tell_failure(const struct history *history, const struct outcome *failure) {
    GArray *keep;

    tell(failure->text);
    printf("# seed %" G_GUINT64_FORMAT " fails at step %u, looking for a shorter way there\n", history->seed,
           failure->step);
    fflush(stdout);
    keep = shrink(history, failure, SHRINK_SECONDS);
    if (keep)
        tell_replay(history, keep);
    else
        printf("# it does not fail a second time: the simulator itself is not deterministic\n");
    if (keep)
        g_array_unref(keep);
    fflush(stdout);
}

/* ---- many histories ---- */

static void add_counts(struct world_counts *sum, const struct world_counts *more) {
    unsigned *to = (unsigned *)(void *)sum;
    const unsigned *from = (const unsigned *)(const void *)more;

    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++)
        to[i] += from[i];
}

/* Takes the child. false when it failed, and everything about it was told. */
static bool take_end(struct child *child, const struct history *history, struct world_counts *sum) {
    struct outcome outcome;
    bool ok;

    history_finish(child, &outcome);
    ok = !outcome.has_failed;
    add_counts(sum, &outcome.counts);
    if (!ok)
        tell_failure(history, &outcome);
    outcome_clear(&outcome);
    return ok;
}

static bool run_seeds(const uint64_t *seeds, size_t n, struct world_counts *sum) {
    struct history histories[PARALLEL];
    struct child *children[PARALLEL] = {NULL};
    bool ok = true;

    for (size_t i = 0; i < n + PARALLEL; i++) {
        size_t slot = i % PARALLEL;
        if (children[slot])
            ok &= take_end(children[slot], &histories[slot], sum);
        children[slot] = NULL;
        if (i >= n || !ok)
            continue;
        histories[slot] = history_of(seeds[i]);
        children[slot] = history_start(&histories[slot]);
    }
    return ok;
}

static void tell_counts(const struct world_counts *c) {
    g_test_message(
        "%u containers started, %u starts refused, host died %u times (%u with an old backup), runners %u (%u at a "
        "durable write), %u reboots, %u calm moments",
        c->starts, c->refusals, c->crashes, c->restored, c->runner_deaths, c->deaths_at_writes, c->reboots, c->calms);
}

static void replay(uint64_t seed) {
    struct history history = history_of(seed);
    const char *text = getenv("SIM_KEEP");
    GArray *keep = text ? steps_from_str(text) : NULL;
    struct world_counts sum = {0};
    struct outcome outcome;

    if (text && !keep)
        g_error("SIM_KEEP=%s is no list of steps such as 1,4-7", text);
    if (!keep) {
        if (!run_seeds(&seed, 1, &sum))
            g_test_fail();
        return;
    }
    history.keep = keep;
    history.is_traced = true;
    history_run(&history, &outcome);
    tell(outcome.trace);
    tell(outcome.has_failed ? outcome.text : "nothing is wrong");
    if (outcome.has_failed)
        g_test_fail();
    outcome_clear(&outcome);
    g_array_unref(keep);
}

static void test_fixed(void) {
    const char *text = getenv("SIM_SEED");
    struct world_counts sum = {0};
    uint64_t seeds[SEEDS];

    if (text) {
        replay(strtoull(text, NULL, 10));
        return;
    }
    for (size_t i = 0; i < SEEDS; i++)
        seeds[i] = i + 1;
    if (!run_seeds(seeds, SEEDS, &sum))
        g_test_fail();
    tell_counts(&sum);
    if (g_test_failed() || steps_of_env() < STEPS)
        return;
    g_assert_cmpuint(sum.starts, >, 50 * SEEDS); /* it did what it says it does */
    g_assert_cmpuint(sum.crashes, >, 10 * SEEDS);
    g_assert_cmpuint(sum.deaths_at_writes, >, 10 * SEEDS);
    g_assert_cmpuint(sum.calms, >, 2 * SEEDS);
    g_assert_cmpuint(sum.refusals, >, SEEDS);
    g_assert_cmpuint(sum.restored, >, 0);
}

static uint64_t fresh_seed(size_t i) { return (uint64_t)g_random_int() << 20 | (uint64_t)i; }

static void test_fresh(void) {
    struct world_counts sum = {0};
    uint64_t seeds[FRESH_SEEDS];

    for (size_t i = 0; i < FRESH_SEEDS; i++)
        seeds[i] = fresh_seed(i);
    if (!run_seeds(seeds, FRESH_SEEDS, &sum))
        g_test_fail();
    tell_counts(&sum);
}

/* SIM_SOAK=N: that many steps over fresh seeds, and nothing else (make sim-soak). */
static void test_soak(void) {
    uint64_t wanted = strtoull(getenv("SIM_SOAK"), NULL, 10), done = 0, told = 0;
    int64_t begin_us = g_get_monotonic_time();
    struct world_counts sum = {0};
    uint64_t seeds[20];

    while (done < wanted) {
        for (size_t i = 0; i < G_N_ELEMENTS(seeds); i++)
            seeds[i] = fresh_seed(i);
        g_assert_true(run_seeds(seeds, G_N_ELEMENTS(seeds), &sum));
        done += (uint64_t)G_N_ELEMENTS(seeds) * steps_of_env();
        if (done / 1000000 != told)
            g_printerr("sim: %" G_GUINT64_FORMAT " million steps\n", told = done / 1000000);
    }
    tell_counts(&sum);
    g_printerr("sim: %.0f steps/s\n", (double)done * 1e6 / (double)(g_get_monotonic_time() - begin_us));
}

/* ---- the simulator itself ---- */

static void test_lists(void) {
    g_autoptr(GArray) steps = steps_from_str("1,4-7,12");
    g_autofree char *text = steps_to_str(steps);

    g_assert_cmpuint(steps->len, ==, 6);
    g_assert_cmpstr(text, ==, "1,4-7,12");
    g_assert_null(steps_from_str("4-x"));
    g_assert_null(steps_from_str("7-4"));
}

/* One seed, one history: whatever shrinks or replays one relies on that. */
static void test_deterministic(void) {
    struct history history = {.seed = 4, .steps = 3000, .is_traced = true}; /* one of those with old backups */
    struct outcome first, second;

    history_run(&history, &first);
    history_run(&history, &second);
    g_assert_false(first.has_failed);
    g_assert_cmpuint(strlen(first.trace), >, 100000);
    g_assert_true(strcmp(first.trace, second.trace) == 0);
    outcome_clear(&first);
    outcome_clear(&second);
}

/* ---- does it bite? Each rule is switched off in turn, and must be missed within so many steps ---- */

/* The first failure; the steps that it took to find it. */
static bool find_failure(const char *mutant, struct history *ret_history, struct outcome *ret_outcome,
                         unsigned *ret_steps) {
    *ret_steps = 0;
    for (uint64_t seed = 1; seed <= MUTANT_STEPS / STEPS; seed++) {
        *ret_history = (struct history){.seed = seed, .steps = STEPS, .mutant = mutant};
        history_run(ret_history, ret_outcome);
        *ret_steps += ret_outcome->step;
        if (ret_outcome->has_failed)
            return true;
        outcome_clear(ret_outcome);
    }
    return false;
}

static void test_mutant(gconstpointer name) {
    struct history history;
    struct outcome outcome;
    unsigned n_steps;

    if (!find_failure(name, &history, &outcome, &n_steps)) {
        g_test_message("not noticed within %u steps", n_steps);
        g_test_fail();
        return;
    }
    g_test_message("noticed after %u steps: %s", n_steps, outcome.kind);
    outcome_clear(&outcome);
}

static void test_shrinker(void) {
    struct history history, short_one;
    struct outcome failure, again;
    g_autoptr(GArray) keep = NULL;
    unsigned n_steps;

    g_assert_true(find_failure("R2-release-without-proof", &history, &failure, &n_steps));
    keep = shrink(&history, &failure, 20);
    g_assert_nonnull(keep);
    short_one = history;
    short_one.keep = keep;
    history_run(&short_one, &again);
    g_assert_true(again.has_failed);
    g_assert_cmpstr(again.kind, ==, failure.kind);
    g_test_message("from %u steps to %u", failure.step, keep->len);
    g_assert_cmpuint(keep->len, <, 100);
    g_assert_cmpuint(keep->len * 5, <, failure.step);
    outcome_clear(&failure);
    outcome_clear(&again);
}

/* none in a build without them */
static const char *const mutants[] = {
    "R1-held-is-free",
    "R1-no-ledger",
    "R1-orphans-are-ignored",
    "R2-release-without-proof",
    "R3-lost-is-free",
    "R3-stopping-releases",
    "R3-unknown-is-free",
    "R4-index-is-position",
    "R5-act-before-record",
    "R5-ack-before-record",
    /* on the node */
    "R1-node-second-lease",
    "R1-node-lower-epoch",
    "R1-node-start-unchecked",
    "R2-node-other-boot",
    "R2-node-no-evidence",
    "R2-node-removal-unproved",
    "R2-node-forget-running",
    "R3-node-silence-is-absence",
    "R5-node-start-before-record",
    "R5-node-remove-before-record",
    "R5-node-forget-before-ack",
};

static void add_mutants(void) {
    g_test_add_func("/sim/shrinks", test_shrinker);
    for (size_t i = 0; i < G_N_ELEMENTS(mutants); i++) {
        g_autofree char *path = g_strconcat("/sim/mutant/", mutants[i], NULL);
        g_test_add_data_func(path, mutants[i], test_mutant);
    }
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    if (getenv("SIM_SOAK")) {
        g_test_add_func("/sim/soak", test_soak);
        return g_test_run();
    }
    g_test_add_func("/sim/fixed-seeds", test_fixed);
    if (getenv("SIM_SEED"))
        return g_test_run();
    g_test_add_func("/sim/fresh-seeds", test_fresh);
    g_test_add_func("/sim/lists-of-steps", test_lists);
    g_test_add_func("/sim/deterministic", test_deterministic);
#ifdef KR_FAULT_POINTS
    add_mutants();
#else
    (void)add_mutants;
#endif
    return g_test_run();
}
