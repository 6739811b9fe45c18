/* Server, streams and WebSockets against real sockets, with the project's own clients on the same loop. */

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "net/ws.h"

struct bed {
    uv_loop_t loop;
    struct http_server *server;
    struct http_client *client;
    char *base;
    /* the newest answer */
    bool is_done;
    int status;
    char *body;
    size_t len;
    char *error;
    /* streams */
    struct http_stream *stream;
    size_t received, written;
    bool is_gone;
    struct http_exchange *held;
    const char *origin; /* a header to send with a type, and with a WebSocket; NULL: none */
    const char *host;   /* likewise */
    /* WebSocket */
    struct ws *server_ws, *client_ws;
    size_t echoed, echo_bytes;
    char *close_reason;
};

static void handle_echo(struct http_exchange *x, void *app) {
    size_t len;
    const char *body = http_body(x, &len);

    (void)app;
    http_reply_bytes(x, 200, "text/plain", body, len);
}

static void handle_hold(struct http_exchange *x, void *app) {
    struct bed *bed = app;

    bed->held = x;
    uv_stop(&bed->loop);
}

static void handle_param(struct http_exchange *x, void *app) {
    (void)app;
    http_reply_json(x, 200, json_pack("{s:s,s:s*}", "name", http_path_param(x, 0), "q", http_query(x, "q")));
}

static void on_drain(void *user) {
    struct bed *bed = user;
    g_autofree char *piece = g_strnfill(100000, 'x');

    if (bed->written >= 5000000) {
        http_stream_end(bed->stream, true);
        return;
    }
    bed->written += 100000;
    http_stream_write(bed->stream, piece, 100000);
}

static void on_gone(void *user) {
    struct bed *bed = user;

    bed->is_gone = true;
    uv_stop(&bed->loop);
}

static void handle_stream(struct http_exchange *x, void *app) {
    struct bed *bed = app;

    bed->stream = http_reply_stream(x, "application/octet-stream", on_drain, on_gone, bed);
    on_drain(bed);
}

static void handle_broken(struct http_exchange *x, void *app) {
    struct http_stream *stream = http_reply_stream(x, "text/plain", NULL, NULL, app);

    http_stream_write(stream, "half", 4);
    http_stream_end(stream, false);
}

static void handle_quiet(struct http_exchange *x, void *app) {
    struct bed *bed = app;

    bed->stream = http_reply_stream(x, "text/plain", NULL, on_gone, bed);
    http_stream_write(bed->stream, "a", 1);
}

static void on_server_text(void *user, const char *text, size_t len) {
    ws_send_text(((struct bed *)user)->server_ws, text, len);
}

static void on_server_close(void *user, const char *reason) {
    struct bed *bed = user;

    g_test_message("server side: %s", reason);
    ws_free(g_steal_pointer(&bed->server_ws));
}

static void on_upgraded(void *user, struct ws *ws) {
    static const struct ws_handlers handlers = {.on_text = on_server_text, .on_close = on_server_close};
    struct bed *bed = user;

    bed->server_ws = ws;
    if (ws)
        ws_set_handlers(ws, &handlers, bed);
}

static void handle_ws(struct http_exchange *x, void *app) { http_upgrade(x, "test.v1", on_upgraded, app); }

static const struct http_param query[] = {{"q", "string", ""}, {0}};
static const struct http_route routes[] = {
    {"POST", "/echo", "echo", "", NULL, "X", NULL, 200, 1000, handle_echo},
    {"GET", "/hold", "hold", "", NULL, NULL, NULL, 200, 0, handle_hold},
    {"GET", "/p/{name}/x", "param", "", query, NULL, "X", 200, 0, handle_param},
    {"GET", "/stream", "stream", "", NULL, NULL, NULL, 200, 0, handle_stream},
    {"GET", "/broken", "broken", "", NULL, NULL, NULL, 200, 0, handle_broken},
    {"GET", "/quiet", "quiet", "", NULL, NULL, NULL, 200, 0, handle_quiet},
    {"GET", "/ws", "ws", "", NULL, NULL, NULL, 101, 0, handle_ws},
    {0},
};

static struct bed *bed_new_on(const char *listen) {
    struct bed *bed = g_new0(struct bed, 1);
    g_autoptr(GError) error = NULL;

    uv_loop_init(&bed->loop);
    bed->server = http_server_new(&bed->loop, listen, routes, bed, &error);
    g_assert_no_error(error);
    bed->base = g_strdup_printf("http://127.0.0.1:%d", http_server_port(bed->server));
    bed->client = http_client_new(&bed->loop);
    return bed;
}

static struct bed *bed_new(void) { return bed_new_on("127.0.0.1:0"); }

static void close_handle(uv_handle_t *handle, void *arg) {
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void bed_free(struct bed *bed) {
    ws_free(bed->client_ws);
    ws_free(bed->server_ws);
    http_client_free(bed->client);
    http_server_free(bed->server);
    uv_run(&bed->loop, UV_RUN_NOWAIT);
    uv_walk(&bed->loop, close_handle, NULL);
    uv_run(&bed->loop, UV_RUN_DEFAULT);
    g_assert_cmpint(uv_loop_close(&bed->loop), ==, 0);
    g_free(bed->base);
    g_free(bed->body);
    g_free(bed->error);
    g_free(bed->close_reason);
    g_free(bed);
}

static void on_done(void *user, int status, const char *body, size_t len, const GError *error) {
    struct bed *bed = user;

    uv_stop(&bed->loop); /* or a turn that timers have answered would wait on */
    bed->is_done = true;
    bed->status = status;
    g_free(bed->body);
    bed->body = g_strndup(body, len);
    bed->len = len;
    g_free(bed->error);
    bed->error = g_strdup(error ? error->message : NULL);
}

static void on_data(void *user, const char *bytes, size_t len) {
    (void)bytes;
    ((struct bed *)user)->received += len;
}

static struct http_call *start(struct bed *bed, const char *method, const char *path, const char *type,
                               const char *body, size_t len, bool streamed) {
    g_autofree char *url = g_strconcat(bed->base, path, NULL);
    g_autofree char *header = g_strdup_printf("Content-Type: %s", type ? type : "");
    const char *headers[] = {header, bed->origin ? bed->origin : bed->host, bed->origin ? bed->host : NULL, NULL};
    struct http_request request = {.method = method,
                                   .url = url,
                                   .headers = type ? headers : NULL,
                                   .body = body,
                                   .body_len = len,
                                   .user = bed,
                                   .on_done = on_done,
                                   .on_data = streamed ? on_data : NULL};

    bed->is_done = false;
    return http_client_start(bed->client, &request);
}

static void call(struct bed *bed, const char *method, const char *path, const char *type, const char *body,
                 size_t len) {
    start(bed, method, path, type, body, len, false);
    while (!bed->is_done)
        uv_run(&bed->loop, UV_RUN_ONCE);
}

static void expect(struct bed *bed, const char *method, const char *path, const char *type, const char *body,
                   int status, const char *part) {
    call(bed, method, path, type, body, body ? strlen(body) : 0);
    g_assert_null(bed->error);
    g_assert_cmpint(bed->status, ==, status);
    if (!strstr(bed->body, part))
        g_error("%s %s: \"%s\" does not contain \"%s\"", method, path, bed->body, part);
}

static void test_dispatch(void) {
    struct bed *bed = bed_new();

    expect(bed, "POST", "/echo", "application/json", "{}", 200, "{}");
    expect(bed, "POST", "/echo", "text/plain", "{}", 415, "application/json");
    expect(bed, "GET", "/echo", NULL, NULL, 405, "does not take GET");
    expect(bed, "GET", "/nothing", NULL, NULL, 404, "there is nothing at /nothing");
    expect(bed, "GET", "/p/a%20b/x?q=1", NULL, NULL, 200, "{\"name\":\"a b\",\"q\":\"1\"}");
    expect(bed, "GET", "/p//x", NULL, NULL, 404, "nothing");
    expect(bed, "GET", "/p/a/x?z=1", NULL, NULL, 400, "no query parameter \\\"z\\\"");
    bed_free(bed);
}

static void handle_page(struct http_exchange *x, void *app) {
    static const struct http_header headers[] = {
        {"Content-Type", "text/html"}, {NULL, "left out"}, {"ETag", "\"e\""}, {0}};

    (void)app;
    g_assert_true(g_str_has_prefix(http_path(x), "/page"));
    http_reply_static(x, 200, headers, "<p>", 3);
}

static void test_fallback(void) {
    static const struct http_route fallback = {.method = "GET", .handle = handle_page};
    struct bed *bed = bed_new();

    http_server_set_fallback(bed->server, &fallback);
    expect(bed, "GET", "/page/a%20b?x=1", NULL, NULL, 200, "<p>"); /* its query is the page's business */
    expect(bed, "POST", "/page", NULL, NULL, 404, "nothing at /page");
    expect(bed, "GET", "/echo", NULL, NULL, 405, "does not take GET");
    bed_free(bed);
}

/* ---- a source: bytes are fetched when the client takes them ---- */

static size_t on_read(void *user, char *buf, size_t max) {
    struct bed *bed = user;
    size_t n = MIN(max, bed->written);

    memset(buf, 'x', n);
    bed->written -= n;
    return n;
}

static void handle_source(struct http_exchange *x, void *app) {
    struct bed *bed = app;

    bed->stream = http_reply_source(x, "text/event-stream", on_read, on_gone, bed);
}

static void test_source(void) {
    static const struct http_route fallback = {.method = "GET", .handle = handle_source};
    struct bed *bed = bed_new();
    struct http_call *running;

    http_server_set_fallback(bed->server, &fallback);
    bed->written = 300000;
    running = start(bed, "GET", "/source", NULL, NULL, 0, true);
    while (bed->received < 300000)
        uv_run(&bed->loop, UV_RUN_ONCE);
    bed->written = 5;
    http_stream_wake(bed->stream);
    while (bed->received < 300005)
        uv_run(&bed->loop, UV_RUN_ONCE);
    http_stream_wake(bed->stream); /* without anything to tell: nothing happens */
    http_call_cancel(running);
    while (!bed->is_gone)
        uv_run(&bed->loop, UV_RUN_ONCE);
    bed_free(bed);
}

static void test_body_limit(void) { /* 100 MB: answered, not stored */
    struct bed *bed = bed_new();
    g_autofree char *big = g_strnfill(100 * 1000 * 1000, 'x');

    call(bed, "POST", "/echo", "application/json", big, 100 * 1000 * 1000);
    g_assert_cmpint(bed->status, ==, 413);
    g_assert_nonnull(strstr(bed->body, "too_large"));
    call(bed, "POST", "/echo", "application/json", big, 1001);
    g_assert_cmpint(bed->status, ==, 413);
    call(bed, "POST", "/echo", "application/json", big, 1000);
    g_assert_cmpint(bed->status, ==, 200);
    g_assert_cmpuint(bed->len, ==, 1000);
    bed_free(bed);
}

/* A page of another site in somebody's browser cannot make it change anything here. */
static void test_origin(void) {
    struct bed *bed = bed_new();
    g_autofree char *own = g_strdup_printf("Origin: %s", bed->base);
    g_autofree char *https = g_strdup_printf("Origin: https://127.0.0.1:%d", http_server_port(bed->server));
    g_autofree char *other_port = g_strdup_printf("Origin: http://127.0.0.1:%d", http_server_port(bed->server) + 1);
    const char *const wrong[] = {"Origin: http://evil.example", "Origin: null", other_port, "Origin: http://127.0.0.1",
                                 "Origin: 127.0.0.1"};

    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        bed->origin = wrong[i];
        expect(bed, "POST", "/echo", "application/json", "{}", 403, "page of another site");
        expect(bed, "GET", "/p/a/x", "text/plain", NULL, 200, "a"); /* reading is not ours to forbid: browsers do it */
    }
    bed->origin = own;
    expect(bed, "POST", "/echo", "application/json", "{}", 200, "{}");
    bed->origin = https; /* TLS ends at a proxy in front of us */
    expect(bed, "POST", "/echo", "application/json", "{}", 200, "{}");
    bed_free(bed);
}

static void test_deferred(void) {
    struct bed *bed = bed_new();

    start(bed, "GET", "/hold", NULL, NULL, 0, false);
    while (!bed->held)
        uv_run(&bed->loop, UV_RUN_ONCE);
    g_assert_false(bed->is_done);
    http_reply_bytes(bed->held, 200, "text/plain", "late", 4);
    while (!bed->is_done)
        uv_run(&bed->loop, UV_RUN_ONCE);
    g_assert_cmpstr(bed->body, ==, "late");
    bed_free(bed);
}

static void test_stop_answers(void) { /* a stopping server leaves nobody waiting */
    struct bed *bed = bed_new();

    start(bed, "GET", "/hold", NULL, NULL, 0, false);
    while (!bed->held)
        uv_run(&bed->loop, UV_RUN_ONCE);
    http_server_free(bed->server);
    bed->server = NULL;
    while (!bed->is_done)
        uv_run(&bed->loop, UV_RUN_ONCE);
    g_assert_cmpint(bed->status, ==, 503);
    bed_free(bed);
}

static void test_stream(void) {
    struct bed *bed = bed_new();

    start(bed, "GET", "/stream", NULL, NULL, 0, true);
    while (!bed->is_done)
        uv_run(&bed->loop, UV_RUN_ONCE);
    g_assert_null(bed->error);
    g_assert_cmpuint(bed->received, ==, 5000000);
    g_assert_false(bed->is_gone);
    call(bed, "GET", "/broken", NULL, NULL, 0); /* the client can tell that it is not whole */
    g_assert_nonnull(bed->error);
    bed_free(bed);
}

static void test_client_gone(void) { /* a follower of a quiet stream that goes away is noticed */
    struct bed *bed = bed_new();
    struct http_call *running = start(bed, "GET", "/quiet", NULL, NULL, 0, true);

    while (bed->received == 0)
        uv_run(&bed->loop, UV_RUN_ONCE);
    http_call_cancel(running);
    while (!bed->is_gone)
        uv_run(&bed->loop, UV_RUN_ONCE);
    bed_free(bed);
}

/* ---- WebSocket ---- */

static void on_client_text(void *user, const char *text, size_t len) {
    struct bed *bed = user;

    (void)text;
    bed->echoed++;
    bed->echo_bytes += len;
}

static void on_client_close(void *user, const char *reason) {
    struct bed *bed = user;

    uv_stop(&bed->loop);
    bed->close_reason = g_strdup(reason);
    g_test_message("client side: %s", reason);
    ws_free(g_steal_pointer(&bed->client_ws));
}

static void on_dialled(void *user, struct ws *ws, const GError *error) {
    static const struct ws_handlers handlers = {.on_text = on_client_text, .on_close = on_client_close};
    struct bed *bed = user;

    uv_stop(&bed->loop);
    bed->is_done = true;
    g_free(bed->error);
    bed->error = g_strdup(error ? error->message : NULL);
    bed->client_ws = ws;
    if (ws)
        ws_set_handlers(ws, &handlers, bed);
}

static void dial(struct bed *bed, const char *path, const char *subprotocol) {
    g_autofree char *url = g_strconcat(bed->base, path, NULL);
    const char *headers[] = {bed->origin ? bed->origin : bed->host, bed->origin ? bed->host : NULL, NULL};

    bed->is_done = false;
    ws_dial_start(&bed->loop, url, headers, subprotocol, 5000, on_dialled, bed);
    while (!bed->is_done)
        uv_run(&bed->loop, UV_RUN_ONCE);
}

/* Cross-site WebSocket hijacking: browsers let any page open one to anywhere, and name the page. */
static void test_ws_origin(void) {
    struct bed *bed = bed_new();
    g_autofree char *own = g_strdup_printf("Origin: %s", bed->base);

    bed->origin = "Origin: http://evil.example";
    dial(bed, "/ws", "test.v1");
    g_assert_nonnull(bed->error);
    g_assert_nonnull(strstr(bed->error, "403"));
    g_assert_null(bed->server_ws);
    bed->origin = own;
    dial(bed, "/ws", "test.v1");
    g_assert_null(bed->error);
    ws_close(bed->client_ws, 1000, "good-bye");
    while (!bed->close_reason)
        uv_run(&bed->loop, UV_RUN_ONCE);
    bed_free(bed);
}

static void expect_host(struct bed *bed, const char *host, const char *mark, bool is_fine) {
    g_autofree char *header = g_strdup_printf("Host: %s", host);

    bed->host = header;
    bed->origin = mark;
    expect(bed, "GET", "/p/a/x", "text/plain", NULL, is_fine ? 200 : 403, is_fine ? "\"a\"" : "setting host_names");
    if (!is_fine && !strstr(bed->body, host))
        g_error("\"%s\" does not name \"%s\"", bed->body, host);
    bed->host = bed->origin = NULL;
}

static const char *const browser_marks[] = {"Origin: https://river.example.com", "Sec-Fetch-Site: same-origin",
                                            "Sec-Fetch-Mode: navigate"};

static void expect_own_hosts(struct bed *bed) {
    g_auto(GStrv) names = g_strsplit("river.example.com", ";", -1);
    const char *const own[] = {"localhost",       "LOCALHOST:99",      "127.0.0.1",
                               "10.1.2.3:8000",   "[::1]:8000",        "[fe80::1]",
                               g_get_host_name(), "river.example.com", "River.Example.com:443"};

    g_assert_true(http_server_add_names(bed->server, names, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(own); i++) {
        expect_host(bed, own[i], NULL, true);
        for (size_t k = 0; k < G_N_ELEMENTS(browser_marks); k++)
            expect_host(bed, own[i], browser_marks[k], true);
    }
}

/* R10, DNS rebinding: on loopback nobody may use a name that is not this host's. */
static void test_host_names(void) {
    struct bed *bed = bed_new();
    g_auto(GStrv) wrong = g_strsplit("https://river.example.com;evil.example", ";", -1);
    g_autoptr(GError) error = NULL;

    expect_host(bed, "river.example.com", NULL, false);
    expect_own_hosts(bed);
    for (size_t k = 0; k < G_N_ELEMENTS(browser_marks); k++)
        expect_host(bed, "evil.example", browser_marks[k], false);
    expect_host(bed, "evil.example", NULL, false);
    expect_host(bed, "evil.example:8000", NULL, false);
    bed->host = "Host: evil.example";
    bed->origin = "Origin: http://evil.example"; /* as a page sends it whose name was rebound */
    expect(bed, "POST", "/echo", "application/json", "{}", 403, "the Host \\\"evil.example\\\"");
    bed->host = "Host: ev\xff\"il\t.example";
    expect(bed, "POST", "/echo", "application/json", "{}", 403, "ev?\\\"il?.example");
    bed->host = "Host: river.example.com";
    bed->origin = "Origin: https://river.example.com";
    expect(bed, "POST", "/echo", "application/json", "{}", 200, "{}");
    bed->host = "Host: river.example.com:443";
    expect(bed, "POST", "/echo", "application/json", "{}", 200, "{}");
    bed->origin = "Origin: https://evil.example";
    expect(bed, "POST", "/echo", "application/json", "{}", 403, "page of another site");
    g_assert_false(http_server_add_names(bed->server, wrong, &error));
    g_assert_nonnull(strstr(error->message, "https://river.example.com"));
    bed_free(bed);
}

/* R10, DNS rebinding of an address that other machines reach: a browser must know the name; the command line, runners and
 * Prometheus may have one of their own. */
static void test_host_names_beyond_loopback(void) {
    struct bed *bed = bed_new_on("0.0.0.0:0");

    expect_host(bed, "river.example.com", browser_marks[0], false);
    expect_own_hosts(bed);
    for (size_t k = 0; k < G_N_ELEMENTS(browser_marks); k++)
        expect_host(bed, "evil.example:8000", browser_marks[k], false);
    expect_host(bed, "gpu-host.lan:8000", NULL, true);
    bed->host = "Host: gpu-host.lan:8000";
    expect(bed, "POST", "/echo", "application/json", "{}", 200, "{}");
    dial(bed, "/ws", "test.v1"); /* a runner */
    g_assert_null(bed->error);
    ws_free(g_steal_pointer(&bed->client_ws));
    while (!bed->close_reason && bed->server_ws)
        uv_run(&bed->loop, UV_RUN_ONCE);
    bed->host = "Host: evil.example:8000";
    bed->origin = "Origin: http://evil.example:8000";
    expect(bed, "POST", "/echo", "application/json", "{}", 403, "the Host \\\"evil.example:8000\\\"");
    dial(bed, "/ws", "test.v1");
    g_assert_nonnull(strstr(bed->error, "403"));
    bed_free(bed);
}

static void test_ws(void) {
    struct bed *bed = bed_new();
    g_autofree char *big = g_strnfill(3 * 1024 * 1024, 'y');

    dial(bed, "/ws", "test.v1");
    g_assert_null(bed->error);
    for (int i = 0; i < 500; i++)
        ws_send_text(bed->client_ws, "hello", 5);
    ws_send_text(bed->client_ws, big, 3 * 1024 * 1024);
    while (bed->echoed < 501)
        uv_run(&bed->loop, UV_RUN_ONCE);
    g_assert_cmpuint(bed->echo_bytes, ==, 2500 + 3 * 1024 * 1024);
    ws_close(bed->server_ws, 1001, "good-bye");
    while (!bed->close_reason)
        uv_run(&bed->loop, UV_RUN_ONCE);
    g_assert_cmpstr(bed->close_reason, ==, "good-bye");
    bed_free(bed);
}

static void test_ws_refused(void) {
    struct bed *bed = bed_new();

    dial(bed, "/ws", "other.v1");
    g_assert_nonnull(bed->error);
    dial(bed, "/nothing", "test.v1");
    g_assert_nonnull(strstr(bed->error, "404"));
    dial(bed, "/ws", "test.v1"); /* still well */
    g_assert_null(bed->error);
    bed_free(bed);
}

static void test_ws_too_large(void) {
    struct bed *bed = bed_new();
    g_autofree char *huge = g_strnfill(9 * 1024 * 1024, 'z');

    dial(bed, "/ws", "test.v1");
    ws_send_text(bed->client_ws, huge, 9 * 1024 * 1024);
    while (!bed->close_reason)
        uv_run(&bed->loop, UV_RUN_ONCE);
    g_assert_cmpuint(bed->echoed, ==, 0);
    bed_free(bed);
}

static void expect_listen_error(const char *listen, const char *part) {
    uv_loop_t loop;
    g_autoptr(GError) error = NULL;

    uv_loop_init(&loop);
    g_assert_null(http_server_new(&loop, listen, routes, NULL, &error));
    g_assert_nonnull(strstr(error->message, part));
    uv_loop_close(&loop);
}

static void test_listen(void) {
    struct bed *bed = bed_new();
    g_autofree char *taken = g_strdup_printf("127.0.0.1:%d", http_server_port(bed->server));

    expect_listen_error(taken, "cannot listen on");
    expect_listen_error("8000", "ADDRESS:PORT");
    expect_listen_error("example.invalid:80", "is not an address");
    expect_listen_error("127.0.0.1:99999999", "ADDRESS:PORT");
    bed_free(bed);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/http/dispatch", test_dispatch);
    g_test_add_func("/http/body-limit", test_body_limit);
    g_test_add_func("/http/fallback", test_fallback);
    g_test_add_func("/http/source", test_source);
    g_test_add_func("/http/origin", test_origin);
    g_test_add_func("/http/host-names", test_host_names);
    g_test_add_func("/http/host-names-beyond-loopback", test_host_names_beyond_loopback);
    g_test_add_func("/http/deferred", test_deferred);
    g_test_add_func("/http/stop-answers", test_stop_answers);
    g_test_add_func("/http/stream", test_stream);
    g_test_add_func("/http/client-gone", test_client_gone);
    g_test_add_func("/http/listen", test_listen);
    g_test_add_func("/ws/echo", test_ws);
    g_test_add_func("/ws/origin", test_ws_origin);
    g_test_add_func("/ws/refused", test_ws_refused);
    g_test_add_func("/ws/too-large", test_ws_too_large);
    return g_test_run();
}
