/* What nodes say: the full truth at each connection, then changes. Level-triggered: the newest word counts. */

#include <string.h>

#include "base/error.h"
#include "core/controller.h"
#include "core/controller_internal.h"
#include "core/task_state.h"

enum { MAX_EPOCH_STEP = 1 << 30, MAX_TASK_ID_STEP = 1 << 24 };

void node_report_free(struct node_report *report) {
    if (!report)
        return;
    task_report_clear(&report->report);
    g_free(report);
}

static void take_report(struct controller *c, struct live_task *live, const struct task_report *report,
                        struct core_time now) {
    struct task *task = live->draft;
    bool changed;

    if (report->state == TASK_UNSET) { /* nothing of it is there and nothing runs for it */
        if (task->kill_requested)
            controller_end_draft(live, TASK_KILLED, "killed before it was started", now);
        else
            controller_end_draft(live, TASK_FAILED, "vanished: its node knows nothing of it and runs nothing for it",
                                 now);
        controller_record_draft(c, live);
        return;
    }
    changed = task_apply_report(task, report);
    if (task->kill_requested && task->state == TASK_FAILED && task->has_exit_code && !task->oom)
        task->state = TASK_KILLED; /* it ended by our signal before the runner had taken the request */
    if (task_state_is_terminal(task->state) && report->released && task->holds_lease) {
        task->holds_lease = false;
        changed = true;
    }
    if (changed)
        controller_record_draft(c, live);
}

/* A lease of a node that the host has no record of: its cards are taken, whoever's they are (R1, R3). */
static void take_orphan(struct controller *c, const char *node, const struct node_report *said) {
    const struct task_report *report = &said->report;
    bool is_over = report->state == TASK_UNSET || (task_state_is_terminal(report->state) && report->released);

    const struct ledger_entry *entry = ledger_find(c->ledger, node, report->task_id, report->epoch);

    if (is_over && entry && !entry->is_orphan)
        return; /* ours, and being recorded: not the node's to end like this */
    if (is_over) {
        ledger_release(c->ledger, node, report->task_id, report->epoch);
        controller_send_ack(c, node, report->task_id, report->epoch);
    } else if (said->lease.epoch > 0 && !entry) {
        struct lease lease = said->lease;
        g_strlcpy(lease.node, node, sizeof lease.node);
        ledger_grant(c->ledger, &lease, "not in this host's records", true);
    }
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
    const GPtrArray *entries = ledger_of_node(c->ledger, node);

    for (guint i = entries ? entries->len : 0; i-- > 0;) {
        const struct ledger_entry *entry = entries->pdata[i];
        bool is_mentioned = false;

        for (guint k = 0; k < reports->len; k++) {
            const struct node_report *said = reports->pdata[k];
            is_mentioned |= said->report.task_id == entry->lease.task_id && said->report.epoch == entry->lease.epoch;
        }
        if (entry->is_orphan && !is_mentioned)
            ledger_release(c->ledger, node, entry->lease.task_id, entry->lease.epoch);
    }
}

static bool is_of(const struct live_task *live, const char *node, int64_t epoch) {
    return live && live->draft->lease.epoch == epoch && strcmp(live->draft->lease.node, node) == 0;
}

static void reconcile(struct controller *c, const char *node, const GPtrArray *reports, struct core_time now) {
    const struct task_report nothing = {.state = TASK_UNSET};
    g_autoptr(GPtrArray) lives = controller_live_of_node(c, node);

    /* what is over goes first: its ack must be there before the start of the next task on the same card */
    for (guint i = 0; i < reports->len; i++) {
        const struct node_report *said = reports->pdata[i];
        if (!is_of(controller_live(c, said->report.task_id), node, said->report.epoch))
            take_orphan(c, node, said);
    }
    drop_silent_orphans(c, node, reports);
    for (guint i = 0; i < lives->len; i++) {
        struct live_task *live = lives->pdata[i];
        const struct node_report *said = find_report(reports, live->draft);

        live->start_sent = live->stop_sent = false;
        if (said)
            take_report(c, live, &said->report, now);
        else if (live->draft->state != TASK_PENDING)
            take_report(c, live, &nothing, now);
        controller_act(c, live);
    }
}

/* A card that sits in a node cannot sit in another one that is online or has it leased. A node that is gone for good does
 * not stand in the way of its cards. */
static const struct cluster_node *other_owner(const struct controller *c, const struct node_info *info,
                                              struct core_time now) {
    g_autoptr(GPtrArray) nodes = cluster_nodes(c->cluster);

    for (guint i = 0; i < nodes->len; i++) {
        const struct cluster_node *other = nodes->pdata[i];
        for (guint k = 0; strcmp(other->info->name, info->name) != 0 && k < info->gpus->len; k++) {
            const struct gpu *gpu = info->gpus->pdata[k];
            const struct ledger_entry *holder = ledger_holder(c->ledger, gpu->uuid);
            if (gpu->uuid[0] && node_info_gpu_by_uuid(other->info, gpu->uuid) &&
                (cluster_is_online(c->cluster, other, now) ||
                 (holder && strcmp(holder->lease.node, other->info->name) == 0)))
                return other;
        }
    }
    return NULL;
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
    return epoch - ledger_last_epoch(c->ledger) < MAX_EPOCH_STEP &&
           (int64_t)task_id - (int64_t)c->last_task_id < MAX_TASK_ID_STEP;
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
    node = cluster_put(c->cluster, info);
    node->is_connected = true;
    cluster_heard(node, now);
    ledger_raise_epoch(c->ledger, max_epoch);
    for (guint i = 0; i < reports->len; i++) {
        const struct node_report *said = reports->pdata[i];
        ledger_raise_epoch(c->ledger, MAX(said->lease.epoch, said->report.epoch));
        c->last_task_id = MAX(c->last_task_id, said->report.task_id); /* a number is never given to two tasks */
    }
    reconcile(c, info->name, reports, now);
    return true;
}

void controller_heartbeat(struct controller *c, struct node_info *info, struct core_time now) {
    struct cluster_node *node = cluster_find(c->cluster, info->name);

    if (!node || other_owner(c, info, now)) {
        node_info_free(info);
        return;
    }
    cluster_put(c->cluster, info);
    cluster_heard(node, now);
}

void controller_report(struct controller *c, const char *node, const struct task_report *report, struct core_time now) {
    struct cluster_node *known = cluster_find(c->cluster, node);
    struct live_task *live = controller_live(c, report->task_id);
    struct node_report said = {.report = *report};

    if (known)
        cluster_heard(known, now);
    if (is_of(live, node, report->epoch))
        take_report(c, live, report, now);
    else
        take_orphan(c, node, &said);
}

void controller_disconnected(struct controller *c, const char *node, struct core_time now) {
    struct cluster_node *known = cluster_find(c->cluster, node);

    (void)now;
    if (known)
        known->is_connected = false;
}
