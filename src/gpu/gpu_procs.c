#include "gpu/gpu_procs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "gpu/gpu_monitor.h"
#include "gpu/gpu_pci.h"
#include "gpu/nvml_api.h"

/* Host services that keep nodes of idle cards open. They count only in our own PID namespace: a container cannot take
 * such a name and hide. A compute context of theirs would still show in NVML's own lists. Names as /proc/PID/comm cuts
 * them, at 15 bytes. */
static const char *const services[] = {"nvidia-persiste", "nv-hostengine", "dcgm-exporter",
                                       "nvidia-powerd",   "nvidia-smi",    "nvtop",
                                       "systemd-logind",  "rocm-smi",      "amd-smi"};

static bool same_file(const char *a, const char *b) {
    struct stat sa, sb;

    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

static bool same_as_ours(pid_t pid, const char *what) {
    char theirs[64], ours[64];

    g_snprintf(theirs, sizeof theirs, "/proc/%d/%s", (int)pid, what);
    g_snprintf(ours, sizeof ours, "/proc/self/%s", what);
    return same_file(theirs, ours);
}

static bool read_comm(pid_t pid, char *buf, size_t size) {
    g_autofree char *text = NULL;
    char path[64];

    g_snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    if (!fs_read_file(path, 4096, &text, NULL, NULL))
        return false;
    g_strchomp(text);
    g_strlcpy(buf, text, size);
    for (char *c = buf; *c; c++) /* comm is any bytes; this text goes into JSON */
        if (!g_ascii_isprint(*c))
            *c = '?';
    return true;
}

static bool read_uid(pid_t pid, uid_t *ret_uid) {
    g_autofree char *text = NULL;
    const char *line;
    char path[64];

    g_snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    if (!fs_read_file(path, 65536, &text, NULL, NULL) || !(line = strstr(text, "\nUid:")))
        return false;
    *ret_uid = (uid_t)g_ascii_strtoull(line + strlen("\nUid:"), NULL, 10);
    return true;
}

static void name_of_uid(uid_t uid, char *buf, size_t size) {
    FILE *passwd = fopen("/etc/passwd", "re");
    const struct passwd *entry;

    g_snprintf(buf, size, "uid %u", (unsigned)uid);
    while (passwd && (entry = fgetpwent(passwd)))
        if (entry->pw_uid == uid) {
            g_strlcpy(buf, entry->pw_name, size);
            break;
        }
    if (passwd)
        fclose(passwd);
}

/* Field 22 of /proc/PID/stat, in clock ticks after boot; 0: not to be seen. The command in field 2 may hold anything. */
static int64_t read_start_ticks(pid_t pid) {
    g_autofree char *text = NULL;
    const char *at;
    char path[64];

    g_snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (!fs_read_file(path, 4096, &text, NULL, NULL) || !(at = strrchr(text, ')')))
        return 0;
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at ? g_ascii_strtoll(at, NULL, 10) : 0;
}

static int64_t wall_of_ticks(int64_t ticks) {
    int64_t hz = sysconf(_SC_CLK_TCK);
    struct timespec boot = {0};
    int64_t up_ms;

    clock_gettime(CLOCK_BOOTTIME, &boot);
    up_ms = boot.tv_sec * 1000LL + boot.tv_nsec / 1000000;
    return ticks > 0 && hz > 0 ? clock_wall_ms() - up_ms + ticks * 1000 / hz : 0;
}

bool gpu_container_of_cgroup(const char *text, char ret_id[static GPU_USER_CONTAINER_BYTES]) {
    size_t digits = 0;

    for (; *text; text++) {
        bool is_digit = g_ascii_isdigit(*text) || (*text >= 'a' && *text <= 'f');

        digits = is_digit ? digits + 1 : 0;
        if (digits != GPU_USER_CONTAINER_BYTES - 1 || g_ascii_isalnum(text[1]))
            continue;
        memcpy(ret_id, text + 1 - digits, digits);
        ret_id[digits] = '\0';
        return true;
    }
    return false;
}

static void read_container(struct gpu_user *user) {
    g_autofree char *text = NULL;
    char path[64];

    g_snprintf(path, sizeof path, "/proc/%d/cgroup", (int)user->pid);
    user->container[0] = '\0';
    if (fs_read_file(path, 65536, &text, NULL, NULL))
        gpu_container_of_cgroup(text, user->container);
}

static void describe_once(struct gpu_user *user) {
    uid_t uid;

    if (!read_comm(user->pid, user->command, sizeof user->command))
        g_strlcpy(user->command, "?", sizeof user->command);
    user->user[0] = '\0';
    if (read_uid(user->pid, &uid))
        name_of_uid(uid, user->user, sizeof user->user);
    read_container(user);
}

void gpu_user_describe(struct gpu_user *user) {
    int64_t before, after = read_start_ticks(user->pid);
    int tries = 0;

    do {
        before = after;
        describe_once(user);
        after = read_start_ticks(user->pid);
    } while (before != after && ++tries < 3);
    user->started_ms = wall_of_ticks(after);
}

static bool is_left_out(pid_t pid) {
    char comm[GPU_USER_COMMAND_BYTES];

    if (pid == getpid() || same_as_ours(pid, "exe"))
        return true;
    if (!read_comm(pid, comm, sizeof comm))
        return false;
    for (size_t i = 0; i < G_N_ELEMENTS(services); i++)
        if (strcmp(comm, services[i]) == 0)
            return same_as_ours(pid, "ns/pid");
    return false;
}

/* AT_STATX_DONT_SYNC: what the kernel has at hand, so that a descriptor on a dead network mount cannot hang us. */
static bool fd_is_node(int fds, const char *name, const unsigned *majors, size_t n_majors, dev_t *ret_node) {
    struct statx st;
    bool is_one = false;

    if (statx(fds, name, AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0 || !S_ISCHR(st.stx_mode))
        return false;
    *ret_node = makedev(st.stx_rdev_major, st.stx_rdev_minor);
    for (size_t i = 0; i < n_majors; i++)
        is_one |= st.stx_rdev_major == majors[i];
    return is_one;
}

static void scan_process(pid_t pid, const unsigned *majors, size_t n_majors,
                         void (*on_node)(void *data, pid_t pid, dev_t node), void *data) {
    const struct dirent *entry;
    int left_out = -1; /* asked only for processes that have such a node */
    char path[64];
    dev_t node;
    DIR *fds;

    g_snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    fds = opendir(path);
    while (fds && (entry = readdir(fds))) {
        if (entry->d_name[0] == '.' || !fd_is_node(dirfd(fds), entry->d_name, majors, n_majors, &node))
            continue;
        if (left_out < 0)
            left_out = is_left_out(pid);
        if (left_out)
            break;
        on_node(data, pid, node);
    }
    if (fds)
        closedir(fds);
}

void gpu_procs_scan(const unsigned *majors, size_t n_majors, void (*on_node)(void *data, pid_t pid, dev_t node),
                    void *data) {
    DIR *proc = opendir("/proc");
    const struct dirent *entry;

    while (proc && (entry = readdir(proc)))
        if (g_ascii_isdigit(entry->d_name[0]))
            scan_process((pid_t)g_ascii_strtoll(entry->d_name, NULL, 10), majors, n_majors, on_node, data);
    if (proc)
        closedir(proc);
}

/* ---- what a container sees ---- */

enum { DRM_MAJOR = 226, DRM_FIRST_RENDER = 128 };

bool gpu_is_render_node(dev_t node) { return major(node) == DRM_MAJOR && minor(node) >= DRM_FIRST_RENDER; }

static bool is_nvidia_card(dev_t node) { return major(node) == NVIDIA_MAJOR && minor(node) < NVIDIA_MINOR_MODESET; }

static int compare_devices(const void *a, const void *b) {
    dev_t x = *(const dev_t *)a, y = *(const dev_t *)b;

    return x < y ? -1 : x > y;
}

/* A folder below a process's root, NULL when there is none. No symbolic link is followed: they are the container's. */
static bool open_below(pid_t pid, const char *const *folders, DIR **ret_dir, GError **error) {
    _cleanup_fd_ int at = -1;
    char path[64];

    g_snprintf(path, sizeof path, "/proc/%d/root", (int)pid);
    at = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (at < 0 && (errno == ENOENT || errno == ESRCH))
        return kr_fail(error, NOT_FOUND, "process %d is gone", (int)pid);
    if (at < 0)
        return fs_fail_errno(error, errno, "open", path);
    *ret_dir = NULL;
    for (; *folders; folders++) {
        int fd = openat(at, *folders, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0)
            return errno == ENOENT || fs_fail_errno(error, errno, "open dev below", path);
        close(at);
        at = fd;
    }
    *ret_dir = fdopendir(g_steal_fd(&at));
    return *ret_dir || fs_fail_errno(error, errno, "read dev below", path);
}

/* The device numbers in it that `is_wanted`, each once, ascending. Closes the folder; NULL is fine. */
static GArray *nodes_in(DIR *dir, bool (*is_wanted)(dev_t node)) {
    GArray *nodes = g_array_new(FALSE, FALSE, sizeof(dev_t));
    const struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        struct stat st;

        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(st.st_mode) &&
            is_wanted(st.st_rdev))
            g_array_append_val(nodes, st.st_rdev);
    }
    if (dir)
        closedir(dir);
    g_array_sort(nodes, compare_devices);
    for (guint i = nodes->len; i-- > 1;) /* two names of one card are one card */
        if (g_array_index(nodes, dev_t, i) == g_array_index(nodes, dev_t, i - 1))
            g_array_remove_index(nodes, i);
    return nodes;
}

bool gpu_minors_visible_to(pid_t pid, GArray **ret_minors, GError **error) {
    static const char *const dev[] = {"dev", NULL};
    g_autoptr(GArray) nodes = NULL;
    DIR *dir = NULL;

    if (!open_below(pid, dev, &dir, error))
        return false;
    nodes = nodes_in(dir, is_nvidia_card);
    *ret_minors = g_array_new(FALSE, FALSE, sizeof(int));
    for (guint i = 0; i < nodes->len; i++) {
        int minor_number = (int)minor(g_array_index(nodes, dev_t, i));
        g_array_append_val(*ret_minors, minor_number);
    }
    return true;
}

static bool is_of_nvidia(const char *root, dev_t node) {
    g_autofree char *path = g_strdup_printf("%s/sys/dev/char/%u:%u/device/vendor", root, major(node), minor(node));
    g_autofree char *text = NULL;

    return fs_read_file(path, 64, &text, NULL, NULL) && g_ascii_strtoull(text, NULL, 16) == PCI_VENDOR_NVIDIA;
}

bool gpu_renders_visible_to(const char *root, pid_t pid, GArray **ret_renders, GError **error) {
    static const char *const dri[] = {"dev", "dri", NULL};
    GArray *renders;
    DIR *dir = NULL;

    if (!open_below(pid, dri, &dir, error))
        return false;
    renders = nodes_in(dir, gpu_is_render_node);
    for (guint i = renders->len; i-- > 0;)
        if (is_of_nvidia(root, g_array_index(renders, dev_t, i)))
            g_array_remove_index(renders, i);
    *ret_renders = renders;
    return true;
}
