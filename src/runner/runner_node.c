/* What the node says of itself: heartbeats, the looks at engine and disk that they tell of. */

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "model/delta.h"
#include "model/node.h"
#include "model/wire.h"
#include "runner/runner_internal.h"

enum { PRUNE_EVERY_MS = 60000, SAMPLES_TOLD = 2 };

/* What is told is rounded to what means something, so that a heartbeat of an idle node has nothing to say. */
static const int64_t memory_step_bytes = 64LL << 20;
static const int64_t power_step_mw = 1000;

/* One line that fits what a node may say. */
static char *bounded(const char *text) {
    g_autofree char *head = g_strndup(text ? text : "", NODE_TEXT_MAX_BYTES - 8);

    return g_utf8_make_valid(head, -1);
}

static char *engine_text(const struct runner *runner) {
    const struct engine_facts *facts = &runner->engine_facts;
    g_autofree char *text = NULL;

    if (!facts->presence)
        return g_strdup("not looked at yet");
    if (facts->presence != ENGINE_PRESENT)
        return bounded(facts->text);
    text = g_strdup_printf("%s, GPU injection: %s", facts->text,
                           runner->injection == ENGINE_INJECTION_CDI ? "CDI" : "nvidia hook");
    return bounded(text);
}

static struct gpu *told_gpu(const struct runner *runner, const struct gpu *gpu) {
    struct gpu *told = gpu_copy(gpu);
    int64_t power_mw = gpu_figure(gpu, GPU_POWER), since_ms;

    if (gpu_has(gpu, GPU_POWER))
        gpu_set(told, GPU_POWER, power_mw - power_mw % power_step_mw);
    if (gpu_history_idle_since(runner->history, gpu->uuid, &since_ms))
        gpu_set(told, GPU_IDLE_SINCE, since_ms);
    told->proof.samples = MIN(told->proof.samples, SAMPLES_TOLD); /* more of them say no more */
    machines_amend_gpu(runner->machines, told);
    return told;
}

/* ---- the guests of its machines ---- */

struct guests {
    const struct runner *runner;
    struct node_info *info;
};

static void add_guest(void *user, uint32_t task_id, const char *container) {
    struct guests *guests = user;
    struct guest *guest = machines_guest(guests->runner->machines, container, task_id);

    if (guest)
        g_ptr_array_add(guests->info->guests, guest);
}

static void end_late_guest(void *user, uint32_t task_id, const char *container) {
    struct runner *runner = user;
    struct guest *guest = machines_guest(runner->machines, container, task_id);
    g_autofree char *reason = g_strdup_printf("its guest was not ready %" G_GINT64_FORMAT
                                              " s after the start (vm_ready_timeout_ms, vm_ready_policy = stop)",
                                              config_int(runner->config, "vm_ready_timeout_ms") / 1000);

    if (guest && guest->is_late)
        executor_fail_machine(runner->executor, task_id, reason);
    guest_free(guest);
}

static void look_after_guests(struct runner *runner) {
    if (strcmp(config_str(runner->config, "vm_ready_policy"), "stop") == 0)
        executor_each_machine(runner->executor, end_late_guest, runner);
}

struct node_info *runner_describe(struct runner *runner) {
    struct node_info *info = node_info_new(runner->node);
    const struct gpu_snapshot *snapshot = gpu_monitor_snapshot(runner->monitor);
    struct guests guests = {runner, info};
    const char *vm_text;

    node_facts_describe(runner->facts, info);
    for (guint i = 0; snapshot->gpus && i < snapshot->gpus->len; i++)
        g_ptr_array_add(info->gpus, told_gpu(runner, snapshot->gpus->pdata[i]));
    info->mem_used_bytes -= info->mem_used_bytes % memory_step_bytes;
    info->gpus_known = snapshot->known && snapshot->taken_ms > 0;
    info->gpus_simulated = snapshot->simulated;
    info->gpu_text = bounded(snapshot->text ? snapshot->text : "not looked at yet");
    info->engine_ok = runner->engine_facts.presence == ENGINE_PRESENT;
    info->engine_text = engine_text(runner);
    info->vm_ok = machines_can_run(runner->machines, &vm_text);
    info->vm_text = bounded(vm_text);
    info->vfio = machines_switches_to_json(runner->machines);
    executor_each_machine(runner->executor, add_guest, &guests);
    info->disk_ok = runner->is_disk_ok;
    info->disk_text = runner->disk_text ? bounded(runner->disk_text) : NULL;
    return info;
}

static json_t *describe_json(struct runner *runner) {
    struct node_info *info = runner_describe(runner);
    json_t *json = node_info_to_json(info);

    node_info_free(info);
    return json;
}

json_t *runner_hello(void *user) {
    struct runner *runner = user;

    json_decref(runner->told);
    runner->told = describe_json(runner);
    return json_pack("{s:O,s:o,s:I}", "node", runner->told, "tasks", executor_truth_to_json(runner->executor),
                     "max_epoch", (json_int_t)lease_files_max_epoch(runner->leases));
}

static void send_heartbeat(struct runner *runner) {
    json_t *now;

    if (!link_is_up(runner->link))
        return;
    now = describe_json(runner);
    link_send_json(runner->link, json_pack("{s:s,s:o}", "type", WIRE_HEARTBEAT, "node", delta_make(runner->told, now)));
    json_decref(runner->told);
    runner->told = now;
}

/* ---- the engine ---- */

static void choose_injection(struct runner *runner) {
    const char *setting = config_str(runner->config, "gpu_injection");
    bool is_cdi = strcmp(setting, "cdi") == 0 || (strcmp(setting, "auto") == 0 && runner->engine_facts.offers_cdi);

    runner->injection = is_cdi ? ENGINE_INJECTION_CDI : ENGINE_INJECTION_NVIDIA;
    executor_set_injection(runner->executor, runner->injection);
}

static void on_probed(void *user, const struct engine_facts *facts) {
    struct runner *runner = user;
    bool changed = runner->engine_facts.presence != facts->presence ||
                   g_strcmp0(runner->engine_facts.text, facts->text) != 0;

    runner->probe = NULL;
    engine_facts_clear(&runner->engine_facts);
    runner->engine_facts = *facts;
    runner->engine_facts.version = g_strdup(facts->version);
    runner->engine_facts.text = g_strdup(facts->text);
    choose_injection(runner);
    if (changed) {
        log_at(facts->presence == ENGINE_PRESENT ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "engine: %s", facts->text);
        send_heartbeat(runner);
    }
    runner_dial_when_ready(runner);
}

void runner_probe(struct runner *runner) {
    if (!runner->probe)
        runner->probe = engine_probe(runner->engine, on_probed, runner);
}

/* ---- the disk, the logs ---- */

static void check_disk(struct runner *runner) {
    bool suspect = !runner->is_disk_ok || executor_suspects_disk(runner->executor);
    g_autoptr(GError) error = NULL;
    bool ok = node_facts_disk_check(config_str(runner->config, "state_dir"), suspect, &error);

    if (ok != runner->is_disk_ok)
        log_at(ok ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, "disk: %s", ok ? "state can be written again" : error->message);
    runner->is_disk_ok = ok;
    g_free(runner->disk_text);
    runner->disk_text = ok ? NULL : g_strdup(error->message);
}

static bool has_output_coming(void *user, uint32_t task_id) {
    return executor_has_output_coming(((struct runner *)user)->executor, task_id);
}

static void prune_logs(struct runner *runner) {
    if (runner->pruned_ms && clock_mono_ms() < runner->pruned_ms + PRUNE_EVERY_MS)
        return;
    runner->pruned_ms = clock_mono_ms();
    log_store_prune(runner->logs, config_int(runner->config, "log_keep_tasks"),
                    config_int(runner->config, "log_keep_bytes"), has_output_coming, runner);
}

void runner_beat(struct runner *runner) {
    check_disk(runner);
    prune_logs(runner);
    machines_probe(runner->machines);
    look_after_guests(runner);
    runner_probe(runner);
    send_heartbeat(runner);
}

/* ---- the cards ---- */

/* Which cards there are, in what condition and with what faults; figures alone can wait for the next heartbeat. */
static guint picture_of(const struct gpu_snapshot *snapshot) {
    guint hash = snapshot->known;

    for (guint i = 0; snapshot->gpus && i < snapshot->gpus->len; i++) {
        const struct gpu *gpu = snapshot->gpus->pdata[i];
        hash = hash * 31 + g_str_hash(gpu->uuid) + (guint)gpu->index * 7 + (guint)gpu->condition +
               (proof_of_rest(&gpu->proof) ? 1000 : 0);
        for (size_t k = 0; k < gpu->n_xids; k++)
            hash = hash * 31 + (guint)gpu->xids[k].code + (guint)gpu->xids[k].count;
    }
    return hash;
}

/* Each look once: when the worker fails, what is shown is not new. */
static void note_history(struct runner *runner) {
    const struct gpu_snapshot *snapshot = gpu_monitor_snapshot(runner->monitor);

    if (snapshot->taken_ms == runner->history_ms)
        return;
    runner->history_ms = snapshot->taken_ms;
    for (guint i = 0; snapshot->gpus && i < snapshot->gpus->len; i++)
        gpu_history_note(runner->history, snapshot->gpus->pdata[i], clock_wall_ms());
}

void runner_on_gpus(void *user) {
    struct runner *runner = user;
    guint picture = picture_of(gpu_monitor_snapshot(runner->monitor));
    bool is_new = !runner->had_gpu_sample || picture != runner->gpu_picture;

    note_history(runner);
    runner->had_gpu_sample = true;
    runner->gpu_picture = picture;
    if (is_new)
        send_heartbeat(runner);
    runner_dial_when_ready(runner);
}

void runner_on_machines(struct runner *runner) {
    send_heartbeat(runner);
    runner_dial_when_ready(runner);
}

void runner_dial_when_ready(struct runner *runner) {
    if (runner->is_link_started || !runner->had_gpu_sample || !runner->engine_facts.presence ||
        !machines_was_probed(runner->machines))
        return;
    runner->is_link_started = true;
    uv_timer_stop(&runner->first_dial);
    link_start(runner->link);
}
