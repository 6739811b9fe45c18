#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "gpu/gpu_monitor.h"
#include "gpu/gpu_procs.h"
#include "gpu/nvml_api.h"

/* A child that holds a node of minor 7 open (O_PATH: there is no driver to open it with), under the given name. It runs
 * another program, because processes of our own program are passed over. */
static pid_t start_holder(const char *node, const char *name) {
    int ready[2];
    char byte;
    pid_t pid;

    g_assert_cmpint(pipe(ready), ==, 0);
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        int fd = open(node, O_PATH);
        close(ready[0]);
        if (fd < 0 || dup2(ready[1], STDOUT_FILENO) < 0)
            _exit(1);
        execl("/bin/sh", name, "-c", "echo; exec 1>&-; printf %s \"$1\" > /proc/$$/comm; kill -STOP $$", "sh", name,
              NULL);
        _exit(1);
    }
    close(ready[1]);
    g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
    close(ready[0]);
    return pid;
}

struct found {
    pid_t pid;
    unsigned minor;
    int times;
};

static void on_node(void *data, pid_t pid, dev_t node) {
    struct found *found = data;

    if (pid == found->pid && minor(node) == found->minor)
        found->times++;
}

static int times_found(pid_t pid) {
    struct found found = {.pid = pid, .minor = 7};

    gpu_procs_scan(&(unsigned){NVIDIA_MAJOR}, 1, on_node, &found);
    return found.times;
}

struct fixture {
    char *dir;
    char *node;
    bool can_mknod;
};

static void setup(struct fixture *f, const void *data) {
    f->dir = g_dir_make_tmp("kr-procs-XXXXXX", NULL);
    f->node = g_build_filename(f->dir, "anything", NULL);
    f->can_mknod = mknod(f->node, S_IFCHR | 0600, makedev(NVIDIA_MAJOR, 7)) == 0;
}

static void teardown(struct fixture *f, const void *data) {
    g_unlink(f->node);
    g_rmdir(f->dir);
    g_free(f->node);
    g_free(f->dir);
}

static void end(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void wait_for_name(struct gpu_user *user, const char *name) {
    for (int i = 0; i < 500; i++) {
        gpu_user_describe(user);
        if (strcmp(user->command, name) == 0)
            return;
        g_usleep(10000);
    }
    g_error("pid %d is called %s, not %s", (int)user->pid, user->command, name);
}

static void test_by_device_number(struct fixture *f, const void *data) {
    struct gpu_user user = {0};

    if (!f->can_mknod) {
        g_test_skip("device nodes cannot be made here (needs root)");
        return;
    }
    user.pid = start_holder(f->node, "trainer");
    wait_for_name(&user, "trainer");
    g_assert_cmpint(times_found(user.pid), ==, 1);
    g_assert_cmpstr(user.user, ==, g_get_user_name());
    end(user.pid);
    g_assert_cmpint(times_found(user.pid), ==, 0);
}

static void test_driver_services(struct fixture *f, const void *data) {
    struct gpu_user user = {0};

    if (!f->can_mknod) {
        g_test_skip("device nodes cannot be made here (needs root)");
        return;
    }
    user.pid = start_holder(f->node, "nvidia-persiste");
    wait_for_name(&user, "nvidia-persiste");
    g_assert_cmpint(times_found(user.pid), ==, 0);
    end(user.pid);
}

static void test_gone_process(void) {
    struct gpu_user user = {.pid = fork()};

    if (user.pid == 0)
        _exit(0);
    waitpid(user.pid, NULL, 0);
    gpu_user_describe(&user);
    g_assert_cmpstr(user.command, ==, "?");
    g_assert_cmpstr(user.user, ==, "");
}

static void test_odd_name(void) {
    struct gpu_user user = {.pid = getpid()};
    char before[16];

    prctl(PR_GET_NAME, before);
    prctl(PR_SET_NAME, "a\"\xff\n\x01");
    gpu_user_describe(&user);
    prctl(PR_SET_NAME, before);
    g_assert_cmpstr(user.command, ==, "a\"???");
}

/* A process with a root of its own, with three cards, other nodes, and what only looks like a card. */
static pid_t start_rooted(const char *root) {
    g_autofree char *dev = g_build_filename(root, "dev", NULL);
    static const struct {
        const char *name;
        unsigned major_number, minor_number;
    } nodes[] = {{"nvidia3", 195, 3}, {"other-name", 195, 1}, {"nvidiactl", 195, 255}, {"nvidia-modeset", 195, 254},
                 {"null", 1, 3},      {"nvidia0", 1, 0},      {"nvidia3-too", 195, 3}, {"nvidia11", 195, 11}};
    int ready[2];
    char byte;
    pid_t pid;

    g_assert_cmpint(g_mkdir(dev, 0755), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(nodes); i++) {
        g_autofree char *path = g_build_filename(dev, nodes[i].name, NULL);
        g_assert_cmpint(mknod(path, S_IFCHR | 0600, makedev(nodes[i].major_number, nodes[i].minor_number)), ==, 0);
    }
    g_assert_cmpint(pipe(ready), ==, 0);
    pid = fork();
    if (pid == 0) {
        if (chroot(root) < 0 || write(ready[1], "", 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    close(ready[1]);
    g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
    close(ready[0]);
    return pid;
}

static void test_minors(struct fixture *f, const void *data) {
    const char *rm[] = {"rm", "-rf", f->dir, NULL};
    g_autoptr(GArray) minors = NULL;
    pid_t pid;

    if (!f->can_mknod) {
        g_test_skip("device nodes cannot be made here (needs root)");
        return;
    }
    pid = start_rooted(f->dir);
    g_assert_true(gpu_minors_visible_to(pid, &minors, NULL));
    end(pid);
    g_assert_cmpuint(minors->len, ==, 3);
    g_assert_cmpint(g_array_index(minors, int, 0), ==, 1);
    g_assert_cmpint(g_array_index(minors, int, 1), ==, 3);
    g_assert_cmpint(g_array_index(minors, int, 2), ==, 11);
    g_spawn_sync(NULL, (char **)rm, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
}

/* Render nodes: by number, without those of NVIDIA's cards, which CDI brings along. */
static void test_renders(struct fixture *f, const void *data) {
    const char *rm[] = {"rm", "-rf", f->dir, NULL};
    g_autofree char *dri = g_build_filename(f->dir, "dev/dri", NULL);
    g_autofree char *nvidia = g_build_filename(f->dir, "sys/dev/char/226:130/device", NULL);
    g_autofree char *vendor = g_build_filename(nvidia, "vendor", NULL);
    g_autoptr(GArray) renders = NULL, none = NULL;
    static const unsigned minors[] = {131, 0, 128, 130};
    pid_t pid;

    if (!f->can_mknod) {
        g_test_skip("device nodes cannot be made here (needs root)");
        return;
    }
    pid = start_rooted(f->dir);
    g_assert_true(gpu_renders_visible_to(f->dir, pid, &none, NULL)); /* no /dev/dri at all */
    g_assert_cmpuint(none->len, ==, 0);
    g_assert_cmpint(g_mkdir_with_parents(dri, 0755), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(minors); i++) {
        g_autofree char *node = g_strdup_printf("%s/any-%zu", dri, i);
        g_assert_cmpint(mknod(node, S_IFCHR | 0600, makedev(226, minors[i])), ==, 0);
    }
    g_assert_cmpint(g_mkdir_with_parents(nvidia, 0755), ==, 0);
    g_assert_true(g_file_set_contents(vendor, "0x10de\n", -1, NULL));
    g_assert_true(gpu_renders_visible_to(f->dir, pid, &renders, NULL));
    end(pid);
    g_assert_cmpuint(renders->len, ==, 2);
    g_assert_true(g_array_index(renders, dev_t, 0) == makedev(226, 128));
    g_assert_true(g_array_index(renders, dev_t, 1) == makedev(226, 131));
    g_spawn_sync(NULL, (char **)rm, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
}

static void test_minors_of_gone(void) {
    GArray *untouched = NULL;
    g_autoptr(GError) error = NULL;
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    g_assert_false(gpu_minors_visible_to(pid, &untouched, &error));
    g_assert_error(error, KR_ERROR, KR_ERROR_NOT_FOUND);
    g_assert_null(untouched);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add("/gpu/procs/L65-found-by-device-number", struct fixture, NULL, setup, test_by_device_number, teardown);
    g_test_add("/gpu/procs/driver-services-are-no-users", struct fixture, NULL, setup, test_driver_services, teardown);
    g_test_add_func("/gpu/procs/gone-process-is-described", test_gone_process);
    g_test_add_func("/gpu/procs/odd-names-do-no-harm", test_odd_name);
    g_test_add("/gpu/procs/L52-minors-visible-to-a-container", struct fixture, NULL, setup, test_minors, teardown);
    g_test_add("/gpu/procs/L52-render-nodes-visible-to-a-container", struct fixture, NULL, setup, test_renders,
               teardown);
    g_test_add_func("/gpu/procs/L52-gone-process-is-not-found", test_minors_of_gone);
    return g_test_run();
}
