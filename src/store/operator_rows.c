#include "store/operator_rows.h"

#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "store/sqlite_schema.h"

enum { KEY_KEPT_MS = 24 * 3600 * 1000 };

/* Text or number, bound in order. */
struct value {
    const char *text;
    int64_t number;
    bool is_number;
};
#define TEXT(t) \
    { .text = (t) }
#define NUMBER(n) \
    { .number = (n), .is_number = true }

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql, const struct value *values, size_t n, GError **error) {
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK) {
        sqlite_fail(db, "prepare", error);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        if (values[i].is_number)
            sqlite3_bind_int64(stmt, (int)i + 1, values[i].number);
        else
            sqlite3_bind_text(stmt, (int)i + 1, values[i].text, -1, SQLITE_TRANSIENT);
    }
    return stmt;
}

static bool run(sqlite3 *db, const char *sql, const struct value *values, size_t n, GError **error) {
    sqlite3_stmt *stmt = prepare(db, sql, values, n, error);
    bool ok = stmt && (sqlite3_step(stmt) == SQLITE_DONE || sqlite_fail(db, "write", error));

    sqlite3_finalize(stmt);
    return ok;
}

static bool put_mark(sqlite3 *db, const struct mark *mark, GError **error) {
    const struct value values[] = {TEXT(mark->subject), NUMBER(mark->is_drain), TEXT(mark->who), TEXT(mark->reason),
                                   NUMBER(mark->since_ms)};

    return run(db, "INSERT OR REPLACE INTO marks (subject, is_drain, who, reason, since_ms) VALUES (?1,?2,?3,?4,?5)",
               values, G_N_ELEMENTS(values), error);
}

static bool put_audit(sqlite3 *db, const struct audit_entry *entry, GError **error) {
    const struct value values[] = {NUMBER(entry->at_ms), TEXT(entry->who), TEXT(entry->action), TEXT(entry->subject),
                                   TEXT(entry->text)};

    return run(db, "INSERT INTO audit (at_ms, who, action, subject, text) VALUES (?1,?2,?3,?4,?5)", values,
               G_N_ELEMENTS(values), error);
}

static bool put_key(sqlite3 *db, const struct submit_key *key, GError **error) {
    const struct value values[] = {TEXT(key->key), TEXT(key->fingerprint), TEXT(key->batch_id), NUMBER(key->at_ms)};
    const struct value oldest = NUMBER(key->at_ms - KEY_KEPT_MS);

    return run(db, "DELETE FROM submit_keys WHERE at_ms < ?1", &oldest, 1, error) &&
           run(db, "INSERT OR REPLACE INTO submit_keys (key, fingerprint, batch_id, at_ms) VALUES (?1,?2,?3,?4)",
               values, G_N_ELEMENTS(values), error);
}

static bool put_pardon(sqlite3 *db, const struct pardon *pardon, GError **error) {
    json_t *json = pardon_to_json(pardon);
    g_autofree char *text = jsonx_to_str(json);
    const struct value values[] = {TEXT(pardon->uuid), TEXT(text)};

    json_decref(json);
    return run(db, "INSERT OR REPLACE INTO pardons (uuid, pardon) VALUES (?1,?2)", values, G_N_ELEMENTS(values), error);
}

static bool put_vps(sqlite3 *db, const struct vps *vps, GError **error) {
    json_t *json = vps_to_json(vps);
    g_autofree char *text = jsonx_to_str(json);
    const struct value values[] = {NUMBER(vps->id), TEXT(text)};

    json_decref(json);
    return run(db, "INSERT OR REPLACE INTO vps (id, vps) VALUES (?1,?2)", values, G_N_ELEMENTS(values), error);
}

bool operator_rows_put(sqlite3 *db, const struct record *record, GError **error) {
    const struct value unmark = TEXT(record->unmark), vps_gone = NUMBER(record->vps_gone);

    return (!record->mark || put_mark(db, record->mark, error)) &&
           (!record->unmark || run(db, "DELETE FROM marks WHERE subject = ?1", &unmark, 1, error)) &&
           (!record->vps || put_vps(db, record->vps, error)) &&
           (!record->vps_gone || run(db, "DELETE FROM vps WHERE id = ?1", &vps_gone, 1, error)) &&
           (!record->pardon || put_pardon(db, record->pardon, error)) &&
           (!record->audit || put_audit(db, record->audit, error)) && (!record->key || put_key(db, record->key, error));
}

/* ---- reading ---- */

static const char *text_at(sqlite3_stmt *stmt, int column) { return (const char *)sqlite3_column_text(stmt, column); }

static void *read_mark(sqlite3_stmt *stmt) {
    return mark_new(text_at(stmt, 0), sqlite3_column_int(stmt, 1), text_at(stmt, 2), text_at(stmt, 3),
                    sqlite3_column_int64(stmt, 4));
}

static void *read_key(sqlite3_stmt *stmt) {
    struct submit_key *key = g_new0(struct submit_key, 1);

    *key = (struct submit_key){g_strdup(text_at(stmt, 0)), g_strdup(text_at(stmt, 1)), g_strdup(text_at(stmt, 2)),
                               sqlite3_column_int64(stmt, 3)};
    return key;
}

static void *read_audit(sqlite3_stmt *stmt) {
    struct audit_entry *entry = audit_new(sqlite3_column_int64(stmt, 1), text_at(stmt, 2), text_at(stmt, 3),
                                          text_at(stmt, 4), text_at(stmt, 5));

    entry->id = sqlite3_column_int64(stmt, 0);
    return entry;
}

/* Takes the statement. */
static GPtrArray *collect(sqlite3 *db, sqlite3_stmt *stmt, void *(*read)(sqlite3_stmt *), GDestroyNotify row_free,
                          GError **error) {
    GPtrArray *rows = g_ptr_array_new_with_free_func(row_free);
    int code = SQLITE_ERROR;

    while (stmt && (code = sqlite3_step(stmt)) == SQLITE_ROW)
        g_ptr_array_add(rows, read(stmt));
    if (code != SQLITE_DONE) {
        if (stmt)
            sqlite_fail(db, "read", error);
        g_clear_pointer(&rows, g_ptr_array_unref);
    }
    sqlite3_finalize(stmt);
    return rows;
}

GPtrArray *operator_rows_marks(sqlite3 *db, GError **error) {
    sqlite3_stmt *stmt = prepare(db, "SELECT subject, is_drain, who, reason, since_ms FROM marks", NULL, 0, error);

    return collect(db, stmt, read_mark, (GDestroyNotify)mark_free, error);
}

/* One that cannot be read pardons nothing. */
static void *read_pardon(sqlite3_stmt *stmt) {
    const char *text = text_at(stmt, 0);
    json_t *json = text ? jsonx_parse(text, strlen(text), NULL) : NULL;
    struct pardon *pardon = json ? pardon_from_json(json, NULL) : NULL;

    json_decref(json);
    return pardon ? pardon : g_new0(struct pardon, 1);
}

GPtrArray *operator_rows_pardons(sqlite3 *db, GError **error) {
    sqlite3_stmt *stmt = prepare(db, "SELECT pardon FROM pardons", NULL, 0, error);

    return collect(db, stmt, read_pardon, (GDestroyNotify)pardon_free, error);
}

GPtrArray *operator_rows_vps(sqlite3 *db, GError **error) {
    GPtrArray *machines = g_ptr_array_new_with_free_func((GDestroyNotify)vps_free);
    sqlite3_stmt *stmt = prepare(db, "SELECT vps FROM vps ORDER BY id", NULL, 0, error);
    int code = SQLITE_ERROR;

    while (stmt && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        const char *text = text_at(stmt, 0);
        json_t *json = text ? jsonx_parse(text, strlen(text), error) : NULL;
        struct vps *vps = json ? vps_from_json(json, error) : NULL;

        json_decref(json);
        if (!vps)
            break;
        g_ptr_array_add(machines, vps);
    }
    if (code != SQLITE_DONE) {
        if (stmt && code != SQLITE_ROW)
            sqlite_fail(db, "read", error);
        g_clear_pointer(&machines, g_ptr_array_unref);
    }
    sqlite3_finalize(stmt);
    return machines;
}

GPtrArray *operator_rows_keys(sqlite3 *db, GError **error) {
    const struct value oldest = NUMBER(clock_wall_ms() - KEY_KEPT_MS);
    sqlite3_stmt *stmt = prepare(db, "SELECT key, fingerprint, batch_id, at_ms FROM submit_keys WHERE at_ms >= ?1",
                                 &oldest, 1, error);

    return collect(db, stmt, read_key, (GDestroyNotify)submit_key_free, error);
}

GPtrArray *operator_rows_audit(sqlite3 *db, const struct audit_query *query, GError **error) {
    const struct value values[] = {NUMBER(query->before ? query->before : G_MAXINT64), NUMBER(query->limit),
                                   TEXT(query->subject)};
    sqlite3_stmt *stmt = prepare(db,
                                 query->subject ? "SELECT id, at_ms, who, action, subject, text FROM audit"
                                                  " WHERE subject = ?3 AND id < ?1 ORDER BY id DESC LIMIT ?2"
                                                : "SELECT id, at_ms, who, action, subject, text FROM audit"
                                                  " WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
                                 values, query->subject ? 3 : 2, error);

    return collect(db, stmt, read_audit, (GDestroyNotify)audit_free, error);
}
