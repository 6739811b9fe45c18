#include "cli/show.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/shell.h"
#include "base/units.h"
#include "model/task.h"

const char *show_str(const json_t *object, const char *key) { return json_string_value(json_object_get(object, key)); }

int64_t show_int(const json_t *object, const char *key) {
    return (int64_t)json_number_value(json_object_get(object, key));
}

bool show_has(const json_t *object, const char *key) { return json_is_number(json_object_get(object, key)); }

bool show_bool(const json_t *object, const char *key) { return json_is_true(json_object_get(object, key)); }

char *show_gpus(const json_t *gpus, const char *none) {
    GString *text = g_string_new(NULL);
    const json_t *gpu;
    size_t i;

    json_array_foreach (gpus, i, gpu)
        g_string_append_printf(text, "%s%" PRId64, i ? "," : "", show_int(gpu, "index"));
    if (text->len == 0)
        g_string_append(text, none);
    return g_string_free(text, FALSE);
}

char *show_span(int64_t from_ms, int64_t to_ms) {
    char buf[UNITS_TEXT_BYTES];

    if (from_ms <= 0)
        return g_strdup("-");
    return g_strdup(units_span_to_str((to_ms > 0 ? to_ms : clock_wall_ms()) - from_ms, buf));
}

char *show_bytes_pair(const json_t *object, const char *used_key, const char *total_key) {
    char used[UNITS_TEXT_BYTES], total[UNITS_TEXT_BYTES];

    if (!show_has(object, used_key) && !show_has(object, total_key))
        return g_strdup("-");
    return g_strdup_printf("%s / %s",
                           show_has(object, used_key) ? units_bytes_to_str(show_int(object, used_key), used) : "-",
                           show_has(object, total_key) ? units_bytes_to_str(show_int(object, total_key), total) : "-");
}

char *show_command(const json_t *task) {
    const json_t *words = json_object_get(task, "command"), *word;
    GString *text = g_string_new(NULL);
    size_t i;

    json_array_foreach (words, i, word)
        shell_add_word(text, json_is_string(word) ? json_string_value(word) : "?");
    return g_string_free(text, FALSE);
}

char *show_where(const json_t *task) {
    const json_t *gpus = json_object_get(task, "gpus");
    GString *text = g_string_new(show_str(task, "node"));
    g_autofree char *list = show_gpus(gpus, "");
    char buf[UNITS_TEXT_BYTES];

    if (list[0])
        g_string_append_printf(text, ": GPU%s %s", json_array_size(gpus) > 1 ? "s" : "", list);
    else
        g_string_append(text, ": no GPU");
    if (show_has(task, "numa"))
        g_string_append_printf(text, ", NUMA node %" PRId64, show_int(task, "numa"));
    if (show_int(task, "cores") > 0)
        g_string_append_printf(text, ", %" PRId64 " cores", show_int(task, "cores"));
    if (show_int(task, "memory_bytes") > 0)
        g_string_append_printf(text, ", %s memory", units_bytes_to_str(show_int(task, "memory_bytes"), buf));
    return g_string_free(text, FALSE);
}

const char *show_state_colour(const char *state) {
    if (g_strcmp0(state, "running") == 0 || g_strcmp0(state, "completed") == 0)
        return "green";
    if (g_strcmp0(state, "failed") == 0 || g_strcmp0(state, "lost") == 0)
        return "red";
    return g_strcmp0(state, "killed") == 0 || g_strcmp0(state, "stopping") == 0 ? "yellow" : NULL;
}

bool show_is_over(const json_t *task) { return task_state_is_terminal(task_state_from_str(show_str(task, "state"))); }

int show_exit_code(const json_t *task) {
    int64_t code = show_int(task, "exit_code");

    if (show_has(task, "exit_code") && (code != 0 || g_strcmp0(show_str(task, "state"), "completed") == 0))
        return (int)(code & 0xff) ? (int)(code & 0xff) : code != 0;
    return g_strcmp0(show_str(task, "state"), "completed") == 0 ? 0 : 1;
}

char *show_reason(const json_t *task) {
    const char *reason = show_str(task, "reason");
    bool oom = show_bool(task, "oom");

    if (!oom)
        return g_strdup(reason);
    return g_strdup(reason ? reason : "out of memory: the container reached its limit");
}
