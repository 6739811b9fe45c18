/* node list, node status. */
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
#include "model/xid.h"

/* ---- node list ---- */

/* "cordoned by alice@laptop: new fans", with what is left of a drained one. */
static char *cordon_text(const json_t *node) {
    const json_t *cordon = json_object_get(node, "cordon");
    const char *reason = show_str(cordon, "reason");
    bool is_drain = g_strcmp0(show_str(cordon, "kind"), "drain") == 0;
    size_t left = json_array_size(json_object_get(node, "tasks"));
    g_autofree char *rest = is_drain && left > 0 ? g_strdup_printf(", %zu tasks left", left) : NULL;

    return g_strdup_printf("%s by %s%s%s%s", is_drain ? (left ? "draining" : "drained") : "cordoned",
                           show_str(cordon, "who"), reason && reason[0] ? ": " : "", reason ? reason : "",
                           rest ? rest : "");
}

/* What keeps work away from the node, or what a reader must know about it; NULL: nothing. */
static char *node_remark(const json_t *node) {
    const json_t *cordon = json_object_get(node, "cordon");
    g_autofree char *order = cordon ? cordon_text(node) : NULL;

    if (!show_bool(node, "online"))
        return g_strdup("silent: its tasks keep their GPUs");
    if (order)
        return g_steal_pointer(&order);
    if (json_is_false(json_object_get(node, "engine_ok")))
        return g_strdup_printf("engine: %s",
                               show_str(node, "engine_text") ? show_str(node, "engine_text") : "not working");
    if (json_is_false(json_object_get(node, "disk_ok")))
        return g_strdup_printf("disk: %s",
                               show_str(node, "disk_text") ? show_str(node, "disk_text") : "cannot be written");
    if (json_is_false(json_object_get(node, "gpus_known")))
        return g_strdup_printf("GPUs unknown: %s",
                               show_str(node, "gpu_text") ? show_str(node, "gpu_text") : "no inventory");
    return show_bool(node, "gpus_simulated") ? g_strdup("GPUs are simulated") : NULL;
}

static void cell_of_pair(struct table *table, const json_t *node, const char *part, const char *whole) {
    if (show_has(node, whole))
        table_cellf(table, "%" PRId64 "/%" PRId64, show_int(node, part), show_int(node, whole));
    else
        table_cell(table, "-");
}

static int64_t count_of(const json_t *node, const char *key) {
    const json_t *value = json_object_get(node, key);

    return json_is_array(value) ? (int64_t)json_array_size(value) : show_int(node, key);
}

static void node_row(struct table *table, const json_t *node) {
    g_autofree char *remark = node_remark(node);
    g_autofree char *seen = show_span(show_int(node, "last_seen_ms"), 0);
    g_autofree char *memory = show_bytes_pair(node, "memory_reserved_bytes", "memory_total_bytes");
    bool is_online = show_bool(node, "online");

    table_row(table);
    table_cell(table, show_str(node, "name"));
    table_cell(table, is_online ? "online" : "offline");
    table_colour(table, is_online ? "green" : "red");
    table_cell(table, seen);
    cell_of_pair(table, node, "gpus_free", "gpus_total");
    cell_of_pair(table, node, show_has(node, "cores_reserved") ? "cores_reserved" : "cores_used", "cores");
    table_cell(table, memory);
    table_cellf(table, "%" PRId64, count_of(node, "tasks"));
    table_cell(table, remark);
}

static void print_nodes(const json_t *nodes) {
    static const struct table_column columns[] = {
        {"NODE", TABLE_LEFT, 20, false},       {"STATE", TABLE_LEFT, 0, false},
        {"SEEN", TABLE_LEFT, 0, false},        {"GPUS FREE", TABLE_RIGHT, 0, false},
        {"CORES HELD", TABLE_RIGHT, 0, false}, {"MEMORY HELD", TABLE_RIGHT, 0, false},
        {"TASKS", TABLE_RIGHT, 0, false},      {"REMARK", TABLE_LEFT, 0, true},
        {NULL, TABLE_LEFT, 0, false}};
    struct table *table = table_new(columns, true);
    const json_t *node;
    size_t i;

    json_array_foreach (nodes, i, node)
        node_row(table, node);
    table_print(table);
    table_free(table);
}

static json_t *get(struct cli *cli, const char *path, int *ret_exit) {
    struct cli_api *api = cli_api_new(cli->host_url);
    GError *error = NULL;
    json_t *answer = cli_api_get(api, path, &error);

    cli_api_free(api);
    if (!answer)
        *ret_exit = cli_fail(error);
    return answer;
}

int cmd_node_list(struct cli *cli) {
    int exit_code = CLI_EXIT_OK;
    json_t *answer = get(cli, "/nodes", &exit_code);

    if (answer && cli_wants_json(cli))
        cli_print_json(answer);
    else if (answer && json_array_size(json_object_get(answer, "nodes")) == 0)
        fprintf(stderr, "no nodes: none has joined yet\n");
    else if (answer)
        print_nodes(json_object_get(answer, "nodes"));
    json_decref(answer);
    return exit_code;
}

/* ---- node status: the GPUs ---- */

static void gpu_row(struct table *table, const json_t *gpu) {
    g_autofree char *holder = show_gpu_holder(gpu);
    const char *state = show_gpu_state(gpu);

    table_row(table);
    table_cellf(table, "%" PRId64, show_int(gpu, "index"));
    table_cell(table, show_gpu_model(show_str(gpu, "name")));
    table_cell(table, show_gpu_suffix(show_str(gpu, "uuid")));
    cell_of_memory(table, gpu);
    cell_of_figure(table, gpu, "utilization_percent", "%");
    cell_of_figure(table, gpu, "temperature_celsius", "°C");
    cell_of_power(table, gpu);
    table_cell(table, state);
    table_colour(table, show_gpu_colour(state));
    table_cell(table, holder);
}

static void print_gpus(const json_t *gpus) {
    static const struct table_column columns[] = {
        {"GPU", TABLE_RIGHT, 0, false},        {"NAME", TABLE_LEFT, 18, false}, {"UUID", TABLE_LEFT, 0, false},
        {"MEMORY GiB", TABLE_RIGHT, 0, false}, {"UTIL", TABLE_RIGHT, 0, false}, {"TEMP", TABLE_RIGHT, 0, false},
        {"POWER", TABLE_RIGHT, 0, false},      {"STATE", TABLE_LEFT, 0, false}, {"HELD BY", TABLE_LEFT, 0, true},
        {NULL, TABLE_LEFT, 0, false}};
    struct table *table = table_new(columns, true);
    const json_t *gpu;
    size_t i;

    json_array_foreach (gpus, i, gpu)
        gpu_row(table, gpu);
    table_print(table);
    table_free(table);
}

/* Of cards that neither work nor can be granted: why, since when, and what ends it. */
static void print_gpu_reasons(const json_t *gpus) {
    const json_t *gpu;
    size_t i;

    json_array_foreach (gpus, i, gpu) {
        const char *state = show_gpu_state(gpu), *reason = show_str(gpu, "state_reason");
        g_autofree char *span = show_span(show_int(gpu, "state_since_ms"), 0),
                        *clean = reason ? cli_clean(reason) : NULL;
        const char *colour = show_gpu_colour(state);

        const char *condition = show_str(gpu, "condition");
        bool is_on_its_way = g_strcmp0(condition, "switching") == 0 || g_strcmp0(condition, "fault") == 0;

        if (clean && (strcmp(colour, "red") == 0 || is_on_its_way))
            printf("GPU %" PRId64 " is %s for %s: %s\n  it ends: %s\n", show_int(gpu, "index"), state, span, clean,
                   show_str(gpu, "way_out"));
    }
}

/* ---- node status: the node ---- */

static void fact(struct table *table, const char *name, const char *value) {
    table_row(table);
    table_cell(table, name);
    table_cell(table, value);
}

static char *online_text(const json_t *node) {
    g_autofree char *span = show_span(show_int(node, "last_seen_ms"), 0);

    if (show_bool(node, "online"))
        return g_strdup_printf("online, last heard of %s ago", span);
    return g_strdup_printf("offline, silent for %s: what it held is still held, the figures below are old", span);
}

static char *numa_text(const json_t *numa) {
    GString *text = g_string_new(NULL);
    const json_t *node;
    size_t i;

    json_array_foreach (numa, i, node) {
        char buf[UNITS_TEXT_BYTES];
        const json_t *cpus = json_object_get(node, "cpus");
        const char *list = json_string_value(cpus) ? json_string_value(cpus) : show_str(node, "cpulist");
        g_string_append_printf(text, "%s%" PRId64 ": CPUs %s, %s", i ? "; " : "", show_int(node, "id"),
                               list ? list : "-", units_bytes_to_str(show_int(node, "memory_bytes"), buf));
    }
    return g_string_free(text, FALSE);
}

static char *tasks_text(const json_t *tasks) {
    GString *text = g_string_new(NULL);
    const json_t *id;
    size_t i;

    json_array_foreach (tasks, i, id)
        g_string_append_printf(text, "%s%" PRId64, i ? ", " : "",
                               json_is_object(id) ? show_int(id, "id") : (int64_t)json_integer_value(id));
    return g_string_free(text, text->len == 0);
}

static char *gpu_text(const json_t *node) {
    const char *text = show_str(node, "gpu_text");

    if (json_is_false(json_object_get(node, "gpus_known")))
        return g_strdup_printf("UNKNOWN, so none is granted: %s", text ? text : "no inventory");
    return g_strdup_printf("%s%s", text ? text : "-", show_bool(node, "gpus_simulated") ? " — GPUs are simulated" : "");
}

static char *health_text(const json_t *node, const char *ok_key, const char *text_key, const char *when_ok) {
    const char *text = show_str(node, text_key);

    if (json_is_false(json_object_get(node, ok_key)))
        return g_strdup_printf("NOT WORKING: %s", text ? text : "no reason given");
    return g_strdup(text ? text : when_ok);
}

static struct table *table_of_facts(void) {
    static const struct table_column columns[] = {
        {"FACT", TABLE_LEFT, 0, false}, {"VALUE", TABLE_LEFT, 0, false}, {NULL, TABLE_LEFT, 0, false}};

    return table_new(columns, false);
}

static void print_node_facts(const json_t *node) {
    struct table *table = table_of_facts();
    g_autofree char *online = online_text(node), *gpus = gpu_text(node);
    g_autofree char *numa = numa_text(json_object_get(node, "numa")),
                    *tasks = tasks_text(json_object_get(node, "tasks"));
    g_autofree char *engine = health_text(node, "engine_ok", "engine_text", "-");
    g_autofree char *disk = health_text(node, "disk_ok", "disk_text", "ok");
    g_autofree char *memory = show_bytes_pair(node, "memory_used_bytes", "memory_total_bytes");
    char reserved[UNITS_TEXT_BYTES];

    fact(table, "node", show_str(node, "name"));
    fact(table, "state", online);
    if (json_object_get(node, "cordon")) {
        g_autofree char *order = cordon_text(node);
        fact(table, "order", order);
    }
    fact(table, "runner", show_str(node, "version"));
    fact(table, "engine", engine);
    fact(table, "disk", disk);
    fact(table, "GPU driver", gpus);
    table_row(table);
    table_cell(table, "cores");
    table_cellf(table, "%" PRId64 ", %" PRId64 " reserved", show_int(node, "cores"), show_int(node, "cores_reserved"));
    table_row(table);
    table_cell(table, "memory");
    table_cellf(table, "%s used, %s reserved", memory,
                units_bytes_to_str(show_int(node, "memory_reserved_bytes"), reserved));
    if (numa[0])
        fact(table, "NUMA", numa);
    fact(table, "tasks", tasks);
    table_print(table);
    table_free(table);
}

static void print_node(const json_t *node) {
    const json_t *gpus = json_object_get(node, "gpus");

    print_node_facts(node);
    putchar('\n');
    if (json_array_size(gpus) == 0) {
        printf("%s\n", show_bool(node, "gpus_known") ? "no GPUs" : "its GPUs are not known");
        return;
    }
    print_gpus(gpus);
    print_gpu_reasons(gpus);
}

/* ---- node status --verbose: every figure, and what reading them costs ---- */

static void print_figures(const json_t *gpu) {
    static const char *const passed_over[] = {"index", "name", "uuid", "free", "state_since_ms", "way_out"};
    struct table *table = table_of_facts();
    const char *key;
    json_t *value;

    printf("\nGPU %" PRId64 "\n", show_int(gpu, "index"));
    json_object_foreach ((json_t *)(uintptr_t)gpu, key, value) {
        g_autofree char *number = json_is_number(value) ? g_strdup_printf("%" PRId64, show_int(gpu, key)) : NULL;
        bool is_passed_over = !number && !json_is_string(value);

        for (size_t i = 0; i < G_N_ELEMENTS(passed_over); i++)
            is_passed_over |= strcmp(key, passed_over[i]) == 0;
        if (!is_passed_over)
            fact(table, key, number ? number : json_string_value(value));
    }
    table_print(table);
    table_free(table);
}

static void print_xids(const json_t *gpus) {
    const json_t *gpu, *xid;
    size_t i, k;

    json_array_foreach (gpus, i, gpu)
        json_array_foreach (json_object_get(gpu, "xids"), k, xid) {
            char when[CLOCK_TEXT_BYTES];
            const struct xid_meaning *meaning = xid_meaning((int)show_int(xid, "code"));
            printf("GPU %" PRId64 ": XID %" PRId64 ", %" PRId64 " times, last %s: %s (%s)\n", show_int(gpu, "index"),
                   show_int(xid, "code"), show_int(xid, "count"), clock_utc_to_str(show_int(xid, "last_ms"), when),
                   meaning->text, xid_class_to_str(meaning->class));
        }
}

static void print_costs(const json_t *runner) {
    static const struct table_column columns[] = {{"CALL", TABLE_LEFT, 48, false},
                                                  {"TIMES", TABLE_RIGHT, 0, false},
                                                  {"MEAN µs", TABLE_RIGHT, 0, false},
                                                  {"LONGEST µs", TABLE_RIGHT, 0, false},
                                                  {NULL, TABLE_LEFT, 0, false}};
    const json_t *calls = json_object_get(runner, "gpu_calls"), *call;
    g_autofree char *span = show_span(show_int(runner, "started_ms"), 0);
    char resident[UNITS_TEXT_BYTES];
    struct table *table;
    size_t i;

    printf("\nrunner pid %" PRId64 ", up %s, resident %s, a heartbeat every %" PRId64 " ms\n", show_int(runner, "pid"),
           span, units_bytes_to_str(show_int(runner, "resident_bytes"), resident), show_int(runner, "heartbeat_ms"));
    if (show_str(runner, "gpu_calls_error"))
        printf("what the GPU library costs is not known: %s\n", show_str(runner, "gpu_calls_error"));
    if (json_array_size(calls) == 0)
        return;
    table = table_new(columns, true);
    json_array_foreach (calls, i, call) {
        table_row(table);
        table_cell(table, show_str(call, "function"));
        table_cellf(table, "%" PRId64, show_int(call, "count"));
        table_cellf(table, "%" PRId64, show_int(call, "total_us") / MAX(show_int(call, "count"), 1));
        table_cellf(table, "%" PRId64, show_int(call, "max_us"));
    }
    table_print(table);
    table_free(table);
}

static void print_verbose(struct cli *cli, const char *path, const json_t *node) {
    g_autofree char *runner_path = g_strconcat(path, "/runner", NULL);
    struct cli_api *api = cli_api_new(cli->host_url);
    g_autoptr(GError) error = NULL;
    json_t *runner = cli_api_get(api, runner_path, &error);
    const json_t *gpu;
    size_t i;

    cli_api_free(api);
    json_array_foreach (json_object_get(node, "gpus"), i, gpu)
        print_figures(gpu);
    print_xids(json_object_get(node, "gpus"));
    if (runner)
        print_costs(runner);
    else
        cli_note("%s", error->message);
    json_decref(runner);
}

int cmd_node_status(struct cli *cli) {
    g_autofree char *name = g_uri_escape_string(cli->args[0], NULL, FALSE);
    g_autofree char *path = g_strconcat("/nodes/", name, NULL);
    int exit_code = CLI_EXIT_OK;
    json_t *answer = get(cli, path, &exit_code);
    const json_t *inner = json_object_get(answer, "node");

    if (answer && cli_wants_json(cli))
        cli_print_json(answer);
    else if (answer)
        print_node(json_is_object(inner) ? inner : answer);
    if (answer && cli_flag(cli, "verbose") && !cli_wants_json(cli))
        print_verbose(cli, path, json_is_object(inner) ? inner : answer);
    json_decref(answer);
    return exit_code;
}
