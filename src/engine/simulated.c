#include "engine/simulated.h"

#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "engine/engine_backend.h"

struct entry {
    enum engine_stream stream;
    int64_t time_ns;
    char *text;
};

struct container {
    struct sim_world *world;
    char *id, *name;
    char **argv;
    GHashTable *labels;
    enum engine_state state;
    pid_t pid;
    int exit_code;
    bool oom, stubborn, undying, is_paused;
    char *error;
    int64_t started_ms, finished_ms;
    GPtrArray *output; /* of struct entry */
    uv_timer_t timer;  /* its end; closed with it */
    int refs;          /* the world's, and the timer's handle */
};

struct breakage {
    char *operation;
    int count;
    bool after;
    enum kr_error code; /* of the error that is answered */
};

struct sim_world {
    uv_loop_t *loop;
    GHashTable *images, *registry;
    GHashTable *containers; /* by name */
    GPtrArray *engines;
    GPtrArray *breakages;
    GHashTable *hanging; /* names of operations */
    bool is_down;
    int starts, next_id, output_pause_ms;
    int64_t last_ns; /* time stamps grow strictly */
    char *last_config;
    struct sim_engine *orphans; /* the calls of dead clients */
    void (*on_event)(void *user, enum sim_event event, const struct sim_sight *sight);
    void *watcher;
};

struct sim_engine {
    struct engine engine;
    struct sim_world *world;
    GQueue calls;
};

enum kind { PROBE, PULL, CREATE, START, WAIT, INSPECT, LOGS, SIGNAL, PAUSE, REMOVE, LIST };
static const char *const kind_names[] = {"probe", "pull",   "create", "start",  "wait", "inspect",
                                         "logs",  "signal", "pause",  "remove", "list"};

struct sim_call {
    struct engine_call base;
    GList *link; /* NULL once it is finished or cancelled */
    enum kind kind;
    void *user;
    union {
        engine_probe_cb *probe;
        engine_done_cb *done;
        engine_create_cb *create;
        engine_inspect_cb *inspect;
        engine_list_cb *list;
    } on_done;
    uv_timer_t timer; /* the answer never comes at once */
    char *id;         /* or image */
    bool is_pause;
    struct container *made; /* create: built at the call */
    char **labels;
    int signum;
    int64_t since_ns;
    bool follow;
    guint entries_given;
    struct engine_log_sink sink;
};

static struct sim_world *world_of(struct sim_call *call) { return ((struct sim_engine *)call->base.engine)->world; }

/* ---- containers ---- */

static void entry_free(void *data) {
    struct entry *entry = data;
    g_free(entry->text);
    g_free(entry);
}

static void container_unref(struct container *c) {
    if (--c->refs > 0)
        return;
    g_free(c->id);
    g_free(c->name);
    g_strfreev(c->argv);
    g_hash_table_unref(c->labels);
    g_ptr_array_unref(c->output);
    g_free(c->error);
    g_free(c);
}

static void on_timer_closed(uv_handle_t *handle) { container_unref(handle->data); }

static void container_drop(void *data) {
    struct container *c = data;

    uv_close((uv_handle_t *)&c->timer, on_timer_closed);
    container_unref(c);
}

/* The value of the command's word "key=value", or NULL. */
static const char *word(const struct container *c, const char *key) {
    size_t len = strlen(key);

    for (char **arg = c->argv; *arg; arg++)
        if (strncmp(*arg, key, len) == 0 && ((*arg)[len] == '=' || (*arg)[len] == '\0'))
            return (*arg)[len] == '=' ? *arg + len + 1 : *arg + len;
    return NULL;
}

static int number(const struct container *c, const char *key) {
    const char *value = word(c, key);
    return value ? (int)g_ascii_strtoll(value, NULL, 10) : 0;
}

static struct container *find(const struct sim_world *world, const char *id) {
    struct container *c = g_hash_table_lookup(world->containers, id);
    GHashTableIter iter;

    if (c)
        return c;
    g_hash_table_iter_init(&iter, world->containers);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&c))
        if (strcmp(c->id, id) == 0)
            return c;
    return NULL;
}

static void poke_waiting(struct sim_world *world);

static void print(struct container *c, enum engine_stream stream, const char *text) {
    struct entry *entry = g_new0(struct entry, 1);

    entry->stream = stream;
    entry->time_ns = c->world->last_ns = MAX(c->world->last_ns + 1, clock_wall_ms() * 1000000);
    entry->text = g_strdup_printf("%s\n", text);
    g_ptr_array_add(c->output, entry);
}

static void tell(const struct container *c, enum sim_event event) {
    struct sim_sight sight = {
        .name = c->name, .labels = c->labels, .pid = c->pid, .exit_code = c->exit_code, .has_run = c->started_ms > 0};

    if (c->world->on_event)
        c->world->on_event(c->world->watcher, event, &sight);
}

static void end(struct container *c, int exit_code) {
    uv_timer_stop(&c->timer);
    c->state = ENGINE_EXITED;
    c->exit_code = exit_code;
    tell(c, SIM_ENDED);
    c->pid = 0;
    c->finished_ms = clock_wall_ms();
    poke_waiting(c->world);
}

static void on_end(uv_timer_t *timer) {
    struct container *c = timer->data;

    c->oom = word(c, "oom") != NULL;
    end(c, c->oom ? 137 : number(c, "exit"));
}

static void run(struct container *c) {
    c->state = ENGINE_RUNNING;
    c->pid = 100000 + ++c->world->starts;
    c->started_ms = clock_wall_ms();
    for (char **arg = c->argv; *arg; arg++) {
        if (g_str_has_prefix(*arg, "out="))
            print(c, ENGINE_STDOUT, *arg + 4);
        else if (g_str_has_prefix(*arg, "err="))
            print(c, ENGINE_STDERR, *arg + 4);
    }
    uv_timer_start(&c->timer, on_end, (uint64_t)number(c, "run"), 0);
    tell(c, SIM_STARTED);
}

/* ---- operations: what they do, apart from answering ---- */

static void note_config(struct sim_world *world, const struct engine_config *config) {
    g_autofree char *gpus = config->gpu_uuids ? g_strjoinv(",", (char **)config->gpu_uuids) : g_strdup("");
    g_autofree char *env = g_strjoinv(" ", (char **)config->env);
    g_autoptr(GString) devices = g_string_new(NULL);

    for (size_t i = 0; i < config->n_devices; i++)
        g_string_append_printf(devices, "%s%s", i ? "," : "", config->devices[i].target);
    for (size_t i = 0; i < config->n_groups; i++)
        g_string_append_printf(devices, "%s%u", i ? "," : " groups=", (unsigned)config->groups[i]);

    g_free(world->last_config);
    world->last_config = g_strdup_printf("image=%s cpus=%s mems=%s gpus=%s devices=%s env=%s", config->image,
                                         config->cpuset_cpus ? config->cpuset_cpus : "",
                                         config->cpuset_mems ? config->cpuset_mems : "", gpus, devices->str, env);
}

static struct container *build(struct sim_world *world, const struct engine_config *config) {
    struct container *c = g_new0(struct container, 1);

    c->world = world;
    c->refs = 2;
    c->id = g_strdup_printf("sim%d", ++world->next_id);
    c->name = g_strdup(config->name);
    c->argv = g_strdupv((char **)config->argv);
    c->labels = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (char *const *label = config->labels; label && *label; label++) {
        const char *equals = strchr(*label, '=');
        if (equals)
            g_hash_table_replace(c->labels, g_strndup(*label, (gsize)(equals - *label)), g_strdup(equals + 1));
    }
    c->state = ENGINE_CREATED;
    c->output = g_ptr_array_new_with_free_func(entry_free);
    c->undying = word(c, "undying") != NULL;
    c->stubborn = c->undying || word(c, "stubborn") != NULL;
    uv_timer_init(world->loop, &c->timer);
    c->timer.data = c;
    note_config(world, config);
    return c;
}

static bool do_create(struct sim_world *world, struct sim_call *call, GError **error) {
    if (!g_hash_table_contains(world->images, call->id))
        return kr_fail(error, NOT_FOUND, "No such image: %s", call->id);
    if (g_hash_table_contains(world->containers, call->made->name))
        return kr_fail(error, REFUSED, "the name %s is in use", call->made->name);
    g_free(call->id);
    call->id = g_strdup(call->made->id);
    g_hash_table_insert(world->containers, call->made->name, call->made);
    call->made = NULL;
    return true;
}

static bool do_start(struct sim_world *world, struct sim_call *call, GError **error) {
    struct container *c = find(world, call->id);
    const char *text = c ? word(c, "startfail") : NULL;

    if (!c)
        return kr_fail(error, NOT_FOUND, "No such container: %s", call->id);
    if (text) {
        c->exit_code = 128;
        g_free(c->error);
        c->error = g_strdup(text);
        return kr_fail(error, REFUSED, "%s", text);
    }
    if (c->state == ENGINE_CREATED)
        run(c);
    return true;
}

static bool do_signal(struct sim_world *world, struct sim_call *call, GError **error) {
    struct container *c = find(world, call->id);

    if (c && c->state == ENGINE_RUNNING && !c->is_paused && !c->undying && (call->signum == SIGKILL || !c->stubborn))
        end(c, 128 + call->signum);
    return true;
}

static bool do_pause(struct sim_world *world, struct sim_call *call, GError **error) {
    struct container *c = find(world, call->id);

    if (c && c->state == ENGINE_RUNNING)
        c->is_paused = call->is_pause;
    return true;
}

static bool do_remove(struct sim_world *world, struct sim_call *call, GError **error) {
    struct container *c = find(world, call->id);

    if (c && c->state == ENGINE_RUNNING && c->undying)
        return kr_fail(error, REFUSED, "could not kill: tried to kill container, but did not receive an exit event");
    if (c)
        sim_world_remove(world, c->name);
    return true;
}

static bool do_pull(struct sim_world *world, struct sim_call *call, GError **error) {
    if (!g_hash_table_contains(world->registry, call->id))
        return kr_fail(error, REFUSED, "pull %s: not found in the registry", call->id);
    sim_world_add_image(world, call->id);
    return true;
}

static bool do_operation(struct sim_call *call, GError **error) {
    struct sim_world *world = world_of(call);

    switch (call->kind) {
    case PULL: return do_pull(world, call, error);
    case CREATE: return do_create(world, call, error);
    case START: return do_start(world, call, error);
    case SIGNAL: return do_signal(world, call, error);
    case PAUSE: return do_pause(world, call, error);
    case REMOVE: return do_remove(world, call, error);
    case WAIT:
    case INSPECT:
    case LOGS: return find(world, call->id) || kr_fail(error, NOT_FOUND, "No such container: %s", call->id);
    case PROBE:
    case LIST: break;
    }
    return true;
}

/* ---- answers ---- */

static void on_call_closed(uv_handle_t *handle) {
    struct sim_call *call = handle->data;

    g_strfreev(call->labels);
    g_free(call->id);
    g_free(call);
}

static void drop(struct sim_call *call) {
    if (!call->link)
        return;
    g_queue_delete_link(&((struct sim_engine *)call->base.engine)->calls, call->link);
    call->link = NULL;
    if (call->made)
        container_drop(g_steal_pointer(&call->made));
    uv_close((uv_handle_t *)&call->timer, on_call_closed);
}

static struct engine_container *describe(const struct container *c) {
    struct engine_container *out = g_new0(struct engine_container, 1);

    out->id = g_strdup(c->id);
    out->labels = g_hash_table_ref(c->labels);
    out->state = c->state;
    out->is_paused = c->is_paused;
    out->pid = c->pid;
    out->exit_code = c->exit_code;
    out->oom_killed = c->oom;
    out->error = g_strdup(c->error);
    out->started_ms = c->started_ms;
    out->finished_ms = c->finished_ms;
    return out;
}

static bool carries(const struct container *c, char *const *labels) {
    for (; *labels; labels++) {
        const char *equals = strchr(*labels, '=');
        g_autofree char *key = g_strndup(*labels, (gsize)(equals - *labels));
        if (g_strcmp0(g_hash_table_lookup(c->labels, key), equals + 1) != 0)
            return false;
    }
    return true;
}

static void answer_list(struct sim_call *call, const GError *error) {
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)engine_container_free);
    GHashTableIter iter;
    struct container *c;

    g_hash_table_iter_init(&iter, world_of(call)->containers);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&c))
        if (carries(c, call->labels))
            g_ptr_array_add(list, describe(c));
    call->on_done.list(call->user, error ? NULL : list, error);
}

static void answer_probe(struct sim_call *call, const GError *error) {
    struct engine_facts facts = {.presence = error ? ENGINE_ABSENT : ENGINE_PRESENT,
                                 .version = (char *)"1",
                                 .text = (char *)(error ? "the simulated engine is down" : "simulated engine"),
                                 .cpus = 64};

    call->on_done.probe(call->user, &facts);
}

static void answer(struct sim_call *call, const GError *error) {
    struct container *c = error || !call->id ? NULL : find(world_of(call), call->id);
    struct engine_container *described = call->kind == INSPECT && c ? describe(c) : NULL;

    switch (call->kind) {
    case PROBE: answer_probe(call, error); break;
    case CREATE: call->on_done.create(call->user, error ? NULL : call->id, error); break;
    case INSPECT: call->on_done.inspect(call->user, described, error); break;
    case LIST: answer_list(call, error); break;
    case LOGS: call->sink.on_done(call->user, error); break;
    case PULL:
    case START:
    case WAIT:
    case SIGNAL:
    case PAUSE:
    case REMOVE: call->on_done.done(call->user, error); break;
    }
    engine_container_free(described);
    drop(call);
}

/* Hands over what is new; false when the call was cancelled meanwhile. */
static bool give_entries(struct sim_call *call, const struct container *c) {
    for (; call->entries_given < c->output->len; call->entries_given++) {
        const struct entry *entry = c->output->pdata[call->entries_given];
        if (entry->time_ns < call->since_ns)
            continue;
        call->sink.on_entry(call->user, entry->stream, entry->time_ns);
        if (call->link)
            call->sink.on_bytes(call->user, entry->text, strlen(entry->text));
        if (call->link)
            call->sink.on_entry_end(call->user);
        if (!call->link)
            return false;
        if (world_of(call)->output_pause_ms) {
            call->entries_given++;
            break;
        }
    }
    if (call->sink.on_batch)
        call->sink.on_batch(call->user);
    return call->link != NULL;
}

/* True while a wait or a followed log has to go on. */
static bool goes_on(struct sim_call *call) {
    struct container *c = call->kind == WAIT || call->kind == LOGS ? find(world_of(call), call->id) : NULL;

    if (c && call->kind == LOGS && !give_entries(call, c))
        return true; /* cancelled: nothing more to do either */
    if (c && call->kind == LOGS && call->entries_given < c->output->len)
        return true;
    return c && c->state == ENGINE_RUNNING && (call->kind == WAIT || call->follow);
}

static struct breakage *find_breakage(struct sim_call *call) {
    GPtrArray *list = world_of(call)->breakages;

    for (guint i = 0; i < list->len; i++) {
        struct breakage *b = list->pdata[i];
        if (b->count > 0 && strcmp(b->operation, kind_names[call->kind]) == 0)
            return b;
    }
    return NULL;
}

static void on_call(uv_timer_t *timer) {
    struct sim_call *call = timer->data;
    struct breakage *broken = find_breakage(call);
    g_autoptr(GError) error = NULL;
    int pause_ms = call->kind == LOGS ? world_of(call)->output_pause_ms : 0;
    bool is_first = !uv_timer_get_repeat(timer);

    if (g_hash_table_contains(world_of(call)->hanging, kind_names[call->kind]))
        return; /* poked when that is over */
    if (world_of(call)->is_down) {
        kr_fail(&error, UNREACHABLE, "%s: the simulated engine is down", kind_names[call->kind]);
    } else if (broken) {
        broken->count--;
        if (broken->after)
            do_operation(call, NULL);
        g_set_error(&error, KR_ERROR, (int)broken->code, "%s: %s", kind_names[call->kind],
                    broken->code == KR_ERROR_IO ? "the connection broke" : "told to say so");
    } else if ((!is_first && !find(world_of(call), call->id)) || do_operation(call, &error)) {
        if (goes_on(call)) {
            if (call->link) /* poked sooner */
                uv_timer_start(&call->timer, on_call, pause_ms ? (uint64_t)pause_ms : 1000, 1000);
            return;
        }
    }
    if (call->link)
        answer(call, error);
}

/* Waits and followed logs look again soon. */
static void poke_waiting(struct sim_world *world) {
    for (guint i = 0; i < world->engines->len; i++) {
        struct sim_engine *engine = world->engines->pdata[i];
        for (GList *link = engine->calls.head; link; link = link->next) {
            struct sim_call *call = link->data;
            uv_timer_start(&call->timer, on_call, 0, uv_timer_get_repeat(&call->timer));
        }
    }
}

static struct sim_call *call_new(struct engine *base, enum kind kind, const char *id, void *user) {
    struct sim_engine *engine = (struct sim_engine *)base;
    struct sim_call *call = g_new0(struct sim_call, 1);

    call->base.engine = base;
    call->kind = kind;
    call->user = user;
    call->id = g_strdup(id);
    uv_timer_init(engine->world->loop, &call->timer);
    call->timer.data = call;
    uv_timer_start(&call->timer, on_call, 0, 0);
    g_queue_push_tail(&engine->calls, call);
    call->link = engine->calls.tail;
    return call;
}

/* ---- the table ---- */

static struct engine_call *sim_probe(struct engine *engine, engine_probe_cb *on_done, void *user) {
    struct sim_call *call = call_new(engine, PROBE, NULL, user);
    call->on_done.probe = on_done;
    return &call->base;
}

static struct engine_call *simple(struct engine *engine, enum kind kind, const char *id, engine_done_cb *on_done,
                                  void *user) {
    struct sim_call *call = call_new(engine, kind, id, user);
    call->on_done.done = on_done;
    return &call->base;
}

static struct engine_call *sim_pull(struct engine *engine, const char *image, engine_done_cb *on_done, void *user) {
    return simple(engine, PULL, image, on_done, user);
}

static struct engine_call *sim_start(struct engine *engine, const char *id, engine_done_cb *on_done, void *user) {
    return simple(engine, START, id, on_done, user);
}

static struct engine_call *sim_wait(struct engine *engine, const char *id, engine_done_cb *on_done, void *user) {
    return simple(engine, WAIT, id, on_done, user);
}

static struct engine_call *sim_remove(struct engine *engine, const char *id, engine_done_cb *on_done, void *user) {
    return simple(engine, REMOVE, id, on_done, user);
}

static struct engine_call *sim_create(struct engine *engine, const struct engine_config *config,
                                      engine_create_cb *on_done, void *user) {
    struct sim_call *call = call_new(engine, CREATE, config->image, user);
    call->made = build(((struct sim_engine *)engine)->world, config);
    call->on_done.create = on_done;
    return &call->base;
}

static struct engine_call *sim_inspect(struct engine *engine, const char *id, engine_inspect_cb *on_done, void *user) {
    struct sim_call *call = call_new(engine, INSPECT, id, user);
    call->on_done.inspect = on_done;
    return &call->base;
}

static struct engine_call *sim_logs(struct engine *engine, const char *id, int64_t since_ns, bool follow,
                                    const struct engine_log_sink *sink, void *user) {
    struct sim_call *call = call_new(engine, LOGS, id, user);
    call->since_ns = since_ns;
    call->follow = follow;
    call->sink = *sink;
    return &call->base;
}

static struct engine_call *sim_signal(struct engine *engine, const char *id, int signum, engine_done_cb *on_done,
                                      void *user) {
    struct sim_call *call = call_new(engine, SIGNAL, id, user);
    call->signum = signum;
    call->on_done.done = on_done;
    return &call->base;
}

static struct engine_call *sim_pause(struct engine *engine, const char *id, bool is_pause, engine_done_cb *on_done,
                                     void *user) {
    struct sim_call *call = call_new(engine, PAUSE, id, user);
    call->is_pause = is_pause;
    call->on_done.done = on_done;
    return &call->base;
}

static struct engine_call *sim_list(struct engine *engine, const char *const *labels, engine_list_cb *on_done,
                                    void *user) {
    struct sim_call *call = call_new(engine, LIST, NULL, user);
    call->labels = g_strdupv((char **)labels);
    call->on_done.list = on_done;
    return &call->base;
}

static void sim_cancel(struct engine_call *call) { drop((struct sim_call *)call); }

static void sim_free(struct engine *base) {
    struct sim_engine *engine = (struct sim_engine *)base;

    while (engine->calls.head)
        drop(engine->calls.head->data);
    g_ptr_array_remove(engine->world->engines, engine);
    g_free(engine);
}

static const struct engine_ops sim_ops = {
    .name = "simulated",
    .probe = sim_probe,
    .pull = sim_pull,
    .create = sim_create,
    .start = sim_start,
    .wait = sim_wait,
    .inspect = sim_inspect,
    .logs = sim_logs,
    .signal = sim_signal,
    .pause = sim_pause,
    .remove = sim_remove,
    .list = sim_list,
    .cancel = sim_cancel,
    .free = sim_free,
};

static struct sim_engine *sim_engine_new(struct sim_world *world) {
    struct sim_engine *engine = g_new0(struct sim_engine, 1);

    engine->engine.ops = &sim_ops;
    engine->world = world;
    return engine;
}

struct engine *engine_simulated_new(struct sim_world *world) {
    struct sim_engine *engine = sim_engine_new(world);

    g_ptr_array_add(world->engines, engine);
    return &engine->engine;
}

/* ---- the world ---- */

static void breakage_free(void *data) {
    struct breakage *b = data;
    g_free(b->operation);
    g_free(b);
}

struct sim_world *sim_world_new(uv_loop_t *loop) {
    struct sim_world *world = g_new0(struct sim_world, 1);

    world->loop = loop;
    world->images = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    world->registry = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    world->containers = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, container_drop);
    world->engines = g_ptr_array_new();
    world->hanging = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    world->breakages = g_ptr_array_new_with_free_func(breakage_free);
    world->last_config = g_strdup("");
    world->orphans = sim_engine_new(world);
    return world;
}

void sim_world_free(struct sim_world *world) {
    if (!world)
        return;
    engine_free(&world->orphans->engine);
    g_hash_table_unref(world->images);
    g_hash_table_unref(world->registry);
    g_hash_table_unref(world->containers);
    g_ptr_array_unref(world->engines);
    g_ptr_array_unref(world->breakages);
    g_hash_table_unref(world->hanging);
    g_free(world->last_config);
    g_free(world);
}

void sim_world_add_image(struct sim_world *world, const char *image) {
    g_hash_table_add(world->images, g_strdup(image));
}

void sim_world_add_registry_image(struct sim_world *world, const char *image) {
    g_hash_table_add(world->registry, g_strdup(image));
}

void sim_world_set_down(struct sim_world *world, bool is_down) {
    world->is_down = is_down;
    poke_waiting(world);
}

static void add_breakage(struct sim_world *world, const char *operation, int count, bool after, enum kr_error code) {
    struct breakage *b = g_new0(struct breakage, 1);

    b->operation = g_strdup(operation);
    b->count = count;
    b->after = after;
    b->code = code;
    g_ptr_array_add(world->breakages, b);
}

void sim_world_break(struct sim_world *world, const char *operation, int count, bool after) {
    add_breakage(world, operation, count, after, KR_ERROR_IO);
}

void sim_world_refuse(struct sim_world *world, const char *operation, int count, enum kr_error code) {
    add_breakage(world, operation, count, false, code);
}

void sim_world_slow_output(struct sim_world *world, int pause_ms) { world->output_pause_ms = pause_ms; }

void sim_world_hang(struct sim_world *world, const char *operation, bool is_hanging) {
    if (is_hanging)
        g_hash_table_add(world->hanging, g_strdup(operation));
    else
        g_hash_table_remove(world->hanging, operation);
    poke_waiting(world);
}

int sim_world_count(const struct sim_world *world) { return (int)g_hash_table_size(world->containers); }

bool sim_world_has(const struct sim_world *world, const char *name) { return find(world, name) != NULL; }

bool sim_world_is_running(const struct sim_world *world, const char *name) {
    const struct container *c = find(world, name);
    return c && c->state == ENGINE_RUNNING;
}

int sim_world_starts(const struct sim_world *world) { return world->starts; }

pid_t sim_world_pid(const struct sim_world *world, const char *name) {
    const struct container *c = find(world, name);
    return c ? c->pid : 0;
}

const char *sim_world_last_config(const struct sim_world *world) { return world->last_config; }

void sim_world_remove(struct sim_world *world, const char *name) {
    struct container *c = find(world, name);

    if (c && c->state == ENGINE_RUNNING)
        end(c, 137);
    if (c) {
        tell(c, SIM_REMOVED);
        g_hash_table_remove(world->containers, c->name);
    }
    poke_waiting(world);
}

void sim_world_print(struct sim_world *world, const char *name, enum engine_stream stream, const char *text) {
    struct container *c = find(world, name);

    if (c && c->state == ENGINE_RUNNING)
        print(c, stream, text);
    poke_waiting(world);
}

/* ---- for a simulator ---- */

void sim_world_watch(struct sim_world *world,
                     void (*on_event)(void *user, enum sim_event event, const struct sim_sight *sight), void *user) {
    world->on_event = on_event;
    world->watcher = user;
}

static void on_orphan(uv_timer_t *timer) {
    struct sim_call *call = timer->data;

    do_operation(call, NULL);
    drop(call);
}

void sim_engine_orphan(struct engine *base, int (*delay_ms)(void *user), void *user) {
    struct sim_engine *engine = (struct sim_engine *)base, *orphans = engine->world->orphans;

    for (GList *link = engine->calls.head, *next; link; link = next) {
        struct sim_call *call = link->data;
        bool changes = call->kind >= CREATE && call->kind != WAIT && call->kind != INSPECT && call->kind != LOGS &&
                       call->kind != LIST;
        int wait_ms = changes && !engine->world->is_down ? delay_ms(user) : -1;
        next = link->next;
        if (wait_ms < 0)
            continue;
        g_queue_unlink(&engine->calls, link);
        g_queue_push_tail_link(&orphans->calls, link);
        call->base.engine = &orphans->engine;
        uv_timer_start(&call->timer, on_orphan, (uint64_t)wait_ms, 0);
    }
    g_ptr_array_remove(engine->world->engines, engine); /* nobody pokes it any more */
}

void sim_world_reboot(struct sim_world *world) {
    GHashTableIter iter;
    struct container *c;

    while (world->orphans->calls.head)
        drop(world->orphans->calls.head->data);
    g_hash_table_iter_init(&iter, world->containers);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&c)) {
        c->is_paused = false;
        if (c->state == ENGINE_RUNNING)
            end(c, 255);
    }
}
