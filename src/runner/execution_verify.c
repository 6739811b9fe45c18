/* Looks into the container that was started: exactly the leased cards, no more, no less (L52). */

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "runner/executor_internal.h"

enum { VERIFY_PATIENCE_MS = 15000 };

static int compare_ints(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* NULL when some minor is not known. */
static GArray *leased_minors(const struct execution *ex, const char **ret_unknown) {
    g_autoptr(GArray) minors = g_array_new(FALSE, FALSE, sizeof(int));
    const struct executor_gpus *gpus = &ex->executor->gpus;

    for (size_t i = 0; i < ex->file.lease.n_gpus; i++) {
        int minor;
        if (!gpus->minor_of(gpus->user, ex->file.lease.gpus[i].uuid, &minor)) {
            *ret_unknown = ex->file.lease.gpus[i].uuid;
            return NULL;
        }
        g_array_append_val(minors, minor);
    }
    g_array_sort(minors, compare_ints);
    return g_steal_pointer(&minors);
}

static char *minors_to_str(const GArray *minors) {
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < minors->len; i++)
        g_string_append_printf(text, "%s/dev/nvidia%d", i ? " " : "", g_array_index(minors, int, i));
    return minors->len ? g_string_free(g_steal_pointer(&text), FALSE) : g_strdup("none");
}

/* NULL when all is well, or when the process has ended meanwhile; else what is wrong. *ret_unknown: no answer was to be had
 * (yet). */
static char *verify(const struct execution *ex, pid_t pid, bool *ret_unknown) {
    g_autoptr(GArray) found = NULL, wanted = NULL;
    g_autofree char *found_text = NULL, *wanted_text = NULL;
    g_autoptr(GError) error = NULL;
    const char *unknown = NULL;

    *ret_unknown = false;
    if (!ex->executor->gpus.minors_visible(pid, &found, &error)) {
        if (g_error_matches(error, KR_ERROR, KR_ERROR_NOT_FOUND))
            return NULL;
        return g_strdup_printf("which GPUs arrived in the container cannot be seen: %s", error->message);
    }
    wanted = leased_minors(ex, &unknown);
    *ret_unknown = !wanted;
    if (!wanted)
        return g_strdup_printf("the device number of GPU %s is not known, so its arrival cannot be verified", unknown);
    if (found->len == wanted->len &&
        (found->len == 0 || memcmp(found->data, wanted->data, found->len * sizeof(int)) == 0))
        return NULL;
    found_text = minors_to_str(found);
    wanted_text = minors_to_str(wanted);
    return g_strdup_printf("the container has not exactly the GPUs of its lease: found %s, leased %s", found_text,
                           wanted_text);
}

static void judge(struct execution *ex, const struct engine_container *container) {
    bool is_unknown = false;
    /* a machine's engine looks for its cards itself */
    g_autofree char *failure = ex->is_machine ? NULL : verify(ex, container->pid, &is_unknown);

    if (is_unknown && clock_mono_ms() < ex->verify_by_ms) { /* the first look at the cards may still be under way */
        execution_retry(ex, EXEC_VERIFYING, ex->executor->config.retry_ms);
        return;
    }
    ex->failure = g_steal_pointer(&failure);
    if (!ex->failure) {
        ex->file.started_ms = MAX(container->started_ms, 1);
        lease_files_note_start(ex->executor->leases, ex->file.lease.task_id, ex->file.started_ms);
    }
    execution_enter(ex, EXEC_RUNNING);
    execution_report(ex);
}

static void on_verified(void *user, const struct engine_container *container, const GError *error) {
    struct execution *ex = user;

    ex->step = NULL;
    if (g_error_matches(error, KR_ERROR, KR_ERROR_NOT_FOUND)) {
        execution_vanished(ex);
        return;
    }
    if (error) {
        execution_retry(ex, EXEC_VERIFYING, ex->executor->config.retry_ms);
        return;
    }
    if (container->state != ENGINE_RUNNING) {
        execution_enter(ex, EXEC_ENDING);
        return;
    }
    judge(ex, container);
}

void execution_begin_verifying(struct execution *ex) {
    if (!ex->verify_by_ms)
        ex->verify_by_ms = clock_mono_ms() + VERIFY_PATIENCE_MS;
    ex->step = engine_inspect(execution_engine(ex), ex->file.container, on_verified, ex);
}
