#pragma once
/* XIDs from the kernel's log, for cards of which NVML tells none: before it was asked to, when it cannot, when the card is
 * lost. Needs the right to read /dev/kmsg; without it there is silence, which is no error. */

#include <stdbool.h>
#include <stdint.h>

#include "gpu/gpu_pci.h"

struct gpu_kmsg_xid {
    struct pci_address at; /* without its function, which the driver does not say */
    int code;
    int64_t at_us; /* monotonic */
};

/* "4,1234,5678901,-;NVRM: Xid (PCI:0000:41:00): 79, pid=…": one record of the log. False when it tells of no XID. */
bool gpu_kmsg_parse(const char *record, struct gpu_kmsg_xid *ret_xid);

struct gpu_kmsg;
/* Below `root`; never fails. Nothing is opened before the first read. */
struct gpu_kmsg *gpu_kmsg_new(const char *root);
void gpu_kmsg_free(struct gpu_kmsg *kmsg); /* NULL is fine */
/* Calls on_xid for each XID that was logged since the last call, at the first call since boot. Does not block, and reads a
 * bounded part of the log: what is left comes next time. */
void gpu_kmsg_read(struct gpu_kmsg *kmsg, void (*on_xid)(void *data, const struct gpu_kmsg_xid *xid), void *data);
