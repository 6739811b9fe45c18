#pragma once
/* The PCI functions that are GPUs, as sysfs lists them: the inventory that needs no driver and that no hung card can
 * hide (losses L31, L57). Addresses are parsed to numbers and written back in one form at this edge (L49), so that
 * comparing and ordering never depends on how many digits somebody writes. Reading sysfs files here may block on a
 * broken machine: only the worker process calls this. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

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
};

/* "41:00.0" is refused: a domain must be there, with up to 8 hex digits. */
bool pci_address_from_str(const char *text, struct pci_address *ret_address);
const char *pci_address_to_str(const struct pci_address *address, char buf[static GPU_PCI_BYTES]);
int pci_address_compare(const struct pci_address *a, const struct pci_address *b);

/* The display and 3D controllers of a vendor under <root>/sys/bus/pci/devices, in PCI order. New array of
 * struct gpu_pci_card (empty when there is none), or NULL with KR_ERROR_IO when there is no such folder. */
GArray *gpu_pci_scan(const char *root, unsigned vendor, GError **error);
