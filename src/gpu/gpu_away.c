/* Letting cards go for machines, and seeing them again afterwards. */

#include "gpu/gpu_monitor_internal.h"

static json_t *to_json(char *const *list) {
    json_t *json = json_array();

    for (; *list; list++)
        json_array_append_new(json, json_string(*list));
    return json;
}

static bool has_all(const char *const *list, char *const *wanted) {
    for (; *wanted; wanted++)
        if (!g_strv_contains(list, *wanted))
            return false;
    return true;
}

void gpu_monitor_set_away(struct gpu_monitor *monitor, const char *const *pci) {
    bool is_back = !has_all(pci, monitor->away);
    bool is_new = !has_all((const char *const *)monitor->away, (char *const *)pci);

    if (!is_back && !is_new)
        return;
    g_strfreev(monitor->away);
    monitor->away = g_strdupv((char **)pci);
    gpu_link_set_hands_off(monitor->link, to_json(monitor->away));
    if (!is_back || gpu_link_is_held(monitor->link))
        return;
    gpu_link_hold(monitor->link, NULL, NULL);
    gpu_link_resume(monitor->link);
}

static void on_too_long(uv_timer_t *timer) {
    struct gpu_monitor *monitor = timer->data;

    monitor_turn_unknown(monitor, "nobody looks at the GPUs while one is being switched, and that takes long");
    if (monitor->on_update)
        monitor->on_update(monitor->user);
}

void gpu_monitor_let_go(struct gpu_monitor *monitor, void (*on_gone)(void *user), void *user) {
    gpu_link_hold(monitor->link, on_gone, user);
    uv_timer_start(monitor->let_go, on_too_long, (uint64_t)monitor->deadline_ms, 0);
}

void gpu_monitor_take_up(struct gpu_monitor *monitor) {
    uv_timer_stop(monitor->let_go);
    gpu_link_resume(monitor->link);
}
