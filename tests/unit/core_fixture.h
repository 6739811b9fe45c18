#pragma once
/* A controller with a store that can be made to fail, and nodes that are played by the test. */

#include <string.h>

#include "base/error.h"
#include "core/controller.h"
#include "core/task_state.h"

struct bed {
    struct controller *c;
    GQueue records;      /* of struct record, not yet answered */
    GPtrArray *sent;     /* of json_t: with "node" added */
    GPtrArray *refusals; /* of char *: the last submission's */
    char *error;
    int error_code;
    uint32_t first_id; /* of the last submission */
    guint n_tasks;
    bool is_answered;
    int kills;
    struct core_time now;
};

static void op_record(void *env, struct record *record) { g_queue_push_tail(&((struct bed *)env)->records, record); }

static void op_send(void *env, const char *node, json_t *message) {
    json_object_set_new(message, "node", json_string(node));
    g_ptr_array_add(((struct bed *)env)->sent, message);
}

static void op_changed(void *env, const struct task *task, bool is_gone) {
    (void)env;
    (void)is_gone;
    task_check(task);
}

static const struct controller_ops ops = {op_record, op_send, op_changed};

static struct node_info *make_node(const char *name, int n_gpus) {
    struct node_info *info = node_info_new(name);

    info->cores = 8;
    info->mem_total_bytes = 64LL << 30;
    info->gpus_known = info->engine_ok = true;
    g_ptr_array_add(info->numa, numa_node_new(0, "0-3", 1 << 30));
    g_ptr_array_add(info->numa, numa_node_new(1, "4-7", 1 << 30));
    for (int i = 0; i < n_gpus; i++) {
        struct gpu *gpu = gpu_new();
        gpu->index = i;
        g_snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%s-%d", name, i);
        g_snprintf(gpu->pci, sizeof gpu->pci, "0000:%02x:00.0", i);
        gpu->condition = GPU_CONDITION_OK;
        gpu->proof = (struct proof){.facts = PROOF_CARD, .samples = 2};
        gpu_set(gpu, GPU_NUMA, i / 2);
        g_ptr_array_add(info->gpus, gpu);
    }
    return info;
}

static void hello(struct bed *bed, const char *name, int n_gpus) {
    g_autoptr(GPtrArray) none = g_ptr_array_new();

    g_assert_true(controller_hello(bed->c, make_node(name, n_gpus), none, 0, bed->now, NULL));
}

G_GNUC_UNUSED static struct bed *bed_new(void) {
    struct bed *bed = g_new0(struct bed, 1);

    bed->c = controller_new(&ops, bed, &(struct controller_settings){.offline_after_ms = 30000});
    bed->sent = g_ptr_array_new_with_free_func((GDestroyNotify)json_decref);
    bed->now = (struct core_time){.wall_ms = 1700000000000, .mono_ms = 1000000};
    hello(bed, "mynode", 4);
    hello(bed, "node2", 2);
    return bed;
}

G_GNUC_UNUSED static void bed_free(struct bed *bed) {
    controller_check(bed->c);
    controller_free(bed->c);
    g_queue_clear_full(&bed->records, (GDestroyNotify)record_free);
    g_ptr_array_unref(bed->sent);
    if (bed->refusals)
        g_ptr_array_unref(bed->refusals);
    g_free(bed->error);
    g_free(bed);
}

/* Answers all records, also those that the answers cause. */
static void commit(struct bed *bed, const char *failure) {
    struct record *record;
    g_autoptr(GError) error = NULL;

    if (failure)
        kr_fail(&error, STORAGE, "%s", failure);
    while ((record = g_queue_pop_head(&bed->records))) {
        controller_recorded(bed->c, record, error);
        controller_check(bed->c);
    }
}

static void on_submitted(void *user, const struct submit_result *result, const GError *error) {
    const GPtrArray *tasks = result->tasks, *refusals = result->refusals;
    struct bed *bed = user;

    bed->is_answered = true;
    g_free(bed->error);
    bed->error = g_strdup(error ? error->message : NULL);
    bed->error_code = error ? error->code : 0;
    bed->n_tasks = tasks ? tasks->len : 0;
    bed->first_id = tasks ? ((const struct task *)tasks->pdata[0])->id : 0;
    if (bed->refusals)
        g_ptr_array_unref(bed->refusals);
    bed->refusals = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; refusals && i < refusals->len; i++)
        g_ptr_array_add(bed->refusals, g_strdup(((const struct refusal *)refusals->pdata[i])->reason));
}

static void submit(struct bed *bed, const char *targets, int cores) {
    const char *argv[] = {"python", "train.py", NULL};
    struct task_spec spec = {.argv = (char **)(uintptr_t)argv, .cores = cores};
    g_auto(GStrv) list = g_strsplit(targets, " ", -1);
    struct submission submission = {.targets = targets[0] ? list : NULL, .spec = &spec};

    bed->is_answered = false;
    controller_submit(bed->c, &submission, bed->now, on_submitted, bed);
    controller_check(bed->c);
}

G_GNUC_UNUSED static void expect_refusal(struct bed *bed, const char *targets, int cores, int code, const char *part) {
    submit(bed, targets, cores);
    g_assert_true(bed->is_answered);
    g_assert_cmpint(bed->error_code, ==, code);
    if (!strstr(bed->error, part))
        g_error("%s: \"%s\" does not contain \"%s\"", targets, bed->error, part);
}

G_GNUC_UNUSED static const char *last_type(const struct bed *bed) {
    return bed->sent->len ? json_string_value(json_object_get(bed->sent->pdata[bed->sent->len - 1], "type")) : "";
}

static void report(struct bed *bed, uint32_t id, enum task_state state, bool released) {
    const struct task *task = controller_task(bed->c, id);
    struct task_report said = {.task_id = id,
                               .epoch = task->lease.epoch,
                               .state = state,
                               .released = released,
                               .proof = {.facts = released ? PROOF_CONTAINER_GONE | PROOF_CARD : 0}};
    g_autofree char *node = g_strdup(task->lease.node);

    controller_report(bed->c, node, &said, bed->now);
    controller_check(bed->c);
}
