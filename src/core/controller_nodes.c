/* What nodes say: the full truth at each connection, then changes. Level-triggered: the newest word counts. */

#include <string.h>

#include "base/error.h"
#include "base/fault.h"
#include "core/controller.h"
#include "core/controller_internal.h"
#include "core/task_state.h"
#include "model/wire.h"

enum { MAX_EPOCH_STEP = 1 << 30, MAX_TASK_ID_STEP = 1 << 24 };

void node_report_free(struct node_report *report) {
    if (!report)
        return;
    task_report_clear(&report->report);
    task_spec_free(report->spec);
    g_free(report);
}

static struct node_report *read_node_report(const json_t *json, GError **error) {
    const json_t *lease = json_object_get(json, "lease"), *spec = json_object_get(json, "spec");
    struct node_report *said = g_new0(struct node_report, 1);

    said->stop_requested = json_is_true(json_object_get(json, "stop_requested"));
    said->pause_requested = json_is_true(json_object_get(json, "pause_requested"));
    if (task_report_from_json(json, &said->report, error) && (!lease || lease_from_json(lease, &said->lease, error)) &&
        (!spec || (said->spec = task_spec_from_json(spec, error))))
        return said;
    node_report_free(said);
    return NULL;
}

GPtrArray *node_reports_from_json(const json_t *list, GError **error) {
    g_autoptr(GPtrArray) reports = g_ptr_array_new_with_free_func((GDestroyNotify)node_report_free);
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        struct node_report *said = read_node_report(item, error);
        if (!said)
            return NULL;
        g_ptr_array_add(reports, said);
    }
    return g_steal_pointer(&reports);
}

/* ---- the end of a lease ---- */

/* What the report proves of the lease's cards is what is known of them from now on. Under a lease that never started anything
 * they are what they were before it. */
static void note_proof(struct controller *c, const struct lease *lease, const struct proof *proof) {
    if (proof && (proof->facts & PROOF_NEVER_STARTED))
        return;
    pool_set_proofs(&c->pool, lease, proof && proof_of_rest(proof) ? proof : NULL);
}

/* R2: a bare word does not release. true when the lease is over. */
static bool is_proved(struct controller *c, struct live_task *live, const struct task_report *report) {
    struct task *task = live->draft;
    unsigned wanted = PROOF_CONTAINER_GONE | (task->lease.n_gpus > 0 ? PROOF_CARD : 0);

    if (fault_mutant("R2-release-without-proof"))
        return true;
    if (!report->released)
        return false;
    if (task->release_forced || proof_of_release(&report->proof, task->lease.n_gpus)) {
        note_proof(c, &task->lease, task->release_forced ? NULL : &report->proof);
        live->is_gone_there = true;
        return true;
    }
    g_free(task->holding);
    task->holding = proof_missing_to_str(&report->proof, wanted);
    return false;
}

static bool was_rebooted(const struct controller *c, const struct lease *lease) {
    const struct cluster_node *node = cluster_find(c->pool.cluster, lease->node);

    return node && lease->boot_id[0] && node->info->boot_id && strcmp(node->info->boot_id, lease->boot_id) != 0;
}

/* Nothing of it is there and nothing runs for it. */
static void take_absence(struct controller *c, struct live_task *live, struct core_time now) {
    const struct task *task = live->draft;

    note_proof(c, &task->lease, NULL);
    live->is_gone_there = true;
    if (task->kill_requested)
        controller_end_draft(live, TASK_KILLED, "killed before it was started", now);
    else if (was_rebooted(c, &task->lease))
        controller_end_draft(live, TASK_FAILED, "its node was rebooted, and nothing of it is left there", now);
    else
        controller_end_draft(live, TASK_FAILED, "vanished: its node knows nothing of it and runs nothing for it", now);
    controller_record_draft(c, live);
}

static void take_report(struct controller *c, struct live_task *live, const struct task_report *report,
                        struct core_time now) {
    struct task *task = live->draft;
    bool changed, was_ended = task_state_is_terminal(task->state);

    if (report->state == TASK_UNSET) {
        take_absence(c, live, now);
        return;
    }
    live->is_gone_there |= report->released; /* also when an order to release it is just being written down */
    changed = task_apply_report(task, report);
    if (task->kill_requested && task->state == TASK_FAILED && task->has_exit_code && !task->oom)
        task->state = TASK_KILLED; /* it ended by our signal before the runner had taken the request */
    if (!was_ended && task->has_exit_code && !task->oom && task->state != TASK_KILLED)
        pool_note_end(&c->pool, &task->lease, task->spec->owner, task->state == TASK_FAILED, now);
    if (task_state_is_terminal(task->state) && task->holds_lease && is_proved(c, live, report)) {
        task->holds_lease = false;
        changed = true;
        if (fault_mutant("R5-ack-before-record"))
            controller_send_name(c, task->lease.node, WIRE_ACK, task->id, task->lease.epoch);
    }
    if (changed)
        controller_record_draft(c, live);
}

/* ---- what the host has no record of ---- */

bool controller_is_over(const struct task_report *report) {
    return report->state == TASK_UNSET || (task_state_is_terminal(report->state) && report->released);
}

bool controller_hold_orphan(struct controller *c, const struct lease *lease) {
    if (fault_mutant("R1-orphans-are-ignored"))
        return true;
    if (c->kills_orphans)
        controller_send_name(c, lease->node, WIRE_STOP, lease->task_id, lease->epoch);
    return ledger_grant(c->pool.ledger, lease, "not in this host's records", true);
}

/* The node's lease file is a whole record: the task becomes one of ours again, with its true end (a host that was restored
 * from an old backup has lost it). Recorded only where the store has no task of that number. */
static void adopt(struct controller *c, const struct node_report *said, const struct lease *lease) {
    struct task *task = g_new0(struct task, 1);
    struct live_task *live;

    task->id = lease->task_id;
    task->batch_id = g_strdup_printf("b%u", task->id);
    task->target = g_strdup("");
    task->spec = task_spec_copy(said->spec);
    task->lease = *lease;
    task->holds_lease = true;
    task->state = TASK_STARTING;
    task->created_ms = lease->granted_ms;
    task->kill_requested = said->stop_requested || c->kills_orphans;
    task->pause_requested = said->pause_requested;
    task->reason = g_strdup("found on its node, without a record here");
    live = controller_add_live(c, task);
    live->is_adopted = live->was_sent = live->start_sent = true;
    task_apply_report(task, &said->report);
    if (task_state_is_terminal(task->state) && is_proved(c, live, &said->report))
        task->holds_lease = false;
    controller_record_draft(c, live);
}

bool controller_adoption_recorded(struct controller *c, const struct task *task, const GError *error) {
    struct live_task *live = controller_live(c, task->id);
    struct lease lease = task->lease;
    bool was_over = !live->draft->holds_lease;

    if (!error)
        live->is_adopted = false;
    if (!error || error->code != KR_ERROR_REFUSED)
        return false;
    /* the store has another task of that number, or this one as ended */
    ledger_release(c->pool.ledger, lease.node, lease.task_id, lease.epoch);
    controller_drop_live(c, live);
    if (was_over)
        controller_send_name(c, lease.node, WIRE_ACK, lease.task_id, lease.epoch);
    else
        controller_hold_orphan(c, &lease);
    return true;
}

/* A lease of a node that the host has no record of: its cards are taken, whoever's they are (R1, R3). */
bool controller_take_orphan(struct controller *c, const char *node, const struct node_report *said) {
    const struct task_report *report = &said->report;
    const struct ledger_entry *entry = ledger_find(c->pool.ledger, node, report->task_id, report->epoch);
    bool is_known_here = controller_live(c, report->task_id) != NULL ||
                         g_hash_table_contains(c->submitting, GUINT_TO_POINTER(report->task_id));
    struct lease lease = said->lease;

    g_strlcpy(lease.node, node, sizeof lease.node);
    if (entry && !entry->is_orphan)
        return true; /* ours, and being recorded: not the node's to end like this */
    if (!entry && lease.epoch > 0 && said->spec && !is_known_here && report->state != TASK_UNSET &&
        ledger_grant(c->pool.ledger, &lease, controller_label(said->spec), false)) {
        adopt(c, said, &lease);
    } else if (controller_is_over(report)) {
        if (entry)
            note_proof(c, &entry->lease, &report->proof);
        ledger_release(c->pool.ledger, node, report->task_id, report->epoch);
        controller_send_name(c, node, WIRE_ACK, report->task_id, report->epoch);
    } else if (lease.epoch > 0 && !entry) {
        return controller_hold_orphan(c, &lease);
    }
    return true;
}

static const struct node_report *find_report(const GPtrArray *reports, const struct task *task) {
    for (guint i = 0; i < reports->len; i++) {
        const struct node_report *said = reports->pdata[i];
        if (said->report.task_id == task->id && said->report.epoch == task->lease.epoch)
            return said;
    }
    return NULL;
}

/* Orphans of this node that it does not mention any more are gone. */
static void drop_silent_orphans(struct controller *c, const char *node, const GPtrArray *reports) {
    const GPtrArray *entries = ledger_of_node(c->pool.ledger, node);

    for (guint i = entries ? entries->len : 0; i-- > 0;) {
        const struct ledger_entry *entry = entries->pdata[i];
        bool is_mentioned = false;

        for (guint k = 0; k < reports->len; k++) {
            const struct node_report *said = reports->pdata[k];
            is_mentioned |= said->report.task_id == entry->lease.task_id && said->report.epoch == entry->lease.epoch;
        }
        if (entry->is_orphan && !is_mentioned) {
            note_proof(c, &entry->lease, NULL);
            ledger_release(c->pool.ledger, node, entry->lease.task_id, entry->lease.epoch);
        }
    }
}

/* ---- hello ---- */

/* A lease that its node never took, of an earlier boot: it is granted anew for this one. A start of the old epoch can do no
 * harm, the node refuses it. */
static void grant_anew(struct controller *c, struct live_task *live, const char *boot_id) {
    struct lease *lease = &live->draft->lease;

    ledger_release(c->pool.ledger, lease->node, lease->task_id, lease->epoch);
    lease->epoch = ledger_next_epoch(c->pool.ledger);
    g_strlcpy(lease->boot_id, boot_id, sizeof lease->boot_id);
    if (!ledger_grant(c->pool.ledger, lease, controller_label(live->draft->spec), false))
        g_error("a lease that was just released cannot be granted anew"); /* aborts: a broken invariant */
    controller_record_draft(c, live);
}

static bool is_of(const struct live_task *live, const char *node, int64_t epoch) {
    return live && live->draft->lease.epoch == epoch && strcmp(live->draft->lease.node, node) == 0;
}

static void reconcile(struct controller *c, const char *node, const GPtrArray *reports, struct core_time now) {
    const struct task_report nothing = {.state = TASK_UNSET};
    g_autoptr(GPtrArray) lives = controller_live_of_node(c, node);

    controller_forget_homeless(c, node);
    /* what is over goes first: its ack must be there before the start of the next task on the same card */
    for (guint i = 0; i < reports->len; i++) {
        const struct node_report *said = reports->pdata[i];
        if (!is_of(controller_live(c, said->report.task_id), node, said->report.epoch))
            if (!controller_take_orphan(c, node, said))
                controller_keep_homeless(c, node, said);
    }
    drop_silent_orphans(c, node, reports);
    for (guint i = 0; i < lives->len; i++) {
        struct live_task *live = lives->pdata[i];
        const struct node_report *said = find_report(reports, live->draft);

        live->start_sent = live->stop_sent = live->forget_sent = false;
        live->pause_sent = PAUSE_UNSENT;
        controller_tell_vps(c,
                            live->draft->spec->vm ? live->draft->spec->vm->vps_id : 0); /* whether it is told shows */
        if (said)
            take_report(c, live, &said->report, now);
        else if (live->draft->state != TASK_PENDING)
            take_report(c, live, &nothing, now);
        else if (was_rebooted(c, &live->draft->lease))
            grant_anew(c, live, cluster_find(c->pool.cluster, node)->info->boot_id);
        controller_act(c, live);
    }
}

/* A card that sits in a node cannot sit in another one that is online or has it leased. A node that is gone for good does
 * not stand in the way of its cards. */
static const struct cluster_node *other_owner(const struct controller *c, const struct node_info *info,
                                              struct core_time now) {
    g_autoptr(GPtrArray) nodes = cluster_nodes(c->pool.cluster);

    for (guint i = 0; i < nodes->len; i++) {
        const struct cluster_node *other = nodes->pdata[i];
        for (guint k = 0; strcmp(other->info->name, info->name) != 0 && k < info->gpus->len; k++) {
            const struct gpu *gpu = info->gpus->pdata[k];
            const struct ledger_entry *holder = ledger_holder(c->pool.ledger, gpu->uuid);
            if (gpu->uuid[0] && node_info_gpu_by_uuid(other->info, gpu->uuid) &&
                (cluster_is_online(c->pool.cluster, other, now) ||
                 (holder && strcmp(holder->lease.node, other->info->name) == 0)))
                return other;
        }
    }
    return NULL;
}

/* The cards are those that it had when it was last looked at, and it has been online since: nobody else can have come to have
 * them. Saves the search through all nodes with each heartbeat. */
static bool are_known_to_be_its(const struct controller *c, const struct cluster_node *node,
                                const struct node_info *info, struct core_time now) {
    const GPtrArray *before = node->info->gpus;

    if (before->len != info->gpus->len || !cluster_is_online(c->pool.cluster, node, now))
        return false;
    for (guint i = 0; i < before->len; i++)
        if (strcmp(((const struct gpu *)before->pdata[i])->uuid, ((const struct gpu *)info->gpus->pdata[i])->uuid) != 0)
            return false;
    return true;
}

/* A number far beyond ours comes from a damaged file; following it would use the numbers up. */
static bool numbers_ok(const struct controller *c, const GPtrArray *reports, int64_t max_epoch) {
    int64_t epoch = max_epoch;
    uint32_t task_id = 0;

    for (guint i = 0; i < reports->len; i++) {
        const struct node_report *said = reports->pdata[i];
        epoch = MAX(epoch, MAX(said->lease.epoch, said->report.epoch));
        task_id = MAX(task_id, said->report.task_id);
    }
    return epoch - ledger_last_epoch(c->pool.ledger) < MAX_EPOCH_STEP &&
           (int64_t)task_id - (int64_t)c->last_task_id < MAX_TASK_ID_STEP;
}

/* A card that the node has shown at rest. One that is held here is not judged by what its node said before it knew. */
static void take_proofs(struct controller *c, const struct node_info *info) {
    for (guint i = 0; i < info->gpus->len; i++) {
        const struct gpu *gpu = info->gpus->pdata[i];
        if (gpu->uuid[0] && gpu->condition != GPU_CONDITION_OK && gpu->condition != GPU_CONDITION_BARE)
            pool_set_proof(&c->pool, gpu->uuid, NULL);
        else if (gpu->uuid[0] && proof_of_rest(&gpu->proof) && !ledger_holder(c->pool.ledger, gpu->uuid))
            pool_set_proof(&c->pool, gpu->uuid, &gpu->proof);
    }
}

/* Once for each turn to the worse; kept with the task. */
static void tell_health(struct controller *c, const struct gpu *gpu, const struct pool_card *card) {
    const struct ledger_entry *holder = ledger_holder(c->pool.ledger, gpu->uuid);
    struct live_task *live = holder && !holder->is_orphan ? controller_live(c, holder->lease.task_id) : NULL;
    g_autofree char *text = NULL;
    struct record *record;

    if (!live || !live->shown || live->is_adopting || task_state_is_terminal(live->draft->state) ||
        card->health <= MAX(live->told_health, GPU_HEALTH_OK))
        return;
    live->told_health = card->health;
    text = g_strdup_printf("health of GPU %d (%s): %s: %s", gpu->index, gpu->uuid, gpu_health_to_str(card->health),
                           card->health_reason);
    record = controller_record_of_draft(live);
    g_ptr_array_add(record->events, task_event_new(live->draft->id, text));
    controller_submit_record(c, record);
}

void controller_note_cards(struct controller *c, const struct cluster_node *node, struct core_time now) {
    for (guint i = 0; i < node->info->gpus->len; i++) {
        const struct gpu *gpu = node->info->gpus->pdata[i];

        tell_health(c, gpu, controller_gpu(c, node, gpu, now));
    }
}

bool controller_hello(struct controller *c, struct node_info *info, const GPtrArray *reports, int64_t max_epoch,
                      struct core_time now, GError **error) {
    const struct cluster_node *other = other_owner(c, info, now);
    struct cluster_node *node;

    if (!numbers_ok(c, reports, max_epoch))
        return kr_fail(error, REFUSED,
                       "%s names a task or an epoch far beyond those of this host: its state is damaged", info->name);
    if (other)
        return kr_fail(error, REFUSED,
                       "a GPU that %s reports is reported by node %s already; one card cannot sit in two nodes",
                       info->name, other->info->name);
    controller_carry_marks(c, info, now);
    node = cluster_put(c->pool.cluster, info);
    node->is_connected = true;
    cluster_heard(node, now);
    ledger_raise_epoch(c->pool.ledger, max_epoch);
    for (guint i = 0; i < reports->len; i++) {
        const struct node_report *said = reports->pdata[i];
        ledger_raise_epoch(c->pool.ledger, MAX(said->lease.epoch, said->report.epoch));
        c->last_task_id = MAX(c->last_task_id, said->report.task_id); /* a number is never given to two tasks */
    }
    reconcile(c, info->name, reports, now);
    take_proofs(c, info);
    controller_note_cards(c, node, now);
    controller_note_online(c, node, now);
    controller_tell_node(c, info->name);
    return true;
}

void controller_heartbeat(struct controller *c, struct node_info *info, struct core_time now) {
    struct cluster_node *node = cluster_find(c->pool.cluster, info->name);

    if (!node || (!are_known_to_be_its(c, node, info, now) && other_owner(c, info, now))) {
        node_info_free(info);
        return;
    }
    controller_carry_marks(c, info, now);
    cluster_put(c->pool.cluster, info);
    cluster_heard(node, now);
    controller_note_online(c, node, now);
    take_proofs(c, info);
    controller_note_cards(c, node, now);
}

void controller_heartbeat_same(struct controller *c, const char *name, struct core_time now) {
    struct cluster_node *node = cluster_find(c->pool.cluster, name);

    if (!node || !node->is_connected ||
        (!are_known_to_be_its(c, node, node->info, now) && other_owner(c, node->info, now)))
        return;
    cluster_heard(node, now);
    controller_note_online(c, node, now);
    take_proofs(c, node->info);
    controller_note_cards(c, node, now);
}

bool controller_heartbeat_figures(struct controller *c, const char *name, const json_t *told, const json_t *delta,
                                  struct core_time now) {
    struct cluster_node *node = cluster_find(c->pool.cluster, name);

    if (!node || !node_info_take_figures(node->info, told, delta))
        return false;
    controller_heartbeat_same(c, name, now);
    return true;
}

void controller_report(struct controller *c, const char *node, const struct task_report *report, struct core_time now) {
    struct cluster_node *known = cluster_find(c->pool.cluster, node);
    struct live_task *live = controller_live(c, report->task_id);
    struct node_report said = {.report = *report};

    if (known) {
        cluster_heard(known, now);
        controller_note_online(c, known, now);
    }
    if (is_of(live, node, report->epoch))
        take_report(c, live, report, now);
    else {
        controller_note_homeless(c, node, report);
        controller_take_orphan(c, node, &said);
    }
}

void controller_disconnected(struct controller *c, const char *node, struct core_time now) {
    struct cluster_node *known = cluster_find(c->pool.cluster, node);

    (void)now;
    if (known)
        known->is_connected = false;
}
