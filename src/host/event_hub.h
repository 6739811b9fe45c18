#pragma once
/* GET /api/v1/events: what happens in the cluster, live, to any number of readers (docs/api.md, "The live stream").
 *
 *   - Each event is made and encoded once, and kept in one ring (event_ring.h) for all readers; a reader is a position in it.
 *   - A reader that comes anew, or that has fallen behind what the ring has, gets a snapshot: all that was told (event_view.h) up to
 *     one event, and then the events after it. Snapshots are shared too, and few at a time: readers that do not read cost
 *     bounded memory.
 *   - While nobody reads nothing is done. The ring lives on for a while, for readers that come back.
 *
 * Event ids are RUN.N: RUN names this process of the host, N counts. */

#include <stdbool.h>
#include <stdint.h>

#include "core/cluster.h"

struct event_hub;
struct host;
struct http_exchange;
struct task;

struct event_hub *event_hub_new(struct host *host); /* uses the host's loop */
/* After the server that the streams belong to. NULL is fine. */
void event_hub_free(struct event_hub *hub);

/* Marks: see event_view.h. NULL is fine. */
void event_hub_node(struct event_hub *hub, const char *node);
void event_hub_figures(struct event_hub *hub, const char *node);
void event_hub_task(struct event_hub *hub, const struct task *task);
void event_hub_vps(struct event_hub *hub, uint32_t vps_id);

void api_events(struct http_exchange *x, void *app);
