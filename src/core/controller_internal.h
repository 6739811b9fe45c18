#pragma once
/* Shared by controller.c (life, records, acting, kill and pause), controller_submit.c, controller_operator.c (orders) and
 * controller_nodes.c (what nodes say). */

#include "core/controller.h"

struct live_task {
    struct task *draft;          /* as decided last */
    struct task *shown;          /* as recorded last, what everybody is told; NULL until the first record is durable */
    bool is_dirty;               /* a record of the draft failed: tick tries again */
    bool is_adopted;             /* its first record must not replace another task's… */
    bool is_adopting;            /* …and is on its way: no other may follow before its answer */
    bool is_gone_there;          /* the node has said that nothing of it is left */
    bool was_sent;               /* its start may have reached the node at some time */
    enum task_state told;        /* the state of its last event */
    enum gpu_health told_health; /* the worst of its cards that an event was written about */
    /* on the present connection */
    bool start_sent, stop_sent, forget_sent;
    enum { PAUSE_UNSENT, PAUSE_SENT, RESUME_SENT } pause_sent;
};

struct controller {
    struct controller_ops ops;
    void *env;
    struct pool pool;
    GHashTable *live; /* task id -> live_task */
    /* task ids whose first record is on its way: not live yet, and not to be given to an adopted one */
    GHashTable *submitting;
    GPtrArray *homeless;  /* leases of nodes that wait for their cards here (controller_homeless.c) */
    GHashTable *keys;     /* Idempotency-Key -> struct used_key (controller_submit.c) */
    GHashTable *vps;      /* id -> struct vps */
    GHashTable *vps_busy; /* set of ids: a record of one is on its way */
    uint32_t last_vps_id;
    uint32_t last_task_id;
    bool kills_orphans;
    char *storage_problem;
};

/* ---- controller_operator.c ---- */
/* Before a node's new word is taken: cards that were known by their place and tell their own name keep their marks. */
void controller_carry_marks(struct controller *c, const struct node_info *info, struct core_time now);

/* ---- controller.c ---- */
/* Tells of a node that turned silent, or speaks again, once; its tasks are shown in another way then. */
void controller_note_online(struct controller *c, struct cluster_node *node, struct core_time now);
void controller_tell_node(const struct controller *c, const char *node);
void controller_tell_vps(const struct controller *c, uint32_t vps_id);
/* Records the draft as it is. */
void controller_record_draft(struct controller *c, struct live_task *live);
/* A record of the draft, to be filled further and given to ops.record. */
struct record *controller_record_of_draft(struct live_task *live);
void controller_submit_record(struct controller *c, struct record *record);
/* Sends what the recorded state asks for: start, stop, pause; forgets a task whose release is recorded (with an ack). */
void controller_act(struct controller *c, struct live_task *live);
/* Ends the draft without a node's report: state, reason, and the lease is free to go with the record. */
void controller_end_draft(struct live_task *live, enum task_state state, const char *reason, struct core_time now);
void controller_send(struct controller *c, const char *node, const char *type, json_t *message);
void controller_send_name(struct controller *c, const char *node, const char *type, uint32_t task_id, int64_t epoch);
bool controller_is_connected(const struct controller *c, const char *node);
struct live_task *controller_live(const struct controller *c, uint32_t task_id);
/* Adds a task of which `draft` is known and nothing recorded. Takes it. */
struct live_task *controller_add_live(struct controller *c, struct task *draft);
void controller_drop_live(struct controller *c, struct live_task *live);
/* Of struct live_task, in the order of their epochs, borrowed. Caller unrefs. Stable while tasks are removed. */
GPtrArray *controller_live_of_node(const struct controller *c, const char *node);
const char *controller_label(const struct task_spec *spec);
/* The live task of a ledger entry; NULL for an orphan. */
const struct task *controller_task_of(const struct controller *c, const struct ledger_entry *entry);

/* ---- controller_submit.c ---- */
void controller_submit_recorded(struct controller *c, struct record *record, const GError *error);
void controller_free_submit(struct pending_submit *submit);
void controller_free_keys(struct controller *c);
void controller_init_keys(struct controller *c);
void controller_prune_keys(struct controller *c, struct core_time now);

/* ---- controller_vps.c ---- */
void controller_init_vps(struct controller *c);
void controller_free_vps(struct controller *c);
void controller_vps_recorded(struct controller *c, struct record *record);

/* ---- controller_nodes.c ---- */
/* The states of a node's cards as they are now; whose task runs on one that has gone bad is told (L60). */
void controller_note_cards(struct controller *c, const struct cluster_node *node, struct core_time now);
/* Keeps the cards of a lease that the node holds and this host has no record of (any more). false: another lease has one. */
bool controller_hold_orphan(struct controller *c, const struct lease *lease);
/* What a node says of a lease that is none of ours: adopted, held or, when it is over, acknowledged. false: it has no place
 * here for now. */
bool controller_take_orphan(struct controller *c, const char *node, const struct node_report *said);
bool controller_is_over(const struct task_report *report);
/* An adopted task is in the store now, or must not be. true: it was taken care of. */
bool controller_adoption_recorded(struct controller *c, const struct task *task, const GError *error);

/* ---- controller_homeless.c ---- */
void controller_init_homeless(struct controller *c);
void controller_free_homeless(struct controller *c);
/* Remembers it, as a copy. */
void controller_keep_homeless(struct controller *c, const char *node, const struct node_report *said);
/* The node tells anew. */
void controller_forget_homeless(struct controller *c, const char *node);
/* News of one of them, if it is one. */
void controller_note_homeless(struct controller *c, const char *node, const struct task_report *report);
/* Tries to give them their places. */
void controller_house_homeless(struct controller *c);
