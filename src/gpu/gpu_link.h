#pragma once
/* The worker process seen from the daemon: started, asked one thing at a time, killed when an answer is late and started
 * anew with a growing pause (L40, L57, L70). Requests queue. When the worker fails, every request that waits fails with
 * the same reason, so nobody waits longer than one deadline for a worker that hangs. Before it touches a card the worker
 * says so with a line {"at": ADDRESS}: when it hangs or dies there, that one card is to blame. All on the loop's thread. */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct gpu_link;
struct gpu_link_call;

struct gpu_link_config {
    const char *worker_exe; /* copied */
    const char *sysfs_root;
    const char *nvml_library;
    int64_t deadline_ms;
};

/* answer: borrowed, NULL when there is none; then `why` says why, borrowed. */
typedef void gpu_link_done(void *user, const json_t *answer, const char *why);

struct gpu_link_handlers {
    void (*on_started)(void *user);                    /* after each start of a worker */
    void (*on_stuck)(void *user, const char *address); /* it hung or died at this card; before its calls fail */
};

/* Never fails: a worker that cannot be started fails its requests. No callback before gpu_link_new returned. */
struct gpu_link *gpu_link_new(uv_loop_t *loop, const struct gpu_link_config *config,
                              const struct gpu_link_handlers *handlers, void *user);
/* Kills the worker; no callback afterwards, waiting calls are gone. The loop must run a moment more (at most a second
 * when the worker cannot die) to let the handles go. */
void gpu_link_free(struct gpu_link *link);

/* Takes over `request` (an object without "id"). on_done comes exactly once unless cancelled, never before this
 * returned; the call is gone afterwards. */
struct gpu_link_call *gpu_link_ask(struct gpu_link *link, json_t *request, gpu_link_done *on_done, void *user);
void gpu_link_cancel(struct gpu_link_call *call); /* NULL is fine */

/* PCI addresses of cards that no worker may touch from now on. They go with every request as "hands_off", also with those that wait.
 * Takes over `addresses`. */
void gpu_link_set_hands_off(struct gpu_link *link, json_t *addresses);

/* Ends the worker, and starts none until gpu_link_resume. What was asked waits, without a deadline, and is asked of the next worker.
 * on_gone comes once, never before this returned, when no worker is left, also none that was told to die earlier; never when one
 * hangs in the driver, or when gpu_link_resume comes first. A second call takes the place of the first one. */
void gpu_link_hold(struct gpu_link *link, void (*on_gone)(void *user), void *user);
void gpu_link_resume(struct gpu_link *link); /* nothing when it is not held */
bool gpu_link_is_held(const struct gpu_link *link);

/* Killed workers that are not dead yet: stuck in the driver. */
int gpu_link_n_stuck(const struct gpu_link *link);
