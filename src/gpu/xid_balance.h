#pragma once
/* One XID, two who tell of it: the kernel's log, and NVML's events where somebody listens. In either order, a moment apart,
 * and each may keep silent: NVML does so when the card is lost before the event is fetched, and for XIDs that it finds
 * harmless; the log may not be readable. The balance lets the events speak first and the log have the last word: each XID
 * counts once. Pure. */

#include <stdbool.h>
#include <stdint.h>

#include "model/gpu.h"

enum { XID_BALANCE_MS = 5000 }; /* how far apart the two may tell of one XID */

struct xid_balance {
    struct {
        int code;
        int64_t count;      /* > 0: more in the log than by events; < 0: the other way round */
        int64_t logged_ms;  /* wall clock of the last line */
        int64_t changed_ms; /* monotonic */
    } of[GPU_MAX_XIDS];
    size_t n;
};

void xid_balance_logged(struct xid_balance *balance, int code, int64_t logged_ms, int64_t now_ms);
/* The events that `gpu` brings. */
void xid_balance_told(struct xid_balance *balance, const struct gpu *gpu, int64_t now_ms);
/* Notes in `gpu` what is only in the log: after XID_BALANCE_MS, or at once when nobody listens (any more). */
void xid_balance_settle(struct xid_balance *balance, bool listens, int64_t now_ms, struct gpu *gpu);
/* Is something in the log that is neither told nor given up waiting for? */
bool xid_balance_is_open(const struct xid_balance *balance);
