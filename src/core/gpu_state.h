#pragma once
/* What a card is to the cluster: one state, the reason for it, and the way out. It is derived (R6) from who holds the card
 * (ledger, task), what its node says of it, and what an operator has ordered; nothing sets it.
 *
 *   held by a lease of ours:  LEASED -> STARTING -> IN_USE -> DRAINING -> (proof) FREE
 *                                                              `-> ORPHANED: something of the task is left
 *   held by nobody:           FREE | BARE | FOREIGN | SWITCHING | VFIO | QUARANTINED | UNKNOWN | REMOVED
 *
 * Only FREE can be granted, and BARE to machines, and these two are the states that must be proved: the node has shown the card at rest since the
 * last lease on it ended (proof.h). No word, a bare word, an old proof: UNKNOWN (R2, R3). */

#include <glib.h>
#include <stdbool.h>

#include "core/cluster.h"
#include "core/gpu_health.h"
#include "core/ledger.h"
#include "model/operator.h"
#include "model/task.h"

enum gpu_state {
    GPU_STATE_UNSET = 0,
    GPU_STATE_FREE,
    GPU_STATE_LEASED,   /* granted; its node has not taken the lease yet */
    GPU_STATE_STARTING, /* image and container are being prepared */
    GPU_STATE_IN_USE,
    GPU_STATE_DRAINING, /* the task has ended, the proof is being gathered */
    GPU_STATE_FOREIGN,  /* somebody's process, outside our leases */
    GPU_STATE_ORPHANED, /* held by what has no task any more: memory, a process, a lease that the host has no record of */
    GPU_STATE_SWITCHING,   /* between drivers */
    GPU_STATE_VFIO,        /* on vfio-pci */
    GPU_STATE_QUARANTINED, /* a fault, or an operator's order */
    GPU_STATE_UNKNOWN,     /* not proved to be anything */
    GPU_STATE_BARE,    /* free for a machine: no driver of its vendor has it, so a container could do nothing with it */
    GPU_STATE_REMOVED, /* not in its node any more */
    GPU_STATE_COUNT_
};
const char *gpu_state_to_str(enum gpu_state state); /* static; "unset" for 0 */
/* What ends the state, by itself or by a command. Static, never NULL. */
const char *gpu_state_way_out(enum gpu_state state);

/* All that the state depends on. Borrowed. */
struct gpu_view {
    const struct gpu *gpu;             /* as its node described it last */
    const char *why_no_word;           /* NULL, or why the node's word does not count now: silent, no inventory */
    const struct ledger_entry *holder; /* NULL: nobody */
    const struct task *task;           /* the holder's, when the host knows it */
    const struct mark *gpu_mark, *node_mark;
    const struct proof *proof; /* that holds since the last lease; may be empty */
    enum gpu_health health;    /* 0 counts as OK */
    const char *health_reason; /* NULL: nothing speaks against it */
};

/* *ret_reason (may be NULL): one line for people, owned by the caller, NULL for FREE. */
enum gpu_state gpu_state_judge(const struct gpu_view *view, char **ret_reason);
