#include "runner/log_store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/units.h"

enum { POS_BYTES = 512 };

struct log_store {
    char *folder;
    int64_t max_bytes;
};

struct stream_state {
    int fd; /* -1: not made yet */
    /* as written down in ID.pos */
    int64_t last_ns, last_count; /* entries that carry last_ns */
    int64_t len, dropped;
    /* of the present replay */
    bool is_replaying;
    int64_t replay_ns, replay_skip;
};

struct log_writer {
    struct log_store *store;
    uint32_t task_id;
    int64_t epoch;
    int pos_fd;
    struct stream_state streams[2]; /* ENGINE_STDOUT - 1, ENGINE_STDERR - 1 */
    /* the entry under way */
    enum engine_stream stream;
    bool is_skipped;
    int64_t entry_ns, entry_len, entry_dropped; /* len of the file before and bytes dropped of it */
    bool is_blind;   /* where we are cannot be read: the files are left alone, everything is dropped */
    int write_errno; /* of the first write that failed */
};

static const char *const suffixes[] = {"stdout", "stderr"};

static char *path_of(const struct log_store *store, uint32_t task_id, const char *suffix) {
    return g_strdup_printf("%s/%u.%s", store->folder, task_id, suffix);
}

struct log_store *log_store_new(const char *state_dir, int64_t max_bytes, GError **error) {
    struct log_store *store = g_new0(struct log_store, 1);

    store->folder = g_build_filename(state_dir, "logs", NULL);
    store->max_bytes = max_bytes;
    if (fs_mkdir_p(store->folder, 0700, error))
        return store;
    log_store_free(store);
    return NULL;
}

void log_store_free(struct log_store *store) {
    if (!store)
        return;
    g_free(store->folder);
    g_free(store);
}

/* ---- how far we are ---- */

enum outcome { IS_SO = 1, IS_NOT_SO, IS_UNKNOWN };

/* Is there a position of this epoch? */
static enum outcome read_pos(struct log_writer *w) {
    struct stream_state *a = &w->streams[0], *b = &w->streams[1];
    char text[POS_BYTES + 1] = "";
    ssize_t n = pread(w->pos_fd, text, POS_BYTES, 0);
    int64_t epoch;
    int fields = n <= 0 ? 0
                        : sscanf(text,
                                 "1 %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64
                                 " %" SCNd64 " %" SCNd64,
                                 &epoch, &a->last_ns, &a->last_count, &a->len, &a->dropped, &b->last_ns, &b->last_count,
                                 &b->len, &b->dropped);

    if (n < 0)
        return IS_UNKNOWN;
    return fields == 9 && epoch == w->epoch && a->len >= 0 && b->len >= 0 ? IS_SO : IS_NOT_SO;
}

/* In place and of fixed width: a process that dies leaves the old or the new. */
static void write_pos(struct log_writer *w) {
    const struct stream_state *a = &w->streams[0], *b = &w->streams[1];
    char text[POS_BYTES];
    int n = g_snprintf(text, sizeof text,
                       "1 %020" PRId64 " %020" PRId64 " %020" PRId64 " %020" PRId64 " %020" PRId64 " %020" PRId64
                       " %020" PRId64 " %020" PRId64 " %020" PRId64 "\n",
                       w->epoch, a->last_ns, a->last_count, a->len, a->dropped, b->last_ns, b->last_count, b->len,
                       b->dropped);

    if (w->pos_fd >= 0 && pwrite(w->pos_fd, text, (size_t)n, 0) != n)
        log_debug("cannot write down the position of task %u's output: %s", w->task_id, g_strerror(errno));
}

/* Cuts the file back to what was written down; not so when it is shorter than that. */
static enum outcome cut_back(struct log_writer *w, int index) {
    g_autofree char *path = path_of(w->store, w->task_id, suffixes[index]);
    struct stat status;

    if (stat(path, &status) < 0)
        return errno != ENOENT ? IS_UNKNOWN : w->streams[index].len == 0 ? IS_SO : IS_NOT_SO;
    if (status.st_size < w->streams[index].len)
        return IS_NOT_SO;
    return truncate(path, w->streams[index].len) == 0 ? IS_SO : IS_UNKNOWN;
}

static void start_over(struct log_writer *w) {
    for (int i = 0; i < 2; i++) {
        g_autofree char *path = path_of(w->store, w->task_id, suffixes[i]);
        unlink(path);
        w->streams[i] = (struct stream_state){.fd = -1};
    }
    write_pos(w);
}

static enum outcome take_up(struct log_writer *w) {
    enum outcome outcome = read_pos(w);

    for (int i = 0; i < 2 && outcome == IS_SO; i++)
        outcome = cut_back(w, i);
    return outcome;
}

/* Only what is known to be of no use is thrown away: too many open files, or a disk that fails for a moment, must not cost
 * the output that is stored already. */
static void find_position(struct log_writer *w) {
    g_autofree char *path = path_of(w->store, w->task_id, "pos");
    enum outcome outcome;

    w->pos_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    errno = w->pos_fd < 0 ? errno : 0;
    outcome = w->pos_fd < 0 ? IS_UNKNOWN : take_up(w);
    w->is_blind = outcome == IS_UNKNOWN;
    if (w->is_blind) {
        w->write_errno = errno ? errno : EIO;
        fd_cleanup(&w->pos_fd);
        w->pos_fd = -1;
        w->streams[0] = w->streams[1] = (struct stream_state){.fd = -1};
    } else if (outcome == IS_NOT_SO) {
        start_over(w);
    }
}

struct log_writer *log_writer_open(struct log_store *store, uint32_t task_id, int64_t epoch) {
    struct log_writer *w = g_new0(struct log_writer, 1);

    w->store = store;
    w->task_id = task_id;
    w->epoch = epoch;
    w->streams[0].fd = w->streams[1].fd = -1;
    find_position(w);
    return w;
}

void log_writer_close(struct log_writer *w) {
    if (!w)
        return;
    write_pos(w);
    fd_cleanup(&w->pos_fd);
    fd_cleanup(&w->streams[0].fd);
    fd_cleanup(&w->streams[1].fd);
    g_free(w);
}

int64_t log_writer_since_ns(struct log_writer *w) {
    if (w->is_blind) {
        find_position(w);
        w->write_errno = w->is_blind ? w->write_errno : 0; /* what was dropped meanwhile comes again */
    }
    for (int i = 0; i < 2; i++) {
        struct stream_state *s = &w->streams[i];
        s->is_replaying = s->last_ns > 0;
        s->replay_ns = s->last_ns;
        s->replay_skip = s->last_count;
    }
    w->stream = 0;
    return MIN(w->streams[0].last_ns, w->streams[1].last_ns);
}

/* ---- entries ---- */

/* Is this entry one that we have from before? */
static bool is_known(struct stream_state *s, int64_t time_ns) {
    if (!s->is_replaying)
        return false;
    if (time_ns < s->replay_ns)
        return true;
    if (time_ns == s->replay_ns && s->replay_skip > 0) {
        s->replay_skip--;
        return true;
    }
    s->is_replaying = false;
    return false;
}

void log_writer_entry(struct log_writer *w, enum engine_stream stream, int64_t time_ns) {
    struct stream_state *s = &w->streams[stream - 1];

    w->stream = stream;
    w->entry_ns = time_ns;
    w->entry_len = s->len;
    w->entry_dropped = 0;
    w->is_skipped = is_known(s, time_ns);
}

static size_t store_bytes(struct log_writer *w, struct stream_state *s, const char *bytes, size_t len) {
    g_autofree char *path = NULL;
    ssize_t n;

    if (w->is_blind)
        return 0;
    if (s->fd < 0) {
        path = path_of(w->store, w->task_id, suffixes[w->stream - 1]);
        s->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
    do
        n = s->fd < 0 ? -1 : pwrite(s->fd, bytes, len, w->entry_len);
    while (n < 0 && errno == EINTR);
    if (n < (ssize_t)len && !w->write_errno)
        w->write_errno = n < 0 ? errno : ENOSPC;
    return n < 0 ? 0 : (size_t)n;
}

void log_writer_bytes(struct log_writer *w, const char *bytes, size_t len) {
    struct stream_state *s = &w->streams[w->stream - 1];
    size_t room = (size_t)MAX(w->store->max_bytes - w->entry_len, 0), stored = 0;

    if (w->is_skipped)
        return;
    if (s->dropped == 0 && w->entry_dropped == 0 && room > 0) /* one gap, at the end */
        stored = store_bytes(w, s, bytes, MIN(len, room));
    w->entry_len += (int64_t)stored;
    w->entry_dropped += (int64_t)(len - stored);
}

void log_writer_entry_end(struct log_writer *w) {
    struct stream_state *s = &w->streams[w->stream - 1];

    if (w->is_skipped)
        return;
    s->last_count = w->entry_ns == s->last_ns ? s->last_count + 1 : 1;
    s->last_ns = w->entry_ns;
    s->len = w->entry_len;
    s->dropped += w->entry_dropped;
}

void log_writer_batch(struct log_writer *w) { write_pos(w); }

int64_t log_writer_position(const struct log_writer *w) {
    int64_t position = 0;

    for (int i = 0; i < 2; i++)
        position += w->streams[i].len + w->streams[i].dropped;
    return position;
}

static void add_note(struct log_writer *w, enum engine_stream stream, const char *text) {
    struct stream_state *s = &w->streams[stream - 1];

    w->stream = stream;
    w->entry_len = s->len;
    store_bytes(w, s, text, strlen(text)); /* not counted: it is written anew if the end is read again */
}

void log_writer_finish(struct log_writer *w, const char *lost) {
    for (int i = 0; i < 2; i++) {
        char size[UNITS_TEXT_BYTES];
        const char *why = w->write_errno ? g_strerror(w->write_errno) : "the limit of the node is reached";
        g_autofree char *text = NULL;

        units_bytes_to_str(w->streams[i].dropped, size);
        if (w->streams[i].dropped > 0)
            text = g_strdup_printf("\n[kohakuriver: %" PRId64 " bytes (%s) of output are not stored: %s]\n",
                                   w->streams[i].dropped, size, why);
        else if (lost && i == 1)
            text = g_strdup_printf("\n[kohakuriver: the end of the output may be missing: %s]\n", lost);
        if (text)
            add_note(w, (enum engine_stream)(i + 1), text);
    }
    write_pos(w);
}

/* ---- reading ---- */

int log_store_open(const struct log_store *store, uint32_t task_id, enum engine_stream stream) {
    g_autofree char *path = path_of(store, task_id, suffixes[stream - 1]);

    return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

bool log_store_knows(const struct log_store *store, uint32_t task_id) {
    g_autofree char *path = path_of(store, task_id, "pos");

    return access(path, F_OK) == 0;
}

/* ---- retention ---- */

struct kept {
    uint32_t task_id;
    int64_t bytes, changed_s;
};

static int oldest_first(const void *a, const void *b) {
    const struct kept *x = a, *y = b;

    return x->changed_s != y->changed_s ? (x->changed_s < y->changed_s ? -1 : 1)
                                        : (x->task_id > y->task_id) - (x->task_id < y->task_id);
}

static int64_t size_of(const struct log_store *store, uint32_t task_id, const char *suffix, int64_t *changed_s) {
    g_autofree char *path = path_of(store, task_id, suffix);
    struct stat status;

    if (stat(path, &status) < 0)
        return 0;
    *changed_s = MAX(*changed_s, (int64_t)status.st_mtime);
    return status.st_size;
}

static GArray *list_kept(const struct log_store *store, int64_t *ret_bytes) {
    GArray *list = g_array_new(FALSE, FALSE, sizeof(struct kept));
    g_autoptr(GDir) dir = g_dir_open(store->folder, 0, NULL);
    const char *name;

    *ret_bytes = 0;
    while (dir && (name = g_dir_read_name(dir))) {
        struct kept kept = {.task_id = (uint32_t)g_ascii_strtoull(name, NULL, 10)};
        if (!g_str_has_suffix(name, ".pos"))
            continue;
        kept.bytes = size_of(store, kept.task_id, "pos", &kept.changed_s);
        kept.bytes += size_of(store, kept.task_id, "stdout", &kept.changed_s);
        kept.bytes += size_of(store, kept.task_id, "stderr", &kept.changed_s);
        *ret_bytes += kept.bytes;
        g_array_append_val(list, kept);
    }
    g_array_sort(list, oldest_first);
    return list;
}

static void remove_task(const struct log_store *store, uint32_t task_id) {
    static const char *const all[] = {"stdout", "stderr", "pos"}; /* pos last: it is what list_kept finds */

    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        g_autofree char *path = path_of(store, task_id, all[i]);
        unlink(path);
    }
}

void log_store_prune(struct log_store *store, int64_t keep_tasks, int64_t keep_bytes,
                     bool (*is_live)(void *user, uint32_t task_id), void *user) {
    int64_t bytes;
    g_autoptr(GArray) list = list_kept(store, &bytes);
    int64_t tasks = list->len;

    for (guint i = 0; i < list->len && (tasks > keep_tasks || bytes > keep_bytes); i++) {
        const struct kept *kept = &g_array_index(list, struct kept, i);
        if (is_live(user, kept->task_id))
            continue;
        remove_task(store, kept->task_id);
        tasks--;
        bytes -= kept->bytes;
    }
}
