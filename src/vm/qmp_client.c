#include "vm/qmp_client.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "vm/qmp.h"

enum { RETRY_MS = 10, TICK_MS = 50, READ_BYTES = 16 * 1024 };

struct question {
    int64_t id, due_ms; /* monotonic */
    char *name;
    char *line; /* not sent yet; NULL: sent */
    qmp_answer_cb *on_done;
    void *user;
};

struct qmp_client {
    uv_pipe_t pipe;
    uv_timer_t timer;
    uv_connect_t connecting;
    bool has_pipe, is_greeted, is_ready, is_over, is_freed;
    int open_handles;
    char *path;
    int64_t due_ms; /* for the greeting */
    int64_t last_id;
    GQueue questions;
    struct qmp pump;
    const struct qmp_client_handlers *handlers;
    void *user;
    char chunk[READ_BYTES];
};

static void try_to_connect(struct qmp_client *client);

/* ---- the end ---- */

static void question_free(struct question *question) {
    g_free(question->name);
    g_free(question->line);
    g_free(question);
}

static void on_handle_closed(uv_handle_t *handle) {
    struct qmp_client *client = handle->data;

    if (--client->open_handles > 0 || !client->is_freed)
        return;
    qmp_clear(&client->pump);
    g_free(client->path);
    g_free(client);
}

static void close_pipe(struct qmp_client *client) {
    if (client->has_pipe)
        uv_close((uv_handle_t *)&client->pipe, on_handle_closed);
    client->has_pipe = false;
}

static void fail_all(struct qmp_client *client, const GError *error) {
    struct question *question;

    while ((question = g_queue_pop_head(&client->questions))) {
        if (question->on_done && !client->is_freed)
            question->on_done(question->user, NULL, error);
        question_free(question);
    }
}

/* The last callback may free the client: its memory stays until the handles are closed. */
static void end(struct qmp_client *client, enum kr_error code, const char *text) {
    g_autoptr(GError) error = g_error_new(KR_ERROR, (int)code, "QMP: %s", text);

    if (client->is_over)
        return;
    client->is_over = true;
    client->is_ready = false;
    uv_timer_stop(&client->timer);
    close_pipe(client);
    fail_all(client, error);
    if (!client->is_freed)
        client->handlers->on_closed(client->user, error);
}

void qmp_client_free(struct qmp_client *client) {
    if (!client)
        return;
    client->is_freed = true;
    client->is_over = true;
    close_pipe(client);
    fail_all(client, NULL);
    uv_close((uv_handle_t *)&client->timer, on_handle_closed);
}

/* ---- sending ---- */

static void on_written(uv_write_t *write, int status) { g_free(write); }

static void send_line(struct qmp_client *client, char *line) {
    size_t len = strlen(line);
    uv_write_t *write = g_malloc(sizeof *write + len);
    uv_buf_t buf = uv_buf_init((char *)(write + 1), (unsigned)len);

    memcpy(buf.base, line, len);
    g_free(line);
    if (uv_write(write, (uv_stream_t *)&client->pipe, &buf, 1, on_written) < 0)
        g_free(write); /* the reader sees the end */
}

static void send_waiting(struct qmp_client *client) {
    for (GList *link = client->questions.head; link; link = link->next) {
        struct question *question = link->data;
        if (question->line)
            send_line(client, g_steal_pointer(&question->line));
    }
}

void qmp_client_ask(struct qmp_client *client, const char *name, json_t *arguments, int64_t deadline_ms,
                    qmp_answer_cb *on_done, void *user) {
    struct question *question = g_new0(struct question, 1);

    question->id = ++client->last_id;
    question->due_ms = clock_mono_ms() + deadline_ms;
    question->name = g_strdup(name);
    question->line = qmp_command(question->id, name, arguments);
    question->on_done = on_done;
    question->user = user;
    g_queue_push_tail(&client->questions, question);
    if (client->is_ready)
        send_waiting(client);
    /* of a connection that is over: the timer answers, so that nothing comes before this returned */
    uv_timer_start(&client->timer, client->timer.timer_cb, client->is_over ? 0 : TICK_MS, TICK_MS);
}

bool qmp_client_is_ready(const struct qmp_client *client) { return client && client->is_ready; }

/* ---- receiving ---- */

static void on_greeting(void *user, const char *version) {
    struct qmp_client *client = user;

    if (!client->is_greeted && !client->is_over)
        send_line(client, qmp_command(0, "qmp_capabilities", NULL));
    client->is_greeted = true;
}

static void on_answer(void *user, int64_t id, const json_t *value, const char *failure) {
    struct qmp_client *client = user;
    struct question *question = client->questions.head ? client->questions.head->data : NULL;
    g_autoptr(GError) error = NULL;

    if (client->is_over)
        return;
    if (id == 0 && !client->is_ready) {
        client->is_ready = true;
        send_waiting(client);
        client->handlers->on_ready(client->user);
        return;
    }
    if (!question || question->id != id)
        return; /* of a question whose time was over */
    g_queue_pop_head(&client->questions);
    if (failure)
        error = g_error_new(KR_ERROR, KR_ERROR_REFUSED, "%s: %s", question->name, failure);
    if (question->on_done)
        question->on_done(question->user, error ? NULL : value, error);
    question_free(question);
}

static void on_event(void *user, const char *name, const json_t *data) {
    struct qmp_client *client = user;

    if (!client->is_over)
        client->handlers->on_event(client->user, name, data);
}

static const struct qmp_handlers pump_handlers = {on_greeting, on_answer, on_event};

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    struct qmp_client *client = handle->data;

    *buf = uv_buf_init(client->chunk, sizeof client->chunk);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct qmp_client *client = stream->data;
    g_autoptr(GError) error = NULL;

    if (client->is_over)
        return;
    if (n < 0)
        end(client, KR_ERROR_IO, "QEMU has closed the connection");
    else if (n > 0 && !qmp_feed(&client->pump, buf->base, (size_t)n, &error))
        end(client, KR_ERROR_IO, error->message);
}

/* ---- connecting, and time ---- */

static void expire(struct qmp_client *client, int64_t now_ms) {
    for (GList *link = client->questions.head, *next; link; link = next) {
        struct question *question = link->data;
        g_autoptr(GError) error = NULL;
        next = link->next;
        if (question->due_ms > now_ms)
            continue;
        g_queue_delete_link(&client->questions, link);
        error = g_error_new(KR_ERROR, KR_ERROR_TIMEOUT, "%s: QEMU does not answer", question->name);
        if (question->on_done)
            question->on_done(question->user, NULL, error);
        question_free(question);
        return; /* the callback may have changed the queue; the rest at the next tick */
    }
}

static void on_timer(uv_timer_t *timer) {
    struct qmp_client *client = timer->data;
    int64_t now_ms = clock_mono_ms();
    g_autoptr(GError) over = g_error_new(KR_ERROR, KR_ERROR_IO, "QMP: there is no connection");

    if (client->is_over) {
        uv_timer_stop(timer);
        fail_all(client, over);
    } else if (!client->is_greeted && now_ms >= client->due_ms) {
        end(client, KR_ERROR_TIMEOUT, "QEMU does not greet");
    } else if (!client->has_pipe) {
        try_to_connect(client);
    } else {
        expire(client, now_ms);
        if (!client->is_over && client->is_ready && g_queue_is_empty(&client->questions))
            uv_timer_stop(timer);
    }
}

static void on_connected(uv_connect_t *connecting, int status) {
    struct qmp_client *client = connecting->data;

    if (client->is_over)
        return;
    if (status < 0) {
        close_pipe(client);
        uv_timer_start(&client->timer, on_timer, RETRY_MS, RETRY_MS);
        return;
    }
    uv_timer_start(&client->timer, on_timer, TICK_MS, TICK_MS);
    uv_read_start((uv_stream_t *)&client->pipe, on_alloc, on_read);
}

/* A handle is closed before the next attempt uses its memory: open_handles tells. */
static void try_to_connect(struct qmp_client *client) {
    uv_loop_t *loop = client->timer.loop;

    if (client->open_handles > 1)
        return;
    uv_pipe_init(loop, &client->pipe, 0);
    client->pipe.data = client;
    client->connecting.data = client;
    client->has_pipe = true;
    client->open_handles++;
    uv_pipe_connect(&client->connecting, &client->pipe, client->path, on_connected);
}

struct qmp_client *qmp_client_new(uv_loop_t *loop, int folder_fd, const char *socket, int64_t deadline_ms,
                                  const struct qmp_client_handlers *handlers, void *user) {
    struct qmp_client *client = g_new0(struct qmp_client, 1);

    client->handlers = handlers;
    client->user = user;
    client->path = g_strdup_printf("/proc/self/fd/%d/%s", folder_fd, socket);
    client->due_ms = clock_mono_ms() + deadline_ms;
    qmp_init(&client->pump, &pump_handlers, client);
    uv_timer_init(loop, &client->timer);
    client->timer.data = client;
    client->open_handles = 1;
    uv_timer_start(&client->timer, on_timer, 0, RETRY_MS);
    return client;
}
