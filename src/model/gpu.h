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
    GPU_MAX_DEVICE_NODES = 4,
    GPU_DEVICE_NODE_MAX_BYTES = 63,
};

/* What the node knows about the card, apart from who holds its lease. Only GPU_CONDITION_OK can be granted, and BARE to machines. */
enum gpu_condition {
    GPU_CONDITION_UNSET = 0,
    GPU_CONDITION_OK,
    GPU_CONDITION_FOREIGN,   /* a process outside our leases uses it, `reason` names it */
    GPU_CONDITION_UNKNOWN,   /* the driver or NVML does not answer for it: unknown is not free (R3) */
    GPU_CONDITION_FAULT,     /* the card reported a fault or is gone from the bus */
    GPU_CONDITION_VFIO,      /* bound to vfio-pci */
    GPU_CONDITION_SWITCHING, /* on its way to or from vfio-pci */
    GPU_CONDITION_BARE,      /* answers on the bus, and no driver of its vendor has it: of use to machines only */
    GPU_CONDITION_REMOVED,   /* remembered, and not on the bus any more */
    GPU_CONDITION_COUNT_
};
const char *gpu_condition_to_str(enum gpu_condition condition); /* static; "unset" for 0 */
enum gpu_condition gpu_condition_from_str(const char *text);    /* 0 when unknown */

/* The figures of a card: names, ranges and meaning in the table of gpu.c, in this order. */
enum gpu_figure {
    GPU_MEM_TOTAL,
    GPU_MEM_USED,
    GPU_UTIL, /* of the time in which something was running on it */
    GPU_TEMP,
    GPU_POWER,
    GPU_POWER_LIMIT, /* that is enforced now */
    GPU_MINOR,       /* N of /dev/nvidiaN */
    GPU_NUMA,
    GPU_MEM_UTIL, /* of the time in which its memory was read or written */
    GPU_MEM_TEMP,
    GPU_FAN,
    GPU_CLOCK_SM,
    GPU_CLOCK_MEM,
    GPU_THROTTLE,        /* enum gpu_throttle bits */
    GPU_ECC_CORRECTED,   /* since the driver was loaded */
    GPU_ECC_UNCORRECTED, /* the same */
    GPU_ECC_UNCORRECTED_EVER,
    GPU_ROWS_CORRECTED,   /* memory rows remapped for corrected errors… */
    GPU_ROWS_UNCORRECTED, /* …and for uncorrected ones */
    GPU_REMAP_PENDING,    /* 1: a row waits for a reset to be remapped */
    GPU_REMAP_FAILED,     /* 1: a row could not be remapped */
    GPU_RECOVERY,         /* enum gpu_recovery: what the driver asks for */
    GPU_PCIE_GENERATION,
    GPU_PCIE_WIDTH,
    GPU_PCIE_REPLAYS,
    GPU_PERSISTENCE, /* 1: the driver keeps the card initialised */
    GPU_IOMMU_GROUP, /* only as a whole can a group go to a machine */
    GPU_IDLE_SINCE,  /* wall clock; the utilisation has been next to nothing since then; absent while it is busy */
    GPU_FIGURE_COUNT_
};
enum gpu_throttle { /* why the clocks are lower than they could be; the harmless reasons are not told */
                    GPU_THROTTLE_POWER_CAP = 1 << 0,
                    GPU_THROTTLE_HW_SLOWDOWN = 1 << 1,
                    GPU_THROTTLE_SW_THERMAL = 1 << 2,
                    GPU_THROTTLE_HW_THERMAL = 1 << 3,
                    GPU_THROTTLE_POWER_BRAKE = 1 << 4,
};
enum gpu_recovery { /* as NVML's nvmlDeviceGpuRecoveryAction_t counts them */
                    GPU_RECOVERY_NONE = 0,
                    GPU_RECOVERY_RESET = 1,
                    GPU_RECOVERY_REBOOT = 2,
                    GPU_RECOVERY_DRAIN_P2P = 3,
                    GPU_RECOVERY_DRAIN_AND_RESET = 4,
};
const char *gpu_figure_name(enum gpu_figure figure); /* the JSON member, "power_mw"; static */

/* An XID: the driver's word that something went wrong on a card. What each number means stands in model/xid.h. */
struct gpu_xid {
    int code;
    int64_t count;   /* since the node was booted */
    int64_t last_ms; /* wall clock */
};
enum { GPU_MAX_XIDS = 16 };

/* How names begin that say where a card is and not who it is (gpu/gpu_pci.h). */
#define GPU_PLACE_PREFIX "PCI-"

struct gpu {
    int index;
    char uuid[GPU_UUID_MAX_BYTES + 1]; /* empty while never learned */
    char pci[GPU_PCI_BYTES];
    char name[GPU_NAME_MAX_BYTES + 1];
    enum gpu_condition condition;
    char *reason;       /* owned; why the condition is not OK, else NULL */
    struct proof proof; /* of being at rest, by the last looks; empty while a lease of ours holds the card */
    uint64_t valid;     /* bit of each figure that is known */
    int64_t figures[GPU_FIGURE_COUNT_];
    struct gpu_xid xids[GPU_MAX_XIDS]; /* the newest first, one of each code */
    size_t n_xids;
    /* What a container is given to use the card, "/dev/dri/renderD128"; none for NVIDIA's, whose hook knows by itself. */
    char device_nodes[GPU_MAX_DEVICE_NODES][GPU_DEVICE_NODE_MAX_BYTES + 1];
    size_t n_device_nodes;
};

static inline bool gpu_has(const struct gpu *gpu, enum gpu_figure figure) { return gpu->valid >> figure & 1; }
static inline int64_t gpu_figure(const struct gpu *gpu, enum gpu_figure figure) {
    return gpu->figures[figure];
} /* 0 when absent */
static inline void gpu_set(struct gpu *gpu, enum gpu_figure figure, int64_t value) {
    gpu->figures[figure] = value;
    gpu->valid |= UINT64_C(1) << figure;
}
static inline void gpu_unset(struct gpu *gpu, enum gpu_figure figure) {
    gpu->figures[figure] = 0;
    gpu->valid &= ~(UINT64_C(1) << figure);
}
struct json_reader;
json_t *gpu_xids_to_json(const struct gpu_xid *xids, size_t n); /* new reference */
/* Member "xids" of an object, none when it is absent; what is wrong is the reader's failure. */
size_t gpu_xids_from_json(struct json_reader *r, struct gpu_xid ret_xids[static GPU_MAX_XIDS]);
/* One more XID of this card. */
void gpu_note_xid(struct gpu *gpu, int code, int64_t count, int64_t at_ms);

/* One more node; false when it is too long or there is no room. */
bool gpu_add_device_node(struct gpu *gpu, const char *path);

struct gpu *gpu_new(void);
void gpu_free(struct gpu *gpu);
struct gpu *gpu_copy(const struct gpu *gpu);

/* JSON as in heartbeats and in GET /nodes: absent figures are absent members. New reference. */
json_t *gpu_to_json(const struct gpu *gpu);
/* One member of that JSON: a figure in its range, or null. false, and nothing done: it is no figure, or a wrong one. */
bool gpu_take_figure(struct gpu *gpu, const char *name, const json_t *value);
/* New gpu or NULL with KR_ERROR_BAD_REQUEST. */
struct gpu *gpu_from_json(const json_t *json, GError **error);
