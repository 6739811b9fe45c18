#include "vfio/vfio_switch.h"

#include <string.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "vfio/vfio_switch_internal.h"

enum { STEP_DEADLINE_MS = 10000, GRACE_MS = 1000, WATCH_MS = 1000, JOURNAL_DIR_MODE = 0700 };

static void start_next(struct vfio_switcher *s);

/* ---- requests ---- */

static void call_free(struct vfio_call *call) {
    if (!call)
        return;
    g_free(call->owner);
    g_strfreev(call->gpus);
    g_free(call->failure);
    g_free(call);
}

static void on_kick(uv_timer_t *timer) { start_next(timer->data); }

static void kick(struct vfio_switcher *s) {
    if (!s->is_closing)
        uv_timer_start(&s->kick, on_kick, 0, 0);
}

static struct vfio_call *add_call(struct vfio_switcher *s, enum vfio_call_kind kind, const char *owner, void *user) {
    struct vfio_call *call = g_new0(struct vfio_call, 1);

    *call = (struct vfio_call){.s = s, .kind = kind, .owner = g_strdup(owner), .user = user};
    g_queue_push_tail(s->requests, call);
    kick(s);
    return call;
}

struct vfio_call *vfio_bind(struct vfio_switcher *s, const char *owner, const char *const *pci_addresses, size_t n,
                            vfio_bind_cb *on_done, void *user) {
    struct vfio_call *call = add_call(s, VFIO_CALL_BIND, owner, user);
    g_autoptr(GStrvBuilder) gpus = g_strv_builder_new();

    for (size_t i = 0; i < n; i++)
        g_strv_builder_add(gpus, pci_addresses[i]);
    call->gpus = g_strv_builder_end(gpus);
    call->on_bound = on_done;
    return call;
}

struct vfio_call *vfio_give_back(struct vfio_switcher *s, const char *owner, vfio_give_back_cb *on_done, void *user) {
    struct vfio_call *call = add_call(s, VFIO_CALL_GIVE_BACK, owner, user);

    call->on_given_back = on_done;
    return call;
}

void vfio_call_cancel(struct vfio_call *call) {
    if (!call)
        return;
    call->is_cancelled = true;
    if (call->s->active != call && call->kind != VFIO_CALL_RECOVER_END) {
        g_queue_remove(call->s->requests, call);
        call_free(call);
    }
}

/* Answers what is active, and lets the next one begin. hold: NULL with an error, and after a give-back. */
static void answer(struct vfio_switcher *s, const struct vfio_hold *hold, const GError *error) {
    struct vfio_call *call = g_steal_pointer(&s->active);

    s->hold = NULL;
    if (call->has_let_go && s->config.look_again)
        s->config.look_again(s->config.user);
    if (!call->is_cancelled && call->on_bound)
        call->on_bound(call->user, hold, error);
    if (!call->is_cancelled && call->on_given_back)
        call->on_given_back(call->user, error);
    call_free(call);
    kick(s);
}

static void answer_error(struct vfio_switcher *s, GError *error) {
    answer(s, NULL, error);
    g_error_free(error);
}

static char *cards_of(char *const *gpus) { return g_strjoinv(", ", (char **)gpus); }

static char *cards_of_hold(const struct vfio_hold *hold) {
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();
    g_auto(GStrv) list = NULL;

    for (guint i = 0; i < hold->gpus->len; i++)
        g_strv_builder_add(names, ((const struct vfio_hold_gpu *)hold->gpus->pdata[i])->address);
    list = g_strv_builder_end(names);
    return cards_of(list);
}

/* ---- what is held ---- */

static struct vfio_hold *find_hold(const struct vfio_switcher *s, const char *pci) {
    char address[GPU_PCI_BYTES];
    struct pci_address at;
    GHashTableIter iter;
    gpointer hold;

    if (!pci_address_from_str(pci, &at))
        return NULL;
    pci_address_to_str(&at, address);
    g_hash_table_iter_init(&iter, s->holds);
    while (g_hash_table_iter_next(&iter, NULL, &hold))
        if (vfio_hold_has(hold, address))
            return hold;
    return NULL;
}

const char *vfio_owner_of(const struct vfio_switcher *s, const char *pci) {
    const struct vfio_hold *hold = find_hold(s, pci);

    return hold ? hold->owner : NULL;
}

char **vfio_held_cards(const struct vfio_switcher *s) {
    g_autoptr(GStrvBuilder) cards = g_strv_builder_new();
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, s->holds);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct vfio_hold *hold = value;

        for (guint i = 0; hold->state != VFIO_IDLE && i < hold->gpus->len; i++)
            g_strv_builder_add(cards, ((const struct vfio_hold_gpu *)hold->gpus->pdata[i])->address);
    }
    return g_strv_builder_end(cards);
}

const struct vfio_hold *vfio_hold_of(const struct vfio_switcher *s, const char *owner) {
    return g_hash_table_lookup(s->holds, owner);
}

enum vfio_state vfio_state_of(const struct vfio_switcher *s, const char *pci, const char **ret_reason) {
    const struct vfio_hold *hold = find_hold(s, pci);

    if (ret_reason)
        *ret_reason = hold ? hold->reason : "";
    return hold ? hold->state : VFIO_IDLE;
}

json_t *vfio_switcher_to_json(const struct vfio_switcher *s) {
    json_t *list = json_array();
    GHashTableIter iter;
    gpointer hold;

    g_hash_table_iter_init(&iter, s->holds);
    while (g_hash_table_iter_next(&iter, NULL, &hold))
        json_array_append_new(list, vfio_hold_to_json(hold));
    return list;
}

static void drop_hold(struct vfio_switcher *s, struct vfio_hold *hold) {
    s->hold = NULL;
    vfio_plan_set_state(s, hold, VFIO_IDLE, "");
    g_hash_table_remove(s->holds, hold->owner);
}

/* The state is what counts; a disk that does not take it leaves a journal that recovery brings to an end all the same. */
static void note_state(struct vfio_switcher *s, struct vfio_hold *hold, enum vfio_state state, const char *reason) {
    g_autoptr(GError) error = NULL;

    vfio_plan_set_state(s, hold, state, reason);
    if (!vfio_journal_write(s->config.journal_dir, hold, &error))
        log_warning("vfio: %s is %s: %s", hold->owner, vfio_state_to_str(state), error->message);
}

/* ---- giving back ---- */

/* Ends a way back: nothing is left of the hold (true), or it is broken or stuck with s->trouble as its reason. */
static bool settle(struct vfio_switcher *s, struct vfio_hold *hold, enum vfio_plan_end end) {
    g_autoptr(GError) error = NULL;

    if (end == VFIO_PLAN_DONE && vfio_journal_remove(s->config.journal_dir, hold->owner, &error)) {
        drop_hold(s, hold);
        return true;
    }
    if (error)
        g_string_assign(s->trouble, error->message);
    note_state(s, hold, end == VFIO_PLAN_STUCK ? VFIO_STUCK : VFIO_BROKEN, s->trouble->str);
    if (end == VFIO_PLAN_STUCK)
        uv_timer_again(&s->watch);
    return false;
}

static void on_given_back(struct vfio_switcher *s, enum vfio_plan_end end) {
    g_autofree char *cards = cards_of_hold(s->hold);
    GError *error = NULL;

    if (settle(s, s->hold, end)) {
        answer(s, NULL, NULL);
        return;
    }
    kr_fail_at(&error, end == VFIO_PLAN_STUCK ? KR_ERROR_TIMEOUT : KR_ERROR_IO, "give %s back: %s", cards,
               s->trouble->str);
    answer_error(s, error);
}

static void start_way_back(struct vfio_switcher *s, struct vfio_hold *hold,
                           void (*on_plan)(struct vfio_switcher *s, enum vfio_plan_end end)) {
    note_state(s, hold, VFIO_GIVING_BACK, "");
    vfio_plan_give_back(s, hold, on_plan);
}

/* One whose journal cannot be read has no cards that are known: a person has to look. */
static void start_give_back(struct vfio_switcher *s) {
    struct vfio_hold *hold = g_hash_table_lookup(s->holds, s->active->owner ? s->active->owner : "");
    GError *error = NULL;

    if (!hold) {
        answer(s, NULL, NULL);
    } else if (hold->state == VFIO_STUCK && !vfio_plan_lock(s, hold->owner, NULL)) {
        /* The write is still in the kernel. It is watched; whoever asks again must not keep the others waiting. */
        g_autofree char *cards = cards_of_hold(hold);
        kr_fail(&error, TIMEOUT, "give %s back: %s", cards, hold->reason);
        answer_error(s, error);
    } else if (hold->gpus->len == 0) {
        kr_fail(&error, IO, "give back what %s holds: %s", hold->owner, hold->reason);
        answer_error(s, error);
    } else {
        start_way_back(s, hold, on_given_back);
    }
}

/* ---- binding ---- */

static void on_undone(struct vfio_switcher *s, enum vfio_plan_end end) {
    struct vfio_call *call = s->active;
    g_autofree char *cards = cards_of(call->gpus);
    g_autofree char *failure = g_steal_pointer(&call->failure);
    GError *error = NULL;

    if (settle(s, s->hold, end))
        kr_fail(&error, IO, "bind %s to vfio-pci: %s (undone)", cards, failure);
    else
        kr_fail_at(&error, end == VFIO_PLAN_STUCK ? KR_ERROR_TIMEOUT : KR_ERROR_IO,
                   "bind %s to vfio-pci: %s; and undoing it: %s", cards, failure, s->trouble->str);
    answer_error(s, error);
}

static void undo(struct vfio_switcher *s, const char *failure) {
    s->active->failure = g_strdup(failure);
    start_way_back(s, s->hold, on_undone);
}

static void on_bound(struct vfio_switcher *s, enum vfio_plan_end end) {
    g_autofree char *cards = cards_of(s->active->gpus);
    g_autoptr(GError) error = NULL;

    if (end == VFIO_PLAN_FAILED) {
        undo(s, s->trouble->str);
    } else if (end == VFIO_PLAN_STUCK) {
        settle(s, s->hold, end);
        kr_fail(&error, TIMEOUT, "bind %s to vfio-pci: %s", cards, s->trouble->str);
        answer(s, NULL, error);
    } else {
        vfio_plan_set_state(s, s->hold, VFIO_BOUND, "");
        if (vfio_journal_write(s->config.journal_dir, s->hold, &error))
            answer(s, s->hold, NULL);
        else
            undo(s, error->message);
    }
}

/* A group, and each function, has one owner. */
static bool check_owners(const struct vfio_switcher *s, const struct vfio_hold *wanted, GError **error) {
    g_autoptr(GArray) groups = vfio_hold_groups(wanted);
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, s->holds);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct vfio_hold *other = value;
        g_autoptr(GArray) theirs = vfio_hold_groups(other);

        for (guint i = 0; i < groups->len; i++)
            for (guint k = 0; k < theirs->len; k++)
                if (g_array_index(groups, int, i) == g_array_index(theirs, int, k))
                    return kr_fail(error, REFUSED, "IOMMU group %d belongs to %s (%s%s%s)",
                                   g_array_index(groups, int, i), other->owner, vfio_state_to_str(other->state),
                                   other->reason[0] ? ": " : "", other->reason);
    }
    return true;
}

/* The same card named twice, or by two of its functions, is one too many. */
static bool check_once(const struct vfio_hold *hold, GError **error) {
    for (guint i = 0; i < hold->gpus->len; i++) {
        const struct vfio_hold_gpu *gpu = hold->gpus->pdata[i];
        for (guint k = i + 1; k < hold->gpus->len; k++) {
            const struct vfio_hold_gpu *other = hold->gpus->pdata[k];
            for (guint f = 0; f < gpu->functions->len; f++)
                if (strcmp(g_array_index(gpu->functions, struct vfio_hold_function, f).address, other->address) == 0)
                    return kr_fail(error, BAD_REQUEST, "%s is named twice", other->address);
        }
    }
    return true;
}

static void on_preflight(void *user, const struct vfio_child_result *result) {
    struct vfio_switcher *s = user;
    struct vfio_hold *hold = vfio_hold_new(s->active->owner, s->config.boot_id);
    g_autofree char *cards = cards_of(s->active->gpus);
    GError *error = NULL;
    json_t *found = vfio_plan_answer(s, result, &error);
    const char *refusal = json_string_value(json_object_get(found, "refusal"));
    bool is_good;

    if (refusal)
        kr_fail(&error, REFUSED, "%s", refusal);
    is_good = !error && vfio_hold_take_gpus(hold, found, &error) && check_once(hold, &error) &&
              check_owners(s, hold, &error);
    json_decref(found);
    if (result->end == VFIO_CHILD_STUCK)
        g_ptr_array_add(s->stuck, s->child);
    else
        vfio_child_forget(s->child);
    s->child = NULL;
    hold->state = VFIO_BINDING;
    if (!is_good || !vfio_journal_write(s->config.journal_dir, hold, &error)) {
        vfio_hold_free(hold);
        g_prefix_error(&error, "bind %s to vfio-pci: ", cards);
        answer_error(s, error);
        return;
    }
    g_hash_table_replace(s->holds, hold->owner, hold);
    vfio_plan_set_state(s, hold, VFIO_BINDING, "");
    vfio_plan_bind(s, hold, on_bound);
}

static bool has_exactly(const struct vfio_hold *hold, char *const *gpus) {
    guint n = g_strv_length((char **)gpus);

    for (char *const *gpu = gpus; *gpu; gpu++) {
        char address[GPU_PCI_BYTES];
        struct pci_address at;

        if (!pci_address_from_str(*gpu, &at) || !vfio_hold_has(hold, pci_address_to_str(&at, address)))
            return false;
    }
    return hold->state == VFIO_BOUND && n == hold->gpus->len;
}

static bool check_bind(const struct vfio_switcher *s, const struct vfio_call *call, GError **error) {
    guint n = g_strv_length(call->gpus);
    struct pci_address at;

    if (!vfio_owner_check(call->owner, error))
        return false;
    if (n == 0 || n > VFIO_MAX_CARDS)
        return kr_fail(error, BAD_REQUEST, "bind %u cards for %s: 1 to %d can be", n, call->owner, VFIO_MAX_CARDS);
    for (char **gpu = call->gpus; *gpu; gpu++)
        if (!pci_address_from_str(*gpu, &at))
            return kr_fail(error, BAD_REQUEST, "\"%.32s\" is no PCI address", *gpu);
    if (!s->is_recovery_asked)
        return kr_fail(error, UNAVAILABLE, "what an earlier run has bound is not known yet");
    return true;
}

static void on_time_to_look(uv_timer_t *timer) {
    struct vfio_switcher *s = timer->data;

    s->is_waiting_to_look = false;
    vfio_plan_preflight(s, s->active->gpus, s->config.hook ? "hooked" : NULL, on_preflight);
}

void vfio_let_gone(struct vfio_switcher *s) {
    if (s->is_waiting_to_look)
        uv_timer_start(&s->wait, on_time_to_look, 0, 0);
}

static void wait_and_look(struct vfio_switcher *s) {
    s->is_waiting_to_look = true;
    uv_timer_start(&s->wait, on_time_to_look, s->config.let_go ? (uint64_t)s->config.step_deadline_ms : 0, 0);
    s->active->has_let_go = s->config.let_go != NULL;
    if (s->config.let_go)
        s->config.let_go(s->config.user, s->active->gpus);
}

static void start_bind(struct vfio_switcher *s) {
    const struct vfio_call *call = s->active;
    GError *error = NULL;
    const struct vfio_hold *mine;

    if (!check_bind(s, call, &error)) {
        answer_error(s, error);
        return;
    }
    mine = vfio_hold_of(s, call->owner);
    if (!mine) {
        wait_and_look(s);
    } else if (has_exactly(mine, call->gpus)) {
        answer(s, mine, NULL);
    } else {
        g_autofree char *has = cards_of_hold(mine);
        kr_fail(&error, REFUSED, "%s already has %s (%s%s%s)", call->owner, has, vfio_state_to_str(mine->state),
                mine->reason[0] ? ": " : "", mine->reason);
        answer_error(s, error);
    }
}

/* ---- recovery ---- */

/* Cards whose journal cannot be read are not known; the name at least is. */
static void load_journal(struct vfio_switcher *s, const char *owner) {
    g_autoptr(GError) error = NULL;
    struct vfio_hold *hold = vfio_journal_read(s->config.journal_dir, owner, &error);

    if (!hold) {
        hold = vfio_hold_new(owner, s->config.boot_id);
        hold->state = VFIO_BROKEN;
        g_free(hold->reason);
        hold->reason = g_utf8_make_valid(error->message, -1);
    }
    g_hash_table_replace(s->holds, hold->owner, hold);
    add_call(s, VFIO_CALL_RECOVER_ONE, owner, NULL);
    g_ptr_array_add(s->recovered, g_strdup(owner));
}

struct vfio_call *vfio_switcher_recover(struct vfio_switcher *s, vfio_recover_cb *on_done, void *user) {
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) owners = vfio_journal_owners(s->config.journal_dir, &error);
    struct vfio_call *call;

    if (error)
        log_error("vfio: %s", error->message);
    s->is_recovery_asked = owners != NULL; /* what cannot be read may hold anything: nothing is bound then */
    for (char **owner = owners; owner && *owner; owner++)
        load_journal(s, *owner);
    call = add_call(s, VFIO_CALL_RECOVER_END, NULL, user);
    call->on_recovered = on_done;
    return call;
}

/* Of another boot: the kernel has forgotten overrides and bindings, and addresses may name other devices now. */
static bool is_of_earlier_boot(const struct vfio_switcher *s, const struct vfio_hold *hold) {
    return hold->boot_id[0] && s->config.boot_id[0] && strcmp(hold->boot_id, s->config.boot_id) != 0;
}

static void start_recovery(struct vfio_switcher *s) {
    struct vfio_hold *hold = g_hash_table_lookup(s->holds, s->active->owner);

    if (!hold || hold->gpus->len == 0 ||
        (hold->state == VFIO_BOUND && !is_of_earlier_boot(s, hold) && vfio_plan_is_all_bound(s, hold))) {
        answer(s, NULL, NULL);
    } else if (is_of_earlier_boot(s, hold)) {
        g_string_truncate(s->trouble, 0);
        settle(s, hold, VFIO_PLAN_DONE);
        answer(s, NULL, NULL);
    } else {
        start_way_back(s, hold, on_given_back);
    }
}

/* The callback may free the switcher. */
static void end_recovery(struct vfio_switcher *s) {
    struct vfio_call *call = g_steal_pointer(&s->active);
    g_autoptr(GPtrArray) names = g_steal_pointer(&s->recovered);
    g_autofree struct vfio_recovered *list = g_new0(struct vfio_recovered, names->len + 1);

    s->recovered = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < names->len; i++) {
        const struct vfio_hold *hold = vfio_hold_of(s, names->pdata[i]);

        list[i] = (struct vfio_recovered){.owner = names->pdata[i],
                                          .state = hold ? hold->state : VFIO_IDLE,
                                          .reason = hold ? hold->reason : "",
                                          .hold = hold && hold->gpus->len > 0 ? hold : NULL};
    }
    kick(s);
    if (!call->is_cancelled && call->on_recovered)
        call->on_recovered(call->user, list, names->len);
    call_free(call);
}

static void start_next(struct vfio_switcher *s) {
    if (s->active || s->is_closing)
        return;
    s->active = g_queue_pop_head(s->requests);
    if (!s->active)
        return;
    switch (s->active->kind) {
    case VFIO_CALL_BIND: start_bind(s); break;
    case VFIO_CALL_GIVE_BACK: start_give_back(s); break;
    case VFIO_CALL_RECOVER_ONE: start_recovery(s); break;
    case VFIO_CALL_RECOVER_END: end_recovery(s); break;
    }
}

/* ---- what is stuck ---- */

static bool is_asked_for(const struct vfio_switcher *s, const char *owner) {
    if (s->active && g_strcmp0(s->active->owner, owner) == 0)
        return true;
    for (const GList *link = s->requests->head; link; link = link->next)
        if (g_strcmp0(((const struct vfio_call *)link->data)->owner, owner) == 0)
            return true;
    return false;
}

/* A write that came through late: its lock is free. The cards go home. */
static void on_watch(uv_timer_t *timer) {
    struct vfio_switcher *s = timer->data;
    GHashTableIter iter;
    gpointer value;
    int n_stuck = 0;

    g_hash_table_iter_init(&iter, s->holds);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct vfio_hold *hold = value;

        if (hold->state != VFIO_STUCK)
            continue;
        n_stuck++;
        if (is_asked_for(s, hold->owner) || !vfio_plan_lock(s, hold->owner, NULL))
            continue;
        log_info("vfio: %s of %s has returned after all", hold->step, hold->owner);
        add_call(s, VFIO_CALL_GIVE_BACK, hold->owner, NULL);
    }
    if (n_stuck == 0)
        uv_timer_stop(timer);
}

/* ---- the switcher ---- */

static void copy_config(struct vfio_switcher *s, const struct vfio_switcher_config *config) {
    s->config = *config;
    s->config.root = g_strdup(config->root ? config->root : "/");
    s->config.journal_dir = g_strdup(config->journal_dir);
    s->config.boot_id = g_strdup(config->boot_id ? config->boot_id : "");
    s->config.helper = g_strdup(config->helper ? config->helper : "/proc/self/exe");
    s->is_own_helper = !config->helper;
    s->config.nvidia_smi = g_strdup(config->nvidia_smi ? config->nvidia_smi : "nvidia-smi");
    s->config.hook = g_strdup(config->hook);
    s->config.step_deadline_ms = config->step_deadline_ms ? config->step_deadline_ms : STEP_DEADLINE_MS;
    s->config.grace_ms = config->grace_ms ? config->grace_ms : GRACE_MS;
    s->config.watch_ms = config->watch_ms ? config->watch_ms : WATCH_MS;
}

static void init_timer(struct vfio_switcher *s, uv_timer_t *timer) {
    uv_timer_init(s->loop, timer);
    timer->data = s;
    s->n_open++;
}

static void free_hold(gpointer hold) { vfio_hold_free(hold); }
static void forget_child(gpointer child) { vfio_child_forget(child); }

struct vfio_switcher *vfio_switcher_new(uv_loop_t *loop, const struct vfio_switcher_config *config, GError **error) {
    struct vfio_switcher *s;

    if (!fs_mkdir_p(config->journal_dir, JOURNAL_DIR_MODE, error))
        return NULL;
    s = g_new0(struct vfio_switcher, 1);
    s->loop = loop;
    copy_config(s, config);
    s->holds = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, free_hold);
    s->requests = g_queue_new();
    s->recovered = g_ptr_array_new_with_free_func(g_free);
    s->stuck = g_ptr_array_new_with_free_func(forget_child);
    s->ops = g_array_new(FALSE, TRUE, sizeof(struct vfio_op));
    s->trouble = g_string_new(NULL);
    init_timer(s, &s->kick);
    init_timer(s, &s->watch);
    init_timer(s, &s->wait);
    uv_timer_start(&s->watch, on_watch, (uint64_t)s->config.watch_ms, (uint64_t)s->config.watch_ms);
    return s;
}

static void free_config(struct vfio_switcher_config *config) {
    g_free((char *)config->root);
    g_free((char *)config->journal_dir);
    g_free((char *)config->boot_id);
    g_free((char *)config->helper);
    g_free((char *)config->nvidia_smi);
    g_free((char *)config->hook);
}

static void on_closed(uv_handle_t *handle) {
    struct vfio_switcher *s = handle->data;

    if (--s->n_open > 0)
        return;
    free_config(&s->config);
    g_free(s);
}

void vfio_switcher_free(struct vfio_switcher *s) {
    if (!s)
        return;
    s->is_closing = true;
    vfio_plan_abandon(s);
    g_ptr_array_unref(s->stuck);
    call_free(s->active);
    for (struct vfio_call *call; (call = g_queue_pop_head(s->requests));)
        call_free(call);
    g_queue_free(s->requests);
    g_hash_table_unref(s->holds);
    g_ptr_array_unref(s->recovered);
    g_array_unref(s->ops);
    g_string_free(s->trouble, TRUE);
    g_free(s->write_trouble);
    uv_close((uv_handle_t *)&s->kick, on_closed);
    uv_close((uv_handle_t *)&s->watch, on_closed);
    uv_close((uv_handle_t *)&s->wait, on_closed);
}
