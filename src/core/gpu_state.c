#include "core/gpu_state.h"

#include <string.h>

#include "base/fault.h"

static const struct {
    const char *name, *way_out;
} states[GPU_STATE_COUNT_] = {
    [GPU_STATE_UNSET] = {"unset", ""},
    [GPU_STATE_FREE] = {"free", "it can be granted"},
    [GPU_STATE_LEASED] = {"leased", "its node takes the lease; task kill ends it"},
    [GPU_STATE_STARTING] = {"starting", "the container starts or fails; task kill ends it"},
    [GPU_STATE_IN_USE] = {"in_use", "the task ends; task kill ends it"},
    [GPU_STATE_DRAINING] = {"draining", "free as soon as the node has proved that nothing is left"},
    [GPU_STATE_FOREIGN] = {"foreign", "free when that process has ended and the memory is back"},
    [GPU_STATE_ORPHANED] = {"orphaned", "free when what is left has gone; task kill ID@NODE, task release --force"},
    [GPU_STATE_SWITCHING] = {"switching", "it arrives at its driver or is rolled back"},
    [GPU_STATE_VFIO] = {"vfio", "it is given back to its driver"},
    [GPU_STATE_QUARANTINED] =
        {"quarantined",
         "what it needs is done (see the reason) and it reports itself in order, or gpu uncordon NODE::IDX; an order: "
         "gpu uncordon or node uncordon"},
    [GPU_STATE_UNKNOWN] = {"unknown", "its node proves by itself that the card is at rest"},
    [GPU_STATE_BARE] = {"bare", "a machine can have it; for containers, load its driver"},
    [GPU_STATE_REMOVED] = {"removed", "it is put back into its node"},
};

const char *gpu_state_to_str(enum gpu_state state) { return states[state < GPU_STATE_COUNT_ ? state : 0].name; }
const char *gpu_state_way_out(enum gpu_state state) { return states[state < GPU_STATE_COUNT_ ? state : 0].way_out; }

static enum gpu_state because(enum gpu_state state, char **ret_reason, const char *format, ...) G_GNUC_PRINTF(3, 4);
static enum gpu_state because(enum gpu_state state, char **ret_reason, const char *format, ...) {
    va_list args;

    va_start(args, format);
    if (ret_reason)
        *ret_reason = g_strdup_vprintf(format, args);
    va_end(args);
    return state;
}

/* A task that has ended and holds its cards still. */
static enum gpu_state judge_ended(const struct task *task, char **ret_reason) {
    if (task->holding)
        return because(GPU_STATE_ORPHANED, ret_reason, "task %u has ended (%s), and of it is left: %s", task->id,
                       task_state_to_str(task->state), task->holding);
    return because(GPU_STATE_DRAINING, ret_reason, "task %u has ended (%s)", task->id, task_state_to_str(task->state));
}

/* A card that is held and on its way, or stuck there: which step it is in. */
static void add_trouble(const struct gpu *gpu, char **ret_reason) {
    bool is_told = gpu->reason && (gpu->condition == GPU_CONDITION_SWITCHING || gpu->condition == GPU_CONDITION_FAULT);
    g_autofree char *before = NULL;

    if (!ret_reason || !*ret_reason || !is_told)
        return;
    before = *ret_reason;
    *ret_reason = g_strdup_printf("%s; %s", before, gpu->reason);
}

static enum gpu_state judge_holder(const struct gpu_view *view, char **ret_reason) {
    const struct lease *lease = &view->holder->lease;
    const struct task *task = view->task;

    if (view->holder->is_orphan)
        return because(GPU_STATE_ORPHANED, ret_reason,
                       "its node holds a lease of task %u, epoch %" G_GINT64_FORMAT
                       ", that is not in this host's records",
                       lease->task_id, lease->epoch);
    if (task && task_state_is_terminal(task->state))
        return judge_ended(task, ret_reason);
    if (!task || task->state == TASK_PENDING)
        return because(GPU_STATE_LEASED, ret_reason, "granted to task %u", lease->task_id);
    return because(task->state == TASK_STARTING ? GPU_STATE_STARTING : GPU_STATE_IN_USE, ret_reason, "task %u is %s",
                   lease->task_id, task_state_to_str(task->state));
}

static enum gpu_state judge_held(const struct gpu_view *view, char **ret_reason) {
    enum gpu_state state = judge_holder(view, ret_reason);

    if (!view->why_no_word)
        add_trouble(view->gpu, ret_reason);
    return state;
}

/* What the node itself says stands against a grant; FREE, and BARE for machines: nothing. */
static enum gpu_state judge_condition(const struct gpu *gpu, char **ret_reason) {
    static const enum gpu_state meant[GPU_CONDITION_COUNT_] = {
        [GPU_CONDITION_UNSET] = GPU_STATE_UNKNOWN,       [GPU_CONDITION_OK] = GPU_STATE_FREE,
        [GPU_CONDITION_FOREIGN] = GPU_STATE_FOREIGN,     [GPU_CONDITION_UNKNOWN] = GPU_STATE_UNKNOWN,
        [GPU_CONDITION_FAULT] = GPU_STATE_QUARANTINED,   [GPU_CONDITION_VFIO] = GPU_STATE_VFIO,
        [GPU_CONDITION_SWITCHING] = GPU_STATE_SWITCHING, [GPU_CONDITION_REMOVED] = GPU_STATE_REMOVED,
        [GPU_CONDITION_BARE] = GPU_STATE_BARE,
    };
    enum gpu_state state = gpu->condition < GPU_CONDITION_COUNT_ ? meant[gpu->condition] : GPU_STATE_UNKNOWN;

    if (state != GPU_STATE_FREE && state != GPU_STATE_BARE)
        return because(state, ret_reason, "%s", gpu->reason ? gpu->reason : gpu_condition_to_str(gpu->condition));
    if (gpu->uuid[0] == '\0')
        return because(GPU_STATE_UNKNOWN, ret_reason, "its identity is not known");
    return state;
}

static enum gpu_state judge_mark(const struct mark *mark, const char *what, char **ret_reason) {
    return because(GPU_STATE_QUARANTINED, ret_reason, "%s%s by %s%s%s", what, mark->is_drain ? "drained" : "cordoned",
                   mark->who, mark->reason[0] ? ": " : "", mark->reason);
}

enum gpu_state gpu_state_judge(const struct gpu_view *view, char **ret_reason) {
    enum gpu_state state;
    g_autofree char *missing = NULL;

    if (ret_reason)
        *ret_reason = NULL;
    if (view->holder && !fault_mutant("R1-held-is-free") && !fault_mutant("R1-no-ledger"))
        return judge_held(view, ret_reason);
    if (view->why_no_word)
        return because(GPU_STATE_UNKNOWN, ret_reason, "%s", view->why_no_word);
    state = judge_condition(view->gpu, ret_reason);
    if (state != GPU_STATE_FREE && state != GPU_STATE_BARE)
        return state;
    if (view->health > GPU_HEALTH_OK)
        return because(GPU_STATE_QUARANTINED, ret_reason, "%s%s", view->health == GPU_HEALTH_SUSPECT ? "suspect: " : "",
                       view->health_reason);
    if (view->gpu_mark)
        return judge_mark(view->gpu_mark, "", ret_reason);
    if (view->node_mark)
        return judge_mark(view->node_mark, "its node is ", ret_reason);
    if (proof_of_rest(view->proof) || fault_mutant("R1-orphans-are-ignored") || fault_mutant("R3-unknown-is-free"))
        return state == GPU_STATE_FREE
                   ? state
                   : because(state, ret_reason, "%s", view->gpu->reason ? view->gpu->reason : "no driver");
    missing = proof_missing_to_str(view->proof, PROOF_CARD);
    return because(GPU_STATE_UNKNOWN, ret_reason, "its node has not shown it at rest yet: %s", missing);
}
