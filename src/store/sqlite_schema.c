#include "store/sqlite_schema.h"

#include <errno.h>

static const char *const migrations[] = {
    /* 1 */
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE tasks ("
    "  id INTEGER PRIMARY KEY,"
    "  epoch INTEGER NOT NULL,"
    "  node TEXT NOT NULL,"
    "  state INTEGER NOT NULL," /* enum task_state */
    "  holds_lease INTEGER NOT NULL,"
    "  batch_id TEXT NOT NULL,"
    "  target TEXT NOT NULL,"
    "  spec TEXT NOT NULL,"  /* JSON of task_spec */
    "  lease TEXT NOT NULL," /* JSON of lease */
    "  kill_requested INTEGER NOT NULL,"
    "  exit_code INTEGER,"
    "  oom INTEGER NOT NULL,"
    "  reason TEXT,"
    "  holding TEXT,"
    "  created_ms INTEGER NOT NULL,"
    "  started_ms INTEGER NOT NULL,"
    "  finished_ms INTEGER NOT NULL);"
    "CREATE INDEX tasks_live ON tasks (id) WHERE holds_lease = 1;"
    "CREATE INDEX tasks_node ON tasks (node, id);"
    "CREATE INDEX tasks_epoch ON tasks (epoch);"
    "CREATE TABLE gpu_leases ("
    "  gpu_uuid TEXT PRIMARY KEY," /* R1: one exclusive holder */
    "  task_id INTEGER NOT NULL REFERENCES tasks (id)) WITHOUT ROWID;"
    "CREATE INDEX gpu_leases_task ON gpu_leases (task_id);"
    "CREATE TABLE nodes (name TEXT PRIMARY KEY, credential_hash TEXT NOT NULL, info TEXT) WITHOUT ROWID;",
    /* 2: pausing, forced release, operators, repeatable submissions */
    "ALTER TABLE tasks ADD COLUMN pause_requested INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE tasks ADD COLUMN release_forced INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX tasks_batch ON tasks (batch_id);"
    "CREATE TABLE marks ("
    "  subject TEXT PRIMARY KEY," /* node:NAME or gpu:UUID */
    "  is_drain INTEGER NOT NULL, who TEXT NOT NULL, reason TEXT NOT NULL, since_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, who TEXT NOT NULL,"
    "  action TEXT NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL);"
    "CREATE TABLE submit_keys (key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, batch_id TEXT NOT NULL,"
    "  at_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX submit_keys_at ON submit_keys (at_ms);",
    /* 3: what happened to tasks; faults of cards that operators have seen to */
    "CREATE TABLE task_events (task_id INTEGER NOT NULL, at_ms INTEGER NOT NULL, text TEXT NOT NULL);"
    "CREATE INDEX task_events_task ON task_events (task_id);"
    "CREATE TABLE pardons (uuid TEXT PRIMARY KEY, pardon TEXT NOT NULL) WITHOUT ROWID;",
    /* 4: machines */
    "CREATE TABLE vps (id INTEGER PRIMARY KEY AUTOINCREMENT, vps TEXT NOT NULL);",
    /* 5: lists of very many tasks, filtered (task_list.c); the log of orders by what they were about */
    "ALTER TABLE tasks ADD COLUMN owner TEXT;"
    "UPDATE tasks SET owner = json_extract(spec, '$.owner') WHERE json_valid(spec);"
    "CREATE INDEX tasks_state ON tasks (state, id);"
    "CREATE INDEX tasks_node_state ON tasks (node, state, id);"
    "CREATE INDEX tasks_owner_state ON tasks (owner, state, id);"
    "CREATE TABLE task_gpus (" /* every card that a task was ever granted; gpu_leases has those that are held */
    "  gpu_uuid TEXT NOT NULL, task_id INTEGER NOT NULL, PRIMARY KEY (gpu_uuid, task_id)) WITHOUT ROWID;"
    "INSERT OR IGNORE INTO task_gpus SELECT json_extract(gpu.value, '$.uuid'), tasks.id"
    "  FROM tasks, json_each(tasks.lease, '$.gpus') AS gpu"
    "  WHERE json_valid(tasks.lease) AND json_extract(gpu.value, '$.uuid') IS NOT NULL;"
    "CREATE TABLE task_texts (" /* what a search looks into, in small letters: apart, so that it is read without the rest */
    "  task_id INTEGER PRIMARY KEY, text TEXT NOT NULL);"
    "INSERT INTO task_texts SELECT id, substr(lower(id || char(10) || ifnull(json_extract(spec, '$.name'), '') || "
    "char(10)"
    "  || (SELECT ifnull(group_concat(value, ' '), '') FROM json_each(tasks.spec, '$.command'))), 1, 4096)"
    "  FROM tasks WHERE json_valid(spec);"
    "CREATE INDEX audit_subject ON audit (subject, id);",
};

bool sqlite_fail(sqlite3 *db, const char *what, GError **error) {
    int code = sqlite3_errcode(db);
    bool no_space = code == SQLITE_FULL || (code == SQLITE_IOERR && sqlite3_system_errno(db) == ENOSPC);

    return kr_fail_at(error, no_space ? KR_ERROR_STORAGE : KR_ERROR_IO, "store: %s: %s", what, sqlite3_errmsg(db));
}

bool sqlite_run(sqlite3 *db, const char *sql, GError **error) {
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK || sqlite_fail(db, "write", error);
}

static int user_version(sqlite3 *db) {
    sqlite3_stmt *stmt = NULL;
    int version = -1;

    if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &stmt, NULL) == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW)
        version = sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);
    return version;
}

bool sqlite_migrate(sqlite3 *db, GError **error) {
    int newest = (int)G_N_ELEMENTS(migrations);
    int version = user_version(db);

    if (version < 0)
        return sqlite_fail(db, "read", error);
    if (version > newest)
        return kr_fail(error, IO, "store: it was written by a newer version of this program (schema %d, known: %d)",
                       version, newest);
    for (int i = version; i < newest; i++) {
        g_autofree char *sql = g_strdup_printf("BEGIN IMMEDIATE; %s PRAGMA user_version = %d; COMMIT;", migrations[i],
                                               i + 1);
        if (!sqlite_run(db, sql, error)) {
            sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
            return false;
        }
    }
    return true;
}
