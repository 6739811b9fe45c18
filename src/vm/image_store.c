#include "vm/image_store.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "model/vm.h"

enum { MAX_FILE_BYTES = 64 * 1024, TREE_FDS = 16, MAX_APPEND_BYTES = 2048, MAX_SOURCE_BYTES = 4096 };
enum { STALE_AFTER_S = 24 * 3600 };
#define IMAGE_FILE "image.json"
#define NEW_PREFIX ".new-"

struct image_store {
    char *images, *disks;
};

void vm_image_free(struct vm_image *image) {
    if (!image)
        return;
    g_free(image->name);
    g_free(image->sha256);
    g_free(image->source);
    g_free(image->append);
    g_free(image);
}

void vm_disk_free(struct vm_disk *disk) {
    if (!disk)
        return;
    g_free(disk->image);
    g_free(disk->image_sha256);
    g_free(disk->mac);
    g_free(disk->secret);
    g_free(disk->address);
    g_free(disk->uuid);
    g_free(disk);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) { return remove(path); }

bool fs_remove_tree(const char *path, GError **error) {
    if (nftw(path, remove_one, TREE_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0 || errno == ENOENT)
        return true;
    return fs_fail_errno(error, errno, "remove", path);
}

/* Whatever the umask is: QEMU, as a user of its own, reads what lies there. */
static bool make_open(const char *path, GError **error) {
    return fs_mkdir_p(path, 0755, error) &&
           (chmod(path, 0755) == 0 || fs_fail_errno(error, errno, "open to QEMU", path));
}

struct image_store *image_store_new(const char *folder, GError **error) {
    g_autofree char *images = g_build_filename(folder, "images", NULL),
                    *disks = g_build_filename(folder, "disks", NULL);
    struct image_store *store;

    if (!make_open(images, error) || !make_open(disks, error))
        return NULL;
    store = g_new0(struct image_store, 1);
    store->images = g_steal_pointer(&images);
    store->disks = g_steal_pointer(&disks);
    return store;
}

void image_store_free(struct image_store *store) {
    if (!store)
        return;
    g_free(store->images);
    g_free(store->disks);
    g_free(store);
}

static json_t *read_json(const char *path, GError **error) {
    g_autofree char *text = NULL;
    size_t len;

    if (!fs_exists(path)) {
        kr_fail(error, NOT_FOUND, "%s is not there", path);
        return NULL;
    }
    return fs_read_file(path, MAX_FILE_BYTES, &text, &len, error) ? jsonx_parse(text, len, error) : NULL;
}

static bool write_json(const char *path, mode_t mode, json_t *json, GError **error) {
    g_autofree char *text = jsonx_to_str(json);

    json_decref(json);
    return fs_write_durable(path, mode, text, strlen(text), error);
}

/* ---- images ---- */

char *image_store_path(const struct image_store *store, const char *name, const char *file) {
    return g_build_filename(store->images, name, file, NULL);
}

static struct vm_image *image_from_json(const json_t *json, const char *name, GError **error) {
    struct json_reader r = jr_init(json, name, error);
    struct vm_image *image = g_new0(struct vm_image, 1);

    image->name = g_strdup(name);
    image->sha256 = g_strdup(jr_str(&r, "sha256", 64));
    image->source = g_strdup(jr_str(&r, "source", MAX_SOURCE_BYTES));
    image->append = g_strdup(jr_str(&r, "append", MAX_APPEND_BYTES));
    image->virtual_bytes = jr_int(&r, "virtual_bytes", 0, VM_MAX_DISK_BYTES);
    image->created_ms = jr_int(&r, "created_ms", 0, G_MAXINT64);
    image->has_kernel = jr_bool_opt(&r, "has_kernel", false);
    image->has_initrd = jr_bool_opt(&r, "has_initrd", false);
    if (jr_done(&r))
        return image;
    vm_image_free(image);
    return NULL;
}

struct vm_image *image_store_find(const struct image_store *store, const char *name, GError **error) {
    g_autofree char *path = NULL;
    struct vm_image *image;
    json_t *json;

    if (!vm_name_check(name, "image name", error))
        return NULL;
    path = image_store_path(store, name, IMAGE_FILE);
    if (!fs_exists(path)) {
        kr_fail(error, NOT_FOUND, "there is no image %s on this node", name);
        return NULL;
    }
    json = read_json(path, error);
    image = json ? image_from_json(json, name, error) : NULL;
    json_decref(json);
    return image;
}

static int by_name(gconstpointer a, gconstpointer b) {
    const struct vm_image *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

GPtrArray *image_store_list(const struct image_store *store) {
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)vm_image_free);
    g_auto(GStrv) names = fs_list(store->images, NULL);

    for (char **name = names; name && *name; name++) {
        struct vm_image *image = image_store_find(store, *name, NULL);
        if (image)
            g_ptr_array_add(list, image);
    }
    g_ptr_array_sort(list, by_name);
    return list;
}

/* What an import left that was killed. One that is under way is younger. */
static void sweep(const struct image_store *store) {
    g_auto(GStrv) names = fs_list(store->images, NULL);

    for (char **name = names; name && *name; name++) {
        g_autofree char *path = g_build_filename(store->images, *name, NULL);
        struct stat st;
        if (g_str_has_prefix(*name, NEW_PREFIX) && stat(path, &st) == 0 &&
            st.st_mtime < clock_wall_ms() / 1000 - STALE_AFTER_S)
            fs_remove_tree(path, NULL);
    }
}

char *image_store_begin(const struct image_store *store, GError **error) {
    char *path = g_build_filename(store->images, NEW_PREFIX "XXXXXX", NULL);

    sweep(store);
    if (g_mkdtemp_full(path, 0755) && chmod(path, 0755) == 0)
        return path;
    fs_fail_errno(error, errno, "make", path);
    g_free(path);
    return NULL;
}

void image_store_abandon(const char *begun) { fs_remove_tree(begun, NULL); }

static bool protect(const char *folder, const char *file, bool is_there, GError **error) {
    g_autofree char *path = g_build_filename(folder, file, NULL);

    return !is_there || chmod(path, 0444) == 0 || fs_fail_errno(error, errno, "protect", path);
}

static bool fill_and_move(const struct image_store *store, const char *begun, const struct vm_image *image,
                          GError **error) {
    g_autofree char *record = g_build_filename(begun, IMAGE_FILE, NULL);
    g_autofree char *folder = g_build_filename(store->images, image->name, NULL);
    json_t *json = json_pack("{s:s,s:s,s:s,s:I,s:I,s:b,s:b}", "sha256", image->sha256, "source", image->source,
                             "append", image->append, "virtual_bytes", (json_int_t)image->virtual_bytes, "created_ms",
                             (json_int_t)image->created_ms, "has_kernel", image->has_kernel, "has_initrd",
                             image->has_initrd);

    if (!write_json(record, 0644, json, error) || !protect(begun, "disk.qcow2", true, error) ||
        !protect(begun, "kernel", image->has_kernel, error) || !protect(begun, "initrd", image->has_initrd, error))
        return false;
    sync(); /* large files, written by other programs */
    if (rename(begun, folder) == 0)
        return true;
    if (errno == ENOTEMPTY || errno == EEXIST)
        return kr_fail(error, REFUSED, "there is an image %s already", image->name);
    return fs_fail_errno(error, errno, "make", folder);
}

bool image_store_take(const struct image_store *store, const char *begun, const struct vm_image *image,
                      GError **error) {
    bool ok = vm_name_check(image->name, "image name", error) && fill_and_move(store, begun, image, error);

    if (!ok)
        image_store_abandon(begun);
    return ok;
}

bool image_store_delete(const struct image_store *store, const char *name, GError **error) {
    struct vm_image *image = image_store_find(store, name, error);
    g_autoptr(GPtrArray) disks = disk_store_list(store);
    g_autoptr(GString) users = g_string_new(NULL);
    g_autofree char *folder = NULL;

    if (!image)
        return false;
    for (guint i = 0; i < disks->len; i++) {
        const struct vm_disk *disk = disks->pdata[i];
        if (strcmp(disk->image, name) == 0)
            g_string_append_printf(users, "%s%u", users->len ? ", " : "", disk->vps_id);
    }
    vm_image_free(image);
    if (users->len)
        return kr_fail(error, REFUSED, "the image %s is in use: the disks of VPS %s stand on it", name, users->str);
    folder = g_build_filename(store->images, name, NULL);
    return fs_remove_tree(folder, error);
}

/* ---- disks ---- */

char *disk_store_path(const struct image_store *store, uint32_t vps_id, const char *suffix) {
    return g_strdup_printf("%s/%u.%s", store->disks, vps_id, suffix);
}

static struct vm_disk *disk_from_json(const json_t *json, uint32_t vps_id, GError **error) {
    struct json_reader r = jr_init(json, "disk", error);
    struct vm_disk *disk = g_new0(struct vm_disk, 1);

    disk->vps_id = vps_id;
    disk->image = g_strdup(jr_str(&r, "image", VM_MAX_NAME_BYTES));
    disk->image_sha256 = g_strdup(jr_str(&r, "image_sha256", 64));
    disk->mac = g_strdup(jr_str(&r, "mac", 17));
    disk->uuid = g_strdup(jr_str(&r, "uuid", 36));
    disk->secret = g_strdup(jr_str(&r, "secret", 128));
    disk->address = g_strdup(jr_str_opt(&r, "address", 15, ""));
    disk->bytes = jr_int(&r, "bytes", 0, VM_MAX_DISK_BYTES);
    disk->created_ms = jr_int(&r, "created_ms", 0, G_MAXINT64);
    if (jr_done(&r))
        return disk;
    vm_disk_free(disk);
    return NULL;
}

struct vm_disk *disk_store_find(const struct image_store *store, uint32_t vps_id, GError **error) {
    g_autofree char *path = disk_store_path(store, vps_id, "json");
    json_t *json = read_json(path, error);
    struct vm_disk *disk = json ? disk_from_json(json, vps_id, error) : NULL;

    json_decref(json);
    return disk;
}

static int by_number(gconstpointer a, gconstpointer b) {
    const struct vm_disk *const *x = a, *const *y = b;

    return (*x)->vps_id < (*y)->vps_id ? -1 : (*x)->vps_id > (*y)->vps_id;
}

GPtrArray *disk_store_list(const struct image_store *store) {
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)vm_disk_free);
    g_auto(GStrv) names = fs_list(store->disks, NULL);

    for (char **name = names; name && *name; name++) {
        char *dot = g_str_has_suffix(*name, ".json") ? strrchr(*name, '.') : NULL;
        guint64 id;
        struct vm_disk *disk = NULL;
        if (!dot)
            continue;
        *dot = '\0';
        if (g_ascii_string_to_unsigned(*name, 10, 0, G_MAXUINT32, &id, NULL))
            disk = disk_store_find(store, (uint32_t)id, NULL);
        if (disk)
            g_ptr_array_add(list, disk);
    }
    g_ptr_array_sort(list, by_number);
    return list;
}

bool disk_store_save(const struct image_store *store, const struct vm_disk *disk, GError **error) {
    g_autofree char *path = disk_store_path(store, disk->vps_id, "json");

    return write_json(path, 0600,
                      json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:I}", "image", disk->image, "image_sha256",
                                disk->image_sha256, "mac", disk->mac, "uuid", disk->uuid, "secret", disk->secret,
                                "address", disk->address ? disk->address : "", "bytes", (json_int_t)disk->bytes,
                                "created_ms", (json_int_t)disk->created_ms),
                      error);
}

/* The description goes last: what has none is not there. */
bool disk_store_delete(const struct image_store *store, uint32_t vps_id, GError **error) {
    static const char *const suffixes[] = {"vars", "qcow2", "json"};

    for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        g_autofree char *path = disk_store_path(store, vps_id, suffixes[i]);
        if (!fs_remove_durable(path, error))
            return false;
    }
    return true;
}
