#include "core/pool.h"

#include "base/fault.h"

static void card_free(struct pool_card *card) {
    g_free(card->reason);
    g_free(card->health_reason);
    g_free(card);
}

void pool_init(struct pool *pool, int64_t offline_after_ms) {
    pool->cluster = cluster_new(offline_after_ms);
    pool->ledger = ledger_new();
    pool->cards = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)card_free);
    pool->marks = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)mark_free);
    pool->pardons = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)pardon_free);
}

void pool_clear(struct pool *pool) {
    g_hash_table_unref(pool->cards);
    g_hash_table_unref(pool->marks);
    g_hash_table_unref(pool->pardons);
    ledger_free(pool->ledger);
    cluster_free(pool->cluster);
}

static struct pool_card *card_of(struct pool *pool, const char *uuid) {
    struct pool_card *card = g_hash_table_lookup(pool->cards, uuid);

    if (!card) {
        card = g_new0(struct pool_card, 1);
        g_hash_table_insert(pool->cards, g_strdup(uuid), card);
    }
    return card;
}

void pool_set_proof(struct pool *pool, const char *uuid, const struct proof *proof) {
    card_of(pool, uuid)->proof = proof ? *proof : (struct proof){0};
}

void pool_set_proofs(struct pool *pool, const struct lease *lease, const struct proof *proof) {
    for (size_t i = 0; i < lease->n_gpus; i++)
        pool_set_proof(pool, lease->gpus[i].uuid, proof);
}

const struct mark *pool_mark_of_node(const struct pool *pool, const char *node) {
    char subject[MARK_SUBJECT_MAX_BYTES + 1];

    mark_subject_of_node(node, subject);
    return g_hash_table_lookup(pool->marks, subject);
}

const struct mark *pool_mark_of_gpu(const struct pool *pool, const char *uuid) {
    char subject[MARK_SUBJECT_MAX_BYTES + 1];

    mark_subject_of_gpu(uuid, subject);
    return g_hash_table_lookup(pool->marks, subject);
}

void pool_set_mark(struct pool *pool, struct mark *mark) { g_hash_table_replace(pool->marks, mark->subject, mark); }
void pool_drop_mark(struct pool *pool, const char *subject) { g_hash_table_remove(pool->marks, subject); }

void pool_set_pardon(struct pool *pool, struct pardon *pardon) {
    struct pool_card *card = g_hash_table_lookup(pool->cards, pardon->uuid);

    if (card)
        card->failures = (struct gpu_failures){0};
    g_hash_table_replace(pool->pardons, pardon->uuid, pardon);
}

void pool_note_end(struct pool *pool, const struct lease *lease, const char *owner, bool is_failure,
                   struct core_time now) {
    for (size_t i = 0; i < lease->n_gpus; i++) {
        struct pool_card *card = card_of(pool, lease->gpus[i].uuid);

        if (is_failure)
            gpu_failures_note(&card->failures, owner, now.wall_ms);
        else
            card->failures = (struct gpu_failures){0};
    }
}

enum gpu_health pool_gpu_health(const struct pool *pool, const struct cluster_node *node, const struct gpu *gpu,
                                struct core_time now, char **ret_reason) {
    const struct pool_card *card = g_hash_table_lookup(pool->cards, gpu->uuid);
    struct gpu_health_view view = {.gpu = gpu,
                                   .boot_id = node->info->boot_id,
                                   .pardon = g_hash_table_lookup(pool->pardons, gpu->uuid),
                                   .failures = card ? &card->failures : NULL,
                                   .now_ms = now.wall_ms};

    return gpu_health_judge(&view, ret_reason);
}

/* Why the node's word about its cards does not count now. Caller frees; NULL when it does. It does not say for how long: the
 * state's own time does, and a text that changes with every second would be news with every second. */
static char *no_word(const struct pool *pool, const struct cluster_node *node, struct core_time now) {
    if (fault_mutant("R3-unknown-is-free"))
        return NULL;
    if (node->heard_mono_ms == 0)
        return g_strdup("its node has not connected since the host started");
    if (!cluster_is_online(pool->cluster, node, now))
        return g_strdup("its node is silent");
    if (!node->info->gpus_known)
        return g_strdup_printf("its node reports no inventory: %s",
                               node->info->gpu_text ? node->info->gpu_text : "no reason given");
    return NULL;
}

static enum gpu_state judge_state(const struct pool *pool, const struct cluster_node *node, const struct gpu *gpu,
                                  const struct task *holder_task, struct core_time now, enum gpu_health health,
                                  const char *against, char **ret_reason) {
    static const struct proof none = {0};
    const struct pool_card *card = g_hash_table_lookup(pool->cards, gpu->uuid);
    g_autofree char *why = no_word(pool, node, now);
    struct gpu_view view = {.gpu = gpu,
                            .why_no_word = why,
                            .holder = gpu->uuid[0] ? ledger_holder(pool->ledger, gpu->uuid) : NULL,
                            .task = holder_task,
                            .gpu_mark = pool_mark_of_gpu(pool, gpu->uuid),
                            .node_mark = pool_mark_of_node(pool, node->info->name),
                            .proof = card ? &card->proof : &none,
                            .health = health,
                            .health_reason = against};

    return gpu_state_judge(&view, ret_reason);
}

enum gpu_state pool_gpu_state(const struct pool *pool, const struct cluster_node *node, const struct gpu *gpu,
                              const struct task *holder_task, struct core_time now, char **ret_reason) {
    g_autofree char *against = NULL;
    enum gpu_health health = pool_gpu_health(pool, node, gpu, now, &against);

    return judge_state(pool, node, gpu, holder_task, now, health, against, ret_reason);
}

const struct pool_card *pool_note_gpu(struct pool *pool, const struct cluster_node *node, const struct gpu *gpu,
                                      const struct task *holder_task, struct core_time now, bool *ret_is_news) {
    char *reason = NULL, *against = NULL;
    enum gpu_health health = pool_gpu_health(pool, node, gpu, now, &against);
    enum gpu_state state = judge_state(pool, node, gpu, holder_task, now, health, against, &reason);
    g_autofree char *place = gpu->uuid[0] ? NULL : g_strdup_printf("%s/%s", node->info->name, gpu->pci);
    struct pool_card *card = card_of(pool, place ? place : gpu->uuid); /* place: it has not said who it is */

    *ret_is_news = card->state != state || card->health != health || g_strcmp0(card->reason, reason) != 0 ||
                   g_strcmp0(card->health_reason, against) != 0;
    if (card->state != state)
        card->since_ms = now.wall_ms;
    card->state = state;
    g_free(card->reason);
    card->reason = reason;
    g_free(card->health_reason);
    card->health = health;
    card->health_reason = against;
    return card;
}
