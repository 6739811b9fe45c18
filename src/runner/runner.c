#include "runner/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "engine/engine.h"
#include "gpu/gpu_monitor.h"
#include "model/wire.h"
#include "runner/executor.h"
#include "runner/link.h"
#include "runner/log_server.h"
#include "runner/log_store.h"
#include "runner/node_facts.h"

enum { PROBE_MS = 5000 };

struct runner {
    uv_loop_t loop;
    const struct config *config;
    struct node_info *info; /* but for its GPUs, which the monitor has */
    struct gpu_monitor *gpus;
    struct engine *engine;
    struct engine_call *probe;
    struct log_store *logs;
    struct log_server *log_server;
    struct executor *executor;
    struct link *link;
    uv_timer_t heartbeat, probe_timer;
    uv_signal_t on_term, on_int;
    char *credential_file, *probe_file;
    int lock_fd;
    int exit_code;
};

/* ---- what the node says of itself ---- */

/* A durable write now and then: a full disk is better known before a task comes. */
static void check_disk(struct runner *runner) {
    g_autoptr(GError) error = NULL;

    runner->info->disk_ok = fs_write_durable(runner->probe_file, 0600, "ok\n", 3, &error);
    g_free(runner->info->disk_text);
    runner->info->disk_text = error ? g_strdup(error->message) : NULL;
}

static void copy_gpus(struct runner *runner) {
    const struct gpu_snapshot *snapshot = gpu_monitor_snapshot(runner->gpus);
    struct node_info *info = runner->info;

    g_ptr_array_set_size(info->gpus, 0);
    for (guint i = 0; i < snapshot->gpus->len && i < NODE_MAX_GPUS; i++)
        g_ptr_array_add(info->gpus, gpu_copy(snapshot->gpus->pdata[i]));
    info->gpus_known = snapshot->known;
    info->gpus_simulated = snapshot->simulated;
    g_free(info->gpu_text);
    info->gpu_text = g_strdup(snapshot->text);
}

static json_t *node_json(struct runner *runner) {
    node_facts_read(config_str(runner->config, "sysfs_root"), runner->info);
    check_disk(runner);
    copy_gpus(runner);
    return node_info_to_json(runner->info);
}

static void send_heartbeat(struct runner *runner) {
    if (link_is_up(runner->link))
        link_send(runner->link, json_pack("{s:s,s:o,s:o}", "type", WIRE_HEARTBEAT, "node", node_json(runner), "tasks",
                                          executor_running(runner->executor)));
}

static void on_heartbeat(uv_timer_t *timer) { send_heartbeat(timer->data); }

/* A card's condition is told at once, its figures with the next heartbeat. */
static void on_gpus(void *user) {
    struct runner *runner = user;
    const struct gpu_snapshot *snapshot = gpu_monitor_snapshot(runner->gpus);
    bool changed = snapshot->known != runner->info->gpus_known || snapshot->gpus->len != runner->info->gpus->len;

    for (guint i = 0; !changed && i < snapshot->gpus->len; i++)
        changed = ((const struct gpu *)snapshot->gpus->pdata[i])->condition !=
                  ((const struct gpu *)runner->info->gpus->pdata[i])->condition;
    if (changed && runner->link)
        send_heartbeat(runner);
}

/* ---- the engine ---- */

static void on_probed(void *user, const struct engine_facts *facts) {
    struct runner *runner = user;
    bool ok = facts->presence == ENGINE_PRESENT;
    bool changed = ok != runner->info->engine_ok;

    runner->probe = NULL;
    runner->info->engine_ok = ok;
    g_free(runner->info->engine_text);
    runner->info->engine_text = g_strdup(facts->text);
    if (changed) {
        log_info("container engine: %s", facts->text);
        if (runner->link)
            send_heartbeat(runner);
    }
}

static void on_probe_timer(uv_timer_t *timer) {
    struct runner *runner = timer->data;

    if (!runner->probe)
        runner->probe = engine_probe(runner->engine, on_probed, runner);
}

/* ---- the link ---- */

static json_t *hello(void *user) {
    struct runner *runner = user;

    return json_pack("{s:o,s:o}", "node", node_json(runner), "tasks", executor_reports(runner->executor));
}

static void on_welcome(void *user, const char *cluster_id, int64_t heartbeat_ms) {
    struct runner *runner = user;

    executor_set_cluster(runner->executor, cluster_id);
    uv_timer_start(&runner->heartbeat, on_heartbeat, (uint64_t)heartbeat_ms, (uint64_t)heartbeat_ms);
}

static void on_down(void *user) {
    struct runner *runner = user;

    uv_timer_stop(&runner->heartbeat);
    log_server_reset(runner->log_server);
}

static void on_hopeless(void *user, const GError *error) {
    struct runner *runner = user;

    fprintf(stderr, "kohakuriver runner: %s\n", error->message);
    runner->exit_code = 1;
    uv_stop(&runner->loop);
}

static void take_start(struct runner *runner, const json_t *message) {
    g_autoptr(GError) error = NULL;
    struct task_spec *spec = task_spec_from_json(json_object_get(message, "spec"), &error);
    struct lease lease;

    if (spec && lease_from_json(json_object_get(message, "lease"), &lease, &error)) {
        executor_start(runner->executor, &lease, spec);
        return;
    }
    log_error("a start is not understood: %s", error->message);
    task_spec_free(spec);
}

static bool read_name(const json_t *message, uint32_t *ret_id, int64_t *ret_epoch) {
    struct json_reader r = jr_init(message, "message", NULL);

    *ret_id = (uint32_t)jr_int(&r, "task_id", 1, G_MAXUINT32);
    *ret_epoch = jr_int(&r, "epoch", 1, G_MAXINT64);
    return jr_done(&r);
}

static void take_stop(struct runner *runner, const json_t *message) {
    uint32_t id;
    int64_t epoch;

    if (read_name(message, &id, &epoch))
        executor_stop(runner->executor, id, epoch);
}

static void take_ack(struct runner *runner, const json_t *message) {
    uint32_t id;
    int64_t epoch;

    if (read_name(message, &id, &epoch))
        executor_ack(runner->executor, id, epoch);
}

static void take_log_open(struct runner *runner, const json_t *message) { log_server_open(runner->log_server, message); }
static void take_log_credit(struct runner *runner, const json_t *message) { log_server_credit(runner->log_server, message); }
static void take_log_close(struct runner *runner, const json_t *message) { log_server_close(runner->log_server, message); }

static const struct {
    const char *type;
    void (*take)(struct runner *runner, const json_t *message);
} messages[] = {
    {WIRE_START, take_start},       {WIRE_STOP, take_stop},           {WIRE_ACK, take_ack},
    {WIRE_LOG_OPEN, take_log_open}, {WIRE_LOG_CREDIT, take_log_credit}, {WIRE_LOG_CLOSE, take_log_close},
};

static void on_message(void *user, const char *type, const json_t *message) {
    for (size_t i = 0; i < G_N_ELEMENTS(messages); i++) {
        if (strcmp(messages[i].type, type) == 0) {
            messages[i].take(user, message);
            return;
        }
    }
    log_warning("the host sent a message of type \"%.32s\", which is not known here", type);
}

/* ---- executor and logs towards the link ---- */

static void on_report(void *user, const struct task_report *report) {
    struct runner *runner = user;

    if (runner->link)
        link_send(runner->link, json_pack("{s:s,s:o}", "type", WIRE_REPORT, "task", task_report_to_json(report)));
}

static void on_output(void *user, uint32_t task_id) {
    struct runner *runner = user;

    log_server_wake(runner->log_server, task_id);
}

static bool may_grow(void *user, uint32_t task_id) {
    struct runner *runner = user;

    return executor_output_may_grow(runner->executor, task_id);
}

static void send_text(void *user, json_t *message) { link_send(((struct runner *)user)->link, message); }

static void send_binary(void *user, const void *bytes, size_t len) {
    link_send_binary(((struct runner *)user)->link, bytes, len);
}

/* ---- start ---- */

static bool lock_state(struct runner *runner, const char *state_dir, GError **error) {
    g_autofree char *path = g_build_filename(state_dir, "lock", NULL);

    runner->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (runner->lock_fd < 0)
        return fs_fail_errno(error, errno, "open", path);
    if (flock(runner->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return kr_fail(error, USAGE, "%s is in use by another runner", state_dir);
    return true;
}

static bool name_node(struct runner *runner, GError **error) {
    const char *configured = config_str(runner->config, "node_name");
    const char *name = configured[0] ? configured : g_get_host_name();

    if (!node_name_check(name, strlen(name), error)) {
        g_prefix_error(error, "node_name: ");
        return false;
    }
    runner->info = node_info_new(name);
    runner->info->version = g_strdup(KR_VERSION);
    return true;
}

static bool start_gpus(struct runner *runner, const char *state_dir, GError **error) {
    g_autofree char *index_file = g_build_filename(state_dir, "gpus.json", NULL);
    struct gpu_monitor_config config = {.sysfs_root = config_str(runner->config, "sysfs_root"),
                                        .nvml_library = config_str(runner->config, "nvml_library"),
                                        .index_file = index_file,
                                        .interval_ms = config_int(runner->config, "gpu_interval_ms"),
                                        .deadline_ms = config_int(runner->config, "gpu_deadline_ms")};

    runner->gpus = gpu_monitor_new(&runner->loop, &config, on_gpus, runner, error);
    return runner->gpus != NULL;
}

static bool start_tasks(struct runner *runner, const char *state_dir, GError **error) {
    g_autofree char *log_dir = g_build_filename(state_dir, "logs", NULL);
    struct executor_deps deps = {.loop = &runner->loop, .config = runner->config, .engine = runner->engine,
                                 .gpus = runner->gpus, .node_name = runner->info->name, .report = on_report,
                                 .output_changed = on_output, .user = runner};
    struct log_server_deps log_deps = {.may_grow = may_grow, .send_text = send_text, .send_binary = send_binary,
                                       .user = runner};

    runner->logs = log_store_new(log_dir, config_int(runner->config, "log_max_bytes"),
                                 (int)config_int(runner->config, "log_keep_tasks"), error);
    if (!runner->logs)
        return false;
    deps.logs = log_deps.logs = runner->logs;
    runner->log_server = log_server_new(&log_deps);
    runner->executor = executor_new(&deps, error);
    return runner->executor != NULL;
}

static void start_link(struct runner *runner) {
    struct link_deps deps = {.loop = &runner->loop, .host_url = config_str(runner->config, "host_url"),
                             .node_name = runner->info->name, .credential_file = runner->credential_file,
                             .join_token_file = config_str(runner->config, "join_token_file"), .hello = hello,
                             .on_welcome = on_welcome, .on_message = on_message, .on_down = on_down,
                             .on_hopeless = on_hopeless, .user = runner};

    runner->link = link_new(&deps);
}

static void on_signal(uv_signal_t *signal, int signum) {
    struct runner *runner = signal->data;

    log_info("%s: stopping; tasks run on", signum == SIGTERM ? "SIGTERM" : "SIGINT");
    uv_stop(&runner->loop);
}

static void init_handles(struct runner *runner) {
    uv_timer_init(&runner->loop, &runner->heartbeat);
    uv_timer_init(&runner->loop, &runner->probe_timer);
    uv_signal_init(&runner->loop, &runner->on_term);
    uv_signal_init(&runner->loop, &runner->on_int);
    runner->heartbeat.data = runner->probe_timer.data = runner->on_term.data = runner->on_int.data = runner;
    uv_signal_start(&runner->on_term, on_signal, SIGTERM);
    uv_signal_start(&runner->on_int, on_signal, SIGINT);
}

static bool start(struct runner *runner, GError **error) {
    const char *state_dir = config_str(runner->config, "state_dir");

    runner->credential_file = g_build_filename(state_dir, "credential", NULL);
    runner->probe_file = g_build_filename(state_dir, "disk-check", NULL);
    if (!name_node(runner, error) || !fs_mkdir_p(state_dir, 0700, error) || !lock_state(runner, state_dir, error))
        return false;
    init_handles(runner);
    runner->engine = engine_docker_new(&runner->loop, config_str(runner->config, "docker_socket"));
    if (!start_gpus(runner, state_dir, error) || !start_tasks(runner, state_dir, error))
        return false;
    uv_timer_start(&runner->probe_timer, on_probe_timer, 0, PROBE_MS);
    start_link(runner);
    log_info("runner %s of node %s", KR_VERSION, runner->info->name);
    sd_notify(0, "READY=1");
    return true;
}

/* ---- end ---- */

static void close_handle(uv_handle_t *handle, void *arg) {
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* Whatever can call back goes before what it calls. */
static void stop(struct runner *runner) {
    sd_notify(0, "STOPPING=1");
    link_free(g_steal_pointer(&runner->link));
    executor_free(runner->executor);
    engine_call_cancel(runner->probe);
    if (runner->engine)
        engine_free(runner->engine);
    gpu_monitor_free(runner->gpus);
    log_server_free(runner->log_server);
    log_store_free(runner->logs);
    uv_run(&runner->loop, UV_RUN_NOWAIT);
    uv_walk(&runner->loop, close_handle, NULL);
    uv_run(&runner->loop, UV_RUN_DEFAULT);
    node_info_free(runner->info);
    g_free(runner->credential_file);
    g_free(runner->probe_file);
    fd_cleanup(&runner->lock_fd);
}

int runner_main(const struct config *config) {
    struct runner runner = {.config = config, .lock_fd = -1};
    g_autoptr(GError) error = NULL;

    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&runner.loop);
    if (start(&runner, &error)) {
        malloc_trim(0);
        uv_run(&runner.loop, UV_RUN_DEFAULT);
    } else {
        fprintf(stderr, "kohakuriver runner: %s\n", error->message);
        runner.exit_code = kr_error_exit_code(error);
    }
    stop(&runner);
    uv_loop_close(&runner.loop);
    return runner.exit_code;
}
