/* The engine's calls. A call is a wish about a machine; `look` answers it when the machine has come so far. Whenever
 * something has changed, every waiting call looks again: nothing is lost when calls are cancelled or machines end meanwhile. */

#include "vm/engine_qemu.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "engine/engine_backend.h"
#include "vm/console_log.h"
#include "vm/disk_maker.h"
#include "vm/machine.h"
#include "vm/machine_boot.h"
#include "vm/qemu_facts.h"

enum { FOLLOW_MS = 200, MAX_SLICE_BYTES = 256 * 1024 };

struct qemu_call;
struct look {
    const char *verb;
    bool (*look)(struct qemu_call *call); /* true: it is answered */
};

struct qemu_engine {
    struct engine engine;
    uv_loop_t *loop;
    struct qemu_config config; /* its strings are in `strings` */
    GPtrArray *strings;
    struct image_store *store;
    struct qemu_facts *facts;
    struct machine_context context;
    struct nat_net nat;
    char **name_servers;
    GHashTable *machines; /* name -> struct machine */
    GQueue calls;
    uv_timer_t kick, follow;
    int depth; /* calls are being looked at */
    int open_handles;
    bool is_freed;
};

struct qemu_call {
    struct engine_call base;
    const struct look *look;
    GList *link;
    char *name; /* of the machine; NULL */
    void *user;
    union {
        engine_probe_cb *probe;
        engine_done_cb *done;
        engine_create_cb *create;
        engine_inspect_cb *inspect;
        engine_list_cb *list;
    } on_done;
    bool has_begun, is_dead;
    int signum;
    bool is_pause, is_follow;
    char **labels;
    struct engine_log_sink sink;
    struct console_reader reader;
    /* create */
    struct machine_record *record;
    struct disk_maker *maker;
    GError *error;
    bool is_made;
};

static struct qemu_engine *engine_of(struct qemu_call *call) { return (struct qemu_engine *)call->base.engine; }

static struct machine *machine_of(struct qemu_call *call) {
    return g_hash_table_lookup(engine_of(call)->machines, call->name);
}

/* ---- calls ---- */

static void kick(struct qemu_engine *e);

static void call_free(struct qemu_call *call) {
    g_queue_delete_link(&engine_of(call)->calls, call->link);
    disk_maker_cancel(call->maker);
    machine_record_free(call->record);
    if (call->reader.folder)
        console_reader_clear(&call->reader);
    g_clear_error(&call->error);
    g_strfreev(call->labels);
    g_free(call->name);
    g_free(call);
}

static struct qemu_call *call_new(struct engine *engine, const struct look *look, const char *name, void *user) {
    struct qemu_engine *e = (struct qemu_engine *)engine;
    struct qemu_call *call = g_new0(struct qemu_call, 1);

    call->base.engine = engine;
    call->look = look;
    call->name = g_strdup(name);
    call->user = user;
    g_queue_push_tail(&e->calls, call);
    call->link = e->calls.tail;
    kick(e);
    return call;
}

static void qemu_cancel(struct engine_call *base) {
    struct qemu_call *call = (struct qemu_call *)base;

    if (call->is_dead)
        return;
    call->is_dead = true;
    if (engine_of(call)->depth == 0)
        call_free(call);
}

/* Machines that are gone go once nobody looks at them. */
static void drop_gone(struct qemu_engine *e) {
    GHashTableIter iter;
    struct machine *m;

    g_hash_table_iter_init(&iter, e->machines);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&m))
        if (m->is_gone)
            g_hash_table_iter_remove(&iter);
}

static void look_at_all(struct qemu_engine *e) {
    bool has_followers = false;

    e->depth++;
    for (GList *link = e->calls.head; link; link = link->next) {
        struct qemu_call *call = link->data;
        if (!call->is_dead && call->look->look(call))
            call->is_dead = true;
        has_followers |= !call->is_dead && call->is_follow;
    }
    e->depth--;
    for (GList *link = e->calls.head, *next; link; link = next) {
        struct qemu_call *call = link->data;
        next = link->next;
        if (call->is_dead)
            call_free(call);
    }
    drop_gone(e);
    if (!has_followers)
        uv_timer_stop(&e->follow);
    else if (!uv_is_active((uv_handle_t *)&e->follow))
        uv_timer_start(&e->follow, e->follow.timer_cb, FOLLOW_MS, FOLLOW_MS);
}

static void on_timer(uv_timer_t *timer) { look_at_all(timer->data); }

static void kick(struct qemu_engine *e) {
    if (!e->is_freed)
        uv_timer_start(&e->kick, on_timer, 0, 0);
}

static void on_change(void *user) { kick(user); }

static GError *failure(const struct qemu_call *call, const GError *error) {
    return g_error_new(KR_ERROR, error->code, "%s machine %s: %s", call->look->verb, call->name, error->message);
}

static bool done_with(struct qemu_call *call, const GError *error) {
    g_autoptr(GError) said = error ? failure(call, error) : NULL;

    call->on_done.done(call->user, said);
    return true;
}

static bool done_not_found(struct qemu_call *call) {
    g_autoptr(GError) error = NULL;

    kr_fail(&error, NOT_FOUND, "there is none");
    return done_with(call, error);
}

static struct engine_call *simple_call(struct engine *engine, const struct look *look, const char *id,
                                       engine_done_cb *on_done, void *user) {
    struct qemu_call *call = call_new(engine, look, id, user);

    call->on_done.done = on_done;
    return &call->base;
}

/* ---- probe, pull ---- */

static bool look_probe(struct qemu_call *call) {
    const struct qemu_facts *known = engine_of(call)->facts;
    const char *problem;
    g_autofree char *text = NULL;
    struct engine_facts facts = {.presence = ENGINE_PRESENT, .cpus = (int)sysconf(_SC_NPROCESSORS_ONLN)};

    if (!call->has_begun)
        qemu_facts_refresh(engine_of(call)->facts);
    call->has_begun = true;
    if (!qemu_facts_are_known(known))
        return false;
    problem = qemu_facts_problem(known);
    if (problem) {
        facts.presence = qemu_facts_is_absent(known) ? ENGINE_ABSENT : ENGINE_BROKEN;
        text = g_strdup_printf("no usable QEMU: %s", problem);
    } else {
        facts.version = (char *)qemu_facts_version(known);
        text = g_strdup_printf("QEMU %s, %s, %s", facts.version, qemu_facts_machine_type(known),
                               qemu_facts_accel(known));
    }
    facts.text = text;
    call->on_done.probe(call->user, &facts);
    return true;
}

static struct engine_call *qemu_probe(struct engine *engine, engine_probe_cb *on_done, void *user) {
    static const struct look look = {"probe", look_probe};
    struct qemu_call *call = call_new(engine, &look, NULL, user);

    call->on_done.probe = on_done;
    return &call->base;
}

static bool look_pull(struct qemu_call *call) {
    g_autoptr(GError) error = g_error_new(KR_ERROR, KR_ERROR_REFUSED,
                                          "images of machines are put on the node itself: `kohakuriver qemu image "
                                          "create --name %s` there",
                                          call->name);

    call->on_done.done(call->user, error);
    return true;
}

static struct engine_call *qemu_pull(struct engine *engine, const char *image, engine_done_cb *on_done, void *user) {
    static const struct look look = {"pull", look_pull};

    return simple_call(engine, &look, image, on_done, user);
}

/* ---- create ---- */

/* It becomes a folder's name. */
static bool check_name(const char *name, GError **error) {
    size_t len = strlen(name);
    bool ok = len > 0 && len <= ENGINE_ID_MAX_BYTES && g_ascii_isalnum(name[0]);

    for (size_t i = 0; ok && i < len; i++)
        ok = g_ascii_isalnum(name[i]) || strchr("-_.", name[i]);
    return ok || kr_fail(error, REFUSED, "\"%.64s\" cannot be a machine's name", name);
}

static bool check_config(struct qemu_engine *e, const struct engine_config *config, GError **error) {
    size_t n = config->gpu_uuids ? g_strv_length((char **)config->gpu_uuids) : 0;
    size_t n_pci = config->gpu_pci ? g_strv_length((char **)config->gpu_pci) : 0;

    if (!config->vm)
        return kr_fail(error, REFUSED, "it is no machine that is asked for");
    if (n != n_pci)
        return kr_fail(error, REFUSED, "%zu GPUs are leased and the addresses of %zu are known", n, n_pci);
    if (n && !e->config.devices)
        return kr_fail(error, REFUSED, "this node does not pass GPUs to machines");
    if (config->mem_bytes < (int64_t)VM_MIN_MEM_MIB << 20)
        return kr_fail(error, REFUSED, "a machine needs at least %d MiB of memory", VM_MIN_MEM_MIB);
    if (strcmp(config->vm->network, "bridge") == 0 && !e->config.bridge[0])
        return kr_fail(error, REFUSED, "this node has no bridge for machines (vm_bridge)");
    return check_name(config->name, error);
}

static GHashTable *parse_labels(char *const *labels) {
    GHashTable *table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

    for (; labels && *labels; labels++) {
        const char *equals = strchr(*labels, '=');
        if (equals)
            g_hash_table_insert(table, g_strndup(*labels, (gsize)(equals - *labels)), g_strdup(equals + 1));
    }
    return table;
}

static struct machine_record *make_record(const struct engine_config *config) {
    struct machine_record *r = g_new0(struct machine_record, 1);

    r->name = g_strdup(config->name);
    r->labels = parse_labels(config->labels);
    r->vm = vm_spec_copy(config->vm);
    r->cores = MAX(config->cores, 1);
    r->mem_bytes = config->mem_bytes;
    r->log_max_bytes = MAX(config->log_max_bytes, 0);
    r->cpus = g_strdup(config->cpuset_cpus ? config->cpuset_cpus : "");
    r->numa_nodes = g_strdup(config->cpuset_mems ? config->cpuset_mems : "");
    r->gpu_pci = g_strdupv((char **)config->gpu_pci);
    r->state = MACHINE_CREATED;
    r->functions = g_array_new(FALSE, TRUE, sizeof(struct qemu_function));
    r->created_ms = clock_wall_ms();
    return r;
}

static bool is_using(const struct machine *m, uint32_t vps_id) {
    return m->record->vm->vps_id == vps_id && m->record->state != MACHINE_ENDED && !m->is_gone;
}

/* A disk has one machine: also among those that are about to be made. */
static bool check_disk(struct qemu_call *call, GError **error) {
    struct qemu_engine *e = engine_of(call);
    uint32_t vps_id = call->record->vm->vps_id;
    GHashTableIter iter;
    struct machine *m;

    g_hash_table_iter_init(&iter, e->machines);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&m))
        if (is_using(m, vps_id))
            return kr_fail(error, REFUSED, "the disk of VPS %u is in use: machine %s has it", vps_id, m->record->name);
    for (GList *link = e->calls.head; link; link = link->next) {
        const struct qemu_call *other = link->data;
        if (other != call && other->maker && !other->is_dead && other->record->vm->vps_id == vps_id)
            return kr_fail(error, REFUSED, "the disk of VPS %u is being made for another machine", vps_id);
    }
    return true;
}

static void on_disk(void *user, const GError *error) {
    struct qemu_call *call = user;

    call->maker = NULL;
    call->is_made = true;
    call->error = error ? g_error_copy(error) : NULL;
    kick(engine_of(call));
}

static void begin_create(struct qemu_call *call) {
    struct qemu_engine *e = engine_of(call);

    call->has_begun = true;
    if (call->error) {
        call->is_made = true;
    } else if (machine_of(call)) {
        kr_fail(&call->error, REFUSED, "there is a machine of that name already");
        call->is_made = true;
    } else if (check_disk(call, &call->error)) {
        call->maker = disk_maker_run(e->loop, e->store, call->record->vm, on_disk, call);
    } else {
        call->is_made = true;
    }
}

static bool look_create(struct qemu_call *call) {
    struct qemu_engine *e = engine_of(call);
    g_autoptr(GError) said = NULL;
    struct machine *m = NULL;

    if (!call->has_begun)
        begin_create(call);
    if (!call->is_made)
        return false;
    if (!call->error)
        m = machine_new(&e->context, g_steal_pointer(&call->record), &call->error);
    if (m)
        g_hash_table_insert(e->machines, m->record->name, m);
    said = call->error ? failure(call, call->error) : NULL;
    call->on_done.create(call->user, m ? call->name : NULL, said);
    return true;
}

static struct engine_call *qemu_create(struct engine *engine, const struct engine_config *config,
                                       engine_create_cb *on_done, void *user) {
    static const struct look look = {"create", look_create};
    struct qemu_call *call = call_new(engine, &look, config->name, user);

    call->on_done.create = on_done;
    if (check_config((struct qemu_engine *)engine, config, &call->error))
        call->record = make_record(config);
    return &call->base;
}

/* ---- start, wait ---- */

/* QEMU is looked at before the first machine starts. */
static bool know_qemu(struct qemu_engine *e, GError **error) {
    const char *problem = qemu_facts_problem(e->facts);

    if (problem)
        return kr_fail(error, REFUSED, "no usable QEMU: %s", problem);
    e->context.machine_type = qemu_facts_machine_type(e->facts);
    e->context.accel = qemu_facts_accel(e->facts);
    return true;
}

static bool look_start(struct qemu_call *call) {
    struct qemu_engine *e = engine_of(call);
    struct machine *m = machine_of(call);
    g_autoptr(GError) error = NULL;

    if (!m || m->is_removing)
        return done_not_found(call);
    if (m->is_starting || m->is_settling)
        return false;
    if (call->has_begun || machine_is_running(m)) {
        call->on_done.done(call->user, m->start_error);
        return true;
    }
    if (m->record->state != MACHINE_CREATED) {
        kr_fail(&error, REFUSED, "it has run already");
        return done_with(call, error);
    }
    if (!qemu_facts_are_known(e->facts) && !qemu_facts_refresh(e->facts))
        return false;
    if (!know_qemu(e, &error))
        return done_with(call, error);
    call->has_begun = true;
    machine_start(m);
    return false;
}

static struct engine_call *qemu_start(struct engine *engine, const char *id, engine_done_cb *on_done, void *user) {
    static const struct look look = {"start", look_start};

    return simple_call(engine, &look, id, on_done, user);
}

static bool look_wait(struct qemu_call *call) {
    struct machine *m = machine_of(call);

    if (!m)
        return call->has_begun ? done_with(call, NULL) : done_not_found(call);
    call->has_begun = true;
    if (m->is_starting || m->is_settling || (machine_is_running(m) && !m->is_gone))
        return false;
    return done_with(call, NULL);
}

static struct engine_call *qemu_wait(struct engine *engine, const char *id, engine_done_cb *on_done, void *user) {
    static const struct look look = {"wait for", look_wait};

    return simple_call(engine, &look, id, on_done, user);
}

/* ---- inspect, list ---- */

static enum engine_state state_of(const struct machine *m) {
    static const enum engine_state states[MACHINE_STATE_COUNT_] = {[MACHINE_CREATED] = ENGINE_CREATED,
                                                                   [MACHINE_STARTING] = ENGINE_CREATED,
                                                                   [MACHINE_RUNNING] = ENGINE_RUNNING,
                                                                   [MACHINE_ENDED] = ENGINE_EXITED};

    return states[m->record->state];
}

/* Strings are borrowed from the machine. */
static struct engine_container describe(const struct machine *m) {
    const struct machine_record *r = m->record;

    return (struct engine_container){.id = r->name,
                                     .labels = r->labels,
                                     .state = state_of(m),
                                     .pid = machine_is_running(m) && m->is_polling ? m->qemu.pid : 0,
                                     .is_paused = m->is_paused,
                                     .exit_code = r->exit_code,
                                     .error = r->error,
                                     .started_ms = r->started_ms,
                                     .finished_ms = r->finished_ms};
}

static bool look_inspect(struct qemu_call *call) {
    struct machine *m = machine_of(call);
    g_autoptr(GError) error = NULL, said = NULL;
    struct engine_container container;

    if (!m)
        kr_fail(&error, NOT_FOUND, "there is none");
    else if (m->is_settling || m->is_starting)
        kr_fail(&error, UNREACHABLE, "it is on its way from one state to another");
    if (m && !error) {
        container = describe(m);
        call->on_done.inspect(call->user, &container, NULL);
    } else if (error) {
        said = failure(call, error);
        call->on_done.inspect(call->user, NULL, said);
    }
    return true;
}

static struct engine_call *qemu_inspect(struct engine *engine, const char *id, engine_inspect_cb *on_done, void *user) {
    static const struct look look = {"inspect", look_inspect};
    struct qemu_call *call = call_new(engine, &look, id, user);

    call->on_done.inspect = on_done;
    return &call->base;
}

static bool has_labels(const struct machine *m, char *const *labels) {
    for (; *labels; labels++) {
        const char *equals = strchr(*labels, '=');
        g_autofree char *key = equals ? g_strndup(*labels, (gsize)(equals - *labels)) : g_strdup(*labels);
        const char *value = g_hash_table_lookup(m->record->labels, key);
        if (!value || strcmp(value, equals ? equals + 1 : "") != 0)
            return false;
    }
    return true;
}

static void listed_free(void *data) {
    struct engine_container *container = data;

    g_free(container);
}

static bool look_list(struct qemu_call *call) {
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(listed_free);
    GHashTableIter iter;
    struct machine *m;

    g_hash_table_iter_init(&iter, engine_of(call)->machines);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&m)) {
        struct engine_container container = describe(m);
        if (has_labels(m, call->labels) && !m->is_gone)
            g_ptr_array_add(list, g_memdup2(&container, sizeof container));
    }
    call->on_done.list(call->user, list, NULL);
    return true;
}

static struct engine_call *qemu_list(struct engine *engine, const char *const *labels, engine_list_cb *on_done,
                                     void *user) {
    static const struct look look = {"list", look_list};
    struct qemu_call *call = call_new(engine, &look, NULL, user);

    call->on_done.list = on_done;
    call->labels = g_strdupv((char **)labels);
    return &call->base;
}

/* ---- logs ---- */

/* A slice of what there is; false: there may be more at once. */
static bool deliver(struct qemu_call *call) {
    size_t delivered = 0, len;
    const char *bytes;
    int64_t time_ns;

    while (!call->is_dead && console_reader_next(&call->reader, &time_ns, &bytes, &len)) {
        call->sink.on_entry(call->user, ENGINE_STDOUT, time_ns);
        call->sink.on_bytes(call->user, bytes, len);
        call->sink.on_entry_end(call->user);
        delivered += len;
        if (delivered >= MAX_SLICE_BYTES)
            break;
    }
    if (!call->is_dead && delivered && call->sink.on_batch)
        call->sink.on_batch(call->user);
    return delivered < MAX_SLICE_BYTES;
}

/* The supervisor has written all of it when the machine has ended: so that is looked at first. */
static bool look_logs(struct qemu_call *call) {
    struct machine *m = machine_of(call);
    bool may_go_on = call->is_follow && m && (machine_is_running(m) || m->is_starting);
    g_autoptr(GError) error = NULL, said = NULL;

    if (!m && !call->has_begun)
        kr_fail(&error, NOT_FOUND, "there is none");
    call->has_begun = true;
    if (m && !deliver(call))
        kick(engine_of(call));
    else if (!may_go_on && !call->is_dead) {
        said = error ? failure(call, error) : NULL;
        call->sink.on_done(call->user, said);
        return true;
    }
    return call->is_dead;
}

static struct engine_call *qemu_logs(struct engine *engine, const char *id, int64_t since_ns, bool follow,
                                     const struct engine_log_sink *sink, void *user) {
    static const struct look look = {"read the console of", look_logs};
    struct qemu_engine *e = (struct qemu_engine *)engine;
    struct qemu_call *call = call_new(engine, &look, id, user);
    g_autofree char *folder = machine_folder(&e->context, id);

    call->sink = *sink;
    call->is_follow = follow;
    console_reader_init(&call->reader, folder, since_ns);
    return &call->base;
}

/* ---- signal, pause, remove ---- */

static bool look_signal(struct qemu_call *call) {
    struct machine *m = machine_of(call);
    g_autoptr(GError) error = NULL;

    if (!m || !machine_is_running(m))
        return done_with(call, NULL);
    if (call->signum == SIGKILL)
        machine_kill(m);
    else if (call->signum != SIGTERM && call->signum != SIGINT)
        kr_fail(&error, REFUSED, "a machine knows SIGTERM (its power button) and SIGKILL alone");
    else if (!qmp_client_is_ready(m->qmp))
        kr_fail(&error, UNREACHABLE, "its monitor does not answer");
    else
        machine_press_power(m);
    return done_with(call, error);
}

static struct engine_call *qemu_signal(struct engine *engine, const char *id, int signum, engine_done_cb *on_done,
                                       void *user) {
    static const struct look look = {"signal", look_signal};
    struct qemu_call *call = call_new(engine, &look, id, user);

    call->on_done.done = on_done;
    call->signum = signum;
    return &call->base;
}

static bool look_pause(struct qemu_call *call) {
    struct machine *m = machine_of(call);

    if (!m || !machine_is_running(m) || m->is_paused == call->is_pause)
        return done_with(call, NULL);
    if (!call->has_begun)
        machine_pause(m, call->is_pause);
    call->has_begun = true;
    return m->pause_error ? done_with(call, m->pause_error) : false;
}

static struct engine_call *qemu_pause(struct engine *engine, const char *id, bool is_pause, engine_done_cb *on_done,
                                      void *user) {
    static const struct look looks[] = {{"resume", look_pause}, {"pause", look_pause}};
    struct qemu_call *call = call_new(engine, &looks[is_pause], id, user);

    call->on_done.done = on_done;
    call->is_pause = is_pause;
    return &call->base;
}

static bool look_remove(struct qemu_call *call) {
    struct machine *m = machine_of(call);

    if (!m || m->is_gone)
        return done_with(call, NULL);
    if (!call->has_begun)
        machine_remove(m);
    call->has_begun = true;
    if (m->is_gone)
        return done_with(call, NULL);
    return m->is_removing ? false : done_with(call, m->remove_error);
}

static struct engine_call *qemu_remove(struct engine *engine, const char *id, engine_done_cb *on_done, void *user) {
    static const struct look look = {"remove", look_remove};

    return simple_call(engine, &look, id, on_done, user);
}

/* ---- views ---- */

void qemu_view_clear(struct qemu_view *view) {
    g_free(view->console_socket);
    *view = (struct qemu_view){0};
}

bool engine_qemu_view(struct engine *engine, const char *id, struct qemu_view *ret_view) {
    struct qemu_engine *e = (struct qemu_engine *)engine;
    const struct machine *m = g_hash_table_lookup(e->machines, id);
    struct qemu_view view = {0};

    if (!m)
        return false;
    view.console_socket = g_build_filename(m->folder, "run", QEMU_CONSOLE_SOCKET, NULL);
    if (machine_is_running(m))
        machine_ssh_address(m, view.ssh_address, &view.ssh_port);
    view.was_ready = m->record->was_ready;
    view.started_ms = m->record->started_ms;
    view.guest = m->agent ? agent_link_state(m->agent, &view.guest_ms) : NULL;
    *ret_view = view;
    return true;
}

/* ---- the engine ---- */

static void on_handle_closed(uv_handle_t *handle) {
    struct qemu_engine *e = handle->data;

    if (--e->open_handles > 0)
        return;
    image_store_free(e->store);
    g_ptr_array_unref(e->strings);
    g_strfreev(e->name_servers);
    g_free(e);
}

static void qemu_free(struct engine *engine) {
    struct qemu_engine *e = (struct qemu_engine *)engine;

    e->is_freed = true;
    while (e->calls.head)
        call_free(e->calls.head->data);
    g_hash_table_unref(e->machines);
    qemu_facts_free(e->facts);
    uv_close((uv_handle_t *)&e->kick, on_handle_closed);
    uv_close((uv_handle_t *)&e->follow, on_handle_closed);
}

static const struct engine_ops qemu_ops = {
    .name = "qemu",
    .probe = qemu_probe,
    .pull = qemu_pull,
    .create = qemu_create,
    .start = qemu_start,
    .wait = qemu_wait,
    .inspect = qemu_inspect,
    .logs = qemu_logs,
    .signal = qemu_signal,
    .pause = qemu_pause,
    .remove = qemu_remove,
    .list = qemu_list,
    .cancel = qemu_cancel,
    .free = qemu_free,
};

/* The strings become ours, and "" where there was none. */
static void copy_config(struct qemu_engine *e, const struct qemu_config *config) {
    const char **strings[] = {&e->config.folder,        &e->config.node,          &e->config.binary,
                              &e->config.accel,         &e->config.user,          &e->config.cgroup,
                              &e->config.bridge,        &e->config.nat,           &e->config.hugepages,
                              &e->config.firmware,      &e->config.shared_folder, &e->config.driver,
                              &e->config.driver_sha256, &e->config.exe,           &e->config.sysfs_root};

    e->config = *config;
    for (size_t i = 0; i < G_N_ELEMENTS(strings); i++) {
        char *copy = g_strdup(*strings[i] ? *strings[i] : "");
        g_ptr_array_add(e->strings, copy);
        *strings[i] = copy;
    }
    e->config.name_servers = e->name_servers = g_strdupv((char **)config->name_servers);
    if (!e->config.binary[0])
        e->config.binary = "qemu-system-x86_64";
    if (!e->config.accel[0])
        e->config.accel = "auto";
}

static void adopt(struct qemu_engine *e) {
    g_autofree char *folder = g_build_filename(e->config.folder, "machines", NULL);
    g_auto(GStrv) names = fs_list(folder, NULL);

    for (char **name = names; name && *name; name++) {
        g_autoptr(GError) error = NULL;
        struct machine *m = machine_adopt(&e->context, *name, &error);
        if (m)
            g_hash_table_insert(e->machines, m->record->name, m);
        else
            log_warning("a machine cannot be taken over: %s", error->message);
    }
}

struct engine *engine_qemu_new(uv_loop_t *loop, const struct qemu_config *config, GError **error) {
    struct nat_net nat = {0};
    bool has_nat = config->nat && config->nat[0];
    struct image_store *store;
    struct qemu_engine *e;

    if (has_nat && !nat_net_parse(config->nat, config->bridge ? config->bridge : "", &nat, error))
        return NULL;
    if (!(store = image_store_new(config->folder, error)))
        return NULL;
    e = g_new0(struct qemu_engine, 1);
    e->engine.ops = &qemu_ops;
    e->loop = loop;
    e->store = store;
    e->strings = g_ptr_array_new_with_free_func(g_free);
    copy_config(e, config);
    e->machines = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)machine_free);
    e->facts = qemu_facts_new(loop, e->config.binary, e->config.accel, on_change, e);
    e->context = (struct machine_context){
        .loop = loop, .config = &e->config, .store = store, .on_change = on_change, .user = e};
    e->nat = nat;
    e->context.nat = has_nat ? &e->nat : NULL;
    uv_timer_init(loop, &e->kick);
    uv_timer_init(loop, &e->follow);
    e->follow.timer_cb = on_timer;
    e->kick.data = e->follow.data = e;
    e->open_handles = 2;
    adopt(e);
    return &e->engine;
}
