#pragma once
/* What the host may ask of this node (WIRE_QUERY): a table of questions. An answer may take its time; when the connection is lost
 * meanwhile it is dropped, as the host has failed the question by then. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

struct runner;

/* The message WIRE_QUERY. false with KR_ERROR_BAD_REQUEST when it cannot be read; a question that is not known here is
 * answered so. */
bool node_queries_take(struct runner *runner, const json_t *message, GError **error);
/* Drops every question that is not answered yet. Before the runner is freed, and when its connection is gone. */
void node_queries_drop(struct runner *runner);
