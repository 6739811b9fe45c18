#pragma once
/* The nodes as they last described themselves, and how long ago. Pure: time comes in as an argument. A node's silence
 * changes what is displayed and refused, never who holds what (R3). */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/node.h"

/* Both clocks, read once per event by the shell around the core. */
struct core_time {
    int64_t wall_ms; /* for records and people */
    int64_t mono_ms; /* for spans */
};

struct cluster_node {
    struct node_info *info;
    bool is_connected;
    bool was_online;       /* as was told last: to tell of a change once */
    int64_t heard_mono_ms; /* when it last said something; 0: not since this host started */
    int64_t heard_wall_ms;
};

struct cluster;

struct cluster *cluster_new(int64_t offline_after_ms);
void cluster_free(struct cluster *cluster);

/* Takes `info`; makes the node when it is new. Borrowed result. */
struct cluster_node *cluster_put(struct cluster *cluster, struct node_info *info);
struct cluster_node *cluster_find(const struct cluster *cluster, const char *name); /* NULL when unknown */
/* Borrowed nodes, ordered by name. Caller unrefs. */
GPtrArray *cluster_nodes(const struct cluster *cluster);
/* "mynode, node2" for messages. Caller frees. */
char *cluster_names(const struct cluster *cluster);

void cluster_heard(struct cluster_node *node, struct core_time now);
bool cluster_is_online(const struct cluster *cluster, const struct cluster_node *node, struct core_time now);
