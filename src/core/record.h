#pragma once
/* What the controller wants made durable, in one transaction, and whom it answers afterwards. */

#include <glib.h>
#include <stdbool.h>

#include "model/operator.h"
#include "model/task.h"
#include "model/vps.h"

struct pending_submit;

/* A submission that its client may repeat without making its tasks twice. */
struct submit_key {
    char *key;         /* the Idempotency-Key */
    char *fingerprint; /* of the request: the same key with another one is refused */
    char *batch_id;    /* what it made */
    int64_t at_ms;
};
void submit_key_free(struct submit_key *key);

/* An operator's wish is durable, or not. task: NULL when it was about none, or the wish failed. */
typedef void controller_done_cb(void *user, const struct task *task, const GError *error);

struct record {
    GPtrArray *tasks;          /* of struct task, owned: insert or replace by id; may be empty */
    bool is_insert_only;       /* refused (KR_ERROR_REFUSED) when a task of that id is in the store */
    GPtrArray *events;         /* of struct task_event, owned: to be added; the store says when. May be empty */
    struct submit_key *key;    /* NULL: none */
    struct pardon *pardon;     /* of a card, replaces an earlier one; NULL: none */
    struct vps *vps;           /* a machine whose start the task is; NULL: none */
    uint32_t vps_gone;         /* a machine that is deleted; 0: none */
    struct mark *mark;         /* to be set; NULL: none */
    char *unmark;              /* subject whose mark goes; NULL: none */
    struct audit_entry *audit; /* NULL: none */
    /* the controller's own: whom to answer */
    struct pending_submit *submit; /* NULL: no submission */
    controller_done_cb *on_done;
    void *done_user;
};

struct record *record_new(void);
/* A record of one task. Takes it. */
struct record *record_of_task(struct task *task);
void record_free(struct record *record);
