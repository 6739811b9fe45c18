#pragma once
/* From what a user asked for to a lease that the ledger can grant, or the reason why not, in one line that names the
 * node, the GPU, who holds it since when and what would have fitted (R8). Changes nothing. */

#include <glib.h>
#include <stdbool.h>

#include "core/pool.h"
#include "model/task.h"

struct placement {
    const struct pool *pool;
    struct core_time now;
    bool is_machine;     /* it is for one: cards without a driver will do */
    int64_t batch_epoch; /* leases above it were granted for the same submission */
};

/* `target` NULL: placement chooses the online node with the most free cores. Fills ret_lease but for task_id, epoch
 * and granted_ms. `notes` (of char*, owned by it) gets remarks that do not stand in the way. Errors:
 * KR_ERROR_BAD_REQUEST for what can never fit (no such node, NUMA node, index), KR_ERROR_REFUSED for what does not now. */
bool placement_resolve(const struct placement *p, const struct target *target, const struct task_spec *spec,
                       struct lease *ret_lease, GPtrArray *notes, GError **error);
