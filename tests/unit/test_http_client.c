/* The HTTP client against a small server of our own on the same loop: paths name what it does. */

#include "net/http_client.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

enum { STREAM_CHUNKS = 200, STREAM_CHUNK_BYTES = 10000, DEADLINE_MS = 20000 };

struct fixture {
    uv_loop_t loop;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
    char *folder, *socket, *base;
    struct http_client *client;
    int connections; /* accepted so far */
};

struct peer {
    union {
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    };
    struct fixture *f;
    GString *in;
};

static void on_peer_closed(uv_handle_t *handle) {
    struct peer *peer = handle->data;

    g_string_free(peer->in, TRUE);
    g_free(peer);
}

static void peer_close(struct peer *peer) {
    if (!uv_is_closing((uv_handle_t *)&peer->stream))
        uv_close((uv_handle_t *)&peer->stream, on_peer_closed);
}

static void on_written(uv_write_t *write, int status) { g_free(write); }

static void say(struct peer *peer, const char *bytes, size_t len) {
    uv_write_t *write = g_malloc(sizeof *write + len);
    uv_buf_t buf = uv_buf_init((char *)(write + 1), (unsigned)len);

    memcpy(buf.base, bytes, len);
    uv_write(write, &peer->stream, &buf, 1, on_written);
}

static void answer(struct peer *peer, int status, const char *body, size_t len) {
    g_autofree char *head = g_strdup_printf("HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n", status, len);

    say(peer, head, strlen(head));
    say(peer, body, len);
}

static void answer_stream(struct peer *peer) {
    g_autofree char *chunk = g_malloc(STREAM_CHUNK_BYTES);
    g_autofree char *size = g_strdup_printf("%x\r\n", STREAM_CHUNK_BYTES);
    const char *head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    say(peer, head, strlen(head));
    for (int i = 0; i < STREAM_CHUNKS; i++) {
        memset(chunk, 'a' + i % 26, STREAM_CHUNK_BYTES);
        say(peer, size, strlen(size));
        say(peer, chunk, STREAM_CHUNK_BYTES);
        say(peer, "\r\n", 2);
    }
    say(peer, "0\r\n\r\n", 5);
}

static void handle(struct peer *peer, const char *line, const char *head, const char *body, size_t len) {
    if (strstr(line, " /echo"))
        answer(peer, 200, body, len);
    else if (strstr(line, " /head"))
        answer(peer, 200, head, strlen(head));
    else if (strstr(line, " /missing"))
        answer(peer, 404, "nothing here", 12);
    else if (strstr(line, " /stream"))
        answer_stream(peer);
    else if (strstr(line, " /cut"))
        say(peer, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", 43);
    if (strstr(line, " /cut") || strstr(line, " /close"))
        uv_read_stop(&peer->stream), peer_close(peer);
    /* " /hang" is never answered */
}

static bool take_request(struct peer *peer) {
    const char *end = strstr(peer->in->str, "\r\n\r\n");
    const char *length = strcasestr(peer->in->str, "content-length:");
    size_t len = length ? (size_t)g_ascii_strtoll(length + 15, NULL, 10) : 0;
    size_t head_len = end ? (size_t)(end - peer->in->str) + 4 : 0;

    if (!end || peer->in->len < head_len + len)
        return false;
    {
        g_autofree char *head = g_strndup(peer->in->str, head_len);
        g_autofree char *line = g_strndup(head, strcspn(head, "\r"));
        g_autofree char *body = g_memdup2(peer->in->str + head_len, len + 1);
        g_string_erase(peer->in, 0, (gssize)(head_len + len));
        handle(peer, line, head, body, len);
    }
    return !uv_is_closing((uv_handle_t *)&peer->stream);
}

static void on_alloc(uv_handle_t *handle, size_t want, uv_buf_t *buf) {
    *buf = uv_buf_init(g_malloc(want), (unsigned)want);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct peer *peer = stream->data;

    if (n > 0)
        g_string_append_len(peer->in, buf->base, n);
    g_free(buf->base);
    if (n < 0)
        peer_close(peer);
    while (n > 0 && take_request(peer)) {
    }
}

static void on_connection(uv_stream_t *server, int status) {
    struct fixture *f = server->data;
    struct peer *peer = g_new0(struct peer, 1);

    f->connections++;
    peer->f = f;
    peer->in = g_string_new(NULL);
    if (server == (uv_stream_t *)&f->tcp)
        uv_tcp_init(&f->loop, &peer->tcp);
    else
        uv_pipe_init(&f->loop, &peer->pipe, 0);
    peer->stream.data = peer;
    uv_accept(server, &peer->stream);
    uv_read_start(&peer->stream, on_alloc, on_read);
}

static void set_up(struct fixture *f, gconstpointer data) {
    struct sockaddr_in address;
    int len = sizeof address;

    uv_loop_init(&f->loop);
    uv_tcp_init(&f->loop, &f->tcp);
    uv_ip4_addr("127.0.0.1", 0, &address);
    g_assert_cmpint(uv_tcp_bind(&f->tcp, (struct sockaddr *)&address, 0), ==, 0);
    uv_tcp_getsockname(&f->tcp, (struct sockaddr *)&address, &len);
    f->tcp.data = f->pipe.data = f;
    uv_listen((uv_stream_t *)&f->tcp, 16, on_connection);
    f->base = g_strdup_printf("http://127.0.0.1:%d", ntohs(address.sin_port));
    f->folder = g_dir_make_tmp("kr-http-XXXXXX", NULL);
    f->socket = g_build_filename(f->folder, "s", NULL);
    uv_pipe_init(&f->loop, &f->pipe, 0);
    uv_pipe_bind(&f->pipe, f->socket);
    f->pipe.data = f;
    uv_listen((uv_stream_t *)&f->pipe, 16, on_connection);
    f->client = http_client_new(&f->loop);
}

static void close_walk(uv_handle_t *handle, void *arg) {
    struct fixture *f = arg;

    if (uv_is_closing(handle))
        return;
    uv_close(handle, handle == (uv_handle_t *)&f->tcp || handle == (uv_handle_t *)&f->pipe ? NULL : on_peer_closed);
}

static void tear_down(struct fixture *f, gconstpointer data) {
    http_client_free(f->client);
    uv_run(&f->loop, UV_RUN_NOWAIT);
    uv_walk(&f->loop, close_walk, f);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    g_assert_cmpint(uv_loop_close(&f->loop), ==, 0);
    g_unlink(f->socket);
    g_rmdir(f->folder);
    g_free(f->folder);
    g_free(f->socket);
    g_free(f->base);
}

/* ---- one call and what came of it ---- */

struct outcome {
    struct fixture *f;
    struct http_call *call;
    int done, status;
    GString *body; /* collected or streamed */
    GError *error;
    int pieces, cancel_after, pause_after, pieces_in_pause;
    bool is_paused;
    uv_timer_t timer;
};

static void on_done(void *user, int status, const char *body, size_t len, const GError *error) {
    struct outcome *o = user;

    o->done++;
    o->status = status;
    if (len)
        g_string_append_len(o->body, body, (gssize)len);
    o->error = error ? g_error_copy(error) : NULL;
}

static void on_resume(uv_timer_t *timer) {
    struct outcome *o = timer->data;

    o->is_paused = false;
    http_call_resume(o->call);
}

static void on_data(void *user, const char *bytes, size_t len) {
    struct outcome *o = user;

    o->pieces++;
    o->pieces_in_pause += o->is_paused;
    g_string_append_len(o->body, bytes, (gssize)len);
    if (o->pieces == o->cancel_after)
        http_call_cancel(o->call);
    if (o->pieces == o->pause_after) {
        o->is_paused = true;
        http_call_pause(o->call);
        uv_timer_start(&o->timer, on_resume, 100, 0);
    }
}

static struct outcome *outcome_new(struct fixture *f) {
    struct outcome *o = g_new0(struct outcome, 1);

    o->f = f;
    o->body = g_string_new(NULL);
    uv_timer_init(&f->loop, &o->timer);
    o->timer.data = o;
    return o;
}

static void on_outcome_closed(uv_handle_t *handle) {
    struct outcome *o = handle->data;

    g_string_free(o->body, TRUE);
    g_clear_error(&o->error);
    g_free(o);
}

static void outcome_free(struct outcome *o) { uv_close((uv_handle_t *)&o->timer, on_outcome_closed); }

static void start(struct outcome *o, struct http_request request, const char *path) {
    g_autofree char *url = g_strconcat(o->f->base, path, NULL);

    request.url = url;
    request.user = o;
    request.on_done = on_done;
    request.method = request.method ? request.method : "GET";
    o->call = http_client_start(o->f->client, &request);
    g_assert_cmpint(o->done, ==, 0);
}

static void wait_done(struct outcome *o) {
    gint64 end = g_get_monotonic_time() + DEADLINE_MS * 1000;

    while (!o->done && g_get_monotonic_time() < end) {
        uv_run(&o->f->loop, UV_RUN_NOWAIT);
        g_usleep(200);
    }
    g_assert_cmpint(o->done, ==, 1);
}

static void spin(struct fixture *f, int ms) {
    gint64 end = g_get_monotonic_time() + ms * 1000;

    while (g_get_monotonic_time() < end) {
        uv_run(&f->loop, UV_RUN_NOWAIT);
        g_usleep(500);
    }
}

static void test_get_and_post(struct fixture *f, gconstpointer unix_socket) {
    struct outcome *get = outcome_new(f), *post = outcome_new(f);
    const char *path = unix_socket ? f->socket : NULL;
    const char *headers[] = {"Content-Type: application/json", "X-Test: 1", NULL};

    start(get, (struct http_request){.unix_socket = path}, "/missing");
    start(
        post,
        (struct http_request){.method = "POST", .unix_socket = path, .headers = headers, .body = "a\0b", .body_len = 3},
        "/echo");
    wait_done(get);
    wait_done(post);
    g_assert_cmpint(get->status, ==, 404);
    g_assert_cmpstr(get->body->str, ==, "nothing here");
    g_assert_no_error(get->error);
    g_assert_cmpint(post->status, ==, 200);
    g_assert_cmpmem(post->body->str, post->body->len, "a\0b", 3);
    outcome_free(get);
    outcome_free(post);
}

static void test_headers(struct fixture *f, gconstpointer data) {
    struct outcome *o = outcome_new(f);
    const char *headers[] = {"Authorization: Bearer x", NULL};

    start(o, (struct http_request){.method = "POST", .headers = headers}, "/head");
    wait_done(o);
    g_assert_nonnull(strstr(o->body->str, "Authorization: Bearer x\r\n"));
    g_assert_nonnull(strstr(o->body->str, "Content-Length: 0\r\n"));
    g_assert_null(strstr(o->body->str, "x-www-form-urlencoded"));
    g_assert_null(strstr(o->body->str, "Expect"));
    g_assert_nonnull(strstr(o->body->str, "HTTP/1.1\r\n"));
    outcome_free(o);
}

static void test_stream(struct fixture *f, gconstpointer data) {
    struct outcome *o = outcome_new(f);

    o->pause_after = 3;
    start(o, (struct http_request){.on_data = on_data}, "/stream");
    wait_done(o);
    g_assert_no_error(o->error);
    g_assert_cmpint(o->pieces_in_pause, ==, 0);
    g_assert_cmpuint(o->body->len, ==, STREAM_CHUNKS * STREAM_CHUNK_BYTES);
    for (size_t i = 0; i < o->body->len; i += 997)
        g_assert_cmpint(o->body->str[i], ==, 'a' + (int)(i / STREAM_CHUNK_BYTES) % 26);
    outcome_free(o);
}

static void test_stream_error_is_collected(struct fixture *f, gconstpointer data) {
    struct outcome *o = outcome_new(f);

    start(o, (struct http_request){.on_data = on_data}, "/missing");
    wait_done(o);
    g_assert_cmpint(o->pieces, ==, 0);
    g_assert_cmpstr(o->body->str, ==, "nothing here");
    outcome_free(o);
}

static void test_cancel(struct fixture *f, gconstpointer data) {
    struct outcome *in_callback = outcome_new(f), *before = outcome_new(f), *hanging = outcome_new(f);

    in_callback->cancel_after = 2;
    start(in_callback, (struct http_request){.on_data = on_data}, "/stream");
    start(before, (struct http_request){0}, "/echo");
    http_call_cancel(before->call);
    start(hanging, (struct http_request){0}, "/hang");
    spin(f, 200);
    http_call_cancel(hanging->call);
    spin(f, 50);
    g_assert_cmpint(in_callback->pieces, ==, 2);
    g_assert_cmpint(in_callback->done + before->done + hanging->done, ==, 0);
    outcome_free(in_callback);
    outcome_free(before);
    outcome_free(hanging);
}

static void on_data_free_client(void *user, const char *bytes, size_t len) {
    struct outcome *o = user;

    o->pieces++;
    g_clear_pointer(&o->f->client, http_client_free);
}

static void test_free_in_callback(struct fixture *f, gconstpointer data) {
    struct outcome *o = outcome_new(f), *other = outcome_new(f);

    start(other, (struct http_request){0}, "/hang");
    start(o, (struct http_request){.on_data = on_data_free_client}, "/stream");
    spin(f, 300);
    g_assert_null(f->client);
    g_assert_cmpint(o->pieces, ==, 1);
    g_assert_cmpint(o->done + other->done, ==, 0);
    outcome_free(o);
    outcome_free(other);
}

static void on_done_start_again(void *user, int status, const char *body, size_t len, const GError *error) {
    struct outcome *o = user;
    g_autofree char *url = g_strconcat(o->f->base, "/echo", NULL);
    struct http_request request = {
        .method = "PUT", .url = url, .body = "again", .body_len = 5, .user = o, .on_done = on_done};

    o->call = http_client_start(o->f->client, &request);
}

static void test_start_in_callback(struct fixture *f, gconstpointer data) {
    struct outcome *o = outcome_new(f);
    g_autofree char *url = g_strconcat(f->base, "/missing", NULL);
    struct http_request request = {.method = "GET", .url = url, .user = o, .on_done = on_done_start_again};

    http_client_start(f->client, &request);
    wait_done(o);
    g_assert_cmpstr(o->body->str, ==, "again");
    outcome_free(o);
}

static void check_error(struct fixture *f, struct http_request request, const char *path, int code, int status) {
    struct outcome *o = outcome_new(f);

    start(o, request, path);
    wait_done(o);
    g_assert_error(o->error, KR_ERROR, code);
    g_assert_cmpint(o->status, ==, status);
    outcome_free(o);
}

static void test_errors(struct fixture *f, gconstpointer data) {
    g_autofree char *nowhere = g_strconcat(f->folder, "/none", NULL);

    check_error(f, (struct http_request){.timeout_ms = 100}, "/hang", KR_ERROR_TIMEOUT, 0);
    check_error(f, (struct http_request){0}, "/close", KR_ERROR_IO, 0);
    check_error(f, (struct http_request){0}, "/cut", KR_ERROR_IO, 200);
    check_error(f, (struct http_request){.max_body_bytes = 100000}, "/stream", KR_ERROR_TOO_LARGE, 200);
    check_error(f, (struct http_request){.unix_socket = nowhere}, "/", KR_ERROR_UNREACHABLE, 0);
}

static void test_unreachable_text(struct fixture *f, gconstpointer data) {
    struct outcome *o = outcome_new(f);
    g_autofree char *nowhere = g_strconcat(f->folder, "/none", NULL);

    start(o, (struct http_request){.unix_socket = nowhere}, "/");
    wait_done(o);
    g_assert_true(g_str_has_suffix(o->error->message, "/none: No such file or directory"));
    outcome_free(o);
}

/* A proxy of the environment that does not exist must not come between us and our own machine. */
static void test_proxy(struct fixture *f, gconstpointer data) {
    struct outcome *tcp = outcome_new(f), *local = outcome_new(f);

    g_setenv("http_proxy", "http://127.0.0.1:1", TRUE);
    start(tcp, (struct http_request){0}, "/missing");
    start(local, (struct http_request){.unix_socket = f->socket}, "/missing");
    wait_done(tcp);
    wait_done(local);
    g_unsetenv("http_proxy");
    g_assert_cmpint(tcp->status, ==, 404);
    g_assert_cmpint(local->status, ==, 404);
    outcome_free(tcp);
    outcome_free(local);
}

/* A POST that could have been read by a dying peer is never sent again by the library on its own. */
static void test_connections(struct fixture *f, gconstpointer data) {
    static const struct {
        const char *method;
        bool may_repeat;
        int connections;
    } row[] = {{"GET", false, 1}, {"GET", false, 1}, {"POST", false, 2}, {"POST", true, 2}, {"DELETE", false, 3}};

    for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
        struct outcome *o = outcome_new(f);
        start(o, (struct http_request){.method = row[i].method, .may_repeat = row[i].may_repeat}, "/missing");
        wait_done(o);
        g_assert_cmpint(f->connections, ==, row[i].connections);
        outcome_free(o);
    }
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
#define ADD(path, data, function) g_test_add(path, struct fixture, data, set_up, function, tear_down)
    ADD("/net/http-client/tcp", NULL, test_get_and_post);
    ADD("/net/http-client/unix-socket", "unix", test_get_and_post);
    ADD("/net/http-client/headers", NULL, test_headers);
    ADD("/net/http-client/stream-pause-resume", NULL, test_stream);
    ADD("/net/http-client/stream-error-is-collected", NULL, test_stream_error_is_collected);
    ADD("/net/http-client/cancel", NULL, test_cancel);
    ADD("/net/http-client/free-in-callback", NULL, test_free_in_callback);
    ADD("/net/http-client/start-in-callback", NULL, test_start_in_callback);
    ADD("/net/http-client/errors", NULL, test_errors);
    ADD("/net/http-client/unreachable-names-the-cause", NULL, test_unreachable_text);
    ADD("/net/http-client/no-proxy-at-home", NULL, test_proxy);
    ADD("/net/http-client/post-is-never-repeated", NULL, test_connections);
    return g_test_run();
}
