#pragma once
/* Docker's multiplexed log stream as a pump: bytes in, entries out, no socket. A frame is 8 bytes (stream 0..3, three
 * zeros, length big endian) and that many bytes; asked for with timestamps=1 each frame is one log entry whose payload begins
 * with an RFC 3339 time and a space, which are taken off. What the engine itself has to say, that it cannot read on for
 * example, is a frame of stream 3 without a time: it comes out as an entry of stderr at the time of the one before. Memory is bounded: payload is passed on as it comes. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

enum { DOCKER_STREAM_TIME_MAX = 40 };

struct docker_stream {
    const struct engine_log_sink *sink; /* on_done and on_batch are not called by the pump */
    void *user;
    unsigned char head[8];
    size_t head_len;
    char time[DOCKER_STREAM_TIME_MAX]; /* the stamp as far as it has come */
    size_t time_len;
    bool has_time;
    int64_t last_ns;
    uint32_t left; /* payload bytes still to come */
    bool is_broken;
};

void docker_stream_init(struct docker_stream *stream, const struct engine_log_sink *sink, void *user);
/* false, and for ever after, when the bytes are no such stream. */
bool docker_stream_feed(struct docker_stream *stream, const char *bytes, size_t len);
/* True when no frame is begun: the stream may end here. */
bool docker_stream_is_between(const struct docker_stream *stream);

/* "2026-11-22T21:09:51.123456789Z" (any number of decimals, any zone offset) -> nanoseconds since 1970; the engine's
 * "0001-01-01T00:00:00Z" for "never" is 0. false when it is no such time. */
bool docker_time_from_str(const char *text, size_t len, int64_t *ret_ns);
