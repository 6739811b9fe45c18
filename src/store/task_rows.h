#pragma once
/* Tasks as rows: the one place that knows the columns. Statements are prepared once per connection. */

#include <sqlite3.h>

#include "store/store.h"

struct task_rows;

/* For the writer's connection (can_write) or a reader's. NULL with an error. */
struct task_rows *task_rows_new(sqlite3 *db, bool can_write, GError **error);
void task_rows_free(struct task_rows *rows);

/* Inserts or replaces the task and makes its rows in gpu_leases follow holds_lease. Inside the caller's transaction.
 * KR_ERROR_REFUSED when another task has a lease on one of its GPUs. */
bool task_rows_put(struct task_rows *rows, const struct task *task, GError **error);

/* Is a task of that id there? */
bool task_rows_has(struct task_rows *rows, uint32_t id);

/* Newest first (a batch: as it was submitted); of struct task, caller unrefs. */
GPtrArray *task_rows_query(struct task_rows *rows, const struct task_query *query, GError **error);
/* Adds what happened, at at_ms. */
bool task_rows_put_event(struct task_rows *rows, const struct task_event *event, int64_t at_ms, GError **error);
/* Of struct task_event, oldest first. NULL on error. */
GPtrArray *task_rows_events(struct task_rows *rows, uint32_t task_id, GError **error);
GPtrArray *task_rows_live(struct task_rows *rows, GError **error);
