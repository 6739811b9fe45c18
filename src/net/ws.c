#include "net/ws.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/ws_internal.h"
#include "net/ws_pump.h"

enum { READ_CHUNK = 64 * 1024, READS_PER_TURN = 16, CLOSE_GRACE_MS = 1000 };

struct ws {
    uv_poll_t poll;
    uv_timer_t timer;
    int watched;      /* events that the poll waits for */
    int open_handles; /* of the two above; freed when both are closed */
    int depth;        /* handlers on the stack */
    bool is_dead;     /* no handler is called any more */
    bool is_closing;  /* close frame sent, waiting for the peer until `close_by_ms` */
    int64_t close_by_ms;
    int64_t heard_ms; /* monotonic */
    int64_t pinged_ms;
    bool had_queue; /* for on_drain */
    struct ws_pump *pump;
    struct ws_transport transport;
    struct ws_handlers handlers;
    void *user;
    char *out; /* bytes taken from the pump and not yet written */
    size_t out_len, out_at;
    GByteArray *extra; /* bytes that came with the handshake */
};

static void on_handle_closed(uv_handle_t *handle) {
    struct ws *ws = handle->data;

    if (--ws->open_handles > 0)
        return;
    ws_pump_free(ws->pump);
    g_clear_pointer(&ws->extra, g_byte_array_unref);
    g_free(ws->out);
    g_free(ws);
}

/* Ends everything; memory goes when the handles are closed and no handler is on the stack. */
static void destroy(struct ws *ws) {
    if (uv_is_closing((uv_handle_t *)&ws->poll))
        return;
    ws->is_dead = true;
    uv_poll_stop(&ws->poll);
    uv_close((uv_handle_t *)&ws->poll, on_handle_closed);
    uv_close((uv_handle_t *)&ws->timer, on_handle_closed);
    ws->transport.release(ws->transport.arg);
}

static void enter(struct ws *ws) { ws->depth++; }

static void leave(struct ws *ws) {
    if (--ws->depth == 0 && ws->is_dead)
        destroy(ws);
}

static void report_close(struct ws *ws, const char *reason) {
    if (ws->is_dead)
        return;
    ws->is_dead = true;
    if (ws->handlers.on_close)
        ws->handlers.on_close(ws->user, reason);
}

/* Handlers may have called ws_free meanwhile: is_dead tells. */
static void on_pump_text(void *user, const char *text, size_t len) {
    struct ws *ws = user;

    if (!ws->is_dead && ws->handlers.on_text)
        ws->handlers.on_text(ws->user, text, len);
}

static void on_pump_binary(void *user, const void *bytes, size_t len) {
    struct ws *ws = user;

    if (!ws->is_dead && ws->handlers.on_binary)
        ws->handlers.on_binary(ws->user, bytes, len);
}

static const struct ws_pump_events pump_events = {.on_text = on_pump_text, .on_binary = on_pump_binary};

/* The next bytes to write are at out+out_at; false when there are none. */
static bool refill(struct ws *ws) {
    if (ws->out_at < ws->out_len)
        return true;
    ws->out_at = ws->out_len = 0;
    if (!ws_pump_wants_write(ws->pump)) {
        g_clear_pointer(&ws->out, g_free); /* an idle connection keeps no buffer */
        return false;
    }
    if (!ws->out)
        ws->out = g_malloc(READ_CHUNK);
    ws->out_len = ws_pump_take(ws->pump, ws->out, READ_CHUNK);
    return ws->out_len > 0;
}

/* false: the connection is broken. */
static bool write_out(struct ws *ws) {
    while (refill(ws)) {
        ssize_t n = ws->transport.write(ws->transport.arg, ws->out + ws->out_at, ws->out_len - ws->out_at);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        ws->out_at += (size_t)n;
    }
    if (ws->had_queue && !ws->is_dead) {
        ws->had_queue = false;
        if (ws->handlers.on_drain)
            ws->handlers.on_drain(ws->user);
    }
    return true;
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void watch(struct ws *ws) {
    bool pending = ws->out_at < ws->out_len || ws_pump_wants_write(ws->pump);
    int events = UV_READABLE | (pending ? UV_WRITABLE : 0);

    if (ws->is_dead || ws->watched == events) /* libuv asks the kernel anew each time */
        return;
    ws->watched = events;
    uv_poll_start(&ws->poll, events, on_poll);
}

static void flush(struct ws *ws) {
    if (!write_out(ws))
        report_close(ws, "connection lost while sending");
    else if (ws_pump_is_closed(ws->pump))
        report_close(ws, ws_pump_close_reason(ws->pump));
    watch(ws);
}

static void feed(struct ws *ws, const void *bytes, size_t len) {
    ws->heard_ms = clock_mono_ms();
    if (!ws_pump_feed(ws->pump, bytes, len)) {
        write_out(ws); /* the close frame that says why, if it still goes */
        report_close(ws, "the peer broke the WebSocket protocol or a size limit");
    }
}

static void read_in(struct ws *ws) {
    char chunk[READ_CHUNK]; /* not of the heap: this large, each one would make malloc tidy it up */

    for (int turn = 0; turn < READS_PER_TURN && !ws->is_dead; turn++) {
        ssize_t n = ws->transport.read(ws->transport.arg, chunk, READ_CHUNK);
        if (n > 0) {
            feed(ws, chunk, (size_t)n);
        } else {
            if (n == 0 || (errno != EAGAIN && errno != EINTR))
                report_close(ws, n == 0 ? "connection closed by the peer" : g_strerror(errno));
            return;
        }
    }
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct ws *ws = poll->data;

    enter(ws);
    if (status < 0)
        report_close(ws, "connection lost"); /* libuv says EBADF for a socket in error */
    if (!ws->is_dead && (events & UV_READABLE))
        read_in(ws);
    if (!ws->is_dead)
        flush(ws);
    leave(ws);
}

static void take_extra(struct ws *ws) {
    g_autoptr(GByteArray) extra = g_steal_pointer(&ws->extra);

    if (extra && extra->len > 0)
        feed(ws, extra->data, extra->len);
}

/* First tick: bytes that came with the handshake. Each: pings, silence, overdue closes. */
static void on_tick(uv_timer_t *timer) {
    struct ws *ws = timer->data;
    int64_t now_ms = clock_mono_ms();

    enter(ws);
    take_extra(ws);
    if (!ws->is_dead)
        read_in(ws); /* TLS may hold decrypted bytes that no poll tells of */
    if (ws->is_closing ? now_ms >= ws->close_by_ms : now_ms - ws->heard_ms >= WS_DEAD_MS)
        report_close(ws, ws->is_closing ? "closed" : "the peer is silent");
    if (!ws->is_dead && now_ms - ws->pinged_ms >= WS_PING_MS) {
        ws->pinged_ms = now_ms;
        ws_pump_ping(ws->pump);
    }
    if (!ws->is_dead)
        flush(ws);
    leave(ws);
}

struct ws *ws_new(uv_loop_t *loop, int fd, bool is_server, const struct ws_transport *transport, const void *extra,
                  size_t extra_len) {
    struct ws *ws = g_new0(struct ws, 1);
    int one = 1;

    /* without it a small message waits 40 ms for the peer's delayed ACK */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    ws->pump = ws_pump_new(is_server, &pump_events, ws);
    ws->transport = *transport;
    ws->heard_ms = ws->pinged_ms = clock_mono_ms();
    ws->extra = g_byte_array_append(g_byte_array_new(), extra, (guint)extra_len);
    ws->open_handles = 2;
    uv_poll_init(loop, &ws->poll, fd);
    uv_timer_init(loop, &ws->timer);
    ws->poll.data = ws->timer.data = ws;
    uv_timer_start(&ws->timer, on_tick, 0, CLOSE_GRACE_MS);
    watch(ws);
    return ws;
}

void ws_set_handlers(struct ws *ws, const struct ws_handlers *handlers, void *user) {
    ws->handlers = *handlers;
    ws->user = user;
}

/* ---- server side: a plain socket ---- */

struct server_socket {
    int fd;
    void (*release)(void *);
    void *release_arg;
};

static ssize_t socket_read(void *arg, void *buf, size_t len) {
    struct server_socket *s = arg;
    return recv(s->fd, buf, len, MSG_DONTWAIT);
}

static ssize_t socket_write(void *arg, const void *buf, size_t len) {
    struct server_socket *s = arg;
    return send(s->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void socket_release(void *arg) {
    struct server_socket *s = arg;
    s->release(s->release_arg);
    g_free(s);
}

struct ws *ws_new_server(uv_loop_t *loop, int fd, const void *extra, size_t extra_len,
                         const struct ws_handlers *handlers, void *user, void (*release)(void *), void *release_arg) {
    struct server_socket *s = g_new0(struct server_socket, 1);
    struct ws_transport transport = {.read = socket_read, .write = socket_write, .release = socket_release, .arg = s};
    struct ws *ws;

    *s = (struct server_socket){.fd = fd, .release = release, .release_arg = release_arg};
    ws = ws_new(loop, fd, true, &transport, extra, extra_len);
    ws_set_handlers(ws, handlers, user);
    return ws;
}

/* ---- sending ---- */

static bool queued(struct ws *ws, bool ok) {
    ws->had_queue = true;
    watch(ws);
    return ok;
}

bool ws_send_text(struct ws *ws, const char *text, size_t len) {
    return !ws->is_dead && queued(ws, ws_pump_text(ws->pump, text, len));
}

bool ws_send_binary(struct ws *ws, const void *bytes, size_t len) {
    return !ws->is_dead && queued(ws, ws_pump_binary(ws->pump, bytes, len));
}

size_t ws_queued_bytes(const struct ws *ws) { return ws_pump_queued_bytes(ws->pump) + ws->out_len - ws->out_at; }

void ws_close(struct ws *ws, int code, const char *reason) {
    if (ws->is_dead || ws->is_closing)
        return;
    ws->is_closing = true;
    ws->close_by_ms = clock_mono_ms() + CLOSE_GRACE_MS;
    enter(ws);
    write_out(ws); /* a close frame overtakes what is queued, and nothing goes after it */
    ws_pump_close(ws->pump, code, reason);
    if (!ws->is_dead)
        watch(ws);
    leave(ws);
}

void ws_free(struct ws *ws) {
    if (!ws)
        return;
    ws->is_dead = true;
    if (ws->depth == 0)
        destroy(ws);
}
