#include "gpu/gpu_history.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "gpu/gpu_history_file.h"

enum { MAX_CARDS = 4 * NODE_MAX_GPUS, RETRY_MS = 60 * 1000, MAX_HOLD_MS = 60 * 1000 };

static const enum gpu_figure figure_of[HISTORY_VALUE_COUNT_] = {
    [HISTORY_UTIL] = GPU_UTIL, [HISTORY_MEM] = GPU_MEM_USED, [HISTORY_TEMP] = GPU_TEMP, [HISTORY_POWER] = GPU_POWER};

/* The slot that is being filled. */
struct filling {
    int64_t number; /* 0: none */
    int n_samples;
    int n[HISTORY_VALUE_COUNT_]; /* samples that had the value */
    double sum[HISTORY_VALUE_COUNT_], max[HISTORY_VALUE_COUNT_];
};

struct card {
    char uuid[GPU_UUID_MAX_BYTES + 1];
    char *path;
    int fd;                /* -1: the file could not be opened */
    bool is_failing;       /* told in the log */
    int64_t tried_ms;      /* to open it; wall clock, as are the others */
    int64_t last_ms;       /* of the last sample */
    int64_t last_util_ms;  /* of the last one with a utilisation */
    int64_t idle_since_ms; /* 0: busy at that one, or none yet */
    bool is_util_known;    /* at the last sample */
    struct filling filling[HISTORY_RING_COUNT_];
};

struct gpu_history {
    char *folder;
    int64_t hold_ms;
    GHashTable *cards; /* uuid -> struct card */
};

/* ---- files ---- */

static void card_free(struct card *card) {
    fd_cleanup(&card->fd);
    g_free(card->path);
    g_free(card);
}

static void remove_old(const char *folder) {
    const struct history_ring_info *longest = &history_rings[HISTORY_RING_COUNT_ - 1];
    int64_t oldest_s = g_get_real_time() / G_USEC_PER_SEC - longest->step_ms / 1000 * longest->n_slots;
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        struct stat stat;
        if (lstat(path, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_mtime < oldest_s)
            unlink(path);
    }
}

struct gpu_history *gpu_history_new(const char *folder, int64_t hold_ms) {
    struct gpu_history *history = g_new0(struct gpu_history, 1);

    history->folder = g_strdup(folder);
    history->hold_ms = MIN(hold_ms, MAX_HOLD_MS);
    history->cards = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)card_free);
    remove_old(folder);
    return history;
}

void gpu_history_free(struct gpu_history *history) {
    if (!history)
        return;
    g_hash_table_unref(history->cards);
    g_free(history->folder);
    g_free(history);
}

/* Tells once that the disk takes nothing, and once that it does again. */
static void note_disk(struct card *card, const GError *problem) {
    if (problem && !card->is_failing)
        log_warning("history of GPU %s: %s; what it does now is not kept", card->uuid, problem->message);
    else if (!problem && card->is_failing)
        log_info("history of GPU %s is kept again", card->uuid);
    card->is_failing = problem != NULL;
}

static bool open_file(const struct gpu_history *history, struct card *card, int64_t now_ms, GError **error) {
    card->tried_ms = now_ms;
    if (!fs_mkdir_p(history->folder, 0700, error))
        return false;
    card->fd = history_file_open(card->path, card->uuid, error);
    return card->fd >= 0;
}

/* ---- since when it is idle ---- */

static bool is_idle(double percent) { return percent < GPU_HISTORY_IDLE_PERCENT; }

/* From `since` on it was idle: how far back does this ring say the same? true when it ends there, false when the ring ends first. */
static bool walk_back(const struct card *card, enum history_ring ring, int64_t now_ms, int64_t *since) {
    int64_t step = history_rings[ring].step_ms, last = now_ms / step, gap_ms = 0;
    g_autofree struct history_point *points = history_file_read_all(card->fd, ring, last);
    int64_t i = history_rings[ring].n_slots - 1 - (last - (*since - 1) / step);

    for (; i >= 0 && gap_ms <= GPU_HISTORY_IDLE_GAP_MS; i--) {
        const struct history_point *point = &points[i];
        if (!(point->valid >> HISTORY_UTIL & 1)) {
            gap_ms += step;
            continue;
        }
        if (!is_idle(point->max[HISTORY_UTIL]))
            return true;
        *since = MIN(*since, point->number * step);
        gap_ms = 0;
    }
    return i >= 0 || gap_ms > GPU_HISTORY_IDLE_GAP_MS;
}

static void find_idle(struct card *card, int64_t now_ms) {
    int64_t since = now_ms + 1;
    bool is_over = false;

    for (int ring = 0; ring < HISTORY_RING_COUNT_ && !is_over; ring++)
        is_over = walk_back(card, ring, now_ms, &since);
    if (since > now_ms)
        return;
    card->idle_since_ms = since;
    card->last_util_ms = now_ms; /* at most the gap that is allowed ago */
}

static void note_idle(struct card *card, const struct gpu *gpu, int64_t now_ms) {
    bool is_gap = now_ms - card->last_util_ms > GPU_HISTORY_IDLE_GAP_MS;

    card->is_util_known = gpu_has(gpu, GPU_UTIL);
    if (!card->is_util_known)
        return;
    if (!is_idle((double)gpu_figure(gpu, GPU_UTIL)))
        card->idle_since_ms = 0;
    else if (card->idle_since_ms == 0 || is_gap || card->idle_since_ms > now_ms)
        card->idle_since_ms = now_ms - now_ms % history_rings[HISTORY_SECONDS].step_ms;
    card->last_util_ms = now_ms;
}

bool gpu_history_idle_since(const struct gpu_history *history, const char *uuid, int64_t *ret_since_ms) {
    const struct card *card = g_hash_table_lookup(history->cards, uuid);

    if (!card || !card->is_util_known || card->idle_since_ms == 0)
        return false;
    *ret_since_ms = card->idle_since_ms;
    return true;
}

/* ---- noting ---- */

/* The UUID becomes a file's name. */
static bool is_plain(const char *uuid) {
    for (const char *at = uuid; *at; at++)
        if (!g_ascii_isalnum(*at) && *at != '-')
            return false;
    return uuid[0] != '\0';
}

static struct card *card_of(struct gpu_history *history, const char *uuid) {
    struct card *card = g_hash_table_lookup(history->cards, uuid);

    if (card || !is_plain(uuid) || g_hash_table_size(history->cards) >= MAX_CARDS)
        return card;
    card = g_new0(struct card, 1);
    card->fd = -1;
    g_strlcpy(card->uuid, uuid, sizeof card->uuid);
    card->path = g_build_filename(history->folder, uuid, NULL);
    g_hash_table_insert(history->cards, card->uuid, card);
    return card;
}

static void try_open(const struct gpu_history *history, struct card *card, int64_t now_ms) {
    bool is_first = card->tried_ms == 0;
    g_autoptr(GError) error = NULL;

    if (!is_first && ABS(now_ms - card->tried_ms) < RETRY_MS)
        return;
    if (!open_file(history, card, now_ms, &error))
        note_disk(card, error);
    else if (is_first)
        find_idle(card, now_ms);
}

/* Goes on with what the slot has already: after a restart, or when the clock was set back. */
static void begin_slot(const struct card *card, enum history_ring ring, int64_t number, struct filling *filling) {
    struct history_point point;

    *filling = (struct filling){.number = number};
    if (!history_file_read(card->fd, ring, number, &point))
        return;
    filling->n_samples = point.n_samples;
    for (int i = 0; i < HISTORY_VALUE_COUNT_; i++)
        if (point.valid >> i & 1) {
            filling->n[i] = point.n_samples;
            filling->sum[i] = point.mean[i] * point.n_samples;
            filling->max[i] = point.max[i];
        }
}

static void add_sample(struct filling *filling, const struct gpu *gpu) {
    filling->n_samples++;
    for (int i = 0; i < HISTORY_VALUE_COUNT_; i++) {
        double value = (double)gpu_figure(gpu, figure_of[i]);

        if (!gpu_has(gpu, figure_of[i]))
            continue;
        filling->max[i] = filling->n[i]++ ? MAX(filling->max[i], value) : value;
        filling->sum[i] += value;
    }
}

static struct history_point point_of(const struct filling *filling) {
    struct history_point point = {.number = filling->number, .n_samples = filling->n_samples};

    for (int i = 0; i < HISTORY_VALUE_COUNT_; i++) {
        point.valid |= (unsigned)(filling->n[i] > 0) << i;
        point.mean[i] = filling->n[i] ? filling->sum[i] / filling->n[i] : 0;
        point.max[i] = filling->max[i];
    }
    return point;
}

static bool note_slot(struct card *card, enum history_ring ring, int64_t number, const struct gpu *gpu,
                      GError **error) {
    struct filling *filling = &card->filling[ring];
    struct history_point point;

    if (filling->number != number)
        begin_slot(card, ring, number, filling);
    add_sample(filling, gpu);
    point = point_of(filling);
    return history_file_write(card->fd, ring, &point, error);
}

void gpu_history_note(struct gpu_history *history, const struct gpu *gpu, int64_t now_ms) {
    struct card *card = now_ms > 0 ? card_of(history, gpu->uuid) : NULL;
    g_autoptr(GError) error = NULL;
    int64_t from_ms;

    if (!card)
        return;
    if (card->fd < 0)
        try_open(history, card, now_ms);
    note_idle(card, gpu, now_ms);
    /* it stands for the time since the last one, unless that is too long ago or the clock was set back */
    from_ms = now_ms > card->last_ms && now_ms - card->last_ms <= history->hold_ms ? card->last_ms : now_ms;
    card->last_ms = now_ms;
    for (int ring = 0; card->fd >= 0 && ring < HISTORY_RING_COUNT_; ring++) {
        int64_t step = history_rings[ring].step_ms, number = from_ms / step;

        for (number += number < now_ms / step; number <= now_ms / step && !error; number++)
            note_slot(card, ring, number, gpu, &error);
    }
    if (card->fd >= 0)
        note_disk(card, error);
}

/* ---- reading ---- */

static json_t *values_to_json(const struct history_point *points, int n, enum history_value value, bool is_max) {
    json_t *list = json_array();

    for (int i = 0; i < n; i++) {
        double real = is_max ? points[i].max[value] : points[i].mean[value];
        bool is_known = points[i].n_samples > 0 && (points[i].valid >> value & 1);

        json_array_append_new(list, is_known ? json_integer(llround(real)) : json_null());
    }
    return list;
}

static json_t *points_to_json(const struct history_point *points, enum history_ring ring, int64_t last) {
    const struct history_ring_info *info = &history_rings[ring];
    json_int_t from_ms = (last - info->n_slots + 1) * info->step_ms, step_ms = info->step_ms;
    json_t *json = json_pack("{s:I,s:I}", "from_ms", from_ms, "step_ms", step_ms);

    for (int i = 0; i < HISTORY_VALUE_COUNT_; i++) {
        g_autofree char *max_name = g_strconcat(gpu_figure_name(figure_of[i]), "_max", NULL);

        json_object_set_new(json, gpu_figure_name(figure_of[i]), values_to_json(points, info->n_slots, i, false));
        if (ring != HISTORY_SECONDS)
            json_object_set_new(json, max_name, values_to_json(points, info->n_slots, i, true));
    }
    return json;
}

json_t *gpu_history_to_json(struct gpu_history *history, const char *uuid, const char *span, int64_t now_ms,
                            GError **error) {
    const struct card *card = g_hash_table_lookup(history->cards, uuid);
    g_autofree struct history_point *points = NULL;
    int ring = 0;

    while (ring < HISTORY_RING_COUNT_ && strcmp(history_rings[ring].span, span) != 0)
        ring++;
    if (ring == HISTORY_RING_COUNT_)
        kr_fail(error, BAD_REQUEST, "there is no span \"%.16s\": 10m, 24h or 30d", span);
    else if (!card)
        kr_fail(error, NOT_FOUND, "there is no history of GPU %.79s", uuid);
    else if (card->fd < 0)
        kr_fail(error, STORAGE, "the history of GPU %s cannot be kept: the runner's log says why", uuid);
    else
        points = history_file_read_all(card->fd, ring, now_ms / history_rings[ring].step_ms);
    return points ? points_to_json(points, ring, now_ms / history_rings[ring].step_ms) : NULL;
}
