/* The backends of AMD and Intel: what the kernel's DRM drivers tell in sysfs, so that no library is needed. A table per
 * vendor names the files, below the card's PCI folder; "hwmon" stands for its one folder hwmon/hwmonN, "drm" for drm/cardN.
 * A file that is not there leaves its figure absent.
 * UUID: AMD's unique_id as "AMD-<16 hex digits>"; where there is none, a name by its place (gpu_pci_place_name), which names the
 * slot and not the card. Graphics without memory of its own is listed and never handed out. */

#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fs.h"
#include "gpu/gpu_backend.h"
#include "gpu/kfd.h"

enum { FILE_MAX_BYTES = 4096, MAX_NAMES = 3, NAMES_OF_DISCRETE = 3 };

struct drm_figure {
    enum gpu_figure figure;
    const char *files[MAX_NAMES];
    int64_t multiply, divide;
};

struct drm_vendor {
    const char *name; /* "AMD" */
    const struct drm_figure *figures;
    size_t n_figures;
    const char *unique_id;                   /* file; NULL: none */
    const char *discrete[NAMES_OF_DISCRETE]; /* files that only a card with memory of its own has; one suffices */
    const char *energy;                      /* file with microjoules, where no file tells the power; NULL: none */
    const char *control;                     /* a node that all its cards share; NULL: none */
};

static const struct drm_figure amd_figures[] = {
    {GPU_MEM_TOTAL, {"mem_info_vram_total"}, 1, 1},
    {GPU_MEM_USED, {"mem_info_vram_used"}, 1, 1},
    {GPU_UTIL, {"gpu_busy_percent"}, 1, 1},
    {GPU_MEM_UTIL, {"mem_busy_percent"}, 1, 1},
    {GPU_TEMP, {"hwmon/temp2_input", "hwmon/temp1_input"}, 1, 1000}, /* the hottest spot, else the edge */
    {GPU_MEM_TEMP, {"hwmon/temp3_input"}, 1, 1000},
    {GPU_POWER, {"hwmon/power1_average", "hwmon/power1_input"}, 1, 1000},
    {GPU_POWER_LIMIT, {"hwmon/power1_cap"}, 1, 1000},
    {GPU_FAN, {"hwmon/pwm1"}, 100, 255},
    {GPU_CLOCK_SM, {"hwmon/freq1_input"}, 1, 1000000},
    {GPU_CLOCK_MEM, {"hwmon/freq2_input"}, 1, 1000000},
    {GPU_PCIE_WIDTH, {"current_link_width"}, 1, 1},
    {GPU_PCIE_REPLAYS, {"pcie_replay_count"}, 1, 1},
};

static const struct drm_figure intel_figures[] = {
    {GPU_MEM_TOTAL, {"tile0/physical_vram_size_bytes", "drm/lmem_total_bytes"}, 1, 1},
    {GPU_TEMP, {"hwmon/temp2_input", "hwmon/temp1_input"}, 1, 1000},
    {GPU_MEM_TEMP, {"hwmon/temp3_input"}, 1, 1000},
    {GPU_POWER_LIMIT, {"hwmon/power1_max", "hwmon/power2_max"}, 1, 1000},
    {GPU_CLOCK_SM, {"tile0/gt0/freq0/act_freq", "drm/gt/gt0/rps_act_freq_mhz", "drm/gt_act_freq_mhz"}, 1, 1},
    {GPU_PCIE_WIDTH, {"current_link_width"}, 1, 1},
};

/* AMD's processors with graphics have mem_info_vram_total too, for a part of the machine's memory, but no power cap. */
static const struct drm_vendor amd = {"AMD", amd_figures, G_N_ELEMENTS(amd_figures), "unique_id", {"hwmon/power1_cap"},
                                      NULL,  "/dev/kfd"};
static const struct drm_vendor intel = {"Intel",
                                        intel_figures,
                                        G_N_ELEMENTS(intel_figures),
                                        NULL,
                                        {"tile0/physical_vram_size_bytes", "drm/lmem_total_bytes"},
                                        "hwmon/energy1_input",
                                        NULL};

struct drm_card {
    char *folder, *hwmon, *drm;      /* owned; the last two NULL when there is none */
    int64_t energy_uj, energy_at_us; /* of the last look; 0: none */
};

struct gpu_backend {
    const struct drm_vendor *vendor;
    char *root;
    GHashTable *cards; /* PCI address -> struct drm_card */
};

static void card_free(struct drm_card *card) {
    g_free(card->folder);
    g_free(card->hwmon);
    g_free(card->drm);
    g_free(card);
}

static struct gpu_backend *drm_open(const char *root, const struct drm_vendor *vendor) {
    struct gpu_backend *self = g_new0(struct gpu_backend, 1);

    self->vendor = vendor;
    self->root = g_strdup(root);
    self->cards = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)card_free);
    return self;
}

static struct gpu_backend *amd_open(const char *root, const char *library) { return drm_open(root, &amd); }
static struct gpu_backend *intel_open(const char *root, const char *library) { return drm_open(root, &intel); }

static void drm_close(struct gpu_backend *self) {
    if (!self)
        return;
    g_hash_table_unref(self->cards);
    g_free(self->root);
    g_free(self);
}

static enum gpu_backend_state drm_probe(struct gpu_backend *self, char **ret_text, char **ret_driver) {
    *ret_text = g_strdup_printf("%s by sysfs", self->vendor->name);
    return GPU_BACKEND_PRESENT;
}

/* The first entry of folder/name whose name begins so; NULL when there is none. Caller frees. */
static char *find_folder(const char *folder, const char *name, const char *prefix) {
    g_autofree char *parent = g_build_filename(folder, name, NULL);
    g_autoptr(GDir) dir = g_dir_open(parent, 0, NULL);
    const char *entry;

    while (dir && (entry = g_dir_read_name(dir)))
        if (g_str_has_prefix(entry, prefix))
            return g_build_filename(parent, entry, NULL);
    return NULL;
}

static struct drm_card *card_of(struct gpu_backend *self, const char *address) {
    struct drm_card *card = g_hash_table_lookup(self->cards, address);

    if (!card) {
        card = g_new0(struct drm_card, 1);
        card->folder = g_build_filename(self->root, "sys/bus/pci/devices", address, NULL);
        g_hash_table_insert(self->cards, g_strdup(address), card);
    }
    if (!card->hwmon || access(card->hwmon, F_OK) != 0) {
        g_free(card->hwmon);
        card->hwmon = find_folder(card->folder, "hwmon", "hwmon");
    }
    if (!card->drm || access(card->drm, F_OK) != 0) {
        g_free(card->drm);
        card->drm = find_folder(card->folder, "drm", "card");
    }
    return card;
}

static char *path_of(const struct drm_card *card, const char *file) {
    if (g_str_has_prefix(file, "hwmon/"))
        return card->hwmon ? g_build_filename(card->hwmon, file + strlen("hwmon/"), NULL) : NULL;
    if (g_str_has_prefix(file, "drm/"))
        return card->drm ? g_build_filename(card->drm, file + strlen("drm/"), NULL) : NULL;
    return g_build_filename(card->folder, file, NULL);
}

static char *read_text(const struct drm_card *card, const char *file) {
    g_autofree char *path = path_of(card, file);
    char *text = NULL;

    if (path && fs_read_file(path, FILE_MAX_BYTES, &text, NULL, NULL))
        g_strchomp(text);
    return text;
}

static bool read_number(const struct drm_card *card, const char *file, int64_t *ret) {
    g_autofree char *text = file ? read_text(card, file) : NULL;
    char *end;

    if (!text)
        return false;
    *ret = g_ascii_strtoll(text, &end, 0);
    return end != text && *ret >= 0;
}

static void sample_figure(const struct drm_card *card, const struct drm_figure *figure, struct gpu *gpu) {
    int64_t value;

    for (size_t i = 0; i < MAX_NAMES && figure->files[i]; i++) {
        if (!read_number(card, figure->files[i], &value) || value > G_MAXINT64 / 100)
            continue;
        gpu_set(gpu, figure->figure, value * figure->multiply / figure->divide);
        return;
    }
}

/* Power as energy between two looks. */
static void sample_energy(const struct drm_vendor *vendor, struct drm_card *card, struct gpu *gpu) {
    int64_t now_us = g_get_monotonic_time(), energy_uj;

    if (!read_number(card, vendor->energy, &energy_uj))
        return;
    if (card->energy_at_us && now_us > card->energy_at_us && energy_uj >= card->energy_uj)
        gpu_set(gpu, GPU_POWER, (energy_uj - card->energy_uj) * 1000 / (now_us - card->energy_at_us));
    card->energy_uj = energy_uj;
    card->energy_at_us = now_us;
}

static bool is_hex(const char *text) {
    size_t len = strspn(text, "0123456789abcdef");

    return len > 0 && len <= 32 && text[len] == '\0';
}

static void set_identity(const struct gpu_backend *self, const struct drm_card *card, const struct gpu_pci_card *pci,
                         struct gpu *gpu) {
    g_autofree char *unique = self->vendor->unique_id ? read_text(card, self->vendor->unique_id) : NULL;
    g_autofree char *name = read_text(card, "product_name");

    if (unique && is_hex(unique))
        g_snprintf(gpu->uuid, sizeof gpu->uuid, "%s-%s", self->vendor->name, unique);
    else
        gpu_pci_place_name(self->root, pci, gpu->uuid);
    if (name && name[0] && g_str_is_ascii(name))
        g_strlcpy(gpu->name, name, sizeof gpu->name);
    else
        g_snprintf(gpu->name, sizeof gpu->name, "%s GPU %04x", self->vendor->name, pci->device);
}

static bool is_discrete(const struct gpu_backend *self, const struct drm_card *card) {
    for (size_t i = 0; i < NAMES_OF_DISCRETE && self->vendor->discrete[i]; i++) {
        g_autofree char *path = path_of(card, self->vendor->discrete[i]);
        if (path && access(path, F_OK) == 0)
            return true;
    }
    return false;
}

/* Nodes as the kernel names them. The control node says nothing about cards: which of them it reaches is decided by the
 * render nodes that the container may open. */
static bool set_device_nodes(const struct gpu_backend *self, const struct drm_card *card, struct gpu *gpu) {
    static const char *const prefixes[] = {"renderD", "card"};
    g_autofree char *control = self->vendor->control ? g_build_filename(self->root, self->vendor->control, NULL) : NULL;
    bool has_render = false;

    for (size_t i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        g_autofree char *folder = find_folder(card->folder, "drm", prefixes[i]);
        g_autofree char *name = folder ? g_path_get_basename(folder) : NULL;
        g_autofree char *path = name ? g_build_filename("/dev/dri", name, NULL) : NULL;

        if (path && gpu_add_device_node(gpu, path) && i == 0)
            has_render = true;
    }
    if (control && access(control, F_OK) == 0)
        gpu_add_device_node(gpu, self->vendor->control);
    return has_render;
}

static void judge(const struct gpu_backend *self, const struct drm_card *card, const struct gpu_pci_card *pci,
                  struct gpu *gpu) {
    bool has_render = set_device_nodes(self, card, gpu);

    gpu->condition = GPU_CONDITION_UNKNOWN;
    if (!is_discrete(self, card))
        gpu->reason = g_strdup_printf(
            "%s graphics of a processor or chipset%s, without memory of its own: not handed out", self->vendor->name,
            pci->is_boot_vga ? " and the console" : "");
    else if (!has_render)
        gpu->reason = g_strdup_printf("its driver %s offers no render node", pci->driver);
    else
        gpu->condition = GPU_CONDITION_OK;
}

static void drm_sample(struct gpu_backend *self, const struct gpu_pci_card *pci, unsigned tiers, struct gpu *gpu) {
    const struct drm_vendor *vendor = self->vendor;
    struct drm_card *card = card_of(self, pci->address);

    set_identity(self, card, pci, gpu);
    judge(self, card, pci, gpu);
    for (size_t i = 0; i < vendor->n_figures; i++)
        if (tiers & gpu_figure_tier(vendor->figures[i].figure))
            sample_figure(card, &vendor->figures[i], gpu);
    if (vendor->energy && (tiers & GPU_TIER_SLOW))
        sample_energy(vendor, card, gpu);
}

/* Open nodes are looked for anyway; beside them only AMD's compute driver has a list of its own. */
static bool drm_processes(struct gpu_backend *self, const struct gpu_pci_card *pci, GArray *users, char **ret_why) {
    g_autofree char *render = find_folder(card_of(self, pci->address)->folder, "drm", "renderD");
    const char *number = render ? strrchr(render, 'D') + 1 : NULL;

    if (number && self->vendor->control)
        kfd_list_users(self->root, (unsigned)g_ascii_strtoull(number, NULL, 10), users);
    return true;
}

static size_t drm_nodes(struct gpu_backend *self, const struct gpu_pci_card *pci, const struct gpu *gpu,
                        dev_t ret_nodes[GPU_MAX_NODES]) {
    const struct drm_card *card = card_of(self, pci->address);
    static const char *const prefixes[] = {"renderD", "card"};
    size_t n = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        g_autofree char *folder = find_folder(card->folder, "drm", prefixes[i]);
        g_autofree char *path = folder ? g_build_filename(folder, "dev", NULL) : NULL;
        g_autofree char *text = NULL;
        char *end;
        guint64 major_number;

        if (!path || !fs_read_file(path, FILE_MAX_BYTES, &text, NULL, NULL))
            continue;
        major_number = g_ascii_strtoull(text, &end, 10);
        if (*end == ':')
            ret_nodes[n++] = makedev((unsigned)major_number, (unsigned)g_ascii_strtoull(end + 1, NULL, 10));
    }
    return n;
}

#define DRM_BACKEND(vendor_id, ...)                                                                     \
    .pci_vendor = (vendor_id), .kernel_drivers = {__VA_ARGS__}, .close = drm_close, .probe = drm_probe, \
    .sample = drm_sample, .processes = drm_processes, .nodes = drm_nodes

const struct gpu_backend_ops amd_backend_ops = {.name = "amd", .open = amd_open, DRM_BACKEND(PCI_VENDOR_AMD, "amdgpu")};
const struct gpu_backend_ops intel_backend_ops = {
    .name = "intel", .open = intel_open, DRM_BACKEND(PCI_VENDOR_INTEL, "xe", "i915")};
