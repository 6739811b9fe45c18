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
#include <unistd.h>

#include "base/error.h"
#include "base/fs.h"
#include "gpu/gpu_monitor.h"
#include "gpu/nvml_api.h"

/* Host services that keep nodes of idle cards open. They count only in our own PID namespace: a container cannot take
 * such a name and hide. A compute context of theirs would still show in NVML's own lists. Names as /proc/PID/comm cuts
 * them, at 15 bytes. */
static const char *const services[] = {"nvidia-persiste", "nv-hostengine", "dcgm-exporter",
                                       "nvidia-powerd",   "nvidia-smi",    "nvtop"};

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

void gpu_user_describe(struct gpu_user *user) {
    uid_t uid;

    if (!read_comm(user->pid, user->command, sizeof user->command))
        g_strlcpy(user->command, "?", sizeof user->command);
    user->user[0] = '\0';
    if (read_uid(user->pid, &uid))
        name_of_uid(uid, user->user, sizeof user->user);
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
static bool fd_is_node(int fds, const char *name, unsigned device_major, dev_t *ret_node) {
    struct statx st;

    if (statx(fds, name, AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0 || !S_ISCHR(st.stx_mode))
        return false;
    *ret_node = makedev(st.stx_rdev_major, st.stx_rdev_minor);
    return st.stx_rdev_major == device_major;
}

static void scan_process(pid_t pid, unsigned device_major, void (*on_node)(void *data, pid_t pid, dev_t node),
                         void *data) {
    const struct dirent *entry;
    int left_out = -1; /* asked only for processes that have such a node */
    char path[64];
    dev_t node;
    DIR *fds;

    g_snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    fds = opendir(path);
    while (fds && (entry = readdir(fds))) {
        if (entry->d_name[0] == '.' || !fd_is_node(dirfd(fds), entry->d_name, device_major, &node))
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

void gpu_procs_scan(unsigned device_major, void (*on_node)(void *data, pid_t pid, dev_t node), void *data) {
    DIR *proc = opendir("/proc");
    const struct dirent *entry;

    while (proc && (entry = readdir(proc)))
        if (g_ascii_isdigit(entry->d_name[0]))
            scan_process((pid_t)g_ascii_strtoll(entry->d_name, NULL, 10), device_major, on_node, data);
    if (proc)
        closedir(proc);
}

static int compare_ints(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

static void add_minors(DIR *dev, GArray *minors) {
    const struct dirent *entry;

    while ((entry = readdir(dev))) {
        struct stat st;
        int minor_number;

        if (fstatat(dirfd(dev), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISCHR(st.st_mode) ||
            major(st.st_rdev) != NVIDIA_MAJOR || minor(st.st_rdev) >= NVIDIA_MINOR_MODESET)
            continue;
        minor_number = (int)minor(st.st_rdev);
        g_array_append_val(minors, minor_number);
    }
    g_array_sort(minors, compare_ints);
    for (guint i = minors->len; i-- > 1;) /* two names of one card are one card */
        if (g_array_index(minors, int, i) == g_array_index(minors, int, i - 1))
            g_array_remove_index(minors, i);
}

bool gpu_minors_visible_to(pid_t pid, GArray **ret_minors, GError **error) {
    _cleanup_fd_ int root = -1;
    g_autoptr(GArray) minors = g_array_new(FALSE, FALSE, sizeof(int));
    char path[64];
    int fd;
    DIR *dev;

    g_snprintf(path, sizeof path, "/proc/%d/root", (int)pid);
    root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 && (errno == ENOENT || errno == ESRCH))
        return kr_fail(error, NOT_FOUND, "process %d is gone", (int)pid);
    if (root < 0)
        return fs_fail_errno(error, errno, "open", path);
    fd = openat(root, "dev", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT)
        return fs_fail_errno(error, errno, "open dev below", path);
    dev = fd < 0 ? NULL : fdopendir(fd);
    if (dev) {
        add_minors(dev, minors);
        closedir(dev);
    }
    *ret_minors = g_steal_pointer(&minors);
    return true;
}
