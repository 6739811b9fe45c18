/* node topo: a matrix in the manner that people know from nvidia-smi. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/cli.h"
#include "cli/show.h"

/* "X" for the card itself, "-" where nothing is known. */
static const char *link_of(const json_t *links, const char *a, const char *b) {
    const json_t *link;
    size_t i;

    if (strcmp(a, b) == 0)
        return "X";
    json_array_foreach (links, i, link) {
        const char *left = show_str(link, "a"), *right = show_str(link, "b");
        if ((g_strcmp0(left, a) == 0 && g_strcmp0(right, b) == 0) ||
            (g_strcmp0(left, b) == 0 && g_strcmp0(right, a) == 0))
            return show_str(link, "kind");
    }
    return "-";
}

/* One column for each card, and two more; freed by the caller with its headings. */
static GPtrArray *topo_row(const json_t *topology, const json_t *gpu) {
    const json_t *gpus = json_object_get(topology, "gpus"), *other;
    GPtrArray *cells = g_ptr_array_new_with_free_func(g_free);
    size_t i;

    g_ptr_array_add(cells, g_strdup_printf("GPU %" PRId64, show_int(gpu, "index")));
    json_array_foreach (gpus, i, other)
        g_ptr_array_add(cells, g_strdup(link_of(json_object_get(topology, "links"), show_str(gpu, "uuid"),
                                                show_str(other, "uuid"))));
    g_ptr_array_add(cells, show_has(gpu, "numa_node") ? g_strdup_printf("%" PRId64, show_int(gpu, "numa_node"))
                                                      : g_strdup("-"));
    g_ptr_array_add(cells, g_strdup(show_str(gpu, "cpus") ? show_str(gpu, "cpus") : "-"));
    return cells;
}

static void print_topology(const json_t *topology) {
    const json_t *gpus = json_object_get(topology, "gpus"), *gpu;
    size_t i;

    printf("%-7s", "");
    json_array_foreach (gpus, i, gpu)
        printf("GPU %-4" PRId64, show_int(gpu, "index"));
    printf("NUMA  CPUs\n");
    json_array_foreach (gpus, i, gpu) {
        g_autoptr(GPtrArray) cells = topo_row(topology, gpu);

        printf("%-7s", (const char *)cells->pdata[0]);
        for (guint k = 1; k + 2 < cells->len; k++)
            printf("%-8s", (const char *)cells->pdata[k]);
        printf("%-4s  %s\n", (const char *)cells->pdata[cells->len - 2], (const char *)cells->pdata[cells->len - 1]);
    }
    printf(
        "\nNV#: that many NVLinks; PIX: one PCIe switch; PXB: several, below one host bridge; PHB: the host bridge;\n"
        "NODE: several host bridges of one NUMA node; SYS: the link between NUMA nodes\n");
}

int cmd_node_topo(struct cli *cli) {
    g_autofree char *name = g_uri_escape_string(cli->args[0], NULL, FALSE);
    g_autofree char *path = g_strdup_printf("/nodes/%s/topology", name);
    struct cli_api *api = cli_api_new(cli->host_url);
    GError *error = NULL;
    json_t *answer = cli_api_get(api, path, &error);

    cli_api_free(api);
    if (!answer)
        return cli_fail(error);
    if (cli_wants_json(cli))
        cli_print_json(answer);
    else if (json_array_size(json_object_get(answer, "gpus")) == 0)
        printf("no GPUs\n");
    else
        print_topology(answer);
    json_decref(answer);
    return CLI_EXIT_OK;
}
