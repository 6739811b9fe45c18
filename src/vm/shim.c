#include "vm/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "vm/console_log.h"

enum {
    MAX_FILE_BYTES = 16 * 1024,
    MAX_PATH_BYTES = 4095,
    FLUSH_AFTER_MS = 100,
    READ_BYTES = 16 * 1024,
    MAX_WORDS_BYTES = 64 * 1024
};

/* ---- files that both sides know ---- */

void shim_plan_clear(struct shim_plan *plan) {
    g_free(plan->folder);
    g_free(plan->user);
    g_free(plan->cpus);
    g_free(plan->cgroup);
    g_free(plan->bridge);
    *plan = (struct shim_plan){0};
}

char *shim_plan_to_str(const struct shim_plan *plan) {
    json_t *json = json_pack("{s:s,s:s,s:s,s:s,s:s,s:I,s:I}", "folder", plan->folder, "user", plan->user, "cpus",
                             plan->cpus, "cgroup", plan->cgroup, "bridge", plan->bridge, "memlock",
                             (json_int_t)plan->memlock, "console_max_bytes", (json_int_t)plan->console_max_bytes);
    char *text = jsonx_to_str(json);

    json_decref(json);
    return text;
}

bool shim_plan_from_str(const char *text, struct shim_plan *ret_plan, GError **error) {
    json_t *json = jsonx_parse(text, strlen(text), error);
    struct json_reader r;
    struct shim_plan plan = {0};
    bool ok;

    if (!json)
        return false;
    r = jr_init(json, "plan", error);
    plan.folder = g_strdup(jr_str(&r, "folder", MAX_PATH_BYTES));
    plan.user = g_strdup(jr_str(&r, "user", 64));
    plan.cpus = g_strdup(jr_str(&r, "cpus", 1024));
    plan.cgroup = g_strdup(jr_str(&r, "cgroup", MAX_PATH_BYTES));
    plan.bridge = g_strdup(jr_str(&r, "bridge", IFNAMSIZ - 1));
    plan.memlock = jr_int(&r, "memlock", 0, G_MAXINT64);
    plan.console_max_bytes = jr_int(&r, "console_max_bytes", 0, G_MAXINT64);
    ok = jr_done(&r);
    json_decref(json);
    if (ok)
        *ret_plan = plan;
    else
        shim_plan_clear(&plan);
    return ok;
}

static char *path_in(const char *folder, const char *name) { return g_build_filename(folder, name, NULL); }

static json_t *read_json(const char *folder, const char *name, GError **error) {
    g_autofree char *path = path_in(folder, name), *text = NULL;
    size_t len;

    if (!fs_exists(path)) {
        kr_fail(error, NOT_FOUND, "%s is not there", path);
        return NULL;
    }
    return fs_read_file(path, MAX_FILE_BYTES, &text, &len, error) ? jsonx_parse(text, len, error) : NULL;
}

static bool write_json(const char *folder, const char *name, json_t *json, GError **error) {
    g_autofree char *path = path_in(folder, name), *text = jsonx_to_str(json);

    json_decref(json);
    return fs_write_durable(path, 0600, text, strlen(text), error);
}

bool shim_exit_read(const char *folder, struct shim_exit *ret_exit, GError **error) {
    json_t *json = read_json(folder, SHIM_EXIT_FILE, error);
    struct json_reader r;
    struct shim_exit result;
    bool ok;

    if (!json)
        return false;
    r = jr_init(json, SHIM_EXIT_FILE, error);
    result = (struct shim_exit){.code = (int)jr_int(&r, "code", 0, 255),
                                .signum = (int)jr_int(&r, "signal", 0, 255),
                                .finished_ms = jr_int(&r, "finished_ms", 0, G_MAXINT64)};
    ok = jr_done(&r);
    json_decref(json);
    if (ok)
        *ret_exit = result;
    return ok;
}

bool shim_processes_read(const char *folder, struct process_tag *ret_shim, struct process_tag *ret_qemu,
                         GError **error) {
    json_t *json = read_json(folder, SHIM_PROCESS_FILE, error);
    bool ok = json && process_tag_from_json(json_object_get(json, "shim"), ret_shim, error) &&
              process_tag_from_json(json_object_get(json, "qemu"), ret_qemu, error);

    json_decref(json);
    return ok;
}

static int open_lock(const char *folder, int flags) {
    g_autofree char *path = path_in(folder, SHIM_LOCK_FILE);

    return open(path, O_RDWR | flags, 0600);
}

bool shim_lock_is_held(const char *folder) {
    _cleanup_fd_ int fd = open_lock(folder, O_CLOEXEC);

    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

/* ---- what only a parent can prepare ---- */

static bool fail_errno(GError **error, const char *what) {
    return kr_fail(error, IO, "%s: %s", what, g_strerror(errno));
}

static bool take_lock(const struct shim_plan *plan, GError **error) {
    int fd = open_lock(plan->folder, O_CREAT); /* QEMU inherits it */

    if (fd < 0)
        return fail_errno(error, "lock the machine");
    return flock(fd, LOCK_EX | LOCK_NB) == 0 || kr_fail(error, REFUSED, "the machine runs already");
}

static bool limit_memlock(const struct shim_plan *plan, GError **error) {
    struct rlimit limit;

    if (plan->memlock == 0 || getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return true;
    if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < (rlim_t)plan->memlock) {
        limit.rlim_cur = (rlim_t)plan->memlock;
        limit.rlim_max = MAX(limit.rlim_max, limit.rlim_cur);
        if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
            return kr_fail(error, REFUSED,
                           "a machine with GPUs locks its memory, and this process may not lock %" G_GINT64_FORMAT
                           " bytes (LimitMEMLOCK): %s",
                           plan->memlock, g_strerror(errno));
    }
    return true;
}

/* "0-3,8" */
static bool parse_cpus(const char *text, cpu_set_t *ret_set) {
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);

    CPU_ZERO(ret_set);
    for (char **part = parts; *part; part++) {
        unsigned first, last;
        int n = sscanf(*part, "%u-%u", &first, &last);
        if (n < 1)
            return false;
        if (n == 1)
            last = first;
        for (unsigned cpu = first; cpu <= last && cpu < CPU_SETSIZE; cpu++)
            CPU_SET(cpu, ret_set);
    }
    return CPU_COUNT(ret_set) > 0;
}

static bool bind_cpus(const struct shim_plan *plan, GError **error) {
    cpu_set_t set;

    if (!plan->cpus[0])
        return true;
    if (!parse_cpus(plan->cpus, &set))
        return kr_fail(error, REFUSED, "\"%s\" is no list of CPUs", plan->cpus);
    return sched_setaffinity(0, sizeof set, &set) == 0 || fail_errno(error, "bind to the CPUs");
}

/* Convenience, not a wall: where there is none to be had the machine runs without. */
static void join_cgroup(const struct shim_plan *plan) {
    g_autofree char *procs = g_build_filename(plan->cgroup, "cgroup.procs", NULL);
    g_autofree char *pid = g_strdup_printf("%d\n", (int)getpid());

    if (plan->cgroup[0] &&
        (!fs_mkdir_p(plan->cgroup, 0755, NULL) || !fs_write_plain(procs, 0644, pid, strlen(pid), NULL)))
        fprintf(stderr, "cannot join the cgroup %s: %s\n", plan->cgroup, g_strerror(errno));
}

static bool join_bridge(const char *bridge, const char *name, GError **error) {
    _cleanup_fd_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {0};
    int index = (int)if_nametoindex(name);

    g_strlcpy(request.ifr_name, bridge, IFNAMSIZ);
    request.ifr_ifindex = index;
    if (fd < 0 || ioctl(fd, SIOCBRADDIF, &request) != 0)
        return kr_fail(error, REFUSED, "join the bridge %s: %s", bridge, g_strerror(errno));
    request = (struct ifreq){0};
    g_strlcpy(request.ifr_name, name, IFNAMSIZ);
    if (ioctl(fd, SIOCGIFFLAGS, &request) != 0)
        return fail_errno(error, name);
    request.ifr_flags |= IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, &request) == 0 || fail_errno(error, name);
}

/* The interface lives as long as QEMU holds it: nothing to clear away. */
static bool make_tap(const struct shim_plan *plan, GError **error) {
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd;

    if (!plan->bridge[0])
        return true;
    fd = open("/dev/net/tun", O_RDWR);
    g_strlcpy(request.ifr_name, "krvm%d", IFNAMSIZ);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0)
        return fail_errno(error, "make a network interface");
    if (fd != SHIM_TAP_FD && (dup2(fd, SHIM_TAP_FD) < 0 || close(fd) != 0))
        return fail_errno(error, "make a network interface");
    return join_bridge(plan->bridge, request.ifr_name, error);
}

static bool become(const char *name, GError **error) {
    const struct passwd *user = name[0] ? getpwnam(name) : NULL;

    if (!name[0])
        return true;
    if (!user)
        return kr_fail(error, REFUSED, "there is no user %s (vm_user)", name);
    return (initgroups(name, user->pw_gid) == 0 && setgid(user->pw_gid) == 0 && setuid(user->pw_uid) == 0) ||
           fail_errno(error, "become the user of the machines");
}

/* ---- QEMU ---- */

struct outputs {
    int console[2], words[2]; /* pipes: what the guest prints, what QEMU says */
};

/* In the child. Waits until the parent has written down who it is: what runs is always known. */
static void run_qemu(const struct shim_plan *plan, int go, const struct outputs *outputs, char **argv) {
    g_autofree char *folder = path_in(plan->folder, SHIM_RUN_FOLDER);
    g_autoptr(GError) error = NULL;
    char byte;

    if (read(go, &byte, 1) != 1)
        _exit(127);
    if (dup2(outputs->console[1], SHIM_CONSOLE_FD) < 0 || dup2(outputs->words[1], STDOUT_FILENO) < 0 ||
        dup2(outputs->words[1], STDERR_FILENO) < 0 || chdir(folder) != 0)
        fprintf(stderr, "%s: %s\n", folder, g_strerror(errno));
    else if (!become(plan->user, &error))
        fprintf(stderr, "%s\n", error->message);
    else if (execvp(argv[0], argv) != 0)
        fprintf(stderr, "run %s: %s\n", argv[0], g_strerror(errno));
    _exit(127);
}

static bool write_processes(const struct shim_plan *plan, pid_t qemu, GError **error) {
    struct process_tag self, child;

    if (!process_tag_of(getpid(), &self) || !process_tag_of(qemu, &child))
        return kr_fail(error, IO, "/proc does not tell when a process was started");
    return write_json(plan->folder, SHIM_PROCESS_FILE,
                      json_pack("{s:o,s:o}", "shim", process_tag_to_json(&self), "qemu", process_tag_to_json(&child)),
                      error);
}

static bool start_qemu(const struct shim_plan *plan, char **argv, struct outputs *outputs, pid_t *ret_pid,
                       GError **error) {
    int go[2];
    pid_t pid;
    bool ok;

    if (pipe2(go, O_CLOEXEC) != 0 || pipe2(outputs->console, O_CLOEXEC) != 0 || pipe2(outputs->words, O_CLOEXEC) != 0)
        return fail_errno(error, "pipe");
    pid = fork();
    if (pid == 0) {
        close(go[1]);
        run_qemu(plan, go[0], outputs, argv);
    }
    close(outputs->console[1]);
    close(outputs->words[1]);
    close(go[0]);
    ok = pid > 0 ? write_processes(plan, pid, error) && write(go[1], "g", 1) == 1 : fail_errno(error, "fork");
    close(go[1]); /* without a word it ends by itself */
    *ret_pid = pid;
    return ok;
}

static int64_t now_ns(void) { return g_get_real_time() * 1000; }

/* What QEMU says: the newest, for a guest may be able to make it say much. */
static void keep_words(const char *bytes, size_t len) {
    struct stat st;

    if (fstat(STDERR_FILENO, &st) == 0 && st.st_size + (off_t)len > MAX_WORDS_BYTES && ftruncate(STDERR_FILENO, 0) != 0)
        return;
    fd_write_all(STDERR_FILENO, bytes, len);
}

/* false: the other end is closed. */
static bool take_output(struct console_writer *writer, int fd, bool is_console) {
    char chunk[READ_BYTES];
    ssize_t n = read(fd, chunk, sizeof chunk);

    if (n > 0 && is_console)
        console_writer_feed(writer, chunk, (size_t)n, now_ns());
    else if (n > 0)
        keep_words(chunk, (size_t)n);
    return n > 0 || (n < 0 && errno == EINTR);
}

/* Until QEMU has closed both, which it does at its end. A part of a line that waits for its rest is written anyway. */
static void keep_outputs(const struct shim_plan *plan, const struct outputs *outputs) {
    struct pollfd polls[] = {{.fd = outputs->console[0], .events = POLLIN},
                             {.fd = outputs->words[0], .events = POLLIN}};
    struct console_writer writer;

    console_writer_init(&writer, plan->folder, plan->console_max_bytes);
    while (polls[0].fd >= 0 || polls[1].fd >= 0) {
        if (poll(polls, 2, writer.line->len ? FLUSH_AFTER_MS : -1) == 0)
            console_writer_flush(&writer, now_ns());
        for (int i = 0; i < 2; i++)
            if (polls[i].fd >= 0 && polls[i].revents && !take_output(&writer, polls[i].fd, i == 0))
                polls[i].fd = -1;
    }
    console_writer_flush(&writer, now_ns());
    console_writer_clear(&writer);
}

static void write_exit(const struct shim_plan *plan, int status) {
    g_autoptr(GError) error = NULL;
    json_t *json = json_pack("{s:i,s:i,s:I}", "code", WIFEXITED(status) ? WEXITSTATUS(status) : 0, "signal",
                             WIFSIGNALED(status) ? WTERMSIG(status) : 0, "finished_ms", (json_int_t)clock_wall_ms());

    if (!write_json(plan->folder, SHIM_EXIT_FILE, json, &error))
        fprintf(stderr, "%s\n", error->message);
}

static bool prepare(const struct shim_plan *plan, GError **error) {
    setsid();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    if (!take_lock(plan, error) || !limit_memlock(plan, error) || !bind_cpus(plan, error) || !make_tap(plan, error))
        return false;
    join_cgroup(plan);
    return true;
}

/* Standard error is the machine's file, which both keep; the pipe to the runner goes. */
static void say_started(void) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (!fd_write_all(STDOUT_FILENO, "started\n", 8) || null < 0)
        return;
    dup2(null, STDOUT_FILENO);
}

int shim_main(int argc, char **argv) {
    struct shim_plan plan = {0};
    g_autoptr(GError) error = NULL;
    struct outputs outputs;
    int status = 0;
    pid_t qemu = 0;

    if (argc < 3) {
        fprintf(stderr, "usage: %s PLAN QEMU ARGS…\n", argv[0]);
        return 2;
    }
    if (!shim_plan_from_str(argv[1], &plan, &error) || !prepare(&plan, &error) ||
        !start_qemu(&plan, argv + 2, &outputs, &qemu, &error)) {
        fprintf(stderr, "%s\n", error ? error->message : "QEMU could not be started");
        shim_plan_clear(&plan);
        return 1;
    }
    say_started();
    keep_outputs(&plan, &outputs);
    while (waitpid(qemu, &status, 0) < 0 && errno == EINTR)
        ;
    write_exit(&plan, status);
    shim_plan_clear(&plan);
    return 0;
}
