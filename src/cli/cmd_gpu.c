/* gpu list, gpu who: every card of the cluster, and everybody who is on one. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/units.h"
#include "cli/api.h"
#include "cli/cli.h"
#include "cli/show.h"
#include "cli/show_gpu.h"
#include "cli/table.h"
#include "model/target.h"

/* ---- gpu list ---- */

struct filter {
    const char *node, *model; /* NULL: any */
    int64_t mem_bytes;        /* at least; 0: any */
    int64_t idle_ms;          /* held, and idle for at least so long; 0: any */
};

static bool read_filter(const struct cli *cli, struct filter *filter, GError **error) {
    const char *memory = cli_text(cli, "memory"), *idle = cli_text(cli, "idle");
    g_autoptr(GError) why = NULL;

    *filter = (struct filter){.node = cli_text(cli, "node"), .model = cli_text(cli, "model")};
    if (memory && !units_bytes_from_str(memory, &filter->mem_bytes, &why))
        return kr_fail(error, USAGE, "--memory: %s", why->message);
    if (idle && !units_span_from_str(idle, &filter->idle_ms, &why))
        return kr_fail(error, USAGE, "--idle: %s", why->message);
    return true;
}

static bool has_text(const char *text, const char *part) {
    g_autofree char *big = text ? g_ascii_strdown(text, -1) : NULL, *small = g_ascii_strdown(part, -1);

    return big && strstr(big, small);
}

/* Since when its holder does nothing with it; 0: it is busy, or nobody holds it. It may have been idle before it was granted. */
static int64_t idle_since_ms(const json_t *gpu) {
    const json_t *holder = json_object_get(gpu, "holder");

    if (!holder || !show_has(gpu, "idle_since_ms"))
        return 0;
    return MAX(show_int(gpu, "idle_since_ms"), show_int(holder, "since_ms"));
}

static bool is_idle_for(const json_t *gpu, int64_t span_ms) {
    return idle_since_ms(gpu) > 0 && clock_wall_ms() - idle_since_ms(gpu) >= span_ms;
}

static bool fits(const json_t *gpu, const struct filter *filter) {
    return (!filter->node || g_strcmp0(show_str(gpu, "node"), filter->node) == 0) &&
           (!filter->model || has_text(show_str(gpu, "name"), filter->model)) &&
           show_int(gpu, "memory_total_bytes") >= filter->mem_bytes &&
           (filter->idle_ms == 0 || is_idle_for(gpu, filter->idle_ms));
}

static int by_freedom(const void *a, const void *b) {
    const json_t *const *left = a, *const *right = b;

    return (int)show_bool(*right, "free") - (int)show_bool(*left, "free");
}

/* Those that fit, in the host's order (node, index); free ones first when asked. Borrowed; caller unrefs. */
static GPtrArray *choose(const json_t *gpus, const struct filter *filter, bool free_first) {
    GPtrArray *chosen = g_ptr_array_new();
    const json_t *gpu;
    size_t i;

    json_array_foreach (gpus, i, gpu)
        if (fits(gpu, filter))
            g_ptr_array_add(chosen, (gpointer)(uintptr_t)gpu);
    if (free_first)
        g_ptr_array_sort(chosen, by_freedom); /* a merge sort: equal ones keep their order */
    return chosen;
}

static void gpu_row(struct table *table, const json_t *gpu) {
    g_autofree char *holder = show_gpu_holder(gpu);
    g_autofree char *idle = idle_since_ms(gpu) > 0 ? show_span(idle_since_ms(gpu), 0) : NULL;
    const char *state = show_gpu_state(gpu), *reason = show_str(gpu, "state_reason");

    table_row(table);
    table_cellf(table, "%s::%" PRId64, show_str(gpu, "node"), show_int(gpu, "index"));
    table_cell(table, show_gpu_model(show_str(gpu, "name")));
    cell_of_memory(table, gpu);
    cell_of_figure(table, gpu, "utilization_percent", "%");
    table_cell(table, state);
    table_colour(table, show_gpu_colour(state));
    table_cell(table, idle);
    if (holder && show_str(gpu, "reason") &&
        (strcmp(show_str(gpu, "condition"), "switching") == 0 || strcmp(show_str(gpu, "condition"), "fault") == 0))
        table_cellf(table, "%s; %s", holder, show_str(gpu, "reason"));
    else
        table_cell(table, holder ? holder : show_bool(gpu, "free") ? NULL : reason);
}

static void print_list(const GPtrArray *gpus) {
    static const struct table_column columns[] = {
        {"GPU", TABLE_LEFT, 28, false},          {"MODEL", TABLE_LEFT, 20, false},
        {"MEMORY GiB", TABLE_RIGHT, 0, false},   {"UTIL", TABLE_RIGHT, 0, false},
        {"STATE", TABLE_LEFT, 0, false},         {"IDLE", TABLE_RIGHT, 0, false},
        {"HELD BY OR WHY", TABLE_LEFT, 0, true}, {NULL, TABLE_LEFT, 0, false}};
    struct table *table = table_new(columns, true);

    for (guint i = 0; i < gpus->len; i++)
        gpu_row(table, gpus->pdata[i]);
    table_print(table);
    table_free(table);
}

static void print_list_json(const GPtrArray *gpus) {
    json_t *list = json_array(), *answer;

    for (guint i = 0; i < gpus->len; i++)
        json_array_append(list, gpus->pdata[i]);
    answer = json_pack("{s:o}", "gpus", list);
    cli_print_json(answer);
    json_decref(answer);
}

int cmd_gpu_list(struct cli *cli) {
    g_autoptr(GPtrArray) chosen = NULL;
    struct filter filter;
    GError *error = NULL;
    json_t *answer;
    struct cli_api *api;

    if (!read_filter(cli, &filter, &error))
        return cli_fail(error);
    api = cli_api_new(cli->host_url);
    answer = cli_api_get(api, "/gpus", &error);
    cli_api_free(api);
    if (!answer)
        return cli_fail(error);
    chosen = choose(json_object_get(answer, "gpus"), &filter, cli_flag(cli, "free"));
    if (cli_wants_json(cli))
        print_list_json(chosen);
    else if (chosen->len == 0)
        fprintf(stderr, "no GPUs: %s\n",
                json_array_size(json_object_get(answer, "gpus")) ? "none fits" : "no node has one");
    else
        print_list(chosen);
    json_decref(answer);
    return CLI_EXIT_OK;
}

/* ---- gpu who ---- */

static char *process_lease(const json_t *process) {
    const char *container = show_str(process, "container"), *name = show_str(process, "name");
    g_autofree char *head = container && container[0] ? g_strndup(container, 12) : NULL;

    if (show_has(process, "task_id"))
        return g_strdup_printf("task %" PRId64 "%s%s", show_int(process, "task_id"), name ? " " : "", name ? name : "");
    return head ? g_strdup_printf("container %s, no lease", head) : g_strdup("no lease");
}

static void process_row(struct table *table, const json_t *process) {
    g_autofree char *span = show_span(show_int(process, "started_ms"), 0), *lease = process_lease(process);
    char memory[UNITS_TEXT_BYTES];

    table_row(table);
    table_cellf(table, "%" PRId64, show_int(process, "pid"));
    table_cell(table, show_str(process, "user"));
    table_cell(table, show_has(process, "memory_bytes") ? units_bytes_to_str(show_int(process, "memory_bytes"), memory)
                                                        : NULL);
    table_cell(table, span);
    table_cell(table, lease);
    if (!show_has(process, "task_id"))
        table_colour(table, "red");
    table_cell(table, show_str(process, "command"));
}

static void print_processes(const json_t *processes) {
    static const struct table_column columns[] = {
        {"PID", TABLE_RIGHT, 0, false},  {"USER", TABLE_LEFT, 20, false},  {"GPU MEMORY", TABLE_RIGHT, 0, false},
        {"RUNS", TABLE_RIGHT, 0, false}, {"LEASE", TABLE_LEFT, 32, false}, {"COMMAND", TABLE_LEFT, 0, true},
        {NULL, TABLE_LEFT, 0, false}};
    struct table *table = table_new(columns, true);
    const json_t *process;
    size_t i;

    json_array_foreach (processes, i, process)
        process_row(table, process);
    table_print(table);
    table_free(table);
}

static void print_who(const json_t *answer) {
    const json_t *gpu = json_object_get(answer, "gpu"), *processes = json_object_get(answer, "processes");
    g_autofree char *holder = show_gpu_holder(gpu), *clean = cli_clean(holder ? holder : "nobody");
    const char *reason = show_str(gpu, "state_reason"), *why = show_str(answer, "incomplete");

    printf("GPU %" PRId64 "  %s  %s\n", show_int(gpu, "index"), show_str(gpu, "name"), show_str(gpu, "uuid"));
    printf("state    %s%s%s\n", show_gpu_state(gpu), reason ? ": " : "", reason ? reason : "");
    printf("held by  %s\n", clean);
    if (json_array_size(processes) > 0)
        print_processes(processes);
    else
        printf("no process is on it\n");
    if (why)
        cli_note("the list may not be complete: %s", why);
}

static bool read_card(const struct cli *cli, struct target *target, GError **error) {
    const char *text = cli->args[0];

    if (!target_from_str(text, strlen(text), target, error)) {
        (*error)->code = KR_ERROR_USAGE;
        return false;
    }
    return target->n_gpus == 1 ||
           kr_fail(error, USAGE, "\"%s\" is not one GPU: write NODE::IDX, as in mynode::0", text);
}

int cmd_gpu_who(struct cli *cli) {
    g_autofree char *path = NULL, *name = NULL;
    struct target target;
    struct cli_api *api;
    GError *error = NULL;
    json_t *answer;

    if (!read_card(cli, &target, &error))
        return cli_fail(error);
    name = g_uri_escape_string(target.node, NULL, FALSE);
    path = g_strdup_printf("/nodes/%s/gpus/%d/processes", name, target.gpus[0]);
    api = cli_api_new(cli->host_url);
    answer = cli_api_get(api, path, &error);
    cli_api_free(api);
    if (!answer)
        return cli_fail(error);
    if (cli_wants_json(cli))
        cli_print_json(answer);
    else
        print_who(answer);
    json_decref(answer);
    return CLI_EXIT_OK;
}
