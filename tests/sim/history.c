#include "sim/history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "sim/trace.h"

enum { MAX_TEXT_BYTES = 64 * 1024 * 1024 };

/* Written by the child, read after its end. */
struct shared {
    unsigned step;
    bool in_settling;
    struct world_counts counts;
};

struct child {
    pid_t pid;
    int said, told; /* its stderr and stdout, in memory */
    struct shared *shared;
};

void outcome_clear(struct outcome *outcome) {
    g_clear_pointer(&outcome->kind, g_free);
    g_clear_pointer(&outcome->text, g_free);
    g_clear_pointer(&outcome->trace, g_free);
}

static void live(const struct history *history, struct shared *shared) {
    struct world *world = world_new(history->seed);
    guint n = history->keep ? history->keep->len : history->steps;

    for (guint i = 0; i < n; i++) {
        shared->step = history->keep ? g_array_index(history->keep, unsigned, i) : i + 1;
        world_step(world, shared->step);
        world_check(world);
        shared->counts = *world_count(world);
    }
    shared->in_settling = true;
    if (!history->is_unsettled)
        world_settle(world);
    shared->counts = *world_count(world);
    world_free(world);
}

static void be_child(const struct history *history, struct child *child) {
    const struct rlimit no_core = {0};
    struct shared *shared = child->shared;

    setrlimit(RLIMIT_CORE, &no_core);
    dup2(child->said, STDERR_FILENO);
    dup2(child->told, STDOUT_FILENO);
    trace_switch(history->is_traced);
    fault_set_mutant(history->mutant);
    g_free(child); /* the parent has it */
    live(history, shared);
    fflush(stdout);
    exit(0); /* the leak checker looks now */
}

struct child *history_start(const struct history *history) {
    struct child *child = g_new0(struct child, 1);

    child->said = memfd_create("sim", MFD_CLOEXEC);
    child->shared = mmap(NULL, sizeof *child->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    child->told = memfd_create("sim", MFD_CLOEXEC);
    g_assert(child->said >= 0 && child->told >= 0 && child->shared != MAP_FAILED);
    fflush(stdout);
    fflush(stderr);
    child->pid = fork();
    g_assert_cmpint(child->pid, >=, 0);
    if (child->pid == 0)
        be_child(history, child);
    return child;
}

static char *read_all(int fd) {
    GString *text = g_string_new(NULL);
    char chunk[4096];
    ssize_t n;

    lseek(fd, 0, SEEK_SET);
    while (text->len < MAX_TEXT_BYTES && (n = read(fd, chunk, sizeof chunk)) > 0)
        g_string_append_len(text, chunk, n);
    return g_string_free(text, FALSE);
}

/* "…: seed 7, step 12: R1: two containers … (GPU-n0-1)" -> "R1: two containers …". Other complaints as they are. */
static char *kind_of(const char *text) {
    const char *at = strstr(text, "seed "), *begin = at ? strstr(at, ", step ") : NULL, *end;

    begin = begin ? strstr(begin, ": ") : NULL;
    if (!begin && (at = strstr(text, "ERROR **: ")) && strstr(at + 10, ": "))
        begin = strstr(at + 10, ": ") + 2; /* behind the time of day */
    else if (!begin)
        begin = (at = strstr(text, "ERROR:")) || (at = strstr(text, "ERROR: ")) || (at = strstr(text, "runtime error:"))
                    ? at
                    : text;
    else
        begin += 2;
    end = strpbrk(begin, "\n");
    if (at && strncmp(at, "seed ", 5) == 0 && strchr(begin, '(') && (!end || strchr(begin, '(') < end))
        end = strchr(begin, '(') - 1;
    return end ? g_strndup(begin, (gsize)(end - begin)) : g_strdup(begin);
}

void history_finish(struct child *child, struct outcome *ret_outcome) {
    int status;

    while (waitpid(child->pid, &status, 0) < 0)
        ;
    *ret_outcome = (struct outcome){.has_failed = status != 0,
                                    .text = read_all(child->said),
                                    .trace = read_all(child->told),
                                    .step = child->shared->step,
                                    .in_settling = child->shared->in_settling,
                                    .counts = child->shared->counts};
    if (ret_outcome->has_failed)
        ret_outcome->kind = kind_of(ret_outcome->text);
    munmap(child->shared, sizeof *child->shared);
    close(child->said);
    close(child->told);
    g_free(child);
}

void history_run(const struct history *history, struct outcome *ret_outcome) {
    history_finish(history_start(history), ret_outcome);
}
