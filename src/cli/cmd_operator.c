/* Orders of users and operators: pause and resume, forced release, cordon, drain, and the log of what was ordered. */
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "cli/api.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/show.h"
#include "cli/table.h"
#include "model/operator.h"
#include "model/target.h"

/* ---- the order: who, why ---- */

char *cli_who(void) {
    const struct passwd *me = getpwuid(getuid());
    g_autofree char *who = me ? g_strdup_printf("%s@%s", me->pw_name, g_get_host_name())
                              : g_strdup_printf("uid %u@%s", getuid(), g_get_host_name());
    g_autofree char *head = g_strndup(who, OPERATOR_WHO_MAX_BYTES - 8); /* cut bytes may grow when made valid */

    return g_utf8_make_valid(head, -1);
}

json_t *cli_order_body(const char *reason) {
    g_autofree char *who = cli_who();
    json_t *body = json_pack("{s:s}", "who", who);

    if (reason)
        json_object_set_new(body, "reason", json_string(reason));
    return body;
}

static bool check_reason(const struct cli *cli, GError **error) {
    const char *reason = cli_text(cli, "reason");

    return !reason || g_utf8_validate(reason, -1, NULL) || kr_fail(error, USAGE, "--reason is not valid UTF-8");
}

/* Posts the order. The answer, or NULL with the error told and *ret_exit set. */
static json_t *give_order(struct cli *cli, struct cli_api *api, const char *path, int *ret_exit) {
    GError *error = NULL;
    json_t *body, *answer;

    if (!check_reason(cli, &error)) {
        *ret_exit = cli_fail(error);
        return NULL;
    }
    body = cli_order_body(cli_text(cli, "reason"));
    answer = cli_api_call(api, "POST", path, body, NULL, &error);
    json_decref(body);
    if (!answer)
        *ret_exit = cli_fail(error);
    return answer;
}

/* ---- task pause, resume ---- */

static int wish_each(struct cli *cli, const char *wish, const char *done) {
    struct cli_api *api = cli_api_new(cli->host_url);
    int exit_code = CLI_EXIT_OK;

    for (char **arg = cli->args; *arg; arg++) {
        GError *error = NULL;
        json_t *empty = json_object(), *task = NULL;
        uint32_t id;
        if (cli_task_id_from_str(*arg, &id, &error)) {
            g_autofree char *path = g_strdup_printf("/tasks/%" PRIu32 "/%s", id, wish);
            task = cli_api_call(api, "POST", path, empty, NULL, &error);
        }
        if (task)
            printf("task %" PRIu32 " %s\n", id, done);
        else
            exit_code = cli_fail(error);
        json_decref(task);
        json_decref(empty);
    }
    cli_api_free(api);
    return exit_code;
}

int cmd_task_pause(struct cli *cli) { return wish_each(cli, "pause", "is asked to pause; it keeps its GPUs"); }
int cmd_task_resume(struct cli *cli) { return wish_each(cli, "resume", "is asked to go on"); }

/* ---- task release ---- */

bool cli_orphan_from_str(const char *text, uint32_t *ret_id, char **ret_node, GError **error) {
    const char *at = strchr(text, '@');
    g_autofree char *number = at ? g_strndup(text, (gsize)(at - text)) : NULL;

    if (!at || !node_name_check(at + 1, strlen(at + 1), error) || !cli_task_id_from_str(number, ret_id, error))
        return false;
    *ret_node = g_strdup(at + 1);
    return true;
}

static bool is_confirmed(const struct cli *cli, const char *what) {
    char answer[16] = "";

    if (cli_flag(cli, "yes"))
        return true;
    if (!isatty(STDIN_FILENO)) {
        fprintf(stderr, "kohakuriver: this wants a confirmation: give --yes\n");
        return false;
    }
    fprintf(stderr, "%s\nType \"yes\" to go on: ", what);
    if (!fgets(answer, sizeof answer, stdin) || strcmp(g_strstrip(answer), "yes") != 0) {
        fprintf(stderr, "nothing was done\n");
        return false;
    }
    return true;
}

int cmd_task_release(struct cli *cli) {
    static const char what[] = "The lease is given up without proof that nothing of the task is left on its GPUs.\n"
                               "They are granted again as soon as their node shows them at rest.";
    g_autofree char *path = NULL, *node = NULL;
    struct cli_api *api;
    int exit_code = CLI_EXIT_OK;
    GError *error = NULL;
    json_t *answer;
    uint32_t id;

    if (!cli_flag(cli, "force")) {
        kr_fail(
            &error, USAGE,
            "a lease ends by itself when its task has ended and its GPUs are proved to be free; --force gives it up "
            "without proof");
        return cli_fail(error);
    }
    if (strchr(cli->args[0], '@')) {
        if (!cli_orphan_from_str(cli->args[0], &id, &node, &error))
            return cli_fail(error);
        path = g_strdup_printf("/nodes/%s/orphans/%" PRIu32 "/release", node, id);
    } else {
        if (!cli_task_id_from_str(cli->args[0], &id, &error))
            return cli_fail(error);
        path = g_strdup_printf("/tasks/%" PRIu32 "/release", id);
    }
    if (!is_confirmed(cli, what))
        return CLI_EXIT_USAGE;
    api = cli_api_new(cli->host_url);
    answer = give_order(cli, api, path, &exit_code);
    if (answer && show_bool(answer, "holds_lease"))
        printf("task %" PRIu32 ": its node is told to give the lease up; it does so when no container is left\n", id);
    else if (answer)
        printf("the lease of task %s is released\n", cli->args[0]);
    json_decref(answer);
    cli_api_free(api);
    return exit_code;
}

/* ---- node cordon, uncordon, drain ---- */

static int mark_node(struct cli *cli, const char *action, const char *done) {
    g_autofree char *name = g_uri_escape_string(cli->args[0], NULL, FALSE);
    g_autofree char *path = g_strdup_printf("/nodes/%s/%s", name, action);
    struct cli_api *api = cli_api_new(cli->host_url);
    int exit_code = CLI_EXIT_OK;
    json_t *answer = give_order(cli, api, path, &exit_code);

    if (answer)
        printf("node %s %s\n", cli->args[0], done);
    json_decref(answer);
    cli_api_free(api);
    return exit_code;
}

int cmd_node_cordon(struct cli *cli) {
    return mark_node(cli, "cordon", "is cordoned: it gets no new tasks, those that run there go on");
}
int cmd_node_uncordon(struct cli *cli) { return mark_node(cli, "uncordon", "takes new tasks again"); }

/* The ids of the node's tasks, or NULL with the error told. */
static GArray *tasks_of(struct cli *cli, struct cli_api *api, int *ret_exit) {
    g_autofree char *name = g_uri_escape_string(cli->args[0], NULL, FALSE);
    g_autofree char *path = g_strdup_printf("/nodes/%s", name);
    GArray *ids = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    GError *error = NULL;
    json_t *answer = cli_api_get(api, path, &error);
    const json_t *tasks = json_object_get(json_object_get(answer, "node"), "tasks"), *item;
    size_t i;

    if (!answer)
        *ret_exit = cli_fail(error);
    json_array_foreach (tasks, i, item) {
        uint32_t id = (uint32_t)json_integer_value(item);
        g_array_append_val(ids, id);
    }
    json_decref(answer);
    return ids;
}

static int empty_node(struct cli *cli, struct cli_api *api, const GArray *ids) {
    struct follow_options options = {.fds = {-1, -1}};
    int exit_code = CLI_EXIT_OK;
    json_t *ended = NULL;
    GError *error = NULL;

    for (guint i = 0; cli_flag(cli, "kill") && i < ids->len; i++) {
        g_autofree char *path = g_strdup_printf("/tasks/%" PRIu32 "/kill", g_array_index(ids, uint32_t, i));
        json_t *empty = json_object(), *task = cli_api_call(api, "POST", path, empty, NULL, &error);
        if (!task)
            exit_code = cli_fail(g_steal_pointer(&error));
        json_decref(task);
        json_decref(empty);
    }
    if (cli_flag(cli, "wait") && ids->len > 0)
        exit_code = follow_tasks(api, (const uint32_t *)(const void *)ids->data, ids->len, &options, &ended, &error);
    json_decref(ended);
    return error ? cli_fail(error) : exit_code;
}

static void print_left(guint n, bool is_kill) {
    if (n == 0)
        printf("no task is left on it\n");
    else
        printf("%u task%s left on it, %s\n", n, n == 1 ? " is" : "s are",
               is_kill ? "asked to end" : "going on until the end");
}

int cmd_node_drain(struct cli *cli) {
    int exit_code = mark_node(cli, "drain", "is drained: it gets no new tasks");
    struct cli_api *api;
    GArray *ids;

    if (exit_code != CLI_EXIT_OK)
        return exit_code;
    api = cli_api_new(cli->host_url);
    ids = tasks_of(cli, api, &exit_code);
    if (exit_code == CLI_EXIT_OK) {
        print_left(ids->len, cli_flag(cli, "kill"));
        exit_code = empty_node(cli, api, ids);
        if (exit_code == CLI_EXIT_OK && cli_flag(cli, "wait") && ids->len > 0)
            printf("node %s is empty\n", cli->args[0]);
    }
    g_array_unref(ids);
    cli_api_free(api);
    return exit_code;
}

/* ---- gpu cordon, uncordon ---- */

static int mark_gpus(struct cli *cli, const char *action, const char *done) {
    struct cli_api *api;
    int exit_code = CLI_EXIT_OK;
    struct target target;
    GError *error = NULL;

    if (!target_from_str(cli->args[0], strlen(cli->args[0]), &target, &error))
        return cli_fail(error);
    if (target.n_gpus == 0 || target.numa != TARGET_NO_NUMA) {
        kr_fail(&error, USAGE, "\"%s\" names no GPU: write NODE::IDX, such as mynode::3", cli->args[0]);
        return cli_fail(error);
    }
    api = cli_api_new(cli->host_url);
    for (size_t i = 0; i < target.n_gpus && exit_code == CLI_EXIT_OK; i++) {
        g_autofree char *path = g_strdup_printf("/nodes/%s/gpus/%d/%s", target.node, target.gpus[i], action);
        json_t *answer = give_order(cli, api, path, &exit_code);
        if (answer)
            printf("GPU %d of %s %s\n", target.gpus[i], target.node, done);
        json_decref(answer);
    }
    cli_api_free(api);
    return exit_code;
}

int cmd_gpu_cordon(struct cli *cli) {
    return mark_gpus(cli, "cordon", "is cordoned: it is granted to nobody new; who has it keeps it");
}
int cmd_gpu_uncordon(struct cli *cli) { return mark_gpus(cli, "uncordon", "can be granted again"); }

/* ---- audit ---- */

static void print_audit(const json_t *entries) {
    static const struct table_column columns[] = {
        {"WHEN", TABLE_LEFT, 0, false},  {"WHO", TABLE_LEFT, 24, false},        {"ORDER", TABLE_LEFT, 0, false},
        {"ABOUT", TABLE_LEFT, 0, false}, {"WHAT IT DID", TABLE_LEFT, 0, false}, {NULL, TABLE_LEFT, 0, false}};
    struct table *table = table_new(columns, true);
    const json_t *entry;
    size_t i;

    json_array_foreach (entries, i, entry) {
        char when[CLOCK_TEXT_BYTES];
        table_row(table);
        table_cell(table, clock_utc_to_str(show_int(entry, "at_ms"), when));
        table_cell(table, show_str(entry, "who"));
        table_cell(table, show_str(entry, "action"));
        table_cell(table, show_str(entry, "subject"));
        table_cell(table, show_str(entry, "text"));
    }
    table_print(table);
    table_free(table);
}

int cmd_audit(struct cli *cli) {
    g_autofree char *path = cli_api_query("/audit", "limit", cli_text(cli, "limit"), (const char *)NULL);
    struct cli_api *api = cli_api_new(cli->host_url);
    GError *error = NULL;
    json_t *answer = cli_api_get(api, path, &error);

    cli_api_free(api);
    if (!answer)
        return cli_fail(error);
    if (cli_wants_json(cli))
        cli_print_json(answer);
    else if (json_array_size(json_object_get(answer, "entries")) == 0)
        fprintf(stderr, "no orders were given yet\n");
    else
        print_audit(json_object_get(answer, "entries"));
    json_decref(answer);
    return CLI_EXIT_OK;
}
