/* What the monitor makes of its worker's answers, and of none. */

#include "gpu_fixture.h"

/* The figures from GPU_MEM_TOTAL to GPU_NUMA, which the scenario has for all cards. */
enum { base_figures = 0xff };

static void test_figures(struct fixture *f, const void *data) {
    const struct gpu *first;

    g_assert_false(snapshot(f)->known);
    g_assert_cmpint(snapshot(f)->taken_ms, ==, 0);
    WAIT_FOR(f, all_ok(f));
    g_assert_true(snapshot(f)->known);
    g_assert_true(snapshot(f)->simulated);
    g_assert_cmpstr(snapshot(f)->text, ==, "driver 550.54.15, NVML 12.550.54.15");
    first = gpu(f, 0);
    g_assert_cmpuint(first->valid & base_figures, ==, base_figures);
    g_assert_cmpstr(first->uuid, ==, uuid_of(f, 0));
    g_assert_cmpstr(first->name, ==, "NVIDIA H100 80GB HBM3");
    g_assert_cmpstr(first->pci, ==, "0000:18:00.0");
    g_assert_cmpint(gpu_figure(first, GPU_MEM_TOTAL), ==, 81559LL << 20);
    g_assert_cmpint(gpu_figure(first, GPU_MEM_USED), ==, 4 << 20);
    g_assert_cmpint(gpu_figure(first, GPU_TEMP), ==, 29);
    g_assert_cmpint(gpu_figure(first, GPU_POWER_LIMIT), ==, 700000);
    g_assert_cmpint(gpu_figure(gpu(f, 3), GPU_MINOR), ==, 3);
    g_assert_cmpint(gpu_figure(gpu(f, 3), GPU_NUMA), ==, 1);
    json_object_set_new(card(f, 2), "utilization", json_integer(87));
    apply(f);
    WAIT_FOR(f, gpu_figure(gpu(f, 2), GPU_UTIL) == 87);
}

/* One wedged card costs that card: the others are sampled and checked on (L57). */
static void test_hang(struct fixture *f, const void *data) {
    int64_t began_ms;

    WAIT_FOR(f, all_ok(f));
    set_fault(card(f, 1), "nvmlDeviceGetTemperature", json_pack("{s:b}", "hang", 1));
    apply(f);
    began_ms = clock_mono_ms();
    WAIT_FOR(f, gpu(f, 1)->condition == GPU_CONDITION_UNKNOWN);
    g_assert_cmpint(clock_mono_ms() - began_ms, <, 4 * DEADLINE_MS + 4000);
    g_assert_true(says(gpu(f, 1)->reason, "gave no answer within 1500 ms; it was at the card 0000:2a:00.0"));
    g_assert_cmpuint(gpu(f, 1)->valid & (1U << GPU_MEM_USED | 1U << GPU_UTIL | 1U << GPU_TEMP | 1U << GPU_POWER), ==,
                     0);
    g_assert_cmpint(gpu(f, 0)->condition, ==, GPU_CONDITION_OK);
    json_object_set_new(card(f, 2), "temperature", json_integer(77));
    apply(f);
    WAIT_FOR(f, gpu_figure(gpu(f, 2), GPU_TEMP) == 77 && says(gpu(f, 1)->reason, "left alone"));
    g_assert_cmpstr(gpu(f, 1)->uuid, ==, uuid_of(f, 1));
    check(f, 0, 3);
    g_assert_true(f->is_free[0] && !f->is_free[1] && f->is_free[2]);
    g_assert_true(says(f->why[1], "left alone"));
    set_fault(card(f, 1), "", NULL);
    apply(f);
    WAIT_FOR(f, all_ok(f)); /* tried again after its pause */
    check(f, 0, 2);
    g_assert_true(f->is_free[0] && f->is_free[1]);
}

static void test_library_hangs(struct fixture *f, const void *data) {
    WAIT_FOR(f, all_ok(f));
    stop_monitor(f);
    set_fault(f->scenario, "nvmlInit", json_pack("{s:b}", "hang", 1));
    apply(f);
    start_monitor(f);
    WAIT_FOR(f, says(snapshot(f)->text, "gave no answer within 1500 ms"));
    g_assert_cmpuint(count(f), ==, 4);
    for (guint i = 0; i < 4; i++)
        g_assert_cmpint(gpu(f, i)->condition, ==, GPU_CONDITION_UNKNOWN);
    g_assert_true(snapshot(f)->known);
    check(f, 0, 1);
    g_assert_true(says(f->why[0], "no answer"));
    set_fault(f->scenario, "", NULL);
    apply(f);
    WAIT_FOR(f, all_ok(f));
}

static void test_check_hangs(struct fixture *f, const void *data) {
    WAIT_FOR(f, all_ok(f));
    set_fault(f->scenario, "nvmlDeviceGetComputeRunningProcesses", json_pack("{s:b}", "hang", 1));
    apply(f);
    check(f, 0, 2);
    g_assert_false(f->is_free[0] || f->is_free[1]);
    g_assert_true(says(f->why[0], "no answer"));
}

static void test_crash(struct fixture *f, const void *data) {
    WAIT_FOR(f, all_ok(f));
    set_fault(card(f, 0), "nvmlDeviceGetMemoryInfo", json_pack("{s:b}", "crash", 1));
    apply(f);
    WAIT_FOR(f, gpu(f, 0)->condition == GPU_CONDITION_UNKNOWN);
    g_assert_true(says(gpu(f, 0)->reason, "ended by signal 6"));
    g_assert_cmpint(gpu(f, 3)->condition, ==, GPU_CONDITION_OK);
    set_fault(card(f, 0), "", NULL);
    apply(f);
    WAIT_FOR(f, all_ok(f));
}

static void test_old_library(struct fixture *f, const void *data) {
    stop_monitor(f);
    f->library = old_library;
    json_array_append_new(json_object_get(card(f, 2), "processes"), json_pack("{s:i}", "pid", (int)getpid()));
    json_array_append_new(json_object_get(card(f, 2), "processes"), json_pack("{s:i}", "pid", 1));
    apply(f);
    start_monitor(f);
    WAIT_FOR(f, count(f) == 4 && gpu(f, 2)->condition == GPU_CONDITION_FOREIGN);
    g_assert_cmpint(gpu(f, 0)->condition, ==, GPU_CONDITION_OK);
    g_assert_cmpuint(gpu(f, 0)->valid & base_figures, ==, base_figures);
    g_assert_true(says(gpu(f, 2)->reason, "test_gpu_monito")); /* comm has 15 bytes */
    check(f, 2, 1);
    g_assert_true(says(f->why[0], "and 1 more")); /* the list's old layout was read with the right stride */
}

static void test_missing_figure(struct fixture *f, const void *data) {
    set_fault(card(f, 0), "nvmlDeviceGetTemperature", json_pack("{s:s}", "return", "NOT_SUPPORTED"));
    set_fault(card(f, 1), "nvmlDeviceGetPowerUsage", json_pack("{s:s}", "return", "NO_PERMISSION"));
    apply(f);
    WAIT_FOR(f, all_ok(f) && !gpu_has(gpu(f, 0), GPU_TEMP));
    g_assert_cmpuint(gpu(f, 0)->valid & base_figures, ==, base_figures & ~(1U << GPU_TEMP));
    g_assert_cmpuint(gpu(f, 1)->valid & base_figures, ==, base_figures & ~(1U << GPU_POWER));
}

static void test_memory_fails(struct fixture *f, const void *data) {
    set_fault(card(f, 1), "nvmlDeviceGetMemoryInfo", json_pack("{s:s}", "return", "UNKNOWN"));
    apply(f);
    WAIT_FOR(f, count(f) == 4 && gpu(f, 1)->condition == GPU_CONDITION_UNKNOWN &&
                    gpu(f, 0)->condition == GPU_CONDITION_OK);
    g_assert_true(says(gpu(f, 1)->reason, "read the memory"));
    check(f, 1, 1);
    g_assert_false(f->is_free[0]);
}

static void test_init_fails(struct fixture *f, const void *data) {
    static const struct {
        const char *code, *text;
    } cases[] = {{"LIB_RM_VERSION_MISMATCH", "driver/library version mismatch"}, {"DRIVER_NOT_LOADED", "not loaded"}};

    WAIT_FOR(f, all_ok(f)); /* identities are learned */
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        stop_monitor(f);
        set_fault(f->scenario, "nvmlInit_v2", json_pack("{s:s}", "return", cases[i].code));
        apply(f);
        start_monitor(f);
        g_assert_true(count(f) == 4 && snapshot(f)->known); /* from the index, before any sample */
        WAIT_FOR(f, all_are(f, 4, GPU_CONDITION_UNKNOWN));
        g_assert_true(snapshot(f)->known);
        g_assert_true(says(snapshot(f)->text, cases[i].text));
        g_assert_cmpstr(gpu(f, 1)->uuid, ==, uuid_of(f, 1));
        g_assert_cmpstr(gpu(f, 1)->name, ==, "NVIDIA H100 80GB HBM3");
        check(f, 1, 1);
        g_assert_true(says(f->why[0], cases[i].text));
        set_fault(f->scenario, "", NULL); /* the driver comes later: found without a restart (L41) */
        apply(f);
        WAIT_FOR(f, all_ok(f));
    }
}

static void test_session_dies(struct fixture *f, const void *data) {
    WAIT_FOR(f, all_ok(f));
    set_fault(f->scenario, "*", json_pack("{s:s}", "return", "DRIVER_NOT_LOADED"));
    apply(f);
    WAIT_FOR(f, all_are(f, 4, GPU_CONDITION_UNKNOWN));
    set_fault(f->scenario, "", NULL);
    apply(f);
    WAIT_FOR(f, all_ok(f));
}

static void test_no_library(struct fixture *f, const void *data) {
    stop_monitor(f);
    f->library = "libkohakuriver-does-not-exist.so.1";
    start_monitor(f);
    WAIT_FOR(f, all_are(f, 4, GPU_CONDITION_UNKNOWN));
    g_assert_true(snapshot(f)->known);
    g_assert_true(says(snapshot(f)->text, "NVML is absent"));
}

static void test_wrong_library(struct fixture *f, const void *data) {
    stop_monitor(f);
    f->library = "libm.so.6";
    start_monitor(f);
    WAIT_FOR(f, all_are(f, 4, GPU_CONDITION_UNKNOWN));
    g_assert_true(says(snapshot(f)->text, "has no function nvmlInit_v2"));
}

static void test_no_tree(struct fixture *f, const void *data) {
    stop_monitor(f);
    g_free(f->root);
    f->root = g_build_filename(f->dir, "nothing", NULL);
    start_monitor(f);
    WAIT_FOR(f, says(snapshot(f)->text, "no PCI inventory"));
    g_assert_false(snapshot(f)->known);
    g_assert_cmpuint(count(f), ==, 0);
}

static void test_no_cards(struct fixture *f, const void *data) {
    stop_monitor(f);
    json_array_clear(json_object_get(f->scenario, "gpus"));
    apply(f);
    start_monitor(f);
    WAIT_FOR(f, snapshot(f)->taken_ms > 0);
    g_assert_true(snapshot(f)->known);
    g_assert_cmpuint(count(f), ==, 0);
    g_assert_cmpstr(snapshot(f)->text, ==, "no GPU on this node");
}

static void test_lost_card(struct fixture *f, const void *data) {
    WAIT_FOR(f, all_ok(f));
    json_object_set_new(card(f, 1), "state", json_string("lost"));
    apply(f);
    WAIT_FOR(f, gpu(f, 1)->condition == GPU_CONDITION_FAULT);
    g_assert_true(says(gpu(f, 1)->reason, "fallen off the bus"));
    g_assert_cmpstr(gpu(f, 1)->uuid, ==, uuid_of(f, 1));
    g_assert_cmpint(gpu(f, 0)->condition, ==, GPU_CONDITION_OK);
    g_assert_cmpint(gpu(f, 2)->condition, ==, GPU_CONDITION_OK);
    check(f, 0, 2);
    g_assert_true(f->is_free[0]);
    g_assert_false(f->is_free[1]);
    json_object_set_new(card(f, 1), "state", json_string("ok"));
    apply(f);
    WAIT_FOR(f, all_ok(f));
}

static void test_gone_card(struct fixture *f, const void *data) {
    WAIT_FOR(f, all_ok(f));
    json_object_set_new(card(f, 1), "state", json_string("gone"));
    apply(f);
    WAIT_FOR(f, gpu(f, 1)->condition == GPU_CONDITION_REMOVED);
    g_assert_cmpuint(count(f), ==, 4);
    g_assert_cmpstr(gpu(f, 1)->reason, ==, "gone from the bus");
    g_assert_cmpstr(gpu(f, 2)->uuid, ==, uuid_of(f, 2));
    g_assert_cmpint(gpu(f, 2)->index, ==, 2);
    check(f, 1, 1);
    g_assert_true(says(f->why[0], "no card answers to this UUID"));
}

/* NVML numbers the cards it sees from 0: with one on vfio-pci all behind it move. Ours do not (L48, K5-K7). */
static void test_vfio_renumbering(struct fixture *f, const void *data) {
    json_t *gpus = json_object_get(f->scenario, "gpus");

    WAIT_FOR(f, all_ok(f));
    json_object_set_new(card(f, 0), "state", json_string("vfio"));
    apply(f);
    WAIT_FOR(f, gpu(f, 0)->condition == GPU_CONDITION_VFIO);
    for (guint i = 0; i < 4; i++) {
        g_assert_cmpint(gpu(f, i)->index, ==, (int)i);
        g_assert_cmpstr(gpu(f, i)->uuid, ==, uuid_of(f, i));
    }
    stop_monitor(f);
    start_monitor(f); /* with a worker that has never seen the card's UUID */
    WAIT_FOR(f, count(f) == 4 && gpu(f, 0)->condition == GPU_CONDITION_VFIO);
    g_assert_cmpstr(gpu(f, 0)->uuid, ==, uuid_of(f, 0));
    check(f, 0, 1);
    g_assert_cmpstr(f->why[0], ==, "bound to vfio-pci");
    json_array_append_new(gpus, json_deep_copy(json_array_get(gpus, 0))); /* NVML's order is turned around */
    json_array_remove(gpus, 0);
    json_object_set_new(card(f, 3), "state", json_string("ok"));
    apply(f);
    WAIT_FOR(f, all_ok(f));
    g_assert_cmpstr(gpu(f, 0)->uuid, ==, uuid_of(f, 3));
}

static void test_foreign(struct fixture *f, const void *data) {
    WAIT_FOR(f, all_ok(f));
    gpu_monitor_set_leased(f->monitor, uuid_of(f, 1), true);
    for (size_t i = 0; i < 2; i++)
        json_array_append_new(json_object_get(card(f, i), "processes"), json_pack("{s:i}", "pid", (int)getpid()));
    apply(f);
    WAIT_FOR(f, gpu(f, 0)->condition == GPU_CONDITION_FOREIGN); /* the next list comes after 10 s at most */
    g_assert_true(says(gpu(f, 0)->reason, "test_gpu_monito"));
    g_assert_true(says(gpu(f, 0)->reason, g_get_user_name()));
    g_assert_cmpint(gpu(f, 1)->condition, ==, GPU_CONDITION_OK);
    check(f, 0, 3);
    g_assert_true(!f->is_free[0] && !f->is_free[1] && f->is_free[2]); /* a lease does not make a process go away */
    json_array_clear(json_object_get(card(f, 1), "processes"));
    apply(f);
    gpu_monitor_set_leased(f->monitor, uuid_of(f, 1), false);
    f->updates = 0;
    WAIT_FOR(f, f->updates >= 3);
    g_assert_cmpint(gpu(f, 1)->condition, ==, GPU_CONDITION_OK); /* the ended task is not taken for a stranger */
    gpu_monitor_set_leased(f->monitor, uuid_of(f, 0), true);
    WAIT_FOR(f, gpu(f, 0)->condition == GPU_CONDITION_OK);
    gpu_monitor_set_leased(f->monitor, uuid_of(f, 0), false); /* looked at once, not after 10 s */
    f->updates = 0;
    WAIT_FOR(f, gpu(f, 0)->condition == GPU_CONDITION_FOREIGN);
    g_assert_cmpint(f->updates, <, 20);
}

static void set_memory(struct fixture *f, size_t i, int used_mib) {
    json_object_set_new(card(f, i), "memory_used_mib", json_integer(used_mib));
    apply(f);
}

static void test_memory_evidence(struct fixture *f, const void *data) {
    WAIT_FOR(f, all_ok(f)); /* the first sample lists processes, so the baseline of 4 MiB is learned */
    gpu_monitor_set_leased(f->monitor, uuid_of(f, 0), true);
    set_memory(f, 0, 4 + 412);
    check(f, 0, 1);
    g_assert_cmpstr(f->why[0], ==, "412.0 MiB above its idle memory and no process shows");
    WAIT_FOR(f, gpu_figure(gpu(f, 0), GPU_MEM_USED) == 416 << 20);
    g_assert_cmpint(gpu(f, 0)->condition, ==, GPU_CONDITION_OK); /* leased: no stranger's */
    set_memory(f, 0, 4 + 100);
    check(f, 0, 1);
    g_assert_true(f->is_free[0]);
    set_memory(f, 1, 30000);
    WAIT_FOR(f, gpu(f, 1)->condition == GPU_CONDITION_FOREIGN);
    stop_monitor(f); /* the baseline survives a restart that finds memory in use */
    start_monitor(f);
    check(f, 1, 1);
    g_assert_true(says(f->why[0], "above its idle memory"));
}

static void test_memory_never_seen_idle(struct fixture *f, const void *data) {
    stop_monitor(f);
    g_unlink(f->index_path);
    set_memory(f, 0, 30000);
    set_memory(f, 1, 700);
    start_monitor(f);
    WAIT_FOR(f, count(f) == 4 && gpu(f, 0)->condition == GPU_CONDITION_FOREIGN);
    g_assert_cmpint(gpu(f, 1)->condition, ==, GPU_CONDITION_OK);
    check(f, 0, 2);
    g_assert_true(says(f->why[0], "of its memory is in use"));
    g_assert_true(f->is_free[1]);
    set_memory(f, 0, 500);
    WAIT_FOR(f, all_ok(f)); /* a lucky first sight of a full card was not learned as rest */
}

static void test_mig(struct fixture *f, const void *data) {
    json_object_set_new(card(f, 3), "mig", json_true());
    json_object_set_new(card(f, 2), "mig", json_false());
    apply(f);
    WAIT_FOR(f, count(f) == 4 && gpu(f, 3)->condition == GPU_CONDITION_UNKNOWN);
    g_assert_true(says(gpu(f, 3)->reason, "MIG"));
    g_assert_cmpint(gpu(f, 2)->condition, ==, GPU_CONDITION_OK);
}

static void test_minor_from_proc(struct fixture *f, const void *data) {
    g_autofree char *folder = g_build_filename(f->root, "proc/driver/nvidia/gpus/0000:2a:00.0", NULL);
    g_autofree char *path = g_build_filename(folder, "information", NULL);

    stop_monitor(f);
    g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
    g_assert_true(g_file_set_contents(path, "Model: \t H100\nDevice Minor: \t 42\n", -1, NULL));
    set_fault(f->scenario, "nvmlDeviceGetMinorNumber", json_pack("{s:s}", "return", "NOT_SUPPORTED"));
    apply(f);
    start_monitor(f);
    WAIT_FOR(f, snapshot(f)->taken_ms > 0);
    g_assert_cmpint(gpu_figure(gpu(f, 1), GPU_MINOR), ==, 42);
    g_assert_cmpint(gpu(f, 1)->condition, ==, GPU_CONDITION_OK);
    g_assert_cmpint(gpu(f, 0)->condition, ==, GPU_CONDITION_UNKNOWN); /* without it its use cannot be verified */
    g_assert_false(gpu_has(gpu(f, 0), GPU_MINOR));
}

static void test_other_driver(struct fixture *f, const void *data) {
    json_object_set_new(card(f, 0), "driver", json_string("nouveau"));
    json_object_set_new(card(f, 1), "driver", json_null());
    apply(f);
    WAIT_FOR(f, count(f) == 4 && says(gpu(f, 1)->reason, "no driver is bound"));
    g_assert_true(says(gpu(f, 0)->reason, "nouveau"));
    g_assert_cmpint(gpu(f, 0)->condition, ==, GPU_CONDITION_UNKNOWN);
    g_assert_cmpint(gpu(f, 2)->condition, ==, GPU_CONDITION_OK);
}

static void test_odd_texts(struct fixture *f, const void *data) {
    json_object_set_new(card(f, 0), "name", json_string("H100 \xc3\xa9\"\\ \n"));
    apply(f);
    WAIT_FOR(f, all_ok(f) && says(gpu(f, 0)->name, "H100 ??\"\\ ?"));
}

static void test_cancel(struct fixture *f, const void *data) {
    const char *uuids[] = {uuid_of(f, 0)};
    struct gpu_check_call *first = gpu_monitor_check(f->monitor, uuids, 1, on_checked, f);
    struct gpu_check_call *second = gpu_monitor_check(f->monitor, uuids, 1, on_checked, f);

    gpu_check_cancel(first);
    WAIT_FOR(f, all_ok(f));
    gpu_check_cancel(NULL);
    WAIT_FOR(f, f->checks_done == 1);
    (void)second;
    gpu_monitor_check(f->monitor, uuids, 1, on_checked, f); /* freed with the monitor, never called */
    stop_monitor(f);
    g_assert_cmpint(f->checks_done, ==, 1);
    start_monitor(f);
}

static void test_worker_missing(struct fixture *f, const void *data) {
    struct gpu_monitor_config config = {.sysfs_root = f->root,
                                        .nvml_library = f->library,
                                        .index_file = f->index_path,
                                        .worker_exe = "/does/not/exist",
                                        .interval_ms = 40,
                                        .deadline_ms = DEADLINE_MS};

    WAIT_FOR(f, all_ok(f));
    stop_monitor(f);
    f->monitor = gpu_monitor_new(&f->loop, &config, on_update, f, NULL);
    f->updates = 0;
    WAIT_FOR(f, f->updates > 0);
    g_assert_true(says(gpu(f, 0)->reason, "cannot be started: no such file"));
    g_assert_cmpint(gpu(f, 0)->condition, ==, GPU_CONDITION_UNKNOWN);
    check(f, 0, 1);
    g_assert_true(says(f->why[0], "no answer"));
}

static void test_bad_index_file(struct fixture *f, const void *data) {
    struct gpu_monitor_config config = {
        .sysfs_root = "/", .nvml_library = "x", .index_file = "/proc/nowhere/x", .interval_ms = 1, .deadline_ms = 1};
    g_autoptr(GError) error = NULL;

    g_assert_null(gpu_monitor_new(&f->loop, &config, on_update, f, &error));
    g_assert_error(error, KR_ERROR, KR_ERROR_IO);
}

int main(int argc, char **argv) {
    static const struct {
        const char *path;
        void (*run)(struct fixture *, const void *);
    } tests[] = {{"/gpu/monitor/figures-and-changes", test_figures},
                 {"/gpu/monitor/R7-L57-hang-costs-one-card-and-recovers", test_hang},
                 {"/gpu/monitor/R3-R7-library-hangs-all-unknown", test_library_hangs},
                 {"/gpu/monitor/R2-R7-check-that-hangs-is-not-free", test_check_hangs},
                 {"/gpu/monitor/L40-crash-of-the-library", test_crash},
                 {"/gpu/monitor/L40-old-library", test_old_library},
                 {"/gpu/monitor/L43-missing-figure-is-absent", test_missing_figure},
                 {"/gpu/monitor/R3-memory-unreadable-is-unknown", test_memory_fails},
                 {"/gpu/monitor/L38-L39-L41-init-fails-then-works", test_init_fails},
                 {"/gpu/monitor/L41-driver-reloaded", test_session_dies},
                 {"/gpu/monitor/L31-no-library", test_no_library},
                 {"/gpu/monitor/L40-not-an-nvml-library", test_wrong_library},
                 {"/gpu/monitor/R3-no-tree-is-not-known", test_no_tree},
                 {"/gpu/monitor/no-cards-is-known", test_no_cards},
                 {"/gpu/monitor/L57-lost-card-is-its-own-fault", test_lost_card},
                 {"/gpu/monitor/L61-gone-card-stays-listed", test_gone_card},
                 {"/gpu/monitor/R4-L48-vfio-renumbering", test_vfio_renumbering},
                 {"/gpu/monitor/L10-foreign-process", test_foreign},
                 {"/gpu/monitor/L65-memory-above-baseline", test_memory_evidence},
                 {"/gpu/monitor/R2-memory-never-seen-idle", test_memory_never_seen_idle},
                 {"/gpu/monitor/L76-mig-is-unknown", test_mig},
                 {"/gpu/monitor/L46-minor-from-the-driver", test_minor_from_proc},
                 {"/gpu/monitor/other-driver-or-none", test_other_driver},
                 {"/gpu/monitor/odd-texts-do-no-harm", test_odd_texts},
                 {"/gpu/monitor/cancelled-check", test_cancel},
                 {"/gpu/monitor/worker-cannot-start", test_worker_missing},
                 {"/gpu/monitor/index-file-cannot-be-written", test_bad_index_file}};

    g_test_init(&argc, &argv, NULL);
    log_init(LOG_LEVEL_ERROR);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fixture, NULL, setup, tests[i].run, teardown);
    return g_test_run();
}
