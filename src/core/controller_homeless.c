/* Leases that a node holds and that have no place in the ledger yet, because one of their cards is held there by another lease: a host
 * that was restored from an old backup believes in a task that is over, and its node tells of the next one on the same card. The node
 * says so once, in hello; as soon as the cards are given up here the lease gets its place. Until then its cards are not
 * granted either: their node does not show them at rest. */

#include <string.h>

#include "core/controller_internal.h"

struct homeless {
    char node[NODE_NAME_MAX_BYTES + 1];
    struct node_report *said; /* the newest report, with the lease of hello */
};

static void homeless_free(gpointer data) {
    struct homeless *one = data;

    node_report_free(one->said);
    g_free(one);
}

void controller_init_homeless(struct controller *c) { c->homeless = g_ptr_array_new_with_free_func(homeless_free); }

void controller_free_homeless(struct controller *c) { g_ptr_array_unref(c->homeless); }

static void copy_strings(struct task_report *report) {
    report->reason = g_strdup(report->reason);
    report->holding = g_strdup(report->holding);
}

void controller_keep_homeless(struct controller *c, const char *node, const struct node_report *said) {
    struct homeless *one = g_new0(struct homeless, 1);

    g_strlcpy(one->node, node, sizeof one->node);
    one->said = g_memdup2(said, sizeof *said);
    copy_strings(&one->said->report);
    one->said->spec = said->spec ? task_spec_copy(said->spec) : NULL;
    g_ptr_array_add(c->homeless, one);
}

void controller_forget_homeless(struct controller *c, const char *node) {
    for (guint i = c->homeless->len; i-- > 0;)
        if (strcmp(((const struct homeless *)c->homeless->pdata[i])->node, node) == 0)
            g_ptr_array_remove_index(c->homeless, i);
}

void controller_note_homeless(struct controller *c, const char *node, const struct task_report *report) {
    for (guint i = c->homeless->len; i-- > 0;) {
        const struct homeless *one = c->homeless->pdata[i];
        struct task_report *known = &one->said->report;
        if (strcmp(one->node, node) != 0 || known->task_id != report->task_id || known->epoch != report->epoch)
            continue;
        task_report_clear(known);
        *known = *report;
        copy_strings(known);
        if (controller_is_over(report))
            g_ptr_array_remove_index(c->homeless, i);
    }
}

void controller_house_homeless(struct controller *c) {
    for (guint i = c->homeless->len; i-- > 0;) {
        const struct homeless *one = c->homeless->pdata[i];
        if (controller_take_orphan(c, one->node, one->said))
            g_ptr_array_remove_index(c->homeless, i);
    }
}
