#include "core/controller.h"

#include <string.h>

#include "base/error.h"
#include "core/controller_internal.h"
#include "core/placement.h"
#include "core/task_state.h"
#include "model/wire.h"

/* Whom to answer when a submission's record is durable. */
struct pending_submit {
    controller_submit_cb *on_done;
    void *user;
    GPtrArray *notes; /* of char * */
};

/* ---- life ---- */

static void submit_free(struct pending_submit *submit) {
    if (!submit)
        return;
    g_ptr_array_unref(submit->notes);
    g_free(submit);
}

void record_free(struct record *record) {
    if (!record)
        return;
    g_ptr_array_unref(record->tasks);
    submit_free(record->submit);
    g_free(record);
}

static void live_free(struct live_task *live) {
    task_free(live->draft);
    task_free(live->shown);
    g_free(live);
}

struct controller *controller_new(const struct controller_ops *ops, void *env, int64_t offline_after_ms) {
    struct controller *c = g_new0(struct controller, 1);

    c->ops = *ops;
    c->env = env;
    c->cluster = cluster_new(offline_after_ms);
    c->ledger = ledger_new();
    c->live = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)live_free);
    return c;
}

void controller_free(struct controller *c) {
    if (!c)
        return;
    g_hash_table_unref(c->live);
    ledger_free(c->ledger);
    cluster_free(c->cluster);
    g_free(c->storage_problem);
    g_free(c);
}

const struct cluster *controller_cluster(const struct controller *c) { return c->cluster; }
const struct ledger *controller_ledger(const struct controller *c) { return c->ledger; }
const char *controller_storage_problem(const struct controller *c) { return c->storage_problem; }

struct live_task *controller_live(const struct controller *c, uint32_t task_id) {
    return g_hash_table_lookup(c->live, GUINT_TO_POINTER(task_id));
}

const struct task *controller_task(const struct controller *c, uint32_t task_id) {
    const struct live_task *live = controller_live(c, task_id);

    return live ? live->shown : NULL;
}

GPtrArray *controller_live_of_node(const struct controller *c, const char *node) {
    GPtrArray *found = g_ptr_array_new();
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, c->live);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct live_task *live = value;
        if (strcmp(live->draft->lease.node, node) == 0)
            g_ptr_array_add(found, live);
    }
    return found;
}

const char *controller_shown_state(const struct controller *c, const struct task *task, struct core_time now) {
    const struct cluster_node *node = cluster_find(c->cluster, task->lease.node);

    if (!task_state_is_terminal(task->state) && (!node || !cluster_is_online(c->cluster, node, now)))
        return "lost";
    return task_state_to_str(task->state);
}

/* ---- restore ---- */

void controller_restore_counters(struct controller *c, uint32_t last_task_id, int64_t last_epoch) {
    c->last_task_id = MAX(c->last_task_id, last_task_id);
    ledger_raise_epoch(c->ledger, last_epoch);
}

void controller_restore_node(struct controller *c, struct node_info *info) { cluster_put(c->cluster, info); }

static const char *label_of(const struct task_spec *spec) { return spec->name ? spec->name : spec->argv[0]; }

bool controller_restore_task(struct controller *c, struct task *task) {
    struct live_task *live;

    if (!ledger_grant(c->ledger, &task->lease, label_of(task->spec), false)) {
        task_free(task);
        return false;
    }
    live = g_new0(struct live_task, 1);
    live->draft = task;
    live->shown = task_copy(task);
    live->was_sent = true; /* nobody remembers: it may have been */
    controller_restore_counters(c, task->id, task->lease.epoch);
    g_hash_table_insert(c->live, GUINT_TO_POINTER(task->id), live);
    return true;
}

/* ---- recording ---- */

/* Takes the tasks. */
static struct record *record_tasks(struct controller *c, GPtrArray *tasks, struct pending_submit *submit) {
    struct record *record = g_new0(struct record, 1);

    for (guint i = 0; i < tasks->len; i++)
        task_check(tasks->pdata[i]);
    record->tasks = tasks;
    record->submit = submit;
    return record;
}

static struct record *record_of_draft(struct controller *c, struct live_task *live) {
    GPtrArray *tasks = g_ptr_array_new_with_free_func((GDestroyNotify)task_free);

    live->is_dirty = false;
    live->draft->revision++;
    g_ptr_array_add(tasks, task_copy(live->draft));
    return record_tasks(c, tasks, NULL);
}

void controller_record_draft(struct controller *c, struct live_task *live) {
    c->ops.record(c->env, record_of_draft(c, live));
}

void controller_end_draft(struct live_task *live, enum task_state state, const char *reason, struct core_time now) {
    struct task *task = live->draft;

    if (task_state_can_move(task->state, state)) {
        task->state = state;
        task->finished_ms = now.wall_ms;
        g_free(task->reason);
        task->reason = g_strdup(reason);
    }
    g_clear_pointer(&task->holding, g_free);
    task->holds_lease = false;
}

/* ---- acting ---- */

static bool is_connected(const struct controller *c, const char *node) {
    const struct cluster_node *known = cluster_find(c->cluster, node);

    return known && known->is_connected;
}

void controller_send(struct controller *c, const char *node, const char *type, json_t *message) {
    json_object_set_new(message, "type", json_string(type));
    if (is_connected(c, node))
        c->ops.send(c->env, node, message);
    else
        json_decref(message);
}

static json_t *name_of(uint32_t task_id, int64_t epoch) {
    return json_pack("{s:I,s:I}", "task_id", (json_int_t)task_id, "epoch", (json_int_t)epoch);
}

void controller_send_ack(struct controller *c, const char *node, uint32_t task_id, int64_t epoch) {
    controller_send(c, node, WIRE_ACK, name_of(task_id, epoch));
}

static void forget(struct controller *c, struct live_task *live) {
    const struct task *task = live->shown;

    ledger_release(c->ledger, task->lease.node, task->id, task->lease.epoch);
    controller_send_ack(c, task->lease.node, task->id, task->lease.epoch);
    c->ops.task_changed(c->env, task, true);
    g_hash_table_remove(c->live, GUINT_TO_POINTER(task->id));
}

void controller_act(struct controller *c, struct live_task *live) {
    const struct task *task = live->shown;

    if (!task)
        return;
    if (!task->holds_lease) {
        forget(c, live);
        return;
    }
    if (!is_connected(c, task->lease.node) || task_state_is_terminal(task->state))
        return;
    /* a kill that is being recorded may count on its task never having been sent */
    if (task->state == TASK_PENDING && live->draft->state == TASK_PENDING && !live->start_sent) {
        live->start_sent = live->was_sent = true;
        controller_send(
            c, task->lease.node, WIRE_START,
            json_pack("{s:o,s:o}", "lease", lease_to_json(&task->lease), "spec", task_spec_to_json(task->spec)));
    }
    if (task->kill_requested && !live->stop_sent) {
        live->stop_sent = true;
        controller_send(c, task->lease.node, WIRE_STOP, name_of(task->id, task->lease.epoch));
    }
}

/* ---- submissions ---- */

static void refusal_free(gpointer data) {
    struct refusal *refusal = data;

    g_free(refusal->target);
    g_free(refusal->reason);
    g_free(refusal);
}

struct decision {
    GPtrArray *tasks;    /* of struct task, granted in the ledger */
    GPtrArray *refusals; /* of struct refusal */
    GPtrArray *notes;    /* of char * */
    char *batch_id;
    int64_t first_epoch; /* the ledger's counter before this submission */
};

static void refuse(struct decision *d, const char *target, const GError *why) {
    struct refusal *refusal = g_new0(struct refusal, 1);

    refusal->target = g_strdup(target);
    refusal->reason = g_strdup(why->message);
    refusal->is_bad_request = why->code == KR_ERROR_BAD_REQUEST;
    g_ptr_array_add(d->refusals, refusal);
}

static struct task *grant(struct controller *c, struct decision *d, const struct lease *lease, const char *target,
                          const struct task_spec *spec, struct core_time now) {
    struct task *task = g_new0(struct task, 1);

    task->id = ++c->last_task_id;
    task->batch_id = g_strdup(d->batch_id);
    task->target = g_strdup(target);
    task->spec = task_spec_copy(spec);
    task->lease = *lease;
    task->lease.task_id = task->id;
    task->lease.epoch = ledger_next_epoch(c->ledger);
    task->lease.granted_ms = task->created_ms = now.wall_ms;
    task->holds_lease = true;
    task->state = TASK_PENDING;
    task->revision = 1;
    if (!ledger_grant(c->ledger, &task->lease, label_of(spec), false))
        g_error("placement offered a card that the ledger does not grant"); /* aborts: a broken invariant */
    return task;
}

/* `text` NULL: no target was given. */
static void decide(struct controller *c, struct decision *d, const char *text, const struct task_spec *spec,
                   struct core_time now) {
    struct placement p = {.cluster = c->cluster, .ledger = c->ledger, .now = now, .batch_epoch = d->first_epoch};
    struct target target;
    struct lease lease;
    g_autofree char *canonical = NULL;
    g_autoptr(GError) why = NULL;

    if (c->last_task_id == G_MAXUINT32)
        kr_fail(&why, REFUSED, "this cluster has used up its task numbers");
    if (why || (text && !target_from_str(text, strlen(text), &target, &why)) ||
        !placement_resolve(&p, text ? &target : NULL, spec, &lease, d->notes, &why)) {
        refuse(d, text ? text : "", why);
        return;
    }
    canonical = text ? target_to_str(&target) : g_strdup("");
    g_ptr_array_add(d->tasks, grant(c, d, &lease, canonical, spec, now));
}

static void undo_grants(struct controller *c, const GPtrArray *tasks) {
    for (guint i = 0; i < tasks->len; i++) {
        const struct task *task = tasks->pdata[i];
        ledger_release(c->ledger, task->lease.node, task->id, task->lease.epoch);
    }
}

static GError *refusals_to_error(const GPtrArray *refusals) {
    const struct refusal *first = refusals->pdata[0];
    enum kr_error code = KR_ERROR_BAD_REQUEST;
    GError *error = NULL;

    for (guint i = 0; i < refusals->len; i++)
        if (!((const struct refusal *)refusals->pdata[i])->is_bad_request)
            code = KR_ERROR_REFUSED;
    if (refusals->len == 1)
        kr_fail_at(&error, code, "%s", first->reason);
    else
        kr_fail_at(&error, code, "%u targets are refused, nothing was submitted; the first: %s", refusals->len,
                   first->reason);
    return error;
}

void controller_submit(struct controller *c, const struct submission *submission, struct core_time now,
                       controller_submit_cb *on_done, void *user) {
    struct decision d = {.first_epoch = ledger_last_epoch(c->ledger)};
    uint32_t first_id = c->last_task_id;
    struct pending_submit *submit;

    d.tasks = g_ptr_array_new_with_free_func((GDestroyNotify)task_free);
    d.refusals = g_ptr_array_new_with_free_func(refusal_free);
    d.notes = g_ptr_array_new_with_free_func(g_free);
    d.batch_id = g_strdup_printf("b%u", first_id + 1);
    for (char **target = submission->targets; target && *target; target++)
        decide(c, &d, *target, submission->spec, now);
    if (!submission->targets || !submission->targets[0])
        decide(c, &d, NULL, submission->spec, now);
    g_free(d.batch_id);
    if (d.refusals->len > 0) {
        g_autoptr(GError) error = refusals_to_error(d.refusals);
        undo_grants(c, d.tasks);
        c->last_task_id = first_id; /* ids that nobody has seen are given again */
        on_done(user, NULL, d.notes, d.refusals, error);
        g_ptr_array_unref(d.notes);
        g_ptr_array_unref(d.tasks);
    } else {
        submit = g_new0(struct pending_submit, 1);
        *submit = (struct pending_submit){.on_done = on_done, .user = user, .notes = d.notes};
        c->ops.record(c->env, record_tasks(c, d.tasks, submit));
    }
    g_ptr_array_unref(d.refusals);
}

static void submit_recorded(struct controller *c, const struct record *record, const GError *error) {
    struct pending_submit *submit = record->submit;

    if (error) {
        undo_grants(c, record->tasks);
        submit->on_done(submit->user, NULL, submit->notes, NULL, error);
        return;
    }
    for (guint i = 0; i < record->tasks->len; i++) {
        struct task *task = record->tasks->pdata[i];
        struct live_task *live = g_new0(struct live_task, 1);
        live->draft = task_copy(task);
        live->shown = task_copy(task);
        g_hash_table_insert(c->live, GUINT_TO_POINTER(task->id), live);
        c->ops.task_changed(c->env, task, false);
    }
    submit->on_done(submit->user, record->tasks, submit->notes, NULL, NULL);
    for (guint i = 0; i < record->tasks->len; i++)
        controller_act(c, controller_live(c, ((struct task *)record->tasks->pdata[i])->id));
}

/* ---- kill ---- */

bool controller_kill(struct controller *c, uint32_t task_id, struct core_time now, controller_kill_cb *on_done,
                     void *user, GError **error) {
    struct live_task *live = controller_live(c, task_id);
    struct record *record;

    if (!live)
        return kr_fail(error, NOT_FOUND, "there is no live task %u", task_id);
    if (task_state_is_terminal(live->draft->state))
        return kr_fail(error, REFUSED, "task %u has ended: %s", task_id, task_state_to_str(live->draft->state));
    if (!live->draft->kill_requested && !live->was_sent)
        controller_end_draft(live, TASK_KILLED, "killed before it reached its node", now);
    else if (!live->draft->kill_requested)
        live->draft->state = TASK_STOPPING;
    live->draft->kill_requested = true;
    record = record_of_draft(c, live); /* also the second time: an earlier record may still fail */
    record->on_kill = on_done;
    record->kill_user = user;
    c->ops.record(c->env, record);
    return true;
}

/* ---- the store's answers ---- */

static void update_recorded(struct controller *c, struct record *record, const GError *error) {
    struct task *task = g_ptr_array_steal_index(record->tasks, 0); /* an update has one */
    struct live_task *live = controller_live(c, task->id);

    if (record->on_kill)
        record->on_kill(record->kill_user, task, error);
    if (!live || live->draft->lease.epoch != task->lease.epoch || error) {
        if (live && error)
            live->is_dirty = true;
        task_free(task);
        return;
    }
    task_free(live->shown);
    live->shown = task;
    if (task->holds_lease)
        c->ops.task_changed(c->env, live->shown, false);
    controller_act(c, live);
}

void controller_recorded(struct controller *c, struct record *record, const GError *error) {
    g_clear_pointer(&c->storage_problem, g_free);
    if (error)
        c->storage_problem = g_strdup(error->message);
    if (record->submit)
        submit_recorded(c, record, error);
    else
        update_recorded(c, record, error);
    record_free(record);
}

void controller_tick(struct controller *c, struct core_time now) {
    g_autoptr(GPtrArray) nodes = cluster_nodes(c->cluster);
    GHashTableIter iter;
    gpointer value;

    for (guint i = 0; i < nodes->len; i++) {
        struct cluster_node *node = nodes->pdata[i];
        bool is_online = cluster_is_online(c->cluster, node, now);
        g_autoptr(GPtrArray) lives = NULL;

        if (is_online == node->was_online)
            continue;
        node->was_online = is_online; /* tasks turn lost or come back: tell those who watch */
        lives = controller_live_of_node(c, node->info->name);
        for (guint k = 0; k < lives->len; k++) {
            struct live_task *live = lives->pdata[k];
            live->draft->revision++;
            if (live->shown) {
                live->shown->revision = live->draft->revision;
                c->ops.task_changed(c->env, live->shown, false);
            }
        }
    }
    g_hash_table_iter_init(&iter, c->live);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (((struct live_task *)value)->is_dirty)
            controller_record_draft(c, value);
}

void controller_check(const struct controller *c) {
    GHashTableIter iter;
    gpointer value;

    ledger_check(c->ledger);
    g_hash_table_iter_init(&iter, c->live);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct live_task *live = value;
        task_check(live->draft);
        /* R3: every live task holds */
        g_assert(ledger_find(c->ledger, live->draft->lease.node, live->draft->id, live->draft->lease.epoch));
    }
}
