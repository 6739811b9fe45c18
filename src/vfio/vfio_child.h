#pragma once
/* One child process with a deadline: whatever can hang in the kernel is done there (R7). At the deadline it is killed; one that is
 * then still there hangs inside the kernel, and is left alone: it is told apart as stuck, and reaped when it ends at last. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

enum { VFIO_CHILD_MAX_OUTPUT_BYTES = 1 << 20, VFIO_CHILD_LOCK_FD = 3 };

enum vfio_child_end {
    VFIO_CHILD_EXITED = 1, /* status is its exit status; 128 + N for a signal of somebody else's */
    VFIO_CHILD_KILLED,     /* at the deadline, and it is gone */
    VFIO_CHILD_STUCK,      /* at the deadline, and it does not go */
    VFIO_CHILD_FAILED,     /* it could not be started: status is an errno */
};

struct vfio_child_result {
    enum vfio_child_end end;
    int status;
    const char *output; /* its stdout, NUL-terminated; borrowed */
    size_t len;
};

struct vfio_child;
typedef void vfio_child_cb(void *user, const struct vfio_child_result *result);

struct vfio_child_config {
    const char *const
        *argv; /* NULL-terminated; argv[0] is looked for in PATH unless it has a '/'. NULL: see write_path */
    /* In place of a program: the child does one write(2) of write_value to this file, and its status is the errno. Started
     * without a new program, which takes a tenth of the time; it keeps no descriptor of ours but the lock. */
    const char *write_path, *write_value;
    int64_t deadline_ms;
    int64_t grace_ms; /* between SIGKILL and stuck */
    int lock_fd;      /* given to the child as descriptor 3, and not closed here; -1: none */
};

/* on_done once, never before this returns. */
struct vfio_child *vfio_child_start(uv_loop_t *loop, const struct vfio_child_config *config, vfio_child_cb *on_done,
                                    void *user);
/* No callback afterwards; the process itself is left alone. To be called also after the callback came. NULL is fine. */
void vfio_child_forget(struct vfio_child *child);
