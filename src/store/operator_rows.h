#pragma once
/* Operators' marks and pardons, the audit log and the keys of submissions as rows. Small and seldom written: statements are prepared
 * when they are needed. All inside the caller's transaction. */

#include <sqlite3.h>

#include "core/record.h"
#include "store/store.h"

/* Whatever of the record is not a task. */
bool operator_rows_put(sqlite3 *db, const struct record *record, GError **error);
/* Of struct mark; of struct submit_key, those younger than a day. NULL on error; the arrays own what is in them. */
GPtrArray *operator_rows_marks(sqlite3 *db, GError **error);
GPtrArray *operator_rows_pardons(sqlite3 *db, GError **error); /* of struct pardon, the same */
GPtrArray *operator_rows_vps(sqlite3 *db, GError **error);     /* of struct vps, the same */
GPtrArray *operator_rows_keys(sqlite3 *db, GError **error);
/* Of struct audit_entry, newest first. */
GPtrArray *operator_rows_audit(sqlite3 *db, const struct audit_query *query, GError **error);
