#include "net/http_server.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "net/http_names.h"
#include "net/ws_handshake.h"

enum {
    CONNECTION_LIMIT = 4096,
    IDLE_TIMEOUT_S = 120,
    MAX_DISCARDED_BYTES = 1 << 30, /* of a body over its limit that is read only to be able to answer */
    STREAM_BLOCK = 64 * 1024,
    SOURCE_BLOCK = 4 * 1024, /* for HTTP/1.0 alone: chunks are made in the connection's own memory */
    SWEEP_MS = 2000,
    HOST_SHOWN_BYTES = 255,
};

struct http_server {
    uv_loop_t *loop;
    uv_poll_t poll;
    uv_timer_t timer; /* MHD's own time-outs and resumed connections */
    uv_timer_t sweep; /* looks for clients that went away while their answer waits */
    int open_handles;
    struct MHD_Daemon *daemon;
    const struct http_route *routes;
    const struct http_route *fallback; /* NULL: none */
    void *app;
    struct http_names *names;
    int port;
    bool loopback_only;
    bool is_running; /* inside MHD_run */
    bool is_stopping;
    GHashTable *waiting; /* exchanges and streams that are suspended: set of struct http_exchange */
};

/* Lives from the request's first byte until MHD says that it is completed. */
struct http_exchange {
    struct http_server *server;
    struct MHD_Connection *connection;
    const struct http_route *route;
    char *params[HTTP_MAX_PATH_PARAMS];
    char *path; /* with the fallback, else NULL */
    GByteArray *body;
    size_t discarded;
    bool is_dispatched;
    bool is_suspended;
    struct MHD_Response *response; /* ready to be queued */
    unsigned status;
    struct http_stream *stream;
};

struct http_stream {
    struct http_exchange *x; /* NULL once the connection is gone */
    GByteArray *queue;
    size_t taken; /* of queue */
    bool is_ended, is_complete;
    size_t (*read)(void *user, char *buf, size_t max); /* NULL: from the queue */
    void (*on_drain)(void *user);
    void (*on_gone)(void *user);
    void *user;
};

static void kick(struct http_server *server);

/* ---- suspending ---- */

static void suspend(struct http_exchange *x) {
    if (x->is_suspended)
        return;
    x->is_suspended = true;
    g_hash_table_add(x->server->waiting, x);
    MHD_suspend_connection(x->connection);
}

static void resume(struct http_exchange *x) {
    if (!x->is_suspended)
        return;
    x->is_suspended = false;
    g_hash_table_remove(x->server->waiting, x);
    MHD_resume_connection(x->connection);
    kick(x->server);
}

/* ---- answers ---- */

static void answer(struct http_exchange *x, unsigned status, struct MHD_Response *response) {
    x->response = response;
    x->status = status;
    resume(x);
}

static void set_response(struct http_exchange *x, unsigned status, struct MHD_Response *response, const char *type) {
    if (type)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    answer(x, status, response);
}

void http_reply_static(struct http_exchange *x, int status, const struct http_header *headers, const void *bytes,
                       size_t len) {
    struct MHD_Response *response = MHD_create_response_from_buffer(len, (void *)(uintptr_t)bytes,
                                                                    MHD_RESPMEM_PERSISTENT);

    for (; headers->name || headers->value; headers++)
        if (headers->name)
            MHD_add_response_header(response, headers->name, headers->value);
    answer(x, (unsigned)status, response);
}

void http_reply_bytes(struct http_exchange *x, int status, const char *content_type, const void *bytes, size_t len) {
    set_response(x, (unsigned)status,
                 MHD_create_response_from_buffer(len, (void *)(uintptr_t)bytes, MHD_RESPMEM_MUST_COPY), content_type);
}

void http_reply_json(struct http_exchange *x, int status, json_t *json) {
    char *text = json_dumps(json, JSON_COMPACT);

    json_decref(json);
    set_response(x, (unsigned)status, MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE),
                 "application/json");
}

void http_reply_error(struct http_exchange *x, const GError *error, json_t *details) {
    json_t *body = json_pack("{s:s}", "code", kr_error_name(error));
    g_autofree char *valid = g_utf8_make_valid(error->message, -1);

    json_object_set_new(body, "message", json_string(valid));
    if (details)
        json_object_update_missing(body, details);
    json_decref(details);
    http_reply_json(x, kr_error_http_status(error), json_pack("{s:o}", "error", body));
}

/* ---- streams ---- */

static void stream_free(struct http_stream *stream) {
    g_byte_array_unref(stream->queue);
    g_free(stream);
}

static size_t read_queue(struct http_stream *stream, char *buf, size_t max) {
    size_t n = MIN(max, stream->queue->len - stream->taken);

    memcpy(buf, stream->queue->data + stream->taken, n);
    stream->taken += n;
    if (n > 0 && stream->taken == stream->queue->len) {
        g_byte_array_set_size(stream->queue, 0);
        stream->taken = 0;
        if (!stream->is_ended && stream->on_drain)
            stream->on_drain(stream->user);
    }
    return n;
}

static ssize_t stream_read(void *cls, uint64_t pos, char *buf, size_t max) {
    struct http_stream *stream = cls;
    size_t n;

    (void)pos;
    if (!stream->read)
        n = read_queue(stream, buf, max);
    else
        n = stream->is_ended || stream->x->server->is_stopping ? 0 : stream->read(stream->user, buf, max);
    if (n == 0) {
        if (stream->is_ended)
            return stream->is_complete ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
        suspend(stream->x);
        return 0;
    }
    return (ssize_t)n;
}

static struct http_stream *stream_new(struct http_exchange *x, const char *content_type, size_t block) {
    struct http_stream *stream = g_new0(struct http_stream, 1);
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, block, stream_read, stream,
                                                                      NULL);

    stream->x = x;
    stream->queue = g_byte_array_new();
    x->stream = stream;
    MHD_add_response_header(response, "X-Accel-Buffering", "no"); /* nginx: pass it on as it comes */
    set_response(x, 200, response, content_type);
    return stream;
}

struct http_stream *http_reply_stream(struct http_exchange *x, const char *content_type, void (*on_drain)(void *user),
                                      void (*on_gone)(void *user), void *user) {
    struct http_stream *stream = stream_new(x, content_type, STREAM_BLOCK);

    stream->on_drain = on_drain;
    stream->on_gone = on_gone;
    stream->user = user;
    return stream;
}

struct http_stream *http_reply_source(struct http_exchange *x, const char *content_type,
                                      size_t (*read)(void *user, char *buf, size_t max), void (*on_gone)(void *user),
                                      void *user) {
    struct http_stream *stream = stream_new(x, content_type, SOURCE_BLOCK);

    stream->read = read;
    stream->on_gone = on_gone;
    stream->user = user;
    return stream;
}

void http_stream_wake(struct http_stream *stream) { resume(stream->x); }

void http_stream_write(struct http_stream *stream, const void *bytes, size_t len) {
    g_byte_array_append(stream->queue, bytes, (guint)len);
    resume(stream->x);
}

size_t http_stream_queued_bytes(const struct http_stream *stream) { return stream->queue->len - stream->taken; }

void http_stream_end(struct http_stream *stream, bool complete) {
    stream->is_ended = true;
    stream->is_complete = complete;
    resume(stream->x);
}

static void stream_gone(struct http_stream *stream) {
    if (!stream->is_ended && stream->on_gone)
        stream->on_gone(stream->user);
    stream_free(stream);
}

/* ---- the request ---- */

const char *http_path_param(const struct http_exchange *x, size_t i) { return x->params[i]; }

const char *http_path(const struct http_exchange *x) { return x->path; }

const char *http_query(const struct http_exchange *x, const char *name) {
    return MHD_lookup_connection_value(x->connection, MHD_GET_ARGUMENT_KIND, name);
}

bool http_query_int(const struct http_exchange *x, const char *name, int64_t min, int64_t max, int64_t fallback,
                    int64_t *ret_value, GError **error) {
    const char *text = http_query(x, name);
    char *end;

    *ret_value = fallback;
    if (!text)
        return true;
    errno = 0;
    *ret_value = g_ascii_strtoll(text, &end, 10);
    if (errno || end == text || *end != '\0' || *ret_value < min || *ret_value > max)
        return kr_fail(error, BAD_REQUEST,
                       "%s must be a whole number between %" G_GINT64_FORMAT " and %" G_GINT64_FORMAT, name, min, max);
    return true;
}

const char *http_header(const struct http_exchange *x, const char *name) {
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

const char *http_body(const struct http_exchange *x, size_t *ret_len) {
    *ret_len = x->body->len - 1; /* dispatch added the NUL */
    return (const char *)x->body->data;
}

/* Matches "/a/{x}/b"; fills params. */
static bool path_matches(const char *pattern, const char *path, char *params[HTTP_MAX_PATH_PARAMS]) {
    size_t n = 0;

    while (*pattern && *path) {
        if (*pattern == '{') {
            size_t len = strcspn(path, "/");
            if (len == 0)
                return false;
            g_free(params[n]);
            params[n++] = g_strndup(path, len);
            path += len;
            pattern += strcspn(pattern, "}") + 1;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *pattern == *path;
}

static bool find_route(struct http_exchange *x, const char *method, const char *path, GError **error) {
    bool path_known = false;

    for (const struct http_route *route = x->server->routes; route->method; route++) {
        if (!path_matches(route->path, path, x->params))
            continue;
        path_known = true;
        if (strcmp(route->method, method) == 0) {
            x->route = route;
            return true;
        }
    }
    if (!path_known && x->server->fallback && (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)) {
        x->route = x->server->fallback;
        x->path = g_strdup(path);
        return true;
    }
    if (path_known)
        return kr_fail(error, METHOD_NOT_ALLOWED, "%s does not take %s", path, method);
    return kr_fail(error, NOT_FOUND, "there is nothing at %s: see /api/v1/openapi.json", path);
}

struct query_check {
    const struct http_route *route;
    const char *unknown;
};

static enum MHD_Result check_query(void *cls, enum MHD_ValueKind kind, const char *key, const char *value) {
    struct query_check *check = cls;
    const struct http_param *param = check->route->query;

    (void)kind;
    (void)value;
    while (param && param->name && strcmp(param->name, key) != 0)
        param++;
    if (!param || !param->name)
        check->unknown = key;
    return MHD_YES;
}

/* What browsers add of themselves, and pages cannot take away. */
static bool is_from_browser(const struct http_exchange *x) {
    return http_header(x, "Origin") || http_header(x, "Sec-Fetch-Site") || http_header(x, "Sec-Fetch-Mode");
}

/* A page of another site that had its name rebound to this machine would send that name. A server that other machines
 * reach may have names that it does not know, so only browsers are held to those that it does. On loopback everybody is. */
static bool host_header_ok(const struct http_exchange *x, GError **error) {
    const char *host = http_header(x, "Host");
    g_autofree char *shown = NULL;

    if (!host || http_names_has(x->server->names, host) || (!x->server->loopback_only && !is_from_browser(x)))
        return true;
    shown = g_strndup(host, HOST_SHOWN_BYTES);
    for (char *c = shown; *c; c++)
        if (!g_ascii_isgraph(*c))
            *c = '?';
    return kr_fail(error, FORBIDDEN,
                   "the Host \"%s\" is no known name of this host: use localhost or an address, or list it in the "
                   "setting host_names",
                   shown);
}

/* A browser names the page that a request comes from when it may change something: any method but GET and HEAD, and every
 * WebSocket. Pages of another site have no business here, whoever is at that browser (cross-site request forgery, cross-site
 * WebSocket hijacking). Other clients send no Origin. */
static bool origin_ok(const struct http_exchange *x, const char *method) {
    const char *origin = http_header(x, "Origin"), *host = http_header(x, "Host");
    bool reads_only = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

    if (!origin || (reads_only && !http_header(x, "Upgrade")))
        return true;
    return host && http_same_origin(origin, host);
}

static bool check_request(struct http_exchange *x, const char *method, const char *path, GError **error) {
    struct query_check query = {0};
    const char *type;

    if (!host_header_ok(x, error))
        return false;
    if (!origin_ok(x, method))
        return kr_fail(error, FORBIDDEN, "the request comes from a page of another site (its Origin is not this Host)");
    if (!find_route(x, method, path, error))
        return false;
    query.route = x->route;
    MHD_get_connection_values(x->connection, MHD_GET_ARGUMENT_KIND, check_query, &query);
    if (query.unknown && !x->path)
        return kr_fail(error, BAD_REQUEST, "there is no query parameter \"%s\" here", query.unknown);
    type = http_header(x, "Content-Type");
    if (x->route->request_schema && (!type || g_ascii_strncasecmp(type, "application/json", 16) != 0))
        return kr_fail(error, UNSUPPORTED_TYPE, "send \"Content-Type: application/json\"");
    return true;
}

static bool check_announced_length(struct http_exchange *x, GError **error) {
    const char *length = http_header(x, "Content-Length");
    const char *expect = http_header(x, "Expect");

    /* without "Expect" the client is sending already: the body is read and dropped, and the answer comes behind it */
    if (!length || !expect || g_ascii_strtoull(length, NULL, 10) <= x->route->max_body_bytes)
        return true;
    return kr_fail(error, TOO_LARGE, "the body has %s bytes, at most %zu are accepted", length,
                   x->route->max_body_bytes);
}

static enum MHD_Result queue_response(struct http_exchange *x) {
    struct MHD_Response *response = g_steal_pointer(&x->response);
    enum MHD_Result result = MHD_queue_response(x->connection, x->status, response);

    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result begin(struct http_exchange *x, const char *method, const char *path) {
    g_autoptr(GError) error = NULL;

    if (check_request(x, method, path, &error) && check_announced_length(x, &error))
        return MHD_YES;
    x->is_dispatched = true;
    http_reply_error(x, error, NULL);
    return queue_response(x);
}

static enum MHD_Result take_body(struct http_exchange *x, const char *bytes, size_t *len) {
    if (x->body->len + *len > x->route->max_body_bytes) {
        x->discarded += *len;
        g_byte_array_set_size(x->body, 0);
    } else if (x->discarded == 0) {
        g_byte_array_append(x->body, (const guint8 *)bytes, (guint)*len);
    } else {
        x->discarded += *len;
    }
    *len = 0;
    return x->discarded > MAX_DISCARDED_BYTES ? MHD_NO : MHD_YES;
}

static void dispatch(struct http_exchange *x) {
    g_autoptr(GError) error = NULL;

    x->is_dispatched = true;
    if (x->server->is_stopping) {
        kr_fail(&error, UNAVAILABLE, "the host is stopping");
        http_reply_error(x, error, NULL);
        return;
    }
    if (x->discarded > 0) {
        kr_fail(&error, TOO_LARGE, "the body is larger than the %zu bytes that are accepted", x->route->max_body_bytes);
        http_reply_error(x, error, NULL);
        return;
    }
    g_byte_array_append(x->body, (const guint8 *)"", 1);
    x->route->handle(x, x->server->app);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **con_cls) {
    struct http_exchange *x = *con_cls;

    (void)version;
    if (!x) {
        x = *con_cls = g_new0(struct http_exchange, 1);
        x->server = cls;
        x->connection = connection;
        x->body = g_byte_array_new();
        return begin(x, method, url);
    }
    if (*upload_size > 0)
        return take_body(x, upload, upload_size);
    if (!x->is_dispatched)
        dispatch(x);
    if (x->response)
        return queue_response(x);
    suspend(x);
    return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                         enum MHD_RequestTerminationCode code) {
    struct http_exchange *x = *con_cls;

    (void)cls;
    (void)connection;
    (void)code;
    if (!x)
        return;
    g_hash_table_remove(x->server->waiting, x);
    if (x->stream)
        stream_gone(x->stream);
    if (x->response)
        MHD_destroy_response(x->response);
    for (size_t i = 0; i < HTTP_MAX_PATH_PARAMS; i++)
        g_free(x->params[i]);
    g_free(x->path);
    g_byte_array_unref(x->body);
    g_free(x);
    *con_cls = NULL;
}

/* ---- WebSocket ---- */

struct upgrade {
    struct http_server *server;
    struct MHD_UpgradeResponseHandle *urh;
    void (*on_ready)(void *user, struct ws *ws);
    void *user;
};

/* MHD closes the socket itself, on its next turn; without a kick that may be long in coming. */
static void release_upgraded(void *arg) {
    struct upgrade *upgrade = arg;

    MHD_upgrade_action(upgrade->urh, MHD_UPGRADE_ACTION_CLOSE);
    kick(upgrade->server);
    g_free(upgrade);
}

/* The handlers are set by on_ready, before the loop turns. */
static void on_upgraded(void *cls, struct MHD_Connection *connection, void *req_cls, const char *extra,
                        size_t extra_size, MHD_socket fd, struct MHD_UpgradeResponseHandle *urh) {
    const struct ws_handlers none = {0};
    struct upgrade *upgrade = cls;

    (void)connection;
    (void)req_cls;
    upgrade->urh = urh;
    upgrade->on_ready(upgrade->user, ws_new_server(upgrade->server->loop, fd, extra, extra_size, &none, NULL,
                                                   release_upgraded, upgrade));
}

void http_upgrade(struct http_exchange *x, const char *subprotocol, void (*on_ready)(void *user, struct ws *ws),
                  void *user) {
    const char *key = http_header(x, "Sec-WebSocket-Key");
    const char *version = http_header(x, "Sec-WebSocket-Version");
    const char *protocol = http_header(x, "Sec-WebSocket-Protocol");
    g_autofree char *accept = key ? ws_handshake_accept(key) : NULL;
    g_autoptr(GError) error = NULL;
    struct upgrade *upgrade;
    struct MHD_Response *response;

    if (!key || g_strcmp0(version, "13") != 0 || g_strcmp0(protocol, subprotocol) != 0) {
        kr_fail(&error, BAD_REQUEST, "this takes a WebSocket handshake (version 13, subprotocol %s)", subprotocol);
        http_reply_error(x, error, NULL);
        on_ready(user, NULL);
        return;
    }
    upgrade = g_new0(struct upgrade, 1);
    *upgrade = (struct upgrade){.server = x->server, .on_ready = on_ready, .user = user};
    response = MHD_create_response_for_upgrade(on_upgraded, upgrade);
    MHD_add_response_header(response, MHD_HTTP_HEADER_UPGRADE, "websocket");
    MHD_add_response_header(response, MHD_HTTP_HEADER_SEC_WEBSOCKET_ACCEPT, accept);
    MHD_add_response_header(response, "Sec-WebSocket-Protocol", subprotocol);
    set_response(x, MHD_HTTP_SWITCHING_PROTOCOLS, response, NULL);
}

/* ---- the loop ---- */

static void on_timer(uv_timer_t *timer);

static void run(struct http_server *server) {
    MHD_UNSIGNED_LONG_LONG wait_ms;

    server->is_running = true;
    MHD_run(server->daemon);
    server->is_running = false;
    if (server->is_stopping)
        return;
    if (MHD_get_timeout(server->daemon, &wait_ms) == MHD_YES)
        uv_timer_start(&server->timer, on_timer, wait_ms, 0);
    else
        uv_timer_stop(&server->timer);
}

static void on_timer(uv_timer_t *timer) { run(timer->data); }

static void on_poll(uv_poll_t *poll, int status, int events) {
    (void)status;
    (void)events;
    run(poll->data);
}

/* A resumed connection is looked at on the loop's next turn. */
static void kick(struct http_server *server) {
    if (!server->is_stopping)
        uv_timer_start(&server->timer, on_timer, 0, 0);
}

static bool client_is_gone(const struct http_exchange *x) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct pollfd pfd = {.fd = info ? info->connect_fd : -1, .events = POLLRDHUP};

    return pfd.fd < 0 || (poll(&pfd, 1, 0) > 0 && (pfd.revents & (POLLHUP | POLLERR | POLLRDHUP)));
}

/* MHD does not look at suspended connections; a follower of a quiet log would stay for ever. */
static void on_sweep(uv_timer_t *timer) {
    struct http_server *server = timer->data;
    g_autoptr(GPtrArray) gone = g_ptr_array_new();
    GHashTableIter iter;
    gpointer item;

    g_hash_table_iter_init(&iter, server->waiting);
    while (g_hash_table_iter_next(&iter, &item, NULL)) {
        struct http_exchange *x = item;
        if (x->stream && client_is_gone(x))
            g_ptr_array_add(gone, x);
    }
    for (guint i = 0; i < gone->len; i++) {
        struct http_exchange *x = gone->pdata[i];
        if (x->stream->on_gone)
            x->stream->on_gone(x->stream->user);
        http_stream_end(x->stream, false);
    }
}

static bool split_listen(const char *listen, char **ret_host, char **ret_port, GError **error) {
    const char *colon = strrchr(listen, ':');
    size_t len = colon ? (size_t)(colon - listen) : 0;

    if (len == 0 || colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1) || strlen(colon + 1) > 5)
        return kr_fail(error, USAGE, "listen: \"%s\" is not of the form ADDRESS:PORT, such as 127.0.0.1:8000", listen);
    if (listen[0] == '[' && listen[len - 1] == ']')
        *ret_host = g_strndup(listen + 1, len - 2);
    else
        *ret_host = g_strndup(listen, len);
    *ret_port = g_strdup(colon + 1);
    return true;
}

static bool is_loopback(const struct sockaddr *address) {
    if (address->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24) == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

G_GNUC_PRINTF(2, 0) static void on_mhd_log(void *arg, const char *format, va_list args) {
    g_autofree char *text = g_strdup_vprintf(format, args);

    (void)arg;
    log_debug("HTTP: %s", text);
}

static struct MHD_Daemon *start_daemon(struct http_server *server, const struct sockaddr *address) {
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG |
                     (address->sa_family == AF_INET6 ? MHD_USE_IPv6 : 0);

    return MHD_start_daemon(flags, 0, NULL, NULL, on_request, server, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL,
                            MHD_OPTION_SOCK_ADDR, address, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTION_LIMIT,
                            MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_TIMEOUT_S, MHD_OPTION_NOTIFY_COMPLETED,
                            on_completed, NULL, MHD_OPTION_END);
}

static bool bind_daemon(struct http_server *server, const char *listen, GError **error) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    g_autofree char *host = NULL;
    g_autofree char *port = NULL;
    int status;

    if (!split_listen(listen, &host, &port, error))
        return false;
    if (strcmp(host, "localhost") != 0)
        hints.ai_flags |= AI_NUMERICHOST;
    status = getaddrinfo(host, port, &hints, &found);
    if (status != 0)
        return kr_fail(error, USAGE, "listen: \"%s\" is not an address: %s", host, gai_strerror(status));
    server->loopback_only = is_loopback(found->ai_addr);
    errno = 0;
    server->daemon = start_daemon(server, found->ai_addr);
    freeaddrinfo(found);
    if (!server->daemon)
        return kr_fail(error, IO, "cannot listen on %s: %s", listen,
                       errno ? g_strerror(errno) : "the address cannot be bound");
    server->port = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    return true;
}

struct http_server *http_server_new(uv_loop_t *loop, const char *listen, const struct http_route *routes, void *app,
                                    GError **error) {
    struct http_server *server = g_new0(struct http_server, 1);

    server->loop = loop;
    server->routes = routes;
    server->app = app;
    server->names = http_names_new();
    server->waiting = g_hash_table_new(NULL, NULL);
    if (!bind_daemon(server, listen, error)) {
        g_hash_table_unref(server->waiting);
        http_names_free(server->names);
        g_free(server);
        return NULL;
    }
    server->open_handles = 3;
    uv_poll_init(loop, &server->poll, MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
    uv_timer_init(loop, &server->timer);
    uv_timer_init(loop, &server->sweep);
    server->poll.data = server->timer.data = server->sweep.data = server;
    uv_poll_start(&server->poll, UV_READABLE, on_poll);
    uv_timer_start(&server->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    return server;
}

void http_server_set_fallback(struct http_server *server, const struct http_route *fallback) {
    server->fallback = fallback;
}

bool http_server_add_names(struct http_server *server, char *const *list, GError **error) {
    return http_names_add(server->names, list, error);
}

int http_server_port(const struct http_server *server) { return server->port; }

static void on_handle_closed(uv_handle_t *handle) {
    struct http_server *server = handle->data;

    if (--server->open_handles == 0)
        g_free(server);
}

/* MHD may not be stopped with suspended connections: each gets an answer first. */
static void answer_waiting(struct http_server *server) {
    g_autoptr(GError) error = NULL;
    g_autofree gpointer *waiting = g_hash_table_get_keys_as_array(server->waiting, NULL);

    kr_fail(&error, UNAVAILABLE, "the host is stopping");
    for (gpointer *item = waiting; *item; item++) {
        struct http_exchange *x = *item;
        if (x->stream)
            resume(x);
        else
            http_reply_error(x, error, NULL);
    }
}

void http_server_free(struct http_server *server) {
    MHD_socket listen_fd;

    if (!server)
        return;
    server->is_stopping = true;
    uv_poll_stop(&server->poll);
    listen_fd = MHD_quiesce_daemon(server->daemon);
    for (int i = 0; i < 3; i++) { /* resume, answer, send: also what was answered just before */
        answer_waiting(server);
        run(server);
    }
    answer_waiting(server);
    MHD_stop_daemon(server->daemon);
    if (listen_fd != MHD_INVALID_SOCKET)
        close(listen_fd);
    g_hash_table_unref(server->waiting);
    http_names_free(server->names);
    uv_close((uv_handle_t *)&server->poll, on_handle_closed);
    uv_close((uv_handle_t *)&server->timer, on_handle_closed);
    uv_close((uv_handle_t *)&server->sweep, on_handle_closed);
}
