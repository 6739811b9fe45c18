/* Those who submit, kill, pause, and the operator with his orders. */

#include <string.h>

#include "base/error.h"
#include "sim/world_internal.h"

static const struct order order = {.who = "operator", .reason = ""};

/* R3, R4: of a node that has spoken, and exactly the cards of these numbers. */
static void check_grant(struct world *w, const struct task *task) {
    const char *numbers = strstr(task->target, "::");
    g_auto(GStrv) wanted = g_strsplit(numbers ? numbers + 2 : "", ",", -1);

    for (int i = 0; i < N_NODES; i++)
        if (strcmp(w->nodes[i].name, task->lease.node) == 0 && !w->nodes[i].was_heard)
            broken(w, "R3: a grant on a node that has not spoken", "task %u on %s", task->id, task->lease.node);
    if (g_strv_length(wanted) != task->lease.n_gpus)
        broken(w, "R4: another number of cards than was asked for", "%s", task->target);
    for (size_t i = 0; i < task->lease.n_gpus; i++) {
        const char *uuid = task->lease.gpus[i].uuid;
        if (strtol(wanted[i], NULL, 10) != uuid[strlen(uuid) - 1] - '0')
            broken(w, "R4: another card than the one of that number", "%s", task->target);
    }
}

static void on_submitted(void *user, const struct submit_result *result, const GError *error) {
    const GPtrArray *refusals = result->refusals;
    struct world *w = user;

    for (guint i = 0; result->tasks && i < result->tasks->len; i++)
        check_grant(w, result->tasks->pdata[i]);
    trace_line("    answer: %s", error ? error->message : result->is_replay ? "made before" : "made");
    if (error && (!error->message[0] || (error->code == KR_ERROR_REFUSED && (!refusals || refusals->len == 0))))
        broken(w, "a refusal without a reason", "%s", error->message);
}

static void on_done(void *user, const struct task *task, const GError *error) {}

/* ---- submissions ---- */

static void submit(struct world *w, const struct kept_submission *kept) {
    char *targets[G_N_ELEMENTS(kept->targets) + 1] = {kept->targets[0], kept->targets[1], kept->targets[2]};
    char *image = (char *)(uintptr_t)(kept->key && strlen(kept->key) % 2 ? "far" : NULL);
    struct task_spec spec = {.argv = (char **)(uintptr_t)kept->command, .image = image};
    struct submission submission = {
        .spec = &spec, .targets = targets, .key = kept->key, .fingerprint = kept->key ? "f" : NULL};

    for (int i = 0; i < kept->n_targets; i++)
        trace_line("    submit %s%s%s: %s %s %s", kept->targets[i], kept->key ? " " : "", kept->key ? kept->key : "",
                   kept->command[0], kept->command[1], kept->command[2] ? kept->command[2] : "");
    controller_submit(w->host, &submission, w->now, on_submitted, w);
}

static char *some_target(struct world *w) {
    unsigned node = pick(w, N_NODES), first = pick(w, N_GPUS), second = pick(w, N_GPUS);

    if (chance(w, 8))
        return g_strdup_printf("n%u", node); /* no GPU */
    if (chance(w, 30) && first != second)
        return g_strdup_printf("n%u::%u,%u", node, MIN(first, second), MAX(first, second));
    return g_strdup_printf("n%u::%u", node, first);
}

/* What the job will do: src/engine/simulated.h. */
static void choose_command(struct world *w, struct kept_submission *kept) {
    int n = 0;

    kept->command[n++] = g_strdup("job");
    kept->command[n++] = g_strdup_printf("run=%u", pick(w, chance(w, 30) ? 10 : chance(w, 90) ? 3000 : 9000));
    if (chance(w, 20))
        kept->command[n++] = g_strdup_printf("exit=%u", pick(w, 3));
    if (chance(w, 12))
        kept->command[n++] = g_strdup(chance(w, 50) ? "stubborn" : "undying");
    else if (chance(w, 4))
        kept->command[n++] = g_strdup("startfail=nvidia-container-cli: device error");
}

static void clear(struct kept_submission *kept) {
    g_free(kept->key);
    for (size_t i = 0; i < G_N_ELEMENTS(kept->targets); i++)
        g_free(kept->targets[i]);
    for (size_t i = 0; i < G_N_ELEMENTS(kept->command); i++)
        g_free(kept->command[i]);
    *kept = (struct kept_submission){0};
}

void users_clear(struct world *w) {
    for (size_t i = 0; i < G_N_ELEMENTS(w->kept); i++)
        clear(&w->kept[i]);
}

/* With a key it can come again, now or much later: the answer was lost. */
void users_submit(struct world *w) {
    struct kept_submission *kept = &w->kept[w->n_keys % N_KEYS_KEPT];

    clear(kept);
    for (unsigned n = 1 + pick(w, 2); n > 0; n--)
        kept->targets[kept->n_targets++] = some_target(w);
    choose_command(w, kept);
    if (chance(w, 40))
        kept->key = g_strdup_printf("k%u-%u", w->step, w->n_keys++);
    submit(w, kept);
    if (kept->key && chance(w, 30))
        submit(w, kept);
}

void users_repeat(struct world *w) {
    const struct kept_submission *kept = &w->kept[pick(w, N_KEYS_KEPT)];

    if (kept->key)
        submit(w, kept);
}

/* ---- wishes ---- */

static uint32_t some_task(struct world *w) {
    guint n = g_hash_table_size(w->store);
    g_autofree gpointer *ids = NULL;

    if (n == 0)
        return 0;
    ids = g_hash_table_get_keys_as_array(w->store, NULL);
    return GPOINTER_TO_UINT(ids[pick(w, n)]);
}

/* Most of what the store has is over: a few tries for one that is not. */
static uint32_t some_live_task(struct world *w) {
    uint32_t id = 0;

    for (int i = 0; i < 6; i++) {
        id = some_task(w);
        if (controller_task(w->host, id))
            break;
    }
    return id;
}

/* Takes the error. */
static void expect_reason(struct world *w, const char *what, uint32_t id, bool ok, GError *error) {
    trace_line("    %s %u: %s", what, id, ok ? "taken" : error->message);
    if (!ok && (!error || !error->message[0]))
        broken(w, "a refusal without a reason", "%s", what);
    g_clear_error(&error);
}

void users_kill(struct world *w) {
    uint32_t id = some_live_task(w);
    GError *error = NULL;
    bool ok = controller_kill(w->host, id, w->now, on_done, NULL, &error);

    expect_reason(w, "kill", id, ok, error);
}

void users_pause(struct world *w) {
    uint32_t id = some_live_task(w);
    GError *error = NULL;
    bool ok = controller_pause(w->host, id, chance(w, 50), on_done, NULL, &error);

    expect_reason(w, "pause", id, ok, error);
}

/* One that can be released: it has ended, or its node is silent. */
static uint32_t some_releasable_task(struct world *w) {
    const struct task *task;
    uint32_t id = 0;

    for (int i = 0; i < 12; i++) {
        id = some_task(w);
        task = controller_task(w->host, id);
        if (task && (task_state_is_terminal(task->state) ||
                     !cluster_find(controller_cluster(w->host), task->lease.node)->is_connected))
            break;
    }
    return id;
}

void users_release(struct world *w) {
    uint32_t id = some_releasable_task(w);
    GError *error = NULL;
    bool ok = controller_release(w->host, id, &order, w->now, on_done, NULL, &error);

    expect_reason(w, "release", id, ok, error);
}

/* NULL: there is none on this node. */
static const struct ledger_entry *orphan_of(struct world *w, const struct node *node) {
    const GPtrArray *held = ledger_of_node(controller_ledger(w->host), node->name);

    for (guint i = 0; held && i < held->len; i++)
        if (((const struct ledger_entry *)held->pdata[i])->is_orphan)
            return held->pdata[i];
    return NULL;
}

void users_end_orphan(struct world *w) {
    const struct node *node = &w->nodes[pick(w, N_NODES)];
    const struct ledger_entry *orphan;
    GError *error = NULL;
    uint32_t id;
    bool ok;

    for (int i = 0; i < N_NODES && !orphan_of(w, node); i++)
        node = &w->nodes[(node - w->nodes + 1) % N_NODES];
    orphan = orphan_of(w, node);
    id = orphan ? orphan->lease.task_id : 1 + pick(w, 5);
    ok = controller_end_orphan(w->host, node->name, id, chance(w, 60), &order, w->now, on_done, NULL, &error);
    expect_reason(w, "end orphan", id, ok, error);
}
