/* How long a host is away at a restart, and what a node's return costs: a store with 100,000 ended tasks opened and loaded, and a
 * hello of a node with 100 running tasks compared with it. One JSON line each. */

#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <uv.h>

#include "base/clock.h"
#include "core/controller.h"
#include "store/store.h"

enum { ENDED = 100000, PER_RECORD = 1000, RUNNING = 100, HELLOS = 200 };

static int waiting;

static void on_recorded(void *user, struct record *record, const GError *error) {
    (void)user;
    if (error)
        g_error("%s", error->message);
    record_free(record);
    waiting--;
}

static struct task *make_task(uint32_t id, enum task_state state) {
    const char *argv[] = {"python", "train.py", "--epochs", "90", NULL};
    struct task_spec spec = {.argv = (char **)(uintptr_t)argv, .name = (char *)(uintptr_t) "train"};
    struct task *task = g_new0(struct task, 1);

    task->id = id;
    task->batch_id = g_strdup_printf("b%u", id);
    task->target = g_strdup("bench");
    task->spec = task_spec_copy(&spec);
    task->lease = (struct lease){.task_id = id, .epoch = id, .node = "bench", .numa = TARGET_NO_NUMA};
    task->state = state;
    task->holds_lease = !task_state_is_terminal(state);
    return task;
}

static void fill(uv_loop_t *loop, const char *path) {
    struct store *store = store_open(loop, path, NULL);
    uint32_t id = 0;

    store_set_record_cb(store, on_recorded, NULL);
    while (id < ENDED + RUNNING) {
        struct record *record = record_new();
        for (int i = 0; i < PER_RECORD && id < ENDED + RUNNING; i++) {
            id++;
            g_ptr_array_add(record->tasks, make_task(id, id > ENDED ? TASK_RUNNING : TASK_COMPLETED));
        }
        waiting++;
        store_record(store, record);
    }
    while (waiting > 0)
        uv_run(loop, UV_RUN_ONCE);
    store_close(store);
    uv_run(loop, UV_RUN_DEFAULT);
}

static void drop_record(void *env, struct record *record) {
    (void)env;
    record_free(record);
}
static void drop_message(void *env, const char *node, json_t *message) {
    (void)env;
    (void)node;
    json_decref(message);
}
static void changed(void *env, const struct task *task, bool is_gone) {
    (void)env;
    (void)task;
    (void)is_gone;
}

static void say_hello(struct controller *c) {
    const struct core_time now = {.wall_ms = 1700000000000, .mono_ms = 1000};
    g_autoptr(GPtrArray) reports = g_ptr_array_new_with_free_func((GDestroyNotify)node_report_free);
    struct node_info *info = node_info_new("bench");

    info->boot_id = g_strdup("boot");
    for (uint32_t id = ENDED + 1; id <= ENDED + RUNNING; id++) {
        struct node_report *said = g_new0(struct node_report, 1);
        said->lease = (struct lease){.task_id = id, .epoch = id, .node = "bench", .numa = TARGET_NO_NUMA};
        said->report = (struct task_report){.task_id = id, .epoch = id, .state = TASK_RUNNING};
        g_ptr_array_add(reports, said);
    }
    if (!controller_hello(c, info, reports, ENDED + RUNNING, now, NULL))
        g_error("a hello was refused");
}

int main(void) {
    const struct controller_ops ops = {.record = drop_record, .send = drop_message, .task_changed = changed};
    g_autofree char *folder = g_dir_make_tmp("kr-bench-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "store.db", NULL);
    struct controller *c = controller_new(&ops, NULL, &(struct controller_settings){.offline_after_ms = 30000});
    struct store_contents contents;
    struct store *store;
    uv_loop_t loop;
    int64_t begin;

    uv_loop_init(&loop);
    fill(&loop, path);
    begin = g_get_monotonic_time();
    store = store_open(&loop, path, NULL);
    if (!store || !store_load(store, &contents, NULL))
        g_error("the store cannot be read");
    controller_restore_counters(c, contents.last_task_id, contents.last_epoch);
    g_ptr_array_set_free_func(contents.live_tasks, NULL);
    for (guint i = 0; i < contents.live_tasks->len; i++)
        controller_restore_task(c, contents.live_tasks->pdata[i]);
    printf("{\"name\":\"restore_ms\",\"value\":%.1f,\"tasks\":%d}\n", (double)(g_get_monotonic_time() - begin) / 1000,
           ENDED + RUNNING);
    begin = g_get_monotonic_time();
    for (int i = 0; i < HELLOS; i++)
        say_hello(c);
    printf("{\"name\":\"reconcile_us\",\"value\":%.0f,\"tasks\":%d}\n",
           (double)(g_get_monotonic_time() - begin) / HELLOS, RUNNING);
    store_contents_clear(&contents);
    store_close(store);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    controller_free(c);
    for (size_t i = 0; i < 3; i++) {
        static const char *const suffixes[] = {"", "-wal", "-shm"};
        g_autofree char *file = g_strconcat(path, suffixes[i], NULL);
        g_unlink(file);
    }
    g_rmdir(folder);
    return 0;
}
