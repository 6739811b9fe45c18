#include "runner/machines.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "engine/engine.h"
#include "runner/card_watch.h"
#include "runner/runner_config.h"
#include "runner/runner_internal.h"
#include "vfio/vfio_switch.h"
#include "vm/engine_qemu.h"
#include "vm/image_store.h"
#include "vm/qemu_argv.h"
#include "vm/vm_devices.h"

enum { GUEST_SILENT_MS = 60000 }; /* six of its words missing */

struct machines {
    struct runner *runner;
    struct vfio_switcher *switcher;
    struct card_watch *watch;
    struct image_store *store;
    struct engine *engine;
    struct engine_call *probe;
    bool can_run, was_probed;
    char *text; /* "QEMU 7.2.22 …", or what is missing */
    void (*on_recovered)(void *user);
    void *recovered_user;
};

/* ---- cards: the switcher, as QEMU's engine sees it ---- */

struct vm_devices_call {
    struct vfio_call *call;
    vm_devices_done_cb *on_done;
    void *arg;
};

/* Machines' names may be longer than an owner's may be. The same name gives the same owner, in every life of the runner. */
static char *owner_of(const char *machine) {
    g_autofree char *hash = strlen(machine) > VFIO_OWNER_MAX_BYTES
                                ? g_compute_checksum_for_string(G_CHECKSUM_SHA256, machine, -1)
                                : NULL;

    return hash ? g_strdup_printf("m-%.40s", hash) : g_strdup(machine);
}

static void add_functions(GArray *functions, const struct vfio_hold_gpu *gpu) {
    for (guint i = 0; i < gpu->functions->len; i++) {
        const struct vfio_hold_function *held = &g_array_index(gpu->functions, struct vfio_hold_function, i);
        struct qemu_function function = {.pci_class = held->class >> 8};

        g_strlcpy(function.address, held->address, sizeof function.address);
        g_array_append_val(functions, function);
    }
}

static void on_bound(void *user, const struct vfio_hold *hold, const GError *error) {
    g_autofree struct vm_devices_call *call = user;
    g_autoptr(GArray) functions = g_array_new(FALSE, TRUE, sizeof(struct qemu_function));

    for (guint i = 0; hold && i < hold->gpus->len; i++)
        add_functions(functions, hold->gpus->pdata[i]);
    call->on_done(call->arg, (const struct qemu_function *)(void *)functions->data, functions->len, error);
}

static void on_given_back(void *user, const GError *error) {
    g_autofree struct vm_devices_call *call = user;

    call->on_done(call->arg, NULL, 0, error);
}

static struct vm_devices_call *call_new(vm_devices_done_cb *on_done, void *arg) {
    struct vm_devices_call *call = g_new0(struct vm_devices_call, 1);

    call->on_done = on_done;
    call->arg = arg;
    return call;
}

static struct vm_devices_call *bind_cards(void *user, const char *machine, const char *const *pci, size_t n,
                                          vm_devices_done_cb *on_done, void *arg) {
    struct machines *m = user;
    g_autofree char *owner = owner_of(machine);
    struct vm_devices_call *call = call_new(on_done, arg);

    call->call = vfio_bind(m->switcher, owner, pci, n, on_bound, call);
    return call;
}

static struct vm_devices_call *give_back(void *user, const char *machine, vm_devices_done_cb *on_done, void *arg) {
    struct machines *m = user;
    g_autofree char *owner = owner_of(machine);
    struct vm_devices_call *call = call_new(on_done, arg);

    call->call = vfio_give_back(m->switcher, owner, on_given_back, call);
    return call;
}

static void cancel(struct vm_devices_call *call) {
    vfio_call_cancel(call->call);
    g_free(call);
}

static const struct vm_devices_ops devices = {.bind = bind_cards, .give_back = give_back, .cancel = cancel};

/* What is going on with a card, and what ends it. */
static char *words_of(const struct vfio_hold *hold) {
    const char *step = hold->step[0] ? hold->step : "about to begin";

    switch (hold->state) {
    case VFIO_BINDING: return g_strdup_printf("binding to vfio-pci for %s: %s", hold->owner, step);
    case VFIO_GIVING_BACK: return g_strdup_printf("being given back by %s: %s", hold->owner, step);
    case VFIO_BOUND: return g_strdup_printf("bound to vfio-pci for %s", hold->owner);
    case VFIO_STUCK:
        return g_strdup_printf(
            "stuck: needs reboot, unless the write returns (then it is given back by itself): %.320s", hold->reason);
    default:
        return g_strdup_printf("broken: %.320s; put that right and it is given back at the next stop, or reboot",
                               hold->reason);
    }
}

void machines_amend_gpu(const struct machines *m, struct gpu *gpu) {
    const char *owner = vfio_owner_of(m->switcher, gpu->pci);
    const struct vfio_hold *hold = owner ? vfio_hold_of(m->switcher, owner) : NULL;

    if (!hold || hold->state == VFIO_IDLE || (hold->state == VFIO_BOUND && gpu->condition != GPU_CONDITION_VFIO))
        return;
    if (hold->state != VFIO_BOUND)
        gpu->condition = hold->state == VFIO_BINDING || hold->state == VFIO_GIVING_BACK ? GPU_CONDITION_SWITCHING
                                                                                        : GPU_CONDITION_FAULT;
    g_free(gpu->reason);
    gpu->reason = words_of(hold);
    gpu->proof = (struct proof){0};
}

json_t *machines_switches_to_json(const struct machines *m) { return vfio_switcher_to_json(m->switcher); }

/* ---- recovery ---- */

static void on_recovered(void *user, const struct vfio_recovered *recovered, size_t n) {
    struct machines *m = user;

    for (size_t i = 0; i < n; i++)
        log_at(recovered[i].reason[0] ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "cards of %s: %s%s%s", recovered[i].owner,
               vfio_state_to_str(recovered[i].state), recovered[i].reason[0] ? ": " : "", recovered[i].reason);
    m->on_recovered(m->recovered_user);
}

void machines_recover(struct machines *m, void (*on_done)(void *user), void *user) {
    m->on_recovered = on_done;
    m->recovered_user = user;
    vfio_switcher_recover(m->switcher, on_recovered, m);
    card_watch_update(m->watch); /* what the journals name is not opened, before the first look */
}

/* ---- can it? ---- */

static void on_probed(void *user, const struct engine_facts *facts) {
    struct machines *m = user;

    bool changed = !m->was_probed || m->can_run != (facts->presence == ENGINE_PRESENT) ||
                   g_strcmp0(m->text, facts->text) != 0;

    m->probe = NULL;
    m->was_probed = true;
    m->can_run = facts->presence == ENGINE_PRESENT;
    g_free(m->text);
    m->text = g_strdup(facts->text ? facts->text : "QEMU does not answer");
    if (changed)
        runner_on_machines(m->runner);
}

void machines_probe(struct machines *m) {
    if (!m->probe)
        m->probe = engine_probe(m->engine, on_probed, m);
}

bool machines_was_probed(const struct machines *m) { return m->was_probed; }

bool machines_can_run(const struct machines *m, const char **ret_text) {
    *ret_text = m->text;
    return m->can_run;
}

/* ---- guests ---- */

struct guest *machines_guest(const struct machines *m, const char *container, uint32_t task_id) {
    int64_t timeout_ms = config_int(m->runner->config, "vm_ready_timeout_ms");
    struct qemu_view view = {0};
    struct guest *guest;

    if (!engine_qemu_view(m->engine, container, &view))
        return NULL;
    guest = g_new0(struct guest, 1);
    guest->task_id = task_id;
    guest->has_state = view.guest != NULL;
    if (view.guest)
        guest->state = *view.guest;
    guest->is_silent = view.guest && clock_mono_ms() > view.guest_ms + GUEST_SILENT_MS;
    guest->is_late = timeout_ms > 0 && view.started_ms > 0 && !view.was_ready &&
                     clock_wall_ms() > view.started_ms + timeout_ms;
    qemu_view_clear(&view);
    return guest;
}

/* ---- sockets, disks ---- */

bool machines_find_socket(struct machines *m, const char *container, const char *to, struct tunnel_end *ret_end,
                          GError **error) {
    struct qemu_view view = {0};
    struct tunnel_end end = {0};

    if (!engine_qemu_view(m->engine, container, &view))
        return kr_fail(error, NOT_FOUND, "the machine is not on");
    if (strcmp(to, "console") == 0)
        end.path = g_strdup(view.console_socket);
    else
        end.port = view.ssh_port;
    g_strlcpy(end.address, view.ssh_address, sizeof end.address);
    qemu_view_clear(&view);
    if (!end.path && !end.port)
        return kr_fail(error, REFUSED, "the machine has no %s that can be reached from here", to);
    *ret_end = end;
    return true;
}

bool machines_delete_disk(struct machines *m, uint32_t vps_id, GError **error) {
    return disk_store_delete(m->store, vps_id, error);
}

/* ---- life ---- */

static void on_cards(void *user) { runner_on_machines(((struct machines *)user)->runner); }

static bool open_switcher(struct machines *m, const char *state_dir, GError **error) {
    g_autofree char *journals = g_build_filename(state_dir, "vfio", NULL);
    const char *hook = config_str(m->runner->config, "vfio_hook");
    struct vfio_switcher_config config = {.root = config_str(m->runner->config, "sysfs_root"),
                                          .journal_dir = journals,
                                          .boot_id = node_facts_boot_id(m->runner->facts),
                                          .nvidia_smi = config_str(m->runner->config, "nvidia_smi"),
                                          .hook = hook[0] ? hook : NULL,
                                          .step_deadline_ms = config_int(m->runner->config, "vfio_deadline_ms")};

    m->watch = card_watch_new(m->runner->monitor, on_cards, m);
    m->switcher = card_watch_switcher(m->watch, &m->runner->loop, &config, error);
    return m->switcher != NULL;
}

struct machines *machines_new(struct runner *runner, GError **error) {
    g_autofree char *folder = runner_config_vm_dir(runner->config);
    struct machines *m = g_new0(struct machines, 1);
    struct qemu_config config;

    m->runner = runner;
    m->text = g_strdup("not looked at yet");
    runner_config_vm(runner->config, folder, runner->node, &config);
    config.devices = &devices;
    config.devices_user = m;
    if (open_switcher(m, config_str(runner->config, "state_dir"), error) &&
        (m->store = image_store_new(folder, error)) && (m->engine = engine_qemu_new(&runner->loop, &config, error)))
        return m;
    machines_free(m);
    return NULL;
}

void machines_free(struct machines *m) {
    if (!m)
        return;
    engine_call_cancel(m->probe);
    if (m->engine)
        engine_free(m->engine);
    image_store_free(m->store);
    vfio_switcher_free(m->switcher);
    card_watch_free(m->watch);
    g_free(m->text);
    g_free(m);
}

struct engine *machines_engine(const struct machines *m) {
    return m->engine;
}
