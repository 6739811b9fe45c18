/* Each task has one watcher (a long poll on its revision) and up to two streams. A stream that ends cleanly while the
 * task is not known to be over is opened again once it is: the end of a stream alone is no proof that all came (the
 * host may have been stopped). A stream opened after the end of the task that ends cleanly is complete. */
#include "cli/follow.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/show.h"

enum {
    POLL_MS = 10 * 1000,          /* how long the host may hold a long poll back */
    POLL_DEADLINE_MS = 20 * 1000, /* after that the connection is dead */
    RETRY_MS = 200,
    TRIES_AFTER_THE_END = 50, /* for output of an ended task that cannot be had now */
};

struct follow;

struct stream {
    struct followed *task;
    const char *which;
    int fd;
    int64_t offset; /* bytes written so far */
    struct http_call *call;
    uv_timer_t retry;
    bool opened_after_end; /* the present call was started when the task was over */
    bool is_waiting;       /* ended cleanly, to be opened again when the task is over */
    bool is_done;
    int tries_after_end;
};

struct followed {
    struct follow *follow;
    uint32_t id;
    json_t *json; /* newest */
    bool is_over;
    bool knows_revision;
    struct http_call *poll;
    uv_timer_t retry;
    struct stream streams[FOLLOW_STREAMS];
};

struct follow {
    struct cli_api *api;
    struct follow_options options;
    struct followed *tasks;
    size_t n_tasks;
    int n_handles; /* being closed */
    uv_signal_t sigint;
    bool is_interrupted;
    bool host_is_gone; /* the note about it was printed */
    GError *error;     /* ends everything */
};

static void poll_start(struct followed *task);
static void stream_start(struct stream *stream);

/* ---- the host comes and goes ---- */

static void host_answers(struct follow *follow) {
    if (follow->host_is_gone)
        cli_note("the host answers again");
    follow->host_is_gone = false;
}

static void host_is_silent(struct follow *follow, const GError *why) {
    if (!follow->host_is_gone)
        cli_note("%s; the task goes on, waiting for the host", why->message);
    follow->host_is_gone = true;
}

static bool is_silence(const GError *error) {
    return g_error_matches(error, KR_ERROR, KR_ERROR_UNREACHABLE) ||
           g_error_matches(error, KR_ERROR, KR_ERROR_TIMEOUT) || g_error_matches(error, KR_ERROR, KR_ERROR_IO) ||
           g_error_matches(error, KR_ERROR, KR_ERROR_UNAVAILABLE) || g_error_matches(error, KR_ERROR, KR_ERROR_STORAGE);
}

/* ---- state ---- */

static void task_is_over(struct followed *task) {
    task->is_over = true;
    for (size_t i = 0; i < FOLLOW_STREAMS; i++)
        if (task->streams[i].is_waiting) {
            task->streams[i].is_waiting = false;
            stream_start(&task->streams[i]);
        }
}

static void take_task(struct followed *task, json_t *json) {
    bool is_new = !task->json || g_strcmp0(show_str(task->json, "state"), show_str(json, "state")) != 0;

    json_decref(task->json);
    task->json = json;
    task->knows_revision = true;
    if (is_new && task->follow->options.on_change)
        task->follow->options.on_change(task->follow->options.user, json);
    if (show_is_over(json))
        task_is_over(task);
    else
        poll_start(task);
}

static void on_poll_retry(uv_timer_t *timer) { poll_start(timer->data); }

static void on_poll_done(void *user, int status, const char *body, size_t len, const GError *failure) {
    struct followed *task = user;
    struct follow *follow = task->follow;
    g_autoptr(GError) error = NULL;
    json_t *json = cli_api_decode(follow->api, status, body, len, failure, NULL, &error);

    task->poll = NULL;
    cli_api_wake(follow->api);
    if (json) {
        host_answers(follow);
        take_task(task, json);
        return;
    }
    if (!is_silence(error)) {
        if (!follow->error)
            follow->error = g_steal_pointer(&error);
        return;
    }
    host_is_silent(follow, error);
    task->knows_revision = false; /* revisions begin anew when the host does */
    uv_timer_start(&task->retry, on_poll_retry, RETRY_MS, 0);
}

static void poll_start(struct followed *task) {
    struct follow *follow = task->follow;
    g_autofree char *plain = g_strdup_printf("/tasks/%" PRIu32, task->id);
    g_autofree char *held = g_strdup_printf("%s?revision=%" PRId64 "&wait_ms=%d", plain,
                                            show_int(task->json, "revision"), POLL_MS);
    g_autofree char *url = cli_api_url(follow->api, task->knows_revision ? held : plain);
    struct http_request request = {
        .method = "GET", .url = url, .timeout_ms = POLL_DEADLINE_MS, .user = task, .on_done = on_poll_done};

    task->poll = http_client_start(cli_api_client(follow->api), &request);
}

/* ---- output ---- */

static void on_stream_data(void *user, const char *bytes, size_t len) {
    struct stream *stream = user;

    host_answers(stream->task->follow);
    if (!fd_write_all(stream->fd, bytes, len) && !stream->task->follow->error)
        kr_fail(&stream->task->follow->error, IO, "writing the task's %s: %s", stream->which, g_strerror(errno));
    stream->offset += (int64_t)len;
}

static void on_stream_retry(uv_timer_t *timer) { stream_start(timer->data); }

static void stream_failed(struct stream *stream, const GError *error) {
    if (stream->task->is_over && (!is_silence(error) || ++stream->tries_after_end > TRIES_AFTER_THE_END)) {
        if (!g_error_matches(error, KR_ERROR, KR_ERROR_NOT_FOUND))
            cli_note("the rest of the %s of task %" PRIu32 " cannot be had: %s", stream->which, stream->task->id,
                     error->message);
        stream->is_done = true;
        return;
    }
    uv_timer_start(&stream->retry, on_stream_retry, RETRY_MS, 0);
}

static void on_stream_done(void *user, int status, const char *body, size_t len, const GError *failure) {
    struct stream *stream = user;
    g_autoptr(GError) error = NULL;

    stream->call = NULL;
    cli_api_wake(stream->task->follow->api);
    if (failure || status < 200 || status >= 300) {
        json_decref(cli_api_decode(stream->task->follow->api, status, body, len, failure, NULL, &error));
        if (error)
            stream_failed(stream, error);
    } else if (stream->opened_after_end) {
        stream->is_done = true;
    } else if (stream->task->is_over) {
        stream_start(stream);
    } else {
        stream->is_waiting = true;
    }
}

static void stream_start(struct stream *stream) {
    struct follow *follow = stream->task->follow;
    g_autofree char *path = g_strdup_printf("/tasks/%" PRIu32 "/logs?stream=%s&follow=1&offset=%" PRId64,
                                            stream->task->id, stream->which, stream->offset);
    g_autofree char *url = cli_api_url(follow->api, path);
    struct http_request request = {
        .method = "GET", .url = url, .user = stream, .on_data = on_stream_data, .on_done = on_stream_done};

    stream->opened_after_end = stream->task->is_over;
    stream->call = http_client_start(cli_api_client(follow->api), &request);
}

/* ---- the whole ---- */

static void on_sigint(uv_signal_t *handle, int signum) {
    struct follow *follow = handle->data;

    follow->is_interrupted = true;
    cli_api_wake(follow->api);
}

static void on_closed(uv_handle_t *handle) {
    struct follow *follow = handle->data;

    follow->n_handles--;
    cli_api_wake(follow->api);
}

static void close_handle(struct follow *follow, uv_handle_t *handle) {
    handle->data = follow;
    follow->n_handles++;
    uv_close(handle, on_closed);
}

static void followed_init(struct followed *task, struct follow *follow, uint32_t id) {
    static const char *const names[FOLLOW_STREAMS] = {"stdout", "stderr"};

    task->follow = follow;
    task->id = id;
    uv_timer_init(cli_api_loop(follow->api), &task->retry);
    task->retry.data = task;
    for (size_t i = 0; i < FOLLOW_STREAMS; i++) {
        struct stream *stream = &task->streams[i];
        *stream = (struct stream){.task = task, .which = names[i], .fd = follow->options.fds[i]};
        uv_timer_init(cli_api_loop(follow->api), &stream->retry);
        stream->retry.data = stream;
        stream->is_done = stream->fd < 0;
        if (!stream->is_done)
            stream_start(stream);
    }
    poll_start(task);
}

static void cancel(struct http_call **call) {
    if (*call)
        http_call_cancel(*call);
    *call = NULL;
}

static void followed_clear(struct followed *task) {
    cancel(&task->poll);
    close_handle(task->follow, (uv_handle_t *)&task->retry);
    for (size_t i = 0; i < FOLLOW_STREAMS; i++) {
        cancel(&task->streams[i].call);
        close_handle(task->follow, (uv_handle_t *)&task->streams[i].retry);
    }
    json_decref(task->json);
}

static bool all_done(const struct follow *follow) {
    for (size_t t = 0; t < follow->n_tasks; t++) {
        if (!follow->tasks[t].is_over)
            return false;
        for (size_t i = 0; i < FOLLOW_STREAMS; i++)
            if (!follow->tasks[t].streams[i].is_done)
                return false;
    }
    return true;
}

static json_t *collect(const struct follow *follow) {
    json_t *list = json_array();

    for (size_t t = 0; t < follow->n_tasks; t++)
        json_array_append(list, follow->tasks[t].json);
    return list;
}

int follow_tasks(struct cli_api *api, const uint32_t *ids, size_t n_ids, const struct follow_options *options,
                 json_t **ret_tasks, GError **error) {
    struct follow follow = {.api = api, .options = *options, .n_tasks = n_ids};
    int exit_code = CLI_EXIT_OK;

    follow.tasks = g_new0(struct followed, n_ids);
    uv_signal_init(cli_api_loop(api), &follow.sigint);
    follow.sigint.data = &follow;
    uv_signal_start(&follow.sigint, on_sigint, SIGINT);
    for (size_t t = 0; t < n_ids; t++)
        followed_init(&follow.tasks[t], &follow, ids[t]);
    while (!follow.is_interrupted && !follow.error && !all_done(&follow))
        uv_run(cli_api_loop(api), UV_RUN_ONCE);
    if (follow.error) {
        g_propagate_error(error, follow.error);
        exit_code = CLI_EXIT_FAILED;
    } else if (follow.is_interrupted) {
        exit_code = CLI_EXIT_INTERRUPTED;
    } else {
        *ret_tasks = collect(&follow);
    }
    for (size_t t = 0; t < n_ids; t++)
        followed_clear(&follow.tasks[t]);
    close_handle(&follow, (uv_handle_t *)&follow.sigint);
    while (follow.n_handles > 0)
        uv_run(cli_api_loop(api), UV_RUN_ONCE);
    g_free(follow.tasks);
    return exit_code;
}
