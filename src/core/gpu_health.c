#include "core/gpu_health.h"

#include <string.h>

#include "base/clock.h"
#include "model/xid.h"

enum { MINUTE_MS = 60 * 1000, SUSPECT_MS = 10 * MINUTE_MS, FAILURES_MS = 30 * MINUTE_MS };

static const char *const names[GPU_HEALTH_COUNT_] = {
    [GPU_HEALTH_UNSET] = "unset",           [GPU_HEALTH_OK] = "ok",     [GPU_HEALTH_SUSPECT] = "suspect",
    [GPU_HEALTH_QUARANTINE] = "quarantine", [GPU_HEALTH_DEAD] = "dead",
};

const char *gpu_health_to_str(enum gpu_health health) { return names[health < GPU_HEALTH_COUNT_ ? health : 0]; }

void gpu_failures_note(struct gpu_failures *failures, const char *owner, int64_t now_ms) {
    failures->owner_hashes[failures->n % GPU_FAILURES_KEPT] = g_str_hash(owner ? owner : "");
    failures->n++;
    failures->last_ms = now_ms;
}

/* ---- collecting ---- */

struct verdict {
    enum gpu_health health;
    GString *text;
};

static void against(struct verdict *v, enum gpu_health health, const char *format, ...) G_GNUC_PRINTF(3, 4);
static void against(struct verdict *v, enum gpu_health health, const char *format, ...) {
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    if (health > v->health) { /* the worst first */
        if (v->text->len)
            g_string_prepend(v->text, "; ");
        g_string_prepend(v->text, text);
        v->health = health;
    } else {
        g_string_append_printf(v->text, "; %s", text);
    }
}

/* ---- XIDs ---- */

static enum gpu_health health_of(enum xid_class class) {
    static const enum gpu_health meant[XID_CLASS_COUNT_] = {
        [XID_UNSET] = GPU_HEALTH_SUSPECT,         [XID_APPLICATION] = GPU_HEALTH_OK, [XID_SUSPECT] = GPU_HEALTH_SUSPECT,
        [XID_QUARANTINE] = GPU_HEALTH_QUARANTINE, [XID_DEAD] = GPU_HEALTH_DEAD,
    };
    return meant[class < XID_CLASS_COUNT_ ? class : XID_UNSET];
}

/* Counts begin anew at a boot, so a pardon is for one boot. */
static bool is_valid_here(const struct gpu_health_view *view) {
    return view->pardon && strcmp(view->pardon->boot_id, view->boot_id ? view->boot_id : "") == 0;
}

static bool is_pardoned(const struct gpu_health_view *view, const struct gpu_xid *xid) {
    for (size_t i = 0; is_valid_here(view) && i < view->pardon->n_xids; i++)
        if (view->pardon->xids[i].code == xid->code)
            return xid->count <= view->pardon->xids[i].count;
    return false;
}

static void judge_xid(const struct gpu_health_view *view, struct verdict *v, const struct gpu_xid *xid) {
    const struct xid_meaning *meaning = xid_meaning(xid->code);
    enum gpu_health health = health_of(meaning->class);
    char at[CLOCK_TEXT_BYTES];

    if (health == GPU_HEALTH_OK || is_pardoned(view, xid))
        return;
    if (health == GPU_HEALTH_SUSPECT && view->now_ms >= xid->last_ms + SUSPECT_MS)
        return;
    against(v, health, "XID %d at %s: %s%s", xid->code, clock_utc_to_str(xid->last_ms, at), meaning->text,
            health == GPU_HEALTH_SUSPECT ? " (it is tried again when 10 min were quiet)" : "");
}

/* ---- figures ---- */

static const char *recovery_text(int64_t action) {
    switch (action) {
    case GPU_RECOVERY_RESET: return "the driver asks for a reset of the card (nvidia-smi --gpu-reset)";
    case GPU_RECOVERY_REBOOT: return "the driver asks for a reboot of the node";
    case GPU_RECOVERY_DRAIN_P2P: return "the driver asks that nothing uses it with other cards any more";
    case GPU_RECOVERY_DRAIN_AND_RESET: return "the driver asks that the card is emptied and reset";
    default: return "the driver asks for a recovery action that is not known here";
    }
}

static void judge_memory(const struct gpu_health_view *view, struct verdict *v) {
    int64_t errors = gpu_figure(view->gpu, GPU_ECC_UNCORRECTED);

    if (gpu_figure(view->gpu, GPU_REMAP_FAILED) > 0)
        against(v, GPU_HEALTH_QUARANTINE,
                "a bad memory row could not be replaced by a spare one: the card is worn out");
    if (gpu_figure(view->gpu, GPU_REMAP_PENDING) > 0)
        against(v, GPU_HEALTH_QUARANTINE,
                "a bad memory row waits to be replaced: reset the card (nvidia-smi --gpu-reset) or reboot");
    if (errors > (is_valid_here(view) ? view->pardon->ecc_uncorrected : 0))
        against(v, GPU_HEALTH_QUARANTINE,
                "%" G_GINT64_FORMAT " uncorrectable memory error%s since the driver was loaded", errors,
                errors == 1 ? "" : "s");
}

static void judge_figures(const struct gpu_health_view *view, struct verdict *v) {
    int64_t throttle = gpu_figure(view->gpu, GPU_THROTTLE), recovery = gpu_figure(view->gpu, GPU_RECOVERY);

    judge_memory(view, v);
    if (recovery != GPU_RECOVERY_NONE)
        against(v, GPU_HEALTH_QUARANTINE, "%s", recovery_text(recovery));
    if (throttle & GPU_THROTTLE_HW_THERMAL)
        against(v, GPU_HEALTH_SUSPECT, "too hot: the hardware slows it down");
    if (throttle & GPU_THROTTLE_POWER_BRAKE)
        against(v, GPU_HEALTH_SUSPECT, "the power supply slows it down (power brake)");
}

/* ---- how tasks end on it: a card that spoils one job after the other shows in no counter (L59) ---- */

static void judge_failures(const struct gpu_health_view *view, struct verdict *v) {
    const struct gpu_failures *f = view->failures;
    bool is_of_many = false;

    if (!f || f->n < GPU_FAILURES_KEPT || view->now_ms >= f->last_ms + FAILURES_MS)
        return;
    for (int i = 1; i < GPU_FAILURES_KEPT; i++)
        is_of_many |= f->owner_hashes[i] != f->owner_hashes[0];
    if (is_of_many)
        against(v, GPU_HEALTH_SUSPECT,
                "the last %d tasks on it failed, and not all of one owner (it is tried again when 30 min were quiet)",
                f->n);
}

enum gpu_health gpu_health_judge(const struct gpu_health_view *view, char **ret_reason) {
    struct verdict v = {GPU_HEALTH_OK, g_string_new(NULL)};

    for (size_t i = 0; i < view->gpu->n_xids; i++)
        judge_xid(view, &v, &view->gpu->xids[i]);
    judge_figures(view, &v);
    judge_failures(view, &v);
    if (ret_reason)
        *ret_reason = v.health == GPU_HEALTH_OK ? NULL : g_strdup(v.text->str);
    g_string_free(v.text, TRUE);
    return v.health;
}
