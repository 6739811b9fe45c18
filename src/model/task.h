#pragma once
/* A task: one command in one container on one node. `struct task_spec` is what the user asked for and never changes;
 * `struct task` is the record that the host keeps; `struct task_report` is what a runner says about a task it knows. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/lease.h"
#include "model/proof.h"
#include "model/vm.h"

/* States and the edges between them are core/task_state.h's. "lost" is not a state: it is how a task is shown while
 * its node is silent (R3: silence changes what is displayed, never who holds what). */
enum task_state {
    TASK_UNSET = 0,
    TASK_PENDING,   /* recorded, its node has not taken it yet */
    TASK_STARTING,  /* the node holds the lease; image and container are being prepared */
    TASK_RUNNING,   /* the container runs and has exactly its GPUs */
    TASK_STOPPING,  /* asked to end */
    TASK_COMPLETED, /* ended with exit code 0 */
    TASK_FAILED,    /* ended with another code, or never ran; `reason` says why */
    TASK_KILLED,    /* ended because somebody asked for it */
    TASK_PAUSED, /* frozen on request: its processes exist and hold their GPUs (K1); last, as the store keeps numbers */
    TASK_STATE_COUNT_
};
const char *task_state_to_str(enum task_state state); /* static; "unset" for 0 */
enum task_state task_state_from_str(const char *text);
bool task_state_is_terminal(enum task_state state);

enum {
    TASK_MAX_ARGS = 1024,
    TASK_MAX_ARG_BYTES = 128 * 1024, /* MAX_ARG_STRLEN of Linux */
    TASK_MAX_ENV = 256,
    TASK_MAX_MOUNTS = 32,
    TASK_MAX_PATH_BYTES = 1023,
    TASK_MAX_NAME_BYTES = 128,
    TASK_MAX_IMAGE_BYTES = 255,
    TASK_MAX_OWNER_BYTES = 128,
    TASK_REASON_MAX_BYTES = 1023,
    TASK_MAX_CORES = 4096,
};

struct task_spec {
    char *name;         /* for people, may be NULL */
    char *owner;        /* "alice@laptop" as the client says: there are no users yet, so a claim; may be NULL */
    char *image;        /* NULL: the node's default image */
    char **argv;        /* at least one; empty for a machine */
    char **env;         /* "K=V" */
    char **mounts;      /* "SOURCE:TARGET[:ro]", both absolute; the node decides whether SOURCE is allowed */
    int cores;          /* 0: no limit and nothing reserved */
    int64_t mem_bytes;  /* the same; of a machine: what it has */
    struct vm_spec *vm; /* owned; NULL: a container */
};

void task_spec_free(struct task_spec *spec);
struct task_spec *task_spec_copy(const struct task_spec *spec);
json_t *task_spec_to_json(const struct task_spec *spec);
/* New spec, or NULL with KR_ERROR_BAD_REQUEST. Checks everything that can be checked without a node: limits, that the
 * command is not empty, environment names, device variables (those belong to the lease, L53), mount syntax. Members
 * of the object that are no part of a spec are ignored, so that a request body can be read in one pass. */
struct task_spec *task_spec_from_json(const json_t *json, GError **error);

struct task {
    uint32_t id;
    char *batch_id;
    char *target; /* canonical text of the target, or "" when placement chose */
    struct task_spec *spec;
    struct lease lease;
    bool holds_lease; /* until the release is proved; true also for a while after the end when a card drains */
    char *holding;    /* why an ended task still holds its lease, else NULL */
    enum task_state state;
    bool kill_requested;
    bool pause_requested; /* a wish that stands until resume */
    bool release_forced;  /* an operator has given the lease up without proof */
    bool has_exit_code;
    int exit_code;
    bool oom; /* the engine's own word, not guessed from 137 */
    char *reason;
    int64_t created_ms, started_ms, finished_ms; /* wall clock, 0 when not yet */
    int64_t revision;                            /* grows with each change; for waiting clients. In memory only */
};

/* What happened to a task, for people. */
enum { TASK_EVENT_MAX_BYTES = TASK_REASON_MAX_BYTES };
struct task_event {
    uint32_t task_id;
    int64_t at_ms; /* wall clock; 0 until it is stored */
    char *text;    /* "running", "failed: out of memory", "GPU 2 …" */
};
struct task_event *task_event_new(uint32_t task_id, const char *text);
void task_event_free(struct task_event *event);
json_t *task_event_to_json(const struct task_event *event);

void task_free(struct task *task);
struct task *task_copy(const struct task *task);
/* The public form. `shown_state` overrides the state's name ("lost"); NULL shows the state itself. */
json_t *task_to_json(const struct task *task, const char *shown_state);

/* What a runner says about one task. Level-triggered: the newest report counts, repeating one changes nothing. */
struct task_report {
    uint32_t task_id;
    int64_t epoch;
    enum task_state state; /* TASK_UNSET: the node knows nothing of this task and runs nothing for it */
    bool has_exit_code;
    int exit_code;
    bool oom;
    char *reason;
    int64_t started_ms, finished_ms;
    bool released;      /* the evidence of R2 is complete: nothing of the task is on its cards */
    struct proof proof; /* with released: what was seen; on every card of the lease */
    char *holding;      /* what is still there when not */
};

void task_report_clear(struct task_report *report);
void task_report_free(struct task_report *report);
json_t *task_report_to_json(const struct task_report *report);
bool task_report_from_json(const json_t *json, struct task_report *ret_report, GError **error);
