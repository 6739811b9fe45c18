/* The hidden verb `vfio-switch`: one run of the switcher from a shell, for the tests on a real kernel and for a person at a node whose
 * runner is down. Prints a JSON object on each line: what was recovered, then what came of the order. */

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "vfio/vfio_step.h"
#include "vfio/vfio_switch.h"

enum { USAGE_EXIT = 2 };

struct run {
    struct vfio_switcher *s;
    const char *verb, *owner;
    const char *const *gpus;
    size_t n_gpus;
    int exit_code;
    int64_t begun_ms;
};

static void print(json_t *json) {
    g_autofree char *text = jsonx_to_str(json);

    json_decref(json);
    puts(text);
    fflush(stdout);
}

static void end(struct run *run, json_t *json, const GError *error) {
    if (error)
        json = json_pack("{s:s,s:s}", "error", error->message, "code", kr_error_name(error));
    json_object_set_new(json, "took_ms", json_integer(clock_mono_ms() - run->begun_ms));
    run->exit_code = error ? 1 : 0;
    print(json);
    vfio_switcher_free(run->s);
}

static void on_bound(void *user, const struct vfio_hold *hold, const GError *error) {
    end(user, error ? NULL : vfio_hold_to_json(hold), error);
}

static void on_given_back(void *user, const GError *error) {
    end(user, error ? NULL : json_pack("{s:b}", "given_back", true), error);
}

static void on_recovered(void *user, const struct vfio_recovered *recovered, size_t n) {
    struct run *run = user;
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "owner", recovered[i].owner, "state",
                                              vfio_state_to_str(recovered[i].state), "reason", recovered[i].reason));
    print(json_pack("{s:o}", "recovered", list));
    run->begun_ms = clock_mono_ms();
    if (strcmp(run->verb, "bind") == 0)
        vfio_bind(run->s, run->owner, run->gpus, run->n_gpus, on_bound, run);
    else if (strcmp(run->verb, "give-back") == 0)
        vfio_give_back(run->s, run->owner, on_given_back, run);
    else
        vfio_switcher_free(run->s);
}

static bool read_arguments(struct run *run, int argc, char **argv) {
    if (argc < 3)
        return false;
    run->verb = argv[2];
    run->owner = argc > 3 ? argv[3] : NULL;
    run->gpus = (const char *const *)argv + 4;
    run->n_gpus = argc > 4 ? (size_t)argc - 4 : 0;
    return strcmp(run->verb, "recover") == 0 || (strcmp(run->verb, "give-back") == 0 && argc == 4) ||
           (strcmp(run->verb, "bind") == 0 && argc > 4);
}

int vfio_switch_main(int argc, char **argv) {
    g_autofree char *boot_id = vfio_read_text("/", "proc/sys/kernel/random/boot_id");
    const char *deadline = g_getenv("KOHAKURIVER_STEP_DEADLINE_MS");
    struct vfio_switcher_config config = {.boot_id = boot_id};
    g_autoptr(GError) error = NULL;
    struct run run = {0};
    uv_loop_t loop;

    if (!read_arguments(&run, argc, argv)) {
        fprintf(stderr, "usage: vfio-switch FOLDER bind OWNER ADDRESS… | give-back OWNER | recover\n");
        return USAGE_EXIT;
    }
    config.journal_dir = argv[1];
    config.step_deadline_ms = deadline ? g_ascii_strtoll(deadline, NULL, 10) : 0;
    uv_loop_init(&loop);
    run.s = vfio_switcher_new(&loop, &config, &error);
    if (!run.s) {
        fprintf(stderr, "vfio-switch: %s\n", error->message);
        return 1;
    }
    vfio_switcher_recover(run.s, on_recovered, &run);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    return run.exit_code;
}
