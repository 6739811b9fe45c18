#include "sim/world.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "core/controller.h"
#include "core/task_state.h"
#include "model/wire.h"
#include "model/wire_seq.h"

enum { N_NODES = 3, N_GPUS = 4, OFFLINE_MS = 30000 };

/* What a node knows of one task. The first part is its lease file, the second what runs. */
struct node_task {
    struct lease lease;
    struct task_spec *spec;
    struct task_report report;
    bool has_container; /* the world's truth: this container has these cards */
    bool is_draining;   /* container gone, memory not back yet */
};

struct node {
    char name[16];
    GPtrArray *tasks;    /* of struct node_task */
    int64_t taken_epoch; /* the highest; its fence */
    bool is_connected;
    bool was_heard; /* by this life of the host */
    int missing;    /* index of a card that has vanished, -1: none */
    unsigned boot;
    struct wire_seq host_side, node_side;
    GQueue to_host, to_node; /* of json_t, in order; a cut loses them */
};

struct world {
    uint64_t seed, random;
    unsigned step, starts, refusals, crashes;
    struct core_time now;
    struct controller *host;
    GHashTable *disk;     /* task id -> struct task: what the store has */
    GHashTable *snapshot; /* an old copy of it, or NULL */
    GHashTable *truth;    /* task id -> how its container really ended (enum task_state) */
    GHashTable *started;  /* set of (task id << 36 | epoch << 4 | node) */
    bool may_restore, was_restored;
    unsigned n_keys;
    GQueue records; /* of struct record: on their way to the disk */
    struct node nodes[N_NODES];
    bool is_quiet;
};

static uint64_t next_random(struct world *w) { /* xorshift64*, Marsaglia / Vigna */
    w->random ^= w->random >> 12;
    w->random ^= w->random << 25;
    w->random ^= w->random >> 27;
    return w->random * 2685821657736338717ULL;
}

static unsigned pick(struct world *w, unsigned n) { return (unsigned)(next_random(w) >> 33) % n; }
static bool chance(struct world *w, unsigned percent) { return pick(w, 100) < percent; }

static void broken(const struct world *w, const char *what, const char *detail) {
    g_error("seed %" G_GUINT64_FORMAT ", step %u: %s (%s)", w->seed, w->step, what, detail);
}

/* ---- the host's shell ---- */

static struct node *node_named(struct world *w, const char *name) {
    for (int i = 0; i < N_NODES; i++)
        if (strcmp(w->nodes[i].name, name) == 0)
            return &w->nodes[i];
    return NULL;
}

static void op_record(void *env, struct record *record) { g_queue_push_tail(&((struct world *)env)->records, record); }

static void op_send(void *env, const char *name, json_t *message) {
    struct node *node = node_named(env, name);

    if (node->is_connected) {
        wire_seq_stamp(&node->host_side, message);
        g_queue_push_tail(&node->to_node, message);
    } else
        json_decref(message);
}

static void op_changed(void *env, const struct task *task, bool is_gone) {
    (void)env;
    (void)is_gone;
    task_check(task);
}

static const struct controller_ops ops = {op_record, op_send, op_changed};

/* How it ended there is how it ended here. */
static void check_truth(struct world *w, const struct task *task) {
    gpointer truth = g_hash_table_lookup(w->truth, GUINT_TO_POINTER(task->id));

    if (truth && !w->was_restored && !task->release_forced && (int)task->state != GPOINTER_TO_INT(truth))
        broken(w, "a task's end is not the true one", task_state_to_str(task->state));
}

/* What the store's primary key would refuse must not even be asked for. */
static void check_unique(const struct world *w, const struct task *task) {
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, w->disk);
    while (task->holds_lease && g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct task *other = value;
        for (size_t i = 0; other->holds_lease && other->id != task->id && i < task->lease.n_gpus; i++)
            if (lease_has_gpu(&other->lease, task->lease.gpus[i].uuid))
                broken(w, "R1: two leases on one card are asked of the store", task->lease.gpus[i].uuid);
    }
}

static void commit_one(struct world *w, bool fails) {
    struct record *record = g_queue_pop_head(&w->records);
    g_autoptr(GError) error = NULL;

    if (!record)
        return;
    if (fails)
        kr_fail(&error, STORAGE, "disk is full");
    if (!fails && record->is_insert_only &&
        g_hash_table_contains(w->disk, GUINT_TO_POINTER(((const struct task *)record->tasks->pdata[0])->id)))
        kr_fail(&error, REFUSED, "there is a task of that number");
    for (guint i = 0; !error && i < record->tasks->len; i++)
        check_unique(w, record->tasks->pdata[i]);
    for (guint i = 0; !error && i < record->tasks->len; i++) {
        const struct task *task = record->tasks->pdata[i];
        g_hash_table_insert(w->disk, GUINT_TO_POINTER(task->id), task_copy(task));
        if (task_state_is_terminal(task->state))
            check_truth(w, task);
    }
    controller_recorded(w->host, record, error);
}

static void cut(struct world *w, struct node *node) {
    node->is_connected = false;
    g_queue_clear_full(&node->to_host, (GDestroyNotify)json_decref);
    g_queue_clear_full(&node->to_node, (GDestroyNotify)json_decref);
    node->host_side = node->node_side = (struct wire_seq){0};
    controller_disconnected(w->host, node->name, w->now);
}

static void host_start(struct world *w) {
    GHashTableIter iter;
    gpointer value;
    uint32_t last_id = 0;
    int64_t last_epoch = 0;

    w->host = controller_new(&ops, w, &(struct controller_settings){.offline_after_ms = OFFLINE_MS});
    g_hash_table_iter_init(&iter, w->disk);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct task *task = value;
        last_id = MAX(last_id, task->id);
        last_epoch = MAX(last_epoch, task->lease.epoch);
        if (task->holds_lease && !controller_restore_task(w->host, task_copy(task)))
            broken(w, "the disk holds two leases on one card", task->lease.node);
    }
    controller_restore_counters(w->host, last_id, last_epoch);
}

static GHashTable *copy_disk(GHashTable *disk) {
    GHashTable *copy = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)task_free);
    GHashTableIter iter;
    gpointer id, task;

    g_hash_table_iter_init(&iter, disk);
    while (g_hash_table_iter_next(&iter, &id, &task))
        g_hash_table_insert(copy, id, task_copy(task));
    return copy;
}

/* The operator puts an old backup of the host's store in place. */
static void restore_snapshot(struct world *w) {
    g_hash_table_unref(w->disk);
    w->disk = copy_disk(w->snapshot);
    w->was_restored = true;
}

/* kill -9: what was not on the disk is gone, and so are all connections. A record may have reached the disk unanswered. */
static void host_crash(struct world *w) {
    w->crashes++;
    while (!g_queue_is_empty(&w->records)) {
        struct record *record = g_queue_pop_head(&w->records);
        bool reached = chance(w, 50) && !record->is_insert_only;
        for (guint i = 0; reached && i < record->tasks->len; i++) {
            const struct task *task = record->tasks->pdata[i];
            g_hash_table_insert(w->disk, GUINT_TO_POINTER(task->id), task_copy(task));
        }
        record_free(record);
        if (!reached) /* a log is written in order: what comes behind is lost too */
            g_queue_clear_full(&w->records, (GDestroyNotify)record_free);
    }
    for (int i = 0; i < N_NODES; i++) {
        cut(w, &w->nodes[i]);
        w->nodes[i].was_heard = false;
    }
    controller_free(w->host);
    if (w->may_restore && chance(w, 20) && w->snapshot)
        restore_snapshot(w);
    host_start(w);
}

/* ---- nodes ---- */

static void node_task_free(gpointer data) {
    struct node_task *task = data;

    task_report_clear(&task->report);
    task_spec_free(task->spec);
    g_free(task);
}

static struct node_task *find(const struct node *node, uint32_t id, int64_t epoch) {
    for (guint i = 0; i < node->tasks->len; i++) {
        struct node_task *task = node->tasks->pdata[i];
        if (task->lease.task_id == id && task->lease.epoch == epoch)
            return task;
    }
    return NULL;
}

static int gpu_of(const char *uuid) { return uuid[strlen(uuid) - 1] - '0'; }

static void send_report(struct node *node, const struct task_report *report) {
    json_t *message;

    if (!node->is_connected)
        return;
    message = json_pack("{s:s,s:o}", "type", WIRE_REPORT, "task", task_report_to_json(report));
    wire_seq_stamp(&node->node_side, message);
    g_queue_push_tail(&node->to_host, message);
}

static void say(struct node *node, struct node_task *task, enum task_state state) {
    task->report.state = state;
    send_report(node, &task->report);
}

/* The second key: another live lease on the card, or a lower epoch, and the node refuses. */
static bool may_hold(const struct node *node, const struct lease *lease) {
    g_autofree char *boot = g_strdup_printf("boot-%u", node->boot);

    if (strcmp(boot, lease->boot_id) != 0 || lease->epoch <= node->taken_epoch)
        return false;
    for (size_t i = 0; i < lease->n_gpus; i++) {
        for (guint k = 0; k < node->tasks->len; k++) {
            const struct node_task *other = node->tasks->pdata[k];
            if (!other->report.released && lease_has_gpu(&other->lease, lease->gpus[i].uuid))
                return false;
        }
    }
    return true;
}

static void node_start(struct world *w, struct node *node, const json_t *message) {
    struct node_task *task;
    struct lease lease;

    if (!lease_from_json(json_object_get(message, "lease"), &lease, NULL))
        broken(w, "a lease cannot be read", node->name);
    if (!w->was_restored && !g_hash_table_contains(w->disk, GUINT_TO_POINTER(lease.task_id)))
        broken(w, "R5: a start of what the store has no record of", node->name);
    task = find(node, lease.task_id, lease.epoch);
    if (task) { /* idempotent */
        send_report(node, &task->report);
        return;
    }
    task = g_new0(struct node_task, 1);
    task->lease = lease;
    task->spec = task_spec_from_json(json_object_get(message, "spec"), NULL);
    task->report.task_id = lease.task_id;
    task->report.epoch = lease.epoch;
    if (!may_hold(node, &lease)) {
        w->refusals++;
        task->report.released = true;
        task->report.proof.facts = PROOF_NEVER_STARTED | PROOF_CARD;
        g_ptr_array_add(node->tasks, task);
        say(node, task, TASK_FAILED);
        return;
    }
    node->taken_epoch = lease.epoch;
    g_ptr_array_add(node->tasks, task);
    w->starts++;
    if (!g_hash_table_add(w->started, GSIZE_TO_POINTER((gsize)lease.task_id << 36 | (gsize)lease.epoch << 4 |
                                                       (gsize)(node - w->nodes))))
        broken(w, "R5: a task was started twice", node->name);
    task->has_container = true;
    say(node, task, chance(w, 50) ? TASK_STARTING : TASK_RUNNING);
}

/* The container ends; its cards need a moment. */
static void node_end(struct world *w, struct node *node, struct node_task *task, enum task_state state) {
    task->has_container = false;
    g_hash_table_insert(w->truth, GUINT_TO_POINTER(task->lease.task_id), GINT_TO_POINTER(state));
    task->is_draining = chance(w, 30);
    task->report.released = !task->is_draining;
    task->report.proof.facts = task->is_draining ? 0 : PROOF_CONTAINER_GONE | PROOF_CARD;
    if (task->is_draining)
        task->report.holding = g_strdup("412 MiB above its idle memory");
    say(node, task, state);
}

static void node_drained(struct node *node, struct node_task *task) {
    task->is_draining = false;
    task->report.released = true;
    task->report.proof.facts = PROOF_CONTAINER_GONE | PROOF_CARD;
    g_clear_pointer(&task->report.holding, g_free);
    send_report(node, &task->report);
}

/* An operator's order: the lease goes without proof, but not before its container. */
static void node_forget(struct world *w, struct node *node, struct node_task *task, uint32_t id, int64_t epoch) {
    struct task_report unknown = {.task_id = id, .epoch = epoch, .released = true};

    if (task && task->has_container)
        node_end(w, node, task, TASK_KILLED);
    if (task && task->is_draining)
        task->is_draining = false; /* the operator has seen to the card */
    if (task)
        g_ptr_array_remove_fast(node->tasks, task);
    send_report(node, &unknown);
}

static void node_take(struct world *w, struct node *node) {
    json_t *message = g_queue_pop_head(&node->to_node);
    const char *type = json_string_value(json_object_get(message, "type"));
    bool is_next = !message || wire_seq_check(&node->node_side, message, NULL);
    uint32_t id = (uint32_t)json_integer_value(json_object_get(message, "task_id"));
    int64_t epoch = json_integer_value(json_object_get(message, "epoch"));
    struct node_task *task = find(node, id, epoch);

    if (!message)
        return;
    if (!is_next) {
        cut(w, node);
    } else if (strcmp(type, WIRE_START) == 0) {
        node_start(w, node, message);
    } else if (strcmp(type, WIRE_STOP) == 0 && !task) {
        struct task_report unknown = {.task_id = id, .epoch = epoch};
        node->taken_epoch = MAX(node->taken_epoch, epoch);
        send_report(node, &unknown);
    } else if (strcmp(type, WIRE_STOP) == 0 && task->has_container) {
        node_end(w, node, task, TASK_KILLED);
    } else if (strcmp(type, WIRE_STOP) == 0) {
        send_report(node, &task->report);
    } else if (strcmp(type, WIRE_PAUSE) == 0 || strcmp(type, WIRE_RESUME) == 0) {
        if (task && task->has_container)
            say(node, task, strcmp(type, WIRE_PAUSE) == 0 ? TASK_PAUSED : TASK_RUNNING);
    } else if (strcmp(type, WIRE_FORGET) == 0) {
        node_forget(w, node, task, id, epoch);
    } else if (strcmp(type, WIRE_ACK) == 0 && task) {
        if (task->has_container || task->is_draining)
            broken(w, "the host acknowledged what is not over", node->name);
        g_ptr_array_remove_fast(node->tasks, task);
    }
    json_decref(message);
}

static bool is_held_here(const struct node *node, const char *uuid) {
    for (guint i = 0; i < node->tasks->len; i++)
        if (lease_has_gpu(&((const struct node_task *)node->tasks->pdata[i])->lease, uuid))
            return true;
    return false;
}

static struct node_info *describe(const struct node *node) {
    struct node_info *info = node_info_new(node->name);

    info->boot_id = g_strdup_printf("boot-%u", node->boot);
    info->gpus_known = info->engine_ok = true;
    info->cores = 64;
    info->mem_total_bytes = 1LL << 40;
    for (int i = 0; i < N_GPUS; i++) {
        struct gpu *gpu;
        if (i == node->missing)
            continue;
        gpu = gpu_new();
        gpu->index = i;
        g_snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%s-%d", node->name, i);
        g_snprintf(gpu->pci, sizeof gpu->pci, "0000:%02x:00.0", i);
        gpu->condition = GPU_CONDITION_OK;
        if (!is_held_here(node, gpu->uuid))
            gpu->proof = (struct proof){.facts = PROOF_CARD, .samples = 2};
        g_ptr_array_add(info->gpus, gpu);
    }
    return info;
}

static void node_beat(struct node *node) {
    struct node_info *info = describe(node);
    json_t *message = json_pack("{s:s,s:o}", "type", WIRE_HEARTBEAT, "node", node_info_to_json(info));

    node_info_free(info);
    wire_seq_stamp(&node->node_side, message);
    g_queue_push_tail(&node->to_host, message);
}

static void node_connect(struct world *w, struct node *node) {
    g_autoptr(GPtrArray) reports = g_ptr_array_new_with_free_func((GDestroyNotify)node_report_free);
    struct node_info *info = describe(node);

    for (guint i = 0; i < node->tasks->len; i++) {
        const struct node_task *task = node->tasks->pdata[i];
        struct node_report *said = g_new0(struct node_report, 1);
        said->lease = task->lease;
        said->report = task->report;
        said->spec = task_spec_copy(task->spec);
        said->report.reason = g_strdup(task->report.reason);
        said->report.holding = g_strdup(task->report.holding);
        g_ptr_array_add(reports, said);
    }
    node->is_connected = node->was_heard = true;
    if (!controller_hello(w->host, info, reports, node->taken_epoch, w->now, NULL))
        broken(w, "a hello was refused", node->name);
}

/* The heartbeat and its answer: what was lost before either of them shows. */
static void host_beat(struct world *w, struct node *node, const json_t *message) {
    json_t *beat = json_pack("{s:s}", "type", WIRE_BEAT);
    struct node_info *info = node_info_from_json(json_object_get(message, "node"), NULL);

    if (!info)
        broken(w, "a heartbeat cannot be read", node->name);
    controller_heartbeat(w->host, info, w->now);
    wire_seq_stamp(&node->host_side, beat);
    g_queue_push_tail(&node->to_node, beat);
}

static void host_take(struct world *w, struct node *node) {
    json_t *message = g_queue_pop_head(&node->to_host);
    struct task_report report;

    if (!message)
        return;
    if (!wire_seq_check(&node->host_side, message, NULL)) {
        cut(w, node);
        json_decref(message);
        return;
    }
    if (json_object_get(message, "node")) {
        host_beat(w, node, message);
        json_decref(message);
        return;
    }
    if (!task_report_from_json(json_object_get(message, "task"), &report, NULL))
        broken(w, "a report cannot be read", node->name);
    controller_report(w->host, node->name, &report, w->now);
    task_report_clear(&report);
    json_decref(message);
}

/* ---- users ---- */

/* R3, R4: of a node that has spoken, and exactly the cards of these numbers. */
static void check_grant(struct world *w, const struct task *task) {
    g_autofree char *text = g_strdup(strstr(task->target, "::") + 2);
    g_auto(GStrv) wanted = g_strsplit(text, ",", -1);

    if (!node_named(w, task->lease.node)->was_heard)
        broken(w, "R3: a grant on a node that has not spoken", task->lease.node);
    for (size_t i = 0; i < task->lease.n_gpus; i++)
        if (strtol(wanted[i], NULL, 10) != gpu_of(task->lease.gpus[i].uuid))
            broken(w, "R4: another card than the one of that number", task->target);
}

static void on_submitted(void *user, const struct submit_result *result, const GError *error) {
    const GPtrArray *refusals = result->refusals;
    struct world *w = user;

    for (guint i = 0; result->tasks && i < result->tasks->len; i++)
        check_grant(w, result->tasks->pdata[i]);
    if (error && (!error->message[0] || (error->code == KR_ERROR_REFUSED && (!refusals || refusals->len == 0))))
        broken(w, "a refusal without a reason", error->message);
}

static void submit(struct world *w) {
    const char *argv[] = {"job", NULL};
    struct task_spec spec = {.argv = (char **)(uintptr_t)argv};
    g_autoptr(GStrvBuilder) targets = g_strv_builder_new();
    g_auto(GStrv) list = NULL;
    g_autofree char *key = NULL;
    struct submission submission = {.spec = &spec};

    for (unsigned n = 1 + pick(w, 2); n > 0; n--) {
        g_autofree char *target = g_strdup_printf("n%u::%u", pick(w, N_NODES), pick(w, N_GPUS));
        g_autofree char *two = g_strdup_printf("%s,%u", target, N_GPUS - 1 - pick(w, N_GPUS));
        g_strv_builder_add(targets, chance(w, 30) ? two : target);
    }
    list = g_strv_builder_end(targets);
    submission.targets = list;
    if (chance(w, 30)) {
        submission.key = key = g_strdup_printf("k%u", w->n_keys++);
        submission.fingerprint = "f";
    }
    controller_submit(w->host, &submission, w->now, on_submitted, w);
    if (key && chance(w, 50)) /* the answer was lost: once more */
        controller_submit(w->host, &submission, w->now, on_submitted, w);
}

static void on_killed(void *user, const struct task *task, const GError *error) {
    (void)user;
    (void)task;
    (void)error;
}

static uint32_t some_task(struct world *w) {
    guint n = g_hash_table_size(w->disk);
    g_autofree gpointer *ids = NULL;

    if (n == 0)
        return 0;
    ids = g_hash_table_get_keys_as_array(w->disk, NULL);
    return GPOINTER_TO_UINT(ids[pick(w, n)]);
}

static void drop_ended(struct world *w) { /* or the disk grows without end */
    GHashTableIter iter;
    gpointer value;
    uint32_t last = 0;

    g_hash_table_iter_init(&iter, w->disk);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        last = MAX(last, ((const struct task *)value)->id);
    g_hash_table_iter_init(&iter, w->disk);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct task *task = value;
        if (!task->holds_lease && task->id + 50 < last)
            g_hash_table_iter_remove(&iter);
    }
}

/* ---- steps ---- */

static void node_event(struct world *w, struct node *node) {
    struct node_task *task = node->tasks->len ? node->tasks->pdata[pick(w, node->tasks->len)] : NULL;

    if (!task)
        return;
    if (task->is_draining && chance(w, 50))
        node_drained(node, task);
    else if (task->has_container && task->report.state == TASK_STARTING)
        say(node, task, TASK_RUNNING);
    else if (task->has_container && chance(w, 30))
        node_end(w, node, task, chance(w, 70) ? TASK_COMPLETED : TASK_FAILED);
}

/* The network loses, doubles or overtakes a message. */
static void garble(struct world *w, GQueue *queue) {
    guint n = g_queue_get_length(queue), at = n ? pick(w, n) : 0;
    json_t *message = n ? g_queue_pop_nth(queue, at) : NULL;

    if (!message)
        return;
    if (chance(w, 33))
        json_decref(message);
    else if (chance(w, 50))
        g_queue_push_nth(queue, message, (gint)pick(w, n));
    else {
        g_queue_push_nth(queue, message, (gint)at);
        g_queue_push_tail(queue, json_incref(message));
    }
}

/* Nothing that ran runs on; the lease files stay, and their tasks have failed. */
static void reboot(struct world *w, struct node *node) {
    cut(w, node);
    node->boot++;
    for (guint i = 0; i < node->tasks->len; i++) {
        struct node_task *task = node->tasks->pdata[i];
        if (task->has_container)
            node_end(w, node, task, TASK_FAILED);
        if (task->is_draining)
            node_drained(node, task);
    }
}

void world_step(struct world *w) {
    static const struct order order = {.who = "operator", .reason = ""};
    struct node *node = &w->nodes[pick(w, N_NODES)];
    unsigned dice = pick(w, 1000);

    w->step++;
    w->now.mono_ms += pick(w, 200);
    w->now.wall_ms += chance(w, 1) ? (int64_t)pick(w, 100000) - 50000
                                   : (int64_t)pick(w, 200); /* the wall clock jumps */
    if (dice < 200)
        host_take(w, node);
    else if (dice < 400)
        node_take(w, node);
    else if (dice < 600)
        commit_one(w, chance(w, 3));
    else if (dice < 700)
        submit(w);
    else if (dice < 740)
        controller_kill(w->host, some_task(w), w->now, on_killed, NULL, NULL);
    else if (dice < 900)
        node_event(w, node);
    else if (dice < 950)
        controller_tick(w->host, w->now);
    else if (dice < 980 && !node->is_connected)
        node_connect(w, node);
    else if (dice < 985)
        cut(w, node); /* a runner's restart looks the same: containers run on, the lease files stay */
    else if (dice < 987)
        host_crash(w);
    else if (dice < 988)
        reboot(w, node);
    else if (dice < 990)
        node->missing = chance(w, 50) ? -1 : (int)pick(w, N_GPUS);
    else if (dice < 993)
        garble(w, chance(w, 50) ? &node->to_host : &node->to_node);
    else if (dice < 996 && node->is_connected)
        node_beat(node);
    else if (dice < 997)
        controller_release(w->host, some_task(w), &order, w->now, on_killed, NULL, NULL);
    else if (dice < 1000)
        controller_pause(w->host, some_task(w), chance(w, 50), on_killed, NULL, NULL);
    if (w->may_restore && w->step % 4096 == 1) {
        g_clear_pointer(&w->snapshot, g_hash_table_unref);
        w->snapshot = copy_disk(w->disk);
    }
    if (w->step % 256 == 0)
        drop_ended(w);
}

void world_settle(struct world *w) {
    for (int round = 0; round < 200; round++) {
        w->now.mono_ms += 1000;
        w->now.wall_ms += 1000;
        for (int i = 0; i < N_NODES; i++) {
            struct node *node = &w->nodes[i];
            node->missing = -1;
            if (!node->is_connected)
                node_connect(w, node);
            node_beat(node);
            while (!g_queue_is_empty(&node->to_node))
                node_take(w, node);
            for (guint k = 0; k < node->tasks->len; k++) {
                struct node_task *task = node->tasks->pdata[k];
                if (task->is_draining)
                    node_drained(node, task);
                else if (task->has_container)
                    node_end(w, node, task, TASK_COMPLETED);
            }
            while (!g_queue_is_empty(&node->to_host))
                host_take(w, node);
        }
        controller_tick(w->host, w->now);
        while (!g_queue_is_empty(&w->records))
            commit_one(w, false);
        world_check(w);
    }
}

/* ---- truth ---- */

static bool is_free(struct world *w, const struct node *node, int index) {
    const struct cluster_node *known = cluster_find(controller_cluster(w->host), node->name);
    const struct gpu *gpu = known ? node_info_gpu_by_index(known->info, index) : NULL;

    return gpu && gpu_of(gpu->uuid) == index &&
           pool_gpu_state(controller_pool(w->host), known, gpu, NULL, w->now, NULL) == GPU_STATE_FREE;
}

static void check_card(struct world *w, const struct node *node, int gpu) {
    g_autofree char *uuid = g_strdup_printf("GPU-%s-%d", node->name, gpu);
    const struct ledger_entry *holder = ledger_holder(controller_ledger(w->host), uuid);
    const struct node_task *user = NULL;

    for (guint i = 0; i < node->tasks->len; i++) {
        const struct node_task *task = node->tasks->pdata[i];
        if (!lease_has_gpu(&task->lease, uuid) || (!task->has_container && !task->is_draining))
            continue;
        if (user)
            broken(w, "R1: two containers have one card", uuid);
        user = task;
    }
    /* a host that has just been restored knows no more than its disk; a task it started is on it (R5) */
    if (user && holder && holder->lease.task_id != user->lease.task_id && !w->was_restored)
        broken(w, "R1: a card in use is held by another task", uuid);
    if (user && !holder && is_free(w, node, gpu))
        broken(w, "R2: a card in use is free", uuid);
}

void world_check(struct world *w) {
    controller_check(w->host);
    for (int i = 0; i < N_NODES; i++)
        for (int gpu = 0; gpu < N_GPUS; gpu++)
            check_card(w, &w->nodes[i], gpu);
}

static void leaked(struct world *w, const struct node *node, const GPtrArray *held) {
    g_autoptr(GString) text = g_string_new(node->name);

    for (guint i = 0; i < node->tasks->len; i++) {
        const struct node_task *task = node->tasks->pdata[i];
        g_string_append_printf(text, "; the node has task %u/%" G_GINT64_FORMAT " (%s%s%s)", task->lease.task_id,
                               task->lease.epoch, task_state_to_str(task->report.state),
                               task->has_container ? ", container" : "", task->report.released ? ", released" : "");
    }
    for (guint i = 0; held && i < held->len; i++) {
        const struct ledger_entry *entry = held->pdata[i];
        const struct task *task = controller_task(w->host, entry->lease.task_id);
        g_string_append_printf(text, "; the host has task %u/%" G_GINT64_FORMAT " (%s%s)", entry->lease.task_id,
                               entry->lease.epoch, entry->is_orphan ? "orphan" : "task ",
                               task ? task_state_to_str(task->state) : "");
    }
    broken(w, "a lease leaked", text->str);
}

void world_check_settled(struct world *w) {
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, w->disk);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct task *task = value;
        if (!task_state_is_terminal(task->state) || task->holds_lease)
            broken(w, "a task did not end or still holds its lease", task->lease.node);
        check_truth(w, task);
    }
    for (int i = 0; i < N_NODES; i++) {
        const GPtrArray *held = ledger_of_node(controller_ledger(w->host), w->nodes[i].name);
        if (w->nodes[i].tasks->len > 0 || (held && held->len > 0))
            leaked(w, &w->nodes[i], held);
    }
}

struct world *world_new(uint64_t seed) {
    struct world *w = g_new0(struct world, 1);

    w->seed = seed;
    w->random = seed * 0x9E3779B97F4A7C15ULL + 1;
    w->now = (struct core_time){.wall_ms = 1700000000000, .mono_ms = 1000};
    w->may_restore = seed % 4 == 0; /* the others check what a rolled back store cannot keep */
    w->truth = g_hash_table_new(NULL, NULL);
    w->started = g_hash_table_new(NULL, NULL);
    w->disk = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)task_free);
    for (int i = 0; i < N_NODES; i++) {
        g_snprintf(w->nodes[i].name, sizeof w->nodes[i].name, "n%d", i);
        w->nodes[i].missing = -1;
        w->nodes[i].tasks = g_ptr_array_new_with_free_func(node_task_free);
    }
    host_start(w);
    return w;
}

void world_free(struct world *w) {
    for (int i = 0; i < N_NODES; i++) {
        cut(w, &w->nodes[i]);
        g_ptr_array_unref(w->nodes[i].tasks);
    }
    controller_free(w->host);
    g_queue_clear_full(&w->records, (GDestroyNotify)record_free);
    g_hash_table_unref(w->disk);
    g_hash_table_unref(w->truth);
    g_hash_table_unref(w->started);
    g_clear_pointer(&w->snapshot, g_hash_table_unref);
    g_free(w);
}

unsigned world_count_starts(const struct world *w) { return w->starts; }
unsigned world_count_refusals(const struct world *w) { return w->refusals; }
unsigned world_count_crashes(const struct world *w) { return w->crashes; }
