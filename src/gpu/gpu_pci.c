#include "gpu/gpu_pci.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fs.h"

enum { PCI_CLASS_VGA = 0x0300, PCI_CLASS_3D = 0x0302, SYSFS_FILE_MAX_BYTES = 4096 };

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

/* True when `folder` is a display or 3D controller of the vendor; fills the card then. */
static bool read_card(const char *folder, const char *name, unsigned vendor, struct gpu_pci_card *card) {
    int64_t value;

    *card = (struct gpu_pci_card){.numa_node = -1};
    if (!pci_address_from_str(name, &card->at))
        return false;
    if (!read_number(folder, "vendor", &value) || value != vendor)
        return false;
    if (!read_number(folder, "class", &value) || (value >> 8 != PCI_CLASS_VGA && value >> 8 != PCI_CLASS_3D))
        return false;
    if (read_number(folder, "numa_node", &value) && value >= 0 && value <= G_MAXINT)
        card->numa_node = (int)value;
    pci_address_to_str(&card->at, card->address);
    read_driver(folder, card->driver);
    return true;
}

static int compare_cards(const void *a, const void *b) {
    return pci_address_compare(&((const struct gpu_pci_card *)a)->at, &((const struct gpu_pci_card *)b)->at);
}

GArray *gpu_pci_scan(const char *root, unsigned vendor, GError **error) {
    g_autofree char *devices = g_build_filename(root, "sys/bus/pci/devices", NULL);
    g_autoptr(GError) why = NULL;
    g_autoptr(GDir) dir = g_dir_open(devices, 0, &why);
    g_autoptr(GArray) cards = NULL;
    const char *name;

    if (!dir) {
        kr_fail(error, IO, "no PCI inventory: %s", why->message);
        return NULL;
    }
    cards = g_array_new(FALSE, TRUE, sizeof(struct gpu_pci_card));
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *folder = g_build_filename(devices, name, NULL);
        struct gpu_pci_card card;

        if (read_card(folder, name, vendor, &card))
            g_array_append_val(cards, card);
    }
    g_array_sort(cards, compare_cards);
    return g_steal_pointer(&cards);
}
