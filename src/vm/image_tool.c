#include "vm/image_tool.h"

#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/units.h"
#include "vm/image_import.h"
#include "vm/image_store.h"
#include "vm/machine_record.h"

#ifndef KR_DATA_DIR
#define KR_DATA_DIR "/usr/share/kohakuriver"
#endif

static char *vm_dir(const struct config *config) {
    const char *set = config_str(config, "vm_dir");

    return set[0] ? g_strdup(set) : g_build_filename(config_str(config, "state_dir"), "vms", NULL);
}

static struct image_store *open_store(const struct config *config, GError **error) {
    g_autofree char *folder = vm_dir(config);

    return image_store_new(folder, error);
}

/* NULL: not given; "" for a flag. */
static const char *option(char *const *options, const char *name) {
    size_t len = strlen(name);

    for (; *options; options++)
        if (strncmp(*options, name, len) == 0 && ((*options)[len] == '=' || (*options)[len] == '\0'))
            return (*options)[len] ? *options + len + 1 : *options + len;
    return NULL;
}

/* Where it was installed, unless the environment says otherwise. */
static char *recipe_path(void) {
    const char *set = g_getenv("KOHAKURIVER_DATA_DIR");

    return g_build_filename(set ? set : KR_DATA_DIR, "make-debian-image", NULL);
}

bool image_tool_create(const struct config *config, char *const *options, char *const *args, GError **error) {
    g_autofree char *recipe = recipe_path();
    struct image_wish wish = {.name = option(options, "name"),
                              .from = option(options, "from"),
                              .recipe = option(options, "debian") ? recipe : NULL,
                              .kernel = option(options, "kernel"),
                              .initrd = option(options, "initrd"),
                              .append = option(options, "append"),
                              .sha256 = option(options, "sha256")};
    struct image_store *store;
    bool ok;

    if (!wish.name)
        return kr_fail(error, USAGE, "--name is missing");
    if (!wish.from == !wish.recipe)
        return kr_fail(error, USAGE, "say either --from FILE|URL or --debian");
    store = open_store(config, error);
    if (!store)
        return false;
    ok = image_import(store, &wish, error);
    image_store_free(store);
    if (ok)
        printf("%s\n", wish.name);
    return ok;
}

static bool wants_json(char *const *options) { return g_strcmp0(option(options, "format"), "json") == 0; }

static void print_json(json_t *json) {
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
}

/* Takes both; store NULL: it could not be opened, and nothing is printed. */
static bool end_list(struct image_store *store, json_t *json, char *const *options) {
    bool ok = store != NULL;

    if (ok && wants_json(options))
        print_json(json);
    else
        json_decref(json);
    image_store_free(store);
    return ok;
}

bool image_tool_list(const struct config *config, char *const *options, char *const *args, GError **error) {
    struct image_store *store = open_store(config, error);
    g_autoptr(GPtrArray) images = store ? image_store_list(store) : NULL;
    json_t *json = json_array();
    char size[UNITS_TEXT_BYTES];

    for (guint i = 0; images && i < images->len; i++) {
        const struct vm_image *image = images->pdata[i];
        json_array_append_new(json, json_pack("{s:s,s:I,s:s,s:s}", "name", image->name, "virtual_bytes",
                                              (json_int_t)image->virtual_bytes, "sha256", image->sha256, "source",
                                              image->source));
        if (!wants_json(options))
            printf("%-24s %10s  %.12s  %s\n", image->name, units_bytes_to_str(image->virtual_bytes, size),
                   image->sha256, image->source);
    }
    return end_list(store, json, options);
}

bool image_tool_delete(const struct config *config, char *const *options, char *const *args, GError **error) {
    struct image_store *store = open_store(config, error);
    bool ok = store && image_store_delete(store, args[0], error);

    image_store_free(store);
    return ok;
}

/* ---- disks ---- */

/* The machine that has the disk and has not ended; the caller frees. NULL: nobody. */
static char *holder_of(const struct config *config, uint32_t vps_id) {
    g_autofree char *dir = vm_dir(config), *folder = g_build_filename(dir, "machines", NULL);
    g_auto(GStrv) names = fs_list(folder, NULL);
    char *holder = NULL;

    for (char **name = names; name && *name && !holder; name++) {
        g_autofree char *path = g_build_filename(folder, *name, NULL);
        struct machine_record *record = machine_record_load(path, NULL);
        if (record && record->vm->vps_id == vps_id && record->state != MACHINE_ENDED)
            holder = g_strdup(*name);
        machine_record_free(record);
    }
    return holder;
}

bool image_tool_disk_list(const struct config *config, char *const *options, char *const *args, GError **error) {
    struct image_store *store = open_store(config, error);
    g_autoptr(GPtrArray) disks = store ? disk_store_list(store) : NULL;
    json_t *json = json_array();
    char size[UNITS_TEXT_BYTES];

    for (guint i = 0; disks && i < disks->len; i++) {
        const struct vm_disk *disk = disks->pdata[i];
        g_autofree char *holder = holder_of(config, disk->vps_id);
        json_array_append_new(json, json_pack("{s:I,s:s,s:I,s:o}", "vps_id", (json_int_t)disk->vps_id, "image",
                                              disk->image, "bytes", (json_int_t)disk->bytes, "machine",
                                              holder ? json_string(holder) : json_null()));
        if (!wants_json(options))
            printf("%-8u %10s  %-24s %s\n", disk->vps_id, units_bytes_to_str(disk->bytes, size), disk->image,
                   holder ? holder : "-");
    }
    return end_list(store, json, options);
}

bool image_tool_disk_delete(const struct config *config, char *const *options, char *const *args, GError **error) {
    struct image_store *store = open_store(config, error);
    g_autofree char *holder = NULL;
    guint64 id;
    bool ok = store != NULL;

    if (ok && !g_ascii_string_to_unsigned(args[0], 10, 0, G_MAXUINT32, &id, NULL))
        ok = kr_fail(error, USAGE, "\"%s\" is not the number of a VPS", args[0]);
    if (ok && (holder = holder_of(config, (uint32_t)id)))
        ok = kr_fail(error, REFUSED, "the disk of VPS %u is in use: machine %s has it", (unsigned)id, holder);
    if (ok)
        ok = disk_store_delete(store, (uint32_t)id, error);
    image_store_free(store);
    return ok;
}
