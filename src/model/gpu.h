#pragma once
/* One GPU as its node describes it. Identity is the UUID; the PCI address where it sits; the index is a node-local
 * number for people, given once per card and kept by the runner (rule R4). Every figure carries its validity: a value
 * that could not be read is absent, never 0 or -1. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/proof.h"

enum {
    GPU_UUID_MAX_BYTES = 79, /* NVML_DEVICE_UUID_V2_BUFFER_SIZE is 96; real ones have 40 */
    GPU_PCI_BYTES = 17,      /* "0000:41:00.0", domain up to 8 digits, NUL included */
    GPU_NAME_MAX_BYTES = 95, /* NVML_DEVICE_NAME_V2_BUFFER_SIZE */
    GPU_REASON_MAX_BYTES = 511,
    NODE_MAX_GPUS = 64,
};

/* What the node knows about the card, apart from who holds its lease. Only GPU_CONDITION_OK can be granted. */
enum gpu_condition {
    GPU_CONDITION_UNSET = 0,
    GPU_CONDITION_OK,
    GPU_CONDITION_FOREIGN,   /* a process outside our leases uses it, `reason` names it */
    GPU_CONDITION_UNKNOWN,   /* the driver or NVML does not answer for it: unknown is not free (R3) */
    GPU_CONDITION_FAULT,     /* the card reported a fault or is gone from the bus */
    GPU_CONDITION_VFIO,      /* bound to vfio-pci */
    GPU_CONDITION_SWITCHING, /* on its way to or from vfio-pci */
    GPU_CONDITION_REMOVED,   /* remembered, and not on the bus any more */
    GPU_CONDITION_COUNT_
};
const char *gpu_condition_to_str(enum gpu_condition condition); /* static; "unset" for 0 */
enum gpu_condition gpu_condition_from_str(const char *text);    /* 0 when unknown */

enum gpu_figure { /* bits of gpu.valid */
                  GPU_HAS_MEM_TOTAL = 1 << 0,
                  GPU_HAS_MEM_USED = 1 << 1,
                  GPU_HAS_UTIL = 1 << 2,
                  GPU_HAS_TEMP = 1 << 3,
                  GPU_HAS_POWER = 1 << 4,
                  GPU_HAS_POWER_LIMIT = 1 << 5,
                  GPU_HAS_MINOR = 1 << 6,
                  GPU_HAS_NUMA = 1 << 7,
};

struct gpu {
    int index;
    char uuid[GPU_UUID_MAX_BYTES + 1]; /* empty while never learned */
    char pci[GPU_PCI_BYTES];
    char name[GPU_NAME_MAX_BYTES + 1];
    enum gpu_condition condition;
    char *reason;       /* owned; why the condition is not OK, else NULL */
    struct proof proof; /* of being at rest, by the last looks; empty while a lease of ours holds the card */
    unsigned valid;
    int numa_node;
    int minor; /* N of /dev/nvidiaN */
    int64_t mem_total_bytes;
    int64_t mem_used_bytes;
    int util_percent;
    int temp_celsius;
    int power_mw;
    int power_limit_mw;
};

struct gpu *gpu_new(void);
void gpu_free(struct gpu *gpu);
struct gpu *gpu_copy(const struct gpu *gpu);

/* JSON as in heartbeats and in GET /nodes: absent figures are absent members. New reference. */
json_t *gpu_to_json(const struct gpu *gpu);
/* New gpu or NULL with KR_ERROR_BAD_REQUEST. */
struct gpu *gpu_from_json(const json_t *json, GError **error);
