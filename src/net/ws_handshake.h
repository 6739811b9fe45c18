#pragma once
/* The one computation of the WebSocket opening handshake (RFC 6455 section 4.2.2), needed by both sides. */

/* Sec-WebSocket-Accept for a Sec-WebSocket-Key. Caller frees. */
char *ws_handshake_accept(const char *key);
