/* What the driver tells by itself. Each card has an event set of its own: an error of a wait is then that card's error, and
 * a wait that hangs is that card's hang (L57). */

#include "base/clock.h"
#include "gpu/nvml_internal.h"

enum { DRAIN_MAX = 256 }; /* events of one look; a storm goes on in the next one */

static const unsigned long long wanted = NVML_EVENT_XID | NVML_EVENT_CLOCK | NVML_EVENT_MIG_CHANGE |
                                         NVML_EVENT_RECOVERY_ACTION;

/* An old library registers all or nothing: only what it says that it supports is asked for. */
static void subscribe(struct gpu_backend *self, struct nvml_card *card, struct gpu *gpu) {
    struct nvml_library *nvml = &self->library;
    unsigned long long types = 0;
    int rc;

    card->has_asked_events = true;
    if (NVML_CALL(nvml, event_types, card->device, &types) != NVML_OK || !(types & NVML_EVENT_XID))
        return;
    if (NVML_CALL(nvml, event_set_create, &card->events) != NVML_OK) {
        card->events = NULL;
        return;
    }
    rc = NVML_CALL(nvml, event_register, card->device, types & wanted, card->events);
    if (rc == NVML_OK)
        card->hears_since_us = g_get_monotonic_time();
    else
        nvml_events_close(self, card);
    nvml_judge(self, gpu, "register for events", rc, false);
}

void nvml_events_close(struct gpu_backend *self, struct nvml_card *card) {
    if (card->events)
        (void)NVML_CALL(&self->library, event_set_free, card->events);
    card->events = NULL;
    card->hears_since_us = 0;
}

static void take(const struct nvml_event *event, struct gpu *gpu, unsigned *ret_tiers) {
    if (event->type == NVML_EVENT_XID && event->data <= G_MAXINT)
        gpu_note_xid(gpu, (int)event->data, 1, clock_wall_ms());
    if (event->type == NVML_EVENT_XID)
        *ret_tiers |= GPU_TIER_RARE;
    *ret_tiers |= GPU_TIER_SLOW;
}

void nvml_events_drain(struct gpu_backend *self, struct nvml_card *card, struct gpu *gpu, unsigned *ret_tiers) {
    struct nvml_event event = {0};
    int rc = NVML_OK;

    if (!card->has_asked_events)
        subscribe(self, card, gpu);
    for (int i = 0; card->events && rc == NVML_OK && i < DRAIN_MAX; i++) {
        rc = NVML_CALL(&self->library, event_wait, card->events, &event, 0);
        if (rc == NVML_OK)
            take(&event, gpu, ret_tiers);
    }
    if (rc != NVML_ERROR_TIMEOUT)
        nvml_judge(self, gpu, "read its events", rc, false);
}
