#pragma once
/* What the files of the host share. Everything here lives on the loop's thread. */

#include <glib.h>
#include <jansson.h>
#include <uv.h>

#include "core/controller.h"
#include "net/http_server.h"
#include "store/store.h"

struct runner_link;

struct host {
    uv_loop_t loop;
    const struct config *config;
    struct store *store;
    struct controller *controller;
    struct http_server *server;
    char *cluster_id;
    char *join_token_file;
    int lock_fd;
    GHashTable *links;       /* node name -> runner_link, those that said hello */
    GHashTable *all_links;   /* set of runner_link */
    GHashTable *credentials; /* hash -> node name */
    GHashTable *waiters;     /* task id -> GPtrArray of struct waiter (api_task.c) */
    GHashTable *relays;      /* stream id -> log_relay */
    GHashTable *tunnels;     /* stream id -> tunnel_relay */
    uint32_t last_stream;
    struct event_hub *events; /* the live stream; NULL in tests that have none */
    GHashTable *queries;      /* id -> struct query (node_query.c) */
    int64_t last_query;
    uv_timer_t tick, trim;
    uv_signal_t on_term, on_int;
    int exit_code;
};

extern const struct http_route host_routes[];

struct core_time host_now(void);

/* ---- runner_link.c ---- */
/* Sends when the node is connected; takes the reference either way. false: not connected. */
bool host_send(struct host *host, const char *node, json_t *message);
bool host_send_binary(struct host *host, const char *node, const void *bytes, size_t len); /* false: not connected */
void runner_links_close(struct host *host);
void api_runner_join(struct http_exchange *x, void *app);
void api_runner_connect(struct http_exchange *x, void *app);

/* ---- log_relay.c: from a runner's files to HTTP clients ---- */
void api_task_logs(struct http_exchange *x, void *app);
void log_relay_data(struct host *host, const char *node, const void *frame, size_t len);
void log_relay_end(struct host *host, const char *node, const json_t *message);
void log_relay_free(gpointer relay); /* for the table of relays */
/* Cuts every stream that comes from the node; NULL: all. */
void log_relays_cut(struct host *host, const char *node);

/* ---- tunnel_relay.c: a client joined to a socket on a node ---- */
void api_vps_connect(struct http_exchange *x, void *app);
bool tunnel_relay_data(struct host *host, const char *node, const void *frame, size_t len); /* false: no tunnel's */
void tunnel_relay_credit(struct host *host, const char *node, const json_t *message);
void tunnel_relay_end(struct host *host, const char *node, const json_t *message);
void tunnel_relay_free(gpointer relay);                      /* for the table of tunnels */
void tunnel_relays_cut(struct host *host, const char *node); /* NULL: all, at once */

/* ---- api_task.c ---- */
void api_task_submit(struct http_exchange *x, void *app);
void api_task_get(struct http_exchange *x, void *app);
void api_task_events(struct http_exchange *x, void *app);
void api_task_kill(struct http_exchange *x, void *app);
void api_task_pause(struct http_exchange *x, void *app);
void api_task_resume(struct http_exchange *x, void *app);
/* Its name, or its command. Borrowed. */
const char *api_task_label(const struct task *task);
/* A task as it is shown to people. New reference. */
json_t *api_task_shown(const struct host *host, const struct task *task);
/* What lists need of it; the command in at most TASK_SHORT_COMMAND_BYTES. New reference. */
enum { TASK_SHORT_COMMAND_BYTES = 200 };
json_t *api_task_short(const struct host *host, const struct task *task);
/* The core's word that a task came, changed or left memory. */
void host_task_changed(struct host *host, const struct task *task, bool is_gone);
void host_waiters_drop(struct host *host);
/* The id that is parameter `at` of the path; KR_ERROR_BAD_REQUEST when it is none. */
bool api_task_id(const struct http_exchange *x, size_t at, uint32_t *ret_id, GError **error);

/* ---- api_task_list.c ---- */
void api_task_list(struct http_exchange *x, void *app);

/* ---- api_node.c ---- */
void api_node_list(struct http_exchange *x, void *app);
void api_node_get(struct http_exchange *x, void *app);
void api_node_qemu(struct http_exchange *x, void *app);
void api_node_doctor(struct http_exchange *x, void *app);
void api_node_topology(struct http_exchange *x, void *app);
void api_node_runner(struct http_exchange *x, void *app);
/* A node as the list shows it; gpus: its cards as they are shown. New reference. */
json_t *api_node_row(const struct host *host, const struct cluster_node *node, const json_t *gpus);

/* ---- api_vps.c ---- */
void api_vps_create(struct http_exchange *x, void *app);
void api_vps_list(struct http_exchange *x, void *app);
void api_vps_get(struct http_exchange *x, void *app);
void api_vps_start(struct http_exchange *x, void *app);
void api_vps_stop(struct http_exchange *x, void *app);
void api_vps_pause(struct http_exchange *x, void *app);
void api_vps_resume(struct http_exchange *x, void *app);
void api_vps_delete(struct http_exchange *x, void *app);

/* One machine as it is shown, NULL when it is gone. Calls back once, possibly before this returns: its newest task may be in the
 * store only. error: that could not be read. json is the callee's. */
typedef void api_vps_look_cb(void *user, uint32_t id, json_t *json, const GError *error);
void api_vps_look(struct host *host, uint32_t id, api_vps_look_cb *on_done, void *user);

/* ---- api_gpu.c ---- */
void api_gpu_list(struct http_exchange *x, void *app);
void api_gpu_processes(struct http_exchange *x, void *app);
/* A node's cards as they are shown to people. New reference. */
json_t *api_gpus_shown(const struct host *host, const struct cluster_node *node);
/* The same as the list of all cards has them: each with its node. New reference. */
json_t *api_gpu_rows(const struct host *host, const struct cluster_node *node);
/* The card that the path names, NODE and INDEX. Borrowed; NULL with KR_ERROR_NOT_FOUND or _BAD_REQUEST. */
const struct gpu *api_path_gpu(const struct host *host, const struct http_exchange *x, GError **error);
/* ---- api_history.c ---- */
void api_gpu_history(struct http_exchange *x, void *app);

/* ---- api_operator.c ---- */
void api_task_release(struct http_exchange *x, void *app);
void api_orphan_kill(struct http_exchange *x, void *app);
void api_orphan_release(struct http_exchange *x, void *app);
void api_node_cordon(struct http_exchange *x, void *app);
void api_node_drain(struct http_exchange *x, void *app);
void api_node_uncordon(struct http_exchange *x, void *app);
void api_gpu_cordon(struct http_exchange *x, void *app);
void api_gpu_uncordon(struct http_exchange *x, void *app);
void api_audit_list(struct http_exchange *x, void *app);

/* ---- openapi.c ---- */
void api_openapi(struct http_exchange *x, void *app);
void api_version(struct http_exchange *x, void *app);
/* The document, made from a route table and the schemas. New reference. */
json_t *openapi_document(const struct http_route *routes);
