#include "model/vps.h"

#include "base/json.h"
#include "model/target.h"

void vps_free(struct vps *vps) {
    if (!vps)
        return;
    g_free(vps->name);
    g_free(vps->target);
    task_spec_free(vps->spec);
    g_free(vps);
}

struct vps *vps_copy(const struct vps *vps) {
    struct vps *copy = g_new0(struct vps, 1);

    *copy = *vps;
    copy->name = g_strdup(vps->name);
    copy->target = g_strdup(vps->target);
    copy->spec = task_spec_copy(vps->spec);
    return copy;
}

json_t *vps_to_json(const struct vps *vps) {
    return json_pack("{s:I,s:s,s:s,s:o,s:I,s:I}", "id", (json_int_t)vps->id, "name", vps->name, "target", vps->target,
                     "spec", task_spec_to_json(vps->spec), "task_id", (json_int_t)vps->task_id, "created_ms",
                     (json_int_t)vps->created_ms);
}

struct vps *vps_from_json(const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "vps", error);
    struct vps *vps = g_new0(struct vps, 1);

    vps->id = (uint32_t)jr_int(&r, "id", 1, G_MAXUINT32);
    vps->name = g_strdup(jr_str(&r, "name", VM_MAX_NAME_BYTES));
    vps->target = g_strdup(jr_str(&r, "target", TARGET_MAX_BYTES));
    vps->task_id = (uint32_t)jr_int(&r, "task_id", 0, G_MAXUINT32);
    vps->created_ms = jr_int(&r, "created_ms", 0, G_MAXINT64);
    vps->spec = r.failed ? NULL : task_spec_from_json(json_object_get(json, "spec"), error);
    if (vps->spec && !vps->spec->vm)
        jr_fail(&r, "its spec is not a machine's");
    if (vps->spec && jr_done(&r))
        return vps;
    vps_free(vps);
    return NULL;
}

static const char *const names[VPS_STATE_COUNT_] = {
    [VPS_UNSET] = "unset",         [VPS_PENDING] = "pending",
    [VPS_ASSIGNING] = "assigning", [VPS_PROVISIONING] = "provisioning",
    [VPS_RUNNING] = "running",     [VPS_PAUSED] = "paused",
    [VPS_STOPPING] = "stopping",   [VPS_STOPPED] = "stopped",
    [VPS_FAILED] = "failed",       [VPS_LOST] = "lost",
};

const char *vps_state_to_str(enum vps_state state) { return names[state < VPS_STATE_COUNT_ ? state : 0]; }

enum vps_state vps_state_of(const struct task *task, bool is_told, bool is_lost) {
    if (!task)
        return VPS_STOPPED;
    if (task_state_is_terminal(task->state))
        return task->holds_lease ? VPS_STOPPING : task->state == TASK_FAILED ? VPS_FAILED : VPS_STOPPED;
    if (is_lost)
        return VPS_LOST;
    switch (task->state) {
    case TASK_PENDING: return is_told ? VPS_ASSIGNING : VPS_PENDING;
    case TASK_STARTING: return VPS_PROVISIONING;
    case TASK_PAUSED: return VPS_PAUSED;
    case TASK_STOPPING: return VPS_STOPPING;
    default: return VPS_RUNNING;
    }
}
