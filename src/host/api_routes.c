/* The API, row by row. To add a call: a row here, its handler in api_<resource>.c, its schemas in openapi_schemas.json,
 * its line in docs/api.md. */

#include "host/event_hub.h"
#include "host/host_internal.h"
#include "host/metrics.h"

enum { SMALL_BODY = 4096, SUBMIT_BODY = 1024 * 1024, VPS_BODY = 1024 * 1024 };

static const struct http_param list_query[] = {
    {"status", "string", "only tasks shown with one of these states (a,b), or live: those that hold a lease"},
    {"node", "string", "only tasks of this node"},
    {"owner", "string", "only tasks of this owner"},
    {"gpu", "string", "only tasks that were ever granted the GPU of this UUID"},
    {"q", "string", "only tasks with this in their name, command or id; capitals do not matter"},
    {"limit", "integer", "at most that many, 1 to 1000 (100)"},
    {"before", "integer", "only ids below this one: the next page"},
    {"count", "integer", "1: how many there are on all pages, too"},
    {0},
};
static const struct http_param get_query[] = {
    {"revision", "integer", "wait until the task's revision differs from this one"},
    {"wait_ms", "integer", "wait at most that long, 0 to 60000"},
    {0},
};
static const struct http_param logs_query[] = {
    {"stream", "string", "stdout (default) or stderr"},
    {"follow", "integer", "1: go on until the task ends"},
    {"offset", "integer", "skip that many bytes"},
    {0},
};

static const struct http_param history_query[] = {
    {"span", "string", "10m (default, a value per second), 24h (per minute) or 30d (per 15 minutes)"},
    {0},
};
static const struct http_param audit_query[] = {
    {"subject", "string", "only orders about this, such as \"node mynode\" or \"GPU 3 of node mynode\""},
    {"limit", "integer", "at most that many, 1 to 1000 (100)"},
    {"before", "integer", "only ids below this one: the next page"},
    {0},
};

static const struct http_param events_query[] = {
    {"last_event_id", "string", "go on after this event; the header Last-Event-ID counts more"},
    {0},
};

static const struct http_param connect_query[] = {
    {"to", "string", "ssh (default) or console"},
    {0},
};

const struct http_route host_routes[] = {
    {"GET", "/api/v1/version", "getVersion", "Version of the host and id of the cluster", NULL, NULL, "Version", 200, 0,
     api_version},
    {"GET", "/api/v1/openapi.json", "getOpenApi", "This document", NULL, NULL, "OpenApi", 200, 0, api_openapi},
    {"GET", "/api/v1/events", "streamEvents", "What happens in the cluster, live (docs/api.md)", events_query, NULL,
     NULL, 200, 0, api_events},
    {"POST", "/api/v1/tasks", "submitTasks", "Submit one task per target, all or none", NULL, "Submission", "Submitted",
     201, SUBMIT_BODY, api_task_submit},
    {"GET", "/api/v1/tasks", "listTasks", "Tasks, newest first", list_query, NULL, "TaskList", 200, 0, api_task_list},
    {"GET", "/api/v1/tasks/{id}", "getTask", "One task; can wait for a change", get_query, NULL, "Task", 200, 0,
     api_task_get},
    {"GET", "/api/v1/tasks/{id}/events", "getTaskEvents", "What happened to a task, oldest first", NULL, NULL,
     "TaskEvents", 200, 0, api_task_events},
    {"POST", "/api/v1/tasks/{id}/kill", "killTask", "Ask a task to end", NULL, "Empty", "Task", 202, SMALL_BODY,
     api_task_kill},
    {"POST", "/api/v1/tasks/{id}/pause", "pauseTask", "Freeze a task; it keeps its GPUs", NULL, "Empty", "Task", 202,
     SMALL_BODY, api_task_pause},
    {"POST", "/api/v1/tasks/{id}/resume", "resumeTask", "Let a paused task go on", NULL, "Empty", "Task", 202,
     SMALL_BODY, api_task_resume},
    {"POST", "/api/v1/tasks/{id}/release", "releaseTask", "Give a lease up without proof (operators)", NULL, "Order",
     "Task", 202, SMALL_BODY, api_task_release},
    {"GET", "/api/v1/tasks/{id}/logs", "getTaskLogs", "The bytes of stdout or stderr", logs_query, NULL, NULL, 200, 0,
     api_task_logs},
    {"GET", "/api/v1/nodes", "listNodes", "Nodes with totals", NULL, NULL, "NodeList", 200, 0, api_node_list},
    {"GET", "/api/v1/nodes/{name}", "getNode", "One node with its GPUs and who holds them", NULL, NULL, "Node", 200, 0,
     api_node_get},
    {"GET", "/api/v1/gpus", "listGpus", "Every GPU of the cluster and who holds it", NULL, NULL, "GpuList", 200, 0,
     api_gpu_list},
    {"GET", "/api/v1/nodes/{name}/gpus/{index}/processes", "listGpuProcesses", "Who is on a GPU, looked at afresh",
     NULL, NULL, "GpuProcesses", 200, 0, api_gpu_processes},
    {"GET", "/api/v1/nodes/{name}/topology", "getNodeTopology", "How a node's GPUs are joined", NULL, NULL, "Topology",
     200, 0, api_node_topology},
    {"GET", "/api/v1/nodes/{name}/qemu", "checkNodeQemu", "Can the node run machines, and which GPUs can they get",
     NULL, NULL, "QemuCheck", 200, 0, api_node_qemu},
    {"GET", "/api/v1/nodes/{name}/doctor", "getNodeDoctor", "What `kohakuriver doctor` says on the node, run afresh",
     NULL, NULL, "Doctor", 200, 0, api_node_doctor},
    {"GET", "/api/v1/nodes/{name}/runner", "getNodeRunner", "The node's runner about itself", NULL, NULL, "Runner", 200,
     0, api_node_runner},
    {"GET", "/api/v1/nodes/{name}/gpus/{index}/history", "getGpuHistory", "What a GPU did", history_query, NULL,
     "GpuHistory", 200, 0, api_gpu_history},
    {"POST", "/api/v1/nodes/{name}/cordon", "cordonNode", "No new tasks for a node", NULL, "Order", "Empty", 200,
     SMALL_BODY, api_node_cordon},
    {"POST", "/api/v1/nodes/{name}/drain", "drainNode", "No new tasks, it is to become empty", NULL, "Order", "Empty",
     200, SMALL_BODY, api_node_drain},
    {"POST", "/api/v1/nodes/{name}/uncordon", "uncordonNode", "Take cordon or drain back", NULL, "Order", "Empty", 200,
     SMALL_BODY, api_node_uncordon},
    {"POST", "/api/v1/nodes/{name}/gpus/{index}/cordon", "cordonGpu", "No new tasks for a GPU", NULL, "Order", "Empty",
     200, SMALL_BODY, api_gpu_cordon},
    {"POST", "/api/v1/nodes/{name}/gpus/{index}/uncordon", "uncordonGpu", "Take it back", NULL, "Order", "Empty", 200,
     SMALL_BODY, api_gpu_uncordon},
    {"POST", "/api/v1/nodes/{name}/orphans/{id}/kill", "killOrphan", "End what only the node knows of", NULL, "Order",
     "Empty", 200, SMALL_BODY, api_orphan_kill},
    {"POST", "/api/v1/nodes/{name}/orphans/{id}/release", "releaseOrphan", "Give its lease up without proof", NULL,
     "Order", "Empty", 200, SMALL_BODY, api_orphan_release},
    {"POST", "/api/v1/vps", "createVps", "Make a virtual machine and start it", NULL, "VpsCreation", "Vps", 201,
     VPS_BODY, api_vps_create},
    {"GET", "/api/v1/vps", "listVps", "Virtual machines, oldest first", NULL, NULL, "VpsList", 200, 0, api_vps_list},
    {"GET", "/api/v1/vps/{id}", "getVps", "One virtual machine", NULL, NULL, "Vps", 200, 0, api_vps_get},
    {"GET", "/api/v1/vps/{id}/connect", "connectVps", "WebSocket to its SSH port or its console (docs/protocol.md)",
     connect_query, NULL, NULL, 101, 0, api_vps_connect},
    {"POST", "/api/v1/vps/{id}/start", "startVps", "Start one that is off; asks for its GPUs anew", NULL, "Empty",
     "Vps", 202, SMALL_BODY, api_vps_start},
    {"POST", "/api/v1/vps/{id}/stop", "stopVps", "Ask its guest to power off; it gives its GPUs back", NULL, "Empty",
     "Vps", 202, SMALL_BODY, api_vps_stop},
    {"POST", "/api/v1/vps/{id}/pause", "pauseVps", "Stop its processors; it keeps its GPUs", NULL, "Empty", "Vps", 202,
     SMALL_BODY, api_vps_pause},
    {"POST", "/api/v1/vps/{id}/resume", "resumeVps", "Let a paused one go on", NULL, "Empty", "Vps", 202, SMALL_BODY,
     api_vps_resume},
    {"POST", "/api/v1/vps/{id}/delete", "deleteVps", "Delete one that is off, with its disk", NULL, "Empty", "Empty",
     200, SMALL_BODY, api_vps_delete},
    {"GET", "/metrics", "getMetrics", "The cluster in Prometheus' text format", NULL, NULL, NULL, 200, 0, api_metrics},
    {"GET", "/api/v1/audit", "listAudit", "What operators ordered, newest first", audit_query, NULL, "AuditList", 200,
     0, api_audit_list},
    {"POST", "/api/v1/runners/join", "joinRunner", "A runner trades the join token for its own credential", NULL,
     "Join", "Joined", 201, SMALL_BODY, api_runner_join},
    {"GET", "/api/v1/runners/connect", "connectRunner", "WebSocket between host and runner (docs/protocol.md)", NULL,
     NULL, NULL, 101, 0, api_runner_connect},
    {0},
};
