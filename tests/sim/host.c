/* The host: the real controller over a store that is a table. A record is durable when its commit step comes; kill -9 takes what
 * had not reached the disk by then. */

#include <string.h>

#include "base/error.h"
#include "core/task_state.h"
#include "model/wire.h"
#include "sim/world_internal.h"

static struct node *node_named(struct world *w, const char *name) {
    for (int i = 0; i < N_NODES; i++)
        if (strcmp(w->nodes[i].name, name) == 0)
            return &w->nodes[i];
    return NULL;
}

/* ---- what the controller wants done ---- */

static void op_record(void *env, struct record *record) { g_queue_push_tail(&((struct world *)env)->records, record); }

static void push(struct node *node, json_t *message) {
    if (node->host_wire != node->wire || node->is_severed) {
        json_decref(message);
        return;
    }
    wire_seq_stamp(&node->host_side, message);
    g_queue_push_tail(&node->to_node, message);
}

static void op_send(void *env, const char *name, json_t *message) {
    struct world *w = env;
    const char *type = json_string_value(json_object_get(message, "type"));
    const json_t *lease = json_object_get(message, "lease");
    uint32_t id = (uint32_t)json_integer_value(json_object_get(lease, "task_id"));

    if (strcmp(type, WIRE_START) == 0 && !w->was_restored && !g_hash_table_contains(w->store, GUINT_TO_POINTER(id)))
        broken(w, "R5: a start of what the store has no record of", "task %u", id);
    push(node_named(w, name), message);
}

static void op_changed(void *env, const struct task *task, bool is_gone) { task_check(task); }

static const struct controller_ops ops = {op_record, op_send, op_changed};

/* ---- the store ---- */

static bool is_refused(struct world *w, const struct record *record) {
    const struct task *first = record->is_insert_only ? record->tasks->pdata[0] : NULL;

    return first && g_hash_table_contains(w->store, GUINT_TO_POINTER(first->id));
}

static void keep(struct world *w, const struct record *record) {
    for (guint i = 0; i < record->tasks->len; i++) {
        const struct task *task = record->tasks->pdata[i];
        check_unique(w, task);
    }
    for (guint i = 0; i < record->tasks->len; i++) {
        const struct task *task = record->tasks->pdata[i];
        g_hash_table_insert(w->store, GUINT_TO_POINTER(task->id), task_copy(task));
        if (task_state_is_terminal(task->state))
            check_end(w, task);
    }
    if (!record->key)
        return;
    if (g_hash_table_contains(w->keys, record->key->key) && !w->was_restored)
        broken(w, "one submission was made twice", "%s", record->key->key);
    g_hash_table_insert(w->keys, g_strdup(record->key->key), g_strdup(record->key->batch_id));
}

void host_commit(struct world *w, bool fails) {
    struct record *record = g_queue_pop_head(&w->records);
    g_autoptr(GError) error = NULL;

    if (!record)
        return;
    if (fails)
        kr_fail(&error, STORAGE, "disk is full");
    else if (is_refused(w, record))
        kr_fail(&error, REFUSED, "there is a task of that number");
    else
        keep(w, record);
    for (guint i = 0; i < record->tasks->len; i++)
        trace_line("    the host records: task %u/%" G_GINT64_FORMAT " %s%s%s",
                   ((struct task *)record->tasks->pdata[i])->id, ((struct task *)record->tasks->pdata[i])->lease.epoch,
                   task_state_to_str(((struct task *)record->tasks->pdata[i])->state),
                   ((struct task *)record->tasks->pdata[i])->holds_lease ? "" : ", lease over",
                   error ? " (not written)" : "");
    controller_recorded(w->host, record, error);
}

static GHashTable *copy_store(GHashTable *store) {
    GHashTable *copy = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)task_free);
    GHashTableIter iter;
    gpointer id, task;

    g_hash_table_iter_init(&iter, store);
    while (g_hash_table_iter_next(&iter, &id, &task))
        g_hash_table_insert(copy, id, task_copy(task));
    return copy;
}

void host_keep_snapshot(struct world *w) {
    g_clear_pointer(&w->snapshot, g_hash_table_unref);
    w->snapshot = copy_store(w->store);
}

void host_drop_ended(struct world *w) { /* or the store grows without end */
    GHashTableIter iter;
    gpointer id, value;
    uint32_t last = 0;

    g_hash_table_iter_init(&iter, w->store);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        last = MAX(last, ((const struct task *)value)->id);
    g_hash_table_iter_init(&iter, w->store);
    while (g_hash_table_iter_next(&iter, &id, &value)) {
        const struct task *task = value;
        if (task->holds_lease || task->id + 50 >= last)
            continue;
        g_hash_table_remove(w->truth, id);
        g_hash_table_iter_remove(&iter);
    }
}

/* ---- lives of the host ---- */

static void restore_nodes(struct world *w) {
    for (int i = 0; i < N_NODES; i++)
        if (w->infos[i])
            controller_restore_node(w->host, node_info_from_json(w->infos[i], NULL));
}

static void restore_keys(struct world *w) {
    GHashTableIter iter;
    gpointer name, batch;

    g_hash_table_iter_init(&iter, w->keys);
    while (g_hash_table_iter_next(&iter, &name, &batch)) {
        struct submit_key *key = g_new0(struct submit_key, 1);
        *key = (struct submit_key){g_strdup(name), g_strdup("f"), g_strdup(batch), w->now.wall_ms};
        controller_restore_key(w->host, key);
    }
}

void host_start(struct world *w) {
    struct controller_settings settings = {.offline_after_ms = OFFLINE_MS, .kills_orphans = w->seed % 5 == 2};
    GHashTableIter iter;
    gpointer value;
    uint32_t last_id = 0;
    int64_t last_epoch = 0;

    w->host = controller_new(&ops, w, &settings);
    restore_nodes(w);
    restore_keys(w);
    g_hash_table_iter_init(&iter, w->store);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct task *task = value;
        last_id = MAX(last_id, task->id);
        last_epoch = MAX(last_epoch, task->lease.epoch);
        if (task->holds_lease && !controller_restore_task(w->host, task_copy(task)))
            broken(w, "the store holds two leases on one card", "task %u", task->id);
    }
    controller_restore_counters(w->host, last_id, last_epoch);
}

/* The operator puts an old backup of the host's store in place. */
static void restore_snapshot(struct world *w) {
    trace_line("    the host goes on with an old backup");
    g_hash_table_unref(w->store);
    w->store = copy_store(w->snapshot);
    w->was_restored = true;
    w->counts.restored++;
}

/* Nobody is answered any more; an error makes whoever waits let go of his memory, and does nothing else. */
static void drop_record(gpointer data) {
    struct record *record = data;
    g_autoptr(GError) error = NULL;

    kr_fail(&error, STORAGE, "the host has died");
    if (record->on_done)
        record->on_done(record->done_user, NULL, error);
    record_free(record);
}

void host_drop_records(struct world *w) { g_queue_clear_full(&w->records, drop_record); }

/* kill -9: what was not on the disk is gone, and so are all connections. A record may have reached the disk unanswered; a log is
 * written in order, so what comes behind a lost one is lost too. */
void host_crash(struct world *w) {
    bool is_lost = false;

    w->counts.crashes++;
    while (!g_queue_is_empty(&w->records)) {
        struct record *record = g_queue_pop_head(&w->records);
        is_lost |= chance(w, 50) || is_refused(w, record);
        if (!is_lost)
            keep(w, record);
        drop_record(record);
    }
    for (int i = 0; i < N_NODES; i++) {
        w->nodes[i].host_wire = 0;
        wire_sever(&w->nodes[i]);
        w->nodes[i].was_heard = false;
    }
    controller_free(w->host);
    if (w->may_restore && chance(w, 20) && w->snapshot)
        restore_snapshot(w);
    host_start(w);
}

/* ---- what nodes say ---- */

void host_hang_up(struct world *w, struct node *node) {
    bool is_present = node->host_wire == node->wire;

    if (!node->host_wire)
        return;
    node->host_wire = 0;
    if (is_present)
        wire_sever(node);
    controller_disconnected(w->host, node->name, w->now);
}

static void keep_info(struct world *w, struct node *node, const json_t *info) {
    json_t **place = &w->infos[node - w->nodes];

    json_decref(*place);
    *place = json_deep_copy(info);
}

/* As src/host/runner_link.c. */
static void take_hello(struct world *w, struct node *node, const json_t *message) {
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) reports = node_reports_from_json(json_object_get(message, "tasks"), &error);
    struct node_info *info = reports ? node_info_from_json(json_object_get(message, "node"), &error) : NULL;
    int64_t max_epoch = json_integer_value(json_object_get(message, "max_epoch"));

    if (!info)
        broken(w, "a hello cannot be read", "%s: %s", node->name, error->message);
    if (node->host_wire) { /* a new connection replaces the old one */
        node->host_wire = 0;
        controller_disconnected(w->host, node->name, w->now);
    }
    node->host_wire = node->wire;
    node->was_heard = true;
    push(node, json_pack("{s:s,s:s,s:i}", "type", WIRE_WELCOME, "cluster_id", "c1", "heartbeat_ms", 1000));
    if (!controller_hello(w->host, info, reports, max_epoch, w->now, &error))
        broken(w, "a hello was refused", "%s: %s", node->name, error->message);
    keep_info(w, node, json_object_get(message, "node"));
}

static void take_heartbeat(struct world *w, struct node *node, const json_t *message) {
    struct node_info *info = node_info_from_json(json_object_get(message, "node"), NULL);

    if (!info)
        broken(w, "a heartbeat cannot be read", "%s", node->name);
    controller_heartbeat(w->host, info, w->now);
    push(node, json_pack("{s:s}", "type", WIRE_BEAT));
}

static void take_report(struct world *w, struct node *node, const json_t *message) {
    struct task_report report;

    if (!task_report_from_json(json_object_get(message, "task"), &report, NULL))
        broken(w, "a report cannot be read", "%s", node->name);
    if (report.state == TASK_FAILED && (report.proof.facts & PROOF_NEVER_STARTED))
        w->counts.refusals++;
    controller_report(w->host, node->name, &report, w->now);
    task_report_clear(&report);
}

void host_take(struct world *w, struct node *node) {
    json_t *message = g_queue_pop_head(&node->to_host);
    const char *type = json_string_value(json_object_get(message, "type"));
    bool is_hello = message && strcmp(type, WIRE_HELLO) == 0;

    if (!message)
        return;
    if (strcmp(type, WIRE_HEARTBEAT) != 0)
        trace_line("    the host hears %s: %s", node->name, type);
    if (!wire_seq_check(&node->host_side, message, NULL) || (!is_hello && node->host_wire != node->wire)) {
        if (node->host_wire == node->wire)
            host_hang_up(w, node);
        else
            wire_sever(node);
    } else if (is_hello)
        take_hello(w, node, message);
    else if (strcmp(type, WIRE_HEARTBEAT) == 0)
        take_heartbeat(w, node, message);
    else
        take_report(w, node, message);
    json_decref(message);
}
