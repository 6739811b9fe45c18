#include "model/gpu.h"

#include <string.h>

#include "base/json.h"

static const char *const condition_names[GPU_CONDITION_COUNT_] = {
    [GPU_CONDITION_UNSET] = "unset",         [GPU_CONDITION_OK] = "ok",       [GPU_CONDITION_FOREIGN] = "foreign",
    [GPU_CONDITION_UNKNOWN] = "unknown",     [GPU_CONDITION_FAULT] = "fault", [GPU_CONDITION_VFIO] = "vfio",
    [GPU_CONDITION_SWITCHING] = "switching", [GPU_CONDITION_BARE] = "bare",   [GPU_CONDITION_REMOVED] = "removed",
};

const char *gpu_condition_to_str(enum gpu_condition condition) {
    return condition_names[condition < GPU_CONDITION_COUNT_ ? condition : 0];
}

enum gpu_condition gpu_condition_from_str(const char *text) {
    for (int i = 1; i < GPU_CONDITION_COUNT_; i++)
        if (g_strcmp0(condition_names[i], text) == 0)
            return (enum gpu_condition)i;
    return GPU_CONDITION_UNSET;
}

struct gpu *gpu_new(void) {
    return g_new0(struct gpu, 1);
}

void gpu_free(struct gpu *gpu) {
    if (!gpu)
        return;
    g_free(gpu->reason);
    g_free(gpu);
}

struct gpu *gpu_copy(const struct gpu *gpu) {
    struct gpu *copy = gpu_new();

    *copy = *gpu;
    copy->reason = g_strdup(gpu->reason);
    return copy;
}

/* Names with their units, and what may come from outside. */
static const struct {
    const char *name;
    int64_t min, max;
} figures[GPU_FIGURE_COUNT_] = {
    [GPU_MEM_TOTAL] = {"memory_total_bytes", 0, G_MAXINT64},
    [GPU_MEM_USED] = {"memory_used_bytes", 0, G_MAXINT64},
    [GPU_UTIL] = {"utilization_percent", 0, 100},
    [GPU_TEMP] = {"temperature_celsius", -273, 10000},
    [GPU_POWER] = {"power_mw", 0, G_MAXINT},
    [GPU_POWER_LIMIT] = {"power_limit_mw", 0, G_MAXINT},
    [GPU_MINOR] = {"minor", 0, G_MAXINT},
    [GPU_NUMA] = {"numa_node", 0, G_MAXINT},
    [GPU_MEM_UTIL] = {"memory_utilization_percent", 0, 100},
    [GPU_MEM_TEMP] = {"memory_temperature_celsius", -273, 10000},
    [GPU_FAN] = {"fan_percent", 0, 1000},
    [GPU_CLOCK_SM] = {"sm_clock_mhz", 0, G_MAXINT},
    [GPU_CLOCK_MEM] = {"memory_clock_mhz", 0, G_MAXINT},
    [GPU_THROTTLE] = {"throttle_reasons", 0, G_MAXINT},
    [GPU_ECC_CORRECTED] = {"ecc_corrected", 0, G_MAXINT64},
    [GPU_ECC_UNCORRECTED] = {"ecc_uncorrected", 0, G_MAXINT64},
    [GPU_ECC_UNCORRECTED_EVER] = {"ecc_uncorrected_ever", 0, G_MAXINT64},
    [GPU_ROWS_CORRECTED] = {"rows_remapped_corrected", 0, G_MAXINT},
    [GPU_ROWS_UNCORRECTED] = {"rows_remapped_uncorrected", 0, G_MAXINT},
    [GPU_REMAP_PENDING] = {"row_remap_pending", 0, 1},
    [GPU_REMAP_FAILED] = {"row_remap_failed", 0, 1},
    [GPU_RECOVERY] = {"recovery_action", 0, G_MAXINT},
    [GPU_PCIE_GENERATION] = {"pcie_generation", 0, 64},
    [GPU_PCIE_WIDTH] = {"pcie_width", 0, 64},
    [GPU_PCIE_REPLAYS] = {"pcie_replays", 0, G_MAXINT64},
    [GPU_PERSISTENCE] = {"persistence", 0, 1},
    [GPU_IOMMU_GROUP] = {"iommu_group", 0, G_MAXINT},
    [GPU_IDLE_SINCE] = {"idle_since_ms", 0, G_MAXINT64},
};

const char *gpu_figure_name(enum gpu_figure figure) { return figures[figure].name; }

void gpu_note_xid(struct gpu *gpu, int code, int64_t count, int64_t at_ms) {
    struct gpu_xid xid = {.code = code, .count = count, .last_ms = at_ms};
    size_t at = 0;

    while (at < gpu->n_xids && gpu->xids[at].code != code)
        at++;
    if (at < gpu->n_xids)
        xid.count += gpu->xids[at].count;
    else
        gpu->n_xids = MIN(gpu->n_xids + 1, (size_t)GPU_MAX_XIDS);
    at = MIN(at, (size_t)GPU_MAX_XIDS - 1);
    memmove(gpu->xids + 1, gpu->xids, at * sizeof xid);
    gpu->xids[0] = xid;
}

json_t *gpu_xids_to_json(const struct gpu_xid *xids, size_t n) {
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_pack("{s:i,s:I,s:I}", "code", xids[i].code, "count", (json_int_t)xids[i].count,
                                              "last_ms", (json_int_t)xids[i].last_ms));
    return list;
}

size_t gpu_xids_from_json(struct json_reader *r, struct gpu_xid ret_xids[static GPU_MAX_XIDS]) {
    const json_t *list = jr_array_opt(r, "xids", GPU_MAX_XIDS), *item;
    size_t i, n = 0;

    json_array_foreach (list, i, item) {
        struct json_reader one;

        if (r->failed)
            return 0;
        one = jr_init(item, "xid", r->error);
        ret_xids[n++] = (struct gpu_xid){.code = (int)jr_int(&one, "code", 0, G_MAXINT),
                                         .count = jr_int(&one, "count", 0, G_MAXINT64),
                                         .last_ms = jr_int(&one, "last_ms", 0, G_MAXINT64)};
        r->failed = !jr_done(&one);
    }
    return r->failed ? 0 : n;
}

bool gpu_add_device_node(struct gpu *gpu, const char *path) {
    if (gpu->n_device_nodes == GPU_MAX_DEVICE_NODES || strlen(path) > GPU_DEVICE_NODE_MAX_BYTES)
        return false;
    g_strlcpy(gpu->device_nodes[gpu->n_device_nodes++], path, sizeof gpu->device_nodes[0]);
    return true;
}

static json_t *device_nodes_to_json(const struct gpu *gpu) {
    json_t *list = json_array();

    for (size_t i = 0; i < gpu->n_device_nodes; i++)
        json_array_append_new(list, json_string(gpu->device_nodes[i]));
    return list;
}

static void device_nodes_from_json(struct json_reader *r, struct gpu *gpu) {
    g_auto(GStrv) paths = jr_strv_opt(r, "device_nodes", GPU_MAX_DEVICE_NODES, GPU_DEVICE_NODE_MAX_BYTES);

    for (char **path = paths; path && *path; path++) {
        if (!g_str_has_prefix(*path, "/dev/") || strstr(*path, ".."))
            jr_fail(r, "\"device_nodes\" names something outside /dev");
        gpu_add_device_node(gpu, *path);
    }
}

json_t *gpu_to_json(const struct gpu *gpu) {
    json_t *json = json_object();

    json_object_set_new(json, "index", json_integer(gpu->index));
    json_object_set_new(json, "uuid", json_string(gpu->uuid));
    json_object_set_new(json, "pci_address", json_string(gpu->pci));
    json_object_set_new(json, "name", json_string(gpu->name));
    json_object_set_new(json, "condition", json_string(gpu_condition_to_str(gpu->condition)));
    if (gpu->proof.facts)
        json_object_set_new(json, "proof", proof_to_json(&gpu->proof));
    if (gpu->reason)
        json_object_set_new(json, "reason", json_string(gpu->reason));
    for (int i = 0; i < GPU_FIGURE_COUNT_; i++)
        if (gpu_has(gpu, i))
            json_object_set_new(json, figures[i].name, json_integer(gpu->figures[i]));
    if (gpu->n_xids)
        json_object_set_new(json, "xids", gpu_xids_to_json(gpu->xids, gpu->n_xids));
    if (gpu->n_device_nodes)
        json_object_set_new(json, "device_nodes", device_nodes_to_json(gpu));
    return json;
}

bool gpu_take_figure(struct gpu *gpu, const char *name, const json_t *value) {
    int i = 0;

    while (i < GPU_FIGURE_COUNT_ && strcmp(figures[i].name, name) != 0)
        i++;
    if (i == GPU_FIGURE_COUNT_)
        return false;
    if (json_is_null(value)) {
        gpu_unset(gpu, (enum gpu_figure)i);
        return true;
    }
    if (!json_is_integer(value) || json_integer_value(value) < figures[i].min ||
        json_integer_value(value) > figures[i].max)
        return false;
    gpu_set(gpu, (enum gpu_figure)i, json_integer_value(value));
    return true;
}

struct gpu *gpu_from_json(const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "gpu", error);
    struct gpu *gpu = gpu_new();
    int64_t value;

    gpu->index = (int)jr_int(&r, "index", 0, 1023);
    g_strlcpy(gpu->uuid, jr_str(&r, "uuid", GPU_UUID_MAX_BYTES), sizeof gpu->uuid);
    g_strlcpy(gpu->pci, jr_str(&r, "pci_address", GPU_PCI_BYTES - 1), sizeof gpu->pci);
    g_strlcpy(gpu->name, jr_str(&r, "name", GPU_NAME_MAX_BYTES), sizeof gpu->name);
    gpu->condition = gpu_condition_from_str(jr_str(&r, "condition", 32));
    if (gpu->condition == GPU_CONDITION_UNSET)
        jr_fail(&r, "\"condition\" has a value that is not known here");
    gpu->reason = g_strdup(jr_str_opt(&r, "reason", GPU_REASON_MAX_BYTES, NULL));
    if (!r.failed && !proof_from_json(json_object_get(json, "proof"), &gpu->proof, r.error))
        r.failed = true;
    for (int i = 0; i < GPU_FIGURE_COUNT_; i++)
        if (jr_int_if(&r, figures[i].name, figures[i].min, figures[i].max, &value))
            gpu_set(gpu, i, value);
    gpu->n_xids = gpu_xids_from_json(&r, gpu->xids);
    device_nodes_from_json(&r, gpu);
    if (jr_done(&r))
        return gpu;
    gpu_free(gpu);
    return NULL;
}
