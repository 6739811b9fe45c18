#pragma once
/* Shared by runner.c (start and end), runner_node.c (what the node says of itself) and runner_messages.c (what the
 * host says). */

#include <uv.h>

#include "engine/engine.h"
#include "gpu/gpu_history.h"
#include "gpu/gpu_monitor.h"
#include "runner/executor.h"
#include "runner/lease_files.h"
#include "runner/link.h"
#include "runner/log_server.h"
#include "runner/log_store.h"
#include "runner/machines.h"
#include "runner/node_facts.h"
#include "runner/node_queries.h"
#include "runner/runner_config.h"

struct sim_world;

struct runner {
    uv_loop_t loop;
    const struct config *config;
    char *node;
    int lock_fd;
    struct node_facts *facts;
    struct gpu_monitor *monitor;
    struct gpu_history *history;
    int64_t history_ms;      /* monotonic: the look at the cards that it has */
    struct sim_world *world; /* only with the simulated engine */
    struct engine *engine;
    struct lease_files *leases;
    struct log_store *logs;
    struct log_server *log_server;
    struct executor *executor;
    struct machines *machines;
    struct tunnels *tunnels;
    struct link *link;
    bool is_link_started;
    uv_signal_t on_term, on_int;
    uv_timer_t heartbeat, first_dial, trim;
    int64_t heartbeat_ms;
    int64_t pruned_ms;   /* monotonic */
    int64_t started_ms;  /* wall clock */
    GHashTable *queries; /* set of struct node_query: asked by the host, not answered yet */
    json_t *told;        /* the node as the host knows it on this connection; NULL: it does not */
    struct engine_call *probe;
    struct engine_facts engine_facts; /* of the last answer; presence 0: none yet */
    enum engine_injection injection;
    bool is_disk_ok;
    char *disk_text;
    bool had_gpu_sample;
    guint gpu_picture; /* a hash of what was last told to the host at once */
    int exit_code;
};

/* runner_node.c */
struct node_info *runner_describe(struct runner *runner);
json_t *runner_hello(void *user);
void runner_probe(struct runner *runner);
void runner_beat(struct runner *runner);
void runner_on_gpus(void *user);
void runner_on_machines(struct runner *runner); /* whether machines can be run is known, or is another answer now */
/* Dials once there is something to say: engine and cards have been looked at. */
void runner_dial_when_ready(struct runner *runner);

/* runner_messages.c */
void runner_on_message(void *user, const char *type, const json_t *message);
void runner_on_report(void *user, const struct task_report *report);
extern const struct log_server_ops runner_log_ops;
