/* NVLink: which links of a card are up, and who is at their other end. */

#include "gpu/nvml_internal.h"

static bool remote_address(const struct nvml_pci *pci, char buf[static GPU_PCI_BYTES]) {
    struct pci_address at = {pci->domain, (uint8_t)pci->bus, (uint8_t)pci->device, 0};

    if (pci->bus > 0xff || pci->device > 0x1f)
        return false;
    pci_address_to_str(&at, buf);
    return true;
}

/* False when there are no more links to ask about. */
static bool read_link(struct gpu_backend *self, const struct nvml_card *card, unsigned link, struct gpu_site *site) {
    struct nvml_library *nvml = &self->library;
    unsigned is_up = 0;
    struct nvml_pci pci = {0};
    char remote[GPU_PCI_BYTES];
    int type = NVML_REMOTE_GPU;
    int rc = NVML_CALL(nvml, link_state, card->device, link, &is_up);

    if (rc != NVML_OK)
        return false;
    if (is_up != NVML_FEATURE_ENABLED)
        return true;
    (void)NVML_CALL(nvml, link_remote_type, card->device, link, &type); /* old libraries: no switches yet */
    if (type == NVML_REMOTE_SWITCH)
        gpu_site_add_link(site, NULL);
    else if (NVML_CALL(nvml, link_remote_pci, card->device, link, &pci) == NVML_OK && remote_address(&pci, remote))
        gpu_site_add_link(site, remote);
    return true;
}

void nvml_links(struct gpu_backend *self, const struct gpu_pci_card *pci, struct gpu_site *site) {
    const struct nvml_card *card = g_hash_table_lookup(self->cards, pci->address);

    for (unsigned link = 0; card && link < NVML_MAX_LINKS && read_link(self, card, link, site); link++)
        ;
}
