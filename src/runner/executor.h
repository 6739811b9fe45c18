#pragma once
/* The tasks of this node, from the lease to the evidence of its release. The executor owns the lease files (the second
 * key of R1) and drives engine and GPU monitor through seams, so that tests and the simulator can stand in for them. It
 * never blocks but for small durable writes of its own state.
 *
 * Every call is idempotent by (task id, epoch). What becomes of a task is told by reports (docs/protocol.md): at each
 * change through `report`, all of it by executor_reports. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/config.h"
#include "model/task.h"

struct executor;
struct engine;
struct gpu_monitor;
struct log_store;

struct executor_deps {
    uv_loop_t *loop;
    const struct config *config; /* runner_config.h */
    struct engine *engine;       /* borrowed, like the rest */
    struct gpu_monitor *gpus;
    struct log_store *logs;
    const char *node_name;
    /* A task's state changed. Borrowed report. Never called from within an executor_* call but executor_start/stop. */
    void (*report)(void *user, const struct task_report *report);
    /* A task ended or its output grew: for those who follow its log. */
    void (*output_changed)(void *user, uint32_t task_id);
    void *user;
};

/* Reads the lease files and restores what they say; executor_reports is complete from then on. Reconciling with the
 * containers that really run begins by itself as soon as the engine answers. NULL with KR_ERROR_IO, KR_ERROR_STORAGE. */
struct executor *executor_new(const struct executor_deps *deps, GError **error);
/* Containers run on. */
void executor_free(struct executor *executor);

/* From welcome; labels containers. Before it, what was stored last. */
void executor_set_cluster(struct executor *executor, const char *cluster_id);

/* Takes spec. The answer is a report. */
void executor_start(struct executor *executor, const struct lease *lease, struct task_spec *spec);
void executor_stop(struct executor *executor, uint32_t task_id, int64_t epoch);
void executor_ack(struct executor *executor, uint32_t task_id, int64_t epoch);

/* Every task with a lease file: its report plus member "lease". New reference to an array. */
json_t *executor_reports(const struct executor *executor);
/* Ids of tasks that have not ended. New reference to an array. */
json_t *executor_running(const struct executor *executor);
/* false once all output of the task is in the log store (also for tasks that are not known here). */
bool executor_output_may_grow(const struct executor *executor, uint32_t task_id);
