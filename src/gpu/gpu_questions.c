/* What others ask of the monitor: is this card free, who is on it, what do the calls cost. Each is one question to the
 * worker. */

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "gpu/gpu_monitor_internal.h"
#include "model/xid.h"

enum { LOOKS_GAP_MS = 30000 }; /* after such a pause a check is the first of a new row */

struct gpu_check_call {
    struct gpu_monitor *monitor;
    struct gpu_link_call *asked;
    char **uuids;
    gpu_check_cb *on_done;
    void *user;
};

struct gpu_query {
    struct gpu_monitor *monitor;
    struct gpu_link_call *asked;
    char *uuid; /* NULL: it is about costs */
    gpu_query_cb *on_done;
    void *user;
};

/* ---- checks ---- */

static void check_free(struct gpu_check_call *call) {
    g_hash_table_remove(call->monitor->checks, call);
    g_strfreev(call->uuids);
    g_free(call);
}

/* ---- XIDs between looks ---- */

/* Every report may bring XIDs, and brings each of them once. */
static void note_news(struct gpu_monitor *monitor, struct gpu_report *report) {
    monitor_note_log(monitor, report);
    for (guint i = 0; i < report->cards->len; i++)
        monitor_note_xids(monitor, ((struct gpu_report_card *)report->cards->pdata[i])->gpu);
}

/* Where a row of looks begins, what came before does not count. */
static void begin_looks(struct gpu_monitor *monitor, const char *uuid) {
    struct holders *holders = monitor_holders(monitor, uuid);

    if (!holders->looked_ms || clock_mono_ms() - holders->looked_ms > LOOKS_GAP_MS)
        holders->look_bad_xids = holders->bad_xids;
    holders->looked_ms = clock_mono_ms();
}

/* After this look the row begins anew. Caller frees. */
static char *xid_why(struct gpu_monitor *monitor, const char *uuid) {
    struct holders *holders = monitor_holders(monitor, uuid);
    bool is_bad = holders->bad_xids != holders->look_bad_xids;

    holders->look_bad_xids = holders->bad_xids;
    return is_bad ? g_strdup_printf("XID %d came just now: %s", holders->bad_code, xid_meaning(holders->bad_code)->text)
                  : NULL;
}

/* A card without a driver says where it is and not who it is; which one that is, is remembered. And one that is leased by its place may
 * have told who it is since. */
static const struct gpu_report_card *card_of(const struct gpu_monitor *monitor, const struct gpu_report *report,
                                             const char *uuid) {
    const struct gpu_report_card *card = gpu_report_card_by_uuid(report, uuid);
    const struct gpu_index_entry *entry = gpu_index_by_uuid(monitor->index, uuid);

    for (guint i = 0; !card && entry && i < report->cards->len; i++) {
        const struct gpu_report_card *other = report->cards->pdata[i];
        if ((other->gpu->condition == GPU_CONDITION_BARE || g_str_has_prefix(uuid, GPU_PLACE_PREFIX)) &&
            strcmp(other->gpu->pci, entry->pci) == 0)
            card = other;
    }
    return card;
}

/* Why the card is not free by this report, NULL when it is. Caller frees. */
static char *busy_why(const struct gpu_monitor *monitor, const struct gpu_report *report, const char *uuid) {
    const struct gpu_report_card *card = card_of(monitor, report, uuid);
    const struct gpu_index_entry *entry = gpu_index_by_uuid(monitor->index, uuid);
    char *users;

    if (!report->has_inventory)
        return g_strdup(report->text);
    for (guint i = 0; !card && entry && i < report->cards->len; i++) { /* one that cannot say who it is now */
        const struct gpu_report_card *other = report->cards->pdata[i];
        if (!other->gpu->uuid[0] && strcmp(other->gpu->pci, entry->pci) == 0)
            return g_strdup(other->gpu->reason);
    }
    if (!card && entry)
        return g_strdup_printf("no card answers to this UUID (it was GPU %d at %s; %s)", entry->index, entry->pci,
                               report->text);
    if (!card)
        return g_strdup_printf("no card of this node ever had this UUID (%s)", report->text);
    if (card->gpu->condition != GPU_CONDITION_OK && card->gpu->condition != GPU_CONDITION_BARE)
        return g_strdup(card->gpu->reason);
    if ((users = gpu_users_to_str(card->users)))
        return users;
    if (card->users_error || !card->users)
        return g_strdup(card->users_error ? card->users_error : "its processes were not listed");
    return monitor_memory_why(monitor, card->gpu);
}

static void judge_check(struct gpu_monitor *monitor, const struct gpu_report *report, struct gpu_check *check) {
    g_autofree char *xid = xid_why(monitor, check->uuid);

    check->why = busy_why(monitor, report, check->uuid);
    if (!check->why)
        check->why = g_steal_pointer(&xid);
    check->is_free = !check->why;
    check->is_bare = check->is_free && card_of(monitor, report, check->uuid)->gpu->condition == GPU_CONDITION_BARE;
    if (check->is_free)
        check->proof = (struct proof){.facts = PROOF_CARD, .samples = 1};
}

static void on_check(void *user, const json_t *answer, const char *why) {
    struct gpu_check_call *call = user;
    size_t n = g_strv_length(call->uuids);
    g_autofree struct gpu_check *checks = g_new0(struct gpu_check, n + 1);
    g_autoptr(GError) error = NULL;
    struct gpu_report *report = answer ? gpu_report_from_json(answer, &error) : NULL;

    for (size_t i = 0; i < n; i++) {
        g_strlcpy(checks[i].uuid, call->uuids[i], sizeof checks[i].uuid);
        begin_looks(call->monitor, call->uuids[i]);
    }
    if (report)
        note_news(call->monitor, report);
    for (size_t i = 0; i < n; i++) {
        if (report)
            judge_check(call->monitor, report, &checks[i]);
        else
            checks[i].why = g_strdup_printf("no answer: %s", error ? error->message : why);
    }
    gpu_report_free(report);
    call->on_done(call->user, checks, n);
    for (size_t i = 0; i < n; i++)
        g_free(checks[i].why);
    check_free(call);
}

/* Takes over `uuids`. */
static json_t *check_request(const struct gpu_monitor *monitor, json_t *uuids) {
    return json_pack("{s:s,s:o,s:o,s:I}", "op", "check", "uuids", uuids, "leave_out", monitor_left_out(monitor),
                     "xids_after_us", (json_int_t)gpu_index_xids_at_us(monitor->index));
}

struct gpu_check_call *gpu_monitor_check(struct gpu_monitor *monitor, const char *const *uuids, size_t n,
                                         gpu_check_cb *on_done, void *user) {
    struct gpu_check_call *call = g_new0(struct gpu_check_call, 1);
    json_t *list = json_array();

    call->monitor = monitor;
    call->on_done = on_done;
    call->user = user;
    call->uuids = g_new0(char *, n + 1);
    for (size_t i = 0; i < n; i++) {
        call->uuids[i] = g_strdup(uuids[i]);
        json_array_append_new(list, json_string(uuids[i]));
    }
    g_hash_table_add(monitor->checks, call);
    call->asked = gpu_link_ask(monitor->link, check_request(monitor, list), on_check, call);
    return call;
}

void gpu_check_cancel(struct gpu_check_call *call) {
    if (!call)
        return;
    gpu_link_cancel(call->asked);
    check_free(call);
}

/* ---- queries ---- */

static void query_free(struct gpu_query *query) {
    g_hash_table_remove(query->monitor->queries, query);
    g_free(query->uuid);
    g_free(query);
}

static void finish_query(struct gpu_query *query, json_t *json, const char *why) {
    query->on_done(query->user, json, why);
    json_decref(json);
    query_free(query);
}

static char *no_users_why(const struct gpu_report *report, const struct gpu_report_card *card) {
    if (!report->has_inventory)
        return g_strdup(report->text);
    if (!card)
        return g_strdup_printf("no card answers to this UUID (%s)", report->text);
    if (card->users_error || !card->users)
        return g_strdup(card->users_error   ? card->users_error
                        : card->gpu->reason ? card->gpu->reason
                                            : "its processes were not listed");
    return NULL;
}

static void on_users(void *user, const json_t *answer, const char *why) {
    struct gpu_query *query = user;
    g_autoptr(GError) error = NULL;
    struct gpu_report *report = answer ? gpu_report_from_json(answer, &error) : NULL;
    const struct gpu_report_card *card = report ? card_of(query->monitor, report, query->uuid) : NULL;
    g_autofree char *reason = NULL;

    if (report) {
        note_news(query->monitor, report);
        reason = no_users_why(report, card);
    } else {
        reason = g_strdup(error ? error->message : why);
    }
    finish_query(query, card && !reason ? gpu_users_to_json(card->users) : NULL, reason);
    gpu_report_free(report);
}

static void on_costs(void *user, const json_t *answer, const char *why) {
    json_t *costs = json_object_get(answer, "costs");

    finish_query(user, json_is_array(costs) ? json_incref(costs) : NULL,
                 json_is_array(costs) ? NULL
                 : answer             ? "the GPU worker told no costs"
                                      : why);
}

static struct gpu_query *query_new(struct gpu_monitor *monitor, const char *uuid, gpu_query_cb *on_done, void *user) {
    struct gpu_query *query = g_new0(struct gpu_query, 1);

    query->monitor = monitor;
    query->uuid = g_strdup(uuid);
    query->on_done = on_done;
    query->user = user;
    g_hash_table_add(monitor->queries, query);
    return query;
}

struct gpu_query *gpu_monitor_users(struct gpu_monitor *monitor, const char *uuid, gpu_query_cb *on_done, void *user) {
    struct gpu_query *query = query_new(monitor, uuid, on_done, user);

    query->asked = gpu_link_ask(monitor->link, check_request(monitor, json_pack("[s]", uuid)), on_users, query);
    return query;
}

struct gpu_query *gpu_monitor_costs(struct gpu_monitor *monitor, gpu_query_cb *on_done, void *user) {
    struct gpu_query *query = query_new(monitor, NULL, on_done, user);

    query->asked = gpu_link_ask(monitor->link, json_pack("{s:s}", "op", "costs"), on_costs, query);
    return query;
}

void gpu_query_cancel(struct gpu_query *query) {
    if (!query)
        return;
    gpu_link_cancel(query->asked);
    query_free(query);
}

void monitor_drop_questions(struct gpu_monitor *monitor) {
    GHashTableIter iter;
    void *one;

    g_hash_table_iter_init(&iter, monitor->checks);
    while (g_hash_table_iter_next(&iter, &one, NULL)) {
        g_strfreev(((struct gpu_check_call *)one)->uuids);
        g_free(one);
    }
    g_hash_table_iter_init(&iter, monitor->queries);
    while (g_hash_table_iter_next(&iter, &one, NULL)) {
        g_free(((struct gpu_query *)one)->uuid);
        g_free(one);
    }
    g_hash_table_unref(monitor->checks);
    g_hash_table_unref(monitor->queries);
}
