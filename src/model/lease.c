#include "model/lease.h"

#include <string.h>

#include "base/json.h"

struct lease *lease_copy(const struct lease *lease) {
    return g_memdup2(lease, sizeof *lease);
}

bool lease_has_gpu(const struct lease *lease, const char *uuid) {
    for (size_t i = 0; i < lease->n_gpus; i++)
        if (strcmp(lease->gpus[i].uuid, uuid) == 0)
            return true;
    return false;
}

json_t *lease_to_json(const struct lease *lease) {
    json_t *gpus = json_array();

    for (size_t i = 0; i < lease->n_gpus; i++)
        json_array_append_new(gpus, json_pack("{s:i,s:s}", "index", lease->gpus[i].index, "uuid", lease->gpus[i].uuid));
    return json_pack("{s:I,s:I,s:s,s:s,s:o,s:i,s:I,s:i,s:I}", "task_id", (json_int_t)lease->task_id, "epoch",
                     (json_int_t)lease->epoch, "node", lease->node, "boot_id", lease->boot_id, "gpus", gpus, "cores",
                     lease->cores, "memory_bytes", (json_int_t)lease->mem_bytes, "numa", lease->numa, "granted_ms",
                     (json_int_t)lease->granted_ms);
}

static void read_gpus(struct json_reader *r, struct lease *lease) {
    const json_t *list = jr_array(r, "gpus", TARGET_MAX_GPUS);
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        struct json_reader g = jr_init(item, "lease.gpus", r->error);
        struct lease_gpu *gpu = &lease->gpus[lease->n_gpus];
        const char *uuid = jr_str(&g, "uuid", GPU_UUID_MAX_BYTES);

        if (!g.failed && (uuid[0] == '\0' || lease_has_gpu(lease, uuid)))
            jr_fail(&g, "a GPU without UUID or twice the same");
        gpu->index = (int)jr_int(&g, "index", 0, TARGET_MAX_NUMBER);
        g_strlcpy(gpu->uuid, uuid, sizeof gpu->uuid);
        lease->n_gpus++;
        r->failed |= g.failed;
    }
}

bool lease_from_json(const json_t *json, struct lease *ret_lease, GError **error) {
    struct json_reader r = jr_init(json, "lease", error);
    struct lease lease = {0};

    lease.task_id = (uint32_t)jr_int(&r, "task_id", 1, G_MAXUINT32);
    lease.epoch = jr_int(&r, "epoch", 1, G_MAXINT64);
    g_strlcpy(lease.node, jr_str(&r, "node", NODE_NAME_MAX_BYTES), sizeof lease.node);
    g_strlcpy(lease.boot_id, jr_str_opt(&r, "boot_id", BOOT_ID_MAX_BYTES, ""), sizeof lease.boot_id);
    read_gpus(&r, &lease);
    lease.cores = (int)jr_int(&r, "cores", 0, G_MAXINT);
    lease.mem_bytes = jr_int(&r, "memory_bytes", 0, G_MAXINT64);
    lease.numa = (int)jr_int(&r, "numa", TARGET_NO_NUMA, TARGET_MAX_NUMBER);
    lease.granted_ms = jr_int(&r, "granted_ms", 0, G_MAXINT64);
    if (!jr_done(&r))
        return false;
    *ret_lease = lease;
    return true;
}
