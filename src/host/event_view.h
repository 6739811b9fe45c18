#pragma once
/* What the live stream has told of the cluster, and what there is to tell: the rows of nodes, cards and machines as they were
 * told last, and marks of what may have changed since. A turn looks again at what is marked and says in which members it differs
 * from what was told; so telling all that was said, one after the other, on top of what was whole at some time gives what is
 * whole now. Everything here is thrown away while nobody listens.
 *
 * Rows are those of GET /nodes, /gpus and /vps with these differences: figures are rounded (event_figures.h), and `last_seen_ms`
 * of a node that is online stays as it was told first. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct event_view;
struct host;
struct task;

struct event_view *event_view_new(struct host *host);
void event_view_free(struct event_view *view);

/* Looks at everything. Machines that are off may take a while (their last tasks are in the store): see event_view_is_ready. */
void event_view_start(struct event_view *view);
void event_view_stop(struct event_view *view); /* forgets everything */
bool event_view_is_started(const struct event_view *view);
bool event_view_is_ready(const struct event_view *view); /* can be told whole */

/* ---- marks; each costs next to nothing, and nothing when it is not started ---- */
void event_view_mark_node(struct event_view *view, const char *node);    /* it or its cards changed */
void event_view_mark_figures(struct event_view *view, const char *node); /* figures of it or its cards */
void event_view_mark_task(struct event_view *view, const struct task *task);
void event_view_mark_vps(struct event_view *view, uint32_t vps_id);

/* The changes since the last turn as the members of an event (without its time), or NULL when there are none; figures only when
 * it is time for them. What is told counts as told. New reference. */
json_t *event_view_turn(struct event_view *view, bool with_figures);
/* All that was told up to the last turn. Members "nodes", "gpus", "vps", "task_counts", perhaps "storage_problem". New
 * reference. */
json_t *event_view_whole(const struct event_view *view);
