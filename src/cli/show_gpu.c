#include "cli/show_gpu.h"

#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/show.h"

/* The last part of a UUID tells cards of one node apart and fits a column. */
const char *show_gpu_suffix(const char *uuid) {
    size_t len = uuid ? strlen(uuid) : 0;

    return len > 8 ? uuid + len - 8 : uuid;
}

const char *show_gpu_model(const char *name) {
    return name && g_str_has_prefix(name, "NVIDIA ") ? name + strlen("NVIDIA ") : name;
}

void cell_of_figure(struct table *table, const json_t *gpu, const char *key, const char *unit) {
    if (show_has(gpu, key))
        table_cellf(table, "%" PRId64 "%s", show_int(gpu, key), unit);
    else
        table_cell(table, "-");
}

void cell_of_memory(struct table *table, const json_t *gpu) {
    const double gib = 1024.0 * 1024 * 1024;
    char used[16] = "-", total[16] = "-";

    if (show_has(gpu, "memory_used_bytes"))
        snprintf(used, sizeof used, "%.1f", (double)show_int(gpu, "memory_used_bytes") / gib);
    if (show_has(gpu, "memory_total_bytes"))
        snprintf(total, sizeof total, "%.1f", (double)show_int(gpu, "memory_total_bytes") / gib);
    table_cellf(table, "%s/%s", used, total);
}

void cell_of_power(struct table *table, const json_t *gpu) {
    char used[24] = "-", limit[24] = "-";

    if (show_has(gpu, "power_mw"))
        snprintf(used, sizeof used, "%" PRId64, show_int(gpu, "power_mw") / 1000);
    if (show_has(gpu, "power_limit_mw"))
        snprintf(limit, sizeof limit, "%" PRId64, show_int(gpu, "power_limit_mw") / 1000);
    table_cellf(table, "%s/%s W", used, limit);
}

const char *show_gpu_state(const json_t *gpu) {
    const char *state = show_str(gpu, "state");

    return g_strcmp0(state, "in_use") == 0 ? "in use" : state ? state : "unknown";
}

const char *show_gpu_colour(const char *state) {
    if (strcmp(state, "free") == 0)
        return "green";
    return strcmp(state, "in use") == 0 || strcmp(state, "leased") == 0 || strcmp(state, "starting") == 0 ||
                   strcmp(state, "draining") == 0
               ? "yellow"
               : "red";
}

char *show_gpu_holder(const json_t *gpu) {
    const json_t *holder = json_object_get(gpu, "holder");
    g_autofree char *span = show_span(show_int(holder, "since_ms"), 0);
    const char *name = show_str(holder, "name"), *owner = show_str(holder, "owner");

    if (!json_is_object(holder))
        return NULL;
    if (!show_has(holder, "task_id"))
        return g_strdup(show_str(holder, "text"));
    return g_strdup_printf("task %" PRId64 " (%s)%s%s%s%s", show_int(holder, "task_id"), span, owner ? " " : "",
                           owner ? owner : "", name && name[0] ? " " : "", name ? name : "");
}
