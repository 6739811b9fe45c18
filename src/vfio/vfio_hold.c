#include "vfio/vfio_hold.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/json.h"
#include "vfio/vfio_card.h"

enum { JOURNAL_MAX_BYTES = 1 << 20, JOURNAL_MODE = 0600, MAX_STEP_BYTES = 200, BOOT_ID_MAX_BYTES = 511 };

static const char *const state_names[] = {
#define X(code, name) [VFIO_##code] = name,
    VFIO_STATES(X)
#undef X
};

const char *vfio_state_to_str(enum vfio_state state) { return state_names[state]; }

enum vfio_state vfio_state_from_str(const char *text) {
    for (int i = VFIO_STATE_NONE + 1; i < VFIO_STATE_COUNT_; i++)
        if (g_strcmp0(state_names[i], text) == 0)
            return (enum vfio_state)i;
    return VFIO_STATE_NONE;
}

static void card_free(gpointer data) {
    struct vfio_hold_gpu *gpu = data;

    g_array_unref(gpu->functions);
    g_free(gpu);
}

struct vfio_hold *vfio_hold_new(const char *owner, const char *boot_id) {
    struct vfio_hold *hold = g_new0(struct vfio_hold, 1);

    hold->owner = g_strdup(owner);
    hold->boot_id = g_strdup(boot_id ? boot_id : "");
    hold->state = VFIO_IDLE;
    hold->step = g_strdup("");
    hold->reason = g_strdup("");
    hold->gpus = g_ptr_array_new_with_free_func(card_free);
    return hold;
}

void vfio_hold_free(struct vfio_hold *hold) {
    if (!hold)
        return;
    g_free(hold->owner);
    g_free(hold->boot_id);
    g_free(hold->step);
    g_free(hold->reason);
    g_ptr_array_unref(hold->gpus);
    g_free(hold);
}

static int compare_ints(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

GArray *vfio_hold_groups(const struct vfio_hold *hold) {
    GArray *groups = g_array_new(FALSE, FALSE, sizeof(int));

    for (guint i = 0; i < hold->gpus->len; i++) {
        const struct vfio_hold_gpu *gpu = hold->gpus->pdata[i];
        for (guint k = 0; k < gpu->functions->len; k++)
            g_array_append_vals(groups, &g_array_index(gpu->functions, struct vfio_hold_function, k).group, 1);
    }
    g_array_sort(groups, compare_ints);
    for (guint i = groups->len; i-- > 1;)
        if (g_array_index(groups, int, i) == g_array_index(groups, int, i - 1))
            g_array_remove_index(groups, i);
    return groups;
}

bool vfio_hold_has(const struct vfio_hold *hold, const char *address) {
    for (guint i = 0; i < hold->gpus->len; i++) {
        const struct vfio_hold_gpu *gpu = hold->gpus->pdata[i];
        for (guint k = 0; k < gpu->functions->len; k++)
            if (strcmp(g_array_index(gpu->functions, struct vfio_hold_function, k).address, address) == 0)
                return true;
    }
    return false;
}

/* ---- JSON ---- */

static json_t *function_to_json(const struct vfio_hold_function *f) {
    return json_pack("{s:s,s:i,s:i,s:i,s:i,s:s,s:s}", "address", f->address, "class", (int)f->class, "vendor",
                     (int)f->vendor, "device", (int)f->device, "group", f->group, "former_driver", f->former_driver,
                     "former_override", f->former_override);
}

static json_t *card_to_json(const struct vfio_hold_gpu *gpu) {
    json_t *functions = json_array();

    for (guint i = 0; i < gpu->functions->len; i++)
        json_array_append_new(functions,
                              function_to_json(&g_array_index(gpu->functions, struct vfio_hold_function, i)));
    return json_pack("{s:s,s:i,s:b,s:o}", "address", gpu->address, "group", gpu->group, "had_persistence",
                     gpu->had_persistence, "functions", functions);
}

json_t *vfio_hold_to_json(const struct vfio_hold *hold) {
    json_t *gpus = json_array();

    for (guint i = 0; i < hold->gpus->len; i++)
        json_array_append_new(gpus, card_to_json(hold->gpus->pdata[i]));
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:o}", "owner", hold->owner, "boot_id", hold->boot_id, "state",
                     state_names[hold->state], "step", hold->step, "reason", hold->reason, "gpus", gpus);
}

/* In its one form, so that addresses can be compared as text. */
static void read_address(struct json_reader *r, char ret_address[static GPU_PCI_BYTES]) {
    const char *text = jr_str(r, "address", GPU_PCI_BYTES - 1);
    struct pci_address at;

    if (text && pci_address_from_str(text, &at))
        pci_address_to_str(&at, ret_address);
    else
        jr_fail(r, "\"address\" is no PCI address");
}

static void copy_text(struct json_reader *r, const char *key, char *ret_text, size_t size) {
    const char *text = jr_str(r, key, size - 1);

    g_strlcpy(ret_text, text ? text : "", size);
}

static bool function_from_json(const json_t *json, struct vfio_hold_function *f, GError **error) {
    struct json_reader r = jr_init(json, "function", error);

    *f = (struct vfio_hold_function){.group = VFIO_NO_GROUP};
    read_address(&r, f->address);
    f->class = (unsigned)jr_int(&r, "class", 0, 0xffffff);
    f->vendor = (unsigned)jr_int(&r, "vendor", 0, 0xffff);
    f->device = (unsigned)jr_int(&r, "device", 0, 0xffff);
    f->group = (int)jr_int(&r, "group", VFIO_NO_GROUP, G_MAXINT);
    copy_text(&r, "former_driver", f->former_driver, sizeof f->former_driver);
    copy_text(&r, "former_override", f->former_override, sizeof f->former_override);
    return jr_done(&r);
}

static struct vfio_hold_gpu *card_from_json(const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "gpu", error);
    struct vfio_hold_gpu *gpu = g_new0(struct vfio_hold_gpu, 1);
    const json_t *functions, *item;
    bool is_ok = true;
    size_t i;

    gpu->functions = g_array_new(FALSE, TRUE, sizeof(struct vfio_hold_function));
    read_address(&r, gpu->address);
    gpu->group = (int)jr_int(&r, "group", VFIO_NO_GROUP, G_MAXINT);
    gpu->had_persistence = jr_bool_opt(&r, "had_persistence", false);
    functions = jr_array(&r, "functions", 8);
    if (!r.failed && json_array_size(functions) == 0)
        jr_fail(&r, "has no functions");
    is_ok = jr_done(&r);
    json_array_foreach (functions, i, item) {
        struct vfio_hold_function function;

        if (!is_ok || !(is_ok = function_from_json(item, &function, error)))
            break;
        g_array_append_val(gpu->functions, function);
    }
    if (is_ok)
        return gpu;
    card_free(gpu);
    return NULL;
}

bool vfio_hold_take_gpus(struct vfio_hold *hold, const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "hold", error);
    const json_t *gpus = jr_array(&r, "gpus", VFIO_MAX_CARDS), *item;
    size_t i;

    if (!r.failed && json_array_size(gpus) == 0)
        jr_fail(&r, "it names no GPU");
    if (!jr_done(&r))
        return false;
    json_array_foreach (gpus, i, item) {
        struct vfio_hold_gpu *gpu = card_from_json(item, error);

        if (!gpu)
            return false;
        g_ptr_array_add(hold->gpus, gpu);
    }
    return true;
}

static char *text_or_empty(const char *text) { return g_strdup(text ? text : ""); }

struct vfio_hold *vfio_hold_from_json(const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "journal", error);
    const char *owner = jr_str(&r, "owner", VFIO_OWNER_MAX_BYTES);
    struct vfio_hold *hold = vfio_hold_new(owner ? owner : "", jr_str(&r, "boot_id", BOOT_ID_MAX_BYTES));
    const char *state = jr_str(&r, "state", 32);

    g_free(hold->step);
    g_free(hold->reason);
    hold->step = text_or_empty(jr_str(&r, "step", MAX_STEP_BYTES));
    hold->reason = text_or_empty(jr_str(&r, "reason", VFIO_REASON_MAX_BYTES));
    hold->state = vfio_state_from_str(state);
    if (!r.failed && hold->state == VFIO_STATE_NONE)
        jr_fail(&r, "the state \"%s\" is not known", state);
    if (jr_done(&r) && vfio_hold_take_gpus(hold, json, error))
        return hold;
    vfio_hold_free(hold);
    return NULL;
}

json_t *vfio_hold_gpu_of_card(const char *root, const struct vfio_card *card) {
    json_t *functions = json_array();

    for (guint i = 0; i < card->functions->len; i++) {
        const struct vfio_function *f = &g_array_index(card->functions, struct vfio_function, i);
        struct vfio_hold_function held = {
            .class = f->class, .vendor = f->vendor, .device = f->device, .group = f->group};
        g_autofree char *override = vfio_pci_override(root, f->address);

        g_strlcpy(held.address, f->address, sizeof held.address);
        g_strlcpy(held.former_driver, f->driver, sizeof held.former_driver);
        g_strlcpy(held.former_override, override, sizeof held.former_override);
        json_array_append_new(functions, function_to_json(&held));
    }
    return json_pack("{s:s,s:i,s:b,s:o}", "address", card->address, "group",
                     card->functions->len ? g_array_index(card->functions, struct vfio_function, 0).group
                                          : VFIO_NO_GROUP,
                     "had_persistence", vfio_card_has(card, VFIO_OBSTACLE_PERSISTENCE), "functions", functions);
}

/* ---- files ---- */

bool vfio_owner_check(const char *owner, GError **error) {
    static const char allowed[] = G_CSET_A_2_Z G_CSET_a_2_z "0123456789-_.";
    size_t len = owner ? strlen(owner) : 0;

    if (len > 0 && len <= VFIO_OWNER_MAX_BYTES && owner[0] != '.' && strspn(owner, allowed) == len)
        return true;
    return kr_fail(error, BAD_REQUEST, "an owner's name has 1 to %d letters, digits, '-', '_', '.'",
                   VFIO_OWNER_MAX_BYTES);
}

char *vfio_journal_path(const char *folder, const char *owner) { return g_strdup_printf("%s/%s.json", folder, owner); }

bool vfio_journal_write(const char *folder, const struct vfio_hold *hold, GError **error) {
    g_autofree char *path = vfio_journal_path(folder, hold->owner), *text = NULL;
    json_t *json = vfio_hold_to_json(hold);
    bool is_written;

    text = jsonx_to_str(json);
    json_decref(json);
    fault_point("vfio_journal_before");
    is_written = fs_write_durable(path, JOURNAL_MODE, text, strlen(text), error);
    fault_point("vfio_journal_after");
    return is_written;
}

bool vfio_journal_remove(const char *folder, const char *owner, GError **error) {
    g_autofree char *path = vfio_journal_path(folder, owner);
    bool is_removed;

    fault_point("vfio_remove_before");
    is_removed = fs_remove_durable(path, error);
    fault_point("vfio_remove_after");
    return is_removed;
}

struct vfio_hold *vfio_journal_read(const char *folder, const char *owner, GError **error) {
    g_autofree char *path = vfio_journal_path(folder, owner), *text = NULL;
    struct vfio_hold *hold = NULL;
    json_t *json;
    size_t len;

    if (!fs_read_file(path, JOURNAL_MAX_BYTES, &text, &len, error))
        return NULL;
    json = jsonx_parse(text, len, error);
    hold = json ? vfio_hold_from_json(json, error) : NULL;
    json_decref(json);
    if (hold && strcmp(hold->owner, owner) != 0) {
        kr_fail(error, BAD_REQUEST, "it is the journal of \"%s\"", hold->owner);
        vfio_hold_free(hold);
        hold = NULL;
    }
    g_prefix_error(error, "journal %s: ", path);
    return hold;
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

char **vfio_journal_owners(const char *folder, GError **error) {
    g_auto(GStrv) names = fs_list(folder, error);
    g_autoptr(GStrvBuilder) owners = g_strv_builder_new();
    char **list;

    if (!names)
        return NULL;
    for (char **name = names; *name; name++) {
        g_autofree char *path = g_build_filename(folder, *name, NULL);

        if (g_str_has_suffix(*name, ".json.tmp"))
            unlink(path);
        if (!g_str_has_suffix(*name, ".json"))
            continue;
        (*name)[strlen(*name) - strlen(".json")] = '\0';
        if (vfio_owner_check(*name, NULL))
            g_strv_builder_add(owners, *name);
    }
    list = g_strv_builder_end(owners);
    qsort(list, g_strv_length(list), sizeof *list, compare_names);
    return list;
}
