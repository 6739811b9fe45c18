/* libcurl calls back into us (write, socket, timer) and may not be entered again from there. So everything a user does
 * inside a callback that concerns libcurl (start, cancel, resume, free the client) is noted on the call and carried
 * out by settle() when the outermost entry returns. */

#include "net/http_client.h"

#include <curl/curl.h>
#include <string.h>

#include "base/error.h"
#include "net/curl_socket.h"

enum {
    DEFAULT_CONNECT_MS = 5000,
    DEFAULT_MAX_BODY_BYTES = 8 * 1024 * 1024,
    KEPT_CONNECTIONS = 4,
};

struct http_client {
    uv_loop_t *loop;
    uv_timer_t timer;  /* libcurl's own wish */
    uv_timer_t settle; /* runs settle() soon, for things asked for outside of any callback */
    int open_handles;
    CURLM *multi; /* made with the first call: an idle client costs nothing */
    GQueue calls; /* of struct http_call */
    int depth;    /* entries into libcurl or into on_done on the stack */
    bool is_freed;
};

struct http_call {
    struct http_client *client;
    GList *link; /* in client->calls */
    CURL *easy;
    struct curl_slist *headers;
    char *name; /* for messages: the URL or the socket */
    char *body;
    char error_text[CURL_ERROR_SIZE];
    size_t max_body_bytes;
    void *user;
    void (*on_data)(void *user, const char *bytes, size_t len);
    void (*on_done)(void *user, int status, const char *body, size_t len, const GError *error);
    GByteArray *answer; /* collected; made when something comes */
    bool is_added, is_cancelled, is_paused, is_held /* libcurl waits for us */, is_too_large;
};

struct watched_socket {
    uv_poll_t poll;
    struct http_client *client;
    curl_socket_t fd;
};

static void settle(struct http_client *client);
static void socket_action(struct http_client *client, curl_socket_t fd, int flags);

/* ---- sockets and timers for libcurl ---- */

static void on_socket_closed(uv_handle_t *handle) { g_free(handle->data); }

static void on_socket_event(uv_poll_t *poll, int status, int events) {
    struct watched_socket *socket = poll->data;
    int flags = status < 0 ? CURL_CSELECT_ERR : 0;

    flags |= events & UV_READABLE ? CURL_CSELECT_IN : 0;
    flags |= events & UV_WRITABLE ? CURL_CSELECT_OUT : 0;
    socket_action(socket->client, socket->fd, flags);
}

static struct watched_socket *watch_socket(struct http_client *client, curl_socket_t fd) {
    struct watched_socket *socket = g_new0(struct watched_socket, 1);

    socket->client = client;
    socket->fd = fd;
    if (uv_poll_init_socket(client->loop, &socket->poll, fd) < 0) {
        g_free(socket);
        return NULL;
    }
    socket->poll.data = socket;
    curl_multi_assign(client->multi, fd, socket);
    return socket;
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *per_socket) {
    struct http_client *client = user;
    struct watched_socket *socket = per_socket;

    if (what == CURL_POLL_REMOVE) {
        if (socket) {
            uv_poll_stop(&socket->poll); /* libcurl closes the descriptor next */
            uv_close((uv_handle_t *)&socket->poll, on_socket_closed);
            curl_multi_assign(client->multi, fd, NULL);
        }
        return 0;
    }
    if (!socket && !(socket = watch_socket(client, fd)))
        return -1;
    uv_poll_start(&socket->poll, (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0),
                  on_socket_event);
    return 0;
}

static void on_timer(uv_timer_t *timer) { socket_action(timer->data, CURL_SOCKET_TIMEOUT, 0); }

static int on_curl_timer(CURLM *multi, long timeout_ms, void *user) {
    struct http_client *client = user;

    if (timeout_ms < 0)
        uv_timer_stop(&client->timer);
    else
        uv_timer_start(&client->timer, on_timer, (uint64_t)timeout_ms, 0);
    return 0;
}

static void on_settle(uv_timer_t *timer) {
    struct http_client *client = timer->data;

    if (client->depth == 0)
        settle(client);
}

static void settle_soon(struct http_client *client) {
    if (client->depth == 0 && !client->is_freed)
        uv_timer_start(&client->settle, on_settle, 0, 0);
}

/* ---- calls ---- */

static void call_free(struct http_call *call) {
    if (call->is_added)
        curl_multi_remove_handle(call->client->multi, call->easy);
    g_queue_delete_link(&call->client->calls, call->link);
    curl_easy_cleanup(call->easy);
    curl_slist_free_all(call->headers);
    g_clear_pointer(&call->answer, g_byte_array_unref);
    g_free(call->body);
    g_free(call->name);
    g_free(call);
}

static void collect(struct http_call *call, const char *bytes, size_t len) {
    if (!call->answer)
        call->answer = g_byte_array_new();
    call->is_too_large = call->answer->len + len > call->max_body_bytes;
    if (!call->is_too_large)
        g_byte_array_append(call->answer, (const guint8 *)bytes, (guint)len);
}

static size_t on_curl_write(char *bytes, size_t size, size_t n, void *user) {
    struct http_call *call = user;
    long status = 0;

    if (call->is_cancelled)
        return 0;
    if (call->is_paused) {
        call->is_held = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    if (call->on_data && status >= 200 && status < 300)
        call->on_data(call->user, bytes, size * n);
    else
        collect(call, bytes, size * n);
    return call->is_cancelled || call->is_too_large ? 0 : size * n;
}

static void fail_curl(GError **error, const struct http_call *call, CURLcode code) {
    const char *text = call->error_text[0] ? call->error_text : curl_easy_strerror(code);
    long os_errno = 0;

    curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &os_errno);
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT: kr_fail(error, TIMEOUT, "%s: no answer in time (%s)", call->name, text); return;
    case CURLE_COULDNT_CONNECT:
        kr_fail(error, UNREACHABLE, "cannot reach %s: %s", call->name, os_errno ? g_strerror((int)os_errno) : text);
        return;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION: kr_fail(error, UNREACHABLE, "cannot reach %s: %s", call->name, text); return;
    case CURLE_GOT_NOTHING: kr_fail(error, IO, "%s closed the connection without an answer", call->name); return;
    default: kr_fail(error, IO, "%s: %s", call->name, text);
    }
}

static void finish_call(struct http_call *call, CURLcode code) {
    g_autoptr(GError) error = NULL;
    long status = 0;
    size_t len = call->answer ? call->answer->len : 0;

    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    if (call->is_too_large)
        kr_fail(&error, TOO_LARGE, "%s: the answer is larger than %zu bytes", call->name, call->max_body_bytes);
    else if (code != CURLE_OK)
        fail_curl(&error, call, code);
    if (call->answer)
        g_byte_array_append(call->answer, (const guint8 *)"", 1);
    if (!call->is_cancelled) {
        call->is_cancelled = true; /* a cancel from within on_done finds nothing to do */
        call->on_done(call->user, (int)status, error || !call->answer ? "" : (const char *)call->answer->data,
                      error ? 0 : len, error);
    }
}

/* ---- entering and leaving libcurl ---- */

static void deliver(struct http_client *client) {
    CURLMsg *message;
    int left;

    while (!client->is_freed && (message = curl_multi_info_read(client->multi, &left))) {
        struct http_call *call = NULL;
        CURLcode code = message->data.result;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&call);
        curl_multi_remove_handle(client->multi, call->easy);
        call->is_added = false;
        finish_call(call, code);
        call_free(call);
    }
}

static void carry_out(struct http_call *call) {
    if (call->is_cancelled) {
        call_free(call);
    } else if (!call->is_added) {
        CURLMcode code = curl_multi_add_handle(call->client->multi, call->easy);
        g_assert(code == CURLM_OK); /* anything else is out of memory or misuse */
        call->is_added = true;
    } else if (call->is_held && !call->is_paused) {
        call->is_held = false;
        curl_easy_pause(call->easy, CURLPAUSE_CONT); /* may call on_data */
    }
}

static void on_handle_closed(uv_handle_t *handle) {
    struct http_client *client = handle->data;

    if (--client->open_handles == 0)
        g_free(client);
}

static void destroy(struct http_client *client) {
    while (client->calls.head)
        call_free(client->calls.head->data);
    if (client->multi)
        curl_multi_cleanup(client->multi);
    uv_close((uv_handle_t *)&client->timer, on_handle_closed);
    uv_close((uv_handle_t *)&client->settle, on_handle_closed);
}

static bool has_wishes(const struct http_client *client) {
    for (const GList *link = client->calls.head; link; link = link->next) {
        const struct http_call *call = link->data;
        if (call->is_cancelled || !call->is_added || (call->is_held && !call->is_paused))
            return true;
    }
    return false;
}

/* Only at depth 0. on_data may run in here and ask for more, which then waits for the next round. */
static void settle(struct http_client *client) {
    client->depth++;
    deliver(client);
    for (GList *link = client->calls.head; link && !client->is_freed;) {
        GList *next = link->next;
        carry_out(link->data);
        link = next;
    }
    client->depth--;
    if (client->is_freed)
        destroy(client);
    else if (has_wishes(client))
        settle_soon(client);
}

static void socket_action(struct http_client *client, curl_socket_t fd, int flags) {
    int running;

    client->depth++;
    curl_multi_socket_action(client->multi, fd, flags, &running);
    client->depth--;
    settle(client);
}

/* ---- the public face ---- */

static void init_timer(struct http_client *client, uv_timer_t *timer) {
    uv_timer_init(client->loop, timer);
    timer->data = client;
    client->open_handles++;
}

struct http_client *http_client_new(uv_loop_t *loop) {
    struct http_client *client = g_new0(struct http_client, 1);

    client->loop = loop;
    init_timer(client, &client->timer);
    init_timer(client, &client->settle);
    return client;
}

void http_client_free(struct http_client *client) {
    if (!client || client->is_freed)
        return;
    client->is_freed = true;
    for (GList *link = client->calls.head; link; link = link->next)
        ((struct http_call *)link->data)->is_cancelled = true;
    if (client->depth == 0)
        destroy(client);
}

static void make_multi(struct http_client *client) {
    if (client->multi)
        return;
    curl_global_init(CURL_GLOBAL_DEFAULT); /* thread-safe, and never undone: others in the process use libcurl too */
    client->multi = curl_multi_init();
    g_assert(client->multi);
    curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
    curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
    curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long)KEPT_CONNECTIONS);
}

static bool is_loopback(const char *url) {
    g_autoptr(GUri) uri = g_uri_parse(url, G_URI_FLAGS_NONE, NULL);
    const char *host = uri ? g_uri_get_host(uri) : NULL;

    return host && (strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 || g_str_has_prefix(host, "127."));
}

static void set_headers(struct http_call *call, const char *const *headers) {
    bool has_type = false;

    for (; headers && *headers; headers++) {
        call->headers = curl_slist_append(call->headers, *headers);
        has_type |= g_ascii_strncasecmp(*headers, "content-type:", 13) == 0;
    }
    call->headers = curl_slist_append(call->headers, "Expect:"); /* libcurl waits a second for "100 Continue" */
    if (!has_type)
        call->headers = curl_slist_append(call->headers, "Content-Type:"); /* else it claims a web form */
    curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers);
}

static void set_method(struct http_call *call, const struct http_request *request) {
    bool is_get = strcmp(request->method, "GET") == 0, is_head = strcmp(request->method, "HEAD") == 0;
    bool has_body = request->body || strcmp(request->method, "POST") == 0 || strcmp(request->method, "PUT") == 0;

    if (has_body) {
        call->body = g_memdup2(request->body ? request->body : "", MAX(request->body_len, 1));
        curl_easy_setopt(call->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(request->body ? request->body_len : 0));
        curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, call->body);
    }
    if (is_head)
        curl_easy_setopt(call->easy, CURLOPT_NOBODY, 1L);
    else if (!is_get || has_body)
        curl_easy_setopt(call->easy, CURLOPT_CUSTOMREQUEST, request->method);
    curl_easy_setopt(call->easy, CURLOPT_FRESH_CONNECT, is_get || is_head || request->may_repeat ? 0L : 1L);
}

static void set_options(struct http_call *call, const struct http_request *request) {
    CURL *easy = call->easy;
    int64_t connect_ms = request->connect_timeout_ms > 0 ? request->connect_timeout_ms : DEFAULT_CONNECT_MS;

    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error_text);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_socket_set_options(easy);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_curl_write);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    if (request->unix_socket)
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, request->unix_socket);
    if (request->unix_socket || is_loopback(request->url))
        curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* the environment's proxy cannot know these */
}

struct http_call *http_client_start(struct http_client *client, const struct http_request *request) {
    struct http_call *call = g_new0(struct http_call, 1);

    make_multi(client);
    call->client = client;
    call->easy = curl_easy_init();
    g_assert(call->easy);
    call->name = g_strdup(request->unix_socket ? request->unix_socket : request->url);
    call->max_body_bytes = request->max_body_bytes ? request->max_body_bytes : DEFAULT_MAX_BODY_BYTES;
    call->user = request->user;
    call->on_data = request->on_data;
    call->on_done = request->on_done;
    set_options(call, request);
    set_method(call, request);
    set_headers(call, request->headers);
    g_queue_push_tail(&client->calls, call);
    call->link = client->calls.tail;
    settle_soon(client);
    return call;
}

void http_call_cancel(struct http_call *call) {
    if (!call || call->is_cancelled)
        return;
    call->is_cancelled = true;
    if (call->client->depth == 0)
        call_free(call);
}

void http_call_pause(struct http_call *call) { call->is_paused = true; }

void http_call_resume(struct http_call *call) {
    call->is_paused = false;
    if (call->is_held)
        settle_soon(call->client);
}
