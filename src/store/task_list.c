/* Every filter has its index, and every index ends with the task's id, so that a page is read from where it begins: what it costs
 * does not grow with the tasks that there are. Tasks in several states are the newest of each state, put together. A search is the
 * exception, it reads texts (narrow rows of a table of their own) until the page is full. */

#include "store/task_list.h"

#include <string.h>

#include "base/error.h"
#include "store/sqlite_schema.h"
#include "store/task_rows.h"

enum { MAX_ANSWER_BYTES = 16 * 1024 * 1024 }; /* of specs: a page of large ones is shorter than was asked for */

char *store_task_text(const struct task *task) {
    const struct task_spec *spec = task->spec;
    g_autoptr(GString) text = g_string_new(NULL);
    const char *end;

    g_string_printf(text, "%u\n%s\n", task->id, spec->name ? spec->name : "");
    for (char **word = spec->argv; word && *word && text->len < TASK_TEXT_MAX_BYTES; word++)
        g_string_append_printf(text, "%s%s", word == spec->argv ? "" : " ", *word);
    if (text->len > TASK_TEXT_MAX_BYTES)
        g_string_truncate(text, TASK_TEXT_MAX_BYTES);
    if (!g_utf8_validate(text->str, (gssize)text->len, &end))
        g_string_truncate(text, (gsize)(end - text->str));
    return g_utf8_strdown(text->str, -1);
}

/* ---- the statement ---- */

static void add_page(GString *sql, bool is_page, const char *id) {
    if (is_page)
        g_string_append_printf(sql, " AND %s < :before ORDER BY %s DESC LIMIT :limit", id, id);
}

/* Nothing but a search: through the texts alone. */
static void add_search(GString *sql, bool is_page) {
    g_string_append(sql, "SELECT hit FROM (SELECT task_id AS hit FROM task_texts WHERE instr(text, :search) > 0");
    add_page(sql, is_page, "task_id");
    g_string_append_c(sql, ')');
}

/* Ids of the tasks for which `condition` is true, by `index` ("": by id); of those of a card by that. */
static void add_branch(GString *sql, const struct task_filter *f, bool is_page, const char *index,
                       const char *condition) {
    g_string_append(sql, sql->len ? " UNION ALL SELECT hit FROM (" : "SELECT hit FROM (");
    if (f->gpu[0])
        g_string_append(sql, "SELECT g.task_id AS hit FROM task_gpus g CROSS JOIN tasks t ON t.id = g.task_id"
                             " WHERE g.gpu_uuid = :gpu");
    else
        g_string_append_printf(sql, "SELECT t.id AS hit FROM tasks t%s%s WHERE 1", index[0] ? " INDEXED BY " : "",
                               index);
    g_string_append(sql, condition);
    if (f->owner[0])
        g_string_append(sql, " AND t.owner = :owner");
    if (f->node[0])
        g_string_append(sql, " AND t.node = :node");
    if (f->search[0])
        g_string_append(sql, " AND instr((SELECT text FROM task_texts WHERE task_id = t.id), :search) > 0");
    add_page(sql, is_page, f->gpu[0] ? "g.task_id" : "t.id");
    g_string_append_c(sql, ')');
}

static const char *index_of_states(const struct task_filter *f) {
    return f->owner[0] ? "tasks_owner_state" : f->node[0] ? "tasks_node_state" : "tasks_state";
}

/* No id comes twice: a task has one state, and the branch of leases leaves the states out that have their own. */
static char *ids_sql(const struct task_filter *f, bool is_page) {
    GString *sql = g_string_new(NULL);
    g_autoptr(GString) others = g_string_new(" AND t.holds_lease = 1");
    /* the index by owner has the state before the id */
    unsigned states = f->states || f->holds_lease || !f->owner[0] ? f->states : ~0U;

    for (int state = TASK_UNSET + 1; state < TASK_STATE_COUNT_; state++) {
        g_autofree char *condition = g_strdup_printf(" AND t.state = %d", state);

        if (!(states >> state & 1))
            continue;
        add_branch(sql, f, is_page, index_of_states(f), condition);
        g_string_append_printf(others, " AND t.state <> %d", state);
    }
    if (f->holds_lease)
        add_branch(sql, f, is_page, "tasks_live", others->str);
    if (sql->len == 0 && f->search[0] && !f->gpu[0] && !f->node[0])
        add_search(sql, is_page);
    else if (sql->len == 0)
        add_branch(sql, f, is_page, f->node[0] ? "tasks_node" : "", "");
    return g_string_free(sql, FALSE);
}

static void bind_text(sqlite3_stmt *stmt, const char *name, const char *text) {
    int at = sqlite3_bind_parameter_index(stmt, name);

    if (at)
        sqlite3_bind_text(stmt, at, text, -1, SQLITE_STATIC);
}

static void bind_int(sqlite3_stmt *stmt, const char *name, int64_t value) {
    int at = sqlite3_bind_parameter_index(stmt, name);

    if (at)
        sqlite3_bind_int64(stmt, at, value);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql, const struct task_filter *f, const char *search,
                             GError **error) {
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK) {
        sqlite_fail(db, "read", error);
        return NULL;
    }
    bind_text(stmt, ":owner", f->owner);
    bind_text(stmt, ":node", f->node);
    bind_text(stmt, ":gpu", f->gpu);
    bind_text(stmt, ":search", search);
    bind_int(stmt, ":before", f->before ? (int64_t)f->before : G_MAXINT64);
    bind_int(stmt, ":limit", (int64_t)f->limit + 1); /* one more tells whether there is more */
    return stmt;
}

/* ---- the answer ---- */

static bool read_page(sqlite3 *db, const struct task_filter *f, const char *search, struct task_page *ret_page,
                      GError **error) {
    g_autofree char *ids = ids_sql(f, true);
    g_autofree char *sql = g_strdup_printf("SELECT " TASK_ROW_COLUMNS
                                           " FROM (%s ORDER BY hit DESC LIMIT :limit) CROSS JOIN tasks t ON t.id = hit"
                                           " ORDER BY hit DESC",
                                           ids);
    sqlite3_stmt *stmt = prepare(db, sql, f, search, error);

    if (stmt)
        ret_page->tasks = task_rows_collect(db, stmt, (size_t)f->limit, MAX_ANSWER_BYTES, &ret_page->has_more, error);
    sqlite3_finalize(stmt);
    return ret_page->tasks != NULL;
}

static bool read_total(sqlite3 *db, const struct task_filter *f, const char *search, int64_t *ret_total,
                       GError **error) {
    g_autofree char *ids = ids_sql(f, false);
    g_autofree char *sql = g_strdup_printf("SELECT count(*) FROM (%s)", ids);
    sqlite3_stmt *stmt = prepare(db, sql, f, search, error);
    bool ok = stmt && sqlite3_step(stmt) == SQLITE_ROW;

    if (ok)
        *ret_total = sqlite3_column_int64(stmt, 0);
    else if (stmt)
        sqlite_fail(db, "read", error);
    sqlite3_finalize(stmt);
    return ok;
}

bool task_list_page(sqlite3 *db, const struct task_filter *filter, struct task_page *ret_page, GError **error) {
    g_autofree char *search = g_utf8_strdown(filter->search, -1);
    struct task_page page = {0};

    if (filter->wants_total && !read_total(db, filter, search, &page.total, error))
        return false;
    if (!read_page(db, filter, search, &page, error))
        return false;
    *ret_page = page;
    return true;
}
