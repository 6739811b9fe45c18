#pragma once
/* Which processes AMD's compute driver (amdkfd) has memory for on a card, by <root>/sys/class/kfd: all its cards share one
 * node, /dev/kfd, so that the node being open tells nothing about a card. A process that died half stays listed until the
 * driver has taken its memory back (L64). */

#include <glib.h>

/* Appends a struct gpu_user with pid and memory_bytes for each process with memory on the card of that render node; none
 * where this driver is not there. */
void kfd_list_users(const char *root, unsigned render_minor, GArray *users);
