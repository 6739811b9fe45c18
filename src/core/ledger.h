#pragma once
/* Who holds what: the first of the three guards of rule R1. A ledger is the set of live leases and nothing else; what
 * is used or free is derived from it (R6). It knows no clock and does no I/O.
 *
 * Invariants (ledger_check):
 *   1. A GPU (by UUID) is in at most one lease.
 *   2. (node, task id, epoch) names at most one lease. The node is part of it: a host whose records were lost gives names
 *      anew, and what an older node still holds under the same one is another lease.
 *   3. No lease has an epoch above the ledger's counter.
 */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/lease.h"

struct ledger;

enum { LEDGER_LABEL_BYTES = 64 };

struct ledger_entry {
    struct lease lease;
    char *label;    /* for refusals: the task's name or command, cut; owned by the entry */
    bool is_orphan; /* reported by a node, unknown to the host: held, and shown as what it is */
};

struct ledger *ledger_new(void);
void ledger_free(struct ledger *ledger);
/* Called after each grant and each release, with the lease's node. It may not change the ledger. */
void ledger_watch(struct ledger *ledger, void (*on_change)(void *user, const char *node), void *user);

/* Epochs grow with every grant and are never reused. */
int64_t ledger_next_epoch(struct ledger *ledger);
int64_t ledger_last_epoch(const struct ledger *ledger);
/* Somebody knows a higher one (the store, a node): go on above it. */
void ledger_raise_epoch(struct ledger *ledger, int64_t epoch);

/* Adds a lease, all of it or nothing. false when one of its GPUs, or its name, is held already. Copies. */
bool ledger_grant(struct ledger *ledger, const struct lease *lease, const char *label, bool is_orphan);
/* Takes a lease out. false when there is none of that name. */
bool ledger_release(struct ledger *ledger, const char *node, uint32_t task_id, int64_t epoch);

/* Borrowed, valid until the next grant or release; NULL when there is none. */
const struct ledger_entry *ledger_holder(const struct ledger *ledger, const char *gpu_uuid);
const struct ledger_entry *ledger_find(const struct ledger *ledger, const char *node, uint32_t task_id, int64_t epoch);
/* The node's leases, of struct ledger_entry; NULL when it has none. Borrowed, same lifetime. */
const GPtrArray *ledger_of_node(const struct ledger *ledger, const char *node);

/* Sums over the node's leases; numa TARGET_NO_NUMA: all of them, else only those bound to that NUMA node. */
int ledger_cores_reserved(const struct ledger *ledger, const char *node, int numa);
int64_t ledger_mem_reserved(const struct ledger *ledger, const char *node);

/* Aborts when an invariant is broken. */
void ledger_check(const struct ledger *ledger);
