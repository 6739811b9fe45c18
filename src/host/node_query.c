#include "host/node_query.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "host/host_internal.h"
#include "model/wire.h"

enum { DEADLINE_MS = 15000, MAX_OPEN = 1000 };

struct query {
    struct host *host;
    uv_timer_t timer; /* closed with it */
    int64_t id;
    char *node;
    node_query_cb *on_done;
    void *user;
};

static void on_timer_closed(uv_handle_t *handle) {
    struct query *query = handle->data;

    g_free(query->node);
    g_free(query);
}

static void finish(struct query *query, const json_t *body, const GError *error) {
    g_hash_table_remove(query->host->queries, &query->id);
    query->on_done(query->user, body, error);
    uv_close((uv_handle_t *)&query->timer, on_timer_closed);
}

static void on_deadline(uv_timer_t *timer) {
    struct query *query = timer->data;
    g_autoptr(GError) error = NULL;

    kr_fail(&error, TIMEOUT, "node %s does not answer within %d s", query->node, DEADLINE_MS / 1000);
    finish(query, NULL, error);
}

static bool can_ask(struct host *host, const char *node, GError **error) {
    const struct cluster *cluster = controller_cluster(host->controller);
    g_autofree char *names = NULL;

    if (!cluster_find(cluster, node)) {
        names = cluster_names(cluster);
        return kr_fail(error, NOT_FOUND, "there is no node \"%.64s\"; the nodes are: %s", node,
                       names[0] ? names : "none has joined yet");
    }
    if (!g_hash_table_contains(host->links, node))
        return kr_fail(error, UNAVAILABLE, "node %s is not connected, and only it knows", node);
    if (g_hash_table_size(host->queries) >= MAX_OPEN)
        return kr_fail(error, UNAVAILABLE, "%d questions to nodes are open already", MAX_OPEN);
    return true;
}

void node_query(struct host *host, const char *node, const char *what, json_t *args, node_query_cb *on_done,
                void *user) {
    g_autoptr(GError) error = NULL;
    struct query *query;
    json_t *message;

    if (!can_ask(host, node, &error)) {
        json_decref(args);
        on_done(user, NULL, error);
        return;
    }
    query = g_new0(struct query, 1);
    *query = (struct query){
        .host = host, .id = ++host->last_query, .node = g_strdup(node), .on_done = on_done, .user = user};
    uv_timer_init(&host->loop, &query->timer);
    query->timer.data = query;
    uv_timer_start(&query->timer, on_deadline, DEADLINE_MS, 0);
    g_hash_table_insert(host->queries, &query->id, query);
    message = json_pack("{s:s,s:I,s:s,s:o}", "type", WIRE_QUERY, "id", (json_int_t)query->id, "what", what, "args",
                        args ? args : json_object());
    host_send(host, node, message);
}

static struct query *find(struct host *host, const char *node, int64_t id) {
    struct query *query = g_hash_table_lookup(host->queries, &id);

    return query && strcmp(query->node, node) == 0 ? query : NULL;
}

void node_query_answered(struct host *host, const char *node, const json_t *message) {
    struct json_reader r = jr_init(message, "answer", NULL);
    struct query *query = find(host, node, jr_int(&r, "id", 1, G_MAXINT64));
    const char *problem = jr_str_opt(&r, "error", TASK_REASON_MAX_BYTES, NULL);
    const json_t *body = json_object_get(message, "body");
    g_autoptr(GError) error = NULL;

    if (!query) /* it came too late */
        return;
    if (problem)
        kr_fail_at(&error, kr_error_from_name(jr_str_opt(&r, "code", 32, "internal")), "node %s: %s", node, problem);
    else if (!json_is_object(body))
        kr_fail(&error, INTERNAL, "node %s answers without a body", node);
    finish(query, error ? NULL : body, error);
}

void node_queries_cut(struct host *host, const char *node) {
    g_autoptr(GList) all = g_hash_table_get_values(host->queries);

    for (GList *link = all; link; link = link->next) {
        struct query *query = link->data;
        g_autoptr(GError) error = NULL;

        if (node && strcmp(query->node, node) != 0)
            continue;
        kr_fail(&error, UNAVAILABLE, "node %s went away before it answered", query->node);
        finish(query, NULL, error);
    }
}

static void on_replied(void *user, const json_t *body, const GError *error) {
    struct http_exchange *x = user;

    if (error)
        http_reply_error(x, error, NULL);
    else
        http_reply_json(x, 200, json_deep_copy(body));
}

void node_query_reply(struct host *host, struct http_exchange *x, const char *node, const char *what, json_t *args) {
    node_query(host, node, what, args, on_replied, x);
}
