#pragma once
/* The PCI functions that are GPUs, as sysfs lists them: the inventory that needs no driver and that no hung card can
 * hide (losses L31, L57). Addresses are parsed to numbers and written back in one form at this edge (L49), so that
 * comparing and ordering never depends on how many digits somebody writes. Reading sysfs files here may block on a
 * broken machine: only the worker process calls this. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "model/gpu.h"

struct pci_address {
    uint32_t domain;
    uint8_t bus, device, function;
};

enum { GPU_DRIVER_MAX_BYTES = 63 };

struct gpu_pci_card {
    struct pci_address at;
    char address[GPU_PCI_BYTES];           /* `at` in its one form, "0000:41:00.0" */
    char driver[GPU_DRIVER_MAX_BYTES + 1]; /* kernel driver bound to it; empty: none */
    int numa_node;                         /* -1: sysfs does not say */
    int iommu_group;                       /* -1: none */
    unsigned vendor, device;               /* PCI ids */
    bool is_boot_vga;                      /* the firmware's console is on it */
};

enum {
    PCI_VENDOR_NVIDIA = 0x10de,
    PCI_VENDOR_AMD = 0x1002,
    PCI_VENDOR_INTEL = 0x8086,
};

/* "41:00.0" is refused: a domain must be there, with up to 8 hex digits. */
bool pci_address_from_str(const char *text, struct pci_address *ret_address);
const char *pci_address_to_str(const struct pci_address *address, char buf[static GPU_PCI_BYTES]);
int pci_address_compare(const struct pci_address *a, const struct pci_address *b);

/* The functions of vendors that are known here, and of classes under which these vendors' GPUs appear, below
 * <root>/sys/bus/pci/devices, in PCI order: also those on vfio-pci or without a driver. New array of struct gpu_pci_card
 * (empty when there is none), or NULL with KR_ERROR_IO when there is no such folder. */
GArray *gpu_pci_scan(const char *root, GError **error);

/* The same, looked at again and again: a look lists the folder and reads the drivers of the cards, and everything else only
 * of functions that are new, or with `fresh`, or every few seconds (hundreds of functions are no GPUs, L77). */
struct gpu_inventory;
struct gpu_inventory *gpu_inventory_new(const char *root);
void gpu_inventory_free(struct gpu_inventory *inventory);
/* Borrowed until the next look; NULL with KR_ERROR_IO. */
const GArray *gpu_inventory_look(struct gpu_inventory *inventory, bool fresh, GError **error);
const GArray *gpu_inventory_cards(const struct gpu_inventory *inventory); /* as the last look found them; borrowed */

/* Why the function is not on the bus although sysfs lists it, by what its configuration space reads; NULL: it answers, or
 * there is nothing to read. Static. May hang on a broken machine. */
const char *gpu_pci_absence(const char *root, const char *address);
/* It does answer: its configuration space can be read, and is a device's. May hang as well. */
bool gpu_pci_answers(const char *root, const char *address);
/* Who a card is by its place, for one that has no identity of its own that can be read: "PCI-10de-2684-1a2b3c4d-0000:01:00.0". The third
 * number is the machine's (machine-id(5) below root, else its host name): no two machines of a cluster have the same. */
void gpu_pci_place_name(const char *root, const struct gpu_pci_card *card,
                        char ret_uuid[static GPU_UUID_MAX_BYTES + 1]);
/* The nodes of its DRM device, whichever driver made it: the first `max`. -> how many. */
size_t gpu_pci_drm_nodes(const char *root, const char *address, dev_t *ret_nodes, size_t max);
