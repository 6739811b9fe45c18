#pragma once
/* A target says where a task should run, as typed by a user: NODE[:NUMA][::GPU[,GPU…]].
 * The grammar is strict: what is accepted has exactly one reading, what is not gets one line that names the part.
 * Only the host parses targets; whether the node, its NUMA node and its GPUs exist is placement's question. */

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    NODE_NAME_MAX_BYTES = 63, /* RFC 1035 label */
    TARGET_MAX_BYTES = 512,
    TARGET_MAX_GPUS = 64,
    TARGET_MAX_NUMBER = 1023, /* NUMA ids and GPU indices */
    TARGET_NO_NUMA = -1,
};

struct target {
    char node[NODE_NAME_MAX_BYTES + 1];
    int numa;                  /* TARGET_NO_NUMA when not given */
    int gpus[TARGET_MAX_GPUS]; /* node-local indices, in the order given, no duplicates */
    size_t n_gpus;
};

/* Parses `text` (len bytes, no NUL needed). KR_ERROR_BAD_REQUEST with the offending part and what would be right. */
bool target_from_str(const char *text, size_t len, struct target *ret_target, GError **error);

/* The canonical form, equal to what was parsed. Caller frees. */
char *target_to_str(const struct target *target);

/* A node's name: letters, digits, '-', '.' and '_', beginning and ending with a letter or digit. */
bool node_name_check(const char *name, size_t len, GError **error);
