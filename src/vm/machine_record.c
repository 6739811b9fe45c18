#include "vm/machine_record.h"

#include <string.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"

enum { MAX_RECORD_BYTES = 2 * 1024 * 1024, MAX_NAME_BYTES = 128, MAX_TEXT_BYTES = 16 * 1024, MAX_LABELS = 64 };
#define RECORD_FILE "record.json"

static const char *const state_names[MACHINE_STATE_COUNT_] = {"unset", "created", "starting", "running", "ended"};

void machine_record_free(struct machine_record *record) {
    if (!record)
        return;
    g_free(record->name);
    g_clear_pointer(&record->labels, g_hash_table_unref);
    vm_spec_free(record->vm);
    g_free(record->cpus);
    g_free(record->numa_nodes);
    g_strfreev(record->gpu_pci);
    g_clear_pointer(&record->functions, g_array_unref);
    g_free(record->error);
    g_free(record);
}

/* ---- to JSON ---- */

static json_t *labels_to_json(GHashTable *labels) {
    json_t *json = json_object();
    GHashTableIter iter;
    void *key, *value;

    g_hash_table_iter_init(&iter, labels);
    while (g_hash_table_iter_next(&iter, &key, &value))
        json_object_set_new(json, key, json_string(value));
    return json;
}

static json_t *functions_to_json(const GArray *functions) {
    json_t *json = json_array();

    for (guint i = 0; i < functions->len; i++) {
        const struct qemu_function *f = &g_array_index(functions, struct qemu_function, i);
        json_array_append_new(json, json_pack("{s:s,s:i}", "address", f->address, "class", (int)f->pci_class));
    }
    return json;
}

static json_t *strv_to_json(char *const *strv) {
    json_t *json = json_array();

    for (; strv && *strv; strv++)
        json_array_append_new(json, json_string(*strv));
    return json;
}

json_t *machine_record_to_json(const struct machine_record *r) {
    json_t *json = json_pack(
        "{s:s,s:o,s:o,s:i,s:I,s:I,s:s,s:s,s:o,s:s,s:o,s:i,s:I,s:I,s:I,s:b,s:b,s:i}", "name", r->name, "labels",
        labels_to_json(r->labels), "vm", vm_spec_to_json(r->vm), "cores", r->cores, "mem_bytes",
        (json_int_t)r->mem_bytes, "log_max_bytes", (json_int_t)r->log_max_bytes, "cpus", r->cpus, "numa_nodes",
        r->numa_nodes, "gpu_pci", strv_to_json(r->gpu_pci), "state", state_names[r->state], "functions",
        functions_to_json(r->functions), "ssh_port", r->ssh_port, "created_ms", (json_int_t)r->created_ms, "started_ms",
        (json_int_t)r->started_ms, "finished_ms", (json_int_t)r->finished_ms, "was_ready", r->was_ready, "was_killed",
        r->was_killed, "exit_code", r->exit_code);

    if (r->error)
        json_object_set_new(json, "error", json_string(r->error));
    return json;
}

/* ---- from JSON ---- */

static GHashTable *labels_from_json(struct json_reader *r) {
    GHashTable *labels = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    json_t *object = (json_t *)jr_object(r, "labels", MAX_LABELS), *value;
    const char *key;

    json_object_foreach (object, key, value)
        g_hash_table_insert(labels, g_strdup(key), g_strdup(json_is_string(value) ? json_string_value(value) : ""));
    return labels;
}

static GArray *functions_from_json(struct json_reader *r) {
    GArray *functions = g_array_new(FALSE, TRUE, sizeof(struct qemu_function));
    const json_t *array = jr_array(r, "functions", QEMU_MAX_FUNCTIONS);
    size_t i;
    json_t *item;

    json_array_foreach (array, i, item) {
        struct json_reader one = jr_init(item, "function", r->error);
        const char *address = jr_str(&one, "address", QEMU_ADDRESS_BYTES - 1);
        struct qemu_function f = {.pci_class = (unsigned)jr_int(&one, "class", 0, 0xffff)};
        g_strlcpy(f.address, address ? address : "", sizeof f.address);
        r->failed = r->failed || !jr_done(&one);
        g_array_append_val(functions, f);
    }
    return functions;
}

static enum machine_state state_from_str(struct json_reader *r, const char *text) {
    for (int i = 1; text && i < MACHINE_STATE_COUNT_; i++)
        if (strcmp(text, state_names[i]) == 0)
            return (enum machine_state)i;
    jr_fail(r, "there is no such state");
    return MACHINE_UNSET;
}

static void read_progress(struct json_reader *r, struct machine_record *record) {
    record->state = state_from_str(r, jr_str(r, "state", 16));
    record->functions = functions_from_json(r);
    record->ssh_port = (int)jr_int(r, "ssh_port", 0, 65535);
    record->created_ms = jr_int(r, "created_ms", 0, G_MAXINT64);
    record->started_ms = jr_int(r, "started_ms", 0, G_MAXINT64);
    record->finished_ms = jr_int(r, "finished_ms", 0, G_MAXINT64);
    record->was_ready = jr_bool_opt(r, "was_ready", false);
    record->was_killed = jr_bool_opt(r, "was_killed", false);
    record->exit_code = (int)jr_int(r, "exit_code", 0, 255);
    record->error = g_strdup(jr_str_opt(r, "error", MAX_TEXT_BYTES, NULL));
}

struct machine_record *machine_record_from_json(const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "machine", error);
    struct machine_record *record = g_new0(struct machine_record, 1);

    record->name = g_strdup(jr_str(&r, "name", MAX_NAME_BYTES));
    record->labels = labels_from_json(&r);
    record->cores = (int)jr_int(&r, "cores", 1, G_MAXINT32);
    record->mem_bytes = jr_int(&r, "mem_bytes", 1, G_MAXINT64);
    record->log_max_bytes = jr_int(&r, "log_max_bytes", 0, G_MAXINT64);
    record->cpus = g_strdup(jr_str(&r, "cpus", 1024));
    record->numa_nodes = g_strdup(jr_str(&r, "numa_nodes", 64));
    record->gpu_pci = jr_strv_opt(&r, "gpu_pci", QEMU_MAX_FUNCTIONS, QEMU_ADDRESS_BYTES - 1);
    read_progress(&r, record);
    if (!r.failed) {
        record->vm = vm_spec_from_json(jr_object(&r, "vm", 64), error);
        r.failed = !record->vm;
    }
    if (jr_done(&r))
        return record;
    machine_record_free(record);
    return NULL;
}

bool machine_record_save(const struct machine_record *record, const char *folder, GError **error) {
    g_autofree char *path = g_build_filename(folder, RECORD_FILE, NULL), *text = NULL;
    json_t *json = machine_record_to_json(record);

    text = jsonx_to_str(json);
    json_decref(json);
    return fs_write_durable(path, 0600, text, strlen(text), error);
}

struct machine_record *machine_record_load(const char *folder, GError **error) {
    g_autofree char *path = g_build_filename(folder, RECORD_FILE, NULL), *text = NULL;
    struct machine_record *record;
    size_t len;
    json_t *json;

    if (!fs_read_file(path, MAX_RECORD_BYTES, &text, &len, error) || !(json = jsonx_parse(text, len, error)))
        return NULL;
    record = machine_record_from_json(json, error);
    json_decref(json);
    return record;
}
