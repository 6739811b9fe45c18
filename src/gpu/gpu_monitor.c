/* Joins what three places know of a card into one snapshot: the worker's report (gpu_link.c, gpu_report.c), the memory of
 * earlier days (gpu_index.c), and which cards our own leases hold (set_leased). A snapshot is replaced as a whole. */

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/units.h"
#include "gpu/gpu_monitor_internal.h"
#include "model/xid.h"

enum {
    SLOW_EVERY_MS = 5000, /* where the configuration does not say */
    PROCESSES_EVERY_MS = 10000,
    HEALTH_EVERY_MS = 60000,
    REST_SAMPLES = 2,      /* in a row, until an unused card counts as proved at rest */
    REST_AGAIN_MS = 200,   /* to the next sample while that is not reached */
    SUSPECT_MIN_MS = 5000, /* how long a card at which the worker hung is left alone; doubled each time */
    SUSPECT_MAX_MS = 300000,
};

/* A card is back at rest when its memory is within this of the least it was ever seen with unused… */
static const int64_t idle_margin_bytes = 128LL * 1024 * 1024;
/* …and below this when it was never seen unused. More than a driver takes for itself, so never learned as idle. */
static const int64_t idle_max_bytes = 1024LL * 1024 * 1024;

/* A card at which the worker hung or died. It is unknown by itself; the others go on (L57). */
struct suspect {
    int64_t until_ms; /* monotonic: not touched before */
    int64_t pause_ms;
};

static void sample(struct gpu_monitor *monitor);

static void holders_free(struct holders *holders) {
    g_free(holders->text);
    g_free(holders);
}

struct holders *monitor_holders(struct gpu_monitor *monitor, const char *uuid) {
    struct holders *holders = g_hash_table_lookup(monitor->holders, uuid);

    if (!holders) {
        holders = g_new0(struct holders, 1);
        g_hash_table_insert(monitor->holders, g_strdup(uuid), holders);
    }
    return holders;
}

char *monitor_memory_why(const struct gpu_monitor *monitor, const struct gpu *gpu) {
    const struct gpu_index_entry *entry = gpu_index_by_uuid(monitor->index, gpu->uuid);
    int64_t idle_bytes = entry ? entry->idle_bytes : -1;
    char text[UNITS_TEXT_BYTES];

    if (!gpu_has(gpu, GPU_MEM_USED))
        return NULL;
    if (idle_bytes < 0 && gpu_figure(gpu, GPU_MEM_USED) > idle_max_bytes)
        return g_strdup_printf("%s of its memory is in use and no process shows",
                               units_bytes_to_str(gpu_figure(gpu, GPU_MEM_USED), text));
    if (idle_bytes < 0 || gpu_figure(gpu, GPU_MEM_USED) <= idle_bytes + idle_margin_bytes)
        return NULL;
    return g_strdup_printf("%s above its idle memory and no process shows",
                           units_bytes_to_str(gpu_figure(gpu, GPU_MEM_USED) - idle_bytes, text));
}

/* ---- the snapshot ---- */

static int compare_index(const void *a, const void *b) {
    return (*(struct gpu *const *)a)->index - (*(struct gpu *const *)b)->index;
}

/* Takes over `gpus` and `text`. */
static void publish(struct gpu_monitor *monitor, GPtrArray *gpus, bool known, char *text, int64_t taken_ms) {
    if (monitor->snapshot.gpus)
        g_ptr_array_unref(monitor->snapshot.gpus);
    g_free(monitor->snapshot.text);
    g_ptr_array_sort(gpus, compare_index);
    monitor->snapshot.gpus = gpus;
    monitor->snapshot.known = known;
    monitor->snapshot.text = text;
    monitor->snapshot.taken_ms = taken_ms;
}

static struct gpu *gpu_from_entry(const struct gpu_index_entry *entry, enum gpu_condition condition, const char *why) {
    struct gpu *gpu = gpu_new();

    gpu->index = entry->index;
    g_strlcpy(gpu->uuid, entry->uuid, sizeof gpu->uuid);
    g_strlcpy(gpu->pci, entry->pci, sizeof gpu->pci);
    g_strlcpy(gpu->name, entry->name, sizeof gpu->name);
    gpu->condition = condition;
    gpu->reason = g_strdup(why);
    memcpy(gpu->xids, entry->xids, sizeof gpu->xids);
    gpu->n_xids = entry->n_xids;
    return gpu;
}

/* Cards that are remembered and not in the list yet. One whose slot another card took has no address to be shown at. */
static void add_remembered(struct gpu_monitor *monitor, GPtrArray *gpus, enum gpu_condition condition,
                           const char *why) {
    const GPtrArray *entries = gpu_index_entries(monitor->index);

    for (guint i = 0; i < entries->len && gpus->len < NODE_MAX_GPUS; i++) {
        const struct gpu_index_entry *entry = entries->pdata[i];
        bool is_listed = entry->pci[0] == '\0';

        for (guint k = 0; k < gpus->len; k++)
            is_listed |= ((struct gpu *)gpus->pdata[k])->index == entry->index;
        if (!is_listed)
            g_ptr_array_add(gpus, gpu_from_entry(entry, condition, why));
    }
}

/* What does not change by itself stays; figures of the moment go. */
static struct gpu *gpu_turned_unknown(const struct gpu *gpu, const char *why) {
    struct gpu *copy = gpu_copy(gpu);

    copy->condition = GPU_CONDITION_UNKNOWN;
    copy->proof = (struct proof){0};
    for (int i = 0; i < GPU_FIGURE_COUNT_; i++)
        if (i != GPU_MEM_TOTAL && i != GPU_MINOR && i != GPU_NUMA && i != GPU_IOMMU_GROUP && i != GPU_POWER_LIMIT)
            gpu_unset(copy, i);
    g_free(copy->reason);
    copy->reason = g_strdup(why);
    return copy;
}

void monitor_turn_unknown(struct gpu_monitor *monitor, const char *why) {
    GPtrArray *gpus = g_ptr_array_new_with_free_func((GDestroyNotify)gpu_free);
    const GPtrArray *last = monitor->snapshot.gpus;
    bool known = monitor->snapshot.taken_ms > 0 && monitor->snapshot.known;

    for (guint i = 0; last && i < last->len; i++)
        g_ptr_array_add(gpus, gpu_turned_unknown(last->pdata[i], why));
    add_remembered(monitor, gpus, GPU_CONDITION_UNKNOWN, why);
    publish(monitor, gpus, known || gpus->len > 0, g_strdup(why), monitor->snapshot.taken_ms);
}

/* The worker hung at cards that are known now: they are unknown, and what was last seen of the others stands until the
 * next worker tells, in a moment. */
static void turn_suspects_unknown(struct gpu_monitor *monitor, const char *why) {
    GPtrArray *gpus = g_ptr_array_new_with_free_func((GDestroyNotify)gpu_free);
    const GPtrArray *last = monitor->snapshot.gpus;

    for (guint i = 0; i < last->len; i++) {
        const struct gpu *gpu = last->pdata[i];
        bool is_suspect = g_hash_table_contains(monitor->suspects, gpu->pci);
        g_ptr_array_add(gpus, is_suspect ? gpu_turned_unknown(gpu, why) : gpu_copy(gpu));
    }
    publish(monitor, gpus, monitor->snapshot.known, g_strdup(monitor->snapshot.text), monitor->snapshot.taken_ms);
}

static void save_index(struct gpu_monitor *monitor) {
    g_autoptr(GError) error = NULL;

    if (gpu_index_save(monitor->index, &error)) {
        monitor->save_failed = false;
        return;
    }
    if (!monitor->save_failed)
        log_error("%s; tried again with each sample", error->message);
    monitor->save_failed = true;
}

/* ---- XIDs ---- */

static bool is_new_code(const struct gpu_index_entry *entry, int code) {
    for (size_t i = 0; i < entry->n_xids; i++)
        if (entry->xids[i].code == code)
            return false;
    return true;
}

/* Told once of each code: a storm of them must not fill the log. */
static void log_xid(const struct gpu_index_entry *entry, const struct gpu_xid *xid) {
    const struct xid_meaning *meaning = xid_meaning(xid->code);

    if (is_new_code(entry, xid->code))
        log_at(meaning->class >= XID_SUSPECT ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "GPU %d (%s, %s): XID %d: %s (%s)",
               entry->index, entry->pci, entry->uuid, xid->code, meaning->text, xid_class_to_str(meaning->class));
}

void monitor_note_xids(struct gpu_monitor *monitor, struct gpu *gpu) {
    const struct gpu_index_entry *entry = gpu_index_of(monitor->index, gpu);
    struct holders *holders = entry && entry->uuid[0] ? monitor_holders(monitor, entry->uuid) : NULL;

    for (size_t i = gpu->n_xids; entry && i-- > 0;) {
        log_xid(entry, &gpu->xids[i]);
        if (!holders || xid_meaning(gpu->xids[i].code)->class < XID_SUSPECT)
            continue;
        holders->bad_xids++;
        holders->bad_code = gpu->xids[i].code;
    }
    gpu_index_note_xids(monitor->index, gpu);
}

void monitor_note_log(struct gpu_monitor *monitor, const struct gpu_report *report) {
    gpu_index_set_xids_at_us(monitor->index, report->xids_at_us);
}

/* The driver said that the card is gone, and it does not answer: that is no riddle. */
static void judge_death(struct gpu *gpu) {
    const struct xid_meaning *newest = gpu->n_xids ? xid_meaning(gpu->xids[0].code) : NULL;
    char *reason;

    if (!newest || newest->class != XID_DEAD || gpu->condition != GPU_CONDITION_UNKNOWN)
        return;
    reason = g_strdup_printf("XID %d: %s; %s", gpu->xids[0].code, newest->text,
                             gpu->reason ? gpu->reason : "no answer");
    g_free(gpu->reason);
    gpu->reason = reason;
    gpu->condition = GPU_CONDITION_FAULT;
}

/* ---- use ---- */

/* A list that was asked for before the lease changed may still show the task that is gone, or not yet the one that
 * came. */
static void note_users(struct gpu_monitor *monitor, const struct gpu_report_card *card, const char *uuid) {
    struct holders *holders;

    if (!card->users || !uuid[0])
        return;
    holders = monitor_holders(monitor, uuid);
    if (holders->lease_began && monitor->asked_ms <= holders->lease_began) {
        monitor->wants_processes = true;
        return;
    }
    g_free(holders->text);
    holders->text = gpu_users_to_str(card->users);
    holders->is_listed = !card->users_error;
    if (!holders->text && !card->users_error && !holders->is_leased && gpu_has(card->gpu, GPU_MEM_USED) &&
        gpu_figure(card->gpu, GPU_MEM_USED) <= idle_max_bytes && card->gpu->condition == GPU_CONDITION_OK)
        gpu_index_learn_idle(monitor->index, uuid, gpu_figure(card->gpu, GPU_MEM_USED));
}

/* A card that no lease of ours holds and nobody uses: proved to be at rest when it is so for some samples in a row (R2),
 * with no XID between them that is worse than an application's own. */
static void note_rest(struct gpu_monitor *monitor, struct gpu *gpu, struct holders *holders) {
    if (!holders || !holders->is_listed)
        return;
    holders->rest_samples = holders->bad_xids == holders->rest_bad_xids ? holders->rest_samples + 1 : 0;
    holders->rest_bad_xids = holders->bad_xids;
    if (holders->rest_samples >= REST_SAMPLES)
        gpu->proof = (struct proof){.facts = PROOF_CARD, .samples = holders->rest_samples};
    else
        monitor->wants_rest = true;
}

/* A card that no lease of ours holds and that is not at rest is somebody else's (L10, L65). */
static void judge_use(struct gpu_monitor *monitor, struct gpu *gpu) {
    struct holders *holders = gpu->uuid[0] ? g_hash_table_lookup(monitor->holders, gpu->uuid) : NULL;
    g_autofree char *memory = NULL;

    bool can_be_used = gpu->condition == GPU_CONDITION_OK || gpu->condition == GPU_CONDITION_BARE;

    if (!can_be_used && holders)
        holders->rest_samples = 0;
    if (!can_be_used || (holders && holders->is_leased))
        return;
    if (!holders || !holders->text) {
        memory = monitor_memory_why(monitor, gpu);
        monitor->wants_processes |= memory != NULL;
    }
    if (!memory && (!holders || !holders->text)) {
        note_rest(monitor, gpu, holders);
        return;
    }
    if (holders)
        holders->rest_samples = 0;
    gpu->condition = GPU_CONDITION_FOREIGN;
    g_free(gpu->reason);
    gpu->reason = memory ? g_steal_pointer(&memory) : g_strdup_printf("%s without a lease", holders->text);
}

/* ---- where they sit ---- */

static guint picture_of(const GPtrArray *gpus) {
    guint hash = 1;

    for (guint i = 0; i < gpus->len; i++) {
        const struct gpu *gpu = gpus->pdata[i];
        hash = hash * 31 + g_str_hash(gpu->uuid) * 7 + g_str_hash(gpu->pci) +
               (gpu->condition == GPU_CONDITION_OK || gpu->condition == GPU_CONDITION_FOREIGN);
    }
    return hash;
}

/* What the driver told of a card's links stands while it cannot be asked: the wires stay where they are. */
static void note_site(struct gpu_monitor *monitor, struct gpu_report_card *card, const char *uuid) {
    struct gpu_site *site = g_steal_pointer(&card->site);
    struct gpu_site *old = g_hash_table_lookup(monitor->sites, uuid);

    g_strlcpy(site->uuid, uuid, sizeof site->uuid);
    if (old && !site->nvlinks && strcmp(old->pci, site->pci) == 0)
        site->nvlinks = g_steal_pointer(&old->nvlinks);
    g_hash_table_replace(monitor->sites, site->uuid, site);
}

json_t *gpu_monitor_topology(const struct gpu_monitor *monitor) {
    const GPtrArray *entries = gpu_index_entries(monitor->index);
    g_autoptr(GPtrArray) sites = g_ptr_array_new();

    for (guint i = 0; i < entries->len; i++) {
        const struct gpu_index_entry *entry = entries->pdata[i];
        struct gpu_site *site = entry->uuid[0] ? g_hash_table_lookup(monitor->sites, entry->uuid) : NULL;

        if (!site)
            continue;
        site->index = entry->index;
        g_ptr_array_add(sites, site);
    }
    return gpu_topology_to_json(sites);
}

/* ---- a report ---- */

static void take_card(struct gpu_monitor *monitor, struct gpu_report_card *card, struct gpu *gpu) {
    monitor_note_xids(monitor, gpu);
    note_users(monitor, card, gpu->uuid);
    judge_use(monitor, gpu);
    judge_death(gpu);
    if (card->site && gpu->uuid[0])
        note_site(monitor, card, gpu->uuid);
}

static void take_report(struct gpu_monitor *monitor, struct gpu_report *report) {
    GPtrArray *gpus = g_ptr_array_new_with_free_func((GDestroyNotify)gpu_free);

    for (guint i = 0; i < report->cards->len; i++)
        g_ptr_array_add(gpus, gpu_copy(((struct gpu_report_card *)report->cards->pdata[i])->gpu));
    if (report->driver)
        gpu_index_set_driver(monitor->index, report->driver);
    gpu_index_assign(monitor->index, gpus);
    monitor_note_log(monitor, report);
    for (guint i = gpus->len; i-- > 0;) {
        take_card(monitor, report->cards->pdata[i], gpus->pdata[i]);
        if (((struct gpu *)gpus->pdata[i])->index < 0) /* the index is full */
            g_ptr_array_remove_index(gpus, i);
    }
    monitor->wants_sites |= picture_of(gpus) != monitor->cards_picture;
    monitor->cards_picture = picture_of(gpus);
    add_remembered(monitor, gpus, GPU_CONDITION_REMOVED, "gone from the bus");
    save_index(monitor);
    monitor->snapshot.simulated = report->is_simulated;
    publish(monitor, gpus, true, g_steal_pointer(&report->text), clock_mono_ms());
}

/* ---- sampling ---- */

static void on_worker_stuck(void *user, const char *address) {
    struct gpu_monitor *monitor = user;
    struct suspect *suspect = g_hash_table_lookup(monitor->suspects, address);

    if (!suspect) {
        suspect = g_new0(struct suspect, 1);
        g_hash_table_insert(monitor->suspects, g_strdup(address), suspect);
    }
    suspect->pause_ms = suspect->pause_ms ? MIN(suspect->pause_ms * 2, SUSPECT_MAX_MS) : SUSPECT_MIN_MS;
    suspect->until_ms = clock_mono_ms() + suspect->pause_ms;
    monitor->blames_card = true;
}

/* A suspect is tried again after its pause, unless a worker still hangs in the driver: another one would only join it. */
static bool is_left_out(const struct gpu_monitor *monitor, const struct suspect *suspect) {
    return clock_mono_ms() < suspect->until_ms || gpu_link_n_stuck(monitor->link) > 0;
}

json_t *monitor_left_out(const struct gpu_monitor *monitor) {
    json_t *list = json_array();
    GHashTableIter iter;
    void *address, *suspect;

    g_hash_table_iter_init(&iter, monitor->suspects);
    while (g_hash_table_iter_next(&iter, &address, &suspect))
        if (is_left_out(monitor, suspect))
            json_array_append_new(list, json_string(address));
    return list;
}

/* A sample that touched a suspect came back: it is none any more. */
static void acquit(struct gpu_monitor *monitor, const json_t *was_left_out) {
    GHashTableIter iter;
    void *address;

    g_hash_table_iter_init(&iter, monitor->suspects);
    while (g_hash_table_iter_next(&iter, &address, NULL)) {
        bool was_touched = true;
        for (size_t i = 0; i < json_array_size(was_left_out); i++)
            was_touched &= strcmp(json_string_value(json_array_get(was_left_out, i)), address) != 0;
        if (was_touched)
            g_hash_table_iter_remove(&iter);
    }
}

static void on_sample_time(uv_timer_t *timer) { sample(timer->data); }

static void on_sample(void *user, const json_t *answer, const char *why) {
    struct gpu_monitor *monitor = user;
    g_autoptr(GError) error = NULL;
    struct gpu_report *report = answer ? gpu_report_from_json(answer, &error) : NULL;

    monitor->sampling = NULL;
    monitor->failures = answer ? 0 : monitor->failures + 1;
    monitor->wants_sites |= !answer;
    if (answer)
        acquit(monitor, monitor->was_left_out);
    if (report && report->has_inventory) {
        if (monitor->asked_processes)
            monitor->processes_ms = monitor->asked_ms;
        take_report(monitor, report);
    } else if (report) {
        monitor_turn_unknown(monitor, report->text);
        monitor->snapshot.known = false;
    } else if (monitor->failures == 1 && monitor->blames_card && monitor->snapshot.taken_ms > 0) {
        turn_suspects_unknown(monitor, why);
    } else {
        monitor_turn_unknown(monitor, answer ? error->message : why);
    }
    gpu_report_free(report);
    uv_timer_start(monitor->timer, on_sample_time,
                   (uint64_t)(monitor->wants_rest ? MIN(REST_AGAIN_MS, monitor->interval_ms) : monitor->interval_ms),
                   0);
    monitor->wants_rest = false;
    if (monitor->on_update)
        monitor->on_update(monitor->user);
}

static void sample(struct gpu_monitor *monitor) {
    json_t *request = json_pack("{s:s,s:I,s:I,s:I}", "op", "sample", "slow_ms", (json_int_t)monitor->slow_interval_ms,
                                "rare_ms", (json_int_t)monitor->health_interval_ms, "xids_after_us",
                                (json_int_t)gpu_index_xids_at_us(monitor->index));

    uv_timer_stop(monitor->timer);
    monitor->asked_ms = clock_mono_ms();
    monitor->blames_card = false;
    monitor->asked_processes = monitor->wants_processes || monitor->processes_ms == 0 ||
                               monitor->asked_ms - monitor->processes_ms >= monitor->process_interval_ms;
    monitor->wants_processes = false;
    json_object_set_new(request, "processes", json_boolean(monitor->asked_processes));
    json_object_set_new(request, "sites", json_boolean(monitor->wants_sites));
    monitor->wants_sites = false;
    json_decref(monitor->was_left_out);
    monitor->was_left_out = monitor_left_out(monitor);
    json_object_set(request, "leave_out", monitor->was_left_out);
    monitor->sampling = gpu_link_ask(monitor->link, request, on_sample, monitor);
}

/* A fresh worker is asked at once: the cards have been unknown long enough. */
static void on_worker_started(void *user) {
    struct gpu_monitor *monitor = user;

    if (!monitor->sampling)
        sample(monitor);
}

void gpu_monitor_set_leased(struct gpu_monitor *monitor, const char *uuid, bool leased) {
    struct holders *holders = monitor_holders(monitor, uuid);

    gpu_index_pin(monitor->index, uuid, leased);
    if (holders->is_leased == leased)
        return;
    holders->is_leased = leased;
    holders->lease_began = clock_mono_ms();
    holders->is_listed = false;
    holders->rest_samples = 0;
    g_clear_pointer(&holders->text, g_free);
    monitor->wants_processes |= !leased;
}

const struct gpu_snapshot *gpu_monitor_snapshot(const struct gpu_monitor *monitor) { return &monitor->snapshot; }

/* ---- life ---- */

static uv_timer_t *timer_new(struct gpu_monitor *monitor) {
    uv_timer_t *timer = g_new0(uv_timer_t, 1);

    uv_timer_init(monitor->loop, timer);
    timer->data = monitor;
    return timer;
}

struct gpu_monitor *gpu_monitor_new(uv_loop_t *loop, const struct gpu_monitor_config *config,
                                    void (*on_update)(void *user), void *user, GError **error) {
    struct gpu_link_config link = {config->worker_exe ? config->worker_exe : "/proc/self/exe", config->sysfs_root,
                                   config->nvml_library, config->deadline_ms};
    const struct gpu_link_handlers handlers = {on_worker_started, on_worker_stuck};
    struct gpu_index *index = gpu_index_load(config->index_file, error);
    struct gpu_monitor *monitor;

    if (index)
        gpu_index_set_boot(index, config->boot_id ? config->boot_id : "");
    if (!index || !gpu_index_save(index, error)) {
        gpu_index_free(index);
        return NULL;
    }
    monitor = g_new0(struct gpu_monitor, 1);
    monitor->loop = loop;
    monitor->index = index;
    monitor->interval_ms = config->interval_ms;
    monitor->slow_interval_ms = config->slow_interval_ms ? config->slow_interval_ms : SLOW_EVERY_MS;
    monitor->process_interval_ms = config->process_interval_ms ? config->process_interval_ms : PROCESSES_EVERY_MS;
    monitor->health_interval_ms = config->health_interval_ms ? config->health_interval_ms : HEALTH_EVERY_MS;
    monitor->deadline_ms = config->deadline_ms;
    monitor->away = g_new0(char *, 1);
    monitor->wants_sites = true;
    monitor->on_update = on_update;
    monitor->user = user;
    monitor->holders = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)holders_free);
    monitor->suspects = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    monitor->sites = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)gpu_site_free);
    monitor->checks = g_hash_table_new(NULL, NULL);
    monitor->queries = g_hash_table_new(NULL, NULL);
    monitor->timer = timer_new(monitor);
    monitor->let_go = timer_new(monitor);
    monitor_turn_unknown(monitor, "the first look at the GPUs is not done yet");
    monitor->link = gpu_link_new(loop, &link, &handlers, monitor);
    sample(monitor);
    return monitor;
}

static void on_timer_closed(uv_handle_t *handle) { g_free(handle); }

void gpu_monitor_free(struct gpu_monitor *monitor) {
    if (!monitor)
        return;
    gpu_link_free(monitor->link);
    uv_close((uv_handle_t *)monitor->timer, on_timer_closed);
    uv_close((uv_handle_t *)monitor->let_go, on_timer_closed);
    g_strfreev(monitor->away);
    monitor_drop_questions(monitor);
    g_hash_table_unref(monitor->sites);
    g_hash_table_unref(monitor->holders);
    g_hash_table_unref(monitor->suspects);
    json_decref(monitor->was_left_out);
    gpu_index_free(monitor->index);
    g_ptr_array_unref(monitor->snapshot.gpus);
    g_free(monitor->snapshot.text);
    g_free(monitor);
}
