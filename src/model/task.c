#include "model/task.h"

#include <string.h>

#include "base/json.h"

static const char *const state_names[TASK_STATE_COUNT_] = {
    [TASK_UNSET] = "unset",     [TASK_PENDING] = "pending",   [TASK_STARTING] = "starting",
    [TASK_RUNNING] = "running", [TASK_STOPPING] = "stopping", [TASK_COMPLETED] = "completed",
    [TASK_FAILED] = "failed",   [TASK_KILLED] = "killed",     [TASK_PAUSED] = "paused",
};

const char *task_state_to_str(enum task_state state) { return state_names[state < TASK_STATE_COUNT_ ? state : 0]; }

enum task_state task_state_from_str(const char *text) {
    for (int i = 1; i < TASK_STATE_COUNT_; i++)
        if (g_strcmp0(state_names[i], text) == 0)
            return (enum task_state)i;
    return TASK_UNSET;
}

bool task_state_is_terminal(enum task_state state) {
    return state == TASK_COMPLETED || state == TASK_FAILED || state == TASK_KILLED;
}

/* ---- spec ---- */

void task_spec_free(struct task_spec *spec) {
    if (!spec)
        return;
    g_free(spec->name);
    g_free(spec->owner);
    g_free(spec->image);
    g_strfreev(spec->argv);
    g_strfreev(spec->env);
    g_strfreev(spec->mounts);
    vm_spec_free(spec->vm);
    g_free(spec);
}

struct task_spec *task_spec_copy(const struct task_spec *spec) {
    struct task_spec *copy = g_new0(struct task_spec, 1);

    *copy = *spec;
    copy->name = g_strdup(spec->name);
    copy->owner = g_strdup(spec->owner);
    copy->image = g_strdup(spec->image);
    copy->argv = g_strdupv(spec->argv);
    copy->env = g_strdupv(spec->env);
    copy->mounts = g_strdupv(spec->mounts);
    copy->vm = spec->vm ? vm_spec_copy(spec->vm) : NULL;
    return copy;
}

static json_t *strv_to_json(char *const *strv) {
    json_t *list = json_array();

    for (; strv && *strv; strv++)
        json_array_append_new(list, json_string(*strv));
    return list;
}

static void set_text(json_t *json, const char *key, const char *text) {
    if (text)
        json_object_set_new(json, key, json_string(text));
}

static void spec_into_json(const struct task_spec *spec, json_t *json) {
    set_text(json, "name", spec->name);
    set_text(json, "owner", spec->owner);
    set_text(json, "image", spec->image);
    json_object_set_new(json, "command", strv_to_json(spec->argv));
    json_object_set_new(json, "env", strv_to_json(spec->env));
    json_object_set_new(json, "mounts", strv_to_json(spec->mounts));
    json_object_set_new(json, "cores", json_integer(spec->cores));
    json_object_set_new(json, "memory_bytes", json_integer(spec->mem_bytes));
    if (spec->vm)
        json_object_set_new(json, "vm", vm_spec_to_json(spec->vm));
}

json_t *task_spec_to_json(const struct task_spec *spec) {
    json_t *json = json_object();

    spec_into_json(spec, json);
    return json;
}

static const char *const device_variables[] = {"NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER",
                                               "NVIDIA_DRIVER_CAPABILITIES"};

static void check_env(struct json_reader *r, char *const *env) {
    for (; env && *env; env++) {
        const char *equals = strchr(*env, '=');
        g_autofree char *name = equals ? g_strndup(*env, (gsize)(equals - *env)) : NULL;

        if (!name || name[0] == '\0') {
            jr_fail(r, "the environment entry \"%.64s\" is not of the form NAME=VALUE", *env);
            return;
        }
        for (size_t i = 0; i < G_N_ELEMENTS(device_variables); i++)
            if (strcmp(name, device_variables[i]) == 0)
                jr_fail(r, "%s is set by the lease and cannot be given: ask for GPUs with -t NODE::GPU", name);
    }
}

static bool mount_path_ok(const char *path) {
    return path[0] == '/' && strlen(path) <= TASK_MAX_PATH_BYTES && !strstr(path, "/../") &&
           !g_str_has_suffix(path, "/..");
}

static void check_mounts(struct json_reader *r, char *const *mounts) {
    for (; mounts && *mounts; mounts++) {
        g_auto(GStrv) part = g_strsplit(*mounts, ":", -1);
        guint n = g_strv_length(part);

        if (n < 2 || n > 3 || !mount_path_ok(part[0]) || !mount_path_ok(part[1]) ||
            (n == 3 && strcmp(part[2], "ro") != 0 && strcmp(part[2], "rw") != 0))
            jr_fail(r, "the mount \"%.128s\" is not of the form /SOURCE:/TARGET[:ro] (absolute paths without \"..\")",
                    *mounts);
    }
}

static void read_vm(struct json_reader *r, const json_t *json, struct task_spec *spec) {
    const json_t *vm = json_object_get(json, "vm");

    if (!vm || r->failed)
        return;
    spec->vm = vm_spec_from_json(vm, r->error);
    r->failed = !spec->vm;
    if (spec->vm && spec->mem_bytes < (int64_t)VM_MIN_MEM_MIB << 20)
        jr_fail(r, "\"memory_bytes\" is %" G_GINT64_FORMAT ", a machine has at least %d MiB", spec->mem_bytes,
                VM_MIN_MEM_MIB);
    else if (spec->vm && spec->cores < 1)
        jr_fail(r, "a machine has at least one core");
}

struct task_spec *task_spec_from_json(const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "task", error);
    struct task_spec *spec = g_new0(struct task_spec, 1);

    spec->name = g_strdup(jr_str_opt(&r, "name", TASK_MAX_NAME_BYTES, NULL));
    spec->owner = g_strdup(jr_str_opt(&r, "owner", TASK_MAX_OWNER_BYTES, NULL));
    spec->image = g_strdup(jr_str_opt(&r, "image", TASK_MAX_IMAGE_BYTES, NULL));
    spec->argv = jr_strv_opt(&r, "command", TASK_MAX_ARGS, TASK_MAX_ARG_BYTES);
    spec->env = jr_strv_opt(&r, "env", TASK_MAX_ENV, TASK_MAX_ARG_BYTES);
    spec->mounts = jr_strv_opt(&r, "mounts", TASK_MAX_MOUNTS, 2 * TASK_MAX_PATH_BYTES + 4);
    spec->cores = (int)jr_int_opt(&r, "cores", 0, TASK_MAX_CORES, 0);
    spec->mem_bytes = jr_int_opt(&r, "memory_bytes", 0, G_MAXINT64, 0);
    read_vm(&r, json, spec);
    if (!spec->vm && spec->mem_bytes > 0 && spec->mem_bytes < 6 * 1024 * 1024) /* the engine's own minimum */
        jr_fail(&r, "\"memory_bytes\" is %" G_GINT64_FORMAT ", the least a container can have is 6 MiB",
                spec->mem_bytes);
    if (!spec->vm && (!spec->argv[0] || spec->argv[0][0] == '\0'))
        jr_fail(&r, "no command is given");
    if (spec->image && spec->image[0] == '\0')
        jr_fail(&r, "the image's name is empty");
    check_env(&r, spec->env);
    check_mounts(&r, spec->mounts);
    if (jr_done(&r))
        return spec;
    task_spec_free(spec);
    return NULL;
}

/* ---- task ---- */

struct task_event *task_event_new(uint32_t task_id, const char *text) {
    struct task_event *event = g_new0(struct task_event, 1);
    g_autofree char *head = g_strndup(text, TASK_EVENT_MAX_BYTES);

    event->task_id = task_id;
    event->text = g_utf8_make_valid(head, -1);
    return event;
}

void task_event_free(struct task_event *event) {
    if (!event)
        return;
    g_free(event->text);
    g_free(event);
}

json_t *task_event_to_json(const struct task_event *event) {
    return json_pack("{s:I,s:s}", "at_ms", (json_int_t)event->at_ms, "text", event->text);
}

void task_free(struct task *task) {
    if (!task)
        return;
    g_free(task->batch_id);
    g_free(task->target);
    task_spec_free(task->spec);
    g_free(task->holding);
    g_free(task->reason);
    g_free(task);
}

struct task *task_copy(const struct task *task) {
    struct task *copy = g_new0(struct task, 1);

    *copy = *task;
    copy->batch_id = g_strdup(task->batch_id);
    copy->target = g_strdup(task->target);
    copy->spec = task_spec_copy(task->spec);
    copy->holding = g_strdup(task->holding);
    copy->reason = g_strdup(task->reason);
    return copy;
}

static void set_time(json_t *json, const char *key, int64_t wall_ms) {
    if (wall_ms > 0)
        json_object_set_new(json, key, json_integer(wall_ms));
}

json_t *task_to_json(const struct task *task, const char *shown_state) {
    json_t *json = json_object();
    json_t *lease = lease_to_json(&task->lease);

    json_object_set_new(json, "id", json_integer(task->id));
    set_text(json, "batch_id", task->batch_id);
    json_object_set_new(json, "state", json_string(shown_state ? shown_state : task_state_to_str(task->state)));
    json_object_set_new(json, "node", json_string(task->lease.node));
    set_text(json, "target", task->target);
    json_object_set(json, "gpus", json_object_get(lease, "gpus"));
    if (task->lease.numa != TARGET_NO_NUMA)
        json_object_set_new(json, "numa", json_integer(task->lease.numa));
    json_object_set_new(json, "epoch", json_integer(task->lease.epoch));
    json_object_set_new(json, "holds_lease", json_boolean(task->holds_lease));
    set_text(json, "holding", task->holding);
    if (task->kill_requested)
        json_object_set_new(json, "kill_requested", json_true());
    if (task->pause_requested)
        json_object_set_new(json, "pause_requested", json_true());
    if (task->has_exit_code)
        json_object_set_new(json, "exit_code", json_integer(task->exit_code));
    if (task->oom)
        json_object_set_new(json, "oom", json_true());
    set_text(json, "reason", task->reason);
    set_time(json, "created_ms", task->created_ms);
    set_time(json, "started_ms", task->started_ms);
    set_time(json, "finished_ms", task->finished_ms);
    json_object_set_new(json, "revision", json_integer(task->revision));
    spec_into_json(task->spec, json);
    json_decref(lease);
    return json;
}

/* ---- report ---- */

void task_report_clear(struct task_report *report) {
    g_clear_pointer(&report->reason, g_free);
    g_clear_pointer(&report->holding, g_free);
}

void task_report_free(struct task_report *report) {
    if (!report)
        return;
    task_report_clear(report);
    g_free(report);
}

json_t *task_report_to_json(const struct task_report *report) {
    json_t *json = json_object();

    json_object_set_new(json, "task_id", json_integer(report->task_id));
    json_object_set_new(json, "epoch", json_integer(report->epoch));
    json_object_set_new(json, "state", json_string(task_state_to_str(report->state)));
    if (report->has_exit_code)
        json_object_set_new(json, "exit_code", json_integer(report->exit_code));
    if (report->oom)
        json_object_set_new(json, "oom", json_true());
    set_text(json, "reason", report->reason);
    set_time(json, "started_ms", report->started_ms);
    set_time(json, "finished_ms", report->finished_ms);
    json_object_set_new(json, "released", json_boolean(report->released));
    if (report->released)
        json_object_set_new(json, "proof", proof_to_json(&report->proof));
    set_text(json, "holding", report->holding);
    return json;
}

/* A reason that is too long is cut, never refused: it must not stand in the way of a result. */
static char *bounded_text(const char *text) {
    g_autofree char *head = text ? g_strndup(text, TASK_REASON_MAX_BYTES) : NULL;

    return head ? g_utf8_make_valid(head, -1) : NULL;
}

bool task_report_from_json(const json_t *json, struct task_report *ret_report, GError **error) {
    struct json_reader r = jr_init(json, "report", error);
    struct task_report report = {0};
    const char *state;

    report.task_id = (uint32_t)jr_int(&r, "task_id", 1, G_MAXUINT32);
    report.epoch = jr_int(&r, "epoch", 0, G_MAXINT64);
    state = jr_str(&r, "state", 32);
    report.state = task_state_from_str(state);
    if (report.state == TASK_UNSET && strcmp(state, "unset") != 0)
        jr_fail(&r, "\"state\" has a value that is not known here");
    report.has_exit_code = json_object_get(json, "exit_code") != NULL;
    report.exit_code = (int)jr_int_opt(&r, "exit_code", G_MININT, G_MAXINT, 0);
    report.oom = jr_bool_opt(&r, "oom", false);
    report.started_ms = jr_int_opt(&r, "started_ms", 0, G_MAXINT64, 0);
    report.finished_ms = jr_int_opt(&r, "finished_ms", 0, G_MAXINT64, 0);
    report.released = jr_bool_opt(&r, "released", false);
    if (!r.failed && !proof_from_json(json_object_get(json, "proof"), &report.proof, r.error))
        r.failed = true;
    report.reason = bounded_text(jr_str_opt(&r, "reason", 64 * 1024, NULL));
    report.holding = bounded_text(jr_str_opt(&r, "holding", 64 * 1024, NULL));
    if (!jr_done(&r)) {
        task_report_clear(&report);
        return false;
    }
    *ret_report = report;
    return true;
}
