/* The registry of this node's tasks: the host's words, admission, recovery. */

#include "runner/executor.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/log.h"
#include "runner/executor_internal.h"

/* ---- life ---- */

static void own_config(struct executor *x, const struct executor_config *config) {
    x->config = *config;
    x->config.node = g_strdup(config->node);
    x->config.boot_id = g_strdup(config->boot_id ? config->boot_id : "");
    x->config.default_image = g_strdup(config->default_image);
    x->config.network = g_strdup(config->network);
    x->config.working_dir = g_strdup(config->working_dir);
    x->config.output_timeout_ms = config->output_timeout_ms ? config->output_timeout_ms : 20000;
    x->config.evidence_samples = MAX(config->evidence_samples, 1);
    x->config.machine_grace_ms = config->machine_grace_ms ? config->machine_grace_ms : 60000;
    x->config.retry_ms = config->retry_ms ? config->retry_ms : 1000;
    x->cluster_id = g_strdup(config->cluster_id);
    x->dev_root = g_strdup(config->dev_root ? config->dev_root : "/");
    x->allowed_mounts = g_strdupv((char **)config->allowed_mounts);
    if (!x->allowed_mounts)
        x->allowed_mounts = g_new0(char *, 1);
}

static void init_recovery(struct executor *x, size_t i, struct engine **engine) {
    x->recoveries[i].executor = x;
    x->recoveries[i].engine = engine;
    uv_timer_init(x->loop, &x->recoveries[i].timer);
    x->recoveries[i].timer.data = &x->recoveries[i];
}

struct executor *executor_new(uv_loop_t *loop, const struct executor_config *config, struct engine *engine,
                              const struct executor_gpus *gpus, const struct node_facts *facts,
                              struct lease_files *leases, struct log_store *logs,
                              const struct executor_handlers *handlers, void *user) {
    struct executor *x = g_new0(struct executor, 1);

    own_config(x, config);
    x->loop = loop;
    x->engine = engine;
    x->gpus = *gpus;
    x->facts = facts;
    x->leases = leases;
    x->logs = logs;
    x->handlers = *handlers;
    x->user = user;
    x->executions = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)execution_free);
    x->unfenced = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    init_recovery(x, 0, &x->engine);
    init_recovery(x, 1, &x->machines);
    uv_timer_init(loop, &x->fence_timer);
    x->fence_timer.data = x;
    x->open_handles = 1 + G_N_ELEMENTS(x->recoveries);
    return x;
}

static void closed_one(struct executor *x) {
    if (--x->open_handles == 0)
        g_free(x);
}

static void on_timer_closed(uv_handle_t *handle) { closed_one(handle->data); }
static void on_recovery_closed(uv_handle_t *handle) { closed_one(((struct recovery *)handle->data)->executor); }

void executor_free(struct executor *x) {
    if (!x)
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(x->recoveries); i++)
        engine_call_cancel(g_steal_pointer(&x->recoveries[i].call));
    g_hash_table_unref(x->executions);
    g_hash_table_unref(x->unfenced);
    g_free((char *)x->config.node);
    g_free((char *)x->config.boot_id);
    g_free((char *)x->config.default_image);
    g_free((char *)x->config.network);
    g_free((char *)x->config.working_dir);
    g_free(x->dev_root);
    g_free(x->cluster_id);
    g_strfreev(x->allowed_mounts);
    for (size_t i = 0; i < G_N_ELEMENTS(x->recoveries); i++)
        uv_close((uv_handle_t *)&x->recoveries[i].timer, on_recovery_closed);
    uv_close((uv_handle_t *)&x->fence_timer, on_timer_closed);
}

void executor_set_cluster(struct executor *x, const char *cluster_id) {
    g_free(x->cluster_id);
    x->cluster_id = g_strdup(cluster_id);
}

void executor_set_machines(struct executor *x, struct engine *machines) { x->machines = machines; }
void executor_set_injection(struct executor *x, enum engine_injection injection) { x->config.injection = injection; }

static struct execution *find(const struct executor *x, uint32_t task_id) {
    return g_hash_table_lookup(x->executions, GUINT_TO_POINTER(task_id));
}

static struct execution *add(struct executor *x, struct lease_file *file) {
    uint32_t task_id = file->lease.task_id;
    struct execution *ex = execution_new(x, file);

    g_hash_table_insert(x->executions, GUINT_TO_POINTER(task_id), ex);
    return ex;
}

/* ---- recovery ---- */

bool executor_restore(struct executor *x, GError **error) {
    g_autoptr(GPtrArray) files = lease_files_load(x->leases, error);

    if (!files)
        return false;
    for (guint i = 0; i < files->len; i++) {
        struct lease_file *file = files->pdata[i];
        bool has_ended = file->phase == LEASE_ENDED;
        struct execution *ex = add(x, file);

        log_info("task %u: found a lease of an earlier life (%s)", ex->file.lease.task_id,
                 has_ended ? "it had ended" : "it had not ended");
        ex->may_have_container = true; /* the engine may have been asked for one, and may still be at it */
        if (has_ended) {               /* the end may have been told before: it is not taken back */
            ex->is_overdue = ex->is_output_done = true;
            ex->holding = g_strdup("the node is making sure that it is gone");
        }
    }
    return true;
}

static const char *label(const struct engine_container *container, const char *key) {
    const char *value = g_hash_table_lookup(container->labels, key);
    return value ? value : "";
}

static bool lease_from_labels(const struct executor *x, const struct engine_container *c, struct lease *ret_lease) {
    struct lease lease = {.numa = TARGET_NO_NUMA, .granted_ms = clock_wall_ms()};
    guint64 task_id;

    g_strlcpy(lease.node, x->config.node, sizeof lease.node);
    if (!g_ascii_string_to_unsigned(label(c, ENGINE_LABEL_TASK), 10, 1, G_MAXUINT32, &task_id, NULL) ||
        !g_ascii_string_to_signed(label(c, ENGINE_LABEL_EPOCH), 10, 1, G_MAXINT64, &lease.epoch, NULL) ||
        !container_gpus_from_label(label(c, ENGINE_LABEL_GPUS), &lease))
        return false;
    lease.task_id = (uint32_t)task_id;
    *ret_lease = lease;
    return true;
}

static void on_stray_removed(void *user, const GError *error) {
    if (error)
        log_error("a container that no lease stands for is still there: %s", error->message);
}

/* A container of ours that can have no lease. One that never ran is of no use to anybody. */
static void reject(struct executor *x, struct engine *engine, const struct engine_container *c, const char *why) {
    bool has_run = c->state != ENGINE_CREATED;

    log_error("container %.12s %s: %s", c->id, why,
              has_run ? "look at it and remove it" : "it never ran and is removed");
    if (!has_run)
        engine_remove(engine, c->id, on_stray_removed, NULL);
}

static bool cards_check(const struct executor *x, const struct lease *lease, GError **error);

/* A container of ours without a lease file: the lease is made anew from its labels (R5), its cards are held. True when it
 * is one. */
static bool adopt(struct executor *x, struct engine *engine, const struct engine_container *c) {
    struct lease_file file = {.phase = LEASE_STARTING, .container = NULL};
    g_autoptr(GError) error = NULL;
    g_autofree char *why = NULL;
    struct execution *ex;

    if (!lease_from_labels(x, c, &file.lease)) {
        log_error("container %.12s carries this node's label but no readable lease: look at it and remove it", c->id);
        return false;
    }
    ex = find(x, file.lease.task_id);
    if (ex && ex->file.lease.epoch == file.lease.epoch)
        return false;
    if (ex) {
        why = g_strdup_printf("is of task %u, epoch %" G_GINT64_FORMAT ", which is not the one held here",
                              file.lease.task_id, file.lease.epoch);
        reject(x, engine, c, why);
        return false;
    }
    if (!cards_check(x, &file.lease, &error)) {
        why = g_strdup_printf("is of task %u, which has no lease, and %s", file.lease.task_id, error->message);
        reject(x, engine, c, why);
        return false;
    }
    log_warning("task %u: its container was found without a lease file, the lease is made anew", file.lease.task_id);
    file.container = g_strdup(c->id);
    ex = add(x, &file);
    ex->is_machine = engine == x->machines;
    if (!execution_save(ex, &error))
        log_error("task %u: %s", ex->file.lease.task_id, error->message);
    return true;
}

static void release_held(struct executor *x, const struct recovery *r) {
    g_autoptr(GList) all = g_hash_table_get_values(x->executions);

    for (GList *link = all; link; link = link->next) {
        struct execution *ex = link->data;
        if (ex->phase != EXEC_HELD || execution_engine(ex) != *r->engine)
            continue;
        ex->drain_by_ms = clock_mono_ms() + x->config.drain_timeout_ms;
        if (ex->file.phase == LEASE_ENDED) /* a write that failed can be read and still not be durable: once more */
            execution_enter(ex, ex->file.report.released ? EXEC_DONE : EXEC_SAVING);
        else
            execution_enter(ex, EXEC_STOCK);
    }
}

/* Each engine by itself: a node whose Docker is away still has its machines, and the other way round. */

static void begin_recovery(struct recovery *r);

static void on_reconcile_timer(uv_timer_t *timer) { begin_recovery(timer->data); }

static void on_listed(void *user, const GPtrArray *containers, const GError *error) {
    struct recovery *r = user;
    struct executor *x = r->executor;
    bool has_news = false;

    r->call = NULL;
    if (error) {
        log_debug("recovery waits for the engine: %s", error->message);
        uv_timer_start(&r->timer, on_reconcile_timer, (uint64_t)x->config.retry_ms, 0);
        return;
    }
    for (guint i = 0; i < containers->len; i++)
        has_news |= adopt(x, *r->engine, containers->pdata[i]);
    r->is_done = true;
    if (has_news && x->handlers.on_truth)
        x->handlers.on_truth(x->user);
    release_held(x, r);
}

static void begin_recovery(struct recovery *r) {
    const struct executor *x = r->executor;
    g_autofree char *node = g_strconcat(ENGINE_LABEL_NODE "=", x->config.node, NULL);
    g_autofree char *cluster = g_strconcat(ENGINE_LABEL_CLUSTER "=", x->cluster_id, NULL);
    const char *labels[] = {node, x->cluster_id[0] ? cluster : NULL, NULL};

    engine_call_cancel(r->call);
    r->call = engine_list(*r->engine, labels, on_listed, r);
}

void executor_reconcile(struct executor *x) {
    for (size_t i = 0; i < G_N_ELEMENTS(x->recoveries); i++)
        if (*x->recoveries[i].engine)
            begin_recovery(&x->recoveries[i]);
}

/* ---- start ---- */

/* R1, the second key: no card of the lease is held by another lease of this node. */
static bool cards_check(const struct executor *x, const struct lease *lease, GError **error) {
    GHashTableIter iter;
    struct execution *ex;

    g_hash_table_iter_init(&iter, x->executions);
    while (!fault_mutant("R1-node-second-lease") && g_hash_table_iter_next(&iter, NULL, (void **)&ex))
        for (size_t i = 0; i < lease->n_gpus; i++)
            if (lease_has_gpu(&ex->file.lease, lease->gpus[i].uuid)) {
                char since[CLOCK_TEXT_BYTES];
                return kr_fail(error, REFUSED, "GPU %d (%s) is held on node %s by task %u since %s",
                               lease->gpus[i].index, lease->gpus[i].uuid, x->config.node, ex->file.lease.task_id,
                               clock_utc_to_str(ex->file.lease.granted_ms, since));
            }
    return true;
}

static bool admit(const struct executor *x, const struct lease *lease, GError **error) {
    const struct execution *ex = find(x, lease->task_id);

    if (strcmp(lease->node, x->config.node) != 0)
        return kr_fail(error, REFUSED, "the lease is for node %s, this is node %s", lease->node, x->config.node);
    if (lease->boot_id[0] && x->config.boot_id[0] && strcmp(lease->boot_id, x->config.boot_id) != 0 &&
        !fault_mutant("R2-node-other-boot"))
        return kr_fail(error, REFUSED, "the lease is of another boot of node %s, which was rebooted since",
                       x->config.node);
    if (ex)
        return kr_fail(error, REFUSED, "node %s holds task %u with epoch %" G_GINT64_FORMAT " already", x->config.node,
                       lease->task_id, ex->file.lease.epoch);
    return cards_check(x, lease, error) && lease_files_epoch_check(x->leases, lease, error);
}

/* What the task asks for that this node has not. */
static bool check_kind(const struct executor *x, const struct task_spec *spec, GError **error) {
    return !spec->vm || x->machines || kr_fail(error, REFUSED, "node %s runs no machines", x->config.node);
}

static void refuse(struct executor *x, const struct lease *lease, const char *reason) {
    struct task_report report = {.task_id = lease->task_id,
                                 .epoch = lease->epoch,
                                 .state = TASK_FAILED,
                                 .reason = (char *)reason,
                                 .finished_ms = clock_wall_ms(),
                                 .released = true,
                                 .proof = {.facts = PROOF_NEVER_STARTED}};

    log_warning("task %u: refused: %s", lease->task_id, reason);
    x->handlers.on_report(x->user, &report);
}

/* A refused lease must not come to life at the next restart: where its file may be on the disk all the same, the task is
 * kept and ended in order. Takes over *file's contents. */
static void not_recorded(struct executor *x, struct lease_file *file, const char *reason) {
    g_autoptr(GError) error = NULL;
    struct execution *ex;

    if (lease_files_undo(x->leases, file->lease.task_id, &error)) {
        refuse(x, &file->lease, reason);
        lease_file_clear(file);
        return;
    }
    log_error("task %u: %s", file->lease.task_id, error->message);
    ex = add(x, file);
    execution_give_up(ex, TASK_FAILED, reason);
}

void executor_start(struct executor *x, const struct lease *lease, const struct task_spec *spec) {
    struct lease_file file = {.phase = LEASE_ACCEPTED, .lease = *lease};
    struct execution *ex = find(x, lease->task_id);
    g_autoptr(GError) error = NULL;

    if (ex && ex->file.lease.epoch == lease->epoch) {
        execution_report(ex);
        return;
    }
    if (!check_kind(x, spec, &error) || !admit(x, lease, &error)) {
        refuse(x, lease, error->message);
        return;
    }
    file.spec = task_spec_copy(spec);
    if (!fault_mutant("R5-node-start-before-record") && !lease_files_save(x->leases, &file, &error)) {
        x->is_disk_suspect = true;
        g_prefix_error(&error, "node %s cannot write its lease: ", x->config.node);
        not_recorded(x, &file, error->message);
        return;
    }
    fault_point("runner-lease-written");
    ex = add(x, &file);
    execution_report(ex);
    if (x->recoveries[ex->is_machine].is_done)
        execution_enter(ex, EXEC_CHECKING);
}

/* ---- stop, pause, forget, ack ---- */

static void report_unknown(struct executor *x, uint32_t task_id, int64_t epoch) {
    struct task_report unknown = {.task_id = task_id, .epoch = epoch, .state = TASK_UNSET, .released = true};

    x->handlers.on_report(x->user, &unknown);
}

/* Its start may still be under way: it is not taken any more. */
static bool fence(struct executor *x, uint32_t task_id, int64_t epoch, GError **error) {
    x->is_disk_suspect = !lease_files_fence(x->leases, epoch, error);
    if (!x->is_disk_suspect)
        report_unknown(x, task_id, epoch);
    return !x->is_disk_suspect;
}

/* The host asks once and waits for the answer. */
static void on_fence_timer(uv_timer_t *timer) {
    struct executor *x = timer->data;
    GHashTableIter iter;
    gpointer task_id, epoch;

    g_hash_table_iter_init(&iter, x->unfenced);
    while (g_hash_table_iter_next(&iter, &task_id, &epoch))
        if (fence(x, GPOINTER_TO_UINT(task_id), *(const int64_t *)epoch, NULL))
            g_hash_table_iter_remove(&iter);
    if (g_hash_table_size(x->unfenced) > 0)
        uv_timer_start(&x->fence_timer, on_fence_timer, (uint64_t)x->config.retry_ms, 0);
}

void executor_stop(struct executor *x, uint32_t task_id, int64_t epoch) {
    struct execution *ex = find(x, task_id);
    g_autoptr(GError) error = NULL;

    if (ex && ex->file.lease.epoch == epoch) {
        execution_stop(ex);
    } else if (!fence(x, task_id, epoch, &error)) {
        log_error("task %u: its stop is not answered yet: %s", task_id, error->message);
        g_hash_table_insert(x->unfenced, GUINT_TO_POINTER(task_id), g_memdup2(&epoch, sizeof epoch));
        uv_timer_start(&x->fence_timer, on_fence_timer, (uint64_t)x->config.retry_ms, 0);
    }
}

void executor_pause(struct executor *x, uint32_t task_id, int64_t epoch, bool is_pause) {
    struct execution *ex = find(x, task_id);

    if (ex && ex->file.lease.epoch == epoch)
        execution_pause(ex, is_pause);
    else
        report_unknown(x, task_id, epoch);
}

static void forget(struct executor *x, struct execution *ex) {
    for (size_t i = 0; i < ex->file.lease.n_gpus; i++)
        x->gpus.set_leased(x->gpus.user, ex->file.lease.gpus[i].uuid, false);
    g_hash_table_remove(x->executions, GUINT_TO_POINTER(ex->file.lease.task_id));
}

static void on_forget_timer(uv_timer_t *timer);

bool executor_forget_now(struct execution *ex) {
    struct executor *x = ex->executor;
    struct lease lease = ex->file.lease;
    g_autoptr(GError) error = NULL;

    if (!ex->is_forget_wanted || ex->phase == EXEC_DONE ||
        (ex->phase < EXEC_EVIDENCE && !fault_mutant("R2-node-forget-running")))
        return false;
    if (!lease_files_remove(x->leases, &lease, &error)) {
        log_error("task %u: its lease file stays for now: %s", lease.task_id, error->message);
        return false;
    }
    log_warning("task %u: an operator has released its lease without proof (%s)", lease.task_id,
                ex->holding ? ex->holding : "its cards were not looked at yet");
    forget(x, ex);
    report_unknown(x, lease.task_id, lease.epoch);
    return true;
}

void executor_forget(struct executor *x, uint32_t task_id, int64_t epoch) {
    struct execution *ex = find(x, task_id);

    if (!ex || ex->file.lease.epoch != epoch) {
        report_unknown(x, task_id, epoch);
        return;
    }
    ex->is_forget_wanted = true;
    if (!executor_forget_now(ex) && ex->phase < EXEC_OUTPUT)
        execution_stop(ex);
}

/* The host knows of the end and does not ask again, so this goes on until it works. */
static void forget_durably(struct executor *x, struct execution *ex) {
    g_autoptr(GError) error = NULL;

    x->is_disk_suspect = !lease_files_remove(x->leases, &ex->file.lease, &error);
    if (!x->is_disk_suspect) {
        forget(x, ex);
        return;
    }
    log_at(ex->is_acked ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR, "task %u: its lease file stays for now: %s",
           ex->file.lease.task_id, error->message);
    ex->is_acked = true;
    uv_timer_start(&ex->step_timer, on_forget_timer, (uint64_t)x->config.retry_ms, 0);
}

static void on_forget_timer(uv_timer_t *timer) {
    struct execution *ex = timer->data;

    forget_durably(ex->executor, ex);
}

void executor_ack(struct executor *x, uint32_t task_id, int64_t epoch) {
    struct execution *ex = find(x, task_id);

    if (!ex || ex->file.lease.epoch != epoch || !ex->file.report.released)
        return;
    fault_point("runner-ack-received");
    forget_durably(x, ex);
}

/* ---- questions ---- */

GPtrArray *executor_reports(const struct executor *x) {
    GPtrArray *reports = g_ptr_array_new_with_free_func((GDestroyNotify)task_report_free);
    GHashTableIter iter;
    struct execution *ex;

    g_hash_table_iter_init(&iter, x->executions);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&ex)) {
        struct task_report *report = g_new0(struct task_report, 1);
        execution_fill_report(ex, report);
        g_ptr_array_add(reports, report);
    }
    return reports;
}

json_t *executor_truth_to_json(const struct executor *x) {
    json_t *list = json_array();
    GHashTableIter iter;
    struct execution *ex;

    g_hash_table_iter_init(&iter, x->executions);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&ex)) {
        struct task_report report;
        json_t *item;

        execution_fill_report(ex, &report);
        item = task_report_to_json(&report);
        json_object_set_new(item, "lease", lease_to_json(&ex->file.lease));
        if (ex->file.spec)
            json_object_set_new(item, "spec", task_spec_to_json(ex->file.spec));
        json_object_set_new(item, "stop_requested", json_boolean(ex->file.stop_requested));
        json_object_set_new(item, "pause_requested", json_boolean(ex->file.pause_requested));
        json_array_append_new(list, item);
        task_report_clear(&report);
    }
    return list;
}

bool executor_has_output_coming(const struct executor *x, uint32_t task_id) {
    const struct execution *ex = find(x, task_id);

    return ex && !ex->is_output_done && ex->phase < EXEC_SAVING;
}

const struct lease *executor_lease_of(const struct executor *x, const char *container) {
    GHashTableIter iter;
    const struct execution *ex;

    g_hash_table_iter_init(&iter, x->executions);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&ex))
        if (g_strcmp0(ex->file.container, container) == 0)
            return &ex->file.lease;
    return NULL;
}

const char *executor_machine_of(const struct executor *x, uint32_t task_id) {
    const struct execution *ex = find(x, task_id);

    return ex && ex->is_machine ? ex->file.container : NULL;
}

static int by_task(const void *a, const void *b) {
    const struct execution *first = *(void *const *)a, *second = *(void *const *)b;

    return first->file.lease.task_id < second->file.lease.task_id ? -1 : 1;
}

void executor_each_machine(const struct executor *x, void (*visit)(void *user, uint32_t task_id, const char *container),
                           void *user) {
    g_autoptr(GPtrArray) running = g_ptr_array_new();
    GHashTableIter iter;
    struct execution *ex;

    g_hash_table_iter_init(&iter, x->executions);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&ex))
        if (ex->is_machine && ex->phase == EXEC_RUNNING && ex->file.container)
            g_ptr_array_add(running, ex);
    g_ptr_array_sort(running, by_task);
    for (guint i = 0; i < running->len; i++) {
        ex = running->pdata[i];
        visit(user, ex->file.lease.task_id, ex->file.container);
    }
}

void executor_fail_machine(struct executor *x, uint32_t task_id, const char *reason) {
    struct execution *ex = find(x, task_id);

    if (ex && ex->is_machine)
        execution_fail(ex, reason);
}

int executor_count(const struct executor *x) { return (int)g_hash_table_size(x->executions); }

bool executor_suspects_disk(const struct executor *x) { return x->is_disk_suspect; }
