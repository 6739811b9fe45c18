#pragma once
/* The supervisor of one machine: a small process between the runner and QEMU that outlives the runner. It prepares what only
 * a parent can (limits, CPUs, user, cgroup, network interface), starts QEMU, keeps what the serial console prints (console_log.h) and
 * writes down how QEMU ended. It knows nothing else and decides nothing. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vm/process_tag.h"

#define SHIM_PROCESS_FILE "process.json" /* {"shim": tag, "qemu": tag}: durable before QEMU runs a single instruction */
#define SHIM_EXIT_FILE "exit.json"       /* {"code": N, "signal": N, "finished_ms": N}: durable when it has ended */
#define SHIM_STDERR_FILE "stderr"        /* what QEMU and the supervisor say */
#define SHIM_LOCK_FILE "lock"            /* held (flock) while supervisor or QEMU live: a second start fails */
#define SHIM_RUN_FOLDER "run"            /* QEMU's working directory: its sockets */
enum { SHIM_CONSOLE_FD = 5, SHIM_TAP_FD = 6 };

/* What to do; as JSON it is the shim's one argument, followed by QEMU's own. */
struct shim_plan {
    char *folder;    /* owned, as all below: of the machine */
    char *user;      /* whom QEMU runs as; "": as the runner */
    char *cpus;      /* "0-3,8"; "": all */
    char *cgroup;    /* absolute path of the one to be made; "": none */
    char *bridge;    /* its interface is made and joins this bridge; "": none */
    int64_t memlock; /* bytes that QEMU may lock; 0: as it is */
    int64_t console_max_bytes;
};
void shim_plan_clear(struct shim_plan *plan);
char *shim_plan_to_str(const struct shim_plan *plan); /* caller frees */
bool shim_plan_from_str(const char *text, struct shim_plan *ret_plan, GError **error);

/* How it ended. */
struct shim_exit {
    int code, signum; /* signum 0: it ended by itself with code */
    int64_t finished_ms;
};
/* KR_ERROR_IO when it has written nothing that can be read. */
bool shim_exit_read(const char *folder, struct shim_exit *ret_exit, GError **error);
/* The two processes as they were written down; NOT_FOUND: none were. */
bool shim_processes_read(const char *folder, struct process_tag *ret_shim, struct process_tag *ret_qemu,
                         GError **error);
/* Is the lock held? Then somebody of this machine lives, whatever the files say. */
bool shim_lock_is_held(const char *folder);

/* The verb `vm-shim PLAN QEMU ARGS…`. Says "started\n" on standard output when QEMU has been started, or why not on standard
 * error; then closes both. */
int shim_main(int argc, char **argv);
