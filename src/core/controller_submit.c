/* Submissions: decided as a whole, recorded as a whole, and made once however often they are sent. */

#include <string.h>

#include "base/error.h"
#include "base/fault.h"
#include "core/controller_internal.h"
#include "core/placement.h"
#include "model/wire.h"

enum { KEY_KEPT_MS = 24 * 3600 * 1000, MAX_KEYS = 200000 };

struct waiting {
    controller_submit_cb *on_done;
    void *user;
};

/* Whom to answer when a submission's record is durable: whoever sent it, once or again. */
struct pending_submit {
    GArray *waiting;  /* of struct waiting */
    GPtrArray *notes; /* of char * */
};

/* A key in use: its first submission is under way (pending), or made key->batch_id. */
struct used_key {
    struct submit_key key;
    struct pending_submit *pending; /* the record's own; NULL once it is durable */
};

/* ---- keys ---- */

static void used_key_free(struct used_key *used) {
    g_free(used->key.key);
    g_free(used->key.fingerprint);
    g_free(used->key.batch_id);
    g_free(used);
}

void controller_init_keys(struct controller *c) {
    c->keys = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)used_key_free);
}

void controller_free_keys(struct controller *c) { g_hash_table_unref(c->keys); }

static void keep_key(struct controller *c, const struct submit_key *key, struct pending_submit *pending) {
    struct used_key *used = g_new0(struct used_key, 1);

    used->key = (struct submit_key){g_strdup(key->key), g_strdup(key->fingerprint), g_strdup(key->batch_id),
                                    key->at_ms};
    used->pending = pending;
    g_hash_table_replace(c->keys, used->key.key, used);
}

void controller_restore_key(struct controller *c, struct submit_key *key) {
    keep_key(c, key, NULL);
    submit_key_free(key);
}

void controller_prune_keys(struct controller *c, struct core_time now) {
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, c->keys);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct used_key *used = value;
        if (!used->pending && now.wall_ms - used->key.at_ms > KEY_KEPT_MS)
            g_hash_table_iter_remove(&iter);
    }
}

static void add_waiting(struct pending_submit *pending, controller_submit_cb *on_done, void *user) {
    struct waiting waiting = {on_done, user};

    g_array_append_val(pending->waiting, waiting);
}

static void answer(const struct pending_submit *pending, const struct submit_result *result, const GError *error) {
    for (guint i = 0; i < pending->waiting->len; i++) {
        const struct waiting *waiting = &g_array_index(pending->waiting, struct waiting, i);
        waiting->on_done(waiting->user, result, error);
    }
}

void controller_free_submit(struct pending_submit *submit) {
    if (!submit)
        return;
    g_array_unref(submit->waiting);
    g_ptr_array_unref(submit->notes);
    g_free(submit);
}

/* true: the key was used before, and this submission has its answer or will have it. */
static bool is_repeated(struct controller *c, const struct submission *submission, controller_submit_cb *on_done,
                        void *user) {
    const struct used_key *used = submission->key ? g_hash_table_lookup(c->keys, submission->key) : NULL;
    struct submit_result result = {.is_replay = true};
    g_autoptr(GError) error = NULL;

    if (!used)
        return false;
    if (strcmp(used->key.fingerprint, submission->fingerprint) != 0) {
        kr_fail(&error, BAD_REQUEST, "the Idempotency-Key was used for another submission (%s): use a new one",
                used->key.batch_id);
        on_done(user, &(struct submit_result){0}, error);
    } else if (used->pending) {
        add_waiting(used->pending, on_done, user);
    } else {
        result.batch_id = used->key.batch_id;
        on_done(user, &result, NULL);
    }
    return true;
}

/* ---- deciding ---- */

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
    task->lease.epoch = ledger_next_epoch(c->pool.ledger);
    task->lease.granted_ms = task->created_ms = now.wall_ms;
    task->holds_lease = true;
    task->state = TASK_PENDING;
    task->revision = 1;
    if (!ledger_grant(c->pool.ledger, &task->lease, controller_label(spec), false))
        g_error("placement offered a card that the ledger does not grant"); /* aborts: a broken invariant */
    return task;
}

/* `text` NULL: no target was given. */
static void decide(struct controller *c, struct decision *d, const char *text, const struct task_spec *spec,
                   struct core_time now) {
    struct placement p = {.pool = &c->pool, .now = now, .is_machine = spec->vm != NULL, .batch_epoch = d->first_epoch};
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
        ledger_release(c->pool.ledger, task->lease.node, task->id, task->lease.epoch);
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

static void refused(struct controller *c, struct decision *d, controller_submit_cb *on_done, void *user) {
    g_autoptr(GError) error = refusals_to_error(d->refusals);
    struct submit_result result = {.notes = d->notes, .refusals = d->refusals};

    undo_grants(c, d->tasks);
    on_done(user, &result, error);
    g_ptr_array_unref(d->notes);
    g_ptr_array_unref(d->tasks);
}

static struct submit_key *key_of(const struct submission *submission, const char *batch_id, int64_t at_ms) {
    struct submit_key *key = g_new0(struct submit_key, 1);

    key->key = g_strdup(submission->key);
    key->fingerprint = g_strdup(submission->fingerprint);
    key->batch_id = g_strdup(batch_id);
    key->at_ms = at_ms;
    return key;
}

static void record_decision(struct controller *c, struct decision *d, const struct submission *submission,
                            struct core_time now, controller_submit_cb *on_done, void *user) {
    struct record *record = record_new();

    g_ptr_array_unref(record->tasks);
    record->tasks = d->tasks;
    for (guint i = 0; i < d->tasks->len; i++) {
        const struct task *task = d->tasks->pdata[i];

        g_ptr_array_add(record->events, task_event_new(task->id, task_state_to_str(task->state)));
    }
    for (guint i = 0; i < d->tasks->len; i++)
        g_hash_table_add(c->submitting, GUINT_TO_POINTER(((const struct task *)d->tasks->pdata[i])->id));
    record->submit = g_new0(struct pending_submit, 1);
    record->submit->notes = d->notes;
    record->submit->waiting = g_array_new(FALSE, FALSE, sizeof(struct waiting));
    add_waiting(record->submit, on_done, user);
    if (submission->vps) {
        record->vps = vps_copy(submission->vps);
        record->vps->task_id = ((const struct task *)d->tasks->pdata[0])->id;
    }
    if (submission->key) {
        record->key = key_of(submission, d->batch_id, now.wall_ms);
        keep_key(c, record->key, record->submit);
    }
    for (guint i = 0; fault_mutant("R5-act-before-record") && i < record->tasks->len; i++) {
        const struct task *task = record->tasks->pdata[i];
        controller_send(
            c, task->lease.node, WIRE_START,
            json_pack("{s:o,s:o}", "lease", lease_to_json(&task->lease), "spec", task_spec_to_json(task->spec)));
    }
    controller_submit_record(c, record);
}

void controller_submit(struct controller *c, const struct submission *submission, struct core_time now,
                       controller_submit_cb *on_done, void *user) {
    struct decision d = {.first_epoch = ledger_last_epoch(c->pool.ledger)};
    uint32_t first_id = c->last_task_id;

    if (is_repeated(c, submission, on_done, user))
        return;
    d.tasks = g_ptr_array_new_with_free_func((GDestroyNotify)task_free);
    d.refusals = g_ptr_array_new_with_free_func(refusal_free);
    d.notes = g_ptr_array_new_with_free_func(g_free);
    d.batch_id = g_strdup_printf("b%u", first_id + 1);
    for (char **target = submission->targets; target && *target; target++)
        decide(c, &d, *target, submission->spec, now);
    if (!submission->targets || !submission->targets[0])
        decide(c, &d, NULL, submission->spec, now);
    if (d.refusals->len == 0 && submission->key && g_hash_table_size(c->keys) >= MAX_KEYS) {
        g_autoptr(GError) error = NULL;
        kr_fail(&error, REFUSED, "too many Idempotency-Keys were used within a day (%d)", MAX_KEYS);
        refuse(&d, "", error);
    }
    if (d.refusals->len > 0) {
        c->last_task_id = first_id; /* ids that nobody has seen are given again */
        refused(c, &d, on_done, user);
    } else {
        record_decision(c, &d, submission, now, on_done, user);
    }
    g_free(d.batch_id);
    g_ptr_array_unref(d.refusals);
}

/* ---- recorded ---- */

static void settle_key(struct controller *c, const struct record *record, bool is_made) {
    struct used_key *used = record->key ? g_hash_table_lookup(c->keys, record->key->key) : NULL;

    if (used && is_made)
        used->pending = NULL;
    else if (used)
        g_hash_table_remove(c->keys, record->key->key);
}

void controller_submit_recorded(struct controller *c, struct record *record, const GError *error) {
    struct pending_submit *submit = g_steal_pointer(&record->submit);
    struct submit_result result = {.tasks = record->tasks, .notes = submit->notes};

    settle_key(c, record, !error);
    for (guint i = 0; i < record->tasks->len; i++)
        g_hash_table_remove(c->submitting, GUINT_TO_POINTER(((const struct task *)record->tasks->pdata[i])->id));
    if (error) {
        undo_grants(c, record->tasks);
        result.tasks = NULL;
        answer(submit, &result, error);
        controller_free_submit(submit);
        return;
    }
    for (guint i = 0; i < record->tasks->len; i++) {
        struct live_task *live = controller_add_live(c, task_copy(record->tasks->pdata[i]));
        live->shown = task_copy(live->draft);
        live->told = TASK_PENDING;
        c->ops.task_changed(c->env, live->shown, false);
    }
    result.batch_id = ((const struct task *)record->tasks->pdata[0])->batch_id;
    answer(submit, &result, NULL);
    controller_free_submit(submit);
    for (guint i = 0; i < record->tasks->len; i++)
        controller_act(c, controller_live(c, ((struct task *)record->tasks->pdata[i])->id));
}
