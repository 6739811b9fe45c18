#pragma once
/* One history in a child process of its own: whatever breaks there aborts there, and what it said comes back. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "sim/world.h"

struct history {
    uint64_t seed;
    unsigned steps;
    const GArray *keep; /* of unsigned, ascending: only these steps; NULL: all up to `steps` */
    bool is_unsettled;  /* the end is not waited for */
    bool is_traced;     /* what it does is told in outcome.trace */
    const char *mutant; /* NULL: none */
};

struct outcome {
    bool has_failed;
    char *kind; /* what is wrong, without the particulars; NULL when nothing is */
    char *trace;
    char *text;       /* all that was said on stderr */
    unsigned step;    /* the last one begun */
    bool in_settling; /* all steps were done */
    struct world_counts counts;
};
void outcome_clear(struct outcome *outcome);

struct child;
/* Several can run at once. */
struct child *history_start(const struct history *history);
/* Waits for it. Frees the child. */
void history_finish(struct child *child, struct outcome *ret_outcome);
void history_run(const struct history *history, struct outcome *ret_outcome);
