/* What arrived in a container, compared with its lease by device numbers (L52): NVIDIA's cards by the minors of their nodes,
 * those of others by their render nodes. */

#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/error.h"
#include "runner/executor_internal.h"

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

char *execution_verify(const struct execution *ex, pid_t pid, bool *ret_unknown) {
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
