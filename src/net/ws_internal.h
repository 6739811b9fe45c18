#pragma once
/* Between ws.c (the connection on the loop) and ws_dial.c (how a client gets one). */

#include <sys/types.h>

#include "net/ws.h"

/* Where the bytes go. read/write behave like the system calls on a non-blocking socket (-1 with errno EAGAIN). */
struct ws_transport {
    ssize_t (*read)(void *arg, void *buf, size_t len);
    ssize_t (*write)(void *arg, const void *buf, size_t len);
    void (*release)(void *arg); /* closes; once */
    void *arg;
};

/* A connection on `fd` (used for polling only). `extra` bytes are taken in on the loop's next turn, after handlers
 * could be set. */
struct ws *ws_new(uv_loop_t *loop, int fd, bool is_server, const struct ws_transport *transport, const void *extra,
                  size_t extra_len);
