/* What the linker puts in the place of parts that the simulator is not about: the log, the tasks' output, /proc. */

#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"
#include "runner/log_store.h"
#include "runner/survivors.h"
#include "sim/trace.h"

static bool is_on;

void trace_switch(bool on) { is_on = on; }
bool trace_is_on(void) { return is_on; }

void trace_line(const char *format, ...) {
    va_list args;

    if (!is_on)
        return;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout); /* the next thing may be an abort */
}

void __wrap_log_at(enum log_level level, const char *format, ...) G_GNUC_PRINTF(2, 3);
struct log_writer *__wrap_log_writer_open(struct log_store *store, uint32_t task_id, int64_t epoch);
void __wrap_log_writer_close(struct log_writer *writer);
int64_t __wrap_log_writer_since_ns(struct log_writer *writer);
void __wrap_log_writer_batch(struct log_writer *writer);
int64_t __wrap_log_writer_position(const struct log_writer *writer);
void __wrap_log_writer_finish(struct log_writer *writer, const char *lost);
char *__wrap_survivors_of(pid_t pid);

void __wrap_log_at(enum log_level level, const char *format, ...) {
    va_list args;

    if (!is_on)
        return;
    va_start(args, format);
    fputs("        ", stdout);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout); /* the next thing may be an abort */
}

/* Never looked into. */
struct log_writer *__wrap_log_writer_open(struct log_store *store, uint32_t task_id, int64_t epoch) {
    static int writer;

    return (struct log_writer *)(void *)&writer;
}

void __wrap_log_writer_close(struct log_writer *writer) {}
int64_t __wrap_log_writer_since_ns(struct log_writer *writer) { return 0; }
void __wrap_log_writer_batch(struct log_writer *writer) {}
int64_t __wrap_log_writer_position(const struct log_writer *writer) { return 0; }
void __wrap_log_writer_finish(struct log_writer *writer, const char *lost) {}

char *__wrap_survivors_of(pid_t pid) {
    return pid > 0 ? g_strdup_printf("1 process survives SIGKILL: pid %d job (state D)", (int)pid) : NULL;
}
