#pragma once
/* The seam below doctor_root.h: a kind of root is a row of functions. Each may set *ret_errno to say why it has nothing;
 * ENOENT (there is none) is the usual case and 0 counts as that. */

#include "doctor/doctor_root.h"

struct root_ops {
    char *(*read)(void *data, const char *path, size_t max_bytes, int *ret_errno);
    char **(*list)(void *data, const char *path, int *ret_errno);
    char *(*link)(void *data, const char *path, int *ret_errno);
    bool (*stat)(void *data, const char *path, struct doctor_stat *ret_stat, int *ret_errno);
    bool (*space)(void *data, const char *path, struct doctor_space *ret_space);
    char *(*ask)(void *data, const char *const *argv);
    void (*close)(void *data);
};

/* root_folder.c */
extern const struct root_ops root_folder_ops;
void *root_folder_open(const char *path, GError **error);

/* root_text.c: `path` is read, and what it includes. KR_ERROR_USAGE naming file and line. */
extern const struct root_ops root_text_ops;
void *root_text_open(const char *path, GError **error);
