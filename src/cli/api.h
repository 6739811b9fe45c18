#pragma once
/* The CLI's side of the host's HTTP API: one loop, one client, JSON in and out. Calls here block by running the loop;
 * nothing else lives on it but what follow.c puts there. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "net/http_client.h"

struct cli_api;

/* base_url without a slash at the end. Never fails: whether a host is there shows at the first call. */
struct cli_api *cli_api_new(const char *base_url);
void cli_api_free(struct cli_api *api); /* NULL is fine */

uv_loop_t *cli_api_loop(struct cli_api *api);
/* To be called by every callback that a `while (!done) uv_run(loop, UV_RUN_ONCE)` waits for. libuv runs due timers before
 * it waits, and libcurl answers from timers: without this the turn that brought the last answer would wait for a next one. */
void cli_api_wake(struct cli_api *api);
struct http_client *cli_api_client(struct cli_api *api);
/* "http://…/api/v1" + path; g_free. */
char *cli_api_url(const struct cli_api *api, const char *path);

/* One call. `body` NULL: none. New reference to the answer, or NULL with the host's own code and message
 * (KR_ERROR_UNREACHABLE when there is none). *ret_refusals (may be NULL): the answer's list of refusals, new reference
 * or NULL. */
json_t *cli_api_call(struct cli_api *api, const char *method, const char *path, const json_t *body,
                     json_t **ret_refusals, GError **error);
/* The same for a request that must take effect once: sent with an Idempotency-Key, and sent again with the same one as long
 * as its answer may have been lost (the connection broke, the host restarted), for half a minute. */
json_t *cli_api_call_once(struct cli_api *api, const char *method, const char *path, const json_t *body,
                          json_t **ret_refusals, GError **error);
json_t *cli_api_get(struct cli_api *api, const char *path, GError **error);

/* What an answer says: the JSON of a 2xx one, or NULL with its error. `failure` is http_request.on_done's. */
json_t *cli_api_decode(const struct cli_api *api, int status, const char *body, size_t len, const GError *failure,
                       json_t **ret_refusals, GError **error);

/* ?a=b&c=d from pairs (name, value, name, value, …, NULL); pairs with a NULL value are left out. g_free. */
char *cli_api_query(const char *path, ...) G_GNUC_NULL_TERMINATED;
