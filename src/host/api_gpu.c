/* GPUs over HTTP: what their nodes say of them, joined with who holds them; and what only their nodes know. */

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

json_t *api_gpus_shown(const struct host *host, const struct cluster_node *node) {
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

void api_gpu_list(struct http_exchange *x, void *app) {
    const struct host *host = app;
    const struct cluster *cluster = controller_cluster(host->controller);
    g_autoptr(GPtrArray) nodes = cluster_nodes(cluster);
    json_t *list = json_array();

    for (guint i = 0; i < nodes->len; i++) {
        const struct cluster_node *node = nodes->pdata[i];
        json_t *gpus = api_gpus_shown(host, node), *gpu;
        size_t k;

        json_array_foreach (gpus, k, gpu) {
            json_object_set_new(gpu, "node", json_string(node->info->name));
            json_object_set_new(gpu, "online", json_boolean(cluster_is_online(cluster, node, host_now())));
            json_array_append(list, gpu);
        }
        json_decref(gpus);
    }
    http_reply_json(x, 200, json_pack("{s:o}", "gpus", list));
}

/* ---- one card of a node ---- */

const struct gpu *api_path_gpu(const struct host *host, const struct http_exchange *x, GError **error) {
    const char *name = http_path_param(x, 0), *text = http_path_param(x, 1);
    const struct cluster_node *node = cluster_find(controller_cluster(host->controller), name);
    const struct gpu *gpu = NULL;
    guint64 index;

    if (!node)
        kr_fail(error, NOT_FOUND, "there is no node \"%.64s\"", name);
    else if (!g_ascii_string_to_unsigned(text, 10, 0, TARGET_MAX_NUMBER, &index, NULL))
        kr_fail(error, BAD_REQUEST, "\"%.32s\" is no GPU index: write a number such as 3", text);
    else if (!(gpu = node_info_gpu_by_index(node->info, (int)index)))
        kr_fail(error, NOT_FOUND, "node %s has no GPU %d", name, (int)index);
    return gpu;
}
