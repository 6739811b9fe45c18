/* Nodes over HTTP: what they say of themselves, joined with what the ledger knows. */

#include <string.h>

#include "base/error.h"
#include "host/host_internal.h"
#include "host/node_query.h"

static size_t count_free(const json_t *gpus) {
    const json_t *gpu;
    size_t i, n = 0;

    json_array_foreach (gpus, i, gpu)
        n += json_is_true(json_object_get(gpu, "free"));
    return n;
}

static json_t *task_ids(const struct host *host, const char *node) {
    const GPtrArray *entries = ledger_of_node(controller_ledger(host->controller), node);
    json_t *list = json_array();

    for (guint i = 0; entries && i < entries->len; i++)
        json_array_append_new(list, json_integer(((const struct ledger_entry *)entries->pdata[i])->lease.task_id));
    return list;
}

/* Apart from its cards. */
static json_t *node_to_json(const struct host *host, const struct cluster_node *node) {
    const struct ledger *ledger = controller_ledger(host->controller);
    const struct mark *mark = pool_mark_of_node(controller_pool(host->controller), node->info->name);
    bool is_online = cluster_is_online(controller_cluster(host->controller), node, host_now());
    const char *name = node->info->name;
    json_t *json = node_info_head_to_json(node->info);

    json_object_set_new(json, "online", json_boolean(is_online));
    if (mark)
        json_object_set_new(json, "cordon", mark_to_json(mark));
    if (node->heard_wall_ms > 0)
        json_object_set_new(json, "last_seen_ms", json_integer(node->heard_wall_ms));
    json_object_set_new(json, "cores_reserved", json_integer(ledger_cores_reserved(ledger, name, TARGET_NO_NUMA)));
    json_object_set_new(json, "memory_reserved_bytes", json_integer(ledger_mem_reserved(ledger, name)));
    json_object_set_new(json, "tasks", task_ids(host, name));
    return json;
}

/* The list has totals in place of the cards. */
json_t *api_node_row(const struct host *host, const struct cluster_node *node, const json_t *gpus) {
    json_t *json = node_to_json(host, node);

    json_object_set_new(json, "gpus_total", json_integer((json_int_t)json_array_size(gpus)));
    json_object_set_new(json, "gpus_free", json_integer((json_int_t)count_free(gpus)));
    json_object_del(json, "numa");
    return json;
}

void api_node_list(struct http_exchange *x, void *app) {
    const struct host *host = app;
    g_autoptr(GPtrArray) nodes = cluster_nodes(controller_cluster(host->controller));
    json_t *list = json_array();

    for (guint i = 0; i < nodes->len; i++) {
        json_t *gpus = api_gpus_shown(host, nodes->pdata[i]);

        json_array_append_new(list, api_node_row(host, nodes->pdata[i], gpus));
        json_decref(gpus);
    }
    http_reply_json(x, 200, json_pack("{s:o}", "nodes", list));
}

void api_node_get(struct http_exchange *x, void *app) {
    const struct host *host = app;
    const struct cluster *cluster = controller_cluster(host->controller);
    const char *name = http_path_param(x, 0);
    const struct cluster_node *node = cluster_find(cluster, name);
    g_autofree char *names = NULL;
    g_autoptr(GError) error = NULL;

    if (node) {
        json_t *json = node_to_json(host, node);

        json_object_set_new(json, "gpus", api_gpus_shown(host, node));
        http_reply_json(x, 200, json_pack("{s:o}", "node", json));
        return;
    }
    names = cluster_names(cluster);
    kr_fail(&error, NOT_FOUND, "there is no node \"%.64s\"; the nodes are: %s", name,
            names[0] ? names : "none has joined yet");
    http_reply_error(x, error, NULL);
}

void api_node_runner(struct http_exchange *x, void *app) {
    node_query_reply(app, x, http_path_param(x, 0), "runner", NULL);
}

void api_node_qemu(struct http_exchange *x, void *app) {
    node_query_reply(app, x, http_path_param(x, 0), "qemu_check", NULL);
}

void api_node_doctor(struct http_exchange *x, void *app) {
    node_query_reply(app, x, http_path_param(x, 0), "doctor", NULL);
}

void api_node_topology(struct http_exchange *x, void *app) {
    node_query_reply(app, x, http_path_param(x, 0), "topology", NULL);
}
