#include "doctor/doctor_root.h"

#include <errno.h>
#include <string.h>

#include "doctor/root_ops.h"

struct doctor_root {
    const struct root_ops *ops;
    void *data;
    char *trouble;
    int errnum; /* of the last look */
};

struct doctor_root *doctor_root_open(const char *path, GError **error) {
    bool is_folder = g_file_test(path, G_FILE_TEST_IS_DIR);
    void *data = is_folder ? root_folder_open(path, error) : root_text_open(path, error);
    struct doctor_root *root;

    if (!data)
        return NULL;
    root = g_new0(struct doctor_root, 1);
    root->ops = is_folder ? &root_folder_ops : &root_text_ops;
    root->data = data;
    return root;
}

void doctor_root_close(struct doctor_root *root) {
    if (!root)
        return;
    root->ops->close(root->data);
    g_free(root->trouble);
    g_free(root);
}

const char *doctor_root_trouble(const struct doctor_root *root) { return root->trouble; }

void doctor_root_clear_trouble(struct doctor_root *root) { g_clear_pointer(&root->trouble, g_free); }

void doctor_root_set_trouble(struct doctor_root *root, const char *trouble) {
    if (trouble && !root->trouble)
        root->trouble = g_strdup(trouble);
}

/* A process that ended meanwhile (ESRCH) and a path through something that is no folder are "not there" too. */
static void keep_trouble(struct doctor_root *root, const char *path, int errnum) {
    if (errnum == 0 || errnum == ENOENT || errnum == ENOTDIR || errnum == ESRCH || errnum == EINVAL || root->trouble)
        return;
    root->trouble = errnum == EFBIG ? g_strdup_printf("%s is too large", path)
                                    : g_strdup_printf("%s: %s", path, g_strerror(errnum));
}

char *doctor_root_read(struct doctor_root *root, const char *path, size_t max_bytes) {
    char *text;

    root->errnum = 0;
    text = root->ops->read(root->data, path, max_bytes, &root->errnum);
    if (!text)
        keep_trouble(root, path, root->errnum);
    return text;
}

char **doctor_root_list(struct doctor_root *root, const char *path) {
    char **names;

    root->errnum = 0;
    names = root->ops->list(root->data, path, &root->errnum);
    if (!names)
        keep_trouble(root, path, root->errnum);
    return names;
}

char *doctor_root_link(struct doctor_root *root, const char *path) {
    char *target;

    root->errnum = 0;
    target = root->ops->link(root->data, path, &root->errnum);
    if (!target)
        keep_trouble(root, path, root->errnum);
    return target;
}

bool doctor_root_stat(struct doctor_root *root, const char *path, struct doctor_stat *ret_stat) {
    bool is_there;

    root->errnum = 0;
    is_there = root->ops->stat(root->data, path, ret_stat, &root->errnum);
    if (!is_there)
        keep_trouble(root, path, root->errnum);
    return is_there;
}

bool doctor_root_exists(struct doctor_root *root, const char *path) {
    struct doctor_stat st;

    return doctor_root_stat(root, path, &st);
}

bool doctor_root_space(struct doctor_root *root, const char *path, struct doctor_space *ret_space) {
    g_autofree char *at = g_strdup(path);

    while (!root->ops->space(root->data, at, ret_space)) {
        char *slash = strrchr(at, '/');

        if (!slash || strcmp(at, "/") == 0)
            return false;
        slash[slash == at] = '\0';
    }
    return true;
}

char *doctor_root_ask(struct doctor_root *root, const char *const *argv) { return root->ops->ask(root->data, argv); }
