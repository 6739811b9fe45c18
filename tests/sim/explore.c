/* Every history of a small cluster (sim/small.h) up to a depth, from a few beginnings: breadth first, so that what is found
 * is found by a shortest sequence of actions. States that were seen are not gone into again. A state is its history: it is
 * made anew from it, as a controller cannot be copied.
 *
 * Each search runs in a process of its own: what breaks a rule aborts, and the history that led there lies in memory that
 * both share. SIM_DEPTH=N adds N to each depth. */

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "sim/small.h"

enum { MAX_STEPS = 30, MAX_FAULTS = 2 };

#if defined(__SANITIZE_ADDRESS__)
enum { LESS = 2 }; /* it is some ten times slower */
#else
enum { LESS = 0 };
#endif

/* A beginning, from where everything that can happen is tried. */
struct beginning {
    const char *name;
    unsigned depth;
    uint8_t actions[MAX_STEPS];
    unsigned n_actions;
};

#define RUNS SMALL_SUBMIT, SMALL_COMMIT, SMALL_TO_NODE, SMALL_TO_HOST, SMALL_COMMIT

static const struct beginning beginnings[] = {
    {"nothing", 7, {0}, 0},
    {"task-1-runs", 7, {RUNS}, 5},
    {"task-1-has-ended", 8, {RUNS, SMALL_END, SMALL_TO_HOST, SMALL_COMMIT}, 8},
    {"task-1-drains", 7, {RUNS, SMALL_END_DIRTY, SMALL_TO_HOST, SMALL_COMMIT}, 8},
    {"n0-is-cut-off", 6, {RUNS, SMALL_CUT}, 6},
};

struct history {
    uint64_t enabled; /* what can follow */
    uint8_t n;
    uint8_t actions[MAX_STEPS];
};

/* What the searching process leaves to the one that waits for it. */
struct shared {
    struct history now;
    bool is_settling;
    uint64_t states, transitions, settled;
    unsigned depth;
};

struct search {
    unsigned max_faults, n_given; /* of the beginning's actions */
    GHashTable *seen;             /* set of digests */
    GArray *frontier, *next;
    struct shared *shared;
};

/* ---- the search ---- */

static guint hash_digest(gconstpointer digest) {
    guint hash;

    memcpy(&hash, digest, sizeof hash);
    return hash;
}

static gboolean is_same_digest(gconstpointer a, gconstpointer b) { return memcmp(a, b, SMALL_DIGEST_BYTES) == 0; }

static struct small *replay(const struct search *search, const struct history *history) {
    struct small *small = small_new(search->max_faults);

    for (unsigned i = 0; i < history->n; i++) {
        g_assert_true(i >= search->n_given || (small_enabled(small) >> history->actions[i] & 1));
        small_do(small, history->actions[i]);
    }
    return small;
}

static void take(struct search *search, const struct history *history, const struct small *small) {
    uint8_t digest[SMALL_DIGEST_BYTES];
    struct history found = *history;

    small_digest(small, digest);
    if (g_hash_table_contains(search->seen, digest))
        return;
    g_hash_table_add(search->seen, g_memdup2(digest, sizeof digest));
    found.enabled = small_enabled(small);
    g_array_append_val(search->next, found);
}

static void expand(struct search *search, const struct history *from) {
    for (unsigned action = 0; action < SMALL_ACTIONS; action++) {
        struct shared *shared = search->shared;
        struct small *small;

        if (!(from->enabled >> action & 1))
            continue;
        shared->now = *from;
        small = replay(search, from);
        shared->now.actions[shared->now.n++] = (uint8_t)action;
        small_do(small, action);
        small_check(small);
        take(search, &shared->now, small);
        shared->transitions++;
        small_free(small);
    }
}

static void settle(struct search *search, const struct history *history) {
    struct small *small = replay(search, history);

    search->shared->now = *history;
    search->shared->is_settling = true;
    small_settle(small);
    search->shared->is_settling = false;
    search->shared->settled++;
    small_free(small);
}

static void swap_frontiers(struct search *search) {
    GArray *done = search->frontier;

    search->frontier = search->next;
    search->next = done;
    g_array_set_size(done, 0);
}

static void run_search(struct search *search, const struct beginning *beginning, unsigned depth) {
    struct history history = {.n = (uint8_t)beginning->n_actions};
    struct small *small;

    memcpy(history.actions, beginning->actions, sizeof history.actions);
    search->shared->now = history;
    small = replay(search, &history);
    take(search, &history, small);
    small_free(small);
    for (unsigned d = 0; d < depth; d++) {
        swap_frontiers(search);
        for (guint i = 0; i < search->frontier->len; i++)
            expand(search, &g_array_index(search->frontier, struct history, i));
        search->shared->depth = d + 1;
    }
    for (guint i = 0; i < search->next->len; i++)
        settle(search, &g_array_index(search->next, struct history, i));
    search->shared->states = g_hash_table_size(search->seen);
}

/* ---- in a process of its own ---- */

static void child(const struct beginning *beginning, unsigned depth, struct shared *shared, int messages) {
    unsigned n_faults = 0;
    struct search search = {.shared = shared,
                            .seen = g_hash_table_new_full(hash_digest, is_same_digest, g_free, NULL),
                            .frontier = g_array_new(FALSE, FALSE, sizeof(struct history)),
                            .next = g_array_new(FALSE, FALSE, sizeof(struct history))};

    for (unsigned i = 0; i < beginning->n_actions; i++)
        n_faults += beginning->actions[i] >= SMALL_FAIL;
    search.n_given = beginning->n_actions;
    search.max_faults = MAX_FAULTS + n_faults;
    dup2(messages, STDERR_FILENO);
    dup2(messages, STDOUT_FILENO);
    run_search(&search, beginning, depth);
    g_array_unref(search.frontier);
    g_array_unref(search.next);
    g_hash_table_unref(search.seen);
    exit(0);
}

static void tell_history(const struct shared *shared, int messages) {
    g_autoptr(GString) text = g_string_new(NULL);
    char said[1000] = "";

    for (unsigned i = 0; i < shared->now.n; i++)
        g_string_append_printf(text, "%s%s", i ? "; " : "", small_action_text(shared->now.actions[i]));
    if (pread(messages, said, sizeof said - 1, 0) < 0)
        g_strlcpy(said, g_strerror(errno), sizeof said);
    g_strdelimit(said, "\n", ' ');
    g_test_message("%s\n%u actions: %s%s", said, shared->now.n, text->str, shared->is_settling ? "; settled" : "");
}

/* true: nothing was found. */
static bool explore(const struct beginning *beginning, unsigned depth) {
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int messages = memfd_create("messages", MFD_CLOEXEC), status;
    gint64 begin_us = g_get_monotonic_time();
    pid_t pid;

    g_assert(shared != MAP_FAILED && messages >= 0);
    fflush(NULL);
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0)
        child(beginning, depth, shared, messages);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    if (status == 0)
        g_test_message("from \"%s\", depth %u: %" G_GUINT64_FORMAT " states, %" G_GUINT64_FORMAT
                       " transitions, all %" G_GUINT64_FORMAT " ends settled; %.1f s",
                       beginning->name, shared->depth, shared->states, shared->transitions, shared->settled,
                       (double)(g_get_monotonic_time() - begin_us) / 1e6);
    else
        tell_history(shared, messages);
    close(messages);
    munmap(shared, sizeof *shared);
    return status == 0;
}

/* ---- tests ---- */

static unsigned depth_of(const struct beginning *beginning) {
    const char *more = getenv("SIM_DEPTH");

    return MIN(beginning->depth - LESS + (more ? (unsigned)strtoul(more, NULL, 10) : 0),
               MAX_STEPS - beginning->n_actions);
}

static void test_beginning(gconstpointer data) {
    const struct beginning *beginning = data;

    g_assert_true(explore(beginning, depth_of(beginning)));
}

/* ---- does it bite? ---- */

static void test_mutant(gconstpointer name) {
    bool is_found = false;

    fault_set_mutant(name);
    for (unsigned depth = 3; !is_found && depth <= 7; depth += 2)
        for (size_t i = 0; !is_found && i < G_N_ELEMENTS(beginnings); i++)
            is_found = !explore(&beginnings[i], depth);
    fault_set_mutant(NULL);
    g_assert_true(is_found);
}

/* none in a build without them. What one GPU per node cannot show (R4-index-is-position) is the simulator's to find. */
static const char *const mutants[] = {
    "R1-held-is-free",          "R1-no-ledger",         "R1-orphans-are-ignored",
    "R2-release-without-proof", "R3-lost-is-free",      "R3-unknown-is-free",
    "R3-stopping-releases",     "R5-act-before-record", "R5-ack-before-record",
};

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(beginnings); i++) {
        g_autofree char *path = g_strconcat("/explore/R1-R2-R3-R5/from-", beginnings[i].name, NULL);
        g_test_add_data_func(path, &beginnings[i], test_beginning);
    }
#ifdef KR_FAULT_POINTS
    const size_t n_mutants = G_N_ELEMENTS(mutants);
#else
    const size_t n_mutants = 0;
#endif
    for (size_t i = 0; i < n_mutants; i++) {
        g_autofree char *path = g_strconcat("/explore/mutant/", mutants[i], NULL);
        g_test_add_data_func(path, mutants[i], test_mutant);
    }
    return g_test_run();
}
