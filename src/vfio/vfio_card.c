#include "vfio/vfio_card.h"

#include <string.h>

static const struct {
    const char *name, *fix;
    bool blocks;
} obstacles[] = {
#define X(code, name, blocks, fix) [VFIO_OBSTACLE_##code] = {name, fix, blocks},
    VFIO_OBSTACLES(X)
#undef X
};

const char *vfio_obstacle_to_str(enum vfio_obstacle_id id) { return obstacles[id].name; }
bool vfio_obstacle_blocks(enum vfio_obstacle_id id) { return obstacles[id].blocks; }

static void obstacle_free(gpointer data) {
    g_free(((struct vfio_obstacle *)data)->text);
    g_free(data);
}

static void add_obstacle(struct vfio_card *card, enum vfio_obstacle_id id, const char *fix, char *text) {
    struct vfio_obstacle *obstacle = g_new0(struct vfio_obstacle, 1);

    *obstacle = (struct vfio_obstacle){id, text, fix ? fix : obstacles[id].fix};
    g_ptr_array_add(card->obstacles, obstacle);
}

void vfio_card_free(struct vfio_card *card) {
    if (!card)
        return;
    g_array_unref(card->functions);
    g_array_unref(card->others);
    g_array_unref(card->holders);
    g_ptr_array_unref(card->obstacles);
    g_free(card);
}

static const struct vfio_function *at(const GArray *functions, guint i) {
    return &g_array_index(functions, struct vfio_function, i);
}

static const struct vfio_function *find(const GArray *all, const char *address) {
    struct pci_address wanted;

    for (guint i = 0; pci_address_from_str(address, &wanted) && i < all->len; i++)
        if (pci_address_compare(&at(all, i)->at, &wanted) == 0)
            return at(all, i);
    return NULL;
}

static void take_slot(struct vfio_card *card, const GArray *all, const struct vfio_function *gpu) {
    g_array_append_vals(card->functions, gpu, 1);
    for (guint i = 0; i < all->len; i++)
        if (at(all, i) != gpu && vfio_same_slot(at(all, i), gpu))
            g_array_append_vals(card->functions, at(all, i), 1);
}

static bool is_in_groups(const struct vfio_card *card, const struct vfio_function *function) {
    for (guint i = 0; i < card->functions->len; i++)
        if (function->group != VFIO_NO_GROUP && at(card->functions, i)->group == function->group)
            return true;
    return false;
}

static bool is_of_named(const GArray *all, const struct vfio_function *function, char *const *named) {
    for (; named && *named; named++) {
        const struct vfio_function *gpu = find(all, *named);
        if (gpu && vfio_same_slot(gpu, function))
            return true;
    }
    return false;
}

static bool slot_has_gpu(const GArray *all, const struct vfio_function *function) {
    for (guint i = 0; i < all->len; i++)
        if (vfio_same_slot(at(all, i), function) && vfio_role_of_class(at(all, i)->class) == VFIO_ROLE_GPU)
            return true;
    return false;
}

/* The closure of the group: bridges need no driver, the card's own slot is taken along, everything else is foreign. */
static void look_at_groups(struct vfio_card *card, const GArray *all, char *const *named) {
    for (guint i = 0; i < all->len; i++) {
        const struct vfio_function *other = at(all, i);
        g_autofree char *text = NULL;

        if (!is_in_groups(card, other) || vfio_same_slot(other, at(card->functions, 0)))
            continue;
        g_array_append_vals(card->others, other, 1);
        if (vfio_role_of_class(other->class) == VFIO_ROLE_BRIDGE || is_of_named(all, other, named))
            continue;
        text = vfio_function_to_str(other);
        add_obstacle(card, slot_has_gpu(all, other) ? VFIO_OBSTACLE_SHARED : VFIO_OBSTACLE_FOREIGN, NULL,
                     g_strdup_printf("its IOMMU group %d also holds %s", other->group, text));
    }
}

static void look_at_holders(struct vfio_card *card, const char *root, const struct vfio_function *function) {
    g_autoptr(GArray) holders = vfio_holders_of(root, function);

    for (guint i = 0; i < holders->len; i++) {
        const struct vfio_holder *holder = &g_array_index(holders, struct vfio_holder, i);
        enum vfio_obstacle_id id = vfio_holder_is_persistence(holder) ? VFIO_OBSTACLE_PERSISTENCE
                                   : vfio_holder_is_dcgm(holder)      ? VFIO_OBSTACLE_DCGM
                                                                      : VFIO_OBSTACLE_HELD;
        g_autofree char *who = vfio_holder_to_str(holder);

        add_obstacle(card, id, vfio_holder_fix(holder),
                     g_strdup_printf("%s is held by %s through %s", function->address, who, holder->node));
        g_array_append_vals(card->holders, holder, 1);
    }
}

static void look_at_function(struct vfio_card *card, const char *root, const struct vfio_function *function) {
    const char *absence = vfio_pci_absence(root, function->address);

    if (absence)
        add_obstacle(card, VFIO_OBSTACLE_OFF_THE_BUS, NULL, g_strdup_printf("%s is %s", function->address, absence));
    if (function->group == VFIO_NO_GROUP)
        add_obstacle(card, VFIO_OBSTACLE_NO_GROUP, NULL, g_strdup_printf("%s is in no IOMMU group", function->address));
    if (function->is_boot_vga && strcmp(function->driver, VFIO_DRIVER) != 0)
        add_obstacle(card, VFIO_OBSTACLE_BOOT_VGA, NULL,
                     g_strdup_printf("%s is the machine's console (boot_vga)", function->address));
    if (function->n_virtual > 0)
        add_obstacle(card, VFIO_OBSTACLE_SRIOV, NULL,
                     g_strdup_printf("%s has %d virtual functions (SR-IOV)", function->address, function->n_virtual));
    look_at_holders(card, root, function);
}

/* What a card with several functions says of its own reset is stale; there, all of them are reset together through their bus. */
static void look_at_reset(struct vfio_card *card) {
    const struct vfio_function *gpu = at(card->functions, 0);

    if (card->functions->len == 1 && gpu->reset[0] == '\0')
        add_obstacle(card, VFIO_OBSTACLE_NO_RESET, NULL,
                     g_strdup_printf("the kernel knows no way to reset %s", gpu->address));
}

struct vfio_card *vfio_card_look(const char *root, const GArray *all, const char *address, char *const *named) {
    const struct vfio_function *gpu = find(all, address);
    struct vfio_card *card = g_new0(struct vfio_card, 1);

    card->functions = g_array_new(FALSE, TRUE, sizeof(struct vfio_function));
    card->others = g_array_new(FALSE, TRUE, sizeof(struct vfio_function));
    card->holders = g_array_new(FALSE, TRUE, sizeof(struct vfio_holder));
    card->obstacles = g_ptr_array_new_with_free_func(obstacle_free);
    g_strlcpy(card->address, gpu ? gpu->address : address, sizeof card->address);
    if (!gpu) {
        add_obstacle(card, VFIO_OBSTACLE_NOT_FOUND, NULL, g_strdup_printf("%s is not on the bus", card->address));
        return card;
    }
    take_slot(card, all, gpu);
    if (vfio_role_of_class(gpu->class) != VFIO_ROLE_GPU)
        add_obstacle(card, VFIO_OBSTACLE_NOT_A_GPU, NULL,
                     g_strdup_printf("%s is no GPU (class %04x)", card->address, gpu->class >> 8));
    look_at_groups(card, all, named);
    for (guint i = 0; i < card->functions->len; i++)
        look_at_function(card, root, at(card->functions, i));
    look_at_reset(card);
    return card;
}

bool vfio_card_is_passable(const struct vfio_card *card) {
    for (guint i = 0; i < card->obstacles->len; i++)
        if (obstacles[((const struct vfio_obstacle *)card->obstacles->pdata[i])->id].blocks)
            return false;
    return true;
}

bool vfio_card_has(const struct vfio_card *card, enum vfio_obstacle_id id) {
    for (guint i = 0; i < card->obstacles->len; i++)
        if (((const struct vfio_obstacle *)card->obstacles->pdata[i])->id == id)
            return true;
    return false;
}

static json_t *function_to_json(const struct vfio_function *f) {
    g_autofree char *ids = g_strdup_printf("%04x:%04x", f->vendor, f->device);
    g_autofree char *class = g_strdup_printf("%06x", f->class);
    json_t *json = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s}", "address", f->address, "role",
                             vfio_role_to_str(vfio_role_of_class(f->class)), "ids", ids, "class", class, "driver",
                             f->driver, "reset_methods", f->reset);

    if (f->group != VFIO_NO_GROUP)
        json_object_set_new(json, "iommu_group", json_integer(f->group));
    return json;
}

static json_t *functions_to_json(const GArray *functions, guint from) {
    json_t *list = json_array();

    for (guint i = from; i < functions->len; i++)
        json_array_append_new(list, function_to_json(at(functions, i)));
    return list;
}

static json_t *obstacles_to_json(const struct vfio_card *card) {
    json_t *list = json_array();

    for (guint i = 0; i < card->obstacles->len; i++) {
        const struct vfio_obstacle *o = card->obstacles->pdata[i];
        json_array_append_new(list, json_pack("{s:s,s:b,s:s,s:s}", "id", obstacles[o->id].name, "blocks",
                                              obstacles[o->id].blocks, "text", o->text, "fix", o->fix));
    }
    return list;
}

json_t *vfio_card_to_json(const struct vfio_card *card) {
    json_t *json = card->functions->len > 0 ? function_to_json(at(card->functions, 0))
                                            : json_pack("{s:s}", "address", card->address);
    json_t *holders = json_array();

    for (guint i = 0; i < card->holders->len; i++)
        json_array_append_new(holders, vfio_holder_to_json(&g_array_index(card->holders, struct vfio_holder, i)));
    json_object_set_new(json, "companions", functions_to_json(card->functions, 1));
    json_object_set_new(json, "others_in_group", functions_to_json(card->others, 0));
    json_object_set_new(json, "is_boot_vga",
                        json_boolean(card->functions->len > 0 && at(card->functions, 0)->is_boot_vga));
    json_object_set_new(json, "holders", holders);
    json_object_set_new(json, "passable", json_boolean(vfio_card_is_passable(card)));
    json_object_set_new(json, "obstacles", obstacles_to_json(card));
    return json;
}
