#include "runner/log_store.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct fixture {
    char *folder;
    struct log_store *store;
    struct log_writer *w;
};

static void set_up(struct fixture *f, gconstpointer data) {
    f->folder = g_dir_make_tmp("kr-logs-XXXXXX", NULL);
    f->store = log_store_new(f->folder, 1000, NULL);
    f->w = log_writer_open(f->store, 7, 70);
}

/* Only the files that a store makes, in the one folder where it makes them. */
static void tear_down(struct fixture *f, gconstpointer data) {
    g_autofree char *logs = g_build_filename(f->folder, "logs", NULL);
    g_autoptr(GDir) dir = g_dir_open(logs, 0, NULL);
    const char *name;

    log_writer_close(f->w);
    log_store_free(f->store);
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(logs, name, NULL);
        unlink(path);
    }
    rmdir(logs);
    g_assert_cmpint(rmdir(f->folder), ==, 0);
    g_free(f->folder);
}

static void entry(struct fixture *f, enum engine_stream stream, int64_t time_ns, const char *text) {
    log_writer_entry(f->w, stream, time_ns);
    log_writer_bytes(f->w, text, strlen(text) / 2);
    log_writer_bytes(f->w, text + strlen(text) / 2, strlen(text) - strlen(text) / 2);
    log_writer_entry_end(f->w);
}

static char *content(struct fixture *f, uint32_t task_id, enum engine_stream stream) {
    int fd = log_store_open(f->store, task_id, stream);
    char text[4096] = "";
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);

    g_assert_cmpint(n, >=, 0);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? g_strdup("(none)") : g_strdup(text);
}

static void check(struct fixture *f, const char *out, const char *err) {
    g_autofree char *got_out = content(f, 7, ENGINE_STDOUT), *got_err = content(f, 7, ENGINE_STDERR);

    g_assert_cmpstr(got_out, ==, out);
    g_assert_cmpstr(got_err, ==, err);
}

/* As after kill -9: what was written down stands, the memory of the writer is lost. */
static void crash(struct fixture *f, bool was_written_down) {
    if (was_written_down)
        log_writer_batch(f->w);
    f->w = log_writer_open(f->store, 7, 70); /* the old one stays open and is never closed, as a dead process' is not */
}

static void test_plain(struct fixture *f, gconstpointer data) {
    g_assert_cmpint(log_writer_since_ns(f->w), ==, 0);
    g_assert_true(log_store_knows(f->store, 7));
    g_assert_false(log_store_knows(f->store, 8));
    check(f, "(none)", "(none)");
    entry(f, ENGINE_STDOUT, 100, "a\n");
    entry(f, ENGINE_STDERR, 101, "e\n");
    entry(f, ENGINE_STDOUT, 102, "b\n");
    check(f, "a\nb\n", "e\n");
}

/* The engine delivers everything since the older of both streams again, that one included. */
static void test_replay(struct fixture *f, gconstpointer data) {
    struct log_writer *dead = f->w;

    log_writer_since_ns(f->w);
    entry(f, ENGINE_STDOUT, 100, "a\n");
    entry(f, ENGINE_STDOUT, 100, "a\n"); /* the same words, in the same nanosecond */
    entry(f, ENGINE_STDERR, 150, "e\n");
    crash(f, true);
    g_assert_cmpint(log_writer_since_ns(f->w), ==, 100);
    entry(f, ENGINE_STDOUT, 100, "a\n");
    entry(f, ENGINE_STDOUT, 100, "a\n");
    entry(f, ENGINE_STDOUT, 100, "third\n"); /* came while we were dead */
    entry(f, ENGINE_STDERR, 150, "e\n");
    entry(f, ENGINE_STDERR, 151, "f\n");
    check(f, "a\na\nthird\n", "e\nf\n");
    log_writer_close(dead);
}

/* Bytes behind what was written down are cut off and come again from the engine. */
static void test_cut_back(struct fixture *f, gconstpointer data) {
    struct log_writer *dead = f->w;

    log_writer_since_ns(f->w);
    entry(f, ENGINE_STDOUT, 100, "a\n");
    log_writer_batch(f->w);
    entry(f, ENGINE_STDOUT, 101, "not written down\n");
    log_writer_entry(f->w, ENGINE_STDOUT, 102);
    log_writer_bytes(f->w, "hal", 3);
    crash(f, false);
    check(f, "a\n", "(none)");
    log_writer_since_ns(f->w);
    entry(f, ENGINE_STDOUT, 100, "a\n");
    entry(f, ENGINE_STDOUT, 101, "not written down\n");
    entry(f, ENGINE_STDOUT, 102, "half\n");
    check(f, "a\nnot written down\nhalf\n", "(none)");
    log_writer_close(f->w);
    f->w = dead;
}

static void test_other_epoch(struct fixture *f, gconstpointer data) {
    log_writer_since_ns(f->w);
    entry(f, ENGINE_STDOUT, 100, "old\n");
    log_writer_close(f->w);
    f->w = log_writer_open(f->store, 7, 71);
    g_assert_cmpint(log_writer_since_ns(f->w), ==, 0);
    check(f, "(none)", "(none)");
}

static void test_limit(struct fixture *f, gconstpointer data) {
    g_autofree char *long_line = g_strnfill(990, 'x'), *out = NULL;

    log_writer_since_ns(f->w);
    entry(f, ENGINE_STDOUT, 1, long_line);
    entry(f, ENGINE_STDOUT, 2, "0123456789abc");
    entry(f, ENGINE_STDOUT, 3, "y");
    entry(f, ENGINE_STDERR, 4, "e");
    log_writer_finish(f->w, NULL);
    log_writer_close(f->w);
    f->w = log_writer_open(f->store, 7, 70); /* the end is read once more: the same again */
    g_assert_cmpint(log_writer_since_ns(f->w), ==, 3);
    entry(f, ENGINE_STDOUT, 3, "y");
    log_writer_finish(f->w, "not said, the gap is");
    out = content(f, 7, ENGINE_STDOUT);
    g_assert_cmpstr(
        out + 990, ==,
        "0123456789\n[kohakuriver: 4 bytes (4 B) of output are not stored: the limit of the node is reached]\n");
    log_writer_close(f->w);
    f->w = log_writer_open(f->store, 7, 70);
}

static void test_lost(struct fixture *f, gconstpointer data) {
    log_writer_since_ns(f->w);
    entry(f, ENGINE_STDOUT, 1, "a\n");
    log_writer_finish(f->w, "it was removed");
    check(f, "a\n", "\n[kohakuriver: the end of the output may be missing: it was removed]\n");
}

static void set_file_limit(rlim_t bytes) {
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
}

/* One gap, at the end: nothing is stored behind what could not be. */
static void test_disk_full(struct fixture *f, gconstpointer data) {
    log_writer_since_ns(f->w);
    entry(f, ENGINE_STDOUT, 1, "abc\n");
    set_file_limit(6);
    entry(f, ENGINE_STDOUT, 2, "defg\n");
    set_file_limit(RLIM_INFINITY);
    entry(f, ENGINE_STDOUT, 3, "h\n");
    log_writer_finish(f->w, NULL);
    check(f, "abc\nde\n[kohakuriver: 5 bytes (5 B) of output are not stored: File too large]\n", "(none)");
}

static bool is_live(void *user, uint32_t task_id) { return task_id == *(uint32_t *)user; }

static void make(struct fixture *f, uint32_t task_id, const char *text) {
    struct log_writer *w = f->w;

    f->w = log_writer_open(f->store, task_id, 1);
    log_writer_since_ns(f->w);
    entry(f, ENGINE_STDOUT, 1, text);
    log_writer_close(f->w);
    f->w = w;
}

static void test_prune(struct fixture *f, gconstpointer data) {
    g_autofree char *big = g_strnfill(900, 'x');
    uint32_t live = 1;

    for (uint32_t id = 1; id <= 5; id++)
        make(f, id, big);
    live = 2;
    log_store_prune(f->store, 4, 1 << 20, is_live, &live); /* 1 to 5 and 7: the two oldest go, but 2 is live */
    g_assert_false(log_store_knows(f->store, 1));
    g_assert_true(log_store_knows(f->store, 2));
    g_assert_false(log_store_knows(f->store, 3));
    g_assert_true(log_store_knows(f->store, 4));
    log_store_prune(f->store, 100, 2500, is_live, &live);
    g_assert_false(log_store_knows(f->store, 4));
    g_assert_true(log_store_knows(f->store, 2));
    g_assert_true(log_store_knows(f->store, 7));
    live = 0;
    log_store_prune(f->store, 0, 0, is_live, &live);
    g_assert_false(log_store_knows(f->store, 2));
    g_assert_false(log_store_knows(f->store, 7));
}

/* Too many open files for a moment: what is stored stays, and the next look goes on from there. */
static void test_failed_open(struct fixture *f, gconstpointer data) {
    struct rlimit limit, none;

    entry(f, ENGINE_STDOUT, 10, "one\n");
    entry(f, ENGINE_STDERR, 11, "two\n");
    log_writer_close(f->w);
    getrlimit(RLIMIT_NOFILE, &limit);
    none = limit;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
    f->w = log_writer_open(f->store, 7, 70);
    g_assert_cmpint(log_writer_since_ns(f->w), ==, 0);
    setrlimit(RLIMIT_NOFILE, &limit);
    entry(f, ENGINE_STDOUT, 12, "three\n"); /* before the next look: dropped */
    check(f, "one\n", "two\n");
    log_writer_finish(f->w, "why");
    check(f, "one\n", "two\n");
    g_assert_cmpint(log_writer_since_ns(f->w), ==, 10);
    entry(f, ENGINE_STDOUT, 10, "one\n");
    entry(f, ENGINE_STDERR, 11, "two\n");
    entry(f, ENGINE_STDOUT, 12, "three\n");
    log_writer_finish(f->w, NULL);
    check(f, "one\nthree\n", "two\n");
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
#define ADD(path, function) g_test_add("/runner/log-store/" path, struct fixture, NULL, set_up, function, tear_down)
    ADD("plain", test_plain);
    ADD("replay-stores-nothing-twice", test_replay);
    ADD("crash-cuts-back", test_cut_back);
    ADD("another-epoch-starts-over", test_other_epoch);
    ADD("limit", test_limit);
    ADD("end-missing", test_lost);
    ADD("failed-open-deletes-nothing", test_failed_open);
    ADD("disk-full", test_disk_full);
    ADD("prune", test_prune);
    return g_test_run();
}
