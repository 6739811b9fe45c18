/* Verbs that look at tasks and end them. task submit has a file of its own. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/units.h"
#include "cli/api.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/show.h"
#include "cli/table.h"

static int print_whole_answer(json_t *answer) {
    cli_print_json(answer);
    json_decref(answer);
    return CLI_EXIT_OK;
}

/* ---- task list ---- */

static void list_row(struct table *table, const json_t *task) {
    g_autofree char *gpus = show_gpus(json_object_get(task, "gpus"), "-");
    g_autofree char *age = show_span(show_int(task, "created_ms"), 0);
    g_autofree char *ran = show_span(show_int(task, "started_ms"), show_int(task, "finished_ms"));
    g_autofree char *command = show_command(task);
    const char *state = show_str(task, "state");

    table_row(table);
    table_cellf(table, "%" PRId64, show_int(task, "id"));
    table_cell(table, state);
    table_colour(table, show_state_colour(state));
    table_cell(table, show_str(task, "node"));
    table_cell(table, gpus);
    if (show_has(task, "exit_code"))
        table_cellf(table, "%" PRId64, show_int(task, "exit_code"));
    else
        table_cell(table, "-");
    table_cell(table, age);
    table_cell(table, ran);
    table_cell(table, show_str(task, "name"));
    table_cell(table, command);
}

static void print_list(const json_t *tasks) {
    static const struct table_column columns[] = {{"ID", TABLE_RIGHT, 0, false},    {"STATE", TABLE_LEFT, 0, false},
                                                  {"NODE", TABLE_LEFT, 16, false},  {"GPUS", TABLE_LEFT, 12, false},
                                                  {"EXIT", TABLE_RIGHT, 0, false},  {"AGE", TABLE_LEFT, 0, false},
                                                  {"RAN", TABLE_LEFT, 0, false},    {"NAME", TABLE_LEFT, 12, false},
                                                  {"COMMAND", TABLE_LEFT, 0, true}, {NULL, TABLE_LEFT, 0, false}};
    struct table *table = table_new(columns, true);
    const json_t *task;
    size_t i;

    json_array_foreach (tasks, i, task)
        list_row(table, task);
    table_print(table);
    table_free(table);
}

int cmd_task_list(struct cli *cli) {
    g_autofree char *path = cli_api_query("/tasks", "status", cli_text(cli, "status"), "node", cli_text(cli, "node"),
                                          "limit", cli_text(cli, "limit"), NULL);
    struct cli_api *api = cli_api_new(cli->host_url);
    GError *error = NULL;
    json_t *answer = cli_api_get(api, path, &error);

    cli_api_free(api);
    if (!answer)
        return cli_fail(error);
    if (cli_wants_json(cli))
        return print_whole_answer(answer);
    if (json_array_size(json_object_get(answer, "tasks")) == 0)
        fprintf(stderr, "no tasks\n");
    else
        print_list(json_object_get(answer, "tasks"));
    json_decref(answer);
    return CLI_EXIT_OK;
}

/* ---- task status ---- */

static void fact(struct table *table, const char *name, const char *value) {
    if (!value || !value[0])
        return;
    table_row(table);
    table_cell(table, name);
    table_cell(table, value);
}

static void fact_number(struct table *table, const char *name, const json_t *task, const char *key) {
    g_autofree char *text = g_strdup_printf("%" PRId64, show_int(task, key));

    if (show_has(task, key))
        fact(table, name, text);
}

static void fact_time(struct table *table, const char *name, const json_t *task, const char *key) {
    char when[CLOCK_TEXT_BYTES];

    if (show_int(task, key) > 0)
        fact(table, name, clock_utc_to_str(show_int(task, key), when));
}

static void fact_list(struct table *table, const char *name, const json_t *list) {
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item)
        fact(table, i ? " " : name, json_string_value(item));
}

static void fact_gpus(struct table *table, const json_t *gpus) {
    const json_t *gpu;
    size_t i;

    json_array_foreach (gpus, i, gpu) {
        g_autofree char *text = g_strdup_printf("%" PRId64 "  %s", show_int(gpu, "index"), show_str(gpu, "uuid"));
        fact(table, i ? " " : "GPUs", text);
    }
    if (json_array_size(gpus) == 0)
        fact(table, "GPUs", "none");
}

static void status_result(struct table *table, const json_t *task) {
    g_autofree char *reason = show_reason(task);
    g_autofree char *ran = show_span(show_int(task, "started_ms"), show_int(task, "finished_ms"));

    fact(table, "state", show_str(task, "state"));
    fact(table, "reason", reason);
    fact_number(table, "exit code", task, "exit_code");
    if (show_bool(task, "kill_requested"))
        fact(table, "kill", "asked for");
    fact(table, "lease", show_bool(task, "holds_lease") ? "held" : "released");
    fact(table, "still held by", show_str(task, "holding"));
    fact_time(table, "submitted", task, "created_ms");
    fact_time(table, "started", task, "started_ms");
    fact_time(table, "finished", task, "finished_ms");
    if (show_int(task, "started_ms") > 0)
        fact(table, "ran", ran);
}

static void status_request(struct table *table, const json_t *task) {
    g_autofree char *command = show_command(task);
    char buf[UNITS_TEXT_BYTES];

    fact(table, "node", show_str(task, "node"));
    fact(table, "target", show_str(task, "target"));
    fact_gpus(table, json_object_get(task, "gpus"));
    fact_number(table, "NUMA node", task, "numa");
    if (show_int(task, "cores") > 0)
        fact_number(table, "cores", task, "cores");
    if (show_int(task, "memory_bytes") > 0)
        fact(table, "memory", units_bytes_to_str(show_int(task, "memory_bytes"), buf));
    fact(table, "image", show_str(task, "image") ? show_str(task, "image") : "the node's default");
    fact(table, "command", command);
    fact_list(table, "env", json_object_get(task, "env"));
    fact_list(table, "mounts", json_object_get(task, "mounts"));
    fact(table, "batch", show_str(task, "batch_id"));
    fact_number(table, "epoch", task, "epoch");
}

static void print_status(const json_t *task) {
    static const struct table_column columns[] = {
        {"FACT", TABLE_LEFT, 0, false}, {"VALUE", TABLE_LEFT, 0, false}, {NULL, TABLE_LEFT, 0, false}};
    struct table *table = table_new(columns, false);

    fact_number(table, "task", task, "id");
    fact(table, "name", show_str(task, "name"));
    fact(table, "owner", show_str(task, "owner"));
    status_result(table, task);
    status_request(table, task);
    table_print(table);
    table_free(table);
}

/* What happened, line by line. A host that is too old to tell says nothing. */
static void print_events(const json_t *events) {
    const json_t *event;
    char when[CLOCK_TEXT_BYTES];
    size_t i;

    if (json_array_size(events) > 0)
        printf("\n");
    json_array_foreach (events, i, event) {
        const char *text = show_str(event, "text");
        g_autofree char *clean = cli_clean(text ? text : "-");
        printf("%s  %s\n", clock_utc_to_str(show_int(event, "at_ms"), when), clean);
    }
}

/* The task named by the first argument, or NULL with *ret_exit set. */
static json_t *get_task(struct cli *cli, struct cli_api *api, uint32_t *ret_id, int *ret_exit) {
    GError *error = NULL;
    json_t *task = NULL;

    if (cli_task_id_from_str(cli->args[0], ret_id, &error)) {
        g_autofree char *path = g_strdup_printf("/tasks/%" PRIu32, *ret_id);
        task = cli_api_get(api, path, &error);
    }
    if (!task)
        *ret_exit = cli_fail(error);
    return task;
}

int cmd_task_status(struct cli *cli) {
    struct cli_api *api = cli_api_new(cli->host_url);
    int exit_code = CLI_EXIT_OK;
    uint32_t id;
    json_t *task = get_task(cli, api, &id, &exit_code), *events = NULL;

    if (task) {
        g_autofree char *path = g_strdup_printf("/tasks/%" PRIu32 "/events", id);
        events = cli_api_get(api, path, NULL);
    }
    cli_api_free(api);
    if (!task)
        return exit_code;
    if (cli_wants_json(cli)) {
        json_object_update(task, events);
        json_decref(events);
        return print_whole_answer(task);
    }
    print_status(task);
    print_events(json_object_get(events, "events"));
    json_decref(events);
    json_decref(task);
    return CLI_EXIT_OK;
}

/* ---- task logs ---- */

struct log_copy {
    bool is_done;
    bool is_broken; /* stdout does not take it */
    struct cli_api *api;
    GError *error;
};

static void on_log_data(void *user, const char *bytes, size_t len) {
    struct log_copy *copy = user;

    if (!copy->error && !fd_write_all(STDOUT_FILENO, bytes, len))
        kr_fail(&copy->error, IO, "writing the output: %s", g_strerror(errno));
}

static void on_log_done(void *user, int status, const char *body, size_t len, const GError *failure) {
    struct log_copy *copy = user;

    copy->is_done = true;
    cli_api_wake(copy->api);
    if (!copy->error && (failure || status < 200 || status >= 300))
        json_decref(cli_api_decode(copy->api, status, body, len, failure, NULL, &copy->error));
}

static int print_logs(struct cli_api *api, uint32_t id, const char *which) {
    g_autofree char *path = g_strdup_printf("/tasks/%" PRIu32 "/logs?stream=%s&follow=0", id, which);
    g_autofree char *url = cli_api_url(api, path);
    struct log_copy copy = {.api = api};
    struct http_request request = {
        .method = "GET", .url = url, .user = &copy, .on_data = on_log_data, .on_done = on_log_done};

    http_client_start(cli_api_client(api), &request);
    while (!copy.is_done)
        uv_run(cli_api_loop(api), UV_RUN_ONCE);
    return copy.error ? cli_fail(copy.error) : CLI_EXIT_OK;
}

static int follow_logs(struct cli_api *api, uint32_t id, bool wants_stderr) {
    struct follow_options options = {.fds = {wants_stderr ? -1 : STDOUT_FILENO, wants_stderr ? STDOUT_FILENO : -1}};
    GError *error = NULL;
    json_t *tasks = NULL;
    int exit_code = follow_tasks(api, &id, 1, &options, &tasks, &error);

    json_decref(tasks);
    return error ? cli_fail(error) : exit_code;
}

int cmd_task_logs(struct cli *cli) {
    struct cli_api *api = cli_api_new(cli->host_url);
    bool wants_stderr = cli_flag(cli, "stderr");
    int exit_code = CLI_EXIT_OK;
    uint32_t id;
    json_t *task = get_task(cli, api, &id, &exit_code);

    if (task && cli_flag(cli, "follow"))
        exit_code = follow_logs(api, id, wants_stderr);
    else if (task)
        exit_code = print_logs(api, id, wants_stderr ? "stderr" : "stdout");
    json_decref(task);
    cli_api_free(api);
    return exit_code;
}

/* ---- task watch ---- */

static void print_change(void *user, const json_t *task) {
    struct cli *cli = user;
    g_autofree char *reason = show_reason(task), *where = show_where(task), *json = NULL;
    char when[CLOCK_TEXT_BYTES];

    if (cli_wants_json(cli)) {
        json = jsonx_to_str(task);
        printf("%s\n", json);
    } else {
        g_autofree char *clean = cli_clean(reason ? reason : where);
        printf("%s  task %" PRId64 "  %-9s  %s", clock_utc_to_str(clock_wall_ms(), when), show_int(task, "id"),
               show_str(task, "state"), clean);
        if (show_has(task, "exit_code"))
            printf(" (exit code %" PRId64 ")", show_int(task, "exit_code"));
        putchar('\n');
    }
    fflush(stdout);
}

int cmd_task_watch(struct cli *cli) {
    struct follow_options options = {.fds = {-1, -1}, .on_change = print_change, .user = cli};
    struct cli_api *api = cli_api_new(cli->host_url);
    json_t *tasks = NULL, *task;
    int exit_code = CLI_EXIT_OK;
    GError *error = NULL;
    uint32_t id;

    if ((task = get_task(cli, api, &id, &exit_code))) {
        json_decref(task);
        exit_code = follow_tasks(api, &id, 1, &options, &tasks, &error);
        if (error)
            exit_code = cli_fail(error);
        else if (tasks)
            exit_code = show_exit_code(json_array_get(tasks, 0));
    }
    json_decref(tasks);
    cli_api_free(api);
    return exit_code;
}

/* ---- task kill ---- */

static bool kill_one(struct cli_api *api, uint32_t id, GError **error) {
    g_autofree char *path = g_strdup_printf("/tasks/%" PRIu32 "/kill", id);
    json_t *empty = json_object(), *task = cli_api_call(api, "POST", path, empty, NULL, error);

    json_decref(empty);
    if (task && show_is_over(task))
        printf("task %" PRIu32 " is over: %s\n", id, show_str(task, "state"));
    else if (task)
        printf("task %" PRIu32 " was asked to end; `kohakuriver task watch %" PRIu32 "` shows when it has\n", id, id);
    json_decref(task);
    return task != NULL;
}

/* Waits until the tasks are over. That one ended otherwise than asked is no failure of this verb. */
static int wait_for_end(struct cli_api *api, const GArray *ids) {
    struct follow_options options = {.fds = {-1, -1}};
    json_t *tasks = NULL;
    GError *error = NULL;
    int exit_code = follow_tasks(api, (const uint32_t *)(const void *)ids->data, ids->len, &options, &tasks, &error);

    for (size_t i = 0; i < json_array_size(tasks); i++)
        printf("task %" PRId64 " is over: %s\n", show_int(json_array_get(tasks, i), "id"),
               show_str(json_array_get(tasks, i), "state"));
    json_decref(tasks);
    return error ? cli_fail(error) : exit_code;
}

static int kill_orphan(struct cli_api *api, const char *text) {
    g_autofree char *node = NULL, *path = NULL;
    json_t *body = cli_order_body(NULL), *answer = NULL;
    GError *error = NULL;
    uint32_t id;

    if (cli_orphan_from_str(text, &id, &node, &error)) {
        path = g_strdup_printf("/nodes/%s/orphans/%" PRIu32 "/kill", node, id);
        answer = cli_api_call(api, "POST", path, body, NULL, &error);
    }
    if (answer)
        printf("node %s was asked to end its orphan %" PRIu32 "\n", node, id);
    json_decref(body);
    json_decref(answer);
    return answer ? CLI_EXIT_OK : cli_fail(error);
}

int cmd_task_kill(struct cli *cli) {
    g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    g_autoptr(GArray) asked = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    struct cli_api *api;
    int exit_code = CLI_EXIT_OK;

    for (char **arg = cli->args; *arg; arg++) {
        GError *error = NULL;
        g_autofree char *node = NULL;
        uint32_t id;
        if (strchr(*arg, '@') ? !cli_orphan_from_str(*arg, &id, &node, &error)
                              : !cli_task_id_from_str(*arg, &id, &error))
            return cli_fail(error);
        if (!node)
            g_array_append_val(ids, id);
    }
    api = cli_api_new(cli->host_url);
    for (char **arg = cli->args; *arg; arg++)
        if (strchr(*arg, '@'))
            exit_code = MAX(exit_code, kill_orphan(api, *arg));
    for (guint i = 0; i < ids->len; i++) {
        GError *error = NULL;
        if (kill_one(api, g_array_index(ids, uint32_t, i), &error))
            g_array_append_val(asked, g_array_index(ids, uint32_t, i));
        else
            exit_code = cli_fail(error);
    }
    if (cli_flag(cli, "wait") && asked->len > 0) {
        int waited = wait_for_end(api, asked);
        exit_code = exit_code ? exit_code : waited;
    }
    cli_api_free(api);
    return exit_code;
}
