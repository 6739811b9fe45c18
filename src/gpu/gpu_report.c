#include "gpu/gpu_report.h"

#include <string.h>

#include "base/json.h"

enum { MAX_USERS = 4096, DRIVER_MAX_BYTES = 127 };

static void card_free(struct gpu_report_card *card) {
    gpu_free(card->gpu);
    if (card->users)
        g_array_unref(card->users);
    g_free(card->users_error);
    gpu_site_free(card->site);
    g_free(card);
}

void gpu_report_free(struct gpu_report *report) {
    if (!report)
        return;
    g_free(report->text);
    g_free(report->driver);
    g_ptr_array_unref(report->cards);
    g_free(report);
}

static GArray *users_from_json(struct json_reader *card, const json_t *list) {
    GArray *users = g_array_new(FALSE, TRUE, sizeof(struct gpu_user));
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        struct json_reader r = jr_init(item, "process", card->error);
        struct gpu_user user = {.pid = (pid_t)jr_int(&r, "pid", G_MININT, G_MAXINT)};

        g_strlcpy(user.command, jr_str(&r, "command", sizeof user.command - 1), sizeof user.command);
        g_strlcpy(user.user, jr_str(&r, "user", sizeof user.user - 1), sizeof user.user);
        g_strlcpy(user.container, jr_str_opt(&r, "container", sizeof user.container - 1, ""), sizeof user.container);
        user.started_ms = jr_int_opt(&r, "started_ms", 0, G_MAXINT64, 0);
        user.memory_bytes = jr_int_opt(&r, "memory_bytes", 0, G_MAXINT64, -1);
        card->failed |= !jr_done(&r);
        g_array_append_val(users, user);
    }
    return users;
}

/* gpu_from_json wants the index that this conversation leaves out. */
static struct gpu *gpu_without_index(const json_t *json, GError **error) {
    json_t *whole = json_copy((json_t *)json);
    struct gpu *gpu;

    json_object_set_new(whole, "index", json_integer(0));
    gpu = gpu_from_json(whole, error);
    json_decref(whole);
    return gpu;
}

static struct gpu_report_card *card_from_json(const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "card", error);
    const json_t *gpu = jr_object(&r, "gpu", 64);
    const json_t *users = jr_array_opt(&r, "processes", MAX_USERS);
    const json_t *site = jr_object_opt(&r, "site", 16);
    struct gpu_report_card *card = g_new0(struct gpu_report_card, 1);

    card->users_error = g_strdup(jr_str_opt(&r, "processes_error", GPU_REASON_MAX_BYTES, NULL));
    if (users)
        card->users = users_from_json(&r, users);
    if (site && !r.failed)
        r.failed = !(card->site = gpu_site_from_json(site, error));
    if (jr_done(&r) && (card->gpu = gpu_without_index(gpu, error)))
        return card;
    card_free(card);
    return NULL;
}

struct gpu_report *gpu_report_from_json(const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "answer", error);
    struct gpu_report *report = g_new0(struct gpu_report, 1);
    const json_t *cards = jr_array_opt(&r, "cards", NODE_MAX_GPUS);
    const json_t *item;
    size_t i;

    report->cards = g_ptr_array_new_with_free_func((GDestroyNotify)card_free);
    report->has_inventory = jr_bool_opt(&r, "inventory", false);
    report->is_simulated = jr_bool_opt(&r, "simulated", false);
    report->text = g_strdup(jr_str(&r, "text", GPU_REASON_MAX_BYTES));
    report->driver = g_strdup(jr_str_opt(&r, "driver", DRIVER_MAX_BYTES, NULL));
    report->xids_at_us = jr_int_opt(&r, "xids_at_us", 0, G_MAXINT64, 0);
    json_array_foreach (cards, i, item) {
        struct gpu_report_card *card = r.failed ? NULL : card_from_json(item, error);

        if (card)
            g_ptr_array_add(report->cards, card);
        r.failed |= !card;
    }
    if (jr_done(&r))
        return report;
    gpu_report_free(report);
    return NULL;
}

struct gpu_report_card *gpu_report_card_by_uuid(const struct gpu_report *report, const char *uuid) {
    for (guint i = 0; i < report->cards->len; i++) {
        struct gpu_report_card *card = report->cards->pdata[i];
        if (uuid[0] && strcmp(card->gpu->uuid, uuid) == 0)
            return card;
    }
    return NULL;
}

static json_t *user_to_json(const struct gpu_user *user) {
    json_t *json = json_pack("{s:i,s:s,s:s}", "pid", (int)user->pid, "command", user->command, "user", user->user);

    if (user->started_ms > 0)
        json_object_set_new(json, "started_ms", json_integer(user->started_ms));
    if (user->container[0])
        json_object_set_new(json, "container", json_string(user->container));
    if (user->memory_bytes >= 0)
        json_object_set_new(json, "memory_bytes", json_integer(user->memory_bytes));
    return json;
}

json_t *gpu_users_to_json(const GArray *users) {
    json_t *list = json_array();

    for (guint i = 0; i < users->len; i++)
        json_array_append_new(list, user_to_json(&g_array_index(users, struct gpu_user, i)));
    return list;
}

char *gpu_users_to_str(const GArray *users) {
    const struct gpu_user *first = users && users->len > 0 ? &g_array_index(users, struct gpu_user, 0) : NULL;
    g_autofree char *who = NULL, *more = NULL;

    if (!first)
        return NULL;
    who = first->user[0] ? g_strdup_printf("%s (user %s)", first->command, first->user)
                         : g_strdup("that /proc does not show");
    more = users->len > 1 ? g_strdup_printf(" and %u more", users->len - 1) : g_strdup("");
    return g_strdup_printf("pid %d %s uses it%s", (int)first->pid, who, more);
}
