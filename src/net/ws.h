#pragma once
/* One WebSocket connection (RFC 6455), either side. ws_pump (ws_pump.h) is the protocol without a socket; here it is
 * put on a file descriptor of the libuv loop. Sends never block: they queue. A ping goes out every WS_PING_MS and a
 * peer that says nothing for WS_DEAD_MS is given up. */

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct ws;
struct ws_dial;

enum { WS_PING_MS = 5000, WS_DEAD_MS = 20000 };

struct ws_handlers {
    void (*on_text)(void *user, const char *text, size_t len); /* text is NUL-terminated, borrowed */
    void (*on_binary)(void *user, const void *bytes, size_t len);
    void (*on_drain)(void *user); /* the send queue became empty; may be NULL */
    /* Once, last callback; the connection is of no use any more: call ws_free now or later. reason is borrowed. */
    void (*on_close)(void *user, const char *reason);
};

/* Server side: after a 101 answer. Takes over `fd`'s reading and writing, and `extra`, bytes that came behind the
 * request. `release` is called with `release_arg` when the fd is not needed any more (it closes it). */
struct ws *ws_new_server(uv_loop_t *loop, int fd, const void *extra, size_t extra_len,
                         const struct ws_handlers *handlers, void *user, void (*release)(void *), void *release_arg);

/* Client side: connect, (TLS,) handshake, deadline. on_done gets the connection (to be given handlers at once with
 * ws_set_handlers) or an error: KR_ERROR_UNREACHABLE, _TIMEOUT, KR_ERROR_UNAUTHORIZED for 401. */
struct ws_dial *ws_dial_start(uv_loop_t *loop, const char *url, const char *const *headers, const char *subprotocol,
                              int64_t timeout_ms, void (*on_done)(void *user, struct ws *ws, const GError *error),
                              void *user);
void ws_dial_cancel(struct ws_dial *dial); /* NULL is fine; no callback afterwards */
void ws_set_handlers(struct ws *ws, const struct ws_handlers *handlers, void *user);

/* Queue one message. false when the connection is closing (the message is dropped). */
bool ws_send_text(struct ws *ws, const char *text, size_t len);
bool ws_send_binary(struct ws *ws, const void *bytes, size_t len);
size_t ws_queued_bytes(const struct ws *ws);

/* Sends a close frame; on_close follows, after a second at the latest. */
void ws_close(struct ws *ws, int code, const char *reason);
/* Ends the connection at once, without callbacks. Safe from within a handler. NULL is fine. */
void ws_free(struct ws *ws);
