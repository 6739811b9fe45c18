/* Machines: made, started, deleted. Each start is a submission of one task (controller_submit.c); stopping and pausing are the
 * task's. A machine's record goes into the store in the transaction of the start that it names. */

#include <string.h>

#include "base/error.h"
#include "core/controller_internal.h"

/* ---- the table ---- */

void controller_init_vps(struct controller *c) {
    c->vps = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)vps_free);
    c->vps_busy = g_hash_table_new(NULL, NULL);
}

void controller_free_vps(struct controller *c) {
    g_hash_table_unref(c->vps);
    g_hash_table_unref(c->vps_busy);
}

void controller_restore_vps(struct controller *c, struct vps *vps) {
    c->last_vps_id = MAX(c->last_vps_id, vps->id);
    g_hash_table_replace(c->vps, GUINT_TO_POINTER(vps->id), vps);
}

void controller_restore_vps_counter(struct controller *c, uint32_t last_vps_id) {
    c->last_vps_id = MAX(c->last_vps_id, last_vps_id);
}

const struct vps *controller_vps(const struct controller *c, uint32_t id) {
    return g_hash_table_lookup(c->vps, GUINT_TO_POINTER(id));
}

static int by_id(gconstpointer a, gconstpointer b) {
    const struct vps *const *left = a, *const *right = b;

    return ((*left)->id > (*right)->id) - ((*left)->id < (*right)->id);
}

GPtrArray *controller_all_vps(const struct controller *c) {
    GPtrArray *all = g_ptr_array_new();
    GHashTableIter iter;
    gpointer vps;

    g_hash_table_iter_init(&iter, c->vps);
    while (g_hash_table_iter_next(&iter, NULL, &vps))
        g_ptr_array_add(all, vps);
    g_ptr_array_sort(all, by_id);
    return all;
}

bool controller_vps_is_told(const struct controller *c, const struct vps *vps) {
    const struct live_task *live = controller_live(c, vps->task_id);

    return live && live->start_sent;
}

static struct vps *find(const struct controller *c, uint32_t id, GError **error) {
    struct vps *vps = g_hash_table_lookup(c->vps, GUINT_TO_POINTER(id));

    if (!vps)
        kr_fail(error, NOT_FOUND, "there is no VPS %u", id);
    else if (g_hash_table_contains(c->vps_busy, GUINT_TO_POINTER(id)))
        kr_fail(error, REFUSED, "VPS %u (%s) is just being started or deleted by somebody else", id, vps->name);
    else
        return vps;
    return NULL;
}

/* It must be off, and hold nothing. */
static bool check_off(const struct controller *c, const struct vps *vps, GError **error) {
    const struct live_task *live = controller_live(c, vps->task_id);

    if (!live)
        return true;
    if (!task_state_is_terminal(live->draft->state))
        return kr_fail(error, REFUSED, "VPS %u (%s) is on (task %u is %s): stop it first", vps->id, vps->name,
                       vps->task_id, task_state_to_str(live->draft->state));
    return kr_fail(error, REFUSED, "VPS %u (%s) is off and its GPUs are not free yet: %s", vps->id, vps->name,
                   live->draft->holding ? live->draft->holding : "the node is making sure");
}

/* ---- starting ---- */

struct start {
    struct controller *c;
    uint32_t id;
    controller_vps_cb *on_done;
    void *user;
};

static void on_submitted(void *user, const struct submit_result *result, const GError *error) {
    struct start *start = user;

    (void)result;
    g_hash_table_remove(start->c->vps_busy, GUINT_TO_POINTER(start->id));
    start->on_done(start->user, error ? NULL : controller_vps(start->c, start->id), error);
    g_free(start);
}

static void start_it(struct controller *c, struct vps *vps, struct core_time now, controller_vps_cb *on_done,
                     void *user) {
    char *targets[] = {vps->target, NULL};
    struct submission submission = {.targets = targets, .spec = vps->spec, .vps = vps};
    struct start *start = g_new0(struct start, 1);

    *start = (struct start){c, vps->id, on_done, user};
    g_hash_table_add(c->vps_busy, GUINT_TO_POINTER(vps->id));
    controller_submit(c, &submission, now, on_submitted, start);
}

static bool check_name(const struct controller *c, const char *name, GError **error) {
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, c->vps);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (strcmp(((const struct vps *)value)->name, name) == 0)
            return kr_fail(error, REFUSED, "there is a VPS \"%s\" already: number %u", name,
                           ((const struct vps *)value)->id);
    return true;
}

bool controller_vps_create(struct controller *c, struct vps *vps, struct core_time now, controller_vps_cb *on_done,
                           void *user, GError **error) {
    if (c->last_vps_id == G_MAXUINT32)
        return kr_fail(error, REFUSED, "this cluster has used up its VPS numbers");
    if (!check_name(c, vps->name, error))
        return false;
    vps->id = vps->spec->vm->vps_id = ++c->last_vps_id;
    vps->created_ms = now.wall_ms;
    start_it(c, vps, now, on_done, user);
    return true;
}

bool controller_vps_start(struct controller *c, uint32_t id, struct core_time now, controller_vps_cb *on_done,
                          void *user, GError **error) {
    struct vps *vps = find(c, id, error);

    if (!vps || !check_off(c, vps, error))
        return false;
    start_it(c, vps, now, on_done, user);
    return true;
}

void controller_vps_recorded(struct controller *c, struct record *record) {
    uint32_t gone = record->vps_gone, put = record->vps ? record->vps->id : 0;

    if (record->vps)
        controller_restore_vps(c, g_steal_pointer(&record->vps));
    if (gone)
        g_hash_table_remove(c->vps, GUINT_TO_POINTER(gone));
    controller_tell_vps(c, put);
    controller_tell_vps(c, gone);
}

/* ---- deleting ---- */

bool controller_vps_can_delete(const struct controller *c, uint32_t id, GError **error) {
    const struct vps *vps = find(c, id, error);

    return vps && check_off(c, vps, error);
}

static void on_deleted(void *user, const struct task *task, const GError *error) {
    struct start *start = user;

    (void)task;
    g_hash_table_remove(start->c->vps_busy, GUINT_TO_POINTER(start->id));
    start->on_done(start->user, NULL, error);
    g_free(start);
}

bool controller_vps_delete(struct controller *c, uint32_t id, controller_vps_cb *on_done, void *user, GError **error) {
    struct start *start;
    struct record *record;

    if (!controller_vps_can_delete(c, id, error))
        return false;
    start = g_new0(struct start, 1);
    *start = (struct start){c, id, on_done, user};
    g_hash_table_add(c->vps_busy, GUINT_TO_POINTER(id));
    record = record_new();
    record->vps_gone = id;
    record->on_done = on_deleted;
    record->done_user = start;
    controller_submit_record(c, record);
    return true;
}
