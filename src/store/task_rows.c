#include "store/task_rows.h"

#include <string.h>

#include "base/json.h"
#include "store/sqlite_schema.h"

enum statement {
    PUT_TASK,
    PUT_GPU,
    PUT_TEXT,
    DROP_LEASES,
    PUT_LEASE,
    PUT_EVENT,
    IS_THERE,
    QUERY,
    QUERY_BATCH,
    QUERY_LIVE,
    QUERY_EVENTS,
    STATEMENT_COUNT
};

static const struct {
    const char *sql;
    bool writes;
} statements[STATEMENT_COUNT] = {
    [PUT_TASK] =
        {"INSERT INTO tasks (id, epoch, node, state, holds_lease, batch_id, target, spec, lease, kill_requested,"
         " exit_code, oom, reason, holding, created_ms, started_ms, finished_ms, pause_requested,"
         " release_forced, owner)"
         " VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20)"
         " ON CONFLICT (id) DO UPDATE SET epoch=?2, node=?3, state=?4, holds_lease=?5, kill_requested=?10,"
         " exit_code=?11, oom=?12, reason=?13, holding=?14, started_ms=?16, finished_ms=?17,"
         " lease=?9, pause_requested=?18, release_forced=?19",
         true},
    [PUT_GPU] = {"INSERT OR IGNORE INTO task_gpus (gpu_uuid, task_id) VALUES (?1, ?2)", true},
    [PUT_TEXT] = {"INSERT OR IGNORE INTO task_texts (task_id, text) VALUES (?1, ?2)", true},
    [DROP_LEASES] = {"DELETE FROM gpu_leases WHERE task_id = ?1", true},
    [PUT_LEASE] = {"INSERT INTO gpu_leases (gpu_uuid, task_id) VALUES (?1, ?2)", true},
    [PUT_EVENT] = {"INSERT INTO task_events (task_id, at_ms, text) VALUES (?1, ?2, ?3)", true},
    [IS_THERE] = {"SELECT 1 FROM tasks WHERE id = ?1", true},
    [QUERY] = {"SELECT " TASK_ROW_COLUMNS " FROM tasks t WHERE id = ?1", false},
    [QUERY_BATCH] = {"SELECT " TASK_ROW_COLUMNS " FROM tasks t WHERE batch_id = ?1 ORDER BY id LIMIT ?2", false},
    [QUERY_LIVE] = {"SELECT " TASK_ROW_COLUMNS " FROM tasks t WHERE holds_lease = 1 ORDER BY id", false},
    [QUERY_EVENTS] = {"SELECT task_id, at_ms, text FROM task_events WHERE task_id = ?1 ORDER BY rowid LIMIT 1000",
                      false},
};

struct task_rows {
    sqlite3 *db;
    sqlite3_stmt *stmt[STATEMENT_COUNT];
};

struct task_rows *task_rows_new(sqlite3 *db, bool can_write, GError **error) {
    struct task_rows *rows = g_new0(struct task_rows, 1);

    rows->db = db;
    for (int i = 0; i < STATEMENT_COUNT; i++) {
        if ((!statements[i].writes || can_write) &&
            sqlite3_prepare_v3(db, statements[i].sql, -1, SQLITE_PREPARE_PERSISTENT, &rows->stmt[i], NULL) !=
                SQLITE_OK) {
            sqlite_fail(db, "prepare", error);
            task_rows_free(rows);
            return NULL;
        }
    }
    return rows;
}

void task_rows_free(struct task_rows *rows) {
    if (!rows)
        return;
    for (int i = 0; i < STATEMENT_COUNT; i++)
        sqlite3_finalize(rows->stmt[i]);
    g_free(rows);
}

/* Steps a statement without rows and makes it ready for the next time. */
static bool finish(struct task_rows *rows, enum statement which, GError **error) {
    int code = sqlite3_step(rows->stmt[which]);
    bool ok = code == SQLITE_DONE;

    if (!ok && code == SQLITE_CONSTRAINT && which == PUT_LEASE)
        kr_fail(error, REFUSED, "store: another task holds a lease on this GPU");
    else if (!ok)
        sqlite_fail(rows->db, "write", error);
    sqlite3_reset(rows->stmt[which]);
    sqlite3_clear_bindings(rows->stmt[which]);
    return ok;
}

static void bind_text(sqlite3_stmt *stmt, int at, const char *text) {
    if (text)
        sqlite3_bind_text(stmt, at, text, -1, SQLITE_TRANSIENT);
}

static void bind_json(sqlite3_stmt *stmt, int at, json_t *json) {
    g_autofree char *text = jsonx_to_str(json);

    bind_text(stmt, at, text);
    json_decref(json);
}

static bool put_task(struct task_rows *rows, const struct task *task, GError **error) {
    sqlite3_stmt *stmt = rows->stmt[PUT_TASK];

    sqlite3_bind_int64(stmt, 1, task->id);
    sqlite3_bind_int64(stmt, 2, task->lease.epoch);
    bind_text(stmt, 3, task->lease.node);
    sqlite3_bind_int(stmt, 4, task->state);
    sqlite3_bind_int(stmt, 5, task->holds_lease);
    bind_text(stmt, 6, task->batch_id);
    bind_text(stmt, 7, task->target);
    bind_json(stmt, 8, task_spec_to_json(task->spec));
    bind_json(stmt, 9, lease_to_json(&task->lease));
    sqlite3_bind_int(stmt, 10, task->kill_requested);
    if (task->has_exit_code)
        sqlite3_bind_int(stmt, 11, task->exit_code);
    sqlite3_bind_int(stmt, 12, task->oom);
    bind_text(stmt, 13, task->reason);
    bind_text(stmt, 14, task->holding);
    sqlite3_bind_int64(stmt, 15, task->created_ms);
    sqlite3_bind_int64(stmt, 16, task->started_ms);
    sqlite3_bind_int64(stmt, 17, task->finished_ms);
    sqlite3_bind_int(stmt, 18, task->pause_requested);
    sqlite3_bind_int(stmt, 19, task->release_forced);
    bind_text(stmt, 20, task->spec->owner);
    return finish(rows, PUT_TASK, error);
}

/* What lists are filtered by. Never taken back: what a task was granted once, it was. */
static bool put_for_lists(struct task_rows *rows, const struct task *task, GError **error) {
    g_autofree char *text = store_task_text(task);

    sqlite3_bind_int64(rows->stmt[PUT_TEXT], 1, task->id);
    bind_text(rows->stmt[PUT_TEXT], 2, text);
    if (!finish(rows, PUT_TEXT, error))
        return false;
    for (size_t i = 0; i < task->lease.n_gpus; i++) {
        bind_text(rows->stmt[PUT_GPU], 1, task->lease.gpus[i].uuid);
        sqlite3_bind_int64(rows->stmt[PUT_GPU], 2, task->id);
        if (!finish(rows, PUT_GPU, error))
            return false;
    }
    return true;
}

bool task_rows_put(struct task_rows *rows, const struct task *task, GError **error) {
    if (!put_task(rows, task, error) || !put_for_lists(rows, task, error))
        return false;
    sqlite3_bind_int64(rows->stmt[DROP_LEASES], 1, task->id);
    if (!finish(rows, DROP_LEASES, error))
        return false;
    for (size_t i = 0; task->holds_lease && i < task->lease.n_gpus; i++) {
        bind_text(rows->stmt[PUT_LEASE], 1, task->lease.gpus[i].uuid);
        sqlite3_bind_int64(rows->stmt[PUT_LEASE], 2, task->id);
        if (!finish(rows, PUT_LEASE, error))
            return false;
    }
    return true;
}

bool task_rows_put_event(struct task_rows *rows, const struct task_event *event, int64_t at_ms, GError **error) {
    sqlite3_stmt *stmt = rows->stmt[PUT_EVENT];

    sqlite3_bind_int64(stmt, 1, event->task_id);
    sqlite3_bind_int64(stmt, 2, at_ms);
    bind_text(stmt, 3, event->text);
    return finish(rows, PUT_EVENT, error);
}

bool task_rows_has(struct task_rows *rows, uint32_t id) {
    sqlite3_stmt *stmt = rows->stmt[IS_THERE];
    bool is_there;

    sqlite3_bind_int64(stmt, 1, id);
    is_there = sqlite3_step(stmt) == SQLITE_ROW;
    sqlite3_reset(stmt);
    return is_there;
}

static const char *text_at(sqlite3_stmt *stmt, int column) { return (const char *)sqlite3_column_text(stmt, column); }

static json_t *json_at(sqlite3_stmt *stmt, int column) {
    const char *text = text_at(stmt, column);

    return text ? jsonx_parse(text, (size_t)sqlite3_column_bytes(stmt, column), NULL) : NULL;
}

struct task *task_rows_read(sqlite3_stmt *stmt, GError **error) {
    g_autoptr(GError) why = NULL;
    struct task *task = g_new0(struct task, 1);
    json_t *spec = json_at(stmt, 7);
    json_t *lease = json_at(stmt, 8);
    bool ok;

    task->id = (uint32_t)sqlite3_column_int64(stmt, 0);
    task->state = (enum task_state)sqlite3_column_int(stmt, 3);
    task->holds_lease = sqlite3_column_int(stmt, 4);
    task->batch_id = g_strdup(text_at(stmt, 5));
    task->target = g_strdup(text_at(stmt, 6));
    task->kill_requested = sqlite3_column_int(stmt, 9);
    task->has_exit_code = sqlite3_column_type(stmt, 10) != SQLITE_NULL;
    task->exit_code = sqlite3_column_int(stmt, 10);
    task->oom = sqlite3_column_int(stmt, 11);
    task->reason = g_strdup(text_at(stmt, 12));
    task->holding = g_strdup(text_at(stmt, 13));
    task->created_ms = sqlite3_column_int64(stmt, 14);
    task->started_ms = sqlite3_column_int64(stmt, 15);
    task->finished_ms = sqlite3_column_int64(stmt, 16);
    task->pause_requested = sqlite3_column_int(stmt, 17);
    task->release_forced = sqlite3_column_int(stmt, 18);
    task->spec = task_spec_from_json(spec, &why);
    ok = task->spec && lease_from_json(lease, &task->lease, &why) && task->state > TASK_UNSET &&
         task->state < TASK_STATE_COUNT_;
    json_decref(spec);
    json_decref(lease);
    if (ok)
        return task;
    kr_fail(error, IO, "store: the record of task %u is damaged: %s", task->id, why ? why->message : "unknown state");
    task_free(task);
    return NULL;
}

GPtrArray *task_rows_collect(sqlite3 *db, sqlite3_stmt *stmt, size_t max, int64_t max_bytes, bool *ret_is_cut,
                             GError **error) {
    GPtrArray *tasks = g_ptr_array_new_with_free_func((GDestroyNotify)task_free);
    int64_t bytes = 0;
    bool ok = true;
    int code;

    while ((code = sqlite3_step(stmt)) == SQLITE_ROW && tasks->len < max && bytes <= max_bytes) {
        struct task *task = task_rows_read(stmt, error);

        if (!(ok = task != NULL))
            break;
        g_ptr_array_add(tasks, task);
        bytes += sqlite3_column_bytes(stmt, 7);
    }
    if (ok && code != SQLITE_DONE && code != SQLITE_ROW)
        ok = sqlite_fail(db, "read", error);
    if (ret_is_cut)
        *ret_is_cut = code == SQLITE_ROW;
    if (!ok)
        g_clear_pointer(&tasks, g_ptr_array_unref);
    return tasks;
}

static GPtrArray *collect(struct task_rows *rows, enum statement which, GError **error) {
    GPtrArray *tasks = task_rows_collect(rows->db, rows->stmt[which], G_MAXSIZE, G_MAXINT64, NULL, error);

    sqlite3_reset(rows->stmt[which]);
    sqlite3_clear_bindings(rows->stmt[which]);
    return tasks;
}

GPtrArray *task_rows_query(struct task_rows *rows, const struct task_query *query, GError **error) {
    if (query->batch[0]) {
        bind_text(rows->stmt[QUERY_BATCH], 1, query->batch);
        sqlite3_bind_int(rows->stmt[QUERY_BATCH], 2, query->limit);
        return collect(rows, QUERY_BATCH, error);
    }
    sqlite3_bind_int64(rows->stmt[QUERY], 1, query->id);
    return collect(rows, QUERY, error);
}

GPtrArray *task_rows_events(struct task_rows *rows, uint32_t task_id, GError **error) {
    GPtrArray *events = g_ptr_array_new_with_free_func((GDestroyNotify)task_event_free);
    sqlite3_stmt *stmt = rows->stmt[QUERY_EVENTS];
    int code;

    sqlite3_bind_int64(stmt, 1, task_id);
    while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct task_event *event = task_event_new((uint32_t)sqlite3_column_int64(stmt, 0), text_at(stmt, 2));
        event->at_ms = sqlite3_column_int64(stmt, 1);
        g_ptr_array_add(events, event);
    }
    if (code != SQLITE_DONE) {
        sqlite_fail(rows->db, "read", error);
        g_clear_pointer(&events, g_ptr_array_unref);
    }
    sqlite3_reset(stmt);
    return events;
}

GPtrArray *task_rows_live(struct task_rows *rows, GError **error) { return collect(rows, QUERY_LIVE, error); }
