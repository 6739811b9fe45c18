#include "runner/log_server.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "model/wire.h"
#include "runner/log_store.h"

enum { MAX_STREAMS = 256, STREAM_ID_BYTES = 4, MAX_CREDIT = 1 << 30 };

struct log_stream {
    uint32_t id, task_id;
    enum engine_stream which;
    int64_t offset, credit;
    bool follow;
    int fd; /* -1 until there are bytes */
};

struct log_server {
    struct log_store *store;
    const struct log_server_ops *ops;
    void *user;
    GHashTable *streams; /* id -> struct log_stream, owned */
};

static void stream_free(void *data) {
    struct log_stream *stream = data;

    fd_cleanup(&stream->fd);
    g_free(stream);
}

struct log_server *log_server_new(struct log_store *store, const struct log_server_ops *ops, void *user) {
    struct log_server *server = g_new0(struct log_server, 1);

    server->store = store;
    server->ops = ops;
    server->user = user;
    server->streams = g_hash_table_new_full(NULL, NULL, NULL, stream_free);
    return server;
}

void log_server_free(struct log_server *server) {
    if (!server)
        return;
    g_hash_table_unref(server->streams);
    g_free(server);
}

static void end_stream(struct log_server *server, struct log_stream *stream, const char *error) {
    uint32_t id = stream->id;

    g_hash_table_remove(server->streams, GUINT_TO_POINTER(id));
    server->ops->end(server->user, id, error);
}

static ssize_t read_some(struct log_server *server, struct log_stream *stream, unsigned char *bytes, size_t len) {
    ssize_t n;

    if (stream->fd < 0)
        stream->fd = log_store_open(server->store, stream->task_id, stream->which);
    if (stream->fd < 0)
        return 0;
    do
        n = pread(stream->fd, bytes, len, stream->offset);
    while (n < 0 && errno == EINTR);
    return n;
}

/* Sends what can be sent; the stream may be gone afterwards. The buffer is the caller's: WIRE_MAX_BINARY_BYTES. */
static void pump(struct log_server *server, struct log_stream *stream, unsigned char *buffer) {
    uint32_t id_big_endian = GUINT32_TO_BE(stream->id);
    size_t want;
    ssize_t n;

    memcpy(buffer, &id_big_endian, STREAM_ID_BYTES);
    while (stream->credit > 0 && !server->ops->is_congested(server->user)) {
        bool is_live = server->ops->is_live(server->user, stream->task_id); /* asked before the read: no gap */
        want = (size_t)MIN(stream->credit, WIRE_MAX_BINARY_BYTES - STREAM_ID_BYTES);
        n = read_some(server, stream, buffer + STREAM_ID_BYTES, want);
        if (n < 0) {
            end_stream(server, stream, g_strerror(errno));
            return;
        }
        if (n == 0) {
            if (!stream->follow || !is_live)
                end_stream(server, stream, NULL);
            return;
        }
        stream->offset += n;
        stream->credit -= n;
        if (!server->ops->send(server->user, buffer, STREAM_ID_BYTES + (size_t)n))
            return;
    }
}

static void pump_if(struct log_server *server, uint32_t task_id) {
    g_autofree unsigned char *buffer = NULL;
    g_autoptr(GList) all = g_hash_table_get_values(server->streams);

    for (GList *link = all; link; link = link->next) {
        struct log_stream *stream = link->data;
        if (task_id != 0 && stream->task_id != task_id)
            continue;
        if (!buffer)
            buffer = g_malloc(WIRE_MAX_BINARY_BYTES);
        pump(server, stream, buffer);
    }
}

static void pump_one(struct log_server *server, struct log_stream *stream) {
    g_autofree unsigned char *buffer = g_malloc(WIRE_MAX_BINARY_BYTES);

    pump(server, stream, buffer);
}

void log_server_open(struct log_server *server, uint32_t id, uint32_t task_id, enum engine_stream which, int64_t offset,
                     bool follow) {
    struct log_stream *stream;

    if (g_hash_table_contains(server->streams, GUINT_TO_POINTER(id))) {
        server->ops->end(server->user, id, "this stream is open already");
        return;
    }
    if (g_hash_table_size(server->streams) >= MAX_STREAMS) {
        server->ops->end(server->user, id, "too many readers of this node's output");
        return;
    }
    if (!log_store_knows(server->store, task_id) && !server->ops->is_live(server->user, task_id)) {
        server->ops->end(server->user, id, "this node has no output of that task (any more)");
        return;
    }
    stream = g_new0(struct log_stream, 1);
    *stream = (struct log_stream){.id = id,
                                  .task_id = task_id,
                                  .which = which,
                                  .offset = offset,
                                  .credit = WIRE_LOG_WINDOW_BYTES,
                                  .follow = follow,
                                  .fd = -1};
    g_hash_table_insert(server->streams, GUINT_TO_POINTER(id), stream);
    pump_one(server, stream);
}

void log_server_credit(struct log_server *server, uint32_t id, int64_t bytes) {
    struct log_stream *stream = g_hash_table_lookup(server->streams, GUINT_TO_POINTER(id));

    if (!stream || bytes <= 0)
        return;
    stream->credit = MIN(stream->credit + MIN(bytes, MAX_CREDIT), MAX_CREDIT);
    pump_one(server, stream);
}

void log_server_close(struct log_server *server, uint32_t id) {
    g_hash_table_remove(server->streams, GUINT_TO_POINTER(id));
}

void log_server_poke(struct log_server *server, uint32_t task_id) { pump_if(server, task_id); }

void log_server_drained(struct log_server *server) { pump_if(server, 0); }

void log_server_reset(struct log_server *server) { g_hash_table_remove_all(server->streams); }
