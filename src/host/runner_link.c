/* Runners: joining with the token, and the WebSocket that each of them keeps to us. */

#include <sodium.h>
#include <string.h>

#include "base/config.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "host/event_figures.h"
#include "host/event_hub.h"
#include "host/host_internal.h"
#include "host/node_query.h"
#include "model/delta.h"
#include "model/wire.h"
#include "model/wire_seq.h"

enum { CREDENTIAL_BYTES = 32, TOKEN_MAX_BYTES = 512, MAX_TASKS_PER_NODE = 10000 };

struct runner_link {
    struct host *host;
    struct ws *ws;
    char *node; /* as its credential says */
    bool is_welcome;
    struct wire_seq seq;
    json_t *told; /* the node as it described itself, with every change since */
};

/* ---- credentials: random, so a plain fast hash keeps them ---- */

static char *hash_of(const char *credential) {
    unsigned char hash[crypto_generichash_BYTES];
    char hex[sizeof hash * 2 + 1];

    crypto_generichash(hash, sizeof hash, (const unsigned char *)credential, strlen(credential), NULL, 0);
    return g_strdup(sodium_bin2hex(hex, sizeof hex, hash, sizeof hash));
}

static char *new_credential(void) {
    unsigned char random[CREDENTIAL_BYTES];
    char hex[sizeof random * 2 + 1];

    randombytes_buf(random, sizeof random);
    return g_strdup(sodium_bin2hex(hex, sizeof hex, random, sizeof random));
}

/* Compared as hashes: of equal length, in constant time. */
static bool token_ok(const struct host *host, const char *token, GError **error) {
    g_autofree char *expected = NULL;
    g_autofree char *left = NULL;
    g_autofree char *right = NULL;

    if (!fs_read_file(host->join_token_file, TOKEN_MAX_BYTES, &expected, NULL, error))
        return false;
    g_strstrip(expected);
    left = hash_of(expected);
    right = hash_of(token);
    if (expected[0] == '\0' || sodium_memcmp(left, right, strlen(left)) != 0)
        return kr_fail(error, UNAUTHORIZED, "the join token is wrong");
    return true;
}

struct join_call {
    struct host *host;
    struct http_exchange *x;
    char *node;
    char *credential;
};

static void forget_credentials_of(struct host *host, const char *node) {
    GHashTableIter iter;
    gpointer name;

    g_hash_table_iter_init(&iter, host->credentials);
    while (g_hash_table_iter_next(&iter, NULL, &name))
        if (strcmp(name, node) == 0)
            g_hash_table_iter_remove(&iter);
}

static void on_joined(void *user, const GError *error) {
    struct join_call *call = user;

    if (error) {
        http_reply_error(call->x, error, NULL);
    } else {
        forget_credentials_of(call->host, call->node);
        g_hash_table_insert(call->host->credentials, hash_of(call->credential), g_strdup(call->node));
        log_info("node %s joined", call->node);
        http_reply_json(call->x, 201,
                        json_pack("{s:s,s:s}", "credential", call->credential, "cluster_id", call->host->cluster_id));
    }
    g_free(call->node);
    g_free(call->credential);
    g_free(call);
}

static bool read_join(const struct host *host, const json_t *body, char **ret_node, GError **error) {
    struct json_reader r = jr_init(body, "join", error);
    const char *node = jr_str(&r, "node", NODE_TEXT_MAX_BYTES);
    const char *token = jr_str(&r, "token", TOKEN_MAX_BYTES);

    if (!jr_done_strict(&r) || !node_name_check(node, strlen(node), error) || !token_ok(host, token, error))
        return false;
    /* two machines with one name would end each other's tasks */
    if (g_hash_table_contains(host->links, node))
        return kr_fail(error, REFUSED, "a runner of node %s is connected; give this machine another node_name", node);
    *ret_node = g_strdup(node);
    return true;
}

void api_runner_join(struct http_exchange *x, void *app) {
    struct host *host = app;
    size_t len;
    const char *text = http_body(x, &len);
    g_autoptr(GError) error = NULL;
    json_t *body = jsonx_parse(text, len, &error);
    g_autofree char *node = NULL;
    g_autofree char *hash = NULL;
    struct join_call *call;

    if (!body || !read_join(host, body, &node, &error)) {
        log_warning("a runner could not join: %s", error->message);
        http_reply_error(x, error, NULL);
        json_decref(body);
        return;
    }
    json_decref(body);
    call = g_new0(struct join_call, 1);
    *call = (struct join_call){.host = host, .x = x, .credential = new_credential()};
    call->node = g_steal_pointer(&node);
    hash = hash_of(call->credential);
    store_put_node(host->store, call->node, hash, NULL, on_joined, call);
}

/* ---- the link ---- */

static void link_end(struct runner_link *link) {
    struct host *host = link->host;

    if (g_hash_table_lookup(host->links, link->node) == link) {
        g_hash_table_remove(host->links, link->node);
        controller_disconnected(host->controller, link->node, host_now());
        log_relays_cut(host, link->node);
        node_queries_cut(host, link->node);
        tunnel_relays_cut(host, link->node);
    }
    g_hash_table_remove(host->all_links, link);
    ws_free(link->ws);
    json_decref(link->told);
    g_free(link->node);
    g_free(link);
}

static void send_json(struct runner_link *link, json_t *message) {
    g_autofree char *text = NULL;

    wire_seq_stamp(&link->seq, message);
    text = jsonx_to_str(message);
    json_decref(message);
    ws_send_text(link->ws, text, strlen(text));
}

bool host_send(struct host *host, const char *node, json_t *message) {
    struct runner_link *link = g_hash_table_lookup(host->links, node);

    if (link)
        send_json(link, message);
    else
        json_decref(message);
    return link != NULL;
}

bool host_send_binary(struct host *host, const char *node, const void *bytes, size_t len) {
    struct runner_link *link = g_hash_table_lookup(host->links, node);

    return link && ws_send_binary(link->ws, bytes, len);
}

static void refuse(struct runner_link *link, const char *reason) {
    log_warning("node %s is refused: %s", link->node, reason);
    send_json(link, json_pack("{s:s,s:s}", "type", WIRE_REFUSED, "reason", reason));
    ws_close(link->ws, 1008, "refused");
}

static void replace_older(struct runner_link *link) {
    struct runner_link *older = g_hash_table_lookup(link->host->links, link->node);

    if (older && older != link) {
        log_info("node %s connected anew, its older connection ends", link->node);
        link_end(older);
    }
    g_hash_table_insert(link->host->links, g_strdup(link->node), link);
}

static bool take_hello(struct runner_link *link, const json_t *message, GError **error) {
    struct host *host = link->host;
    struct json_reader r = jr_init(message, "hello", error);
    int64_t protocol = jr_int(&r, "protocol", 0, G_MAXINT);
    const json_t *tasks = jr_array(&r, "tasks", MAX_TASKS_PER_NODE);
    int64_t max_epoch = jr_int_opt(&r, "max_epoch", 0, G_MAXINT64, 0);
    struct node_info *info = r.failed ? NULL : node_info_from_json(json_object_get(message, "node"), error);
    g_autoptr(GPtrArray) reports = info ? node_reports_from_json(tasks, error) : NULL;
    json_t *kept = reports ? node_info_to_json(info) : NULL;
    bool ok = false;

    if (!reports)
        ok = false;
    else if (protocol != WIRE_PROTOCOL)
        kr_fail(error, REFUSED, "the runner speaks protocol %d, this host %d: install the same version on both",
                (int)protocol, WIRE_PROTOCOL);
    else if (strcmp(info->name, link->node) != 0)
        kr_fail(error, REFUSED, "the credential belongs to node %s, not to %s", link->node, info->name);
    else {
        replace_older(link); /* from here on messages of the controller find the link */
        send_json(link, json_pack("{s:s,s:s,s:I}", "type", WIRE_WELCOME, "cluster_id", host->cluster_id, "heartbeat_ms",
                                  (json_int_t)config_int(host->config, "heartbeat_ms")));
        ok = controller_hello(host->controller, info, reports, max_epoch, host_now(), error);
    }
    if (ok)
        store_put_node(host->store, link->node, NULL, kept, NULL, NULL);
    else
        node_info_free(info);
    json_decref(kept);
    return ok;
}

static void on_hello(struct runner_link *link, const json_t *message) {
    g_autoptr(GError) error = NULL;

    if (take_hello(link, message, &error)) {
        link->is_welcome = true;
        link->told = json_deep_copy(json_object_get(message, "node"));
        log_info("node %s is connected", link->node);
    } else {
        refuse(link, error->message);
    }
}

static void mark_changed(struct runner_link *link, const json_t *changes) {
    if (event_figures_only(changes))
        event_hub_figures(link->host->events, link->node);
    else
        event_hub_node(link->host->events, link->node);
}

/* What changed since the last heartbeat. Nothing: everything is said again as it was. On failure what was told is of no use, and
 * the connection has to end. */
static bool take_changes(struct runner_link *link, const json_t *changes, GError **error) {
    struct controller *controller = link->host->controller;
    struct node_info *info;

    if (json_is_object(changes) && json_object_size(changes) == 0 && link->told) {
        controller_heartbeat_same(controller, link->node, host_now());
        return true;
    }
    if (!delta_apply_to(link->told, changes, error)) {
        g_clear_pointer(&link->told, json_decref);
        return false;
    }
    if (controller_heartbeat_figures(controller, link->node, link->told, changes, host_now())) {
        mark_changed(link, changes);
        return true;
    }
    info = node_info_from_json(link->told, error);
    if (info && strcmp(info->name, link->node) != 0) {
        kr_fail(error, BAD_REQUEST, "it names another node");
        g_clear_pointer(&info, node_info_free);
    }
    if (!info) {
        g_clear_pointer(&link->told, json_decref);
        return false;
    }
    controller_heartbeat(controller, info, host_now());
    mark_changed(link, changes);
    return true;
}

static void on_heartbeat(struct runner_link *link, const json_t *message) {
    g_autoptr(GError) error = NULL;

    if (take_changes(link, json_object_get(message, "node"), &error)) {
        send_json(link, json_pack("{s:s}", "type", WIRE_BEAT));
        return;
    }
    log_warning("a heartbeat of node %s is not understood (%s); it connects anew and tells everything", link->node,
                error->message);
    ws_close(link->ws, 1002, "heartbeat not understood");
}

static void on_report(struct runner_link *link, const json_t *message) {
    struct task_report report = {0};
    g_autoptr(GError) error = NULL;

    fault_point("host-report-received");
    if (task_report_from_json(json_object_get(message, "task"), &report, &error))
        controller_report(link->host->controller, link->node, &report, host_now());
    else
        log_warning("a report of node %s is not understood: %s", link->node, error->message);
    task_report_clear(&report);
}

static void on_log_end(struct runner_link *link, const json_t *message) {
    log_relay_end(link->host, link->node, message);
}

static void on_answer(struct runner_link *link, const json_t *message) {
    node_query_answered(link->host, link->node, message);
}

static void on_tunnel_credit(struct runner_link *link, const json_t *message) {
    tunnel_relay_credit(link->host, link->node, message);
}

static void on_tunnel_end(struct runner_link *link, const json_t *message) {
    tunnel_relay_end(link->host, link->node, message);
}

static const struct {
    const char *type;
    bool before_welcome;
    void (*take)(struct runner_link *link, const json_t *message);
} messages[] = {
    {WIRE_HELLO, true, on_hello},
    {WIRE_HEARTBEAT, false, on_heartbeat},
    {WIRE_REPORT, false, on_report},
    {WIRE_LOG_END, false, on_log_end},
    {WIRE_ANSWER, false, on_answer},
    {WIRE_TUNNEL_CREDIT, false, on_tunnel_credit},
    {WIRE_TUNNEL_END, false, on_tunnel_end},
};

static void on_text(void *user, const char *text, size_t len) {
    struct runner_link *link = user;
    g_autoptr(GError) error = NULL;
    json_t *message = jsonx_parse(text, len, &error);
    const char *type = json_string_value(json_object_get(message, "type"));
    size_t i = 0;

    if (type && !wire_seq_check(&link->seq, message, &error)) {
        log_warning("node %s: %s; it connects anew and tells everything", link->node, error->message);
        ws_close(link->ws, 1002, "message out of sequence");
        json_decref(message);
        return;
    }
    while (i < G_N_ELEMENTS(messages) && g_strcmp0(messages[i].type, type) != 0)
        i++;
    if (i == G_N_ELEMENTS(messages) || messages[i].before_welcome == link->is_welcome)
        log_warning("node %s sent a message that is out of place (%s)", link->node,
                    error ? error->message : (type ? type : "no type"));
    else
        messages[i].take(link, message);
    json_decref(message);
}

static void on_binary(void *user, const void *bytes, size_t len) {
    struct runner_link *link = user;

    if (!tunnel_relay_data(link->host, link->node, bytes, len))
        log_relay_data(link->host, link->node, bytes, len);
}

static void on_close(void *user, const char *reason) {
    struct runner_link *link = user;

    log_info("node %s disconnected: %s", link->node, reason);
    link_end(link);
}

static void on_upgraded(void *user, struct ws *ws) {
    static const struct ws_handlers handlers = {.on_text = on_text, .on_binary = on_binary, .on_close = on_close};
    struct runner_link *link = user;

    if (!ws) {
        g_free(link->node);
        g_free(link);
        return;
    }
    link->ws = ws;
    g_hash_table_add(link->host->all_links, link);
    ws_set_handlers(ws, &handlers, link);
}

void api_runner_connect(struct http_exchange *x, void *app) {
    struct host *host = app;
    const char *header = http_header(x, "Authorization");
    g_autofree char *hash = header && g_str_has_prefix(header, "Bearer ") ? hash_of(header + 7) : NULL;
    const char *node = hash ? g_hash_table_lookup(host->credentials, hash) : NULL;
    g_autoptr(GError) error = NULL;
    struct runner_link *link;

    if (!node) {
        kr_fail(&error, UNAUTHORIZED, "the credential is not known here: join anew with the join token");
        http_reply_error(x, error, NULL);
        return;
    }
    link = g_new0(struct runner_link, 1);
    link->host = host;
    link->node = g_strdup(node);
    http_upgrade(x, WIRE_SUBPROTOCOL, on_upgraded, link);
}

void runner_links_close(struct host *host) {
    g_autofree gpointer *links = g_hash_table_get_keys_as_array(host->all_links, NULL);

    for (gpointer *link = links; *link; link++)
        link_end(*link);
}
