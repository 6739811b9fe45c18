/* Machines over HTTP: create, list, one, start, stop, pause, resume, delete. Their states are derived from their tasks. */

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "host/host_internal.h"
#include "host/node_query.h"

/* ---- as it is shown ---- */

static void add_time(json_t *json, const char *key, int64_t at_ms) {
    if (at_ms > 0)
        json_object_set_new(json, key, json_integer(at_ms));
}

/* What its newest start says; task NULL: nothing. */
static void task_into_json(const struct task *task, json_t *json) {
    json_t *lease = task ? lease_to_json(&task->lease) : NULL;

    json_object_set_new(json, "holds_lease", json_boolean(task && task->holds_lease));
    json_object_set(json, "gpus", task && task->holds_lease ? json_object_get(lease, "gpus") : NULL);
    if (!task || !task->holds_lease)
        json_object_set_new(json, "gpus", json_array());
    json_decref(lease);
    if (!task)
        return;
    if (task->reason)
        json_object_set_new(json, "reason", json_string(task->reason));
    if (task->holding)
        json_object_set_new(json, "holding", json_string(task->holding));
    if (task->has_exit_code)
        json_object_set_new(json, "exit_code", json_integer(task->exit_code));
    add_time(json, "started_ms", task->started_ms);
    add_time(json, "finished_ms", task->finished_ms);
}

/* What its node says of the cards that it holds, of those where there is something to say: "GPU 0: binding to vfio-pci …". */
static void cards_into_json(const struct host *host, const struct lease *lease, json_t *json) {
    const struct cluster_node *node = cluster_find(controller_pool(host->controller)->cluster, lease->node);
    g_autoptr(GString) text = g_string_new(NULL);

    for (size_t i = 0; node && i < lease->n_gpus; i++) {
        const struct gpu *gpu = node_info_gpu_by_uuid(node->info, lease->gpus[i].uuid);

        if (gpu && gpu->reason && gpu->condition != GPU_CONDITION_OK && gpu->condition != GPU_CONDITION_BARE)
            g_string_append_printf(text, "%sGPU %d: %s", text->len ? "; " : "", gpu->index, gpu->reason);
    }
    if (text->len)
        json_object_set_new(json, "cards", json_string(text->str));
}

/* While it runs: what its guest told its node last. */
static void guest_into_json(const struct host *host, const char *node_name, const struct task *task, json_t *json) {
    const struct cluster_node *node = cluster_find(controller_cluster(host->controller), node_name);
    const struct guest *guest = node && task ? node_info_guest(node->info, task->id) : NULL;
    json_t *shown;

    if (!guest || task_state_is_terminal(task->state))
        return;
    shown = guest_to_json(guest);
    json_object_del(shown, "task_id");
    json_object_set_new(json, "guest", shown);
}

static json_t *shown(const struct host *host, const struct vps *vps, const struct task *task) {
    const struct task_spec *spec = vps->spec;
    bool is_lost = task && strcmp(controller_shown_state(host->controller, task, host_now()), "lost") == 0;
    enum vps_state state = vps_state_of(task, controller_vps_is_told(host->controller, vps), is_lost);
    g_autofree char *node = g_strndup(vps->target, strcspn(vps->target, ":"));
    json_t *json = json_pack("{s:I,s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:i,s:s,s:I,s:I}", "id", (json_int_t)vps->id, "name",
                             vps->name, "state", vps_state_to_str(state), "node", node, "target", vps->target, "image",
                             spec->vm->image, "user", spec->vm->user, "disk_bytes", (json_int_t)spec->vm->disk_bytes,
                             "memory_bytes", (json_int_t)spec->mem_bytes, "cores", spec->cores, "network",
                             spec->vm->network, "created_ms", (json_int_t)vps->created_ms, "task_id",
                             (json_int_t)vps->task_id);

    if (spec->owner)
        json_object_set_new(json, "owner", json_string(spec->owner));
    task_into_json(task, json);
    if (task && task->holds_lease)
        cards_into_json(host, &task->lease, json);
    guest_into_json(host, node, task, json);
    return json;
}

/* ---- one, or all: tasks that have ended are in the store ---- */

struct one_look {
    struct host *host;
    uint32_t id;
    api_vps_look_cb *on_done;
    void *user;
};

static void on_task(void *user, const GPtrArray *tasks, const GError *error) {
    g_autofree struct one_look *look = user;
    const struct vps *vps = controller_vps(look->host->controller, look->id);
    const struct task *task = tasks && tasks->len ? tasks->pdata[0] : NULL;

    look->on_done(look->user, look->id, error || !vps ? NULL : shown(look->host, vps, task), error);
}

void api_vps_look(struct host *host, uint32_t id, api_vps_look_cb *on_done, void *user) {
    const struct vps *vps = controller_vps(host->controller, id);
    const struct task *task = vps ? controller_task(host->controller, vps->task_id) : NULL;
    struct task_query query = {.limit = 1};
    struct one_look *look;

    if (!vps || task || vps->task_id == 0) {
        on_done(user, id, vps ? shown(host, vps, task) : NULL, NULL);
        return;
    }
    look = g_new0(struct one_look, 1);
    *look = (struct one_look){host, id, on_done, user};
    query.id = vps->task_id;
    store_query_tasks(host->store, &query, on_task, look);
}

struct look {
    struct host *host;
    struct http_exchange *x;
    GArray *ids;  /* of uint32_t, still to be shown */
    json_t *list; /* NULL: one alone */
    int status;
};

static void look_next(struct look *look);

static void look_end(struct look *look) {
    json_decref(look->list);
    g_array_unref(look->ids);
    g_free(look);
}

static void on_looked(void *user, uint32_t id, json_t *json, const GError *error) {
    struct look *look = user;
    g_autoptr(GError) gone = NULL;

    (void)id;
    g_array_remove_index(look->ids, 0);
    if (error || (!json && !look->list)) {
        kr_fail(&gone, NOT_FOUND, "it was deleted just now");
        http_reply_error(look->x, error ? error : gone, NULL);
        look_end(look);
    } else if (!look->list) {
        http_reply_json(look->x, look->status, json);
        look_end(look);
    } else {
        if (json)
            json_array_append_new(look->list, json);
        look_next(look);
    }
}

static void look_next(struct look *look) {
    if (look->ids->len > 0) {
        api_vps_look(look->host, g_array_index(look->ids, uint32_t, 0), on_looked, look);
        return;
    }
    http_reply_json(look->x, look->status, json_pack("{s:O}", "vps", look->list));
    look_end(look);
}

static void look_at(struct host *host, struct http_exchange *x, const struct vps *one, int status) {
    struct look *look = g_new0(struct look, 1);
    g_autoptr(GPtrArray) all = one ? NULL : controller_all_vps(host->controller);

    *look = (struct look){.host = host, .x = x, .ids = g_array_new(FALSE, FALSE, sizeof(uint32_t)), .status = status};
    look->list = one ? NULL : json_array();
    if (one)
        g_array_append_val(look->ids, one->id);
    for (guint i = 0; all && i < all->len; i++)
        g_array_append_val(look->ids, ((const struct vps *)all->pdata[i])->id);
    look_next(look);
}

void api_vps_list(struct http_exchange *x, void *app) { look_at(app, x, NULL, 200); }

/* The machine that the path names, or NULL and answered. */
static const struct vps *path_vps(const struct host *host, struct http_exchange *x) {
    g_autoptr(GError) error = NULL;
    const struct vps *vps = NULL;
    uint32_t id;

    if (api_task_id(x, 0, &id, &error) && !(vps = controller_vps(host->controller, id)))
        kr_fail(&error, NOT_FOUND, "there is no VPS %u", id);
    if (!vps)
        http_reply_error(x, error, NULL);
    return vps;
}

void api_vps_get(struct http_exchange *x, void *app) {
    const struct vps *vps = path_vps(app, x);

    if (vps)
        look_at(app, x, vps, 200);
}

/* ---- create, start ---- */

struct vps_call {
    struct host *host;
    struct http_exchange *x;
    int status;
};

static void on_vps(void *user, const struct vps *vps, const GError *error) {
    g_autofree struct vps_call *call = user;

    if (error)
        http_reply_error(call->x, error, NULL);
    else if (vps)
        look_at(call->host, call->x, vps, call->status);
    else
        http_reply_json(call->x, call->status, json_object());
}

static struct vps_call *call_new(struct host *host, struct http_exchange *x, int status) {
    struct vps_call *call = g_new0(struct vps_call, 1);

    *call = (struct vps_call){host, x, status};
    return call;
}

static void failed(struct vps_call *call, const GError *error) {
    http_reply_error(call->x, error, NULL);
    g_free(call);
}

static const char *const members[] = {"target",     "name", "owner",    "image",     "disk_bytes", "memory_bytes",
                                      "cores",      "user", "ssh_keys", "user_data", "network",    "installs_driver",
                                      "takes_group"};

/* The body's members become those of a task's spec with a vm part. */
static json_t *spec_json(const json_t *body, const char *name, GError **error) {
    json_t *vm = json_pack("{s:i,s:s,s:s}", "vps_id", 0, "hostname", name, "user", "ops");
    json_t *spec = json_pack("{s:s,s:[]}", "name", name, "command"), *value;
    const char *key;

    json_object_foreach ((json_t *)(uintptr_t)body, key, value) {
        bool is_known = false,
             is_spec = strcmp(key, "owner") == 0 || strcmp(key, "memory_bytes") == 0 || strcmp(key, "cores") == 0;

        for (size_t i = 0; i < G_N_ELEMENTS(members); i++)
            is_known |= strcmp(members[i], key) == 0;
        if (!is_known) {
            kr_fail(error, BAD_REQUEST, "there is no member \"%.64s\" in a VPS", key);
            json_decref(vm);
            json_decref(spec);
            return NULL;
        }
        if (strcmp(key, "target") != 0 && strcmp(key, "name") != 0)
            json_object_set(is_spec ? spec : vm, key, value);
    }
    json_object_set_new(spec, "vm", vm);
    return spec;
}

static char *canonical_target(const char *text, GError **error) {
    struct target target;

    return target_from_str(text, strlen(text), &target, error) ? target_to_str(&target) : NULL;
}

static struct vps *read_vps(const struct http_exchange *x, GError **error) {
    size_t len;
    const char *text = http_body(x, &len);
    json_t *body = jsonx_parse(text, len, error), *spec = NULL;
    struct vps *vps = g_new0(struct vps, 1);
    struct json_reader r;

    if (body) {
        r = jr_init(body, "VPS", error);
        vps->name = g_strdup(jr_str(&r, "name", VM_MAX_NAME_BYTES));
        vps->target = canonical_target(jr_str(&r, "target", TARGET_MAX_BYTES), r.failed ? NULL : error);
        if (jr_done(&r) && vps->target && vm_name_check(vps->name, "name", error))
            spec = spec_json(body, vps->name, error);
        vps->spec = spec ? task_spec_from_json(spec, error) : NULL;
    }
    json_decref(body);
    json_decref(spec);
    if (vps->spec)
        return vps;
    vps_free(vps);
    return NULL;
}

void api_vps_create(struct http_exchange *x, void *app) {
    struct host *host = app;
    g_autoptr(GError) error = NULL;
    struct vps *vps = read_vps(x, &error);
    struct vps_call *call = call_new(host, x, 201);

    if (!vps || !controller_vps_create(host->controller, vps, host_now(), on_vps, call, &error))
        failed(call, error);
    vps_free(vps);
}

void api_vps_start(struct http_exchange *x, void *app) {
    struct host *host = app;
    const struct vps *vps = path_vps(host, x);
    g_autoptr(GError) error = NULL;
    struct vps_call *call;

    if (!vps)
        return;
    call = call_new(host, x, 202);
    if (!controller_vps_start(host->controller, vps->id, host_now(), on_vps, call, &error))
        failed(call, error);
}

/* ---- stop, pause, resume: its task's ---- */

enum vps_wish { WISH_STOP = 1, WISH_PAUSE, WISH_RESUME };

struct wish {
    struct vps_call *call;
    uint32_t id;
};

static void on_wished(void *user, const struct task *task, const GError *error) {
    g_autofree struct wish *wish = user;
    const struct vps *vps = controller_vps(wish->call->host->controller, wish->id);

    (void)task;
    on_vps(wish->call, vps, error);
}

static void wish_for(struct http_exchange *x, struct host *host, enum vps_wish what) {
    const struct vps *vps = path_vps(host, x);
    const struct task *task = vps ? controller_task(host->controller, vps->task_id) : NULL;
    g_autoptr(GError) error = NULL;
    struct wish *wish;
    bool ok;

    if (!vps)
        return;
    if (!task || task_state_is_terminal(task->state)) {
        kr_fail(&error, REFUSED, "VPS %u (%s) is off", vps->id, vps->name);
        http_reply_error(x, error, NULL);
        return;
    }
    wish = g_new0(struct wish, 1);
    *wish = (struct wish){call_new(host, x, 202), vps->id};
    ok = what == WISH_STOP ? controller_kill(host->controller, task->id, host_now(), on_wished, wish, &error)
                           : controller_pause(host->controller, task->id, what == WISH_PAUSE, on_wished, wish, &error);
    if (ok)
        return;
    failed(wish->call, error);
    g_free(wish);
}

void api_vps_stop(struct http_exchange *x, void *app) { wish_for(x, app, WISH_STOP); }
void api_vps_pause(struct http_exchange *x, void *app) { wish_for(x, app, WISH_PAUSE); }
void api_vps_resume(struct http_exchange *x, void *app) { wish_for(x, app, WISH_RESUME); }

/* ---- delete: the disk first, on its node, then the record ---- */

static void on_disk_deleted(void *user, const json_t *body, const GError *error) {
    struct wish *wish = user;
    struct vps_call *call = wish->call;
    g_autoptr(GError) why = NULL;
    uint32_t id = wish->id;

    (void)body;
    g_free(wish);
    if (error)
        failed(call, error);
    else if (!controller_vps_delete(call->host->controller, id, on_vps, call, &why))
        failed(call, why);
}

void api_vps_delete(struct http_exchange *x, void *app) {
    struct host *host = app;
    const struct vps *vps = path_vps(host, x);
    g_autofree char *node = vps ? g_strndup(vps->target, strcspn(vps->target, ":")) : NULL;
    g_autoptr(GError) error = NULL;
    struct wish *wish;

    if (!vps)
        return;
    if (!controller_vps_can_delete(host->controller, vps->id, &error)) {
        http_reply_error(x, error, NULL);
        return;
    }
    wish = g_new0(struct wish, 1);
    *wish = (struct wish){call_new(host, x, 200), vps->id};
    node_query(host, node, "vps_delete", json_pack("{s:I}", "vps_id", (json_int_t)vps->id), on_disk_deleted, wish);
}
