#pragma once
/* Files that must survive a power cut, and files that come from outside. All calls block; daemons use them only for
 * small files of their own state. Errors are KR_ERROR_IO, KR_ERROR_STORAGE for a full disk or an exhausted quota. */

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Closes *fd unless negative. For `_cleanup_fd_ int fd = -1;`. */
void fd_cleanup(int *fd);
#define _cleanup_fd_ __attribute__((cleanup(fd_cleanup)))

/* Sets a GError with errno's text: "what path: No space left on device". Returns false. */
bool fs_fail_errno(GError **error, int errnum, const char *what, const char *path);

/* Whole file, NUL-terminated; refuses more than max_bytes. ret_len may be NULL. Caller frees *ret_text. */
bool fs_read_file(const char *path, size_t max_bytes, char **ret_text, size_t *ret_len, GError **error);

/* Replaces the file: temporary in the same folder, write, fsync, rename, fsync of the folder. On failure the old
 * content stands and no temporary remains. */
bool fs_write_durable(const char *path, mode_t mode, const char *text, size_t len, GError **error);

/* Removes the file and makes the removal durable. A file that is not there is success. */
bool fs_remove_durable(const char *path, GError **error);

/* The same without durability: a power cut may take it back, or leave half of it. */
bool fs_write_plain(const char *path, mode_t mode, const char *text, size_t len, GError **error);

/* The same for a removal. A file that is not there is success. */
bool fs_remove_plain(const char *path, GError **error);

/* false also when it cannot be told. */
bool fs_exists(const char *path);

/* The names in the folder, in no order. NULL with KR_ERROR_IO. Caller frees (g_strfreev). */
char **fs_list(const char *path, GError **error);

/* Makes the folder and its parents. */
bool fs_mkdir_p(const char *path, mode_t mode, GError **error);

/* Writes all bytes, through EINTR and short writes. false with errno set. */
bool fd_write_all(int fd, const void *data, size_t len);
