/* What the runner itself stands on. */
#include <string.h>
#include <sys/stat.h>

#include "base/units.h"
#include "doctor/checks.h"
#include "doctor/doctor_case.h"

#define GIB ((int64_t)1 << 30)
#define MIB ((int64_t)1 << 20)

/* "Max locked memory         8388608              8388608              bytes": the hard limit's text. */
static char *hard_memlock(const char *limits) {
    const char *line = strstr(limits, "Max locked memory");
    g_autofree char *text = line ? g_strndup(line, strcspn(line, "\n")) : NULL;
    g_auto(GStrv) words = NULL;
    guint seen = 0;

    if (!text)
        return NULL;
    words = g_strsplit(text + strlen("Max locked memory"), " ", -1);
    for (size_t i = 0; words[i]; i++)
        if (words[i][0] && ++seen == 2)
            return g_strdup(words[i]);
    return NULL;
}

/* The runner's service; host, doctor and workers have the same name. 0: none. */
static pid_t runner_pid(struct doctor_case *c) {
    const GPtrArray *procs = doctor_procs(c);

    for (guint i = 0; i < procs->len; i++) {
        const struct doctor_proc *proc = g_ptr_array_index(procs, i);
        g_autofree char *cgroup = strcmp(proc->comm, "kohakuriver") == 0
                                      ? doctor_value(c, "/proc/%d/cgroup", (int)proc->pid)
                                      : NULL;
        if (cgroup && strstr(cgroup, "/kohakuriver-runner.service"))
            return proc->pid;
    }
    return 0;
}

void check_memlock(struct doctor_case *c) {
    pid_t runner = runner_pid(c);
    g_autofree char *limits = runner ? doctor_value(c, "/proc/%d/limits", (int)runner) : NULL;
    g_autofree char *hard = limits ? hard_memlock(limits) : NULL;

    if (!runner)
        doctor_skip(c, "no kohakuriver-runner.service runs here");
    else if (!hard)
        doctor_unknown(c, "/proc/%d/limits says nothing of locked memory", (int)runner);
    else if (strcmp(hard, "unlimited") != 0)
        doctor_warning(c, "the runner (pid %d) may lock %s bytes", (int)runner, hard);
    else
        doctor_ok(c, "the runner (pid %d) may lock any amount", (int)runner);
}

void check_time_sync(struct doctor_case *c) {
    static const char *const daemons[] = {"chronyd", "ntpd",     "ntpd-rs",     "ptp4l",
                                          "phc2sys", "openntpd", "VBoxService", "vmtoolsd"};
    const struct doctor_proc *timesyncd = doctor_proc_named(c, "systemd-timesyn");

    for (size_t i = 0; i < G_N_ELEMENTS(daemons); i++)
        if (doctor_proc_named(c, daemons[i])) {
            doctor_ok(c, "%s runs", daemons[i]);
            return;
        }
    if (!timesyncd)
        doctor_warning(c, "no process sets the clock (chronyd, ntpd, systemd-timesyncd)");
    else if (doctor_has(c, "/run/systemd/timesync/synchronized"))
        doctor_ok(c, "systemd-timesyncd has set the clock");
    else {
        doctor_warning(c, "systemd-timesyncd runs and has not reached a server (/run/systemd/timesync/synchronized is "
                          "not there)");
        doctor_fix(c, "timedatectl timesync-status");
    }
}

static void judge_space(struct doctor_case *c, const char *path, int64_t error_below, int64_t warning_below) {
    char free_text[UNITS_TEXT_BYTES], total_text[UNITS_TEXT_BYTES];
    struct doctor_space space;
    enum doctor_outcome outcome;

    if (!doctor_root_space(c->root, path, &space) || space.total_bytes == 0) {
        doctor_unknown(c, "%s: free space is not to be had", path);
        return;
    }
    outcome = space.free_bytes < error_below     ? DOCTOR_ERROR
              : space.free_bytes < warning_below ? DOCTOR_WARNING
                                                 : DOCTOR_OK;
    doctor_say(c, outcome, "%s: %s free of %s", path, units_bytes_to_str(space.free_bytes, free_text),
               units_bytes_to_str(space.total_bytes, total_text));
}

void check_state_disk(struct doctor_case *c) {
    const char *path = doctor_runner_setting(c, "state_dir");

    judge_space(c, path, 64 * MIB, GIB);
    doctor_fix(c, "df -h %s; move state_dir in /etc/kohakuriver/runner.conf, or free space", path);
}

void check_docker_disk(struct doctor_case *c) { judge_space(c, doctor_docker(c)->data_root, 256 * MIB, 5 * GIB); }

/* A file or folder that holds a secret: nobody but its owner and its group may read it, and the group only if it may. */
static void judge_mode(struct doctor_case *c, const char *path, mode_t forbidden) {
    struct doctor_stat st;

    if (!doctor_root_stat(c->root, path, &st))
        doctor_skip(c, "%s is not there", path);
    else if (st.mode & forbidden) {
        doctor_error(c, "%s has mode %04o (owner uid %u)", path, (unsigned)(st.mode & 07777), (unsigned)st.uid);
        doctor_fix(c, "chmod %s %s", S_ISDIR(st.mode) ? "0700" : "0600", path);
    } else
        doctor_ok(c, "%s has mode %04o", path, (unsigned)(st.mode & 07777));
}

void check_token_mode(struct doctor_case *c) { judge_mode(c, doctor_runner_setting(c, "join_token_file"), 0037); }

void check_state_mode(struct doctor_case *c) { judge_mode(c, doctor_runner_setting(c, "state_dir"), 0022); }
