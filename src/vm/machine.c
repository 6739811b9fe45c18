#include "vm/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "vm/machine_boot.h"
#include "vm/shim.h"

enum {
    TICK_MS = 50,
    QUIT_GRACE_MS = 2000,  /* between the monitor's quit and SIGKILL */
    JUDGE_GRACE_MS = 5000, /* for the supervisor to write down how QEMU ended */
    ANSWER_MS = 10000,
    START_DEADLINE_MS = 300000,
    MAX_PORTS_LOST = 5,
};

static void launch(struct machine *m);
static void start_failed(struct machine *m, const GError *error);
static void go_on_removing(struct machine *m);
static void on_tick(uv_timer_t *timer);

/* ---- small things ---- */

bool machine_is_running(const struct machine *m) { return m->record->state == MACHINE_RUNNING; }

char *machine_folder(const struct machine_context *context, const char *name) {
    return g_build_filename(context->config->folder, "machines", name, NULL);
}

static void changed(struct machine *m) { m->context->on_change(m->context->user); }

static bool save(struct machine *m, GError **error) { return machine_record_save(m->record, m->folder, error); }

/* Where nothing else can be done than to go on: the next run judges again. */
static void save_or_log(struct machine *m) {
    g_autoptr(GError) error = NULL;

    if (!save(m, &error))
        log_error("machine %s: %s", m->record->name, error->message);
}

static void keep_ticking(struct machine *m) {
    if (!uv_is_active((uv_handle_t *)&m->tick))
        uv_timer_start(&m->tick, on_tick, TICK_MS, TICK_MS);
}

static void on_handle_closed(uv_handle_t *handle) {
    struct machine *m = handle->data;

    if (--m->open_handles > 0 || !m->is_freed)
        return;
    fd_cleanup(&m->pidfd);
    fd_cleanup(&m->run_fd);
    machine_record_free(m->record);
    g_free(m->folder);
    g_free(m->shutdown_reason);
    g_clear_error(&m->start_error);
    g_clear_error(&m->remove_error);
    g_clear_error(&m->pause_error);
    g_free(m);
}

static void stop_watching(struct machine *m) {
    if (m->is_polling) {
        m->is_polling = false;
        uv_close((uv_handle_t *)&m->poll, on_handle_closed);
    }
    g_clear_pointer(&m->qmp, qmp_client_free);
    g_clear_pointer(&m->agent, agent_link_free);
}

static void stop_listening(struct machine *m) {
    if (m->has_words) {
        m->has_words = false;
        uv_close((uv_handle_t *)&m->words, on_handle_closed);
    }
}

void machine_free(struct machine *m) {
    if (!m)
        return;
    m->is_freed = true;
    if (m->devices)
        m->context->config->devices->cancel(g_steal_pointer(&m->devices));
    nat_bridge_cancel(g_steal_pointer(&m->network));
    stop_watching(m);
    stop_listening(m);
    uv_close((uv_handle_t *)&m->tick, on_handle_closed);
}

static struct machine *machine_alloc(const struct machine_context *context, struct machine_record *record) {
    struct machine *m = g_new0(struct machine, 1);

    m->context = context;
    m->record = record;
    m->folder = machine_folder(context, record->name);
    m->run_fd = m->pidfd = -1;
    uv_timer_init(context->loop, &m->tick);
    m->tick.data = m;
    m->open_handles = 1;
    return m;
}

struct machine *machine_new(const struct machine_context *context, struct machine_record *record, GError **error) {
    struct machine *m = machine_alloc(context, record);

    if (fs_mkdir_p(m->folder, 0711, error) && chmod(m->folder, 0711) == 0 && save(m, error))
        return m;
    if (error && !*error)
        fs_fail_errno(error, errno, "open to QEMU", m->folder);
    fs_remove_tree(m->folder, NULL);
    machine_free(m);
    return NULL;
}

/* ---- the end of QEMU ---- */

static void ended(struct machine *m) {
    machine_judge(m);
    m->record->state = MACHINE_ENDED;
    fault_point("vm-exit-seen");
    save_or_log(m);
    if (m->is_removing)
        go_on_removing(m);
    changed(m);
}

/* QEMU and its supervisor are gone, or what is left of the latter has nothing to say. */
static void conclude(struct machine *m) {
    g_autoptr(GError) error = NULL;
    g_autofree char *words = NULL;

    m->is_qemu_gone = false;
    m->kill_at_ms = 0;
    m->is_paused = false;
    stop_watching(m);
    if (m->record->state == MACHINE_RUNNING) {
        m->is_starting = false;
        ended(m);
    } else if (m->is_starting) {
        words = machine_last_words(m);
        if (strstr(words, "host forwarding") && !m->is_removing && ++m->n_ports_lost < MAX_PORTS_LOST) {
            log_info("machine %s: somebody else took its port, another is tried", m->record->name);
            launch(m);
            return;
        }
        kr_fail(&error, REFUSED, "%s", words[0] ? words : "QEMU ended without a word");
        start_failed(m, error);
    } else if (m->is_removing) {
        go_on_removing(m);
    }
}

static void qemu_is_gone(struct machine *m) {
    m->is_qemu_gone = true;
    m->settle_by_ms = clock_mono_ms() + JUDGE_GRACE_MS;
    keep_ticking(m);
}

static void on_pidfd(uv_poll_t *poll, int status, int events) {
    struct machine *m = poll->data;

    m->is_polling = false;
    uv_close((uv_handle_t *)poll, on_handle_closed);
    qemu_is_gone(m);
}

/* ---- the monitor ---- */

static void on_qmp_event(void *user, const char *name, const json_t *data) {
    struct machine *m = user;
    const char *reason = json_string_value(json_object_get(data, "reason"));

    if (strcmp(name, "SHUTDOWN") == 0) {
        g_free(m->shutdown_reason);
        m->shutdown_reason = g_strdup(reason);
    } else if (strcmp(name, "STOP") == 0 || strcmp(name, "RESUME") == 0) {
        m->is_paused = strcmp(name, "STOP") == 0 && machine_is_running(m);
    }
    log_debug("machine %s: %s %s", m->record->name, name, reason ? reason : "");
    changed(m);
}

static void on_qmp_closed(void *user, const GError *error) {
    struct machine *m = user;
    g_autoptr(GError) why = NULL;

    g_clear_pointer(&m->qmp, qmp_client_free);
    if (m->record->state != MACHINE_STARTING || !m->is_polling) {
        keep_ticking(m);
    } else if (g_error_matches(error, KR_ERROR, KR_ERROR_TIMEOUT)) { /* it lives and does not talk */
        why = g_error_copy(error);
        start_failed(m, why);
    } else { /* it is about to end, and its last words say why */
        process_tag_kill(&m->qemu, SIGKILL);
    }
}

static void on_continued(void *user, const json_t *value, const GError *error) {
    struct machine *m = user;

    m->is_starting = false;
    if (error) { /* its end follows, or the next connection lets it go on */
        log_warning("machine %s: %s", m->record->name, error->message);
        g_clear_pointer(&m->qmp, qmp_client_free);
        keep_ticking(m);
        changed(m);
        return;
    }
    m->is_paused = false;
    fault_point("vm-continued");
    log_info("machine %s runs", m->record->name);
    changed(m);
}

/* Durable first: a machine that is let go is known to be running. */
static void let_go(struct machine *m) {
    g_autoptr(GError) error = NULL;

    m->record->state = MACHINE_RUNNING;
    m->record->started_ms = clock_wall_ms();
    if (!save(m, &error)) {
        m->record->state = MACHINE_STARTING;
        start_failed(m, error);
        return;
    }
    fault_point("vm-running-recorded");
    qmp_client_ask(m->qmp, "cont", NULL, ANSWER_MS, on_continued, m);
}

/* Is the device among QEMU's own? query-pci does not tell: before the firmware has numbered the buses it does not look behind
 * root ports. */
static bool has_device(const json_t *peripherals, const char *id) {
    const json_t *item;
    size_t i;

    json_array_foreach (peripherals, i, item)
        if (g_strcmp0(json_string_value(json_object_get(item, "name")), id) == 0 &&
            g_strcmp0(json_string_value(json_object_get(item, "type")), "child<vfio-pci>") == 0)
            return true;
    return false;
}

static void on_devices(void *user, const json_t *value, const GError *failure) {
    struct machine *m = user;
    const struct qemu_function *functions = (const struct qemu_function *)(void *)m->record->functions->data;
    g_autoptr(GError) error = failure ? g_error_copy(failure) : NULL;
    char id[16];

    for (guint i = 0; i < m->record->functions->len && !error; i++) {
        qemu_function_id(functions, i, id, sizeof id);
        if (!has_device(value, id))
            kr_fail(&error, REFUSED, "%s is not in the machine that QEMU has made", functions[i].address);
    }
    if (error)
        start_failed(m, error);
    else
        let_go(m);
}

static void on_status(void *user, const json_t *value, const GError *error) {
    struct machine *m = user;
    const char *status = json_string_value(json_object_get(value, "status"));

    if (g_strcmp0(status, "prelaunch") == 0)
        qmp_client_ask(m->qmp, "cont", NULL, ANSWER_MS, on_continued, m);
    m->is_paused = g_strcmp0(status, "paused") == 0;
    changed(m);
}

/* Once: whoever asks whether it ever became ready may be the next runner. */
static void on_guest(void *user, const struct guest_state *state) {
    struct machine *m = user;

    if (!state->is_ready || m->record->was_ready)
        return;
    m->record->was_ready = true;
    log_info("machine %s: its guest is ready", m->record->name);
    save_or_log(m);
    changed(m);
}

static void listen_to_guest(struct machine *m) {
    struct vm_disk *disk = disk_store_find(m->context->store, m->record->vm->vps_id, NULL);

    if (disk)
        m->agent = agent_link_new(m->context->loop, m->run_fd, disk->secret, on_guest, m);
    vm_disk_free(disk);
}

static void on_qmp_ready(void *user) {
    struct machine *m = user;

    if (machine_is_running(m))
        qmp_client_ask(m->qmp, "query-status", NULL, ANSWER_MS, on_status, m);
    else if (m->record->functions->len > 0)
        qmp_client_ask(m->qmp, "qom-list", json_pack("{s:s}", "path", "/machine/peripheral"), ANSWER_MS, on_devices, m);
    else
        let_go(m);
    if (!m->agent)
        listen_to_guest(m);
}

static void connect_monitor(struct machine *m) {
    static const struct qmp_client_handlers handlers = {on_qmp_ready, on_qmp_event, on_qmp_closed};
    int64_t set = m->context->config->start_deadline_ms;

    if (m->run_fd < 0) {
        g_autofree char *run = g_build_filename(m->folder, SHIM_RUN_FOLDER, NULL);
        m->run_fd = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    m->qmp = qmp_client_new(m->context->loop, m->run_fd, QEMU_QMP_SOCKET, set ? set : START_DEADLINE_MS, &handlers, m);
}

/* Its processes have been written down: the pid is known, and watched from here on. */
static void begin_watching(struct machine *m) {
    struct process_tag shim;

    if (!shim_processes_read(m->folder, &shim, &m->qemu, NULL)) {
        m->qemu = (struct process_tag){0};
        qemu_is_gone(m);
        return;
    }
    fd_cleanup(&m->pidfd);
    m->pidfd = process_tag_open(&m->qemu);
    if (m->pidfd < 0 || uv_poll_init(m->context->loop, &m->poll, m->pidfd) < 0) {
        qemu_is_gone(m);
        return;
    }
    m->poll.data = m;
    m->is_polling = true;
    m->open_handles++;
    uv_poll_start(&m->poll, UV_READABLE, on_pidfd);
    connect_monitor(m);
}

/* ---- start ---- */

static void finish_failed_start(struct machine *m) {
    m->is_starting = false;
    m->record->state = MACHINE_CREATED;
    m->record->error = g_strdup(m->start_error->message);
    m->record->exit_code = 1;
    save_or_log(m);
    if (m->is_removing)
        go_on_removing(m);
    changed(m);
}

/* What runs is ended first; the end then comes back here. The first error counts. */
static void start_failed(struct machine *m, const GError *error) {
    if (!m->start_error)
        m->start_error = g_error_new(KR_ERROR, KR_ERROR_REFUSED, "start machine %s: %s", m->record->name,
                                     error->message);
    if (m->is_polling) {
        process_tag_kill(&m->qemu, SIGKILL);
        return;
    }
    g_free(m->record->error);
    finish_failed_start(m);
}

static void fail_start(struct machine *m, enum kr_error code, const char *text) {
    g_autoptr(GError) error = g_error_new_literal(KR_ERROR, (int)code, text);

    start_failed(m, error);
}

/* "started" or nothing: then why stands in the machine's file. */
static void words_done(struct machine *m) {
    bool is_started = strcmp(m->words_text, "started\n") == 0;
    g_autofree char *words = NULL;

    stop_listening(m);
    if (!m->is_starting)
        return;
    if (is_started) {
        begin_watching(m);
        if (m->is_removing && m->is_polling)
            process_tag_kill(&m->qemu, SIGKILL);
        return;
    }
    words = machine_last_words(m);
    fail_start(m, KR_ERROR_REFUSED, words[0] ? words : "its supervisor ended without a word");
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    struct machine *m = handle->data;

    *buf = uv_buf_init(m->words_text + m->words_len, (unsigned)(sizeof m->words_text - 1 - m->words_len));
}

static void on_words(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct machine *m = stream->data;

    if (n > 0)
        m->words_len += (size_t)n;
    if (n < 0 || memchr(m->words_text, '\n', m->words_len))
        words_done(m);
}

static void on_process_closed(uv_handle_t *handle) { g_free(handle); }

static void on_shim_exit(uv_process_t *process, int64_t status, int signum) {
    uv_close((uv_handle_t *)process, on_process_closed);
}

static int spawn(struct machine *m, char **argv, int stderr_fd) {
    uv_stdio_container_t stdio[] = {
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&m->words},
        {.flags = UV_INHERIT_FD, .data.fd = stderr_fd}};
    const char *env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", NULL};
    const char *exe = m->context->config->exe;
    uv_process_options_t options = {.file = exe[0] ? exe : "/proc/self/exe",
                                    .args = argv,
                                    .env = (char **)env,
                                    .flags = UV_PROCESS_DETACHED,
                                    .exit_cb = on_shim_exit,
                                    .stdio = stdio,
                                    .stdio_count = G_N_ELEMENTS(stdio)};
    uv_process_t *process = g_new0(uv_process_t, 1);
    int rc = uv_spawn(m->context->loop, process, &options);

    if (rc < 0)
        uv_close((uv_handle_t *)process, on_process_closed);
    else
        uv_unref((uv_handle_t *)process); /* it outlives us */
    return rc;
}

static void spawn_supervisor(struct machine *m) {
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) argv = NULL;
    g_autofree char *path = g_build_filename(m->folder, SHIM_STDERR_FILE, NULL);
    _cleanup_fd_ int fd = -1;
    int rc;

    fd_cleanup(&m->run_fd);
    if (!machine_prepare(m, &error) || !save(m, &error) || !(argv = machine_command(m, &error))) {
        start_failed(m, error);
        return;
    }
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    memset(m->words_text, 0, sizeof m->words_text);
    m->words_len = 0;
    uv_pipe_init(m->context->loop, &m->words, 0);
    m->words.data = m;
    m->has_words = true;
    m->open_handles++;
    rc = fd >= 0 ? spawn(m, argv, fd) : UV_EIO;
    if (rc < 0) {
        stop_listening(m);
        fail_start(m, KR_ERROR_IO, uv_strerror(rc));
        return;
    }
    fault_point("vm-spawned");
    uv_read_start((uv_stream_t *)&m->words, on_alloc, on_words);
}

static void on_network(void *user, const GError *error) {
    struct machine *m = user;

    m->network = NULL;
    if (error)
        start_failed(m, error);
    else
        spawn_supervisor(m);
}

static void launch(struct machine *m) {
    if (machine_needs_nat(m))
        m->network = nat_bridge_ensure(m->context->loop, m->context->nat, on_network, m);
    else
        spawn_supervisor(m);
}

static void on_bound(void *arg, const struct qemu_function *functions, size_t n, const GError *error) {
    struct machine *m = arg;

    m->devices = NULL;
    if (error) {
        start_failed(m, error);
        return;
    }
    fault_point("vm-cards-bound");
    g_array_set_size(m->record->functions, 0);
    g_array_append_vals(m->record->functions, functions, (guint)n);
    launch(m);
}

static size_t n_cards(const struct machine *m) { return m->record->gpu_pci ? g_strv_length(m->record->gpu_pci) : 0; }

void machine_start(struct machine *m) {
    const struct qemu_config *config = m->context->config;
    g_autoptr(GError) error = NULL;

    g_clear_error(&m->start_error);
    g_clear_pointer(&m->record->error, g_free);
    m->is_starting = true;
    m->n_ports_lost = 0;
    m->record->state = MACHINE_STARTING;
    m->record->was_ready = false;
    if (!save(m, &error))
        start_failed(m, error);
    else if (n_cards(m) == 0)
        launch(m);
    else if (!config->devices)
        fail_start(m, KR_ERROR_REFUSED, "this node does not pass GPUs to machines");
    else
        m->devices = config->devices->bind(config->devices_user, m->record->name,
                                           (const char *const *)m->record->gpu_pci, n_cards(m), on_bound, m);
}

/* ---- orders ---- */

static void on_logged_answer(void *user, const json_t *value, const GError *error) {
    struct machine *m = user;

    if (error)
        log_debug("machine %s: %s", m->record->name, error->message);
}

void machine_press_power(struct machine *m) {
    if (m->qmp)
        qmp_client_ask(m->qmp, "system_powerdown", NULL, ANSWER_MS, on_logged_answer, m);
}

/* The monitor first, so that QEMU closes its disk in order; without an answer the signal follows. */
void machine_kill(struct machine *m) {
    if (!m->is_polling)
        return;
    if (!m->record->was_killed) {
        m->record->was_killed = true;
        save_or_log(m);
    }
    if (qmp_client_is_ready(m->qmp)) {
        qmp_client_ask(m->qmp, "quit", NULL, ANSWER_MS, on_logged_answer, m);
        if (m->kill_at_ms == 0)
            m->kill_at_ms = clock_mono_ms() + QUIT_GRACE_MS;
        keep_ticking(m);
    } else {
        process_tag_kill(&m->qemu, SIGKILL);
    }
}

static void on_pause_answer(void *user, const json_t *value, const GError *error) {
    struct machine *m = user;

    if (error)
        m->pause_error = g_error_copy(error);
    changed(m);
}

void machine_pause(struct machine *m, bool is_pause) {
    g_clear_error(&m->pause_error);
    if (m->qmp)
        qmp_client_ask(m->qmp, is_pause ? "stop" : "cont", NULL, ANSWER_MS, on_pause_answer, m);
    else
        kr_fail(&m->pause_error, UNREACHABLE, "machine %s: its monitor does not answer", m->record->name);
}

/* ---- removal ---- */

static void removal_failed(struct machine *m, const GError *error) {
    m->is_removing = false;
    g_clear_error(&m->remove_error);
    m->remove_error = g_error_copy(error);
    changed(m);
}

static void remove_files(struct machine *m) {
    const char *parent = m->context->config->cgroup;
    g_autofree char *cgroup = g_build_filename(parent, m->record->name, NULL);
    g_autoptr(GError) error = NULL;

    if (parent[0])
        rmdir(cgroup);
    if (!fs_remove_tree(m->folder, &error)) {
        removal_failed(m, error);
        return;
    }
    m->is_removing = false;
    m->is_gone = true;
    changed(m);
}

static void on_given_back(void *arg, const struct qemu_function *functions, size_t n, const GError *error) {
    struct machine *m = arg;
    g_autoptr(GError) failure = NULL;

    m->devices = NULL;
    if (error) {
        failure = g_error_new(KR_ERROR, KR_ERROR_REFUSED, "its cards do not come back: %s", error->message);
        removal_failed(m, failure);
        return;
    }
    fault_point("vm-cards-back");
    remove_files(m);
}

static void go_on_removing(struct machine *m) {
    const struct qemu_config *config = m->context->config;

    if (n_cards(m) > 0 && config->devices)
        m->devices = config->devices->give_back(config->devices_user, m->record->name, on_given_back, m);
    else
        remove_files(m);
}

/* A start that is on its way is cut off where it is: nothing of the guest has run. */
void machine_remove(struct machine *m) {
    if (m->is_removing || m->is_gone)
        return;
    g_clear_error(&m->remove_error);
    m->is_removing = true;
    if (m->devices) {
        m->context->config->devices->cancel(g_steal_pointer(&m->devices));
        m->is_starting = false;
    }
    if (m->network) {
        nat_bridge_cancel(g_steal_pointer(&m->network));
        m->is_starting = false;
    }
    if (m->is_polling)
        machine_kill(m);
    else if (!m->is_starting && !m->is_settling && !m->is_qemu_gone)
        go_on_removing(m);
}

/* ---- what was there before us ---- */

/* A start that nobody waits for any more: whatever comes of it is ended until nobody holds the machine's lock. */
static void settle(struct machine *m) {
    struct process_tag shim, qemu;

    if (shim_processes_read(m->folder, &shim, &qemu, NULL))
        process_tag_kill(&qemu, SIGKILL);
    if (shim_lock_is_held(m->folder))
        return;
    m->is_settling = false;
    m->record->state = MACHINE_CREATED;
    save_or_log(m);
    if (m->is_removing)
        go_on_removing(m);
    changed(m);
}

static void look_for_the_end(struct machine *m, int64_t now_ms) {
    if (!shim_lock_is_held(m->folder) || now_ms >= m->settle_by_ms)
        conclude(m);
}

static void on_tick(uv_timer_t *timer) {
    struct machine *m = timer->data;
    int64_t now_ms = clock_mono_ms();

    if (m->is_settling)
        settle(m);
    if (m->is_qemu_gone)
        look_for_the_end(m, now_ms);
    if (m->kill_at_ms && now_ms >= m->kill_at_ms && m->is_polling) {
        m->kill_at_ms = 0;
        process_tag_kill(&m->qemu, SIGKILL);
    }
    if (machine_is_running(m) && m->is_polling && !m->qmp)
        connect_monitor(m);
    if (!m->is_settling && !m->is_qemu_gone && !m->kill_at_ms)
        uv_timer_stop(timer);
}

struct machine *machine_adopt(const struct machine_context *context, const char *name, GError **error) {
    g_autofree char *folder = machine_folder(context, name);
    struct machine_record *record = machine_record_load(folder, error);
    struct machine *m;

    if (!record)
        return NULL;
    if (strcmp(record->name, name) != 0) {
        kr_fail(error, IO, "%s belongs to another machine", folder);
        machine_record_free(record);
        return NULL;
    }
    m = machine_alloc(context, record);
    if (record->state == MACHINE_STARTING) {
        m->is_settling = true;
        keep_ticking(m);
    } else if (record->state == MACHINE_RUNNING) {
        begin_watching(m);
    }
    return m;
}
