#pragma once
/* The host's mind: decides, has it recorded, then acts (R5), for every message that reaches the host. Pure (R9): what
 * it wants done comes out through `struct controller_ops`; time and messages come in as arguments.
 *
 * Invariants:
 *   - A task is visible, and sent to its node, only after its record is durable; its GPUs are held from the decision on.
 *   - A lease leaves the ledger only after the record of its release is durable; the node's report is acknowledged
 *     after that.
 *   - Every live task (not ended, or still holding its lease) is in memory; ended ones are in the store only.
 */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/cluster.h"
#include "core/ledger.h"
#include "model/task.h"

struct controller;

/* One or more whole task records to be written in one transaction, in order: what memory becomes once it is durable. */
struct pending_submit;
struct record {
    GPtrArray *tasks; /* of struct task, owned: insert or replace by id */
    /* the controller's own: whom to answer */
    struct pending_submit *submit; /* NULL: an update */
    void (*on_kill)(void *user, const struct task *task, const GError *error);
    void *kill_user;
};
void record_free(struct record *record);

struct controller_ops {
    /* Make it durable, then (never before returning) give it back by controller_recorded. Only reads it. */
    void (*record)(void *env, struct record *record);
    /* Send to a connected node. Takes the reference. */
    void (*send)(void *env, const char *node, json_t *message);
    /* A task came, changed or (is_gone: its last word is in the store) left memory. */
    void (*task_changed)(void *env, const struct task *task, bool is_gone);
};

struct controller *controller_new(const struct controller_ops *ops, void *env, int64_t offline_after_ms);
void controller_free(struct controller *controller);

/* ---- restore: what the store had, before anything else ---- */
void controller_restore_counters(struct controller *c, uint32_t last_task_id, int64_t last_epoch);
void controller_restore_node(struct controller *c, struct node_info *info); /* takes it; offline until it speaks */
/* Takes a live task. false (task freed) when its cards are held by another record: a store that breaks R1. */
bool controller_restore_task(struct controller *c, struct task *task);

/* ---- users ---- */
struct submission {
    char **targets; /* as typed; empty: one task, placement chooses */
    struct task_spec *spec;
};
struct refusal {
    char *target;
    char *reason;
    bool is_bad_request; /* can never fit, as opposed to not now */
};
/* tasks: of const struct task, borrowed; NULL with error when nothing was created. refusals: of struct refusal,
 * borrowed, NULL unless the error is about targets. notes: of char*. */
typedef void controller_submit_cb(void *user, const GPtrArray *tasks, const GPtrArray *notes, const GPtrArray *refusals,
                                  const GError *error);
/* All or nothing. The callback comes once, possibly before this returns. */
void controller_submit(struct controller *c, const struct submission *submission, struct core_time now,
                       controller_submit_cb *on_done, void *user);
/* Asks for the end of a live task. The callback comes once, when the wish is durable or could not be made so. false, and no
 * callback: KR_ERROR_NOT_FOUND (not live), KR_ERROR_REFUSED (ended). */
typedef void controller_kill_cb(void *user, const struct task *task, const GError *error);
bool controller_kill(struct controller *c, uint32_t task_id, struct core_time now, controller_kill_cb *on_done,
                     void *user, GError **error);

/* ---- nodes ---- */
/* A node's full truth. `reports`: of struct node_report; max_epoch: the highest that its cards have had, 0 when it does
 * not say. Takes `info` (not on failure). The node counts as connected
 * afterwards and gets its starts, stops and acks. false: KR_ERROR_REFUSED with the reason to tell it. */
struct node_report {
    struct task_report report;
    struct lease lease; /* what the node's lease file says; n_gpus 0 and epoch 0 when it has none */
};
void node_report_free(struct node_report *report);
bool controller_hello(struct controller *c, struct node_info *info, const GPtrArray *reports, int64_t max_epoch,
                      struct core_time now, GError **error);
void controller_heartbeat(struct controller *c, struct node_info *info, struct core_time now); /* takes info */
void controller_report(struct controller *c, const char *node, const struct task_report *report, struct core_time now);
void controller_disconnected(struct controller *c, const char *node, struct core_time now);

/* ---- the shell's answers ---- */
/* The record is durable, or not (error). Takes it back. */
void controller_recorded(struct controller *c, struct record *record, const GError *error);
/* Once a second: liveness, records that failed are tried again. */
void controller_tick(struct controller *c, struct core_time now);

/* ---- views, borrowed until the next call ---- */
const struct cluster *controller_cluster(const struct controller *c);
const struct ledger *controller_ledger(const struct controller *c);
const struct task *controller_task(const struct controller *c, uint32_t task_id); /* live ones; else NULL */
/* How the task is to be shown: its state's name, or "lost" while its node is silent. Static. */
const char *controller_shown_state(const struct controller *c, const struct task *task, struct core_time now);
/* NULL, or why the host cannot record at present. */
const char *controller_storage_problem(const struct controller *c);

/* Aborts when memory breaks an invariant of the core. */
void controller_check(const struct controller *c);
