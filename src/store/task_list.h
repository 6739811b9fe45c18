#pragma once
/* Pages of the list of all tasks, by any mix of filters, out of hundreds of thousands. Inside the caller's transaction. */

#include <sqlite3.h>

#include "store/store.h"

/* *ret_page is the caller's, untouched on failure. */
bool task_list_page(sqlite3 *db, const struct task_filter *filter, struct task_page *ret_page, GError **error);
