#include "runner/node_queries.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "model/wire.h"
#include "runner/runner_internal.h"
#include "vfio/vfio_child.h"

enum { LOOK_DEADLINE_MS = 12000, LOOK_GRACE_MS = 500 };

struct node_query {
    struct runner *runner;
    int64_t id;
    void *call;                 /* of what goes on meanwhile */
    void (*cancel)(void *call); /* ends it without a callback; NULL: nothing goes on */
};

/* ---- answering; each ends the query ---- */

static void send_answer(struct node_query *query, json_t *message) {
    json_object_set_new(message, "type", json_string(WIRE_ANSWER));
    json_object_set_new(message, "id", json_integer(query->id));
    link_send_json(query->runner->link, message);
    g_hash_table_remove(query->runner->queries, query);
    g_free(query);
}

static void answer(struct node_query *query, json_t *body) { send_answer(query, json_pack("{s:o}", "body", body)); }

static void answer_error(struct node_query *query, const GError *error) {
    send_answer(query, json_pack("{s:s,s:s}", "error", error->message, "code", kr_error_name(error)));
}

/* ---- the questions ---- */

static void cancel_gpu_query(void *call) { gpu_query_cancel(call); }

static int64_t resident_bytes(void) {
    g_autofree char *text = NULL;
    const char *second;

    if (!fs_read_file("/proc/self/statm", 256, &text, NULL, NULL) || !(second = strchr(text, ' ')))
        return 0;
    return g_ascii_strtoll(second + 1, NULL, 10) * sysconf(_SC_PAGESIZE);
}

/* The GPU monitor's answer is on its way; a connection that is lost ends the question. */
static void wait_for(struct node_query *query, struct gpu_query *call) {
    query->call = call;
    query->cancel = cancel_gpu_query;
}

static void on_costs(void *user, json_t *costs, const char *why) {
    struct node_query *query = user;
    const struct runner *runner = query->runner;
    json_t *body = json_pack("{s:i,s:s,s:I,s:I,s:I}", "pid", (int)getpid(), "version", KR_VERSION, "started_ms",
                             (json_int_t)runner->started_ms, "resident_bytes", (json_int_t)resident_bytes(),
                             "heartbeat_ms", (json_int_t)runner->heartbeat_ms);

    if (costs)
        json_object_set(body, "gpu_calls", costs);
    else
        json_object_set_new(body, "gpu_calls_error", json_string(why));
    answer(query, body);
}

/* The runner about itself, and what the calls of the GPU library cost: for `node status --verbose`. */
static void ask_runner(struct node_query *query, const json_t *args) {
    (void)args;
    wait_for(query, gpu_monitor_costs(query->runner->monitor, on_costs, query));
}

/* Whose container a process is in: ours, by lease, or nobody's. */
static void name_leases(const struct runner *runner, json_t *processes) {
    json_t *process;
    size_t i;

    json_array_foreach (processes, i, process) {
        const char *container = json_string_value(json_object_get(process, "container"));
        const struct lease *lease = container ? executor_lease_of(runner->executor, container) : NULL;

        if (lease)
            json_object_set_new(process, "task_id", json_integer(lease->task_id));
    }
}

static void on_processes(void *user, json_t *processes, const char *why) {
    struct node_query *query = user;
    json_t *body = json_pack("{s:o}", "processes", processes ? json_deep_copy(processes) : json_array());

    if (why)
        json_object_set_new(body, "incomplete", json_string(why));
    name_leases(query->runner, json_object_get(body, "processes"));
    answer(query, body);
}

static void ask_processes(struct node_query *query, const json_t *args) {
    const char *uuid = json_string_value(json_object_get(args, "uuid"));
    g_autoptr(GError) error = NULL;

    if (uuid) {
        wait_for(query, gpu_monitor_users(query->runner->monitor, uuid, on_processes, query));
        return;
    }
    kr_fail(&error, BAD_REQUEST, "the question for processes names no GPU");
    answer_error(query, error);
}

static void ask_topology(struct node_query *query, const json_t *args) {
    (void)args;
    answer(query, gpu_monitor_topology(query->runner->monitor));
}

/* What a card did: for the dashboard. */
static void ask_history(struct node_query *query, const json_t *args) {
    g_autoptr(GError) error = NULL;
    struct json_reader r = jr_init(args, "history", &error);
    const char *uuid = jr_str(&r, "uuid", GPU_UUID_MAX_BYTES), *span = jr_str(&r, "span", 16);
    json_t *body = jr_done(&r) ? gpu_history_to_json(query->runner->history, uuid, span, clock_wall_ms(), &error)
                               : NULL;

    if (body)
        answer(query, body);
    else
        answer_error(query, error);
}

/* ---- looks at the machine, which may hang: in a child, whose JSON is the answer ---- */

static void forget_child(void *call) { vfio_child_forget(call); }

static void on_child_done(void *user, const struct vfio_child_result *result) {
    struct node_query *query = user;
    g_autoptr(GError) error = NULL;
    json_t *body = NULL;

    if (result->end == VFIO_CHILD_EXITED)
        body = jsonx_parse(result->output, result->len, &error);
    else
        kr_fail(&error, TIMEOUT, "its look at the machine does not return");
    g_prefix_error(&error, "%s", result->end == VFIO_CHILD_EXITED ? "its look at the machine failed: " : "");
    vfio_child_forget(query->call);
    if (body)
        answer(query, body);
    else
        answer_error(query, error);
}

static void look(struct node_query *query, const char *const *argv) {
    struct vfio_child_config child = {
        .argv = argv, .deadline_ms = LOOK_DEADLINE_MS, .grace_ms = LOOK_GRACE_MS, .lock_fd = -1};

    query->call = vfio_child_start(&query->runner->loop, &child, on_child_done, query);
    query->cancel = forget_child;
}

/* The disk of a machine that its owner deletes. */
static void ask_vps_delete(struct node_query *query, const json_t *args) {
    g_autoptr(GError) error = NULL;
    struct json_reader r = jr_init(args, "vps_delete", &error);
    uint32_t vps_id = (uint32_t)jr_int(&r, "vps_id", 1, G_MAXUINT32);

    if (jr_done(&r) && machines_delete_disk(query->runner->machines, vps_id, &error))
        answer(query, json_object());
    else
        answer_error(query, error);
}

/* It tries a guest. */
static void ask_qemu_check(struct node_query *query, const json_t *args) {
    const struct config *config = query->runner->config;
    const char *argv[] = {
        "/proc/self/exe", "vfio-step", "check", config_str(config, "sysfs_root"), config_str(config, "vm_accel"), NULL};

    (void)args;
    look(query, argv);
}

/* What it finds wrong is in what it prints, also when its exit status says that there is something. */
static void ask_doctor(struct node_query *query, const json_t *args) {
    static const char *const argv[] = {"/proc/self/exe", "doctor", "--format", "json", NULL};

    (void)args;
    look(query, argv);
}

static const struct {
    const char *what;
    void (*ask)(struct node_query *query, const json_t *args);
} questions[] = {
    {"processes", ask_processes},   {"runner", ask_runner},   {"topology", ask_topology},
    {"vps_delete", ask_vps_delete}, {"history", ask_history}, {"qemu_check", ask_qemu_check},
    {"doctor", ask_doctor},
};

bool node_queries_take(struct runner *runner, const json_t *message, GError **error) {
    struct json_reader r = jr_init(message, "query", error);
    int64_t id = jr_int(&r, "id", 1, G_MAXINT64);
    const char *what = jr_str(&r, "what", 32);
    const json_t *args = jr_object(&r, "args", 32);
    g_autoptr(GError) unknown = NULL;
    struct node_query *query;

    if (!jr_done(&r))
        return false;
    query = g_new0(struct node_query, 1);
    *query = (struct node_query){.runner = runner, .id = id};
    g_hash_table_add(runner->queries, query);
    for (size_t i = 0; i < G_N_ELEMENTS(questions); i++)
        if (strcmp(questions[i].what, what) == 0) {
            questions[i].ask(query, args);
            return true;
        }
    kr_fail(&unknown, NOT_FOUND, "the runner %s knows no question \"%s\": install the host's version on it", KR_VERSION,
            what);
    answer_error(query, unknown);
    return true;
}

void node_queries_drop(struct runner *runner) {
    GHashTableIter iter;
    gpointer query;

    g_hash_table_iter_init(&iter, runner->queries);
    while (g_hash_table_iter_next(&iter, &query, NULL)) {
        const struct node_query *one = query;

        if (one->cancel)
            one->cancel(one->call);
        g_free(query);
    }
    g_hash_table_remove_all(runner->queries);
}
