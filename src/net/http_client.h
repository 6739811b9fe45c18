#pragma once
/* HTTP requests on the libuv loop, over TCP, TLS or a UNIX socket (libcurl's multi interface does the work). Never
 * blocks. All callbacks run on the loop's thread; a call may be cancelled from any of them. */

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct http_client;
struct http_call;

struct http_request {
    const char *method;         /* "GET" … */
    const char *url;            /* http:// or https:// */
    const char *unix_socket;    /* path, or NULL for TCP */
    const char *const *headers; /* "Name: value", NULL-terminated, may be NULL */
    const void *body;           /* copied; NULL: none */
    size_t body_len;
    int64_t connect_timeout_ms; /* 0: 5 s */
    int64_t timeout_ms;         /* for the whole call; 0: none (streams, container start) */
    size_t max_body_bytes;      /* of a collected answer; 0: 8 MiB. More is an error */
    bool may_repeat;            /* a kept connection may be used although the request would be sent again if that breaks
                                 * before an answer; always so for GET and HEAD, others get a fresh connection */
    void *user;
    /* Optional: with it the body of a 2xx answer is handed over piece by piece and not collected. */
    void (*on_data)(void *user, const char *bytes, size_t len);
    /* Exactly once unless cancelled; the call is gone afterwards. error != NULL: no complete answer came
     * (KR_ERROR_UNREACHABLE, KR_ERROR_TIMEOUT, KR_ERROR_TOO_LARGE, KR_ERROR_IO) and status is 0, or the status that had come before the stream
     * broke. body is NUL-terminated and borrowed (empty when streamed). */
    void (*on_done)(void *user, int status, const char *body, size_t len, const GError *error);
};

struct http_client *http_client_new(uv_loop_t *loop);
/* Cancels every call without callbacks. Closes its handles on the loop, which must run once more to let them go. */
void http_client_free(struct http_client *client);

/* Starts; never calls back before it returned. `request` is copied, what it points to too. */
struct http_call *http_client_start(struct http_client *client, const struct http_request *request);
/* No further callback; the call is gone. */
void http_call_cancel(struct http_call *call);
/* Flow control of a streamed answer: no on_data between pause and resume. */
void http_call_pause(struct http_call *call);
void http_call_resume(struct http_call *call);
