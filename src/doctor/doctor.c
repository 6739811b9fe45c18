#include "doctor/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "doctor/doctor_case.h"

enum { MAX_SEEN_BYTES = 4096, MAX_LINE_BYTES = 65536, KILL_GRACE_MS = 200 };

static const char *const outcome_names[] = {"", "not_applicable", "ok", "unknown", "warning", "error"};

const char *doctor_outcome_to_str(enum doctor_outcome outcome) { return outcome_names[outcome]; }

enum doctor_outcome doctor_outcome_from_str(const char *text) {
    for (unsigned i = 1; text && i < G_N_ELEMENTS(outcome_names); i++)
        if (strcmp(text, outcome_names[i]) == 0)
            return (enum doctor_outcome)i;
    return 0;
}

/* ---- one check ---- */

void doctor_say(struct doctor_case *c, enum doctor_outcome outcome, const char *format, ...) {
    va_list args;

    if (outcome < c->outcome)
        return;
    if (outcome > c->outcome)
        g_string_truncate(c->seen, 0);
    c->outcome = outcome;
    if (c->seen->len > MAX_SEEN_BYTES)
        return;
    if (c->seen->len > 0)
        g_string_append(c->seen, "; ");
    va_start(args, format);
    g_string_append_vprintf(c->seen, format, args);
    va_end(args);
}

void doctor_fix(struct doctor_case *c, const char *format, ...) {
    va_list args;

    g_free(c->fix);
    va_start(args, format);
    c->fix = g_strdup_vprintf(format, args);
    va_end(args);
}

/* Says why the check does not apply; false then. */
static bool applies(struct doctor_case *c) {
    unsigned needs = c->check->needs;

    if (needs & DOCTOR_NEEDS_GPU && !doctor_has_pci(c))
        doctor_unknown(c, "no PCI inventory: /sys/bus/pci/devices cannot be listed");
    else if (needs & DOCTOR_NEEDS_GPU && doctor_gpus(c)->len == 0)
        doctor_skip(c, "no NVIDIA GPU found by PCI");
    else if (needs & DOCTOR_NEEDS_DRIVER && !doctor_gpu_has_driver(c, "nvidia"))
        doctor_skip(c, "no GPU is bound to the nvidia driver");
    else if (needs & DOCTOR_NEEDS_DOCKER && !doctor_docker(c)->is_there)
        doctor_skip(c, "no Docker found");
    else if (needs & DOCTOR_NEEDS_VFIO && !doctor_wants_vfio(c))
        doctor_skip(c, "nothing says that GPUs go to virtual machines here (--vfio judges it so)");
    else
        return true;
    return false;
}

/* Nothing wrong was seen, and something could not be seen: that is not "ok". */
static void weigh_trouble(struct doctor_case *c) {
    const char *trouble = doctor_root_trouble(c->root);

    if (trouble && c->outcome < DOCTOR_UNKNOWN)
        doctor_unknown(c, "could not look: %s%s", trouble, geteuid() == 0 ? "" : " (run it as root)");
}

static json_t *judge(const struct doctor_check *check, struct doctor_root *root, struct doctor_facts *facts) {
    struct doctor_case c = {.check = check, .root = root, .facts = facts, .seen = g_string_new(NULL)};
    g_autofree char *seen = NULL;
    json_t *line;

    doctor_root_clear_trouble(root);
    if (applies(&c))
        check->run(&c);
    weigh_trouble(&c);
    seen = g_utf8_make_valid(c.seen->str, -1);
    line = json_pack("{s:s,s:s,s:s?}", "outcome", doctor_outcome_to_str(c.outcome), "seen", seen, "fix", c.fix);
    g_string_free(c.seen, TRUE);
    g_free(c.fix);
    return line;
}

/* ---- the child ---- */

struct plan {
    GPtrArray *checks; /* of const struct doctor_check * */
    struct doctor_root *root;
    const struct doctor_options *options;
};

/* Judges one check after the other and writes a line for each. */
static void child_main(const struct plan *plan, guint first, int out) {
    struct doctor_facts *facts = doctor_facts_new(plan->root, plan->options);

    for (guint i = first; i < plan->checks->len; i++) {
        json_t *line = judge(g_ptr_array_index(plan->checks, i), plan->root, facts);
        g_autofree char *text = jsonx_to_str(line), *whole = g_strconcat(text, "\n", NULL);

        json_decref(line);
        if (!fd_write_all(out, whole, strlen(whole)))
            break;
    }
    doctor_facts_free(facts);
}

struct child {
    pid_t pid;
    int in;
    GString *rest; /* bytes behind the last whole line */
};

static bool child_start(struct child *child, const struct plan *plan, guint first) {
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return false;
    fflush(NULL);
    child->pid = fork();
    if (child->pid == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ends[0]);
        child_main(plan, first, ends[1]);
        _exit(0);
    }
    close(ends[1]);
    child->in = ends[0];
    child->rest = g_string_new(NULL);
    if (child->pid > 0)
        return true;
    close(child->in);
    g_string_free(child->rest, TRUE);
    return false;
}

/* Whatever it hangs in: one that is stuck in the kernel is left behind, not waited for. */
static void child_stop(struct child *child) {
    const struct timespec nap = {.tv_nsec = 5 * 1000 * 1000};

    kill(child->pid, SIGKILL);
    kill(-child->pid, SIGKILL);
    for (int64_t until = clock_mono_ms() + KILL_GRACE_MS; clock_mono_ms() < until; nanosleep(&nap, NULL))
        if (waitpid(child->pid, NULL, WNOHANG) != 0)
            break;
    close(child->in);
    g_string_free(child->rest, TRUE);
}

/* The next line within the deadline, g_free; NULL: none came, *ret_is_late tells silence from an end. */
static char *child_line(struct child *child, int deadline_ms, bool *ret_is_late) {
    int64_t until = clock_mono_ms() + deadline_ms;
    char buf[4096], *end;

    while (!(end = strchr(child->rest->str, '\n'))) {
        struct pollfd poller = {.fd = child->in, .events = POLLIN};
        int64_t left = until - clock_mono_ms();
        ssize_t n;

        *ret_is_late = left <= 0 || poll(&poller, 1, (int)left) == 0;
        if (*ret_is_late)
            return NULL;
        n = read(child->in, buf, sizeof buf);
        if (n == 0 || (n < 0 && errno != EINTR) || child->rest->len > MAX_LINE_BYTES)
            return NULL;
        g_string_append_len(child->rest, buf, n > 0 ? n : 0);
    }
    end = g_strndup(child->rest->str, (gsize)(end - child->rest->str));
    g_string_erase(child->rest, 0, (gssize)strlen(end) + 1);
    return end;
}

/* ---- all of them ---- */

static void result_free(void *data) {
    struct doctor_result *result = data;

    g_free(result->seen);
    g_free(result->fix);
    g_free(result);
}

static struct doctor_result *result_new(const struct doctor_check *check, enum doctor_outcome outcome,
                                        const char *seen) {
    struct doctor_result *result = g_new0(struct doctor_result, 1);

    result->check = check;
    result->outcome = outcome;
    result->seen = g_strdup(seen ? seen : "");
    return result;
}

static struct doctor_result *result_of_line(const struct doctor_check *check, const char *line) {
    json_t *json = jsonx_parse(line, strlen(line), NULL);
    const char *fix = json_string_value(json_object_get(json, "fix"));
    enum doctor_outcome outcome = doctor_outcome_from_str(json_string_value(json_object_get(json, "outcome")));
    struct doctor_result *result = result_new(check, outcome ? outcome : DOCTOR_UNKNOWN,
                                              json_string_value(json_object_get(json, "seen")));

    if (outcome >= DOCTOR_WARNING)
        result->fix = g_strdup(fix ? fix : check->fix);
    json_decref(json);
    return result;
}

static struct doctor_result *result_of_silence(const struct doctor_check *check, bool is_late, int deadline_ms) {
    g_autofree char *seen = is_late ? g_strdup_printf(
                                          "no answer within %.1f s: a read of /proc or /sys, or a program that was "
                                          "asked, hangs",
                                          deadline_ms / 1000.0)
                                    : g_strdup("the look at it ended without an answer");
    struct doctor_result *result = result_new(check, is_late ? DOCTOR_ERROR : DOCTOR_UNKNOWN, seen);

    if (is_late)
        result->fix = g_strdup("dmesg | tail -50; look for processes in state D: ps -eo pid,stat,wchan:30,comm");
    return result;
}

static int deadline_of(const struct plan *plan) {
    return plan->options->deadline_ms > 0 ? plan->options->deadline_ms : DOCTOR_DEADLINE_MS;
}

/* A child that hangs or dies costs the check that it was at; the next one begins behind it. */
static void run_all(const struct plan *plan, GPtrArray *results) {
    struct child child;

    while (results->len < plan->checks->len) {
        bool is_late = false, is_up = child_start(&child, plan, results->len);
        char *line;

        while (is_up && results->len < plan->checks->len && (line = child_line(&child, deadline_of(plan), &is_late))) {
            g_ptr_array_add(results, result_of_line(g_ptr_array_index(plan->checks, results->len), line));
            g_free(line);
        }
        if (results->len < plan->checks->len)
            g_ptr_array_add(
                results, result_of_silence(g_ptr_array_index(plan->checks, results->len), is_late, deadline_of(plan)));
        if (is_up)
            child_stop(&child);
    }
}

static bool is_wanted(const char *id, char *const *only) {
    if (!only || !only[0])
        return true;
    for (; *only; only++)
        if (strcmp(*only, id) == 0)
            return true;
    return false;
}

static bool knows(const char *id) {
    for (const struct doctor_check *check = doctor_checks; check->id; check++)
        if (strcmp(check->id, id) == 0)
            return true;
    return false;
}

GPtrArray *doctor_run(const struct doctor_options *options, GError **error) {
    struct plan plan = {.options = options};
    GPtrArray *results;

    for (char *const *id = options->only; id && *id; id++)
        if (!knows(*id)) {
            kr_fail(error, USAGE, "there is no check \"%s\"; `kohakuriver doctor --list` names them", *id);
            return NULL;
        }
    plan.root = doctor_root_open(options->root, error);
    if (!plan.root)
        return NULL;
    plan.checks = g_ptr_array_new();
    for (const struct doctor_check *check = doctor_checks; check->id; check++)
        if (is_wanted(check->id, options->only))
            g_ptr_array_add(plan.checks, (void *)check);
    results = g_ptr_array_new_with_free_func(result_free);
    run_all(&plan, results);
    g_ptr_array_unref(plan.checks);
    doctor_root_close(plan.root);
    return results;
}

/* ---- as JSON ---- */

int doctor_count(const GPtrArray *results, enum doctor_outcome outcome) {
    int n = 0;

    for (guint i = 0; i < results->len; i++)
        n += ((const struct doctor_result *)g_ptr_array_index(results, i))->outcome == outcome;
    return n;
}

json_t *doctor_to_json(const GPtrArray *results) {
    json_t *list = json_array();

    for (guint i = 0; i < results->len; i++) {
        const struct doctor_result *result = g_ptr_array_index(results, i);
        const struct doctor_check *check = result->check;
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s?}", "id", check->id, "group",
                                              check->group, "against", check->against, "outcome",
                                              doctor_outcome_to_str(result->outcome), "title", check->title, "seen",
                                              result->seen, "why", check->why, "fix", result->fix));
    }
    return json_pack("{s:{s:i,s:i,s:i,s:i,s:i},s:o}", "summary", "errors", doctor_count(results, DOCTOR_ERROR),
                     "warnings", doctor_count(results, DOCTOR_WARNING), "unknown",
                     doctor_count(results, DOCTOR_UNKNOWN), "ok", doctor_count(results, DOCTOR_OK), "not_applicable",
                     doctor_count(results, DOCTOR_NOT_APPLICABLE), "checks", list);
}

json_t *doctor_list_to_json(void) {
    json_t *list = json_array();

    for (const struct doctor_check *check = doctor_checks; check->id; check++)
        json_array_append_new(list,
                              json_pack("{s:s,s:s,s:s,s:s,s:s,s:s}", "id", check->id, "group", check->group, "against",
                                        check->against, "title", check->title, "why", check->why, "fix", check->fix));
    return json_pack("{s:o}", "checks", list);
}
