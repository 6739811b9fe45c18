#include "runner/log_server.h"

#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "model/wire.h"
#include "runner/log_store.h"

struct fixture {
    char *folder;
    struct log_store *store;
    struct log_writer *w;
    struct log_server *server;
    GString *sent; /* of stream 9 */
    GString *ends; /* "9 error;" */
    size_t largest;
    bool is_congested, is_live;
    int64_t time_ns;
};

static bool on_send(void *user, const void *bytes, size_t len) {
    struct fixture *f = user;
    const unsigned char *id = bytes;

    g_assert_cmpmem(id, 4, "\0\0\0\x9", 4);
    g_assert_cmpint(len, >, 4);
    f->largest = MAX(f->largest, len);
    g_string_append_len(f->sent, (const char *)bytes + 4, (gssize)len - 4);
    return true;
}

static void on_end(void *user, uint32_t stream, const char *error) {
    g_string_append_printf(((struct fixture *)user)->ends, "%u %s;", stream, error ? error : "ok");
}

static bool on_is_congested(void *user) { return ((struct fixture *)user)->is_congested; }
static bool on_is_live(void *user, uint32_t task_id) { return task_id == 7 && ((struct fixture *)user)->is_live; }

static void set_up(struct fixture *f, gconstpointer data) {
    static const struct log_server_ops ops = {on_send, on_end, on_is_congested, on_is_live};

    f->folder = g_dir_make_tmp("kr-logserver-XXXXXX", NULL);
    f->store = log_store_new(f->folder, 1 << 24, NULL);
    f->w = log_writer_open(f->store, 7, 70);
    log_writer_since_ns(f->w);
    f->server = log_server_new(f->store, &ops, f);
    f->sent = g_string_new(NULL);
    f->ends = g_string_new(NULL);
    f->is_live = true;
}

static void tear_down(struct fixture *f, gconstpointer data) {
    static const char *const names[] = {"logs/7.pos", "logs/7.stdout", "logs/7.stderr"};
    g_autofree char *logs = g_build_filename(f->folder, "logs", NULL);

    log_server_free(f->server);
    log_writer_close(f->w);
    log_store_free(f->store);
    g_string_free(f->sent, TRUE);
    g_string_free(f->ends, TRUE);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(f->folder, names[i], NULL);
        unlink(path);
    }
    rmdir(logs);
    g_assert_cmpint(rmdir(f->folder), ==, 0);
    g_free(f->folder);
}

static void print(struct fixture *f, const char *text, size_t len) {
    log_writer_entry(f->w, ENGINE_STDOUT, ++f->time_ns);
    log_writer_bytes(f->w, text, len);
    log_writer_entry_end(f->w);
    log_server_poke(f->server, 7);
}

static void test_follow(struct fixture *f, gconstpointer data) {
    log_server_open(f->server, 9, 7, ENGINE_STDOUT, 0, true);
    g_assert_cmpstr(f->sent->str, ==, "");
    print(f, "a\0\xff", 3);
    print(f, "b", 1);
    g_assert_cmpmem(f->sent->str, f->sent->len, "a\0\xff"
                                                "b", 4);
    g_assert_cmpstr(f->ends->str, ==, "");
    f->is_live = false;
    log_server_poke(f->server, 8);
    g_assert_cmpstr(f->ends->str, ==, "");
    log_server_poke(f->server, 7);
    g_assert_cmpstr(f->ends->str, ==, "9 ok;");
    log_server_poke(f->server, 7);
    g_assert_cmpstr(f->ends->str, ==, "9 ok;");
}

static void test_no_follow(struct fixture *f, gconstpointer data) {
    print(f, "0123456789", 10);
    log_server_open(f->server, 9, 7, ENGINE_STDOUT, 4, false);
    g_assert_cmpstr(f->sent->str, ==, "456789");
    g_assert_cmpstr(f->ends->str, ==, "9 ok;");
    log_server_open(f->server, 9, 7, ENGINE_STDERR, 0, false);
    log_server_open(f->server, 9, 7, ENGINE_STDOUT, 4000, false);
    g_assert_cmpstr(f->ends->str, ==, "9 ok;9 ok;9 ok;");
    g_assert_cmpstr(f->sent->str, ==, "456789");
}

static void test_credit(struct fixture *f, gconstpointer data) {
    g_autofree char *much = g_strnfill(3 * WIRE_LOG_WINDOW_BYTES, 'x');

    print(f, much, 3 * WIRE_LOG_WINDOW_BYTES);
    log_server_open(f->server, 9, 7, ENGINE_STDOUT, 0, false);
    g_assert_cmpint(f->sent->len, ==, WIRE_LOG_WINDOW_BYTES);
    g_assert_cmpint(f->largest, ==, WIRE_MAX_BINARY_BYTES);
    log_server_poke(f->server, 7);
    g_assert_cmpint(f->sent->len, ==, WIRE_LOG_WINDOW_BYTES);
    log_server_credit(f->server, 9, 10);
    log_server_credit(f->server, 9, -5);
    log_server_credit(f->server, 8, 1000);
    g_assert_cmpint(f->sent->len, ==, WIRE_LOG_WINDOW_BYTES + 10);
    f->is_congested = true;
    log_server_credit(f->server, 9, 4 * WIRE_LOG_WINDOW_BYTES);
    g_assert_cmpint(f->sent->len, ==, WIRE_LOG_WINDOW_BYTES + 10);
    f->is_congested = false;
    log_server_drained(f->server);
    g_assert_cmpint(f->sent->len, ==, 3 * WIRE_LOG_WINDOW_BYTES);
    g_assert_cmpstr(f->ends->str, ==, "9 ok;");
}

static void test_close(struct fixture *f, gconstpointer data) {
    log_server_open(f->server, 9, 7, ENGINE_STDOUT, 0, true);
    log_server_close(f->server, 9);
    print(f, "a", 1);
    log_server_open(f->server, 9, 7, ENGINE_STDOUT, 1, true);
    log_server_reset(f->server);
    print(f, "b", 1);
    g_assert_cmpstr(f->sent->str, ==, "");
    g_assert_cmpstr(f->ends->str, ==, "");
}

static void test_refused(struct fixture *f, gconstpointer data) {
    log_server_open(f->server, 9, 8, ENGINE_STDOUT, 0, true);
    log_server_open(f->server, 9, 7, ENGINE_STDOUT, 0, true);
    log_server_open(f->server, 9, 7, ENGINE_STDOUT, 0, true);
    g_assert_cmpstr(f->ends->str, ==, "9 this node has no output of that task (any more);9 this stream is open already;");
    g_string_truncate(f->ends, 0);
    for (uint32_t i = 100; i < 100 + 256; i++)
        log_server_open(f->server, i, 7, ENGINE_STDOUT, 0, true);
    g_assert_cmpstr(f->ends->str, ==, "355 too many readers of this node's output;");
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
#define ADD(path, function) g_test_add("/runner/log-server/" path, struct fixture, NULL, set_up, function, tear_down)
    ADD("follow", test_follow);
    ADD("no-follow", test_no_follow);
    ADD("credit", test_credit);
    ADD("close", test_close);
    ADD("refused", test_refused);
    return g_test_run();
}
