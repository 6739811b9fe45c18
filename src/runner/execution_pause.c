/* Pausing: the wish in the lease file against what the engine said last (K1). It goes on beside the phases; a frozen task is
 * thawed before it is asked to end. */

#include "base/log.h"
#include "runner/executor_internal.h"

static void on_pause_timer(uv_timer_t *timer) { execution_sync_pause(timer->data); }

static void on_paused(void *user, const GError *error) {
    struct execution *ex = user;

    ex->pausing = NULL;
    if (error) {
        log_debug("task %u: %s", ex->file.lease.task_id, error->message);
        uv_timer_start(&ex->pause_timer, on_pause_timer, (uint64_t)ex->executor->config.retry_ms, 0);
        return;
    }
    ex->is_paused = ex->is_pausing;
    if (ex->phase != EXEC_RUNNING)
        return;
    execution_report(ex);
    execution_enter(ex, EXEC_RUNNING); /* there may be a signal to send now */
}

void execution_sync_pause(struct execution *ex) {
    bool wanted = ex->file.pause_requested && !ex->file.stop_requested && !ex->failure;

    if (ex->phase != EXEC_RUNNING || ex->pausing || wanted == ex->is_paused)
        return;
    ex->is_pausing = wanted;
    ex->pausing = engine_pause(execution_engine(ex), ex->file.container, wanted, on_paused, ex);
}

void execution_pause(struct execution *ex, bool is_pause) {
    g_autoptr(GError) error = NULL;
    bool before = ex->file.pause_requested;

    if (before == is_pause || ex->phase >= EXEC_ENDING) {
        execution_report(ex);
        return;
    }
    ex->file.pause_requested = is_pause;
    if (!execution_save(ex, &error)) { /* not recorded, not done: the host sees that it runs on, and asks again */
        log_warning("task %u: %s", ex->file.lease.task_id, error->message);
        ex->file.pause_requested = before;
    }
    execution_sync_pause(ex); /* before the start: begin_running does it */
    execution_report(ex);
}
