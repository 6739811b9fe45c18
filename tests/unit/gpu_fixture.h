#pragma once
/* The monitor with its real worker process, a stand-in library and a fake tree, on a real uv loop: what the tests of
 * src/gpu share. A test changes f->scenario and calls apply(). */

#include <glib.h>
#include <glib/gstdio.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "gpu/gpu_monitor.h"

enum { DEADLINE_MS = 1500, PATIENCE_MS = 40000 };

struct fixture {
    char *dir, *scenario_path, *root, *index_path;
    const char *library, *boot_id;
    int64_t slow_ms, rare_ms, deadline_ms; /* 0: what the fixture takes */
    json_t *scenario;
    uv_loop_t loop;
    struct gpu_monitor *monitor;
    int updates;
    /* of the last check */
    int checks_done;
    bool is_free[8];
    char *why[8];
    struct proof proof[8];
    /* of the last query */
    int queries_done;
    json_t *answer;
    char *no_answer;
};

#define FAKES TEST_BUILD_ROOT "/tests/fakes/"
static const char new_library[] G_GNUC_UNUSED = FAKES "nvml/libnvidia-ml.so.1";
static const char old_library[] G_GNUC_UNUSED = FAKES "nvml_old/libnvidia-ml.so.1";

static inline void run_simtree(struct fixture *f) {
    const char *argv[] = {"/usr/bin/python3", TEST_SOURCE_ROOT "/tests/fakes/simtree.py", f->scenario_path, f->root,
                          NULL};
    int status = -1;

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, 0, NULL, NULL, NULL, NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
}

/* Makes the scenario as it stands in memory the state of the machine. */
static inline void apply(struct fixture *f) {
    g_autofree char *part = g_strconcat(f->scenario_path, ".part", NULL);

    g_assert_cmpint(json_dump_file(f->scenario, part, JSON_INDENT(1)), ==, 0);
    g_assert_cmpint(g_rename(part, f->scenario_path), ==, 0);
    run_simtree(f);
}

static inline json_t *card(struct fixture *f, size_t i) {
    return json_array_get(json_object_get(f->scenario, "gpus"), i);
}
static inline const char *uuid_of(struct fixture *f, size_t i) {
    return json_string_value(json_object_get(card(f, i), "uuid"));
}

static inline void set_fault(json_t *owner, const char *function, json_t *fault) {
    json_t *faults = json_object();

    if (fault)
        json_object_set_new(faults, function, fault);
    json_object_set_new(owner, "faults", faults);
}

static inline void on_update(void *user) { ((struct fixture *)user)->updates++; }

static inline void start_monitor(struct fixture *f) {
    struct gpu_monitor_config config = {.sysfs_root = f->root,
                                        .nvml_library = f->library,
                                        .index_file = f->index_path,
                                        .worker_exe = FAKES "fake_worker",
                                        .boot_id = f->boot_id ? f->boot_id : "boot-1",
                                        .interval_ms = 40,
                                        .slow_interval_ms = f->slow_ms ? f->slow_ms : 40,
                                        .process_interval_ms = 1000,
                                        .health_interval_ms = f->rare_ms ? f->rare_ms : 40,
                                        .deadline_ms = f->deadline_ms ? f->deadline_ms : DEADLINE_MS};
    g_autoptr(GError) error = NULL;

    f->monitor = gpu_monitor_new(&f->loop, &config, on_update, f, &error);
    g_assert_no_error(error);
}

static inline void setup(struct fixture *f, const void *data) {
    f->dir = g_dir_make_tmp("kr-gpu-XXXXXX", NULL);
    f->scenario_path = g_build_filename(f->dir, "scenario.json", NULL);
    f->root = g_build_filename(f->dir, "root", NULL);
    f->index_path = g_build_filename(f->dir, "gpus.json", NULL);
    f->library = new_library;
    f->scenario = json_load_file(TEST_SOURCE_ROOT "/tests/fakes/scenarios/mynode.json", 0, NULL);
    g_assert_nonnull(f->scenario);
    apply(f);
    g_setenv("KOHAKURIVER_FAKE_NVML", f->scenario_path, TRUE);
    g_assert_cmpint(uv_loop_init(&f->loop), ==, 0);
    start_monitor(f);
}

static inline void stop_monitor(struct fixture *f) {
    gpu_monitor_free(g_steal_pointer(&f->monitor));
    uv_run(&f->loop, UV_RUN_DEFAULT); /* handles go; also proves that nothing keeps the loop alive */
}

static inline void teardown(struct fixture *f, const void *data) {
    const char *rm[] = {"rm", "-rf", f->dir, NULL};

    stop_monitor(f);
    g_assert_cmpint(uv_loop_close(&f->loop), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(f->why); i++)
        g_free(f->why[i]);
    json_decref(f->answer);
    g_free(f->no_answer);
    json_decref(f->scenario);
    g_spawn_sync(NULL, (char **)rm, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
    g_free(f->dir);
    g_free(f->scenario_path);
    g_free(f->root);
    g_free(f->index_path);
}

static inline void on_tick(uv_timer_t *timer) {}

/* Runs the loop until the condition holds. */
#define WAIT_FOR(f, condition)                                           \
    do {                                                                 \
        int64_t end_ms = clock_mono_ms() + PATIENCE_MS;                  \
        uv_timer_t tick;                                                 \
        uv_timer_init(&(f)->loop, &tick);                                \
        uv_timer_start(&tick, on_tick, 10, 10);                          \
        while (!(condition) && clock_mono_ms() < end_ms)                 \
            uv_run(&(f)->loop, UV_RUN_ONCE);                             \
        uv_close((uv_handle_t *)&tick, NULL);                            \
        uv_run(&(f)->loop, UV_RUN_NOWAIT);                               \
        if (!(condition))                                                \
            g_error("never came true: %s; %s", #condition, describe(f)); \
    } while (0)

static inline const struct gpu_snapshot *snapshot(struct fixture *f) { return gpu_monitor_snapshot(f->monitor); }
static inline guint count(struct fixture *f) { return snapshot(f)->gpus->len; }
static inline const struct gpu *gpu(struct fixture *f, guint i) { return snapshot(f)->gpus->pdata[i]; }

static inline char *describe(struct fixture *f) {
    GString *text = g_string_new(snapshot(f)->text);

    for (guint i = 0; i < count(f); i++)
        g_string_append_printf(text, "; %d %s %s %s", gpu(f, i)->index, gpu(f, i)->uuid,
                               gpu_condition_to_str(gpu(f, i)->condition), gpu(f, i)->reason ? gpu(f, i)->reason : "");
    return g_string_free(text, FALSE);
}

static inline bool all_are(struct fixture *f, guint n, enum gpu_condition condition) {
    if (snapshot(f)->taken_ms == 0 || count(f) != n)
        return false;
    for (guint i = 0; i < n; i++)
        if (gpu(f, i)->condition != condition)
            return false;
    return true;
}

static inline bool all_ok(struct fixture *f) { return all_are(f, 4, GPU_CONDITION_OK); }

static inline bool says(const char *text, const char *part) { return text && strstr(text, part); }

static inline void on_checked(void *user, const struct gpu_check *checks, size_t n) {
    struct fixture *f = user;

    for (size_t i = 0; i < n; i++) {
        f->is_free[i] = checks[i].is_free;
        g_free(f->why[i]);
        f->why[i] = g_strdup(checks[i].why);
        f->proof[i] = checks[i].proof;
        g_assert_true(checks[i].is_free == (checks[i].why == NULL));
    }
    f->checks_done++;
}

static inline void check(struct fixture *f, size_t first, size_t n) {
    const char *uuids[8];
    int before = f->checks_done;

    for (size_t i = 0; i < n; i++)
        uuids[i] = uuid_of(f, first + i);
    gpu_monitor_check(f->monitor, uuids, n, on_checked, f);
    g_assert_cmpint(f->checks_done, ==, before); /* never before it returned */
    WAIT_FOR(f, f->checks_done > before);
}

static inline void on_answer(void *user, json_t *json, const char *why) {
    struct fixture *f = user;

    g_assert_true((json == NULL) == (why != NULL));
    json_decref(f->answer);
    g_free(f->no_answer);
    f->answer = json_incref(json);
    f->no_answer = g_strdup(why);
    f->queries_done++;
}

static inline void ask_costs(struct fixture *f) {
    int before = f->queries_done;

    gpu_monitor_costs(f->monitor, on_answer, f);
    g_assert_cmpint(f->queries_done, ==, before);
    WAIT_FOR(f, f->queries_done > before);
}

static inline void ask_users(struct fixture *f, const char *uuid) {
    int before = f->queries_done;

    gpu_monitor_users(f->monitor, uuid, on_answer, f);
    g_assert_cmpint(f->queries_done, ==, before);
    WAIT_FOR(f, f->queries_done > before);
}

static inline int64_t answer_number(struct fixture *f, size_t i, const char *member) {
    const json_t *value = json_object_get(json_array_get(f->answer, i), member);

    return json_is_integer(value) ? json_integer_value(value) : -1;
}
