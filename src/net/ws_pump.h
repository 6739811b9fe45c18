#pragma once
/* The WebSocket protocol (RFC 6455 after the handshake) without a socket: bytes in, messages and bytes out. wslay does
 * the framing, masking, UTF-8 checks and close handshake; limits are WIRE_MAX_*. Used by ws.c and by the fuzzer. */

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ws_pump;

struct ws_pump_events {
    void (*on_text)(void *user, const char *text, size_t len); /* NUL-terminated, borrowed */
    void (*on_binary)(void *user, const void *bytes, size_t len);
};

/* `is_server` decides who masks. `events` must outlive the pump. */
struct ws_pump *ws_pump_new(bool is_server, const struct ws_pump_events *events, void *user);
void ws_pump_free(struct ws_pump *pump); /* not from within an event */

/* Takes all bytes and calls the events. false when the peer broke the protocol or a limit: the connection is to be
 * ended (a close frame is queued). */
bool ws_pump_feed(struct ws_pump *pump, const void *bytes, size_t len);

/* Up to `cap` bytes to send into buf; 0: nothing to send now. */
size_t ws_pump_take(struct ws_pump *pump, void *buf, size_t cap);
bool ws_pump_wants_write(const struct ws_pump *pump);
size_t ws_pump_queued_bytes(const struct ws_pump *pump);

/* Queue; false when the connection is closing. */
bool ws_pump_text(struct ws_pump *pump, const char *text, size_t len);
bool ws_pump_binary(struct ws_pump *pump, const void *bytes, size_t len);
bool ws_pump_ping(struct ws_pump *pump);
bool ws_pump_close(struct ws_pump *pump, int code, const char *reason);

/* Both close frames went by. */
bool ws_pump_is_closed(const struct ws_pump *pump);
/* Why the peer closed, "" when it gave no reason. Borrowed. */
const char *ws_pump_close_reason(const struct ws_pump *pump);
