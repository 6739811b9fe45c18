#include "host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "host/event_hub.h"
#include "host/host_internal.h"
#include "host/node_query.h"
#include "host/pages.h"

enum { TICK_MS = 1000, TRIM_FIRST_MS = 5000, TRIM_EVERY_MS = 60000, MAX_FILES = 65536 };

struct core_time host_now(void) {
    return (struct core_time){.wall_ms = clock_wall_ms(), .mono_ms = clock_mono_ms()};
}

/* ---- between core and shell ---- */

static void op_record(void *env, struct record *record) {
    struct host *host = env;

    store_record(host->store, record);
}

static void op_send(void *env, const char *node, json_t *message) { host_send(env, node, message); }

static void op_task_changed(void *env, const struct task *task, bool is_gone) { host_task_changed(env, task, is_gone); }

static void op_node_changed(void *env, const char *node) { event_hub_node(((struct host *)env)->events, node); }

static void op_vps_changed(void *env, uint32_t vps_id) { event_hub_vps(((struct host *)env)->events, vps_id); }

static const struct controller_ops ops = {.record = op_record,
                                          .send = op_send,
                                          .task_changed = op_task_changed,
                                          .node_changed = op_node_changed,
                                          .vps_changed = op_vps_changed};

static void on_recorded(void *user, struct record *record, const GError *error) {
    struct host *host = user;

    if (error && !(record->is_insert_only && error->code == KR_ERROR_REFUSED))
        log_error("a record could not be written: %s", error->message);
    controller_recorded(host->controller, record, error);
}

static void on_tick(uv_timer_t *timer) {
    struct host *host = timer->data;

    controller_tick(host->controller, host_now());
}

static void on_trim(uv_timer_t *timer) {
    (void)timer;
    mem_trim();
}

/* ---- start ---- */

static bool lock_state(struct host *host, const char *state_dir, GError **error) {
    g_autofree char *path = g_build_filename(state_dir, "lock", NULL);

    host->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (host->lock_fd < 0)
        return fs_fail_errno(error, errno, "open", path);
    if (flock(host->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return kr_fail(error, USAGE, "%s is in use by another host process", state_dir);
    return true;
}

static bool prepare_join_token(struct host *host, const char *state_dir, GError **error) {
    const char *configured = config_str(host->config, "join_token_file");
    unsigned char random[24];
    char hex[sizeof random * 2 + 2];

    host->join_token_file = configured[0] ? g_strdup(configured) : g_build_filename(state_dir, "join-token", NULL);
    if (g_file_test(host->join_token_file, G_FILE_TEST_EXISTS))
        return true;
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(hex, sizeof hex, random, sizeof random);
    g_strlcat(hex, "\n", sizeof hex);
    if (!fs_write_durable(host->join_token_file, 0600, hex, sizeof hex - 1, error))
        return false;
    log_info("made a join token for runners: %s", host->join_token_file);
    return true;
}

static void restore_node(struct host *host, const struct store_node *node) {
    g_autoptr(GError) error = NULL;
    struct node_info *info = node->info ? node_info_from_json(node->info, &error) : node_info_new(node->name);

    if (node->credential_hash && node->credential_hash[0])
        g_hash_table_insert(host->credentials, g_strdup(node->credential_hash), g_strdup(node->name));
    if (!info) {
        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): without info there is an error */
        log_warning("what is kept of node %s is not understood: %s", node->name, error->message);
        info = node_info_new(node->name);
    }
    if (node->info)
        controller_restore_node(host->controller, info);
    else
        node_info_free(info);
}

static bool restore_tasks(struct host *host, GPtrArray *tasks, GError **error) {
    g_ptr_array_set_free_func(tasks, NULL); /* the controller takes them */
    for (guint i = 0; i < tasks->len; i++) {
        uint32_t id = ((struct task *)tasks->pdata[i])->id;
        if (!controller_restore_task(host->controller, tasks->pdata[i]))
            return kr_fail(error, IO, "store: task %u holds a card that another task holds too; restore a backup", id);
    }
    if (tasks->len > 0)
        log_info("%u tasks hold leases", tasks->len);
    return true;
}

static bool restore(struct host *host, GError **error) {
    struct store_contents contents;
    bool ok = true;

    if (!store_load(host->store, &contents, error))
        return false;
    controller_restore_counters(host->controller, contents.last_task_id, contents.last_epoch);
    for (guint i = 0; i < contents.nodes->len; i++)
        restore_node(host, contents.nodes->pdata[i]);
    ok = restore_tasks(host, contents.live_tasks, error);
    g_ptr_array_set_free_func(contents.marks, NULL); /* the controller takes them */
    for (guint i = 0; i < contents.marks->len; i++)
        controller_restore_mark(host->controller, contents.marks->pdata[i]);
    g_ptr_array_set_free_func(contents.pardons, NULL);
    for (guint i = 0; i < contents.pardons->len; i++)
        controller_restore_pardon(host->controller, contents.pardons->pdata[i]);
    controller_restore_vps_counter(host->controller, contents.last_vps_id);
    g_ptr_array_set_free_func(contents.vps, NULL);
    for (guint i = 0; i < contents.vps->len; i++)
        controller_restore_vps(host->controller, contents.vps->pdata[i]);
    g_ptr_array_set_free_func(contents.keys, NULL);
    for (guint i = 0; i < contents.keys->len; i++)
        controller_restore_key(host->controller, contents.keys->pdata[i]);
    store_contents_clear(&contents);
    return ok;
}

static bool open_store(struct host *host, const char *state_dir, GError **error) {
    g_autofree char *path = g_build_filename(state_dir, "kohakuriver.db", NULL);
    g_autofree char *new_id = g_uuid_string_random();

    host->store = store_open(&host->loop, path, error);
    if (!host->store)
        return false;
    host->cluster_id = store_meta(host->store, "cluster_id", new_id, error);
    store_set_record_cb(host->store, on_recorded, host);
    return host->cluster_id && restore(host, error);
}

static void on_signal(uv_signal_t *signal, int signum) {
    struct host *host = signal->data;

    log_info("%s: stopping; tasks run on", signum == SIGTERM ? "SIGTERM" : "SIGINT");
    uv_stop(&host->loop);
}

static void start_handles(struct host *host) {
    uv_timer_init(&host->loop, &host->tick);
    uv_timer_init(&host->loop, &host->trim);
    uv_signal_init(&host->loop, &host->on_term);
    uv_signal_init(&host->loop, &host->on_int);
    host->tick.data = host->on_term.data = host->on_int.data = host;
    uv_timer_start(&host->tick, on_tick, TICK_MS, TICK_MS);
    uv_timer_start(&host->trim, on_trim, TRIM_FIRST_MS, TRIM_EVERY_MS);
    uv_signal_start(&host->on_term, on_signal, SIGTERM);
    uv_signal_start(&host->on_int, on_signal, SIGINT);
}

static bool start(struct host *host, GError **error) {
    const char *state_dir = config_str(host->config, "state_dir");
    const char *listen = config_str(host->config, "listen");

    if (!fs_mkdir_p(state_dir, 0700, error) || !lock_state(host, state_dir, error) ||
        !prepare_join_token(host, state_dir, error) || !open_store(host, state_dir, error))
        return false;
    host->events = event_hub_new(host);
    host->server = http_server_new(&host->loop, listen, host_routes, host, error);
    if (!host->server)
        return false;
    if (!http_server_add_names(host->server, config_list(host->config, "host_names"), error)) {
        g_prefix_error_literal(error, "host_names: ");
        return false;
    }
    http_server_set_fallback(host->server, &pages_route);
    start_handles(host);
    log_info("host %s of cluster %s listens on %s (port %d)", KR_VERSION, host->cluster_id, listen,
             http_server_port(host->server));
    sd_notify(0, "READY=1");
    return true;
}

/* ---- end ---- */

static void close_handle(uv_handle_t *handle, void *arg) {
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* The order matters: nothing may call back into what is gone. */
static void stop(struct host *host) {
    sd_notify(0, "STOPPING=1");
    store_close(host->store); /* answers submissions that wait for their record */
    host_waiters_drop(host);
    log_relays_cut(host, NULL);
    node_queries_cut(host, NULL);
    tunnel_relays_cut(host, NULL);
    runner_links_close(host);
    http_server_free(host->server);
    event_hub_free(host->events);
    host->events = NULL;
    uv_run(&host->loop, UV_RUN_NOWAIT);
    uv_walk(&host->loop, close_handle, NULL);
    uv_run(&host->loop, UV_RUN_DEFAULT);
}

static void init_tables(struct host *host) {
    host->links = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    host->all_links = g_hash_table_new(NULL, NULL);
    host->credentials = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    host->waiters = g_hash_table_new(NULL, NULL);
    host->queries = g_hash_table_new(g_int64_hash, g_int64_equal);
    host->tunnels = g_hash_table_new_full(NULL, NULL, NULL, tunnel_relay_free);
    host->relays = g_hash_table_new_full(NULL, NULL, NULL, log_relay_free);
    host->lock_fd = -1;
}

static void clear_tables(struct host *host) {
    controller_free(host->controller);
    g_hash_table_unref(host->links);
    g_hash_table_unref(host->all_links);
    g_hash_table_unref(host->credentials);
    g_hash_table_unref(host->waiters);
    g_hash_table_unref(host->relays);
    g_hash_table_unref(host->tunnels);
    g_hash_table_unref(host->queries);
    g_free(host->cluster_id);
    g_free(host->join_token_file);
    fd_cleanup(&host->lock_fd);
}

/* Each dashboard, runner and follower is a connection; a shell's usual limit is 1024 files. */
static void raise_file_limit(void) {
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= MAX_FILES)
        return;
    limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)MAX_FILES);
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        log_warning("the limit of open files cannot be raised: %s", g_strerror(errno));
}

static struct controller *make_controller(struct host *host) {
    struct controller_settings settings = {
        .offline_after_ms = config_int(host->config, "offline_after_ms"),
        .kills_orphans = strcmp(config_str(host->config, "orphan_policy"), "kill") == 0,
    };

    return controller_new(&ops, host, &settings);
}

int host_main(const struct config *config) {
    struct host host = {.config = config};
    g_autoptr(GError) error = NULL;

    log_init(log_level_from_str(config_str(config, "log_level")));
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    if (sodium_init() < 0)
        g_error("libsodium cannot be initialised");
    init_tables(&host);
    uv_loop_init(&host.loop);
    host.controller = make_controller(&host);
    if (start(&host, &error)) {
        uv_run(&host.loop, UV_RUN_DEFAULT);
    } else {
        fprintf(stderr, "kohakuriver host: %s\n", error->message);
        host.exit_code = kr_error_exit_code(error);
    }
    stop(&host);
    clear_tables(&host);
    uv_loop_close(&host.loop);
    return host.exit_code;
}
