#include "host/event_figures.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

#include "model/gpu.h"

enum { MEMORY_STEP = 16 << 20, POWER_STEP = 1000 };

/* Their names are those of the model's figures, gpu_figure_name. */
static const struct {
    enum gpu_figure figure;
    int64_t step; /* it is told in multiples of this */
} figures[] = {
    {GPU_MEM_USED, MEMORY_STEP}, {GPU_UTIL, 1},
    {GPU_MEM_UTIL, 1},           {GPU_TEMP, 1},
    {GPU_MEM_TEMP, 1},           {GPU_FAN, 1},
    {GPU_POWER, POWER_STEP},     {GPU_POWER_LIMIT, POWER_STEP},
    {GPU_CLOCK_SM, 1},           {GPU_CLOCK_MEM, 1},
    {GPU_THROTTLE, 1},           {GPU_ECC_CORRECTED, 1},
    {GPU_ROWS_CORRECTED, 1},     {GPU_PCIE_GENERATION, 1},
    {GPU_PCIE_WIDTH, 1},         {GPU_PCIE_REPLAYS, 1},
    {GPU_IDLE_SINCE, 1},
};

static const char *name_of(size_t i) { return gpu_figure_name(figures[i].figure); }

/* Half a step is added in the direction of the value, so that a temperature below zero is rounded as one above it. */
static int64_t rounded(int64_t value, int64_t step) { return (value + (value < 0 ? -step : step) / 2) / step * step; }

void event_figures_round(json_t *row) {
    for (size_t i = 0; i < G_N_ELEMENTS(figures); i++) {
        json_t *value = figures[i].step > 1 ? json_object_get(row, name_of(i)) : NULL;

        if (json_is_integer(value))
            json_integer_set(value, rounded(json_integer_value(value), figures[i].step));
    }
}

/* One member of a told row, now absent or another value. */
static void update(json_t *told, json_t **changes, const char *name, bool is_known, int64_t value) {
    const json_t *before = json_object_get(told, name);

    if (is_known ? before && json_integer_value(before) == value : !before)
        return;
    if (!*changes)
        *changes = json_object();
    json_object_set_new(*changes, name, is_known ? json_integer(value) : json_null());
    if (is_known)
        json_object_set_new(told, name, json_integer(value));
    else
        json_object_del(told, name);
}

json_t *event_figures_update_gpu(json_t *told, const struct gpu *gpu) {
    json_t *changes = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(figures); i++)
        update(told, &changes, name_of(i), gpu_has(gpu, figures[i].figure),
               rounded(gpu_figure(gpu, figures[i].figure), figures[i].step));
    return changes;
}

json_t *event_figures_update_node(json_t *told, const struct node_info *info) {
    json_t *changes = NULL;

    update(told, &changes, gpu_figure_name(GPU_MEM_USED), true, rounded(info->mem_used_bytes, MEMORY_STEP));
    return changes;
}

void event_figures_hold(json_t *row, const json_t *told) {
    for (size_t i = 0; i < G_N_ELEMENTS(figures); i++) {
        json_t *value = json_object_get(told, name_of(i));

        if (value)
            json_object_set(row, name_of(i), value);
        else
            json_object_del(row, name_of(i));
    }
}

static bool is_figure(const char *name) {
    for (size_t i = 0; i < G_N_ELEMENTS(figures); i++)
        if (strcmp(name_of(i), name) == 0)
            return true;
    return false;
}

static bool are_figures(const json_t *members) {
    const char *key;
    json_t *value;

    if (!json_is_object(members))
        return false;
    json_object_foreach ((json_t *)(uintptr_t)members, key, value)
        if (!is_figure(key))
            return false;
    return true;
}

bool event_figures_only(const json_t *delta) {
    const char *key, *position;
    json_t *value, *card;

    if (!json_is_object(delta))
        return false;
    json_object_foreach ((json_t *)(uintptr_t)delta, key, value) {
        if (is_figure(key))
            continue;
        if (strcmp(key, "gpus") != 0 || !json_is_object(value))
            return false;
        json_object_foreach (value, position, card)
            if (!are_figures(card))
                return false;
    }
    return true;
}
