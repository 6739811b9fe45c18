#include "runner/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/simulated.h"
#include "runner/runner_internal.h"

/* A card or an engine that hangs must not keep the node from saying so. */
enum { FIRST_DIAL_MS = 3000, TRIM_FIRST_MS = 5000, TRIM_EVERY_MS = 60000, SAMPLE_HOLDS_INTERVALS = 2 };

/* ---- the cards, for the executor ---- */

static struct gpu_check_call *gpus_check(void *user, const char *const *uuids, size_t n, gpu_check_cb *on_done,
                                         void *arg) {
    return gpu_monitor_check(((struct runner *)user)->monitor, uuids, n, on_done, arg);
}

static void gpus_set_leased(void *user, const char *uuid, bool leased) {
    gpu_monitor_set_leased(((struct runner *)user)->monitor, uuid, leased);
}

static bool gpus_minor_of(void *user, const char *uuid, int *ret_minor) {
    const struct gpu_snapshot *snapshot = gpu_monitor_snapshot(((struct runner *)user)->monitor);

    for (guint i = 0; snapshot->gpus && i < snapshot->gpus->len; i++) {
        const struct gpu *gpu = snapshot->gpus->pdata[i];
        if (strcmp(gpu->uuid, uuid) == 0 && gpu_has(gpu, GPU_MINOR)) {
            *ret_minor = (int)gpu_figure(gpu, GPU_MINOR);
            return true;
        }
    }
    return false;
}

static const char *gpus_pci_of(void *user, const char *uuid) {
    const struct gpu_snapshot *snapshot = gpu_monitor_snapshot(((struct runner *)user)->monitor);

    for (guint i = 0; snapshot->gpus && i < snapshot->gpus->len; i++) {
        const struct gpu *gpu = snapshot->gpus->pdata[i];
        if (strcmp(gpu->uuid, uuid) == 0 && gpu->pci[0])
            return gpu->pci;
    }
    return NULL;
}

/* ---- machines ---- */

static bool find_socket(void *user, uint32_t task_id, const char *to, struct tunnel_end *ret_end, GError **error) {
    struct runner *runner = user;
    const char *machine = executor_machine_of(runner->executor, task_id);

    return machine ? machines_find_socket(runner->machines, machine, to, ret_end, error)
                   : kr_fail(error, NOT_FOUND, "no machine of task %u is on here", task_id);
}

static void on_cards_recovered(void *user) { executor_reconcile(((struct runner *)user)->executor); }

/* Cards that were never seen by this process are told apart by their names: an empty list for those that NVIDIA's hook
 * knows nothing of. */
static char **gpus_nodes_of(void *user, const char *uuid) {
    const struct gpu_snapshot *snapshot = gpu_monitor_snapshot(((struct runner *)user)->monitor);
    bool is_other = g_str_has_prefix(uuid, "AMD-") || g_str_has_prefix(uuid, GPU_PLACE_PREFIX);
    g_autoptr(GStrvBuilder) paths = g_strv_builder_new();

    if (!is_other)
        return NULL;
    for (guint i = 0; snapshot->gpus && i < snapshot->gpus->len; i++) {
        const struct gpu *gpu = snapshot->gpus->pdata[i];

        for (size_t n = 0; strcmp(gpu->uuid, uuid) == 0 && n < gpu->n_device_nodes; n++)
            g_strv_builder_add(paths, gpu->device_nodes[n]);
    }
    return g_strv_builder_end(paths);
}

static bool gpus_renders_visible(void *user, pid_t pid, GArray **ret_renders, GError **error) {
    return gpu_renders_visible_to(config_str(((struct runner *)user)->config, "sysfs_root"), pid, ret_renders, error);
}

/* ---- the link ---- */

static void on_heartbeat(uv_timer_t *timer) { runner_beat(timer->data); }

static void on_welcome(void *user, const char *cluster_id, int64_t heartbeat_ms) {
    struct runner *runner = user;

    executor_set_cluster(runner->executor, cluster_id);
    if (heartbeat_ms != runner->heartbeat_ms) {
        runner->heartbeat_ms = heartbeat_ms;
        uv_timer_start(&runner->heartbeat, on_heartbeat, (uint64_t)heartbeat_ms, (uint64_t)heartbeat_ms);
    }
}

static void on_down(void *user) {
    struct runner *runner = user;

    log_server_reset(runner->log_server);
    node_queries_drop(runner);
    tunnels_reset(runner->tunnels);
}

static void on_binary(void *user, const void *bytes, size_t len) {
    tunnels_data(((struct runner *)user)->tunnels, bytes, len);
}

static void on_drain(void *user) { log_server_drained(((struct runner *)user)->log_server); }

static void on_fatal(void *user, const GError *error) {
    struct runner *runner = user;

    fprintf(stderr, "kohakuriver runner: %s\n", error->message);
    runner->exit_code = kr_error_exit_code(error);
    uv_stop(&runner->loop);
}

static void on_output(void *user, uint32_t task_id) { log_server_poke(((struct runner *)user)->log_server, task_id); }

static void on_truth(void *user) {
    struct runner *runner = user;

    if (runner->link)
        link_say_hello_again(runner->link);
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

static bool open_gpus(struct runner *runner, const char *state_dir, GError **error) {
    g_autofree char *index_file = g_build_filename(state_dir, "gpus.json", NULL);
    g_autofree char *history = g_build_filename(state_dir, "history", NULL);
    struct gpu_monitor_config config = {
        .sysfs_root = config_str(runner->config, "sysfs_root"),
        .nvml_library = config_str(runner->config, "nvml_library"),
        .index_file = index_file,
        .interval_ms = config_int(runner->config, "gpu_interval_ms"),
        .slow_interval_ms = config_int(runner->config, "gpu_slow_interval_ms"),
        .process_interval_ms = config_int(runner->config, "gpu_process_interval_ms"),
        .health_interval_ms = config_int(runner->config, "gpu_health_interval_ms"),
        .deadline_ms = config_int(runner->config, "gpu_deadline_ms"),
    };

    runner->facts = node_facts_new(config.sysfs_root, (int)config_int(runner->config, "cpus_reserved"));
    config.boot_id = node_facts_boot_id(runner->facts);
    runner->history = gpu_history_new(history, SAMPLE_HOLDS_INTERVALS * config.interval_ms);
    runner->monitor = gpu_monitor_new(&runner->loop, &config, runner_on_gpus, runner, error);
    return runner->monitor != NULL;
}

static void open_engine(struct runner *runner) {
    const char *image = config_str(runner->config, "default_image");

    if (strcmp(config_str(runner->config, "engine"), "docker") == 0) {
        runner->engine = engine_docker_new(&runner->loop, config_str(runner->config, "docker_socket"));
        return;
    }
    runner->world = sim_world_new(&runner->loop);
    if (image[0])
        sim_world_add_image(runner->world, image);
    runner->engine = engine_simulated_new(runner->world);
}

static bool open_link(struct runner *runner, const char *state_dir, GError **error) {
    static const struct link_handlers handlers = {.hello = runner_hello,
                                                  .on_welcome = on_welcome,
                                                  .on_message = runner_on_message,
                                                  .on_binary = on_binary,
                                                  .on_down = on_down,
                                                  .on_drain = on_drain,
                                                  .on_fatal = on_fatal};
    struct link_config config = {.node = runner->node,
                                 .host_url = config_str(runner->config, "host_url"),
                                 .state_dir = state_dir,
                                 .join_token_file = config_str(runner->config, "join_token_file")};

    runner->link = link_new(&runner->loop, &config, &handlers, runner, error);
    return runner->link != NULL;
}

static bool open_executor(struct runner *runner, GError **error) {
    static const struct executor_handlers handlers = {
        .on_report = runner_on_report, .on_output = on_output, .on_truth = on_truth};
    const struct config *config = runner->config;
    struct executor_gpus gpus = {.check = gpus_check,
                                 .check_cancel = gpu_check_cancel,
                                 .set_leased = gpus_set_leased,
                                 .minor_of = gpus_minor_of,
                                 .minors_visible = gpu_minors_visible_to,
                                 .pci_of = gpus_pci_of,
                                 .nodes_of = gpus_nodes_of,
                                 .renders_visible = gpus_renders_visible,
                                 .user = runner};
    struct executor_config settings = {
        .node = runner->node,
        .dev_root = config_str(config, "sysfs_root"),
        .boot_id = node_facts_boot_id(runner->facts),
        .boot_ms = clock_wall_ms() - clock_mono_ms(),
        .cluster_id = link_cluster_id(runner->link),
        .default_image = config_str(config, "default_image"),
        .network = config_str(config, "network"),
        .working_dir = config_str(config, "working_dir"),
        .allowed_mounts = config_list(config, "allowed_mounts"),
        .may_pull = strcmp(config_str(config, "pull_policy"), "missing") == 0,
        .injection = ENGINE_INJECTION_NVIDIA,
        .shm_bytes = config_int(config, "shm_bytes"),
        .log_max_bytes = 2 * config_int(config, "log_max_bytes"), /* the engine's record is longer than the bytes */
        .stop_grace_ms = config_int(config, "stop_grace_ms"),
        .machine_grace_ms = config_int(config, "vm_stop_grace_ms"),
        .drain_timeout_ms = config_int(config, "drain_timeout_ms"),
        .evidence_samples = (int)config_int(config, "evidence_samples"),
    };

    if (!runner_config_memlock(config, &settings.memlock, error))
        return false;
    runner->executor = executor_new(&runner->loop, &settings, runner->engine, &gpus, runner->facts, runner->leases,
                                    runner->logs, &handlers, runner);
    runner->machines = machines_new(runner, error);
    if (!runner->machines)
        return false;
    executor_set_machines(runner->executor, machines_engine(runner->machines));
    return executor_restore(runner->executor, error);
}

static void on_signal(uv_signal_t *handle, int signum) {
    struct runner *runner = handle->data;

    log_info("%s: stopping; tasks run on", signum == SIGTERM ? "SIGTERM" : "SIGINT");
    uv_stop(&runner->loop);
}

static void on_first_dial(uv_timer_t *timer) {
    struct runner *runner = timer->data;

    if (runner->is_link_started)
        return;
    runner->is_link_started = true;
    link_start(runner->link);
}

static void on_trim(uv_timer_t *timer) {
    (void)timer;
    mem_trim();
}

static void start_handles(struct runner *runner) {
    uint64_t heartbeat_ms = (uint64_t)config_int(runner->config, "heartbeat_ms");

    runner->heartbeat_ms = (int64_t)heartbeat_ms;
    uv_timer_start(&runner->heartbeat, on_heartbeat, heartbeat_ms, heartbeat_ms);
    uv_timer_start(&runner->first_dial, on_first_dial, FIRST_DIAL_MS, 0);
    uv_timer_start(&runner->trim, on_trim, TRIM_FIRST_MS, TRIM_EVERY_MS);
}

static void init_handles(struct runner *runner) {
    uv_signal_init(&runner->loop, &runner->on_term);
    uv_signal_init(&runner->loop, &runner->on_int);
    uv_timer_init(&runner->loop, &runner->heartbeat);
    uv_timer_init(&runner->loop, &runner->first_dial);
    uv_timer_init(&runner->loop, &runner->trim);
    runner->on_term.data = runner->on_int.data = runner->heartbeat.data = runner->first_dial.data = runner;
    uv_signal_start(&runner->on_term, on_signal, SIGTERM);
    uv_signal_start(&runner->on_int, on_signal, SIGINT);
}

static bool start(struct runner *runner, GError **error) {
    const char *state_dir = config_str(runner->config, "state_dir");

    runner->node = runner_config_node_name(runner->config, error);
    if (!runner->node || !fs_mkdir_p(state_dir, 0700, error) || !lock_state(runner, state_dir, error) ||
        !open_gpus(runner, state_dir, error))
        return false;
    open_engine(runner);
    runner->leases = lease_files_open(state_dir, error);
    runner->logs = runner->leases ? log_store_new(state_dir, config_int(runner->config, "log_max_bytes"), error) : NULL;
    if (!runner->logs || !open_link(runner, state_dir, error))
        return false;
    runner->log_server = log_server_new(runner->logs, &runner_log_ops, runner);
    if (!open_executor(runner, error))
        return false;
    runner->tunnels = tunnels_new(&runner->loop, runner->link, find_socket, runner);
    machines_recover(runner->machines, on_cards_recovered, runner);
    machines_probe(runner->machines);
    runner_probe(runner);
    start_handles(runner);
    log_info("runner %s of node %s, state in %s", KR_VERSION, runner->node, state_dir);
    sd_notify(0, "READY=1");
    return true;
}

/* ---- end ---- */

static void close_own_handles(struct runner *runner) {
    uv_close((uv_handle_t *)&runner->on_term, NULL);
    uv_close((uv_handle_t *)&runner->on_int, NULL);
    uv_close((uv_handle_t *)&runner->heartbeat, NULL);
    uv_close((uv_handle_t *)&runner->first_dial, NULL);
    uv_close((uv_handle_t *)&runner->trim, NULL);
}

/* Users before what they use. */
static void stop(struct runner *runner) {
    sd_notify(0, "STOPPING=1");
    node_queries_drop(runner);
    tunnels_free(runner->tunnels);
    executor_free(runner->executor);
    machines_free(runner->machines);
    link_free(runner->link);
    log_server_free(runner->log_server);
    log_store_free(runner->logs);
    lease_files_close(runner->leases);
    engine_call_cancel(runner->probe);
    engine_free(runner->engine);
    sim_world_free(runner->world);
    gpu_monitor_free(runner->monitor);
    gpu_history_free(runner->history);
    node_facts_free(runner->facts);
    engine_facts_clear(&runner->engine_facts);
    close_own_handles(runner);
    uv_run(&runner->loop, UV_RUN_DEFAULT);
    uv_loop_close(&runner->loop);
    fd_cleanup(&runner->lock_fd);
    g_hash_table_unref(runner->queries);
    json_decref(runner->told);
    g_free(runner->disk_text);
    g_free(runner->node);
}

int runner_main(const struct config *config) {
    struct runner runner = {.config = config, .lock_fd = -1, .is_disk_ok = true};
    g_autoptr(GError) error = NULL;

    mallopt(M_ARENA_MAX, 1); /* a few threads for short work need no heap of their own */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    log_init(log_level_from_str(config_str(config, "log_level")));
    runner.started_ms = clock_wall_ms();
    runner.queries = g_hash_table_new(NULL, NULL);
    uv_loop_init(&runner.loop);
    init_handles(&runner);
    if (start(&runner, &error)) {
        uv_run(&runner.loop, UV_RUN_DEFAULT);
    } else {
        fprintf(stderr, "kohakuriver runner: %s\n", error->message);
        runner.exit_code = kr_error_exit_code(error);
    }
    stop(&runner);
    return runner.exit_code;
}
