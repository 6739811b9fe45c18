#include "core/cluster.h"

#include <string.h>

struct cluster {
    GHashTable *nodes; /* name (in info) -> cluster_node */
    int64_t offline_after_ms;
};

static void node_free(struct cluster_node *node) {
    node_info_free(node->info);
    g_free(node);
}

struct cluster *cluster_new(int64_t offline_after_ms) {
    struct cluster *cluster = g_new0(struct cluster, 1);

    cluster->nodes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)node_free);
    cluster->offline_after_ms = offline_after_ms;
    return cluster;
}

void cluster_free(struct cluster *cluster) {
    if (!cluster)
        return;
    g_hash_table_unref(cluster->nodes);
    g_free(cluster);
}

struct cluster_node *cluster_put(struct cluster *cluster, struct node_info *info) {
    struct cluster_node *node = cluster_find(cluster, info->name);

    if (!node) {
        node = g_new0(struct cluster_node, 1);
        g_hash_table_insert(cluster->nodes, g_strdup(info->name), node);
    }
    node_info_free(node->info);
    node->info = info;
    return node;
}

struct cluster_node *cluster_find(const struct cluster *cluster, const char *name) {
    return g_hash_table_lookup(cluster->nodes, name);
}

static int by_name(gconstpointer a, gconstpointer b) {
    const struct cluster_node *const *left = a;
    const struct cluster_node *const *right = b;

    return strcmp((*left)->info->name, (*right)->info->name);
}

GPtrArray *cluster_nodes(const struct cluster *cluster) {
    GPtrArray *nodes = g_ptr_array_new();
    GHashTableIter iter;
    gpointer node;

    g_hash_table_iter_init(&iter, cluster->nodes);
    while (g_hash_table_iter_next(&iter, NULL, &node))
        g_ptr_array_add(nodes, node);
    g_ptr_array_sort(nodes, by_name);
    return nodes;
}

char *cluster_names(const struct cluster *cluster) {
    g_autoptr(GPtrArray) nodes = cluster_nodes(cluster);
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < nodes->len && text->len < 400; i++)
        g_string_append_printf(text, "%s%s", i ? ", " : "", ((const struct cluster_node *)nodes->pdata[i])->info->name);
    return g_string_free(text, FALSE);
}

void cluster_heard(struct cluster_node *node, struct core_time now) {
    node->heard_mono_ms = now.mono_ms;
    node->heard_wall_ms = now.wall_ms;
}

bool cluster_is_online(const struct cluster *cluster, const struct cluster_node *node, struct core_time now) {
    return node->heard_mono_ms > 0 && now.mono_ms - node->heard_mono_ms < cluster->offline_after_ms;
}
