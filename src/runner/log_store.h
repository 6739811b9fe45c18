#pragma once
/* What tasks wrote: one file per task and stream in the runner's state folder, byte for byte, bounded in size. A full
 * file or disk never stops a task: what does not fit is counted and told at the end of the log. Old logs are removed
 * when there are more than a set number of them. */

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct log_store;

enum log_stream { LOG_STDOUT = 0, LOG_STDERR = 1, LOG_STREAM_COUNT };

/* `folder` is made when missing. max_bytes per stream; keep_tasks finished tasks keep their logs. */
struct log_store *log_store_new(const char *folder, int64_t max_bytes, int keep_tasks, GError **error);
void log_store_free(struct log_store *store);

/* Makes the (empty) files, so that a task without output has a log too. */
void log_store_create(struct log_store *store, uint32_t task_id);
/* Appends. A write that fails is remembered as dropped bytes and logged once per task. */
void log_store_append(struct log_store *store, uint32_t task_id, enum log_stream stream, const void *bytes, size_t len);
/* Bytes stored of one stream. After a restart the executor reads the engine's log from its beginning and skips that
 * many: nothing is lost, nothing comes twice. */
int64_t log_store_size(const struct log_store *store, uint32_t task_id, enum log_stream stream);
/* The task is over: a line about dropped bytes is added where there are any; files are closed; old logs go. */
void log_store_finish(struct log_store *store, uint32_t task_id);

/* Reads up to len bytes at offset; *ret_n 0 at the end. KR_ERROR_NOT_FOUND when there is no log (any more). */
bool log_store_read(struct log_store *store, uint32_t task_id, enum log_stream stream, int64_t offset, void *buf,
                    size_t len, size_t *ret_n, GError **error);
