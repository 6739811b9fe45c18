/* task submit: the command line becomes a request body, byte for byte; the answer becomes one line per task. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/units.h"
#include "cli/api.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/show.h"

/* ---- the request ---- */

/* JSON is UTF-8: what is not cannot be sent, and is not silently changed. */
static bool set_text(json_t *body, const char *key, const char *text, GError **error) {
    if (!text)
        return true;
    if (!g_utf8_validate(text, -1, NULL))
        return kr_fail(error, USAGE, "--%s is not valid UTF-8", key);
    json_object_set_new(body, key, json_string(text));
    return true;
}

static bool set_list(json_t *body, const char *key, char *const *words, const char *what, GError **error) {
    json_t *list = json_array();

    json_object_set_new(body, key, list);
    for (int i = 0; words[i]; i++) {
        if (!g_utf8_validate(words[i], -1, NULL))
            return kr_fail(error, USAGE, "%s %d is not valid UTF-8: only text can be passed on", what, i + 1);
        json_array_append_new(list, json_string(words[i]));
    }
    return true;
}

/* "K=V" as it is; "K" takes the value from this environment and is left out when there is none, as docker does. */
static bool set_env(json_t *body, char *const *words, GError **error) {
    g_autoptr(GPtrArray) env = g_ptr_array_new_with_free_func(g_free);

    for (; *words; words++) {
        const char *value = strchr(*words, '=') ? NULL : getenv(*words);
        if (strchr(*words, '='))
            g_ptr_array_add(env, g_strdup(*words));
        else if (value)
            g_ptr_array_add(env, g_strconcat(*words, "=", value, NULL));
    }
    g_ptr_array_add(env, NULL);
    return set_list(body, "env", (char *const *)env->pdata, "--env", error);
}

static bool set_amounts(json_t *body, const struct cli *cli, GError **error) {
    const char *cores = cli_text(cli, "cores"), *memory = cli_text(cli, "memory");
    g_autoptr(GError) why = NULL;
    guint64 n_cores;
    int64_t bytes;

    if (cores && !g_ascii_string_to_unsigned(cores, 10, 1, G_MAXINT, &n_cores, NULL))
        return kr_fail(error, USAGE, "--cores is \"%s\", it must be a whole number of at least 1", cores);
    if (cores)
        json_object_set_new(body, "cores", json_integer((json_int_t)n_cores));
    if (memory && !units_bytes_from_str(memory, &bytes, &why))
        return kr_fail(error, USAGE, "--memory: %s", why->message);
    if (memory)
        json_object_set_new(body, "memory_bytes", json_integer(bytes));
    return true;
}

static json_t *request_body(const struct cli *cli, GError **error) {
    g_autofree char *who = cli_who();
    json_t *body = json_pack("{s:s}", "owner", who);

    if (set_list(body, "targets", cli_list(cli, "target"), "--target", error) &&
        set_list(body, "command", cli->command, "word of the command, number", error) &&
        set_env(body, cli_list(cli, "env"), error) &&
        set_list(body, "mounts", cli_list(cli, "mount"), "--mount", error) &&
        set_text(body, "image", cli_text(cli, "image"), error) &&
        set_text(body, "name", cli_text(cli, "name"), error) && set_amounts(body, cli, error))
        return body;
    json_decref(body);
    return NULL;
}

/* ---- the answer ---- */

static void print_submitted(const struct cli *cli, const json_t *tasks) {
    FILE *out = cli_flag(cli, "wait") ? stderr : stdout; /* stdout belongs to the task then */
    const json_t *task;
    size_t i;

    json_array_foreach (tasks, i, task) {
        g_autofree char *where = show_where(task), *clean = cli_clean(where);
        if (cli_flag(cli, "quiet"))
            fprintf(out, "%" PRId64 "\n", show_int(task, "id"));
        else
            fprintf(out, "task %" PRId64 " submitted to %s\n", show_int(task, "id"), clean);
    }
    fflush(out);
}

static void print_notes(const json_t *notes) {
    const json_t *note;
    size_t i;

    json_array_foreach (notes, i, note)
        cli_note("%s", json_string_value(note));
}

/* One refusal may be the whole message already; of several, each gets its line. */
static void print_refusals(const json_t *refusals, const char *message) {
    const json_t *refusal;
    size_t i;

    json_array_foreach (refusals, i, refusal) {
        const char *target = show_str(refusal, "target"), *reason = show_str(refusal, "reason");
        g_autofree char *line = g_strdup_printf("%s: %s", target && target[0] ? target : "any node",
                                                reason ? reason : "");
        g_autofree char *clean = cli_clean(line);
        if (json_array_size(refusals) > 1 || !reason || !strstr(message, reason))
            fprintf(stderr, "refused: %s\n", clean);
    }
}

static json_t *submit(struct cli_api *api, const json_t *body, int *ret_exit) {
    json_t *refusals = NULL;
    GError *error = NULL;
    json_t *answer = cli_api_call_once(api, "POST", "/tasks", body, &refusals, &error);

    if (!answer) {
        g_autofree char *message = g_strdup(error->message);
        *ret_exit = cli_fail(error);
        print_refusals(refusals, message);
    }
    json_decref(refusals);
    return answer;
}

/* ---- --wait ---- */

static void note_lost(void *user, const json_t *task) {
    bool *was_lost = user;
    bool is_lost = g_strcmp0(show_str(task, "state"), "lost") == 0;

    if (is_lost)
        cli_note("node %s is silent, nothing is known of task %" PRId64 "; it keeps its GPUs, waiting for the node",
                 show_str(task, "node"), show_int(task, "id"));
    else if (*was_lost)
        cli_note("task %" PRId64 " is known again: %s", show_int(task, "id"), show_str(task, "state"));
    *was_lost = is_lost;
}

/* Says how it ended when that is not plain from its own output. */
static void print_end(const json_t *task) {
    g_autofree char *reason = show_reason(task), *clean = reason ? cli_clean(reason) : NULL;
    const char *state = show_str(task, "state");

    if (g_strcmp0(state, "completed") == 0)
        return;
    if (show_has(task, "exit_code"))
        fprintf(stderr, "kohakuriver: task %" PRId64 " %s with exit code %" PRId64 "%s%s\n", show_int(task, "id"),
                state, show_int(task, "exit_code"), clean ? ": " : "", clean ? clean : "");
    else
        fprintf(stderr, "kohakuriver: task %" PRId64 " %s%s%s\n", show_int(task, "id"), state, clean ? ": " : "",
                clean ? clean : "");
}

static void print_interrupted(const GArray *ids) {
    GString *list = g_string_new(NULL);

    for (guint i = 0; i < ids->len; i++)
        g_string_append_printf(list, "%s%" PRIu32, i ? " " : "", g_array_index(ids, uint32_t, i));
    fprintf(stderr, "\nkohakuriver: no longer waiting; task %s goes on. `kohakuriver task kill %s` ends it\n",
            list->str, list->str);
    g_string_free(list, TRUE);
}

static int wait_for(struct cli_api *api, const json_t *tasks) {
    g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    bool was_lost = false;
    struct follow_options options = {.fds = {STDOUT_FILENO, STDERR_FILENO}, .on_change = note_lost, .user = &was_lost};
    json_t *ended = NULL;
    GError *error = NULL;
    int exit_code;

    for (size_t i = 0; i < json_array_size(tasks); i++) {
        uint32_t id = (uint32_t)show_int(json_array_get(tasks, i), "id");
        g_array_append_val(ids, id);
    }
    exit_code = follow_tasks(api, (const uint32_t *)(const void *)ids->data, ids->len, &options, &ended, &error);
    if (error)
        return cli_fail(error);
    if (exit_code == CLI_EXIT_INTERRUPTED)
        print_interrupted(ids);
    for (size_t i = 0; i < json_array_size(ended); i++) {
        print_end(json_array_get(ended, i));
        exit_code = exit_code ? exit_code : show_exit_code(json_array_get(ended, i));
    }
    json_decref(ended);
    return exit_code;
}

int cmd_task_submit(struct cli *cli) {
    GError *error = NULL;
    json_t *body = request_body(cli, &error), *answer;
    struct cli_api *api;
    int exit_code = CLI_EXIT_OK;

    if (!body)
        return cli_fail(error);
    api = cli_api_new(cli->host_url);
    answer = submit(api, body, &exit_code);
    json_decref(body);
    if (answer) {
        print_notes(json_object_get(answer, "notes"));
        print_submitted(cli, json_object_get(answer, "tasks"));
        if (cli_flag(cli, "wait"))
            exit_code = wait_for(api, json_object_get(answer, "tasks"));
    }
    json_decref(answer);
    cli_api_free(api);
    return exit_code;
}
