#pragma once
/* The host's HTTP server: libmicrohttpd on the libuv loop, no thread of its own. A handler gets an exchange with its
 * whole body and answers at once or later; it may stream, or turn the connection into a WebSocket. Limits are checked
 * before a handler runs: body size by the route, JSON content type, known query parameters, the Host header
 * (a browser's DNS rebinding), the Origin of what may change something (a page of another site): net/http_names.h.
 *
 * The Host is an address, localhost, this machine's own host name or a name of http_server_add_names. Every other one is
 * refused on a loopback listener, and on other listeners when a browser sends it (Origin, Sec-Fetch-Site, Sec-Fetch-Mode).
 * Over plain http a browser sends none of them with a GET of a page's own: only on loopback are such reads guarded. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "net/ws.h"

struct http_server;
struct http_exchange;
struct http_stream;

struct http_param {
    const char *name;
    const char *type; /* OpenAPI: "integer", "string", "boolean" */
    const char *help;
};

/* One row of the API. The table is what the dispatcher, the OpenAPI document and its test are made from. */
struct http_route {
    const char *method;
    const char *path;      /* "/api/v1/tasks/{id}" */
    const char *operation; /* OpenAPI operationId */
    const char *summary;
    const struct http_param *query; /* ends with a NULL name; NULL: none */
    const char *request_schema;     /* name in components, NULL: no body */
    const char *response_schema;    /* name in components; NULL: not JSON */
    int success_status;
    size_t max_body_bytes;
    void (*handle)(struct http_exchange *x, void *app);
};

enum { HTTP_MAX_PATH_PARAMS = 2 };

/* `listen`: "ADDRESS:PORT", "[ADDRESS]:PORT" or "localhost:PORT"; port 0 takes a free one. `routes` ends with a NULL
 * method and outlives the server. KR_ERROR_USAGE for a wrong address, KR_ERROR_IO when it cannot be bound. */
struct http_server *http_server_new(uv_loop_t *loop, const char *listen, const struct http_route *routes, void *app,
                                    GError **error);
/* Who answers GET and HEAD of paths that no route has, whatever their query; of the row only `handle` counts. It outlives the
 * server. Without one they are 404. */
void http_server_set_fallback(struct http_server *server, const struct http_route *fallback);
/* More names under which this server is reached, as a proxy or a browser sends them in Host, without port: http_names_add.
 * `list` stays the caller's; KR_ERROR_USAGE when one is no name, what came before it is added. */
bool http_server_add_names(struct http_server *server, char *const *list, GError **error);
int http_server_port(const struct http_server *server);
/* Stops accepting; answers 503 to what is not answered yet, cuts streams. Frees. NULL is fine. */
void http_server_free(struct http_server *server);

/* ---- within a handler, or later ---- */
const char *http_path_param(const struct http_exchange *x, size_t i);    /* of the i-th {…}; decoded */
const char *http_path(const struct http_exchange *x);                    /* in the fallback; decoded */
const char *http_query(const struct http_exchange *x, const char *name); /* NULL when absent */
bool http_query_int(const struct http_exchange *x, const char *name, int64_t min, int64_t max, int64_t fallback,
                    int64_t *ret_value, GError **error);
const char *http_header(const struct http_exchange *x, const char *name); /* NULL when absent */
const char *http_body(const struct http_exchange *x, size_t *ret_len);    /* NUL-terminated */

/* Exactly one of these ends an exchange; x is gone afterwards. */
void http_reply_json(struct http_exchange *x, int status, json_t *json); /* takes the reference */
struct http_header {
    const char *name, *value;
};
/* Bytes that stay as long as the program; with these headers alone. HEAD and 304 get no more than their length. They end with a row of zeros; one that is without name
 * and has a value is left out. */
void http_reply_static(struct http_exchange *x, int status, const struct http_header *headers, const void *bytes,
                       size_t len);
void http_reply_bytes(struct http_exchange *x, int status, const char *content_type, const void *bytes, size_t len);
/* {"error":{code,message, …members of details}}; takes the reference to details, which may be NULL. */
void http_reply_error(struct http_exchange *x, const GError *error, json_t *details);

/* A body of unknown length. on_drain: what was written has been taken, write more; on_gone: once, when the client is gone
 * or the server ends; the stream is of no use afterwards (not called after http_stream_end). */
struct http_stream *http_reply_stream(struct http_exchange *x, const char *content_type, void (*on_drain)(void *user),
                                      void (*on_gone)(void *user), void *user);
/* The same where the body is fetched: `read` gives up to `max` bytes, 0 when there are none now; http_stream_wake says that
 * there are some again. Nothing is kept here, so a reader that is slow costs nothing. */
struct http_stream *http_reply_source(struct http_exchange *x, const char *content_type,
                                      size_t (*read)(void *user, char *buf, size_t max), void (*on_gone)(void *user),
                                      void *user);
void http_stream_wake(struct http_stream *stream);
void http_stream_write(struct http_stream *stream, const void *bytes, size_t len);
size_t http_stream_queued_bytes(const struct http_stream *stream);
/* complete: the body is whole. Otherwise the connection is cut so that the client can tell. */
void http_stream_end(struct http_stream *stream, bool complete);

/* 101 and a WebSocket, which must be freed before the server. `on_ready` gets it once the answer is out. A request that is no WebSocket handshake is answered
 * with 400 here, and on_ready is called with NULL. */
void http_upgrade(struct http_exchange *x, const char *subprotocol, void (*on_ready)(void *user, struct ws *ws),
                  void *user);
