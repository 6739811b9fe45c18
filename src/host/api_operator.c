/* Operators' orders over HTTP: release, cordon, drain, orphans; and the log of them. */

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "host/host_internal.h"

enum { MAX_AUDIT = 1000, DEFAULT_AUDIT = 100 };

struct order_call {
    struct http_exchange *x;
    struct host *host;
    char *who, *reason; /* owned */
};

static void call_free(struct order_call *call) {
    g_free(call->who);
    g_free(call->reason);
    g_free(call);
}

/* NULL and answered when the body is none. */
static struct order_call *read_order(struct http_exchange *x, struct host *host) {
    size_t len;
    const char *text = http_body(x, &len);
    g_autoptr(GError) error = NULL;
    json_t *body = jsonx_parse(text, len, &error);
    struct order_call *call = g_new0(struct order_call, 1);
    bool ok = false;

    call->x = x;
    call->host = host;
    if (body) {
        struct json_reader r = jr_init(body, "order", &error);
        call->who = g_strdup(jr_str(&r, "who", OPERATOR_WHO_MAX_BYTES));
        call->reason = g_strdup(jr_str_opt(&r, "reason", OPERATOR_TEXT_MAX_BYTES, ""));
        if (!r.failed && call->who[0] == '\0')
            jr_fail(&r, "\"who\" is empty: say who gives the order");
        ok = jr_done_strict(&r);
    }
    json_decref(body);
    if (ok)
        return call;
    http_reply_error(x, error, NULL);
    call_free(call);
    return NULL;
}

/* The order is under way, or error says why not. */
static void dispatched(struct order_call *call, bool ok, const GError *error) {
    if (ok)
        return;
    http_reply_error(call->x, error, NULL);
    call_free(call);
}

static void on_done(void *user, const struct task *task, const GError *error) {
    struct order_call *call = user;

    if (error)
        http_reply_error(call->x, error, NULL);
    else if (task)
        http_reply_json(call->x, 202, api_task_shown(call->host, task));
    else
        http_reply_json(call->x, 200, json_object());
    call_free(call);
}

static struct order order_of(const struct order_call *call) {
    return (struct order){.who = call->who, .reason = call->reason};
}

/* ---- tasks, orphans ---- */

void api_task_release(struct http_exchange *x, void *app) {
    struct host *host = app;
    uint32_t id;
    g_autoptr(GError) error = NULL;
    struct order_call *call;
    struct order order;
    bool ok;

    if (!api_task_id(x, 0, &id, &error)) {
        http_reply_error(x, error, NULL);
        return;
    }
    if (!(call = read_order(x, host)))
        return;
    order = order_of(call);
    ok = controller_release(host->controller, id, &order, host_now(), on_done, call, &error);
    dispatched(call, ok, error);
}

static void end_orphan(struct http_exchange *x, struct host *host, bool is_release) {
    const char *node = http_path_param(x, 0);
    uint32_t id;
    g_autoptr(GError) error = NULL;
    struct order_call *call;
    struct order order;
    bool ok;

    if (!api_task_id(x, 1, &id, &error)) {
        http_reply_error(x, error, NULL);
        return;
    }
    if (!(call = read_order(x, host)))
        return;
    order = order_of(call);
    ok = controller_end_orphan(host->controller, node, id, is_release, &order, host_now(), on_done, call, &error);
    dispatched(call, ok, error);
}

void api_orphan_kill(struct http_exchange *x, void *app) { end_orphan(x, app, false); }
void api_orphan_release(struct http_exchange *x, void *app) { end_orphan(x, app, true); }

/* ---- marks ---- */

static void mark_node(struct http_exchange *x, struct host *host, enum mark_action action) {
    struct order_call *call = read_order(x, host);
    g_autoptr(GError) error = NULL;
    struct order order;
    bool ok;

    if (!call)
        return;
    order = order_of(call);
    ok = controller_mark_node(host->controller, http_path_param(x, 0), action, &order, host_now(), on_done, call,
                              &error);
    dispatched(call, ok, error);
}

void api_node_cordon(struct http_exchange *x, void *app) { mark_node(x, app, MARK_CORDON); }
void api_node_drain(struct http_exchange *x, void *app) { mark_node(x, app, MARK_DRAIN); }
void api_node_uncordon(struct http_exchange *x, void *app) { mark_node(x, app, MARK_UNCORDON); }

static void mark_gpu(struct http_exchange *x, struct host *host, enum mark_action action) {
    const char *text = http_path_param(x, 1);
    g_autoptr(GError) error = NULL;
    struct order_call *call;
    struct order order;
    bool ok;
    guint64 index;

    if (!g_ascii_string_to_unsigned(text, 10, 0, TARGET_MAX_NUMBER, &index, NULL)) {
        kr_fail(&error, BAD_REQUEST, "\"%.32s\" is no GPU index: write a number such as 3", text);
        http_reply_error(x, error, NULL);
        return;
    }
    if (!(call = read_order(x, host)))
        return;
    order = order_of(call);
    ok = controller_mark_gpu(host->controller, http_path_param(x, 0), (int)index, action, &order, host_now(), on_done,
                             call, &error);
    dispatched(call, ok, error);
}

void api_gpu_cordon(struct http_exchange *x, void *app) { mark_gpu(x, app, MARK_CORDON); }
void api_gpu_uncordon(struct http_exchange *x, void *app) { mark_gpu(x, app, MARK_UNCORDON); }

/* ---- the log ---- */

static void on_audit(void *user, const GPtrArray *entries, const GError *error) {
    struct http_exchange *x = user;
    json_t *list;

    if (error) {
        http_reply_error(x, error, NULL);
        return;
    }
    list = json_array();
    for (guint i = 0; i < entries->len; i++)
        json_array_append_new(list, audit_to_json(entries->pdata[i]));
    http_reply_json(x, 200, json_pack("{s:o}", "entries", list));
}

void api_audit_list(struct http_exchange *x, void *app) {
    struct host *host = app;
    struct audit_query query = {0};
    int64_t limit;
    g_autoptr(GError) error = NULL;

    if (!http_query_int(x, "before", 1, G_MAXINT64, 0, &query.before, &error) ||
        !http_query_int(x, "limit", 1, MAX_AUDIT, DEFAULT_AUDIT, &limit, &error)) {
        http_reply_error(x, error, NULL);
        return;
    }
    query.limit = (int)limit;
    query.subject = http_query(x, "subject");
    store_query_audit(host->store, &query, on_audit, x);
}
