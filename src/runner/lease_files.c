#include "runner/lease_files.h"

#include <string.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "engine/engine.h"

#define NODE_KEY "node" /* in epochs.json, beside the UUIDs: the highest epoch this node has taken */

enum { MAX_FILE_BYTES = 256 * 1024 * 1024, MAX_EPOCHS = 100000, VERSION = 1 };

static const char *const phase_names[] = {
    [LEASE_ACCEPTED] = "accepted", [LEASE_STARTING] = "starting", [LEASE_ENDED] = "ended"};

struct lease_files {
    char *folder, *epochs_path;
    GHashTable *epochs; /* char* uuid -> int64_t*: from epochs.json and every lease seen */
    bool is_fence_lost; /* the last fence is in memory only */
};

void lease_file_clear(struct lease_file *file) {
    g_clear_pointer(&file->spec, task_spec_free);
    g_clear_pointer(&file->container, g_free);
    task_report_clear(&file->report);
}

static void lease_file_free(void *data) {
    lease_file_clear(data);
    g_free(data);
}

/* ---- JSON ---- */

static json_t *file_to_json(const struct lease_file *file) {
    json_t *json = json_pack("{s:i,s:s,s:o,s:b,s:b,s:I}", "version", VERSION, "phase", phase_names[file->phase],
                             "lease", lease_to_json(&file->lease), "stop_requested", file->stop_requested,
                             "pause_requested", file->pause_requested, "started_ms", (json_int_t)file->started_ms);

    if (file->spec)
        json_object_set_new(json, "spec", task_spec_to_json(file->spec));
    if (file->container)
        json_object_set_new(json, "container", json_string(file->container));
    if (file->phase == LEASE_ENDED)
        json_object_set_new(json, "report", task_report_to_json(&file->report));
    return json;
}

static enum lease_phase phase_from_str(const char *text) {
    for (size_t i = 1; i < G_N_ELEMENTS(phase_names); i++)
        if (strcmp(phase_names[i], text) == 0)
            return (enum lease_phase)i;
    return 0;
}

static void read_parts(struct json_reader *r, struct lease_file *file) {
    const json_t *lease = jr_object(r, "lease", 100), *spec = jr_object_opt(r, "spec", 100);
    const json_t *report = file->phase == LEASE_ENDED ? jr_object(r, "report", 100) : NULL;

    if (r->failed)
        return;
    r->failed = !lease_from_json(lease, &file->lease, r->error) ||
                (spec && !(file->spec = task_spec_from_json(spec, r->error))) ||
                (report && !task_report_from_json(report, &file->report, r->error));
}

static bool file_from_json(const json_t *json, struct lease_file *file, GError **error) {
    struct json_reader r = jr_init(json, "lease file", error);
    const char *container;

    jr_int(&r, "version", VERSION, VERSION);
    file->phase = phase_from_str(jr_str(&r, "phase", 32));
    if (!r.failed && !file->phase)
        jr_fail(&r, "\"phase\" is not known here");
    file->stop_requested = jr_bool_opt(&r, "stop_requested", false);
    file->pause_requested = jr_bool_opt(&r, "pause_requested", false);
    file->started_ms = jr_int_opt(&r, "started_ms", 0, G_MAXINT64, 0);
    container = jr_str_opt(&r, "container", ENGINE_ID_MAX_BYTES, NULL);
    file->container = g_strdup(container);
    read_parts(&r, file);
    return jr_done(&r);
}

/* ---- epochs ---- */

static void note_epoch(struct lease_files *files, const char *uuid, int64_t epoch) {
    int64_t *known = g_hash_table_lookup(files->epochs, uuid);

    if (!known || *known < epoch)
        g_hash_table_replace(files->epochs, g_strdup(uuid), g_memdup2(&epoch, sizeof epoch));
}

static void note_lease(struct lease_files *files, const struct lease *lease) {
    note_epoch(files, NODE_KEY, lease->epoch);
    for (size_t i = 0; i < lease->n_gpus; i++)
        note_epoch(files, lease->gpus[i].uuid, lease->epoch);
}

static bool load_epochs(struct lease_files *files, GError **error) {
    g_autofree char *text = NULL;
    json_t *json, *epoch;
    const char *uuid;
    bool ok = true;
    size_t len;

    if (!fs_exists(files->epochs_path))
        return true;
    if (!fs_read_file(files->epochs_path, MAX_FILE_BYTES, &text, &len, error) ||
        !(json = jsonx_parse(text, len, error)))
        return false;
    json_object_foreach (json, uuid, epoch) {
        if (strlen(uuid) > GPU_UUID_MAX_BYTES || json_integer_value(epoch) <= 0)
            ok = false;
        else
            note_epoch(files, uuid, json_integer_value(epoch));
    }
    ok = (ok && json_is_object(json)) || kr_fail(error, BAD_REQUEST, "%s is damaged", files->epochs_path);
    json_decref(json);
    return ok;
}

static bool save_epochs(struct lease_files *files, GError **error) {
    json_t *json = json_object();
    g_autofree char *text = NULL;
    GHashTableIter iter;
    const char *uuid;
    int64_t *epoch;

    g_hash_table_iter_init(&iter, files->epochs);
    while (g_hash_table_iter_next(&iter, (void **)&uuid, (void **)&epoch))
        json_object_set_new(json, uuid, json_integer(*epoch));
    text = jsonx_to_str(json);
    json_decref(json);
    return fs_write_durable(files->epochs_path, 0600, text, strlen(text), error);
}

bool lease_files_epoch_check(const struct lease_files *files, const struct lease *lease, GError **error) {
    const int64_t *node;

    if (fault_mutant("R1-node-lower-epoch"))
        return true;
    for (size_t i = 0; i < lease->n_gpus; i++) {
        const int64_t *known = g_hash_table_lookup(files->epochs, lease->gpus[i].uuid);
        if (known && *known >= lease->epoch)
            return kr_fail(error, REFUSED,
                           "the lease is out of date: GPU %d (%s) has had epoch %" G_GINT64_FORMAT
                           ", this one is of epoch %" G_GINT64_FORMAT,
                           lease->gpus[i].index, lease->gpus[i].uuid, *known, lease->epoch);
    }
    node = g_hash_table_lookup(files->epochs, NODE_KEY);
    if (node && *node >= lease->epoch)
        return kr_fail(error, REFUSED,
                       "the lease is out of date: node %s has taken epoch %" G_GINT64_FORMAT
                       ", this one is of epoch %" G_GINT64_FORMAT,
                       lease->node, *node, lease->epoch);
    return true;
}

bool lease_files_fence(struct lease_files *files, int64_t epoch, GError **error) {
    const int64_t *known = g_hash_table_lookup(files->epochs, NODE_KEY);

    if (known && *known >= epoch && !files->is_fence_lost)
        return true;
    note_epoch(files, NODE_KEY, epoch);
    files->is_fence_lost = !save_epochs(files, error);
    return !files->is_fence_lost;
}

int64_t lease_files_max_epoch(const struct lease_files *files) {
    int64_t max = 0;
    GHashTableIter iter;
    int64_t *epoch;

    g_hash_table_iter_init(&iter, files->epochs);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&epoch))
        max = MAX(max, *epoch);
    return max;
}

/* ---- files ---- */

struct lease_files *lease_files_open(const char *state_dir, GError **error) {
    struct lease_files *files = g_new0(struct lease_files, 1);

    files->folder = g_build_filename(state_dir, "leases", NULL);
    files->epochs_path = g_build_filename(state_dir, "epochs.json", NULL);
    files->epochs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    if (fs_mkdir_p(files->folder, 0700, error) && load_epochs(files, error))
        return files;
    lease_files_close(files);
    return NULL;
}

void lease_files_close(struct lease_files *files) {
    if (!files)
        return;
    g_free(files->folder);
    g_free(files->epochs_path);
    g_hash_table_unref(files->epochs);
    g_free(files);
}

static char *path_of(const struct lease_files *files, uint32_t task_id) {
    return g_strdup_printf("%s/%u.json", files->folder, task_id);
}

static char *start_path_of(const struct lease_files *files, uint32_t task_id) {
    return g_strdup_printf("%s/%u.started", files->folder, task_id);
}

void lease_files_note_start(struct lease_files *files, uint32_t task_id, int64_t started_ms) {
    g_autofree char *path = start_path_of(files, task_id), *text = g_strdup_printf("%" G_GINT64_FORMAT, started_ms);
    g_autoptr(GError) error = NULL;

    if (!fs_write_plain(path, 0600, text, strlen(text), &error))
        log_debug("%s", error->message); /* it will be looked at again, that is all */
}

static void load_start(struct lease_files *files, struct lease_file *file) {
    g_autofree char *path = start_path_of(files, file->lease.task_id);
    g_autofree char *text = NULL;

    if (file->started_ms == 0 && fs_read_file(path, 64, &text, NULL, NULL))
        file->started_ms = MAX(g_ascii_strtoll(text, NULL, 10), 0);
}

static bool load_one(const char *path, struct lease_file *file, GError **error) {
    g_autofree char *text = NULL;
    json_t *json;
    bool ok;
    size_t len;

    if (!fs_read_file(path, MAX_FILE_BYTES, &text, &len, error))
        return false;
    json = jsonx_parse(text, len, error);
    ok = json && file_from_json(json, file, error);
    json_decref(json);
    if (!ok)
        g_prefix_error(
            error, "the lease file %s cannot be read (if its task certainly runs no more, remove the file): ", path);
    return ok;
}

GPtrArray *lease_files_load(struct lease_files *files, GError **error) {
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(lease_file_free);
    g_auto(GStrv) names = fs_list(files->folder, error);

    if (!names)
        return NULL;
    for (char **name = names; *name; name++) {
        g_autofree char *path = g_build_filename(files->folder, *name, NULL);
        struct lease_file *file;

        if (!g_str_has_suffix(*name, ".json")) /* a temporary that never became a lease */
            continue;
        file = g_new0(struct lease_file, 1);
        g_ptr_array_add(list, file);
        if (!load_one(path, file, error))
            return NULL;
        load_start(files, file);
        note_lease(files, &file->lease);
    }
    return g_steal_pointer(&list);
}

bool lease_files_save(struct lease_files *files, const struct lease_file *file, GError **error) {
    g_autofree char *path = path_of(files, file->lease.task_id);
    json_t *json = file_to_json(file);
    g_autofree char *text = jsonx_to_str(json);

    json_decref(json);
    if (!fs_write_durable(path, 0600, text, strlen(text), error))
        return false;
    note_lease(files, &file->lease);
    return true;
}

bool lease_files_undo(struct lease_files *files, uint32_t task_id, GError **error) {
    g_autofree char *path = path_of(files, task_id);

    return fs_remove_durable(path, error);
}

bool lease_files_remove(struct lease_files *files, const struct lease *lease, GError **error) {
    g_autofree char *path = path_of(files, lease->task_id), *start_path = start_path_of(files, lease->task_id);

    fs_remove_plain(start_path, NULL); /* without its lease file it says nothing */
    note_lease(files, lease);
    return save_epochs(files, error) && fs_remove_durable(path, error);
}
