#include "model/gpu.h"

#include <string.h>

#include "base/json.h"

static const char *const condition_names[GPU_CONDITION_COUNT_] = {
    [GPU_CONDITION_UNSET] = "unset",         [GPU_CONDITION_OK] = "ok",           [GPU_CONDITION_FOREIGN] = "foreign",
    [GPU_CONDITION_UNKNOWN] = "unknown",     [GPU_CONDITION_FAULT] = "fault",     [GPU_CONDITION_VFIO] = "vfio",
    [GPU_CONDITION_SWITCHING] = "switching", [GPU_CONDITION_REMOVED] = "removed",
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

static const char *const figure_names[] = {"memory_total_bytes",
                                           "memory_used_bytes",
                                           "utilization_percent",
                                           "temperature_celsius",
                                           "power_mw",
                                           "power_limit_mw",
                                           "minor",
                                           "numa_node"};

/* Figure i of a gpu, in the order of the bits and names. */
static int64_t figure_get(const struct gpu *gpu, size_t i) {
    const int64_t values[] = {gpu->mem_total_bytes, gpu->mem_used_bytes, gpu->util_percent, gpu->temp_celsius,
                              gpu->power_mw,        gpu->power_limit_mw, gpu->minor,        gpu->numa_node};
    return values[i];
}

static void figure_set(struct gpu *gpu, size_t i, int64_t value) {
    int *small[] = {
        NULL,        NULL,           &gpu->util_percent, &gpu->temp_celsius, &gpu->power_mw, &gpu->power_limit_mw,
        &gpu->minor, &gpu->numa_node};

    if (i == 0)
        gpu->mem_total_bytes = value;
    else if (i == 1)
        gpu->mem_used_bytes = value;
    else
        *small[i] = (int)value;
    gpu->valid |= 1U << i;
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
    for (size_t i = 0; i < G_N_ELEMENTS(figure_names); i++)
        if (gpu->valid & (1U << i))
            json_object_set_new(json, figure_names[i], json_integer(figure_get(gpu, i)));
    return json;
}

struct gpu *gpu_from_json(const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "gpu", error);
    struct gpu *gpu = gpu_new();

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
    for (size_t i = 0; i < G_N_ELEMENTS(figure_names); i++)
        if (json_object_get(json, figure_names[i]))
            figure_set(gpu, i, jr_int(&r, figure_names[i], i < 2 ? 0 : G_MININT, i < 2 ? G_MAXINT64 : G_MAXINT));
    if (jr_done(&r))
        return gpu;
    gpu_free(gpu);
    return NULL;
}
