#include "runner/log_server.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "model/wire.h"

struct reader {
    uint32_t stream, task_id;
    enum log_stream which;
    int64_t offset, credit;
    bool follow;
};

struct log_server {
    struct log_server_deps deps;
    GHashTable *readers; /* stream -> reader */
};

struct log_server *log_server_new(const struct log_server_deps *deps) {
    struct log_server *server = g_new0(struct log_server, 1);

    server->deps = *deps;
    server->readers = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    return server;
}

void log_server_free(struct log_server *server) {
    if (!server)
        return;
    g_hash_table_unref(server->readers);
    g_free(server);
}

static void send_end(struct log_server *server, uint32_t stream, const GError *error) {
    json_t *message = json_pack("{s:s,s:I}", "type", WIRE_LOG_END, "stream", (json_int_t)stream);

    if (error)
        json_object_set_new(message, "error", json_string(error->message));
    server->deps.send_text(server->deps.user, message);
}

static void finish(struct log_server *server, struct reader *reader, const GError *error) {
    send_end(server, reader->stream, error);
    g_hash_table_remove(server->readers, GUINT_TO_POINTER(reader->stream));
}

static void send_piece(struct log_server *server, struct reader *reader, char *frame, size_t n) {
    uint32_t id = htonl(reader->stream);

    memcpy(frame, &id, sizeof id);
    reader->offset += (int64_t)n;
    reader->credit -= (int64_t)n;
    server->deps.send_binary(server->deps.user, frame, n + sizeof id);
}

/* Sends what there is and what the credit allows. May remove the reader. */
static void pump(struct log_server *server, struct reader *reader) {
    g_autofree char *frame = g_malloc(WIRE_MAX_BINARY_BYTES);
    /* asked before reading: what is written in between is found by the next read, or tells of itself by a wake */
    bool may_grow = reader->follow && server->deps.may_grow(server->deps.user, reader->task_id);

    while (reader->credit > 0) {
        size_t room = MIN((size_t)reader->credit, WIRE_MAX_BINARY_BYTES - sizeof reader->stream);
        g_autoptr(GError) error = NULL;
        size_t n = 0;

        if (!log_store_read(server->deps.logs, reader->task_id, reader->which, reader->offset,
                            frame + sizeof reader->stream, room, &n, &error)) {
            if (may_grow && error->code == KR_ERROR_NOT_FOUND)
                return; /* it has not begun to write */
            finish(server, reader, error);
            return;
        }
        if (n == 0) {
            if (!may_grow)
                finish(server, reader, NULL);
            return;
        }
        send_piece(server, reader, frame, n);
    }
}

void log_server_open(struct log_server *server, const json_t *message) {
    g_autoptr(GError) error = NULL;
    struct json_reader r = jr_init(message, "log_open", &error);
    struct reader *reader = g_new0(struct reader, 1);
    const char *which;

    reader->stream = (uint32_t)jr_int(&r, "stream", 1, G_MAXUINT32);
    reader->task_id = (uint32_t)jr_int(&r, "task_id", 1, G_MAXUINT32);
    which = jr_str(&r, "which", 16);
    reader->offset = jr_int_opt(&r, "offset", 0, G_MAXINT64, 0);
    reader->follow = jr_bool_opt(&r, "follow", false);
    reader->which = strcmp(which, "stderr") == 0 ? LOG_STDERR : LOG_STDOUT;
    reader->credit = WIRE_LOG_WINDOW_BYTES;
    if (!jr_done(&r)) {
        if (reader->stream > 0)
            send_end(server, reader->stream, error);
        g_free(reader);
        return;
    }
    g_hash_table_replace(server->readers, GUINT_TO_POINTER(reader->stream), reader);
    pump(server, reader);
}

static struct reader *find(struct log_server *server, struct json_reader *r) {
    return g_hash_table_lookup(server->readers, GUINT_TO_POINTER((uint32_t)jr_int(r, "stream", 1, G_MAXUINT32)));
}

void log_server_credit(struct log_server *server, const json_t *message) {
    struct json_reader r = jr_init(message, "log_credit", NULL);
    struct reader *reader = find(server, &r);
    int64_t bytes = jr_int(&r, "bytes", 0, G_MAXINT32);

    if (!reader || !jr_done(&r))
        return;
    reader->credit += bytes;
    pump(server, reader);
}

void log_server_close(struct log_server *server, const json_t *message) {
    struct json_reader r = jr_init(message, "log_close", NULL);
    struct reader *reader = find(server, &r);

    if (reader)
        g_hash_table_remove(server->readers, GUINT_TO_POINTER(reader->stream));
}

void log_server_reset(struct log_server *server) { g_hash_table_remove_all(server->readers); }

void log_server_wake(struct log_server *server, uint32_t task_id) {
    g_autofree gpointer *streams = g_hash_table_get_keys_as_array(server->readers, NULL);

    for (gpointer *stream = streams; *stream; stream++) {
        struct reader *reader = g_hash_table_lookup(server->readers, *stream);
        if (reader && reader->task_id == task_id)
            pump(server, reader);
    }
}
