#pragma once
/* What must survive: tasks with their leases, nodes with their credentials. SQLite in WAL mode with synchronous=FULL;
 * one writer thread commits whatever has queued up in one transaction (group commit), one reader thread answers
 * queries. Both report back on the loop's thread. The table gpu_leases has the GPU's UUID as its primary key: the
 * second of the three guards of rule R1.
 * A record that fails (full disk, a second lease on a card) fails alone and leaves nothing behind. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/controller.h"
#include "model/task.h"

struct store;

/* Opens or makes the file and brings its schema up to date. KR_ERROR_STORAGE or KR_ERROR_IO; a schema newer than this
 * program is an error too. */
struct store *store_open(uv_loop_t *loop, const char *path, GError **error);
/* Writes what is queued, joins the threads, then calls back for all of it (from within). NULL is fine. */
void store_close(struct store *store);

/* ---- at start; these block ---- */
struct store_node {
    char *name;
    char *credential_hash; /* may be empty: never joined */
    json_t *info;          /* the node_info it sent last, NULL when none */
};
void store_node_free(struct store_node *node);
/* Everything a host needs at its start. */
struct store_contents {
    GPtrArray *live_tasks; /* of struct task: those that hold a lease */
    GPtrArray *nodes;      /* of struct store_node */
    GPtrArray *marks;      /* of struct mark */
    GPtrArray *pardons;    /* of struct pardon */
    GPtrArray *vps;        /* of struct vps */
    GPtrArray *keys;       /* of struct submit_key */
    uint32_t last_task_id, last_vps_id;
    int64_t last_epoch;
};
void store_contents_clear(struct store_contents *contents);
bool store_load(struct store *store, struct store_contents *ret_contents, GError **error);
/* A value kept for good, made by the caller the first time. Caller frees. */
char *store_meta(struct store *store, const char *key, const char *if_absent, GError **error);

/* ---- writing ---- */
typedef void store_record_cb(void *user, struct record *record, const GError *error); /* gets the record back */
void store_set_record_cb(struct store *store, store_record_cb *on_recorded, void *user);
/* Has the record until the callback set above gives it back. */
void store_record(struct store *store, struct record *record);
/* Replaces what is kept of a node; NULL keeps what was there. on_done may be NULL. */
typedef void store_done_cb(void *user, const GError *error);
void store_put_node(struct store *store, const char *name, const char *credential_hash, const json_t *info,
                    store_done_cb *on_done, void *user);

/* ---- reading ---- */
enum { STORE_BATCH_MAX_BYTES = 32 };
struct task_query {
    uint32_t id;                           /* this one, or none */
    char batch[STORE_BATCH_MAX_BYTES + 1]; /* not "": its tasks instead, as they were submitted */
    int limit;                             /* of a batch */
};
/* tasks: of struct task, borrowed for the call; NULL on error. */
typedef void store_tasks_cb(void *user, const GPtrArray *tasks, const GError *error);
void store_query_tasks(struct store *store, const struct task_query *query, store_tasks_cb *on_done, void *user);

/* A page of the list of all tasks, newest first. What is not set does not filter; what is set has to be true of a task all
 * together. */
enum { TASK_SEARCH_MAX_BYTES = 255, TASK_TEXT_MAX_BYTES = 4096 };
struct task_filter {
    unsigned states;                        /* bits 1 << enum task_state: it is in one of these… */
    bool holds_lease;                       /* …or it holds a lease */
    char node[NODE_NAME_MAX_BYTES + 1];     /* where it is */
    char owner[TASK_MAX_OWNER_BYTES + 1];   /* whose it is */
    char gpu[GPU_UUID_MAX_BYTES + 1];       /* it was ever granted this card */
    char search[TASK_SEARCH_MAX_BYTES + 1]; /* a part of store_task_text */
    uint32_t before;                        /* ids below; not for the total */
    int limit;
    bool wants_total;
};
struct task_page {
    GPtrArray *tasks; /* of struct task */
    bool has_more;    /* below the last one */
    int64_t total;    /* with wants_total: of all pages */
};
/* page: borrowed for the call; NULL on error. */
typedef void store_page_cb(void *user, const struct task_page *page, const GError *error);
void store_query_page(struct store *store, const struct task_filter *filter, store_page_cb *on_done, void *user);
/* What a search looks into: id, name and command in small letters, cut to TASK_TEXT_MAX_BYTES. Caller frees. */
char *store_task_text(const struct task *task);

/* events: of struct task_event, oldest first, borrowed for the call; NULL on error. */
typedef void store_events_cb(void *user, const GPtrArray *events, const GError *error);
void store_query_events(struct store *store, uint32_t task_id, store_events_cb *on_done, void *user);

struct audit_query {
    int64_t before;      /* > 0: entries of a lower id */
    const char *subject; /* NULL: all; for the call */
    int limit;
};
/* entries: of struct audit_entry, newest first, borrowed for the call; NULL on error. */
typedef void store_audit_cb(void *user, const GPtrArray *entries, const GError *error);
void store_query_audit(struct store *store, const struct audit_query *query, store_audit_cb *on_done, void *user);
