/* A task's way from the end of its container to the proof that nothing of it is left (R2). */

#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/units.h"
#include "runner/executor_internal.h"

enum {
    OOM_LOOKS = 3,
    OOM_LOOK_MS = 100,
    OUTPUT_TRIES = 3,
    EVIDENCE_POLL_MS = 250,
    EVIDENCE_AGAIN_MS = 200,
    EVIDENCE_SLOW_POLL_MS = 2000
};

/* ---- ending: the engine's word on how ---- */

static char *oom_reason(const struct execution *ex) {
    char size[UNITS_TEXT_BYTES];

    if (ex->file.lease.mem_bytes <= 0)
        return g_strdup("out of memory: killed by the kernel");
    return g_strdup_printf("out of memory: killed by the kernel at its limit of %s",
                           units_bytes_to_str(ex->file.lease.mem_bytes, size));
}

static char *reason_of(const struct execution *ex, const struct engine_container *c, bool is_oom) {
    if (ex->failure)
        return g_strdup(ex->failure);
    if (is_oom)
        return oom_reason(ex);
    if (ex->file.stop_requested)
        return g_strdup("stopped on request");
    if (c->error)
        return g_strdup(c->error);
    if (c->exit_code > 128 && c->exit_code < 128 + NSIG)
        return g_strdup_printf("ended by signal %d (%s)", c->exit_code - 128, strsignal(c->exit_code - 128));
    return NULL;
}

/* K14: 137 is what any SIGKILL gives; only the engine knows whether memory was the cause. */
static void take_result(struct execution *ex, const struct engine_container *c) {
    bool is_oom = c->oom_killed && c->exit_code != 0 && !ex->failure;
    enum task_state state = TASK_FAILED;

    if (ex->file.stop_requested && !ex->failure && !is_oom)
        state = TASK_KILLED;
    else if (c->exit_code == 0 && !ex->failure)
        state = TASK_COMPLETED;
    task_report_clear(&ex->file.report);
    ex->file.report = (struct task_report){.state = state,
                                           .has_exit_code = true,
                                           .exit_code = c->exit_code,
                                           .oom = is_oom,
                                           .reason = reason_of(ex, c, is_oom),
                                           .started_ms = c->started_ms,
                                           .finished_ms = c->finished_ms ? c->finished_ms : clock_wall_ms()};
    /* the engine stamps a short container's end milliseconds before its start */
    ex->file.report.finished_ms = MAX(ex->file.report.finished_ms, c->started_ms);
    if (ex->file.started_ms == 0)
        ex->file.started_ms = c->started_ms;
}

/* The engine learns of a kill for lack of memory apart from the end, sometimes a moment later. */
static bool may_turn_out_oom(struct execution *ex, const struct engine_container *c) {
    return c->exit_code == 128 + SIGKILL && !c->oom_killed && ex->signum != SIGKILL && ex->oom_looks++ < OOM_LOOKS;
}

static void on_ended(void *user, const struct engine_container *container, const GError *error) {
    struct execution *ex = user;

    ex->step = NULL;
    if (g_error_matches(error, KR_ERROR, KR_ERROR_NOT_FOUND)) {
        execution_vanished(ex);
    } else if (error) {
        execution_retry(ex, EXEC_ENDING, ex->executor->config.retry_ms);
    } else if (container->state == ENGINE_RUNNING) { /* the wait was answered by an engine on its way out */
        execution_enter(ex, EXEC_RUNNING);
    } else if (may_turn_out_oom(ex, container)) {
        execution_retry(ex, EXEC_ENDING, OOM_LOOK_MS);
    } else {
        take_result(ex, container);
        fault_point("runner-exit-seen");
        execution_enter(ex, EXEC_OUTPUT);
    }
}

void execution_begin_ending(struct execution *ex) {
    ex->step = engine_inspect(execution_engine(ex), ex->file.container, on_ended, ex);
}

void execution_vanished(struct execution *ex) {
    g_autofree char *failure = g_strdup(ex->failure);

    ex->is_output_done = true;
    engine_call_cancel(g_steal_pointer(&ex->logs));
    if (!ex->output_lost)
        ex->output_lost = g_strdup("the container was removed by somebody else");
    execution_give_up(ex, ex->file.stop_requested ? TASK_KILLED : TASK_FAILED,
                      failure ? failure : "vanished: its container is gone from the engine, how it ended is not known");
}

/* ---- output: all that it printed ---- */

/* The output does not come. While the engine is away nothing is concluded; is it there, the tries are counted. */
static void on_output_engine(void *user, const struct engine_container *container, const GError *error) {
    struct execution *ex = user;

    ex->step = NULL;
    if (!engine_is_away(error) && ++ex->output_tries >= OUTPUT_TRIES) {
        g_free(ex->output_lost);
        ex->output_lost = g_strdup("the engine does not deliver it");
        ex->is_output_done = true;
    }
    execution_enter(ex, EXEC_OUTPUT);
}

static void on_output_timeout(uv_timer_t *timer) {
    struct execution *ex = timer->data;

    engine_call_cancel(g_steal_pointer(&ex->logs));
    ex->is_rereading = true;
    uv_timer_stop(&ex->attach_timer);
    ex->step = engine_inspect(execution_engine(ex), ex->file.container, on_output_engine, ex);
}

/* The patience is with an engine that delivers nothing. Bytes of a reading that broke off and begins again are nothing new. */
void execution_output_grew(struct execution *ex) {
    int64_t position = log_writer_position(ex->log);

    if (position > ex->output_position)
        ex->output_tries = ex->log_refusals = 0;
    if (ex->phase == EXEC_OUTPUT && (!ex->is_rereading || position > ex->output_position))
        uv_timer_start(&ex->step_timer, on_output_timeout, (uint64_t)ex->executor->config.output_timeout_ms, 0);
    ex->output_position = MAX(position, ex->output_position);
}

/* A followed stream may end before the last words (seen: a last line without newline is missing), so what there is since
 * the last entry is read once more. */
void execution_begin_output(struct execution *ex) {
    if (ex->is_output_done) {
        execution_enter(ex, EXEC_SAVING);
        return;
    }
    if (!ex->is_last_reading) {
        ex->is_last_reading = true;
        uv_timer_stop(&ex->attach_timer);
        engine_call_cancel(g_steal_pointer(&ex->logs));
    }
    if (!ex->logs && !uv_is_active((uv_handle_t *)&ex->attach_timer))
        execution_attach(ex);
    uv_timer_start(&ex->step_timer, on_output_timeout, (uint64_t)ex->executor->config.output_timeout_ms, 0);
}

/* ---- saving: the result is durable before the container goes ---- */

static void close_output(struct execution *ex) {
    uv_timer_stop(&ex->attach_timer);
    uv_timer_stop(&ex->kill_timer);
    uv_timer_stop(&ex->pause_timer);
    engine_call_cancel(g_steal_pointer(&ex->pausing));
    engine_call_cancel(g_steal_pointer(&ex->wait));
    engine_call_cancel(g_steal_pointer(&ex->logs));
    engine_call_cancel(g_steal_pointer(&ex->signal));
    if (ex->log)
        log_writer_finish(ex->log, ex->output_lost);
    g_clear_pointer(&ex->log, log_writer_close);
    ex->is_output_done = true;
}

static void give_result_a_name(struct execution *ex) {
    ex->file.report.task_id = ex->file.lease.task_id;
    ex->file.report.epoch = ex->file.lease.epoch;
    ex->file.report.released = false;
}

void execution_begin_saving(struct execution *ex) {
    enum lease_phase before = ex->file.phase;
    g_autoptr(GError) error = NULL;

    close_output(ex);
    ex->executor->handlers.on_output(ex->executor->user, ex->file.lease.task_id);
    give_result_a_name(ex);
    ex->file.phase = LEASE_ENDED;
    if (!fault_mutant("R5-node-remove-before-record") && !execution_save(ex, &error)) {
        if (!ex->is_save_failing)
            log_error("task %u has ended and its result cannot be written, trying again: %s", ex->file.lease.task_id,
                      error->message);
        ex->is_save_failing = true;
        ex->file.phase = before;
        execution_retry(ex, EXEC_SAVING, ex->executor->config.retry_ms);
        return;
    }
    fault_point("runner-result-written");
    ex->drain_by_ms = clock_mono_ms() + ex->executor->config.drain_timeout_ms;
    execution_enter(ex, EXEC_REMOVING);
}

/* ---- the way to the proof; past its deadline the end is told without it ---- */

/* Begins the phase again after a while, and tells the host when it is time to say what is in the way. */
static void not_yet(struct execution *ex, const char *why) {
    bool is_new = g_strcmp0(ex->holding, why) != 0, was_overdue = ex->is_overdue;
    int64_t poll_ms;

    ex->file.report.proof = (struct proof){0};
    g_free(ex->holding);
    ex->holding = g_strdup(why);
    ex->is_overdue = ex->is_overdue || clock_mono_ms() >= ex->drain_by_ms;
    if (ex->is_overdue && (is_new || !was_overdue))
        execution_report(ex);
    poll_ms = ex->is_overdue ? EVIDENCE_SLOW_POLL_MS : EVIDENCE_POLL_MS;
    execution_retry(ex, ex->phase, MIN(poll_ms, MAX(ex->executor->config.retry_ms, 1)));
}

static void on_removed(void *user, const GError *error) {
    struct execution *ex = user;
    g_autofree char *why = NULL;

    ex->step = NULL;
    if (error && !fault_mutant("R2-node-removal-unproved")) {
        why = g_strdup_printf("its container cannot be removed: %s", error->message);
        not_yet(ex, why);
        return;
    }
    fault_point("runner-container-removed");
    execution_enter(ex, EXEC_EVIDENCE);
}

/* By name where the answer to the creation was lost. */
void execution_begin_removing(struct execution *ex) {
    g_autofree char *name = execution_name(ex);

    if (!ex->may_have_container) {
        execution_enter(ex, EXEC_EVIDENCE);
        return;
    }
    ex->step = engine_remove(execution_engine(ex), ex->file.container ? ex->file.container : name, on_removed, ex);
}

/* One look may fall between two allocations; only so many in a row are a proof. */
static void found_free(struct execution *ex, unsigned facts) {
    ex->file.report.proof.facts = PROOF_CONTAINER_GONE |
                                  (ex->file.report.proof.samples ? ex->file.report.proof.facts & facts : facts);
    ex->file.report.proof.samples++;
    if (ex->file.report.proof.samples >= ex->executor->config.evidence_samples)
        execution_enter(ex, EXEC_DONE);
    else
        execution_retry(ex, EXEC_EVIDENCE, EVIDENCE_AGAIN_MS);
}

static void on_evidence(void *user, const struct gpu_check *checks, size_t n) {
    struct execution *ex = user;
    g_autoptr(GString) why = g_string_new(NULL);

    unsigned facts = PROOF_CARD;

    ex->check = NULL;
    for (size_t i = 0; i < n; i++) {
        facts &= checks[i].proof.facts;
        if (!checks[i].is_free)
            g_string_append_printf(why, "%sGPU %d: %s", why->len ? "; " : "", ex->file.lease.gpus[i].index,
                                   checks[i].why ? checks[i].why : "not free");
    }
    if (fault_mutant("R2-node-no-evidence"))
        found_free(ex, PROOF_CARD);
    else if (why->len)
        not_yet(ex, why->str);
    else
        found_free(ex, facts);
}

/* A task of which no container ever was has left nothing; what is on its cards is another's. */
void execution_begin_evidence(struct execution *ex) {
    const struct executor_gpus *gpus = &ex->executor->gpus;
    const char *uuids[TARGET_MAX_GPUS];

    if (executor_forget_now(ex))
        return;
    if (ex->file.lease.n_gpus == 0 || !ex->file.container) {
        ex->file.report.proof.facts = PROOF_CONTAINER_GONE | (ex->file.container ? 0 : PROOF_NEVER_STARTED);
        execution_enter(ex, EXEC_DONE);
        return;
    }
    for (size_t i = 0; i < ex->file.lease.n_gpus; i++)
        uuids[i] = ex->file.lease.gpus[i].uuid;
    ex->check = gpus->check(gpus->user, uuids, ex->file.lease.n_gpus, on_evidence, ex);
}

/* A card whose release was told may be the next task's at once: a new life of the runner must not claim it back. */
static void note_release(struct execution *ex) {
    g_autoptr(GError) error = NULL;

    if (ex->file.report.released)
        return;
    ex->file.report.released = true;
    if (ex->file.lease.n_gpus > 0 &&
        !execution_save(ex, &error)) /* the proof stands; after a crash it is gathered anew */
        log_warning("task %u: %s", ex->file.lease.task_id, error->message);
    fault_point("runner-release-noted");
}

void execution_begin_done(struct execution *ex) {
    note_release(ex);
    g_clear_pointer(&ex->holding, g_free);
    log_info("task %u: %s%s%s", ex->file.lease.task_id, task_state_to_str(ex->file.report.state),
             ex->file.report.reason ? ": " : "", ex->file.report.reason ? ex->file.report.reason : "");
    execution_report(ex);
    if (fault_mutant("R5-node-forget-before-ack"))
        executor_ack(ex->executor, ex->file.lease.task_id, ex->file.lease.epoch);
}
