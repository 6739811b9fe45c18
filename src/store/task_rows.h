#pragma once
/* Tasks as rows: the one place that knows the columns. Statements are prepared once per connection. */

#include <sqlite3.h>

#include "store/store.h"

struct task_rows;

/* What task_rows_read wants in a row, in this order. `t` is the table's name in the query. */
#define TASK_ROW_COLUMNS                                                                                       \
    "t.id, t.epoch, t.node, t.state, t.holds_lease, t.batch_id, t.target, t.spec, t.lease, t.kill_requested, " \
    "t.exit_code, t.oom, t.reason, t.holding, t.created_ms, t.started_ms, t.finished_ms, t.pause_requested, "  \
    "t.release_forced"
struct task *task_rows_read(sqlite3_stmt *stmt, GError **error);
/* Steps through a query whose rows are tasks, until there are `max` of them or their specs have more than `max_bytes`; *ret_is_cut
 * (may be NULL): there are more. Caller unrefs; NULL on error. */
GPtrArray *task_rows_collect(sqlite3 *db, sqlite3_stmt *stmt, size_t max, int64_t max_bytes, bool *ret_is_cut,
                             GError **error);

/* For the writer's connection (can_write) or a reader's. NULL with an error. */
struct task_rows *task_rows_new(sqlite3 *db, bool can_write, GError **error);
void task_rows_free(struct task_rows *rows);

/* Inserts or replaces the task and makes its rows in gpu_leases follow holds_lease. Inside the caller's transaction.
 * KR_ERROR_REFUSED when another task has a lease on one of its GPUs. */
bool task_rows_put(struct task_rows *rows, const struct task *task, GError **error);

/* Is a task of that id there? */
bool task_rows_has(struct task_rows *rows, uint32_t id);

/* One by its id, or a batch as it was submitted; of struct task, caller unrefs. */
GPtrArray *task_rows_query(struct task_rows *rows, const struct task_query *query, GError **error);
/* Adds what happened, at at_ms. */
bool task_rows_put_event(struct task_rows *rows, const struct task_event *event, int64_t at_ms, GError **error);
/* Of struct task_event, oldest first. NULL on error. */
GPtrArray *task_rows_events(struct task_rows *rows, uint32_t task_id, GError **error);
GPtrArray *task_rows_live(struct task_rows *rows, GError **error);
