/* A task's way to running: see the picture in executor_internal.h. Each phase has a begin function, which starts exactly one
 * step, and a callback, which decides where to go next. */

#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/log.h"
#include "runner/executor_internal.h"
#include "runner/survivors.h"

enum { KILL_AGAIN_MS = 5000, LOG_REFUSALS = 3 };

static void begin_held(struct execution *ex) {}
static void begin_stock(struct execution *ex);
static void begin_checking(struct execution *ex);
static void begin_creating(struct execution *ex);
static void begin_pulling(struct execution *ex);
static void begin_starting(struct execution *ex);
static void begin_running(struct execution *ex);

static const struct {
    const char *name;
    void (*begin)(struct execution *ex);
} phases[EXEC_PHASE_COUNT_] = {
    [EXEC_HELD] = {"held", begin_held},
    [EXEC_STOCK] = {"stock", begin_stock},
    [EXEC_CHECKING] = {"checking", begin_checking},
    [EXEC_CREATING] = {"creating", begin_creating},
    [EXEC_PULLING] = {"pulling", begin_pulling},
    [EXEC_STARTING] = {"starting", begin_starting},
    [EXEC_VERIFYING] = {"verifying", execution_begin_verifying},
    [EXEC_RUNNING] = {"running", begin_running},
    [EXEC_ENDING] = {"ending", execution_begin_ending},
    [EXEC_OUTPUT] = {"output", execution_begin_output},
    [EXEC_SAVING] = {"saving", execution_begin_saving},
    [EXEC_REMOVING] = {"removing", execution_begin_removing},
    [EXEC_EVIDENCE] = {"evidence", execution_begin_evidence},
    [EXEC_DONE] = {"done", execution_begin_done},
};

/* ---- life ---- */

static void init_timer(struct execution *ex, uv_timer_t *timer) {
    uv_timer_init(ex->executor->loop, timer);
    timer->data = ex;
    ex->open_handles++;
}

struct execution *execution_new(struct executor *executor, struct lease_file *file) {
    struct execution *ex = g_new0(struct execution, 1);

    ex->executor = executor;
    ex->file = *file;
    memset(file, 0, sizeof *file);
    ex->phase = EXEC_HELD;
    ex->is_machine = ex->file.spec && ex->file.spec->vm;
    init_timer(ex, &ex->step_timer);
    init_timer(ex, &ex->attach_timer);
    init_timer(ex, &ex->kill_timer);
    init_timer(ex, &ex->pause_timer);
    for (size_t i = 0; i < ex->file.lease.n_gpus; i++)
        executor->gpus.set_leased(executor->gpus.user, ex->file.lease.gpus[i].uuid, true);
    return ex;
}

static void on_timer_closed(uv_handle_t *handle) {
    struct execution *ex = handle->data;

    if (--ex->open_handles == 0)
        g_free(ex);
}

static void cancel_step(struct execution *ex) {
    uv_timer_stop(&ex->step_timer);
    engine_call_cancel(g_steal_pointer(&ex->step));
    if (ex->check)
        ex->executor->gpus.check_cancel(g_steal_pointer(&ex->check));
}

void execution_free(struct execution *ex) {
    cancel_step(ex);
    engine_call_cancel(g_steal_pointer(&ex->wait));
    engine_call_cancel(g_steal_pointer(&ex->logs));
    engine_call_cancel(g_steal_pointer(&ex->signal));
    engine_call_cancel(g_steal_pointer(&ex->pausing));
    g_clear_pointer(&ex->log, log_writer_close);
    lease_file_clear(&ex->file);
    g_free(ex->output_lost);
    g_free(ex->failure);
    g_free(ex->create_error);
    g_free(ex->start_error);
    g_free(ex->holding);
    g_free(ex->survivors);
    uv_close((uv_handle_t *)&ex->step_timer, on_timer_closed);
    uv_close((uv_handle_t *)&ex->attach_timer, on_timer_closed);
    uv_close((uv_handle_t *)&ex->kill_timer, on_timer_closed);
    uv_close((uv_handle_t *)&ex->pause_timer, on_timer_closed);
}

struct engine *execution_engine(const struct execution *ex) {
    return ex->is_machine ? ex->executor->machines : ex->executor->engine;
}

/* ---- moving ---- */

void execution_enter(struct execution *ex, enum exec_phase phase) {
    cancel_step(ex);
    log_debug("task %u: %s -> %s", ex->file.lease.task_id, phases[ex->phase].name, phases[phase].name);
    ex->phase = phase;
    phases[phase].begin(ex);
}

static void on_retry(uv_timer_t *timer) {
    struct execution *ex = timer->data;

    execution_enter(ex, ex->phase);
}

void execution_retry(struct execution *ex, enum exec_phase phase, int64_t delay_ms) {
    cancel_step(ex);
    ex->phase = phase;
    uv_timer_start(&ex->step_timer, on_retry, (uint64_t)delay_ms, 0);
}

/* True when the engine is away: the phase (or `again`) will be begun once more. */
static bool is_put_off(struct execution *ex, const GError *error, enum exec_phase again) {
    if (!engine_is_away(error))
        return false;
    log_debug("task %u: %s", ex->file.lease.task_id, error->message);
    execution_retry(ex, again, ex->executor->config.retry_ms);
    return true;
}

char *execution_name(const struct execution *ex) {
    const struct executor *x = ex->executor;

    return g_strdup_printf("kohakuriver-%.8s-%s-%u-%" G_GINT64_FORMAT, x->cluster_id[0] ? x->cluster_id : "none",
                           x->config.node, ex->file.lease.task_id, ex->file.lease.epoch);
}

bool execution_save(struct execution *ex, GError **error) {
    bool ok = lease_files_save(ex->executor->leases, &ex->file, error);

    ex->executor->is_disk_suspect = !ok;
    return ok;
}

static void set_result(struct execution *ex, enum task_state state, const char *reason) {
    g_autofree char *copy = g_strdup(reason);

    task_report_clear(&ex->file.report);
    ex->file.report = (struct task_report){.state = state,
                                           .reason = g_steal_pointer(&copy),
                                           .started_ms = ex->file.started_ms,
                                           .finished_ms = clock_wall_ms()};
}

void execution_give_up(struct execution *ex, enum task_state state, const char *reason) {
    set_result(ex, state, reason);
    execution_enter(ex, EXEC_SAVING);
}

void execution_conclude(struct execution *ex, enum task_state state, const char *reason) {
    set_result(ex, state, reason);
    execution_enter(ex, EXEC_OUTPUT);
}

static void stopped_before_start(struct execution *ex) {
    execution_give_up(ex, TASK_KILLED, "stopped before it started");
}

/* ---- reports ---- */

static enum task_state shown_state(const struct execution *ex) {
    if (ex->phase == EXEC_DONE || ex->is_overdue)
        return ex->file.report.state;
    if (ex->file.stop_requested)
        return TASK_STOPPING;
    if (ex->is_paused || (ex->phase <= EXEC_STOCK && ex->file.started_ms > 0 && ex->file.pause_requested))
        return TASK_PAUSED;
    if (ex->file.started_ms > 0)
        return TASK_RUNNING;
    /* After a restart it is not known yet; "running" is what the host may have been told. */
    return ex->phase <= EXEC_STOCK && ex->file.phase != LEASE_ACCEPTED ? TASK_RUNNING : TASK_STARTING;
}

void execution_fill_report(const struct execution *ex, struct task_report *ret_report) {
    const struct task_report *result = &ex->file.report;
    enum task_state state = shown_state(ex);

    *ret_report = (struct task_report){.task_id = ex->file.lease.task_id,
                                       .epoch = ex->file.lease.epoch,
                                       .state = state,
                                       .started_ms = ex->file.started_ms};
    if (!task_state_is_terminal(state)) {
        ret_report->reason = g_strdup(ex->survivors);
        return;
    }
    ret_report->has_exit_code = result->has_exit_code;
    ret_report->exit_code = result->exit_code;
    ret_report->oom = result->oom;
    ret_report->reason = g_strdup(result->reason);
    ret_report->started_ms = result->started_ms;
    ret_report->finished_ms = result->finished_ms;
    ret_report->released = result->released;
    ret_report->proof = result->proof;
    if (!ret_report->released)
        ret_report->holding = g_strdup(ex->holding ? ex->holding : "it is being cleared away");
}

void execution_report(struct execution *ex) {
    struct task_report report;

    execution_fill_report(ex, &report);
    ex->executor->handlers.on_report(ex->executor->user, &report);
    if (task_state_is_terminal(report.state))
        fault_point("runner-report-sent");
    task_report_clear(&report);
}

/* ---- stock: what is really there? ---- */

static bool is_ours(const struct execution *ex, const struct engine_container *container) {
    g_autofree char *task = g_strdup_printf("%u", ex->file.lease.task_id);
    g_autofree char *epoch = g_strdup_printf("%" G_GINT64_FORMAT, ex->file.lease.epoch);

    return g_strcmp0(g_hash_table_lookup(container->labels, ENGINE_LABEL_TASK), task) == 0 &&
           g_strcmp0(g_hash_table_lookup(container->labels, ENGINE_LABEL_EPOCH), epoch) == 0 &&
           g_strcmp0(g_hash_table_lookup(container->labels, ENGINE_LABEL_NODE), ex->executor->config.node) == 0;
}

/* ---- a lease of an earlier boot: nothing that ran then runs now (L12) ---- */

bool execution_is_of_old_boot(const struct execution *ex) {
    const char *boot_id = ex->executor->config.boot_id;

    return boot_id[0] && ex->file.lease.boot_id[0] && strcmp(boot_id, ex->file.lease.boot_id) != 0;
}

static void rebooted(struct execution *ex, enum engine_state state) {
    const char *when = ex->file.phase == LEASE_ACCEPTED || state == ENGINE_CREATED ? "before the task was started"
                                                                                   : "while the task ran";
    g_autofree char *reason = g_strdup_printf("node %s was rebooted %s", ex->executor->config.node, when);

    if (state == ENGINE_RUNNING) { /* a restart policy that is not ours: it is ended */
        g_free(ex->failure);
        ex->failure = g_steal_pointer(&reason);
        execution_attach(ex);
        execution_enter(ex, EXEC_RUNNING);
    } else if (state == ENGINE_EXITED) {
        execution_conclude(ex, ex->file.stop_requested ? TASK_KILLED : TASK_FAILED, reason);
    } else {
        execution_give_up(ex, ex->file.stop_requested ? TASK_KILLED : TASK_FAILED, reason);
    }
}

/* An engine that comes up after the reboot gives what was running an end of its own; only an earlier one is the task's. */
static bool ended_before_boot(const struct execution *ex, const struct engine_container *container) {
    return container->state == ENGINE_EXITED && container->finished_ms > 0 &&
           container->finished_ms < ex->executor->config.boot_ms;
}

static void nothing_there(struct execution *ex) {
    ex->is_created = false;
    if (execution_is_of_old_boot(ex))
        rebooted(ex, ENGINE_STATE_UNSET);
    else if (ex->file.phase != LEASE_ACCEPTED)
        execution_vanished(ex);
    else if (ex->file.stop_requested)
        stopped_before_start(ex);
    else if (ex->create_error)
        execution_give_up(ex, TASK_FAILED, ex->create_error);
    else
        execution_enter(ex, EXEC_CHECKING);
}

/* The engine's answer to a start that failed. 126 and 127 are the shell's words for a command that cannot be run. */
static void start_failed(struct execution *ex, const struct engine_container *container) {
    const char *text = container->error ? container->error : ex->start_error;
    g_autofree char *reason = g_strdup_printf("the engine cannot start it: %s", text);

    if (container->exit_code == 126 || container->exit_code == 127) {
        g_free(ex->failure);
        ex->failure = g_steal_pointer(&reason);
        execution_enter(ex, EXEC_ENDING);
        return;
    }
    execution_give_up(ex, TASK_FAILED, reason);
}

static void created_there(struct execution *ex, const struct engine_container *container) {
    bool was_interrupted = container->error && strstr(container->error, "context canceled");

    if (ex->start_error || (container->error && !was_interrupted)) {
        start_failed(ex, container);
    } else if (ex->file.stop_requested) {
        stopped_before_start(ex);
    } else if (!ex->file.spec) { /* nobody has asked for it: only a task's own lease starts anything */
        execution_give_up(ex, TASK_FAILED, "never started: its container was found without a lease");
    } else { /* its cards were looked at in an earlier life, or before the engine was away */
        execution_enter(ex, EXEC_CHECKING);
    }
}

static void on_stock(void *user, const struct engine_container *container, const GError *error) {
    struct execution *ex = user;

    ex->step = NULL;
    if (g_error_matches(error, KR_ERROR, KR_ERROR_NOT_FOUND) || (error && fault_mutant("R3-node-silence-is-absence"))) {
        nothing_there(ex);
        return;
    }
    if (error) { /* away, or an answer that says nothing about the container */
        log_debug("task %u: %s", ex->file.lease.task_id, error->message);
        execution_retry(ex, EXEC_STOCK, ex->executor->config.retry_ms);
        return;
    }
    if (!is_ours(ex, container)) {
        ex->may_have_container = false; /* and not ours to remove */
        execution_give_up(ex, TASK_FAILED, "a container that is not this task's has its name");
        return;
    }
    g_free(ex->file.container);
    ex->file.container = g_strdup(container->id);
    ex->may_have_container = true;
    ex->is_created = container->state == ENGINE_CREATED;
    ex->is_paused = container->is_paused;
    ex->pid = container->pid;
    if (execution_is_of_old_boot(ex) && !ended_before_boot(ex, container)) {
        rebooted(ex, container->state);
        return;
    }
    if (ex->is_created) {
        created_there(ex, container);
        return;
    }
    execution_attach(ex);
    if (container->state != ENGINE_RUNNING)
        execution_enter(ex, EXEC_ENDING);
    else /* verified in an earlier life: not touched again */
        execution_enter(ex, ex->file.started_ms > 0 ? EXEC_RUNNING : EXEC_VERIFYING);
}

static void begin_stock(struct execution *ex) {
    g_autofree char *name = execution_name(ex);

    ex->step = engine_inspect(execution_engine(ex), ex->file.container ? ex->file.container : name, on_stock, ex);
}

/* Decided, recorded; the start follows. */
static void go_to_start(struct execution *ex) {
    enum lease_phase before = ex->file.phase;
    g_autoptr(GError) error = NULL;

    ex->file.phase = LEASE_STARTING;
    if (fault_mutant("R5-node-start-before-record") || execution_save(ex, &error)) {
        execution_enter(ex, EXEC_STARTING);
        return;
    }
    ex->file.phase = before;
    execution_give_up(ex, TASK_FAILED, error->message);
}

/* ---- checking: are the cards really free? ---- */

static void checked(struct execution *ex) {
    if (ex->is_created)
        go_to_start(ex);
    else
        execution_enter(ex, EXEC_CREATING);
}

static void on_checked(void *user, const struct gpu_check *checks, size_t n) {
    struct execution *ex = user;
    g_autoptr(GString) why = g_string_new(NULL);

    ex->check = NULL;
    for (size_t i = 0; i < n; i++)
        if (!checks[i].is_free)
            g_string_append_printf(why, "%sGPU %d (%s) of node %s is not free: %s", why->len ? "; " : "",
                                   ex->file.lease.gpus[i].index, checks[i].uuid, ex->executor->config.node,
                                   checks[i].why ? checks[i].why : "unknown");
        else if (checks[i].is_bare && !ex->file.spec->vm)
            g_string_append_printf(
                why, "%sGPU %d (%s) of node %s has no driver: a machine could use it, a container cannot",
                why->len ? "; " : "", ex->file.lease.gpus[i].index, checks[i].uuid, ex->executor->config.node);
    if (why->len && !fault_mutant("R1-node-start-unchecked"))
        execution_give_up(ex, TASK_FAILED, why->str);
    else
        checked(ex);
}

static void begin_checking(struct execution *ex) {
    const struct executor_gpus *gpus = &ex->executor->gpus;
    const char *uuids[TARGET_MAX_GPUS];

    if (ex->file.lease.n_gpus == 0) {
        checked(ex);
        return;
    }
    for (size_t i = 0; i < ex->file.lease.n_gpus; i++)
        uuids[i] = ex->file.lease.gpus[i].uuid;
    ex->check = gpus->check(gpus->user, uuids, ex->file.lease.n_gpus, on_checked, ex);
}

/* ---- creating, pulling ---- */

static const char *image_of(const struct execution *ex) {
    const struct task_spec *spec = ex->file.spec;

    if (spec && spec->vm)
        return spec->vm->image;
    return spec && spec->image ? spec->image : ex->executor->config.default_image;
}

static void image_missing(struct execution *ex) {
    g_autofree char *reason = NULL;

    if (ex->file.stop_requested) {
        stopped_before_start(ex);
    } else if (ex->executor->config.may_pull && !ex->was_pulled && !ex->is_machine) {
        execution_enter(ex, EXEC_PULLING);
    } else {
        reason = g_strdup_printf("the image %s is not on node %s%s", image_of(ex), ex->executor->config.node,
                                 ex->is_machine                  ? " (`kohakuriver qemu image list` there)"
                                 : ex->executor->config.may_pull ? ""
                                                                 : " (its pull_policy is never)");
        execution_give_up(ex, TASK_FAILED, reason);
    }
}

static void created(struct execution *ex, const char *id) {
    g_free(ex->file.container);
    ex->file.container = g_strdup(id);
    fault_point("runner-container-created");
    if (ex->file.stop_requested) {
        stopped_before_start(ex);
        return;
    }
    go_to_start(ex);
}

static void on_created(void *user, const char *id, const GError *error) {
    struct execution *ex = user;

    ex->step = NULL;
    if (!error) {
        created(ex, id);
    } else if (g_error_matches(error, KR_ERROR, KR_ERROR_NOT_FOUND)) {
        image_missing(ex);
    } else if (!is_put_off(ex, error, EXEC_STOCK)) { /* it may be there, and the name taken by ourselves */
        g_free(ex->create_error);
        ex->create_error = g_strdup(error->message);
        execution_enter(ex, EXEC_STOCK);
    }
}

static void begin_creating(struct execution *ex) {
    struct container_plan plan;
    g_autoptr(GError) error = NULL;

    if (!ex->file.spec) {
        execution_give_up(ex, TASK_FAILED, "its container is gone, and with it what should be run");
        return;
    }
    if (!container_plan_make(ex, &plan, &error)) {
        execution_give_up(ex, TASK_FAILED, error->message);
        return;
    }
    ex->may_have_container = true;
    ex->step = engine_create(execution_engine(ex), &plan.config, on_created, ex);
    container_plan_clear(&plan);
}

static void on_pulled(void *user, const GError *error) {
    struct execution *ex = user;
    g_autofree char *reason = NULL;

    ex->step = NULL;
    if (!error) {
        ex->was_pulled = true;
        execution_enter(ex, EXEC_CHECKING); /* that may have taken an hour */
    } else if (!is_put_off(ex, error, EXEC_PULLING)) {
        reason = g_strdup_printf("the image %s is not on node %s and cannot be fetched: %s", image_of(ex),
                                 ex->executor->config.node, error->message);
        execution_give_up(ex, TASK_FAILED, reason);
    }
}

static void begin_pulling(struct execution *ex) {
    log_info("task %u: fetching the image %s", ex->file.lease.task_id, image_of(ex));
    ex->step = engine_pull(execution_engine(ex), image_of(ex), on_pulled, ex);
}

/* ---- starting ---- */

static void on_started(void *user, const GError *error) {
    struct execution *ex = user;

    ex->step = NULL;
    if (!error) {
        fault_point("runner-container-started");
        execution_attach(ex);
        execution_enter(ex, EXEC_VERIFYING);
    } else if (!is_put_off(ex, error, EXEC_STOCK)) { /* whether it runs is not for us to guess */
        g_free(ex->start_error);
        ex->start_error = g_strdup(error->message);
        execution_enter(ex, EXEC_STOCK);
    }
}

static void begin_starting(struct execution *ex) {
    ex->step = engine_start(execution_engine(ex), ex->file.container, on_started, ex);
}

/* ---- what goes on beside the phases while the container lives ---- */

static void on_log_entry(void *user, enum engine_stream stream, int64_t time_ns) {
    log_writer_entry(((struct execution *)user)->log, stream, time_ns);
}

static void on_log_bytes(void *user, const char *bytes, size_t len) {
    log_writer_bytes(((struct execution *)user)->log, bytes, len);
}

static void on_log_entry_end(void *user) { log_writer_entry_end(((struct execution *)user)->log); }

static void on_log_batch(void *user) {
    struct execution *ex = user;

    log_writer_batch(ex->log);
    execution_output_grew(ex);
    ex->executor->handlers.on_output(ex->executor->user, ex->file.lease.task_id);
}

static void on_attach_timer(uv_timer_t *timer) { execution_attach(timer->data); }

static void attach_later(struct execution *ex) {
    uv_timer_start(&ex->attach_timer, on_attach_timer, (uint64_t)ex->executor->config.retry_ms, 0);
}

static void on_log_done(void *user, const GError *error) {
    struct execution *ex = user;

    ex->logs = NULL;
    ex->is_rereading = ex->phase == EXEC_OUTPUT;
    if (engine_is_away(error)) {
        attach_later(ex);
        return;
    }
    if (error && ++ex->log_refusals < LOG_REFUSALS) {
        log_debug("task %u: %s", ex->file.lease.task_id, error->message);
        attach_later(ex);
        return;
    }
    if (error) {
        g_free(ex->output_lost);
        ex->output_lost = g_strdup(error->message);
    }
    ex->is_output_done = error || ex->is_last_reading;
    if (!ex->is_output_done && ex->phase < EXEC_ENDING) /* most likely the end is about to be told */
        attach_later(ex);
    if (ex->phase == EXEC_OUTPUT)
        execution_enter(ex, EXEC_OUTPUT);
}

static void on_wait_done(void *user, const GError *error) {
    struct execution *ex = user;

    ex->wait = NULL;
    if (error && !g_error_matches(error, KR_ERROR, KR_ERROR_NOT_FOUND)) {
        log_debug("task %u: %s", ex->file.lease.task_id, error->message);
        attach_later(ex);
    } else if (ex->phase == EXEC_VERIFYING || ex->phase == EXEC_RUNNING) {
        execution_enter(ex, EXEC_ENDING);
    }
}

/* Follows the output and waits for the end, whichever of the two is not under way. */
void execution_attach(struct execution *ex) {
    static const struct engine_log_sink sink = {.on_entry = on_log_entry,
                                                .on_bytes = on_log_bytes,
                                                .on_entry_end = on_log_entry_end,
                                                .on_batch = on_log_batch,
                                                .on_done = on_log_done};
    struct executor *x = ex->executor;

    if (!ex->log && !ex->is_output_done)
        ex->log = log_writer_open(x->logs, ex->file.lease.task_id, ex->file.lease.epoch);
    if (!ex->logs && !ex->is_output_done)
        ex->logs = engine_logs(execution_engine(ex), ex->file.container, log_writer_since_ns(ex->log),
                               !ex->is_last_reading, &sink, ex);
    if (!ex->wait && ex->phase < EXEC_ENDING)
        ex->wait = engine_wait(execution_engine(ex), ex->file.container, on_wait_done, ex);
}

/* ---- running and stopping ---- */

/* L64: what does not even die of SIGKILL is told by name. */
static void name_survivors(struct execution *ex) {
    g_autofree char *text = survivors_of(ex->pid);

    if (!text || g_strcmp0(text, ex->survivors) == 0)
        return;
    log_warning("task %u: %s", ex->file.lease.task_id, text);
    g_free(ex->survivors);
    ex->survivors = g_steal_pointer(&text);
    execution_report(ex);
}

static void send_signal(struct execution *ex, int signum);

static void on_kill_timer(uv_timer_t *timer) {
    struct execution *ex = timer->data;

    if (ex->phase != EXEC_VERIFYING && ex->phase != EXEC_RUNNING)
        return;
    if (ex->signum == SIGKILL) /* for some time already */
        name_survivors(ex);
    send_signal(ex, SIGKILL);
}

static void on_resend_timer(uv_timer_t *timer) {
    struct execution *ex = timer->data;

    if (ex->phase == EXEC_VERIFYING || ex->phase == EXEC_RUNNING)
        send_signal(ex, ex->signum);
}

static int64_t grace_ms(const struct execution *ex) {
    const struct executor_config *config = &ex->executor->config;

    return ex->is_machine ? config->machine_grace_ms : config->stop_grace_ms;
}

static void on_signalled(void *user, const GError *error) {
    struct execution *ex = user;
    int64_t next_ms = ex->signum == SIGKILL ? KILL_AGAIN_MS : grace_ms(ex);

    ex->signal = NULL;
    if (!error) {
        uv_timer_start(&ex->kill_timer, on_kill_timer, (uint64_t)next_ms, 0);
        return;
    }
    if (!engine_is_away(error))
        log_warning("task %u: %s", ex->file.lease.task_id, error->message);
    uv_timer_start(&ex->kill_timer, on_resend_timer, (uint64_t)ex->executor->config.retry_ms, 0);
}

static void send_signal(struct execution *ex, int signum) {
    engine_call_cancel(g_steal_pointer(&ex->signal));
    uv_timer_stop(&ex->kill_timer);
    ex->signum = signum;
    ex->signal = engine_signal(execution_engine(ex), ex->file.container, signum, on_signalled, ex);
}

/* What is frozen takes no signal; execution_pause.c comes back to RUNNING when it is thawed. */
static void send_due_signal(struct execution *ex) {
    if (ex->is_paused || ex->pausing)
        return;
    if (ex->failure && ex->signum != SIGKILL)
        send_signal(ex, SIGKILL);
    else if (ex->file.stop_requested && !ex->signum)
        send_signal(ex, SIGTERM);
}

static void begin_running(struct execution *ex) {
    execution_sync_pause(ex);
    send_due_signal(ex);
    if (!ex->wait && !uv_is_active((uv_handle_t *)&ex->attach_timer))
        attach_later(ex);
}

/* The first reason counts. */
void execution_fail(struct execution *ex, const char *reason) {
    if (ex->phase != EXEC_RUNNING || ex->failure || ex->file.stop_requested)
        return;
    log_warning("task %u: %s", ex->file.lease.task_id, reason);
    ex->failure = g_strdup(reason);
    begin_running(ex);
}

/* A driver that hangs under the engine's GPU hook keeps the answer to a start back for ever. Removing, which is tried again
 * until it works, is then the way out. */
static void on_start_hangs(uv_timer_t *timer) {
    struct execution *ex = timer->data;

    if (ex->phase == EXEC_CREATING || ex->phase == EXEC_STARTING)
        execution_give_up(ex, TASK_KILLED, "stopped while the engine was starting it");
}

void execution_stop(struct execution *ex) {
    g_autoptr(GError) error = NULL;

    if (ex->file.stop_requested || ex->phase >= EXEC_OUTPUT) {
        execution_report(ex);
        return;
    }
    ex->file.stop_requested = true;
    if (!execution_save(ex, &error)) /* it is done all the same; only after a crash the host must ask again */
        log_warning("task %u: %s", ex->file.lease.task_id, error->message);
    if (ex->phase == EXEC_CHECKING || ex->phase == EXEC_PULLING) {
        stopped_before_start(ex);
        return;
    }
    if (ex->phase == EXEC_RUNNING)
        begin_running(ex);
    else if (ex->phase < EXEC_VERIFYING) /* nothing was signalled yet, so the timer is free */
        uv_timer_start(&ex->kill_timer, on_start_hangs, (uint64_t)ex->executor->config.stop_grace_ms, 0);
    execution_report(ex);
}
