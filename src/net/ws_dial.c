/* A client's way to a WebSocket: connect (and TLS) by libcurl, then the handshake of RFC 6455 section 4.1. Both block,
 * with a deadline, in a thread of libuv's pool; the loop gets a finished connection. */

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/error.h"
#include "net/curl_socket.h"
#include "net/ws.h"
#include "net/ws_handshake.h"
#include "net/ws_internal.h"

enum { MAX_HEAD_BYTES = 16 * 1024 };

struct ws_dial {
    uv_work_t work;
    uv_loop_t *loop;
    char *url;
    char **headers;
    char *subprotocol;
    int64_t deadline_ms; /* monotonic */
    void (*on_done)(void *user, struct ws *ws, const GError *error);
    void *user;
    bool is_cancelled; /* loop thread only */
    /* results of the thread */
    CURL *curl;
    curl_socket_t fd;
    GString *head; /* the answer's head, and what came behind it */
    size_t head_len;
    GError *error;
};

static void dial_free(struct ws_dial *dial) {
    if (dial->curl)
        curl_easy_cleanup(dial->curl);
    g_string_free(dial->head, TRUE);
    g_clear_error(&dial->error);
    g_strfreev(dial->headers);
    g_free(dial->subprotocol);
    g_free(dial->url);
    g_free(dial);
}

static bool connect_to(struct ws_dial *dial) {
    int64_t left_ms = MAX(dial->deadline_ms - clock_mono_ms(), 1);
    CURLcode code;

    dial->curl = curl_easy_init();
    curl_easy_setopt(dial->curl, CURLOPT_URL, dial->url);
    curl_easy_setopt(dial->curl, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(dial->curl, CURLOPT_NOSIGNAL, 1L);
    curl_socket_set_options(dial->curl);
    curl_easy_setopt(dial->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(dial->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(dial->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(dial->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)left_ms);
    code = curl_easy_perform(dial->curl);
    if (code == CURLE_OK)
        code = curl_easy_getinfo(dial->curl, CURLINFO_ACTIVESOCKET, &dial->fd);
    if (code != CURLE_OK)
        return kr_fail(&dial->error, UNREACHABLE, "cannot reach %s: %s", dial->url, curl_easy_strerror(code));
    return true;
}

static bool wait_for(struct ws_dial *dial, short events) {
    struct pollfd pfd = {.fd = dial->fd, .events = events};
    int64_t left_ms = dial->deadline_ms - clock_mono_ms();

    if (left_ms > 0 && poll(&pfd, 1, (int)left_ms) > 0)
        return true;
    return kr_fail(&dial->error, TIMEOUT, "%s does not answer", dial->url);
}

static bool send_all(struct ws_dial *dial, const char *text, size_t len) {
    while (len > 0) {
        size_t n = 0;
        CURLcode code = curl_easy_send(dial->curl, text, len, &n);

        if (code == CURLE_AGAIN) {
            if (!wait_for(dial, POLLOUT))
                return false;
        } else if (code != CURLE_OK) {
            return kr_fail(&dial->error, UNREACHABLE, "%s: %s", dial->url, curl_easy_strerror(code));
        }
        text += n;
        len -= n;
    }
    return true;
}

static bool receive_head(struct ws_dial *dial) {
    char chunk[4096];
    char *end;

    while (!(end = strstr(dial->head->str, "\r\n\r\n"))) {
        size_t n = 0;
        CURLcode code = curl_easy_recv(dial->curl, chunk, sizeof chunk, &n);

        if (code == CURLE_AGAIN) {
            if (!wait_for(dial, POLLIN))
                return false;
            continue;
        }
        if (code != CURLE_OK || n == 0)
            return kr_fail(&dial->error, UNREACHABLE, "%s closed the connection during the handshake", dial->url);
        g_string_append_len(dial->head, chunk, (gssize)n);
        if (dial->head->len > MAX_HEAD_BYTES)
            return kr_fail(&dial->error, IO, "%s: the handshake's answer is too long", dial->url);
    }
    dial->head_len = (size_t)(end - dial->head->str) + 4;
    return true;
}

/* The answer must be 101 and prove that it read our key. */
static bool check_head(struct ws_dial *dial, const char *key) {
    g_autofree char *head = g_strndup(dial->head->str, dial->head_len);
    g_auto(GStrv) lines = g_strsplit(head, "\r\n", -1);
    g_autofree char *expected = ws_handshake_accept(key);
    int status = g_str_has_prefix(lines[0], "HTTP/1.1 ") ? (int)g_ascii_strtoll(lines[0] + 9, NULL, 10) : 0;

    if (status == 401)
        return kr_fail(&dial->error, UNAUTHORIZED, "%s does not accept this node's credential", dial->url);
    if (status != 101)
        return kr_fail(&dial->error, UNREACHABLE, "%s is no KohakuRiver host: it answers \"%.80s\"", dial->url,
                       lines[0]);
    for (char **line = lines + 1; *line; line++)
        if (g_ascii_strncasecmp(*line, "sec-websocket-accept:", 21) == 0 &&
            strcmp(g_strstrip(*line + 21), expected) == 0)
            return true;
    return kr_fail(&dial->error, IO, "%s: the WebSocket handshake's answer is wrong", dial->url);
}

static bool handshake(struct ws_dial *dial) {
    g_autoptr(GString) request = g_string_new(NULL);
    g_autoptr(GUri) uri = g_uri_parse(dial->url, G_URI_FLAGS_ENCODED, NULL);
    g_autofree char *key = NULL;
    guint8 nonce[16];

    if (!uri || getrandom(nonce, sizeof nonce, 0) != sizeof nonce)
        return kr_fail(&dial->error, BAD_REQUEST, "%s is not a URL", dial->url);
    key = g_base64_encode(nonce, sizeof nonce);
    g_string_append_printf(request, "GET %s", g_uri_get_path(uri));
    if (g_uri_get_query(uri))
        g_string_append_printf(request, "?%s", g_uri_get_query(uri));
    g_string_append_printf(request,
                           strchr(g_uri_get_host(uri), ':') ? " HTTP/1.1\r\nHost: [%s]" : " HTTP/1.1\r\nHost: %s",
                           g_uri_get_host(uri));
    if (g_uri_get_port(uri) > 0)
        g_string_append_printf(request, ":%d", g_uri_get_port(uri));
    g_string_append_printf(request,
                           "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                           "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: %s\r\n",
                           key, dial->subprotocol);
    for (char **header = dial->headers; *header; header++)
        g_string_append_printf(request, "%s\r\n", *header);
    g_string_append(request, "\r\n");
    return send_all(dial, request->str, request->len) && receive_head(dial) && check_head(dial, key);
}

static void on_work(uv_work_t *work) {
    struct ws_dial *dial = work->data;

    if (connect_to(dial))
        handshake(dial);
}

static ssize_t curl_to_errno(CURLcode code, size_t n) {
    if (code == CURLE_OK)
        return (ssize_t)n;
    errno = code == CURLE_AGAIN ? EAGAIN : ECONNRESET;
    return -1;
}

static ssize_t curl_read(void *arg, void *buf, size_t len) {
    size_t n = 0;
    CURLcode code = curl_easy_recv(arg, buf, len, &n);

    return curl_to_errno(code, n);
}

static ssize_t curl_write(void *arg, const void *buf, size_t len) {
    size_t n = 0;
    CURLcode code = curl_easy_send(arg, buf, len, &n);

    return curl_to_errno(code, n);
}

static void curl_release(void *arg) { curl_easy_cleanup(arg); }

static void on_work_done(uv_work_t *work, int status) {
    struct ws_dial *dial = work->data;
    struct ws_transport transport = {.read = curl_read, .write = curl_write, .release = curl_release};

    if (!dial->is_cancelled && status == 0 && !dial->error) {
        struct ws *ws;
        transport.arg = g_steal_pointer(&dial->curl);
        ws = ws_new(dial->loop, dial->fd, false, &transport, dial->head->str + dial->head_len,
                    dial->head->len - dial->head_len);
        dial->on_done(dial->user, ws, NULL);
    } else if (!dial->is_cancelled) {
        dial->on_done(dial->user, NULL, dial->error);
    }
    dial_free(dial);
}

struct ws_dial *ws_dial_start(uv_loop_t *loop, const char *url, const char *const *headers, const char *subprotocol,
                              int64_t timeout_ms, void (*on_done)(void *user, struct ws *ws, const GError *error),
                              void *user) {
    struct ws_dial *dial = g_new0(struct ws_dial, 1);

    dial->loop = loop;
    dial->url = g_strdup(url);
    dial->headers = headers ? g_strdupv((char **)headers) : g_new0(char *, 1);
    dial->subprotocol = g_strdup(subprotocol);
    dial->deadline_ms = clock_mono_ms() + timeout_ms;
    dial->on_done = on_done;
    dial->user = user;
    dial->head = g_string_new(NULL);
    dial->work.data = dial;
    uv_queue_work(loop, &dial->work, on_work, on_work_done);
    return dial;
}

void ws_dial_cancel(struct ws_dial *dial) {
    if (dial)
        dial->is_cancelled = true;
}
