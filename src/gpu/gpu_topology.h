#pragma once
/* How the cards of a node are joined: NVLink as the driver tells it, else the nearest common ancestor in the PCI tree as
 * sysfs shows it, so that a card that is on vfio-pci or lost keeps its place. Named as `nvidia-smi topo -m` names it:
 * NV4 (four NVLinks, also through switches), PIX (one PCIe switch or bridge in between), PXB (several, below one host
 * bridge), PHB (through the host bridge), NODE (several host bridges, one NUMA node), SYS (through the link between NUMA
 * nodes). Pure but for gpu_site_read. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "gpu/gpu_pci.h"
#include "model/gpu.h"

enum { GPU_SITE_MAX_PATH = 32, GPU_SITE_MAX_PEERS = 64, GPU_CPULIST_MAX_BYTES = 1023 };

/* Active NVLinks to one other end. */
struct gpu_nvlinks {
    char remote[GPU_PCI_BYTES]; /* empty: NVSwitches, any number of them */
    int count;
};

/* Where a card sits. */
struct gpu_site {
    char uuid[GPU_UUID_MAX_BYTES + 1]; /* set by who knows it */
    int index;                         /* the same; -1: none */
    char pci[GPU_PCI_BYTES];
    int numa_node;   /* -1: sysfs does not say */
    char *cpus;      /* owned; the kernel's list of CPUs near it, "0-31,64-95"; NULL: not known */
    char **path;     /* owned; from the host bridge "pci0000:00" down to the card itself; empty: not known */
    GArray *nvlinks; /* of struct gpu_nvlinks; NULL: nobody could be asked */
};

struct gpu_site *gpu_site_new(const char *pci);
void gpu_site_free(struct gpu_site *site);
/* What sysfs tells below `root`; may block. New, never NULL. */
struct gpu_site *gpu_site_read(const char *root, const struct gpu_pci_card *card);
/* One more active link; `remote` NULL: to a switch. */
void gpu_site_add_link(struct gpu_site *site, const char *remote);

json_t *gpu_site_to_json(const struct gpu_site *site);
/* New, or NULL with KR_ERROR_BAD_REQUEST. */
struct gpu_site *gpu_site_from_json(const json_t *json, GError **error);

enum { GPU_LINK_KIND_BYTES = 16 };
const char *gpu_link_kind(const struct gpu_site *a, const struct gpu_site *b, char buf[static GPU_LINK_KIND_BYTES]);

/* {"gpus":[{"uuid","index","numa_node"?,"cpus"?}], "links":[{"a":uuid,"b":uuid,"kind"}]} with each pair of cards once,
 * a before b in the list. Sites without a UUID are left out. New reference. */
json_t *gpu_topology_to_json(const GPtrArray *sites);
