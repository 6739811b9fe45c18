#pragma once
/* Staying with tasks until they are over: their output as it comes, their state as it changes. Neither a host that
 * restarts nor a connection that breaks ends it: streams go on at the byte where they were cut, nothing twice. */

#include <glib.h>
#include <jansson.h>
#include <stdint.h>

#include "cli/api.h"

enum { FOLLOW_STREAMS = 2 }; /* 0 stdout, 1 stderr */

struct follow_options {
    int fds[FOLLOW_STREAMS]; /* where the bytes of stdout and stderr go; -1: not asked for */
    /* With each state of a task that differs from the one before, and the first. May be NULL. */
    void (*on_change)(void *user, const json_t *task);
    void *user;
};

/* Returns when all tasks are over and their output is here. *ret_tasks: an array of the tasks as they ended, in the
 * order of ids (new reference; untouched on failure). Ctrl-C ends it early: CLI_EXIT_INTERRUPTED. CLI_EXIT_OK
 * otherwise, CLI_EXIT_FAILED with *error when the host refuses to tell. */
int follow_tasks(struct cli_api *api, const uint32_t *ids, size_t n_ids, const struct follow_options *options,
                 json_t **ret_tasks, GError **error);
