#pragma once
/* What the executor's tests stand on: the simulated engine and stand-in cards. A "restart" is a new executor over the same state folder and the same
 * world of containers, as after kill -9: nothing of the old one is told to anybody. */

#include "runner/executor.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "engine/simulated.h"
#include "runner/lease_files.h"
#include "runner/log_store.h"
#include "runner/node_facts.h"

enum { N_CARDS = 4, DEADLINE_MS = 20000, POLL_US = 300 };

struct card {
    char uuid[16];
    char *busy; /* why it is not free, or NULL */
    bool is_bare;
    bool leased, minor_unknown;
    const char *nodes; /* "/dev/dri/renderD128 /dev/kfd"; NULL: NVIDIA's */
};

struct fixture {
    uv_loop_t loop;
    struct sim_world *world;
    struct engine *engine;
    struct executor *x;
    struct lease_files *leases;
    struct log_store *logs;
    struct node_facts *facts;
    char *folder;
    struct card cards[N_CARDS];
    GPtrArray *reports; /* of struct task_report, in the order they came */
    int outputs, checks, truths;
    bool may_pull;
    int64_t grace_ms, drain_ms, log_max_bytes;
    char *allowed[2];
};

/* The stand-in for /proc/PID/root/dev has no argument of ours. */
static struct fixture *fixture_of_minors;
static const char *minors_override;  /* "0,2", or NULL: those the last container asked for */
static const char *renders_override; /* "128", the same */

/* ---- cards ---- */

struct gpu_check_call {
    uv_timer_t timer;
    struct fixture *f;
    struct gpu_check checks[N_CARDS];
    size_t n;
    gpu_check_cb *on_done;
    void *arg;
};

static inline struct card *card_of(struct fixture *f, const char *uuid) {
    for (int i = 0; i < N_CARDS; i++)
        if (strcmp(f->cards[i].uuid, uuid) == 0)
            return &f->cards[i];
    return NULL;
}

static inline void on_check_closed(uv_handle_t *handle) { g_free(handle->data); }

static inline void on_check(uv_timer_t *timer) {
    struct gpu_check_call *call = timer->data;

    for (size_t i = 0; i < call->n; i++) {
        struct card *card = card_of(call->f, call->checks[i].uuid);
        call->checks[i].why = card ? card->busy : (char *)"no such card";
        call->checks[i].is_free = call->checks[i].why == NULL;
        call->checks[i].is_bare = call->checks[i].is_free && card->is_bare;
        call->checks[i].proof.facts = call->checks[i].is_free ? PROOF_CARD : 0;
    }
    uv_close((uv_handle_t *)timer, on_check_closed);
    call->on_done(call->arg, call->checks, call->n);
}

static inline struct gpu_check_call *stub_check(void *user, const char *const *uuids, size_t n, gpu_check_cb *on_done,
                                                void *arg) {
    struct gpu_check_call *call = g_new0(struct gpu_check_call, 1);

    call->f = user;
    call->f->checks++;
    call->n = n;
    call->on_done = on_done;
    call->arg = arg;
    for (size_t i = 0; i < n; i++)
        g_strlcpy(call->checks[i].uuid, uuids[i], sizeof call->checks[i].uuid);
    uv_timer_init(&call->f->loop, &call->timer);
    call->timer.data = call;
    uv_timer_start(&call->timer, on_check, 1, 0);
    return call;
}

static inline void stub_check_cancel(struct gpu_check_call *call) {
    uv_close((uv_handle_t *)&call->timer, on_check_closed);
}

static inline void stub_set_leased(void *user, const char *uuid, bool leased) {
    struct card *card = card_of(user, uuid);
    if (card)
        card->leased = leased;
}

static inline bool stub_minor_of(void *user, const char *uuid, int *ret_minor) {
    struct fixture *f = user;
    struct card *card = card_of(f, uuid);

    if (!card || card->minor_unknown)
        return false;
    *ret_minor = (int)(card - f->cards) + 10;
    return true;
}

static inline bool stub_minors_visible(pid_t pid, GArray **ret_minors, GError **error) {
    GArray *minors = g_array_new(FALSE, FALSE, sizeof(int));
    const char *config = sim_world_last_config(fixture_of_minors->world);
    const char *gpus = strstr(config, "gpus="), *end = strchr(gpus, ' ');

    for (int i = 0; i < N_CARDS; i++) {
        const char *at = minors_override ? strchr(minors_override, '0' + i)
                                         : strstr(gpus, fixture_of_minors->cards[i].uuid);
        int minor = i + 10;
        if (at && (minors_override || at < end))
            g_array_append_val(minors, minor);
    }
    *ret_minors = minors;
    return true;
}

static inline char **stub_nodes_of(void *user, const char *uuid) {
    struct card *card = card_of(user, uuid);

    if (!card || !card->nodes)
        return NULL;
    return card->nodes[0] ? g_strsplit(card->nodes, " ", -1) : g_new0(char *, 1);
}

/* What the last container was given, or "128 129". */
static inline bool stub_renders_visible(void *user, pid_t pid, GArray **ret_renders, GError **error) {
    const char *at = strstr(sim_world_last_config(fixture_of_minors->world), "devices="), *end = strchr(at, ' ');
    GArray *renders = g_array_new(FALSE, FALSE, sizeof(dev_t));

    for (unsigned i = 128; i < 132; i++) {
        g_autofree char *text = g_strdup_printf(renders_override ? "%u" : "renderD%u", i);
        const char *found = strstr(renders_override ? renders_override : at, text);
        dev_t node = makedev(226, i);

        if (found && (renders_override || found < end))
            g_array_append_val(renders, node);
    }
    *ret_renders = renders;
    return true;
}

/* ---- fixture ---- */

static inline void on_report(void *user, const struct task_report *report) {
    struct fixture *f = user;
    struct task_report *copy = g_memdup2(report, sizeof *report);

    copy->reason = g_strdup(report->reason);
    copy->holding = g_strdup(report->holding);
    g_ptr_array_add(f->reports, copy);
}

static inline void on_output(void *user, uint32_t task_id) { ((struct fixture *)user)->outputs++; }

static inline void on_truth(void *user) { ((struct fixture *)user)->truths++; }

static inline void begin(struct fixture *f) {
    static const struct executor_handlers handlers = {
        .on_report = on_report, .on_output = on_output, .on_truth = on_truth};
    struct executor_gpus gpus = {stub_check,    stub_check_cancel,    stub_set_leased,
                                 stub_minor_of, stub_minors_visible,  NULL,
                                 stub_nodes_of, stub_renders_visible, f};
    g_autofree char *dev_root = g_build_filename(f->folder, "root", NULL);
    struct executor_config config = {.node = "n1",
                                     .dev_root = dev_root,
                                     .cluster_id = "c1",
                                     .default_image = "",
                                     .network = "none",
                                     .working_dir = "",
                                     .allowed_mounts = f->allowed,
                                     .may_pull = f->may_pull,
                                     .injection = ENGINE_INJECTION_NVIDIA,
                                     .memlock = ENGINE_MEMLOCK_DEFAULT,
                                     .stop_grace_ms = f->grace_ms,
                                     .drain_timeout_ms = f->drain_ms,
                                     .retry_ms = 5,
                                     .output_timeout_ms = 40};
    g_autoptr(GError) error = NULL;

    f->engine = engine_simulated_new(f->world);
    f->leases = lease_files_open(f->folder, &error);
    g_assert_no_error(error);
    f->logs = log_store_new(f->folder, f->log_max_bytes, &error);
    g_assert_no_error(error);
    f->x = executor_new(&f->loop, &config, f->engine, &gpus, f->facts, f->leases, f->logs, &handlers, f);
    executor_restore(f->x, &error);
    g_assert_no_error(error);
    executor_reconcile(f->x);
}

static inline void die(struct fixture *f) {
    executor_free(f->x);
    engine_free(f->engine);
    lease_files_close(f->leases);
    log_store_free(f->logs);
    for (int i = 0; i < N_CARDS; i++)
        f->cards[i].leased = false;
}

static inline void restart(struct fixture *f) {
    die(f);
    begin(f);
}

static inline void make_numa(struct fixture *f) {
    static const char *const file[][2] = {{"has_memory", "0\n"},
                                          {"node0/cpulist", "0-1\n"},
                                          {"node1/cpulist", "2-3\n"},
                                          {"node0/meminfo", "Node 0 MemTotal:  1000 kB\n"}};

    for (size_t i = 0; i < G_N_ELEMENTS(file); i++) {
        g_autofree char *path = g_build_filename(f->folder, "root/sys/devices/system/node", file[i][0], NULL);
        g_autofree char *folder = g_path_get_dirname(path);
        g_assert_cmpint(g_mkdir_with_parents(folder, 0700), ==, 0);
        g_assert_true(g_file_set_contents(path, file[i][1], -1, NULL));
    }
}

static inline void set_up(struct fixture *f, gconstpointer data) {
    g_autofree char *root = NULL;

    fixture_of_minors = f;
    minors_override = renders_override = NULL;
    uv_loop_init(&f->loop);
    f->folder = g_dir_make_tmp("kr-executor-XXXXXX", NULL);
    make_numa(f);
    root = g_build_filename(f->folder, "root", NULL);
    f->facts = node_facts_new(root, 0);
    f->world = sim_world_new(&f->loop);
    sim_world_add_image(f->world, "img");
    for (int i = 0; i < N_CARDS; i++)
        g_snprintf(f->cards[i].uuid, sizeof f->cards[i].uuid, "GPU-%d", i);
    f->reports = g_ptr_array_new_with_free_func((GDestroyNotify)task_report_free);
    f->may_pull = true;
    f->grace_ms = 50;
    f->drain_ms = 100;
    f->log_max_bytes = 1 << 20;
    begin(f);
}

/* Never through a link: what it points to is not ours. */
static inline void remove_tree(const char *path) {
    g_autoptr(GDir) dir = g_file_test(path, G_FILE_TEST_IS_SYMLINK) ? NULL : g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        remove_tree(child);
    }
    g_remove(path);
}

static inline void tear_down(struct fixture *f, gconstpointer data) {
    die(f);
    sim_world_free(f->world);
    for (int i = 0; i < 20; i++)
        uv_run(&f->loop, UV_RUN_NOWAIT);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    g_assert_cmpint(uv_loop_close(&f->loop), ==, 0);
    node_facts_free(f->facts);
    g_ptr_array_unref(f->reports);
    for (int i = 0; i < N_CARDS; i++)
        g_free(f->cards[i].busy);
    remove_tree(f->folder);
    g_free(f->folder);
    g_free(f->allowed[0]);
}

/* ---- doing and waiting ---- */

static inline const struct task_report *newest(struct fixture *f, uint32_t task_id) {
    for (guint i = f->reports->len; i > 0; i--) {
        struct task_report *report = f->reports->pdata[i - 1];
        if (report->task_id == task_id)
            return report;
    }
    return NULL;
}

static inline void spin(struct fixture *f, int ms) {
    gint64 end = g_get_monotonic_time() + ms * 1000;

    do {
        uv_run(&f->loop, UV_RUN_NOWAIT);
        g_usleep(POLL_US);
    } while (g_get_monotonic_time() < end);
}

static inline const struct task_report *wait_state(struct fixture *f, uint32_t task_id, enum task_state state,
                                                   bool released) {
    gint64 end = g_get_monotonic_time() + DEADLINE_MS * 1000;
    const struct task_report *report;

    while (!(report = newest(f, task_id)) || report->state != state || report->released != released) {
        if (g_get_monotonic_time() > end)
            g_error("task %u is %s (%s), not %s", task_id, report ? task_state_to_str(report->state) : "unknown",
                    report && report->reason ? report->reason : "", task_state_to_str(state));
        uv_run(&f->loop, UV_RUN_NOWAIT);
        g_usleep(POLL_US);
    }
    return report;
}

static inline struct lease lease_of(uint32_t task_id, int64_t epoch, const char *cards) {
    struct lease lease = {.task_id = task_id, .epoch = epoch, .numa = TARGET_NO_NUMA, .granted_ms = 1700000000000};

    g_strlcpy(lease.node, "n1", sizeof lease.node);
    for (; *cards; cards++) {
        struct lease_gpu *gpu = &lease.gpus[lease.n_gpus++];
        gpu->index = *cards - '0';
        g_snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%c", *cards);
    }
    return lease;
}

static inline void start_lease(struct fixture *f, const struct lease *lease, const char *image, const char *command) {
    g_auto(GStrv) argv = g_strsplit(command, " ", -1);
    struct task_spec spec = {.image = (char *)image, .argv = argv};

    executor_start(f->x, lease, &spec);
}

static inline void start(struct fixture *f, uint32_t task_id, const char *cards, const char *command) {
    struct lease lease = lease_of(task_id, task_id * 10, cards);

    start_lease(f, &lease, "img", command);
}

static inline char *name_of(uint32_t task_id) {
    return g_strdup_printf("kohakuriver-c1-n1-%u-%u", task_id, task_id * 10);
}

static inline bool lease_exists(struct fixture *f, uint32_t task_id) {
    g_autofree char *path = g_strdup_printf("%s/leases/%u.json", f->folder, task_id);
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static inline char *output(struct fixture *f, uint32_t task_id, const char *stream) {
    g_autofree char *path = g_strdup_printf("%s/logs/%u.%s", f->folder, task_id, stream);
    char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? text : g_strdup("(none)");
}

static inline void ack(struct fixture *f, uint32_t task_id) {
    executor_ack(f->x, task_id, task_id * 10);
    g_assert_false(lease_exists(f, task_id));
}

static inline void ack_all_gone(struct fixture *f, uint32_t task_id) {
    ack(f, task_id);
    g_assert_cmpint(executor_count(f->x), ==, 0);
    g_assert_cmpint(sim_world_count(f->world), ==, 0);
    for (int i = 0; i < N_CARDS; i++)
        g_assert_false(f->cards[i].leased);
}

/* No file of ours can grow: as good as a full disk, without one. */
static inline void set_file_limit(rlim_t bytes) {
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
}
