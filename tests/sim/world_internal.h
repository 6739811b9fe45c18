#pragma once
/* Shared by the parts of the simulator: world.c (time and steps), node.c (a runner and its machine), cards.c (its GPUs), host.c (the
 * host, its store), users.c (who submits and kills), checks.c (what must be true). */

#include <glib.h>
#include <jansson.h>

#include "core/controller.h"
#include "engine/simulated.h"
#include "model/wire_seq.h"
#include "runner/executor.h"
#include "sim/dice.h"
#include "sim/disk.h"
#include "sim/trace.h"
#include "sim/vclock.h"
#include "sim/world.h"

enum { N_NODES = 3, N_GPUS = 4, OFFLINE_MS = 3000, FIRST_ROGUE = 1000000, N_KEYS_KEPT = 8 };

/* Who has something on a card. task_id 0: nobody. */
struct holder {
    uint32_t task_id;
    int64_t epoch;
};

struct running {
    struct holder holder;
    pid_t pid;
};

struct card {
    struct node *node;
    char uuid[16];
    int index;
    /* the world's truth */
    struct holder running; /* of a container that runs */
    struct holder rest;    /* whose memory or process is still there after its container… */
    int64_t rest_until;    /* … so long */
    int64_t foreign_until; /* somebody's process */
    int64_t missing_until, mute_until;
    /* what this life of the runner has seen */
    bool is_leased;
    bool was_leased_before; /* by the life of the runner before this one */
    bool was_found_free;    /* under the present lease, and not started on since */
    enum gpu_condition seen_condition;
    struct proof seen_proof;
};

struct node {
    struct world *world;
    char name[8];
    struct vclock clock;
    struct disk disk;
    struct sim_world *engine_world;
    struct card cards[N_GPUS];
    GHashTable *running; /* task id -> struct running: containers that run, with GPUs or without */
    GHashTable *ran;     /* names of the containers that were ever started */
    unsigned boot;
    int64_t boot_mono_ms;
    int64_t inventory_unknown_until, disk_full_until, engine_ill_until;
    /* one life of the runner; NULL while it is down */
    struct engine *engine;
    struct lease_files *leases;
    struct executor *executor;
    bool is_disturbed; /* what ends now ends by a reboot or a stranger */
    bool is_dying;     /* killed in the middle of what it did */
    /* the network: one wire at a time, each end learns of its end apart */
    int wire, host_wire; /* the number of the last one dialled; the one that the host listens to, 0: none */
    bool is_dialled, is_up, is_severed;
    int64_t partitioned_until;
    struct wire_seq host_side, node_side;
    GQueue to_host, to_node; /* of json_t, in order */
    GPtrArray *held;         /* of json_t: said before the welcome */
    bool was_heard;          /* by this life of the host */
};

/* How a container really ended. */
struct ending {
    int64_t epoch;
    int exit_code;
    bool is_disturbed; /* a reboot or a stranger had a hand in it, or in the knowledge of it */
    struct node *node;
};

struct kept_submission {
    char *key, *targets[3], *command[5];
    int n_targets;
};

struct world {
    uint64_t seed;
    unsigned step;
    struct dice dice; /* of the present step */
    struct core_time now;
    struct controller *host;
    /* the host's disk */
    GHashTable *store;    /* task id -> struct task */
    GHashTable *snapshot; /* an old copy of it, or NULL */
    GHashTable *keys;     /* Idempotency-Key -> batch id */
    json_t *infos[N_NODES];
    GQueue records;    /* of struct record: on their way to the disk */
    GHashTable *truth; /* task id -> struct ending */
    bool may_restore, was_restored, is_calm;
    unsigned n_keys;
    struct kept_submission kept[N_KEYS_KEPT];
    struct node nodes[N_NODES];
    struct world_counts counts;
};

/* Aborts. What stands before the parenthesis names the kind of violation. */
void broken(const struct world *w, const char *what, const char *format, ...) G_GNUC_PRINTF(3, 4) G_GNUC_NORETURN;
static inline unsigned pick(struct world *w, unsigned n) { return dice_pick(&w->dice, n); }
static inline bool chance(struct world *w, unsigned percent) { return dice_chance(&w->dice, percent); }

/* cards.c */
void cards_init(struct node *node);
extern const struct executor_gpus cards_table; /* without its user */
/* The monitor looks at them. */
void cards_look(struct node *node);
void cards_forget_views(struct node *node); /* a new life of the runner knows nothing */
void cards_describe(const struct node *node, struct node_info *info);
/* A container of this task starts, or has ended. */
void cards_take(struct node *node, const struct lease *lease);
void cards_give_back(struct node *node, struct holder holder, bool is_reboot);
/* Who has something on it now; NULL: nobody. */
const struct holder *card_user(const struct card *card);
void card_fault(struct card *card);
bool cards_in_order(struct node *node); /* no fault, nothing foreign or left on them */
void cards_mend(struct node *node);

/* node.c */
void node_init(struct world *w, struct node *node, int number);
void node_clear(struct node *node);
struct node *node_entered(void); /* whose code runs now */
void node_enter(struct node *node);
void node_live(struct node *node); /* the runner starts */
void node_die(struct node *node);  /* kill -9 */
void node_reboot(struct node *node);
void node_run(struct node *node, unsigned max_timers);
void node_dial(struct node *node);
void node_hang_up(struct node *node); /* its end of the wire */
void node_take(struct node *node);    /* the next message of the host */
void node_take_rogue(struct node *node);
void node_beat(struct node *node);
/* After whatever may have killed it in the middle. */
void node_bury(struct node *node);

/* host.c */
void host_start(struct world *w);
void host_crash(struct world *w);
void host_commit(struct world *w, bool fails);
void host_take(struct world *w, struct node *node);
void host_hang_up(struct world *w, struct node *node);
void host_keep_snapshot(struct world *w);
void host_drop_records(struct world *w); /* on their way when it ends */
void host_drop_ended(struct world *w);
void wire_sever(struct node *node);

/* users.c */
void users_submit(struct world *w);
void users_repeat(struct world *w);
void users_kill(struct world *w);
void users_pause(struct world *w);
void users_release(struct world *w);
void users_end_orphan(struct world *w);
void users_clear(struct world *w);

/* checks.c */
void check_end(struct world *w, const struct task *task);    /* a terminal record is durable */
void check_unique(struct world *w, const struct task *task); /* before it is */
void check_start(struct node *node, const struct lease *lease, const char *name);
void check_removal(struct node *node, uint32_t task_id, int64_t epoch);
void check_forgotten(struct node *node, const char *path);
void check_agreement(struct world *w); /* in a calm moment: ledger, store, nodes say the same */
void check_settled(struct world *w);
