#include "runner/tunnels.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "model/task.h"
#include "model/wire.h"
#include "runner/link.h"

enum { READ_BYTES = 32 * 1024, MAX_TUNNELS = 256 };

struct tunnel {
    struct tunnels *tunnels; /* NULL once it is closing: nothing is said any more */
    uint32_t id;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } socket;
    uv_connect_t connect;
    bool is_connected;
    int64_t credit;  /* bytes that the client can still take */
    int64_t pending; /* bytes from the client that the socket has not taken */
};

struct tunnels {
    uv_loop_t *loop;
    struct link *link;
    tunnel_find *find;
    void *user;
    GHashTable *open; /* id -> struct tunnel */
};

struct tunnels *tunnels_new(uv_loop_t *loop, struct link *link, tunnel_find *find, void *user) {
    struct tunnels *t = g_new0(struct tunnels, 1);

    *t = (struct tunnels){.loop = loop, .link = link, .find = find, .user = user};
    t->open = g_hash_table_new(NULL, NULL);
    return t;
}

static void on_closed(uv_handle_t *handle) { g_free(handle->data); }

static void close_it(struct tunnel *tunnel) {
    g_hash_table_remove(tunnel->tunnels->open, GUINT_TO_POINTER(tunnel->id));
    tunnel->tunnels = NULL;
    uv_close(&tunnel->socket.handle, on_closed);
}

void tunnels_reset(struct tunnels *t) {
    g_autoptr(GList) all = g_hash_table_get_values(t->open);

    for (GList *link = all; link; link = link->next)
        close_it(link->data);
}

void tunnels_free(struct tunnels *t) {
    if (!t)
        return;
    tunnels_reset(t);
    g_hash_table_unref(t->open);
    g_free(t);
}

/* ---- what the host is told ---- */

static void tell_end(struct tunnels *t, uint32_t id, const char *problem) {
    json_t *message = json_pack("{s:s,s:I}", "type", WIRE_TUNNEL_END, "stream", (json_int_t)id);

    if (problem)
        json_object_set_new(message, "error", json_string(problem));
    link_send_json(t->link, message);
}

static void end(struct tunnel *tunnel, const char *problem) {
    struct tunnels *t = tunnel->tunnels;

    tell_end(t, tunnel->id, problem);
    close_it(tunnel);
}

/* ---- from the socket ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    const struct tunnel *tunnel = handle->data;
    size_t len = (size_t)MIN(MAX(tunnel->credit, 1), READ_BYTES);

    (void)suggested;
    *buf = uv_buf_init(g_malloc(len), (unsigned)len);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct tunnel *tunnel = stream->data;
    g_autofree char *bytes = buf->base;
    g_autofree char *frame = NULL;
    uint32_t id = htonl(tunnel->id);

    if (n == 0 || !tunnel->tunnels)
        return;
    if (n < 0) {
        end(tunnel, n == UV_EOF ? NULL : uv_strerror((int)n));
        return;
    }
    frame = g_malloc(sizeof id + (size_t)n);
    memcpy(frame, &id, sizeof id);
    memcpy(frame + sizeof id, bytes, (size_t)n);
    link_send_binary(tunnel->tunnels->link, frame, sizeof id + (size_t)n);
    tunnel->credit -= n;
    if (tunnel->credit <= 0)
        uv_read_stop(stream);
}

static void on_connected(uv_connect_t *connect, int status) {
    struct tunnel *tunnel = connect->data;

    if (!tunnel->tunnels)
        return;
    if (status < 0) {
        end(tunnel, uv_strerror(status));
        return;
    }
    tunnel->is_connected = true;
    uv_read_start(&tunnel->socket.stream, on_alloc, on_read);
}

/* ---- the host's words ---- */

static void dial(struct tunnel *tunnel, const struct tunnel_end *where) {
    struct sockaddr_in address;

    tunnel->connect.data = tunnel;
    if (where->port) {
        uv_tcp_init(tunnel->tunnels->loop, &tunnel->socket.tcp);
        tunnel->socket.handle.data = tunnel;
        uv_tcp_nodelay(&tunnel->socket.tcp, 1);
        if (uv_ip4_addr(where->address, where->port, &address) < 0 ||
            uv_tcp_connect(&tunnel->connect, &tunnel->socket.tcp, (struct sockaddr *)&address, on_connected) < 0)
            end(tunnel, "its port cannot be reached");
        return;
    }
    uv_pipe_init(tunnel->tunnels->loop, &tunnel->socket.pipe, 0);
    tunnel->socket.handle.data = tunnel;
    uv_pipe_connect(&tunnel->connect, &tunnel->socket.pipe, where->path, on_connected);
}

bool tunnels_open(struct tunnels *t, const json_t *message, GError **error) {
    struct json_reader r = jr_init(message, "tunnel_open", error);
    uint32_t id = (uint32_t)jr_int(&r, "stream", 1, G_MAXUINT32),
             task_id = (uint32_t)jr_int(&r, "task_id", 1, G_MAXUINT32);
    const char *to = jr_str(&r, "to", 16);
    struct tunnel_end where = {0};
    g_autoptr(GError) why = NULL;
    struct tunnel *tunnel;

    if (!jr_done(&r))
        return false;
    if (g_hash_table_size(t->open) >= MAX_TUNNELS)
        kr_fail(&why, REFUSED, "this node has %d connections to its machines already", MAX_TUNNELS);
    if (why || !t->find(t->user, task_id, to, &where, &why)) {
        tell_end(t, id, why->message);
        return true;
    }
    tunnel = g_new0(struct tunnel, 1);
    *tunnel = (struct tunnel){.tunnels = t, .id = id, .credit = WIRE_TUNNEL_WINDOW_BYTES};
    g_hash_table_insert(t->open, GUINT_TO_POINTER(id), tunnel);
    dial(tunnel, &where);
    g_free(where.path);
    return true;
}

bool tunnels_credit(struct tunnels *t, const json_t *message, GError **error) {
    struct json_reader r = jr_init(message, "tunnel_credit", error);
    struct tunnel *tunnel = g_hash_table_lookup(t->open,
                                                GUINT_TO_POINTER((uint32_t)jr_int(&r, "stream", 1, G_MAXUINT32)));
    int64_t bytes = jr_int(&r, "bytes", 1, WIRE_TUNNEL_WINDOW_BYTES);

    if (!jr_done(&r))
        return false;
    if (!tunnel)
        return true;
    tunnel->credit = MIN(tunnel->credit + bytes, WIRE_TUNNEL_WINDOW_BYTES);
    if (tunnel->is_connected && tunnel->credit > 0)
        uv_read_start(&tunnel->socket.stream, on_alloc, on_read); /* goes on where it had stopped; else nothing */
    return true;
}

bool tunnels_close(struct tunnels *t, const json_t *message, GError **error) {
    struct json_reader r = jr_init(message, "tunnel_close", error);
    struct tunnel *tunnel = g_hash_table_lookup(t->open,
                                                GUINT_TO_POINTER((uint32_t)jr_int(&r, "stream", 1, G_MAXUINT32)));

    if (!jr_done(&r))
        return false;
    if (tunnel)
        close_it(tunnel);
    return true;
}

/* ---- to the socket ---- */

struct write {
    uv_write_t request;
    struct tunnel *tunnel;
    size_t len;
    char bytes[];
};

static void on_written(uv_write_t *request, int status) {
    struct write *write = (struct write *)request;
    struct tunnel *tunnel = write->tunnel;

    if (status == 0 && tunnel->tunnels) {
        tunnel->pending -= (int64_t)write->len;
        link_send_json(tunnel->tunnels->link, json_pack("{s:s,s:I,s:I}", "type", WIRE_TUNNEL_CREDIT, "stream",
                                                        (json_int_t)tunnel->id, "bytes", (json_int_t)write->len));
    } else if (tunnel->tunnels) {
        end(tunnel, uv_strerror(status));
    }
    g_free(write);
}

void tunnels_data(struct tunnels *t, const void *frame, size_t len) {
    struct tunnel *tunnel;
    struct write *write;
    uv_buf_t buf;
    uint32_t id;

    if (len <= sizeof id)
        return;
    memcpy(&id, frame, sizeof id);
    tunnel = g_hash_table_lookup(t->open, GUINT_TO_POINTER(ntohl(id)));
    if (!tunnel) /* closed meanwhile */
        return;
    len -= sizeof id;
    tunnel->pending += (int64_t)len;
    if (tunnel->pending > WIRE_TUNNEL_WINDOW_BYTES) { /* a client that does not keep to its credit */
        end(tunnel, "more was sent than there was credit for");
        return;
    }
    write = g_malloc(sizeof *write + len);
    write->tunnel = tunnel;
    write->len = len;
    memcpy(write->bytes, (const char *)frame + sizeof id, len);
    buf = uv_buf_init(write->bytes, (unsigned)len);
    uv_write(&write->request, &tunnel->socket.stream, &buf, 1, on_written);
}
