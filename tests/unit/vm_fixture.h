#pragma once
/* An engine of machines on real QEMU (TCG) and the tiny guest: a store with the image "tiny-WORDS" for each way in which the
 * guest can behave, stand-ins for the cards, and calls that are waited for. */

#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fs.h"
#include "engine/engine.h"
#include "model/vm.h"
#include "vm/engine_qemu.h"
#include "vm/image_store.h"
#include "vm/qemu_argv.h"

enum { FIXTURE_DEADLINE_MS = 60000 };

struct stand_in_call {
    uv_timer_t timer;
    struct vm_fixture *f;
    vm_devices_done_cb *on_done;
    void *arg;
    bool is_bind, is_cancelled;
};

struct vm_fixture {
    uv_loop_t loop;
    char *folder;
    struct qemu_config config;
    struct engine *engine;
    /* cards */
    char *owner; /* who has them; NULL: nobody */
    int binds, returns;
    bool refuses_bind, refuses_return, hangs;
    struct stand_in_call *pending;
    const char *function_class; /* what a bind says it bound: addresses, "" for as asked */
    /* the last answer */
    int done;
    GError *error;
    char *id;
    struct engine_container seen; /* labels and id not kept */
    guint listed;
    GString *out;
    int entries;
    int64_t last_ns;
    bool follows_up; /* output stamps grew */
};

static inline void fixture_take(struct vm_fixture *f, const GError *error) {
    f->done++;
    g_clear_error(&f->error);
    f->error = error ? g_error_copy(error) : NULL;
}

static inline void fixture_late(uv_timer_t *timer) { *(bool *)timer->data = true; }
static inline void fixture_closed(uv_handle_t *handle) { g_free(handle); }

static inline void fixture_tick(uv_timer_t *timer) {}

/* Runs the loop until it holds; a test that waits too long fails. The timer keeps the loop from sleeping over it. */
#define fixture_until(f, condition)                                                      \
    do {                                                                                 \
        uv_timer_t *tick = g_new0(uv_timer_t, 1);                                        \
        int64_t by_us = g_get_monotonic_time() + FIXTURE_DEADLINE_MS * (int64_t)1000;    \
        uv_timer_init(&(f)->loop, tick);                                                 \
        uv_timer_start(tick, fixture_tick, 20, 20);                                      \
        while (!(condition)) {                                                           \
            if (g_get_monotonic_time() > by_us)                                          \
                g_error("%s:%d: waited in vain for %s", __FILE__, __LINE__, #condition); \
            uv_run(&(f)->loop, UV_RUN_ONCE);                                             \
        }                                                                                \
        uv_close((uv_handle_t *)tick, fixture_closed);                                   \
    } while (0)

static inline void fixture_wait(struct vm_fixture *f) {
    fixture_until(f, f->done > 0);
    f->done = 0;
}

/* Lets the loop run for a while. */
static inline void fixture_sleep(struct vm_fixture *f, int ms) {
    uv_timer_t *timer = g_new0(uv_timer_t, 1);
    bool is_over = false;

    uv_timer_init(&f->loop, timer);
    timer->data = &is_over;
    uv_timer_start(timer, fixture_late, (uint64_t)ms, 0);
    while (!is_over)
        uv_run(&f->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)timer, fixture_closed);
}

static inline void fixture_on_done(void *user, const GError *error) { fixture_take(user, error); }

static inline void fixture_on_create(void *user, const char *id, const GError *error) {
    struct vm_fixture *f = user;

    g_free(f->id);
    f->id = g_strdup(id);
    fixture_take(f, error);
}

static inline void fixture_on_inspect(void *user, const struct engine_container *container, const GError *error) {
    struct vm_fixture *f = user;

    g_clear_pointer(&f->seen.error, g_free);
    memset(&f->seen, 0, sizeof f->seen);
    if (container) {
        f->seen = *container;
        f->seen.id = NULL;
        f->seen.labels = NULL;
        f->seen.error = g_strdup(container->error);
    }
    fixture_take(f, error);
}

static inline void fixture_on_list(void *user, const GPtrArray *containers, const GError *error) {
    struct vm_fixture *f = user;

    f->listed = containers ? containers->len : 0;
    fixture_take(f, error);
}

static inline void fixture_on_entry(void *user, enum engine_stream stream, int64_t time_ns) {
    struct vm_fixture *f = user;

    g_assert_cmpint(stream, ==, ENGINE_STDOUT);
    g_assert_cmpint(time_ns, >, f->last_ns);
    f->last_ns = time_ns;
    f->entries++;
}

static inline void fixture_on_bytes(void *user, const char *bytes, size_t len) {
    g_string_append_len(((struct vm_fixture *)user)->out, bytes, (gssize)len);
}

static inline void fixture_on_entry_end(void *user) {}

/* ---- cards ---- */

static inline void stand_in_answer(uv_timer_t *timer) {
    struct stand_in_call *call = timer->data;
    struct vm_fixture *f = call->f;
    /* what QEMU takes for a card: stock devices cannot be passed, so there is none in it */
    static const struct qemu_function functions[] = {{"0000:41:00.0", 0x0300}, {"0000:41:00.1", 0x0403}};
    g_autoptr(GError) error = NULL;

    if (f->hangs && !call->is_cancelled) {
        f->pending = call;
        return;
    }
    if (call->is_bind && f->refuses_bind)
        error = g_error_new(KR_ERROR, KR_ERROR_REFUSED, "bind 0000:41:00.0: held by pid 4711 python");
    if (!call->is_bind && f->refuses_return)
        error = g_error_new(KR_ERROR, KR_ERROR_TIMEOUT, "0000:41:00.0 is stuck");
    if (!error && !call->is_bind)
        g_clear_pointer(&f->owner, g_free);
    if (!call->is_cancelled)
        call->on_done(call->arg, functions, call->is_bind ? G_N_ELEMENTS(functions) : 0, error);
    uv_close((uv_handle_t *)timer, fixture_closed);
}

static inline struct vm_devices_call *stand_in_begin(struct vm_fixture *f, bool is_bind, vm_devices_done_cb *on_done,
                                                     void *arg) {
    struct stand_in_call *call = g_new0(struct stand_in_call, 1); /* the timer comes first: one block */

    call->f = f;
    call->is_bind = is_bind;
    call->on_done = on_done;
    call->arg = arg;
    uv_timer_init(&f->loop, &call->timer);
    call->timer.data = call;
    uv_timer_start(&call->timer, stand_in_answer, 5, 0);
    return (struct vm_devices_call *)call;
}

static inline struct vm_devices_call *stand_in_bind(void *user, const char *owner, const char *const *pci, size_t n,
                                                    vm_devices_done_cb *on_done, void *arg) {
    struct vm_fixture *f = user;

    g_assert_cmpuint(n, >, 0);
    f->binds++;
    g_free(f->owner);
    f->owner = g_strdup(owner);
    return stand_in_begin(f, true, on_done, arg);
}

static inline struct vm_devices_call *stand_in_give_back(void *user, const char *owner, vm_devices_done_cb *on_done,
                                                         void *arg) {
    struct vm_fixture *f = user;

    f->returns++;
    return stand_in_begin(f, false, on_done, arg);
}

static inline void stand_in_cancel(struct vm_devices_call *base) {
    struct stand_in_call *call = (struct stand_in_call *)base;

    call->is_cancelled = true;
    if (call->f->pending == call) {
        call->f->pending = NULL;
        uv_close((uv_handle_t *)&call->timer, fixture_closed);
    }
}

static const struct vm_devices_ops stand_in_ops = {stand_in_bind, stand_in_give_back, stand_in_cancel};

/* ---- the engine ---- */

static inline void fixture_run(const char *const *argv) {
    g_autofree char *err = NULL;
    g_autoptr(GError) error = NULL;
    int status = 0;

    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, &err, &status, &error);
    g_assert_no_error(error);
    if (status != 0)
        g_error("%s: %s", argv[0], err);
}

/* The guest is told `words`; the image's disk is empty. */
static inline void fixture_add_image(struct vm_fixture *f, const char *name, const char *words) {
    g_autoptr(GError) error = NULL;
    struct image_store *store = image_store_new(f->folder, &error);
    g_autofree char *begun = image_store_begin(store, &error), *append = g_strdup(words), *text = NULL;
    g_autofree char *disk = g_build_filename(begun, "disk.qcow2", NULL),
                    *kernel = g_build_filename(begun, "kernel", NULL);
    const char *argv[] = {"qemu-img", "create", "-q", "-f", "qcow2", disk, "64M", NULL};
    struct vm_image image = {.name = (char *)name,
                             .sha256 = (char *)"0",
                             .source = (char *)"test",
                             .append = append,
                             .virtual_bytes = 64 << 20,
                             .has_kernel = true};
    gsize len;

    fixture_run(argv);
    g_file_get_contents(TEST_BUILD_ROOT "/tests/fakes/guest/tiny.elf", &text, &len, &error);
    g_assert_no_error(error);
    g_file_set_contents(kernel, text, (gssize)len, &error);
    g_assert_no_error(error);
    g_assert_true(image_store_take(store, begun, &image, &error));
    image_store_free(store);
}

static inline void fixture_open(struct vm_fixture *f) {
    g_autoptr(GError) error = NULL;

    f->engine = engine_qemu_new(&f->loop, &f->config, &error);
    g_assert_no_error(error);
}

/* The runner's death and return: the engine is another one, the machines are the same. */
static inline void fixture_reopen(struct vm_fixture *f) {
    engine_free(f->engine);
    fixture_sleep(f, 1);
    f->done = 0;
    fixture_open(f);
}

static inline void fixture_set_up(struct vm_fixture *f, gconstpointer data) {
    g_autofree char *qemu = NULL;

    uv_loop_init(&f->loop);
    f->folder = g_dir_make_tmp("kr-vm-XXXXXX", NULL);
    f->out = g_string_new(NULL);
    f->config = (struct qemu_config){.folder = f->folder,
                                     .accel = "tcg",
                                     .sysfs_root = "/",
                                     .exe = TEST_BUILD_ROOT "/kohakuriver",
                                     .start_deadline_ms = 30000,
                                     .devices = &stand_in_ops,
                                     .devices_user = f};
    qemu = g_find_program_in_path("qemu-system-x86_64");
    if (qemu)
        fixture_open(f);
}

static inline bool fixture_is_skipped(struct vm_fixture *f) {
    if (f->engine)
        return false;
    g_test_skip("qemu-system-x86_64 is not installed");
    return true;
}

static inline void fixture_tear_down(struct vm_fixture *f, gconstpointer data) {
    engine_free(f->engine);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    g_assert_cmpint(uv_loop_close(&f->loop), ==, 0);
    fs_remove_tree(f->folder, NULL);
    g_clear_error(&f->error);
    g_free(f->seen.error);
    g_free(f->owner);
    g_free(f->id);
    g_free(f->folder);
    g_string_free(f->out, TRUE);
}

/* ---- calls that are waited for ---- */

static inline void fixture_create(struct vm_fixture *f, const char *name, const char *image, uint32_t vps_id,
                                  const char *gpu) {
    const char *labels[] = {"kohakuriver.task=7", "kohakuriver.node=n1", NULL};
    const char *uuids[] = {"GPU-1", NULL}, *pci[] = {gpu, NULL};
    char *keys[] = {NULL};
    struct vm_spec vm = {.vps_id = vps_id,
                         .hostname = (char *)"tiny",
                         .image = (char *)image,
                         .disk_bytes = 128 << 20,
                         .user = (char *)"ops",
                         .ssh_keys = keys,
                         .network = (char *)"user"};
    struct engine_config config = {.name = name,
                                   .labels = (char *const *)labels,
                                   .cores = 1,
                                   .mem_bytes = 64 << 20,
                                   .vm = &vm,
                                   .gpu_uuids = gpu ? (char *const *)uuids : NULL,
                                   .gpu_pci = gpu ? (char *const *)pci : NULL};

    engine_create(f->engine, &config, fixture_on_create, f);
    fixture_wait(f);
}

static inline void fixture_start(struct vm_fixture *f, const char *name) {
    engine_start(f->engine, name, fixture_on_done, f);
    fixture_wait(f);
}

static inline void fixture_inspect(struct vm_fixture *f, const char *name) {
    engine_inspect(f->engine, name, fixture_on_inspect, f);
    fixture_wait(f);
}

static inline void fixture_end(struct vm_fixture *f, const char *name) {
    engine_wait(f->engine, name, fixture_on_done, f);
    fixture_wait(f);
    g_assert_no_error(f->error);
    fixture_inspect(f, name);
    g_assert_no_error(f->error);
    g_assert_cmpint(f->seen.state, ==, ENGINE_EXITED);
}

static inline void fixture_signal(struct vm_fixture *f, const char *name, int signum) {
    engine_signal(f->engine, name, signum, fixture_on_done, f);
    fixture_wait(f);
    g_assert_no_error(f->error);
}

static inline void fixture_remove(struct vm_fixture *f, const char *name) {
    engine_remove(f->engine, name, fixture_on_done, f);
    fixture_wait(f);
}

static inline void fixture_logs(struct vm_fixture *f, const char *name, int64_t since_ns) {
    static const struct engine_log_sink sink = {.on_entry = fixture_on_entry,
                                                .on_bytes = fixture_on_bytes,
                                                .on_entry_end = fixture_on_entry_end,
                                                .on_done = fixture_on_done};

    f->last_ns = 0;
    f->entries = 0;
    g_string_truncate(f->out, 0);
    engine_logs(f->engine, name, since_ns, false, &sink, f);
    fixture_wait(f);
}

/* Until the guest has said it. */
static inline void fixture_expect(struct vm_fixture *f, const char *name, const char *text) {
    int64_t by_us = g_get_monotonic_time() + FIXTURE_DEADLINE_MS * 1000;

    for (;;) {
        fixture_logs(f, name, 0);
        if (strstr(f->out->str, text))
            return;
        if (g_get_monotonic_time() > by_us)
            g_error("the guest has not said %s, but: %s", text, f->out->str);
        fixture_sleep(f, 20);
    }
}
