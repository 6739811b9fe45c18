#include "core/controller.h"

#include <string.h>

#include "base/error.h"
#include "base/fault.h"
#include "core/controller_internal.h"
#include "core/placement.h"
#include "core/task_state.h"
#include "model/wire.h"

/* ---- life ---- */

static void live_free(struct live_task *live) {
    task_free(live->draft);
    task_free(live->shown);
    g_free(live);
}

void controller_tell_node(const struct controller *c, const char *node) {
    if (c->ops.node_changed)
        c->ops.node_changed(c->env, node);
}

void controller_tell_vps(const struct controller *c, uint32_t vps_id) {
    if (c->ops.vps_changed && vps_id)
        c->ops.vps_changed(c->env, vps_id);
}

static void on_ledger(void *user, const char *node) { controller_tell_node(user, node); }

struct controller *controller_new(const struct controller_ops *ops, void *env,
                                  const struct controller_settings *settings) {
    struct controller *c = g_new0(struct controller, 1);

    c->ops = *ops;
    c->env = env;
    c->kills_orphans = settings->kills_orphans;
    pool_init(&c->pool, settings->offline_after_ms);
    ledger_watch(c->pool.ledger, on_ledger, c);
    controller_init_keys(c);
    controller_init_vps(c);
    controller_init_homeless(c);
    c->submitting = g_hash_table_new(NULL, NULL);
    c->live = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)live_free);
    return c;
}

void controller_free(struct controller *c) {
    if (!c)
        return;
    g_hash_table_unref(c->live);
    controller_free_keys(c);
    controller_free_vps(c);
    controller_free_homeless(c);
    g_hash_table_unref(c->submitting);
    pool_clear(&c->pool);
    g_free(c->storage_problem);
    g_free(c);
}

const struct pool *controller_pool(const struct controller *c) { return &c->pool; }
const struct cluster *controller_cluster(const struct controller *c) { return c->pool.cluster; }
const struct ledger *controller_ledger(const struct controller *c) { return c->pool.ledger; }
const char *controller_storage_problem(const struct controller *c) { return c->storage_problem; }

struct live_task *controller_live(const struct controller *c, uint32_t task_id) {
    return g_hash_table_lookup(c->live, GUINT_TO_POINTER(task_id));
}

const struct task *controller_task(const struct controller *c, uint32_t task_id) {
    const struct live_task *live = controller_live(c, task_id);

    return live ? live->shown : NULL;
}

static int by_epoch(gconstpointer a, gconstpointer b) {
    const struct live_task *const *left = a;
    const struct live_task *const *right = b;

    return ((*left)->draft->lease.epoch > (*right)->draft->lease.epoch) -
           ((*left)->draft->lease.epoch < (*right)->draft->lease.epoch);
}

/* A node takes leases in the order of their epochs only. */
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
    g_ptr_array_sort(found, by_epoch);
    return found;
}

const struct task *controller_task_of(const struct controller *c, const struct ledger_entry *entry) {
    const struct live_task *live = entry && !entry->is_orphan ? controller_live(c, entry->lease.task_id) : NULL;

    return live ? live->draft : NULL;
}

const struct pool_card *controller_gpu(struct controller *c, const struct cluster_node *node, const struct gpu *gpu,
                                       struct core_time now) {
    const struct task *holder = controller_task_of(c, ledger_holder(c->pool.ledger, gpu->uuid));
    bool is_news = false;
    const struct pool_card *card = pool_note_gpu(&c->pool, node, gpu, holder, now, &is_news);

    if (is_news)
        controller_tell_node(c, node->info->name);
    return card;
}

void controller_each_task(const struct controller *c, void (*take)(void *user, const struct task *task), void *user) {
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, c->live);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (((const struct live_task *)value)->shown)
            take(user, ((const struct live_task *)value)->shown);
}

const char *controller_shown_state(const struct controller *c, const struct task *task, struct core_time now) {
    const struct cluster_node *node = cluster_find(c->pool.cluster, task->lease.node);

    if (!task_state_is_terminal(task->state) && (!node || !cluster_is_online(c->pool.cluster, node, now)))
        return "lost";
    return task_state_to_str(task->state);
}

/* ---- restore ---- */

void controller_restore_counters(struct controller *c, uint32_t last_task_id, int64_t last_epoch) {
    c->last_task_id = MAX(c->last_task_id, last_task_id);
    ledger_raise_epoch(c->pool.ledger, last_epoch);
}

void controller_restore_node(struct controller *c, struct node_info *info) { cluster_put(c->pool.cluster, info); }
void controller_restore_mark(struct controller *c, struct mark *mark) { pool_set_mark(&c->pool, mark); }
void controller_restore_pardon(struct controller *c, struct pardon *pardon) { pool_set_pardon(&c->pool, pardon); }

const char *controller_label(const struct task_spec *spec) {
    return spec->name ? spec->name : spec->vm ? spec->vm->hostname : spec->argv[0];
}

bool controller_restore_task(struct controller *c, struct task *task) {
    struct live_task *live;

    if (!ledger_grant(c->pool.ledger, &task->lease, controller_label(task->spec), false)) {
        task_free(task);
        return false;
    }
    live = controller_add_live(c, task);
    live->shown = task_copy(task);
    live->was_sent = true; /* nobody remembers: it may have been */
    live->told = task->state;
    controller_restore_counters(c, task->id, task->lease.epoch);
    return true;
}

struct live_task *controller_add_live(struct controller *c, struct task *draft) {
    struct live_task *live = g_new0(struct live_task, 1);

    live->draft = draft;
    g_hash_table_insert(c->live, GUINT_TO_POINTER(draft->id), live);
    return live;
}

void controller_drop_live(struct controller *c, struct live_task *live) {
    g_hash_table_remove(c->live, GUINT_TO_POINTER(live->draft->id));
}

/* ---- recording ---- */

void controller_submit_record(struct controller *c, struct record *record) {
    for (guint i = 0; i < record->tasks->len; i++)
        task_check(record->tasks->pdata[i]);
    c->ops.record(c->env, record);
}

/* Each state once, however often a record of it fails. */
static void add_state_event(struct live_task *live, struct record *record) {
    const struct task *task = live->draft;
    const char *state = task_state_to_str(task->state);
    g_autofree char *text = NULL;

    if (live->told == task->state)
        return;
    live->told = task->state;
    text = task->reason ? g_strdup_printf("%s: %s", state, task->reason) : g_strdup(state);
    g_ptr_array_add(record->events, task_event_new(task->id, text));
}

struct record *controller_record_of_draft(struct live_task *live) {
    struct record *record;

    live->is_dirty = false;
    live->draft->revision++;
    record = record_of_task(task_copy(live->draft));
    add_state_event(live, record);
    record->is_insert_only = live->is_adopting = live->is_adopted && !live->shown;
    return record;
}

void controller_record_draft(struct controller *c, struct live_task *live) {
    if (live->is_adopting) {
        live->is_dirty = true;
        return;
    }
    controller_submit_record(c, controller_record_of_draft(live));
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

bool controller_is_connected(const struct controller *c, const char *node) {
    const struct cluster_node *known = cluster_find(c->pool.cluster, node);

    return known && known->is_connected;
}

void controller_send(struct controller *c, const char *node, const char *type, json_t *message) {
    json_object_set_new(message, "type", json_string(type));
    if (controller_is_connected(c, node))
        c->ops.send(c->env, node, message);
    else
        json_decref(message);
}

void controller_send_name(struct controller *c, const char *node, const char *type, uint32_t task_id, int64_t epoch) {
    controller_send(c, node, type, json_pack("{s:I,s:I}", "task_id", (json_int_t)task_id, "epoch", (json_int_t)epoch));
}

static void forget(struct controller *c, struct live_task *live) {
    const struct task *task = live->shown;
    bool may_be_there = task->release_forced && !live->is_gone_there && live->was_sent;

    ledger_release(c->pool.ledger, task->lease.node, task->id, task->lease.epoch);
    if (!may_be_there)
        controller_send_name(c, task->lease.node, WIRE_ACK, task->id, task->lease.epoch);
    else if (controller_is_connected(c, task->lease.node)) /* it came back while the order was written down */
        controller_hold_orphan(c, &task->lease);
    c->ops.task_changed(c->env, task, true);
    controller_drop_live(c, live);
}

static void send_start(struct controller *c, struct live_task *live) {
    const struct task *task = live->shown;

    live->start_sent = live->was_sent = true;
    controller_tell_vps(c, task->spec->vm ? task->spec->vm->vps_id : 0);
    controller_send(
        c, task->lease.node, WIRE_START,
        json_pack("{s:o,s:o}", "lease", lease_to_json(&task->lease), "spec", task_spec_to_json(task->spec)));
}

/* The wish is the record's; what is, is what the node said last. */
static void send_pause(struct controller *c, struct live_task *live) {
    const struct task *task = live->shown;
    bool is_paused = task->state == TASK_PAUSED;
    int wanted = task->pause_requested ? PAUSE_SENT : RESUME_SENT;

    if (task->pause_requested == is_paused || (int)live->pause_sent == wanted)
        return;
    live->pause_sent = wanted;
    controller_send_name(c, task->lease.node, task->pause_requested ? WIRE_PAUSE : WIRE_RESUME, task->id,
                         task->lease.epoch);
}

void controller_act(struct controller *c, struct live_task *live) {
    const struct task *task = live->shown;

    if (!task)
        return;
    if (!task->holds_lease) {
        forget(c, live);
        return;
    }
    if (!controller_is_connected(c, task->lease.node))
        return;
    if (task->release_forced && !live->forget_sent) {
        live->forget_sent = true;
        controller_send_name(c, task->lease.node, WIRE_FORGET, task->id, task->lease.epoch);
    }
    if (task_state_is_terminal(task->state))
        return;
    /* a kill that is being recorded may count on its task never having been sent, a lease that is granted anew on the old
     * one never being seen again */
    if (task->state == TASK_PENDING && live->draft->state == TASK_PENDING && !live->start_sent &&
        task->lease.epoch == live->draft->lease.epoch)
        send_start(c, live);
    if (task->kill_requested && !live->stop_sent) {
        live->stop_sent = true;
        controller_send_name(c, task->lease.node, WIRE_STOP, task->id, task->lease.epoch);
    }
    if (!task->kill_requested)
        send_pause(c, live);
}

/* ---- kill, pause ---- */

static struct live_task *find_unended(const struct controller *c, uint32_t task_id, GError **error) {
    struct live_task *live = controller_live(c, task_id);

    if (!live || !live->shown)
        kr_fail(error, NOT_FOUND, "there is no live task %u", task_id);
    else if (task_state_is_terminal(live->draft->state))
        kr_fail(error, REFUSED, "task %u has ended: %s", task_id, task_state_to_str(live->draft->state));
    else
        return live;
    return NULL;
}

static void record_wish(struct controller *c, struct live_task *live, controller_done_cb *on_done, void *user) {
    struct record *record = controller_record_of_draft(live); /* also the second time: an earlier one may still fail */

    record->on_done = on_done;
    record->done_user = user;
    controller_submit_record(c, record);
}

bool controller_kill(struct controller *c, uint32_t task_id, struct core_time now, controller_done_cb *on_done,
                     void *user, GError **error) {
    struct live_task *live = find_unended(c, task_id, error);

    if (!live)
        return false;
    if (!live->draft->kill_requested && (!live->was_sent || fault_mutant("R3-stopping-releases")))
        controller_end_draft(live, TASK_KILLED, "killed before it reached its node", now);
    else if (!live->draft->kill_requested)
        live->draft->state = TASK_STOPPING;
    live->draft->kill_requested = true;
    record_wish(c, live, on_done, user);
    return true;
}

bool controller_pause(struct controller *c, uint32_t task_id, bool is_pause, controller_done_cb *on_done, void *user,
                      GError **error) {
    struct live_task *live = find_unended(c, task_id, error);

    if (!live)
        return false;
    if (live->draft->kill_requested)
        return kr_fail(error, REFUSED, "task %u is being ended", task_id);
    live->draft->pause_requested = is_pause;
    record_wish(c, live, on_done, user);
    return true;
}

/* ---- the store's answers ---- */

static void task_recorded(struct controller *c, struct record *record, const GError *error) {
    struct task *task = g_ptr_array_steal_index(record->tasks, 0); /* an update has one */
    struct live_task *live = controller_live(c, task->id);
    bool is_its = live && live->draft->lease.epoch == task->lease.epoch;

    if (record->on_done)
        record->on_done(record->done_user, error ? NULL : task, error);
    if (record->is_insert_only && is_its)
        live->is_adopting = false;
    if (record->is_insert_only && is_its && controller_adoption_recorded(c, task, error)) {
        task_free(task);
        return;
    }
    if (!is_its || error) {
        if (live && error) { /* its events are lost with it */
            live->is_dirty = true;
            live->told = TASK_UNSET;
            live->told_health = GPU_HEALTH_UNSET;
        }
        task_free(task);
        return;
    }
    task_free(live->shown);
    live->shown = task;
    if (task->holds_lease)
        c->ops.task_changed(c->env, live->shown, false);
    controller_act(c, live);
}

/* A mark's subject is a node or a card. */
static void tell_marked(const struct controller *c, const char *subject) {
    g_autoptr(GPtrArray) nodes = cluster_nodes(c->pool.cluster);
    char of_node[MARK_SUBJECT_MAX_BYTES + 1], of_gpu[MARK_SUBJECT_MAX_BYTES + 1];

    for (guint i = 0; i < nodes->len; i++) {
        const struct node_info *info = ((const struct cluster_node *)nodes->pdata[i])->info;
        bool is_its;

        mark_subject_of_node(info->name, of_node);
        is_its = strcmp(subject, of_node) == 0;
        for (guint k = 0; !is_its && k < info->gpus->len; k++) {
            mark_subject_of_gpu(((const struct gpu *)info->gpus->pdata[k])->uuid, of_gpu);
            is_its = strcmp(subject, of_gpu) == 0;
        }
        if (is_its)
            controller_tell_node(c, info->name);
    }
}

static void marks_recorded(struct controller *c, struct record *record) {
    g_autofree char *subject = g_strdup(record->mark ? record->mark->subject : record->unmark);

    if (record->mark)
        pool_set_mark(&c->pool, g_steal_pointer(&record->mark));
    if (record->unmark)
        pool_drop_mark(&c->pool, record->unmark);
    controller_vps_recorded(c, record);
    if (record->pardon) /* comes with an unmark of the same card */
        pool_set_pardon(&c->pool, g_steal_pointer(&record->pardon));
    if (subject)
        tell_marked(c, subject);
}

void controller_recorded(struct controller *c, struct record *record, const GError *error) {
    g_clear_pointer(&c->storage_problem, g_free);
    if (error)
        c->storage_problem = g_strdup(error->message);
    if (!error)
        marks_recorded(c, record);
    if (record->submit)
        controller_submit_recorded(c, record, error);
    else if (record->tasks->len > 0)
        task_recorded(c, record, error);
    else if (record->on_done)
        record->on_done(record->done_user, NULL, error);
    record_free(record);
}

/* Tasks of a node turn lost or come back: tell those who watch. */
static void tell_liveness(struct controller *c, const char *node) {
    g_autoptr(GPtrArray) lives = controller_live_of_node(c, node);

    for (guint i = 0; i < lives->len; i++) {
        struct live_task *live = lives->pdata[i];
        live->draft->revision++;
        if (live->shown) {
            live->shown->revision = live->draft->revision;
            c->ops.task_changed(c->env, live->shown, false);
        }
    }
}

void controller_note_online(struct controller *c, struct cluster_node *node, struct core_time now) {
    bool is_online = cluster_is_online(c->pool.cluster, node, now);

    if (is_online == node->was_online)
        return;
    node->was_online = is_online;
    tell_liveness(c, node->info->name);
    controller_tell_node(c, node->info->name);
}

/* A mutant's: what systems do that take silence for an end. */
static void release_lost(struct controller *c, const char *node, struct core_time now) {
    g_autoptr(GPtrArray) lives = controller_live_of_node(c, node);

    for (guint i = 0; i < lives->len; i++) {
        controller_end_draft(lives->pdata[i], TASK_FAILED, "its node is silent", now);
        controller_record_draft(c, lives->pdata[i]);
    }
}

void controller_tick(struct controller *c, struct core_time now) {
    g_autoptr(GPtrArray) nodes = cluster_nodes(c->pool.cluster);
    GHashTableIter iter;
    gpointer value;

    for (guint i = 0; i < nodes->len; i++) {
        struct cluster_node *node = nodes->pdata[i];

        controller_note_cards(c, node, now);
        if (node->was_online && !cluster_is_online(c->pool.cluster, node, now) && fault_mutant("R3-lost-is-free"))
            release_lost(c, node->info->name, now);
        controller_note_online(c, node, now);
    }
    controller_prune_keys(c, now);
    controller_house_homeless(c);
    g_hash_table_iter_init(&iter, c->live);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (((struct live_task *)value)->is_dirty)
            controller_record_draft(c, value);
}

void controller_check(const struct controller *c) {
    GHashTableIter iter;
    gpointer value;

    ledger_check(c->pool.ledger);
    g_hash_table_iter_init(&iter, c->live);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct live_task *live = value;
        task_check(live->draft);
        /* R3: every live task holds */
        g_assert(ledger_find(c->pool.ledger, live->draft->lease.node, live->draft->id, live->draft->lease.epoch));
    }
}
