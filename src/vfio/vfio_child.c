#include "vfio/vfio_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

/* Freed when it is forgotten and its handles are closed. */
struct vfio_child {
    union {
        uv_handle_t handle;
        uv_process_t process; /* of a program */
        uv_poll_t poll;       /* of a write: readable when its process has ended */
    } u;
    uv_pipe_t out;
    pid_t pid;
    int pidfd; /* -1: it is a program */
    uv_timer_t timer;
    int n_open; /* handles that are not closed yet */
    bool is_started, has_exited, has_eof, is_killed, is_forgotten, is_done;
    int status, start_error;
    int64_t grace_ms;
    GString *text;
    char buffer[16384];
    vfio_child_cb *on_done;
    void *user;
};

static void free_when_over(struct vfio_child *child) {
    if (child->n_open > 0 || !child->is_forgotten)
        return;
    if (child->pidfd >= 0)
        close(child->pidfd);
    g_string_free(child->text, TRUE);
    g_free(child);
}

static void on_closed(uv_handle_t *handle) {
    struct vfio_child *child = handle->data;

    child->n_open--;
    free_when_over(child);
}

static void close_handle(uv_handle_t *handle) {
    if (!uv_is_closing(handle))
        uv_close(handle, on_closed);
}

/* The process handle stays open while a stuck child lives, so that it is reaped. */
static void close_all(struct vfio_child *child) {
    close_handle((uv_handle_t *)&child->out);
    close_handle((uv_handle_t *)&child->timer);
    if (child->is_started && (child->has_exited || child->is_forgotten))
        close_handle(&child->u.handle);
}

static void finish(struct vfio_child *child, enum vfio_child_end end, int status) {
    struct vfio_child_result result = {
        .end = end, .status = status, .output = child->text->str, .len = child->text->len};

    if (child->is_done)
        return;
    child->is_done = true;
    close_all(child);
    if (!child->is_forgotten)
        child->on_done(child->user, &result);
}

static void finish_when_exited(struct vfio_child *child) {
    if (child->has_exited && (child->has_eof || child->is_killed))
        finish(child, child->is_killed ? VFIO_CHILD_KILLED : VFIO_CHILD_EXITED, child->status);
}

static void on_exit_of(uv_process_t *process, int64_t status, int signal_number) {
    struct vfio_child *child = process->data;

    child->has_exited = true;
    child->status = signal_number ? 128 + signal_number : (int)status;
    close_handle((uv_handle_t *)process);
    finish_when_exited(child);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf) {
    struct vfio_child *child = handle->data;

    (void)size;
    *buf = uv_buf_init(child->buffer, sizeof child->buffer);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct vfio_child *child = stream->data;

    if (n > 0 && child->text->len + (size_t)n <= VFIO_CHILD_MAX_OUTPUT_BYTES)
        g_string_append_len(child->text, buf->base, n);
    if (n >= 0)
        return;
    child->has_eof = true;
    uv_read_stop(stream);
    finish_when_exited(child);
}

static void on_timer(uv_timer_t *timer) {
    struct vfio_child *child = timer->data;

    if (!child->is_started) {
        finish(child, VFIO_CHILD_FAILED, child->start_error);
    } else if (child->is_killed || child->has_exited) {
        finish(child, child->has_exited ? VFIO_CHILD_KILLED : VFIO_CHILD_STUCK, child->status);
    } else {
        child->is_killed = true;
        kill(child->pid, SIGKILL);
        uv_timer_start(timer, on_timer, (uint64_t)child->grace_ms, 0);
    }
}

/* ---- a write ---- */

/* Between fork and _exit only what is safe there: other threads of ours may have held any lock. */
static void write_and_exit(const char *path, const char *value, size_t len, int lock_fd) {
    int fd;
    ssize_t n;

    if (lock_fd >= 0)
        dup2(lock_fd, VFIO_CHILD_LOCK_FD);
    close_range(lock_fd >= 0 ? VFIO_CHILD_LOCK_FD + 1 : VFIO_CHILD_LOCK_FD, ~0U, 0);
    fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd < 0)
        _exit(errno);
    n = write(fd, value, len);
    _exit(n < 0 ? errno : n == (ssize_t)len ? 0 : EIO);
}

static void on_pidfd(uv_poll_t *poll, int status, int events) {
    struct vfio_child *child = poll->data;
    int wait_status;

    (void)status;
    (void)events;
    if (waitpid(child->pid, &wait_status, WNOHANG) != child->pid)
        return;
    child->has_exited = true;
    child->status = WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
    close_handle((uv_handle_t *)poll);
    finish_when_exited(child);
}

static int start_write(uv_loop_t *loop, struct vfio_child *child, const struct vfio_child_config *config) {
    size_t len = strlen(config->write_value);
    sigset_t all, former;

    sigfillset(&all); /* our handlers must not run in the child: SIGKILL alone ends it */
    pthread_sigmask(SIG_SETMASK, &all, &former);
    child->pid = fork();
    if (child->pid == 0)
        write_and_exit(config->write_path, config->write_value, len, config->lock_fd);
    pthread_sigmask(SIG_SETMASK, &former, NULL);
    child->pidfd = child->pid < 0 ? -1 : pidfd_open(child->pid, 0);
    child->has_eof = true;
    if (child->pidfd >= 0 && uv_poll_init(loop, &child->u.poll, child->pidfd) == 0) {
        child->u.handle.data = child;
        return uv_poll_start(&child->u.poll, UV_READABLE, on_pidfd);
    }
    return -errno;
}

/* ---- a program ---- */

static int spawn(uv_loop_t *loop, struct vfio_child *child, const struct vfio_child_config *config) {
    uv_stdio_container_t stdio[VFIO_CHILD_LOCK_FD + 1] = {
        {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&child->out},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
        {.flags = config->lock_fd >= 0 ? UV_INHERIT_FD : UV_IGNORE, .data.fd = config->lock_fd},
    };
    uv_process_options_t options = {
        .file = config->argv[0],
        .args = (char **)config->argv,
        .exit_cb = on_exit_of,
        .stdio = stdio,
        .stdio_count = config->lock_fd >= 0 ? VFIO_CHILD_LOCK_FD + 1 : VFIO_CHILD_LOCK_FD,
    };

    int status = uv_spawn(loop, &child->u.process, &options);

    child->pid = status == 0 ? child->u.process.pid : -1;
    child->u.handle.data = child;
    return status;
}

struct vfio_child *vfio_child_start(uv_loop_t *loop, const struct vfio_child_config *config, vfio_child_cb *on_done,
                                    void *user) {
    struct vfio_child *child = g_new0(struct vfio_child, 1);
    int status;

    child->on_done = on_done;
    child->user = user;
    child->grace_ms = config->grace_ms;
    child->text = g_string_new(NULL);
    child->pidfd = -1;
    child->out.data = child->timer.data = child;
    uv_pipe_init(loop, &child->out, 0);
    uv_timer_init(loop, &child->timer);
    status = config->argv ? spawn(loop, child, config) : start_write(loop, child, config);
    child->n_open = child->u.handle.data ? 3 : 2; /* uv_spawn makes a handle also when it fails */
    child->is_started = status == 0;
    child->start_error = -status;
    if (child->is_started && config->argv)
        uv_read_start((uv_stream_t *)&child->out, on_alloc, on_read);
    else if (!child->is_started && child->u.handle.data)
        close_handle(&child->u.handle);
    uv_timer_start(&child->timer, on_timer, child->is_started ? (uint64_t)config->deadline_ms : 0, 0);
    return child;
}

void vfio_child_forget(struct vfio_child *child) {
    if (!child)
        return;
    child->is_forgotten = true;
    close_all(child);
    free_when_over(child);
}
