/* The runner's link against a host of a few lines, on the project's own HTTP server and on the same loop. */

#include "runner/link.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "model/wire_seq.h"
#include "net/http_server.h"

enum { DEADLINE_MS = 15000 };

struct fixture {
    uv_loop_t loop;
    char *folder, *token_file, *credential_file, *url;
    int port;
    struct http_server *server;
    struct link *link;
    /* the host */
    struct ws *ws;
    struct wire_seq seq;
    int joins, connects, hellos;
    const char *credential; /* that it accepts */
    bool forgets;           /* takes no credential, not even one it has just given */
    const char *refuse;     /* reason, or NULL */
    bool is_mute;           /* never answers a hello */
    GString *heard;         /* messages after hello */
    char *hello;
    /* the runner */
    int welcomes, downs, drains;
    GString *told;
    GError *fatal;
};

/* ---- the host ---- */

/* Numbers what is a message; "nonsense" goes as it is. */
static void host_say(struct fixture *f, const char *text) {
    json_t *message = jsonx_parse(text, strlen(text), NULL);
    g_autofree char *numbered = NULL;

    if (json_object_get(message, "type")) {
        wire_seq_stamp(&f->seq, message);
        numbered = jsonx_to_str(message);
    }
    json_decref(message);
    ws_send_text(f->ws, numbered ? numbered : text, strlen(numbered ? numbered : text));
}

/* The message without its number, which must be the next one. */
static char *checked(struct fixture *f, const char *text) {
    json_t *message = jsonx_parse(text, strlen(text), NULL);
    char *plain;

    g_assert_true(wire_seq_check(&f->seq, message, NULL));
    json_object_del(message, "seq");
    plain = jsonx_to_str(message);
    json_decref(message);
    return plain;
}

static void on_text(void *user, const char *text, size_t len) {
    struct fixture *f = user;
    g_autofree char *plain = checked(f, text);

    if (!strstr(text, "\"type\":\"hello\"")) {
        g_string_append_printf(f->heard, "%s;", plain);
        return;
    }
    f->hellos++;
    g_free(f->hello);
    f->hello = g_strdup(text);
    if (f->is_mute)
        return;
    if (f->refuse) {
        g_autofree char *said = g_strdup_printf("{\"type\":\"refused\",\"reason\":\"%s\"}", f->refuse);
        host_say(f, said);
        ws_close(f->ws, 1008, "refused");
        return;
    }
    host_say(f, "{\"type\":\"welcome\",\"cluster_id\":\"c9\",\"heartbeat_ms\":1234}");
}

static void on_binary(void *user, const void *bytes, size_t len) {
    g_string_append_printf(((struct fixture *)user)->heard, "binary %zu;", len);
}

static void on_ws_close(void *user, const char *reason) {
    struct fixture *f = user;
    ws_free(g_steal_pointer(&f->ws));
}

static void on_ready(void *user, struct ws *ws) {
    static const struct ws_handlers handlers = {.on_text = on_text, .on_binary = on_binary, .on_close = on_ws_close};
    struct fixture *f = user;

    ws_free(f->ws);
    f->ws = ws;
    f->seq = (struct wire_seq){0};
    ws_set_handlers(ws, &handlers, f);
}

static void handle_connect(struct http_exchange *x, void *app) {
    struct fixture *f = app;
    const char *header = http_header(x, "Authorization");
    g_autofree char *wanted = g_strconcat("Bearer ", f->credential, NULL);
    g_autoptr(GError) error = NULL;

    f->connects++;
    if (f->forgets || g_strcmp0(header, wanted) != 0) {
        kr_fail(&error, UNAUTHORIZED, "the credential is not known here");
        http_reply_error(x, error, NULL);
        return;
    }
    http_upgrade(x, "kohakuriver.v1", on_ready, f);
}

static void handle_join(struct http_exchange *x, void *app) {
    struct fixture *f = app;
    size_t len;
    json_t *body = jsonx_parse(http_body(x, &len), strlen(http_body(x, &len)), NULL);
    bool ok = g_strcmp0(json_string_value(json_object_get(body, "token")), "sesame") == 0 &&
              g_strcmp0(json_string_value(json_object_get(body, "node")), "n1") == 0;
    g_autoptr(GError) error = NULL;

    json_decref(body);
    f->joins++;
    if (!ok) {
        kr_fail(&error, UNAUTHORIZED, "the join token is wrong");
        http_reply_error(x, error, NULL);
        return;
    }
    f->credential = f->joins == 1 ? "cred-1" : "cred-2";
    http_reply_json(x, 201, json_pack("{s:s,s:s}", "credential", f->credential, "cluster_id", "c9"));
}

static const struct http_route routes[] = {
    {.method = "POST",
     .path = "/api/v1/runners/join",
     .operation = "join",
     .request_schema = "X",
     .success_status = 201,
     .max_body_bytes = 4096,
     .handle = handle_join},
    {.method = "GET",
     .path = "/api/v1/runners/connect",
     .operation = "connect",
     .success_status = 101,
     .handle = handle_connect},
    {.method = NULL},
};

static void open_host(struct fixture *f) {
    g_autofree char *listen = g_strdup_printf("127.0.0.1:%d", f->port);
    g_autoptr(GError) error = NULL;

    f->server = http_server_new(&f->loop, listen, routes, f, &error);
    g_assert_no_error(error);
    f->port = http_server_port(f->server);
}

static void close_host(struct fixture *f) {
    ws_free(g_steal_pointer(&f->ws));
    http_server_free(g_steal_pointer(&f->server));
}

/* ---- the runner ---- */

static json_t *on_hello(void *user) { return json_pack("{s:{s:s},s:[]}", "node", "name", "n1", "tasks"); }

static void on_welcome(void *user, const char *cluster_id, int64_t heartbeat_ms) {
    struct fixture *f = user;

    f->welcomes++;
    g_assert_cmpstr(cluster_id, ==, "c9");
    g_assert_cmpint(heartbeat_ms, ==, 1234);
    g_assert_true(link_is_up(f->link));
}

static void on_message(void *user, const char *type, const json_t *message) {
    g_string_append_printf(((struct fixture *)user)->told, "%s;", type);
}

static void on_down(void *user) { ((struct fixture *)user)->downs++; }
static void on_drain(void *user) { ((struct fixture *)user)->drains++; }
static void on_fatal(void *user, const GError *error) { ((struct fixture *)user)->fatal = g_error_copy(error); }

static void open_link(struct fixture *f) {
    static const struct link_handlers handlers = {on_hello, on_welcome, on_message, NULL, on_down, on_drain, on_fatal};
    struct link_config config = {"n1", f->url, f->folder, f->token_file};
    g_autoptr(GError) error = NULL;

    f->link = link_new(&f->loop, &config, &handlers, f, &error);
    g_assert_no_error(error);
    link_start(f->link);
}

static void write_token(struct fixture *f, const char *token) {
    g_assert_true(g_file_set_contents(f->token_file, token, -1, NULL));
}

static void set_up(struct fixture *f, gconstpointer data) {
    uv_loop_init(&f->loop);
    f->folder = g_dir_make_tmp("kr-link-XXXXXX", NULL);
    f->token_file = g_build_filename(f->folder, "token", NULL);
    f->credential_file = g_build_filename(f->folder, "credential.json", NULL);
    f->credential = "(none)";
    f->heard = g_string_new(NULL);
    f->told = g_string_new(NULL);
    write_token(f, "sesame\n");
    open_host(f);
    f->url = g_strdup_printf("http://127.0.0.1:%d/", f->port);
}

static void tear_down(struct fixture *f, gconstpointer data) {
    link_free(f->link);
    close_host(f);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    g_assert_cmpint(uv_loop_close(&f->loop), ==, 0);
    g_unlink(f->token_file);
    g_unlink(f->credential_file);
    g_assert_cmpint(g_rmdir(f->folder), ==, 0);
    g_free(f->folder);
    g_free(f->token_file);
    g_free(f->credential_file);
    g_free(f->url);
    g_free(f->hello);
    g_string_free(f->heard, TRUE);
    g_string_free(f->told, TRUE);
    g_clear_error(&f->fatal);
}

static void turn(struct fixture *f) {
    uv_run(&f->loop, UV_RUN_NOWAIT);
    g_usleep(300);
}

#define WAIT(f, condition)                                             \
    do {                                                               \
        gint64 until_us = g_get_monotonic_time() + DEADLINE_MS * 1000; \
        while (!(condition) && g_get_monotonic_time() < until_us)      \
            turn(f);                                                   \
        g_assert_true(condition);                                      \
    } while (0)

static void spin(struct fixture *f, int ms) {
    gint64 until_us = g_get_monotonic_time() + ms * 1000;

    while (g_get_monotonic_time() < until_us)
        turn(f);
}

/* ---- tests ---- */

static void test_join(struct fixture *f, gconstpointer data) {
    struct stat status;

    open_link(f);
    g_assert_cmpstr(link_cluster_id(f->link), ==, "");
    WAIT(f, f->welcomes == 1);
    g_assert_cmpint(f->joins, ==, 1);
    g_assert_cmpint(stat(f->credential_file, &status), ==, 0);
    g_assert_cmpint(status.st_mode & 0777, ==, 0600);
    g_assert_cmpstr(link_cluster_id(f->link), ==, "c9");
    g_assert_nonnull(strstr(f->hello, "\"protocol\":2"));
    g_assert_nonnull(strstr(f->hello, "\"node\":{\"name\":\"n1\"},\"tasks\":[]"));
}

/* The second life needs no token any more. */
static void test_credential_is_kept(struct fixture *f, gconstpointer data) {
    open_link(f);
    WAIT(f, f->welcomes == 1);
    link_free(f->link);
    g_unlink(f->token_file);
    open_link(f);
    WAIT(f, f->welcomes == 2);
    g_assert_cmpint(f->joins, ==, 1);
}

static void test_wrong_token(struct fixture *f, gconstpointer data) {
    write_token(f, "guess");
    open_link(f);
    WAIT(f, f->fatal);
    g_assert_error(f->fatal, KR_ERROR, KR_ERROR_UNAUTHORIZED);
    g_assert_nonnull(strstr(f->fatal->message, "node n1 cannot join the cluster of http://127.0.0.1"));
    g_assert_nonnull(strstr(f->fatal->message, "the join token is wrong"));
    g_assert_null(strstr(f->fatal->message, "guess"));
}

static void test_no_token(struct fixture *f, gconstpointer data) {
    g_unlink(f->token_file);
    open_link(f);
    WAIT(f, f->fatal);
    g_assert_nonnull(strstr(f->fatal->message, "token: No such file or directory"));
    write_token(f, "");
}

/* A host that knows the credential no more gets the token again; while that is wrong too, we go on trying. */
static void test_rejoin(struct fixture *f, gconstpointer data) {
    open_link(f);
    WAIT(f, f->welcomes == 1);
    f->credential = "(forgotten)";
    write_token(f, "guess");
    ws_close(f->ws, 1001, "restart");
    WAIT(f, f->joins == 2);
    spin(f, 50);
    g_assert_null(f->fatal);
    write_token(f, "sesame");
    WAIT(f, f->welcomes == 2);
    g_assert_cmpstr(f->credential, ==, "cred-2");
}

/* A host that gives credentials and takes none is not asked without pause. */
static void test_rejoin_in_vain(struct fixture *f, gconstpointer data) {
    f->forgets = true;
    open_link(f);
    spin(f, 1500);
    g_assert_cmpint(f->joins, >=, 1);
    g_assert_cmpint(f->joins, <=, 4);
    g_assert_cmpint(f->connects, <=, 8);
    f->forgets = false;
    WAIT(f, f->welcomes == 1);
}

static void test_host_away(struct fixture *f, gconstpointer data) {
    close_host(f);
    open_link(f);
    spin(f, 200);
    g_assert_null(f->fatal);
    open_host(f);
    WAIT(f, f->welcomes == 1);
    close_host(f);
    WAIT(f, f->downs == 1);
    g_assert_false(link_is_up(f->link));
    open_host(f);
    WAIT(f, f->welcomes == 2);
    g_assert_cmpint(f->joins, ==, 1);
}

static void test_messages(struct fixture *f, gconstpointer data) {
    open_link(f);
    link_send_json(f->link, json_pack("{s:s}", "type", "too early"));
    WAIT(f, f->welcomes == 1);
    host_say(f, "{\"type\":\"start\",\"x\":1}");
    host_say(f, "nonsense");
    host_say(f, "{\"kind\":1}");
    host_say(f, "{\"type\":\"ack\"}");
    WAIT(f, strcmp(f->told->str, "start;ack;") == 0);
    link_send_json(f->link, json_pack("{s:s}", "type", "report"));
    g_assert_true(link_send_binary(f->link, "\0\0\0\1x", 5));
    WAIT(f, strcmp(f->heard->str, "{\"type\":\"report\"};binary 5;") == 0);
    WAIT(f, f->drains > 0);
}

/* A message is lost, doubled or overtaken: everything is told anew, and nothing of this connection counts any more. */
static void test_out_of_sequence(struct fixture *f, gconstpointer data) {
    open_link(f);
    WAIT(f, f->welcomes == 1);
    f->seq.sent++;
    host_say(f, "{\"type\":\"start\"}");
    WAIT(f, f->welcomes == 2);
    f->seq.sent--;
    host_say(f, "{\"type\":\"start\"}");
    WAIT(f, f->welcomes == 3);
    host_say(f, "{\"type\":\"ack\"}");
    WAIT(f, strcmp(f->told->str, "ack;") == 0);
}

/* A task may end between hello, which does not say so, and welcome. */
static void test_between_hello_and_welcome(struct fixture *f, gconstpointer data) {
    f->is_mute = true;
    open_link(f);
    WAIT(f, f->hellos == 1);
    link_send_json(f->link, json_pack("{s:s}", "type", "report"));
    spin(f, 50);
    g_assert_cmpstr(f->heard->str, ==, "");
    host_say(f, "{\"type\":\"welcome\",\"cluster_id\":\"c9\",\"heartbeat_ms\":1234}");
    WAIT(f, strcmp(f->heard->str, "{\"type\":\"report\"};") == 0);
    link_say_hello_again(f->link);
    WAIT(f, f->hellos == 2);
    link_send_json(f->link, json_pack("{s:s}", "type", "lost"));
    ws_close(f->ws, 1001, "restart");
    f->is_mute = false;
    WAIT(f, f->welcomes == 2);
    spin(f, 50);
    g_assert_null(strstr(f->heard->str, "lost"));
}

static void test_refused(struct fixture *f, gconstpointer data) {
    f->refuse = "not you";
    open_link(f);
    WAIT(f, f->hellos == 1);
    spin(f, 300);
    g_assert_false(link_is_up(f->link));
    g_assert_cmpint(f->hellos, ==, 1); /* it waits long: somebody has to do something */
    g_assert_cmpint(f->downs, ==, 0);
    g_assert_null(f->fatal);
}

static void test_hello_again(struct fixture *f, gconstpointer data) {
    open_link(f);
    link_say_hello_again(f->link);
    WAIT(f, f->welcomes == 1);
    link_say_hello_again(f->link);
    g_assert_cmpint(f->downs, ==, 1);
    WAIT(f, f->welcomes == 2);
    g_assert_cmpint(f->hellos, ==, 2);
}

static void test_free_anywhere(struct fixture *f, gconstpointer data) {
    for (int turns = 0; turns < 40; turns++) {
        g_unlink(f->credential_file);
        open_link(f);
        for (int i = 0; i < turns; i++)
            turn(f);
        link_free(g_steal_pointer(&f->link));
    }
    spin(f, 100);
}

static void test_damaged_credential(struct fixture *f, gconstpointer data) {
    static const char *const bad[] = {"", "{}", "{\"credential\":1,\"cluster_id\":\"c\"}"};
    static const struct link_handlers handlers = {on_hello, on_welcome, on_message, NULL, on_down, on_drain, on_fatal};
    struct link_config config = {"n1", f->url, f->folder, f->token_file};

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_true(g_file_set_contents(f->credential_file, bad[i], -1, NULL));
        g_assert_null(link_new(&f->loop, &config, &handlers, f, &error));
        g_assert_nonnull(error);
    }
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
#define ADD(path, function) g_test_add("/runner/link/" path, struct fixture, NULL, set_up, function, tear_down)
    ADD("join", test_join);
    ADD("credential-is-kept", test_credential_is_kept);
    ADD("wrong-token", test_wrong_token);
    ADD("no-token", test_no_token);
    ADD("join-anew", test_rejoin);
    ADD("join-in-vain", test_rejoin_in_vain);
    ADD("host-away", test_host_away);
    ADD("messages", test_messages);
    ADD("/link/R5-out-of-sequence", test_out_of_sequence);
    ADD("between-hello-and-welcome", test_between_hello_and_welcome);
    ADD("refused", test_refused);
    ADD("hello-again", test_hello_again);
    ADD("free-anywhere", test_free_anywhere);
    ADD("damaged-credential", test_damaged_credential);
    return g_test_run();
}
