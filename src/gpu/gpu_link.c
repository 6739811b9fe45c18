/* A worker that was told to die but is stuck in the driver (state D) cannot be waited for: it is left behind as a struct
 * worker_process of its own until it exits, and another one is started in its place, MAX_STUCK at a time. */

#include "gpu/gpu_link.h"

#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

enum {
    MAX_ANSWER_BYTES = 1024 * 1024,
    PAUSE_MIN_MS = 250,
    PAUSE_MAX_MS = 15000,
    MAX_STUCK = 3,
    REAP_MS = 1000, /* how long a freed link waits for its worker's end */
};

/* One child process with its two pipes; outlives the link that started it by the time that dying takes. */
struct worker_process {
    struct gpu_link *link; /* NULL once the link is freed */
    uv_process_t process;
    uv_pipe_t to, from;
    uv_timer_t reaper;
    int open_handles;
    bool is_running;
    bool is_dismissed; /* killed; nothing of it counts any more */
    GByteArray *got;   /* an answer as far as it came */
};

struct gpu_link_call {
    GQueue *queue;
    gpu_link_done *on_done; /* NULL: cancelled while the worker is at it */
    void *user;
    json_t *request;
    int64_t id;
    int64_t due_ms; /* monotonic */
    bool is_asked;  /* the worker has it */
};

struct gpu_link {
    uv_loop_t *loop;
    char *exe, *root, *library;
    int64_t deadline_ms;
    struct gpu_link_handlers handlers;
    void *user;
    struct worker_process *worker; /* NULL: none, and the next start is at start_at_ms */
    GPtrArray *stuck;              /* of struct worker_process: dismissed, not dead */
    uv_timer_t *timer;             /* the next deadline or the next start */
    GQueue *calls;                 /* of struct gpu_link_call; only the head can be with the worker */
    int64_t next_id;
    int64_t start_at_ms, pause_ms;
    char *last_why; /* why there is no worker */
    char *at;       /* the card that the worker touches, NULL: none */
    json_t *hands_off;
    bool is_held; /* no worker may be started */
    void (*on_gone)(void *user);
    void *gone_user;
};

static void fail_worker(struct gpu_link *link, const char *format, ...) G_GNUC_PRINTF(2, 3);
static bool is_gone(const struct gpu_link *link);
static void ask_next(struct gpu_link *link);
static void plan(struct gpu_link *link);

static void call_free(struct gpu_link_call *call) {
    json_decref(call->request);
    g_free(call);
}

static void finish_call(struct gpu_link_call *call, const json_t *answer, const char *why) {
    if (call->on_done)
        call->on_done(call->user, answer, why);
    call_free(call);
}

/* ---- one process ---- */

static void on_handle_closed(uv_handle_t *handle) {
    struct worker_process *worker = handle->data;

    if (--worker->open_handles > 0)
        return;
    g_byte_array_unref(worker->got);
    g_free(worker);
}

static void close_handle(void *handle) {
    if (!uv_is_closing(handle))
        uv_close(handle, on_handle_closed);
}

static void close_all(struct worker_process *worker) {
    close_handle(&worker->to);
    close_handle(&worker->from);
    close_handle(&worker->reaper);
    close_handle(&worker->process);
}

/* The process handle stays until the process is dead, so that it is reaped. */
static void worker_dismiss(struct worker_process *worker) {
    worker->is_dismissed = true;
    if (!worker->is_running) {
        close_all(worker);
        return;
    }
    close_handle(&worker->to);
    close_handle(&worker->from);
    uv_process_kill(&worker->process, SIGKILL);
    g_ptr_array_add(worker->link->stuck, worker);
}

static void on_reap_late(uv_timer_t *timer) { close_all(timer->data); }

/* The link goes: a worker that does not die within REAP_MS is left to init. */
static void worker_orphan(struct worker_process *worker) {
    worker->link = NULL;
    uv_timer_start(&worker->reaper, on_reap_late, REAP_MS, 0);
}

static void on_worker_exit(uv_process_t *process, int64_t status, int signal_number) {
    struct worker_process *worker = process->data;

    worker->is_running = false;
    if (worker->link && worker->is_dismissed) {
        g_ptr_array_remove_fast(worker->link->stuck, worker);
        plan(worker->link);
    } else if (worker->link && signal_number) {
        fail_worker(worker->link, "the GPU worker was ended by signal %d", signal_number);
    } else if (worker->link) {
        fail_worker(worker->link, "the GPU worker ended with status %d", (int)status);
    }
    close_all(worker);
}

static void take_answer(struct gpu_link *link, const char *line, size_t len) {
    g_autoptr(GError) why = NULL;
    struct gpu_link_call *call = g_queue_peek_head(link->calls);
    json_t *answer = jsonx_parse(line, len, &why);
    const json_t *id = json_object_get(answer, "id");

    if (!call || !call->is_asked || !json_is_integer(id) || json_integer_value(id) != call->id) {
        json_decref(answer);
        fail_worker(link, "the GPU worker gave an answer that fits no question%s%s", why ? ": " : "",
                    why ? why->message : "");
        return;
    }
    g_queue_pop_head(link->calls);
    link->pause_ms = 0;
    g_clear_pointer(&link->at, g_free);
    ask_next(link);
    finish_call(call, answer, NULL);
    json_decref(answer);
}

/* {"at": ADDRESS}, or the answer. */
static void take_line(struct gpu_link *link, const char *line, size_t len) {
    json_t *json = NULL;
    const char *at;

    if (len >= strlen("{\"at\":") && memcmp(line, "{\"at\":", strlen("{\"at\":")) == 0)
        json = jsonx_parse(line, len, NULL);
    at = json_string_value(json_object_get(json, "at"));
    if (at) {
        g_free(link->at);
        link->at = g_strdup(at);
    } else {
        take_answer(link, line, len);
    }
    json_decref(json);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    *buf = uv_buf_init(g_malloc(16384), 16384);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct worker_process *worker = stream->data;
    g_autofree char *base = buf->base;
    const char *end;

    if (worker->is_dismissed || !worker->link || n == 0)
        return;
    if (n < 0) { /* its exit says more and follows */
        uv_read_stop(stream);
        return;
    }
    g_byte_array_append(worker->got, (const guint8 *)base, (guint)n);
    if (worker->got->len > MAX_ANSWER_BYTES) {
        fail_worker(worker->link, "the GPU worker's answer is larger than %d bytes", MAX_ANSWER_BYTES);
        return;
    }
    while (!worker->is_dismissed && (end = memchr(worker->got->data, '\n', worker->got->len))) {
        size_t len = (size_t)(end - (const char *)worker->got->data);
        take_line(worker->link, (const char *)worker->got->data, len);
        g_byte_array_remove_range(worker->got, 0, (guint)len + 1);
    }
}

struct write_job {
    uv_write_t request;
    char *text;
};

static void on_written(uv_write_t *request, int status) {
    struct write_job *job = request->data; /* a failed write means an exit, which is told by itself */

    g_free(job->text);
    g_free(job);
}

static void worker_write(struct worker_process *worker, char *text) {
    struct write_job *job = g_new0(struct write_job, 1);
    uv_buf_t buf = uv_buf_init(text, (unsigned)strlen(text));

    job->text = text;
    job->request.data = job;
    if (uv_write(&job->request, (uv_stream_t *)&worker->to, &buf, 1, on_written) < 0)
        on_written(&job->request, 0); /* the deadline tells */
}

static struct worker_process *worker_new(struct gpu_link *link) {
    struct worker_process *worker = g_new0(struct worker_process, 1);

    worker->link = link;
    worker->got = g_byte_array_new();
    uv_pipe_init(link->loop, &worker->to, 0);
    uv_pipe_init(link->loop, &worker->from, 0);
    uv_timer_init(link->loop, &worker->reaper);
    worker->to.data = worker->from.data = worker->reaper.data = worker->process.data = worker;
    worker->open_handles = 4;
    return worker;
}

static int worker_spawn(struct worker_process *worker) {
    struct gpu_link *link = worker->link;
    char verb[] = "gpu-worker";
    char *args[] = {link->exe, verb, link->root, link->library, NULL};
    uv_stdio_container_t stdio[] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&worker->to},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&worker->from},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
    };
    uv_process_options_t options = {
        .exit_cb = on_worker_exit, .file = link->exe, .args = args, .stdio = stdio, .stdio_count = 3};
    int rc = uv_spawn(link->loop, &worker->process, &options);

    worker->process.data = worker;
    worker->is_running = rc == 0;
    if (rc == 0)
        uv_read_start((uv_stream_t *)&worker->from, on_alloc, on_read);
    return rc;
}

/* ---- the link ---- */

static void start_worker(struct gpu_link *link) {
    int rc;

    if (link->stuck->len >= MAX_STUCK) {
        g_free(link->last_why);
        link->last_why = g_strdup_printf("%u GPU workers are stuck in the driver", link->stuck->len);
        link->start_at_ms = clock_mono_ms() + PAUSE_MAX_MS;
        return;
    }
    link->worker = worker_new(link);
    rc = worker_spawn(link->worker);
    if (rc < 0) {
        fail_worker(link, "the GPU worker %s cannot be started: %s", link->exe, uv_strerror(rc));
        return;
    }
    if (link->handlers.on_started)
        link->handlers.on_started(link->user);
    ask_next(link);
}

static void ask_next(struct gpu_link *link) {
    struct gpu_link_call *call = g_queue_peek_head(link->calls);
    char *text;

    if (call && link->worker && !call->is_asked) {
        json_object_set_new(call->request, "id", json_integer(call->id));
        json_object_set(call->request, "hands_off", link->hands_off);
        text = jsonx_to_str(call->request);
        call->is_asked = true;
        call->due_ms = clock_mono_ms() + link->deadline_ms;
        worker_write(link->worker, g_strconcat(text, "\n", NULL));
        g_free(text);
    }
    plan(link);
}

/* Ends the worker, plans the next one, and tells everybody who waits. */
static void fail_worker(struct gpu_link *link, const char *format, ...) {
    g_autofree char *why = NULL;
    g_autofree char *text = NULL, *at = g_steal_pointer(&link->at);
    GQueue *failed = link->calls;
    struct gpu_link_call *call;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    why = at ? g_strdup_printf("%s; it was at the card %s", text, at) : g_strdup(text);
    log_warning("%s", why);
    worker_dismiss(g_steal_pointer(&link->worker));
    link->pause_ms = link->pause_ms ? MIN(link->pause_ms * 2, PAUSE_MAX_MS) : PAUSE_MIN_MS;
    link->start_at_ms = clock_mono_ms() + link->pause_ms;
    g_free(link->last_why);
    link->last_why = g_strdup(why);
    link->calls = g_queue_new(); /* callbacks may ask again */
    if (at && link->handlers.on_stuck)
        link->handlers.on_stuck(link->user, at);
    while ((call = g_queue_pop_head(failed)))
        finish_call(call, NULL, why);
    g_queue_free(failed);
    plan(link);
}

/* Without a worker calls do not wait longer than their deadline either. */
static void fail_late_calls(struct gpu_link *link, int64_t now_ms) {
    struct gpu_link_call *call;

    while (!link->worker && !link->is_held && (call = g_queue_peek_head(link->calls)) && call->due_ms <= now_ms) {
        g_autofree char *why = g_strdup(link->last_why ? link->last_why : "the GPU worker is being started");
        g_queue_pop_head(link->calls);
        finish_call(call, NULL, why);
    }
}

static bool is_gone(const struct gpu_link *link) { return link->on_gone && !link->worker && link->stuck->len == 0; }

static void on_timer(uv_timer_t *timer) {
    struct gpu_link *link = timer->data;
    int64_t now_ms = clock_mono_ms();
    const struct gpu_link_call *head = g_queue_peek_head(link->calls);
    void (*on_gone)(void *user) = is_gone(link) ? g_steal_pointer(&link->on_gone) : NULL;

    if (on_gone)
        on_gone(link->gone_user);
    else if (!link->worker && !link->is_held && link->start_at_ms <= now_ms)
        start_worker(link);
    else if (link->worker && head && head->is_asked && head->due_ms <= now_ms)
        fail_worker(link, "the GPU worker gave no answer within %d ms", (int)link->deadline_ms);
    fail_late_calls(link, now_ms);
    plan(link);
}

static void plan(struct gpu_link *link) {
    const struct gpu_link_call *head = g_queue_peek_head(link->calls);
    int64_t next_ms = link->worker || link->is_held ? G_MAXINT64 : link->start_at_ms;

    if (is_gone(link))
        next_ms = 0;
    else if (head && !link->is_held)
        next_ms = MIN(next_ms, head->due_ms);
    if (next_ms == G_MAXINT64)
        uv_timer_stop(link->timer);
    else
        uv_timer_start(link->timer, on_timer, (uint64_t)MAX(next_ms - clock_mono_ms(), 0), 0);
}

struct gpu_link *gpu_link_new(uv_loop_t *loop, const struct gpu_link_config *config,
                              const struct gpu_link_handlers *handlers, void *user) {
    struct gpu_link *link = g_new0(struct gpu_link, 1);

    link->loop = loop;
    link->exe = g_strdup(config->worker_exe);
    link->root = g_strdup(config->sysfs_root);
    link->library = g_strdup(config->nvml_library);
    link->deadline_ms = config->deadline_ms;
    link->handlers = *handlers;
    link->user = user;
    link->hands_off = json_array();
    link->stuck = g_ptr_array_new();
    link->calls = g_queue_new();
    link->timer = g_new0(uv_timer_t, 1);
    uv_timer_init(loop, link->timer);
    link->timer->data = link;
    signal(SIGPIPE, SIG_IGN); /* a worker may die while it is written to */
    plan(link);
    return link;
}

static void on_timer_closed(uv_handle_t *handle) { g_free(handle); }

void gpu_link_free(struct gpu_link *link) {
    if (!link)
        return;
    if (link->worker)
        worker_dismiss(g_steal_pointer(&link->worker));
    for (guint i = 0; i < link->stuck->len; i++)
        worker_orphan(link->stuck->pdata[i]);
    g_ptr_array_unref(link->stuck);
    g_queue_free_full(link->calls, (GDestroyNotify)call_free);
    uv_close((uv_handle_t *)link->timer, on_timer_closed);
    g_free(link->exe);
    g_free(link->root);
    g_free(link->library);
    g_free(link->last_why);
    g_free(link->at);
    json_decref(link->hands_off);
    g_free(link);
}

/* ---- letting go ---- */

void gpu_link_set_hands_off(struct gpu_link *link, json_t *addresses) {
    json_decref(link->hands_off);
    link->hands_off = addresses;
}

/* What the worker was at is asked again; an answer that nobody wants any more is not. */
static void take_back_head(struct gpu_link *link) {
    struct gpu_link_call *head = g_queue_peek_head(link->calls);

    if (!head || !head->is_asked)
        return;
    head->is_asked = false;
    if (!head->on_done)
        call_free(g_queue_pop_head(link->calls));
}

void gpu_link_hold(struct gpu_link *link, void (*on_gone)(void *user), void *user) {
    link->is_held = true;
    link->on_gone = on_gone;
    link->gone_user = user;
    g_clear_pointer(&link->at, g_free);
    take_back_head(link);
    if (link->worker)
        worker_dismiss(g_steal_pointer(&link->worker));
    plan(link);
}

void gpu_link_resume(struct gpu_link *link) {
    if (!link->is_held)
        return;
    link->is_held = false;
    link->on_gone = NULL;
    link->start_at_ms = clock_mono_ms();
    for (const GList *at = link->calls->head; at; at = at->next)
        ((struct gpu_link_call *)at->data)->due_ms = link->start_at_ms + link->deadline_ms;
    plan(link);
}

bool gpu_link_is_held(const struct gpu_link *link) { return link->is_held; }

int gpu_link_n_stuck(const struct gpu_link *link) { return (int)link->stuck->len; }

struct gpu_link_call *gpu_link_ask(struct gpu_link *link, json_t *request, gpu_link_done *on_done, void *user) {
    struct gpu_link_call *call = g_new0(struct gpu_link_call, 1);

    call->queue = link->calls;
    call->on_done = on_done;
    call->user = user;
    call->request = request;
    call->id = ++link->next_id;
    call->due_ms = clock_mono_ms() + link->deadline_ms;
    g_queue_push_tail(link->calls, call);
    ask_next(link);
    return call;
}

void gpu_link_cancel(struct gpu_link_call *call) {
    if (!call)
        return;
    if (call->is_asked) {
        call->on_done = NULL;
        return;
    }
    g_queue_remove(call->queue, call);
    call_free(call);
}
