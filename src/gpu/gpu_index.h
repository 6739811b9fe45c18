#pragma once
/* The node-local numbers of the cards and what is remembered of each, in one small durable file. A card gets the lowest
 * number that no card of this node ever had, in PCI order at first sight, and keeps it: while it is on vfio-pci, while
 * NVML cannot see it, after a reboot, after it is gone from the bus (R4, L46-L49). The key is the UUID once it is
 * known, the PCI address before that. To forget a card that was taken out for good, delete its entry (or the file)
 * while the runner is stopped.
 * Pure but for load and save, which block on a small file. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/gpu.h"

struct gpu_index;

struct gpu_index_entry {
    int index;
    char uuid[GPU_UUID_MAX_BYTES + 1]; /* empty while never learned */
    char pci[GPU_PCI_BYTES];           /* where it was last; empty when another card sits there now */
    char name[GPU_NAME_MAX_BYTES + 1];
    struct gpu_xid xids[GPU_MAX_XIDS]; /* of this boot, the newest first, one of each code */
    size_t n_xids;
    int64_t idle_since_ms; /* wall clock; 0: it is busy, or nobody knows */
    int64_t idle_seen_ms;  /* monotonic: when it was last seen so; 0: by an earlier runner; not in the file */
    bool is_pinned;        /* a lease names it: its UUID stays what it is; not in the file */
    bool is_idle_saved;    /* the file tells of idle_since_ms; not in the file */
    int64_t idle_bytes;    /* least memory in use seen while nobody used it; -1: never seen so */
    bool is_present;       /* on the bus at the last gpu_index_assign; not in the file */
};

/* A file that does not exist is an empty index. NULL with KR_ERROR_IO when it cannot be read or is not ours. */
struct gpu_index *gpu_index_load(const char *path, GError **error);
void gpu_index_free(struct gpu_index *index);
/* Nothing happens when nothing changed since the last save; the first save always writes. */
bool gpu_index_save(struct gpu_index *index, GError **error);

/* Gives each gpu (in PCI order; uuid may be empty) its number and fills in a uuid or name that is only remembered. A card
 * that claims the UUID of another one in the list gets a number of its own, no UUID, and the condition unknown. After 1024 different cards a new one gets -1. */
void gpu_index_assign(struct gpu_index *index, GPtrArray *gpus);

/* Entries by number, of struct gpu_index_entry. Borrowed. */
const GPtrArray *gpu_index_entries(const struct gpu_index *index);
const struct gpu_index_entry *gpu_index_by_uuid(const struct gpu_index *index,
                                                const char *uuid); /* borrowed, or NULL */

/* The card was seen unused with that much memory taken. */
void gpu_index_learn_idle(struct gpu_index *index, const char *uuid, int64_t used_bytes);
/* Baselines belong to a driver version: with another one they are forgotten. */
void gpu_index_set_driver(struct gpu_index *index, const char *driver);

/* What the XIDs of a boot tell is forgotten with another one: a reboot is the cure. "" is not
 * known, and forgets nothing. */
void gpu_index_set_boot(struct gpu_index *index, const char *boot_id);
/* Until when the kernel's log of this boot was read for XIDs, monotonic microseconds. */
int64_t gpu_index_xids_at_us(const struct gpu_index *index);
void gpu_index_set_xids_at_us(struct gpu_index *index, int64_t at_us);

/* The entry of a card that was assigned or asked about by its UUID or address; borrowed, or NULL. */
const struct gpu_index_entry *gpu_index_of(const struct gpu_index *index, const struct gpu *gpu);
/* Adds the gpu's XIDs, which are new, to those that are remembered, and gives the gpu all of them. */
void gpu_index_note_xids(struct gpu_index *index, struct gpu *gpu);

/* While a lease names the card its identity must not change under it, also when a provisional one could be made good now. */
void gpu_index_pin(struct gpu_index *index, const char *uuid, bool is_pinned);
