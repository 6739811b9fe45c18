/* A task's log, from the runner's file through its WebSocket to an HTTP client. Bytes are never stored here; a slow
 * client slows the runner by credit (docs/protocol.md, "Logs"). */

#include <arpa/inet.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "host/host_internal.h"
#include "model/wire.h"

struct log_relay {
    struct host *host;
    uint32_t id;
    char *node;
    struct http_exchange *x;    /* until the first word of the runner: an error can still be told */
    struct http_stream *stream; /* from then on */
    size_t owed;                /* bytes taken by the client, not yet given back as credit */
};

void log_relay_free(gpointer data) {
    struct log_relay *relay = data;

    g_free(relay->node);
    g_free(relay);
}

static void drop(struct log_relay *relay) { g_hash_table_remove(relay->host->relays, GUINT_TO_POINTER(relay->id)); }

static void give_credit(struct log_relay *relay) {
    if (relay->owed == 0)
        return;
    host_send(relay->host, relay->node,
              json_pack("{s:s,s:I,s:I}", "type", WIRE_LOG_CREDIT, "stream", (json_int_t)relay->id, "bytes",
                        (json_int_t)relay->owed));
    relay->owed = 0;
}

static void on_drain(void *user) { give_credit(user); }

static void on_gone(void *user) {
    struct log_relay *relay = user;

    host_send(relay->host, relay->node,
              json_pack("{s:s,s:I}", "type", WIRE_LOG_CLOSE, "stream", (json_int_t)relay->id));
    drop(relay);
}

static void begin_stream(struct log_relay *relay) {
    if (relay->x)
        relay->stream = http_reply_stream(g_steal_pointer(&relay->x), "application/octet-stream", on_drain, on_gone,
                                          relay);
}

static struct log_relay *find(struct host *host, const char *node, uint32_t id) {
    struct log_relay *relay = g_hash_table_lookup(host->relays, GUINT_TO_POINTER(id));

    return relay && strcmp(relay->node, node) == 0 ? relay : NULL;
}

void log_relay_data(struct host *host, const char *node, const void *frame, size_t len) {
    struct log_relay *relay;
    uint32_t id;

    if (len < sizeof id)
        return;
    memcpy(&id, frame, sizeof id);
    relay = find(host, node, ntohl(id));
    if (!relay)
        return; /* closed meanwhile */
    begin_stream(relay);
    relay->owed += len - sizeof id;
    http_stream_write(relay->stream, (const char *)frame + sizeof id, len - sizeof id);
}

void log_relay_end(struct host *host, const char *node, const json_t *message) {
    struct json_reader r = jr_init(message, "log_end", NULL);
    struct log_relay *relay = find(host, node, (uint32_t)jr_int(&r, "stream", 0, G_MAXUINT32));
    const char *problem = jr_str_opt(&r, "error", TASK_REASON_MAX_BYTES, NULL);
    g_autoptr(GError) error = NULL;

    if (!relay)
        return;
    if (relay->x && problem) {
        kr_fail(&error, NOT_FOUND, "%s", problem);
        http_reply_error(relay->x, error, NULL);
    } else {
        begin_stream(relay);
        http_stream_end(relay->stream, !problem);
    }
    drop(relay);
}

void log_relays_cut(struct host *host, const char *node) {
    GHashTableIter iter;
    gpointer value;
    g_autoptr(GError) error = NULL;

    kr_fail(&error, UNAVAILABLE, "the connection to the task's node broke; its logs are kept there");
    g_hash_table_iter_init(&iter, host->relays);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct log_relay *relay = value;
        if (node && strcmp(relay->node, node) != 0)
            continue;
        if (relay->x)
            http_reply_error(relay->x, error, NULL);
        else
            http_stream_end(relay->stream, false);
        g_hash_table_iter_remove(&iter);
    }
}

/* ---- opening ---- */

struct open_call {
    struct host *host;
    struct http_exchange *x;
    uint32_t task_id;
    bool is_stderr, follow;
    int64_t offset;
};

static void open_on(const struct open_call *call, const char *node) {
    struct log_relay *relay = g_new0(struct log_relay, 1);
    g_autoptr(GError) error = NULL;

    relay->host = call->host;
    relay->id = ++call->host->last_stream;
    relay->node = g_strdup(node);
    relay->x = call->x;
    if (host_send(call->host, node,
                  json_pack("{s:s,s:I,s:I,s:s,s:I,s:b}", "type", WIRE_LOG_OPEN, "stream", (json_int_t)relay->id,
                            "task_id", (json_int_t)call->task_id, "which", call->is_stderr ? "stderr" : "stdout",
                            "offset", (json_int_t)call->offset, "follow", call->follow))) {
        g_hash_table_insert(call->host->relays, GUINT_TO_POINTER(relay->id), relay);
        return;
    }
    log_relay_free(relay);
    kr_fail(&error, UNAVAILABLE, "node %s is not connected; the logs of task %u are kept there", node, call->task_id);
    http_reply_error(call->x, error, NULL);
}

static void on_found(void *user, const GPtrArray *tasks, const GError *error) {
    g_autofree struct open_call *call = user;
    g_autoptr(GError) missing = NULL;

    if (tasks && tasks->len > 0) {
        open_on(call, ((const struct task *)tasks->pdata[0])->lease.node);
        return;
    }
    if (!error)
        kr_fail(&missing, NOT_FOUND, "there is no task %u", call->task_id);
    http_reply_error(call->x, error ? error : missing, NULL);
}

static bool read_call(const struct http_exchange *x, struct open_call *call, GError **error) {
    const char *stream = http_query(x, "stream");
    int64_t follow;

    if (!api_task_id(x, 0, &call->task_id, error) || !http_query_int(x, "follow", 0, 1, 0, &follow, error) ||
        !http_query_int(x, "offset", 0, G_MAXINT64, 0, &call->offset, error))
        return false;
    if (stream && strcmp(stream, "stdout") != 0 && strcmp(stream, "stderr") != 0)
        return kr_fail(error, BAD_REQUEST, "stream must be stdout or stderr");
    call->is_stderr = stream && strcmp(stream, "stderr") == 0;
    call->follow = follow == 1;
    return true;
}

void api_task_logs(struct http_exchange *x, void *app) {
    struct host *host = app;
    struct open_call call = {.host = host, .x = x};
    g_autoptr(GError) error = NULL;
    const struct task *live;

    if (!read_call(x, &call, &error)) {
        http_reply_error(x, error, NULL);
        return;
    }
    live = controller_task(host->controller, call.task_id);
    if (live) {
        open_on(&call, live->lease.node);
    } else {
        struct task_query query = {.id = call.task_id, .limit = 1};
        store_query_tasks(host->store, &query, on_found, g_memdup2(&call, sizeof call));
    }
}
