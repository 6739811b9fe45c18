#include "net/ws_pump.h"

#include <string.h>
#include <sys/random.h>
#include <wslay/wslay.h>

#include "model/wire.h"

struct ws_pump {
    wslay_event_context_ptr ctx;
    const struct ws_pump_events *events;
    void *user;
    const uint8_t *in; /* what feed still has to hand to wslay */
    size_t in_len;
    uint8_t *out; /* where take lets wslay write, and how much room is left */
    size_t out_room;
    char *close_reason;
};

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags, void *user) {
    struct ws_pump *pump = user;
    size_t n = MIN(len, pump->in_len);

    (void)flags;
    if (n == 0) {
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    memcpy(buf, pump->in, n);
    pump->in += n;
    pump->in_len -= n;
    return (ssize_t)n;
}

static ssize_t on_send(wslay_event_context_ptr ctx, const uint8_t *bytes, size_t len, int flags, void *user) {
    struct ws_pump *pump = user;
    size_t n = MIN(len, pump->out_room);

    (void)flags;
    if (n == 0) {
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    memcpy(pump->out, bytes, n);
    pump->out += n;
    pump->out_room -= n;
    return (ssize_t)n;
}

static int on_genmask(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, void *user) {
    (void)ctx;
    (void)user;
    return getrandom(buf, len, 0) == (ssize_t)len ? 0 : -1;
}

static void on_msg(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg, void *user) {
    struct ws_pump *pump = user;

    (void)ctx;
    if (arg->opcode == WSLAY_TEXT_FRAME) {
        /* an empty message has no bytes at all */
        g_autofree char *text = g_strndup(arg->msg ? (const char *)arg->msg : "", arg->msg_length);
        pump->events->on_text(pump->user, text, arg->msg_length);
    } else if (arg->opcode == WSLAY_BINARY_FRAME) {
        pump->events->on_binary(pump->user, arg->msg, arg->msg_length);
    } else if (arg->opcode == WSLAY_CONNECTION_CLOSE && arg->msg_length > 2) {
        g_free(pump->close_reason);
        pump->close_reason = g_strndup((const char *)arg->msg + 2, arg->msg_length - 2);
    }
}

struct ws_pump *ws_pump_new(bool is_server, const struct ws_pump_events *events, void *user) {
    const struct wslay_event_callbacks callbacks = {.recv_callback = on_recv,
                                                    .send_callback = on_send,
                                                    .genmask_callback = on_genmask,
                                                    .on_msg_recv_callback = on_msg};
    struct ws_pump *pump = g_new0(struct ws_pump, 1);
    int failed = is_server ? wslay_event_context_server_init(&pump->ctx, &callbacks, pump)
                           : wslay_event_context_client_init(&pump->ctx, &callbacks, pump);

    g_assert(failed == 0); /* out of memory is its only error */
    wslay_event_config_set_max_recv_msg_length(pump->ctx, WIRE_MAX_TEXT_BYTES);
    pump->events = events;
    pump->user = user;
    return pump;
}

void ws_pump_free(struct ws_pump *pump) {
    if (!pump)
        return;
    wslay_event_context_free(pump->ctx);
    g_free(pump->close_reason);
    g_free(pump);
}

bool ws_pump_feed(struct ws_pump *pump, const void *bytes, size_t len) {
    int status;

    pump->in = bytes;
    pump->in_len = len;
    while (pump->in_len > 0 && wslay_event_want_read(pump->ctx)) {
        status = wslay_event_recv(pump->ctx);
        if (status != 0)
            return false;
    }
    /* want_read ends with a close frame or a protocol error; only the first is in order */
    return wslay_event_want_read(pump->ctx) || wslay_event_get_close_received(pump->ctx);
}

size_t ws_pump_take(struct ws_pump *pump, void *buf, size_t cap) {
    pump->out = buf;
    pump->out_room = cap;
    wslay_event_send(pump->ctx); /* ends with "would block" at the latest when the room is used up */
    return cap - pump->out_room;
}

bool ws_pump_wants_write(const struct ws_pump *pump) { return wslay_event_want_write(pump->ctx); }
size_t ws_pump_queued_bytes(const struct ws_pump *pump) { return wslay_event_get_queued_msg_length(pump->ctx); }

static bool queue(struct ws_pump *pump, uint8_t opcode, const void *bytes, size_t len) {
    const struct wslay_event_msg msg = {.opcode = opcode, .msg = bytes, .msg_length = len};

    return wslay_event_queue_msg(pump->ctx, &msg) == 0;
}

bool ws_pump_text(struct ws_pump *pump, const char *text, size_t len) {
    return queue(pump, WSLAY_TEXT_FRAME, text, len);
}

bool ws_pump_binary(struct ws_pump *pump, const void *bytes, size_t len) {
    return queue(pump, WSLAY_BINARY_FRAME, bytes, len);
}

bool ws_pump_ping(struct ws_pump *pump) { return queue(pump, WSLAY_PING, NULL, 0); }

bool ws_pump_close(struct ws_pump *pump, int code, const char *reason) {
    size_t len = MIN(strlen(reason), 120);

    return wslay_event_queue_close(pump->ctx, (uint16_t)code, (const uint8_t *)reason, len) == 0;
}

bool ws_pump_is_closed(const struct ws_pump *pump) {
    return wslay_event_get_close_sent(pump->ctx) && wslay_event_get_close_received(pump->ctx);
}

const char *ws_pump_close_reason(const struct ws_pump *pump) { return pump->close_reason ? pump->close_reason : ""; }
