#pragma once
/* What the checks may see of a machine: files, links, kinds of files, free space, and what a few programs say, all below
 * one root. A root is a folder ("/" or an unpacked image) or a description in a text file (docs/doctor.md), in which
 * device nodes, foreign processes and hanging files can be had without a machine that has them.
 *
 * Nothing is written. Nothing but regular files is ever opened for reading, so no look initialises a driver; sizes are
 * bounded. A path is absolute and links are followed inside the root. A read may hang on a broken machine: doctor.h runs
 * all this in a child with a deadline.
 *
 * What is there and cannot be seen (no right, too large) is trouble: the first such path is kept until it is cleared, so
 * that a check which saw nothing wrong can tell "all is well" from "could not look". */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { DOCTOR_READ_MAX_BYTES = 1 << 20, DOCTOR_LIST_MAX = 1 << 16 };

struct doctor_root;

struct doctor_stat {
    mode_t mode; /* kind and permissions */
    uid_t uid;
    dev_t device; /* of a device node */
};

struct doctor_space {
    int64_t free_bytes, total_bytes;
};

/* KR_ERROR_USAGE when `path` is neither a folder nor a description. */
struct doctor_root *doctor_root_open(const char *path, GError **error);
void doctor_root_close(struct doctor_root *root);

/* Text of a regular file, NUL-terminated, g_free; NULL when there is none, or it is trouble. */
char *doctor_root_read(struct doctor_root *root, const char *path, size_t max_bytes);
/* Names in a folder, sorted, g_strfreev; NULL when there is none. */
char **doctor_root_list(struct doctor_root *root, const char *path);
/* Target of a link as it is written, g_free; NULL when it is none. */
char *doctor_root_link(struct doctor_root *root, const char *path);
/* Follows links, those of /proc/PID/fd too. */
bool doctor_root_stat(struct doctor_root *root, const char *path, struct doctor_stat *ret_stat);
bool doctor_root_exists(struct doctor_root *root, const char *path);
/* Of the file system that `path` is on; of its nearest folder that exists. */
bool doctor_root_space(struct doctor_root *root, const char *path, struct doctor_space *ret_space);
/* What a program prints on stdout, g_free. NULL when it is not there, fails, or the root is a foreign folder. */
char *doctor_root_ask(struct doctor_root *root, const char *const *argv);

/* What could not be seen since the last clear; NULL: nothing. */
const char *doctor_root_trouble(const struct doctor_root *root);
void doctor_root_clear_trouble(struct doctor_root *root);
void doctor_root_set_trouble(struct doctor_root *root, const char *trouble); /* NULL: leaves it as it is */
