#include "core/ledger.h"

#include <string.h>

#include "base/fault.h"

struct ledger {
    GHashTable *by_node; /* node -> GPtrArray of entries, which it owns */
    GHashTable *by_gpu;  /* uuid (in the entry) -> entry */
    int64_t last_epoch;
    void (*on_change)(void *user, const char *node); /* NULL: nobody watches */
    void *user;
};

static void entry_free(struct ledger_entry *entry) {
    g_free(entry->label);
    g_free(entry);
}

struct ledger *ledger_new(void) {
    struct ledger *ledger = g_new0(struct ledger, 1);

    ledger->by_node = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_ptr_array_unref);
    ledger->by_gpu = g_hash_table_new(g_str_hash, g_str_equal);
    return ledger;
}

void ledger_free(struct ledger *ledger) {
    if (!ledger)
        return;
    g_hash_table_unref(ledger->by_gpu);
    g_hash_table_unref(ledger->by_node);
    g_free(ledger);
}

void ledger_watch(struct ledger *ledger, void (*on_change)(void *user, const char *node), void *user) {
    ledger->on_change = on_change;
    ledger->user = user;
}

int64_t ledger_next_epoch(struct ledger *ledger) { return ++ledger->last_epoch; }
int64_t ledger_last_epoch(const struct ledger *ledger) { return ledger->last_epoch; }
void ledger_raise_epoch(struct ledger *ledger, int64_t epoch) { ledger->last_epoch = MAX(ledger->last_epoch, epoch); }

const struct ledger_entry *ledger_holder(const struct ledger *ledger, const char *gpu_uuid) {
    return g_hash_table_lookup(ledger->by_gpu, gpu_uuid);
}

const GPtrArray *ledger_of_node(const struct ledger *ledger, const char *node) {
    return g_hash_table_lookup(ledger->by_node, node);
}

static bool is_named(const struct ledger_entry *entry, uint32_t task_id, int64_t epoch) {
    return entry->lease.task_id == task_id && entry->lease.epoch == epoch;
}

const struct ledger_entry *ledger_find(const struct ledger *ledger, const char *node, uint32_t task_id, int64_t epoch) {
    const GPtrArray *entries = ledger_of_node(ledger, node);

    for (guint i = 0; entries && i < entries->len; i++)
        if (is_named(entries->pdata[i], task_id, epoch))
            return entries->pdata[i];
    return NULL;
}

static GPtrArray *entries_of(struct ledger *ledger, const char *node) {
    GPtrArray *entries = g_hash_table_lookup(ledger->by_node, node);

    if (!entries) {
        entries = g_ptr_array_new_with_free_func((GDestroyNotify)entry_free);
        g_hash_table_insert(ledger->by_node, g_strdup(node), entries);
    }
    return entries;
}

static bool is_held(const struct ledger *ledger, const struct lease *lease) {
    for (size_t i = 0; i < lease->n_gpus; i++)
        if (ledger_holder(ledger, lease->gpus[i].uuid))
            return true;
    return ledger_find(ledger, lease->node, lease->task_id, lease->epoch) != NULL;
}

bool ledger_grant(struct ledger *ledger, const struct lease *lease, const char *label, bool is_orphan) {
    struct ledger_entry *entry;

    if (is_held(ledger, lease) && !fault_mutant("R1-no-ledger"))
        return false;
    entry = g_new0(struct ledger_entry, 1);
    entry->lease = *lease;
    entry->label = g_strndup(label, LEDGER_LABEL_BYTES);
    entry->is_orphan = is_orphan;
    for (size_t i = 0; i < lease->n_gpus; i++)
        g_hash_table_insert(ledger->by_gpu, entry->lease.gpus[i].uuid, entry);
    g_ptr_array_add(entries_of(ledger, lease->node), entry);
    ledger_raise_epoch(ledger, lease->epoch);
    if (ledger->on_change)
        ledger->on_change(ledger->user, lease->node);
    return true;
}

bool ledger_release(struct ledger *ledger, const char *node, uint32_t task_id, int64_t epoch) {
    const struct ledger_entry *entry = ledger_find(ledger, node, task_id, epoch);

    if (!entry)
        return false;
    for (size_t i = 0; i < entry->lease.n_gpus; i++)
        g_hash_table_remove(ledger->by_gpu, entry->lease.gpus[i].uuid);
    g_ptr_array_remove_fast(g_hash_table_lookup(ledger->by_node, node), (gpointer)entry);
    if (ledger->on_change)
        ledger->on_change(ledger->user, node);
    return true;
}

int ledger_cores_reserved(const struct ledger *ledger, const char *node, int numa) {
    const GPtrArray *entries = ledger_of_node(ledger, node);
    int cores = 0;

    for (guint i = 0; entries && i < entries->len; i++) {
        const struct ledger_entry *entry = entries->pdata[i];
        if (numa == TARGET_NO_NUMA || entry->lease.numa == numa)
            cores += entry->lease.cores;
    }
    return cores;
}

int64_t ledger_mem_reserved(const struct ledger *ledger, const char *node) {
    const GPtrArray *entries = ledger_of_node(ledger, node);
    int64_t bytes = 0;

    for (guint i = 0; entries && i < entries->len; i++)
        bytes += ((const struct ledger_entry *)entries->pdata[i])->lease.mem_bytes;
    return bytes;
}

static size_t check_node(const struct ledger *ledger, const GPtrArray *entries) {
    size_t n_gpus = 0;

    for (guint i = 0; i < entries->len; i++) {
        const struct ledger_entry *entry = entries->pdata[i];
        g_assert(entry->lease.epoch <= ledger->last_epoch);
        for (size_t k = 0; k < entry->lease.n_gpus; k++)
            g_assert(ledger_holder(ledger, entry->lease.gpus[k].uuid) == entry);
        for (guint k = 0; k < i; k++)
            g_assert(!is_named(entries->pdata[k], entry->lease.task_id, entry->lease.epoch));
        n_gpus += entry->lease.n_gpus;
    }
    return n_gpus;
}

void ledger_check(const struct ledger *ledger) {
    GHashTableIter iter;
    gpointer entries;
    size_t n_gpus = 0;

    g_hash_table_iter_init(&iter, ledger->by_node);
    while (g_hash_table_iter_next(&iter, NULL, &entries))
        n_gpus += check_node(ledger, entries);
    g_assert(n_gpus == g_hash_table_size(ledger->by_gpu));
}
