/* The Docker backend against a real engine: KOHAKURIVER_TEST_DOCKER names its socket, the image busybox:local must be there (any other by
 * KOHAKURIVER_TEST_IMAGE). Without it every test is skipped. Containers carry a label of their own and are removed. */

#include "engine/engine.h"

#include <glib.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

enum { DEADLINE_MS = 60000 };

struct fixture {
    uv_loop_t loop;
    struct engine *engine;
    char *image, *label;
    /* the last answer */
    int done;
    GError *error;
    char *id;
    struct engine_facts facts;
    struct engine_container seen; /* labels and id not kept */
    guint listed;
    GString *out, *err;
    int entries, batches;
    int64_t last_ns;
    enum engine_stream stream;
};

static void set_up(struct fixture *f, gconstpointer data) {
    const char *socket = g_getenv("KOHAKURIVER_TEST_DOCKER"), *image = g_getenv("KOHAKURIVER_TEST_IMAGE");

    uv_loop_init(&f->loop);
    f->image = g_strdup(image ? image : "busybox:local");
    f->label = g_strdup_printf("kohakuriver.test=%d", (int)getpid());
    f->engine = engine_docker_new(&f->loop, socket ? socket : "/nonexistent/docker.sock");
    f->out = g_string_new(NULL);
    f->err = g_string_new(NULL);
}

static void tear_down(struct fixture *f, gconstpointer data) {
    engine_free(f->engine);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    g_assert_cmpint(uv_loop_close(&f->loop), ==, 0);
    engine_facts_clear(&f->facts);
    g_clear_error(&f->error);
    g_clear_pointer(&f->seen.error, g_free);
    g_free(f->id);
    g_free(f->image);
    g_free(f->label);
    g_string_free(f->out, TRUE);
    g_string_free(f->err, TRUE);
}

static bool is_skipped(void) {
    if (g_getenv("KOHAKURIVER_TEST_DOCKER"))
        return false;
    g_test_skip("KOHAKURIVER_TEST_DOCKER does not name the socket of a Docker Engine");
    return true;
}

/* ---- answers ---- */

static void take_error(struct fixture *f, const GError *error) {
    f->done++;
    g_clear_error(&f->error);
    f->error = error ? g_error_copy(error) : NULL;
}

static void on_probe(void *user, const struct engine_facts *facts) {
    struct fixture *f = user;

    engine_facts_clear(&f->facts);
    f->facts = *facts;
    f->facts.version = g_strdup(facts->version);
    f->facts.text = g_strdup(facts->text);
    take_error(f, NULL);
}

static void on_done(void *user, const GError *error) { take_error(user, error); }

static void on_create(void *user, const char *id, const GError *error) {
    struct fixture *f = user;

    g_free(f->id);
    f->id = g_strdup(id);
    take_error(f, error);
}

static void on_inspect(void *user, const struct engine_container *container, const GError *error) {
    struct fixture *f = user;

    g_clear_pointer(&f->seen.error, g_free);
    if (container) {
        f->seen = *container;
        f->seen.error = g_strdup(container->error);
    }
    take_error(f, error);
}

static void on_list(void *user, const GPtrArray *containers, const GError *error) {
    struct fixture *f = user;

    f->listed = containers ? containers->len : 0;
    take_error(f, error);
}

static void on_entry(void *user, enum engine_stream stream, int64_t time_ns) {
    struct fixture *f = user;

    f->stream = stream;
    f->entries++;
    g_assert_cmpint(time_ns, >, 1600000000000000000);
    f->last_ns = time_ns;
}

static void on_bytes(void *user, const char *bytes, size_t len) {
    struct fixture *f = user;
    g_string_append_len(f->stream == ENGINE_STDERR ? f->err : f->out, bytes, (gssize)len);
}

static void on_entry_end(void *user) {}
static void on_batch(void *user) { ((struct fixture *)user)->batches++; }

static const struct engine_log_sink sink = {.on_entry = on_entry, .on_bytes = on_bytes, .on_entry_end = on_entry_end,
                                            .on_batch = on_batch, .on_done = on_done};

/* ---- doing ---- */

static void wait_for(struct fixture *f, int done) {
    gint64 end = g_get_monotonic_time() + DEADLINE_MS * 1000;

    while (f->done < done && g_get_monotonic_time() < end) {
        uv_run(&f->loop, UV_RUN_NOWAIT);
        g_usleep(200);
    }
    g_assert_cmpint(f->done, ==, done);
}

#define CALL(f, call)                  \
    do {                               \
        int before_ = (f)->done;       \
        (void)(call);                  \
        g_assert_cmpint((f)->done, ==, before_); \
        wait_for((f), before_ + 1);    \
    } while (0)

#define CALL_OK(f, call)               \
    do {                               \
        CALL((f), (call));             \
        g_assert_no_error((f)->error); \
    } while (0)

static void create(struct fixture *f, char *const *argv, struct engine_config extra) {
    g_autofree char *name = g_strdup_printf("kr-test-%d-%d", (int)getpid(), (int)g_random_int_range(0, 1 << 30));
    char *const labels[] = {f->label, NULL}, *const env[] = {NULL};
    struct engine_config config = extra;

    config.name = name;
    config.image = extra.image ? extra.image : f->image;
    config.argv = argv;
    config.labels = labels;
    config.env = extra.env ? extra.env : (char *const *)env;
    config.network = "none";
    config.memlock = ENGINE_MEMLOCK_DEFAULT;
    config.log_max_bytes = 1 << 26;
    CALL(f, engine_create(f->engine, &config, on_create, f));
}

#define ARGV(...) ((char *const *)(const char *const[]){__VA_ARGS__, NULL})

static void finish(struct fixture *f) {
    const char *labels[] = {f->label, NULL};

    CALL_OK(f, engine_remove(f->engine, f->id, on_done, f));
    CALL_OK(f, engine_remove(f->engine, f->id, on_done, f));
    CALL_OK(f, engine_list(f->engine, labels, on_list, f));
    g_assert_cmpint(f->listed, ==, 0);
    CALL(f, engine_inspect(f->engine, f->id, on_inspect, f));
    g_assert_error(f->error, KR_ERROR, KR_ERROR_NOT_FOUND);
}

static void run(struct fixture *f, char *const *argv, struct engine_config extra) {
    create(f, argv, extra);
    g_assert_no_error(f->error);
    CALL_OK(f, engine_start(f->engine, f->id, on_done, f));
    CALL_OK(f, engine_wait(f->engine, f->id, on_done, f));
    CALL_OK(f, engine_inspect(f->engine, f->id, on_inspect, f));
    g_assert_cmpint(f->seen.state, ==, ENGINE_EXITED);
    CALL_OK(f, engine_logs(f->engine, f->id, 0, false, &sink, f));
}

/* ---- tests ---- */

static void test_absent(struct fixture *f, gconstpointer data) {
    struct engine *none = engine_docker_new(&f->loop, "/nonexistent/docker.sock");

    CALL(f, engine_probe(none, on_probe, f));
    g_assert_cmpint(f->facts.presence, ==, ENGINE_ABSENT);
    g_assert_cmpstr(f->facts.text, ==, "no usable Docker Engine: cannot reach /nonexistent/docker.sock: No such file or directory");
    CALL(f, engine_inspect(none, "x", on_inspect, f));
    g_assert_true(engine_is_away(f->error));
    engine_free(none);
}

static void test_probe(struct fixture *f, gconstpointer data) {
    if (is_skipped())
        return;
    CALL(f, engine_probe(f->engine, on_probe, f));
    g_assert_cmpint(f->facts.presence, ==, ENGINE_PRESENT);
    g_assert_true(g_str_has_prefix(f->facts.text, "Docker "));
    g_assert_cmpint(f->facts.cpus, >, 0);
    CALL(f, engine_probe(f->engine, on_probe, f));
    g_assert_cmpint(f->facts.presence, ==, ENGINE_PRESENT);
}

/* Words, environment, both streams, bytes that are no text, a last line without end, the exit code. */
static void test_run(struct fixture *f, gconstpointer data) {
    char *const *argv = ARGV("sh", "-c", "printf '%s|' \"$@\" \"$A\"; printf '\\377\\000x'; echo e >&2; exit 3", "sh", "a b\n\"'", "");

    if (is_skipped())
        return;
    CALL(f, engine_probe(f->engine, on_probe, f));
    run(f, argv, (struct engine_config){.env = ARGV("A=1 2")});
    g_assert_cmpint(f->seen.exit_code, ==, 3);
    g_assert_false(f->seen.oom_killed);
    g_assert_cmpint(f->seen.started_ms, >, 0);
    g_assert_cmpint(f->seen.finished_ms, >=, f->seen.started_ms - 1000); /* seen: an end 3 ms before the start */
    g_assert_cmpmem(f->out->str, f->out->len, "a b\n\"'||1 2|\377\000x", 15);
    g_assert_cmpstr(f->err->str, ==, "e\n");
    finish(f);
}

/* What was followed and what is read afterwards since the last entry is the whole. */
static void test_follow(struct fixture *f, gconstpointer data) {
    int entries;

    if (is_skipped())
        return;
    create(f, ARGV("sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done; printf end"), (struct engine_config){0});
    CALL_OK(f, engine_start(f->engine, f->id, on_done, f));
    CALL_OK(f, engine_logs(f->engine, f->id, 0, true, &sink, f));
    g_assert_true(g_str_has_prefix(f->out->str, "1\n2\n3\n"));
    g_assert_cmpint(f->batches, >, 1);
    entries = f->entries;
    g_string_truncate(f->out, 0);
    CALL_OK(f, engine_logs(f->engine, f->id, f->last_ns, false, &sink, f));
    g_assert_cmpint(f->entries - entries, <=, 2); /* that entry again, and one that the follower missed */
    g_assert_true(g_str_has_suffix(f->out->str, "end"));
    finish(f);
}

static void test_signal(struct fixture *f, gconstpointer data) {
    if (is_skipped())
        return;
    create(f, ARGV("sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"), (struct engine_config){0});
    CALL_OK(f, engine_signal(f->engine, f->id, SIGTERM, on_done, f)); /* does not run yet: nothing to do */
    CALL_OK(f, engine_start(f->engine, f->id, on_done, f));
    CALL_OK(f, engine_start(f->engine, f->id, on_done, f));
    CALL_OK(f, engine_inspect(f->engine, f->id, on_inspect, f));
    g_assert_cmpint(f->seen.state, ==, ENGINE_RUNNING);
    g_assert_cmpint(f->seen.pid, >, 1);
    g_usleep(300000);
    CALL_OK(f, engine_signal(f->engine, f->id, SIGTERM, on_done, f));
    CALL_OK(f, engine_wait(f->engine, f->id, on_done, f));
    CALL_OK(f, engine_inspect(f->engine, f->id, on_inspect, f));
    g_assert_cmpint(f->seen.exit_code, ==, 9);
    finish(f);
    CALL_OK(f, engine_signal(f->engine, f->id, SIGKILL, on_done, f));
}

static void test_oom(struct fixture *f, gconstpointer data) {
    if (is_skipped())
        return;
    run(f, ARGV("tail", "/dev/zero"), (struct engine_config){.mem_bytes = 16 << 20});
    g_assert_cmpint(f->seen.exit_code, ==, 137);
    for (int i = 0; i < 100 && !f->seen.oom_killed; i++) { /* the engine may learn of it a moment later */
        g_usleep(10000);
        CALL_OK(f, engine_inspect(f->engine, f->id, on_inspect, f));
    }
    g_assert_true(f->seen.oom_killed);
    finish(f);
}

static void test_missing(struct fixture *f, gconstpointer data) {
    if (is_skipped())
        return;
    create(f, ARGV("true"), (struct engine_config){.image = "kohakuriver-nowhere:1"});
    g_assert_error(f->error, KR_ERROR, KR_ERROR_NOT_FOUND);
    CALL(f, engine_pull(f->engine, "kohakuriver.invalid/nowhere:1", on_done, f));
    g_assert_error(f->error, KR_ERROR, KR_ERROR_REFUSED);
    g_assert_null(strchr(f->error->message, '\n'));
    run(f, ARGV("no-such-command"), (struct engine_config){0});
    g_assert_cmpint(f->seen.exit_code, ==, 127);
    finish(f);
}

/* An engine without GPUs for the asking says so at the start, and the container is still there (or the GPU does not exist). */
static void test_gpu_refused(struct fixture *f, gconstpointer data) {
    if (is_skipped())
        return;
    create(f, ARGV("true"), (struct engine_config){.gpu_uuids = ARGV("GPU-that-does-not-exist"), .injection = ENGINE_INJECTION_NVIDIA});
    g_assert_no_error(f->error);
    CALL(f, engine_start(f->engine, f->id, on_done, f));
    g_assert_error(f->error, KR_ERROR, KR_ERROR_REFUSED);
    CALL_OK(f, engine_inspect(f->engine, f->id, on_inspect, f));
    g_assert_cmpint(f->seen.state, ==, ENGINE_CREATED);
    g_assert_nonnull(f->seen.error);
    finish(f);
}

static void test_limits(struct fixture *f, gconstpointer data) {
    struct engine_mount mount = {.source = "/proc/version", .target = "/in", .read_only = true};
    char *const *argv = ARGV("sh", "-c", "pwd; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2; cat /in >/dev/null && { (echo x >>/in) 2>/dev/null || echo ro; }");

    if (is_skipped())
        return;
    run(f, argv, (struct engine_config){.shm_bytes = 3 << 20, .working_dir = "/tmp", .mounts = &mount, .n_mounts = 1, .cores = 1,
                                        .cpuset_cpus = "0"});
    g_assert_cmpstr(f->out->str, ==, "/tmp\n3072\nro\n");
    finish(f);
}

static void test_cancel(struct fixture *f, gconstpointer data) {
    struct engine_call *wait, *logs;
    int done;

    if (is_skipped())
        return;
    create(f, ARGV("sh", "-c", "while :; do echo x; done"), (struct engine_config){0});
    CALL_OK(f, engine_start(f->engine, f->id, on_done, f));
    done = f->done;
    wait = engine_wait(f->engine, f->id, on_done, f);
    logs = engine_logs(f->engine, f->id, 0, true, &sink, f);
    for (int i = 0; i < 300; i++) {
        uv_run(&f->loop, UV_RUN_NOWAIT);
        g_usleep(1000);
    }
    g_assert_cmpint(f->entries, >, 0);
    engine_call_cancel(wait);
    engine_call_cancel(logs);
    f->entries = 0;
    for (int i = 0; i < 100; i++) {
        uv_run(&f->loop, UV_RUN_NOWAIT);
        g_usleep(1000);
    }
    g_assert_cmpint(f->entries, ==, 0);
    g_assert_cmpint(f->done, ==, done);
    finish(f);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
#define ADD(path, function) g_test_add("/engine/docker/" path, struct fixture, NULL, set_up, function, tear_down)
    ADD("absent", test_absent);
    ADD("probe", test_probe);
    ADD("run", test_run);
    ADD("follow", test_follow);
    ADD("signal", test_signal);
    ADD("K14-out-of-memory", test_oom);
    ADD("missing-image-and-command", test_missing);
    ADD("gpu-refused-at-start", test_gpu_refused);
    ADD("limits-and-mounts", test_limits);
    ADD("cancel", test_cancel);
    return g_test_run();
}
