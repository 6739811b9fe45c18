/* What a GPU did, over HTTP: the host knows the card, its node has the history. */

#include "base/error.h"
#include "host/host_internal.h"
#include "host/node_query.h"

void api_gpu_history(struct http_exchange *x, void *app) {
    const char *span = http_query(x, "span");
    g_autoptr(GError) error = NULL;
    const struct gpu *gpu = api_path_gpu(app, x, &error);

    if (!gpu)
        http_reply_error(x, error, NULL);
    else
        node_query_reply(app, x, http_path_param(x, 0), "history",
                         json_pack("{s:s,s:s}", "uuid", gpu->uuid, "span", span ? span : "10m"));
}
