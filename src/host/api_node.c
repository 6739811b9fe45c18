/* Nodes over HTTP: what they say of themselves, joined with what the ledger knows. */

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "host/host_internal.h"
#include "host/node_query.h"

static json_t *holder_to_json(const struct host *host, const struct ledger_entry *entry) {
    const struct task *task = entry->is_orphan ? NULL : controller_task(host->controller, entry->lease.task_id);
    json_t *json = json_pack("{s:s,s:I,s:s,s:I,s:I}", "kind", entry->is_orphan ? "orphan" : "task", "task_id",
                             (json_int_t)entry->lease.task_id, "name", entry->label ? entry->label : "", "since_ms",
                             (json_int_t)entry->lease.granted_ms, "epoch", (json_int_t)entry->lease.epoch);

    if (task && task->spec->owner)
        json_object_set_new(json, "owner", json_string(task->spec->owner));
    return json;
}

/* What the card is to the cluster: its state, since when, why, and what ends it. */
static void state_into_json(const struct host *host, const struct cluster_node *node, const struct gpu *gpu,
                            json_t *json) {
    const struct pool_card *card = controller_gpu(host->controller, node, gpu, host_now());
    const struct mark *mark = pool_mark_of_gpu(controller_pool(host->controller), gpu->uuid);

    json_object_set_new(json, "free", json_boolean(card->state == GPU_STATE_FREE));
    json_object_set_new(json, "state", json_string(gpu_state_to_str(card->state)));
    json_object_set_new(json, "state_since_ms", json_integer(card->since_ms));
    json_object_set_new(json, "way_out", json_string(gpu_state_way_out(card->state)));
    if (card->reason)
        json_object_set_new(json, "state_reason", json_string(card->reason));
    json_object_set_new(json, "health", json_string(gpu_health_to_str(card->health)));
    if (card->health_reason)
        json_object_set_new(json, "health_reason", json_string(card->health_reason));
    if (mark)
        json_object_set_new(json, "cordon", mark_to_json(mark));
}

static json_t *gpus_to_json(const struct host *host, const struct cluster_node *node) {
    const struct ledger *ledger = controller_ledger(host->controller);
    const struct node_info *info = node->info;
    json_t *list = json_array();

    for (guint i = 0; i < info->gpus->len; i++) {
        const struct gpu *gpu = info->gpus->pdata[i];
        const struct ledger_entry *holder = ledger_holder(ledger, gpu->uuid);
        json_t *json = gpu_to_json(gpu);

        state_into_json(host, node, gpu, json);
        if (holder)
            json_object_set_new(json, "holder", holder_to_json(host, holder));
        json_array_append_new(list, json);
    }
    return list;
}

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

static json_t *node_to_json(const struct host *host, const struct cluster_node *node) {
    const struct ledger *ledger = controller_ledger(host->controller);
    const struct mark *mark = pool_mark_of_node(controller_pool(host->controller), node->info->name);
    bool is_online = cluster_is_online(controller_cluster(host->controller), node, host_now());
    const char *name = node->info->name;
    json_t *json = node_info_to_json(node->info);

    json_object_set_new(json, "online", json_boolean(is_online));
    if (mark)
        json_object_set_new(json, "cordon", mark_to_json(mark));
    if (node->heard_wall_ms > 0)
        json_object_set_new(json, "last_seen_ms", json_integer(node->heard_wall_ms));
    json_object_set_new(json, "cores_reserved", json_integer(ledger_cores_reserved(ledger, name, TARGET_NO_NUMA)));
    json_object_set_new(json, "memory_reserved_bytes", json_integer(ledger_mem_reserved(ledger, name)));
    json_object_set_new(json, "tasks", task_ids(host, name));
    json_object_set_new(json, "gpus", gpus_to_json(host, node));
    return json;
}

/* The list has totals in place of the cards. */
static json_t *node_to_row(const struct host *host, const struct cluster_node *node) {
    json_t *json = node_to_json(host, node);
    const json_t *gpus = json_object_get(json, "gpus");

    json_object_set_new(json, "gpus_total", json_integer((json_int_t)json_array_size(gpus)));
    json_object_set_new(json, "gpus_free", json_integer((json_int_t)count_free(gpus)));
    json_object_del(json, "gpus");
    json_object_del(json, "numa");
    return json;
}

void api_node_list(struct http_exchange *x, void *app) {
    const struct host *host = app;
    g_autoptr(GPtrArray) nodes = cluster_nodes(controller_cluster(host->controller));
    json_t *list = json_array();

    for (guint i = 0; i < nodes->len; i++)
        json_array_append_new(list, node_to_row(host, nodes->pdata[i]));
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
        http_reply_json(x, 200, json_pack("{s:o}", "node", node_to_json(host, node)));
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
