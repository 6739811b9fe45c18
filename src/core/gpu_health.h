#pragma once
/* Whether a card can be trusted with work, judged from what its node reports (XIDs, memory errors, what the driver asks for,
 * slowdowns) and from how the tasks on it ended. Pure. A verdict does not touch whoever holds the card; it keeps a card
 * that is not in order from being granted anew, that one only (L57-L60).
 *
 *   OK -> SUSPECT      ends by itself after a quiet time, or with its cause
 *      -> QUARANTINE   ends with its cause (a reset, a reboot), or when an operator has seen to it: gpu uncordon
 *      -> DEAD         the same; the card is not reachable any more
 */

#include <glib.h>
#include <stdint.h>

#include "model/gpu.h"
#include "model/operator.h"

enum gpu_health {
    GPU_HEALTH_UNSET = 0,
    GPU_HEALTH_OK,
    GPU_HEALTH_SUSPECT,
    GPU_HEALTH_QUARANTINE,
    GPU_HEALTH_DEAD,
    GPU_HEALTH_COUNT_
};
const char *gpu_health_to_str(enum gpu_health health); /* static; "unset" for 0 */

/* Tasks that failed on the card one after the other, of whatever owners. A success ends the row. In memory only: a host that
 * starts anew begins to count anew. */
enum { GPU_FAILURES_KEPT = 3 };
struct gpu_failures {
    guint owner_hashes[GPU_FAILURES_KEPT]; /* of the last ones, as a ring */
    int n;                                 /* in a row, may be more than are kept */
    int64_t last_ms;                       /* wall clock */
};
void gpu_failures_note(struct gpu_failures *failures, const char *owner, int64_t now_ms);

struct gpu_health_view {
    const struct gpu *gpu;
    const char *boot_id;                 /* of its node; NULL: not known */
    const struct pardon *pardon;         /* NULL: none */
    const struct gpu_failures *failures; /* NULL: none */
    int64_t now_ms;                      /* wall clock */
};
/* *ret_reason (may be NULL): everything that speaks against it in one line, the worst first; NULL for OK. Caller frees. */
enum gpu_health gpu_health_judge(const struct gpu_health_view *view, char **ret_reason);
