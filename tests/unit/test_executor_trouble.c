/* What goes wrong around a task: calls that hang, output that cannot be read, disks that fail at the worst moment,
 * containers that no lease stands for. */

#include "executor_fixture.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/syscall.h>

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
    start(f, 1, "0",
          "sim run=1 out=0 out=1 out=2 out=3 out=4 out=5 out=6 out=7 out=8 out=9 out=a out=b out=c out=d out=e out=f");
    wait_state(f, 1, TASK_COMPLETED, true);
    out = output(f, 1, "stdout");
    g_assert_cmpstr(out, ==, "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\na\nb\nc\nd\ne\nf\n");
    ack_all_gone(f, 1);
}

/* One refusal is not the end of following. */
static void test_refused_once(struct fixture *f, gconstpointer data) {
    g_autofree char *out = NULL;

    sim_world_refuse(f->world, "logs", 1, KR_ERROR_REFUSED);
    start(f, 1, "0", "sim run=100000 out=x");
    wait_state(f, 1, TASK_RUNNING, false);
    spin(f, 60);
    out = output(f, 1, "stdout");
    g_assert_cmpstr(out, ==, "x\n");
    executor_stop(f->x, 1, 10);
    wait_state(f, 1, TASK_KILLED, true);
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

/* The host asks once for the end of what has not arrived; the answer comes when it can be kept. */
static void test_disk_full_stop(struct fixture *f, gconstpointer data) {
    set_file_limit(2);
    executor_stop(f->x, 1, 10);
    executor_stop(f->x, 1, 10); /* what is in memory only is no answer either */
    spin(f, 30);
    g_assert_null(newest(f, 1));
    g_assert_true(executor_suspects_disk(f->x));
    set_file_limit(RLIM_INFINITY);
    wait_state(f, 1, TASK_UNSET, true);
    g_assert_false(executor_suspects_disk(f->x));
    restart(f);
    start(f, 1, "0", "sim"); /* epoch 10 */
    wait_state(f, 1, TASK_FAILED, true);
    g_assert_cmpint(sim_world_starts(f->world), ==, 0);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
#define ADD(path, function) g_test_add("/runner/executor/" path, struct fixture, NULL, set_up, function, tear_down)
    ADD("L10-foreign-process-after-a-pull", test_foreign_after_pull);
    ADD("L10-foreign-process-after-a-restart", test_foreign_after_restart);
    ADD("stop-while-the-start-hangs", test_stop_hanging_start);
    ADD("stop-while-the-creation-hangs", test_stop_hanging_create);
    ADD("output-that-always-breaks", test_unreadable_broken);
    ADD("output-that-is-refused", test_unreadable_refused);
    ADD("output-that-comes-slowly", test_slow_output);
    ADD("output-refused-once", test_refused_once);
    ADD("R5-container-never-started-is-not-started", test_ghost);
    ADD("R1-container-never-started-on-a-leased-card", test_ghost_on_leased_card);
    ADD("R5-creation-that-ends-late", test_late_creation);
    ADD("R5-refused-lease-is-gone", test_refused_lease_is_gone);
    ADD("R5-refused-lease-that-stays", test_refused_lease_stays);
    ADD("disk-full-at-the-acknowledgement", test_disk_full_ack);
    ADD("disk-full-at-a-stop-of-the-unknown", test_disk_full_stop);
    return g_test_run();
}
