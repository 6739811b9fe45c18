#include "host/event_view.h"

#include <stdlib.h>
#include <string.h>

#include "host/event_figures.h"
#include "host/host_internal.h"
#include "model/merge_patch.h"

struct told_node {
    json_t *row;  /* NULL: new, nothing is told of it yet */
    json_t *gpus; /* an object, index -> row */
    bool is_urgent, is_stale;
};

struct event_view {
    struct host *host;
    bool is_started, is_ready;
    unsigned start_number; /* an answer to an earlier start comes too late */
    GHashTable *nodes;     /* name -> struct told_node */
    GHashTable *vps;       /* id -> json_t, as told */
    GHashTable *vps_marks; /* set of ids to look at */
    int vps_asked;         /* answers that are still to come */
    json_t *vps_news;      /* members "vps" and "vps_gone" for the next turn */
    json_t *tasks;         /* id -> its row, those that changed since the last turn */
    json_t *counts;
    char *storage_problem;
    bool has_urgent, has_stale, has_counts_to_check;
};

static void told_node_free(struct told_node *told) {
    json_decref(told->row);
    json_decref(told->gpus);
    g_free(told);
}

static void free_json(gpointer json) { json_decref(json); }

struct event_view *event_view_new(struct host *host) {
    struct event_view *view = g_new0(struct event_view, 1);

    view->host = host;
    view->nodes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)told_node_free);
    view->vps = g_hash_table_new_full(NULL, NULL, NULL, free_json);
    view->vps_marks = g_hash_table_new(NULL, NULL);
    return view;
}

void event_view_free(struct event_view *view) {
    if (!view)
        return;
    event_view_stop(view);
    g_hash_table_unref(view->nodes);
    g_hash_table_unref(view->vps);
    g_hash_table_unref(view->vps_marks);
    g_free(view);
}

/* ---- marks ---- */

static struct told_node *find_or_add(struct event_view *view, const char *node) {
    struct told_node *told = g_hash_table_lookup(view->nodes, node);

    if (!told) {
        told = g_new0(struct told_node, 1);
        told->gpus = json_object();
        g_hash_table_insert(view->nodes, g_strdup(node), told);
    }
    return told;
}

void event_view_mark_node(struct event_view *view, const char *node) {
    struct told_node *told;

    if (!view->is_started)
        return;
    told = find_or_add(view, node);
    told->is_urgent = told->is_stale = view->has_urgent = view->has_stale = true;
}

void event_view_mark_figures(struct event_view *view, const char *node) {
    if (view->is_started)
        find_or_add(view, node)->is_stale = view->has_stale = true;
}

void event_view_mark_vps(struct event_view *view, uint32_t vps_id) {
    if (view->is_started)
        g_hash_table_add(view->vps_marks, GUINT_TO_POINTER(vps_id));
}

/* A task that leaves memory is not there any more at the next turn: its row is made now. */
void event_view_mark_task(struct event_view *view, const struct task *task) {
    char id[24];

    if (!view->is_started)
        return;
    g_snprintf(id, sizeof id, "%u", task->id);
    json_object_set_new(view->tasks, id, api_task_short(view->host, task));
    view->has_counts_to_check = true;
    event_view_mark_node(view, task->lease.node);
    if (task->spec->vm)
        event_view_mark_vps(view, task->spec->vm->vps_id);
}

/* ---- news ---- */

/* Takes `item`. */
static void add_to_list(json_t **news, const char *list, json_t *item) {
    if (!*news)
        *news = json_object();
    if (!json_object_get(*news, list))
        json_object_set_new(*news, list, json_array());
    json_array_append_new(json_object_get(*news, list), item);
}

static void set_news(json_t **news, const char *key, json_t *value) {
    if (!*news)
        *news = json_object();
    json_object_set_new(*news, key, value);
}

/* What of the row is news; told NULL: all of it. */
static json_t *changes_of(const json_t *told, json_t *row) {
    return told ? merge_patch_make(told, row) : json_deep_copy(row);
}

/* A node that is heard from all the time would change all the time. */
static void hold_last_seen(json_t *row, const json_t *told) {
    json_t *before = json_object_get(told, "last_seen_ms");

    if (before && json_is_true(json_object_get(row, "online")))
        json_object_set(row, "last_seen_ms", before);
}

/* Takes the row. */
static void tell_node_row(struct told_node *told, json_t *row, bool with_figures, json_t **news) {
    json_t *changes;

    event_figures_round(row);
    if (told->row && !with_figures)
        event_figures_hold(row, told->row);
    hold_last_seen(row, told->row);
    changes = changes_of(told->row, row);
    if (changes) {
        json_object_set(changes, "name", json_object_get(row, "name"));
        add_to_list(news, "nodes", changes);
    }
    json_decref(told->row);
    told->row = row;
}

static void tell_gpu_row(struct told_node *told, json_t *row, bool with_figures, json_t **news) {
    const json_t *before;
    json_t *changes;
    char index[24];

    g_snprintf(index, sizeof index, "%lld", (long long)json_integer_value(json_object_get(row, "index")));
    before = json_object_get(told->gpus, index);
    event_figures_round(row);
    if (before && !with_figures)
        event_figures_hold(row, before);
    changes = changes_of(before, row);
    if (!changes)
        return;
    json_object_set(changes, "node", json_object_get(row, "node"));
    json_object_set(changes, "index", json_object_get(row, "index"));
    add_to_list(news, "gpus", changes);
    json_object_set(told->gpus, index, row);
}

static bool has_index(const json_t *rows, const json_t *index) {
    const json_t *row;
    size_t i;

    json_array_foreach (rows, i, row)
        if (json_equal(json_object_get(row, "index"), index))
            return true;
    return false;
}

static void tell_gone_gpus(struct told_node *told, const json_t *rows, json_t **news) {
    json_t *before;
    const char *key;
    void *next;

    json_object_foreach_safe (told->gpus, next, key, before) {
        if (has_index(rows, json_object_get(before, "index")))
            continue;
        add_to_list(
            news, "gpus_gone",
            json_pack("{s:O,s:O}", "node", json_object_get(before, "node"), "index", json_object_get(before, "index")));
        json_object_del(told->gpus, key);
    }
}

/* A machine's row has what its node says of its cards, and what its guest says while there is one: both come with the node's
 * word, and both go with it. */
static void mark_machines(struct event_view *view, const char *node) {
    const struct controller *c = view->host->controller;
    const GPtrArray *leases = ledger_of_node(controller_ledger(c), node); /* each task in memory has one */

    for (guint i = 0; leases && i < leases->len; i++) {
        const struct ledger_entry *entry = leases->pdata[i];
        const struct task *task = controller_task(c, entry->lease.task_id);

        if (task && task->spec->vm)
            event_view_mark_vps(view, task->spec->vm->vps_id);
    }
}

static void tell_node(struct event_view *view, struct told_node *told, const struct cluster_node *node,
                      bool with_figures, json_t **news) {
    json_t *rows = api_gpu_rows(view->host, node), *row;
    size_t i;

    tell_node_row(told, api_node_row(view->host, node, rows), with_figures, news);
    json_array_foreach (rows, i, row)
        tell_gpu_row(told, row, with_figures, news);
    tell_gone_gpus(told, rows, news);
    json_decref(rows);
    mark_machines(view, node->info->name);
    told->is_urgent = false; /* also what looking at its cards has marked */
    told->is_stale &= !with_figures;
}

/* The same where nothing but figures can have changed: without making the rows. */
static void tell_figures(struct told_node *told, const struct cluster_node *node, json_t **news) {
    const struct node_info *info = node->info;
    json_t *changes = event_figures_update_node(told->row, info);

    if (changes) {
        json_object_set(changes, "name", json_object_get(told->row, "name"));
        add_to_list(news, "nodes", changes);
    }
    for (guint i = 0; i < info->gpus->len; i++) {
        const struct gpu *gpu = info->gpus->pdata[i];
        json_t *row;
        char index[24];

        g_snprintf(index, sizeof index, "%d", gpu->index);
        row = json_object_get(told->gpus, index);
        changes = row ? event_figures_update_gpu(row, gpu) : NULL;
        if (!changes)
            continue;
        json_object_set(changes, "node", json_object_get(row, "node"));
        json_object_set(changes, "index", json_object_get(row, "index"));
        add_to_list(news, "gpus", changes);
    }
    told->is_stale = false;
}

static void tell_nodes(struct event_view *view, bool with_figures, json_t **news) {
    const struct cluster *cluster = controller_cluster(view->host->controller);
    GHashTableIter iter;
    gpointer name, value;

    if (!view->has_urgent && !(with_figures && view->has_stale))
        return;
    g_hash_table_iter_init(&iter, view->nodes);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        struct told_node *told = value;
        const struct cluster_node *node = told->is_urgent || (with_figures && told->is_stale)
                                              ? cluster_find(cluster, name)
                                              : NULL;

        if (node && told->row && !told->is_urgent)
            tell_figures(told, node, news);
        else if (node)
            tell_node(view, told, node, with_figures, news);
    }
    view->has_urgent = false;
    view->has_stale &= !with_figures;
}

/* ---- machines ---- */

struct vps_look {
    struct event_view *view;
    unsigned start_number;
};

static void tell_vps(struct event_view *view, uint32_t id, json_t *row) {
    const json_t *before = g_hash_table_lookup(view->vps, GUINT_TO_POINTER(id));
    json_t *changes;

    if (!row) {
        if (g_hash_table_remove(view->vps, GUINT_TO_POINTER(id)))
            add_to_list(&view->vps_news, "vps_gone", json_integer(id));
        return;
    }
    changes = changes_of(before, row);
    if (changes) {
        json_object_set_new(changes, "id", json_integer(id));
        add_to_list(&view->vps_news, "vps", changes);
        g_hash_table_replace(view->vps, GUINT_TO_POINTER(id), json_incref(row));
    }
}

static void on_vps(void *user, uint32_t id, json_t *row, const GError *error) {
    g_autofree struct vps_look *look = user;
    struct event_view *view = look->view;

    if (view->is_started && look->start_number == view->start_number) {
        view->vps_asked--;
        if (error) /* looked at again, until it can be read */
            event_view_mark_vps(view, id);
        else
            tell_vps(view, id, row);
        view->is_ready |= view->vps_asked == 0;
    }
    json_decref(row);
}

static void look_at_vps(struct event_view *view) {
    g_autofree gpointer *ids = g_hash_table_get_keys_as_array(view->vps_marks, NULL);
    guint n = g_hash_table_size(view->vps_marks);

    if (view->vps_asked > 0) /* one after the other: an older answer may not come behind a newer one */
        return;
    g_hash_table_remove_all(view->vps_marks);
    for (guint i = 0; i < n; i++) {
        struct vps_look *look = g_new(struct vps_look, 1);

        *look = (struct vps_look){view, view->start_number};
        view->vps_asked++;
        api_vps_look(view->host, GPOINTER_TO_UINT(ids[i]), on_vps, look);
    }
}

static void take_vps_news(struct event_view *view, json_t **news) {
    if (!view->vps_news)
        return;
    if (!*news)
        *news = json_object();
    json_object_update(*news, view->vps_news);
    g_clear_pointer(&view->vps_news, json_decref);
}

/* ---- tasks, the rest ---- */

static void tell_tasks(struct event_view *view, json_t **news) {
    const char *id;
    json_t *row;

    json_object_foreach (view->tasks, id, row)
        add_to_list(news, "tasks", json_incref(row));
    json_object_clear(view->tasks);
}

struct count {
    const struct controller *controller;
    struct core_time now;
    json_t *counts;
};

static void count_task(void *user, const struct task *task) {
    struct count *count = user;
    const char *state = controller_shown_state(count->controller, task, count->now);

    json_object_set_new(count->counts, state,
                        json_integer(json_integer_value(json_object_get(count->counts, state)) + 1));
}

static json_t *count_tasks(const struct event_view *view) {
    struct count count = {view->host->controller, host_now(), json_object()};

    controller_each_task(view->host->controller, count_task, &count);
    return count.counts;
}

static void tell_counts(struct event_view *view, json_t **news) {
    json_t *counts;

    if (!view->has_counts_to_check)
        return;
    view->has_counts_to_check = false;
    counts = count_tasks(view);
    if (!json_equal(counts, view->counts))
        set_news(news, "task_counts", json_incref(counts));
    json_decref(view->counts);
    view->counts = counts;
}

static void tell_storage(struct event_view *view, json_t **news) {
    const char *problem = controller_storage_problem(view->host->controller);

    if (g_strcmp0(problem, view->storage_problem) == 0)
        return;
    g_free(view->storage_problem);
    view->storage_problem = g_strdup(problem);
    set_news(news, "storage_problem", problem ? json_string(problem) : json_null());
}

json_t *event_view_turn(struct event_view *view, bool with_figures) {
    json_t *news = NULL;

    if (!view->is_started)
        return NULL;
    tell_nodes(view, with_figures, &news);
    if (g_hash_table_size(view->vps_marks) > 0)
        look_at_vps(view);
    take_vps_news(view, &news);
    tell_tasks(view, &news);
    tell_counts(view, &news);
    tell_storage(view, &news);
    return news;
}

/* ---- start and stop, whole ---- */

void event_view_start(struct event_view *view) {
    g_autoptr(GPtrArray) nodes = cluster_nodes(controller_cluster(view->host->controller));
    g_autoptr(GPtrArray) vps = controller_all_vps(view->host->controller);

    view->is_started = true;
    view->start_number++;
    view->tasks = json_object();
    view->has_counts_to_check = true;
    for (guint i = 0; i < nodes->len; i++)
        event_view_mark_node(view, ((const struct cluster_node *)nodes->pdata[i])->info->name);
    for (guint i = 0; i < vps->len; i++)
        event_view_mark_vps(view, ((const struct vps *)vps->pdata[i])->id);
    json_decref(event_view_turn(view, true)); /* nobody was told anything yet */
    view->is_ready = view->vps_asked == 0;
}

void event_view_stop(struct event_view *view) {
    view->is_started = view->is_ready = false;
    g_hash_table_remove_all(view->nodes);
    g_hash_table_remove_all(view->vps);
    g_hash_table_remove_all(view->vps_marks);
    g_clear_pointer(&view->vps_news, json_decref);
    g_clear_pointer(&view->tasks, json_decref);
    g_clear_pointer(&view->counts, json_decref);
    g_clear_pointer(&view->storage_problem, g_free);
    view->vps_asked = 0;
    view->has_urgent = view->has_stale = view->has_counts_to_check = false;
}

bool event_view_is_started(const struct event_view *view) { return view->is_started; }

bool event_view_is_ready(const struct event_view *view) { return view->is_ready; }

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

json_t *event_view_whole(const struct event_view *view) {
    json_t *nodes = json_array(), *gpus = json_array(), *vps = json_array(), *json, *row;
    g_autofree gpointer *names = g_hash_table_get_keys_as_array(view->nodes, NULL);
    GHashTableIter iter;
    gpointer value;
    const char *index;

    qsort(names, g_hash_table_size(view->nodes), sizeof *names, by_name);
    for (gpointer *name = names; *name; name++) {
        const struct told_node *told = g_hash_table_lookup(view->nodes, *name);

        if (told->row)
            json_array_append(nodes, told->row);
        json_object_foreach (told->gpus, index, row)
            json_array_append(gpus, row);
    }
    g_hash_table_iter_init(&iter, view->vps);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        json_array_append(vps, value);
    json = json_pack("{s:o,s:o,s:o,s:O}", "nodes", nodes, "gpus", gpus, "vps", vps, "task_counts", view->counts);
    if (view->storage_problem)
        json_object_set_new(json, "storage_problem", json_string(view->storage_problem));
    return json;
}
