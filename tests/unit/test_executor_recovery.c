/* The runner dies and comes back: what was recorded, compared with what really runs. */

#include "executor_fixture.h"

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

/* What was told as released stays released: the host may have given the card to the next task and have it started before this
 * node has looked at anything again. */
static void test_restart_after_release(struct fixture *f, gconstpointer data) {
    start(f, 1, "0", "sim exit=4");
    wait_state(f, 1, TASK_FAILED, true);
    die(f);
    sim_world_set_down(f->world, true); /* the engine takes its time */
    begin(f);
    {
        g_autoptr(GPtrArray) hello = executor_reports(f->x);
        g_assert_true(hello_of(hello, 1)->released);
        g_assert_true(proof_of_release(&hello_of(hello, 1)->proof, 1));
    }
    executor_ack(f->x, 1, 10);
    start(f, 2, "0", "sim exit=5");
    sim_world_set_down(f->world, false);
    g_assert_cmpint(wait_state(f, 2, TASK_FAILED, true)->exit_code, ==, 5);
    ack_all_gone(f, 2);
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
    ADD("R5-restart-anywhere", test_restart_anywhere);
    ADD("L21-restart-while-running", test_restart_while_running);
    ADD("end-while-dead", test_end_while_dead);
    ADD("vanished-while-dead", test_vanished_while_dead);
    ADD("R5-orphan-container", test_orphan);
    ADD("restart-while-stopping", test_restart_while_stopping);
    ADD("restart-while-the-engine-is-away", test_restart_engine_away);
    ADD("restart-before-ack", test_restart_before_ack);
    ADD("restart-after-release", test_restart_after_release);
    ADD("R3-damaged-lease-file", test_damaged_lease);
    return g_test_run();
}
