#pragma once
/* The host's mind: decides, has it recorded, then acts (R5), for every message that reaches the host. Pure (R9): what
 * it wants done comes out through `struct controller_ops`; time and messages come in as arguments.
 *
 * Invariants:
 *   - A task is visible, and sent to its node, only after its record is durable; its GPUs are held from the decision on.
 *   - A lease leaves the ledger only after the record of its release is durable; the node's report is acknowledged
 *     after that.
 *   - Every live task (not ended, or still holding its lease) is in memory; ended ones are in the store only.
 *   - A lease ends with the node's proof that nothing of the task is left (R2), or by an operator's order that is written to
 *     the audit log; whichever it was, a card is granted again only when its node shows it at rest.
 */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/pool.h"
#include "core/record.h"
#include "model/task.h"
#include "model/vps.h"

struct controller;

struct controller_ops {
    /* Make it durable, then (never before returning) give it back by controller_recorded. Only reads it. */
    void (*record)(void *env, struct record *record);
    /* Send to a connected node. Takes the reference. */
    void (*send)(void *env, const char *node, json_t *message);
    /* A task came, changed or (is_gone: its last word is in the store) left memory. */
    void (*task_changed)(void *env, const struct task *task, bool is_gone);
    /* What is shown of a node or of its cards may have changed: holder, state, health, marks, online. Not for figures, of which
     * heartbeats are made; those are known to who gives the heartbeat. May be NULL. */
    void (*node_changed)(void *env, const char *node);
    /* A machine came, changed or is gone, apart from what its task does. May be NULL. */
    void (*vps_changed)(void *env, uint32_t vps_id);
};

struct controller_settings {
    int64_t offline_after_ms;
    bool kills_orphans; /* what a node runs and this host has no record of is asked to end, instead of being adopted */
};
struct controller *controller_new(const struct controller_ops *ops, void *env,
                                  const struct controller_settings *settings);
void controller_free(struct controller *controller);

/* ---- restore: what the store had, before anything else ---- */
void controller_restore_counters(struct controller *c, uint32_t last_task_id, int64_t last_epoch);
void controller_restore_node(struct controller *c, struct node_info *info); /* takes it; offline until it speaks */
/* Takes a live task. false (task freed) when its cards are held by another record: a store that breaks R1. */
bool controller_restore_task(struct controller *c, struct task *task);
void controller_restore_mark(struct controller *c, struct mark *mark);       /* takes it */
void controller_restore_pardon(struct controller *c, struct pardon *pardon); /* takes it */
void controller_restore_vps_counter(struct controller *c, uint32_t last_vps_id);
void controller_restore_vps(struct controller *c, struct vps *vps);        /* takes it */
void controller_restore_key(struct controller *c, struct submit_key *key); /* takes it */

/* ---- users ---- */
struct submission {
    char **targets; /* as typed; empty: one task, placement chooses */
    struct task_spec *spec;
    const char *key;         /* Idempotency-Key, NULL: none */
    const char *fingerprint; /* of the whole request; with a key */
    const struct vps *vps;   /* the machine that this is a start of: recorded with it; NULL: none */
};
struct refusal {
    char *target;
    char *reason;
    bool is_bad_request; /* can never fit, as opposed to not now */
};
/* Everything is borrowed. */
struct submit_result {
    const GPtrArray *tasks;    /* of const struct task; NULL with an error, and when is_replay */
    const GPtrArray *notes;    /* of char * */
    const GPtrArray *refusals; /* of struct refusal; NULL unless the error is about targets */
    const char *batch_id;      /* NULL with an error */
    bool is_replay;            /* the key has made this batch before: it is in the store */
};
typedef void controller_submit_cb(void *user, const struct submit_result *result, const GError *error);
/* All or nothing. The callback comes once, possibly before this returns. With a key that was used before nothing is made:
 * the answer is the first one's, waited for where it is still under way; KR_ERROR_BAD_REQUEST when the request was another.
 * Keys are remembered for a day. A refusal is not remembered: it made nothing. */
void controller_submit(struct controller *c, const struct submission *submission, struct core_time now,
                       controller_submit_cb *on_done, void *user);

/* The wishes below are durable when the callback comes, or could not be made so. It comes once, not before the call returns;
 * never when the call returns false: KR_ERROR_NOT_FOUND (not live), KR_ERROR_REFUSED (ended, or as told). */
bool controller_kill(struct controller *c, uint32_t task_id, struct core_time now, controller_done_cb *on_done,
                     void *user, GError **error);
/* Pausing freezes the processes; they keep their GPUs (K1). Idempotent. */
bool controller_pause(struct controller *c, uint32_t task_id, bool is_pause, controller_done_cb *on_done, void *user,
                      GError **error);

/* ---- machines; stopping, pausing and resuming are their tasks' ---- */
typedef void controller_vps_cb(void *user, const struct vps *vps, const GError *error);
/* Takes a number and the first start's record; vps stays the caller's, its number and time are filled in. The callback comes
 * once, possibly before this returns, with the machine as it is recorded; never when this returns false: KR_ERROR_REFUSED
 * (the name is taken). A refused start makes no machine. */
bool controller_vps_create(struct controller *c, struct vps *vps, struct core_time now, controller_vps_cb *on_done,
                           void *user, GError **error);
/* Asks for its GPUs anew. KR_ERROR_NOT_FOUND, _REFUSED (it is on, or holds something still). */
bool controller_vps_start(struct controller *c, uint32_t id, struct core_time now, controller_vps_cb *on_done,
                          void *user, GError **error);
/* Only one that is off. Its disk is the node's to delete, before. The callback's vps is NULL. */
bool controller_vps_can_delete(const struct controller *c, uint32_t id, GError **error);
bool controller_vps_delete(struct controller *c, uint32_t id, controller_vps_cb *on_done, void *user, GError **error);
/* Borrowed. */
const struct vps *controller_vps(const struct controller *c, uint32_t id);      /* NULL: there is none */
GPtrArray *controller_all_vps(const struct controller *c);                      /* by number; caller unrefs */
bool controller_vps_is_told(const struct controller *c, const struct vps *vps); /* its node was sent its newest start */

/* ---- operators; who and reason go to the audit log ---- */
struct order {
    const char *who;
    const char *reason; /* "" when none */
};
/* task release --force: an ended task's lease is given up without proof, or that of a task whose node is silent, which then
 * ends as failed. KR_ERROR_REFUSED for a task that runs on a node that answers: it can be killed. Its cards are not granted
 * before their node shows them at rest; the node keeps its own lease as long as it has a container. */
bool controller_release(struct controller *c, uint32_t task_id, const struct order *order, struct core_time now,
                        controller_done_cb *on_done, void *user, GError **error);
/* What a node holds and this host has no record of, by the number the node gives it: asked to end (is_release: given up). */
bool controller_end_orphan(struct controller *c, const char *node, uint32_t task_id, bool is_release,
                           const struct order *order, struct core_time now, controller_done_cb *on_done, void *user,
                           GError **error);
enum mark_action { MARK_CORDON = 1, MARK_DRAIN, MARK_UNCORDON };
bool controller_mark_node(struct controller *c, const char *node, enum mark_action action, const struct order *order,
                          struct core_time now, controller_done_cb *on_done, void *user, GError **error);
/* KR_ERROR_NOT_FOUND: no such node or index. */
bool controller_mark_gpu(struct controller *c, const char *node, int index, enum mark_action action,
                         const struct order *order, struct core_time now, controller_done_cb *on_done, void *user,
                         GError **error);

/* ---- nodes ---- */
/* A node's full truth. `reports`: of struct node_report; max_epoch: the highest that its cards have had, 0 when it does
 * not say. Takes `info` (not on failure). The node counts as connected
 * afterwards and gets its starts, stops and acks. false: KR_ERROR_REFUSED with the reason to tell it. */
struct node_report {
    struct task_report report;
    struct lease lease;     /* what the node's lease file says; n_gpus 0 and epoch 0 when it has none */
    struct task_spec *spec; /* the same; NULL when it has none */
    bool stop_requested, pause_requested;
};
void node_report_free(struct node_report *report);
/* "tasks" of hello: an array that owns struct node_report. NULL with KR_ERROR_BAD_REQUEST: a hello that cannot be read whole
 * is no full truth. */
GPtrArray *node_reports_from_json(const json_t *list, GError **error);
bool controller_hello(struct controller *c, struct node_info *info, const GPtrArray *reports, int64_t max_epoch,
                      struct core_time now, GError **error);
void controller_heartbeat(struct controller *c, struct node_info *info, struct core_time now); /* takes info */
/* A heartbeat that says again what the last one said. */
void controller_heartbeat_same(struct controller *c, const char *node, struct core_time now);
/* One in which figures alone have changed: see node_info_take_figures. false: it is not, and the whole has to be given (controller_heartbeat). */
bool controller_heartbeat_figures(struct controller *c, const char *node, const json_t *told, const json_t *delta,
                                  struct core_time now);
void controller_report(struct controller *c, const char *node, const struct task_report *report, struct core_time now);
void controller_disconnected(struct controller *c, const char *node, struct core_time now);

/* ---- the shell's answers ---- */
/* The record is durable, or not (error). Takes it back. */
void controller_recorded(struct controller *c, struct record *record, const GError *error);
/* Once a second: liveness, records that failed are tried again. */
void controller_tick(struct controller *c, struct core_time now);

/* ---- views, borrowed until the next call ---- */
const struct pool *controller_pool(const struct controller *c);
const struct cluster *controller_cluster(const struct controller *c);
const struct ledger *controller_ledger(const struct controller *c);
const struct task *controller_task(const struct controller *c, uint32_t task_id); /* live ones; else NULL */
void controller_each_task(const struct controller *c, void (*take)(void *user, const struct task *task), void *user);
/* How the task is to be shown: its state's name, or "lost" while its node is silent. Static. */
const char *controller_shown_state(const struct controller *c, const struct task *task, struct core_time now);
/* The card as it is now, with the time of its last change. */
const struct pool_card *controller_gpu(struct controller *c, const struct cluster_node *node, const struct gpu *gpu,
                                       struct core_time now);
/* NULL, or why the host cannot record at present. */
const char *controller_storage_problem(const struct controller *c);

/* Aborts when memory breaks an invariant of the core. */
void controller_check(const struct controller *c);
