/* The steps of one switch, in the order in which they are done. A step looks first whether there is anything to do, so that a plan
 * can be begun again from the top after any interruption. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "vfio/vfio_switch_internal.h"

enum { LOCK_AGAIN_MS = 10, MAX_ARGS = 6 + VFIO_MAX_CARDS * 8 };

enum progress { PROGRESS_NEXT = 1, PROGRESS_WAIT, PROGRESS_FAILED };

static void advance(struct vfio_switcher *s);

/* ---- what is told ---- */

void vfio_plan_set_state(struct vfio_switcher *s, struct vfio_hold *hold, enum vfio_state state, const char *reason) {
    hold->state = state;
    g_free(hold->reason);
    hold->reason = g_utf8_make_valid(reason, (gssize)MIN(strlen(reason), (size_t)VFIO_REASON_MAX_BYTES - 100));
    if (s->config.on_change)
        s->config.on_change(s->config.user);
}

static enum progress trouble(struct vfio_switcher *s, const char *format, ...) G_GNUC_PRINTF(2, 3);
static enum progress trouble(struct vfio_switcher *s, const char *format, ...) {
    va_list args;

    if (s->trouble->len > 0)
        g_string_append(s->trouble, "; ");
    va_start(args, format);
    g_string_append_vprintf(s->trouble, format, args);
    va_end(args);
    return PROGRESS_FAILED;
}

static void end_plan(struct vfio_switcher *s, enum vfio_plan_end end) {
    g_array_set_size(s->ops, 0);
    s->on_plan(s, end);
}

static void end_stuck(struct vfio_switcher *s) {
    trouble(s, "%s does not return: stuck, needs a reboot unless it still does", s->hold->step);
    end_plan(s, VFIO_PLAN_STUCK);
}

/* ---- the owner's lock ---- */

bool vfio_plan_lock(const struct vfio_switcher *s, const char *owner, int *ret_fd) {
    g_autofree char *path = g_strdup_printf("%s/%s.lock", s->config.journal_dir, owner);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool is_free = fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;

    if (is_free && ret_fd)
        *ret_fd = fd; /* -1 when the folder cannot be written: the step goes on without */
    else
        fd_cleanup(&fd);
    return is_free;
}

static void on_lock_wait(uv_timer_t *timer) { advance(timer->data); }

/* A child of an earlier run may be in the kernel still. */
static enum progress op_lock(struct vfio_switcher *s, struct vfio_op *op) {
    (void)op;
    if (vfio_plan_lock(s, s->hold->owner, NULL))
        return PROGRESS_NEXT;
    if (s->lock_until_ms == 0)
        s->lock_until_ms = clock_mono_ms() + s->config.step_deadline_ms;
    if (clock_mono_ms() >= s->lock_until_ms)
        return PROGRESS_FAILED;
    uv_timer_start(&s->wait, on_lock_wait, LOCK_AGAIN_MS, 0);
    return PROGRESS_WAIT;
}

/* ---- children ---- */

static bool note_step(struct vfio_switcher *s, const char *what, const char *address) {
    g_autoptr(GError) error = NULL;

    g_free(s->hold->step);
    s->hold->step = g_strdup_printf("%s %s", what, address);
    if (vfio_journal_write(s->config.journal_dir, s->hold, &error))
        return true;
    if (!s->is_giving_back) {
        trouble(s, "%s", error->message);
        return false;
    }
    log_warning("vfio: %s: %s", s->hold->step, error->message); /* the way back does not wait for a disk */
    return true;
}

static void start_child(struct vfio_switcher *s, struct vfio_child_config config, vfio_child_cb *on_done) {
    int lock_fd = -1;

    config.deadline_ms = s->config.step_deadline_ms;
    config.grace_ms = s->config.grace_ms;
    if (s->hold)
        vfio_plan_lock(s, s->hold->owner, &lock_fd);
    config.lock_fd = lock_fd;
    s->child = vfio_child_start(s->loop, &config, on_done, s);
    if (lock_fd >= 0)
        close(lock_fd);
}

/* Lets the child go, or keeps one that is stuck to be reaped. */
static void drop_child(struct vfio_switcher *s, const struct vfio_child_result *result) {
    if (result->end == VFIO_CHILD_STUCK)
        g_ptr_array_add(s->stuck, s->child);
    else
        vfio_child_forget(s->child);
    s->child = NULL;
}

/* NULL: it went well. */
static char *child_trouble(const struct vfio_switcher *s, const struct vfio_child_result *result) {
    switch (result->end) {
    case VFIO_CHILD_EXITED: return result->status == 0 ? NULL : g_strdup_printf("exit status %d", result->status);
    case VFIO_CHILD_FAILED: return g_strdup_printf("cannot be started: %s", g_strerror(result->status));
    default: return g_strdup_printf("no answer within %d ms", (int)s->config.step_deadline_ms);
    }
}

json_t *vfio_plan_answer(const struct vfio_switcher *s, const struct vfio_child_result *result, GError **error) {
    g_autofree char *why = child_trouble(s, result);

    if (!why)
        return jsonx_parse(result->output, result->len, error);
    kr_fail_at(error,
               result->end == VFIO_CHILD_EXITED || result->end == VFIO_CHILD_FAILED ? KR_ERROR_IO : KR_ERROR_TIMEOUT,
               "the look at the card: %s", why);
    return NULL;
}

/* ---- writes ---- */

static void on_written(void *user, const struct vfio_child_result *result) {
    struct vfio_switcher *s = user;
    bool is_write = g_array_index(s->ops, struct vfio_op, s->pos).function != NULL; /* else a program of others */
    bool is_errno = is_write && result->end == VFIO_CHILD_EXITED && result->status > 0 && result->status < 128;

    fault_point("vfio_step_done");
    drop_child(s, result);
    g_clear_pointer(&s->write_trouble, g_free);
    if (is_errno)
        s->write_trouble = g_strdup(g_strerror(result->status));
    else
        s->write_trouble = child_trouble(s, result);
    if (result->end == VFIO_CHILD_STUCK) {
        end_stuck(s);
        return;
    }
    advance(s); /* the step looks at what came of it */
}

static enum progress start_any(struct vfio_switcher *s, struct vfio_op *op, const char *what,
                               struct vfio_child_config config, vfio_child_cb *on_done) {
    op->is_started = true;
    g_clear_pointer(&s->write_trouble, g_free);
    if (!note_step(s, what, op->function ? op->function->address : op->gpu->address))
        return PROGRESS_FAILED;
    start_child(s, config, on_done);
    fault_point("vfio_step_started");
    return PROGRESS_WAIT;
}

static enum progress start(struct vfio_switcher *s, struct vfio_op *op, const char *what, const char *const *argv,
                           vfio_child_cb *on_done) {
    return start_any(s, op, what, (struct vfio_child_config){.argv = argv}, on_done);
}

static enum progress start_write(struct vfio_switcher *s, struct vfio_op *op, const char *what, const char *path,
                                 const char *value) {
    const char *argv[] = {s->config.helper, "vfio-step", "write", path, value, NULL};
    struct vfio_child_config config = {
        .argv = s->is_own_helper ? NULL : argv, .write_path = path, .write_value = value};

    return start_any(s, op, what, config, on_written);
}

/* ---- to vfio-pci ---- */

static bool is_driven_by(const struct vfio_switcher *s, const struct vfio_op *op, const char *driver) {
    char now[GPU_DRIVER_MAX_BYTES + 1];

    return vfio_pci_driver(s->config.root, op->function->address, now) && strcmp(now, driver) == 0;
}

static bool is_ours(const struct vfio_switcher *s, const struct vfio_hold_function *f) {
    g_autofree char *folder = vfio_pci_path(s->config.root, f->address, NULL);
    int64_t vendor, device;

    return vfio_read_number(folder, "vendor", &vendor) && vfio_read_number(folder, "device", &device) &&
           vendor == f->vendor && device == f->device;
}

bool vfio_plan_is_all_bound(const struct vfio_switcher *s, const struct vfio_hold *hold) {
    for (guint i = 0; i < hold->gpus->len; i++) {
        const struct vfio_hold_gpu *gpu = hold->gpus->pdata[i];
        for (guint k = 0; k < gpu->functions->len; k++) {
            struct vfio_op op = {.function = &g_array_index(gpu->functions, struct vfio_hold_function, k)};
            if (!is_ours(s, op.function) || !is_driven_by(s, &op, VFIO_DRIVER))
                return false;
        }
    }
    return true;
}

static enum progress fail_write(struct vfio_switcher *s, const struct vfio_op *op, const char *what) {
    return trouble(s, "%s %s: %s", what, op->function->address, s->write_trouble);
}

static enum progress op_override(struct vfio_switcher *s, struct vfio_op *op) {
    g_autofree char *path = vfio_pci_path(s->config.root, op->function->address, "driver_override");

    if (!op->is_started)
        return is_driven_by(s, op, VFIO_DRIVER) ? PROGRESS_NEXT
                                                : start_write(s, op, "set driver_override of", path, VFIO_DRIVER);
    return s->write_trouble ? fail_write(s, op, "set driver_override of") : PROGRESS_NEXT;
}

/* An error although the driver is gone is none: somebody else was faster. */
static enum progress op_unbind(struct vfio_switcher *s, struct vfio_op *op) {
    g_autofree char *path = vfio_pci_path(s->config.root, op->function->address, "driver/unbind");
    bool is_done = is_driven_by(s, op, "") || is_driven_by(s, op, VFIO_DRIVER);

    if (is_done)
        return PROGRESS_NEXT;
    if (!op->is_started)
        return start_write(s, op, "unbind", path, op->function->address);
    if (!s->write_trouble)
        return trouble(s, "unbind %s: it succeeded, and %s is still bound", op->function->address,
                       op->function->former_driver);
    return fail_write(s, op, "unbind");
}

/* drivers_probe says success also when it binds nothing: only the driver's link counts. */
static enum progress op_probe(struct vfio_switcher *s, struct vfio_op *op) {
    g_autofree char *path = g_build_filename(s->config.root, "sys/bus/pci/drivers_probe", NULL);
    char now[GPU_DRIVER_MAX_BYTES + 1];

    if (is_driven_by(s, op, VFIO_DRIVER))
        return PROGRESS_NEXT;
    if (!op->is_started)
        return start_write(s, op, "probe", path, op->function->address);
    if (s->write_trouble)
        return fail_write(s, op, "probe");
    if (!vfio_pci_driver(s->config.root, op->function->address, now))
        return trouble(s, "%s has left the bus", op->function->address);
    if (now[0])
        return trouble(s, "probe %s: %s took it, not vfio-pci", op->function->address, now);
    return trouble(s, "probe %s: it succeeded and bound nothing; is the module vfio-pci loaded?",
                   op->function->address);
}

/* ---- and back ---- */

static enum progress op_release(struct vfio_switcher *s, struct vfio_op *op) {
    g_autofree char *path = vfio_pci_path(s->config.root, op->function->address, "driver/unbind");

    if (op->is_started && s->write_trouble && is_driven_by(s, op, VFIO_DRIVER))
        return fail_write(s, op, "release");
    if (op->is_started || !is_ours(s, op->function) || !is_driven_by(s, op, VFIO_DRIVER) ||
        strcmp(op->function->former_driver, VFIO_DRIVER) == 0)
        return PROGRESS_NEXT;
    return start_write(s, op, "release", path, op->function->address);
}

/* What is set now is not asked: reading it waits for whoever holds the device. An empty one is a single newline. */
static enum progress op_clear(struct vfio_switcher *s, struct vfio_op *op) {
    g_autofree char *path = vfio_pci_path(s->config.root, op->function->address, "driver_override");
    const char *former = op->function->former_override;

    if (op->is_started && s->write_trouble)
        return fail_write(s, op, "clear driver_override of");
    if (op->is_started || !is_ours(s, op->function))
        return PROGRESS_NEXT;
    return start_write(s, op, "clear driver_override of", path, former[0] ? former : "\n");
}

static enum progress op_reprobe(struct vfio_switcher *s, struct vfio_op *op) {
    g_autofree char *path = g_build_filename(s->config.root, "sys/bus/pci/drivers_probe", NULL);

    if (op->is_started && s->write_trouble && is_driven_by(s, op, ""))
        return fail_write(s, op, "probe");
    if (op->is_started || !is_ours(s, op->function) || !is_driven_by(s, op, "") || !op->function->former_driver[0])
        return PROGRESS_NEXT;
    return start_write(s, op, "probe", path, op->function->address);
}

static enum progress op_verify(struct vfio_switcher *s, struct vfio_op *op) {
    const struct vfio_hold_function *f = op->function;
    char now[GPU_DRIVER_MAX_BYTES + 1];

    if (!vfio_pci_driver(s->config.root, f->address, now))
        return trouble(s, "%s has left the bus", f->address);
    if (!is_ours(s, f))
        return trouble(s, "%s is another device now, it was %04x:%04x: nothing was written", f->address, f->vendor,
                       f->device);
    if (strcmp(now, f->former_driver) == 0 || (f->former_driver[0] == '\0' && strcmp(now, VFIO_DRIVER) != 0))
        return PROGRESS_NEXT;
    return trouble(s, "%s is driven by %s, it was %s", f->address, now[0] ? now : "nothing",
                   f->former_driver[0] ? f->former_driver : "nothing");
}

/* ---- looks ---- */

static void on_looked(void *user, const struct vfio_child_result *result) {
    struct vfio_switcher *s = user;
    g_autoptr(GError) error = NULL;
    json_t *answer = vfio_plan_answer(s, result, &error);
    const char *why = json_string_value(json_object_get(answer, "absence"));

    fault_point("vfio_step_done");
    if (!why)
        why = json_string_value(json_object_get(answer, "refusal"));
    g_clear_pointer(&s->write_trouble, g_free);
    s->write_trouble = g_strdup(error ? error->message : why);
    json_decref(answer);
    drop_child(s, result);
    if (result->end == VFIO_CHILD_STUCK)
        end_stuck(s);
    else
        advance(s);
}

static enum progress judge_look(struct vfio_switcher *s) {
    return s->write_trouble ? trouble(s, "%s", s->write_trouble) : PROGRESS_NEXT;
}

/* A card may come back from a machine dead: its configuration space tells (L73). */
static enum progress op_config(struct vfio_switcher *s, struct vfio_op *op) {
    const char *argv[MAX_ARGS] = {s->config.helper, "vfio-step", "config", s->config.root};
    size_t n = 4;

    if (op->is_started)
        return judge_look(s);
    for (guint i = 0; i < s->ops->len; i++) {
        const struct vfio_op *other = &g_array_index(s->ops, struct vfio_op, i);
        if (other->kind == op->kind - 1 && n < MAX_ARGS - 1) /* one verify of each function */
            argv[n++] = other->function->address;
    }
    return start(s, op, "read the configuration of", argv, on_looked);
}

void vfio_plan_preflight(struct vfio_switcher *s, char *const *gpus, const char *mode, vfio_child_cb *on_done) {
    const char *argv[MAX_ARGS] = {s->config.helper, "vfio-step", "preflight"};
    size_t n = 3;

    if (mode)
        argv[n++] = mode;
    argv[n++] = s->config.root;
    for (; *gpus && n < MAX_ARGS - 1; gpus++)
        argv[n++] = *gpus;
    start_child(s, (struct vfio_child_config){.argv = argv}, on_done);
}

/* nvidia-persistenced was told to let go, or the hook was to see to it: have they? */
static enum progress op_recheck(struct vfio_switcher *s, struct vfio_op *op) {
    if (op->is_started)
        return judge_look(s);
    op->is_started = true;
    vfio_plan_preflight(s, s->active->gpus, "strict", on_looked);
    return PROGRESS_WAIT;
}

/* ---- programs of others: persistence of one card, never of all (K10, L72), and the site's own hook ---- */

static enum progress run_persistence(struct vfio_switcher *s, struct vfio_op *op, const char *mode) {
    const char *argv[] = {s->config.nvidia_smi, "-i", op->gpu->address, "-pm", mode, NULL};

    return start(s, op, "set the persistence of", argv, on_written);
}

static enum progress op_persistence_off(struct vfio_switcher *s, struct vfio_op *op) {
    if (!op->is_started)
        return run_persistence(s, op, "0");
    return s->write_trouble ? trouble(s, "%s -i %s -pm 0: %s", s->config.nvidia_smi, op->gpu->address, s->write_trouble)
                            : PROGRESS_NEXT;
}

static enum progress op_persistence_on(struct vfio_switcher *s, struct vfio_op *op) {
    if (!op->is_started)
        return run_persistence(s, op, "1");
    if (s->write_trouble)
        log_warning("vfio: persistence of %s is not as before: %s", op->gpu->address, s->write_trouble);
    return PROGRESS_NEXT;
}

static enum progress run_hook(struct vfio_switcher *s, struct vfio_op *op, const char *when) {
    const char *argv[] = {s->config.hook, when, op->gpu->address, NULL};

    return start(s, op, "run the hook for", argv, on_written);
}

static enum progress op_hook_before(struct vfio_switcher *s, struct vfio_op *op) {
    if (!op->is_started)
        return run_hook(s, op, "before-bind");
    return s->write_trouble ? trouble(s, "the hook does not let %s go: %s", op->gpu->address, s->write_trouble)
                            : PROGRESS_NEXT;
}

static enum progress op_hook_after(struct vfio_switcher *s, struct vfio_op *op) {
    if (!op->is_started)
        return run_hook(s, op, "after-give-back");
    if (s->write_trouble)
        log_warning("vfio: the hook after %s was given back: %s", op->gpu->address, s->write_trouble);
    return PROGRESS_NEXT;
}

/* ---- the plans ---- */

enum scope { PER_FUNCTION = 1, PER_FUNCTION_BACKWARDS, PER_PERSISTENT_CARD, PER_HOOKED_CARD, ONCE, ONCE_IF_TOLD };

/* In order. Function 0 supplies what its companions need (device links): they go before it and come after it on the way to
 * vfio-pci; on the way back they go first everywhere. */
static const struct {
    bool is_way_back;
    enum scope scope;
    enum progress (*run)(struct vfio_switcher *s, struct vfio_op *op);
} table[] = {
    {false, ONCE, op_lock},
    {false, PER_HOOKED_CARD, op_hook_before},
    {false, PER_PERSISTENT_CARD, op_persistence_off},
    {false, ONCE_IF_TOLD, op_recheck},
    {false, PER_FUNCTION_BACKWARDS, op_override},
    {false, PER_FUNCTION_BACKWARDS, op_unbind},
    {false, PER_FUNCTION, op_probe},
    {true, ONCE, op_lock},
    {true, PER_FUNCTION_BACKWARDS, op_release},
    {true, PER_FUNCTION_BACKWARDS, op_clear},
    {true, PER_FUNCTION_BACKWARDS, op_reprobe},
    {true, PER_FUNCTION_BACKWARDS, op_verify},
    {true, ONCE, op_config}, /* of the functions of the row above */
    {true, PER_PERSISTENT_CARD, op_persistence_on},
    {true, PER_HOOKED_CARD, op_hook_after},
};

static void add_op(struct vfio_switcher *s, int kind, const struct vfio_hold_gpu *gpu,
                   const struct vfio_hold_function *function) {
    struct vfio_op op = {.kind = kind, .gpu = gpu, .function = function};

    g_array_append_val(s->ops, op);
}

static void add_ops_of_gpu(struct vfio_switcher *s, int kind, const struct vfio_hold_gpu *gpu) {
    enum scope scope = table[kind].scope;
    guint n = gpu->functions->len;

    if ((scope == PER_PERSISTENT_CARD && gpu->had_persistence) || (scope == PER_HOOKED_CARD && s->config.hook))
        add_op(s, kind, gpu, NULL);
    for (guint i = 0; i < n && (scope == PER_FUNCTION || scope == PER_FUNCTION_BACKWARDS); i++)
        add_op(s, kind, gpu,
               &g_array_index(gpu->functions, struct vfio_hold_function, scope == PER_FUNCTION ? i : n - 1 - i));
}

static void add_ops(struct vfio_switcher *s, int kind) {
    const struct vfio_hold *hold = s->hold;
    bool is_any_told = s->config.hook != NULL;

    for (guint i = 0; i < hold->gpus->len; i++) {
        is_any_told |= ((const struct vfio_hold_gpu *)hold->gpus->pdata[i])->had_persistence;
        add_ops_of_gpu(s, kind, hold->gpus->pdata[i]);
    }
    if (table[kind].scope == ONCE || (table[kind].scope == ONCE_IF_TOLD && is_any_told))
        add_op(s, kind, hold->gpus->pdata[0], NULL);
}

/* On the way back one function in trouble does not keep the others from coming home. */
static void advance(struct vfio_switcher *s) {
    while (s->pos < s->ops->len) {
        struct vfio_op *op = &g_array_index(s->ops, struct vfio_op, s->pos);
        enum progress progress = table[op->kind].run(s, op);

        if (progress == PROGRESS_WAIT)
            return;
        if (progress == PROGRESS_FAILED && table[op->kind].run == op_lock) {
            end_stuck(s);
            return;
        }
        if (progress == PROGRESS_FAILED && !s->is_giving_back)
            break;
        s->pos++;
    }
    end_plan(s, s->trouble->len > 0 ? VFIO_PLAN_FAILED : VFIO_PLAN_DONE);
}

static void begin(struct vfio_switcher *s, struct vfio_hold *hold, bool is_giving_back,
                  void (*on_plan)(struct vfio_switcher *s, enum vfio_plan_end end)) {
    s->hold = hold;
    s->is_giving_back = is_giving_back;
    s->on_plan = on_plan;
    s->pos = 0;
    s->lock_until_ms = 0;
    g_string_truncate(s->trouble, 0);
    g_array_set_size(s->ops, 0);
    for (int kind = 0; kind < (int)G_N_ELEMENTS(table); kind++)
        if (table[kind].is_way_back == is_giving_back)
            add_ops(s, kind);
    uv_timer_start(&s->wait, on_lock_wait, 0, 0); /* not before the caller has returned */
}

void vfio_plan_bind(struct vfio_switcher *s, struct vfio_hold *hold,
                    void (*on_plan)(struct vfio_switcher *s, enum vfio_plan_end end)) {
    begin(s, hold, false, on_plan);
}

void vfio_plan_give_back(struct vfio_switcher *s, struct vfio_hold *hold,
                         void (*on_plan)(struct vfio_switcher *s, enum vfio_plan_end end)) {
    begin(s, hold, true, on_plan);
}

void vfio_plan_abandon(struct vfio_switcher *s) {
    vfio_child_forget(s->child);
    s->child = NULL;
    g_array_set_size(s->ops, 0);
    uv_timer_stop(&s->wait);
}
