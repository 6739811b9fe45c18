#include "host/event_figures.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

enum { MEMORY_STEP = 16 << 20, POWER_STEP = 1000 };

static const struct {
    const char *name;
    int64_t step; /* it is told in multiples of this */
} figures[] = {
    {"memory_used_bytes", MEMORY_STEP},
    {"utilization_percent", 1},
    {"memory_utilization_percent", 1},
    {"temperature_celsius", 1},
    {"memory_temperature_celsius", 1},
    {"fan_percent", 1},
    {"power_mw", POWER_STEP},
    {"power_limit_mw", POWER_STEP},
    {"sm_clock_mhz", 1},
    {"memory_clock_mhz", 1},
    {"throttle_reasons", 1},
    {"ecc_corrected", 1},
    {"rows_remapped_corrected", 1},
    {"pcie_generation", 1},
    {"pcie_width", 1},
    {"pcie_replays", 1},
    {"idle_since_ms", 1},
};

void event_figures_round(json_t *row) {
    for (size_t i = 0; i < G_N_ELEMENTS(figures); i++) {
        json_t *value = figures[i].step > 1 ? json_object_get(row, figures[i].name) : NULL;

        if (json_is_integer(value))
            json_integer_set(value,
                             (json_integer_value(value) + figures[i].step / 2) / figures[i].step * figures[i].step);
    }
}

void event_figures_hold(json_t *row, const json_t *told) {
    for (size_t i = 0; i < G_N_ELEMENTS(figures); i++) {
        json_t *value = json_object_get(told, figures[i].name);

        if (value)
            json_object_set(row, figures[i].name, value);
        else
            json_object_del(row, figures[i].name);
    }
}

static bool is_figure(const char *name) {
    for (size_t i = 0; i < G_N_ELEMENTS(figures); i++)
        if (strcmp(figures[i].name, name) == 0)
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
