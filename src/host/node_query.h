#pragma once
/* Questions that only a node can answer: who is on a card, its history, its topology. Sent over the node's own connection, with
 * a deadline; a node that is silent or goes away fails them. What can be asked stands in src/runner/node_queries.c. */

#include <glib.h>
#include <jansson.h>

struct host;
struct http_exchange;

/* body: borrowed; NULL with an error: KR_ERROR_NOT_FOUND (no such node), _UNAVAILABLE (not connected, or it went away),
 * _TIMEOUT, or the node's own. */
typedef void node_query_cb(void *user, const json_t *body, const GError *error);

/* Takes `args` (NULL: none). The callback comes once, possibly before this returns. */
void node_query(struct host *host, const char *node, const char *what, json_t *args, node_query_cb *on_done,
                void *user);
/* The same for an HTTP exchange, which is answered with the body as it is. */
void node_query_reply(struct host *host, struct http_exchange *x, const char *node, const char *what, json_t *args);

/* The node's message WIRE_ANSWER. */
void node_query_answered(struct host *host, const char *node, const json_t *message);
/* Fails what was asked of the node; NULL: of all. */
void node_queries_cut(struct host *host, const char *node);
