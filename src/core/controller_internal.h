#pragma once
/* Shared by controller.c (records, users) and controller_nodes.c (what nodes say). */

#include "core/controller.h"

struct live_task {
    struct task *draft; /* as decided last */
    struct task *shown; /* as recorded last, what everybody is told; NULL until the first record is durable */
    bool is_dirty;      /* a record of the draft failed: tick tries again */
    bool was_sent;      /* its start may have reached the node at some time */
    bool start_sent;    /* on the present connection */
    bool stop_sent;     /* the same */
};

struct controller {
    struct controller_ops ops;
    void *env;
    struct cluster *cluster;
    struct ledger *ledger;
    GHashTable *live; /* task id -> live_task */
    uint32_t last_task_id;
    char *storage_problem;
};

/* Records the draft as it is. */
void controller_record_draft(struct controller *c, struct live_task *live);
/* Sends what the recorded state asks for: start, stop; forgets a task whose release is recorded (with an ack). */
void controller_act(struct controller *c, struct live_task *live);
/* Ends the draft without a node's report: state, reason, and the lease is free to go with the record. */
void controller_end_draft(struct live_task *live, enum task_state state, const char *reason, struct core_time now);
void controller_send(struct controller *c, const char *node, const char *type, json_t *message);
void controller_send_ack(struct controller *c, const char *node, uint32_t task_id, int64_t epoch);
struct live_task *controller_live(const struct controller *c, uint32_t task_id);
/* Of struct live_task, borrowed. Caller unrefs. Stable while tasks are removed. */
GPtrArray *controller_live_of_node(const struct controller *c, const char *node);
