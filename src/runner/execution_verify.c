/* What arrived in a container, compared with its lease by device numbers (L52): NVIDIA's cards by the minors of their nodes,
 * those of others by their render nodes. */

#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/clock.h"
#include "base/error.h"
#include "runner/executor_internal.h"

enum { VERIFY_PATIENCE_MS = 15000 };

struct arrival {
    GArray *minors;  /* of int, ascending: /dev/nvidiaN */
    GArray *renders; /* of dev_t, ascending: /dev/dri/renderDN; empty where all cards are NVIDIA's */
};

static void arrival_clear(struct arrival *arrival) {
    g_clear_pointer(&arrival->minors, g_array_unref);
    g_clear_pointer(&arrival->renders, g_array_unref);
}

static int compare_ints(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

static int compare_devices(const void *a, const void *b) {
    dev_t x = *(const dev_t *)a, y = *(const dev_t *)b;

    return x < y ? -1 : x > y;
}

/* False when one of the nodes is not there, or none of them is a render node. */
static bool add_renders(const struct execution *ex, char *const *nodes, GArray *renders) {
    const char *root = ex->executor->dev_root;
    guint before = renders->len;

    for (; *nodes; nodes++) {
        g_autofree char *path = g_build_filename(root, *nodes, NULL);
        struct stat st;

        if (stat(path, &st) < 0 || !S_ISCHR(st.st_mode))
            return false;
        if (gpu_is_render_node(st.st_rdev))
            g_array_append_val(renders, st.st_rdev);
    }
    return renders->len > before;
}

static bool add_card(const struct execution *ex, size_t i, struct arrival *wanted) {
    const struct executor_gpus *gpus = &ex->executor->gpus;
    g_auto(GStrv) nodes = container_nodes_of(ex, i);
    int minor_number;

    if (nodes)
        return add_renders(ex, nodes, wanted->renders);
    if (!gpus->minor_of(gpus->user, ex->file.lease.gpus[i].uuid, &minor_number))
        return false;
    g_array_append_val(wanted->minors, minor_number);
    return true;
}

/* The UUID of a card whose numbers are not known, NULL when all are. */
static const char *find_wanted(const struct execution *ex, struct arrival *ret_wanted) {
    ret_wanted->minors = g_array_new(FALSE, FALSE, sizeof(int));
    ret_wanted->renders = g_array_new(FALSE, FALSE, sizeof(dev_t));
    for (size_t i = 0; i < ex->file.lease.n_gpus; i++)
        if (!add_card(ex, i, ret_wanted))
            return ex->file.lease.gpus[i].uuid;
    g_array_sort(ret_wanted->minors, compare_ints);
    g_array_sort(ret_wanted->renders, compare_devices);
    return NULL;
}

static bool find_arrived(const struct execution *ex, pid_t pid, struct arrival *ret_found, GError **error) {
    const struct executor_gpus *gpus = &ex->executor->gpus;

    if (!gpus->minors_visible(pid, &ret_found->minors, error))
        return false;
    if (gpus->nodes_of)
        return gpus->renders_visible(gpus->user, pid, &ret_found->renders, error);
    ret_found->renders = g_array_new(FALSE, FALSE, sizeof(dev_t));
    return true;
}

static bool is_same(const GArray *a, const GArray *b) {
    return a->len == b->len &&
           (a->len == 0 || memcmp(a->data, b->data, (size_t)a->len * g_array_get_element_size((GArray *)a)) == 0);
}

static char *arrival_to_str(const struct arrival *arrival) {
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < arrival->minors->len; i++)
        g_string_append_printf(text, "%s/dev/nvidia%d", text->len ? " " : "", g_array_index(arrival->minors, int, i));
    for (guint i = 0; i < arrival->renders->len; i++)
        g_string_append_printf(text, "%s/dev/dri/renderD%u", text->len ? " " : "",
                               minor(g_array_index(arrival->renders, dev_t, i)));
    return text->len ? g_string_free(g_steal_pointer(&text), FALSE) : g_strdup("none");
}

static char *compare(const struct arrival *found, const struct arrival *wanted) {
    g_autofree char *found_text = NULL, *wanted_text = NULL;

    if (is_same(found->minors, wanted->minors) && is_same(found->renders, wanted->renders))
        return NULL;
    found_text = arrival_to_str(found);
    wanted_text = arrival_to_str(wanted);
    return g_strdup_printf("the container has not exactly the GPUs of its lease: found %s, leased %s", found_text,
                           wanted_text);
}

/* Exactly the leased cards arrived, no more, no less: NULL when all is well, or when the process has ended meanwhile; else what is wrong.
 * *ret_unknown: no answer was to be had (yet). Caller frees. */
static char *verify(const struct execution *ex, pid_t pid, bool *ret_unknown) {
    struct arrival found = {NULL, NULL}, wanted = {NULL, NULL};
    g_autoptr(GError) error = NULL;
    const char *unknown = NULL;
    char *failure = NULL;

    *ret_unknown = false;
    if (find_arrived(ex, pid, &found, &error)) {
        unknown = find_wanted(ex, &wanted);
        *ret_unknown = unknown != NULL;
        failure = unknown ? g_strdup_printf(
                                "the device number of GPU %s is not known, so its arrival cannot be verified", unknown)
                          : compare(&found, &wanted);
    } else if (!g_error_matches(error, KR_ERROR, KR_ERROR_NOT_FOUND)) {
        failure = g_strdup_printf("which GPUs arrived in the container cannot be seen: %s", error->message);
    }
    arrival_clear(&found);
    arrival_clear(&wanted);
    return failure;
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
