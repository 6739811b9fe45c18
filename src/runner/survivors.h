#pragma once
/* Who of a container is still there when it does not end: for people who must find out why (L64). */

#include <sys/types.h>

/* "2 processes survive SIGKILL: pid 4711 python3 (state D in nv_wait), …" of the cgroup that `pid` (the container's first
 * process) is in, or of that process alone where its cgroup cannot be read. NULL when none is there. Caller frees. Reads /proc
 * and /sys/fs/cgroup (proc(5), cgroups(7)); never blocks on the processes themselves. */
char *survivors_of(pid_t pid);
