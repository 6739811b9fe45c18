#pragma once
/* The newest encoded events, numbered in the order in which they came, bounded in number and bytes: the oldest fall out. A
 * reader keeps the number of the event that it wants next; what fell out before it came to it is for it to notice. */

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

enum { EVENT_RING_EVENTS = 4096, EVENT_RING_BYTES = 4 * 1024 * 1024 };

struct event_ring {
    GBytes *slots[EVENT_RING_EVENTS]; /* number N is in N % EVENT_RING_EVENTS */
    uint64_t first;                   /* the oldest that is there; last + 1: none is */
    uint64_t last;                    /* the newest that ever was */
    size_t bytes;
};

void event_ring_init(struct event_ring *ring); /* of zeroed memory */
/* Everything falls out, and so does a number that nobody has seen: a reader that has come to `last` has missed something. */
void event_ring_cut(struct event_ring *ring);
void event_ring_clear(struct event_ring *ring);
/* Takes the event; returns its number. It stays until newer ones push it out, however large it is. */
uint64_t event_ring_add(struct event_ring *ring, GBytes *event);
/* New reference, or NULL: fell out, or not yet there. */
GBytes *event_ring_get(const struct event_ring *ring, uint64_t number);
