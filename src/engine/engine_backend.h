#pragma once
/* For those who implement a container engine: a constant table of operations, and what both sides embed. The contract of each
 * operation is the one of its namesake in engine.h; here stands what is left to say. To add an engine: one file with
 * its table and an engine_NAME_new in engine.h, one line in src/runner/runner.c where the setting `engine` is read. */

#include "engine/engine.h"

struct engine_ops {
    const char *name;
    /* All must be there. They return a call that lives until its callback returned or `cancel`. */
    struct engine_call *(*probe)(struct engine *engine, engine_probe_cb *on_done, void *user);
    struct engine_call *(*pull)(struct engine *engine, const char *image, engine_done_cb *on_done, void *user);
    struct engine_call *(*create)(struct engine *engine, const struct engine_config *config, engine_create_cb *on_done,
                                  void *user);
    struct engine_call *(*start)(struct engine *engine, const char *id, engine_done_cb *on_done, void *user);
    struct engine_call *(*wait)(struct engine *engine, const char *id, engine_done_cb *on_done, void *user);
    struct engine_call *(*inspect)(struct engine *engine, const char *id, engine_inspect_cb *on_done, void *user);
    struct engine_call *(*logs)(struct engine *engine, const char *id, int64_t since_ns, bool follow,
                                const struct engine_log_sink *sink, void *user);
    struct engine_call *(*signal)(struct engine *engine, const char *id, int signum, engine_done_cb *on_done,
                                  void *user);
    struct engine_call *(*pause)(struct engine *engine, const char *id, bool is_pause, engine_done_cb *on_done,
                                 void *user);
    struct engine_call *(*remove)(struct engine *engine, const char *id, engine_done_cb *on_done, void *user);
    struct engine_call *(*list)(struct engine *engine, const char *const *labels, engine_list_cb *on_done, void *user);
    /* No callback afterwards. */
    void (*cancel)(struct engine_call *call);
    /* Frees the engine and every call. */
    void (*free)(struct engine *engine);
};

/* First member of a backend's own struct. */
struct engine {
    const struct engine_ops *ops;
};

/* First member of a backend's own call. */
struct engine_call {
    struct engine *engine;
};
