/* What a GPU did, over HTTP: the host knows the card, its node has the history. */

#include "base/error.h"
#include "host/host_internal.h"
#include "host/node_query.h"

/* Borrowed, NULL with an error. */
static const struct gpu *find_gpu(const struct host *host, const struct http_exchange *x, GError **error) {
    const struct cluster *cluster = controller_cluster(host->controller);
    const char *name = http_path_param(x, 0), *text = http_path_param(x, 1);
    const struct cluster_node *node = cluster_find(cluster, name);
    const struct gpu *gpu = NULL;
    guint64 index;

    if (!node)
        kr_fail(error, NOT_FOUND, "there is no node \"%.64s\"", name);
    else if (!g_ascii_string_to_unsigned(text, 10, 0, TARGET_MAX_NUMBER, &index, NULL))
        kr_fail(error, BAD_REQUEST, "\"%.32s\" is no GPU index: write a number such as 3", text);
    else if (!(gpu = node_info_gpu_by_index(node->info, (int)index)))
        kr_fail(error, NOT_FOUND, "node %s has no GPU %d", node->info->name, (int)index);
    return gpu;
}

void api_gpu_history(struct http_exchange *x, void *app) {
    const char *span = http_query(x, "span");
    g_autoptr(GError) error = NULL;
    const struct gpu *gpu = find_gpu(app, x, &error);

    if (!gpu)
        http_reply_error(x, error, NULL);
    else
        node_query_reply(app, x, http_path_param(x, 0), "history",
                         json_pack("{s:s,s:s}", "uuid", gpu->uuid, "span", span ? span : "10m"));
}
