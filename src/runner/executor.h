#pragma once
/* Runs this node's tasks: from a lease to its proven release. Decide, record, act (R5): the lease file is durable before
 * anything happens, the result is durable before the container is removed, and both are there until the host has
 * acknowledged. Every step may be repeated after a crash; docs/protocol.md says what the host sees of it.
 * While the engine is away nothing is concluded about any task. All calls are made on the loop's thread. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "engine/engine.h"
#include "gpu/gpu_monitor.h"
#include "model/lease.h"
#include "model/task.h"

struct executor;
struct lease_files;
struct log_store;
struct node_facts;

/* The settings that matter here; strings and lists are copied. */
struct executor_config {
    const char *node;
    const char *dev_root;      /* the folder that holds this machine's dev/; NULL: / */
    const char *boot_id;       /* of this boot; NULL or "": not known, leases of any boot are taken */
    int64_t boot_ms;           /* wall clock when it began, 0: not known */
    const char *cluster_id;    /* "" before the node has ever joined */
    const char *default_image; /* "": tasks must name one */
    const char *network;
    const char *working_dir; /* "": the image's */
    char *const *allowed_mounts;
    bool may_pull;
    enum engine_injection injection;
    int64_t shm_bytes, memlock, log_max_bytes;
    int64_t stop_grace_ms, drain_timeout_ms;
    int64_t machine_grace_ms;  /* the same as stop_grace_ms for machines, whose guests power off; 0: 60 s */
    int64_t output_timeout_ms; /* how long the rest of an ended task's output may make no progress; 0: 20 s */
    int evidence_samples;      /* looks in a row that must find the cards free before they are released; 0: 1 */
    int64_t retry_ms;          /* between two attempts while the engine is away, or a disk is full; 0: 1 s */
};

/* What the executor needs to know of GPUs: the monitor, or a stand-in in tests. */
struct executor_gpus {
    struct gpu_check_call *(*check)(void *user, const char *const *uuids, size_t n, gpu_check_cb *on_done, void *arg);
    void (*check_cancel)(struct gpu_check_call *call);
    void (*set_leased)(void *user, const char *uuid, bool leased);
    bool (*minor_of)(void *user, const char *uuid, int *ret_minor); /* false: not known */
    bool (*minors_visible)(pid_t pid, GArray **ret_minors, GError **error);
    /* where the card sits; borrowed until the loop goes on. NULL: not known. The member may be NULL: no machines */
    const char *(*pci_of)(void *user, const char *uuid);
    /* The device nodes that a container needs for a card (caller g_strfreev). NULL: the engine is asked for this card, it is
     * NVIDIA's; empty: it is not, and its nodes are not known. May be NULL: all cards are NVIDIA's. */
    char **(*nodes_of)(void *user, const char *uuid);
    /* The render nodes that a process sees, but those of NVIDIA's cards: of dev_t, ascending. Set when nodes_of is. */
    bool (*renders_visible)(void *user, pid_t pid, GArray **ret_renders, GError **error);
    void *user;
};

struct executor_handlers {
    void (*on_report)(void *user, const struct task_report *report); /* borrowed; tell the host if it listens */
    void (*on_output)(void *user, uint32_t task_id);                 /* its log files grew or are complete */
    void (*on_truth)(void *user); /* recovery found tasks that no hello has named yet; may be NULL */
};

/* Everything given outlives the executor. Reads nothing yet. */
struct executor *executor_new(uv_loop_t *loop, const struct executor_config *config, struct engine *engine,
                              const struct executor_gpus *gpus, const struct node_facts *facts,
                              struct lease_files *leases, struct log_store *logs,
                              const struct executor_handlers *handlers, void *user);
/* Stops looking; tasks run on. The loop must run once more. */
void executor_free(struct executor *executor);

/* Tasks with a vm part run on this engine, and are refused without one. Before executor_restore. */
void executor_set_machines(struct executor *executor, struct engine *machines);

/* Recovery, in two verbs: what was recorded, then what really runs. restore is called once, first. */
bool executor_restore(struct executor *executor, GError **error);
/* Until the engine has answered once, nothing is started and nothing concluded. */
void executor_reconcile(struct executor *executor);

void executor_set_cluster(struct executor *executor, const char *cluster_id);
void executor_set_injection(struct executor *executor, enum engine_injection injection);

/* The host's words. Each is idempotent by (task id, epoch) and answered by reports. */
void executor_start(struct executor *executor, const struct lease *lease, const struct task_spec *spec);
void executor_stop(struct executor *executor, uint32_t task_id, int64_t epoch);
/* The processes are frozen and keep their GPUs (K1); the wish stands until it is taken back. */
void executor_pause(struct executor *executor, uint32_t task_id, int64_t epoch, bool is_pause);
/* An operator gives the lease up: it is forgotten without proof as soon as no container of it is left. */
void executor_forget(struct executor *executor, uint32_t task_id, int64_t epoch);
void executor_ack(struct executor *executor, uint32_t task_id, int64_t epoch);

/* One report for each lease on this node, for hello; the array owns them. */
GPtrArray *executor_reports(const struct executor *executor);
/* The same as JSON, each with its lease: "tasks" of hello. New reference. */
json_t *executor_truth_to_json(const struct executor *executor);
/* May output of this task still come? */
bool executor_has_output_coming(const struct executor *executor, uint32_t task_id);
/* Whose container is that (the engine's id)? Of a lease on this node; NULL: none of ours. Borrowed. */
const struct lease *executor_lease_of(const struct executor *executor, const char *container);
/* The engine's id of the machine of that task; NULL: none is made. Borrowed. */
const char *executor_machine_of(const struct executor *executor, uint32_t task_id);
/* Calls for each machine that runs, in the order of their tasks' numbers: the engine's id of it. */
void executor_each_machine(const struct executor *executor,
                           void (*visit)(void *user, uint32_t task_id, const char *container), void *user);
/* Ends a running machine: its task fails for that reason. Nothing when it runs no more. */
void executor_fail_machine(struct executor *executor, uint32_t task_id, const char *reason);
int executor_count(const struct executor *executor);
/* True when the last attempt to write a lease file failed: the disk is worth a test. */
bool executor_suspects_disk(const struct executor *executor);
