#include "sim/disk.h"

#include <errno.h>
#include <string.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fs.h"

struct disk_file {
    char *now;     /* what is read; NULL: no file */
    char *durable; /* what a power cut cannot take; NULL: no file */
};

static struct disk *mounted;

static void file_free(gpointer data) {
    struct disk_file *file = data;

    g_free(file->now);
    g_free(file->durable);
    g_free(file);
}

void disk_init(struct disk *disk, struct dice *dice) {
    *disk = (struct disk){.files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, file_free), .dice = dice};
}

void disk_clear(struct disk *disk) { g_hash_table_unref(disk->files); }

void disk_mount(struct disk *disk) { mounted = disk; }

static void set(char **place, const char *text) {
    char *copy = g_strdup(text);

    g_free(*place);
    *place = copy;
}

void disk_lose_power(struct disk *disk) {
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, disk->files);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct disk_file *file = value;
        if (g_strcmp0(file->now, file->durable) == 0)
            continue;
        if (dice_chance(disk->dice, 50))
            set(&file->durable, file->now);
        else
            set(&file->now, file->durable);
    }
}

const char *disk_durable_text(const struct disk *disk, const char *path) {
    const struct disk_file *file = g_hash_table_lookup(disk->files, path);

    return file ? file->durable : NULL;
}

GPtrArray *disk_json_paths(const struct disk *disk, const char *folder) {
    GPtrArray *paths = g_ptr_array_new();
    GHashTableIter iter;
    gpointer path, file;

    g_hash_table_iter_init(&iter, disk->files);
    while (g_hash_table_iter_next(&iter, &path, &file))
        if (((struct disk_file *)file)->now && g_str_has_prefix(path, folder) && g_str_has_suffix(path, ".json"))
            g_ptr_array_add(paths, path);
    return paths;
}

/* ---- what happens to a write ---- */

static struct disk_file *file_at(const char *path) {
    struct disk_file *file = g_hash_table_lookup(mounted->files, path);

    if (!file) {
        file = g_new0(struct disk_file, 1);
        g_hash_table_insert(mounted->files, g_strdup(path), file);
    }
    return file;
}

static void cut(void) {
    mounted->is_cut = true;
    mounted->on_crash(mounted->user);
}

static void drop_if_gone(const char *path) {
    const struct disk_file *file = g_hash_table_lookup(mounted->files, path);

    if (file && !file->now && !file->durable)
        g_hash_table_remove(mounted->files, path);
}

/* A full disk fails the write before it shows, or after: then it may be gone after a power cut. */
static bool change(const char *path, const char *text, GError **error) {
    bool crashes = !mounted->is_cut && mounted->crash_in > 0 && --mounted->crash_in == 0;
    struct disk_file *file;

    if (crashes && !mounted->crash_after)
        cut();
    if (mounted->is_cut)
        return fs_fail_errno(error, EIO, "write", path);
    file = file_at(path);
    if (mounted->is_full) {
        if (dice_chance(mounted->dice, 30))
            set(&file->now, text);
        drop_if_gone(path);
        return fs_fail_errno(error, ENOSPC, "write", path);
    }
    set(&file->now, text);
    set(&file->durable, text);
    if (!text) {
        drop_if_gone(path);
        mounted->on_removed(mounted->user, path);
    }
    if (crashes)
        cut();
    return true;
}

/* ---- what the linker puts in the place of base/fs.c ---- */

bool __wrap_fs_read_file(const char *path, size_t max_bytes, char **ret_text, size_t *ret_len, GError **error);
bool __wrap_fs_write_durable(const char *path, mode_t mode, const char *text, size_t len, GError **error);
bool __wrap_fs_remove_durable(const char *path, GError **error);
bool __wrap_fs_write_plain(const char *path, mode_t mode, const char *text, size_t len, GError **error);
bool __wrap_fs_remove_plain(const char *path, GError **error);
bool __wrap_fs_exists(const char *path);
char **__wrap_fs_list(const char *path, GError **error);
bool __wrap_fs_mkdir_p(const char *path, mode_t mode, GError **error);

bool __wrap_fs_read_file(const char *path, size_t max_bytes, char **ret_text, size_t *ret_len, GError **error) {
    const struct disk_file *file = g_hash_table_lookup(mounted->files, path);

    if (!file || !file->now)
        return fs_fail_errno(error, ENOENT, "read", path);
    *ret_text = g_strdup(file->now);
    if (ret_len)
        *ret_len = strlen(file->now);
    return true;
}

bool __wrap_fs_write_durable(const char *path, mode_t mode, const char *text, size_t len, GError **error) {
    return change(path, text, error);
}

bool __wrap_fs_remove_durable(const char *path, GError **error) { return change(path, NULL, error); }

bool __wrap_fs_write_plain(const char *path, mode_t mode, const char *text, size_t len, GError **error) {
    if (mounted->is_cut || mounted->is_full)
        return fs_fail_errno(error, ENOSPC, "write", path);
    set(&file_at(path)->now, text);
    return true;
}

bool __wrap_fs_remove_plain(const char *path, GError **error) {
    if (!mounted->is_cut) {
        set(&file_at(path)->now, NULL);
        drop_if_gone(path);
    }
    return true;
}

bool __wrap_fs_exists(const char *path) {
    const struct disk_file *file = g_hash_table_lookup(mounted->files, path);

    return file && file->now;
}

char **__wrap_fs_list(const char *path, GError **error) {
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();
    GHashTableIter iter;
    gpointer name, file;
    size_t len = strlen(path);

    g_hash_table_iter_init(&iter, mounted->files);
    while (g_hash_table_iter_next(&iter, &name, &file))
        if (((struct disk_file *)file)->now && strncmp(name, path, len) == 0 && ((char *)name)[len] == '/')
            g_strv_builder_add(names, (char *)name + len + 1);
    return g_strv_builder_end(names);
}

bool __wrap_fs_mkdir_p(const char *path, mode_t mode, GError **error) { return true; }
