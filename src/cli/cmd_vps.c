/* vps create, list, status, stop, start, restart, pause, resume, delete, logs. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/units.h"
#include "cli/api.h"
#include "cli/cli.h"
#include "cli/show.h"
#include "cli/table.h"

enum { RESTART_WAIT_S = 180 };

/* ---- which one: a number or a name ---- */

static const json_t *find(const json_t *list, const char *text) {
    const json_t *vps;
    size_t i;

    json_array_foreach (json_object_get(list, "vps"), i, vps) {
        g_autofree char *number = g_strdup_printf("%" PRId64, show_int(vps, "id"));
        if (strcmp(number, text) == 0 || g_strcmp0(show_str(vps, "name"), text) == 0)
            return vps;
    }
    return NULL;
}

json_t *cli_vps_get(struct cli_api *api, const char *text, GError **error) {
    json_t *list = cli_api_get(api, "/vps", error);
    json_t *vps = list ? json_incref((json_t *)(uintptr_t)find(list, text)) : NULL;

    if (list && !vps)
        kr_fail(error, NOT_FOUND, "there is no VPS \"%s\"; `kohakuriver vps list` shows them", text);
    json_decref(list);
    return vps;
}

/* ---- list, status ---- */

static const char *state_colour(const char *state) {
    if (g_strcmp0(state, "running") == 0)
        return "green";
    return g_strcmp0(state, "failed") == 0 || g_strcmp0(state, "lost") == 0 ? "red" : "yellow";
}

static void vps_row(struct table *table, const json_t *vps) {
    g_autofree char *gpus = show_gpus(json_object_get(vps, "gpus"), "-");
    const char *state = show_str(vps, "state");
    char memory[UNITS_TEXT_BYTES];
    g_autofree char *age = show_span(show_int(vps, "created_ms"), 0);

    table_row(table);
    table_cellf(table, "%" PRId64, show_int(vps, "id"));
    table_cell(table, show_str(vps, "name"));
    table_cell(table, state);
    table_colour(table, state_colour(state));
    table_cell(table, show_str(vps, "node"));
    table_cell(table, gpus);
    table_cellf(table, "%" PRId64, show_int(vps, "cores"));
    table_cell(table, units_bytes_to_str(show_int(vps, "memory_bytes"), memory));
    table_cell(table, age);
    table_cell(table, show_str(vps, "owner"));
}

int cmd_vps_list(struct cli *cli) {
    static const struct table_column columns[] = {{"ID", TABLE_RIGHT, 0, false},     {"NAME", TABLE_LEFT, 24, false},
                                                  {"STATE", TABLE_LEFT, 0, false},   {"NODE", TABLE_LEFT, 20, false},
                                                  {"GPUS", TABLE_LEFT, 0, false},    {"CORES", TABLE_RIGHT, 0, false},
                                                  {"MEMORY", TABLE_RIGHT, 0, false}, {"AGE", TABLE_RIGHT, 0, false},
                                                  {"OWNER", TABLE_LEFT, 0, true},    {NULL, TABLE_LEFT, 0, false}};
    struct cli_api *api = cli_api_new(cli->host_url);
    GError *error = NULL;
    json_t *list = cli_api_get(api, "/vps", &error);
    const json_t *vps;
    struct table *table;
    size_t i;

    cli_api_free(api);
    if (!list)
        return cli_fail(error);
    if (cli_wants_json(cli)) {
        cli_print_json(list);
    } else if (json_array_size(json_object_get(list, "vps")) == 0) {
        fprintf(stderr, "no virtual machines: `kohakuriver vps create` makes one\n");
    } else {
        table = table_new(columns, true);
        json_array_foreach (json_object_get(list, "vps"), i, vps)
            vps_row(table, vps);
        table_print(table);
        table_free(table);
    }
    json_decref(list);
    return CLI_EXIT_OK;
}

static void fact(struct table *table, const char *name, const char *value) {
    if (!value || !value[0])
        return;
    table_row(table);
    table_cell(table, name);
    table_cell(table, value);
}

/* The guest's own word: what it says is cleaned of control characters where it is taken (vm/guest_agent.c). */
static void guest_facts(struct table *table, const json_t *guest) {
    g_autofree char *driver = NULL;
    const json_t *gpu;
    size_t i;

    if (!guest)
        return;
    fact(table, "guest",
         show_bool(guest, "ready")    ? show_bool(guest, "silent") ? "was ready, and is silent now" : "ready"
         : show_bool(guest, "late")   ? "late: it is not ready and should be (`vps logs` shows its console)"
         : show_bool(guest, "silent") ? "silent"
         : show_bool(guest, "heard")  ? "starting"
                                      : "has said nothing yet");
    fact(table, "address", show_str(guest, "address"));
    if (show_str(guest, "driver"))
        driver = g_strjoin(" ", show_str(guest, "driver"),
                           show_str(guest, "driver_version") ? show_str(guest, "driver_version") : "",
                           show_str(guest, "driver_text") ? show_str(guest, "driver_text") : "", NULL);
    fact(table, "driver", driver ? g_strchomp(driver) : NULL);
    json_array_foreach (json_object_get(guest, "gpus"), i, gpu) {
        g_autofree char *memory = show_bytes_pair(gpu, "memory_used_bytes", "memory_total_bytes");
        g_autofree char *use = show_has(gpu, "utilization_percent")
                                   ? g_strdup_printf("%" PRId64 " %%", show_int(gpu, "utilization_percent"))
                                   : g_strdup("-");
        g_autofree char *line = g_strdup_printf("%s, %s, memory %s", show_str(gpu, "name"), use, memory);
        fact(table, i == 0 ? "its GPUs" : " ", line);
    }
}

static void print_status(const json_t *vps) {
    static const struct table_column columns[] = {
        {"FACT", TABLE_LEFT, 0, false}, {"VALUE", TABLE_LEFT, 0, false}, {NULL, TABLE_LEFT, 0, false}};
    struct table *table = table_new(columns, false);
    g_autofree char *id = g_strdup_printf("%" PRId64, show_int(vps, "id"));
    g_autofree char *cores = g_strdup_printf("%" PRId64, show_int(vps, "cores"));
    g_autofree char *task = g_strdup_printf("%" PRId64, show_int(vps, "task_id"));
    g_autofree char *gpus = show_gpus(json_object_get(vps, "gpus"), "none now");
    char memory[UNITS_TEXT_BYTES], disk[UNITS_TEXT_BYTES], when[CLOCK_TEXT_BYTES];

    fact(table, "VPS", id);
    fact(table, "name", show_str(vps, "name"));
    fact(table, "owner", show_str(vps, "owner"));
    fact(table, "state", show_str(vps, "state"));
    fact(table, "reason", show_str(vps, "reason"));
    fact(table, "still held by", show_str(vps, "holding"));
    fact(table, "node", show_str(vps, "node"));
    fact(table, "target", show_str(vps, "target"));
    fact(table, "holds GPUs", gpus);
    fact(table, "cards", show_str(vps, "cards"));
    fact(table, "cores", cores);
    fact(table, "memory", units_bytes_to_str(show_int(vps, "memory_bytes"), memory));
    fact(table, "disk", units_bytes_to_str(show_int(vps, "disk_bytes"), disk));
    fact(table, "image", show_str(vps, "image"));
    fact(table, "login", show_str(vps, "user"));
    fact(table, "network", show_str(vps, "network"));
    fact(table, "task", task);
    fact(table, "created", clock_utc_to_str(show_int(vps, "created_ms"), when));
    if (show_int(vps, "started_ms") > 0)
        fact(table, "started", clock_utc_to_str(show_int(vps, "started_ms"), when));
    if (show_int(vps, "finished_ms") > 0)
        fact(table, "off since", clock_utc_to_str(show_int(vps, "finished_ms"), when));
    guest_facts(table, json_object_get(vps, "guest"));
    table_print(table);
    table_free(table);
}

int cmd_vps_status(struct cli *cli) {
    struct cli_api *api = cli_api_new(cli->host_url);
    GError *error = NULL;
    json_t *vps = cli_vps_get(api, cli->args[0], &error);

    cli_api_free(api);
    if (!vps)
        return cli_fail(error);
    if (cli_wants_json(cli))
        cli_print_json(vps);
    else
        print_status(vps);
    json_decref(vps);
    return CLI_EXIT_OK;
}

/* ---- start, stop … ---- */

/* Posts a wish about the machine that the first argument names. New reference, or NULL with the error. */
static json_t *wish(struct cli_api *api, const char *text, const char *what, GError **error) {
    json_t *vps = cli_vps_get(api, text, error), *empty = json_object(), *answer = NULL;
    g_autofree char *path = vps ? g_strdup_printf("/vps/%" PRId64 "/%s", show_int(vps, "id"), what) : NULL;

    if (vps)
        answer = cli_api_call(api, "POST", path, empty, NULL, error);
    json_decref(vps);
    json_decref(empty);
    return answer;
}

static int each(struct cli *cli, const char *what, const char *done) {
    struct cli_api *api = cli_api_new(cli->host_url);
    int exit_code = CLI_EXIT_OK;

    for (char **arg = cli->args; *arg; arg++) {
        GError *error = NULL;
        json_t *answer = wish(api, *arg, what, &error);

        if (answer)
            printf("VPS %s %s\n", *arg, done);
        else
            exit_code = cli_fail(error);
        json_decref(answer);
    }
    cli_api_free(api);
    return exit_code;
}

int cmd_vps_start(struct cli *cli) { return each(cli, "start", "is being started"); }
int cmd_vps_stop(struct cli *cli) {
    return each(cli, "stop", "was asked to power off; its GPUs are free when it is off");
}
int cmd_vps_pause(struct cli *cli) { return each(cli, "pause", "is being paused; it keeps its GPUs"); }
int cmd_vps_resume(struct cli *cli) { return each(cli, "resume", "goes on"); }
int cmd_vps_delete(struct cli *cli) { return each(cli, "delete", "is deleted, with its disk"); }

static bool is_off(const json_t *vps) {
    const char *state = show_str(vps, "state");

    return g_strcmp0(state, "stopped") == 0 || g_strcmp0(state, "failed") == 0;
}

/* Stops it where it is on, waits until it holds nothing, starts it. */
static bool restart(struct cli_api *api, const char *text, GError **error) {
    json_t *vps = cli_vps_get(api, text, error), *answer = NULL;
    bool ok = vps != NULL;

    if (vps && !is_off(vps))
        ok = (answer = wish(api, text, "stop", error)) != NULL;
    json_decref(answer);
    for (int i = 0; ok && !is_off(vps); i++) {
        if (i == RESTART_WAIT_S * 4) {
            ok = kr_fail(error, TIMEOUT, "VPS %s is not off yet: `vps start %s` starts it when it is", text, text);
            break;
        }
        g_usleep(250000);
        json_decref(vps);
        vps = cli_vps_get(api, text, error);
        ok = vps != NULL;
    }
    answer = ok ? wish(api, text, "start", error) : NULL;
    ok = answer != NULL;
    json_decref(answer);
    json_decref(vps);
    return ok;
}

int cmd_vps_restart(struct cli *cli) {
    struct cli_api *api = cli_api_new(cli->host_url);
    int exit_code = CLI_EXIT_OK;

    for (char **arg = cli->args; *arg; arg++) {
        GError *error = NULL;

        if (restart(api, *arg, &error))
            printf("VPS %s is being started again\n", *arg);
        else
            exit_code = cli_fail(error);
    }
    cli_api_free(api);
    return exit_code;
}

/* ---- logs: its serial console ---- */

int cmd_vps_logs(struct cli *cli) {
    struct cli_api *api = cli_api_new(cli->host_url);
    GError *error = NULL;
    json_t *vps = cli_vps_get(api, cli->args[0], &error);
    g_autofree char *number = vps ? g_strdup_printf("%" PRId64, show_int(vps, "task_id")) : NULL;
    int exit_code;

    cli_api_free(api);
    if (!vps)
        return cli_fail(error);
    json_decref(vps);
    g_free(cli->args[0]);
    cli->args[0] = g_steal_pointer(&number);
    exit_code = cmd_task_logs(cli);
    return exit_code;
}
