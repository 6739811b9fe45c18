#include "sim/shrink.h"

#include <stdlib.h>
#include <string.h>

struct shrinking {
    struct history history;
    const char *kind;
    gint64 stop_us;
};

/* Does it fail with these steps alone? What comes behind the failure is cut off. */
static bool fails(struct shrinking *s, GArray *steps) {
    struct outcome outcome;
    bool is_same;

    s->history.keep = steps;
    history_run(&s->history, &outcome);
    is_same = outcome.has_failed && strcmp(outcome.kind, s->kind) == 0;
    while (is_same && !outcome.in_settling && steps->len &&
           g_array_index(steps, unsigned, steps->len - 1) > outcome.step)
        g_array_set_size(steps, steps->len - 1);
    outcome_clear(&outcome);
    return is_same;
}

static GArray *without(const GArray *steps, guint begin, guint end) {
    GArray *rest = g_array_new(FALSE, FALSE, sizeof(unsigned));

    for (guint i = 0; i < steps->len; i++)
        if (i < begin || i >= end)
            g_array_append_val(rest, g_array_index(steps, unsigned, i));
    return rest;
}

/* One round over all pieces of this size; true when something could be left out. */
static bool leave_out(struct shrinking *s, GArray **steps, guint size) {
    bool has_shrunk = false;

    for (guint begin = 0; begin < (*steps)->len && g_get_monotonic_time() < s->stop_us;) {
        GArray *rest = without(*steps, begin, begin + size);
        if (fails(s, rest)) {
            g_array_unref(*steps);
            *steps = rest;
            has_shrunk = true;
        } else {
            g_array_unref(rest);
            begin += size;
        }
    }
    return has_shrunk;
}

GArray *shrink(const struct history *history, const struct outcome *failure, double max_seconds) {
    struct shrinking s = {
        .history = *history, .kind = failure->kind, .stop_us = g_get_monotonic_time() + (gint64)(max_seconds * 1e6)};
    GArray *steps = g_array_new(FALSE, FALSE, sizeof(unsigned));

    s.history.is_unsettled = !failure->in_settling;
    for (unsigned i = 1; !history->keep && i <= failure->step; i++)
        g_array_append_val(steps, i);
    for (guint i = 0; history->keep && i < history->keep->len; i++)
        g_array_append_val(steps, g_array_index(history->keep, unsigned, i));
    if (!fails(&s, steps)) {
        g_array_unref(steps);
        return NULL;
    }
    for (guint size = (steps->len + 1) / 2; size > 0 && g_get_monotonic_time() < s.stop_us;)
        if (!leave_out(&s, &steps, size) || size > 1)
            size /= 2;
    return steps;
}

char *steps_to_str(const GArray *steps) {
    GString *text = g_string_new(NULL);

    for (guint i = 0, k; i < steps->len; i = k) {
        unsigned first = g_array_index(steps, unsigned, i);
        for (k = i + 1; k < steps->len && g_array_index(steps, unsigned, k) == first + (k - i); k++)
            ;
        g_string_append_printf(text, "%s%u", i ? "," : "", first);
        if (k - i > 1)
            g_string_append_printf(text, "-%u", first + (k - i - 1));
    }
    return g_string_free(text, FALSE);
}

GArray *steps_from_str(const char *text) {
    g_auto(GStrv) items = g_strsplit(text, ",", -1);
    GArray *steps = g_array_new(FALSE, FALSE, sizeof(unsigned));

    for (char **item = items; *item; item++) {
        char *end;
        unsigned first = (unsigned)strtoul(*item, &end, 10);
        unsigned last = *end == '-' ? (unsigned)strtoul(end + 1, &end, 10) : first;
        if (end == *item || *end || first == 0 || last < first || last - first > 10000000) {
            g_array_unref(steps);
            return NULL;
        }
        for (unsigned step = first; step <= last; step++)
            g_array_append_val(steps, step);
    }
    return steps;
}
