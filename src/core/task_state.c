#include "core/task_state.h"

#include <string.h>

#define BIT(state) (1U << (state))
#define ENDED (BIT(TASK_COMPLETED) | BIT(TASK_FAILED) | BIT(TASK_KILLED))

/* From each state: where to. */
static const unsigned edges[TASK_STATE_COUNT_] = {
    [TASK_PENDING] = BIT(TASK_STARTING) | BIT(TASK_RUNNING) | BIT(TASK_PAUSED) | BIT(TASK_STOPPING) | ENDED,
    [TASK_STARTING] = BIT(TASK_RUNNING) | BIT(TASK_PAUSED) | BIT(TASK_STOPPING) | ENDED,
    [TASK_RUNNING] = BIT(TASK_PAUSED) | BIT(TASK_STOPPING) | ENDED,
    [TASK_PAUSED] = BIT(TASK_RUNNING) | BIT(TASK_STOPPING) | ENDED,
    [TASK_STOPPING] = ENDED,
};

bool task_state_can_move(enum task_state from, enum task_state to) {
    return from < TASK_STATE_COUNT_ && to < TASK_STATE_COUNT_ && (edges[from] & BIT(to));
}

static bool take_text(char **text, const char *news) {
    if (!news || g_strcmp0(*text, news) == 0)
        return false;
    g_free(*text);
    *text = g_strdup(news);
    return true;
}

static bool take_time(int64_t *time_ms, int64_t news_ms) {
    if (news_ms <= 0 || *time_ms == news_ms)
        return false;
    *time_ms = news_ms;
    return true;
}

/* The facts of an end are taken once, with the move into it. */
static void take_end(struct task *task, const struct task_report *report) {
    task->has_exit_code = report->has_exit_code;
    task->exit_code = report->exit_code;
    task->oom = report->oom;
    take_time(&task->finished_ms, report->finished_ms);
}

bool task_apply_report(struct task *task, const struct task_report *report) {
    bool changed = false;

    g_assert(task->lease.epoch == report->epoch);
    changed |= take_time(&task->started_ms, report->started_ms);
    if (task_state_can_move(task->state, report->state)) {
        task->state = report->state;
        changed = true;
        take_text(&task->reason, report->reason);
        if (task_state_is_terminal(task->state))
            take_end(task, report);
    } else if (report->state == task->state && !task_state_is_terminal(task->state))
        changed |= take_text(&task->reason, report->reason); /* what keeps it from ending, say */
    if (task_state_is_terminal(task->state) && g_strcmp0(task->holding, report->holding) != 0) {
        g_free(task->holding);
        task->holding = g_strdup(report->holding);
        changed = true;
    }
    return changed;
}

void task_check(const struct task *task) {
    g_assert(task->id > 0 && task->id == task->lease.task_id && task->lease.epoch > 0);
    g_assert(task->state > TASK_UNSET && task->state < TASK_STATE_COUNT_);
    g_assert(task_state_is_terminal(task->state) || task->holds_lease);
    g_assert(!task->has_exit_code || task_state_is_terminal(task->state));
}
