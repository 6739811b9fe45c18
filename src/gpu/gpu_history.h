#pragma once
/* What the cards of this node did: utilisation, memory, temperature and power of each card in three rings, 1 s for 10 minutes,
 * 1 minute for 24 hours, 15 minutes for 30 days. One small file per card (gpu_history_file.h), so that it survives restarts,
 * kill -9 and reboots; nothing of it is kept in memory but the slots that are being filled. Why it is kept on the node:
 * docs/decisions/0004-history-on-the-node.md.
 *
 * A slot holds the mean of its samples and the highest one. A sample stands for the time since the one before it, when that is
 * at most `hold_ms` ago. What was not seen is absent. Times are wall-clock times: where the clock jumped there is a gap.
 *
 * Calls block for small reads and writes. A disk that is full or broken is told of in the log, once, and costs the history
 * of that time; idle_since goes on without it. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/gpu.h"

struct gpu_history;

enum {
    GPU_HISTORY_IDLE_PERCENT = 2, /* a utilisation below this is next to nothing */
    GPU_HISTORY_IDLE_GAP_MS =
        2 * 60000 /* without a word, as while the runner is restarted, that does not end an idle time */
};

/* The files are made in `folder`, as cards come. Files of which everything is older than the longest ring are removed. */
struct gpu_history *gpu_history_new(const char *folder, int64_t hold_ms);
void gpu_history_free(struct gpu_history *history); /* NULL is fine */

/* What a look at the card has shown. A card that has not said who it is has no history. */
void gpu_history_note(struct gpu_history *history, const struct gpu *gpu, int64_t now_ms);

/* Since when (wall clock) the card has been next to idle, to the second, or as exactly as the rings tell after a restart. false: it was
 * busy at the last look, or nobody knows. */
bool gpu_history_idle_since(const struct gpu_history *history, const char *uuid, int64_t *ret_since_ms);

/* {from_ms, step_ms, utilization_percent:[…], memory_used_bytes:[…], temperature_celsius:[…], power_mw:[…]}, the oldest first, null where
 * nothing is known; coarser spans have the means there, and the highest samples in members with _max appended. New reference;
 * NULL with KR_ERROR_BAD_REQUEST (no such span), KR_ERROR_NOT_FOUND (no history of this card), KR_ERROR_IO or _STORAGE (why there is none). */
json_t *gpu_history_to_json(struct gpu_history *history, const char *uuid, const char *span, int64_t now_ms,
                            GError **error);
