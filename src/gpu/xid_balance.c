#include "gpu/xid_balance.h"

/* The place of a code; the last one is shared when there are more codes than places. */
static size_t place_of(struct xid_balance *balance, int code) {
    size_t i = 0;

    while (i < balance->n && balance->of[i].code != code)
        i++;
    if (i < balance->n)
        return i;
    i = MIN(balance->n, (size_t)GPU_MAX_XIDS - 1);
    balance->n = i + 1;
    balance->of[i].code = code;
    balance->of[i].count = 0;
    return i;
}

void xid_balance_logged(struct xid_balance *balance, int code, int64_t logged_ms, int64_t now_ms) {
    size_t i = place_of(balance, code);

    balance->of[i].count++;
    balance->of[i].logged_ms = logged_ms;
    balance->of[i].changed_ms = now_ms;
}

void xid_balance_told(struct xid_balance *balance, const struct gpu *gpu, int64_t now_ms) {
    for (size_t k = 0; k < gpu->n_xids; k++) {
        size_t i = place_of(balance, gpu->xids[k].code);

        balance->of[i].count -= gpu->xids[k].count;
        balance->of[i].changed_ms = now_ms;
    }
}

void xid_balance_settle(struct xid_balance *balance, bool listens, int64_t now_ms, struct gpu *gpu) {
    for (size_t i = balance->n; i-- > 0;) {
        if (balance->of[i].count != 0 && listens && now_ms - balance->of[i].changed_ms < XID_BALANCE_MS)
            continue;
        if (balance->of[i].count > 0)
            gpu_note_xid(gpu, balance->of[i].code, balance->of[i].count, balance->of[i].logged_ms);
        balance->of[i] = balance->of[--balance->n];
    }
}

bool xid_balance_is_open(const struct xid_balance *balance) {
    for (size_t i = 0; i < balance->n; i++)
        if (balance->of[i].count > 0)
            return true;
    return false;
}
