#pragma once
/* What the live stream takes for a mere figure: members of nodes and cards that change all the time and of which nothing is
 * decided. They are rounded, and go out seldom; every other member goes out at once. One table; pure, works on JSON. */

#include <jansson.h>
#include <stdbool.h>

#include "model/node.h"

/* Rounds the figures of a node's or a card's row as they are told: memory to 16 MiB, power to 1 W. */
void event_figures_round(json_t *row);
/* Gives the figures of `row` the values that they have in `told`: those that were told last. */
void event_figures_hold(json_t *row, const json_t *told);
/* Brings the figures of a row that was told up to date, rounded, where nothing else has changed. The changes as a merge patch,
 * new reference; NULL: none. */
json_t *event_figures_update_gpu(json_t *told, const struct gpu *gpu);
json_t *event_figures_update_node(json_t *told, const struct node_info *info);
/* Is a heartbeat's difference (model/delta.h) of figures alone? false when in doubt. */
bool event_figures_only(const json_t *delta);
