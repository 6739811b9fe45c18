#pragma once
/* A program that is run to its end, with a deadline, for what it says: qemu-img, qemu-system -version. Its standard input is
 * empty, its output bounded. All on the loop's thread. */

#include <glib.h>
#include <stdint.h>
#include <uv.h>

struct child;

/* `out`: what it wrote to standard output. The error is KR_ERROR_REFUSED with the last line of its standard error when it
 * ended otherwise than with 0, KR_ERROR_TIMEOUT, or KR_ERROR_IO when it could not be run. */
typedef void child_done_cb(void *user, const char *out, const GError *error);

/* Never NULL. on_done comes once, never before this returned, and the child is gone then. */
struct child *child_run(uv_loop_t *loop, char *const *argv, int64_t deadline_ms, child_done_cb *on_done, void *user);
/* Kills it; no callback. NULL is fine. The loop must run once more. */
void child_cancel(struct child *child);
