/* A client's WebSocket joined to a socket on a node: a machine's SSH port or its console. Bytes pass through; how many may be under way
 * is settled between client and node (credit, docs/protocol.md), so nothing piles up here. */

#include <arpa/inet.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "host/host_internal.h"
#include "model/wire.h"

struct tunnel_relay {
    struct host *host;
    uint32_t id;
    char *node;
    uint32_t task_id;
    char *to;
    struct ws *ws; /* NULL until the upgrade is done */
};

void tunnel_relay_free(gpointer data) {
    struct tunnel_relay *relay = data;

    ws_free(relay->ws);
    g_free(relay->node);
    g_free(relay->to);
    g_free(relay);
}

static void drop(struct tunnel_relay *relay) { g_hash_table_remove(relay->host->tunnels, GUINT_TO_POINTER(relay->id)); }

static struct tunnel_relay *find(struct host *host, const char *node, uint32_t id) {
    struct tunnel_relay *relay = g_hash_table_lookup(host->tunnels, GUINT_TO_POINTER(id));

    return relay && relay->ws && strcmp(relay->node, node) == 0 ? relay : NULL;
}

static void tell_node(struct tunnel_relay *relay, const char *type, json_t *message) {
    json_object_set_new(message, "type", json_string(type));
    json_object_set_new(message, "stream", json_integer(relay->id));
    host_send(relay->host, relay->node, message);
}

/* ---- from the client ---- */

static void on_client_bytes(void *user, const void *bytes, size_t len) {
    struct tunnel_relay *relay = user;
    uint32_t id = htonl(relay->id);
    g_autofree char *frame = g_malloc(sizeof id + len);

    if (sizeof id + len > WIRE_MAX_BINARY_BYTES) {
        ws_close(relay->ws, 1009, "message too large");
        return;
    }
    memcpy(frame, &id, sizeof id);
    memcpy(frame + sizeof id, bytes, len);
    host_send_binary(relay->host, relay->node, frame, sizeof id + len);
}

static void on_client_text(void *user, const char *text, size_t len) {
    struct tunnel_relay *relay = user;
    json_t *json = jsonx_parse(text, len, NULL);
    json_int_t bytes = json_integer_value(json_object_get(json, "credit"));

    if (bytes > 0)
        tell_node(relay, WIRE_TUNNEL_CREDIT, json_pack("{s:I}", "bytes", bytes));
    json_decref(json);
}

static void on_client_close(void *user, const char *reason) {
    struct tunnel_relay *relay = user;

    (void)reason;
    tell_node(relay, WIRE_TUNNEL_CLOSE, json_object());
    drop(relay);
}

/* ---- from the node ---- */

bool tunnel_relay_data(struct host *host, const char *node, const void *frame, size_t len) {
    struct tunnel_relay *relay;
    uint32_t id;

    if (len < sizeof id)
        return false;
    memcpy(&id, frame, sizeof id);
    relay = find(host, node, ntohl(id));
    if (relay)
        ws_send_binary(relay->ws, (const char *)frame + sizeof id, len - sizeof id);
    return relay != NULL;
}

void tunnel_relay_credit(struct host *host, const char *node, const json_t *message) {
    struct json_reader r = jr_init(message, "tunnel_credit", NULL);
    struct tunnel_relay *relay = find(host, node, (uint32_t)jr_int(&r, "stream", 1, G_MAXUINT32));
    g_autofree char *text = g_strdup_printf("{\"credit\":%" G_GINT64_FORMAT "}", jr_int(&r, "bytes", 1, G_MAXINT64));

    if (relay && !r.failed)
        ws_send_text(relay->ws, text, strlen(text));
}

static void end(struct tunnel_relay *relay, const char *problem) {
    g_autofree char *reason = g_strndup(problem ? problem : "it is over", 120); /* of a close frame */

    if (relay->ws)
        ws_close(relay->ws, problem ? 1011 : 1000, reason);
}

void tunnel_relay_end(struct host *host, const char *node, const json_t *message) {
    struct json_reader r = jr_init(message, "tunnel_end", NULL);
    struct tunnel_relay *relay = find(host, node, (uint32_t)jr_int(&r, "stream", 1, G_MAXUINT32));

    if (relay)
        end(relay, jr_str_opt(&r, "error", TASK_REASON_MAX_BYTES, NULL));
}

void tunnel_relays_cut(struct host *host, const char *node) {
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, host->tunnels);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct tunnel_relay *relay = value;
        if (!node)
            g_hash_table_iter_remove(&iter);
        else if (strcmp(relay->node, node) == 0)
            end(relay, "the connection to the machine's node broke");
    }
}

/* ---- opening ---- */

static void on_upgraded(void *user, struct ws *ws) {
    static const struct ws_handlers handlers = {
        .on_text = on_client_text, .on_binary = on_client_bytes, .on_close = on_client_close};
    struct tunnel_relay *relay = user;

    if (!ws) {
        drop(relay);
        return;
    }
    relay->ws = ws;
    ws_set_handlers(ws, &handlers, relay);
    tell_node(relay, WIRE_TUNNEL_OPEN, json_pack("{s:I,s:s}", "task_id", (json_int_t)relay->task_id, "to", relay->to));
}

/* The machine's task where it runs, or NULL with the reason. */
static const struct task *running_task(const struct host *host, const struct http_exchange *x, GError **error) {
    const struct vps *vps = NULL;
    const struct task *task;
    uint32_t id;

    if (api_task_id(x, 0, &id, error) && !(vps = controller_vps(host->controller, id)))
        kr_fail(error, NOT_FOUND, "there is no VPS %u", id);
    task = vps ? controller_task(host->controller, vps->task_id) : NULL;
    if (vps && (!task || task_state_is_terminal(task->state))) {
        kr_fail(error, REFUSED, "VPS %u (%s) is off", vps->id, vps->name);
        return NULL;
    }
    if (task && !g_hash_table_contains(host->links, task->lease.node)) {
        kr_fail(error, UNAVAILABLE, "node %s is not connected", task->lease.node);
        return NULL;
    }
    return task;
}

void api_vps_connect(struct http_exchange *x, void *app) {
    struct host *host = app;
    const char *to = http_query(x, "to");
    g_autoptr(GError) error = NULL;
    const struct task *task = running_task(host, x, &error);
    struct tunnel_relay *relay;

    if (task && to && strcmp(to, "ssh") != 0 && strcmp(to, "console") != 0)
        kr_fail(&error, BAD_REQUEST, "\"to\" is neither ssh nor console");
    if (error) {
        http_reply_error(x, error, NULL);
        return;
    }
    relay = g_new0(struct tunnel_relay, 1);
    *relay = (struct tunnel_relay){.host = host, .id = ++host->last_stream, .task_id = task->id};
    relay->node = g_strdup(task->lease.node);
    relay->to = g_strdup(to ? to : "ssh");
    g_hash_table_insert(host->tunnels, GUINT_TO_POINTER(relay->id), relay);
    http_upgrade(x, WIRE_TUNNEL_SUBPROTOCOL, on_upgraded, relay);
}
