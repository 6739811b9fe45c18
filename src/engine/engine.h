#pragma once
/* The container engine of this node, for its users (the runner). Every call is asynchronous on the libuv loop, never
 * blocks, never calls back before it returned, calls back exactly once, and may be cancelled until then (also from any
 * callback). An engine can be away at any time: that is KR_ERROR_UNREACHABLE, _TIMEOUT or _IO (engine_is_away tells) and says
 * nothing about containers; any other error is the engine's own answer.
 * Containers are ours alone by label (ENGINE_LABEL_*); a name or an id is a string of at most ENGINE_ID_MAX_BYTES. */

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

struct engine;
struct engine_call;

#define ENGINE_LABEL_CLUSTER "kohakuriver.cluster"
#define ENGINE_LABEL_NODE "kohakuriver.node"
#define ENGINE_LABEL_TASK "kohakuriver.task"
#define ENGINE_LABEL_EPOCH "kohakuriver.epoch"
#define ENGINE_LABEL_GPUS "kohakuriver.gpus" /* "INDEX=UUID,INDEX=UUID…" */

enum { ENGINE_ID_MAX_BYTES = 128 };

/* How GPUs get into a container. */
enum engine_injection {
    ENGINE_INJECTION_UNSET = 0,
    ENGINE_INJECTION_NVIDIA, /* a device request that the engine's NVIDIA hook answers */
    ENGINE_INJECTION_CDI,    /* CDI device names, nvidia.com/gpu=UUID */
};

enum engine_presence {
    ENGINE_ABSENT = 1, /* nothing answers there */
    ENGINE_BROKEN,     /* something answers and cannot be used; `text` says why */
    ENGINE_PRESENT,
};

/* What engine_probe learned. Borrowed within the callback. */
struct engine_facts {
    enum engine_presence presence;
    char *version; /* "20.10.24"; NULL unless present */
    char *text;    /* one line for people: "Docker 20.10.24" or what is wrong */
    int cpus;
    bool offers_cdi; /* CDI is switched on and a specification names NVIDIA GPUs by UUID */
};
void engine_facts_clear(struct engine_facts *facts);

struct vm_spec;

struct engine_mount {
    const char *source, *target;
    bool read_only;
};

/* A device node: which one of this machine, and where the container finds it. */
struct engine_device {
    const char *source, *target;
};

enum engine_memlock { ENGINE_MEMLOCK_DEFAULT = -2, ENGINE_MEMLOCK_UNLIMITED = -1 }; /* otherwise bytes */

/* A container to be made. The engine copies what it needs; the strings stay the caller's. */
struct engine_config {
    const char *name;
    const char *image;
    char *const *argv;   /* run exactly so: no entry point of the image, no shell */
    char *const *env;    /* "K=V", complete; also what keeps GPUs out (NVIDIA_VISIBLE_DEVICES=void) */
    char *const *labels; /* "K=V" */
    const struct engine_mount *mounts;
    size_t n_mounts;
    char *const *gpu_uuids; /* NULL or empty: no GPU */
    enum engine_injection injection;
    const struct engine_device *devices; /* readable, writable, and to be made anew */
    size_t n_devices;
    const gid_t *groups; /* that its processes are in besides their own */
    size_t n_groups;
    const char *cpuset_cpus, *cpuset_mems; /* NULL: no binding */
    const char *network;                   /* NULL: the engine's default */
    const char *working_dir;               /* NULL: the image's */
    int cores;                             /* 0: no limit */
    int64_t mem_bytes;                     /* 0: no limit; swap is not added to it */
    int64_t shm_bytes;                     /* 0: the engine's default */
    int64_t memlock;                       /* bytes or enum engine_memlock */
    int64_t log_max_bytes;                 /* of the engine's own copy of the output, 0: no limit */
    /* of engines that run machines; argv, env and mounts mean nothing there */
    const struct vm_spec *vm; /* NULL: a container is asked for */
    char *const *gpu_pci;     /* where the cards of gpu_uuids sit, in that order */
};

enum engine_state {
    ENGINE_STATE_UNSET = 0,
    ENGINE_CREATED, /* never started, or its start failed */
    ENGINE_RUNNING, /* also paused or restarting: its processes exist */
    ENGINE_EXITED,
};

struct engine_container {
    char *id;
    GHashTable *labels; /* char* -> char* */
    enum engine_state state;
    /* the rest only from engine_inspect */
    pid_t pid; /* of the first process, 0 unless running */
    bool is_paused;
    int exit_code;
    bool oom_killed;                 /* the engine's own word */
    char *error;                     /* the engine's text on a start that failed, or NULL */
    int64_t started_ms, finished_ms; /* wall clock, 0: never */
};
void engine_container_free(struct engine_container *container);

typedef void engine_probe_cb(void *user, const struct engine_facts *facts); /* never an error: see presence */
typedef void engine_done_cb(void *user, const GError *error);
typedef void engine_create_cb(void *user, const char *id, const GError *error);
typedef void engine_inspect_cb(void *user, const struct engine_container *container, const GError *error);
typedef void engine_list_cb(void *user, const GPtrArray *containers, const GError *error); /* struct engine_container */

enum engine_stream { ENGINE_STDOUT = 1, ENGINE_STDERR = 2 };

/* Output as the engine recorded it: entries (at most a line, long lines in pieces) with the engine's time stamp, in
 * order within each stream. An entry's bytes may come in several on_bytes. */
struct engine_log_sink {
    void (*on_entry)(void *user, enum engine_stream stream, int64_t time_ns);
    void (*on_bytes)(void *user, const char *bytes, size_t len);
    void (*on_entry_end)(void *user);
    void (*on_batch)(void *user); /* no more for the moment: a good time to write down how far we are */
    engine_done_cb *on_done;      /* no error: everything was delivered, and the container has ended if follow */
};

struct engine *engine_docker_new(uv_loop_t *loop, const char *socket_path);
/* Cancels all calls without callbacks. The loop must run once more. Not from within an engine's callback. */
void engine_free(struct engine *engine);
bool engine_is_away(const GError *error);
void engine_call_cancel(struct engine_call *call); /* NULL is fine */

/* Is it there, and what can it do? Has a deadline of a few seconds. */
struct engine_call *engine_probe(struct engine *engine, engine_probe_cb *on_done, void *user);
/* KR_ERROR_REFUSED with the registry's or the engine's text. Takes as long as it takes. */
struct engine_call *engine_pull(struct engine *engine, const char *image, engine_done_cb *on_done, void *user);
/* KR_ERROR_NOT_FOUND: the image is not there. A container of that name that exists already is KR_ERROR_REFUSED. */
struct engine_call *engine_create(struct engine *engine, const struct engine_config *config, engine_create_cb *on_done,
                                  void *user);
/* Success also when it runs already. After an error of the away kind it may have started or not: inspect. KR_ERROR_REFUSED with the
 * engine's text when it cannot be started (GPU requests fail here and not at creation); it then still exists. */
struct engine_call *engine_start(struct engine *engine, const char *id, engine_done_cb *on_done, void *user);
/* Calls back when it does not run. Only for one that was started: one never started "does not run" at once. */
struct engine_call *engine_wait(struct engine *engine, const char *id, engine_done_cb *on_done, void *user);
/* KR_ERROR_NOT_FOUND when there is none. `id` may be a name. */
struct engine_call *engine_inspect(struct engine *engine, const char *id, engine_inspect_cb *on_done, void *user);
/* Entries from since_ns on (that one included), and with follow until the container ends. */
struct engine_call *engine_logs(struct engine *engine, const char *id, int64_t since_ns, bool follow,
                                const struct engine_log_sink *sink, void *user);
/* Sends a signal to the first process. Success also when it does not run (any more). */
struct engine_call *engine_signal(struct engine *engine, const char *id, int signum, engine_done_cb *on_done,
                                  void *user);
/* Freezes all its processes, or lets them go on. Success also when they are so already, or it does not run (any more). */
struct engine_call *engine_pause(struct engine *engine, const char *id, bool is_pause, engine_done_cb *on_done,
                                 void *user);
/* Removes it with its anonymous volumes, killing it when it runs. Success also when it is gone. */
struct engine_call *engine_remove(struct engine *engine, const char *id, engine_done_cb *on_done, void *user);
/* All containers, ended ones too, that carry every label ("K=V", NULL-terminated). */
struct engine_call *engine_list(struct engine *engine, const char *const *labels, engine_list_cb *on_done, void *user);
