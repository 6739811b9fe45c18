#pragma once
/* Shared by executor.c (the registry, the host's words, recovery), execution.c (a task's way to running) and
 * execution_end.c (its way to a proven release).
 *
 *   HELD -> STOCK -+-> CHECKING -> CREATING -> PULLING -> CHECKING
 *    (recovery)    |       |          |
 *                  |       +-----> STARTING -> VERIFYING -> RUNNING
 *                  |                            |            |
 *                  +----------------------------+-> ENDING -> OUTPUT -> SAVING -> REMOVING -> EVIDENCE -> DONE
 *
 * STARTING follows CHECKING at once when the container is there already, and no start follows a look at the cards that lies
 * a pull or a life of the runner back. STOCK asks the engine what is there and goes to the phase that fits; it is also the way out of every doubt (a start whose
 * answer was lost). Whoever cannot go on goes to SAVING with a reason. A phase that finds the engine away is begun
 * again after retry_ms. */

#include "runner/executor.h"
#include "runner/lease_files.h"
#include "runner/log_store.h"

enum exec_phase {
    EXEC_HELD = 1, /* restored or new; waits until recovery has seen the engine */
    EXEC_STOCK,
    EXEC_CHECKING,
    EXEC_CREATING,
    EXEC_PULLING,
    EXEC_STARTING,
    EXEC_VERIFYING,
    EXEC_RUNNING,
    EXEC_ENDING,
    EXEC_OUTPUT,
    EXEC_SAVING,
    EXEC_REMOVING,
    EXEC_EVIDENCE,
    EXEC_DONE,
    EXEC_PHASE_COUNT_
};

struct execution {
    struct executor *executor;
    struct lease_file file;
    enum exec_phase phase;
    struct engine_call *step; /* of the present phase; gone with it */
    struct gpu_check_call *check;
    uv_timer_t step_timer; /* the same */
    /* beside the phases, from the start to the end of the container */
    struct engine_call *wait, *logs, *signal, *pausing;
    uv_timer_t attach_timer, kill_timer, pause_timer;
    int open_handles;
    struct log_writer *log;
    bool is_output_done;
    bool is_last_reading;    /* the container has ended: what is read now is all there will be */
    bool is_rereading;       /* the last reading broke off: what comes first now came before */
    int64_t output_position; /* how far the last reading has come */
    int output_tries;        /* readings of the rest that came to nothing while the engine was there */
    int log_refusals;        /* the same of a reading that the engine ended with an error */
    char *output_lost;       /* why the end of the output is missing */
    bool is_paused;          /* as the engine said last */
    bool is_pausing;         /* what `pausing` asks for */
    pid_t pid;               /* of the container's first process, 0: not seen */
    char *survivors;         /* who is still there after SIGKILL */
    int signum;              /* last sent, 0: none */
    int oom_looks;           /* how often the engine was asked again whether memory was the cause */
    char *failure;           /* found out before the end: the reason, whatever the exit code says */
    char *create_error, *start_error;
    bool was_pulled;
    bool is_machine;         /* its engine is executor.machines */
    bool is_created;         /* the last look showed a container that waits for its start */
    bool may_have_container; /* the engine was asked to make one, or has shown us one */
    int64_t verify_by_ms;    /* monotonic; 0: not begun */
    /* the way out */
    int64_t drain_by_ms;   /* monotonic */
    bool is_save_failing;  /* and was logged */
    bool is_overdue;       /* the end was reported before the release could be proved */
    bool is_acked;         /* by the host; only its lease file could not be removed yet */
    bool is_forget_wanted; /* by an operator */
    char *holding;         /* what stands against the release */
};

/* What one engine has, compared with the leases. Until that is done nothing of its kind is started or concluded. */
struct recovery {
    struct executor *executor;
    struct engine **engine;
    struct engine_call *call;
    uv_timer_t timer; /* to the next try */
    bool is_done;
};

struct executor {
    uv_loop_t *loop;
    struct executor_config config; /* strings owned */
    char **allowed_mounts;
    char *cluster_id;
    char *dev_root;
    struct engine *engine;
    struct engine *machines; /* runs what has a vm part; NULL: nothing does */
    struct executor_gpus gpus;
    const struct node_facts *facts;
    struct lease_files *leases;
    struct log_store *logs;
    struct executor_handlers handlers;
    void *user;
    GHashTable *executions;        /* task id -> struct execution */
    struct recovery recoveries[2]; /* of containers, of machines: by execution.is_machine */
    GHashTable
        *unfenced; /* task id -> int64_t*, the epoch: stops that wait for an answer until it can be given for good */
    uv_timer_t fence_timer;
    int open_handles;
    bool is_disk_suspect;
};

/* execution.c */
struct execution *execution_new(struct executor *executor, struct lease_file *file); /* takes over *file's contents */
void execution_free(struct execution *ex);
void execution_enter(struct execution *ex, enum exec_phase phase);
void execution_retry(struct execution *ex, enum exec_phase phase, int64_t delay_ms);
void execution_stop(struct execution *ex);
/* Its process is ended and the task fails with that reason. */
void execution_fail(struct execution *ex, const char *reason);
/* The end of it is known and there may be output to read: to OUTPUT, else like execution_give_up. */
void execution_conclude(struct execution *ex, enum task_state state, const char *reason);
bool execution_is_of_old_boot(const struct execution *ex);
/* The container's name at the engine. Caller frees. */
char *execution_name(const struct execution *ex);
/* Ends it with this state and reason (NULL: none); what remains is removed and proved gone. Takes over nothing. */
void execution_give_up(struct execution *ex, enum task_state state, const char *reason);
bool execution_save(struct execution *ex, GError **error);
void execution_report(struct execution *ex);
void execution_fill_report(const struct execution *ex, struct task_report *ret_report); /* strings are copies */
void execution_attach(struct execution *ex);
struct engine *execution_engine(const struct execution *ex);

/* executor.c */
/* Forgets the lease as an operator wishes, when no container is left; false: not yet. */
bool executor_forget_now(struct execution *ex);

/* execution_verify.c */
void execution_begin_verifying(struct execution *ex);

/* execution_pause.c */
void execution_pause(struct execution *ex, bool is_pause);
void execution_sync_pause(struct execution *ex); /* in RUNNING: freezes or thaws it when that is due */

/* execution_end.c */
void execution_begin_ending(struct execution *ex);
void execution_begin_output(struct execution *ex);
void execution_output_grew(struct execution *ex);
void execution_begin_saving(struct execution *ex);
void execution_begin_removing(struct execution *ex);
void execution_begin_evidence(struct execution *ex);
void execution_begin_done(struct execution *ex);
void execution_vanished(struct execution *ex);

/* container_config.c: what the engine is asked for. */
struct container_plan {
    struct engine_config config;
    GPtrArray *strings; /* everything config points to that was made for it */
    GArray *mounts, *devices, *groups;
};
/* false with KR_ERROR_REFUSED: the node does not allow it. */
bool container_plan_make(const struct execution *ex, struct container_plan *ret_plan, GError **error);
void container_plan_clear(struct container_plan *plan);
/* The leased card's device nodes, NULL for NVIDIA's. Caller g_strfreev. */
char **container_nodes_of(const struct execution *ex, size_t i);
/* "INDEX=UUID,…" and back, for ENGINE_LABEL_GPUS. */
char *container_gpus_to_label(const struct lease *lease);
bool container_gpus_from_label(const char *label, struct lease *lease);
