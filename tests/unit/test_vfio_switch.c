/* Switches over a fake tree whose kernel misbehaves on demand (tests/fakes/fake_vfio_kernel.c). */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "vfio/vfio_child.h"
#include "vfio_agent.h"

enum { SHORT_MS = 1000 }; /* a deadline for what hangs; a busy machine takes its time for the rest */

static void assert_error(const struct agent *a, int code, const char *part) {
    g_assert_nonnull(a->error);
    if (!strstr(a->error, part))
        g_error("\"%s\" does not say \"%s\"", a->error, part);
    g_assert_cmpint(a->code, ==, code);
}

static void test_bind_and_back(void) {
    g_autofree char *root = tree_of_machine();
    struct agent *a = agent_new(root);
    const struct vfio_hold_gpu *gpu;
    g_autoptr(GArray) groups = NULL;

    agent_bind(a, "vps-12", CARD);
    g_assert_cmpstr(a->error, ==, NULL);
    assert_drivers(root, "0000:01", AWAY);
    g_assert_cmpuint(a->hold->gpus->len, ==, 1);
    gpu = a->hold->gpus->pdata[0];
    g_assert_cmpint(gpu->group, ==, 9);
    g_assert_cmpuint(gpu->functions->len, ==, 4);
    for (guint i = 0; i < 4; i++)
        g_assert_cmpstr(g_array_index(gpu->functions, struct vfio_hold_function, i).address, ==,
                        tree_machine[i + 1].address);
    g_assert_cmpint(g_array_index(gpu->functions, struct vfio_hold_function, 1).class, ==, 0x040300);
    groups = vfio_hold_groups(a->hold);
    g_assert_cmpuint(groups->len, ==, 1);
    g_assert_cmpstr(vfio_owner_of(a->s, "0000:01:00.1"), ==, "vps-12");
    g_assert_cmpint(vfio_state_of(a->s, CARD, NULL), ==, VFIO_BOUND);
    g_assert_cmpint(a->n_changes, >=, 2);
    agent_bind(a, "vps-12", CARD); /* the same again: the same answer */
    g_assert_cmpstr(a->error, ==, NULL);
    agent_bind(a, "vps-12", "0000:02:00.0");
    assert_error(a, KR_ERROR_REFUSED, "vps-12 already has 0000:01:00.0 (bound)");
    agent_give_back(a, "vps-12");
    g_assert_cmpstr(a->error, ==, NULL);
    assert_drivers(root, "0000:01", HOME);
    g_assert_cmpstr(vfio_owner_of(a->s, CARD), ==, NULL);
    g_assert_false(has_journal(a, "vps-12"));
    agent_give_back(a, "vps-12"); /* nothing held: nothing to do */
    g_assert_cmpstr(a->error, ==, NULL);
    agent_free(a);
    tree_remove(root);
}

/* What stands against a bind, each with the name of the culprit; nothing is written. */
static void test_refused(void) {
    static const struct {
        const char *cards, *why;
        int code;
    } cases[] = {
        {"0000:06:01.0", "its IOMMU group 12 also holds 0000:06:02.0 (class 0200, 8086:1521, driver igb)",
         KR_ERROR_REFUSED},
        {"0000:07:00.0", "its IOMMU group 13 also holds 0000:08:00.0 (gpu, 10de:20b0, driver nvidia)",
         KR_ERROR_REFUSED},
        {"0000:01:00.1", "0000:01:00.1 is no GPU (class 0403)", KR_ERROR_REFUSED},
        {"0000:77:00.0", "0000:77:00.0 is not on the bus", KR_ERROR_REFUSED},
        {"01:00.0", "\"01:00.0\" is no PCI address", KR_ERROR_BAD_REQUEST},
        {CARD " " CARD, "0000:01:00.0 is named twice", KR_ERROR_BAD_REQUEST},
    };
    g_autofree char *root = tree_of_machine();
    struct agent *a = agent_new(root);

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        agent_bind(a, "vps-1", cases[i].cards);
        assert_error(a, cases[i].code, cases[i].why);
    }
    agent_bind(a, "../x", CARD);
    assert_error(a, KR_ERROR_BAD_REQUEST, "an owner's name");
    tree_put_of(root, CARD, "boot_vga", "1\n", -1);
    agent_bind(a, "vps-1", CARD);
    assert_error(a, KR_ERROR_REFUSED, "0000:01:00.0 is the machine's console (boot_vga)");
    assert_drivers(root, "0000:01", HOME);
    g_assert_false(has_journal(a, "vps-1"));
    agent_free(a);
    tree_remove(root);
}

/* Both cards of a group, named together, go; a 32-bit domain is an address like any. */
static void test_sets(void) {
    g_autofree char *root = tree_of_machine();
    struct agent *a = agent_new(root);

    agent_bind(a, "vps-1", "0000:07:00.0 0000:08:00.0 10000:e1:00.0");
    g_assert_cmpstr(a->error, ==, NULL);
    g_assert_cmpuint(a->hold->gpus->len, ==, 3);
    assert_drivers(root, "10000:e1", "vfio-pci!");
    agent_bind(a, "vps-2", "0000:08:00.0 0000:07:00.0");
    assert_error(a, KR_ERROR_REFUSED, "IOMMU group 13 belongs to vps-1 (bound)");
    agent_give_back(a, "vps-1");
    assert_drivers(root, "0000:07", "nvidia");
    assert_drivers(root, "10000:e1", "nvidia");
    agent_free(a);
    tree_remove(root);
}

/* A step fails on the way: the error tells which, and everything is as before (L71). */
static void test_undone(void) {
    static const struct {
        const char *script, *why;
    } cases[] = {
        {"unbind 0000:01:00.0 errno:16\n", "unbind 0000:01:00.0: Device or resource busy (undone)"},
        {"unbind 0000:01:00.2 errno:5\n", "unbind 0000:01:00.2: Input/output error (undone)"},
        {"override 0000:01:00.1 errno:22 once\n", "set driver_override of 0000:01:00.1: Invalid argument (undone)"},
        {"unbind 0000:01:00.1 nothing\n", "unbind 0000:01:00.1: it succeeded, and snd_hda_intel is still bound"},
        {"probe 0000:01:00.2 errno:19 once\n", "probe 0000:01:00.2: No such device (undone)"},
        {"probe 0000:01:00.2 errno:19\n", "; and undoing it: probe 0000:01:00.2: No such device"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *root = tree_of_machine();
        struct agent *a = agent_new(root);

        tree_script(root, cases[i].script);
        agent_bind(a, "vps-1", CARD);
        g_assert_nonnull(strstr(a->error, "bind 0000:01:00.0 to vfio-pci: "));
        assert_error(a, KR_ERROR_IO, cases[i].why);
        if (strstr(cases[i].why, "undoing")) {
            g_assert_cmpint(vfio_state_of(a->s, CARD, NULL), ==, VFIO_BROKEN);
            tree_script(root, "");
            agent_give_back(a, "vps-1"); /* tries again, and now it works */
            g_assert_cmpstr(a->error, ==, NULL);
        }
        assert_drivers(root, "0000:01", HOME);
        g_assert_cmpint(vfio_state_of(a->s, CARD, NULL), ==, VFIO_IDLE);
        g_assert_false(has_journal(a, "vps-1"));
        agent_free(a);
        tree_remove(root);
    }
}

/* drivers_probe says success although it bound nothing, or another driver was faster. */
static void test_probe_lies(void) {
    g_autofree char *root = tree_of_machine();
    struct agent *a = agent_new(root);

    tree_script(root, "probe 0000:01:00.3 nothing\n");
    agent_bind(a, "vps-1", CARD);
    assert_error(a, KR_ERROR_IO, "probe 0000:01:00.3: it succeeded and bound nothing; is the module vfio-pci loaded?");
    assert_drivers(root, "0000:01", HOME);
    tree_script(root, "probe 0000:02:00.0 driver:nouveau\n");
    tree_folder(root, "sys/bus/pci/drivers/nouveau");
    agent_bind(a, "vps-1", "0000:02:00.0");
    assert_error(a, KR_ERROR_IO,
                 "probe 0000:02:00.0: nouveau took it, not vfio-pci; and undoing it: 0000:02:00.0 is driven by "
                 "nouveau, it was nvidia");
    g_assert_cmpint(vfio_state_of(a->s, "0000:02:00.0", NULL), ==, VFIO_BROKEN);
    tree_set_driver(root, "0000:02:00.0", "nvidia"); /* a person has put it right */
    agent_give_back(a, "vps-1");
    g_assert_cmpstr(a->error, ==, NULL);
    g_assert_cmpint(vfio_state_of(a->s, "0000:02:00.0", NULL), ==, VFIO_IDLE);
    agent_free(a);
    tree_remove(root);
}

/* A write that a signal ends: the step has failed, the card goes home. */
static void test_hang(void) {
    g_autofree char *root = tree_of_machine();
    struct agent *a = agent_new_with(root, &(struct vfio_switcher_config){.step_deadline_ms = SHORT_MS});

    agent_recover(a);
    tree_script(root, "unbind 0000:01:00.0 hang\n");
    agent_bind(a, "vps-1", CARD);
    assert_error(a, KR_ERROR_IO, "unbind 0000:01:00.0: no answer within 1000 ms (undone)");
    assert_drivers(root, "0000:01", HOME);
    agent_free(a);
    tree_remove(root);
}

static void wait_for_state(struct agent *a, const char *pci, enum vfio_state state) {
    gint64 end = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;

    while (vfio_state_of(a->s, pci, NULL) != state) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        uv_run(&a->loop, UV_RUN_ONCE);
    }
}

/* A write that nothing ends: stuck, with a name, while other cards go on; and when it comes through late, that is noticed and
 * the card goes home (L70, K11). */
static void test_stuck(void) {
    g_autofree char *root = tree_of_machine();
    struct agent *a = agent_new_with(root, &(struct vfio_switcher_config){.step_deadline_ms = SHORT_MS});
    const char *reason;
    gint64 asked_at;

    agent_recover(a);
    tree_script(root, "unbind 0000:01:00.0 wedge\n");
    agent_bind(a, "vps-1", CARD);
    assert_error(a, KR_ERROR_TIMEOUT, "does not return: stuck, needs a reboot unless it still does");
    g_assert_cmpint(vfio_state_of(a->s, CARD, &reason), ==, VFIO_STUCK);
    g_assert_nonnull(strstr(reason, "unbind 0000:01:00.0 does not return"));
    agent_bind(a, "vps-2", CARD);
    assert_error(a, KR_ERROR_REFUSED, "IOMMU group 9 belongs to vps-1 (stuck: ");
    agent_bind(a, "vps-2", "0000:02:00.0");
    g_assert_cmpstr(a->error, ==, NULL);
    asked_at = g_get_monotonic_time();
    agent_give_back(a, "vps-1"); /* asking again takes no time of the others, and it stays what it is */
    assert_error(a, KR_ERROR_TIMEOUT, "give 0000:01:00.0 back: ");
    g_assert_cmpint(g_get_monotonic_time() - asked_at, <, SHORT_MS * 700);
    g_assert_cmpint(vfio_state_of(a->s, CARD, NULL), ==, VFIO_STUCK);
    agent_free(a); /* the agent ends, the write does not */

    a = agent_new_with(root, &(struct vfio_switcher_config){.step_deadline_ms = SHORT_MS});
    agent_recover(a);
    g_assert_true(g_str_has_prefix(a->recovered->str, "vps-1 stuck "));
    g_assert_nonnull(strstr(a->recovered->str, "vps-2 bound \n"));
    tree_script(root, "");
    tree_put(root, "unwedge", "", 0);
    wait_for_state(a, CARD, VFIO_IDLE);
    assert_drivers(root, "0000:01", HOME);
    assert_drivers(root, "0000:02", "vfio-pci!");
    g_assert_false(has_journal(a, "vps-1"));
    agent_free(a);
    tree_remove(root);
}

/* Slow is not stuck. */
static void test_late(void) {
    g_autofree char *root = tree_of_machine();
    struct agent *a = agent_new(root);

    tree_script(root, "unbind 0000:01:00.0 late:300\nprobe 0000:01:00.1 late:200\n");
    agent_bind(a, "vps-1", CARD);
    g_assert_cmpstr(a->error, ==, NULL);
    agent_give_back(a, "vps-1");
    assert_drivers(root, "0000:01", HOME);
    agent_free(a);
    tree_remove(root);
}

/* What comes back dead, gone, or as something else is broken, with its reason; its neighbours come home all the same
 * (L61, L73). */
static void test_broken(void) {
    static const struct {
        const char *script, *why, *drivers;
    } cases[] = {
        {"unbind 0000:01:00.0 ones\n", "0000:01:00.0 is fallen off the bus: its configuration space reads ffff", HOME},
        {"unbind 0000:01:00.2 vanish\n", "0000:01:00.2 has left the bus", "nvidia snd_hda_intel gone -"},
        {"unbind 0000:01:00.1 swap\n", "0000:01:00.1 is another device now, it was 10de:22ba: nothing was written",
         "nvidia -! xhci_hcd -"},
        {"unbind 0000:01:00.0 errno:16\n", "release 0000:01:00.0: Device or resource busy",
         "vfio-pci snd_hda_intel xhci_hcd -"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *root = tree_of_machine();
        struct agent *a = agent_new(root);
        const char *reason;

        agent_bind(a, "vps-1", CARD);
        g_assert_cmpstr(a->error, ==, NULL);
        tree_script(root, cases[i].script);
        agent_give_back(a, "vps-1");
        assert_error(a, KR_ERROR_IO, cases[i].why);
        g_assert_cmpint(vfio_state_of(a->s, CARD, &reason), ==, VFIO_BROKEN);
        g_assert_nonnull(strstr(reason, cases[i].why));
        assert_drivers(root, "0000:01", cases[i].drivers);
        g_assert_true(has_journal(a, "vps-1"));
        agent_free(a);
        tree_remove(root);
    }
}

/* After a reboot nothing is written: addresses may name other devices, and the kernel has forgotten the switch anyway. */
static void test_reboot(void) {
    g_autofree char *root = tree_of_machine();
    struct agent *a = agent_new(root);

    agent_bind(a, "vps-1", CARD);
    agent_free(a);
    tree_set_driver(root, CARD, "igb");
    a = agent_new_with(root, &(struct vfio_switcher_config){.boot_id = "boot-2"});
    agent_recover(a);
    g_assert_cmpstr(a->recovered->str, ==, "vps-1 idle \n");
    assert_drivers(root, "0000:01", "igb! vfio-pci! vfio-pci! vfio-pci!");
    g_assert_false(has_journal(a, "vps-1"));
    agent_free(a);
    tree_remove(root);
}

/* The buses are numbered anew while a machine has the card, as after a rescan: somebody else answers at its addresses. Nothing is written to
 * those, and the state has a name (R4, L48). */
static void test_renumbered(void) {
    static const struct tree_function stranger = {"0000:01:00.0", "0x020000", "8086:1521", "igb", 9};
    g_autofree char *root = tree_of_machine(), *now = NULL;
    struct agent *a = agent_new(root);
    const char *reason;

    agent_bind(a, "vps-1", CARD);
    for (int i = 0; i < 4; i++) {
        g_autofree char *old = g_strdup_printf("%s/sys/bus/pci/devices/0000:01:00.%d", root, i);
        g_autofree char *new = g_strdup_printf("%s/sys/bus/pci/devices/0000:04:00.%d", root, i);
        g_assert_cmpint(g_rename(old, new), ==, 0);
    }
    tree_add(root, &stranger);
    agent_give_back(a, "vps-1");
    assert_error(a, KR_ERROR_IO, "0000:01:00.0 is another device now, it was 10de:2684: nothing was written");
    assert_error(a, KR_ERROR_IO, "0000:01:00.3 has left the bus");
    g_assert_cmpint(vfio_state_of(a->s, CARD, &reason), ==, VFIO_BROKEN);
    now = tree_drivers(root, "0000:01:00.0");
    g_assert_cmpstr(now, ==, "igb");
    agent_bind(a, "vps-2", "0000:02:00.0"); /* the others go on */
    g_assert_cmpstr(a->error, ==, NULL);
    agent_free(a);
    tree_remove(root);
}

/* A journal that cannot be read is a named state, and not forgotten. */
static void test_bad_journal(void) {
    static const char *const bad[] = {"", "{", "{}", "{\"owner\":\"vps-2\"}", "[1]"};
    g_autofree char *root = tree_of_machine();

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct agent *a;

        tree_put(root, "journals/vps-1.json", bad[i], -1);
        tree_put(root, "journals/vps-9.json.tmp", "{", -1);
        a = agent_new(root);
        g_assert_true(g_str_has_prefix(a->recovered->str, "vps-1 broken journal "));
        agent_give_back(a, "vps-1");
        assert_error(a, KR_ERROR_IO, "journal ");
        agent_bind(a, "vps-2", CARD);
        g_assert_cmpstr(a->error, ==, NULL);
        agent_give_back(a, "vps-2");
        agent_free(a);
    }
    tree_remove(root);
}

static void test_order(void) {
    g_autofree char *root = tree_of_machine();
    struct agent *a = agent_new_with(root, &(struct vfio_switcher_config){0});
    const char *cards[] = {CARD};
    struct vfio_call *running;

    agent_bind(a, "vps-1", CARD);
    assert_error(a, KR_ERROR_UNAVAILABLE, "not known yet");
    agent_recover(a);
    a->n_answers = 0;
    vfio_bind(a->s, "vps-1", cards, 1, agent_on_bound, a); /* two ask for one card at once */
    vfio_bind(a->s, "vps-2", cards, 1, agent_on_bound, a);
    vfio_give_back(a->s, "vps-1", agent_on_given_back, a);
    vfio_call_cancel(vfio_bind(a->s, "vps-3", cards, 1, agent_on_bound, a));
    agent_wait(a, 1);
    g_assert_cmpstr(a->error, ==, NULL);
    agent_wait(a, 2);
    assert_error(a, KR_ERROR_REFUSED, "IOMMU group 9 belongs to vps-1 (bound)");
    agent_wait(a, 3);
    g_assert_cmpstr(a->error, ==, NULL);
    g_assert_cmpint(vfio_state_of(a->s, CARD, NULL), ==, VFIO_IDLE);

    a->n_answers = 0;
    running = vfio_bind(a->s, "vps-4", cards, 1, agent_on_bound, a);
    while (vfio_state_of(a->s, CARD, NULL) != VFIO_BINDING)
        uv_run(&a->loop, UV_RUN_ONCE);
    vfio_call_cancel(running); /* the switch goes on to its end */
    wait_for_state(a, CARD, VFIO_BOUND);
    g_assert_cmpint(a->n_answers, ==, 0);
    agent_give_back(a, "vps-4");
    assert_drivers(root, "0000:01", HOME);
    agent_free(a);
    tree_remove(root);
}

/* The agent is asked to let go before the look; one that does not answer costs the deadline alone. */
static void test_let_go(void) {
    g_autofree char *root = tree_of_machine();
    struct agent *a = agent_new_with(root, &(struct vfio_switcher_config){.step_deadline_ms = 1000});
    gint64 begin = g_get_monotonic_time();

    agent_recover(a);
    agent_bind(a, "vps-1", CARD);
    g_assert_cmpint(a->n_let_go, ==, 1);
    agent_give_back(a, "vps-1");
    g_assert_cmpint(a->n_let_go, ==, 1);
    begin = g_get_monotonic_time();
    a->lets_go = false;
    agent_bind(a, "vps-1", CARD);
    g_assert_cmpstr(a->error, ==, NULL);
    g_assert_cmpint(g_get_monotonic_time() - begin, >=, G_USEC_PER_SEC);
    vfio_let_gone(a->s); /* too late: nothing */
    agent_free(a);
    tree_remove(root);
}

/* A write of the program's own, without a helper: done, failed, and not coming back. */
static void on_child(void *user, const struct vfio_child_result *result) {
    *(struct vfio_child_result *)user = *result;
}

static struct vfio_child_result run_write(const char *path, int64_t deadline_ms) {
    struct vfio_child_config config = {
        .write_path = path, .write_value = "value", .deadline_ms = deadline_ms, .grace_ms = 2000, .lock_fd = -1};
    struct vfio_child_result result = {0};
    struct vfio_child *child;
    uv_loop_t loop;

    uv_loop_init(&loop);
    child = vfio_child_start(&loop, &config, on_child, &result);
    g_assert_cmpint(result.end, ==, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    vfio_child_forget(child);
    uv_run(&loop, UV_RUN_DEFAULT);
    g_assert_cmpint(uv_loop_close(&loop), ==, 0);
    return result;
}

static void test_own_write(void) {
    g_autofree char *root = tree_new(), *path = g_build_filename(root, "file", NULL), *text = NULL;
    g_autofree char *fifo = g_build_filename(root, "fifo", NULL);
    struct vfio_child_result result;

    tree_put(root, "file", "", 0);
    result = run_write(path, 5000);
    g_assert_cmpint(result.end, ==, VFIO_CHILD_EXITED);
    g_assert_cmpint(result.status, ==, 0);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "value");
    result = run_write("/nowhere/file", 5000);
    g_assert_cmpint(result.status, ==, ENOENT);
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0); /* opening it waits for a reader */
    result = run_write(fifo, 200);
    g_assert_cmpint(result.end, ==, VFIO_CHILD_KILLED);
    tree_remove(root);
}

/* ---- holders ---- */

/* A process of this name that has /dev/full open, which stands in for the card's node. */
static pid_t start_holder(const char *root, const char *name) {
    g_autofree char *ready = g_build_filename(root, "holder", NULL), *text = NULL;
    pid_t pid = fork();

    tree_put_of(root, CARD, "drm/card0/dev", "1:7\n", -1);
    if (pid == 0) {
        prctl(PR_SET_NAME, name);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (open("/dev/full", O_RDWR) < 0)
            _exit(1);
        text = g_strdup_printf("%d", (int)getpid());
        g_file_set_contents(ready, text, -1, NULL);
        for (;;)
            pause();
    }
    while (!g_file_test(ready, G_FILE_TEST_EXISTS))
        g_usleep(1000);
    return pid;
}

static void end_holder(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void test_held(void) {
    g_autofree char *root = tree_of_machine();
    struct agent *a = agent_new(root);
    pid_t pid = start_holder(root, "python3");
    g_autofree char *who = g_strdup_printf("0000:01:00.0 is held by pid %d python3, ", (int)pid);

    agent_bind(a, "vps-1", CARD);
    assert_error(a, KR_ERROR_REFUSED, who);
    assert_error(a, KR_ERROR_REFUSED, "through drm/card0");
    end_holder(pid);
    agent_bind(a, "vps-1", CARD);
    g_assert_cmpstr(a->error, ==, NULL);
    agent_free(a);
    tree_remove(root);
}

static char *put_program(const char *root, const char *name, const char *script) {
    char *path = g_build_filename(root, name, NULL);

    g_assert_true(g_file_set_contents(path, script, -1, NULL));
    g_assert_cmpint(g_chmod(path, 0755), ==, 0);
    return path;
}

/* nvidia-persistenced is told about this card alone, and afterwards to take it back (K10, L72). */
static void test_persistence(void) {
    g_autofree char *root = tree_of_machine(), *script = NULL, *smi = NULL, *log = NULL, *log_path = NULL, *hook = NULL;
    struct agent *a;
    pid_t pid;

    script = g_strdup_printf("#!/bin/sh\ncd %s\necho smi \"$@\" >> log\n[ \"$4\" = 1 ] || kill -9 $(cat holder)\n",
                             root);
    smi = put_program(root, "smi", script);
    g_free(script);
    script = g_strdup_printf("#!/bin/sh\ncd %s\necho hook \"$@\" >> log\n[ ! -e no ]\n", root);
    hook = put_program(root, "hook", script);
    a = agent_new_with(root, &(struct vfio_switcher_config){.nvidia_smi = smi, .hook = hook});
    agent_recover(a);
    pid = start_holder(root, "nvidia-persiste");
    agent_bind(a, "vps-1", CARD);
    g_assert_cmpstr(a->error, ==, NULL);
    agent_give_back(a, "vps-1");
    g_assert_cmpstr(a->error, ==, NULL);
    waitpid(pid, NULL, 0);
    log_path = g_build_filename(root, "log", NULL);
    g_assert_true(g_file_get_contents(log_path, &log, NULL, NULL));
    g_assert_cmpstr(log, ==,
                    "hook before-bind " CARD "\nsmi -i " CARD " -pm 0\nsmi -i " CARD
                    " -pm 1\nhook after-give-back " CARD "\n");
    tree_put(root, "no", "", 0);
    agent_bind(a, "vps-1", CARD);
    assert_error(a, KR_ERROR_IO, "the hook does not let 0000:01:00.0 go: exit status 1 (undone)");
    agent_free(a);
    tree_remove(root);
}

/* DCGM holds every card, and nobody can tell it to let go of one: refused with its name and what to do. A hook may see to it, and is not
 * believed (a look follows). */
static void test_dcgm(void) {
    g_autofree char *root = tree_of_machine(), *script = NULL, *hook = NULL;
    struct agent *a = agent_new(root);
    pid_t pid = start_holder(root, "nv-hostengine");

    agent_bind(a, "vps-1", CARD);
    assert_error(a, KR_ERROR_REFUSED, " nv-hostengine, ");
    assert_error(a, KR_ERROR_REFUSED, "systemctl stop nvidia-dcgm");
    agent_free(a);
    script = g_strdup_printf("#!/bin/sh\ncd %s\n[ ! -e works ] || kill -9 $(cat holder)\n", root);
    hook = put_program(root, "hook", script);
    a = agent_new_with(root, &(struct vfio_switcher_config){.hook = hook});
    agent_recover(a);
    agent_bind(a, "vps-1", CARD);
    assert_error(a, KR_ERROR_IO, " nv-hostengine, ");
    assert_error(a, KR_ERROR_IO, "(undone)");
    assert_drivers(root, "0000:01", HOME);
    tree_put(root, "works", "", 0);
    agent_bind(a, "vps-1", CARD);
    g_assert_cmpstr(a->error, ==, NULL);
    waitpid(pid, NULL, 0);
    agent_free(a);
    tree_remove(root);
}

/* The node's own worker hangs in the driver and cannot be ended: after the deadline the look names it, and nothing is written. */
static void test_own_worker_stays(void) {
    g_autofree char *root = tree_of_machine();
    struct agent *a = agent_new_with(root, &(struct vfio_switcher_config){.step_deadline_ms = 500});
    pid_t pid = start_holder(root, "kohakuriver");

    agent_recover(a);
    a->lets_go = false;
    agent_bind(a, "vps-1", CARD);
    assert_error(a, KR_ERROR_REFUSED, " kohakuriver, ");
    assert_error(a, KR_ERROR_REFUSED, "hangs in the driver: see the kernel's log, reboot");
    assert_drivers(root, "0000:01", HOME);
    g_assert_false(has_journal(a, "vps-1"));
    end_holder(pid);
    agent_free(a);
    tree_remove(root);
}

/* It was told, and did not let go: nothing is unbound. */
static void test_persistence_stays(void) {
    g_autofree char *root = tree_of_machine();
    struct agent *a = agent_new_with(root, &(struct vfio_switcher_config){.nvidia_smi = "true"});
    pid_t pid = start_holder(root, "nvidia-persiste");

    agent_recover(a);
    agent_bind(a, "vps-1", CARD);
    assert_error(a, KR_ERROR_IO, "nvidia-persiste");
    assert_drivers(root, "0000:01", HOME);
    end_holder(pid);
    agent_free(a);
    tree_remove(root);
}

/* The disk is full: nothing is begun that could not be undone after a kill. */
static void test_no_journal(void) {
    g_autofree char *root = tree_of_machine();
    struct agent *a = agent_new(root);

    tree_folder(root, "journals/vps-1.json"); /* a folder stands where the journal would */
    agent_bind(a, "vps-1", CARD);
    assert_error(a, KR_ERROR_IO, "bind 0000:01:00.0 to vfio-pci: replace ");
    assert_drivers(root, "0000:01", HOME);
    g_assert_cmpint(vfio_state_of(a->s, CARD, NULL), ==, VFIO_IDLE);
    agent_free(a);
    tree_remove(root);
}

/* No helper: an error, not a crash. */
static void test_no_helper(void) {
    g_autofree char *root = tree_of_machine();
    struct agent *a = agent_new_with(root, &(struct vfio_switcher_config){.hook = "/nowhere/hook"});

    agent_recover(a);
    agent_bind(a, "vps-1", CARD);
    assert_error(a, KR_ERROR_IO, "cannot be started: No such file or directory");
    agent_free(a);
    tree_remove(root);
}

/* The real write, as the kernel would see it. */
static void test_write_step(void) {
    g_autofree char *root = tree_new(), *path = g_build_filename(root, "file", NULL), *text = NULL;
    char step[] = "vfio-step", verb[] = "write", value[] = "0000:01:00.0", nowhere[] = "/nowhere/file";
    char *argv[] = {step, verb, path, value, NULL}, *bad[] = {step, verb, nowhere, value, NULL};

    tree_put(root, "file", "former", -1);
    g_assert_cmpint(vfio_step_main(4, argv), ==, 0);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "0000:01:00.0");
    g_assert_cmpint(vfio_step_main(4, bad), ==, ENOENT);
    g_assert_cmpint(vfio_step_main(3, argv), ==, VFIO_STEP_USAGE);
    tree_remove(root);
}

int main(int argc, char **argv) {
    agent_be_helper(argc, argv);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vfio/switch/bind_and_back", test_bind_and_back);
    g_test_add_func("/vfio/switch/refused", test_refused);
    g_test_add_func("/vfio/switch/sets", test_sets);
    g_test_add_func("/vfio/switch/undone", test_undone);
    g_test_add_func("/vfio/switch/probe_lies", test_probe_lies);
    g_test_add_func("/vfio/switch/hang", test_hang);
    g_test_add_func("/vfio/switch/stuck", test_stuck);
    g_test_add_func("/vfio/switch/late", test_late);
    g_test_add_func("/vfio/switch/broken", test_broken);
    g_test_add_func("/vfio/switch/reboot", test_reboot);
    g_test_add_func("/vfio/switch/renumbered", test_renumbered);
    g_test_add_func("/vfio/switch/bad_journal", test_bad_journal);
    g_test_add_func("/vfio/switch/order", test_order);
    g_test_add_func("/vfio/switch/let_go", test_let_go);
    g_test_add_func("/vfio/switch/own_write", test_own_write);
    g_test_add_func("/vfio/switch/held", test_held);
    g_test_add_func("/vfio/switch/persistence", test_persistence);
    g_test_add_func("/vfio/switch/persistence_stays", test_persistence_stays);
    g_test_add_func("/vfio/switch/dcgm", test_dcgm);
    g_test_add_func("/vfio/switch/own_worker_stays", test_own_worker_stays);
    g_test_add_func("/vfio/switch/no_journal", test_no_journal);
    g_test_add_func("/vfio/switch/no_helper", test_no_helper);
    g_test_add_func("/vfio/switch/write_step", test_write_step);
    return g_test_run();
}
