/* A task from its lease to its release. */

#include "executor_fixture.h"

#include <errno.h>

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
    g_assert_cmpstr(
        wait_state(f, 1, TASK_FAILED, true)->reason, ==,
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

/* The second key: a container on a card without a driver would start and find nothing. */
static void test_bare(struct fixture *f, gconstpointer data) {
    f->cards[1].is_bare = true;
    start(f, 1, "01", "sim");
    g_assert_cmpstr(wait_state(f, 1, TASK_FAILED, true)->reason, ==,
                    "GPU 1 (GPU-1) of node n1 has no driver: a machine could use it, a container cannot");
    g_assert_cmpint(sim_world_starts(f->world), ==, 0);
    ack_all_gone(f, 1);
}

static void test_start_refused(struct fixture *f, gconstpointer data) {
    start(f, 1, "0", "sim startfail=could_not_select_device_driver");
    g_assert_cmpstr(wait_state(f, 1, TASK_FAILED, true)->reason, ==,
                    "the engine cannot start it: could_not_select_device_driver");
    ack_all_gone(f, 1);
}

/* L52, and the engines that drop GPU requests in silence. */
static void check_wrong_gpus(struct fixture *f, uint32_t task_id, const char *leased, const char *arrived,
                             const char *expected) {
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
    check_wrong_gpus(
        f, 1, "01", "",
        "the container has not exactly the GPUs of its lease: found none, leased /dev/nvidia10 /dev/nvidia11");
    check_wrong_gpus(
        f, 2, "0", "01",
        "the container has not exactly the GPUs of its lease: found /dev/nvidia10 /dev/nvidia11, leased /dev/nvidia10");
    check_wrong_gpus(f, 3, "1", "0",
                     "the container has not exactly the GPUs of its lease: found /dev/nvidia10, leased /dev/nvidia11");
    check_wrong_gpus(f, 4, "", "2",
                     "the container has not exactly the GPUs of its lease: found /dev/nvidia12, leased none");
}

/* Card I is AMD's with the render node I + 128; false (and the test skipped) where nodes cannot be made. */
static bool make_amd(struct fixture *f, int i, const char *nodes, gid_t group) {
    g_auto(GStrv) paths = g_strsplit(nodes, " ", -1);

    for (char **path = paths; *path && (*path)[0]; path++) {
        const char *number = strstr(*path, "renderD");
        g_autofree char *node = g_build_filename(f->folder, "root", *path, NULL);
        g_autofree char *folder = g_path_get_dirname(node);
        dev_t device = number ? makedev(226, (unsigned)g_ascii_strtoull(number + 7, NULL, 10)) : makedev(234, 0);

        g_mkdir_with_parents(folder, 0700);
        if ((mknod(node, S_IFCHR | 0600, device) < 0 && errno != EEXIST) || chown(node, 0, group) < 0) {
            g_test_skip("device nodes cannot be made here (needs root)");
            return false;
        }
    }
    f->cards[i].nodes = nodes;
    return true;
}

static bool last_has(struct fixture *f, const char *text) {
    return strstr(sim_world_last_config(f->world), text) != NULL;
}

/* Cards of vendors without a hook come as device nodes, and beside NVIDIA's as both. */
static void test_device_nodes(struct fixture *f, gconstpointer data) {
    if (!make_amd(f, 2, "/dev/dri/renderD130 /dev/kfd", 44) || !make_amd(f, 3, "/dev/dri/renderD131 /dev/kfd", 44))
        return;
    start(f, 1, "2", "sim");
    wait_state(f, 1, TASK_COMPLETED, true);
    ack(f, 1);
    g_assert_true(last_has(f, "gpus= devices=/dev/dri/renderD130,/dev/kfd groups=44 "));
    g_assert_true(last_has(f, "NVIDIA_VISIBLE_DEVICES=void"));
    start(f, 2, "23", "sim");
    wait_state(f, 2, TASK_COMPLETED, true);
    ack(f, 2);
    g_assert_true(last_has(f, "gpus= devices=/dev/dri/renderD130,/dev/kfd,/dev/dri/renderD131 groups=44 "));
    start(f, 3, "013", "sim");
    wait_state(f, 3, TASK_COMPLETED, true);
    g_assert_true(last_has(f, "gpus=GPU-0,GPU-1 devices=/dev/dri/renderD131,/dev/kfd groups=44 "));
    g_assert_false(last_has(f, "NVIDIA_VISIBLE_DEVICES"));
}

static void test_wrong_nodes(struct fixture *f, gconstpointer data) {
    if (!make_amd(f, 2, "/dev/dri/renderD130", 0) || !make_amd(f, 3, "/dev/dri/renderD131", 0))
        return;
    renders_override = "130 131";
    check_wrong_gpus(f, 1, "2", NULL,
                     "the container has not exactly the GPUs of its lease: found /dev/dri/renderD130 "
                     "/dev/dri/renderD131, leased /dev/dri/renderD130");
    renders_override = "";
    check_wrong_gpus(f, 2, "03", NULL,
                     "the container has not exactly the GPUs of its lease: found /dev/nvidia10, leased /dev/nvidia10 "
                     "/dev/dri/renderD131");
    renders_override = "131";
    check_wrong_gpus(f, 3, "0", NULL,
                     "the container has not exactly the GPUs of its lease: found /dev/nvidia10 /dev/dri/renderD131, "
                     "leased /dev/nvidia10");
    check_wrong_gpus(f, 4, "", NULL,
                     "the container has not exactly the GPUs of its lease: found /dev/dri/renderD131, leased none");
}

/* What is not there is not made up: nothing is started. */
static void test_missing_nodes(struct fixture *f, gconstpointer data) {
    f->cards[2].nodes = "/dev/dri/renderD130";
    start(f, 1, "2", "sim");
    g_assert_cmpstr(wait_state(f, 1, TASK_FAILED, true)->reason, ==,
                    "/dev/dri/renderD130 on node n1 is no device node that a container could be given");
    ack(f, 1);
    f->cards[2].nodes = "";
    start(f, 2, "2", "sim");
    g_assert_cmpstr(wait_state(f, 2, TASK_FAILED, true)->reason, ==,
                    "the device nodes of GPU GPU-2 of node n1 are not known");
    g_assert_cmpint(sim_world_starts(f->world), ==, 0);
    ack_all_gone(f, 2);
}

static void test_mounts(struct fixture *f, gconstpointer data) {
    g_autofree char *data_dir = g_build_filename(f->folder, "data", NULL),
                    *link = g_build_filename(f->folder, "data/out", NULL);
    g_autofree char *good = g_strdup_printf("%s/data/in:/in:ro", f->folder),
                    *sly = g_strdup_printf("%s/data/out:/out", f->folder);
    g_autofree char *in = g_build_filename(f->folder, "data/in", NULL),
                    *outside = g_build_filename(f->folder, "outside", NULL);
    g_autofree char *refusal = g_strdup_printf("does not allow %s (its setting allowed_mounts)", outside);
    static const struct {
        uint32_t id;
        bool ok;
    } row[] = {{1, true}, {2, false}, {3, false}, {4, false}};
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
    start_lease(f, &other_card, "img",
                "sim"); /* of a card that never had one: the node as a whole has taken epoch 10 */
    g_assert_nonnull(strstr(newest(f, 9)->reason, "out of date"));
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

/* ---- disks ---- */

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
    g_assert_cmpstr(
        out, ==,
        "1234567\nab\n[kohakuriver: 8 bytes (8 B) of output are not stored: the limit of the node is reached]\n");
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
    ADD("L15-no-driver", test_bare);
    ADD("start-refused-by-the-engine", test_start_refused);
    ADD("L52-exactly-the-leased-gpus", test_wrong_gpus);
    ADD("device-nodes", test_device_nodes);
    ADD("L52-exactly-the-leased-nodes", test_wrong_nodes);
    ADD("device-nodes-missing", test_missing_nodes);
    ADD("mounts", test_mounts);
    ADD("R1-second-lease", test_second_lease);
    ADD("L25-lower-epoch", test_lower_epoch);
    ADD("idempotent", test_idempotent);
    ADD("ack-too-early", test_ack_too_early);
    ADD("L63-stop-by-sigterm", test_stop_term);
    ADD("L63-stop-by-sigkill", test_stop_kill);
    ADD("L29-stop-anywhere", test_stop_anywhere);
    ADD("stop-while-the-engine-is-away", test_stop_while_away);
    ADD("engine-away", test_engine_away);
    ADD("broken-calls", test_broken_calls);
    ADD("vanished", test_vanished);
    ADD("R2-evidence", test_evidence);
    ADD("R2-end-waits-for-evidence", test_short_drain);
    ADD("disk-full-at-start", test_disk_full_start);
    ADD("disk-full-while-running", test_disk_full_running);
    ADD("output-limit", test_output_limit);
    return g_test_run();
}
