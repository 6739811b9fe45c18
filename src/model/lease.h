#pragma once
/* A lease says that a task holds GPUs (exclusively), cores and memory of one node. It is durable in the host's store
 * before it is sent and durable in a file on the node before anything starts: the two keys of rule R1. `epoch` grows
 * with every grant of the cluster and is never reused; a node refuses a lease of a lower epoch than it has seen, and one of
 * another boot: nothing that a lease stands for outlives a reboot (L12). */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/gpu.h"
#include "model/target.h"

enum { BOOT_ID_MAX_BYTES = 64 }; /* /proc/sys/kernel/random/boot_id has 36 */

struct lease_gpu {
    int index; /* as it was when granted, for people */
    char uuid[GPU_UUID_MAX_BYTES + 1];
};

struct lease {
    uint32_t task_id;
    int64_t epoch;
    char node[NODE_NAME_MAX_BYTES + 1];
    char boot_id[BOOT_ID_MAX_BYTES + 1]; /* of the node when it was granted; "": not known, fits any */
    struct lease_gpu gpus[TARGET_MAX_GPUS];
    size_t n_gpus;
    int cores;          /* 0: none reserved, no limit */
    int64_t mem_bytes;  /* 0: none reserved, no limit */
    int numa;           /* TARGET_NO_NUMA or the NUMA node to bind to */
    int64_t granted_ms; /* wall clock */
};

struct lease *lease_copy(const struct lease *lease); /* g_free */
bool lease_has_gpu(const struct lease *lease, const char *uuid);
json_t *lease_to_json(const struct lease *lease);
bool lease_from_json(const json_t *json, struct lease *ret_lease, GError **error);
