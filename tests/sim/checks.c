/* What must be true: after each step, at each end of a task, in calm moments, and when all is over. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "core/controller_internal.h"
#include "core/task_state.h"
#include "runner/lease_files.h"
#include "sim/world_internal.h"

void broken(const struct world *w, const char *what, const char *format, ...) {
    g_autofree char *detail = NULL;
    va_list args;

    va_start(args, format);
    detail = g_strdup_vprintf(format, args);
    va_end(args);
    fprintf(stderr, "seed %" G_GUINT64_FORMAT ", step %u: %s (%s)\n", w->seed, w->step, what, detail);
    abort();
}

/* ---- when a record becomes durable ---- */

/* What the store's primary key would refuse must not even be asked for. */
void check_unique(struct world *w, const struct task *task) {
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, w->store);
    while (task->holds_lease && g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct task *other = value;
        for (size_t i = 0; other->holds_lease && other->id != task->id && i < task->lease.n_gpus; i++)
            if (lease_has_gpu(&other->lease, task->lease.gpus[i].uuid))
                broken(w, "R1: two leases on one card are asked of the store", "%s: tasks %u and %u",
                       task->lease.gpus[i].uuid, other->id, task->id);
    }
}

static struct node *node_of(struct world *w, const struct task *task) {
    for (int i = 0; i < N_NODES; i++)
        if (strcmp(w->nodes[i].name, task->lease.node) == 0)
            return &w->nodes[i];
    return NULL;
}

static bool runs(struct world *w, const struct task *task) {
    const struct running *running = g_hash_table_lookup(node_of(w, task)->running, GUINT_TO_POINTER(task->id));

    return running && running->holder.epoch == task->lease.epoch;
}

/* How it ended there is how it ended here. */
void check_end(struct world *w, const struct task *task) {
    const struct ending *truth = g_hash_table_lookup(w->truth, GUINT_TO_POINTER(task->id));
    const char *state = task_state_to_str(task->state);

    if (w->was_restored || task->release_forced)
        return;
    if (!task->holds_lease && runs(w, task))
        broken(w, "R2: a lease ended while its container runs", "task %u %s", task->id, state);
    if (truth && truth->epoch != task->lease.epoch)
        truth = NULL;
    if (task->state == TASK_COMPLETED && (!truth || truth->exit_code != 0))
        broken(w, "a task's end is not the true one", "task %u completed, really %d", task->id,
               truth ? truth->exit_code : -1);
    if (task->has_exit_code && (!truth || truth->exit_code != task->exit_code))
        broken(w, "a task's exit code is not the true one", "task %u: %d", task->id, task->exit_code);
    if (truth && !truth->is_disturbed && task->reason && g_str_has_prefix(task->reason, "vanished"))
        broken(w, "a task that was there counts as vanished", "task %u: %s", task->id, task->reason);
    if (truth && !truth->is_disturbed && truth->exit_code == 0 && task->state != TASK_COMPLETED &&
        !task->kill_requested)
        broken(w, "a task's true end was lost", "task %u ended with 0 and counts as %s: %s", task->id, state,
               task->reason ? task->reason : "");
}

/* ---- what happens on a node ---- */

/* Decide, record, act: the file is durable before the start. Whoever starts twice, or under a lease of another boot, is told too. */
void check_start(struct node *node, const struct lease *lease, const char *name) {
    g_autofree char *path = g_strdup_printf("/%s/leases/%u.json", node->name, lease->task_id);
    g_autofree char *boot = g_strdup_printf("boot-%u", node->boot);
    const char *text = disk_durable_text(&node->disk, path);
    json_t *json = text ? jsonx_parse(text, strlen(text), NULL) : NULL;
    const json_t *kept = json_object_get(json, "lease");
    const char *phase = json_string_value(json_object_get(json, "phase"));
    const char *boot_id = json_string_value(json_object_get(kept, "boot_id"));

    if (lease->task_id >= FIRST_ROGUE)
        broken(node->world, "a lease that had to be refused was taken", "task %u", lease->task_id);
    if (!json || json_integer_value(json_object_get(kept, "epoch")) != lease->epoch || strcmp(phase, "accepted") == 0)
        broken(node->world, "R5: a container was started and its lease is not durable", "task %u", lease->task_id);
    if (boot_id && strcmp(boot_id, boot) != 0)
        broken(node->world, "L12: a container was started under a lease of another boot", "task %u", lease->task_id);
    if (g_hash_table_contains(node->ran, name))
        broken(node->world, "R5: a task was started twice", "task %u", lease->task_id);
    json_decref(json);
}

/* The result is durable before its container goes. */
void check_removal(struct node *node, uint32_t task_id, int64_t epoch) {
    g_autofree char *path = g_strdup_printf("/%s/leases/%u.json", node->name, task_id);
    const char *text = disk_durable_text(&node->disk, path);

    if (node->is_disturbed)
        return;
    if (!text || !strstr(text, "\"phase\":\"ended\""))
        broken(node->world, "R5: a container was removed before its result was durable", "task %u/%" G_GINT64_FORMAT,
               task_id, epoch);
}

static bool is_forgiven(const struct world *w, uint32_t task_id) {
    const struct task *task = g_hash_table_lookup(w->store, GUINT_TO_POINTER(task_id));
    const struct live_task *live = controller_live(w->host, task_id);

    return !task || !task->holds_lease || task->release_forced || (live && live->draft->release_forced);
}

/* The lease file goes when the host has the end, or an operator has given it up; before that only when nothing was ever begun. */
void check_forgotten(struct node *node, const char *path) {
    const char *slash = strrchr(path, '/');
    uint32_t task_id = (uint32_t)strtoul(slash + 1, NULL, 10);
    const struct ending *truth = g_hash_table_lookup(node->world->truth, GUINT_TO_POINTER(task_id));

    if (g_hash_table_contains(node->running, GUINT_TO_POINTER(task_id)))
        broken(node->world, "R2: a lease file was removed while its container runs", "task %u on %s", task_id,
               node->name);
    if (truth && truth->node == node) {
        g_autofree char *name = g_strdup_printf("kohakuriver-c1-%s-%u-%" G_GINT64_FORMAT, node->name, task_id,
                                                truth->epoch);
        if (g_str_has_suffix(path, ".json") && sim_world_has(node->engine_world, name))
            broken(node->world, "R2: a lease file was removed and its container is there", "task %u on %s", task_id,
                   node->name);
    }
    if (!g_str_has_suffix(path, ".json") || node->world->was_restored || !truth || truth->node != node)
        return;
    if (!is_forgiven(node->world, task_id))
        broken(node->world, "R5: a lease file was removed and the host does not have the end", "task %u on %s", task_id,
               node->name);
}

/* ---- after each step ---- */

static bool is_free(struct world *w, const struct card *card) {
    const struct cluster_node *known = cluster_find(controller_cluster(w->host), card->node->name);
    const struct gpu *gpu = known ? node_info_gpu_by_index(known->info, card->index) : NULL;

    return gpu && strcmp(gpu->uuid, card->uuid) == 0 &&
           pool_gpu_state(controller_pool(w->host), known, gpu, NULL, w->now, NULL) == GPU_STATE_FREE;
}

static void check_card(struct world *w, const struct card *card) {
    const struct holder *user = card_user(card);
    const struct ledger_entry *entry = user ? ledger_holder(controller_ledger(w->host), card->uuid) : NULL;

    /* a host that has just been restored knows no more than its disk; a task it started is on it (R5) */
    if (entry && entry->lease.task_id != user->task_id && !w->was_restored)
        broken(w, "R1: a card in use is held by another task", "%s: task %u uses it, task %u holds it", card->uuid,
               user->task_id, entry->lease.task_id);
    if (user && !entry && is_free(w, card))
        broken(w, "R2: a card in use is free", "%s: task %u uses it", card->uuid, user->task_id);
}

static bool is_being_submitted(const struct world *w, const struct lease *lease) {
    for (GList *link = w->records.head; link; link = link->next) {
        const struct record *record = link->data;
        for (guint i = 0; i < record->tasks->len; i++)
            if (((const struct task *)record->tasks->pdata[i])->id == lease->task_id)
                return true;
    }
    return false;
}

static void check_owners(struct world *w, const struct node *node) {
    const GPtrArray *held = ledger_of_node(controller_ledger(w->host), node->name);

    for (guint i = 0; held && i < held->len; i++) {
        const struct ledger_entry *entry = held->pdata[i];
        const struct live_task *live = controller_live(w->host, entry->lease.task_id);
        if (entry->is_orphan || (live && live->draft->lease.epoch == entry->lease.epoch))
            continue;
        if (!is_being_submitted(w, &entry->lease))
            broken(w, "a lease without an owner", "task %u on %s", entry->lease.task_id, node->name);
    }
}

void world_check(struct world *w) {
    controller_check(w->host);
    for (int i = 0; i < N_NODES; i++) {
        for (int gpu = 0; gpu < N_GPUS; gpu++)
            check_card(w, &w->nodes[i].cards[gpu]);
        check_owners(w, &w->nodes[i]);
    }
}

/* ---- in a calm moment ---- */

static char *name_of(uint32_t task_id, int64_t epoch) {
    return g_strdup_printf("%u/%" G_GINT64_FORMAT, task_id, epoch);
}

static int compare_names(gconstpointer a, gconstpointer b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Sorted and joined. Takes the names. */
static char *joined(GPtrArray *names) {
    char *text;

    g_ptr_array_sort(names, compare_names);
    g_ptr_array_add(names, NULL);
    text = g_strjoinv(" ", (char **)names->pdata);
    g_ptr_array_unref(names);
    return text;
}

static char *ledger_of(const struct world *w, const struct node *node) {
    const GPtrArray *held = ledger_of_node(controller_ledger(w->host), node->name);
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; held && i < held->len; i++) {
        const struct ledger_entry *entry = held->pdata[i];
        g_ptr_array_add(names, name_of(entry->lease.task_id, entry->lease.epoch));
    }
    return joined(names);
}

static char *files_of(const struct node *node) {
    g_autofree char *folder = g_strdup_printf("/%s/leases/", node->name);
    g_autoptr(GPtrArray) paths = disk_json_paths(&node->disk, folder);
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < paths->len; i++) {
        const char *text = disk_durable_text(&node->disk, paths->pdata[i]);
        json_t *json = text ? jsonx_parse(text, strlen(text), NULL) : NULL;
        const json_t *lease = json_object_get(json, "lease");
        g_ptr_array_add(names, name_of((uint32_t)json_integer_value(json_object_get(lease, "task_id")),
                                       json_integer_value(json_object_get(lease, "epoch"))));
        json_decref(json);
    }
    return joined(names);
}

static char *known_to(const struct node *node) {
    g_autoptr(GPtrArray) reports = executor_reports(node->executor);
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < reports->len; i++) {
        const struct task_report *report = reports->pdata[i];
        g_ptr_array_add(names, name_of(report->task_id, report->epoch));
    }
    return joined(names);
}

static char *store_of(const struct world *w, const struct node *node) {
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, w->store);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct task *task = value;
        if (task->holds_lease && strcmp(task->lease.node, node->name) == 0)
            g_ptr_array_add(names, name_of(task->id, task->lease.epoch));
    }
    return joined(names);
}

static char *orphans_of(const struct world *w, const struct node *node) {
    const GPtrArray *held = ledger_of_node(controller_ledger(w->host), node->name);
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    const struct ledger_entry *entry;

    for (guint i = 0; held && i < held->len; i++)
        if ((entry = held->pdata[i])->is_orphan)
            g_ptr_array_add(names, name_of(entry->lease.task_id, entry->lease.epoch));
    return joined(names);
}

static void check_node_agrees(struct world *w, const struct node *node) {
    g_autofree char *ledger = ledger_of(w, node), *files = files_of(node), *known = known_to(node),
                    *store = store_of(w, node), *orphans = orphans_of(w, node);
    GHashTableIter iter;
    gpointer value;

    if (strcmp(ledger, files) != 0 || strcmp(ledger, known) != 0)
        broken(w, "host and node do not agree", "%s: ledger %s; lease files %s; executor %s", node->name, ledger, files,
               known);
    if (!orphans[0] && strcmp(ledger, store) != 0)
        broken(w, "ledger and store do not agree", "%s: ledger %s; store %s", node->name, ledger, store);
    g_hash_table_iter_init(&iter, node->running);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct holder *holder = &((const struct running *)value)->holder;
        g_autofree char *name = name_of(holder->task_id, holder->epoch);
        if (!strstr(known, name))
            broken(w, "a container without a lease", "%s on %s", name, node->name);
    }
}

void check_agreement(struct world *w) {
    for (int i = 0; i < N_NODES; i++)
        check_node_agrees(w, &w->nodes[i]);
}

/* ---- when all is over ---- */

void check_settled(struct world *w) {
    GHashTableIter iter;
    gpointer value;

    check_agreement(w);
    g_hash_table_iter_init(&iter, w->store);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct task *task = value;
        if (!task_state_is_terminal(task->state) || task->holds_lease)
            broken(w, "a task did not end or still holds its lease", "task %u %s on %s: %s", task->id,
                   task_state_to_str(task->state), task->lease.node, task->holding ? task->holding : "");
        check_end(w, task);
    }
    for (int i = 0; i < N_NODES; i++) {
        const struct node *node = &w->nodes[i];
        g_autofree char *held = ledger_of(w, node), *files = files_of(node);
        if (held[0] || files[0] || sim_world_count(node->engine_world) > 0)
            broken(w, "a lease leaked", "%s: ledger %s; lease files %s; %d containers", node->name, held, files,
                   sim_world_count(node->engine_world));
        for (int gpu = 0; gpu < N_GPUS; gpu++)
            if (!is_free(w, &node->cards[gpu]))
                broken(w, "a GPU leaked: nobody has it and it does not turn free", "%s", node->cards[gpu].uuid);
    }
}
