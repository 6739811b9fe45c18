#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

void fd_cleanup(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

bool fs_fail_errno(GError **error, int errnum, const char *what, const char *path) {
    bool full = errnum == ENOSPC || errnum == EDQUOT;

    return kr_fail_at(error, full ? KR_ERROR_STORAGE : KR_ERROR_IO, "%s %s: %s", what, path, g_strerror(errnum));
}

bool fs_read_file(const char *path, size_t max_bytes, char **ret_text, size_t *ret_len, GError **error) {
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    char chunk[4096];
    ssize_t n;

    if (fd < 0)
        return fs_fail_errno(error, errno, "read", path);
    while ((n = read(fd, chunk, sizeof chunk)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fs_fail_errno(error, errno, "read", path);
        if (bytes->len + (size_t)n > max_bytes)
            return kr_fail(error, IO, "read %s: larger than %zu bytes", path, max_bytes);
        g_byte_array_append(bytes, (const guint8 *)chunk, (guint)n);
    }
    if (ret_len)
        *ret_len = bytes->len;
    g_byte_array_append(bytes, (const guint8 *)"", 1);
    *ret_text = (char *)g_byte_array_free(g_steal_pointer(&bytes), FALSE);
    return true;
}

bool fd_write_all(int fd, const void *data, size_t len) {
    const char *at = data;

    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static bool sync_folder_of(const char *path, GError **error) {
    g_autofree char *folder = g_path_get_dirname(path);
    _cleanup_fd_ int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0)
        return fs_fail_errno(error, errno, "sync folder", folder);
    return true;
}

static bool write_temporary(const char *temporary, mode_t mode, const char *text, size_t len, GError **error) {
    _cleanup_fd_ int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);

    if (fd < 0 || !fd_write_all(fd, text, len) || fsync(fd) < 0)
        return fs_fail_errno(error, errno, "write", temporary);
    return true;
}

bool fs_write_durable(const char *path, mode_t mode, const char *text, size_t len, GError **error) {
    g_autofree char *temporary = g_strconcat(path, ".tmp", NULL);

    if (!write_temporary(temporary, mode, text, len, error)) {
        unlink(temporary);
        return false;
    }
    if (rename(temporary, path) < 0) {
        fs_fail_errno(error, errno, "replace", path);
        unlink(temporary);
        return false;
    }
    return sync_folder_of(path, error);
}

bool fs_remove_durable(const char *path, GError **error) {
    if (unlink(path) < 0)
        return errno == ENOENT ? true : fs_fail_errno(error, errno, "remove", path);
    return sync_folder_of(path, error);
}

bool fs_write_plain(const char *path, mode_t mode, const char *text, size_t len, GError **error) {
    _cleanup_fd_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);

    return (fd >= 0 && fd_write_all(fd, text, len)) || fs_fail_errno(error, errno, "write", path);
}

bool fs_remove_plain(const char *path, GError **error) {
    return unlink(path) == 0 || errno == ENOENT || fs_fail_errno(error, errno, "remove", path);
}

bool fs_exists(const char *path) { return g_file_test(path, G_FILE_TEST_EXISTS); }

char **fs_list(const char *path, GError **error) {
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();
    g_autoptr(GError) why = NULL;
    g_autoptr(GDir) dir = g_dir_open(path, 0, &why);
    const char *name;

    if (!dir) {
        kr_fail(error, IO, "%s", why->message);
        return NULL;
    }
    while ((name = g_dir_read_name(dir)))
        g_strv_builder_add(names, name);
    return g_strv_builder_end(names);
}

bool fs_mkdir_p(const char *path, mode_t mode, GError **error) {
    if (g_mkdir_with_parents(path, (int)mode) < 0)
        return fs_fail_errno(error, errno, "make folder", path);
    return true;
}
