#include "core/controller_internal.h"

void submit_key_free(struct submit_key *key) {
    if (!key)
        return;
    g_free(key->key);
    g_free(key->fingerprint);
    g_free(key->batch_id);
    g_free(key);
}

struct record *record_new(void) {
    struct record *record = g_new0(struct record, 1);

    record->tasks = g_ptr_array_new_with_free_func((GDestroyNotify)task_free);
    record->events = g_ptr_array_new_with_free_func((GDestroyNotify)task_event_free);
    return record;
}

struct record *record_of_task(struct task *task) {
    struct record *record = record_new();

    g_ptr_array_add(record->tasks, task);
    return record;
}

void record_free(struct record *record) {
    if (!record)
        return;
    g_ptr_array_unref(record->tasks);
    g_ptr_array_unref(record->events);
    pardon_free(record->pardon);
    submit_key_free(record->key);
    vps_free(record->vps);
    mark_free(record->mark);
    g_free(record->unmark);
    audit_free(record->audit);
    controller_free_submit(record->submit);
    g_free(record);
}
