#include "vm/child.h"

#include <signal.h>
#include <string.h>

#include "base/error.h"

enum { MAX_OUTPUT_BYTES = 1024 * 1024, READ_BYTES = 8192 };

struct child {
    uv_process_t process;
    uv_timer_t timer;
    uv_pipe_t out_pipe, err_pipe;
    GString *out, *err;
    char *name;
    char chunk[READ_BYTES];
    int to_come; /* its end and both ends of output */
    int open_handles;
    int64_t status;
    int signum, spawn_error;
    bool is_late, is_ended, is_answered;
    child_done_cb *on_done;
    void *user;
};

static void on_closed(uv_handle_t *handle) {
    struct child *child = handle->data;

    if (--child->open_handles > 0)
        return;
    g_string_free(child->out, TRUE);
    g_string_free(child->err, TRUE);
    g_free(child->name);
    g_free(child);
}

static void close_all(struct child *child) {
    uv_handle_t *handles[] = {(uv_handle_t *)&child->process, (uv_handle_t *)&child->timer,
                              (uv_handle_t *)&child->out_pipe, (uv_handle_t *)&child->err_pipe};

    for (size_t i = 0; i < G_N_ELEMENTS(handles); i++)
        uv_close(handles[i], on_closed);
}

static const char *last_line(GString *text) {
    char *newline;

    g_strchomp(text->str);
    newline = strrchr(text->str, '\n');
    return newline ? newline + 1 : text->str;
}

static GError *error_of(struct child *child) {
    const char *said = last_line(child->err);

    if (child->spawn_error)
        return g_error_new(KR_ERROR, KR_ERROR_IO, "run %s: %s", child->name, uv_strerror(child->spawn_error));
    if (child->is_late)
        return g_error_new(KR_ERROR, KR_ERROR_TIMEOUT, "%s does not come to an end", child->name);
    if (child->signum)
        return g_error_new(KR_ERROR, KR_ERROR_REFUSED, "%s was ended by signal %d", child->name, child->signum);
    if (child->status)
        return g_error_new(KR_ERROR, KR_ERROR_REFUSED, "%s", said[0] ? said : child->name);
    return NULL;
}

static void answer(struct child *child) {
    g_autoptr(GError) error = error_of(child);

    child->is_answered = true;
    child->on_done(child->user, child->out->str, error);
}

static void one_done(struct child *child) {
    if (--child->to_come > 0)
        return;
    if (!child->is_answered)
        answer(child);
    close_all(child);
}

/* Nobody waits for it any more; its memory goes when it has ended. */
static void abandon(struct child *child) {
    if (!child->spawn_error)
        uv_process_kill(&child->process, SIGKILL);
    uv_read_stop((uv_stream_t *)&child->out_pipe);
    uv_read_stop((uv_stream_t *)&child->err_pipe);
    child->is_answered = true;
    if (child->is_ended)
        close_all(child);
    else
        child->to_come = 1;
}

static void on_ended(uv_process_t *process, int64_t status, int signum) {
    struct child *child = process->data;

    child->status = status;
    child->signum = signum;
    child->is_ended = true;
    one_done(child);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    struct child *child = handle->data;

    *buf = uv_buf_init(child->chunk, sizeof child->chunk);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct child *child = stream->data;
    GString *text = stream == (uv_stream_t *)&child->out_pipe ? child->out : child->err;

    if (n > 0 && text->len + (size_t)n <= MAX_OUTPUT_BYTES)
        g_string_append_len(text, buf->base, n);
    if (n < 0) {
        uv_read_stop(stream);
        one_done(child);
    }
}

/* Somebody it has started may hold its output open: after the deadline nothing is waited for. */
static void on_timer(uv_timer_t *timer) {
    struct child *child = timer->data;

    if (child->spawn_error) {
        child->to_come = 1;
        one_done(child);
        return;
    }
    child->is_late = true;
    answer(child);
    abandon(child);
}

static void spawn(struct child *child, char *const *argv) {
    uv_stdio_container_t stdio[] = {
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&child->out_pipe},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&child->err_pipe}};
    const char *env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", NULL};
    uv_process_options_t options = {.file = argv[0],
                                    .args = (char **)argv,
                                    .env = (char **)env,
                                    .exit_cb = on_ended,
                                    .stdio = stdio,
                                    .stdio_count = G_N_ELEMENTS(stdio)};

    child->spawn_error = uv_spawn(child->timer.loop, &child->process, &options);
    if (child->spawn_error) {
        uv_timer_start(&child->timer, on_timer, 0, 0);
        return;
    }
    uv_read_start((uv_stream_t *)&child->out_pipe, on_alloc, on_read);
    uv_read_start((uv_stream_t *)&child->err_pipe, on_alloc, on_read);
}

struct child *child_run(uv_loop_t *loop, char *const *argv, int64_t deadline_ms, child_done_cb *on_done, void *user) {
    struct child *child = g_new0(struct child, 1);

    child->on_done = on_done;
    child->user = user;
    child->out = g_string_new(NULL);
    child->err = g_string_new(NULL);
    child->name = g_path_get_basename(argv[0]);
    child->to_come = 3;
    child->open_handles = 4;
    uv_timer_init(loop, &child->timer);
    uv_pipe_init(loop, &child->out_pipe, 0);
    uv_pipe_init(loop, &child->err_pipe, 0);
    child->process.data = child->timer.data = child->out_pipe.data = child->err_pipe.data = child;
    uv_timer_start(&child->timer, on_timer, (uint64_t)deadline_ms, 0);
    spawn(child, argv);
    return child;
}

void child_cancel(struct child *child) {
    if (child)
        abandon(child);
}
