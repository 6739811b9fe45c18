/* Threads: the loop's thread queues jobs and gets answers; the writer takes all jobs that wait, up to MAX_GROUP, and
 * commits them in one transaction, each inside a savepoint of its own; the reader answers one query after the other.
 * Jobs are owned by whoever has them; nothing else is shared. */

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "store/operator_rows.h"
#include "store/sqlite_schema.h"
#include "store/store.h"
#include "store/task_list.h"
#include "store/task_rows.h"

enum { MAX_GROUP = 512, BUSY_TIMEOUT_MS = 5000 };

enum job_kind { JOB_STOP = 1, JOB_RECORD, JOB_NODE, JOB_QUERY, JOB_PAGE, JOB_EVENTS, JOB_AUDIT };

struct job {
    enum job_kind kind;
    struct record *record;   /* RECORD */
    struct store_node *node; /* NODE */
    store_done_cb *on_done;  /* NODE */
    struct task_query query; /* QUERY, EVENTS: its id */
    store_events_cb *on_events;
    store_tasks_cb *on_tasks;
    struct task_filter filter; /* PAGE */
    struct task_page page;     /* the answer */
    store_page_cb *on_page;
    struct audit_query audit; /* AUDIT */
    char *subject;            /* of it */
    store_audit_cb *on_audit;
    GPtrArray *rows; /* the answer to QUERY, EVENTS, AUDIT */
    void *user;
    GError *error;
};

struct side { /* one thread with its connection */
    sqlite3 *db;
    struct task_rows *rows;
    GAsyncQueue *jobs;
    GThread *thread;
};

struct store {
    struct side writer, reader;
    GAsyncQueue *done;
    uv_async_t async;
    store_record_cb *on_recorded;
    void *recorded_user;
};

static void job_free(struct job *job) {
    record_free(job->record);
    store_node_free(job->node);
    if (job->rows)
        g_ptr_array_unref(job->rows);
    if (job->page.tasks)
        g_ptr_array_unref(job->page.tasks);
    g_free(job->subject);
    g_clear_error(&job->error);
    g_free(job);
}

void store_node_free(struct store_node *node) {
    if (!node)
        return;
    g_free(node->name);
    g_free(node->credential_hash);
    json_decref(node->info);
    g_free(node);
}

/* ---- the writer ---- */

static bool write_record(struct side *side, const struct record *record, GError **error) {
    for (guint i = 0; i < record->tasks->len; i++) {
        const struct task *task = record->tasks->pdata[i];
        if (record->is_insert_only && task_rows_has(side->rows, task->id))
            return kr_fail(error, REFUSED, "store: there is a task %u already", task->id);
        if (!task_rows_put(side->rows, task, error))
            return false;
    }
    for (guint i = 0; i < record->events->len; i++)
        if (!task_rows_put_event(side->rows, record->events->pdata[i], clock_wall_ms(), error))
            return false;
    return operator_rows_put(side->db, record, error);
}

static bool write_node(sqlite3 *db, const struct store_node *node, GError **error) {
    static const char sql[] = "INSERT INTO nodes (name, credential_hash, info) VALUES (?1, ifnull(?2, ''), ?3)"
                              " ON CONFLICT (name) DO UPDATE SET credential_hash = ifnull(?2, credential_hash),"
                              " info = ifnull(?3, info)";
    g_autofree char *info = node->info ? jsonx_to_str(node->info) : NULL;
    sqlite3_stmt *stmt = NULL;
    bool ok;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
        return sqlite_fail(db, "write", error);
    sqlite3_bind_text(stmt, 1, node->name, -1, SQLITE_STATIC);
    if (node->credential_hash)
        sqlite3_bind_text(stmt, 2, node->credential_hash, -1, SQLITE_STATIC);
    if (info)
        sqlite3_bind_text(stmt, 3, info, -1, SQLITE_STATIC);
    ok = sqlite3_step(stmt) == SQLITE_DONE || sqlite_fail(db, "write", error);
    sqlite3_finalize(stmt);
    return ok;
}

static void write_job(struct side *side, struct job *job) {
    bool ok = sqlite_run(side->db, "SAVEPOINT job", &job->error) &&
              (job->kind == JOB_RECORD ? write_record(side, job->record, &job->error)
                                       : write_node(side->db, job->node, &job->error));

    if (!ok)
        sqlite3_exec(side->db, "ROLLBACK TO job", NULL, NULL, NULL);
    sqlite3_exec(side->db, "RELEASE job", NULL, NULL, NULL);
}

/* A transaction that cannot be committed fails every job of it that had not failed by itself. */
static void fail_group(GPtrArray *group, const GError *error) {
    for (guint i = 0; i < group->len; i++) {
        struct job *job = group->pdata[i];
        if (!job->error)
            job->error = g_error_copy(error);
    }
}

static void write_group(struct side *side, GPtrArray *group) {
    g_autoptr(GError) error = NULL;

    if (!sqlite_run(side->db, "BEGIN IMMEDIATE", &error)) {
        fail_group(group, error);
        return;
    }
    /* a full disk may roll the whole transaction back in the middle: autocommit is on again then, and whatever was written
     * now would be a transaction of its own */
    for (guint i = 0; i < group->len && !sqlite3_get_autocommit(side->db); i++)
        write_job(side, group->pdata[i]);
    fault_point("host-before-commit");
    if (sqlite3_get_autocommit(side->db))
        kr_fail(&error, STORAGE, "store: the transaction was rolled back: database or disk is full");
    else if (!sqlite_run(side->db, "COMMIT", &error))
        sqlite3_exec(side->db, "ROLLBACK", NULL, NULL, NULL);
    if (error)
        fail_group(group, error);
    fault_point("host-after-commit");
}

static void *writer_main(void *arg) {
    struct store *store = arg;
    bool is_stopping = false;

    while (!is_stopping) {
        g_autoptr(GPtrArray) group = g_ptr_array_new();
        struct job *job = g_async_queue_pop(store->writer.jobs);

        for (; job; job = group->len < MAX_GROUP ? g_async_queue_try_pop(store->writer.jobs) : NULL) {
            if (job->kind == JOB_STOP) {
                is_stopping = true;
                job_free(job);
                break;
            }
            g_ptr_array_add(group, job);
        }
        if (group->len > 0)
            write_group(&store->writer, group);
        for (guint i = 0; i < group->len; i++)
            g_async_queue_push(store->done, group->pdata[i]);
        uv_async_send(&store->async);
    }
    return NULL;
}

/* ---- the reader ---- */

static GPtrArray *read_job(struct side *side, struct job *job) {
    if (job->kind == JOB_AUDIT)
        return operator_rows_audit(side->db, &job->audit, &job->error);
    if (job->kind == JOB_EVENTS)
        return task_rows_events(side->rows, job->query.id, &job->error);
    return task_rows_query(side->rows, &job->query, &job->error);
}

/* One moment for the whole answer: it may take several statements, and the writer does not wait. */
static void answer(struct side *side, struct job *job) {
    if (!sqlite_run(side->db, "BEGIN", &job->error))
        return;
    if (job->kind == JOB_PAGE)
        task_list_page(side->db, &job->filter, &job->page, &job->error);
    else
        job->rows = read_job(side, job);
    sqlite3_exec(side->db, "ROLLBACK", NULL, NULL, NULL); /* nothing was written */
}

static void *reader_main(void *arg) {
    struct store *store = arg;

    for (;;) {
        struct job *job = g_async_queue_pop(store->reader.jobs);
        if (job->kind == JOB_STOP) {
            job_free(job);
            return NULL;
        }
        answer(&store->reader, job);
        g_async_queue_push(store->done, job);
        uv_async_send(&store->async);
    }
}

/* ---- the loop's thread ---- */

static void deliver(struct store *store) {
    struct job *job;

    while ((job = g_async_queue_try_pop(store->done))) {
        if (job->kind == JOB_RECORD && store->on_recorded)
            store->on_recorded(store->recorded_user, g_steal_pointer(&job->record), job->error);
        else if (job->kind == JOB_NODE && job->on_done)
            job->on_done(job->user, job->error);
        else if (job->kind == JOB_QUERY)
            job->on_tasks(job->user, job->rows, job->error);
        else if (job->kind == JOB_PAGE)
            job->on_page(job->user, job->error ? NULL : &job->page, job->error);
        else if (job->kind == JOB_AUDIT)
            job->on_audit(job->user, job->rows, job->error);
        else if (job->kind == JOB_EVENTS)
            job->on_events(job->user, job->rows, job->error);
        job_free(job);
    }
}

static void on_async(uv_async_t *async) { deliver(async->data); }

static bool open_side(struct side *side, const char *path, bool can_write, GError **error) {
    int flags = can_write ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;

    if (sqlite3_open_v2(path, &side->db, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
        kr_fail(error, IO, "store %s: %s", path, sqlite3_errmsg(side->db));
        return false;
    }
    sqlite3_busy_timeout(side->db, BUSY_TIMEOUT_MS);
    if (can_write && (!sqlite_run(side->db,
                                  "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
                                  "PRAGMA cache_size=-2000;",
                                  error) ||
                      !sqlite_migrate(side->db, error)))
        return false;
    side->rows = task_rows_new(side->db, can_write, error);
    side->jobs = g_async_queue_new();
    return side->rows != NULL;
}

static void close_side(struct side *side) {
    task_rows_free(side->rows);
    sqlite3_close(side->db);
    if (side->jobs)
        g_async_queue_unref(side->jobs);
}

static void on_async_closed(uv_handle_t *handle) { g_free(handle->data); }

struct store *store_open(uv_loop_t *loop, const char *path, GError **error) {
    struct store *store = g_new0(struct store, 1);

    sqlite3_soft_heap_limit64(4 * 1024 * 1024);
    if (!open_side(&store->writer, path, true, error) || !open_side(&store->reader, path, false, error)) {
        close_side(&store->reader);
        close_side(&store->writer);
        g_free(store);
        return NULL;
    }
    store->done = g_async_queue_new();
    uv_async_init(loop, &store->async, on_async);
    store->async.data = store;
    store->writer.thread = g_thread_new("store-writer", writer_main, store);
    store->reader.thread = g_thread_new("store-reader", reader_main, store);
    return store;
}

static struct job *job_new(enum job_kind kind) {
    struct job *job = g_new0(struct job, 1);

    job->kind = kind;
    return job;
}

void store_close(struct store *store) {
    if (!store)
        return;
    g_async_queue_push(store->writer.jobs, job_new(JOB_STOP));
    g_async_queue_push(store->reader.jobs, job_new(JOB_STOP));
    g_thread_join(store->writer.thread);
    g_thread_join(store->reader.thread);
    deliver(store);
    close_side(&store->reader);
    close_side(&store->writer);
    g_async_queue_unref(store->done);
    uv_close((uv_handle_t *)&store->async, on_async_closed);
}

void store_set_record_cb(struct store *store, store_record_cb *on_recorded, void *user) {
    store->on_recorded = on_recorded;
    store->recorded_user = user;
}

void store_record(struct store *store, struct record *record) {
    struct job *job = job_new(JOB_RECORD);

    job->record = record;
    g_async_queue_push(store->writer.jobs, job);
}

void store_put_node(struct store *store, const char *name, const char *credential_hash, const json_t *info,
                    store_done_cb *on_done, void *user) {
    struct job *job = job_new(JOB_NODE);

    job->node = g_new0(struct store_node, 1);
    job->node->name = g_strdup(name);
    job->node->credential_hash = g_strdup(credential_hash);
    job->node->info = info ? json_deep_copy(info) : NULL; /* jansson's counts are not shared between threads */
    job->on_done = on_done;
    job->user = user;
    g_async_queue_push(store->writer.jobs, job);
}

void store_query_tasks(struct store *store, const struct task_query *query, store_tasks_cb *on_done, void *user) {
    struct job *job = job_new(JOB_QUERY);

    job->query = *query;
    job->on_tasks = on_done;
    job->user = user;
    g_async_queue_push(store->reader.jobs, job);
}

void store_query_page(struct store *store, const struct task_filter *filter, store_page_cb *on_done, void *user) {
    struct job *job = job_new(JOB_PAGE);

    job->filter = *filter;
    job->on_page = on_done;
    job->user = user;
    g_async_queue_push(store->reader.jobs, job);
}

void store_query_events(struct store *store, uint32_t task_id, store_events_cb *on_done, void *user) {
    struct job *job = job_new(JOB_EVENTS);

    job->query.id = task_id;
    job->on_events = on_done;
    job->user = user;
    g_async_queue_push(store->reader.jobs, job);
}

void store_query_audit(struct store *store, const struct audit_query *query, store_audit_cb *on_done, void *user) {
    struct job *job = job_new(JOB_AUDIT);

    job->audit = *query;
    job->audit.subject = job->subject = g_strdup(query->subject);
    job->on_audit = on_done;
    job->user = user;
    g_async_queue_push(store->reader.jobs, job);
}

/* ---- at start: nothing is queued yet, so the writer's connection is free ---- */

static GPtrArray *load_nodes(sqlite3 *db, GError **error) {
    GPtrArray *nodes = g_ptr_array_new_with_free_func((GDestroyNotify)store_node_free);
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(db, "SELECT name, credential_hash, info FROM nodes ORDER BY name", -1, &stmt, NULL) !=
        SQLITE_OK) {
        sqlite_fail(db, "read", error);
        g_ptr_array_unref(nodes);
        return NULL;
    }
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        struct store_node *node = g_new0(struct store_node, 1);
        const char *info = (const char *)sqlite3_column_text(stmt, 2);
        node->name = g_strdup((const char *)sqlite3_column_text(stmt, 0));
        node->credential_hash = g_strdup((const char *)sqlite3_column_text(stmt, 1));
        node->info = info ? jsonx_parse(info, strlen(info), NULL) : NULL;
        g_ptr_array_add(nodes, node);
    }
    sqlite3_finalize(stmt);
    return nodes;
}

static bool load_number(sqlite3 *db, const char *sql, int64_t *ret_number, GError **error) {
    sqlite3_stmt *stmt = NULL;
    bool ok = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW;

    if (ok)
        *ret_number = sqlite3_column_int64(stmt, 0);
    else
        sqlite_fail(db, "read", error);
    sqlite3_finalize(stmt);
    return ok;
}

void store_contents_clear(struct store_contents *contents) {
    g_clear_pointer(&contents->live_tasks, g_ptr_array_unref);
    g_clear_pointer(&contents->nodes, g_ptr_array_unref);
    g_clear_pointer(&contents->marks, g_ptr_array_unref);
    g_clear_pointer(&contents->pardons, g_ptr_array_unref);
    g_clear_pointer(&contents->vps, g_ptr_array_unref);
    g_clear_pointer(&contents->keys, g_ptr_array_unref);
}

bool store_load(struct store *store, struct store_contents *ret_contents, GError **error) {
    sqlite3 *db = store->writer.db;
    struct store_contents c = {0};
    int64_t last_id = 0, last_vps_id = 0;

    if (load_number(db, "SELECT ifnull(max(id), 0) FROM tasks", &last_id, error) &&
        load_number(db, "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'vps'", &last_vps_id, error) &&
        load_number(db, "SELECT ifnull(max(epoch), 0) FROM tasks", &c.last_epoch, error) &&
        (c.live_tasks = task_rows_live(store->writer.rows, error)) && (c.nodes = load_nodes(db, error)) &&
        (c.marks = operator_rows_marks(db, error)) && (c.pardons = operator_rows_pardons(db, error)) &&
        (c.vps = operator_rows_vps(db, error)) && (c.keys = operator_rows_keys(db, error))) {
        c.last_task_id = (uint32_t)last_id;
        c.last_vps_id = (uint32_t)last_vps_id; /* a number that was ever given is not given again */
        *ret_contents = c;
        return true;
    }
    store_contents_clear(&c);
    return false;
}

char *store_meta(struct store *store, const char *key, const char *if_absent, GError **error) {
    sqlite3 *db = store->writer.db;
    sqlite3_stmt *put = NULL, *get = NULL;
    char *value = NULL;

    if (sqlite3_prepare_v2(db, "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO NOTHING", -1, &put, NULL) ==
            SQLITE_OK &&
        sqlite3_prepare_v2(db, "SELECT value FROM meta WHERE key = ?1", -1, &get, NULL) == SQLITE_OK) {
        sqlite3_bind_text(put, 1, key, -1, SQLITE_STATIC);
        sqlite3_bind_text(put, 2, if_absent, -1, SQLITE_STATIC);
        sqlite3_bind_text(get, 1, key, -1, SQLITE_STATIC);
        if (sqlite3_step(put) == SQLITE_DONE && sqlite3_step(get) == SQLITE_ROW)
            value = g_strdup((const char *)sqlite3_column_text(get, 0));
    }
    if (!value)
        sqlite_fail(db, "read", error);
    sqlite3_finalize(put);
    sqlite3_finalize(get);
    return value;
}
