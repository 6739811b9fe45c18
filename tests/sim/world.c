#include "sim/world.h"

#include <string.h>

#include "sim/world_internal.h"

enum {
    SNAPSHOT_EVERY = 4096,
    DROP_EVERY = 256,
    CALM_ROUNDS = 60,
    CALM_ROUND_MS = 50,
    SETTLE_ROUNDS = 600,
    LONGEST_ILLNESS_MS = 600
};

/* ---- steps: each draws what it needs from the step's own dice ---- */

static struct node *some_node(struct world *w) { return &w->nodes[pick(w, N_NODES)]; }

static void step_host_takes(struct world *w) {
    struct node *node = some_node(w);

    for (unsigned n = 1 + pick(w, 3); n > 0; n--)
        host_take(w, node);
}

/* The next durable write of the node, or one of the next, may be its last act. */
static void arm(struct node *node) {
    struct world *w = node->world;

    if (chance(w, 5)) {
        node->disk.crash_in = 1 + (int)pick(w, 3);
        node->disk.crash_after = chance(w, 50);
    }
}

static void step_node_takes(struct world *w) {
    struct node *node = some_node(w);

    arm(node);
    for (unsigned n = 1 + pick(w, 3); n > 0; n--)
        node_take(node);
    node->disk.crash_in = 0;
}

static void step_node_runs(struct world *w) {
    struct node *node = some_node(w);

    arm(node);
    node_run(node, 1 + pick(w, 8));
    node->disk.crash_in = 0;
}

static void step_commits(struct world *w) {
    bool fails = chance(w, 3);

    for (unsigned n = 1 + pick(w, 3); n > 0; n--)
        host_commit(w, fails);
}

static void step_ticks(struct world *w) { controller_tick(w->host, w->now); }

/* The node does what is due: comes up, dials, looks at its cards, tells. */
static void step_node_beats(struct world *w) {
    struct node *node = some_node(w);

    if (!node->executor)
        node_live(node);
    else if (!node->is_dialled || (node->is_severed && chance(w, 60)) || (!node->is_up && chance(w, 5)))
        node_dial(node);
    else {
        cards_look(node);
        node_beat(node);
    }
}

static void step_looks(struct world *w) { cards_look(some_node(w)); }

static void step_cut(struct world *w) {
    struct node *node = some_node(w);
    unsigned who = pick(w, 4);

    wire_sever(node);
    if (who != 0)
        node_hang_up(node);
    if (who != 1)
        host_hang_up(w, node);
    if (chance(w, 40))
        node->partitioned_until = w->now.mono_ms + pick(w, 2 * OFFLINE_MS);
}

/* Who has not noticed yet that the other end is gone. */
static void step_notices(struct world *w) {
    struct node *node = some_node(w);

    if (node->is_severed && chance(w, 50))
        node_hang_up(node);
    else if (node->host_wire && (node->is_severed || node->host_wire != node->wire))
        host_hang_up(w, node);
}

static void step_rogue(struct world *w) { node_take_rogue(some_node(w)); }
static void step_host_dies(struct world *w) { host_crash(w); }
static void step_runner_dies(struct world *w) { node_die(some_node(w)); }
static void step_reboots(struct world *w) { node_reboot(some_node(w)); }
static void step_card_fault(struct world *w) { card_fault(&some_node(w)->cards[pick(w, N_GPUS)]); }

static void step_disk(struct world *w) {
    struct node *node = some_node(w);

    node->disk.is_full = true;
    node->disk_full_until = w->now.mono_ms + 1 + pick(w, LONGEST_ILLNESS_MS);
    trace_line("    %s: its disk is full", node->name);
}

static const char *const operations[] = {"create", "start",  "wait", "inspect", "logs",
                                         "signal", "remove", "list", "pull"};

static void mend_engine(struct node *node) {
    sim_world_set_down(node->engine_world, false);
    for (size_t i = 0; i < G_N_ELEMENTS(operations); i++)
        sim_world_hang(node->engine_world, operations[i], false);
    node->engine_ill_until = 0;
}

static void step_engine(struct world *w) {
    struct node *node = some_node(w);
    const char *operation = operations[pick(w, G_N_ELEMENTS(operations))];
    unsigned what = pick(w, 3);
    bool after = chance(w, 50);

    if (chance(w, 30)) /* what everything in doubt begins with */
        operation = "inspect";
    node->engine_ill_until = w->now.mono_ms + 1 + pick(w, LONGEST_ILLNESS_MS);
    trace_line("    %s: the engine %s%s%s", node->name,
               what == 0   ? "is down"
               : what == 1 ? "hangs: "
                           : "breaks: ",
               what ? operation : "", what == 2 && after ? " (after doing it)" : "");
    if (what == 0)
        sim_world_set_down(node->engine_world, true);
    else if (what == 1)
        sim_world_hang(node->engine_world, operation, true);
    else
        sim_world_break(node->engine_world, operation, 1 + (int)pick(w, 2), after);
}

/* Illnesses end. */
static void heal(struct node *node) {
    int64_t now_ms = node->world->now.mono_ms;

    if (node->disk_full_until <= now_ms)
        node->disk.is_full = false;
    if (node->engine_ill_until && node->engine_ill_until <= now_ms)
        mend_engine(node);
}

/* Somebody removes one of our containers by hand. */
static void step_stranger(struct world *w) {
    struct node *node = some_node(w);
    guint n = g_hash_table_size(node->running);
    g_autofree gpointer *ids = n ? g_hash_table_get_keys_as_array(node->running, NULL) : NULL;
    const struct running *running = n ? g_hash_table_lookup(node->running, ids[pick(w, n)]) : NULL;
    g_autofree char *name = NULL;

    if (!running)
        return;
    name = g_strdup_printf("kohakuriver-c1-%s-%u-%" G_GINT64_FORMAT, node->name, running->holder.task_id,
                           running->holder.epoch);
    node->is_disturbed = true;
    sim_world_remove(node->engine_world, name);
    node->is_disturbed = false;
}

static void step_wall_jumps(struct world *w) { w->now.wall_ms += (int64_t)pick(w, 200000) - 100000; }

static void step_time_leaps(struct world *w) {
    int64_t leap_ms = (int64_t)pick(w, 2000);

    w->now.mono_ms += leap_ms;
    w->now.wall_ms += leap_ms;
}

/* The network loses, doubles or overtakes a message. */
static void step_garbles(struct world *w) {
    struct node *node = some_node(w);
    GQueue *queue = chance(w, 50) ? &node->to_host : &node->to_node;
    guint n = g_queue_get_length(queue), at = n ? pick(w, n) : 0;
    json_t *message = n ? g_queue_pop_nth(queue, at) : NULL;

    if (!message)
        return;
    if (chance(w, 33))
        json_decref(message);
    else if (chance(w, 50))
        g_queue_push_nth(queue, message, (gint)pick(w, n));
    else {
        g_queue_push_nth(queue, message, (gint)at);
        g_queue_push_tail(queue, json_incref(message));
    }
}

static void step_calm(struct world *w);

static const struct {
    unsigned weight;
    const char *name;
    void (*run)(struct world *w);
} steps[] = {
    {170, "the host takes a message", step_host_takes},
    {160, "a node takes a message", step_node_takes},
    {260, "a node runs", step_node_runs},
    {120, "the store commits", step_commits},
    {45, "a submission", users_submit},
    {8, "a submission again", users_repeat},
    {22, "a kill", users_kill},
    {5, "a pause", users_pause},
    {12, "a forced release", users_release},
    {8, "an orphan is ended", users_end_orphan},
    {30, "the host's second", step_ticks},
    {130, "a node's beat", step_node_beats},
    {10, "a look at the cards", step_looks},
    {6, "a connection breaks", step_cut},
    {14, "a broken connection is noticed", step_notices},
    {4, "a start that must be refused", step_rogue},
    {2, "the host dies", step_host_dies},
    {4, "a runner dies", step_runner_dies},
    {1, "a node reboots", step_reboots},
    {8, "a card's fault", step_card_fault},
    {4, "a node's disk", step_disk},
    {10, "the engine's health", step_engine},
    {1, "a stranger removes a container", step_stranger},
    {2, "the wall clock jumps", step_wall_jumps},
    {6, "time leaps", step_time_leaps},
    {4, "the network garbles", step_garbles},
    {1, "a calm moment", step_calm},
};

static size_t choose_step(struct world *w) {
    unsigned total = 0, dice;
    size_t i = 0;

    for (size_t k = 0; k < G_N_ELEMENTS(steps); k++)
        total += steps[k].weight;
    for (dice = pick(w, total); dice >= steps[i].weight; i++)
        dice -= steps[i].weight;
    return i;
}

static void pass_time(struct world *w, int64_t ms) {
    w->now.mono_ms += ms;
    w->now.wall_ms += ms;
    vclock_set(w->now.mono_ms, w->now.wall_ms);
}

void world_step(struct world *w, unsigned number) {
    size_t kind;

    w->step = number;
    dice_init(&w->dice, w->seed, number);
    kind = choose_step(w);
    trace_line("step %u, %" G_GINT64_FORMAT " ms: %s", number, w->now.mono_ms, steps[kind].name);
    pass_time(w, pick(w, 20));
    for (int i = 0; i < N_NODES; i++)
        heal(&w->nodes[i]);
    steps[kind].run(w);
    vclock_set(w->now.mono_ms, w->now.wall_ms);
    if (w->may_restore && number % SNAPSHOT_EVERY == 1)
        host_keep_snapshot(w);
    if (number % DROP_EVERY == 0)
        host_drop_ended(w);
}

/* ---- calm ---- */

static void mend(struct node *node) {
    node->disk.is_full = false;
    node->disk_full_until = node->partitioned_until = 0;
    cards_mend(node);
    mend_engine(node);
    if (node->is_severed || node->host_wire != node->wire)
        node_hang_up(node);
}

/* Everybody does what he has to, without faults. */
static void calm_round(struct world *w, int64_t ms) {
    pass_time(w, ms);
    for (int i = 0; i < N_NODES; i++) {
        struct node *node = &w->nodes[i];
        if (node->is_severed || !node->is_up) /* by now it has noticed; link.c waits only so long for a welcome */
            node_hang_up(node);
        if (!node->executor)
            node_live(node);
        else if (!node->is_dialled)
            node_dial(node);
        node_run(node, 1000);
        cards_look(node);
        node_beat(node);
        while (!g_queue_is_empty(&node->to_host))
            host_take(w, node);
        while (!g_queue_is_empty(&node->to_node))
            node_take(node);
        while (!g_queue_is_empty(&node->to_host))
            host_take(w, node);
    }
    controller_tick(w->host, w->now);
    while (!g_queue_is_empty(&w->records))
        host_commit(w, false);
    world_check(w);
}

static void step_calm(struct world *w) {
    for (int i = 0; i < N_NODES; i++)
        mend(&w->nodes[i]);
    for (int round = 0; round < CALM_ROUNDS; round++)
        calm_round(w, CALM_ROUND_MS);
    for (int round = 0; round < 3; round++) /* what is under way arrives */
        calm_round(w, 0);
    check_agreement(w);
    w->counts.calms++;
}

static void on_done(void *user, const struct task *task, const GError *error) {}

static void resume_all(struct world *w) {
    GHashTableIter iter;
    gpointer id;

    g_hash_table_iter_init(&iter, w->store);
    while (g_hash_table_iter_next(&iter, &id, NULL))
        controller_pause(w->host, GPOINTER_TO_UINT(id), false, on_done, NULL, NULL);
}

static bool is_at_rest(struct world *w) {
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, w->store);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (((const struct task *)value)->holds_lease)
            return false;
    for (int i = 0; i < N_NODES; i++)
        if (!cards_in_order(&w->nodes[i]) || executor_count(w->nodes[i].executor) > 0)
            return false;
    return true;
}

void world_settle(struct world *w) {
    int rest = 0;

    dice_init(&w->dice, w->seed, 0);
    trace_line("everything comes to rest");
    for (int i = 0; i < N_NODES; i++)
        mend(&w->nodes[i]);
    for (int round = 0; round < SETTLE_ROUNDS && rest < 20; round++) {
        if (round % 20 == 0)
            resume_all(w);
        calm_round(w, CALM_ROUND_MS);
        rest = is_at_rest(w) ? rest + 1 : 0;
    }
    check_settled(w);
}

/* ---- life ---- */

struct world *world_new(uint64_t seed) {
    struct world *w = g_new0(struct world, 1);

    w->seed = seed;
    w->now = (struct core_time){.wall_ms = 1700000000000, .mono_ms = 1000};
    w->may_restore = seed % 4 == 0; /* the others check what a rolled back store cannot keep */
    w->truth = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    w->store = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)task_free);
    w->keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    dice_init(&w->dice, seed, 0);
    vclock_set(w->now.mono_ms, w->now.wall_ms);
    host_start(w);
    for (int i = 0; i < N_NODES; i++) {
        node_init(w, &w->nodes[i], i);
        node_live(&w->nodes[i]);
    }
    return w;
}

void world_free(struct world *w) {
    for (int i = 0; i < N_NODES; i++) {
        node_clear(&w->nodes[i]);
        json_decref(w->infos[i]);
    }
    host_drop_records(w);
    controller_free(w->host);
    g_hash_table_unref(w->store);
    g_hash_table_unref(w->truth);
    g_hash_table_unref(w->keys);
    g_clear_pointer(&w->snapshot, g_hash_table_unref);
    users_clear(w);
    g_free(w);
}

const struct world_counts *world_count(const struct world *w) { return &w->counts; }
