#include "sim/small.h"

#include <string.h>

#include "base/error.h"
#include "core/controller_internal.h"
#include "core/task_state.h"
#include "model/wire.h"

enum { OFFLINE_MS = 30000, MAX_BEATS = 2, MAX_SETTLE_ROUNDS = 40 };

/* A lease file of a node and what runs under it. */
struct slot {
    struct lease lease;
    enum task_state state;
    bool released, never_started;
    bool has_container;
    bool is_draining; /* container gone, memory not back yet */
};

/* A report or a heartbeat; host to node: an order. */
struct message {
    enum { SAYS_REPORT, SAYS_BEAT, SAYS_START, SAYS_STOP, SAYS_PAUSE, SAYS_RESUME, SAYS_FORGET, SAYS_ACK } what;
    uint32_t task_id;
    int64_t epoch;
    struct slot slot; /* of a report; its lease is that of a start */
    struct node_info *info;
};

struct node {
    char name[4];
    GPtrArray *slots; /* of struct slot */
    int64_t taken_epoch;
    bool is_connected, was_heard; /* heard by this life of the host */
    unsigned boot;
    GQueue to_host, to_node; /* of struct message; a cut loses them */
};

struct small {
    struct controller *host;
    struct core_time now;
    struct node nodes[SMALL_NODES];
    GPtrArray *disk; /* of struct task, by id; NULL where there is none */
    GQueue records;
    GArray *started; /* of gsize: (task id << 16 | epoch << 4 | node), each once */
    enum task_state truth[SMALL_TASKS + 1];
    bool was_forced[SMALL_TASKS + 1];
    bool was_submitted[SMALL_TASKS], was_killed[SMALL_TASKS + 1];
    unsigned n_pauses, n_beats, n_faults, max_faults;
};

static const char *const targets[SMALL_TASKS] = {"n0::0", "n1::0", "n0::0"};

static void broken(const char *what, const char *detail) { g_error("%s (%s)", what, detail); }

static void message_free(gpointer data) {
    struct message *message = data;

    node_info_free(message->info);
    g_free(message);
}

/* ---- the host's shell ---- */

static void op_record(void *env, struct record *record) { g_queue_push_tail(&((struct small *)env)->records, record); }

static struct message *order_of(json_t *json) {
    static const char *const types[] = {
        [SAYS_START] = WIRE_START,   [SAYS_STOP] = WIRE_STOP,     [SAYS_PAUSE] = WIRE_PAUSE,
        [SAYS_RESUME] = WIRE_RESUME, [SAYS_FORGET] = WIRE_FORGET, [SAYS_ACK] = WIRE_ACK};
    const char *type = json_string_value(json_object_get(json, "type"));
    struct message *message = g_new0(struct message, 1);

    for (int what = SAYS_START; what <= SAYS_ACK; what++)
        if (strcmp(type, types[what]) == 0)
            message->what = what;
    message->task_id = (uint32_t)json_integer_value(json_object_get(json, "task_id"));
    message->epoch = json_integer_value(json_object_get(json, "epoch"));
    if (message->what == SAYS_START) {
        if (!lease_from_json(json_object_get(json, "lease"), &message->slot.lease, NULL))
            broken("a lease cannot be read", type);
        message->task_id = message->slot.lease.task_id;
        message->epoch = message->slot.lease.epoch;
    }
    return message;
}

static void op_send(void *env, const char *name, json_t *json) {
    struct node *node = &((struct small *)env)->nodes[name[1] - '0'];

    if (node->is_connected)
        g_queue_push_tail(&node->to_node, order_of(json));
    json_decref(json);
}

static void op_changed(void *env, const struct task *task, bool is_gone) { task_check(task); }

static const struct controller_ops ops = {op_record, op_send, op_changed};

static struct task *on_disk(const struct small *s, uint32_t id) {
    return id < s->disk->len ? s->disk->pdata[id] : NULL;
}

/* What the store's primary key would refuse must not even be asked for; and how a task ended there is how it ended here. */
static void check_record(const struct small *s, const struct task *task) {
    enum task_state truth = task->id <= SMALL_TASKS ? s->truth[task->id] : TASK_UNSET;

    for (guint id = 0; task->holds_lease && id < s->disk->len; id++) {
        const struct task *other = on_disk(s, id);
        if (other && other->holds_lease && other->id != task->id &&
            lease_has_gpu(&other->lease, task->lease.gpus[0].uuid))
            broken("R1: two leases on one card are asked of the store", task->lease.gpus[0].uuid);
    }
    if (task_state_is_terminal(task->state) && truth && truth != task->state && !task->release_forced)
        broken("a task's end is not the true one", task_state_to_str(task->state));
}

static void write_record(struct small *s, const struct record *record) {
    for (guint i = 0; i < record->tasks->len; i++)
        check_record(s, record->tasks->pdata[i]);
    for (guint i = 0; i < record->tasks->len; i++) {
        const struct task *task = record->tasks->pdata[i];
        if (s->disk->len <= task->id)
            g_ptr_array_set_size(s->disk, (gint)task->id + 1);
        task_free(s->disk->pdata[task->id]);
        s->disk->pdata[task->id] = task_copy(task);
    }
}

static void commit(struct small *s, bool fails) {
    struct record *record = g_queue_pop_head(&s->records);
    g_autoptr(GError) error = NULL;

    if (fails)
        kr_fail(&error, STORAGE, "disk is full");
    else if (record->is_insert_only && on_disk(s, ((const struct task *)record->tasks->pdata[0])->id))
        kr_fail(&error, REFUSED, "there is a task of that number");
    else
        write_record(s, record);
    controller_recorded(s->host, record, error);
}

static void cut(struct small *s, struct node *node) {
    node->is_connected = false;
    g_queue_clear_full(&node->to_host, message_free);
    g_queue_clear_full(&node->to_node, message_free);
    controller_disconnected(s->host, node->name, s->now);
}

static void host_start(struct small *s) {
    uint32_t last_id = 0;
    int64_t last_epoch = 0;

    s->host = controller_new(&ops, s, &(struct controller_settings){.offline_after_ms = OFFLINE_MS});
    for (guint id = 0; id < s->disk->len; id++) {
        const struct task *task = on_disk(s, id);
        if (!task)
            continue;
        last_id = id;
        last_epoch = MAX(last_epoch, task->lease.epoch);
        if (task->holds_lease && !controller_restore_task(s->host, task_copy(task)))
            broken("R1: the disk holds two leases on one card", task->lease.node);
    }
    controller_restore_counters(s->host, last_id, last_epoch);
}

static void host_crash(struct small *s, bool is_written) {
    const struct record *first = g_queue_peek_head(&s->records);

    if (is_written)
        write_record(s, first);
    g_queue_clear_full(&s->records, (GDestroyNotify)record_free);
    for (int i = 0; i < SMALL_NODES; i++) {
        cut(s, &s->nodes[i]);
        s->nodes[i].was_heard = false;
    }
    controller_free(s->host);
    host_start(s);
}

/* ---- nodes ---- */

static struct slot *find(const struct node *node, uint32_t id, int64_t epoch) {
    for (guint i = 0; i < node->slots->len; i++) {
        struct slot *slot = node->slots->pdata[i];
        if (slot->lease.task_id == id && (epoch == 0 || slot->lease.epoch == epoch))
            return slot;
    }
    return NULL;
}

/* Level-triggered: how it is now. */
static void say(struct node *node, const struct slot *slot) {
    struct message *message;

    if (!node->is_connected)
        return;
    message = g_new0(struct message, 1);
    *message = (struct message){.task_id = slot->lease.task_id, .epoch = slot->lease.epoch, .slot = *slot};
    g_queue_push_tail(&node->to_host, message);
}

static void say_unknown(struct node *node, uint32_t id, int64_t epoch) {
    say(node, &(struct slot){.lease = {.task_id = id, .epoch = epoch}, .released = true});
}

static struct task_report report_of(const struct slot *slot) {
    struct task_report report = {.task_id = slot->lease.task_id,
                                 .epoch = slot->lease.epoch,
                                 .state = slot->state,
                                 .released = slot->released && slot->state != TASK_UNSET};

    if (report.released)
        report.proof.facts = (slot->never_started ? PROOF_NEVER_STARTED : PROOF_CONTAINER_GONE) | PROOF_CARD;
    if (slot->is_draining)
        report.holding = g_strdup("412 MiB above its idle memory");
    return report;
}

static char *boot_id(const struct node *node) { return g_strdup_printf("boot-%u", node->boot); }

/* The second key: another live lease on the card, another boot, an epoch of the past, and the node refuses. */
static bool may_hold(const struct node *node, const struct lease *lease) {
    g_autofree char *boot = boot_id(node);

    if (strcmp(boot, lease->boot_id) != 0 || lease->epoch <= node->taken_epoch)
        return false;
    for (guint i = 0; i < node->slots->len; i++)
        if (!((const struct slot *)node->slots->pdata[i])->released)
            return false;
    return true;
}

static void node_start(struct small *s, struct node *node, const struct message *message) {
    gsize name = (gsize)message->task_id << 16 | (gsize)message->epoch << 4 | (gsize)(node - s->nodes);
    struct slot *slot = find(node, message->task_id, message->epoch);

    if (!on_disk(s, message->task_id))
        broken("R5: a start of what the store has no record of", node->name);
    if (!slot) {
        bool may = may_hold(node, &message->slot.lease);
        slot = g_new0(struct slot, 1);
        slot->lease = message->slot.lease;
        g_ptr_array_add(node->slots, slot);
        if (may) {
            for (guint i = 0; i < s->started->len; i++)
                if (g_array_index(s->started, gsize, i) == name)
                    broken("R5: a task was started twice", node->name);
            g_array_append_val(s->started, name);
            node->taken_epoch = slot->lease.epoch;
            slot->has_container = true;
            slot->state = TASK_RUNNING;
        } else {
            slot->released = slot->never_started = true;
            slot->state = TASK_FAILED;
        }
    }
    say(node, slot);
}

static void node_end(struct small *s, struct node *node, struct slot *slot, enum task_state state, bool is_dirty) {
    slot->has_container = false;
    slot->is_draining = is_dirty;
    slot->released = !is_dirty;
    slot->state = state;
    s->truth[slot->lease.task_id] = state;
    say(node, slot);
}

static void node_drained(struct node *node, struct slot *slot) {
    slot->is_draining = false;
    slot->released = true;
    say(node, slot);
}

static void node_stop(struct small *s, struct node *node, const struct message *message, struct slot *slot) {
    if (!slot) {
        node->taken_epoch = MAX(node->taken_epoch, message->epoch);
        say_unknown(node, message->task_id, message->epoch);
    } else if (slot->has_container)
        node_end(s, node, slot, TASK_KILLED, false);
    else
        say(node, slot);
}

/* An order: the lease goes without proof, but not before its container. */
static void node_forget(struct small *s, struct node *node, const struct message *message, struct slot *slot) {
    if (slot && slot->has_container)
        node_end(s, node, slot, TASK_KILLED, false);
    if (slot)
        g_ptr_array_remove(node->slots, slot);
    say_unknown(node, message->task_id, message->epoch);
}

static void node_take(struct small *s, struct node *node) {
    struct message *message = g_queue_pop_head(&node->to_node);
    struct slot *slot = find(node, message->task_id, message->epoch);

    if (message->what == SAYS_START)
        node_start(s, node, message);
    else if (message->what == SAYS_STOP)
        node_stop(s, node, message, slot);
    else if (message->what == SAYS_FORGET)
        node_forget(s, node, message, slot);
    else if (message->what == SAYS_ACK && slot) {
        if (slot->has_container || slot->is_draining)
            broken("R2: the host acknowledged what is not over", node->name);
        g_ptr_array_remove(node->slots, slot);
    } else if (slot && slot->has_container) {
        slot->state = message->what == SAYS_PAUSE ? TASK_PAUSED : TASK_RUNNING;
        say(node, slot);
    }
    message_free(message);
}

static struct node_info *describe(const struct node *node) {
    struct node_info *info = node_info_new(node->name);
    struct gpu *gpu = gpu_new();

    info->boot_id = boot_id(node);
    info->gpus_known = info->engine_ok = true;
    info->cores = 64;
    info->mem_total_bytes = 1LL << 40;
    g_snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%s", node->name);
    g_strlcpy(gpu->pci, "0000:01:00.0", sizeof gpu->pci);
    gpu->condition = GPU_CONDITION_OK;
    if (node->slots->len == 0)
        gpu->proof = (struct proof){.facts = PROOF_CARD, .samples = 2};
    g_ptr_array_add(info->gpus, gpu);
    return info;
}

static void node_beat(struct node *node) {
    struct message *message = g_new0(struct message, 1);

    message->what = SAYS_BEAT;
    message->info = describe(node);
    g_queue_push_tail(&node->to_host, message);
}

static void node_connect(struct small *s, struct node *node) {
    g_autoptr(GPtrArray) reports = g_ptr_array_new_with_free_func((GDestroyNotify)node_report_free);
    char *argv[] = {(char[]){"job"}, NULL};
    struct task_spec spec = {.argv = argv};

    for (guint i = 0; i < node->slots->len; i++) {
        const struct slot *slot = node->slots->pdata[i];
        struct node_report *said = g_new0(struct node_report, 1);
        said->lease = slot->lease;
        said->report = report_of(slot);
        said->spec = task_spec_copy(&spec);
        g_ptr_array_add(reports, said);
    }
    node->is_connected = node->was_heard = true;
    if (!controller_hello(s->host, describe(node), reports, node->taken_epoch, s->now, NULL))
        broken("a hello was refused", node->name);
}

static void host_take(struct small *s, struct node *node) {
    struct message *message = g_queue_pop_head(&node->to_host);
    struct task_report report;

    if (message->what == SAYS_BEAT) {
        controller_heartbeat(s->host, g_steal_pointer(&message->info), s->now);
    } else {
        report = report_of(&message->slot);
        controller_report(s->host, node->name, &report, s->now);
        task_report_clear(&report);
    }
    message_free(message);
}

/* Nothing that ran runs on; the lease files stay, and their tasks have failed. */
static void node_reboot(struct small *s, struct node *node) {
    cut(s, node);
    node->boot++;
    for (guint i = 0; i < node->slots->len; i++) {
        struct slot *slot = node->slots->pdata[i];
        if (slot->has_container)
            node_end(s, node, slot, TASK_FAILED, false);
        if (slot->is_draining)
            node_drained(node, slot);
    }
}

/* ---- users ---- */

static void on_submitted(void *user, const struct submit_result *result, const GError *error) {
    const GPtrArray *refusals = result->refusals;

    if (error && (!error->message[0] || (error->code == KR_ERROR_REFUSED && (!refusals || refusals->len == 0))))
        broken("R8: a refusal without a reason", error->message);
}

static void submit(struct small *s, unsigned which) {
    char *argv[] = {(char[]){"job"}, NULL};
    struct task_spec spec = {.argv = argv};
    char target[8], *list[] = {target, NULL};
    struct submission submission = {.targets = list, .spec = &spec};
    const struct record *record;
    guint before = g_queue_get_length(&s->records);

    g_strlcpy(target, targets[which], sizeof target);
    controller_submit(s->host, &submission, s->now, on_submitted, s);
    if (g_queue_get_length(&s->records) == before)
        return;
    s->was_submitted[which] = true;
    record = g_queue_peek_tail(&s->records);
    if (!s->nodes[((const struct task *)record->tasks->pdata[0])->lease.node[1] - '0'].was_heard)
        broken("R3: a grant on a node that has not spoken", target);
}

static void on_done(void *user, const struct task *task, const GError *error) {}

static void release(struct small *s) {
    static const struct order order = {.who = "operator", .reason = ""};

    if (controller_release(s->host, 1, &order, s->now, on_done, NULL, NULL))
        s->was_forced[1] = true;
}

/* ---- what can happen ---- */

static bool is_card_known(const struct small *s, const struct node *node) {
    const struct cluster_node *known = cluster_find(controller_cluster(s->host), node->name);
    const struct gpu *gpu = known ? node_info_gpu_by_index(known->info, 0) : NULL;

    return gpu && pool_gpu_state(controller_pool(s->host), known, gpu, NULL, s->now, NULL) != GPU_STATE_UNKNOWN;
}

static bool has_dirty(const struct small *s) {
    for (uint32_t id = 1; id <= SMALL_TASKS; id++) {
        const struct live_task *live = controller_live(s->host, id);
        if (live && live->is_dirty)
            return true;
    }
    return false;
}

static struct slot *slot_of(const struct small *s, uint32_t id, struct node **ret_node) {
    for (int i = 0; i < SMALL_NODES; i++) {
        struct slot *slot = find(&s->nodes[i], id, 0);
        if (slot) {
            *ret_node = (struct node *)&s->nodes[i];
            return slot;
        }
    }
    return NULL;
}

static uint64_t bit(bool is_set, unsigned action) { return is_set ? UINT64_C(1) << action : 0; }

static uint64_t enabled_of_node(const struct small *s, unsigned i) {
    const struct node *node = &s->nodes[i];
    bool wants_beat = node->is_connected && s->n_beats < MAX_BEATS && !is_card_known(s, node);

    return bit(!g_queue_is_empty((GQueue *)&node->to_node), SMALL_TO_NODE + i) |
           bit(!g_queue_is_empty((GQueue *)&node->to_host), SMALL_TO_HOST + i) |
           bit(!node->is_connected, SMALL_CONNECT + i) | bit(wants_beat, SMALL_BEAT + i);
}

static uint64_t enabled_of_task(const struct small *s, unsigned i) {
    struct node *node = NULL;
    const struct slot *slot = slot_of(s, i + 1, &node);
    const struct live_task *live = controller_live(s->host, i + 1);
    bool is_shown = live && live->shown;

    return bit(!s->was_submitted[i], SMALL_SUBMIT + i) | bit(slot && slot->has_container, SMALL_END + i) |
           bit(slot && slot->has_container, SMALL_END_DIRTY + i) | bit(slot && slot->is_draining, SMALL_DRAINED + i) |
           bit(is_shown && !s->was_killed[i + 1], SMALL_KILL + i);
}

static uint64_t enabled_faults(const struct small *s) {
    const struct record *first = g_queue_peek_head((GQueue *)&s->records);
    const struct live_task *one = controller_live(s->host, 1);
    uint64_t set = bit(first, SMALL_FAIL) | bit(true, SMALL_CRASH) |
                   bit(first && !first->is_insert_only, SMALL_CRASH_WRITTEN) | bit(true, SMALL_SILENCE) |
                   bit(one && one->shown && !s->was_forced[1], SMALL_RELEASE) | bit(true, SMALL_REBOOT);

    for (unsigned i = 0; i < SMALL_NODES; i++)
        set |= bit(s->nodes[i].is_connected, SMALL_CUT + i);
    return s->n_faults < s->max_faults ? set : 0;
}

uint64_t small_enabled(const struct small *s) {
    uint64_t set = enabled_faults(s) | bit(!g_queue_is_empty((GQueue *)&s->records), SMALL_COMMIT) |
                   bit(has_dirty(s), SMALL_TICK) | bit(s->n_pauses < 2 && controller_task(s->host, 1), SMALL_PAUSE);

    for (unsigned i = 0; i < SMALL_NODES; i++)
        set |= enabled_of_node(s, i);
    for (unsigned i = 0; i < SMALL_TASKS; i++)
        set |= enabled_of_task(s, i);
    return set;
}

static void do_to_task(struct small *s, unsigned action) {
    unsigned i = (action - SMALL_END) % SMALL_TASKS;
    struct node *node = NULL;
    struct slot *slot = slot_of(s, i + 1, &node);

    if (action >= SMALL_KILL) {
        s->was_killed[i + 1] = true;
        controller_kill(s->host, i + 1, s->now, on_done, NULL, NULL);
    } else if (action >= SMALL_DRAINED)
        node_drained(node, slot);
    else
        node_end(s, node, slot, TASK_COMPLETED, action >= SMALL_END_DIRTY);
}

static void do_fault(struct small *s, unsigned action) {
    s->n_faults++;
    if (action == SMALL_FAIL)
        commit(s, true);
    else if (action == SMALL_CRASH || action == SMALL_CRASH_WRITTEN)
        host_crash(s, action == SMALL_CRASH_WRITTEN);
    else if (action < SMALL_SILENCE)
        cut(s, &s->nodes[action - SMALL_CUT]);
    else if (action == SMALL_SILENCE) {
        s->now.mono_ms += OFFLINE_MS + 1000;
        controller_tick(s->host, s->now);
    } else if (action == SMALL_RELEASE)
        release(s);
    else
        node_reboot(s, &s->nodes[0]);
}

void small_do(struct small *s, unsigned action) {
    if (action >= SMALL_FAIL)
        do_fault(s, action);
    else if (action == SMALL_PAUSE)
        controller_pause(s->host, 1, s->n_pauses++ == 0, on_done, NULL, NULL);
    else if (action >= SMALL_END)
        do_to_task(s, action);
    else if (action >= SMALL_BEAT) {
        s->n_beats++;
        node_beat(&s->nodes[action - SMALL_BEAT]);
    } else if (action >= SMALL_CONNECT)
        node_connect(s, &s->nodes[action - SMALL_CONNECT]);
    else if (action == SMALL_TICK)
        controller_tick(s->host, s->now);
    else if (action == SMALL_COMMIT)
        commit(s, false);
    else if (action >= SMALL_TO_HOST)
        host_take(s, &s->nodes[action - SMALL_TO_HOST]);
    else if (action >= SMALL_TO_NODE)
        node_take(s, &s->nodes[action - SMALL_TO_NODE]);
    else
        submit(s, action);
}

const char *small_action_text(unsigned action) {
    static const char *const texts[SMALL_ACTIONS] = {"submit n0::0",
                                                     "submit n1::0",
                                                     "submit n0::0 again",
                                                     "host -> n0",
                                                     "host -> n1",
                                                     "n0 -> host",
                                                     "n1 -> host",
                                                     "commit",
                                                     "tick",
                                                     "n0 connects",
                                                     "n1 connects",
                                                     "n0 beats",
                                                     "n1 beats",
                                                     "task 1 ends",
                                                     "task 2 ends",
                                                     "task 3 ends",
                                                     "task 1 ends, memory stays",
                                                     "task 2 ends, memory stays",
                                                     "task 3 ends, memory stays",
                                                     "task 1 drained",
                                                     "task 2 drained",
                                                     "task 3 drained",
                                                     "kill task 1",
                                                     "kill task 2",
                                                     "kill task 3",
                                                     "pause or resume task 1",
                                                     "write fails",
                                                     "kill -9 of the host",
                                                     "kill -9 of the host, oldest record on disk",
                                                     "cut of n0",
                                                     "cut of n1",
                                                     "silence",
                                                     "task 1 released by order",
                                                     "reboot of n0"};

    return texts[action];
}

/* ---- digest: what can make a difference later, in bytes. Times are none, but for who is online ---- */

static void put(GByteArray *b, uint64_t value) { /* small numbers, mostly */
    while (value >= 0x80) {
        g_byte_array_append(b, &(uint8_t){(uint8_t)(value | 0x80)}, 1);
        value >>= 7;
    }
    g_byte_array_append(b, &(uint8_t){(uint8_t)value}, 1);
}

static void put_bits(GByteArray *b, size_t n, const bool *bits) {
    uint64_t set = 0;

    for (size_t i = 0; i < n; i++)
        set |= (uint64_t)bits[i] << i;
    put(b, set);
}

static void put_lease(GByteArray *b, const struct lease *lease) {
    put(b, lease->task_id);
    put(b, (uint64_t)lease->epoch);
    put(b, (uint64_t)lease->node[1]);
    put(b, lease->boot_id[0] ? (uint64_t)lease->boot_id[5] : 0);
}

static void put_task(GByteArray *b, const struct task *task) {
    if (task) {
        put_lease(b, &task->lease);
        put_bits(b, 6,
                 (bool[]){task->holds_lease, task->kill_requested, task->pause_requested, task->release_forced,
                          task->holding != NULL, true});
        put(b, task->state);
    } else
        put(b, 0);
}

static void put_slot(GByteArray *b, const struct slot *slot) {
    put_lease(b, &slot->lease);
    put_bits(b, 4, (bool[]){slot->released, slot->never_started, slot->has_container, slot->is_draining});
    put(b, slot->state);
}

static void put_info(GByteArray *b, const struct node_info *info) {
    const struct gpu *gpu = info->gpus->pdata[0];

    put(b, (uint64_t)info->boot_id[5]);
    put(b, gpu->proof.facts);
}

static void put_messages(GByteArray *b, const GQueue *queue) {
    put(b, queue->length);
    for (const GList *item = queue->head; item; item = item->next) {
        const struct message *message = item->data;
        put(b, message->what);
        put(b, message->task_id);
        put(b, (uint64_t)message->epoch);
        if (message->what == SAYS_REPORT || message->what == SAYS_START)
            put_slot(b, &message->slot);
        if (message->info)
            put_info(b, message->info);
    }
}

static void put_node(GByteArray *b, const struct node *node) {
    put_bits(b, 2, (bool[]){node->is_connected, node->was_heard});
    put(b, node->boot);
    put(b, (uint64_t)node->taken_epoch);
    put(b, node->slots->len);
    for (guint i = 0; i < node->slots->len; i++)
        put_slot(b, node->slots->pdata[i]);
    put_messages(b, &node->to_host);
    put_messages(b, &node->to_node);
}

static void put_live(GByteArray *b, const struct live_task *live) {
    if (!live) {
        put(b, 0);
        return;
    }
    put_bits(b, 9,
             (bool[]){true, live->is_dirty, live->is_adopted, live->is_adopting, live->is_gone_there, live->was_sent,
                      live->start_sent, live->stop_sent, live->forget_sent});
    put(b, (uint64_t)live->pause_sent);
    put_task(b, live->draft);
    put_task(b, live->shown);
}

static void put_view(GByteArray *b, const struct small *s, const struct node *node) {
    const struct pool *pool = controller_pool(s->host);
    const struct cluster_node *known = cluster_find(pool->cluster, node->name);
    const GPtrArray *entries = ledger_of_node(pool->ledger, node->name);
    g_autofree char *uuid = g_strdup_printf("GPU-%s", node->name);
    const struct pool_card *card = g_hash_table_lookup(pool->cards, uuid);

    if (known) {
        put_bits(b, 3,
                 (bool[]){known->is_connected, known->was_online, cluster_is_online(pool->cluster, known, s->now)});
        put_info(b, known->info);
    }
    put(b, card ? card->proof.facts : 0);
    put(b, entries ? entries->len : 0);
    for (guint i = 0; entries && i < entries->len; i++) {
        const struct ledger_entry *entry = entries->pdata[i];
        put_lease(b, &entry->lease);
        put(b, entry->is_orphan);
    }
}

static void put_host(GByteArray *b, const struct small *s) {
    put(b, s->host->last_task_id);
    put(b, (uint64_t)ledger_last_epoch(controller_ledger(s->host)));
    put(b, g_hash_table_size(s->host->submitting));
    for (uint32_t id = 1; id <= SMALL_TASKS; id++)
        put_live(b, controller_live(s->host, id));
    for (int i = 0; i < SMALL_NODES; i++)
        put_view(b, s, &s->nodes[i]);
}

static void put_outside(GByteArray *b, const struct small *s) { /* the disk, what is on its way there, users */
    for (guint id = 0; id < s->disk->len; id++)
        put_task(b, on_disk(s, id));
    put(b, s->records.length);
    for (const GList *item = s->records.head; item; item = item->next) {
        const struct record *record = item->data;
        put_bits(b, 2, (bool[]){record->is_insert_only, record->submit != NULL});
        for (guint i = 0; i < record->tasks->len; i++)
            put_task(b, record->tasks->pdata[i]);
    }
    for (guint i = 0; i < s->started->len; i++) /* in whatever order they were started */
        put(b, g_array_index(s->started, gsize, i));
    for (int id = 1; id <= SMALL_TASKS; id++)
        put(b, s->truth[id]);
    put_bits(b, SMALL_TASKS, s->was_submitted);
    put_bits(b, SMALL_TASKS + 1, s->was_killed);
    put_bits(b, SMALL_TASKS + 1, s->was_forced);
    put(b, s->n_pauses);
    put(b, s->n_beats);
    put(b, s->n_faults);
}

void small_digest(const struct small *s, uint8_t ret_digest[static SMALL_DIGEST_BYTES]) {
    g_autoptr(GByteArray) bytes = g_byte_array_sized_new(512);
    g_autoptr(GChecksum) md5 = g_checksum_new(G_CHECKSUM_MD5);
    gsize length = SMALL_DIGEST_BYTES;

    put_outside(bytes, s);
    put_host(bytes, s);
    for (int i = 0; i < SMALL_NODES; i++)
        put_node(bytes, &s->nodes[i]);
    g_checksum_update(md5, bytes->data, bytes->len);
    g_checksum_get_digest(md5, ret_digest, &length);
}

/* ---- truth ---- */

static bool is_free(const struct small *s, const struct node *node) {
    const struct cluster_node *known = cluster_find(controller_cluster(s->host), node->name);
    const struct gpu *gpu = known ? node_info_gpu_by_index(known->info, 0) : NULL;

    return gpu && pool_gpu_state(controller_pool(s->host), known, gpu, NULL, s->now, NULL) == GPU_STATE_FREE;
}

void small_check(const struct small *s) {
    controller_check(s->host);
    for (int i = 0; i < SMALL_NODES; i++) {
        const struct node *node = &s->nodes[i];
        g_autofree char *uuid = g_strdup_printf("GPU-%s", node->name);
        const struct ledger_entry *holder = ledger_holder(controller_ledger(s->host), uuid);
        const struct slot *user = NULL;

        for (guint k = 0; k < node->slots->len; k++) {
            const struct slot *slot = node->slots->pdata[k];
            if (!slot->has_container && !slot->is_draining)
                continue;
            if (user)
                broken("R1: two containers have one card", uuid);
            user = slot;
        }
        if (user && holder && holder->lease.task_id != user->lease.task_id)
            broken("R1: a card in use is held by another task", uuid);
        if (user && !holder && is_free(s, node))
            broken("R2: a card in use is free", uuid);
    }
}

/* ---- rest ---- */

static bool is_at_rest(const struct small *s) {
    for (guint id = 0; id < s->disk->len; id++) {
        const struct task *task = on_disk(s, id);
        if (task && (!task_state_is_terminal(task->state) || task->holds_lease))
            return false;
    }
    for (int i = 0; i < SMALL_NODES; i++) {
        const GPtrArray *held = ledger_of_node(controller_ledger(s->host), s->nodes[i].name);
        if (s->nodes[i].slots->len > 0 || (held && held->len > 0) || !is_free(s, &s->nodes[i]))
            return false;
    }
    return g_queue_is_empty((GQueue *)&s->records);
}

static void settle_node(struct small *s, struct node *node) {
    if (!node->is_connected)
        node_connect(s, node);
    node_beat(node);
    while (!g_queue_is_empty(&node->to_node))
        node_take(s, node);
    for (guint i = 0; i < node->slots->len; i++) {
        struct slot *slot = node->slots->pdata[i];
        if (slot->is_draining)
            node_drained(node, slot);
        else if (slot->has_container)
            node_end(s, node, slot, TASK_COMPLETED, false);
    }
    while (!g_queue_is_empty(&node->to_host))
        host_take(s, node);
}

void small_settle(struct small *s) {
    for (int round = 0; round < MAX_SETTLE_ROUNDS && (round < 1 || !is_at_rest(s)); round++) {
        s->now.mono_ms += 1000;
        for (int i = 0; i < SMALL_NODES; i++)
            settle_node(s, &s->nodes[i]);
        controller_tick(s->host, s->now);
        while (!g_queue_is_empty(&s->records))
            commit(s, false);
        small_check(s);
    }
    if (!is_at_rest(s))
        broken("a task does not end, or a lease or a card leaks", "settled");
}

/* ---- life ---- */

static void free_task(gpointer task) { task_free(task); }

struct small *small_new(unsigned max_faults) {
    struct small *s = g_new0(struct small, 1);

    s->now = (struct core_time){.wall_ms = 1700000000000, .mono_ms = 1000};
    s->max_faults = max_faults;
    s->disk = g_ptr_array_new_with_free_func(free_task);
    s->started = g_array_new(FALSE, FALSE, sizeof(gsize));
    host_start(s);
    for (int i = 0; i < SMALL_NODES; i++) {
        g_snprintf(s->nodes[i].name, sizeof s->nodes[i].name, "n%d", i);
        s->nodes[i].slots = g_ptr_array_new_with_free_func(g_free);
        node_connect(s, &s->nodes[i]);
    }
    return s;
}

void small_free(struct small *s) {
    for (int i = 0; i < SMALL_NODES; i++) {
        cut(s, &s->nodes[i]);
        g_ptr_array_unref(s->nodes[i].slots);
    }
    controller_free(s->host);
    g_queue_clear_full(&s->records, (GDestroyNotify)record_free);
    g_ptr_array_unref(s->disk);
    g_array_unref(s->started);
    g_free(s);
}
