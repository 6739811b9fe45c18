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

json_t *api_gpu_rows(const struct host *host, const struct cluster_node *node) {
    bool is_online = cluster_is_online(controller_cluster(host->controller), node, host_now());
    json_t *gpus = api_gpus_shown(host, node), *gpu;
    size_t i;

    json_array_foreach (gpus, i, gpu) {
        json_object_set_new(gpu, "node", json_string(node->info->name));
        json_object_set_new(gpu, "online", json_boolean(is_online));
    }
    return gpus;
}

void api_gpu_list(struct http_exchange *x, void *app) {
    const struct host *host = app;
    g_autoptr(GPtrArray) nodes = cluster_nodes(controller_cluster(host->controller));
    json_t *list = json_array();

    for (guint i = 0; i < nodes->len; i++) {
        json_t *gpus = api_gpu_rows(host, nodes->pdata[i]);

        json_array_extend(list, gpus);
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

/* ---- who is on it: the node looks afresh ---- */

struct who_call {
    struct host *host;
    struct http_exchange *x;
    char *node;
    int index;
};

/* What is known here of the tasks that the node names by number. */
static void name_tasks(const struct host *host, json_t *processes) {
    json_t *process;
    size_t i;

    json_array_foreach (processes, i, process) {
        uint32_t id = (uint32_t)json_integer_value(json_object_get(process, "task_id"));
        const struct task *task = id ? controller_task(host->controller, id) : NULL;

        if (task && task->spec->owner)
            json_object_set_new(process, "owner", json_string(task->spec->owner));
        if (task)
            json_object_set_new(process, "name", json_string(api_task_label(task)));
    }
}

static json_t *shown_gpu(const struct host *host, const char *name, int index) {
    const struct cluster_node *node = cluster_find(controller_cluster(host->controller), name);
    json_t *gpus = node ? api_gpus_shown(host, node) : json_array(), *gpu, *found = NULL;
    size_t i;

    json_array_foreach (gpus, i, gpu)
        if (json_integer_value(json_object_get(gpu, "index")) == index)
            found = json_incref(gpu);
    json_decref(gpus);
    return found;
}

static void on_processes(void *user, const json_t *body, const GError *error) {
    struct who_call *call = user;
    json_t *answer = body ? json_deep_copy(body) : NULL;
    json_t *gpu = body ? shown_gpu(call->host, call->node, call->index) : NULL;

    if (error) {
        http_reply_error(call->x, error, NULL);
    } else {
        name_tasks(call->host, json_object_get(answer, "processes"));
        json_object_set_new(answer, "gpu", gpu ? gpu : json_object());
        http_reply_json(call->x, 200, answer);
    }
    g_free(call->node);
    g_free(call);
}

void api_gpu_processes(struct http_exchange *x, void *app) {
    struct host *host = app;
    g_autoptr(GError) error = NULL;
    const struct gpu *gpu = api_path_gpu(host, x, &error);
    struct who_call *call;

    if (!gpu) {
        http_reply_error(x, error, NULL);
        return;
    }
    call = g_new0(struct who_call, 1);
    *call = (struct who_call){.host = host, .x = x, .node = g_strdup(http_path_param(x, 0)), .index = gpu->index};
    node_query(host, call->node, "processes", json_pack("{s:s}", "uuid", gpu->uuid), on_processes, call);
}
