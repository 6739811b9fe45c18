/* The worker process: one request line in, one answer line out, until stdin ends. It alone touches sysfs and the GPU
 * libraries. What the answers look like is told in gpu_report.h; the parent kills this process when one is late. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "gpu/gpu_backend.h"
#include "gpu/gpu_monitor.h"
#include "gpu/gpu_procs.h"

enum { MAX_USERS_TOLD = 32, TRIM_FIRST = 5, TRIM_EVERY = 100 }; /* in requests served */

struct question {            /* a request, decoded; borrowed from its JSON */
    const json_t *uuids;     /* NULL: all cards */
    const json_t *leave_out; /* PCI addresses of cards not to be touched; may be NULL */
    bool with_users;
};

struct worker {
    const struct gpu_backend_ops *ops;
    struct gpu_backend *backend;
    bool is_fake_root;
    GHashTable *uuids; /* PCI address -> UUID last read there: a check touches only the cards asked about (L57) */
};

/* What one answer says of one card. */
struct look {
    struct gpu_pci_card pci;
    struct gpu *gpu;
    GArray *pids; /* of pid_t; NULL: not asked */
    char *error;  /* why pids are not complete */
};

static void look_free(struct look *look) {
    gpu_free(look->gpu);
    if (look->pids)
        g_array_unref(look->pids);
    g_free(look->error);
    g_free(look);
}

static struct look *look_new(const struct gpu_pci_card *pci) {
    struct look *look = g_new0(struct look, 1);

    look->pci = *pci;
    look->gpu = gpu_new();
    g_strlcpy(look->gpu->pci, pci->address, sizeof look->gpu->pci);
    if (pci->numa_node >= 0)
        gpu_set(look->gpu, GPU_NUMA, pci->numa_node);
    return look;
}

/* Tells the parent which card is touched now: should that call never return, this one card is to blame (L57). */
static void say_at(const struct look *look) {
    printf("{\"at\":\"%s\"}\n", look->pci.address);
    fflush(stdout);
}

/* The card as far as it can be known; a driver that is not the vendor's own keeps the library away from it. */
static void look_at(struct worker *worker, struct look *look, enum gpu_backend_state state, const char *text) {
    struct gpu *gpu = look->gpu;

    gpu->condition = GPU_CONDITION_UNKNOWN;
    if (strcmp(look->pci.driver, "vfio-pci") == 0) {
        gpu->condition = GPU_CONDITION_VFIO;
        gpu->reason = g_strdup("bound to vfio-pci");
    } else if (look->pci.driver[0] && strcmp(look->pci.driver, worker->ops->kernel_driver) != 0) {
        gpu->reason = g_strdup_printf("bound to the driver %s, not to %s", look->pci.driver,
                                      worker->ops->kernel_driver);
    } else if (!look->pci.driver[0]) {
        gpu->reason = g_strdup_printf("no driver is bound to it (%s)", text);
    } else if (state != GPU_BACKEND_PRESENT) {
        gpu->reason = g_strdup(text);
    } else {
        say_at(look);
        worker->ops->sample(worker->backend, &look->pci, gpu);
        if (gpu->uuid[0])
            g_hash_table_replace(worker->uuids, g_strdup(gpu->pci), g_strdup(gpu->uuid));
    }
    if (!gpu->uuid[0] && g_hash_table_contains(worker->uuids, gpu->pci))
        g_strlcpy(gpu->uuid, g_hash_table_lookup(worker->uuids, gpu->pci), sizeof gpu->uuid);
}

static void leave_out(struct look *look) {
    look->gpu->condition = GPU_CONDITION_UNKNOWN;
    look->gpu->reason = g_strdup("the driver did not answer for it in time; it is left alone for a while");
}

static void add_pid(GArray *pids, pid_t pid) {
    for (guint i = 0; i < pids->len; i++)
        if (g_array_index(pids, pid_t, i) == pid)
            return;
    g_array_append_val(pids, pid);
}

/* A descriptor of the card's own node. The control node is no card's and is passed over. */
static void on_node(void *data, pid_t pid, dev_t node) {
    const GPtrArray *looks = data;

    for (guint i = 0; i < looks->len; i++) {
        const struct look *look = looks->pdata[i];
        if (look->pids && gpu_has(look->gpu, GPU_MINOR) && gpu_figure(look->gpu, GPU_MINOR) == (int64_t)minor(node))
            add_pid(look->pids, pid);
    }
}

static void look_for_users(struct worker *worker, GPtrArray *looks) {
    bool is_any = false;

    for (guint i = 0; i < looks->len; i++) {
        struct look *look = looks->pdata[i];
        g_autoptr(GArray) listed = g_array_new(FALSE, FALSE, sizeof(pid_t));

        if (look->gpu->condition != GPU_CONDITION_OK)
            continue;
        look->pids = g_array_new(FALSE, FALSE, sizeof(pid_t));
        say_at(look);
        worker->ops->processes(worker->backend, &look->pci, listed, &look->error);
        for (guint k = 0; k < listed->len; k++)
            add_pid(look->pids, g_array_index(listed, pid_t, k));
        is_any = true;
    }
    if (is_any)
        gpu_procs_scan(worker->ops->device_major, on_node, looks);
}

static json_t *users_to_json(const GArray *pids) {
    json_t *list = json_array();

    for (guint i = 0; i < MIN(pids->len, MAX_USERS_TOLD); i++) {
        struct gpu_user user = {.pid = g_array_index(pids, pid_t, i)};

        gpu_user_describe(&user);
        json_array_append_new(
            list, json_pack("{s:i,s:s,s:s}", "pid", (int)user.pid, "command", user.command, "user", user.user));
    }
    return list;
}

static json_t *look_to_json(const struct look *look) {
    json_t *gpu = gpu_to_json(look->gpu);
    json_t *json = json_pack("{s:o}", "gpu", gpu);

    json_object_del(gpu, "index"); /* the parent knows; no index crosses here (R4) */
    if (look->pids)
        json_object_set_new(json, "processes", users_to_json(look->pids));
    if (look->error)
        json_object_set_new(json, "processes_error", json_string(look->error));
    return json;
}

static bool list_has(const json_t *list, const char *text) {
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item)
        if (g_strcmp0(json_string_value(item), text) == 0)
            return true;
    return false;
}

static bool is_asked(const struct worker *worker, const char *address, const json_t *uuids) {
    const char *known = g_hash_table_lookup(worker->uuids, address);

    return !uuids || !known || list_has(uuids, known);
}

static GPtrArray *take_looks(struct worker *worker, const GArray *cards, const struct question *question,
                             enum gpu_backend_state state, const char *text) {
    GPtrArray *looks = g_ptr_array_new_with_free_func((GDestroyNotify)look_free);

    for (guint i = 0; i < cards->len; i++) {
        const struct gpu_pci_card *pci = &g_array_index(cards, struct gpu_pci_card, i);

        if (!is_asked(worker, pci->address, question->uuids))
            continue;
        g_ptr_array_add(looks, look_new(pci));
        if (list_has(question->leave_out, pci->address))
            leave_out(looks->pdata[looks->len - 1]);
        else
            look_at(worker, looks->pdata[looks->len - 1], state, text);
    }
    return looks;
}

static json_t *answer_cards(struct worker *worker, const GArray *cards, const struct question *question) {
    g_autofree char *text = NULL, *driver = NULL;
    g_autoptr(GPtrArray) looks = NULL;
    enum gpu_backend_state state = GPU_BACKEND_UNSET;
    json_t *list = json_array();
    json_t *answer;

    if (cards->len > 0)
        state = worker->ops->probe(worker->backend, &text, &driver);
    looks = take_looks(worker, cards, question, state, text);
    if (question->with_users)
        look_for_users(worker, looks);
    for (guint i = 0; i < looks->len; i++)
        json_array_append_new(list, look_to_json(looks->pdata[i]));
    answer = json_pack("{s:b,s:s,s:o}", "inventory", 1, "text", text ? text : worker->ops->no_cards_text, "cards",
                       list);
    if (driver)
        json_object_set_new(answer, "driver", json_string(driver));
    if (worker->is_fake_root || (worker->ops->is_simulated && worker->ops->is_simulated(worker->backend)))
        json_object_set_new(answer, "simulated", json_true());
    return answer;
}

static json_t *answer_request(struct worker *worker, const json_t *request, GError **error) {
    struct json_reader r = jr_init(request, "request", error);
    int64_t id = jr_int(&r, "id", 0, G_MAXINT64);
    const char *op = jr_str(&r, "op", 16);
    bool is_check = strcmp(op, "check") == 0;
    struct question question = {.uuids = is_check ? jr_array(&r, "uuids", NODE_MAX_GPUS) : NULL,
                                .leave_out = jr_array_opt(&r, "leave_out", NODE_MAX_GPUS),
                                .with_users = jr_bool_opt(&r, "processes", is_check)};
    g_autoptr(GError) why = NULL;
    g_autoptr(GArray) cards = NULL;
    json_t *answer;

    if (!is_check && strcmp(op, "sample") != 0)
        jr_fail(&r, "\"op\" is neither sample nor check");
    if (!jr_done(&r))
        return NULL;
    cards = worker->ops->enumerate(worker->backend, &why);
    answer = cards ? answer_cards(worker, cards, &question)
                   : json_pack("{s:b,s:s}", "inventory", 0, "text", why->message);
    json_object_set_new(answer, "id", json_integer(id));
    return answer;
}

/* False when the conversation cannot go on: the worker ends then and the parent starts another. */
static bool serve_line(struct worker *worker, const char *line, size_t len) {
    g_autoptr(GError) why = NULL;
    json_t *request = jsonx_parse(line, len, &why);
    json_t *answer = request ? answer_request(worker, request, &why) : NULL;
    g_autofree char *text = answer ? jsonx_to_str(answer) : NULL;

    json_decref(request);
    json_decref(answer);
    if (!text) {
        fprintf(stderr, "gpu-worker: %s\n", why ? why->message : "an answer that is no JSON");
        return false;
    }
    return puts(text) >= 0 && fflush(stdout) == 0;
}

/* argv ends with two arguments: the root of the tree that holds sys/, and the GPU library. */
int gpu_worker_main(int argc, char **argv) {
    struct worker worker = {.ops = gpu_backends[0]};
    char *line = NULL;
    size_t room = 0;
    ssize_t len;
    unsigned served = 0;
    bool ok = true;

    if (argc < 3) {
        fprintf(stderr, "usage: kohakuriver gpu-worker ROOT LIBRARY (started by the runner, not by people)\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* stdin's end is not seen by a worker that hangs in the driver */
    worker.is_fake_root = strcmp(argv[argc - 2], "/") != 0;
    worker.backend = worker.ops->open(argv[argc - 2], argv[argc - 1]);
    worker.uuids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    while (ok && (len = getline(&line, &room, stdin)) > 0) {
        ok = serve_line(&worker, line, (size_t)len);
        if (++served % TRIM_EVERY == TRIM_FIRST)
            mem_trim();
    }
    free(line);
    g_hash_table_unref(worker.uuids);
    worker.ops->close(worker.backend);
    return ok ? 0 : 1;
}
