/* Tasks over HTTP: submit, list, one (with waiting), kill, pause, resume. */

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/shell.h"
#include "host/event_hub.h"
#include "host/host_internal.h"

enum {
    MAX_TARGETS = 256,
    MAX_BATCH_BYTES = 16 * 1024 * 1024,
    MAX_WAIT_MS = 60000,
    MAX_KEY_BYTES = 255,
};

/* A client that waits for a task to change. */
struct waiter {
    uv_timer_t timer;
    struct host *host;
    struct http_exchange *x;
    uint32_t task_id;
};

const char *api_task_label(const struct task *task) {
    const struct task_spec *spec = task->spec;

    return spec->name ? spec->name : spec->vm ? spec->vm->hostname : spec->argv[0];
}

json_t *api_task_shown(const struct host *host, const struct task *task) {
    return task_to_json(task, controller_shown_state(host->controller, task, host_now()));
}

static json_t *command_text(const struct task_spec *spec) {
    g_autoptr(GString) text = g_string_new(NULL);
    const char *end;

    for (char **word = spec->argv; *word && text->len <= TASK_SHORT_COMMAND_BYTES; word++)
        shell_add_word(text, *word);
    if (text->len > TASK_SHORT_COMMAND_BYTES) { /* cut between two characters */
        end = g_utf8_find_prev_char(text->str, text->str + TASK_SHORT_COMMAND_BYTES - strlen("…") + 1);
        g_string_truncate(text, end ? (gsize)(end - text->str) : 0);
        g_string_append(text, "…");
    }
    return json_string(text->str);
}

json_t *api_task_short(const struct host *host, const struct task *task) {
    static const char *const members[] = {"id",         "state",      "node",        "target",  "gpus", "reason",
                                          "holding",    "exit_code",  "holds_lease", "epoch",   "name", "owner",
                                          "created_ms", "started_ms", "finished_ms", "revision"};
    json_t *whole = api_task_shown(host, task), *json = json_object();

    for (size_t i = 0; i < G_N_ELEMENTS(members); i++)
        json_object_set(json, members[i], json_object_get(whole, members[i]));
    json_object_set_new(json, "command_text", command_text(task->spec));
    if (task->spec->vm)
        json_object_set_new(json, "vps_id", json_integer(task->spec->vm->vps_id));
    json_decref(whole);
    return json;
}

/* ---- submit ---- */

static const char *const members[] = {"targets", "command", "image", "env",         "mounts",
                                      "name",    "owner",   "cores", "memory_bytes"};

static bool check_members(const json_t *body, GError **error) {
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)(uintptr_t)body, key, value) {
        size_t i = 0;
        while (i < G_N_ELEMENTS(members) && strcmp(members[i], key) != 0)
            i++;
        if (i == G_N_ELEMENTS(members))
            return kr_fail(error, BAD_REQUEST, "there is no member \"%.64s\" in a submission", key);
    }
    return true;
}

static bool read_submission(const struct http_exchange *x, struct submission *submission, GError **error) {
    size_t len;
    const char *text = http_body(x, &len);
    json_t *body = jsonx_parse(text, len, error);
    struct json_reader r;

    if (!body)
        return false;
    r = jr_init(body, "submission", error);
    submission->targets = jr_strv_opt(&r, "targets", MAX_TARGETS, TARGET_MAX_BYTES);
    if (jr_done(&r) && g_strv_length(submission->targets) * len > MAX_BATCH_BYTES)
        kr_fail(error, TOO_LARGE, "%u targets with %zu bytes each are more than the %d bytes that one batch may have",
                g_strv_length(submission->targets), len, MAX_BATCH_BYTES);
    else if (jr_done(&r) && check_members(body, error))
        submission->spec = task_spec_from_json(body, error);
    json_decref(body);
    return submission->spec != NULL;
}

static json_t *texts_to_json(const GPtrArray *texts) {
    json_t *list = json_array();

    for (guint i = 0; i < texts->len; i++)
        json_array_append_new(list, json_string(texts->pdata[i]));
    return list;
}

static json_t *refusals_to_json(const GPtrArray *refusals) {
    json_t *list = json_array();

    for (guint i = 0; refusals && i < refusals->len; i++) {
        const struct refusal *refusal = refusals->pdata[i];
        json_array_append_new(list, json_pack("{s:s,s:s}", "target", refusal->target, "reason", refusal->reason));
    }
    return json_pack("{s:o}", "refusals", list);
}

struct submit_call {
    struct host *host;
    struct http_exchange *x;
    char batch_id[STORE_BATCH_MAX_BYTES + 1];
};

static void reply_submitted(struct submit_call *call, const char *batch_id, const GPtrArray *tasks,
                            const GPtrArray *notes) {
    json_t *list = json_array();

    for (guint i = 0; i < tasks->len; i++) {
        const struct task *task = tasks->pdata[i];
        const struct task *live = controller_task(call->host->controller, task->id);
        json_array_append_new(list, api_task_shown(call->host, live ? live : task));
    }
    http_reply_json(call->x, 201,
                    json_pack("{s:s,s:o,s:o,s:b}", "batch_id", batch_id, "tasks", list, "notes",
                              notes ? texts_to_json(notes) : json_array(), "repeated", notes == NULL));
}

static void on_batch(void *user, const GPtrArray *tasks, const GError *error) {
    g_autofree struct submit_call *call = user;

    if (error)
        http_reply_error(call->x, error, NULL);
    else
        reply_submitted(call, call->batch_id, tasks, NULL);
}

static void on_submitted(void *user, const struct submit_result *result, const GError *error) {
    struct submit_call *call = user;
    struct task_query query = {.limit = MAX_TARGETS};

    if (!error && result->is_replay) {
        g_strlcpy(call->batch_id, result->batch_id, sizeof call->batch_id);
        g_strlcpy(query.batch, result->batch_id, sizeof query.batch);
        store_query_tasks(call->host->store, &query, on_batch, call);
        return;
    }
    if (error)
        http_reply_error(call->x, error, result->refusals ? refusals_to_json(result->refusals) : NULL);
    else
        reply_submitted(call, result->batch_id, result->tasks, result->notes);
    g_free(call);
}

/* The key makes a repeated request harmless; the fingerprint tells a repeated request from another one. */
static bool read_key(const struct http_exchange *x, struct submission *submission, char **ret_fingerprint,
                     GError **error) {
    const char *key = http_header(x, "Idempotency-Key"), *body;
    size_t len;

    if (!key)
        return true;
    if (key[0] == '\0' || strlen(key) > MAX_KEY_BYTES || !g_str_is_ascii(key))
        return kr_fail(error, BAD_REQUEST, "the Idempotency-Key must have 1 to %d ASCII characters", MAX_KEY_BYTES);
    body = http_body(x, &len);
    *ret_fingerprint = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)body, len);
    submission->key = key;
    submission->fingerprint = *ret_fingerprint;
    return true;
}

void api_task_submit(struct http_exchange *x, void *app) {
    struct host *host = app;
    struct submission submission = {0};
    g_autofree char *fingerprint = NULL;
    g_autoptr(GError) error = NULL;

    if (read_key(x, &submission, &fingerprint, &error) && read_submission(x, &submission, &error)) {
        struct submit_call *call = g_new0(struct submit_call, 1);
        *call = (struct submit_call){.host = host, .x = x};
        controller_submit(host->controller, &submission, host_now(), on_submitted, call);
    } else {
        http_reply_error(x, error, NULL);
    }
    g_strfreev(submission.targets);
    task_spec_free(submission.spec);
}

/* ---- events ---- */

static void on_events(void *user, const GPtrArray *events, const GError *error) {
    struct http_exchange *x = user;
    json_t *list;

    if (error) {
        http_reply_error(x, error, NULL);
        return;
    }
    list = json_array();
    for (guint i = 0; i < events->len; i++)
        json_array_append_new(list, task_event_to_json(events->pdata[i]));
    http_reply_json(x, 200, json_pack("{s:o}", "events", list));
}

void api_task_events(struct http_exchange *x, void *app) {
    struct host *host = app;
    uint32_t id;
    g_autoptr(GError) error = NULL;

    if (api_task_id(x, 0, &id, &error))
        store_query_events(host->store, id, on_events, x);
    else
        http_reply_error(x, error, NULL);
}

/* ---- one ---- */

bool api_task_id(const struct http_exchange *x, size_t at, uint32_t *ret_id, GError **error) {
    const char *text = http_path_param(x, at);
    guint64 id;

    if (!g_ascii_string_to_unsigned(text, 10, 1, G_MAXUINT32, &id, NULL))
        return kr_fail(error, BAD_REQUEST, "\"%.32s\" is no task id: write a number such as 71", text);
    *ret_id = (uint32_t)id;
    return true;
}

struct get_call {
    struct host *host;
    struct http_exchange *x;
    uint32_t id;
};

static void on_got(void *user, const GPtrArray *tasks, const GError *error) {
    g_autofree struct get_call *call = user;
    g_autoptr(GError) missing = NULL;

    if (tasks && tasks->len > 0) {
        http_reply_json(call->x, 200, api_task_shown(call->host, tasks->pdata[0]));
        return;
    }
    if (!error)
        kr_fail(&missing, NOT_FOUND, "there is no task %u", call->id);
    http_reply_error(call->x, error ? error : missing, NULL);
}

static void get_stored(struct host *host, struct http_exchange *x, uint32_t id) {
    struct task_query query = {.id = id, .limit = 1};
    struct get_call *call = g_new0(struct get_call, 1);

    *call = (struct get_call){.host = host, .x = x, .id = id};
    store_query_tasks(host->store, &query, on_got, call);
}

static void get_now(struct host *host, struct http_exchange *x, uint32_t id) {
    const struct task *task = controller_task(host->controller, id);

    if (task)
        http_reply_json(x, 200, api_task_shown(host, task));
    else
        get_stored(host, x, id);
}

/* ---- waiting ---- */

static void on_timer_closed(uv_handle_t *handle) { g_free(handle->data); }

static void waiter_close(struct waiter *waiter) { uv_close((uv_handle_t *)&waiter->timer, on_timer_closed); }

static void on_waited(uv_timer_t *timer) {
    struct waiter *waiter = timer->data;
    GPtrArray *list = g_hash_table_lookup(waiter->host->waiters, GUINT_TO_POINTER(waiter->task_id));

    g_ptr_array_remove_fast(list, waiter);
    if (list->len == 0) {
        g_hash_table_remove(waiter->host->waiters, GUINT_TO_POINTER(waiter->task_id));
        g_ptr_array_unref(list);
    }
    get_now(waiter->host, waiter->x, waiter->task_id);
    waiter_close(waiter);
}

static void wait_for_change(struct host *host, struct http_exchange *x, uint32_t id, int64_t wait_ms) {
    GPtrArray *list = g_hash_table_lookup(host->waiters, GUINT_TO_POINTER(id));
    struct waiter *waiter = g_new0(struct waiter, 1);

    if (!list) {
        list = g_ptr_array_new();
        g_hash_table_insert(host->waiters, GUINT_TO_POINTER(id), list);
    }
    waiter->host = host;
    waiter->x = x;
    waiter->task_id = id;
    uv_timer_init(&host->loop, &waiter->timer);
    waiter->timer.data = waiter;
    uv_timer_start(&waiter->timer, on_waited, (uint64_t)wait_ms, 0);
    g_ptr_array_add(list, waiter);
}

void host_task_changed(struct host *host, const struct task *task, bool is_gone) {
    gpointer key, value;
    GPtrArray *list;

    (void)is_gone;
    if (host->events)
        event_hub_task(host->events, task);
    if (!g_hash_table_steal_extended(host->waiters, GUINT_TO_POINTER(task->id), &key, &value))
        return;
    list = value;
    for (guint i = 0; i < list->len; i++) {
        struct waiter *waiter = list->pdata[i];
        http_reply_json(waiter->x, 200, api_task_shown(host, task));
        waiter_close(waiter);
    }
    g_ptr_array_unref(list);
}

/* Before the server ends, which answers the exchanges itself. */
void host_waiters_drop(struct host *host) {
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, host->waiters);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        GPtrArray *list = value;
        for (guint i = 0; i < list->len; i++)
            waiter_close(list->pdata[i]);
        g_ptr_array_unref(list);
    }
    g_hash_table_remove_all(host->waiters);
}

void api_task_get(struct http_exchange *x, void *app) {
    struct host *host = app;
    const struct task *task;
    int64_t revision, wait_ms;
    uint32_t id;
    g_autoptr(GError) error = NULL;

    if (!api_task_id(x, 0, &id, &error) || !http_query_int(x, "revision", 0, G_MAXINT64, -1, &revision, &error) ||
        !http_query_int(x, "wait_ms", 0, MAX_WAIT_MS, 0, &wait_ms, &error)) {
        http_reply_error(x, error, NULL);
        return;
    }
    task = controller_task(host->controller, id);
    if (task && task->revision == revision && wait_ms > 0)
        wait_for_change(host, x, id, wait_ms);
    else
        get_now(host, x, id);
}

/* ---- wishes: kill, pause, resume ---- */

static void on_ended_found(void *user, const GPtrArray *tasks, const GError *error) {
    g_autofree struct get_call *call = user;
    g_autoptr(GError) why = NULL;

    if (tasks && tasks->len > 0)
        kr_fail(&why, REFUSED, "task %u has ended: %s", call->id,
                task_state_to_str(((const struct task *)tasks->pdata[0])->state));
    else if (!error)
        kr_fail(&why, NOT_FOUND, "there is no task %u", call->id);
    http_reply_error(call->x, error ? error : why, NULL);
}

static void on_wish_recorded(void *user, const struct task *task, const GError *error) {
    g_autofree struct get_call *call = user;

    if (error)
        http_reply_error(call->x, error, NULL);
    else
        http_reply_json(call->x, 202, api_task_shown(call->host, task));
}

enum wish { WISH_KILL, WISH_PAUSE, WISH_RESUME };

static bool make_wish(struct get_call *call, enum wish wish, GError **error) {
    struct controller *c = call->host->controller;

    if (wish == WISH_KILL)
        return controller_kill(c, call->id, host_now(), on_wish_recorded, call, error);
    return controller_pause(c, call->id, wish == WISH_PAUSE, on_wish_recorded, call, error);
}

static void wish_for(struct http_exchange *x, struct host *host, enum wish wish) {
    struct task_query query = {.limit = 1};
    struct get_call *call;
    uint32_t id;
    g_autoptr(GError) error = NULL;

    if (!api_task_id(x, 0, &id, &error)) {
        http_reply_error(x, error, NULL);
        return;
    }
    call = g_new0(struct get_call, 1);
    *call = (struct get_call){.host = host, .x = x, .id = id};
    if (make_wish(call, wish, &error))
        return;
    if (error->code == KR_ERROR_NOT_FOUND) {
        query.id = id;
        store_query_tasks(host->store, &query, on_ended_found, call);
        return;
    }
    http_reply_error(x, error, NULL);
    g_free(call);
}

void api_task_kill(struct http_exchange *x, void *app) { wish_for(x, app, WISH_KILL); }
void api_task_pause(struct http_exchange *x, void *app) { wish_for(x, app, WISH_PAUSE); }
void api_task_resume(struct http_exchange *x, void *app) { wish_for(x, app, WISH_RESUME); }
