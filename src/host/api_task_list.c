/* GET /api/v1/tasks: pages of all tasks. The store knows which match; how live ones are shown (a task of a silent node is "lost") is
 * known here alone. */

#include <string.h>

#include "base/error.h"
#include "host/host_internal.h"

enum { MAX_LIST = 1000, DEFAULT_LIST = 100, MAX_STATUS_BYTES = 200 };

static const unsigned live_states = 1U << TASK_PENDING | 1U << TASK_STARTING | 1U << TASK_RUNNING | 1U << TASK_PAUSED |
                                    1U << TASK_STOPPING;

struct list_call {
    struct host *host;
    struct http_exchange *x;
    struct task_filter filter; /* as the store was asked */
    unsigned wanted;           /* states to be shown; 0 with neither of the two below: all */
    bool wants_lost, wants_live;
};

/* ---- what is asked for ---- */

static bool read_state(const char *word, struct list_call *call, GError **error) {
    enum task_state state = task_state_from_str(word);

    if (strcmp(word, "lost") == 0)
        call->wants_lost = true;
    else if (strcmp(word, "live") == 0)
        call->wants_live = true;
    else if (state != TASK_UNSET)
        call->wanted |= 1U << state;
    else
        return kr_fail(
            error, BAD_REQUEST,
            "\"%.32s\" is no state: pending, starting, running, paused, stopping, completed, failed, killed, "
            "lost; or live",
            word);
    return true;
}

static bool read_states(const char *status, struct list_call *call, GError **error) {
    g_auto(GStrv) words = g_strsplit(status ? status : "", ",", -1);

    if (status && strlen(status) > MAX_STATUS_BYTES)
        return kr_fail(error, BAD_REQUEST, "status has more than %d bytes", MAX_STATUS_BYTES);
    for (char **word = words; *word; word++)
        if (!read_state(*word, call, error))
            return false;
    call->filter.states = call->wanted | (call->wants_lost ? live_states : 0);
    call->filter.holds_lease = call->wants_live;
    return true;
}

/* A parameter that is copied into a filter of `size` bytes. */
static bool read_text(const struct http_exchange *x, const char *name, char *ret_text, size_t size, GError **error) {
    const char *text = http_query(x, name);

    if (!text)
        return true;
    if (strlen(text) >= size)
        return kr_fail(error, BAD_REQUEST, "%s has more than %zu bytes", name, size - 1);
    if (!g_utf8_validate(text, -1, NULL))
        return kr_fail(error, BAD_REQUEST, "%s is not UTF-8", name);
    g_strlcpy(ret_text, text, size);
    return true;
}

static bool read_filter(const struct http_exchange *x, struct list_call *call, GError **error) {
    struct task_filter *filter = &call->filter;
    const char *node = http_query(x, "node");
    int64_t limit, before, count;

    if (!read_states(http_query(x, "status"), call, error) ||
        !http_query_int(x, "limit", 1, MAX_LIST, DEFAULT_LIST, &limit, error) ||
        !http_query_int(x, "before", 1, G_MAXUINT32, 0, &before, error) ||
        !http_query_int(x, "count", 0, 1, 0, &count, error) || (node && !node_name_check(node, strlen(node), error)) ||
        !read_text(x, "node", filter->node, sizeof filter->node, error) ||
        !read_text(x, "owner", filter->owner, sizeof filter->owner, error) ||
        !read_text(x, "gpu", filter->gpu, sizeof filter->gpu, error) ||
        !read_text(x, "q", filter->search, sizeof filter->search, error))
        return false;
    filter->limit = (int)limit;
    filter->before = (uint32_t)before;
    filter->wants_total = count;
    return true;
}

/* ---- what is shown ---- */

static bool is_lost(const struct list_call *call, const struct task *task) {
    return strcmp(controller_shown_state(call->host->controller, task, host_now()), "lost") == 0;
}

static bool is_wanted(const struct list_call *call, const struct task *task) {
    bool is_any = !call->wanted && !call->wants_lost && !call->wants_live;

    if (is_any || (call->wants_live && task->holds_lease))
        return true;
    return is_lost(call, task) ? call->wants_lost : call->wanted >> task->state & 1;
}

/* The store counts tasks by their states; those that are shown as lost are told apart from them. */
struct correction {
    const struct list_call *call;
    const char *search; /* in small letters */
    int64_t n;
};

static bool passes(const struct correction *c, const struct task *task) {
    const struct task_filter *f = &c->call->filter;
    g_autofree char *text = f->search[0] ? store_task_text(task) : NULL;

    return (!f->node[0] || strcmp(f->node, task->lease.node) == 0) &&
           (!f->owner[0] || g_strcmp0(f->owner, task->spec->owner) == 0) &&
           (!f->gpu[0] || lease_has_gpu(&task->lease, f->gpu)) && (!text || strstr(text, c->search));
}

static void correct(void *user, const struct task *task) {
    struct correction *c = user;
    const struct task_filter *f = &c->call->filter;
    bool is_counted = (f->states >> task->state & 1) || (f->holds_lease && task->holds_lease);

    if (is_counted != is_wanted(c->call, task) && passes(c, task))
        c->n += is_counted ? -1 : 1;
}

static int64_t total_of(const struct list_call *call, const struct task_page *page) {
    g_autofree char *search = g_utf8_strdown(call->filter.search, -1);
    struct correction correction = {call, search, page->total};

    if (call->wanted || call->wants_lost || call->wants_live)
        controller_each_task(call->host->controller, correct, &correction);
    return MAX(correction.n, 0);
}

static json_t *page_to_json(const struct list_call *call, const struct task_page *page) {
    json_t *list = json_array(), *json = json_pack("{s:o}", "tasks", list);

    for (guint i = 0; i < page->tasks->len; i++) {
        const struct task *stored = page->tasks->pdata[i];
        const struct task *live = controller_task(call->host->controller, stored->id);
        const struct task *task = live ? live : stored;

        if (is_wanted(call, task))
            json_array_append_new(list, api_task_shown(call->host, task));
        if (page->has_more && i + 1 == page->tasks->len)
            json_object_set_new(json, "next_before", json_integer(stored->id));
    }
    if (call->filter.wants_total)
        json_object_set_new(json, "total", json_integer(total_of(call, page)));
    return json;
}

static void on_page(void *user, const struct task_page *page, const GError *error) {
    g_autofree struct list_call *call = user;

    if (error)
        http_reply_error(call->x, error, NULL);
    else
        http_reply_json(call->x, 200, page_to_json(call, page));
}

void api_task_list(struct http_exchange *x, void *app) {
    struct list_call *call = g_new0(struct list_call, 1);
    g_autoptr(GError) error = NULL;

    call->host = app;
    call->x = x;
    if (read_filter(x, call, &error)) {
        store_query_page(call->host->store, &call->filter, on_page, call);
        return;
    }
    http_reply_error(x, error, NULL);
    g_free(call);
}
