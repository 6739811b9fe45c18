/* The executor over the simulated engine and stand-in cards. A "restart" is a new executor over the same state folder and the same
 * world of containers, as after kill -9: nothing of the old one is told to anybody. */

#include "runner/executor.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "engine/simulated.h"
#include "runner/lease_files.h"
#include "runner/log_store.h"
#include "runner/node_facts.h"

enum { N_CARDS = 4, DEADLINE_MS = 20000, POLL_US = 300 };

struct card {
    char uuid[16];
    char *busy; /* why it is not free, or NULL */
    bool leased, minor_unknown;
};

struct fixture {
    uv_loop_t loop;
    struct sim_world *world;
    struct engine *engine;
    struct executor *x;
    struct lease_files *leases;
    struct log_store *logs;
    struct node_facts *facts;
    char *folder;
    struct card cards[N_CARDS];
    GPtrArray *reports; /* of struct task_report, in the order they came */
    int outputs, checks, truths;
    bool may_pull;
    int64_t grace_ms, drain_ms, log_max_bytes;
    char *allowed[2];
};

/* The stand-in for /proc/PID/root/dev has no argument of ours. */
static struct fixture *fixture_of_minors;
static const char *minors_override; /* "0,2", or NULL: those the last container asked for */

static int failing_folder_syncs;

/* In place of the C library's: the next failing_folder_syncs of folders fail. */
int fsync(int fd) {
    struct stat status;

    if (failing_folder_syncs > 0 && fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
        failing_folder_syncs--;
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

/* ---- cards ---- */

struct gpu_check_call {
    uv_timer_t timer;
    struct fixture *f;
    struct gpu_check checks[N_CARDS];
    size_t n;
    gpu_check_cb *on_done;
    void *arg;
};

static struct card *card_of(struct fixture *f, const char *uuid) {
    for (int i = 0; i < N_CARDS; i++)
        if (strcmp(f->cards[i].uuid, uuid) == 0)
            return &f->cards[i];
    return NULL;
}

static void on_check_closed(uv_handle_t *handle) { g_free(handle->data); }

static void on_check(uv_timer_t *timer) {
    struct gpu_check_call *call = timer->data;

    for (size_t i = 0; i < call->n; i++) {
        struct card *card = card_of(call->f, call->checks[i].uuid);
        call->checks[i].why = card ? card->busy : (char *)"no such card";
        call->checks[i].is_free = call->checks[i].why == NULL;
    }
    uv_close((uv_handle_t *)timer, on_check_closed);
    call->on_done(call->arg, call->checks, call->n);
}

static struct gpu_check_call *stub_check(void *user, const char *const *uuids, size_t n, gpu_check_cb *on_done, void *arg) {
    struct gpu_check_call *call = g_new0(struct gpu_check_call, 1);

    call->f = user;
    call->f->checks++;
    call->n = n;
    call->on_done = on_done;
    call->arg = arg;
    for (size_t i = 0; i < n; i++)
        g_strlcpy(call->checks[i].uuid, uuids[i], sizeof call->checks[i].uuid);
    uv_timer_init(&call->f->loop, &call->timer);
    call->timer.data = call;
    uv_timer_start(&call->timer, on_check, 1, 0);
    return call;
}

static void stub_check_cancel(struct gpu_check_call *call) { uv_close((uv_handle_t *)&call->timer, on_check_closed); }

static void stub_set_leased(void *user, const char *uuid, bool leased) {
    struct card *card = card_of(user, uuid);
    if (card)
        card->leased = leased;
}

static bool stub_minor_of(void *user, const char *uuid, int *ret_minor) {
    struct fixture *f = user;
    struct card *card = card_of(f, uuid);

    if (!card || card->minor_unknown)
        return false;
    *ret_minor = (int)(card - f->cards) + 10;
    return true;
}

static bool stub_minors_visible(pid_t pid, GArray **ret_minors, GError **error) {
    GArray *minors = g_array_new(FALSE, FALSE, sizeof(int));
    const char *config = sim_world_last_config(fixture_of_minors->world);
    const char *gpus = strstr(config, "gpus="), *end = strchr(gpus, ' ');

    for (int i = 0; i < N_CARDS; i++) {
        const char *at = minors_override ? strchr(minors_override, '0' + i) : strstr(gpus, fixture_of_minors->cards[i].uuid);
        int minor = i + 10;
        if (at && (minors_override || at < end))
            g_array_append_val(minors, minor);
    }
    *ret_minors = minors;
    return true;
}

/* ---- fixture ---- */

static void on_report(void *user, const struct task_report *report) {
    struct fixture *f = user;
    struct task_report *copy = g_memdup2(report, sizeof *report);

    copy->reason = g_strdup(report->reason);
    copy->holding = g_strdup(report->holding);
    g_ptr_array_add(f->reports, copy);
}

static void on_output(void *user, uint32_t task_id) { ((struct fixture *)user)->outputs++; }

static void on_truth(void *user) { ((struct fixture *)user)->truths++; }

static void begin(struct fixture *f) {
    static const struct executor_handlers handlers = {.on_report = on_report, .on_output = on_output, .on_truth = on_truth};
    struct executor_gpus gpus = {stub_check, stub_check_cancel, stub_set_leased, stub_minor_of, stub_minors_visible, f};
    struct executor_config config = {.node = "n1", .cluster_id = "c1", .default_image = "", .network = "none",
                                     .working_dir = "", .allowed_mounts = f->allowed, .may_pull = f->may_pull,
                                     .injection = ENGINE_INJECTION_NVIDIA, .memlock = ENGINE_MEMLOCK_DEFAULT,
                                     .stop_grace_ms = f->grace_ms, .drain_timeout_ms = f->drain_ms, .retry_ms = 5, .output_timeout_ms = 40};
    g_autoptr(GError) error = NULL;

    f->engine = engine_simulated_new(f->world);
    f->leases = lease_files_open(f->folder, &error);
    g_assert_no_error(error);
    f->logs = log_store_new(f->folder, f->log_max_bytes, &error);
    g_assert_no_error(error);
    f->x = executor_new(&f->loop, &config, f->engine, &gpus, f->facts, f->leases, f->logs, &handlers, f);
    executor_restore(f->x, &error);
    g_assert_no_error(error);
    executor_reconcile(f->x);
}

static void die(struct fixture *f) {
    executor_free(f->x);
    engine_free(f->engine);
    lease_files_close(f->leases);
    log_store_free(f->logs);
    for (int i = 0; i < N_CARDS; i++)
        f->cards[i].leased = false;
}

static void restart(struct fixture *f) {
    die(f);
    begin(f);
}

static void make_numa(struct fixture *f) {
    static const char *const file[][2] = {{"has_memory", "0\n"}, {"node0/cpulist", "0-1\n"}, {"node1/cpulist", "2-3\n"},
                                          {"node0/meminfo", "Node 0 MemTotal:  1000 kB\n"}};

    for (size_t i = 0; i < G_N_ELEMENTS(file); i++) {
        g_autofree char *path = g_build_filename(f->folder, "root/sys/devices/system/node", file[i][0], NULL);
        g_autofree char *folder = g_path_get_dirname(path);
        g_assert_cmpint(g_mkdir_with_parents(folder, 0700), ==, 0);
        g_assert_true(g_file_set_contents(path, file[i][1], -1, NULL));
    }
}

static void set_up(struct fixture *f, gconstpointer data) {
    g_autofree char *root = NULL;

    fixture_of_minors = f;
    minors_override = NULL;
    uv_loop_init(&f->loop);
    f->folder = g_dir_make_tmp("kr-executor-XXXXXX", NULL);
    make_numa(f);
    root = g_build_filename(f->folder, "root", NULL);
    f->facts = node_facts_new(root, 0);
    f->world = sim_world_new(&f->loop);
    sim_world_add_image(f->world, "img");
    for (int i = 0; i < N_CARDS; i++)
        g_snprintf(f->cards[i].uuid, sizeof f->cards[i].uuid, "GPU-%d", i);
    f->reports = g_ptr_array_new_with_free_func((GDestroyNotify)task_report_free);
    f->may_pull = true;
    f->grace_ms = 50;
    f->drain_ms = 100;
    f->log_max_bytes = 1 << 20;
    begin(f);
}

/* Never through a link: what it points to is not ours. */
static void remove_tree(const char *path) {
    g_autoptr(GDir) dir = g_file_test(path, G_FILE_TEST_IS_SYMLINK) ? NULL : g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        remove_tree(child);
    }
    g_remove(path);
}

static void tear_down(struct fixture *f, gconstpointer data) {
    die(f);
    sim_world_free(f->world);
    for (int i = 0; i < 20; i++)
        uv_run(&f->loop, UV_RUN_NOWAIT);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    g_assert_cmpint(uv_loop_close(&f->loop), ==, 0);
    node_facts_free(f->facts);
    g_ptr_array_unref(f->reports);
    for (int i = 0; i < N_CARDS; i++)
        g_free(f->cards[i].busy);
    remove_tree(f->folder);
    g_free(f->folder);
    g_free(f->allowed[0]);
}

/* ---- doing and waiting ---- */

static const struct task_report *newest(struct fixture *f, uint32_t task_id) {
    for (guint i = f->reports->len; i > 0; i--) {
        struct task_report *report = f->reports->pdata[i - 1];
        if (report->task_id == task_id)
            return report;
    }
    return NULL;
}

static void spin(struct fixture *f, int ms) {
    gint64 end = g_get_monotonic_time() + ms * 1000;

    do {
        uv_run(&f->loop, UV_RUN_NOWAIT);
        g_usleep(POLL_US);
    } while (g_get_monotonic_time() < end);
}

static const struct task_report *wait_state(struct fixture *f, uint32_t task_id, enum task_state state, bool released) {
    gint64 end = g_get_monotonic_time() + DEADLINE_MS * 1000;
    const struct task_report *report;

    while (!(report = newest(f, task_id)) || report->state != state || report->released != released) {
        if (g_get_monotonic_time() > end)
            g_error("task %u is %s (%s), not %s", task_id, report ? task_state_to_str(report->state) : "unknown",
                    report && report->reason ? report->reason : "", task_state_to_str(state));
        uv_run(&f->loop, UV_RUN_NOWAIT);
        g_usleep(POLL_US);
    }
    return report;
}

static struct lease lease_of(uint32_t task_id, int64_t epoch, const char *cards) {
    struct lease lease = {.task_id = task_id, .epoch = epoch, .numa = TARGET_NO_NUMA, .granted_ms = 1700000000000};

    g_strlcpy(lease.node, "n1", sizeof lease.node);
    for (; *cards; cards++) {
        struct lease_gpu *gpu = &lease.gpus[lease.n_gpus++];
        gpu->index = *cards - '0';
        g_snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%c", *cards);
    }
    return lease;
}

static void start_lease(struct fixture *f, const struct lease *lease, const char *image, const char *command) {
    g_auto(GStrv) argv = g_strsplit(command, " ", -1);
    struct task_spec spec = {.image = (char *)image, .argv = argv};

    executor_start(f->x, lease, &spec);
}

static void start(struct fixture *f, uint32_t task_id, const char *cards, const char *command) {
    struct lease lease = lease_of(task_id, task_id * 10, cards);

    start_lease(f, &lease, "img", command);
}

static char *name_of(uint32_t task_id) { return g_strdup_printf("kohakuriver-c1-n1-%u-%u", task_id, task_id * 10); }

static bool lease_exists(struct fixture *f, uint32_t task_id) {
    g_autofree char *path = g_strdup_printf("%s/leases/%u.json", f->folder, task_id);
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static char *output(struct fixture *f, uint32_t task_id, const char *stream) {
    g_autofree char *path = g_strdup_printf("%s/logs/%u.%s", f->folder, task_id, stream);
    char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? text : g_strdup("(none)");
}

static void ack(struct fixture *f, uint32_t task_id) {
    executor_ack(f->x, task_id, task_id * 10);
    g_assert_false(lease_exists(f, task_id));
}

static void ack_all_gone(struct fixture *f, uint32_t task_id) {
    ack(f, task_id);
    g_assert_cmpint(executor_count(f->x), ==, 0);
    g_assert_cmpint(sim_world_count(f->world), ==, 0);
    for (int i = 0; i < N_CARDS; i++)
        g_assert_false(f->cards[i].leased);
}

/* ---- the plain way ---- */

static void test_success(struct fixture *f, gconstpointer data) {
    const struct task_report *report;
    g_autofree char *out = NULL, *err = NULL;

    start(f, 1, "02", "sim out=hello err=oh run=20");
    g_assert_true(lease_exists(f, 1)); /* decide, record, act: it is on disk before anything was asked of the engine */
    g_assert_cmpint(sim_world_count(f->world), ==, 0);
    wait_state(f, 1, TASK_RUNNING, false);
    g_assert_true(f->cards[0].leased && f->cards[2].leased && !f->cards[1].leased);
    report = wait_state(f, 1, TASK_COMPLETED, true);
    g_assert_true(report->has_exit_code);
    g_assert_cmpint(report->exit_code, ==, 0);
    g_assert_cmpint(report->started_ms, >, 0);
    g_assert_cmpint(report->finished_ms, >=, report->started_ms);
    g_assert_null(report->reason);
    g_assert_true(lease_exists(f, 1)); /* until the host has it */
    out = output(f, 1, "stdout");
    err = output(f, 1, "stderr");
    g_assert_cmpstr(out, ==, "hello\n");
    g_assert_cmpstr(err, ==, "oh\n");
    ack_all_gone(f, 1);
}

static void test_exit_code(struct fixture *f, gconstpointer data) {
    const struct task_report *report;

    start(f, 1, "", "sim exit=3");
    report = wait_state(f, 1, TASK_FAILED, true);
    g_assert_cmpint(report->exit_code, ==, 3);
    g_assert_null(report->reason);
    ack_all_gone(f, 1);
}

/* K14: 137 alone is no proof of lacking memory. */
static void test_oom(struct fixture *f, gconstpointer data) {
    const struct task_report *report;

    start(f, 1, "", "sim oom");
    report = wait_state(f, 1, TASK_FAILED, true);
    g_assert_true(report->oom);
    g_assert_cmpint(report->exit_code, ==, 137);
    g_assert_nonnull(strstr(report->reason, "out of memory"));
    ack(f, 1);
    start(f, 2, "", "sim exit=137");
    report = wait_state(f, 2, TASK_FAILED, true);
    g_assert_false(report->oom);
    g_assert_cmpstr(report->reason, ==, "ended by signal 9 (Killed)");
}

static void test_environment(struct fixture *f, gconstpointer data) {
    start(f, 1, "", "sim");
    wait_state(f, 1, TASK_COMPLETED, true);
    g_assert_nonnull(strstr(sim_world_last_config(f->world), "CUDA_DEVICE_ORDER=PCI_BUS_ID"));
    g_assert_nonnull(strstr(sim_world_last_config(f->world), "NVIDIA_VISIBLE_DEVICES=void"));
    start(f, 2, "3", "sim");
    wait_state(f, 2, TASK_COMPLETED, true);
    g_assert_null(strstr(sim_world_last_config(f->world), "NVIDIA_VISIBLE_DEVICES"));
    g_assert_nonnull(strstr(sim_world_last_config(f->world), "gpus=GPU-3 "));
}

/* Memory is bound only on a NUMA node that has some. */
static void test_numa(struct fixture *f, gconstpointer data) {
    struct lease lease = lease_of(1, 1, "");

    lease.numa = 0;
    start_lease(f, &lease, "img", "sim");
    wait_state(f, 1, TASK_COMPLETED, true);
    g_assert_nonnull(strstr(sim_world_last_config(f->world), "cpus=0-1 mems=0 "));
    lease = lease_of(2, 2, "");
    lease.numa = 1;
    start_lease(f, &lease, "img", "sim");
    wait_state(f, 2, TASK_COMPLETED, true);
    g_assert_nonnull(strstr(sim_world_last_config(f->world), "cpus=2-3 mems= "));
    lease = lease_of(3, 3, "");
    lease.numa = 7;
    start_lease(f, &lease, "img", "sim");
    g_assert_cmpstr(wait_state(f, 3, TASK_FAILED, true)->reason, ==, "node n1 has no NUMA node 7");
}

/* ---- what cannot start ---- */

static void test_image(struct fixture *f, gconstpointer data) {
    struct lease lease = lease_of(1, 1, "0");

    start_lease(f, &lease, "nowhere:1", "sim");
    g_assert_cmpstr(wait_state(f, 1, TASK_FAILED, true)->reason, ==,
                    "the image nowhere:1 is not on node n1 and cannot be fetched: pull nowhere:1: not found in the registry");
    executor_ack(f->x, 1, 1);
    sim_world_add_registry_image(f->world, "far:1");
    lease = lease_of(2, 2, "0");
    start_lease(f, &lease, "far:1", "sim");
    wait_state(f, 2, TASK_COMPLETED, true);
    executor_ack(f->x, 2, 2);
    f->may_pull = false;
    restart(f);
    lease = lease_of(3, 3, "0");
    start_lease(f, &lease, "nowhere:1", "sim");
    g_assert_cmpstr(wait_state(f, 3, TASK_FAILED, true)->reason, ==,
                    "the image nowhere:1 is not on node n1 (its pull_policy is never)");
    executor_ack(f->x, 3, 3);
    lease = lease_of(4, 4, "");
    start_lease(f, &lease, NULL, "sim");
    g_assert_cmpstr(wait_state(f, 4, TASK_FAILED, true)->reason, ==,
                    "no image is named and node n1 has no default_image");
    g_assert_cmpint(sim_world_count(f->world), ==, 0);
}

static void test_foreign(struct fixture *f, gconstpointer data) {
    f->cards[1].busy = g_strdup("pid 4711 python3 (user alice) uses it");
    start(f, 1, "01", "sim");
    g_assert_cmpstr(wait_state(f, 1, TASK_FAILED, true)->reason, ==,
                    "GPU 1 (GPU-1) of node n1 is not free: pid 4711 python3 (user alice) uses it");
    g_assert_cmpint(sim_world_starts(f->world), ==, 0);
    ack_all_gone(f, 1);
}

/* L10: what came to the card during a long pull counts. */
static void test_foreign_after_pull(struct fixture *f, gconstpointer data) {
    struct lease lease = lease_of(1, 10, "1");

    spin(f, 10);
    sim_world_add_registry_image(f->world, "far:1");
    sim_world_hang(f->world, "pull", true);
    start_lease(f, &lease, "far:1", "sim");
    spin(f, 20);
    f->cards[1].busy = g_strdup("pid 4711 python3 (user alice) uses it");
    sim_world_hang(f->world, "pull", false);
    g_assert_nonnull(strstr(wait_state(f, 1, TASK_FAILED, true)->reason, "is not free: pid 4711"));
    g_assert_cmpint(sim_world_starts(f->world), ==, 0);
    ack_all_gone(f, 1);
}

/* L10: the same between two lives of the runner. */
static void test_foreign_after_restart(struct fixture *f, gconstpointer data) {
    spin(f, 10);
    sim_world_hang(f->world, "start", true);
    start(f, 1, "1", "sim run=100000");
    spin(f, 20);
    g_assert_cmpint(sim_world_count(f->world), ==, 1);
    die(f);
    sim_world_hang(f->world, "start", false);
    f->cards[1].busy = g_strdup("pid 4711 python3 (user alice) uses it");
    begin(f);
    g_assert_nonnull(strstr(wait_state(f, 1, TASK_FAILED, false)->holding, "pid 4711")); /* R2, until it is gone */
    g_assert_nonnull(strstr(newest(f, 1)->reason, "is not free: pid 4711"));
    g_assert_cmpint(sim_world_starts(f->world), ==, 0);
    g_clear_pointer(&f->cards[1].busy, g_free);
    wait_state(f, 1, TASK_FAILED, true);
    ack_all_gone(f, 1);
}

static void test_start_refused(struct fixture *f, gconstpointer data) {
    start(f, 1, "0", "sim startfail=could_not_select_device_driver");
    g_assert_cmpstr(wait_state(f, 1, TASK_FAILED, true)->reason, ==,
                    "the engine cannot start it: could_not_select_device_driver");
    ack_all_gone(f, 1);
}

/* L52, and the engines that drop GPU requests in silence. */
static void check_wrong_gpus(struct fixture *f, uint32_t task_id, const char *leased, const char *arrived, const char *expected) {
    const struct task_report *report;

    minors_override = arrived;
    start(f, task_id, leased, "sim run=100000");
    report = wait_state(f, task_id, TASK_FAILED, true);
    g_assert_cmpstr(report->reason, ==, expected);
    for (guint i = 0; i < f->reports->len; i++) {
        const struct task_report *each = f->reports->pdata[i];
        g_assert_false(each->task_id == task_id && each->state == TASK_RUNNING);
    }
    ack_all_gone(f, task_id);
}

static void test_wrong_gpus(struct fixture *f, gconstpointer data) {
    check_wrong_gpus(f, 1, "01", "", "the container has not exactly the GPUs of its lease: found none, leased /dev/nvidia10 /dev/nvidia11");
    check_wrong_gpus(f, 2, "0", "01", "the container has not exactly the GPUs of its lease: found /dev/nvidia10 /dev/nvidia11, leased /dev/nvidia10");
    check_wrong_gpus(f, 3, "1", "0", "the container has not exactly the GPUs of its lease: found /dev/nvidia10, leased /dev/nvidia11");
    check_wrong_gpus(f, 4, "", "2", "the container has not exactly the GPUs of its lease: found /dev/nvidia12, leased none");
}

static void test_mounts(struct fixture *f, gconstpointer data) {
    g_autofree char *data_dir = g_build_filename(f->folder, "data", NULL), *link = g_build_filename(f->folder, "data/out", NULL);
    g_autofree char *good = g_strdup_printf("%s/data/in:/in:ro", f->folder), *sly = g_strdup_printf("%s/data/out:/out", f->folder);
    g_autofree char *in = g_build_filename(f->folder, "data/in", NULL), *outside = g_build_filename(f->folder, "outside", NULL);
    g_autofree char *refusal = g_strdup_printf("does not allow %s (its setting allowed_mounts)", outside);
    static const struct { uint32_t id; bool ok; } row[] = {{1, true}, {2, false}, {3, false}, {4, false}};
    const char *mounts[] = {good, sly, "/etc:/etc", "/nowhere/x:/x"};

    g_mkdir_with_parents(in, 0700);
    g_assert_cmpint(g_mkdir_with_parents(outside, 0700), ==, 0);
    g_assert_cmpint(symlink(outside, link), ==, 0);
    f->allowed[0] = g_strdup(data_dir);
    restart(f);
    for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
        struct lease lease = lease_of(row[i].id, row[i].id, "");
        char *argv[] = {(char *)"sim", NULL}, *list[] = {(char *)mounts[i], NULL};
        struct task_spec spec = {.image = (char *)"img", .argv = argv, .mounts = list};
        executor_start(f->x, &lease, &spec);
        wait_state(f, row[i].id, row[i].ok ? TASK_COMPLETED : TASK_FAILED, true);
    }
    g_assert_nonnull(strstr(newest(f, 2)->reason, refusal));
    g_assert_nonnull(strstr(newest(f, 4)->reason, "No such file or directory"));
}

/* ---- who may hold what ---- */

static void test_second_lease(struct fixture *f, gconstpointer data) {
    start(f, 1, "12", "sim run=100000");
    wait_state(f, 1, TASK_RUNNING, false);
    start(f, 2, "23", "sim");
    g_assert_nonnull(strstr(newest(f, 2)->reason, "GPU 2 (GPU-2) is held on node n1 by task 1 since 2023-11-14"));
    g_assert_true(newest(f, 2)->released);
    g_assert_false(lease_exists(f, 2));
    restart(f); /* the files know it too */
    start(f, 3, "1", "sim");
    g_assert_nonnull(strstr(newest(f, 3)->reason, "held on node n1 by task 1"));
    start(f, 4, "3", "sim");
    wait_state(f, 4, TASK_COMPLETED, true);
    executor_stop(f->x, 1, 10);
    wait_state(f, 1, TASK_KILLED, true);
    start(f, 5, "1", "sim"); /* ended, released, not acknowledged: still held */
    g_assert_nonnull(strstr(newest(f, 5)->reason, "held on node n1 by task 1"));
    ack(f, 1);
    start(f, 6, "1", "sim");
    wait_state(f, 6, TASK_COMPLETED, true);
}

static void test_lower_epoch(struct fixture *f, gconstpointer data) {
    struct lease old = lease_of(7, 9, "0"), same = lease_of(8, 10, "0"), other_card = lease_of(9, 9, "1");

    start(f, 1, "0", "sim");
    wait_state(f, 1, TASK_COMPLETED, true);
    ack(f, 1);
    restart(f); /* it is remembered without a lease file */
    start_lease(f, &old, "img", "sim");
    g_assert_nonnull(strstr(newest(f, 7)->reason, "out of date"));
    start_lease(f, &same, "img", "sim");
    g_assert_nonnull(strstr(newest(f, 8)->reason, "out of date"));
    start_lease(f, &other_card, "img", "sim");
    wait_state(f, 9, TASK_COMPLETED, true);
}

static void test_idempotent(struct fixture *f, gconstpointer data) {
    guint before;

    start(f, 1, "0", "sim run=60");
    start(f, 1, "0", "sim run=60");
    wait_state(f, 1, TASK_RUNNING, false);
    before = f->reports->len;
    start(f, 1, "0", "sim run=60");
    g_assert_cmpint(f->reports->len, ==, before + 1);
    g_assert_cmpint(newest(f, 1)->state, ==, TASK_RUNNING);
    wait_state(f, 1, TASK_COMPLETED, true);
    start(f, 1, "0", "sim run=60");
    g_assert_cmpint(newest(f, 1)->state, ==, TASK_COMPLETED);
    executor_stop(f->x, 1, 10);
    g_assert_cmpint(newest(f, 1)->state, ==, TASK_COMPLETED);
    g_assert_cmpint(sim_world_starts(f->world), ==, 1);
    ack(f, 1);
    executor_ack(f->x, 1, 10);
    executor_stop(f->x, 1, 10);
    g_assert_cmpint(newest(f, 1)->state, ==, TASK_UNSET);
}

static void test_ack_too_early(struct fixture *f, gconstpointer data) {
    start(f, 1, "0", "sim run=50");
    executor_ack(f->x, 1, 10);
    wait_state(f, 1, TASK_RUNNING, false);
    executor_ack(f->x, 1, 10);
    wait_state(f, 1, TASK_COMPLETED, true);
    executor_ack(f->x, 1, 11);
    g_assert_true(lease_exists(f, 1));
}

/* ---- stopping ---- */

static void test_stop_term(struct fixture *f, gconstpointer data) {
    const struct task_report *report;

    start(f, 1, "0", "sim run=100000");
    wait_state(f, 1, TASK_RUNNING, false);
    executor_stop(f->x, 1, 10);
    g_assert_cmpint(newest(f, 1)->state, ==, TASK_STOPPING);
    report = wait_state(f, 1, TASK_KILLED, true);
    g_assert_cmpint(report->exit_code, ==, 128 + SIGTERM);
    g_assert_cmpstr(report->reason, ==, "stopped on request");
    ack_all_gone(f, 1);
}

static void test_stop_kill(struct fixture *f, gconstpointer data) {
    gint64 began = g_get_monotonic_time();

    start(f, 1, "0", "sim run=100000 stubborn");
    wait_state(f, 1, TASK_RUNNING, false);
    executor_stop(f->x, 1, 10);
    g_assert_cmpint(wait_state(f, 1, TASK_KILLED, true)->exit_code, ==, 128 + SIGKILL);
    g_assert_cmpint(g_get_monotonic_time() - began, >=, f->grace_ms * 1000);
}

/* A stop after N turns of the loop hits every phase in time; whichever it is, the end is the same. */
static void test_stop_anywhere(struct fixture *f, gconstpointer data) {
    sim_world_add_registry_image(f->world, "far:1");
    for (uint32_t turns = 0; turns < 30; turns++) {
        uint32_t id = turns + 1;
        struct lease lease = lease_of(id, id * 10, "1");
        g_autofree char *image = g_strdup_printf("far:%u", turns % 3 ? 1 : id + 100);

        sim_world_add_registry_image(f->world, image);
        start_lease(f, &lease, image, "sim run=100000");
        for (uint32_t i = 0; i < turns; i++) {
            uv_run(&f->loop, UV_RUN_NOWAIT);
            g_usleep(200);
        }
        executor_stop(f->x, id, id * 10);
        wait_state(f, id, TASK_KILLED, true);
        ack_all_gone(f, id);
    }
}

/* The engine never answers: the stop is carried out all the same, and the card is held until the container is gone. */
static void check_stop_hanging(struct fixture *f, const char *operation) {
    const struct task_report *report;

    spin(f, 10); /* recovery has seen the engine */
    sim_world_hang(f->world, operation, true);
    sim_world_hang(f->world, "remove", true); /* it waits for the start */
    start(f, 1, "0", "sim run=100000");
    spin(f, 20);
    executor_stop(f->x, 1, 10);
    g_assert_cmpint(newest(f, 1)->state, ==, TASK_STOPPING);
    spin(f, 20);
    g_assert_cmpint(newest(f, 1)->state, ==, TASK_STOPPING); /* the grace */
    spin(f, 200);
    g_assert_false(newest(f, 1)->released);
    g_assert_true(f->cards[0].leased);
    sim_world_hang(f->world, "remove", false);
    report = wait_state(f, 1, TASK_KILLED, true);
    g_assert_cmpstr(report->reason, ==, "stopped while the engine was starting it");
    g_assert_cmpint(sim_world_starts(f->world), ==, 0);
    ack_all_gone(f, 1);
}

static void test_stop_hanging_start(struct fixture *f, gconstpointer data) { check_stop_hanging(f, "start"); }

static void test_stop_hanging_create(struct fixture *f, gconstpointer data) { check_stop_hanging(f, "create"); }

static void test_stop_while_away(struct fixture *f, gconstpointer data) {
    start(f, 1, "0", "sim run=100000");
    wait_state(f, 1, TASK_RUNNING, false);
    sim_world_set_down(f->world, true);
    executor_stop(f->x, 1, 10);
    spin(f, 50);
    g_assert_cmpint(newest(f, 1)->state, ==, TASK_STOPPING);
    sim_world_set_down(f->world, false);
    wait_state(f, 1, TASK_KILLED, true);
}

/* ---- engines that go away ---- */

static void test_engine_away(struct fixture *f, gconstpointer data) {
    g_autofree char *name = name_of(1), *out = NULL;

    sim_world_set_down(f->world, true);
    start(f, 1, "0", "sim run=250 out=a");
    spin(f, 50);
    g_assert_cmpint(newest(f, 1)->state, ==, TASK_STARTING);
    sim_world_set_down(f->world, false);
    wait_state(f, 1, TASK_RUNNING, false);
    sim_world_print(f->world, name, ENGINE_STDOUT, "b");
    sim_world_set_down(f->world, true);
    sim_world_print(f->world, name, ENGINE_STDOUT, "c");
    spin(f, 400); /* it ends meanwhile, and nothing is concluded */
    g_assert_cmpint(newest(f, 1)->state, ==, TASK_RUNNING);
    sim_world_set_down(f->world, false);
    wait_state(f, 1, TASK_COMPLETED, true);
    out = output(f, 1, "stdout");
    g_assert_cmpstr(out, ==, "a\nb\nc\n");
    g_assert_cmpint(sim_world_starts(f->world), ==, 1);
}

/* Each call broken, before and after it did its work: one start, the true code, nothing left. */
static void test_broken_calls(struct fixture *f, gconstpointer data) {
    static const char *const calls[] = {"create", "start", "wait", "inspect", "logs", "remove", "pull"};
    uint32_t id = 0;

    for (size_t i = 0; i < 2 * G_N_ELEMENTS(calls); i++) {
        struct lease lease;
        g_autofree char *image = g_strdup_printf("far:%zu", i), *out = NULL;
        id++;
        lease = lease_of(id, id * 10, "3");
        sim_world_add_registry_image(f->world, image);
        sim_world_break(f->world, calls[i / 2], 2, i % 2);
        start_lease(f, &lease, image, "sim run=10 exit=5 out=x");
        g_assert_cmpint(wait_state(f, id, TASK_FAILED, true)->exit_code, ==, 5);
        out = output(f, id, "stdout");
        g_assert_cmpstr(out, ==, "x\n");
        g_assert_cmpint(sim_world_starts(f->world), ==, (int)id);
        ack_all_gone(f, id);
    }
}

static void test_vanished(struct fixture *f, gconstpointer data) {
    g_autofree char *name = name_of(1);

    start(f, 1, "0", "sim run=100000");
    wait_state(f, 1, TASK_RUNNING, false);
    sim_world_remove(f->world, name);
    g_assert_nonnull(strstr(wait_state(f, 1, TASK_FAILED, true)->reason, "vanished"));
    ack_all_gone(f, 1);
}

/* The output cannot be read although the engine is there: the end waits for it only so long. */
static void check_unreadable(struct fixture *f, uint32_t task_id, enum kr_error code) {
    g_autofree char *err = NULL;

    sim_world_refuse(f->world, "logs", 1000000, code);
    start(f, task_id, "0", "sim run=20 exit=4 out=x");
    g_assert_cmpint(wait_state(f, task_id, TASK_FAILED, true)->exit_code, ==, 4);
    err = output(f, task_id, "stderr");
    g_assert_nonnull(strstr(err, "the end of the output may be missing"));
    ack_all_gone(f, task_id);
}

static void test_unreadable_broken(struct fixture *f, gconstpointer data) { check_unreadable(f, 1, KR_ERROR_IO); }

static void test_unreadable_refused(struct fixture *f, gconstpointer data) { check_unreadable(f, 1, KR_ERROR_REFUSED); }

/* Much output takes long: that is no reason to drop it as long as it comes. */
static void test_slow_output(struct fixture *f, gconstpointer data) {
    g_autofree char *out = NULL;

    sim_world_slow_output(f->world, 15); /* the patience is 40 ms */
    start(f, 1, "0", "sim run=1 out=0 out=1 out=2 out=3 out=4 out=5 out=6 out=7 out=8 out=9 out=a out=b out=c out=d out=e out=f");
    wait_state(f, 1, TASK_COMPLETED, true);
    out = output(f, 1, "stdout");
    g_assert_cmpstr(out, ==, "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\na\nb\nc\nd\ne\nf\n");
    ack_all_gone(f, 1);
}

/* One refusal is not the end of following. */
static void test_refused_once(struct fixture *f, gconstpointer data) {
    g_autofree char *name = name_of(1), *out = NULL;

    sim_world_refuse(f->world, "logs", 1, KR_ERROR_REFUSED);
    start(f, 1, "0", "sim run=100000 out=x");
    wait_state(f, 1, TASK_RUNNING, false);
    spin(f, 60);
    out = output(f, 1, "stdout");
    g_assert_cmpstr(out, ==, "x\n");
    executor_stop(f->x, 1, 10);
    wait_state(f, 1, TASK_KILLED, true);
}

/* ---- release on evidence (R2) ---- */

static void test_evidence(struct fixture *f, gconstpointer data) {
    const struct task_report *report;

    start(f, 1, "03", "sim run=30");
    wait_state(f, 1, TASK_RUNNING, false);
    f->cards[3].busy = g_strdup("412 MiB above its idle memory");
    report = wait_state(f, 1, TASK_COMPLETED, false);
    g_assert_cmpstr(report->holding, ==, "GPU 3: 412 MiB above its idle memory");
    executor_ack(f->x, 1, 10);
    g_assert_true(lease_exists(f, 1)); /* an acknowledgement of that releases nothing */
    g_assert_true(f->cards[3].leased);
    restart(f);
    spin(f, 30);
    start(f, 2, "3", "sim");
    g_assert_nonnull(strstr(newest(f, 2)->reason, "held on node n1 by task 1"));
    g_clear_pointer(&f->cards[3].busy, g_free);
    report = wait_state(f, 1, TASK_COMPLETED, true);
    g_assert_null(report->holding);
    ack_all_gone(f, 1);
}

static void test_short_drain(struct fixture *f, gconstpointer data) {
    guint terminal = 0;

    f->drain_ms = 10000;
    restart(f);
    start(f, 1, "0", "sim run=30");
    wait_state(f, 1, TASK_RUNNING, false);
    f->cards[0].busy = g_strdup("pid 1 x uses it");
    spin(f, 200);
    g_assert_cmpint(newest(f, 1)->state, ==, TASK_RUNNING); /* the end waits for the proof */
    g_clear_pointer(&f->cards[0].busy, g_free);
    wait_state(f, 1, TASK_COMPLETED, true);
    for (guint i = 0; i < f->reports->len; i++)
        terminal += task_state_is_terminal(((struct task_report *)f->reports->pdata[i])->state);
    g_assert_cmpint(terminal, ==, 1);
}

/* ---- restarts ---- */

static const struct task_report *hello_of(GPtrArray *reports, uint32_t task_id) {
    for (guint i = 0; i < reports->len; i++)
        if (((struct task_report *)reports->pdata[i])->task_id == task_id)
            return reports->pdata[i];
    return NULL;
}

/* The runner dies after N turns of the loop, for every N until the task is over: one start, one result, its whole output. */
static void test_restart_anywhere(struct fixture *f, gconstpointer data) {
    for (uint32_t turns = 0; turns < 60; turns++) {
        uint32_t id = turns + 1;
        int starts = sim_world_starts(f->world);
        g_autofree char *out = NULL;

        start(f, id, "12", "sim run=6 exit=7 out=one out=two err=three");
        for (uint32_t i = 0; i < turns; i++) {
            uv_run(&f->loop, UV_RUN_NOWAIT);
            g_usleep(100);
        }
        g_ptr_array_set_size(f->reports, 0);
        restart(f);
        {
            g_autoptr(GPtrArray) hello = executor_reports(f->x);
            g_assert_nonnull(hello_of(hello, id)); /* the full truth from the first moment */
            g_assert_true(f->cards[1].leased && f->cards[2].leased);
        }
        g_assert_cmpint(wait_state(f, id, TASK_FAILED, true)->exit_code, ==, 7);
        g_assert_cmpint(sim_world_starts(f->world), ==, starts + 1);
        out = output(f, id, "stdout");
        g_assert_cmpstr(out, ==, "one\ntwo\n");
        ack_all_gone(f, id);
    }
}

/* L21: a restart touches no workload; what it printed meanwhile is there, once. */
static void test_restart_while_running(struct fixture *f, gconstpointer data) {
    g_autofree char *name = name_of(1), *out = NULL;
    pid_t pid;

    start(f, 1, "0", "sim run=100000 out=before");
    wait_state(f, 1, TASK_RUNNING, false);
    spin(f, 10);
    pid = sim_world_pid(f->world, name);
    minors_override = ""; /* what is visible now cannot be trusted and is not asked for */
    f->cards[0].minor_unknown = true;
    die(f);
    sim_world_print(f->world, name, ENGINE_STDOUT, "between");
    begin(f);
    {
        g_autoptr(GPtrArray) hello = executor_reports(f->x);
        g_assert_cmpint(hello_of(hello, 1)->state, ==, TASK_RUNNING);
        g_assert_cmpint(hello_of(hello, 1)->started_ms, >, 0);
    }
    spin(f, 50);
    sim_world_print(f->world, name, ENGINE_STDOUT, "after");
    spin(f, 50);
    g_assert_cmpint(sim_world_pid(f->world, name), ==, pid);
    out = output(f, 1, "stdout");
    g_assert_cmpstr(out, ==, "before\nbetween\nafter\n");
    executor_stop(f->x, 1, 10);
    wait_state(f, 1, TASK_KILLED, true);
}

static void test_end_while_dead(struct fixture *f, gconstpointer data) {
    const struct task_report *report;
    g_autofree char *out = NULL;

    start(f, 1, "0", "sim run=40 exit=23 out=x");
    wait_state(f, 1, TASK_RUNNING, false);
    die(f);
    spin(f, 80);
    begin(f);
    report = wait_state(f, 1, TASK_FAILED, true);
    g_assert_cmpint(report->exit_code, ==, 23);
    g_assert_cmpint(report->started_ms, >, 0);
    out = output(f, 1, "stdout");
    g_assert_cmpstr(out, ==, "x\n");
    ack_all_gone(f, 1);
}

static void test_vanished_while_dead(struct fixture *f, gconstpointer data) {
    g_autofree char *name = name_of(1);

    start(f, 1, "0", "sim run=100000");
    wait_state(f, 1, TASK_RUNNING, false);
    die(f);
    sim_world_remove(f->world, name);
    begin(f);
    g_assert_nonnull(strstr(wait_state(f, 1, TASK_FAILED, true)->reason, "vanished"));
    g_assert_cmpint(sim_world_starts(f->world), ==, 1); /* not run a second time */
}

/* R5: the lease file is lost, the container is not: its cards are held and its end is told. */
static void test_orphan(struct fixture *f, gconstpointer data) {
    g_autofree char *path = g_strdup_printf("%s/leases/1.json", f->folder);

    start(f, 1, "13", "sim run=100000");
    wait_state(f, 1, TASK_RUNNING, false);
    die(f);
    g_assert_cmpint(unlink(path), ==, 0);
    g_ptr_array_set_size(f->reports, 0);
    begin(f);
    wait_state(f, 1, TASK_RUNNING, false);
    g_assert_cmpint(f->truths, ==, 1); /* the host is told by a new hello */
    g_assert_true(lease_exists(f, 1));
    g_assert_true(f->cards[1].leased && f->cards[3].leased);
    start(f, 2, "3", "sim");
    g_assert_nonnull(strstr(newest(f, 2)->reason, "held on node n1 by task 1"));
    executor_stop(f->x, 1, 10);
    wait_state(f, 1, TASK_KILLED, true);
    ack_all_gone(f, 1);
}

/* Leaves a container of task 1 that was made and never started, without a lease file; the runner is dead. */
static void leave_ghost(struct fixture *f) {
    g_autofree char *path = g_strdup_printf("%s/leases/1.json", f->folder);

    sim_world_hang(f->world, "start", true);
    start(f, 1, "0", "sim run=100000");
    while (sim_world_count(f->world) == 0)
        spin(f, 1);
    spin(f, 20);
    die(f);
    g_assert_cmpint(unlink(path), ==, 0);
    sim_world_hang(f->world, "start", false);
}

/* R5: what no lease stands for and never ran is not started by recovery, it is removed. */
static void test_ghost(struct fixture *f, gconstpointer data) {
    leave_ghost(f);
    begin(f);
    g_assert_cmpstr(wait_state(f, 1, TASK_FAILED, true)->reason, ==,
                    "never started: its container was found without a lease");
    g_assert_cmpint(sim_world_starts(f->world), ==, 0);
    ack_all_gone(f, 1);
}

/* R1: such a container has no claim on a card that another lease holds. */
static void test_ghost_on_leased_card(struct fixture *f, gconstpointer data) {
    g_autofree char *name = name_of(1);

    leave_ghost(f);
    sim_world_set_down(f->world, true);
    begin(f);
    start(f, 2, "0", "sim run=60");
    sim_world_set_down(f->world, false);
    wait_state(f, 2, TASK_RUNNING, false);
    g_assert_cmpint(executor_count(f->x), ==, 1);
    g_assert_false(sim_world_has(f->world, name));
    wait_state(f, 2, TASK_COMPLETED, true);
    g_assert_cmpint(sim_world_starts(f->world), ==, 1);
    ack_all_gone(f, 2);
}

/* The engine may finish a creation of an earlier life after it was asked what is there: the end looks again. */
static void test_late_creation(struct fixture *f, gconstpointer data) {
    spin(f, 10); /* recovery has seen the engine */
    sim_world_break(f->world, "create", 1, true);
    sim_world_hang(f->world, "inspect", true);
    start(f, 1, "0", "sim run=100000");
    while (sim_world_count(f->world) == 0)
        spin(f, 1);
    die(f);
    sim_world_hang(f->world, "inspect", false);
    sim_world_refuse(f->world, "inspect", 1, KR_ERROR_NOT_FOUND);
    begin(f);
    executor_stop(f->x, 1, 10);
    wait_state(f, 1, TASK_KILLED, true);
    g_assert_cmpint(sim_world_starts(f->world), ==, 0);
    ack_all_gone(f, 1);
}

/* A stop that was begun is not forgotten. */
static void test_restart_while_stopping(struct fixture *f, gconstpointer data) {
    start(f, 1, "0", "sim run=100000 stubborn");
    wait_state(f, 1, TASK_RUNNING, false);
    executor_stop(f->x, 1, 10);
    spin(f, 5);
    restart(f);
    wait_state(f, 1, TASK_KILLED, true);
}

static void test_restart_engine_away(struct fixture *f, gconstpointer data) {
    start(f, 1, "0", "sim run=100000");
    wait_state(f, 1, TASK_RUNNING, false);
    die(f);
    sim_world_set_down(f->world, true);
    begin(f);
    start(f, 2, "1", "sim run=5"); /* accepted, begun when the engine is back */
    spin(f, 60);
    {
        g_autoptr(GPtrArray) hello = executor_reports(f->x);
        g_assert_cmpint(hello->len, ==, 2);
        g_assert_cmpint(hello_of(hello, 1)->state, ==, TASK_RUNNING);
    }
    sim_world_set_down(f->world, false);
    wait_state(f, 2, TASK_COMPLETED, true);
    executor_stop(f->x, 1, 10);
    wait_state(f, 1, TASK_KILLED, true);
}

/* Without acknowledgement the end is told again by every hello. */
static void test_restart_before_ack(struct fixture *f, gconstpointer data) {
    start(f, 1, "0", "sim exit=4");
    wait_state(f, 1, TASK_FAILED, true);
    for (int i = 0; i < 3; i++) {
        g_ptr_array_set_size(f->reports, 0);
        restart(f);
        {
            g_autoptr(GPtrArray) hello = executor_reports(f->x);
            g_assert_cmpint(hello_of(hello, 1)->state, ==, TASK_FAILED);
            g_assert_cmpint(hello_of(hello, 1)->exit_code, ==, 4);
        }
        wait_state(f, 1, TASK_FAILED, true);
    }
    ack_all_gone(f, 1);
}

/* ---- disks ---- */

/* No file of ours can grow: as good as a full disk, without one. */
static void set_file_limit(rlim_t bytes) {
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
}

static void test_disk_full_start(struct fixture *f, gconstpointer data) {
    set_file_limit(16);
    start(f, 1, "0", "sim");
    set_file_limit(RLIM_INFINITY);
    g_assert_cmpint(newest(f, 1)->state, ==, TASK_FAILED);
    g_assert_true(newest(f, 1)->released);
    g_assert_nonnull(strstr(newest(f, 1)->reason, "node n1 cannot write its lease"));
    g_assert_true(executor_suspects_disk(f->x));
    g_assert_cmpint(executor_count(f->x), ==, 0);
    g_assert_false(f->cards[0].leased);
    spin(f, 20);
    g_assert_cmpint(sim_world_starts(f->world), ==, 0);
    start(f, 2, "0", "sim");
    wait_state(f, 2, TASK_COMPLETED, true);
    g_assert_false(executor_suspects_disk(f->x));
}

/* The host acknowledges once. */
/* The file is in place, only its folder could not be made durable: refused, so not there after a restart. */
static void test_refused_lease_is_gone(struct fixture *f, gconstpointer data) {
    failing_folder_syncs = 1;
    start(f, 1, "0", "sim");
    g_assert_cmpint(newest(f, 1)->state, ==, TASK_FAILED);
    g_assert_true(newest(f, 1)->released);
    g_assert_false(lease_exists(f, 1));
    restart(f);
    spin(f, 30);
    g_assert_cmpint(executor_count(f->x), ==, 0);
    g_assert_cmpint(sim_world_starts(f->world), ==, 0);
}

/* Not even the removal is certain: it is not forgotten but ended in order. */
static void test_refused_lease_stays(struct fixture *f, gconstpointer data) {
    failing_folder_syncs = 4;
    start(f, 1, "0", "sim");
    g_assert_true(!newest(f, 1) || !newest(f, 1)->released);
    g_assert_cmpint(executor_count(f->x), ==, 1);
    g_assert_true(f->cards[0].leased);
    g_assert_nonnull(strstr(wait_state(f, 1, TASK_FAILED, true)->reason, "cannot write its lease"));
    g_assert_cmpint(failing_folder_syncs, ==, 0);
    g_ptr_array_set_size(f->reports, 0);
    restart(f);
    g_assert_nonnull(strstr(wait_state(f, 1, TASK_FAILED, true)->reason, "cannot write its lease"));
    g_assert_cmpint(sim_world_starts(f->world), ==, 0);
    ack_all_gone(f, 1);
}

static void test_disk_full_ack(struct fixture *f, gconstpointer data) {
    start(f, 1, "0", "sim");
    wait_state(f, 1, TASK_COMPLETED, true);
    set_file_limit(2);
    executor_ack(f->x, 1, 10);
    spin(f, 30);
    g_assert_true(lease_exists(f, 1));
    g_assert_true(f->cards[0].leased);
    g_assert_true(executor_suspects_disk(f->x));
    set_file_limit(RLIM_INFINITY);
    spin(f, 60);
    g_assert_false(executor_suspects_disk(f->x));
    g_assert_cmpint(executor_count(f->x), ==, 0);
    g_assert_false(lease_exists(f, 1) || f->cards[0].leased);
    start(f, 2, "0", "sim");
    wait_state(f, 2, TASK_COMPLETED, true);
}

static void test_disk_full_running(struct fixture *f, gconstpointer data) {
    g_autofree char *name = name_of(1), *out = NULL;

    start(f, 1, "0", "sim run=150 exit=6 out=a");
    wait_state(f, 1, TASK_RUNNING, false);
    spin(f, 10);
    set_file_limit(2);
    sim_world_print(f->world, name, ENGINE_STDOUT, "lost");
    spin(f, 300);
    g_assert_cmpint(newest(f, 1)->state, ==, TASK_RUNNING); /* it went on; its result waits for the disk */
    g_assert_true(sim_world_has(f->world, name));
    set_file_limit(RLIM_INFINITY);
    g_assert_cmpint(wait_state(f, 1, TASK_FAILED, true)->exit_code, ==, 6);
    out = output(f, 1, "stdout");
    g_assert_true(g_str_has_prefix(out, "a\n"));
    g_assert_null(strstr(out, "lost"));
    ack_all_gone(f, 1);
}

static void test_output_limit(struct fixture *f, gconstpointer data) {
    g_autofree char *out = NULL;

    f->log_max_bytes = 10;
    restart(f);
    start(f, 1, "", "sim out=1234567 out=abcdefg out=x err=e");
    wait_state(f, 1, TASK_COMPLETED, true);
    out = output(f, 1, "stdout");
    g_assert_cmpstr(out, ==, "1234567\nab\n[kohakuriver: 8 bytes (8 B) of output are not stored: the limit of the node is reached]\n");
}

/* A lease file that cannot be read stops the start: it would look free otherwise (R3). */
static void test_damaged_lease(struct fixture *f, gconstpointer data) {
    g_autofree char *path = g_strdup_printf("%s/leases/9.json", f->folder);
    g_autoptr(GError) error = NULL;

    g_assert_true(g_file_set_contents(path, "{\"version\":1", -1, NULL));
    g_assert_false(executor_restore(f->x, &error));
    g_assert_nonnull(strstr(error->message, "leases/9.json cannot be read"));
    unlink(path);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
#define ADD(path, function) g_test_add("/runner/executor/" path, struct fixture, NULL, set_up, function, tear_down)
    ADD("R5-success", test_success);
    ADD("exit-code", test_exit_code);
    ADD("K14-out-of-memory", test_oom);
    ADD("L44-L51-environment", test_environment);
    ADD("numa", test_numa);
    ADD("image-missing", test_image);
    ADD("L10-foreign-process", test_foreign);
    ADD("L10-foreign-process-after-a-pull", test_foreign_after_pull);
    ADD("L10-foreign-process-after-a-restart", test_foreign_after_restart);
    ADD("start-refused-by-the-engine", test_start_refused);
    ADD("L52-exactly-the-leased-gpus", test_wrong_gpus);
    ADD("mounts", test_mounts);
    ADD("R1-second-lease", test_second_lease);
    ADD("L25-lower-epoch", test_lower_epoch);
    ADD("idempotent", test_idempotent);
    ADD("ack-too-early", test_ack_too_early);
    ADD("L63-stop-by-sigterm", test_stop_term);
    ADD("L63-stop-by-sigkill", test_stop_kill);
    ADD("L29-stop-anywhere", test_stop_anywhere);
    ADD("stop-while-the-start-hangs", test_stop_hanging_start);
    ADD("stop-while-the-creation-hangs", test_stop_hanging_create);
    ADD("stop-while-the-engine-is-away", test_stop_while_away);
    ADD("engine-away", test_engine_away);
    ADD("broken-calls", test_broken_calls);
    ADD("output-that-always-breaks", test_unreadable_broken);
    ADD("output-that-is-refused", test_unreadable_refused);
    ADD("output-that-comes-slowly", test_slow_output);
    ADD("output-refused-once", test_refused_once);
    ADD("vanished", test_vanished);
    ADD("R2-evidence", test_evidence);
    ADD("R2-end-waits-for-evidence", test_short_drain);
    ADD("R5-restart-anywhere", test_restart_anywhere);
    ADD("L21-restart-while-running", test_restart_while_running);
    ADD("end-while-dead", test_end_while_dead);
    ADD("vanished-while-dead", test_vanished_while_dead);
    ADD("R5-orphan-container", test_orphan);
    ADD("R5-container-never-started-is-not-started", test_ghost);
    ADD("R1-container-never-started-on-a-leased-card", test_ghost_on_leased_card);
    ADD("R5-creation-that-ends-late", test_late_creation);
    ADD("restart-while-stopping", test_restart_while_stopping);
    ADD("restart-while-the-engine-is-away", test_restart_engine_away);
    ADD("restart-before-ack", test_restart_before_ack);
    ADD("disk-full-at-start", test_disk_full_start);
    ADD("R5-refused-lease-is-gone", test_refused_lease_is_gone);
    ADD("R5-refused-lease-that-stays", test_refused_lease_stays);
    ADD("disk-full-at-the-acknowledgement", test_disk_full_ack);
    ADD("disk-full-while-running", test_disk_full_running);
    ADD("output-limit", test_output_limit);
    ADD("R3-damaged-lease-file", test_damaged_lease);
    return g_test_run();
}
