/* Operators' orders: leases given up without proof, orphans ended, nodes and cards kept from new work. Each goes to the audit
 * log in the transaction that does it, and is acted upon when that is durable. */

#include <string.h>

#include "base/error.h"
#include "core/controller_internal.h"
#include "model/wire.h"

static struct audit_entry *entry_of(const struct order *order, const char *action, char *subject, const char *what,
                                    struct core_time now) {
    g_autofree char *owned = subject;
    g_autofree char *text = g_strdup_printf("%s%s%s", what, order->reason[0] ? "; reason: " : "", order->reason);

    return audit_new(now.wall_ms, order->who, action, owned, text);
}

static const struct cluster_node *find_node(const struct controller *c, const char *name, GError **error) {
    const struct cluster_node *node = cluster_find(c->pool.cluster, name);
    g_autofree char *names = NULL;

    if (node)
        return node;
    names = cluster_names(c->pool.cluster);
    kr_fail(error, NOT_FOUND, "there is no node \"%.64s\"; the nodes are: %s", name,
            names[0] ? names : "none has joined yet");
    return NULL;
}

/* ---- leases ---- */

bool controller_release(struct controller *c, uint32_t task_id, const struct order *order, struct core_time now,
                        controller_done_cb *on_done, void *user, GError **error) {
    struct live_task *live = controller_live(c, task_id);
    const char *what = "its lease is given up without proof";
    g_autofree char *reason = NULL;
    struct record *record;
    bool answers;

    if (!live || !live->shown)
        return kr_fail(error, NOT_FOUND, "there is no task %u that holds a lease", task_id);
    answers = controller_is_connected(c, live->draft->lease.node);
    if (answers && !task_state_is_terminal(live->draft->state))
        return kr_fail(error, REFUSED, "task %u is %s and its node %s answers: `task kill %u` ends it", task_id,
                       task_state_to_str(live->draft->state), live->draft->lease.node, task_id);
    live->draft->release_forced = true;
    if (!answers) {
        reason = g_strdup_printf("released by %s while its node was silent; whether it still runs there is not known",
                                 order->who);
        controller_end_draft(live, TASK_FAILED, reason, now);
        pool_set_proofs(&c->pool, &live->draft->lease, NULL);
        what = "its node is silent: the task counts as failed, its lease is given up without proof";
    }
    record = controller_record_of_draft(live);
    record->on_done = on_done;
    record->done_user = user;
    record->audit = entry_of(order, "task release --force", g_strdup_printf("task %u", task_id), what, now);
    controller_submit_record(c, record);
    return true;
}

static const struct ledger_entry *find_orphan(const struct controller *c, const char *node, uint32_t task_id) {
    const GPtrArray *entries = ledger_of_node(c->pool.ledger, node);

    for (guint i = 0; entries && i < entries->len; i++) {
        const struct ledger_entry *entry = entries->pdata[i];
        if (entry->is_orphan && entry->lease.task_id == task_id)
            return entry;
    }
    return NULL;
}

/* What is done is done when the order is durable, by name: the orphan may be gone by then. */
struct orphan_order {
    struct controller *c;
    char node[NODE_NAME_MAX_BYTES + 1];
    uint32_t task_id;
    int64_t epoch;
    bool is_release;
    controller_done_cb *on_done;
    void *user;
};

static void drop_orphan(const struct orphan_order *o) {
    const struct ledger_entry *entry = ledger_find(o->c->pool.ledger, o->node, o->task_id, o->epoch);

    if (!entry)
        return;
    pool_set_proofs(&o->c->pool, &entry->lease, NULL);
    ledger_release(o->c->pool.ledger, o->node, o->task_id, o->epoch);
}

static void on_orphan_recorded(void *user, const struct task *task, const GError *error) {
    g_autofree struct orphan_order *o = user;

    if (!error) {
        controller_send_name(o->c, o->node, o->is_release ? WIRE_FORGET : WIRE_STOP, o->task_id, o->epoch);
        if (o->is_release && !controller_is_connected(o->c, o->node))
            drop_orphan(o);
    }
    o->on_done(o->user, task, error);
}

bool controller_end_orphan(struct controller *c, const char *node, uint32_t task_id, bool is_release,
                           const struct order *order, struct core_time now, controller_done_cb *on_done, void *user,
                           GError **error) {
    const struct ledger_entry *entry = find_orphan(c, node, task_id);
    struct orphan_order *o;
    struct record *record;

    if (!find_node(c, node, error))
        return false;
    if (!entry)
        return kr_fail(error, NOT_FOUND, "node %s holds no orphan of the number %u", node, task_id);
    if (!is_release && !controller_is_connected(c, node))
        return kr_fail(error, REFUSED, "node %s does not answer: what runs there cannot be ended now", node);
    o = g_new0(struct orphan_order, 1);
    *o = (struct orphan_order){.c = c,
                               .task_id = task_id,
                               .epoch = entry->lease.epoch,
                               .is_release = is_release,
                               .on_done = on_done,
                               .user = user};
    g_strlcpy(o->node, node, sizeof o->node);
    record = record_new();
    record->on_done = on_orphan_recorded;
    record->done_user = o;
    record->audit = entry_of(order, is_release ? "task release --force" : "task kill",
                             g_strdup_printf("orphan %u of node %s", task_id, node),
                             is_release ? "its lease is given up without proof" : "it was asked to end", now);
    controller_submit_record(c, record);
    return true;
}

/* ---- marks ---- */

static const char *mark_text(enum mark_action action) {
    return action == MARK_CORDON  ? "it is granted to no new task"
           : action == MARK_DRAIN ? "it gets no new tasks and is to become empty"
                                  : "it can be granted again";
}

/* Takes `what`. */
static struct record *mark_record(const char *subject, enum mark_action action, const struct order *order,
                                  const char *kind, char *what, struct core_time now) {
    static const char *const names[] = {[MARK_CORDON] = "cordon", [MARK_DRAIN] = "drain", [MARK_UNCORDON] = "uncordon"};
    g_autofree char *name = g_strdup_printf("%s %s", kind, names[action]);
    struct record *record = record_new();

    if (action == MARK_UNCORDON)
        record->unmark = g_strdup(subject);
    else
        record->mark = mark_new(subject, action == MARK_DRAIN, order->who, order->reason, now.wall_ms);
    record->audit = entry_of(order, name, what, mark_text(action), now);
    return record;
}

bool controller_mark_node(struct controller *c, const char *node, enum mark_action action, const struct order *order,
                          struct core_time now, controller_done_cb *on_done, void *user, GError **error) {
    char subject[MARK_SUBJECT_MAX_BYTES + 1];
    struct record *record;

    if (!find_node(c, node, error))
        return false;
    mark_subject_of_node(node, subject);
    record = mark_record(subject, action, order, "node", g_strdup_printf("node %s", node), now);
    record->on_done = on_done;
    record->done_user = user;
    controller_submit_record(c, record);
    return true;
}

bool controller_mark_gpu(struct controller *c, const char *node, int index, enum mark_action action,
                         const struct order *order, struct core_time now, controller_done_cb *on_done, void *user,
                         GError **error) {
    const struct cluster_node *known = find_node(c, node, error);
    const struct gpu *gpu = known ? node_info_gpu_by_index(known->info, index) : NULL;
    char subject[MARK_SUBJECT_MAX_BYTES + 1];
    struct record *record;

    if (!known)
        return false;
    if (!gpu)
        return kr_fail(error, NOT_FOUND, "node %s has no GPU %d", node, index);
    if (!gpu->uuid[0])
        return kr_fail(error, REFUSED, "the identity of GPU %d of node %s is not known, so nothing can be said of it",
                       index, node);
    mark_subject_of_gpu(gpu->uuid, subject);
    record = mark_record(subject, action, order, "gpu", g_strdup_printf("GPU %d of node %s", index, node), now);
    if (action == MARK_UNCORDON)
        record->pardon = pardon_of_gpu(gpu, known->info->boot_id, now.wall_ms);
    record->on_done = on_done;
    record->done_user = user;
    controller_submit_record(c, record);
    return true;
}

/* ---- cards that tell who they are ---- */

/* A card that was known by its place alone, and now has a name of its own: what an operator said of it counts on. In memory at once, so that
 * nothing is granted between; the record follows. */
static void carry_mark(struct controller *c, const char *node, const struct gpu *before, const struct gpu *gpu,
                       struct core_time now) {
    const struct mark *mark = pool_mark_of_gpu(&c->pool, before->uuid);
    struct order order = {.reason = ""};
    char subject[MARK_SUBJECT_MAX_BYTES + 1], old[MARK_SUBJECT_MAX_BYTES + 1];
    struct record *record;

    if (!mark || pool_mark_of_gpu(&c->pool, gpu->uuid))
        return;
    mark_subject_of_gpu(before->uuid, old);
    mark_subject_of_gpu(gpu->uuid, subject);
    order.who = mark->who;
    record = record_new();
    record->mark = mark_new(subject, mark->is_drain, mark->who, mark->reason, mark->since_ms);
    record->unmark = g_strdup(old);
    record->audit = entry_of(&order, "gpu cordon", g_strdup_printf("GPU %d of node %s", gpu->index, node),
                             "it has told its own name, what was said of it by its place counts on", now);
    pool_set_mark(&c->pool, mark_copy(record->mark));
    controller_submit_record(c, record);
}

void controller_carry_marks(struct controller *c, const struct node_info *info, struct core_time now) {
    const struct cluster_node *node = cluster_find(c->pool.cluster, info->name);

    for (guint i = 0; node && i < info->gpus->len; i++) {
        const struct gpu *gpu = info->gpus->pdata[i];
        const struct gpu *before = node_info_gpu_by_index(node->info, gpu->index);
        if (before && gpu->uuid[0] && g_str_has_prefix(before->uuid, GPU_PLACE_PREFIX) &&
            strcmp(before->pci, gpu->pci) == 0 && strcmp(before->uuid, gpu->uuid) != 0)
            carry_mark(c, info->name, before, gpu, now);
    }
}
