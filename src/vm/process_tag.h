#pragma once
/* Which process is meant, so that a number that the kernel has given to another one since is never taken for it: the pid, when it
 * started (field 22 of /proc/PID/stat, ticks since boot), and the boot. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

enum { PROCESS_BOOT_ID_BYTES = 64 };

struct process_tag {
    pid_t pid; /* 0: none */
    unsigned long long start_ticks;
    char boot_id[PROCESS_BOOT_ID_BYTES];
};

/* Of a process that lives. false when it does not. */
bool process_tag_of(pid_t pid, struct process_tag *ret_tag);
/* True also of a zombie: its parent has not asked for its end yet. */
bool process_tag_is_alive(const struct process_tag *tag);
/* True when it lives and is more than a zombie. */
bool process_tag_is_running(const struct process_tag *tag);
/* A file descriptor that becomes readable at its end, or -1 when it has ended. The caller closes it. */
int process_tag_open(const struct process_tag *tag);
/* Never another process. Success also when it has ended. */
bool process_tag_kill(const struct process_tag *tag, int signum);

json_t *process_tag_to_json(const struct process_tag *tag);
bool process_tag_from_json(const json_t *json, struct process_tag *ret_tag, GError **error);
