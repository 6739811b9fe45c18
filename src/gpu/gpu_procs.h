#pragma once
/* Who has a GPU's device node open, and which nodes a container sees. By device number, not by path: a process finds a
 * card under any name, and NVML's lists miss processes that died half (losses L64, L65). Reading /proc of others needs
 * root; processes that may not be looked into are passed over. Symbolic links are never followed. */

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { GPU_USER_COMMAND_BYTES = 64, GPU_USER_NAME_BYTES = 33, GPU_USER_CONTAINER_BYTES = 65 };

/* One process on a card, in words that a person can act on. */
struct gpu_user {
    pid_t pid;
    char command[GPU_USER_COMMAND_BYTES]; /* /proc/PID/comm; "?" when the process is not to be seen */
    char user[GPU_USER_NAME_BYTES];       /* name in /etc/passwd, else "uid 1000"; empty when not to be seen */
    int64_t started_ms;                   /* wall clock; with the pid it names a process for good; 0: not to be seen */
    char container[GPU_USER_CONTAINER_BYTES]; /* the id of the container that it runs in; empty: none */
    int64_t memory_bytes;                     /* of the card that it uses; -1: not known */
};

/* Fills in everything but pid and memory_bytes, of one and the same process: when the pid changes hands meanwhile it is
 * described anew. Asks no name service: that could hang (R7). */
void gpu_user_describe(struct gpu_user *user);
/* The container id, 64 hex digits, in the text of a /proc/PID/cgroup. */
bool gpu_container_of_cgroup(const char *text, char ret_id[static GPU_USER_CONTAINER_BYTES]);

/* Calls on_node once for each open descriptor of any process that is a character device of one of the `majors`. Left out are
 * this process, other workers of this program, and the driver's own services (gpu_procs.c lists them), whose open nodes
 * are no use of a card. */
void gpu_procs_scan(const unsigned *majors, size_t n_majors, void (*on_node)(void *data, pid_t pid, dev_t node),
                    void *data);
