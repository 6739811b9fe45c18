/* One node: the machine, the engine on it (the simulated one, which outlives the runner), one life of the runner after the other (the
 * real executor over the real lease files), and its end of the wire. */

#include <string.h>

#include "base/error.h"
#include "model/wire.h"
#include "runner/executor_words.h"
#include "runner/lease_files.h"
#include "sim/world_internal.h"

enum { MOUNT_POINT_BYTES = 16, LATE_MS = 300 };

static struct node *entered;

struct node *node_entered(void) {
    return entered;
}

void node_enter(struct node *node) {
    entered = node;
    disk_mount(&node->disk);
}

/* ---- what happens in the engine ---- */

static const char *label(const struct sim_sight *sight, const char *key) {
    return g_hash_table_lookup(sight->labels, key);
}

static struct lease lease_of(const struct sim_sight *sight) {
    struct lease lease = {.task_id = (uint32_t)g_ascii_strtoull(label(sight, ENGINE_LABEL_TASK), NULL, 10),
                          .epoch = g_ascii_strtoll(label(sight, ENGINE_LABEL_EPOCH), NULL, 10)};
    g_auto(GStrv) gpus = g_strsplit(label(sight, ENGINE_LABEL_GPUS), ",", -1);

    for (char **gpu = gpus; *gpu && **gpu; gpu++) {
        lease.gpus[lease.n_gpus].index = (int)g_ascii_strtoll(*gpu, NULL, 10);
        g_strlcpy(lease.gpus[lease.n_gpus++].uuid, strchr(*gpu, '=') + 1, sizeof lease.gpus[0].uuid);
    }
    return lease;
}

static void on_started(struct node *node, const struct sim_sight *sight) {
    struct lease lease = lease_of(sight);
    struct running *running = g_new0(struct running, 1);

    trace_line("    %s: container of task %u/%" G_GINT64_FORMAT " starts", node->name, lease.task_id, lease.epoch);
    check_start(node, &lease, sight->name);
    cards_take(node, &lease);
    *running = (struct running){{lease.task_id, lease.epoch}, sight->pid};
    g_hash_table_insert(node->running, GUINT_TO_POINTER(lease.task_id), running);
    g_hash_table_add(node->ran, g_strdup(sight->name));
    node->world->counts.starts++;
}

static void on_ended(struct node *node, const struct sim_sight *sight) {
    struct lease lease = lease_of(sight);
    struct ending *ending = g_new0(struct ending, 1);

    trace_line("    %s: container of task %u/%" G_GINT64_FORMAT " ends (%d)", node->name, lease.task_id, lease.epoch,
               sight->exit_code);
    *ending = (struct ending){lease.epoch, sight->exit_code, node->is_disturbed, node};
    g_hash_table_insert(node->world->truth, GUINT_TO_POINTER(lease.task_id), ending);
    cards_give_back(node, (struct holder){lease.task_id, lease.epoch}, node->is_disturbed);
    g_hash_table_remove(node->running, GUINT_TO_POINTER(lease.task_id));
}

static void on_event(void *user, enum sim_event event, const struct sim_sight *sight) {
    struct lease lease;

    switch (event) {
    case SIM_STARTED: on_started(user, sight); break;
    case SIM_ENDED: on_ended(user, sight); break;
    case SIM_REMOVED:
        lease = lease_of(sight);
        trace_line("    %s: container of task %u/%" G_GINT64_FORMAT " is removed", ((struct node *)user)->name,
                   lease.task_id, lease.epoch);
        if (sight->has_run)
            check_removal(user, lease.task_id, lease.epoch);
    }
}

/* ---- the wire ---- */

/* As src/runner/link.c: what is said before the welcome is held back until then. */
static void say(struct node *node, json_t *message) {
    if (!node->is_dialled || node->is_dying) {
        json_decref(message);
    } else if (!node->is_up) {
        g_ptr_array_add(node->held, message);
    } else if (node->is_severed) {
        json_decref(message);
    } else {
        wire_seq_stamp(&node->node_side, message);
        g_queue_push_tail(&node->to_host, message);
    }
}

static json_t *describe(const struct node *node) {
    struct node_info *info = node_info_new(node->name);
    json_t *json;

    info->boot_id = g_strdup_printf("boot-%u", node->boot);
    info->engine_ok = true;
    info->cores = 64;
    info->mem_total_bytes = 1LL << 40;
    info->disk_ok = !executor_suspects_disk(node->executor);
    if (!info->disk_ok)
        info->disk_text = g_strdup("disk is full");
    cards_describe(node, info);
    json = node_info_to_json(info);
    node_info_free(info);
    return json;
}

void node_beat(struct node *node) {
    if (node->executor && node->is_up)
        say(node, json_pack("{s:s,s:o}", "type", WIRE_HEARTBEAT, "node", describe(node)));
}

void wire_sever(struct node *node) {
    node->is_severed = true;
    g_queue_clear_full(&node->to_host, (GDestroyNotify)json_decref);
    g_queue_clear_full(&node->to_node, (GDestroyNotify)json_decref);
}

void node_hang_up(struct node *node) {
    node->is_dialled = node->is_up = false;
    g_ptr_array_set_size(node->held, 0);
    wire_sever(node);
}

void node_dial(struct node *node) {
    json_t *hello;

    if (!node->executor || node->partitioned_until > node->world->now.mono_ms)
        return;
    node_hang_up(node);
    node->wire++;
    node->is_dialled = true;
    node->is_severed = false;
    node->host_side = node->node_side = (struct wire_seq){0};
    hello = json_pack("{s:s,s:i,s:s,s:o,s:o,s:I}", "type", WIRE_HELLO, "protocol", WIRE_PROTOCOL, "version", "sim",
                      "node", describe(node), "tasks", executor_truth_to_json(node->executor), "max_epoch",
                      (json_int_t)lease_files_max_epoch(node->leases));
    wire_seq_stamp(&node->node_side, hello);
    g_queue_push_tail(&node->to_host, hello);
}

static void on_welcome(struct node *node) {
    g_autoptr(GPtrArray) held = g_steal_pointer(&node->held);

    node->held = g_ptr_array_new_with_free_func((GDestroyNotify)json_decref);
    node->is_up = true;
    for (guint i = 0; i < held->len; i++)
        say(node, json_incref(held->pdata[i]));
}

void node_take(struct node *node) {
    json_t *message = node->executor ? g_queue_pop_head(&node->to_node) : NULL;
    const char *type = json_string_value(json_object_get(message, "type"));
    g_autoptr(GError) error = NULL;

    if (!message)
        return;
    node_enter(node);
    if (strcmp(type, WIRE_BEAT) != 0)
        trace_line("    %s hears: %s %" JSON_INTEGER_FORMAT, node->name, type,
                   json_integer_value(json_object_get(
                       strcmp(type, WIRE_START) ? message : json_object_get(message, "lease"), "task_id")));
    if (!wire_seq_check(&node->node_side, message, NULL))
        node_hang_up(node);
    else if (strcmp(type, WIRE_WELCOME) == 0)
        on_welcome(node);
    else if (strcmp(type, WIRE_REFUSED) == 0)
        node_hang_up(node);
    else if (node->is_up && executor_take_word(node->executor, type, message, &error) != EXECUTOR_WORD_TAKEN)
        broken(node->world, "a message of the host is not understood", "%s: %s", type, error ? error->message : "");
    json_decref(message);
    node_bury(node);
}

/* A start that no host of sense sends, as from one that was restored elsewhere: on a card that is held, of an epoch that is past,
 * or for another boot. */
void node_take_rogue(struct node *node) {
    struct world *w = node->world;
    const struct card *card = &node->cards[pick(w, N_GPUS)];
    int64_t max_epoch = node->executor ? lease_files_max_epoch(node->leases) : 0;
    bool is_late = chance(w, 50);
    struct lease lease = {
        .task_id = FIRST_ROGUE + w->step, .epoch = max_epoch + 1, .n_gpus = 1, .numa = TARGET_NO_NUMA};
    g_autofree char *boot_id = g_strdup_printf("boot-%u", card->is_leased || is_late ? node->boot : node->boot + 1);
    json_t *message;

    if (max_epoch == 0)
        return;
    if (!card->is_leased && is_late)
        lease.epoch = max_epoch - pick(w, (unsigned)MIN(max_epoch, 3));
    g_strlcpy(lease.node, node->name, sizeof lease.node);
    g_strlcpy(lease.boot_id, boot_id, sizeof lease.boot_id);
    g_strlcpy(lease.gpus[0].uuid, card->uuid, sizeof lease.gpus[0].uuid);
    lease.gpus[0].index = card->index;
    message = json_pack("{s:s,s:o,s:{s:[s,s]}}", "type", WIRE_START, "lease", lease_to_json(&lease), "spec", "command",
                        "job", "run=500");
    node_enter(node);
    if (executor_take_word(node->executor, WIRE_START, message, NULL) != EXECUTOR_WORD_TAKEN)
        broken(w, "a message of the host is not understood", "%s", WIRE_START);
    json_decref(message);
    node_bury(node);
}

/* ---- lives of the runner ---- */

static void on_report(void *user, const struct task_report *report) {
    struct node *node = user;

    if (report->state == TASK_FAILED && (!report->reason || !report->reason[0]) && !report->has_exit_code)
        broken(node->world, "a task failed and nobody says why", "task %u", report->task_id);
    if (!node->is_dying)
        trace_line("    %s says: task %u/%" G_GINT64_FORMAT " %s%s, %s", node->name, report->task_id, report->epoch,
                   task_state_to_str(report->state), report->released ? ", released" : "",
                   report->reason ? report->reason : "-");
    say(node, json_pack("{s:s,s:o}", "type", WIRE_REPORT, "task", task_report_to_json(report)));
}

static void on_output(void *user, uint32_t task_id) {}

static void on_truth(void *user) {
    struct node *node = user;

    if (!node->is_dying && node->is_up)
        node_dial(node);
}

static int when_done(void *user) {
    struct node *node = user;

    switch (pick(node->world, 4)) {
    case 0: return -1;
    case 1: return (int)pick(node->world, LATE_MS);
    default: return 0;
    }
}

/* From here on nothing that this life does reaches anybody. */
static void on_crash(void *user) {
    struct node *node = user;

    trace_line("    %s: the runner dies", node->name);
    node->is_dying = true;
    node->disk.is_cut = true;
    sim_engine_orphan(node->engine, when_done, node);
}

static void on_write_crash(void *user) {
    ((struct node *)user)->world->counts.deaths_at_writes++;
    on_crash(user);
}

static void on_removed(void *user, const char *path) { check_forgotten(user, path); }

void node_live(struct node *node) {
    static const struct executor_handlers handlers = {on_report, on_output, on_truth};
    struct world *w = node->world;
    g_autofree char *boot_id = g_strdup_printf("boot-%u", node->boot);
    g_autofree char *state = g_strdup_printf("/%s", node->name);
    struct executor_gpus gpus = cards_table;
    struct executor_config config = {.node = node->name,
                                     .boot_id = boot_id,
                                     .boot_ms = w->now.wall_ms - (w->now.mono_ms - node->boot_mono_ms),
                                     .cluster_id = "c1",
                                     .default_image = "img",
                                     .network = "none",
                                     .working_dir = "",
                                     .may_pull = true,
                                     .injection = ENGINE_INJECTION_NVIDIA,
                                     .memlock = ENGINE_MEMLOCK_DEFAULT,
                                     .stop_grace_ms = 100,
                                     .drain_timeout_ms = 300,
                                     .output_timeout_ms = 200,
                                     .evidence_samples = 1 + (int)(w->seed % 2),
                                     .retry_ms = 20};
    g_autoptr(GError) error = NULL;

    node_enter(node);
    node->is_dying = node->disk.is_cut = false;
    node->disk.crash_in = 0;
    cards_forget_views(node);
    gpus.user = node;
    node->engine = engine_simulated_new(node->engine_world);
    node->leases = lease_files_open(state, &error);
    if (node->leases) {
        node->executor = executor_new(&node->clock.loop, &config, node->engine, &gpus, NULL, node->leases, NULL,
                                      &handlers, node);
        executor_restore(node->executor, &error);
    }
    if (error)
        broken(w, "a runner cannot start again", "%s", error->message);
    executor_reconcile(node->executor);
}

static void end_life(struct node *node) {
    executor_free(g_steal_pointer(&node->executor));
    lease_files_close(g_steal_pointer(&node->leases));
    engine_free(g_steal_pointer(&node->engine));
    vclock_flush(&node->clock);
    node->is_dying = node->disk.is_cut = false;
    node->disk.crash_in = 0;
    node_hang_up(node);
    node->world->counts.runner_deaths++;
}

void node_bury(struct node *node) {
    if (node->is_dying)
        end_life(node);
}

void node_die(struct node *node) {
    if (!node->executor)
        return;
    node_enter(node);
    on_crash(node);
    end_life(node);
}

/* The machine goes down and comes up; its engine is there at once, the runner comes later. */
void node_reboot(struct node *node) {
    struct world *w = node->world;
    GHashTableIter iter;
    gpointer value;

    node_die(node);
    node->boot++;
    node->boot_mono_ms = w->now.mono_ms;
    w->counts.reboots++;
    disk_lose_power(&node->disk);
    node->is_disturbed = true;
    sim_world_reboot(node->engine_world);
    node->is_disturbed = false;
    g_hash_table_iter_init(&iter, w->truth);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (((struct ending *)value)->node == node)
            ((struct ending *)value)->is_disturbed = true;
    for (int i = 0; i < N_GPUS; i++)
        node->cards[i].rest_until = node->cards[i].foreign_until = 0;
}

void node_run(struct node *node, unsigned max_timers) {
    node_enter(node);
    while (max_timers-- > 0 && !node->is_dying && vclock_run_one(&node->clock))
        ;
    node_bury(node);
}

/* ---- once ---- */

void node_init(struct world *w, struct node *node, int number) {
    *node = (struct node){.world = w, .held = g_ptr_array_new_with_free_func((GDestroyNotify)json_decref)};
    g_snprintf(node->name, sizeof node->name, "n%d", number);
    vclock_init(&node->clock);
    disk_init(&node->disk, &w->dice);
    node->disk.on_crash = on_write_crash;
    node->disk.on_removed = on_removed;
    node->disk.user = node;
    node->running = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    node->ran = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    node->engine_world = sim_world_new(&node->clock.loop);
    sim_world_watch(node->engine_world, on_event, node);
    sim_world_add_image(node->engine_world, "img");
    sim_world_add_registry_image(node->engine_world, "far");
    cards_init(node);
}

void node_clear(struct node *node) {
    node_die(node);
    sim_world_free(node->engine_world);
    vclock_clear(&node->clock);
    disk_clear(&node->disk);
    node_hang_up(node);
    g_ptr_array_unref(node->held);
    g_hash_table_unref(node->running);
    g_hash_table_unref(node->ran);
}
