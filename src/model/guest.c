#include "model/guest.h"

#include <string.h>

#include "base/json.h"

static const char *const driver_names[GUEST_DRIVER_COUNT_] = {
    [GUEST_DRIVER_UNSET] = "unset", [GUEST_DRIVER_NONE] = "none",     [GUEST_DRIVER_INSTALLING] = "installing",
    [GUEST_DRIVER_READY] = "ready", [GUEST_DRIVER_FAILED] = "failed",
};

const char *guest_driver_to_str(enum guest_driver driver) {
    return (unsigned)driver < GUEST_DRIVER_COUNT_ ? driver_names[driver] : driver_names[0];
}

enum guest_driver guest_driver_from_str(const char *text) {
    for (int i = 1; text && i < GUEST_DRIVER_COUNT_; i++)
        if (strcmp(text, driver_names[i]) == 0)
            return (enum guest_driver)i;
    return GUEST_DRIVER_UNSET;
}

/* An ed25519 key in the wire format of RFC 8709 is 51 bytes: 68 characters without padding. */
bool guest_host_key_is_valid(const char *key) {
    static const char type[] = "ssh-ed25519 ";
    const char *text = key + strlen(type);

    return g_str_has_prefix(key, type) && strlen(text) == 68 &&
           strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") == 68;
}

void guest_free(struct guest *guest) { g_free(guest); }

/* ---- JSON ---- */

static void set_text(json_t *json, const char *key, const char *text) {
    if (text[0])
        json_object_set_new(json, key, json_string(text));
}

static void set_number(json_t *json, const char *key, int64_t number) {
    if (number >= 0)
        json_object_set_new(json, key, json_integer(number));
}

static json_t *gpu_json(const struct guest_gpu *gpu) {
    json_t *json = json_object();

    json_object_set_new(json, "name", json_string(gpu->name));
    set_number(json, "utilization_percent", gpu->utilization_percent);
    set_number(json, "memory_used_bytes", gpu->mem_used_bytes);
    set_number(json, "memory_total_bytes", gpu->mem_total_bytes);
    set_number(json, "temperature_celsius", gpu->temperature_celsius);
    return json;
}

json_t *guest_to_json(const struct guest *guest) {
    const struct guest_state *state = &guest->state;
    json_t *json = json_pack("{s:I,s:b,s:b}", "task_id", (json_int_t)guest->task_id, "heard", guest->has_state, "ready",
                             guest->has_state && state->is_ready);
    json_t *gpus = json_array();

    if (guest->is_silent)
        json_object_set_new(json, "silent", json_true());
    if (guest->is_late)
        json_object_set_new(json, "late", json_true());
    set_text(json, "address", state->address);
    if (state->driver)
        json_object_set_new(json, "driver", json_string(guest_driver_to_str(state->driver)));
    set_text(json, "driver_version", state->driver_version);
    set_text(json, "driver_text", state->driver_text);
    set_text(json, "ssh_host_key", state->host_key);
    for (size_t i = 0; i < state->n_gpus; i++)
        json_array_append_new(gpus, gpu_json(&state->gpus[i]));
    json_object_set_new(json, "gpus", gpus);
    return json;
}

static void read_text(struct json_reader *r, const char *key, char *to, size_t size) {
    g_strlcpy(to, jr_str_opt(r, key, size - 1, ""), size);
}

static void read_gpus(struct json_reader *r, struct guest_state *state) {
    const json_t *list = jr_array_opt(r, "gpus", GUEST_MAX_GPUS), *item;
    size_t i;

    json_array_foreach (list, i, item) {
        struct json_reader g = jr_init(item, "guest.gpus", r->error);
        struct guest_gpu *gpu = &state->gpus[state->n_gpus];

        read_text(&g, "name", gpu->name, sizeof gpu->name);
        gpu->utilization_percent = (int)jr_int_opt(&g, "utilization_percent", 0, G_MAXINT, -1);
        gpu->mem_used_bytes = jr_int_opt(&g, "memory_used_bytes", 0, G_MAXINT64, -1);
        gpu->mem_total_bytes = jr_int_opt(&g, "memory_total_bytes", 0, G_MAXINT64, -1);
        gpu->temperature_celsius = (int)jr_int_opt(&g, "temperature_celsius", 0, G_MAXINT, -1);
        r->failed |= g.failed;
        if (r->failed)
            return;
        state->n_gpus++;
    }
}

struct guest *guest_from_json(const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "guest", error);
    struct guest *guest = g_new0(struct guest, 1);
    struct guest_state *state = &guest->state;

    guest->task_id = (uint32_t)jr_int(&r, "task_id", 1, G_MAXUINT32);
    guest->has_state = jr_bool_opt(&r, "heard", false);
    guest->is_silent = jr_bool_opt(&r, "silent", false);
    guest->is_late = jr_bool_opt(&r, "late", false);
    state->is_ready = jr_bool_opt(&r, "ready", false);
    state->driver = guest_driver_from_str(jr_str_opt(&r, "driver", 32, ""));
    read_text(&r, "address", state->address, sizeof state->address);
    read_text(&r, "driver_version", state->driver_version, sizeof state->driver_version);
    read_text(&r, "driver_text", state->driver_text, sizeof state->driver_text);
    read_text(&r, "ssh_host_key", state->host_key, sizeof state->host_key);
    if (state->host_key[0] && !guest_host_key_is_valid(state->host_key))
        jr_fail(&r, "\"ssh_host_key\" is no ed25519 key");
    read_gpus(&r, state);
    if (jr_done(&r))
        return guest;
    guest_free(guest);
    return NULL;
}
