#include "gpu/gpu_index.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"

enum {
    FILE_MAX_BYTES = 1024 * 1024,
    FILE_VERSION = 1,
    MAX_ENTRIES = 1024,
    DRIVER_MAX_BYTES = 127,
    BOOT_MAX_BYTES = 127
};

/* A minimum that falls by less than this is not worth a write to the disk. */
static const int64_t idle_step_bytes = 1024 * 1024;

struct gpu_index {
    char *path;
    char *driver;
    char *boot_id;      /* to which XIDs belong; NULL: not known */
    int64_t xids_at_us; /* 0: nothing was read */
    GPtrArray *entries; /* ascending index */
    bool is_changed;
};

static struct gpu_index_entry *entry_at(const struct gpu_index *index, guint i) {
    struct gpu_index_entry *entry = index->entries->pdata[i];

    g_assert(entry); /* the list has no holes */
    return entry;
}

static struct gpu_index_entry *entry_new(int index) {
    struct gpu_index_entry *entry = g_new0(struct gpu_index_entry, 1);

    entry->index = index;
    entry->idle_bytes = -1;
    return entry;
}

static bool read_xids(struct gpu_index_entry *entry, const json_t *list, GError **error) {
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        struct json_reader r = jr_init(item, "xid", error);
        struct gpu_xid xid = {.code = (int)jr_int(&r, "code", 0, G_MAXINT),
                              .count = jr_int(&r, "count", 0, G_MAXINT64),
                              .last_ms = jr_int(&r, "last_ms", 0, G_MAXINT64)};

        if (!jr_done(&r))
            return false;
        entry->xids[entry->n_xids++] = xid;
    }
    return true;
}

static bool read_entry(struct gpu_index *index, const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "card", error);
    struct gpu_index_entry *entry = entry_new((int)jr_int(&r, "index", 0, MAX_ENTRIES - 1));
    guint n = index->entries->len;

    g_strlcpy(entry->uuid, jr_str(&r, "uuid", GPU_UUID_MAX_BYTES), sizeof entry->uuid);
    g_strlcpy(entry->pci, jr_str(&r, "pci_address", GPU_PCI_BYTES - 1), sizeof entry->pci);
    g_strlcpy(entry->name, jr_str(&r, "name", GPU_NAME_MAX_BYTES), sizeof entry->name);
    entry->idle_bytes = jr_int_opt(&r, "idle_memory_bytes", 0, G_MAXINT64, -1);
    if (!r.failed && !read_xids(entry, jr_array_opt(&r, "xids", GPU_MAX_XIDS), error))
        r.failed = true;
    if (n > 0 && entry_at(index, n - 1)->index >= entry->index)
        jr_fail(&r, "index %d is out of order", entry->index);
    g_ptr_array_add(index->entries, entry);
    return jr_done(&r);
}

static bool read_index(struct gpu_index *index, const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "file", error);
    const json_t *cards = jr_array(&r, "cards", MAX_ENTRIES);
    const json_t *item;
    size_t i;

    jr_int(&r, "version", FILE_VERSION, FILE_VERSION);
    index->driver = g_strdup(jr_str_opt(&r, "driver", DRIVER_MAX_BYTES, NULL));
    index->boot_id = g_strdup(jr_str_opt(&r, "boot_id", BOOT_MAX_BYTES, NULL));
    index->xids_at_us = jr_int_opt(&r, "xids_at_us", 0, G_MAXINT64, 0);
    json_array_foreach (cards, i, item)
        r.failed = r.failed || !read_entry(index, item, error);
    return jr_done(&r);
}

static bool load_file(struct gpu_index *index, GError **error) {
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    json_t *json;
    size_t len;
    bool ok;

    if (!fs_read_file(index->path, FILE_MAX_BYTES, &text, &len, error))
        return false;
    json = jsonx_parse(text, len, &why);
    ok = json && read_index(index, json, &why);
    json_decref(json);
    return ok || kr_fail(error, IO, "GPU index %s: %s; with it removed the cards are numbered anew", index->path,
                         why->message);
}

struct gpu_index *gpu_index_load(const char *path, GError **error) {
    struct gpu_index *index = g_new0(struct gpu_index, 1);

    index->path = g_strdup(path);
    index->is_changed = true; /* the first save shows that the file can be written */
    index->entries = g_ptr_array_new_with_free_func(g_free);
    if (access(path, F_OK) != 0 || load_file(index, error))
        return index;
    gpu_index_free(index);
    return NULL;
}

void gpu_index_free(struct gpu_index *index) {
    if (!index)
        return;
    g_free(index->path);
    g_free(index->driver);
    g_free(index->boot_id);
    g_ptr_array_unref(index->entries);
    g_free(index);
}

static json_t *xids_to_json(const struct gpu_index_entry *entry) {
    json_t *list = json_array();

    for (size_t i = 0; i < entry->n_xids; i++)
        json_array_append_new(list, json_pack("{s:i,s:I,s:I}", "code", entry->xids[i].code, "count",
                                              (json_int_t)entry->xids[i].count, "last_ms",
                                              (json_int_t)entry->xids[i].last_ms));
    return list;
}

static json_t *entry_to_json(const struct gpu_index_entry *entry) {
    json_t *json = json_pack("{s:i,s:s,s:s,s:s}", "index", entry->index, "uuid", entry->uuid, "pci_address", entry->pci,
                             "name", entry->name);

    if (entry->idle_bytes >= 0)
        json_object_set_new(json, "idle_memory_bytes", json_integer(entry->idle_bytes));
    if (entry->n_xids)
        json_object_set_new(json, "xids", xids_to_json(entry));
    return json;
}

static json_t *index_to_json(const struct gpu_index *index) {
    json_t *cards = json_array();
    json_t *json = json_pack("{s:i,s:o}", "version", FILE_VERSION, "cards", cards);

    if (index->driver)
        json_object_set_new(json, "driver", json_string(index->driver));
    if (index->boot_id)
        json_object_set_new(json, "boot_id", json_string(index->boot_id));
    if (index->xids_at_us)
        json_object_set_new(json, "xids_at_us", json_integer(index->xids_at_us));
    for (guint i = 0; i < index->entries->len; i++)
        json_array_append_new(cards, entry_to_json(entry_at(index, i)));
    return json;
}

bool gpu_index_save(struct gpu_index *index, GError **error) {
    g_autofree char *text = NULL;
    json_t *json;

    if (!index->is_changed)
        return true;
    json = index_to_json(index);
    text = jsonx_to_str(json);
    json_decref(json);
    if (!fs_write_durable(index->path, 0644, text, strlen(text), error))
        return g_prefix_error(error, "keep the GPU index: "), false;
    index->is_changed = false;
    return true;
}

static struct gpu_index_entry *find_uuid(const struct gpu_index *index, const char *uuid) {
    for (guint i = 0; uuid[0] && i < index->entries->len; i++) {
        struct gpu_index_entry *entry = entry_at(index, i);
        if (strcmp(entry->uuid, uuid) == 0)
            return entry;
    }
    return NULL;
}

/* "PCI-10de-2684-1a2b3c4d-0000:01:00.0" (gpu_pci_place_name) is who a card is by its place, until its library tells. */
static bool is_of_vendor(const char *provisional, const char *uuid) {
    return (g_str_has_prefix(provisional, "PCI-10de-") && g_str_has_prefix(uuid, "GPU-")) ||
           (g_str_has_prefix(provisional, "PCI-1002-") && g_str_has_prefix(uuid, "AMD-"));
}

static bool is_nameless(const struct gpu_index_entry *entry, const char *uuid) {
    return !entry->uuid[0] || is_of_vendor(entry->uuid, uuid);
}

/* The entry that was last at this address. With a UUID only one that has none yet, or a provisional one; a card without a
 * driver cannot tell its own, so its place counts. */
static struct gpu_index_entry *find_pci(const struct gpu_index *index, const char *pci, const char *uuid) {
    for (guint i = 0; i < index->entries->len; i++) {
        struct gpu_index_entry *entry = entry_at(index, i);
        if (strcmp(entry->pci, pci) == 0 && (!uuid || is_nameless(entry, uuid)) && !entry->is_present)
            return entry;
    }
    return NULL;
}

static struct gpu_index_entry *add_entry(struct gpu_index *index) {
    guint n = index->entries->len;
    int next = n > 0 ? entry_at(index, n - 1)->index + 1 : 0;

    if (next >= MAX_ENTRIES)
        return NULL;
    g_ptr_array_add(index->entries, entry_new(next));
    index->is_changed = true;
    return index->entries->pdata[n];
}

static struct gpu_index_entry *entry_for(struct gpu_index *index, struct gpu *gpu) {
    struct gpu_index_entry *entry = find_uuid(index, gpu->uuid);

    if (entry && entry->is_present) { /* two cards with one UUID: nothing may be granted by that name */
        g_free(gpu->reason);
        gpu->reason = g_strdup_printf("it reports the UUID of GPU %d, %s", entry->index, gpu->uuid);
        gpu->condition = GPU_CONDITION_UNKNOWN;
        gpu->uuid[0] = '\0';
        entry = find_pci(index, gpu->pci, "");
    } else if (!entry) {
        entry = find_pci(index, gpu->pci, gpu->uuid[0] && gpu->condition != GPU_CONDITION_BARE ? gpu->uuid : NULL);
    }
    return entry ? entry : add_entry(index);
}

static void set_text(struct gpu_index *index, char *field, size_t size, const char *text) {
    if (strcmp(field, text) == 0)
        return;
    g_strlcpy(field, text, size);
    index->is_changed = true;
}

/* Another card sits where this one was: it is somewhere else or gone, and its address is no longer its own. */
static void leave_slot(struct gpu_index *index, const struct gpu_index_entry *now_there) {
    for (guint i = 0; i < index->entries->len; i++) {
        struct gpu_index_entry *other = entry_at(index, i);
        if (other != now_there && strcmp(other->pci, now_there->pci) == 0)
            set_text(index, other->pci, sizeof other->pci, "");
    }
}

static void remember(struct gpu_index *index, struct gpu_index_entry *entry, struct gpu *gpu) {
    entry->is_present = true;
    set_text(index, entry->pci, sizeof entry->pci, gpu->pci);
    leave_slot(index, entry);
    if (gpu->uuid[0] && !(entry->uuid[0] && (gpu->condition == GPU_CONDITION_BARE || entry->is_pinned)))
        set_text(index, entry->uuid, sizeof entry->uuid, gpu->uuid);
    if (gpu->name[0] && !(entry->name[0] && gpu->condition == GPU_CONDITION_BARE))
        set_text(index, entry->name, sizeof entry->name, gpu->name);
    gpu->index = entry->index;
    g_strlcpy(gpu->uuid, entry->uuid, sizeof gpu->uuid);
    g_strlcpy(gpu->name, entry->name, sizeof gpu->name);
}

static void assign_one(struct gpu_index *index, struct gpu *gpu) {
    struct gpu_index_entry *entry = entry_for(index, gpu);

    if (entry)
        remember(index, entry, gpu);
}

void gpu_index_assign(struct gpu_index *index, GPtrArray *gpus) {
    for (guint i = 0; i < index->entries->len; i++)
        entry_at(index, i)->is_present = false;
    for (guint i = 0; i < gpus->len; i++)
        ((struct gpu *)gpus->pdata[i])->index = -1;
    for (guint i = 0; i < gpus->len; i++) /* cards that say who they are go first: they may have changed places */
        if (find_uuid(index, ((struct gpu *)gpus->pdata[i])->uuid))
            assign_one(index, gpus->pdata[i]);
    for (guint i = 0; i < gpus->len; i++)
        if (((struct gpu *)gpus->pdata[i])->index < 0)
            assign_one(index, gpus->pdata[i]);
}

const GPtrArray *gpu_index_entries(const struct gpu_index *index) { return index->entries; }

const struct gpu_index_entry *gpu_index_by_uuid(const struct gpu_index *index, const char *uuid) {
    return find_uuid(index, uuid);
}

void gpu_index_pin(struct gpu_index *index, const char *uuid, bool is_pinned) {
    struct gpu_index_entry *entry = find_uuid(index, uuid);

    if (entry)
        entry->is_pinned = is_pinned;
}

void gpu_index_learn_idle(struct gpu_index *index, const char *uuid, int64_t used_bytes) {
    struct gpu_index_entry *entry = find_uuid(index, uuid);

    if (!entry || (entry->idle_bytes >= 0 && used_bytes > entry->idle_bytes - idle_step_bytes))
        return;
    entry->idle_bytes = used_bytes;
    index->is_changed = true;
}

void gpu_index_set_driver(struct gpu_index *index, const char *driver) {
    if (g_strcmp0(index->driver, driver) == 0)
        return;
    for (guint i = 0; index->driver && i < index->entries->len; i++)
        entry_at(index, i)->idle_bytes = -1;
    g_free(index->driver);
    index->driver = g_strdup(driver);
    index->is_changed = true;
}

/* ---- what a boot's end cures ---- */

void gpu_index_set_boot(struct gpu_index *index, const char *boot_id) {
    if (!boot_id[0] || g_strcmp0(index->boot_id, boot_id) == 0)
        return;
    for (guint i = 0; i < index->entries->len; i++)
        entry_at(index, i)->n_xids = 0;
    g_free(index->boot_id);
    index->boot_id = g_strndup(boot_id, BOOT_MAX_BYTES);
    index->xids_at_us = 0;
    index->is_changed = true;
}

int64_t gpu_index_xids_at_us(const struct gpu_index *index) { return index->xids_at_us; }

void gpu_index_set_xids_at_us(struct gpu_index *index, int64_t at_us) {
    if (at_us <= index->xids_at_us)
        return;
    index->xids_at_us = at_us;
    index->is_changed = true;
}

static struct gpu_index_entry *entry_of(const struct gpu_index *index, const struct gpu *gpu) {
    struct gpu_index_entry *entry = find_uuid(index, gpu->uuid);

    for (guint i = 0; !entry && i < index->entries->len; i++)
        if (strcmp(entry_at(index, i)->pci, gpu->pci) == 0)
            entry = entry_at(index, i);
    return entry;
}

const struct gpu_index_entry *gpu_index_of(const struct gpu_index *index, const struct gpu *gpu) {
    return entry_of(index, gpu);
}

void gpu_index_note_xids(struct gpu_index *index, struct gpu *gpu) {
    struct gpu_index_entry *entry = entry_of(index, gpu);
    struct gpu all = {0};

    if (!entry)
        return;
    memcpy(all.xids, entry->xids, sizeof all.xids);
    all.n_xids = entry->n_xids;
    for (size_t i = gpu->n_xids; i-- > 0;) /* the oldest first: the newest ends up in front */
        gpu_note_xid(&all, gpu->xids[i].code, gpu->xids[i].count, gpu->xids[i].last_ms);
    index->is_changed |= gpu->n_xids > 0;
    memcpy(entry->xids, all.xids, sizeof all.xids);
    memcpy(gpu->xids, all.xids, sizeof all.xids);
    entry->n_xids = gpu->n_xids = all.n_xids;
}
