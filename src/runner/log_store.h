#pragma once
/* The tasks' output on this node: logs/ID.stdout, logs/ID.stderr, and logs/ID.pos, which says how far the engine's own
 * record has been taken over: for each stream the time stamp of the last entry, how many entries carry that stamp, and the file's
 * length. After a crash the files are cut back to that and the engine is asked for everything since: nothing
 * twice, nothing missing, as long as the engine still has it and its clock does not go back.
 * Each file is bounded: what comes beyond the limit, or does not fit on the disk, is counted and not stored, and a
 * last line says so. Bytes are stored as they are. Blocking writes to the page cache, no fsync. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"

struct log_store;
struct log_writer;

/* Makes the folder. NULL with KR_ERROR_IO or _STORAGE. */
struct log_store *log_store_new(const char *state_dir, int64_t max_bytes, GError **error);
void log_store_free(struct log_store *store);

/* Begins or, for the same epoch, goes on. An older epoch's output is dropped. Never NULL: when files cannot be made or the
 * position cannot be read, the writer leaves them alone, counts what it could not store, and looks again at each
 * log_writer_since_ns. */
struct log_writer *log_writer_open(struct log_store *store, uint32_t task_id, int64_t epoch);
/* Writes down how far we are and lets go. */
void log_writer_close(struct log_writer *writer);
/* Ask the engine for entries from here on. Also begins the replay: what is known already is passed over. */
int64_t log_writer_since_ns(struct log_writer *writer);
void log_writer_entry(struct log_writer *writer, enum engine_stream stream, int64_t time_ns);
void log_writer_bytes(struct log_writer *writer, const char *bytes, size_t len);
void log_writer_entry_end(struct log_writer *writer);
void log_writer_batch(struct log_writer *writer);
/* Bytes taken over so far, dropped ones included: grows with what is new, not with a replay. */
int64_t log_writer_position(const struct log_writer *writer);
/* No more will come: adds the line that says what is missing, if something is. `lost` NULL, or why the end is missing. */
void log_writer_finish(struct log_writer *writer, const char *lost);

/* An open file to read, O_CLOEXEC, the caller's; -1 when the stream has no bytes (yet). */
int log_store_open(const struct log_store *store, uint32_t task_id, enum engine_stream stream);
/* Was there ever output, or an attempt at it, of this task? */
bool log_store_knows(const struct log_store *store, uint32_t task_id);

/* Removes the oldest until at most keep_tasks tasks and keep_bytes are there; tasks for which is_live is true stay. */
void log_store_prune(struct log_store *store, int64_t keep_tasks, int64_t keep_bytes,
                     bool (*is_live)(void *user, uint32_t task_id), void *user);
