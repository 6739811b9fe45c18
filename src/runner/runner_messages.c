/* What the host says, and what we say of tasks and of their output. */

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "model/wire.h"
#include "runner/executor_words.h"
#include "runner/runner_internal.h"

enum { MAX_QUEUED_LOG_BYTES = 1024 * 1024 };

/* ---- tasks ---- */

void runner_on_report(void *user, const struct task_report *report) {
    struct runner *runner = user;

    if (runner->link)
        link_send_json(runner->link, json_pack("{s:s,s:o}", "type", WIRE_REPORT, "task", task_report_to_json(report)));
}

/* ---- output ---- */

static bool take_log_open(struct runner *runner, const json_t *message, GError **error) {
    struct json_reader r = jr_init(message, "log_open", error);
    uint32_t stream = (uint32_t)jr_int(&r, "stream", 0, G_MAXUINT32);
    uint32_t task_id = (uint32_t)jr_int(&r, "task_id", 1, G_MAXUINT32);
    const char *which = jr_str(&r, "which", 16);
    int64_t offset = jr_int_opt(&r, "offset", 0, G_MAXINT64, 0);
    bool follow = jr_bool_opt(&r, "follow", false), is_stderr = strcmp(which, "stderr") == 0;

    if (!is_stderr && strcmp(which, "stdout") != 0)
        jr_fail(&r, "\"which\" is neither stdout nor stderr");
    if (!jr_done(&r))
        return false;
    log_server_open(runner->log_server, stream, task_id, is_stderr ? ENGINE_STDERR : ENGINE_STDOUT, offset, follow);
    return true;
}

static bool take_log_credit(struct runner *runner, const json_t *message, GError **error) {
    struct json_reader r = jr_init(message, "log_credit", error);
    uint32_t stream = (uint32_t)jr_int(&r, "stream", 0, G_MAXUINT32);
    int64_t bytes = jr_int(&r, "bytes", 0, G_MAXINT64);

    if (!jr_done(&r))
        return false;
    log_server_credit(runner->log_server, stream, bytes);
    return true;
}

static bool take_log_close(struct runner *runner, const json_t *message, GError **error) {
    struct json_reader r = jr_init(message, "log_close", error);
    uint32_t stream = (uint32_t)jr_int(&r, "stream", 0, G_MAXUINT32);

    if (!jr_done(&r))
        return false;
    log_server_close(runner->log_server, stream);
    return true;
}

static bool take_tunnel_open(struct runner *runner, const json_t *message, GError **error) {
    return tunnels_open(runner->tunnels, message, error);
}

static bool take_tunnel_credit(struct runner *runner, const json_t *message, GError **error) {
    return tunnels_credit(runner->tunnels, message, error);
}

static bool take_tunnel_close(struct runner *runner, const json_t *message, GError **error) {
    return tunnels_close(runner->tunnels, message, error);
}

static bool log_send(void *user, const void *bytes, size_t len) {
    return link_send_binary(((struct runner *)user)->link, bytes, len);
}

static void log_end(void *user, uint32_t stream, const char *error) {
    struct runner *runner = user;
    json_t *message = json_pack("{s:s,s:I}", "type", WIRE_LOG_END, "stream", (json_int_t)stream);

    if (error)
        json_object_set_new(message, "error", json_string(error));
    link_send_json(runner->link, message);
}

static bool log_is_congested(void *user) {
    return link_queued_bytes(((struct runner *)user)->link) > MAX_QUEUED_LOG_BYTES;
}

static bool log_is_live(void *user, uint32_t task_id) {
    return executor_has_output_coming(((struct runner *)user)->executor, task_id);
}

const struct log_server_ops runner_log_ops = {
    .send = log_send, .end = log_end, .is_congested = log_is_congested, .is_live = log_is_live};

/* ---- the table ---- */

static const struct {
    const char *type;
    bool (*take)(struct runner *runner, const json_t *message, GError **error);
} messages[] = {
    {WIRE_QUERY, node_queries_take},          {WIRE_TUNNEL_OPEN, take_tunnel_open},
    {WIRE_TUNNEL_CREDIT, take_tunnel_credit}, {WIRE_TUNNEL_CLOSE, take_tunnel_close},
    {WIRE_LOG_OPEN, take_log_open},           {WIRE_LOG_CREDIT, take_log_credit},
    {WIRE_LOG_CLOSE, take_log_close},
};

static enum executor_word take_log_word(struct runner *runner, const char *type, const json_t *message,
                                        GError **error) {
    for (size_t i = 0; i < G_N_ELEMENTS(messages); i++)
        if (strcmp(messages[i].type, type) == 0)
            return messages[i].take(runner, message, error) ? EXECUTOR_WORD_TAKEN : EXECUTOR_WORD_BAD;
    return EXECUTOR_WORD_UNKNOWN;
}

void runner_on_message(void *user, const char *type, const json_t *message) {
    struct runner *runner = user;
    g_autoptr(GError) error = NULL;
    enum executor_word word = executor_take_word(runner->executor, type, message, &error);

    if (word == EXECUTOR_WORD_UNKNOWN)
        word = take_log_word(runner, type, message, &error);
    if (word == EXECUTOR_WORD_UNKNOWN)
        log_debug("the host sent a message of a kind that is not known here: %.64s", type);
    else if (word == EXECUTOR_WORD_BAD)
        log_warning("a message of the host is not understood: %s", error->message);
}
