#pragma once
/* The facts about cards that decisions are made from, in one place: nodes, leases, operators' marks, and the proofs that
 * cards are at rest. Pure. */

#include <glib.h>
#include <stdbool.h>

#include "core/cluster.h"
#include "core/gpu_state.h"
#include "core/ledger.h"
#include "model/operator.h"

struct pool {
    struct cluster *cluster;
    struct ledger *ledger;
    GHashTable *cards;   /* UUID, or NODE/PCI of a card without -> struct pool_card */
    GHashTable *marks;   /* subject -> struct mark */
    GHashTable *pardons; /* UUID -> struct pardon */
};

/* What is remembered of a card beside the facts: since when it is what it is, and the proof that stands. */
struct pool_card {
    enum gpu_state state;
    char *reason;
    int64_t since_ms; /* wall clock */
    struct proof proof;
    enum gpu_health health;
    char *health_reason; /* NULL for OK */
    struct gpu_failures failures;
};

void pool_init(struct pool *pool, int64_t offline_after_ms);
void pool_clear(struct pool *pool);

/* A card proved at rest, or no longer (NULL). It counts while nobody holds the card; whoever releases a lease that its node
 * may have known says anew what is proved. */
void pool_set_proof(struct pool *pool, const char *uuid, const struct proof *proof);
void pool_set_proofs(struct pool *pool, const struct lease *lease, const struct proof *proof); /* of its cards */

/* Borrowed, or NULL. */
const struct mark *pool_mark_of_node(const struct pool *pool, const char *node);
const struct mark *pool_mark_of_gpu(const struct pool *pool, const char *uuid);
void pool_set_mark(struct pool *pool, struct mark *mark); /* takes it */
void pool_drop_mark(struct pool *pool, const char *subject);

void pool_set_pardon(struct pool *pool, struct pardon *pardon); /* takes it */
/* A task of that owner has ended on the cards of its lease by itself. Its failures in a row speak against a card. */
void pool_note_end(struct pool *pool, const struct lease *lease, const char *owner, bool is_failure,
                   struct core_time now);
/* Whether the card can be trusted. *ret_reason may be NULL; caller frees. */
enum gpu_health pool_gpu_health(const struct pool *pool, const struct cluster_node *node, const struct gpu *gpu,
                                struct core_time now, char **ret_reason);

/* The state of a node's card now. holder_task: of the lease that holds it, when the caller knows it. */
enum gpu_state pool_gpu_state(const struct pool *pool, const struct cluster_node *node, const struct gpu *gpu,
                              const struct task *holder_task, struct core_time now, char **ret_reason);
/* The same, noted with the time of its last change. Borrowed until the next note of this card. *ret_is_news: state, health or
 * a reason differs from what was noted before. */
const struct pool_card *pool_note_gpu(struct pool *pool, const struct cluster_node *node, const struct gpu *gpu,
                                      const struct task *holder_task, struct core_time now, bool *ret_is_news);
