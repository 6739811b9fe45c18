#include "host/event_ring.h"

void event_ring_init(struct event_ring *ring) { ring->first = 1; }

static void drop_oldest(struct event_ring *ring) {
    GBytes **slot = &ring->slots[ring->first++ % EVENT_RING_EVENTS];

    ring->bytes -= g_bytes_get_size(*slot);
    g_clear_pointer(slot, g_bytes_unref);
}

void event_ring_clear(struct event_ring *ring) {
    while (ring->first <= ring->last)
        drop_oldest(ring);
}

void event_ring_cut(struct event_ring *ring) {
    event_ring_clear(ring);
    ring->first = ++ring->last + 1;
}

uint64_t event_ring_add(struct event_ring *ring, GBytes *event) {
    size_t bytes = g_bytes_get_size(event);

    while (ring->first <= ring->last &&
           (ring->bytes + bytes > EVENT_RING_BYTES || ring->last - ring->first + 1 >= EVENT_RING_EVENTS))
        drop_oldest(ring);
    ring->slots[++ring->last % EVENT_RING_EVENTS] = event;
    ring->bytes += bytes;
    return ring->last;
}

GBytes *event_ring_get(const struct event_ring *ring, uint64_t number) {
    if (number < ring->first || number > ring->last)
        return NULL;
    return g_bytes_ref(ring->slots[number % EVENT_RING_EVENTS]);
}
