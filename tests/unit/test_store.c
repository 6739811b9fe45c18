/* The store: durable, one holder per card, and honest about a full disk. */

#include <glib/gstdio.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "store/store.h"
#include "store/task_list.h"

struct bed {
    uv_loop_t loop;
    char *dir, *path;
    struct store *store;
    int answered, failed;
    char *error;
    GPtrArray *ids; /* of the last query */
    bool has_more;  /* of the last page */
    int64_t total;
    GPtrArray *refused; /* ids */
};

static void on_recorded(void *user, struct record *record, const GError *error) {
    struct bed *bed = user;

    record_free(record);
    bed->answered++;
    bed->failed += error != NULL;
    if (error) {
        g_free(bed->error);
        bed->error = g_strdup(error->message);
    }
}

static void reopen(struct bed *bed) {
    g_autoptr(GError) error = NULL;

    store_close(bed->store);
    uv_run(&bed->loop, UV_RUN_NOWAIT);
    bed->store = store_open(&bed->loop, bed->path, &error);
    g_assert_no_error(error);
    store_set_record_cb(bed->store, on_recorded, bed);
}

static struct bed *bed_new(void) {
    struct bed *bed = g_new0(struct bed, 1);

    uv_loop_init(&bed->loop);
    bed->dir = g_dir_make_tmp("kr-store-XXXXXX", NULL);
    bed->path = g_build_filename(bed->dir, "test.db", NULL);
    bed->ids = g_ptr_array_new();
    reopen(bed);
    return bed;
}

static void bed_free(struct bed *bed) {
    static const char *const suffixes[] = {"", "-wal", "-shm"};

    store_close(bed->store);
    uv_run(&bed->loop, UV_RUN_DEFAULT);
    g_assert_cmpint(uv_loop_close(&bed->loop), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        g_autofree char *file = g_strconcat(bed->path, suffixes[i], NULL);
        g_unlink(file);
    }
    g_rmdir(bed->dir);
    g_ptr_array_unref(bed->ids);
    g_free(bed->error);
    g_free(bed->dir);
    g_free(bed->path);
    g_free(bed);
}

static struct task *make_task(uint32_t id, const char *gpu, enum task_state state) {
    const char *argv[] = {"echo", "a b", "é\n", NULL};
    struct task_spec spec = {.argv = (char **)(uintptr_t)argv};
    struct task *task = g_new0(struct task, 1);

    task->id = id;
    task->batch_id = g_strdup("b1");
    task->target = g_strdup("n::0");
    task->spec = task_spec_copy(&spec);
    task->lease = (struct lease){
        .task_id = id, .epoch = id, .node = "n", .numa = TARGET_NO_NUMA, .n_gpus = gpu ? 1 : 0};
    if (gpu)
        g_strlcpy(task->lease.gpus[0].uuid, gpu, sizeof task->lease.gpus[0].uuid);
    task->state = state;
    task->holds_lease = !task_state_is_terminal(state);
    task->created_ms = 1000 + id;
    return task;
}

static void put(struct bed *bed, struct task *task) { store_record(bed->store, record_of_task(task)); }

static void wait_for(struct bed *bed, int answered) {
    while (bed->answered < answered)
        uv_run(&bed->loop, UV_RUN_NOWAIT);
}

static void test_survives(void) {
    struct bed *bed = bed_new();
    struct store_contents had;
    const struct task *task;

    put(bed, make_task(1, "GPU-a", TASK_RUNNING));
    put(bed, make_task(2, NULL, TASK_COMPLETED));
    store_put_node(bed->store, "n", "hash", NULL, NULL, NULL);
    reopen(bed); /* closing answers and writes what waits */
    g_assert_cmpint(bed->answered, ==, 2);
    g_assert_cmpint(bed->failed, ==, 0);
    g_assert_true(store_load(bed->store, &had, NULL));
    g_assert_cmpuint(had.live_tasks->len, ==, 1); /* live ones only */
    g_assert_cmpuint(had.last_task_id, ==, 2);
    g_assert_cmpint(had.last_epoch, ==, 2);
    task = had.live_tasks->pdata[0];
    g_assert_cmpstr(task->lease.gpus[0].uuid, ==, "GPU-a");
    g_assert_cmpstr(task->spec->argv[2], ==, "é\n");
    g_assert_cmpuint(had.nodes->len, ==, 1);
    g_assert_cmpstr(((const struct store_node *)had.nodes->pdata[0])->credential_hash, ==, "hash");
    store_contents_clear(&had);
    bed_free(bed);
}

static void on_events(void *user, const GPtrArray *events, const GError *error) {
    g_assert_null(error);
    g_ptr_array_set_size(((struct bed *)user)->ids, 0);
    for (guint i = 0; i < events->len; i++) {
        const struct task_event *event = events->pdata[i];
        g_assert_cmpint(event->at_ms, >, 0);
        g_ptr_array_add(((struct bed *)user)->ids, (gpointer)g_intern_string(event->text));
    }
    ((struct bed *)user)->answered++;
}

static void test_events_and_pardons(void) {
    struct bed *bed = bed_new();
    struct gpu *gpu = gpu_new();
    struct record *record = record_of_task(make_task(7, "GPU-a", TASK_RUNNING));
    struct store_contents had;

    g_strlcpy(gpu->uuid, "GPU-a", sizeof gpu->uuid);
    gpu_note_xid(gpu, 95, 2, 1000);
    record->pardon = pardon_of_gpu(gpu, "boot", 1000);
    g_ptr_array_add(record->events, task_event_new(7, "running"));
    g_ptr_array_add(record->events, task_event_new(8, "another's"));
    g_ptr_array_add(record->events, task_event_new(7, "GPU 0 …"));
    store_record(bed->store, record);
    reopen(bed);
    store_query_events(bed->store, 7, on_events, bed);
    wait_for(bed, 2);
    g_assert_cmpuint(bed->ids->len, ==, 2);
    g_assert_cmpstr(bed->ids->pdata[0], ==, "running");
    g_assert_true(store_load(bed->store, &had, NULL));
    g_assert_cmpuint(had.pardons->len, ==, 1);
    g_assert_cmpint(((struct pardon *)had.pardons->pdata[0])->xids[0].count, ==, 2);
    store_contents_clear(&had);
    gpu_free(gpu);
    bed_free(bed);
}

static void test_one_holder(void) { /* R1: the second guard; a failing record leaves the others of its group alone */
    struct bed *bed = bed_new();
    struct store_contents had;

    put(bed, make_task(1, "GPU-a", TASK_RUNNING));
    put(bed, make_task(2, "GPU-a", TASK_RUNNING));
    put(bed, make_task(3, "GPU-b", TASK_RUNNING));
    wait_for(bed, 3);
    g_assert_cmpint(bed->failed, ==, 1);
    g_assert_nonnull(strstr(bed->error, "another task holds a lease on this GPU"));
    put(bed, make_task(1, "GPU-a", TASK_COMPLETED)); /* releases */
    put(bed, make_task(4, "GPU-a", TASK_RUNNING));
    wait_for(bed, 5);
    g_assert_cmpint(bed->failed, ==, 1);
    reopen(bed);
    g_assert_true(store_load(bed->store, &had, NULL));
    g_assert_cmpuint(had.live_tasks->len, ==, 2);
    store_contents_clear(&had);
    bed_free(bed);
}

static void on_tasks(void *user, const GPtrArray *tasks, const GError *error) {
    struct bed *bed = user;

    g_assert_no_error(error);
    for (guint i = 0; i < tasks->len; i++)
        g_ptr_array_add(bed->ids, GUINT_TO_POINTER(((const struct task *)tasks->pdata[i])->id));
    bed->answered++;
}

static void expect_ids(struct bed *bed, struct task_query query, const char *expected) {
    g_autoptr(GString) text = g_string_new(NULL);
    int answered = bed->answered;

    g_ptr_array_set_size(bed->ids, 0);
    store_query_tasks(bed->store, &query, on_tasks, bed);
    wait_for(bed, answered + 1);
    for (guint i = 0; i < bed->ids->len; i++)
        g_string_append_printf(text, "%s%u", i ? " " : "", GPOINTER_TO_UINT(bed->ids->pdata[i]));
    g_assert_cmpstr(text->str, ==, expected);
}

/* ---- lists ---- */

static void on_page(void *user, const struct task_page *page, const GError *error) {
    struct bed *bed = user;

    g_assert_no_error(error);
    for (guint i = 0; i < page->tasks->len; i++)
        g_ptr_array_add(bed->ids, GUINT_TO_POINTER(((const struct task *)page->tasks->pdata[i])->id));
    bed->has_more = page->has_more;
    bed->total = page->total;
    bed->answered++;
}

/* `expected` ends with "…" when there is more. */
static void expect_page(struct bed *bed, struct task_filter filter, const char *expected, int64_t total) {
    g_autoptr(GString) text = g_string_new(NULL);
    int answered = bed->answered;

    g_ptr_array_set_size(bed->ids, 0);
    filter.wants_total = true;
    filter.limit = filter.limit ? filter.limit : 100;
    store_query_page(bed->store, &filter, on_page, bed);
    wait_for(bed, answered + 1);
    for (guint i = 0; i < bed->ids->len; i++)
        g_string_append_printf(text, "%s%u", i ? " " : "", GPOINTER_TO_UINT(bed->ids->pdata[i]));
    g_string_append(text, bed->has_more ? " …" : "");
    g_assert_cmpstr(text->str, ==, expected);
    g_assert_cmpint(bed->total, ==, total);
}

static void on_whole_page(void *user, const struct task_page *page, const GError *error) {
    struct bed *bed = user;

    g_assert_no_error(error);
    g_assert_false(page->has_more);
    g_assert_cmpint(page->total, ==, page->tasks->len);
    bed->answered++;
}

/* Also while tasks are written all the time: page and total are of one moment. */
static void test_total_fits_page(void) {
    enum { TASKS = 200 };
    const struct task_filter all = {.limit = TASKS + 1, .wants_total = true};
    struct bed *bed = bed_new();

    for (uint32_t id = 1; id <= TASKS; id++) {
        put(bed, make_task(id, NULL, TASK_COMPLETED));
        store_query_page(bed->store, &all, on_whole_page, bed);
        if (id % 4 == 0)
            wait_for(bed, (int)id);
    }
    wait_for(bed, 2 * TASKS);
    bed_free(bed);
}

static struct task *named_task(uint32_t id, const char *uuid, enum task_state state, const char *name,
                               const char *owner) {
    struct task *task = make_task(id, uuid, state);

    g_free(task->spec->name);
    task->spec->name = g_strdup(name);
    g_free(task->spec->owner);
    task->spec->owner = g_strdup(owner);
    return task;
}

static void test_lists(void) {
    const unsigned failed = 1U << TASK_FAILED, completed = 1U << TASK_COMPLETED, running = 1U << TASK_RUNNING;
    struct bed *bed = bed_new();
    struct task *drains;

    for (uint32_t id = 1; id <= 9; id++)
        put(bed, named_task(id, NULL, id % 3 == 0 ? TASK_FAILED : TASK_COMPLETED, id == 4 ? "Größe 50%" : NULL,
                            id % 2 ? "ann@desk" : "bob"));
    put(bed, named_task(10, "GPU-a", TASK_RUNNING, "train", "ann@desk"));
    drains = named_task(11, "GPU-b", TASK_FAILED, "drains", "bob");
    drains->holds_lease = true;
    put(bed, drains);
    wait_for(bed, 11);
    expect_ids(bed, (struct task_query){.id = 5}, "5");
    expect_ids(bed, (struct task_query){.id = 12}, "");
    expect_page(bed, (struct task_filter){.limit = 3}, "11 10 9 …", 11);
    expect_page(bed, (struct task_filter){.limit = 3, .before = 4}, "3 2 1", 11); /* a full page that is the last */
    expect_page(bed, (struct task_filter){.limit = 11}, "11 10 9 8 7 6 5 4 3 2 1", 11);
    expect_page(bed, (struct task_filter){.states = failed}, "11 9 6 3", 4);
    expect_page(bed, (struct task_filter){.states = failed, .limit = 2, .before = 11}, "9 6 …", 4);
    expect_page(bed, (struct task_filter){.states = failed | running}, "11 10 9 6 3", 5);
    expect_page(bed, (struct task_filter){.holds_lease = true}, "11 10", 2);
    expect_page(bed, (struct task_filter){.holds_lease = true, .states = failed}, "11 10 9 6 3", 5); /* none twice */
    expect_page(bed, (struct task_filter){.holds_lease = true, .states = failed, .owner = "bob"}, "11 6", 2);
    expect_page(bed, (struct task_filter){.owner = "ann@desk", .limit = 3}, "10 9 7 …", 6);
    expect_page(bed, (struct task_filter){.owner = "ann"}, "", 0); /* exactly */
    expect_page(bed, (struct task_filter){.owner = "bob", .states = completed}, "8 4 2", 3);
    expect_page(bed, (struct task_filter){.node = "n", .limit = 2}, "11 10 …", 11);
    expect_page(bed, (struct task_filter){.node = "n", .states = running}, "10", 1);
    expect_page(bed, (struct task_filter){.node = "other"}, "", 0);
    expect_page(bed, (struct task_filter){.gpu = "GPU-b"}, "11", 1);
    expect_page(bed, (struct task_filter){.gpu = "GPU-b", .states = running}, "", 0);
    expect_page(bed, (struct task_filter){.gpu = "GPU-b", .search = "DRAIN"}, "11", 1);
    expect_page(bed, (struct task_filter){.search = "größe 50%"}, "4", 1);
    expect_page(bed, (struct task_filter){.search = "GRÖSSE"}, "", 0);
    expect_page(bed, (struct task_filter){.search = "ECHO A", .limit = 2, .before = 9}, "8 7 …", 11);
    expect_page(bed, (struct task_filter){.search = "1"}, "11 10 1", 3); /* the id */
    expect_page(bed, (struct task_filter){.search = "train", .owner = "ann@desk", .node = "n"}, "10", 1);
    expect_page(bed, (struct task_filter){.search = "'; DROP TABLE tasks; --"}, "", 0);
    put(bed, named_task(10, "GPU-a", TASK_COMPLETED, "train", "ann@desk")); /* over: its card is remembered */
    wait_for(bed, bed->answered + 1);
    expect_page(bed, (struct task_filter){.gpu = "GPU-a", .states = completed}, "10", 1);
    bed_free(bed);
}

/* A database of the version before lists had indexes gets them, with what it has. */
static void test_lists_of_old_rows(void) {
    static const char older[] = "DROP INDEX tasks_state; DROP INDEX tasks_node_state; DROP INDEX tasks_owner_state;"
                                "DROP INDEX audit_subject; DROP TABLE task_gpus; DROP TABLE task_texts;"
                                "ALTER TABLE tasks DROP COLUMN owner; PRAGMA user_version = 4";
    struct bed *bed = bed_new();
    sqlite3 *db;

    put(bed, named_task(1, "GPU-a", TASK_COMPLETED, "Train", "ann"));
    put(bed, named_task(2, NULL, TASK_FAILED, NULL, NULL));
    put(bed, named_task(3, "GPU-a", TASK_RUNNING, NULL, "bob"));
    wait_for(bed, 3);
    store_close(bed->store);
    bed->store = NULL;
    uv_run(&bed->loop, UV_RUN_NOWAIT);
    g_assert_cmpint(sqlite3_open(bed->path, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, older, NULL, NULL, NULL), ==, SQLITE_OK);
    sqlite3_close(db);
    reopen(bed);
    expect_page(bed, (struct task_filter){.gpu = "GPU-a"}, "3 1", 2);
    expect_page(bed, (struct task_filter){.owner = "ann"}, "1", 1);
    expect_page(bed, (struct task_filter){.search = "train"}, "1", 1);
    expect_page(bed, (struct task_filter){.search = "echo a b"}, "3 2 1", 3);
    expect_page(bed, (struct task_filter){.holds_lease = true}, "3", 1);
    bed_free(bed);
}

static int count_steps(void *user) {
    *(int *)user += 1;
    return 0;
}

enum { STEPS_EACH = 50, MANY = 100000 };

/* What a page costs, in steps of SQLite's machine; its time would say as much of this computer. */
static int steps_of(sqlite3 *db, struct task_filter filter, guint expected) {
    struct task_page page = {0};
    g_autoptr(GError) error = NULL;
    int calls = 0;

    filter.limit = filter.limit ? filter.limit : 100;
    sqlite3_progress_handler(db, STEPS_EACH, count_steps, &calls);
    g_assert_true(task_list_page(db, &filter, &page, &error));
    g_assert_no_error(error);
    sqlite3_progress_handler(db, 0, NULL, NULL);
    g_assert_cmpuint(page.tasks->len, ==, expected);
    g_ptr_array_unref(page.tasks);
    return calls * STEPS_EACH;
}

static void expect_cheap(sqlite3 *db, struct task_filter filter, guint expected, const char *what) {
    int steps = steps_of(db, filter, expected);

    g_test_message("%s: %d steps", what, steps);
    if (steps > 40000) /* a page of 100 is some 5000; one look at each task would be 400000 and more */
        g_error("%s: %d steps for a page", what, steps);
}

/* 100,000 tasks, nearly all of them completed, of few owners: whatever a page is filtered by, its price is that of a page. */
static void test_lists_of_many(void) {
    static const char fill[] =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
        " INSERT INTO tasks (id, epoch, node, state, holds_lease, batch_id, target, spec, lease, kill_requested, oom,"
        " created_ms, started_ms, finished_ms, owner)"
        " SELECT i, i, 'n' || (i % 4), CASE WHEN i = 7 THEN 7 WHEN i % 10000 = 0 THEN 6 ELSE 5 END, i = 7, 'b', '',"
        " '{\"command\":[\"x\"]}', json_object('task_id', i, 'epoch', i, 'node', 'n', 'boot_id', '', 'gpus',"
        " json_array(), 'cores', 0, 'memory_bytes', 0, 'numa', -1, 'granted_ms', 1), 0, 0, 1, 1, 1,"
        " CASE WHEN i % 3 = 0 THEN 'ann' ELSE 'bob' END FROM n;"
        "INSERT INTO task_texts SELECT id, id || char(10) || char(10) || 'x' FROM tasks;"
        "INSERT INTO task_gpus SELECT 'GPU-' || (id % 8), id FROM tasks;";
    const unsigned completed = 1U << TASK_COMPLETED, failed = 1U << TASK_FAILED, killed = 1U << TASK_KILLED;
    struct bed *bed = bed_new();
    sqlite3 *db;
    int steps;

    g_assert_cmpint(TASK_COMPLETED, ==, 5); /* as in the statement above */
    g_assert_cmpint(sqlite3_open(bed->path, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, fill, NULL, NULL, NULL), ==, SQLITE_OK);
    expect_cheap(db, (struct task_filter){0}, 100, "all");
    expect_cheap(db, (struct task_filter){.before = 50000}, 100, "all, in the middle");
    expect_cheap(db, (struct task_filter){.states = completed}, 100, "a common state");
    expect_cheap(db, (struct task_filter){.states = failed}, 10, "a rare state");
    expect_cheap(db, (struct task_filter){.states = completed | failed | killed, .before = 500}, 100, "states");
    expect_cheap(db, (struct task_filter){.holds_lease = true}, 1, "live");
    expect_cheap(db, (struct task_filter){.holds_lease = true, .states = failed, .owner = "bob"}, 8, "live, owner");
    expect_cheap(db, (struct task_filter){.node = "n0"}, 100, "a node");
    expect_cheap(db, (struct task_filter){.node = "n0", .states = failed}, 10, "a node and a rare state");
    expect_cheap(db, (struct task_filter){.node = "n9"}, 0, "no such node");
    expect_cheap(db, (struct task_filter){.owner = "ann"}, 100, "an owner");
    expect_cheap(db, (struct task_filter){.owner = "ann", .states = failed}, 3, "an owner and a rare state");
    expect_cheap(db, (struct task_filter){.owner = "eve"}, 0, "no such owner");
    expect_cheap(db, (struct task_filter){.gpu = "GPU-3"}, 100, "a card");
    expect_cheap(db, (struct task_filter){.gpu = "GPU-9"}, 0, "no such card");
    expect_cheap(db, (struct task_filter){.search = "x"}, 100, "a search that finds at once");
    steps = steps_of(db, (struct task_filter){.search = "not there"}, 0);
    g_assert_cmpint(steps, <, MANY * 15); /* a search is the one that may read all texts, and no more than these */
    steps = steps_of(db, (struct task_filter){.states = completed, .wants_total = true, .limit = 1}, 1);
    g_assert_cmpint(steps, <, MANY * 15); /* counting goes through an index */
    sqlite3_close(db);
    bed_free(bed);
}

static void test_full_disk(void) { /* refused, nothing corrupted, and it goes on when there is room again */
    struct bed *bed = bed_new();
    struct rlimit old, tight;
    int answered;

    put(bed, make_task(1, NULL, TASK_COMPLETED));
    wait_for(bed, 1);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit stands in for a full disk */
    getrlimit(RLIMIT_FSIZE, &old);
    tight = old;
    tight.rlim_cur = 4096;
    setrlimit(RLIMIT_FSIZE, &tight);
    for (uint32_t id = 2; id < 60; id++)
        put(bed, make_task(id, NULL, TASK_COMPLETED));
    wait_for(bed, 59);
    setrlimit(RLIMIT_FSIZE, &old);
    g_assert_cmpint(bed->failed, >, 0);
    answered = bed->answered;
    bed->failed = 0;
    put(bed, make_task(100, NULL, TASK_COMPLETED));
    wait_for(bed, answered + 1);
    g_assert_cmpint(bed->failed, ==, 0);
    reopen(bed);
    expect_ids(bed, (struct task_query){.limit = 1, .id = 1}, "1");
    expect_ids(bed, (struct task_query){.limit = 1, .id = 100}, "100");
    bed_free(bed);
}

static void on_recorded_by_id(void *user, struct record *record, const GError *error) {
    struct bed *bed = user;

    if (error)
        g_ptr_array_add(bed->refused, GUINT_TO_POINTER(((const struct task *)record->tasks->pdata[0])->id));
    bed->answered++;
    record_free(record);
}

/* A record that was refused is nowhere, not even when others of its group follow the one that filled the disk. */
static void test_refused_is_nowhere(void) {
    struct bed *bed = bed_new();
    struct rlimit old, tight;

    bed->refused = g_ptr_array_new();
    store_set_record_cb(bed->store, on_recorded_by_id, bed);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    tight = old;
    tight.rlim_cur = 1024 * 1024;
    setrlimit(RLIMIT_FSIZE, &tight);
    for (uint32_t id = 1; id <= 40; id++) {
        struct task *task = make_task(id, NULL, TASK_COMPLETED);
        if (id % 4 == 0) { /* spills the page cache in the middle of a transaction */
            g_free(task->spec->argv[1]);
            task->spec->argv[1] = g_strnfill(4 * 1024 * 1024, 'x');
        }
        put(bed, task);
    }
    wait_for(bed, 40);
    setrlimit(RLIMIT_FSIZE, &old);
    g_assert_cmpuint(bed->refused->len, >=, 10);
    reopen(bed);
    for (guint i = 0; i < bed->refused->len; i++)
        expect_ids(bed, (struct task_query){.limit = 1, .id = GPOINTER_TO_UINT(bed->refused->pdata[i])}, "");
    g_ptr_array_unref(bed->refused);
    bed_free(bed);
}

static int ack_fd = -1; /* of the child that is killed */

static void on_child_recorded(void *user, struct record *record, const GError *error) {
    uint32_t id = ((const struct task *)record->tasks->pdata[0])->id;

    (void)user;
    record_free(record);
    if (!error && write(ack_fd, &id, sizeof id) != sizeof id)
        _exit(2);
}

/* Writes without end and tells each id once it is durable. */
static void child_main(const char *path) {
    uv_loop_t loop;
    struct store *store;

    uv_loop_init(&loop);
    store = store_open(&loop, path, NULL);
    store_set_record_cb(store, on_child_recorded, NULL);
    for (uint32_t id = 1;; id++) {
        store_record(store, record_of_task(make_task(id, NULL, TASK_COMPLETED)));
        uv_run(&loop, UV_RUN_NOWAIT);
        if (id % 16 == 0)
            g_usleep(1000);
    }
}

static void test_kill9(void) { /* R5, L6: what was acknowledged is there after kill -9 */
    struct bed *bed = bed_new();
    int pipe_fds[2];
    uint32_t id = 0, last = 0;
    pid_t child;
    char expected[16];

    store_close(bed->store);
    bed->store = NULL;
    uv_run(&bed->loop, UV_RUN_NOWAIT);
    g_assert_cmpint(pipe(pipe_fds), ==, 0);
    child = fork();
    if (child == 0) {
        ack_fd = pipe_fds[1];
        close(pipe_fds[0]);
        child_main(bed->path);
    }
    close(pipe_fds[1]);
    while (last < 300 && read(pipe_fds[0], &id, sizeof id) == sizeof id)
        last = id;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    while (read(pipe_fds[0], &id, sizeof id) == sizeof id)
        last = id;
    close(pipe_fds[0]);
    g_assert_cmpuint(last, >=, 300);
    reopen(bed);
    for (uint32_t check = 1; check <= last; check++) {
        g_snprintf(expected, sizeof expected, "%u", check);
        expect_ids(bed, (struct task_query){.limit = 1, .id = check}, expected);
    }
    bed_free(bed);
}

static void test_newer_schema(void) {
    struct bed *bed = bed_new();
    g_autofree char *command_path = g_strdup(bed->path);
    g_autoptr(GError) error = NULL;
    sqlite3 *db;

    store_close(bed->store);
    bed->store = NULL;
    uv_run(&bed->loop, UV_RUN_NOWAIT);
    g_assert_cmpint(sqlite3_open(command_path, &db), ==, SQLITE_OK);
    sqlite3_exec(db, "PRAGMA user_version = 999", NULL, NULL, NULL);
    sqlite3_close(db);
    g_assert_null(store_open(&bed->loop, bed->path, &error));
    g_assert_nonnull(strstr(error->message, "newer version of this program"));
    bed_free(bed);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store/survives", test_survives);
    g_test_add_func("/store/events-and-pardons", test_events_and_pardons);
    g_test_add_func("/store/R1-one-holder", test_one_holder);
    g_test_add_func("/store/lists", test_lists);
    g_test_add_func("/store/the total fits the page", test_total_fits_page);
    g_test_add_func("/store/lists of old rows", test_lists_of_old_rows);
    g_test_add_func("/store/lists of 100,000 tasks", test_lists_of_many);
    g_test_add_func("/store/full-disk", test_full_disk);
    g_test_add_func("/store/refused-is-nowhere", test_refused_is_nowhere);
    g_test_add_func("/store/R5-L6-kill-9", test_kill9);
    g_test_add_func("/store/newer-schema", test_newer_schema);
    return g_test_run();
}
