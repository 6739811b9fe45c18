#pragma once
/* The schema, as numbered migrations. A migration that was released is never edited; a new one is added at the end. */

#include <sqlite3.h>
#include <stdbool.h>

#include "base/error.h"

/* Brings an open database to the newest version, in one transaction. */
bool sqlite_migrate(sqlite3 *db, GError **error);

/* Sets an error from the connection's state: KR_ERROR_STORAGE for a full disk. Returns false. */
bool sqlite_fail(sqlite3 *db, const char *what, GError **error);

/* Runs statements without results. */
bool sqlite_run(sqlite3 *db, const char *sql, GError **error);
