/* A folder as root. "/" is read as it is, with the links of /proc/PID/fd; another folder is an image, in which links are
 * followed inside it (openat2), so that an absolute link in it never leads to this machine's own files. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fs.h"
#include "doctor/root_ops.h"

struct root_folder {
    int fd;
    bool is_live; /* "/" */
};

static int open_below(const struct root_folder *folder, const char *path, int flags) {
    const char *relative = path + strspn(path, "/");
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = RESOLVE_IN_ROOT};

    if (!relative[0])
        relative = ".";
    if (folder->is_live)
        return openat(folder->fd, relative, flags | O_CLOEXEC);
    return (int)syscall(SYS_openat2, folder->fd, relative, &how, sizeof how);
}

/* A second name of an open file, by which it can be opened anew. */
static int reopen(int fd, int flags) {
    char path[64];

    g_snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, flags | O_CLOEXEC);
}

static bool read_up_to(int fd, size_t max_bytes, GByteArray *text, int *ret_errno) {
    uint8_t buf[16384];
    ssize_t n;

    while ((n = read(fd, buf, sizeof buf)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || text->len + (size_t)n > max_bytes) {
            *ret_errno = n < 0 ? errno : EFBIG;
            return false;
        }
        g_byte_array_append(text, buf, (guint)n);
    }
    return true;
}

/* Looks at what it is before it opens it: opening a device node would start its driver. */
static char *folder_read(void *data, const char *path, size_t max_bytes, int *ret_errno) {
    _cleanup_fd_ int at = open_below(data, path, O_PATH);
    _cleanup_fd_ int fd = -1;
    g_autoptr(GByteArray) text = NULL;
    struct stat st;

    if (at < 0 || fstat(at, &st) < 0) {
        *ret_errno = errno;
        return NULL;
    }
    if (!S_ISREG(st.st_mode))
        return NULL;
    fd = reopen(at, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        *ret_errno = errno;
        return NULL;
    }
    text = g_byte_array_new();
    if (!read_up_to(fd, max_bytes, text, ret_errno))
        return NULL;
    g_byte_array_append(text, (const uint8_t *)"", 1);
    return (char *)g_byte_array_free(g_steal_pointer(&text), FALSE);
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static char **folder_list(void *data, const char *path, int *ret_errno) {
    int fd = open_below(data, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    GPtrArray *names;

    if (!dir) {
        *ret_errno = errno;
        return NULL;
    }
    names = g_ptr_array_new();
    while (names->len < DOCTOR_LIST_MAX && (entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            g_ptr_array_add(names, g_strdup(entry->d_name));
    closedir(dir);
    g_ptr_array_sort(names, compare_names);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}

static char *folder_link(void *data, const char *path, int *ret_errno) {
    _cleanup_fd_ int fd = open_below(data, path, O_PATH | O_NOFOLLOW);
    char target[4096];
    ssize_t n = fd < 0 ? -1 : readlinkat(fd, "", target, sizeof target - 1);

    if (n < 0) {
        *ret_errno = errno;
        return NULL;
    }
    target[n] = '\0';
    return g_strdup(target);
}

/* AT_STATX_DONT_SYNC: what the kernel has at hand, so that a descriptor on a dead network mount cannot hang us. */
static bool folder_stat(void *data, const char *path, struct doctor_stat *ret_stat, int *ret_errno) {
    const struct root_folder *folder = data;
    const char *relative = path + strspn(path, "/");
    _cleanup_fd_ int fd = folder->is_live ? -1 : open_below(folder, path, O_PATH);
    struct statx st;
    int at = folder->is_live ? folder->fd : fd;

    if (!relative[0])
        relative = ".";
    if (at < 0 || statx(at, folder->is_live ? relative : "", AT_STATX_DONT_SYNC | AT_EMPTY_PATH,
                        STATX_TYPE | STATX_MODE | STATX_UID, &st) < 0) {
        *ret_errno = errno;
        return false;
    }
    *ret_stat = (struct doctor_stat){st.stx_mode, st.stx_uid, makedev(st.stx_rdev_major, st.stx_rdev_minor)};
    return true;
}

static bool folder_space(void *data, const char *path, struct doctor_space *ret_space) {
    _cleanup_fd_ int fd = open_below(data, path, O_PATH);
    struct statvfs fs;

    if (fd < 0 || fstatvfs(fd, &fs) < 0)
        return false;
    *ret_space = (struct doctor_space){(int64_t)(fs.f_bavail * fs.f_frsize), (int64_t)(fs.f_blocks * fs.f_frsize)};
    return true;
}

/* stdout into the pipe, the rest to nowhere; its deadline is that of the whole check (the process group is killed). */
static pid_t spawn_into(int out, const char *const *argv) {
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    if (posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ) != 0)
        pid = -1;
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static char *folder_ask(void *data, const char *const *argv) {
    const struct root_folder *folder = data;
    g_autoptr(GByteArray) text = g_byte_array_new();
    int ends[2], errnum = 0, status = 1;
    bool is_read;
    pid_t pid;

    if (!folder->is_live || pipe2(ends, O_CLOEXEC) < 0)
        return NULL;
    pid = spawn_into(ends[1], argv);
    close(ends[1]);
    is_read = pid > 0 && read_up_to(ends[0], 65536, text, &errnum);
    close(ends[0]);
    if (pid > 0 && (waitpid(pid, &status, 0) < 0 || status != 0))
        is_read = false;
    if (!is_read)
        return NULL;
    g_byte_array_append(text, (const uint8_t *)"", 1);
    return (char *)g_byte_array_free(g_steal_pointer(&text), FALSE);
}

static void folder_close(void *data) {
    struct root_folder *folder = data;

    fd_cleanup(&folder->fd);
    g_free(folder);
}

void *root_folder_open(const char *path, GError **error) {
    struct root_folder *folder = g_new0(struct root_folder, 1);
    struct stat here, top;

    folder->fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder->fd < 0 || fstat(folder->fd, &here) < 0 || stat("/", &top) < 0) {
        kr_fail(error, USAGE, "--root %s: %s", path, g_strerror(errno));
        folder_close(folder);
        return NULL;
    }
    folder->is_live = here.st_dev == top.st_dev && here.st_ino == top.st_ino;
    return folder;
}

const struct root_ops root_folder_ops = {
    .read = folder_read,
    .list = folder_list,
    .link = folder_link,
    .stat = folder_stat,
    .space = folder_space,
    .ask = folder_ask,
    .close = folder_close,
};
