#pragma once
/* What a node says about itself: sent whole in hello and in each heartbeat, shown by `node status`. Facts only; who
 * holds what is the ledger's business. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/gpu.h"
#include "model/guest.h"

enum {
    NODE_MAX_TASKS = 1000, /* with a lease at one time: a hello with all of them stays far below the wire's limits */
    NODE_MAX_NUMA = 64,
    NODE_MAX_CORES = 4096,
    NODE_VFIO_REASON_MAX_BYTES = 2000,
    NODE_TEXT_MAX_BYTES = 511
};

struct numa_node {
    int id;
    int cores;         /* CPUs of cpulist */
    char *cpulist;     /* owned; kernel list format, "0-7,16-23" */
    int64_t mem_bytes; /* 0: a memoryless node, tasks there get no cpuset.mems */
};

struct node_info {
    char *name;
    char *boot_id; /* /proc/sys/kernel/random/boot_id */
    char *version; /* of the runner */
    int cores;
    int64_t mem_total_bytes;
    int64_t mem_used_bytes;
    GPtrArray *numa;   /* of struct numa_node, owned, ordered by id; empty when the node has no NUMA information */
    GPtrArray *gpus;   /* of struct gpu, owned, ordered by index */
    GPtrArray *guests; /* of struct guest, owned, ordered by task: of the machines that run there */
    bool gpus_known;   /* false: no inventory could be taken, so nothing with a GPU may be granted (R3) */
    char *gpu_text;    /* driver and library version, or why there is no inventory */
    bool gpus_simulated;
    bool engine_ok;
    char *engine_text; /* "Docker 20.10.24, GPU injection: nvidia hook", or what is wrong with it */
    bool vm_ok;        /* machines can be run on it */
    json_t *
        vfio; /* the switches of cards to machines that are not over: a list, as vfio_hold.h has them; NULL: it does not say */
    char *vm_text;   /* "QEMU 7.2.22, tcg", or what is missing; NULL: a runner that does not say */
    bool disk_ok;    /* the runner can write its state */
    char *disk_text; /* when not: why */
};

struct node_info *node_info_new(const char *name);
void node_info_free(struct node_info *info);
struct numa_node *numa_node_new(int id, const char *cpulist, int64_t mem_bytes);
void numa_node_free(struct numa_node *node);

/* Number of CPUs in a kernel cpulist; -1 when malformed. */
int cpulist_count(const char *cpulist);

/* Borrowed, NULL when there is none. */
struct gpu *node_info_gpu_by_index(const struct node_info *info, int index);
struct gpu *node_info_gpu_by_uuid(const struct node_info *info, const char *uuid);
struct guest *node_info_guest(const struct node_info *info, uint32_t task_id);
struct numa_node *node_info_numa(const struct node_info *info, int id);

/* Takes a heartbeat's difference (model/delta.h) over where that is of figures alone. `told`: the node as it was described, with the
 * difference applied. false: something else has changed too, or is not as it should be; then the whole has to be read. What was
 * taken over by then is in the whole too. */
bool node_info_take_figures(struct node_info *info, const json_t *told, const json_t *delta);
json_t *node_info_to_json(const struct node_info *info);
json_t *node_info_head_to_json(const struct node_info *info); /* the same without cards and guests */
/* New node_info, or NULL with KR_ERROR_BAD_REQUEST. Refuses duplicate GPU indices, UUIDs or PCI addresses. */
struct node_info *node_info_from_json(const json_t *json, GError **error);
