#include "gpu/gpu_pci.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"

enum { SYSFS_FILE_MAX_BYTES = 4096, CONFIG_BYTES = 16, CONFIG_HEADER_TYPE = 14, REREAD_EVERY_MS = 10000 };

/* Classes under which a vendor's GPUs appear: VGA, 3D, other display, processing accelerator. Under the last one Intel has
 * things that are no GPUs. */
static const struct {
    unsigned vendor;
    unsigned classes[5];
} vendors[] = {
    {PCI_VENDOR_NVIDIA, {0x0300, 0x0302}},
    {PCI_VENDOR_AMD, {0x0300, 0x0302, 0x0380, 0x1200}},
    {PCI_VENDOR_INTEL, {0x0300, 0x0302, 0x0380}},
};

static bool is_gpu(int64_t vendor, int64_t class) {
    for (size_t i = 0; i < G_N_ELEMENTS(vendors); i++)
        for (size_t k = 0; vendors[i].vendor == vendor && vendors[i].classes[k]; k++)
            if (vendors[i].classes[k] == class >> 8)
                return true;
    return false;
}

/* Reads `max_digits` hex digits at most, at least one, followed by `end`; returns what comes behind it, else NULL. */
static const char *read_hex(const char *text, int max_digits, char end, uint32_t *ret_value) {
    uint32_t value = 0;
    int digits = 0;

    for (; g_ascii_isxdigit(*text) && digits < max_digits; text++, digits++)
        value = value << 4 | (uint32_t)g_ascii_xdigit_value(*text);
    if (digits == 0 || *text != end)
        return NULL;
    *ret_value = value;
    return end ? text + 1 : text;
}

bool pci_address_from_str(const char *text, struct pci_address *ret_address) {
    uint32_t domain, bus, device, function;

    if (!(text = read_hex(text, 8, ':', &domain)) || !(text = read_hex(text, 2, ':', &bus)) ||
        !(text = read_hex(text, 2, '.', &device)) || !read_hex(text, 1, '\0', &function))
        return false;
    if (device > 0x1f || function > 7)
        return false;
    *ret_address = (struct pci_address){domain, (uint8_t)bus, (uint8_t)device, (uint8_t)function};
    return true;
}

const char *pci_address_to_str(const struct pci_address *address, char buf[static GPU_PCI_BYTES]) {
    g_snprintf(buf, GPU_PCI_BYTES, "%04" PRIx32 ":%02x:%02x.%x", address->domain, address->bus, address->device,
               address->function);
    return buf;
}

int pci_address_compare(const struct pci_address *a, const struct pci_address *b) {
    uint32_t low_a = (uint32_t)a->bus << 8 | (uint32_t)a->device << 3 | a->function;
    uint32_t low_b = (uint32_t)b->bus << 8 | (uint32_t)b->device << 3 | b->function;

    if (a->domain != b->domain)
        return a->domain < b->domain ? -1 : 1;
    return low_a == low_b ? 0 : low_a < low_b ? -1 : 1;
}

/* A number in a file of one device: "0x10de", "-1". */
static bool read_number(const char *folder, const char *name, int64_t *ret_value) {
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_autofree char *text = NULL;
    char *end;

    if (!fs_read_file(path, SYSFS_FILE_MAX_BYTES, &text, NULL, NULL))
        return false;
    *ret_value = g_ascii_strtoll(text, &end, 0);
    return end != text;
}

static void read_driver(const char *folder, char driver[static GPU_DRIVER_MAX_BYTES + 1]) {
    g_autofree char *path = g_build_filename(folder, "driver", NULL);
    g_autofree char *target = g_file_read_link(path, NULL);
    g_autofree char *name = target ? g_path_get_basename(target) : NULL;

    g_strlcpy(driver, name ? name : "", GPU_DRIVER_MAX_BYTES + 1);
}

static int read_group(const char *folder) {
    g_autofree char *path = g_build_filename(folder, "iommu_group", NULL);
    g_autofree char *target = g_file_read_link(path, NULL);
    g_autofree char *name = target ? g_path_get_basename(target) : NULL;
    guint64 group;

    return name && g_ascii_string_to_unsigned(name, 10, 0, G_MAXINT, &group, NULL) ? (int)group : -1;
}

enum what { WHAT_UNKNOWN, WHAT_CARD, WHAT_OTHER }; /* unknown: its files cannot be read, now */

static enum what read_card(const char *folder, const char *name, struct gpu_pci_card *card) {
    int64_t vendor, class, value;

    *card = (struct gpu_pci_card){.numa_node = -1, .iommu_group = -1};
    if (!pci_address_from_str(name, &card->at))
        return WHAT_OTHER;
    if (!read_number(folder, "vendor", &vendor) || !read_number(folder, "class", &class))
        return WHAT_UNKNOWN;
    if (!is_gpu(vendor, class))
        return WHAT_OTHER;
    card->vendor = (unsigned)vendor;
    if (read_number(folder, "device", &value) && value >= 0)
        card->device = (unsigned)value;
    if (read_number(folder, "numa_node", &value) && value >= 0 && value <= G_MAXINT)
        card->numa_node = (int)value;
    card->is_boot_vga = read_number(folder, "boot_vga", &value) && value == 1;
    card->iommu_group = read_group(folder);
    pci_address_to_str(&card->at, card->address);
    read_driver(folder, card->driver);
    return WHAT_CARD;
}

static int compare_cards(const void *a, const void *b) {
    return pci_address_compare(&((const struct gpu_pci_card *)a)->at, &((const struct gpu_pci_card *)b)->at);
}

struct gpu_inventory {
    char *root;
    GArray *cards;      /* of struct gpu_pci_card, by address */
    GHashTable *others; /* set of names that are no GPUs */
    int64_t reread_ms;  /* monotonic: when all was last read */
};

struct gpu_inventory *gpu_inventory_new(const char *root) {
    struct gpu_inventory *inventory = g_new0(struct gpu_inventory, 1);

    inventory->root = g_strdup(root);
    inventory->cards = g_array_new(FALSE, TRUE, sizeof(struct gpu_pci_card));
    inventory->others = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    inventory->reread_ms = -REREAD_EVERY_MS;
    return inventory;
}

void gpu_inventory_free(struct gpu_inventory *inventory) {
    if (!inventory)
        return;
    g_free(inventory->root);
    g_array_unref(inventory->cards);
    g_hash_table_unref(inventory->others);
    g_free(inventory);
}

static const struct gpu_pci_card *known_card(const struct gpu_inventory *inventory, const char *name) {
    for (guint i = 0; i < inventory->cards->len; i++)
        if (strcmp(g_array_index(inventory->cards, struct gpu_pci_card, i).address, name) == 0)
            return &g_array_index(inventory->cards, struct gpu_pci_card, i);
    return NULL;
}

static void look_at(struct gpu_inventory *inventory, const char *devices, const char *name, GArray *cards) {
    const struct gpu_pci_card *known = known_card(inventory, name);
    g_autofree char *folder = g_build_filename(devices, name, NULL);
    struct gpu_pci_card card;
    enum what what = WHAT_CARD;

    if (known) {
        card = *known;
        read_driver(folder, card.driver);
    } else {
        what = read_card(folder, name, &card);
    }
    if (what == WHAT_CARD)
        g_array_append_val(cards, card);
    else if (what == WHAT_OTHER)
        g_hash_table_add(inventory->others, g_strdup(name));
}

static void forget(struct gpu_inventory *inventory) {
    g_array_set_size(inventory->cards, 0);
    g_hash_table_remove_all(inventory->others);
    inventory->reread_ms = clock_mono_ms();
}

const GArray *gpu_inventory_look(struct gpu_inventory *inventory, bool fresh, GError **error) {
    g_autofree char *devices = g_build_filename(inventory->root, "sys/bus/pci/devices", NULL);
    g_autoptr(GError) why = NULL;
    g_autoptr(GDir) dir = g_dir_open(devices, 0, &why);
    GArray *cards;
    const char *name;

    if (fresh || clock_mono_ms() - inventory->reread_ms >= REREAD_EVERY_MS)
        forget(inventory);
    if (!dir) {
        kr_fail(error, IO, "no PCI inventory: %s", why->message);
        return NULL;
    }
    cards = g_array_new(FALSE, TRUE, sizeof(struct gpu_pci_card));
    while ((name = g_dir_read_name(dir)))
        if (!g_hash_table_contains(inventory->others, name))
            look_at(inventory, devices, name, cards);
    g_array_sort(cards, compare_cards);
    g_array_unref(inventory->cards);
    return inventory->cards = cards;
}

const GArray *gpu_inventory_cards(const struct gpu_inventory *inventory) { return inventory->cards; }

GArray *gpu_pci_scan(const char *root, GError **error) {
    struct gpu_inventory *inventory = gpu_inventory_new(root);
    GArray *cards = gpu_inventory_look(inventory, true, error) ? g_array_ref(inventory->cards) : NULL;

    gpu_inventory_free(inventory);
    return cards;
}

static bool read_config(const char *root, const char *address, unsigned char ret_config[static CONFIG_BYTES]) {
    g_autofree char *path = g_build_filename(root, "sys/bus/pci/devices", address, "config", NULL);
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);

    return fd >= 0 && read(fd, ret_config, CONFIG_BYTES) == CONFIG_BYTES;
}

const char *gpu_pci_absence(const char *root, const char *address) {
    unsigned char config[CONFIG_BYTES];
    size_t ones = 0;

    if (!read_config(root, address, config))
        return NULL;
    while (ones < sizeof config && config[ones] == 0xff)
        ones++;
    if (ones == sizeof config)
        return "fallen off the bus: its configuration space reads all ones";
    return config[CONFIG_HEADER_TYPE] == 0x7f ? "fallen off the bus: its configuration space has the header type 7f"
                                              : NULL;
}

bool gpu_pci_answers(const char *root, const char *address) {
    unsigned char config[CONFIG_BYTES];

    return read_config(root, address, config) && !(config[0] == 0xff && config[1] == 0xff) &&
           config[CONFIG_HEADER_TYPE] != 0x7f;
}

size_t gpu_pci_drm_nodes(const char *root, const char *address, dev_t *ret_nodes, size_t max) {
    g_autofree char *folder = g_build_filename(root, "sys/bus/pci/devices", address, "drm", NULL);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;
    size_t n = 0;

    while (dir && n < max && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, "dev", NULL), *text = NULL;
        char *end;
        guint64 major_number;

        if (!fs_read_file(path, 64, &text, NULL, NULL))
            continue;
        major_number = g_ascii_strtoull(text, &end, 10);
        if (*end == ':')
            ret_nodes[n++] = makedev((unsigned)major_number, (unsigned)g_ascii_strtoull(end + 1, NULL, 10));
    }
    return n;
}

void gpu_pci_place_name(const char *root, const struct gpu_pci_card *card,
                        char ret_uuid[static GPU_UUID_MAX_BYTES + 1]) {
    g_autofree char *path = g_build_filename(root, "etc/machine-id", NULL), *text = NULL, *machine = NULL;
    g_autofree char *hash = NULL;

    if (!fs_read_file(path, SYSFS_FILE_MAX_BYTES, &text, NULL, NULL) || !g_strstrip(text)[0])
        machine = g_strdup_printf("%s:%s", g_get_host_name(), root);
    hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, machine ? machine : text, -1);
    g_snprintf(ret_uuid, GPU_UUID_MAX_BYTES + 1, "PCI-%04x-%04x-%.8s-%s", card->vendor, card->device, hash,
               card->address);
}
