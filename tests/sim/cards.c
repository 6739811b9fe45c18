/* The GPUs of a node: what is true of them, and what the runner can see. */

#include <string.h>

#include "base/error.h"
#include "sim/world_internal.h"

enum { FIRST_MINOR = 10, LONGEST_REST_MS = 1000, LONGEST_FAULT_MS = 800 };

void cards_init(struct node *node) {
    for (int i = 0; i < N_GPUS; i++) {
        struct card *card = &node->cards[i];
        *card = (struct card){.node = node, .index = i, .seen_condition = GPU_CONDITION_UNKNOWN};
        g_snprintf(card->uuid, sizeof card->uuid, "GPU-%s-%d", node->name, i);
    }
}

static struct card *card_of(struct node *node, const char *uuid) {
    for (int i = 0; i < N_GPUS; i++)
        if (strcmp(node->cards[i].uuid, uuid) == 0)
            return &node->cards[i];
    return NULL;
}

/* ---- truth ---- */

static bool has_rest(const struct card *card) { return card->rest_until > card->node->world->now.mono_ms; }
static bool is_missing(const struct card *card) { return card->missing_until > card->node->world->now.mono_ms; }
static bool is_mute(const struct card *card) { return card->mute_until > card->node->world->now.mono_ms; }
static bool no_inventory(const struct node *node) { return node->inventory_unknown_until > node->world->now.mono_ms; }
static bool has_foreign(const struct card *card) { return card->foreign_until > card->node->world->now.mono_ms; }

const struct holder *card_user(const struct card *card) {
    if (card->running.task_id)
        return &card->running;
    return has_rest(card) ? &card->rest : NULL;
}

void cards_take(struct node *node, const struct lease *lease) {
    for (size_t i = 0; i < lease->n_gpus; i++) {
        struct card *card = card_of(node, lease->gpus[i].uuid);
        if (!card)
            broken(node->world, "R4: a container has a card that its node never had", "%s", lease->gpus[i].uuid);
        if (card_user(card))
            broken(node->world, "R1: two tasks have one card", "%s: task %u has it, task %u was started there",
                   card->uuid, card_user(card)->task_id, lease->task_id);
        if (!card->was_found_free)
            broken(node->world, "R1: a container was started on a card that was not looked at", "%s, task %u",
                   card->uuid, lease->task_id);
        card->running = (struct holder){lease->task_id, lease->epoch};
        card->was_found_free = false;
    }
}

void cards_give_back(struct node *node, struct holder holder, bool is_reboot) {
    struct world *w = node->world;

    for (int i = 0; i < N_GPUS; i++) {
        struct card *card = &node->cards[i];
        if (card->running.task_id != holder.task_id || card->running.epoch != holder.epoch)
            continue;
        card->running = (struct holder){0};
        if (is_reboot || !chance(w, 40))
            continue;
        card->rest = holder;
        card->rest_until = w->now.mono_ms + 1 + pick(w, LONGEST_REST_MS);
    }
}

void card_fault(struct card *card) {
    struct world *w = card->node->world;
    int64_t until = w->now.mono_ms + 1 + pick(w, LONGEST_FAULT_MS);

    switch (pick(w, 5)) {
    case 0:
    case 4: card->missing_until = until + pick(w, 3 * LONGEST_FAULT_MS); break;
    case 1: card->mute_until = until; break;
    case 2: card->node->inventory_unknown_until = until; break;
    default: /* somebody's process: never on a card that a task of ours is about to get, or the check would be a race */
        if (!card->is_leased)
            card->foreign_until = until;
    }
    trace_line("    %s: %s%s%s%s", card->uuid, is_missing(card) ? "missing " : "", is_mute(card) ? "mute " : "",
               has_foreign(card) ? "foreign process " : "", no_inventory(card->node) ? "no inventory" : "");
}

void cards_mend(struct node *node) {
    node->inventory_unknown_until = 0;
    for (int i = 0; i < N_GPUS; i++)
        node->cards[i].missing_until = node->cards[i].mute_until = node->cards[i].foreign_until = 0;
}

bool cards_in_order(struct node *node) {
    for (int i = 0; i < N_GPUS; i++)
        if (card_user(&node->cards[i]))
            return false;
    return true;
}

/* ---- what the runner asks ---- */

struct gpu_check_call {
    uv_timer_t timer;
    struct node *node;
    struct gpu_check checks[N_GPUS];
    size_t n;
    gpu_check_cb *on_done;
    void *arg;
};

/* NULL: it is free. Static. */
static const char *why_not(const struct card *card) {
    if (is_missing(card))
        return "no card answers to this UUID";
    if (is_mute(card) || no_inventory(card->node))
        return "no answer";
    if (card->running.task_id)
        return "pid 4711 job uses it";
    if (has_foreign(card))
        return "pid 815 other (user alice) uses it";
    return has_rest(card) ? "412 MiB above its idle memory" : NULL;
}

static void on_check_closed(uv_handle_t *handle) { g_free(handle->data); }

static void on_check(uv_timer_t *timer) {
    struct gpu_check_call *call = timer->data;

    for (size_t i = 0; i < call->n; i++) {
        struct card *card = card_of(call->node, call->checks[i].uuid);
        call->checks[i].why = (char *)(uintptr_t)(card ? why_not(card) : "no such card");
        call->checks[i].is_free = !call->checks[i].why;
        call->checks[i].proof.facts = call->checks[i].is_free ? PROOF_CARD : 0;
        if (card && call->checks[i].is_free)
            card->was_found_free = true;
    }
    uv_close((uv_handle_t *)timer, on_check_closed);
    call->on_done(call->arg, call->checks, call->n);
}

static struct gpu_check_call *cards_check(void *user, const char *const *uuids, size_t n, gpu_check_cb *on_done,
                                          void *arg) {
    struct gpu_check_call *call = g_new0(struct gpu_check_call, 1);

    g_assert(n <= N_GPUS);
    *call = (struct gpu_check_call){.node = user, .n = n, .on_done = on_done, .arg = arg};
    for (size_t i = 0; i < n; i++)
        g_strlcpy(call->checks[i].uuid, uuids[i], sizeof call->checks[i].uuid);
    uv_timer_init(&call->node->clock.loop, &call->timer);
    call->timer.data = call;
    uv_timer_start(&call->timer, on_check, 1 + pick(call->node->world, 20), 0);
    return call;
}

static void cards_check_cancel(struct gpu_check_call *call) { uv_close((uv_handle_t *)&call->timer, on_check_closed); }

/* What the monitor has seen of a card under a lease, or before it, says nothing about it after it. */
static void cards_set_leased(void *user, const char *uuid, bool leased) {
    struct card *card = card_of(user, uuid);

    if (!card)
        return;
    card->seen_proof = (struct proof){0};
    if (!leased || !card->was_leased_before) /* the request of a life before may still be under way */
        card->was_found_free = false;
    card->was_leased_before = false;
    card->is_leased = leased;
}

static bool cards_minor_of(void *user, const char *uuid, int *ret_minor) {
    const struct card *card = card_of(user, uuid);

    if (!card || is_missing(card))
        return false;
    *ret_minor = card->index + FIRST_MINOR;
    return true;
}

static bool cards_minors_visible(pid_t pid, GArray **ret_minors, GError **error) {
    struct node *node = node_entered();
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, node->running);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct running *running = value;
        if (running->pid != pid)
            continue;
        *ret_minors = g_array_new(FALSE, FALSE, sizeof(int));
        for (int i = 0; i < N_GPUS; i++) {
            int minor = i + FIRST_MINOR;
            if (node->cards[i].running.task_id == running->holder.task_id)
                g_array_append_val(*ret_minors, minor);
        }
        return true;
    }
    return kr_fail(error, NOT_FOUND, "no such process");
}

const struct executor_gpus cards_table = {.check = cards_check,
                                          .check_cancel = cards_check_cancel,
                                          .set_leased = cards_set_leased,
                                          .minor_of = cards_minor_of,
                                          .minors_visible = cards_minors_visible};

void cards_forget_views(struct node *node) {
    for (int i = 0; i < N_GPUS; i++) {
        struct card *card = &node->cards[i];
        card->was_leased_before = card->is_leased;
        card->is_leased = false;
        card->seen_condition = GPU_CONDITION_UNKNOWN;
        card->seen_proof = (struct proof){0};
    }
}

void cards_look(struct node *node) {
    for (int i = 0; i < N_GPUS; i++) {
        struct card *card = &node->cards[i];
        const char *why = why_not(card);
        if (is_missing(card))
            card->seen_condition = GPU_CONDITION_REMOVED;
        else if (is_mute(card))
            card->seen_condition = GPU_CONDITION_UNKNOWN;
        else
            card->seen_condition = has_foreign(card) ? GPU_CONDITION_FOREIGN : GPU_CONDITION_OK;
        card->seen_proof = (struct proof){0};
        if (!card->is_leased && !why)
            card->seen_proof = (struct proof){.facts = PROOF_CARD, .samples = 2};
    }
}

void cards_describe(const struct node *node, struct node_info *info) {
    info->gpus_known = !no_inventory(node);
    for (int i = 0; i < N_GPUS; i++) {
        const struct card *card = &node->cards[i];
        struct gpu *gpu;
        if (card->seen_condition == GPU_CONDITION_REMOVED && node->world->seed % 2) /* not even remembered */
            continue;
        gpu = gpu_new();
        gpu->index = i;
        g_strlcpy(gpu->uuid, card->uuid, sizeof gpu->uuid);
        g_snprintf(gpu->pci, sizeof gpu->pci, "0000:%02x:00.0", i);
        gpu->condition = card->seen_condition;
        if (gpu->condition != GPU_CONDITION_OK)
            gpu->reason = g_strdup(gpu_condition_to_str(gpu->condition));
        gpu->proof = card->seen_proof;
        g_ptr_array_add(info->gpus, gpu);
    }
}
