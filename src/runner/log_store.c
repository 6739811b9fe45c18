#include "runner/log_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"

/* A task that may still write. */
struct open_log {
    int fd[LOG_STREAM_COUNT];
    int64_t size[LOG_STREAM_COUNT];
    int64_t dropped[LOG_STREAM_COUNT];
    bool was_told; /* the daemon's log has a line about the first failure */
};

struct log_store {
    char *folder;
    int64_t max_bytes;
    int keep_tasks;
    GHashTable *open; /* task id -> open_log */
};

static const char *const suffixes[LOG_STREAM_COUNT] = {"out", "err"};

static void open_log_free(gpointer data) {
    struct open_log *log = data;

    for (int i = 0; i < LOG_STREAM_COUNT; i++)
        fd_cleanup(&log->fd[i]);
    g_free(log);
}

struct log_store *log_store_new(const char *folder, int64_t max_bytes, int keep_tasks, GError **error) {
    struct log_store *store;

    if (!fs_mkdir_p(folder, 0700, error))
        return NULL;
    store = g_new0(struct log_store, 1);
    store->folder = g_strdup(folder);
    store->max_bytes = max_bytes;
    store->keep_tasks = keep_tasks;
    store->open = g_hash_table_new_full(NULL, NULL, NULL, open_log_free);
    return store;
}

void log_store_free(struct log_store *store) {
    if (!store)
        return;
    g_hash_table_unref(store->open);
    g_free(store->folder);
    g_free(store);
}

static char *path_of(const struct log_store *store, uint32_t task_id, enum log_stream stream) {
    return g_strdup_printf("%s/%u.%s", store->folder, task_id, suffixes[stream]);
}

static void open_stream(struct log_store *store, struct open_log *log, uint32_t task_id, enum log_stream stream) {
    g_autofree char *path = path_of(store, task_id, stream);
    struct stat st;

    log->fd[stream] = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log->fd[stream] >= 0 && fstat(log->fd[stream], &st) == 0)
        log->size[stream] = st.st_size;
}

static struct open_log *get_open(struct log_store *store, uint32_t task_id) {
    struct open_log *log = g_hash_table_lookup(store->open, GUINT_TO_POINTER(task_id));

    if (log)
        return log;
    log = g_new0(struct open_log, 1);
    for (int i = 0; i < LOG_STREAM_COUNT; i++)
        open_stream(store, log, task_id, (enum log_stream)i);
    g_hash_table_insert(store->open, GUINT_TO_POINTER(task_id), log);
    return log;
}

void log_store_create(struct log_store *store, uint32_t task_id) { get_open(store, task_id); }

/* What the file takes of len bytes: all of it, a part when the disk is full. */
static size_t write_some(int fd, const char *bytes, size_t len) {
    size_t done = 0;

    while (fd >= 0 && done < len) {
        ssize_t n = write(fd, bytes + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done;
}

void log_store_append(struct log_store *store, uint32_t task_id, enum log_stream stream, const void *bytes, size_t len) {
    struct open_log *log = get_open(store, task_id);
    size_t room = (size_t)MAX(store->max_bytes - log->size[stream], 0);
    size_t wanted = MIN(len, room);
    /* after a loss nothing more is stored: the bytes of a log have no holes */
    size_t done = log->dropped[stream] > 0 ? 0 : write_some(log->fd[stream], bytes, wanted);

    log->size[stream] += (int64_t)done;
    log->dropped[stream] += (int64_t)(len - done);
    if (done < wanted && !log->was_told) {
        log->was_told = true;
        log_warning("task %u: its output cannot be stored any more: %s", task_id, g_strerror(errno));
    }
}

int64_t log_store_size(const struct log_store *store, uint32_t task_id, enum log_stream stream) {
    const struct open_log *log = g_hash_table_lookup(store->open, GUINT_TO_POINTER(task_id));
    g_autofree char *path = path_of(store, task_id, stream);
    struct stat st;

    if (log)
        return log->size[stream];
    return stat(path, &st) == 0 ? st.st_size : 0;
}

static int by_number(gconstpointer a, gconstpointer b) {
    guint left = GPOINTER_TO_UINT(*(const gpointer *)a), right = GPOINTER_TO_UINT(*(const gpointer *)b);

    return left < right ? -1 : left > right;
}

/* Removes the oldest finished logs beyond keep_tasks. */
static void remove_old(struct log_store *store) {
    g_autoptr(GPtrArray) finished = g_ptr_array_new();
    g_autoptr(GDir) dir = g_dir_open(store->folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        guint id = (guint)strtoul(name, NULL, 10);
        if (g_str_has_suffix(name, ".out") && id > 0 && !g_hash_table_contains(store->open, GUINT_TO_POINTER(id)))
            g_ptr_array_add(finished, GUINT_TO_POINTER(id));
    }
    g_ptr_array_sort(finished, by_number);
    for (guint i = 0; i + (guint)store->keep_tasks < finished->len; i++)
        for (int stream = 0; stream < LOG_STREAM_COUNT; stream++) {
            g_autofree char *path = path_of(store, GPOINTER_TO_UINT(finished->pdata[i]), (enum log_stream)stream);
            unlink(path);
        }
}

void log_store_finish(struct log_store *store, uint32_t task_id) {
    struct open_log *log = g_hash_table_lookup(store->open, GUINT_TO_POINTER(task_id));

    if (!log)
        return;
    for (int i = 0; i < LOG_STREAM_COUNT; i++) {
        g_autofree char *line = g_strdup_printf(
            "\n[kohakuriver: %" G_GINT64_FORMAT " more bytes were not stored; the limit is %" G_GINT64_FORMAT " bytes per stream]\n",
            log->dropped[i], store->max_bytes);
        if (log->dropped[i] > 0)
            write_some(log->fd[i], line, strlen(line));
    }
    g_hash_table_remove(store->open, GUINT_TO_POINTER(task_id));
    remove_old(store);
}

bool log_store_read(struct log_store *store, uint32_t task_id, enum log_stream stream, int64_t offset, void *buf,
                    size_t len, size_t *ret_n, GError **error) {
    g_autofree char *path = path_of(store, task_id, stream);
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n;

    if (fd < 0 && errno == ENOENT)
        return kr_fail(error, NOT_FOUND, "task %u has no log on this node (it never ran, or the log was removed)", task_id);
    if (fd < 0 || (n = pread(fd, buf, len, offset)) < 0)
        return fs_fail_errno(error, errno, "read", path);
    *ret_n = (size_t)n;
    return true;
}
