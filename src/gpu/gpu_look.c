#include "gpu/gpu_look.h"

#include <string.h>
#include <sys/sysmacros.h>

#include "base/clock.h"
#include "gpu/gpu_kmsg.h"
#include "gpu/xid_balance.h"

/* What is remembered of a card between looks. */
struct memory {
    struct gpu *kept; /* figures last read, and the UUID */
    struct xid_balance xids;
    int64_t slow_at_ms, rare_at_ms; /* monotonic: when these tiers were last read; 0: never */
};

struct gpu_looker {
    char *root;
    bool is_fake_root;
    struct gpu_inventory *inventory;
    struct gpu_kmsg *kmsg;
    GHashTable *memories; /* PCI address -> struct memory */
    struct {
        struct gpu_backend *self;
        enum gpu_backend_state state; /* by the probe of this look; unset: not probed */
        char *text;
    } backends[GPU_BACKEND_COUNT];
    int64_t xids_after_us; /* of the question */
    int64_t xids_at_us;
};

/* ---- memory ---- */

static void memory_free(struct memory *memory) {
    gpu_free(memory->kept);
    g_free(memory);
}

static struct memory *memory_of(struct gpu_looker *looker, const char *address) {
    struct memory *memory = g_hash_table_lookup(looker->memories, address);

    if (!memory) {
        memory = g_new0(struct memory, 1);
        memory->kept = gpu_new();
        g_hash_table_insert(looker->memories, g_strdup(address), memory);
    }
    return memory;
}

static void forget_figures(struct memory *memory) {
    memory->kept->valid = 0;
    memory->slow_at_ms = memory->rare_at_ms = 0;
}

static bool is_due(int64_t at_ms, int64_t now_ms, int64_t age_ms) { return at_ms == 0 || now_ms - at_ms >= age_ms; }

/* A check is urgent, and touches nothing that it does not need. */
static unsigned tiers_due(struct memory *memory, const struct gpu_question *question) {
    unsigned tiers = GPU_TIER_FAST;
    int64_t now_ms = clock_mono_ms();

    if (!question->uuids && is_due(memory->slow_at_ms, now_ms, question->slow_ms)) {
        tiers |= GPU_TIER_SLOW;
        memory->slow_at_ms = now_ms;
    }
    if (!question->uuids && is_due(memory->rare_at_ms, now_ms, question->rare_ms)) {
        tiers |= GPU_TIER_RARE;
        memory->rare_at_ms = now_ms;
    }
    return tiers;
}

/* Figures of tiers that were not read are as they were; of those that were, what could not be read is not known any more. */
static void merge(struct memory *memory, unsigned tiers, struct gpu *gpu) {
    struct gpu *kept = memory->kept;

    for (int i = 0; i < GPU_FIGURE_COUNT_; i++) {
        unsigned tier = gpu_figure_tier((enum gpu_figure)i);

        if (gpu_has(gpu, i))
            gpu_set(kept, i, gpu_figure(gpu, i));
        else if (tier & tiers)
            gpu_unset(kept, i);
        else if (tier && gpu_has(kept, i))
            gpu_set(gpu, i, gpu_figure(kept, i));
    }
    if (gpu->uuid[0])
        g_strlcpy(kept->uuid, gpu->uuid, sizeof kept->uuid);
}

/* ---- the kernel's log ---- */

static int64_t hears_since_us(struct gpu_looker *looker, const struct gpu_pci_card *card) {
    for (size_t i = 0; i < GPU_BACKEND_COUNT; i++)
        if (gpu_backends[i]->pci_vendor == card->vendor && gpu_backends[i]->hears_xids_since_us)
            return gpu_backends[i]->hears_xids_since_us(looker->backends[i].self, card);
    return 0;
}

static const struct gpu_pci_card *card_at(struct gpu_looker *looker, struct pci_address at) {
    const GArray *cards = gpu_inventory_cards(looker->inventory);

    for (guint i = 0; i < cards->len; i++) {
        const struct gpu_pci_card *card = &g_array_index(cards, struct gpu_pci_card, i);
        at.function = card->at.function;
        if (pci_address_compare(&card->at, &at) == 0)
            return card;
    }
    return NULL;
}

/* What was logged before somebody listened to NVML's events cannot be told by them. */
static void on_logged_xid(void *data, const struct gpu_kmsg_xid *xid) {
    struct gpu_looker *looker = data;
    const struct gpu_pci_card *card = card_at(looker, xid->at);
    int64_t since_us = card ? hears_since_us(looker, card) : 0;
    int64_t at_ms = clock_wall_ms() - (g_get_monotonic_time() - xid->at_us) / 1000;

    looker->xids_at_us = MAX(looker->xids_at_us, xid->at_us);
    if (card && xid->at_us > looker->xids_after_us)
        xid_balance_logged(&memory_of(looker, card->address)->xids, xid->code, at_ms,
                           since_us && xid->at_us >= since_us ? clock_mono_ms() : -XID_BALANCE_MS);
}

/* Until when the log is done with; while an XID waits for its event, the next worker would have to read it again. */
static int64_t log_is_done_us(struct gpu_looker *looker) {
    GHashTableIter iter;
    void *memory;

    g_hash_table_iter_init(&iter, looker->memories);
    while (g_hash_table_iter_next(&iter, NULL, &memory))
        if (xid_balance_is_open(&((struct memory *)memory)->xids))
            return 0;
    return looker->xids_at_us;
}

/* ---- one card ---- */

static void look_free(struct gpu_look *look) {
    gpu_free(look->gpu);
    if (look->users)
        g_array_unref(look->users);
    g_free(look->error);
    gpu_site_free(look->site);
    g_free(look);
}

static struct gpu_look *look_new(const struct gpu_pci_card *pci) {
    struct gpu_look *look = g_new0(struct gpu_look, 1);

    look->pci = *pci;
    look->gpu = gpu_new();
    look->gpu->condition = GPU_CONDITION_UNKNOWN;
    g_strlcpy(look->gpu->pci, pci->address, sizeof look->gpu->pci);
    if (pci->numa_node >= 0)
        gpu_set(look->gpu, GPU_NUMA, pci->numa_node);
    if (pci->iommu_group >= 0)
        gpu_set(look->gpu, GPU_IOMMU_GROUP, pci->iommu_group);
    while (gpu_backends[look->backend]->pci_vendor != pci->vendor)
        look->backend++; /* the inventory knows no other vendors */
    return look;
}

static bool is_own_driver(const struct gpu_backend_ops *ops, const char *driver) {
    for (size_t i = 0; i < G_N_ELEMENTS(ops->kernel_drivers) && ops->kernel_drivers[i]; i++)
        if (strcmp(ops->kernel_drivers[i], driver) == 0)
            return true;
    return false;
}

/* Why the library is kept away from the card; NULL: it is not. */
static char *not_ours_why(struct gpu_looker *looker, struct gpu_look *look) {
    const struct gpu_backend_ops *ops = gpu_backends[look->backend];
    const char *driver = look->pci.driver;

    if (strcmp(driver, "vfio-pci") == 0) {
        look->gpu->condition = GPU_CONDITION_VFIO;
        return g_strdup("bound to vfio-pci");
    }
    if (!driver[0])
        return g_strdup_printf("no driver is bound to it (%s)", looker->backends[look->backend].text);
    if (!is_own_driver(ops, driver))
        return g_strdup_printf("bound to the driver %s, not to %s", driver, ops->kernel_drivers[0]);
    return looker->backends[look->backend].state == GPU_BACKEND_PRESENT
               ? NULL
               : g_strdup(looker->backends[look->backend].text);
}

/* A card that PCI lists and its library does not know may be gone from the bus for all but its name. */
static void name_absence(struct gpu_looker *looker, struct gpu_look *look, void (*say_at)(const char *address)) {
    struct gpu *gpu = look->gpu;
    const char *absence;

    if (gpu->condition != GPU_CONDITION_UNKNOWN && gpu->condition != GPU_CONDITION_FAULT)
        return;
    say_at(look->pci.address);
    absence = gpu_pci_absence(looker->root, look->pci.address);
    if (!absence)
        return;
    gpu->condition = GPU_CONDITION_FAULT;
    g_free(gpu->reason);
    gpu->reason = g_strdup(absence);
}

/* Drivers that show a picture and do nothing else: what they have can be taken away. Any other one is somebody's purpose, such as passing the
 * card on in its own way (vfio drivers of vendors, pci-stub, xen-pciback, uio). */
static bool is_idle_driver(const char *driver) {
    static const char *const drivers[] = {"", "nouveau", "nvidiafb", "radeon", "bochs-drm", "simple-framebuffer"};

    for (size_t i = 0; i < G_N_ELEMENTS(drivers); i++)
        if (strcmp(driver, drivers[i]) == 0)
            return true;
    return false;
}

/* No driver of its vendor has it, and it answers on the bus: a machine can have it. It has an identity by its place until a library
 * tells a better one. The firmware's console is nobody's. */
static void judge_bare(const struct gpu_looker *looker, struct gpu_look *look) {
    struct gpu *gpu = look->gpu;
    const struct gpu_pci_card *pci = &look->pci;

    if (gpu->condition != GPU_CONDITION_UNKNOWN || is_own_driver(gpu_backends[look->backend], pci->driver) ||
        !is_idle_driver(pci->driver) || pci->is_boot_vga || !gpu_pci_answers(looker->root, pci->address))
        return;
    gpu->condition = GPU_CONDITION_BARE;
    look->is_answering = look->is_bare = true;
    if (!gpu->uuid[0])
        gpu_pci_place_name(looker->root, pci, gpu->uuid);
    if (!gpu->name[0])
        g_snprintf(gpu->name, sizeof gpu->name, "%s GPU %04x",
                   pci->vendor == PCI_VENDOR_NVIDIA ? "NVIDIA"
                   : pci->vendor == PCI_VENDOR_AMD  ? "AMD"
                                                    : "Intel",
                   pci->device);
}

static void look_at(struct gpu_looker *looker, struct gpu_look *look, const struct gpu_question *question,
                    void (*say_at)(const char *address)) {
    struct memory *memory = memory_of(looker, look->pci.address);
    char *why = not_ours_why(looker, look);

    if (why) {
        look->gpu->reason = why;
        forget_figures(memory);
    } else {
        unsigned tiers = tiers_due(memory, question);

        say_at(look->pci.address);
        gpu_backends[look->backend]->sample(looker->backends[look->backend].self, &look->pci, tiers, look->gpu);
        merge(memory, tiers, look->gpu);
        xid_balance_told(&memory->xids, look->gpu, clock_mono_ms());
        look->is_answering = look->gpu->condition != GPU_CONDITION_FAULT && look->gpu->uuid[0];
        if (!look->is_answering)
            forget_figures(memory);
    }
    name_absence(looker, look, say_at);
    if (!look->gpu->uuid[0])
        g_strlcpy(look->gpu->uuid, memory->kept->uuid, sizeof look->gpu->uuid);
    judge_bare(looker, look);
    xid_balance_settle(&memory->xids, look->is_answering && hears_since_us(looker, &look->pci) > 0, clock_mono_ms(),
                       look->gpu);
}

static void leave_out(struct gpu_looker *looker, struct gpu_look *look) {
    struct memory *memory = memory_of(looker, look->pci.address);

    look->gpu->condition = GPU_CONDITION_UNKNOWN;
    look->gpu->reason = g_strdup("the driver did not answer for it in time; it is left alone for a while");
    g_strlcpy(look->gpu->uuid, memory->kept->uuid, sizeof look->gpu->uuid);
    forget_figures(memory);
    xid_balance_settle(&memory->xids, false, clock_mono_ms(), look->gpu);
}

/* It is on its way to or from vfio-pci, or somebody's: of all that there is, only the name of its driver is read. */
static void keep_off(struct gpu_looker *looker, struct gpu_look *look) {
    struct memory *memory = memory_of(looker, look->pci.address);
    bool is_away = strcmp(look->pci.driver, "vfio-pci") == 0;

    look->gpu->condition = is_away ? GPU_CONDITION_VFIO : GPU_CONDITION_SWITCHING;
    look->gpu->reason = g_strdup(is_away ? "bound to vfio-pci" : "it is being switched to or from vfio-pci");
    g_strlcpy(look->gpu->uuid, memory->kept->uuid, sizeof look->gpu->uuid);
    forget_figures(memory);
    xid_balance_settle(&memory->xids, false, clock_mono_ms(), look->gpu);
}

/* ---- who uses it ---- */

static struct gpu_user *user_of(GArray *users, pid_t pid) {
    for (guint i = 0; i < users->len; i++)
        if (g_array_index(users, struct gpu_user, i).pid == pid)
            return &g_array_index(users, struct gpu_user, i);
    return NULL;
}

/* A process may be in several lists of the library. */
static void add_listed(GArray *users, const struct gpu_user *user) {
    struct gpu_user *known = user_of(users, user->pid);

    if (!known)
        g_array_append_val(users, *user);
    else
        known->memory_bytes = MAX(known->memory_bytes, user->memory_bytes);
}

static bool is_node_of(const struct gpu_look *look, dev_t node) {
    for (size_t i = 0; look->users && i < look->n_nodes; i++)
        if (look->nodes[i] == node)
            return true;
    return false;
}

/* A descriptor of a card's own node. Control nodes are no card's and are passed over. */
static void on_node(void *data, pid_t pid, dev_t node) {
    const GPtrArray *list = data;

    for (guint i = 0; i < list->len; i++) {
        const struct gpu_look *look = list->pdata[i];
        struct gpu_user user = {.pid = pid, .memory_bytes = -1};

        if (is_node_of(look, node) && !user_of(look->users, pid))
            g_array_append_val(look->users, user);
    }
}

static void note_majors(const struct gpu_look *look, GArray *majors) {
    for (size_t i = 0; i < look->n_nodes; i++) {
        unsigned number = major(look->nodes[i]);
        g_array_append_val(majors, number);
    }
}

static void list_users(struct gpu_looker *looker, struct gpu_look *look, GArray *majors) {
    const struct gpu_backend_ops *ops = gpu_backends[look->backend];
    struct gpu_backend *self = looker->backends[look->backend].self;
    g_autoptr(GArray) listed = g_array_new(FALSE, FALSE, sizeof(struct gpu_user));

    look->users = g_array_new(FALSE, FALSE, sizeof(struct gpu_user));
    if (look->is_bare) {
        look->n_nodes = gpu_pci_drm_nodes(looker->root, look->pci.address, look->nodes, GPU_MAX_NODES);
        note_majors(look, majors);
        return;
    }
    ops->processes(self, &look->pci, listed, &look->error);
    for (guint i = 0; i < listed->len; i++)
        add_listed(look->users, &g_array_index(listed, struct gpu_user, i));
    look->n_nodes = ops->nodes(self, &look->pci, look->gpu, look->nodes);
    if (look->n_nodes == 0 && !look->error)
        look->error = g_strdup("its device nodes are not known, so its use cannot be verified");
    note_majors(look, majors);
}

static void look_for_users(struct gpu_looker *looker, GPtrArray *list, void (*say_at)(const char *address)) {
    g_autoptr(GArray) majors = g_array_new(FALSE, FALSE, sizeof(unsigned));

    for (guint i = 0; i < list->len; i++) {
        struct gpu_look *look = list->pdata[i];

        if (!look->is_answering)
            continue;
        say_at(look->pci.address);
        list_users(looker, look, majors);
    }
    if (majors->len > 0)
        gpu_procs_scan((const unsigned *)(void *)majors->data, MIN(majors->len, 8), on_node, list);
}

static void look_for_site(struct gpu_looker *looker, struct gpu_look *look, void (*say_at)(const char *address)) {
    const struct gpu_backend_ops *ops = gpu_backends[look->backend];

    look->site = gpu_site_read(looker->root, &look->pci);
    if (!ops->links || look->gpu->condition != GPU_CONDITION_OK)
        return;
    say_at(look->pci.address);
    ops->links(looker->backends[look->backend].self, &look->pci, look->site);
}

/* ---- all cards ---- */

static bool list_has(const json_t *list, const char *text) {
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item)
        if (g_strcmp0(json_string_value(item), text) == 0)
            return true;
    return false;
}

/* "PCI-10de-2330-1a2b3c4d-0000:18:00.0": a lease may name a card by its place, and keeps that name when the card has told a better one. */
static bool has_place(const json_t *uuids, const char *address) {
    const json_t *item;
    size_t i;

    json_array_foreach (uuids, i, item)
        if (g_str_has_prefix(json_string_value(item) ? json_string_value(item) : "", GPU_PLACE_PREFIX) &&
            g_str_has_suffix(json_string_value(item), address))
            return true;
    return false;
}

/* A check touches only the cards asked about (L57), and those that have not said who they are. */
static bool is_asked(struct gpu_looker *looker, const char *address, const json_t *uuids) {
    const char *known = memory_of(looker, address)->kept->uuid;

    return !uuids || !known[0] || list_has(uuids, known) || has_place(uuids, address);
}

static void probe(struct gpu_looker *looker, size_t backend, struct gpu_looks *looks) {
    const struct gpu_backend_ops *ops = gpu_backends[backend];
    char *text = NULL, *whole;

    if (looker->backends[backend].state)
        return;
    looker->backends[backend].state = ops->probe(looker->backends[backend].self, &text, &looks->driver);
    g_free(looker->backends[backend].text);
    looker->backends[backend].text = text;
    whole = looks->text ? g_strconcat(looks->text, "; ", text, NULL) : g_strdup(text);
    g_free(looks->text);
    looks->text = whole;
    if (ops->is_simulated)
        looks->is_simulated |= ops->is_simulated(looker->backends[backend].self);
}

static void take_looks(struct gpu_looker *looker, const GArray *cards, const struct gpu_question *question,
                       void (*say_at)(const char *address), struct gpu_looks *looks) {
    for (guint i = 0; i < cards->len; i++) {
        const struct gpu_pci_card *pci = &g_array_index(cards, struct gpu_pci_card, i);
        struct gpu_look *look = look_new(pci);

        probe(looker, look->backend, looks);
        if (!is_asked(looker, pci->address, question->uuids)) {
            look_free(look);
            continue;
        }
        g_ptr_array_add(looks->list, look);
        if (list_has(question->hands_off, pci->address))
            keep_off(looker, look);
        else if (list_has(question->leave_out, pci->address))
            leave_out(looker, look);
        else
            look_at(looker, look, question, say_at);
        if (question->with_sites && !list_has(question->hands_off, pci->address))
            look_for_site(looker, look, say_at);
    }
}

struct gpu_looks *gpu_looker_look(struct gpu_looker *looker, const struct gpu_question *question,
                                  void (*say_at)(const char *address), GError **error) {
    const GArray *cards = gpu_inventory_look(looker->inventory, question->uuids != NULL, error);
    struct gpu_looks *looks;

    if (!cards)
        return NULL;
    for (size_t i = 0; i < GPU_BACKEND_COUNT; i++)
        looker->backends[i].state = GPU_BACKEND_UNSET;
    looker->xids_after_us = question->xids_after_us;
    gpu_kmsg_read(looker->kmsg, on_logged_xid, looker);
    looks = g_new0(struct gpu_looks, 1);
    looks->list = g_ptr_array_new_with_free_func((GDestroyNotify)look_free);
    looks->is_simulated = looker->is_fake_root;
    take_looks(looker, cards, question, say_at, looks);
    if (question->with_users)
        look_for_users(looker, looks->list, say_at);
    if (!looks->text)
        looks->text = g_strdup("no GPU on this node");
    looks->xids_at_us = log_is_done_us(looker);
    return looks;
}

void gpu_looks_free(struct gpu_looks *looks) {
    if (!looks)
        return;
    g_ptr_array_unref(looks->list);
    g_free(looks->text);
    g_free(looks->driver);
    g_free(looks);
}

json_t *gpu_looker_costs(const struct gpu_looker *looker) {
    json_t *all = json_array();

    for (size_t i = 0; i < GPU_BACKEND_COUNT; i++) {
        json_t *costs = gpu_backends[i]->costs ? gpu_backends[i]->costs(looker->backends[i].self) : NULL;

        if (costs)
            json_array_extend(all, costs);
        json_decref(costs);
    }
    return all;
}

struct gpu_looker *gpu_looker_new(const char *root, const char *library) {
    struct gpu_looker *looker = g_new0(struct gpu_looker, 1);

    looker->root = g_strdup(root);
    looker->is_fake_root = strcmp(root, "/") != 0;
    looker->inventory = gpu_inventory_new(root);
    looker->kmsg = gpu_kmsg_new(root);
    looker->memories = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)memory_free);
    for (size_t i = 0; i < GPU_BACKEND_COUNT; i++)
        looker->backends[i].self = gpu_backends[i]->open(root, library);
    return looker;
}

void gpu_looker_free(struct gpu_looker *looker) {
    if (!looker)
        return;
    for (size_t i = 0; i < GPU_BACKEND_COUNT; i++) {
        gpu_backends[i]->close(looker->backends[i].self);
        g_free(looker->backends[i].text);
    }
    g_hash_table_unref(looker->memories);
    gpu_inventory_free(looker->inventory);
    gpu_kmsg_free(looker->kmsg);
    g_free(looker->root);
    g_free(looker);
}
