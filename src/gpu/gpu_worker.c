/* The worker process: one request line in, one answer line out, until stdin ends. It alone touches sysfs and the GPU
 * libraries. What the answers look like is told in gpu_report.h; the parent kills this process when one is late. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "gpu/gpu_look.h"
#include "gpu/gpu_monitor.h"
#include "gpu/gpu_report.h"

enum { MAX_USERS_TOLD = 32, TRIM_FIRST = 5, TRIM_EVERY = 100 }; /* in requests served */

/* Tells the parent which card is touched now: should that call never return, this one card is to blame (L57). */
static void say_at(const char *address) {
    printf("{\"at\":\"%s\"}\n", address);
    fflush(stdout);
}

static json_t *users_to_json(GArray *users) {
    g_array_set_size(users, MIN(users->len, MAX_USERS_TOLD));
    for (guint i = 0; i < users->len; i++)
        gpu_user_describe(&g_array_index(users, struct gpu_user, i));
    return gpu_users_to_json(users);
}

static json_t *look_to_json(const struct gpu_look *look) {
    json_t *gpu = gpu_to_json(look->gpu);
    json_t *json = json_pack("{s:o}", "gpu", gpu);

    json_object_del(gpu, "index"); /* the parent knows; no index crosses here (R4) */
    if (look->users)
        json_object_set_new(json, "processes", users_to_json(look->users));
    if (look->error)
        json_object_set_new(json, "processes_error", json_string(look->error));
    if (look->site)
        json_object_set_new(json, "site", gpu_site_to_json(look->site));
    return json;
}

static json_t *looks_to_json(const struct gpu_looks *looks) {
    json_t *list = json_array();
    json_t *answer;

    for (guint i = 0; i < looks->list->len; i++)
        json_array_append_new(list, look_to_json(looks->list->pdata[i]));
    answer = json_pack("{s:b,s:s,s:o}", "inventory", 1, "text", looks->text, "cards", list);
    if (looks->driver)
        json_object_set_new(answer, "driver", json_string(looks->driver));
    if (looks->is_simulated)
        json_object_set_new(answer, "simulated", json_true());
    if (looks->xids_at_us)
        json_object_set_new(answer, "xids_at_us", json_integer(looks->xids_at_us));
    return answer;
}

static json_t *answer_look(struct gpu_looker *looker, const struct gpu_question *question) {
    g_autoptr(GError) why = NULL;
    struct gpu_looks *looks = gpu_looker_look(looker, question, say_at, &why);
    json_t *answer = looks ? looks_to_json(looks) : json_pack("{s:b,s:s}", "inventory", 0, "text", why->message);

    gpu_looks_free(looks);
    return answer;
}

static json_t *answer_request(struct gpu_looker *looker, const json_t *request, GError **error) {
    struct json_reader r = jr_init(request, "request", error);
    int64_t id = jr_int(&r, "id", 0, G_MAXINT64);
    const char *op = jr_str(&r, "op", 16);
    bool is_check = strcmp(op, "check") == 0, is_costs = strcmp(op, "costs") == 0;
    struct gpu_question question = {.uuids = is_check ? jr_array(&r, "uuids", NODE_MAX_GPUS) : NULL,
                                    .leave_out = jr_array_opt(&r, "leave_out", NODE_MAX_GPUS),
                                    .hands_off = jr_array_opt(&r, "hands_off", NODE_MAX_GPUS),
                                    .with_users = jr_bool_opt(&r, "processes", is_check),
                                    .with_sites = jr_bool_opt(&r, "sites", false),
                                    .slow_ms = jr_int_opt(&r, "slow_ms", 0, G_MAXINT64, 0),
                                    .rare_ms = jr_int_opt(&r, "rare_ms", 0, G_MAXINT64, 0),
                                    .xids_after_us = jr_int_opt(&r, "xids_after_us", 0, G_MAXINT64, 0)};
    json_t *answer;

    if (!is_check && !is_costs && strcmp(op, "sample") != 0)
        jr_fail(&r, "\"op\" is neither sample, check nor costs");
    if (!jr_done(&r))
        return NULL;
    answer = is_costs ? json_pack("{s:o}", "costs", gpu_looker_costs(looker)) : answer_look(looker, &question);
    json_object_set_new(answer, "id", json_integer(id));
    return answer;
}

/* False when the conversation cannot go on: the worker ends then and the parent starts another. */
static bool serve_line(struct gpu_looker *looker, const char *line, size_t len) {
    g_autoptr(GError) why = NULL;
    json_t *request = jsonx_parse(line, len, &why);
    json_t *answer = request ? answer_request(looker, request, &why) : NULL;
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
    struct gpu_looker *looker;
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
    close_range(STDERR_FILENO + 1, ~0U,
                0); /* what libraries of the runner opened without close-on-exec: it may hang here for long */
    looker = gpu_looker_new(argv[argc - 2], argv[argc - 1]);
    while (ok && (len = getline(&line, &room, stdin)) > 0) {
        ok = serve_line(looker, line, (size_t)len);
        if (++served % TRIM_EVERY == TRIM_FIRST)
            mem_trim();
    }
    free(line);
    gpu_looker_free(looker);
    return ok ? 0 : 1;
}
