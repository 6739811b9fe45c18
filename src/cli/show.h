#pragma once
/* Pieces of text made of the API's JSON: what several verbs say in the same words. Members that are absent or of
 * another type count as unknown. */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Members of an object; NULL, 0, false when absent. Strings are borrowed. */
const char *show_str(const json_t *object, const char *key);
int64_t show_int(const json_t *object, const char *key);
bool show_has(const json_t *object, const char *key); /* present and a number */
bool show_bool(const json_t *object, const char *key);

/* All g_free. */
char *show_gpus(const json_t *gpus, const char *none); /* "0,1,2"; `none` without any */
char *show_span(int64_t from_ms, int64_t to_ms);       /* "12m 3s", "-" when from is 0; to 0: now */
char *show_bytes_pair(const json_t *object, const char *used_key, const char *total_key); /* "1.5 GiB / 80.0 GiB" */
char *show_command(const json_t *task);           /* the argv on one line, quoted where it must be */
char *show_where(const json_t *task);             /* "mynode: GPUs 0,1, NUMA node 0" */
const char *show_state_colour(const char *state); /* NULL: none */
bool show_is_over(const json_t *task);            /* completed, failed or killed */
/* The exit code that stands for this ended task: its own, or 1. */
int show_exit_code(const json_t *task);
/* Why it ended as it did, with a word on running out of memory; NULL when there is nothing to say. */
char *show_reason(const json_t *task);
