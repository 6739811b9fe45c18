/* Docker through its Engine API on the UNIX socket. Every call is one request, but for the probe, which may be two.
 * What was seen of real engines (20.10, 26, 28) and shapes this file:
 *   - a GPU that cannot be had shows at start, not at creation, and leaves a created container behind;
 *   - `wait` of a container that was never started answers at once, so it is asked after the start only;
 *   - a client that hangs up during start may or may not have started it, so start has no deadline;
 *   - an engine that goes away cuts streams without their end: libcurl reports that, it is "away", not an exit. */

#include <string.h>

#include "base/error.h"
#include "base/fs.h"
#include "engine/docker_json.h"
#include "engine/docker_stream.h"
#include "engine/engine_backend.h"
#include "net/http_client.h"

enum {
    PROBE_TIMEOUT_MS = 5000,
    QUICK_TIMEOUT_MS = 30000,
    CREATE_TIMEOUT_MS = 300000,
    REMOVE_TIMEOUT_MS = 120000,
    MAX_ANSWER_BYTES = 32 * 1024 * 1024,
    MAX_PULL_LINE_BYTES = 64 * 1024,
    MAX_CDI_FILE_BYTES = 4 * 1024 * 1024,
    PROBES_PER_INFO = 12, /* /info costs the engine more than /version */
};

struct docker {
    struct engine engine;
    struct http_client *http;
    char *socket_path;
    char *api; /* "/v1.41", "" before the first probe: the engine's own version */
    GQueue calls;
    struct engine_facts facts; /* of the last /info */
    char *known_version;       /* that /info belongs to */
    int probes_since_info;
};

struct docker_call;
typedef void finish_fn(struct docker_call *call, int status, const char *body, size_t len, const GError *error);

struct docker_call {
    struct engine_call base;
    GList *link;
    struct http_call *http;
    finish_fn *finish;
    void *user;
    union {
        engine_probe_cb *probe;
        engine_done_cb *done;
        engine_create_cb *create;
        engine_inspect_cb *inspect;
        engine_list_cb *list;
    } on_done;
    char *what; /* "start container 2adef934", opens messages */
    /* logs */
    struct docker_stream stream;
    struct engine_log_sink sink;
    /* pull */
    GString *line;
    GError *error;
    int depth; /* callbacks of a stream on the stack */
    bool is_dead;
};

static struct docker *docker_of(struct docker_call *call) { return (struct docker *)call->base.engine; }

/* ---- calls ---- */

static struct docker_call *call_new(struct engine *engine, finish_fn *finish, void *user, char *what) {
    struct docker *docker = (struct docker *)engine;
    struct docker_call *call = g_new0(struct docker_call, 1);

    call->base.engine = engine;
    call->finish = finish;
    call->user = user;
    call->what = what;
    g_queue_push_tail(&docker->calls, call);
    call->link = docker->calls.tail;
    return call;
}

static void call_free(struct docker_call *call) {
    g_queue_delete_link(&docker_of(call)->calls, call->link);
    if (call->line)
        g_string_free(call->line, TRUE);
    g_clear_error(&call->error);
    g_free(call->what);
    g_free(call);
}

static void docker_cancel(struct engine_call *base) {
    struct docker_call *call = (struct docker_call *)base;

    if (call->is_dead)
        return;
    call->is_dead = true;
    g_clear_pointer(&call->http, http_call_cancel);
    if (call->depth == 0)
        call_free(call);
}

static void on_http_done(void *user, int status, const char *body, size_t len, const GError *error) {
    struct docker_call *call = user;

    call->http = NULL;
    call->depth++;
    call->finish(call, status, body, len, error);
    call->depth--;
    if (!call->http)
        call_free(call);
}

static void on_http_data(void *user, const char *bytes, size_t len);

struct request {
    const char *method;
    char *path; /* below the API version; freed by send_request */
    char *body; /* JSON, or NULL; the same */
    int64_t timeout_ms;
    bool is_unversioned, is_stream, may_repeat;
};

static struct engine_call *send_request(struct docker_call *call, struct request request) {
    static const char *const json_headers[] = {"Content-Type: application/json", NULL};
    struct docker *docker = docker_of(call);
    g_autofree char *path = request.path, *body = request.body;
    g_autofree char *url = g_strconcat("http://docker", request.is_unversioned ? "" : docker->api, path, NULL);
    struct http_request http = {
        .method = request.method,
        .url = url,
        .unix_socket = docker->socket_path,
        .headers = body ? json_headers : NULL,
        .body = body,
        .body_len = body ? strlen(body) : 0,
        .timeout_ms = request.timeout_ms,
        .max_body_bytes = MAX_ANSWER_BYTES,
        .may_repeat = request.may_repeat,
        .user = call,
        .on_data = request.is_stream ? on_http_data : NULL,
        .on_done = on_http_done,
    };

    call->http = http_client_start(docker->http, &http);
    return &call->base;
}

static char *escape(const char *text) { return g_uri_escape_string(text, NULL, FALSE); }

/* "/containers/ID" + rest */
static char *container_path(const char *id, const char *rest) {
    g_autofree char *escaped = escape(id);
    return g_strconcat("/containers/", escaped, rest, NULL);
}

static char *name_call(const char *verb, const char *id) { return g_strdup_printf("%s container %.12s", verb, id); }

/* NULL when the engine said yes; else the error, the engine being away included. */
static GError *answer_error(struct docker_call *call, int status, const char *body, size_t len, const GError *error) {
    g_autofree char *text = NULL;
    int code;

    if (error) {
        code = engine_is_away(error) ? error->code : KR_ERROR_REFUSED;
        return g_error_new(KR_ERROR, code, "%s: %s", call->what, error->message);
    }
    if (status >= 200 && status < 400)
        return NULL;
    text = docker_error_text(status, body, len);
    code = status == 404 ? KR_ERROR_NOT_FOUND : KR_ERROR_REFUSED;
    if (status >= 500 && strstr(text, "context canceled")) /* the engine was shut down in the middle of it */
        code = KR_ERROR_IO;
    return g_error_new(KR_ERROR, code, "%s: %s", call->what, text);
}

static void finish_done(struct docker_call *call, int status, const char *body, size_t len, const GError *error) {
    g_autoptr(GError) failure = answer_error(call, status, body, len, error);

    call->on_done.done(call->user, failure);
}

/* For calls that want something not to be: 404 is what they want, 409 says that it does not run. */
static void finish_gone(struct docker_call *call, int status, const char *body, size_t len, const GError *error) {
    g_autoptr(GError) failure = answer_error(call, status, body, len, error);

    if (!error && (status == 404 || (status == 409 && strstr(body, "not running"))))
        g_clear_error(&failure);
    else if (!error && status == 409) /* "removal … is already in progress": ask again */
        failure->code = KR_ERROR_IO;
    call->on_done.done(call->user, failure);
}

/* ---- probe ---- */

static void probe_answer(struct docker_call *call, enum engine_presence presence, const char *text) {
    struct docker *docker = docker_of(call);
    struct engine_facts facts = {.presence = presence, .text = (char *)text};

    if (presence == ENGINE_PRESENT)
        facts = docker->facts;
    else
        g_clear_pointer(&docker->known_version, g_free); /* what comes back may be another engine */
    call->on_done.probe(call->user, &facts);
}

static void probe_failed(struct docker_call *call, int status, const char *body, size_t len, const GError *error) {
    g_autofree char *said = error ? g_strdup(error->message) : docker_error_text(status, body, len);
    g_autofree char *text = g_strdup_printf("no usable Docker Engine: %s", said);

    probe_answer(call, g_error_matches(error, KR_ERROR, KR_ERROR_UNREACHABLE) ? ENGINE_ABSENT : ENGINE_BROKEN, text);
}

/* Does a specification in this folder name NVIDIA GPUs by UUID? A look at the text is enough to choose by. */
static bool folder_offers_gpus(const char *folder) {
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;
    bool found = false;

    while (!found && dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *text = NULL;

        found = (g_str_has_suffix(name, ".yaml") || g_str_has_suffix(name, ".json")) &&
                fs_read_file(path, MAX_CDI_FILE_BYTES, &text, NULL, NULL) && strstr(text, "nvidia.com/gpu") &&
                strstr(text, "GPU-");
    }
    return found;
}

static void finish_info(struct docker_call *call, int status, const char *body, size_t len, const GError *error) {
    struct docker *docker = docker_of(call);
    g_auto(GStrv) devices = NULL, folders = NULL;
    g_autoptr(GError) why = NULL;

    if (error || status != 200) {
        probe_failed(call, status, body, len, error);
        return;
    }
    if (!docker_parse_info(body, len, &docker->facts.cpus, &devices, &folders, &why)) {
        probe_failed(call, 0, "", 0, why);
        return;
    }
    docker->facts.presence = ENGINE_PRESENT;
    docker->facts.offers_cdi = false;
    for (char **device = devices; *device; device++)
        docker->facts.offers_cdi |= strstr(*device, "=GPU-") != NULL;
    for (char **folder = folders; *folder && !docker->facts.offers_cdi; folder++)
        docker->facts.offers_cdi = folder_offers_gpus(*folder);
    docker->probes_since_info = 0;
    g_free(docker->known_version);
    docker->known_version = g_strdup(docker->facts.version);
    probe_answer(call, ENGINE_PRESENT, NULL);
}

static void finish_version(struct docker_call *call, int status, const char *body, size_t len, const GError *error) {
    struct docker *docker = docker_of(call);
    g_autofree char *api = NULL, *version = NULL, *text = NULL;
    g_autoptr(GError) why = NULL;

    if (error || status != 200) {
        probe_failed(call, status, body, len, error);
        return;
    }
    if (!docker_parse_version(body, len, &api, &version, &text, &why)) {
        probe_failed(call, 0, "", 0, why);
        return;
    }
    g_free(docker->api);
    docker->api = g_strconcat("/v", api, NULL);
    engine_facts_clear(&docker->facts);
    docker->facts.version = g_steal_pointer(&version);
    docker->facts.text = g_steal_pointer(&text);
    if (g_strcmp0(docker->known_version, docker->facts.version) == 0 && ++docker->probes_since_info < PROBES_PER_INFO) {
        probe_answer(call, ENGINE_PRESENT, NULL);
        return;
    }
    call->finish = finish_info;
    send_request(call, (struct request){.method = "GET", .path = g_strdup("/info"), .timeout_ms = PROBE_TIMEOUT_MS});
}

static struct engine_call *docker_probe(struct engine *engine, engine_probe_cb *on_done, void *user) {
    struct docker_call *call = call_new(engine, finish_version, user, g_strdup("probe"));

    call->on_done.probe = on_done;
    return send_request(call, (struct request){.method = "GET",
                                               .path = g_strdup("/version"),
                                               .is_unversioned = true,
                                               .timeout_ms = PROBE_TIMEOUT_MS});
}

/* ---- pull ---- */

static void feed_pull(struct docker_call *call, const char *bytes, size_t len) {
    const char *newline;

    g_string_append_len(call->line, bytes, (gssize)len);
    while ((newline = memchr(call->line->str, '\n', call->line->len))) {
        size_t n = (size_t)(newline - call->line->str);
        if (!call->error)
            docker_parse_pull_line(call->line->str, n, &call->error);
        g_string_erase(call->line, 0, (gssize)n + 1);
    }
    if (call->line->len > MAX_PULL_LINE_BYTES)
        g_string_truncate(call->line, 0);
}

static void finish_pull(struct docker_call *call, int status, const char *body, size_t len, const GError *error) {
    g_autoptr(GError) failure = answer_error(call, status, body, len, error);

    if (!failure && !call->error)
        docker_parse_pull_line(call->line->str, call->line->len, &call->error);
    if (!failure && call->error)
        failure = g_error_new(KR_ERROR, KR_ERROR_REFUSED, "%s: %s", call->what, call->error->message);
    else if (failure && !engine_is_away(failure))
        failure->code = KR_ERROR_REFUSED;
    call->on_done.done(call->user, failure);
}

static struct engine_call *docker_pull(struct engine *engine, const char *image, engine_done_cb *on_done, void *user) {
    struct docker_call *call = call_new(engine, finish_pull, user, g_strdup_printf("pull %s", image));
    g_autofree char *query = docker_pull_query(image);

    call->on_done.done = on_done;
    call->line = g_string_new(NULL);
    return send_request(
        call,
        (struct request){.method = "POST", .path = g_strconcat("/images/create?", query, NULL), .is_stream = true});
}

/* ---- create, start, wait ---- */

static void finish_create(struct docker_call *call, int status, const char *body, size_t len, const GError *error) {
    g_autoptr(GError) failure = answer_error(call, status, body, len, error);
    g_autofree char *id = NULL;

    if (failure && failure->code == KR_ERROR_NOT_FOUND && !strcasestr(failure->message, "no such image"))
        failure->code = KR_ERROR_REFUSED;
    if (!failure && !(id = docker_parse_created(body, len, &failure)))
        g_prefix_error(&failure, "%s: ", call->what);
    call->on_done.create(call->user, id, failure);
}

static struct engine_call *docker_create(struct engine *engine, const struct engine_config *config,
                                         engine_create_cb *on_done, void *user) {
    struct docker_call *call = call_new(engine, finish_create, user,
                                        g_strdup_printf("create container %s", config->name));
    g_autofree char *name = escape(config->name);

    call->on_done.create = on_done;
    return send_request(call, (struct request){.method = "POST",
                                               .path = g_strconcat("/containers/create?name=", name, NULL),
                                               .body = docker_create_body(config),
                                               .timeout_ms = CREATE_TIMEOUT_MS});
}

static struct engine_call *docker_start(struct engine *engine, const char *id, engine_done_cb *on_done, void *user) {
    struct docker_call *call = call_new(engine, finish_done, user, name_call("start", id));

    call->on_done.done = on_done;
    return send_request(call, (struct request){.method = "POST", .path = container_path(id, "/start")});
}

static struct engine_call *docker_wait(struct engine *engine, const char *id, engine_done_cb *on_done, void *user) {
    struct docker_call *call = call_new(engine, finish_done, user, name_call("wait for", id));

    call->on_done.done = on_done;
    return send_request(call, (struct request){.method = "POST",
                                               .path = container_path(id, "/wait?condition=not-running"),
                                               .may_repeat = true});
}

/* ---- inspect, list ---- */

static void finish_inspect(struct docker_call *call, int status, const char *body, size_t len, const GError *error) {
    g_autoptr(GError) failure = answer_error(call, status, body, len, error);
    struct engine_container *container = failure ? NULL : docker_parse_inspect(body, len, &failure);

    call->on_done.inspect(call->user, container, failure);
    engine_container_free(container);
}

static struct engine_call *docker_inspect(struct engine *engine, const char *id, engine_inspect_cb *on_done,
                                          void *user) {
    struct docker_call *call = call_new(engine, finish_inspect, user, name_call("inspect", id));

    call->on_done.inspect = on_done;
    return send_request(
        call, (struct request){.method = "GET", .path = container_path(id, "/json"), .timeout_ms = QUICK_TIMEOUT_MS});
}

static void finish_list(struct docker_call *call, int status, const char *body, size_t len, const GError *error) {
    g_autoptr(GError) failure = answer_error(call, status, body, len, error);
    g_autoptr(GPtrArray) list = failure ? NULL : docker_parse_list(body, len, &failure);

    call->on_done.list(call->user, list, failure);
}

static struct engine_call *docker_list(struct engine *engine, const char *const *labels, engine_list_cb *on_done,
                                       void *user) {
    struct docker_call *call = call_new(engine, finish_list, user, g_strdup("list containers"));
    g_autofree char *filter = docker_label_filter(labels);

    call->on_done.list = on_done;
    return send_request(call, (struct request){.method = "GET",
                                               .timeout_ms = QUICK_TIMEOUT_MS,
                                               .path = g_strconcat("/containers/json?all=1&filters=", filter, NULL)});
}

/* ---- logs ---- */

/* Between the pump and the user: nothing comes through once the call was cancelled. */
static void on_entry(void *user, enum engine_stream stream, int64_t time_ns) {
    struct docker_call *call = user;

    if (!call->is_dead)
        call->sink.on_entry(call->user, stream, time_ns);
}

static void on_bytes(void *user, const char *bytes, size_t len) {
    struct docker_call *call = user;

    if (!call->is_dead)
        call->sink.on_bytes(call->user, bytes, len);
}

static void on_entry_end(void *user) {
    struct docker_call *call = user;

    if (!call->is_dead)
        call->sink.on_entry_end(call->user);
}

static const struct engine_log_sink pump_sink = {
    .on_entry = on_entry, .on_bytes = on_bytes, .on_entry_end = on_entry_end};

static void on_http_data(void *user, const char *bytes, size_t len) {
    struct docker_call *call = user;

    call->depth++;
    if (call->line)
        feed_pull(call, bytes, len);
    else
        docker_stream_feed(&call->stream, bytes, len); /* a broken stream is told at its end */
    if (!call->is_dead && call->sink.on_batch)
        call->sink.on_batch(call->user);
    if (--call->depth == 0 && call->is_dead)
        call_free(call);
}

static void finish_logs(struct docker_call *call, int status, const char *body, size_t len, const GError *error) {
    g_autoptr(GError) failure = answer_error(call, status, body, len, error);

    if (!failure &&
        !docker_stream_is_between(&call->stream)) /* it ended in order: the engine's own answer, not its absence */
        kr_fail(&failure, REFUSED, "%s: the stream is malformed or was cut", call->what);
    call->sink.on_done(call->user, failure);
}

static struct engine_call *docker_logs(struct engine *engine, const char *id, int64_t since_ns, bool follow,
                                       const struct engine_log_sink *sink, void *user) {
    struct docker_call *call = call_new(engine, finish_logs, user, name_call("read the output of", id));
    g_autofree char *query = g_strdup_printf("/logs?stdout=1&stderr=1&timestamps=1&follow=%d&since=%" G_GINT64_FORMAT
                                             ".%09" G_GINT64_FORMAT,
                                             follow, since_ns / 1000000000, since_ns % 1000000000);

    call->sink = *sink;
    docker_stream_init(&call->stream, &pump_sink, call);
    return send_request(call, (struct request){.method = "GET", .path = container_path(id, query), .is_stream = true});
}

/* ---- signal, pause, remove ---- */

static struct engine_call *docker_signal(struct engine *engine, const char *id, int signum, engine_done_cb *on_done,
                                         void *user) {
    struct docker_call *call = call_new(engine, finish_gone, user, name_call("signal", id));
    g_autofree char *rest = g_strdup_printf("/kill?signal=%d", signum);

    call->on_done.done = on_done;
    return send_request(
        call, (struct request){.method = "POST", .path = container_path(id, rest), .timeout_ms = QUICK_TIMEOUT_MS});
}

/* "already paused", "not paused", "not running": it is as it should be, or its end is about to be told. */
static void finish_pause(struct docker_call *call, int status, const char *body, size_t len, const GError *error) {
    g_autoptr(GError) failure = answer_error(call, status, body, len, error);

    if (!error && (status == 404 || (status >= 400 && (strstr(body, "already paused") || strstr(body, "not paused") ||
                                                       strstr(body, "not running")))))
        g_clear_error(&failure);
    call->on_done.done(call->user, failure);
}

static struct engine_call *docker_pause(struct engine *engine, const char *id, bool is_pause, engine_done_cb *on_done,
                                        void *user) {
    struct docker_call *call = call_new(engine, finish_pause, user, name_call(is_pause ? "pause" : "resume", id));

    call->on_done.done = on_done;
    return send_request(call, (struct request){.method = "POST",
                                               .path = container_path(id, is_pause ? "/pause" : "/unpause"),
                                               .timeout_ms = QUICK_TIMEOUT_MS});
}

static struct engine_call *docker_remove(struct engine *engine, const char *id, engine_done_cb *on_done, void *user) {
    struct docker_call *call = call_new(engine, finish_gone, user, name_call("remove", id));

    call->on_done.done = on_done;
    return send_request(call, (struct request){.method = "DELETE",
                                               .path = container_path(id, "?force=1&v=1"),
                                               .timeout_ms = REMOVE_TIMEOUT_MS,
                                               .may_repeat = true});
}

/* ---- the engine ---- */

static void docker_free(struct engine *engine) {
    struct docker *docker = (struct docker *)engine;

    while (docker->calls.head)
        docker_cancel(docker->calls.head->data);
    http_client_free(docker->http);
    engine_facts_clear(&docker->facts);
    g_free(docker->known_version);
    g_free(docker->socket_path);
    g_free(docker->api);
    g_free(docker);
}

static const struct engine_ops docker_ops = {
    .name = "docker",
    .probe = docker_probe,
    .pull = docker_pull,
    .create = docker_create,
    .start = docker_start,
    .wait = docker_wait,
    .inspect = docker_inspect,
    .logs = docker_logs,
    .signal = docker_signal,
    .pause = docker_pause,
    .remove = docker_remove,
    .list = docker_list,
    .cancel = docker_cancel,
    .free = docker_free,
};

struct engine *engine_docker_new(uv_loop_t *loop, const char *socket_path) {
    struct docker *docker = g_new0(struct docker, 1);

    docker->engine.ops = &docker_ops;
    docker->http = http_client_new(loop);
    docker->socket_path = g_strdup(socket_path);
    docker->api = g_strdup("");
    return &docker->engine;
}
