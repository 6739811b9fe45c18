/* node health, node summary: what is wrong, and how much there is, over the whole cluster. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/units.h"
#include "cli/api.h"
#include "cli/cli.h"
#include "cli/show.h"
#include "cli/show_gpu.h"
#include "cli/table.h"

/* {"nodes": …, "gpus": …} of the whole cluster, or NULL with the error told and *ret_exit set. */
static json_t *get_cluster(struct cli *cli, int *ret_exit) {
    struct cli_api *api = cli_api_new(cli->host_url);
    GError *error = NULL;
    json_t *nodes = cli_api_get(api, "/nodes", &error);
    json_t *gpus = nodes ? cli_api_get(api, "/gpus", &error) : NULL;

    cli_api_free(api);
    if (nodes && gpus)
        json_object_update(nodes, gpus);
    else
        *ret_exit = cli_fail(error);
    json_decref(gpus);
    if (*ret_exit != CLI_EXIT_OK)
        g_clear_pointer(&nodes, json_decref);
    return nodes;
}

/* ---- node health ---- */

struct finding {
    char *node, *what, *text, *since; /* owned; since may be NULL */
    bool is_bad;                      /* as opposed to: worth knowing */
};

static void finding_free(gpointer data) {
    struct finding *finding = data;

    g_free(finding->node);
    g_free(finding->what);
    g_free(finding->text);
    g_free(finding->since);
    g_free(finding);
}

static void find_it(GPtrArray *findings, const char *node, char *what, bool is_bad, const char *text,
                    int64_t since_ms) {
    struct finding *finding = g_new0(struct finding, 1);

    *finding = (struct finding){g_strdup(node), what, g_strdup(text ? text : "no reason given"),
                                since_ms > 0 ? show_span(since_ms, 0) : NULL, is_bad};
    g_ptr_array_add(findings, finding);
}

static void look_at_node(GPtrArray *findings, const json_t *node) {
    const char *name = show_str(node, "name");
    const json_t *cordon = json_object_get(node, "cordon");

    if (!show_bool(node, "online"))
        find_it(findings, name, g_strdup("node"), true, "silent; what it held is still held",
                show_int(node, "last_seen_ms"));
    if (json_is_false(json_object_get(node, "engine_ok")))
        find_it(findings, name, g_strdup("engine"), true, show_str(node, "engine_text"), 0);
    if (json_is_false(json_object_get(node, "disk_ok")))
        find_it(findings, name, g_strdup("disk"), true, show_str(node, "disk_text"), 0);
    if (json_is_false(json_object_get(node, "gpus_known")))
        find_it(findings, name, g_strdup("GPUs"), true, show_str(node, "gpu_text"), 0);
    if (cordon)
        find_it(findings, name, g_strdup("node"), false, "cordoned", show_int(cordon, "since_ms"));
}

/* A card in trouble is bad; one that is only in use, or held back by an order, is not. */
static void look_at_gpu(GPtrArray *findings, const json_t *gpu) {
    const char *state = show_gpu_state(gpu), *health = show_str(gpu, "health");
    g_autofree char *what = g_strdup_printf("GPU %" PRId64, show_int(gpu, "index"));
    g_autofree char *text = NULL;
    bool is_sick = health && strcmp(health, "ok") != 0;
    bool is_order = strcmp(state, "quarantined") == 0 && json_object_get(gpu, "cordon");

    if (is_sick)
        text = g_strdup_printf("%s: %s", health, show_str(gpu, "health_reason"));
    else if (strcmp(show_gpu_colour(state), "red") == 0)
        text = g_strdup_printf("%s: %s", state, show_str(gpu, "state_reason") ? show_str(gpu, "state_reason") : "-");
    if (text)
        find_it(findings, show_str(gpu, "node"), g_steal_pointer(&what), is_sick || !is_order, text,
                show_int(gpu, "state_since_ms"));
}

static bool is_asked(const struct cli *cli, const char *node) {
    return !cli->args[0] || g_strcmp0(cli->args[0], node) == 0;
}

static GPtrArray *look(const struct cli *cli, const json_t *cluster, size_t *ret_n_nodes) {
    GPtrArray *findings = g_ptr_array_new_with_free_func(finding_free);
    const json_t *item;
    size_t i;

    *ret_n_nodes = 0;
    json_array_foreach (json_object_get(cluster, "nodes"), i, item)
        if (is_asked(cli, show_str(item, "name"))) {
            look_at_node(findings, item);
            ++*ret_n_nodes;
        }
    json_array_foreach (json_object_get(cluster, "gpus"), i, item)
        if (is_asked(cli, show_str(item, "node")) && show_bool(item, "online"))
            look_at_gpu(findings, item);
    return findings;
}

static int by_node(const void *a, const void *b) {
    const struct finding *const *left = a, *const *right = b;

    return strcmp((*left)->node, (*right)->node);
}

static void print_findings(const GPtrArray *findings) {
    static const struct table_column columns[] = {{"NODE", TABLE_LEFT, 20, false},
                                                  {"WHAT", TABLE_LEFT, 0, false},
                                                  {"SINCE", TABLE_RIGHT, 0, false},
                                                  {"FINDING", TABLE_LEFT, 66, false, true},
                                                  {NULL, TABLE_LEFT, 0, false}};
    struct table *table = table_new(columns, true);

    for (guint i = 0; i < findings->len; i++) {
        const struct finding *finding = findings->pdata[i];

        table_row(table);
        table_cell(table, finding->node);
        table_cell(table, finding->what);
        table_cell(table, finding->since);
        table_cell(table, finding->text);
        table_colour(table, finding->is_bad ? "red" : "yellow");
    }
    table_print(table);
    table_free(table);
}

static void print_findings_json(const GPtrArray *findings) {
    json_t *list = json_array(), *answer;

    for (guint i = 0; i < findings->len; i++) {
        const struct finding *f = findings->pdata[i];
        json_array_append_new(list, json_pack("{s:s,s:s,s:b,s:s}", "node", f->node, "what", f->what, "bad", f->is_bad,
                                              "finding", f->text));
    }
    answer = json_pack("{s:o}", "findings", list);
    cli_print_json(answer);
    json_decref(answer);
}

int cmd_node_health(struct cli *cli) {
    int exit_code = CLI_EXIT_OK;
    json_t *cluster = get_cluster(cli, &exit_code);
    g_autoptr(GPtrArray) findings = NULL;
    GError *error = NULL;
    size_t n_nodes;

    if (!cluster)
        return exit_code;
    findings = look(cli, cluster, &n_nodes);
    json_decref(cluster);
    if (cli->args[0] && n_nodes == 0) {
        kr_fail(&error, NOT_FOUND, "there is no node \"%s\"", cli->args[0]);
        return cli_fail(error);
    }
    g_ptr_array_sort(findings, by_node);
    for (guint i = 0; i < findings->len; i++)
        if (((const struct finding *)findings->pdata[i])->is_bad)
            exit_code = CLI_EXIT_FAILED;
    if (cli_wants_json(cli))
        print_findings_json(findings);
    else if (findings->len == 0)
        printf("nothing is wrong with %s\n", cli->args[0] ? cli->args[0] : n_nodes == 1 ? "the node" : "the nodes");
    else
        print_findings(findings);
    return exit_code;
}

/* ---- node summary ---- */

struct model {
    char *name; /* owned */
    int total, free, used, other;
    int64_t mem_bytes; /* of one */
};

static void model_free(gpointer data) {
    g_free(((struct model *)data)->name);
    g_free(data);
}

static void count(struct model *model, const json_t *gpu) {
    const char *colour = show_gpu_colour(show_gpu_state(gpu));

    model->total++;
    if (!show_bool(gpu, "online"))
        model->other++;
    else if (show_bool(gpu, "free"))
        model->free++;
    else if (strcmp(colour, "yellow") == 0)
        model->used++;
    else
        model->other++;
    model->mem_bytes = MAX(model->mem_bytes, show_int(gpu, "memory_total_bytes"));
}

/* By name, in the order of their first card. Caller unrefs. */
static GPtrArray *count_models(const json_t *gpus) {
    GPtrArray *models = g_ptr_array_new_with_free_func(model_free);
    const json_t *gpu;
    size_t i;

    json_array_foreach (gpus, i, gpu) {
        const char *name = show_gpu_model(show_str(gpu, "name"));
        struct model *model = NULL;

        for (guint k = 0; k < models->len && !model; k++)
            if (g_strcmp0(((struct model *)models->pdata[k])->name, name) == 0)
                model = models->pdata[k];
        if (!model) {
            model = g_new0(struct model, 1);
            model->name = g_strdup(name);
            g_ptr_array_add(models, model);
        }
        count(model, gpu);
    }
    return models;
}

static void print_models(const GPtrArray *models) {
    static const struct table_column columns[] = {
        {"MODEL", TABLE_LEFT, 32, false}, {"MEMORY", TABLE_RIGHT, 0, false}, {"TOTAL", TABLE_RIGHT, 0, false},
        {"FREE", TABLE_RIGHT, 0, false},  {"IN USE", TABLE_RIGHT, 0, false}, {"OUT OF USE", TABLE_RIGHT, 0, false},
        {NULL, TABLE_LEFT, 0, false}};
    struct table *table = table_new(columns, true);

    for (guint i = 0; i < models->len; i++) {
        const struct model *model = models->pdata[i];
        char memory[UNITS_TEXT_BYTES];

        table_row(table);
        table_cell(table, model->name);
        table_cell(table, model->mem_bytes ? units_bytes_to_str(model->mem_bytes, memory) : NULL);
        table_cellf(table, "%d", model->total);
        table_cellf(table, "%d", model->free);
        table_colour(table, model->free ? "green" : NULL);
        table_cellf(table, "%d", model->used);
        table_cellf(table, "%d", model->other);
        table_colour(table, model->other ? "red" : NULL);
    }
    table_print(table);
    table_free(table);
}

static void print_totals(const json_t *nodes) {
    int64_t cores = 0, cores_reserved = 0, memory = 0, memory_reserved = 0, tasks = 0;
    char total[UNITS_TEXT_BYTES], reserved[UNITS_TEXT_BYTES];
    size_t i, online = 0;
    const json_t *node;

    json_array_foreach (nodes, i, node) {
        online += show_bool(node, "online");
        cores += show_int(node, "cores");
        cores_reserved += show_int(node, "cores_reserved");
        memory += show_int(node, "memory_total_bytes");
        memory_reserved += show_int(node, "memory_reserved_bytes");
        tasks += (int64_t)json_array_size(json_object_get(node, "tasks"));
    }
    printf("nodes   %zu, %zu online\n", json_array_size(nodes), online);
    printf("tasks   %" PRId64 " hold something\n", tasks);
    printf("cores   %" PRId64 ", %" PRId64 " reserved\n", cores, cores_reserved);
    printf("memory  %s, %s reserved\n", units_bytes_to_str(memory, total),
           units_bytes_to_str(memory_reserved, reserved));
}

int cmd_node_summary(struct cli *cli) {
    int exit_code = CLI_EXIT_OK;
    json_t *cluster = get_cluster(cli, &exit_code);
    g_autoptr(GPtrArray) models = NULL;

    if (!cluster)
        return exit_code;
    if (cli_wants_json(cli)) {
        cli_print_json(cluster);
    } else {
        models = count_models(json_object_get(cluster, "gpus"));
        print_totals(json_object_get(cluster, "nodes"));
        if (models->len > 0) {
            putchar('\n');
            print_models(models);
        }
    }
    json_decref(cluster);
    return exit_code;
}
