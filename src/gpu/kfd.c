#include "gpu/kfd.h"

#include <string.h>

#include "base/fs.h"
#include "gpu/gpu_procs.h"

enum { FILE_MAX_BYTES = 16384 };

static bool read_number(const char *folder, const char *entry, const char *file, uint64_t *ret) {
    g_autofree char *path = g_build_filename(folder, entry, file, NULL);
    g_autofree char *text = NULL;
    char *end;

    if (!fs_read_file(path, FILE_MAX_BYTES, &text, NULL, NULL))
        return false;
    *ret = g_ascii_strtoull(text, &end, 10);
    return end != text;
}

/* "drm_render_minor 128" is a line of its own. */
static bool is_of_render(const char *folder, const char *entry, unsigned render_minor) {
    g_autofree char *path = g_build_filename(folder, entry, "properties", NULL);
    g_autofree char *line = g_strdup_printf("drm_render_minor %u\n", render_minor);
    g_autofree char *text = NULL;

    return fs_read_file(path, FILE_MAX_BYTES, &text, NULL, NULL) && strstr(text, line);
}

/* The number by which the driver knows the card; 0: it does not. */
static uint64_t find_gpu_id(const char *root, unsigned render_minor) {
    g_autofree char *folder = g_build_filename(root, "sys/class/kfd/kfd/topology/nodes", NULL);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *entry;
    uint64_t id = 0;

    while (dir && (entry = g_dir_read_name(dir)))
        if (is_of_render(folder, entry, render_minor) && read_number(folder, entry, "gpu_id", &id))
            return id;
    return 0;
}

void kfd_list_users(const char *root, unsigned render_minor, GArray *users) {
    uint64_t id = find_gpu_id(root, render_minor), bytes;
    g_autofree char *folder = g_build_filename(root, "sys/class/kfd/kfd/proc", NULL);
    g_autofree char *file = g_strdup_printf("vram_%" G_GUINT64_FORMAT, (guint64)id);
    g_autoptr(GDir) dir = id ? g_dir_open(folder, 0, NULL) : NULL;
    const char *entry;

    while (dir && (entry = g_dir_read_name(dir))) {
        struct gpu_user user = {.pid = (pid_t)g_ascii_strtoll(entry, NULL, 10)};

        if (user.pid <= 0 || !read_number(folder, entry, file, &bytes) || bytes == 0)
            continue;
        user.memory_bytes = (int64_t)MIN(bytes, (uint64_t)G_MAXINT64);
        g_array_append_val(users, user);
    }
}
